//! `cargo xtask bench`: the measurements, in a release build.

use std::process::ExitCode;

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let fixed = ["run", "--release", "--quiet", "-p", "tasker-bench", "--"];
    crate::run::cargo(&fixed, arguments)
}
