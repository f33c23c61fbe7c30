//! Runs other programs: for the caller to watch, or for what they answer.

use std::process::{Command, ExitCode, Stdio};

/// Environment variables for the program that is run.
pub(crate) type Variables = Vec<(String, String)>;

/// Runs cargo in the current folder, says so first, and passes its exit code on.
pub(crate) fn cargo(fixed: &[&str], rest: &[String], variables: Variables) -> ExitCode {
    // The cargo that runs this program, not another one that comes first in PATH.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let words = fixed.iter().copied().chain(rest.iter().map(String::as_str));
    eprintln!("$ cargo {}", words.collect::<Vec<_>>().join(" "));
    watched(Command::new(cargo).args(fixed).args(rest).envs(variables))
}

/// Runs a program on the caller's terminal and passes its exit code on.
pub(crate) fn watched(command: &mut Command) -> ExitCode {
    match command.status() {
        Ok(status) => status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .map_or(ExitCode::FAILURE, ExitCode::from),
        Err(error) => {
            let program = command.get_program().to_string_lossy();
            eprintln!("error: cannot run `{program}`: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a program and returns what it prints; if it fails, what it complains of.
pub(crate) fn answer(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run `{program}`: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "`{program}` failed, {}:\n{}",
        output.status,
        complaint.trim_end()
    ))
}
