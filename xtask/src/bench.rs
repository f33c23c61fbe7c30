//! `cargo xtask bench`: the measurements, in a release build.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::postgres::{self, Cluster, Settings};

/// The variables in which the measurements look for their database begin with this name.
const VARIABLE: &str = "TASKER_BENCH_POSTGRES";

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let mut cluster = None;
    if needs_postgres(arguments) && !postgres::is_given(VARIABLE) {
        let settings = Settings {
            // The disk that SQLite is measured on, too.
            parent: target(),
            shared_buffers_mb: 512,
        };
        cluster = match Cluster::start(&settings) {
            Ok(cluster) => Some(cluster),
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::FAILURE;
            }
        };
    }
    let variables = cluster.as_ref().map(|cluster| cluster.variables(VARIABLE));
    let fixed = ["run", "--release", "--quiet", "-p", "tasker-bench", "--"];
    crate::run::cargo(&fixed, arguments, variables.unwrap_or_default())
}

/// Whether these arguments ask for measurements on PostgreSQL, or of systems that need it.
fn needs_postgres(arguments: &[String]) -> bool {
    let store = arguments
        .windows(2)
        .any(|pair| pair[0] == "--store" && pair[1] == "postgres");
    let other = arguments.iter().any(|argument| {
        argument == "--store=postgres" || argument == "--peers" || argument.starts_with("--peers=")
    });
    store || other
}

/// Cargo's target folder, in which this program was built.
fn target() -> Option<PathBuf> {
    let this = std::env::current_exe().ok()?;
    this.ancestors().nth(2).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_measurements_on_postgresql_need_it() {
        for (line, expected) in [
            ("--quick --store postgres", true),
            ("--store=postgres", true),
            ("--peers", true),
            ("--peers=river --quick", true),
            ("--store sqlite --workload postgres", false),
            ("--store", false),
            ("", false),
        ] {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(needs_postgres(&words), expected, "{line}");
        }
    }
}
