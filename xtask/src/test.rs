//! `cargo xtask test`: all tests, after a look at what they need outside of cargo's reach.

use std::process::{Command, ExitCode, Stdio};

use crate::postgres::{self, Cluster, Settings, TEST_VARIABLE};

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    match find_c_compiler().and_then(|()| find_postgres()) {
        Ok(cluster) => {
            let variables = cluster.as_ref().map(|c| c.variables(TEST_VARIABLE));
            let fixed = ["test", "--workspace"];
            crate::run::cargo(&fixed, arguments, variables.unwrap_or_default())
        }
        Err(missing) => {
            eprintln!("error: {missing}");
            ExitCode::FAILURE
        }
    }
}

/// None is started for a caller who names a database.
fn find_postgres() -> Result<Option<Cluster>, String> {
    if postgres::is_given(TEST_VARIABLE) {
        return Ok(None);
    }
    Cluster::start(&Settings::for_tests()).map(Some)
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
