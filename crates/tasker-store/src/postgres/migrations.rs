//! The migrations: numbered, embedded, and each with the oldest program that goes on working after
//! it.

use std::fmt::Write as _;

pub(super) struct Migration {
    name: &'static str,
    pub(super) sql: &'static str,
    /// The oldest version whose programs go on working after this one.
    compatible_with: i64,
}

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "tables",
        sql: include_str!("../../migrations/postgres/0001_tables.sql"),
        compatible_with: 1,
    },
    Migration {
        name: "engine",
        sql: include_str!("../../migrations/postgres/0002_engine.sql"),
        compatible_with: 2,
    },
    Migration {
        name: "operators",
        sql: include_str!("../../migrations/postgres/0003_operators.sql"),
        compatible_with: 2,
    },
    Migration {
        name: "create_task",
        sql: include_str!("../../migrations/postgres/0004_create_task.sql"),
        compatible_with: 2,
    },
];

/// The version that this program is written for.
#[expect(clippy::cast_possible_wrap, reason = "there are few migrations")]
pub(super) const KNOWN: i64 = MIGRATIONS.len() as i64;

/// One migration, and whether a database has it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MigrationStatus {
    /// Its number, from 1.
    pub version: i64,
    /// What it brings.
    pub name: String,
    /// Whether it has been applied.
    pub applied: bool,
}

/// Every migration that this program knows or a database at `version` has.
pub(super) fn list(version: i64) -> Vec<MigrationStatus> {
    let known = MIGRATIONS.iter().map(|migration| migration.name);
    let names = known.chain(std::iter::repeat("of a newer Tasker"));
    (1..=version.max(KNOWN))
        .zip(names)
        .map(|(number, name)| MigrationStatus {
            version: number,
            name: name.to_owned(),
            applied: number <= version,
        })
        .collect()
}

/// The SQL that brings a schema from nothing to this program's version, to be run by hand.
pub(super) fn script(schema: &str) -> String {
    let mut script = format!(
        "BEGIN;\nCREATE SCHEMA IF NOT EXISTS {schema};\n\
         SET LOCAL search_path = {schema}, pg_temp;\n{VERSIONS};\n"
    );
    for (number, migration) in (1..).zip(MIGRATIONS) {
        let Migration { name, sql, .. } = migration;
        let keep = keep_version(number, migration);
        write!(script, "\n-- {number}: {name}\n{sql}\n{keep};\n")
            .expect("invariant: writing to a String does not fail");
    }
    script + "COMMIT;\n"
}

pub(super) const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS tasker_schema (
    version         bigint      PRIMARY KEY,
    compatible_with bigint      NOT NULL,
    applied_at      timestamptz NOT NULL DEFAULT clock_timestamp()
)";

pub(super) fn keep_version(number: i64, migration: &Migration) -> String {
    format!(
        "INSERT INTO tasker_schema (version, compatible_with) VALUES ({number}, {})",
        migration.compatible_with
    )
}
