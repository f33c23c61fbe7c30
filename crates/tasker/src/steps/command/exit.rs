//! What the end of a program means.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use serde_json::Value;
use serde_json::value::RawValue;
use tasker_model::json::Json;
use tasker_model::outcome::Failure;

use crate::steps::config::Reader;
use crate::steps::redact::Secrets;
use crate::steps::{permanent, retryable, with_context};

use super::Command;

/// Exit codes after which trying again is of no use, if nothing else is configured: those of
/// `sysexits.h` that blame the call or its input (usage, data, input, user, host, system file,
/// protocol, permission, configuration), and the two with which shells say that a program cannot
/// be run or does not exist.
const PERMANENT: [i32; 11] = [64, 65, 66, 67, 68, 72, 76, 77, 78, 126, 127];

/// Shown of a result that is no JSON, in bytes.
const EXCERPT_BYTES: usize = 80;

/// A program that has ended by itself.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<String>,
}

/// What each exit code means. Codes that are not listed are failures that may go away.
#[derive(Default)]
pub(super) struct ExitCodes {
    success: Vec<i32>,
    retryable: Vec<i32>,
    permanent: Vec<i32>,
}

impl ExitCodes {
    pub(super) fn read(config: &mut Reader) -> ExitCodes {
        let known = ["success", "retryable", "permanent"];
        let mut codes = config.object("exit_codes", &known, |config| {
            let code = |value: &Value| {
                let code = value.as_i64().and_then(|code| i32::try_from(code).ok());
                code.filter(|code| (0..=255).contains(code))
                    .ok_or_else(|| format!("expected an exit code from 0 to 255, found {value}"))
            };
            let codes = ExitCodes {
                success: config.list("success", code),
                retryable: config.list("retryable", code),
                permanent: config.list("permanent", code),
            };
            for code in &codes.retryable {
                if codes.permanent.contains(code) {
                    config.refuse("permanent", format!("{code} is also in `retryable`"));
                }
            }
            for code in &codes.success {
                if codes.permanent.contains(code) || codes.retryable.contains(code) {
                    config.refuse("success", format!("{code} is also listed as a failure"));
                }
            }
            codes
        });
        if codes.success.is_empty() {
            codes.success.push(0);
        }
        codes
    }

    /// The failure, if the program did not succeed.
    pub(super) fn check(&self, command: &Command, ended: &Ended) -> Result<(), Box<Failure>> {
        let program = &command.program;
        let last = ended.stderr.iter().rfind(|line| !line.trim().is_empty());
        let last = last.map(|line| format!(": {line}")).unwrap_or_default();
        let failure = match (ended.status.code(), ended.status.signal()) {
            (Some(code), _) if self.success.contains(&code) => return Ok(()),
            (Some(code), _) => {
                let text = format!("`{program}` ended with exit code {code}{last}");
                let name = format!("EXIT_{code}");
                let failure = if self.is_permanent(code) {
                    permanent(&name, text)
                } else {
                    retryable(&name, text)
                };
                with_context(failure, "exit_code", code)
            }
            (None, signal) => {
                let signal = signal.unwrap_or_default();
                let text = format!("`{program}` was ended by signal {signal}{last}");
                with_context(
                    retryable(&format!("SIGNAL_{signal}"), text),
                    "signal",
                    signal,
                )
            }
        };
        Err(with_stderr(failure, &ended.stderr))
    }

    fn is_permanent(&self, code: i32) -> bool {
        let listed = self.permanent.contains(&code);
        listed || (PERMANENT.contains(&code) && !self.retryable.contains(&code))
    }
}

/// The failure with the last lines of what the program complained of.
pub(super) fn with_stderr(failure: Box<Failure>, lines: &[String]) -> Box<Failure> {
    if lines.is_empty() {
        return failure;
    }
    with_context(failure, "stderr", lines.to_vec())
}

pub(super) fn as_json(value: &Value) -> Json {
    Json::of(value).expect("invariant: a JSON value can be written")
}

/// What was written, as a text without its last end of line.
pub(super) fn text(stdout: &[u8]) -> Result<Json, Box<Failure>> {
    let text = valid(stdout)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    Ok(as_json(&Value::from(text)))
}

/// What was written, as JSON, unchanged; nothing is `null`.
pub(super) fn json(stdout: &[u8], secrets: &Secrets) -> Result<Json, Box<Failure>> {
    let text = valid(stdout)?.trim();
    if text.is_empty() {
        return Ok(as_json(&Value::Null));
    }
    let checked: Result<&RawValue, _> = serde_json::from_str(text);
    checked.and_then(Json::of).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let at = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        let from = at.floor_char_boundary(column.saturating_sub(EXCERPT_BYTES / 2));
        let to = at.floor_char_boundary((from + EXCERPT_BYTES).min(at.len()));
        // The error ends with the position, which stands before the excerpt here.
        let why = error.to_string();
        let why = why.split(" at line ").next().unwrap_or_default();
        // A part of a secret would not be recognised any more.
        let excerpt = if secrets.redacted(at) == at {
            &at[from..to]
        } else {
            "[redacted]"
        };
        not_json(format!(
            "the program did not write JSON: {why} in line {line}, column {column}: `{excerpt}`"
        ))
    })
}

fn valid(stdout: &[u8]) -> Result<&str, Box<Failure>> {
    std::str::from_utf8(stdout).map_err(|error| {
        let before = &stdout[..error.valid_up_to()];
        let line = before.split(|byte| *byte == b'\n').count();
        let start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
        let byte = stdout[error.valid_up_to()];
        not_json(format!(
            "the program did not write UTF-8: byte 0x{byte:02x} in line {line}, column {column}"
        ))
    })
}

fn not_json(message: String) -> Box<Failure> {
    permanent("RESULT_NOT_JSON", message)
}
