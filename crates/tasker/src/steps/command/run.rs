//! Starts a program, feeds it, reads it, and waits for its end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::process::Stdio;
use std::sync::PoisonError;
use std::time::Duration;

use rustix::io::Errno;
use serde::Serialize;
use serde_json::Value;
use tasker_model::json::Json;
use tasker_model::outcome::Failure;
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin};
use tokio::time::timeout;

use crate::expression::Scope;
use crate::handler::StepContext;
use crate::steps::redact::Secrets;
use crate::steps::{permanent, retryable, unreadable, valueless};

use super::ending::Group;
use super::exit::{Ended, with_stderr};
use super::output::{Bytes, Lines, TooMuch, collect, discard};
use super::{Command, Output, Stdin};

/// How long what was written is still read after the program and its group are gone: something
/// that left the group may hold the pipe for ever.
const READ_OUT: Duration = Duration::from_secs(1);

/// A program with all that this attempt tells it.
pub(super) struct Prepared {
    program: String,
    args: Vec<String>,
    /// `None` removes the variable.
    env: Vec<(String, Option<String>)>,
    cwd: Option<PathBuf>,
    stdin: Vec<u8>,
}

/// The default input of a program.
#[derive(Serialize)]
struct Input<'a> {
    task_id: String,
    step: &'a str,
    attempt: u32,
    attempt_limit: u32,
    idempotency_key: String,
    context: &'a Json,
    results: BTreeMap<&'a str, Option<&'a Json>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<&'a Json>,
}

/// Which output was too long.
enum TooLong {
    Stdout,
    Stderr,
}

impl Prepared {
    pub(super) fn new(
        command: &Command,
        attempt: &StepContext,
        scope: &Scope,
    ) -> Result<Prepared, Box<Failure>> {
        let mut args = Vec::with_capacity(command.args.len());
        for (at, arg) in command.args.iter().enumerate() {
            let text = arg.evaluate_text(scope);
            args.push(text.map_err(|error| valueless(&format!("args/{at}"), &error))?);
        }
        let mut env: Vec<(String, Option<String>)> = vec![
            (
                "TASKER_TASK_ID".to_owned(),
                Some(attempt.task_id().to_string()),
            ),
            ("TASKER_STEP".to_owned(), Some(attempt.name().to_owned())),
            (
                "TASKER_ATTEMPT".to_owned(),
                Some(attempt.attempt().to_string()),
            ),
            (
                "TASKER_IDEMPOTENCY_KEY".to_owned(),
                Some(attempt.idempotency_key()),
            ),
        ];
        for (name, value) in &command.env {
            let value = match value.evaluate(scope) {
                Ok(Value::Null) => None,
                Ok(Value::String(text)) => Some(text),
                Ok(other) => Some(other.to_string()),
                Err(error) => return Err(valueless(&format!("env/{name}"), &error)),
            };
            env.push((name.clone(), value));
        }
        let cwd = command.cwd.as_ref().map(|cwd| cwd.evaluate_text(scope));
        let cwd = cwd.transpose().map_err(|error| valueless("cwd", &error))?;
        Ok(Prepared {
            program: command.program.clone(),
            args,
            env,
            cwd: cwd.map(PathBuf::from),
            stdin: command.stdin.bytes(attempt, scope)?,
        })
    }

    /// Runs the program to its end.
    pub(super) async fn run(
        self,
        command: &Command,
        attempt: &StepContext,
        secrets: &Secrets,
    ) -> Result<Ended, Box<Failure>> {
        let mut child = self.spawn(command)?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut group = Group::new(child, command.grace);
        let (bytes, lines) = (Bytes::default(), Lines::new(command.stderr_lines_max));
        let mut feed = pin!(feed(stdin, self.stdin));
        let mut read = pin!(async {
            let stdout = read_stdout(stdout, &bytes, command);
            let stderr = async {
                let Some(stderr) = stderr else { return Ok(()) };
                let max = command.stderr_bytes_max;
                let followed = lines.follow(stderr, attempt, secrets, max).await;
                followed.map_err(|TooMuch| TooLong::Stderr)
            };
            tokio::try_join!(stdout, stderr)
        });
        let (mut all_fed, mut all_read) = (false, false);
        let status = loop {
            tokio::select! {
                () = &mut feed, if !all_fed => all_fed = true,
                ended = &mut read, if !all_read => match ended {
                    Ok(_) => all_read = true,
                    Err(which) => return Err(with_stderr(which.failure(command), &lines.last())),
                },
                status = group.leader().wait() => break status,
            }
        };
        let left = group.end();
        if left {
            attempt.log("the program left others running when it ended; they were ended, too");
        }
        if !all_read {
            match timeout(command.grace + READ_OUT, read).await {
                Ok(Ok(_)) => {}
                Ok(Err(which)) => {
                    return Err(with_stderr(which.failure(command), &lines.last()));
                }
                Err(_) => attempt.log("something that the program started still holds its output"),
            }
        }
        let status = status.map_err(|error| {
            let text = format!("cannot wait for `{}`: {error}", command.program);
            retryable("PROGRAM_LOST", text)
        })?;
        let mut bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Ended {
            status,
            stdout: std::mem::take(&mut bytes),
            stderr: lines.last(),
        })
    }

    fn spawn(&self, command: &Command) -> Result<Child, Box<Failure>> {
        if let Some(cwd) = self.cwd.as_ref().filter(|cwd| !cwd.is_dir()) {
            let text = format!("`cwd` is no folder: {}", cwd.display());
            return Err(permanent("CWD_NOT_FOUND", text));
        }
        let mut program = tokio::process::Command::new(&self.program);
        if !command.inherit_env {
            program.env_clear();
            // Without it programs could not be named without their folder.
            program.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        }
        for (name, value) in &self.env {
            match value {
                Some(value) => program.env(name, value),
                None => program.env_remove(name),
            };
        }
        if let Some(cwd) = &self.cwd {
            program.current_dir(cwd);
        }
        program
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| not_started(&self.program, &error))
    }
}

impl Stdin {
    fn bytes(&self, attempt: &StepContext, scope: &Scope) -> Result<Vec<u8>, Box<Failure>> {
        match self {
            Stdin::Template(template) => match template.evaluate(scope) {
                Ok(Value::Null) => Ok(Vec::new()),
                Ok(Value::String(text)) => Ok(text.into_bytes()),
                Ok(other) => Ok(other.to_string().into_bytes()),
                Err(error) => Err(valueless("stdin", &error)),
            },
            Stdin::Attempt => {
                let mut results = BTreeMap::new();
                for name in attempt.parent_names() {
                    results.insert(name, attempt.parent_json(name).map_err(unreadable)?);
                }
                let input = Input {
                    task_id: attempt.task_id().to_string(),
                    step: attempt.name(),
                    attempt: attempt.attempt(),
                    attempt_limit: attempt.attempt_limit(),
                    idempotency_key: attempt.idempotency_key(),
                    context: attempt.context_json(),
                    results,
                    signal: attempt.signal_json(),
                };
                serde_json::to_vec(&input).map_err(|error| {
                    permanent(
                        "CONTEXT_TYPE",
                        format!("the input cannot be written: {error}"),
                    )
                })
            }
        }
    }
}

impl TooLong {
    fn failure(&self, command: &Command) -> Box<Failure> {
        let (name, max) = match self {
            TooLong::Stdout => ("stdout", command.output_bytes_max),
            TooLong::Stderr => ("stderr", command.stderr_bytes_max),
        };
        let key = match self {
            TooLong::Stdout => "output_bytes_max",
            TooLong::Stderr => "stderr_bytes_max",
        };
        let text = format!(
            "`{}` wrote more than {max} bytes to {name} and was ended; `{key}` is the limit; store \
             large data elsewhere and return a reference to it",
            command.program
        );
        permanent("OUTPUT_TOO_LARGE", text)
    }
}

/// Writes all of it. A program that does not read it is not to blame.
async fn feed(stdin: Option<ChildStdin>, bytes: Vec<u8>) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(&bytes).await;
        // Dropping it is the end of the input.
    }
}

async fn read_stdout(
    stdout: Option<impl AsyncRead + Unpin>,
    bytes: &Bytes,
    command: &Command,
) -> Result<(), TooLong> {
    let Some(stdout) = stdout else { return Ok(()) };
    if matches!(command.output, Output::None) {
        discard(stdout).await;
        return Ok(());
    }
    let read = collect(stdout, bytes, command.output_bytes_max).await;
    read.map_err(|TooMuch| TooLong::Stdout)
}

/// Why a program could not be started: for want of something that may come back, or for good.
fn not_started(program: &str, error: &std::io::Error) -> Box<Failure> {
    let text = format!("cannot start `{program}`: {error}");
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => {
            let text =
                format!("cannot start `{program}`: it, or what interprets it, was not found");
            permanent("PROGRAM_NOT_FOUND", text)
        }
        Some(Errno::ACCESS | Errno::PERM | Errno::NOEXEC | Errno::ISDIR | Errno::NOTDIR) => {
            permanent("PROGRAM_NOT_EXECUTABLE", text)
        }
        Some(
            Errno::AGAIN
            | Errno::NOMEM
            | Errno::MFILE
            | Errno::NFILE
            | Errno::TXTBSY
            | Errno::INTR
            | Errno::IO
            | Errno::NOSPC,
        ) => retryable("NO_RESOURCES", text),
        _ => permanent("PROGRAM_NOT_STARTED", text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tasker_model::outcome::FailureKind;

    #[test]
    fn want_of_resources_may_go_away() {
        for (error, kind) in [
            (Errno::AGAIN, FailureKind::Retryable),
            (Errno::NOMEM, FailureKind::Retryable),
            (Errno::MFILE, FailureKind::Retryable),
            (Errno::TXTBSY, FailureKind::Retryable),
            (Errno::TOOBIG, FailureKind::Permanent),
            (Errno::NOENT, FailureKind::Permanent),
            (Errno::ACCESS, FailureKind::Permanent),
            (Errno::LOOP, FailureKind::Permanent),
        ] {
            assert_eq!(not_started("x", &error.into()).kind, kind, "{error}");
        }
    }
}
