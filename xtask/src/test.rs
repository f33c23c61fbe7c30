//! `cargo xtask test`: all tests, after a look at what they need outside of cargo's reach.

use std::process::{Command, ExitCode, Stdio};

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    if let Err(missing) = find_c_compiler() {
        eprintln!("error: {missing}");
        return ExitCode::FAILURE;
    }
    crate::run::cargo(&["test", "--workspace"], arguments)
}

/// SQLite is compiled from its source; without a compiler its build script fails obscurely.
fn find_c_compiler() -> Result<(), String> {
    let named = std::env::var("CC").unwrap_or_default();
    // CC may hold arguments, too.
    let compiler = named.split_whitespace().next().unwrap_or("cc");
    let found = Command::new(compiler)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match found {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "no C compiler: `{compiler}`: {error}; SQLite is compiled from source, so install one \
             (Debian and Ubuntu: `apt-get install gcc libc6-dev`, macOS: `xcode-select --install`) \
             or name yours in CC",
        )),
    }
}
