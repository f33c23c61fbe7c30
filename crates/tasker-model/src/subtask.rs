//! Tasks that a task starts: for a step, for each item of a list, or to undo what it did.
//!
//! A sub-task is a task like any other, with its own record. What it has beside is an [`Origin`]; and
//! the step that started it has a [`SubtaskTally`], which the store keeps with every end of one of
//! them. The step waits for its sub-tasks as it would for a time, and is due again when the tally is
//! [decided](SubtaskTally::is_decided).

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::id::{Position, StepKey, TaskId};
use crate::task::TaskState;
use crate::text_enum::text_enum;

/// How many sub-tasks of one map run at the same time unless its definition says otherwise: enough to
/// keep many workers busy, few enough that other tasks find their turn in between.
pub const MAP_CONCURRENCY: u32 = 1_000;
/// A list with more items is refused.
pub const MAP_ITEMS_MAX: u32 = 1_000_000;
/// Sub-tasks of sub-tasks: deeper is refused, since it is hardly ever meant.
pub const SUBTASK_DEPTH_MAX: u32 = 16;

text_enum! {
    /// What the result of a step with sub-tasks is made of.
    "gathering of results" enum Gather {
        /// The result of its only sub-task.
        One = "one",
        /// A list of all results, in the order of the items; `null` for an item that failed.
        List = "list",
        /// How many completed and failed: `{"items": 3, "failed": 0}`.
        Count = "count",
    }
}

/// The result of a step that gathers a [`Gather::Count`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// How many items the list has.
    pub items: u32,
    /// How many of them failed.
    pub failed: u32,
}

/// What a step means to start, decided once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskPlan {
    /// How many.
    pub count: u32,
    /// How many of them may run at the same time.
    pub concurrency: u32,
    /// How many of them may fail before the step does.
    pub max_failures: u32,
    /// What its result will be.
    pub gather: Gather,
}

/// The sub-tasks of one step, as counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskTally {
    /// What is meant to be.
    #[serde(flatten)]
    pub plan: SubtaskPlan,
    /// How many have been created.
    pub created: u32,
    /// How many are not final; those that are held included.
    pub open: u32,
    /// How many are held back because enough others run.
    pub held: u32,
    /// How many failed or were cancelled.
    pub failed: u32,
}

impl SubtaskTally {
    /// Nothing has been created yet.
    pub const fn new(plan: SubtaskPlan) -> SubtaskTally {
        SubtaskTally {
            plan,
            created: 0,
            open: 0,
            held: 0,
            failed: 0,
        }
    }

    /// Whether all of them have been created.
    pub const fn is_started(&self) -> bool {
        self.created >= self.plan.count
    }

    /// Whether too many have failed.
    pub const fn is_failed(&self) -> bool {
        self.failed > self.plan.max_failures
    }

    /// Whether the step that waits for them is due.
    pub const fn is_decided(&self) -> bool {
        self.open == 0 || self.is_failed()
    }

    /// Whether another one may start beside those that run.
    pub const fn has_room(&self) -> bool {
        self.open - self.held < self.plan.concurrency && !self.is_failed()
    }
}

/// What a sub-task's state means for the step that started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubtaskStanding {
    /// It is not final.
    Open,
    /// It is complete, or was resolved manually.
    Done,
    /// It failed or was cancelled.
    Failed,
}

impl From<TaskState> for SubtaskStanding {
    fn from(state: TaskState) -> SubtaskStanding {
        match state {
            TaskState::Pending | TaskState::InProgress => SubtaskStanding::Open,
            TaskState::Complete | TaskState::ResolvedManually => SubtaskStanding::Done,
            TaskState::Error | TaskState::Cancelled => SubtaskStanding::Failed,
        }
    }
}

/// Why a task exists that nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Origin {
    /// A step started it.
    Step {
        /// The task of the step.
        task_id: TaskId,
        /// The step.
        position: Position,
        /// Which of the step's sub-tasks it is, from 0.
        ordinal: u32,
    },
    /// It undoes what another task did.
    Undo {
        /// The task that failed or was cancelled.
        task_id: TaskId,
    },
}

impl Origin {
    /// The task that is behind it.
    pub const fn task_id(&self) -> TaskId {
        match self {
            Origin::Step { task_id, .. } | Origin::Undo { task_id } => *task_id,
        }
    }

    /// The step that started it.
    pub const fn step(&self) -> Option<StepKey> {
        match self {
            Origin::Step {
                task_id, position, ..
            } => Some(StepKey::new(*task_id, *position)),
            Origin::Undo { .. } => None,
        }
    }

    /// The id of the task that it is the origin of: the same for everybody who asks, so that a
    /// creation may be repeated by another worker.
    pub fn subtask_id(&self) -> TaskId {
        match self {
            Origin::Step {
                task_id,
                position,
                ordinal,
            } => in_order(
                derived(*task_id, &[b"step", &position.to_be_bytes()]),
                *ordinal,
            ),
            Origin::Undo { task_id } => derived(*task_id, &[b"undo"]),
        }
    }
}

/// The id of the task that takes the place of a sub-task that was cancelled.
pub fn replacement_id(cancelled: TaskId) -> TaskId {
    derived(cancelled, &[b"again"])
}

/// A UUIDv7 with the time of another and the rest from a hash: rows of a task's sub-tasks lie beside it.
fn derived(from: TaskId, parts: &[&[u8]]) -> TaskId {
    let mut hash = Sha256::new_with_prefix(from.as_uuid().as_bytes());
    for part in parts {
        hash.update(part);
    }
    let digest = hash.finalize();
    let mut bytes = *from.as_uuid().as_bytes();
    bytes[6..].copy_from_slice(&digest[..10]);
    // Version 7 and the variant of RFC 9562.
    bytes[6] = 0x70 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    TaskId::from_uuid(Uuid::from_bytes(bytes))
}

/// The ids of a step's sub-tasks have the order of the sub-tasks, and differ in the last bits alone: so
/// their rows lie in order, too, and are written side by side.
fn in_order(id: TaskId, ordinal: u32) -> TaskId {
    const BITS: u32 = MAP_ITEMS_MAX.next_power_of_two().trailing_zeros();
    let rest = id.as_uuid().as_u128() >> BITS << BITS;
    TaskId::from_uuid(Uuid::from_u128(rest | u128::from(ordinal)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_the_origin_and_differ() {
        let task_id: TaskId = "0195d3b4-0a52-7cc3-98c4-dc0c0c07398f".parse().unwrap();
        let step = |position, ordinal| Origin::Step {
            task_id,
            position,
            ordinal,
        };
        let undo = Origin::Undo { task_id };
        let ids = [
            step(0, 0).subtask_id(),
            step(0, 1).subtask_id(),
            step(1, 0).subtask_id(),
            undo.subtask_id(),
            replacement_id(step(0, 0).subtask_id()),
        ];
        for (place, id) in ids.iter().enumerate() {
            assert!(id.to_string().starts_with("0195d3b4-0a52-7"), "{id}");
            assert_eq!(id.as_uuid().get_version_num(), 7);
            assert!(!ids[..place].contains(id) && *id != task_id, "{id}");
        }
        assert_eq!(step(0, 1).subtask_id(), ids[1]);
        let all =
            [0, 1, 255, 65_536, MAP_ITEMS_MAX - 1].map(|ordinal| step(0, ordinal).subtask_id());
        assert!(all.is_sorted(), "{all:?}");
    }

    #[test]
    fn a_tally_is_decided_by_the_last_end_or_by_too_many_failures() {
        let plan = SubtaskPlan {
            count: 5,
            concurrency: 2,
            max_failures: 1,
            gather: Gather::List,
        };
        let of = |created, open, held, failed| SubtaskTally {
            plan,
            created,
            open,
            held,
            failed,
        };
        assert!(!of(3, 3, 1, 0).is_started() && of(5, 3, 1, 0).is_started());
        assert!(!of(5, 3, 1, 1).is_decided(), "one may fail");
        assert!(of(5, 3, 1, 2).is_decided() && of(5, 0, 0, 0).is_decided());
        assert!(!of(5, 3, 1, 0).has_room() && of(5, 3, 2, 0).has_room());
        assert!(
            !of(5, 3, 2, 2).has_room(),
            "nothing starts after too many failures"
        );
    }
}
