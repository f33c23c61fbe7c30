//! Runs cargo the way the caller would, and says so first.

use std::process::{Command, ExitCode};

/// Runs cargo in the current folder and passes its exit code on.
pub(crate) fn cargo(fixed: &[&str], rest: &[String]) -> ExitCode {
    // The cargo that runs this program, not another one that comes first in PATH.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let words = fixed.iter().copied().chain(rest.iter().map(String::as_str));
    eprintln!("$ cargo {}", words.collect::<Vec<_>>().join(" "));
    match Command::new(cargo).args(fixed).args(rest).status() {
        Ok(status) => status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .map_or(ExitCode::FAILURE, ExitCode::from),
        Err(error) => {
            eprintln!("error: cannot run cargo: {error}");
            ExitCode::FAILURE
        }
    }
}
