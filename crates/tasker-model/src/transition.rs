//! The record of one change of state.
//!
//! Transitions are append-only, numbered without gaps per task, and carry the true source state:
//! what happened to a task can be read from them alone.

use jiff::Timestamp;
use serde::Serialize;

use crate::id::{Position, TaskId, WorkerId};
use crate::outcome::{Failure, SkipCause};
use crate::step::StepState;
use crate::task::TaskState;
use crate::text_enum::text_enum;

text_enum! {
    /// Why a state changed, where the change itself does not say so.
    "reason" enum Reason {
        /// A failed step's backoff is over and a worker takes it again.
        Retry = "retry",
        /// The worker that held the lease vanished.
        LeaseLost = "lease_lost",
        /// The worker that held the lease shut down in order.
        HandedBack = "handed_back",
        /// The step waits for a time or a signal.
        Waiting = "waiting",
        /// The request bypassed the step.
        Bypassed = "bypassed",
        /// Its condition was false.
        Condition = "condition",
        /// Its parents did not end as its trigger rule asks.
        TriggerRule = "trigger_rule",
        /// A person asked for it.
        Operator = "operator",
        /// The task was cancelled.
        TaskCancelled = "task_cancelled",
        /// A step that this one depends on was cancelled.
        ParentCancelled = "parent_cancelled",
        /// The deadline of the whole task has passed.
        DeadlineExceeded = "deadline_exceeded",
    }
}

impl From<SkipCause> for Reason {
    fn from(cause: SkipCause) -> Reason {
        match cause {
            SkipCause::Condition => Reason::Condition,
            SkipCause::TriggerRule => Reason::TriggerRule,
        }
    }
}

/// What changed, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Change {
    /// The task itself.
    Task {
        /// `None` for the creation.
        from: Option<TaskState>,
        /// The new state.
        to: TaskState,
    },
    /// One of its steps.
    Step {
        /// Which.
        position: Position,
        /// `None` for the creation.
        from: Option<StepState>,
        /// The new state.
        to: StepState,
    },
}

/// One change of state, as recorded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Transition {
    /// The task.
    pub task_id: TaskId,
    /// Number within the task: 1, 2, 3, …
    pub sequence: u32,
    /// What changed.
    #[serde(flatten)]
    pub change: Change,
    /// When, by the store's clock.
    pub at: Timestamp,
    /// The attempt that this belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The worker that did it or was told to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// The person or program that asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// For the end of an attempt: how long it ran, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
    /// For a change to `error`: the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// For a change to `error` that will be retried: when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// For the end of an attempt: the lines that its handler logged, each ended by a newline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

impl Transition {
    /// The change in words (spec 02 §7).
    pub fn description(&self) -> String {
        match self.change {
            Change::Task { to, .. } => match to {
                TaskState::Pending => "initialized and ready for processing".to_owned(),
                TaskState::InProgress => "execution started".to_owned(),
                TaskState::Complete => "completed successfully".to_owned(),
                TaskState::Error => "encountered an error".to_owned(),
                TaskState::Cancelled => "was cancelled".to_owned(),
                TaskState::ResolvedManually => "manually resolved".to_owned(),
            },
            Change::Step { to, .. } => self.step_description(to),
        }
    }

    fn step_description(&self, to: StepState) -> String {
        let attempt = self.attempt.unwrap_or(1);
        match to {
            StepState::Pending => match self.reason {
                Some(Reason::Retry | Reason::Operator) => format!("retry attempt #{attempt}"),
                Some(Reason::LeaseLost) => "released: its worker vanished".to_owned(),
                Some(Reason::HandedBack) => "handed back by its worker".to_owned(),
                Some(Reason::Waiting) => "waits for a time, a signal or its sub-tasks".to_owned(),
                _ => "initialised and ready".to_owned(),
            },
            StepState::InProgress => format!("execution started (attempt #{attempt})"),
            StepState::Complete => match self.duration_ms {
                Some(ms) => format!("completed successfully in {:.2} s", ms / 1_000.0),
                None => "completed successfully".to_owned(),
            },
            StepState::Error => {
                let message = self
                    .failure
                    .as_ref()
                    .map_or("Unknown error", |f| f.message.as_str());
                let scheduled = if self.retry_at.is_some() {
                    " (retry scheduled)"
                } else {
                    ""
                };
                format!("failed: {message}{scheduled}")
            }
            StepState::Cancelled => {
                let cause = match self.reason {
                    Some(Reason::TaskCancelled) => "the task's cancellation",
                    Some(Reason::ParentCancelled) => "a parent's cancellation",
                    _ => "manual cancellation",
                };
                format!("cancelled due to {cause}")
            }
            StepState::ResolvedManually => {
                format!(
                    "manually resolved by {}",
                    self.actor.as_deref().unwrap_or("unknown")
                )
            }
            StepState::Skipped => match self.reason {
                Some(Reason::Bypassed) => "skipped: bypassed by the request".to_owned(),
                Some(Reason::Condition) => "skipped: its condition was false".to_owned(),
                Some(Reason::TriggerRule) => {
                    "skipped: its parents did not end as its trigger rule asks".to_owned()
                }
                _ => "skipped".to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::FailureKind;

    fn step(to: StepState) -> Transition {
        Transition {
            task_id: TaskId::from_uuid(uuid::Uuid::nil()),
            sequence: 1,
            change: Change::Step {
                position: 0,
                from: None,
                to,
            },
            at: Timestamp::UNIX_EPOCH,
            attempt: None,
            worker: None,
            actor: None,
            reason: None,
            duration_ms: None,
            failure: None,
            retry_at: None,
            log: None,
        }
    }

    #[test]
    fn descriptions_follow_the_specification() {
        let pending = step(StepState::Pending);
        assert_eq!(pending.description(), "initialised and ready");
        let retried = Transition {
            attempt: Some(2),
            reason: Some(Reason::Retry),
            ..pending
        };
        assert_eq!(retried.description(), "retry attempt #2");
        let failed = step(StepState::Error);
        assert_eq!(failed.description(), "failed: Unknown error");
        let retried = Transition {
            failure: Some(Failure::new(FailureKind::Retryable, "no route")),
            retry_at: Some(Timestamp::UNIX_EPOCH),
            ..failed
        };
        assert_eq!(retried.description(), "failed: no route (retry scheduled)");
        let timed = Transition {
            duration_ms: Some(1_234.0),
            ..step(StepState::Complete)
        };
        assert_eq!(timed.description(), "completed successfully in 1.23 s");
        assert_eq!(
            step(StepState::Cancelled).description(),
            "cancelled due to manual cancellation"
        );
    }
}
