//! Opening a file, its settings and its migrations.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::error::StoreError;

/// Embedded migrations; the number of the last one applied stands in `tasker_schema`, since
/// `user_version` belongs to an application that shares the file.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/sqlite/0001_initial.sql"),
    include_str!("../../migrations/sqlite/0002_queues.sql"),
    include_str!("../../migrations/sqlite/0003_authoring.sql"),
    include_str!("../../migrations/sqlite/0004_subtasks.sql"),
    include_str!("../../migrations/sqlite/0005_annotations.sql"),
];

/// Marks a file that Tasker has made: "TSKR".
const APPLICATION_ID: i64 = 0x5453_4b52;

/// How long a transaction waits for another process's.
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// Statements that stay prepared: every hot one, with room for the queries.
const PREPARED_STATEMENTS_MAX: usize = 128;

/// Where a database lives.
#[derive(Debug, Clone)]
pub(super) enum Location {
    File(PathBuf),
    Memory,
}

impl Location {
    fn shown(&self) -> String {
        match self {
            Location::File(path) => path.display().to_string(),
            Location::Memory => ":memory:".to_owned(),
        }
    }

    /// Opens a connection with Tasker's settings.
    pub(super) fn connect(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = match self {
            Location::File(path) => Connection::open_with_flags(path, flags),
            Location::Memory => Connection::open_in_memory_with_flags(flags),
        };
        let connection = opened.map_err(|error| self.error(error))?;
        // Before the settings, which write to the file.
        self.check_owner(&connection)?;
        settings(&connection).map_err(|error| self.error(error))?;
        Ok(connection)
    }

    /// Refuses a database that another program has marked as its own, and one that cannot be
    /// written. Tables of the user's own application are welcome: they may share the file, so that
    /// a task is created by the commit of the business row.
    fn check_owner(&self, connection: &Connection) -> Result<(), StoreError> {
        let fail = |error| self.error(error);
        connection.busy_timeout(BUSY_WAIT).map_err(fail)?;
        let owner: i64 = connection
            .pragma_query_value(None, "application_id", |row| row.get(0))
            .map_err(fail)?;
        let refuse = |code, text: &str| {
            let code = rusqlite::ffi::Error::new(code);
            Err(self.error(rusqlite::Error::SqliteFailure(code, Some(text.to_owned()))))
        };
        if owner != 0 && owner != APPLICATION_ID {
            let text = "the file is marked as another program's database";
            return refuse(rusqlite::ffi::SQLITE_NOTADB, text);
        }
        if connection.is_readonly(rusqlite::MAIN_DB).map_err(fail)? {
            return refuse(
                rusqlite::ffi::SQLITE_READONLY,
                "the file was opened for reading only",
            );
        }
        Ok(())
    }

    /// Brings the schema up to date, in one transaction that other processes wait for.
    pub(super) fn migrate(&self, connection: &mut Connection) -> Result<(), StoreError> {
        let known = i64::try_from(MIGRATIONS.len()).expect("invariant: few migrations");
        let fail = |error| self.error(error);
        let migration = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(fail)?;
        let number = |sql| migration.query_row(sql, [], |row| row.get::<_, i64>(0));
        let count_tables = include_str!("../../sql/sqlite/migrate.count_tables.sql");
        let is_empty = number(count_tables).map_err(fail)? == 0;
        migration
            .execute_batch(include_str!("../../sql/sqlite/migrate.keep_version.sql"))
            .map_err(fail)?;
        let version = include_str!("../../sql/sqlite/migrate.version.sql");
        let found = number(version).map_err(fail)?;
        if found > known {
            return Err(StoreError::NewerVersion {
                path: self.shown(),
                found,
                known,
            });
        }
        let applied = usize::try_from(found).unwrap_or(0);
        for migration_sql in &MIGRATIONS[applied..] {
            migration.execute_batch(migration_sql).map_err(fail)?;
        }
        if found < known {
            let sql = include_str!("../../sql/sqlite/migrate.set_version.sql");
            migration.execute(sql, [known]).map_err(fail)?;
        }
        if is_empty {
            // Nobody else's file: mark it, so that tools can tell what it is.
            migration
                .pragma_update(None, "application_id", APPLICATION_ID)
                .map_err(fail)?;
        }
        migration.commit().map_err(fail)
    }

    /// Says of an SQLite error what the caller can do about it.
    pub(super) fn error(&self, source: rusqlite::Error) -> StoreError {
        let path = self.shown();
        let code = source.sqlite_error_code();
        let source = Box::new(source);
        match code {
            Some(
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::SystemIoFailure,
            ) => StoreError::Unavailable(source),
            Some(ErrorCode::DiskFull) => StoreError::DiskFull(source),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                StoreError::ReadOnly { path, source }
            }
            Some(ErrorCode::CannotOpen) => StoreError::CannotOpen { path, source },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Corrupt { path, source }
            }
            _ => StoreError::Unexpected {
                context: path,
                source,
            },
        }
    }
}

fn settings(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_WAIT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // Every commit is on the disk before it is acknowledged.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", "on")?;
    connection.pragma_update(None, "temp_store", "memory")?;
    // Negative: KiB. Large enough for the hot pages of many tasks, small enough to idle in.
    connection.pragma_update(None, "cache_size", -16_000)?;
    // `wal_autocheckpoint` stays at SQLite's 1,000 pages: while the log grows, a commit takes twice
    // the time of one that overwrites it, and it stops growing at the first checkpoint.
    // Bytes; a log that grew during a burst gives its space back.
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS_MAX);
    // Without, SQLite prepares a statement anew whenever a value is bound that its plan might depend
    // on, as next to a partial index: with every claim. No plan here depends on a value.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}
