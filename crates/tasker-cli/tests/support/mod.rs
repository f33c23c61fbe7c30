//! The real binary, as people call it.

use std::path::Path;
use std::process::{Command, Output};

/// A call in a folder, by Ada, without settings from the environment.
pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker"));
    command
        .current_dir(folder)
        .args(arguments)
        .env_remove("TASKER_STORE")
        .env_remove("TASKER_TEMPLATES")
        .env_remove("TASKER_ENV")
        .env("USER", "ada");
    command
}

/// Makes the call.
pub(crate) fn tasker(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
