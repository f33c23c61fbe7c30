//! What can go wrong with a store, by what its caller can do about it.

use tasker_model::id::{StepKey, TaskId};
use tasker_model::state::IllegalMove;

/// A store's refusal or failure.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another writer held the database too long, or it cannot be reached: try again.
    #[error("the database is busy or cannot be reached")]
    Unavailable(#[source] rusqlite::Error),
    /// The disk is full: try again once there is space.
    #[error("the disk that holds the database is full")]
    DiskFull(#[source] rusqlite::Error),
    /// The file cannot be written: fix its permissions, or those of its folder.
    #[error("the database cannot be written: check the permissions of `{path}` and of its folder")]
    ReadOnly {
        /// The file.
        path: String,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The file cannot be opened: fix the path.
    #[error("cannot open `{path}`: check that its folder exists and may be written")]
    CannotOpen {
        /// The file.
        path: String,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The file is damaged, or not a database: restore it.
    #[error("`{path}` is damaged or not a Tasker database; restore it from a backup")]
    Corrupt {
        /// The file.
        path: String,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
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
    #[error("`{url}` is not a store; expected `sqlite:PATH` or `sqlite::memory:`")]
    BadUrl {
        /// The URL, without password.
        url: String,
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
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
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
