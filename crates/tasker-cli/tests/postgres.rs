//! The real binary on a real PostgreSQL: what the README shows of it, and what people get wrong.

use std::process::{Command, Output};

/// A schema that nobody else uses, in the database for tests.
fn store() -> String {
    let server = std::env::var("TASKER_TEST_POSTGRES")
        .expect("TASKER_TEST_POSTGRES names a database for tests; `cargo xtask test` starts one");
    let and = if server.contains('?') { '&' } else { '?' };
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    let unique = since.as_nanos();
    format!("{server}{and}schema=cli_{unique}_{}", std::process::id())
}

fn tasker(store: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_tasker"))
        .current_dir(folder.path())
        .args(arguments)
        .env("TASKER_STORE", store)
        .env("USER", "ada")
        .output()
        .unwrap()
}

/// Standard output, standard error and exit status.
fn said(store: &str, arguments: &[&str]) -> (String, String, Option<i32>) {
    let output = tasker(store, arguments);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        text(output.stdout),
        text(output.stderr),
        output.status.code(),
    )
}

/// Runs the commands of the README that are meant for PostgreSQL, in their order.
#[test]
fn every_command_of_the_readme_works_on_postgres() {
    let store = store();
    let readme = include_str!("../../../README.md");
    let (_, on_postgres) = readme.split_once("## On PostgreSQL").unwrap();
    let (on_postgres, _) = on_postgres.split_once("\n## ").unwrap();
    let commands: Vec<&str> = on_postgres
        .lines()
        .filter_map(|line| line.strip_prefix("% tasker "))
        .collect();
    assert!(commands.len() >= 5, "{commands:?}");
    for line in commands {
        let mut arguments: Vec<&str> = line.split(' ').collect();
        if arguments == ["demo"] {
            arguments.extend(["--pace", "0"]);
        }
        let (out, error, code) = said(&store, &arguments);
        assert_eq!(code, Some(0), "{line}: {error}");
        assert!(!out.is_empty(), "{line}");
    }
}

#[test]
fn a_schema_that_is_missing_or_old_is_told_apart_from_one_that_is_ready() {
    let store = store();
    let (_, error, code) = said(&store, &["task", "list"]);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("has version 0") && error.contains("run `tasker migrate`"),
        "{error}"
    );
    let (out, _, code) = said(&store, &["migrate", "--status"]);
    assert_eq!(code, Some(1), "a deployment can ask");
    assert!(out.contains("missing") && !out.contains("applied"), "{out}");
    let (out, error, code) = said(&store, &["migrate"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("from version 0 to"), "{out}");
    let (out, _, _) = said(&store, &["migrate"]);
    assert!(out.contains("already"), "{out}");
    let (out, _, code) = said(&store, &["migrate", "--status"]);
    assert_eq!(code, Some(0));
    assert!(!out.contains("missing"), "{out}");
    assert_eq!(said(&store, &["task", "list"]).2, Some(0));
}

#[test]
fn the_sql_of_a_migration_names_the_schema() {
    let (out, _, code) = said(
        "postgres://ann@nowhere/x?schema=My%20Tasks",
        &["migrate", "--sql"],
    );
    assert_eq!(code, Some(0), "no server is needed");
    assert!(
        out.contains("CREATE SCHEMA IF NOT EXISTS \"My Tasks\""),
        "{out}"
    );
    assert!(out.contains("CREATE TABLE tasker_steps") && out.ends_with("COMMIT;\n"));
}

#[test]
fn queues_are_limited_and_listed() {
    let store = store();
    said(&store, &["migrate"]);
    let (out, _, _) = said(&store, &["queue", "limit", "shop", "3"]);
    assert!(out.contains("QUEUE") && out.contains("shop"), "{out}");
    let (out, _, _) = said(&store, &["queue", "list", "--json"]);
    assert!(out.contains("\"concurrency_limit\": 3"), "{out}");
    let (out, _, _) = said(&store, &["queue", "limit", "shop", "0"]);
    assert!(out.contains("paused"), "{out}");
    let (out, _, _) = said(&store, &["queue", "limit", "shop", "--none"]);
    assert!(out.contains("none has a limit"), "{out}");
    let (_, error, code) = said(&store, &["queue", "limit", "shop"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("<LIMIT>"), "{error}");
}

#[test]
fn a_server_that_refuses_is_named_without_the_password() {
    let cases = [
        (
            "postgres://ann:geheim@127.0.0.1:1/x",
            "cannot be reached",
            1,
        ),
        (
            "postgres://ann:geheim@127.0.0.1:1/x?sslmode=maybe",
            "it may be disable",
            2,
        ),
        (
            "postgres://ann:geheim@127.0.0.1:1/x?shema=a",
            "unknown option `shema`",
            2,
        ),
        ("postgres://", "names no user", 2),
        ("mysql://ann:geheim@host/x", "is not a store", 2),
    ];
    for (store, expected, status) in cases {
        let (_, error, code) = said(store, &["task", "list"]);
        assert_eq!(code, Some(status), "{store}: {error}");
        assert!(error.contains(expected), "{store}: {error}");
        assert!(
            !error.contains("geheim") && !error.contains("panicked"),
            "{error}"
        );
    }
}

#[test]
fn only_postgres_is_migrated_by_hand() {
    let (_, error, code) = said("sqlite:tasker.db", &["migrate"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("only a PostgreSQL store"), "{error}");
}
