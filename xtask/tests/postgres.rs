//! `cargo xtask postgres` as its user sees it: a server for one command, and nothing of it after.
//!
//! Runs where `cargo xtask test` has found PostgreSQL's programs; a plain `cargo test` must not
//! install any.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs a line of shell with a cluster, or `None` without PostgreSQL's programs.
///
/// Returns when all that was started is gone: until then, somebody holds the other end of stderr.
fn with_cluster(line: &str) -> Option<Output> {
    let Some(programs) = std::env::var_os("TASKER_TEST_POSTGRES_BIN") else {
        println!("not run: `cargo xtask test` finds what this needs");
        return None;
    };
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
    xtask.args(["postgres", "--", "sh", "-c", line]);
    xtask.env("TASKER_POSTGRES_BIN", programs);
    // Such variables of the caller are not to lead anywhere else.
    xtask.env("PGPORT", "1").env("PGHOST", "nowhere.invalid");
    Some(xtask.stdin(Stdio::null()).output().unwrap())
}

/// The lines that the command printed, and nothing left of the data folder that is the first.
fn lines_after_removal(output: &Output) -> Vec<&str> {
    let text = str::from_utf8(&output.stdout).unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().collect();
    let data = Path::new(lines.first().unwrap_or_else(|| panic!("{told}")));
    assert!(data.ends_with("data"), "{text}{told}");
    assert!(!data.parent().unwrap().exists(), "{}", data.display());
    lines
}

#[test]
fn a_command_gets_a_durable_server_with_tls_and_a_role_without_privileges() {
    let line = r#"
        echo "$TASKER_TEST_POSTGRES_DATA"
        unset PGHOST PGPORT
        tls="?sslmode=verify-ca&sslrootcert=$TASKER_TEST_POSTGRES_CA"
        [ -n "$TASKER_TEST_POSTGRES_CA" ] || tls=
        "$TASKER_TEST_POSTGRES_BIN/psql" --no-psqlrc --no-align --tuples-only \
            "$TASKER_TEST_POSTGRES$tls" \
            --command "SELECT current_user, current_database(), rolsuper OR rolcreaterole,
                current_setting('fsync'), current_setting('synchronous_commit'),
                current_setting('server_encoding'), current_setting('ssl')
                FROM pg_roles WHERE rolname = current_user" 2>&1
        exit 7"#;
    let Some(output) = with_cluster(line) else {
        return;
    };
    let lines = lines_after_removal(&output);
    // Where there is no `openssl`, this run's own server has no certificate, either.
    let tls = std::env::var_os("TASKER_TEST_POSTGRES_CA").map_or("off", |_| "on");
    assert_eq!(lines[1], format!("tasker|tasker|f|on|on|UTF8|{tls}"));
    assert_eq!(output.status.code(), Some(7), "the command's own status");
}

#[test]
fn nothing_is_left_when_xtask_is_killed() {
    let line = r#"echo "$TASKER_TEST_POSTGRES_DATA"; echo "$TASKER_TEST_POSTGRES"; kill -9 $PPID"#;
    let Some(output) = with_cluster(line) else {
        return;
    };
    assert_eq!(output.status.code(), None, "ended by a signal");
    let lines = lines_after_removal(&output);
    let host = lines[1].rsplit('@').next().unwrap();
    let address = host.strip_suffix("/tasker").unwrap();
    assert!(TcpStream::connect(address).is_err(), "{address} answers");
}

#[test]
fn nothing_is_left_when_the_server_was_killed() {
    let line = r#"
        echo "$TASKER_TEST_POSTGRES_DATA"
        kill -9 $(head -n 1 "$TASKER_TEST_POSTGRES_DATA/postmaster.pid")"#;
    let Some(output) = with_cluster(line) else {
        return;
    };
    lines_after_removal(&output);
    assert!(output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!told.contains("error"), "{told}");
}
