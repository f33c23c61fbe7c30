//! Identities: tasks, workers, and a step's place in its DAG.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not an id; expected a UUID such as 0195d3b4-0a52-7cc3-98c4-dc0c0c07398f")]
pub struct InvalidId {
    /// The text as found.
    pub found: String,
}

macro_rules! uuid_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps an id that was made elsewhere.
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// The id as a UUID.
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId { found: text.to_owned() })
            }
        }
    };
}

uuid_id! {
    /// A task. UUIDv7, so that ids made later sort later and rows of one time lie together.
    TaskId
}

uuid_id! {
    /// A worker: random at every start. Host name and process id are labels, not identity.
    WorkerId
}

/// A step's place in its template, from 0. With the task's id it is the key of a step.
pub type Position = u32;

/// The key of a step: which task, and which place in its DAG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StepKey {
    /// The task.
    pub task_id: TaskId,
    /// The place in the task's template.
    pub position: Position,
}

impl StepKey {
    /// Names a step.
    pub const fn new(task_id: TaskId, position: Position) -> Self {
        Self { task_id, position }
    }

    /// A key that stays the same over all attempts of this step, to hand to outside systems.
    pub fn idempotency_key(&self) -> String {
        format!("{}-{}", self.task_id, self.position)
    }
}
