//! `cargo xtask simulate`: the whole engine under virtual time, with everything that can go wrong.

use std::process::ExitCode;

use crate::postgres::{Cluster, Settings};

const FIXED: [&str; 6] = [
    "run",
    "--release",
    "--quiet",
    "-p",
    "tasker-simulation",
    "--",
];

/// `--store postgres` stands for a private server; a URL goes to the simulation as it is.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let Some(place) = arguments
        .windows(2)
        .position(|pair| pair[0] == "--store" && pair[1] == "postgres")
    else {
        return crate::run::cargo(&FIXED, arguments, Vec::new());
    };
    let cluster = match Cluster::start(&Settings::for_tests()) {
        Ok(cluster) => cluster,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut arguments = arguments.to_vec();
    cluster.url().clone_into(&mut arguments[place + 1]);
    crate::run::cargo(&FIXED, &arguments, Vec::new())
}
