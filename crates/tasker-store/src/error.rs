//! What can go wrong with a store, by what its caller can do about it.

use tasker_model::id::{StepKey, TaskId};
use tasker_model::state::IllegalMove;

/// What a database or its driver said.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A store's refusal or failure.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another writer held the database too long, or it cannot be reached: try again.
    #[error("the database is busy or cannot be reached")]
    Unavailable(#[source] Cause),
    /// The disk is full: try again once there is space.
    #[error("the disk that holds the database is full")]
    DiskFull(#[source] Cause),
    /// The file cannot be written: fix its permissions, or those of its folder.
    #[error("the database cannot be written: check the permissions of `{path}` and of its folder")]
    ReadOnly {
        /// The file.
        path: String,
        /// What the database said.
        #[source]
        source: Cause,
    },
    /// The file cannot be opened: fix the path.
    #[error("cannot open `{path}`: check that its folder exists and may be written")]
    CannotOpen {
        /// The file.
        path: String,
        /// What the database said.
        #[source]
        source: Cause,
    },
    /// The file is damaged, or not a database: restore it.
    #[error("`{path}` is damaged or not a Tasker database; restore it from a backup")]
    Corrupt {
        /// The file.
        path: String,
        /// What the database said.
        #[source]
        source: Cause,
    },
    /// The file was written by a newer Tasker: use that one.
    #[error(
        "`{path}` has schema version {found}, this Tasker knows versions up to {known}; \
         use a newer Tasker"
    )]
    NewerVersion {
        /// The file.
        path: String,
        /// The file's version.
        found: i64,
        /// The highest version that this program knows.
        known: i64,
    },
    /// The URL names no store.
    #[error(
        "`{url}` is not a store; expected `sqlite:PATH`, `sqlite::memory:` or \
         `postgres://USER@HOST/DATABASE`"
    )]
    BadUrl {
        /// The URL, without password.
        url: String,
    },
    /// A part of the URL cannot be used: fix it.
    #[error("in the store's URL: {0}")]
    BadUrlPart(String),
    /// The server refuses to let us in: fix user, password, database or TLS settings.
    #[error("cannot connect to `{server}`")]
    CannotConnect {
        /// Host, port and database.
        server: String,
        /// What the database said.
        #[source]
        source: Cause,
    },
    /// The database's schema is older than this program, or not there.
    #[error(
        "schema `{schema}` of `{server}` has version {found}, this Tasker needs {needed}; \
         run `tasker migrate` with this store"
    )]
    NotMigrated {
        /// Host, port and database.
        server: String,
        /// The schema.
        schema: String,
        /// Its version; 0 if there is nothing of Tasker in it.
        found: i64,
        /// The version that this program needs.
        needed: i64,
    },
    /// There is no such task.
    #[error("there is no task {0}")]
    NoSuchTask(TaskId),
    /// There is no such step.
    #[error("task {} has no step number {}", .0.task_id, .0.position)]
    NoSuchStep(StepKey),
    /// The state machine has no such move: nothing was changed.
    #[error(transparent)]
    IllegalMove(#[from] IllegalMove),
    /// The order does not fit what is stored: nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// The operating system gave no thread to work on.
    #[error("cannot start a thread")]
    NoThread(#[source] std::io::Error),
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
    /// The database refused a statement or holds what was never written: a bug, or a file that
    /// was changed by hand.
    #[error("unexpected database error: {context}")]
    Unexpected {
        /// What was being done.
        context: String,
        /// What the database said.
        #[source]
        source: Cause,
    },
    /// An invariant of the store does not hold: please report it. Nothing was changed.
    #[error("this is a bug in Tasker; nothing was changed: {0}")]
    Bug(String),
    /// A stored value is not what was written.
    #[error("the database holds an unexpected value: {0}")]
    BadRow(String),
}

impl StoreError {
    /// Whether the same call may succeed later without anybody changing the call.
    pub const fn is_transient(&self) -> bool {
        matches!(self, StoreError::Unavailable(_) | StoreError::DiskFull(_))
    }
}
