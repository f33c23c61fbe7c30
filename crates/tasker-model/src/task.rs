//! The state machine of tasks (spec 02 §2, intended behaviour).
//!
//! [`TaskState::after`] is the whole machine. When a task becomes final is not asked here: that
//! is the roll-up of its steps, see [`crate::rollup`].

use crate::state::{IllegalMove, Machine};
use crate::text_enum::{UnknownWord, text_enum};

text_enum! {
    /// The state of a task.
    "task state" enum TaskState {
        /// Created or re-opened; no step of it has been claimed since.
        Pending = "pending",
        /// At least one step has been claimed, and some step can still make progress.
        InProgress = "in_progress",
        /// Every step is done.
        Complete = "complete",
        /// Nothing of it can make progress, and at least one step has failed for good.
        Error = "error",
        /// Abandoned.
        Cancelled = "cancelled",
        /// A person accepts the failed task as handled.
        ResolvedManually = "resolved_manually",
    }
}

text_enum! {
    /// What can happen to a task.
    "task event" enum TaskEvent {
        /// Its first step is claimed.
        Start = "start",
        /// Its last step is done.
        Complete = "complete",
        /// Nothing of it can make progress.
        Fail = "fail",
        /// It is abandoned.
        Cancel = "cancel",
        /// Its only running step was handed back.
        Park = "park",
        /// A person sends it round again.
        Retry = "retry",
        /// A person accepts it as handled.
        Resolve = "resolve",
    }
}

impl TaskState {
    /// The state after an event, or why there is none.
    pub fn after(self, event: TaskEvent) -> Result<TaskState, IllegalMove> {
        self.next(event).ok_or_else(|| {
            let possible = TaskEvent::ALL
                .iter()
                .filter(|event| self.next(**event).is_some());
            let asked = (self.as_str(), event.as_str());
            IllegalMove::new(Machine::Task, asked, possible.map(|event| event.as_str()))
        })
    }

    /// The table: one line per legal move, nothing else.
    fn next(self, event: TaskEvent) -> Option<TaskState> {
        use TaskEvent as On;
        use TaskState::{Cancelled, Complete, Error, InProgress, Pending, ResolvedManually};
        Some(match (self, event) {
            (Pending, On::Start) => InProgress,
            (Pending, On::Fail) => Error,
            (Pending, On::Cancel) => Cancelled,
            (InProgress, On::Complete) => Complete,
            (InProgress, On::Fail) => Error,
            (InProgress, On::Cancel) => Cancelled,
            (InProgress, On::Park) => Pending,
            (Error, On::Retry) => Pending,
            (Error, On::Resolve) => ResolvedManually,
            (Complete, On::Cancel) => Cancelled,
            (ResolvedManually, On::Cancel) => Cancelled,
            _ => return None,
        })
    }

    /// Whether nothing more happens unless a person steps in.
    pub const fn is_final(self) -> bool {
        !matches!(self, TaskState::Pending | TaskState::InProgress)
    }

    /// The word shown by the library and accepted by filters (spec 16, status mapping).
    pub const fn status(self) -> &'static str {
        match self {
            TaskState::Pending => "pending",
            TaskState::InProgress => "running",
            TaskState::Complete | TaskState::ResolvedManually => "completed",
            TaskState::Error => "failed",
            TaskState::Cancelled => "cancelled",
        }
    }

    /// The states that a filter word means: a state, or a status word such as `failed`.
    pub fn matching(word: &str) -> Result<Vec<TaskState>, UnknownWord> {
        if let Ok(state) = word.parse() {
            return Ok(vec![state]);
        }
        let states: Vec<_> = TaskState::ALL
            .iter()
            .copied()
            .filter(|state| state.status() == word)
            .collect();
        if states.is_empty() {
            let mut allowed: Vec<_> = TaskState::ALL.iter().map(|state| state.as_str()).collect();
            allowed.extend(["running", "completed", "failed"]);
            return Err(UnknownWord {
                what: "task state",
                found: word.to_owned(),
                allowed,
            });
        }
        Ok(states)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TaskState::{Cancelled, Complete, Error, InProgress, Pending, ResolvedManually};

    /// The specification's own table (02 §2).
    const SPEC: &[(TaskState, &[TaskState])] = &[
        (Pending, &[InProgress, Cancelled, Error]),
        (InProgress, &[Complete, Error, Cancelled, Pending]),
        (Error, &[Pending, ResolvedManually]),
        (Complete, &[Cancelled]),
        (ResolvedManually, &[Cancelled]),
        (Cancelled, &[]),
    ];

    #[test]
    fn all_pairs_agree_with_the_specification() {
        for &from in TaskState::ALL {
            let allowed = SPEC.iter().find(|(state, _)| *state == from).unwrap().1;
            let mut reached: Vec<_> = TaskEvent::ALL
                .iter()
                .filter_map(|&event| from.after(event).ok())
                .collect();
            reached.sort_unstable();
            let mut allowed = allowed.to_vec();
            allowed.sort_unstable();
            assert_eq!(reached, allowed, "from {from}");
        }
    }

    #[test]
    fn filters_take_either_vocabulary() {
        assert_eq!(TaskState::matching("failed").unwrap(), [Error]);
        assert_eq!(
            TaskState::matching("completed").unwrap(),
            [Complete, ResolvedManually]
        );
        assert_eq!(TaskState::matching("in_progress").unwrap(), [InProgress]);
        let unknown = TaskState::matching("done").unwrap_err().to_string();
        assert!(unknown.contains("unknown task state `done`") && unknown.contains("failed"));
    }
}
