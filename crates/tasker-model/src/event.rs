//! Facts that are published after the transaction that made them true.

use jiff::Timestamp;

use crate::id::TaskId;
use crate::name::StepName;
use crate::outcome::{Failure, SkipCause};
use crate::progress::StepProgress;
use crate::task::TaskState;
use crate::wait::Wait;

/// A published fact.
#[derive(Debug, Clone)]
pub struct Event {
    /// The task that it is about.
    pub task_id: TaskId,
    /// When it became true, by the store's clock.
    pub at: Timestamp,
    /// What happened.
    pub fact: Fact,
}

/// What happened. Names are those of the specification's catalogue (02 §5).
#[derive(Debug, Clone)]
pub enum Fact {
    /// A task was created.
    TaskCreated,
    /// An attempt of a step starts.
    StepStarted {
        /// The step.
        step: StepName,
        /// The attempt, from 1.
        attempt: u32,
    },
    /// A running step has come so far.
    StepProgressed {
        /// The step.
        step: StepName,
        /// How far.
        progress: StepProgress,
    },
    /// A step is complete.
    StepCompleted {
        /// The step.
        step: StepName,
        /// The attempt that completed it.
        attempt: u32,
    },
    /// An attempt failed.
    StepFailed {
        /// The step.
        step: StepName,
        /// The attempt that failed.
        attempt: u32,
        /// Why.
        failure: Failure,
        /// The delay until the next attempt in milliseconds; `None` if there will be none.
        retry_in_ms: Option<u64>,
    },
    /// A step is not needed.
    StepSkipped {
        /// The step.
        step: StepName,
        /// Why.
        cause: SkipCause,
    },
    /// A step waits for a time or a signal.
    StepWaiting {
        /// The step.
        step: StepName,
        /// What it waits for.
        wait: Wait,
    },
    /// A worker that shuts down gave a step back; the attempt does not count.
    StepHandedBack {
        /// The step.
        step: StepName,
        /// The attempt that was given back.
        attempt: u32,
    },
    /// A task reached a final state.
    TaskFinished {
        /// Which.
        state: TaskState,
    },
}

impl Fact {
    /// The event's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Fact::TaskCreated => "task.initialize_requested",
            Fact::StepStarted { .. } => "step.execution_requested",
            Fact::StepProgressed { .. } => "step.progressed",
            Fact::StepCompleted { .. } => "step.completed",
            Fact::StepFailed { .. } => "step.failed",
            Fact::StepSkipped { .. } => "step.skipped",
            Fact::StepWaiting { .. } => "step.waiting",
            Fact::StepHandedBack { .. } => "step.handed_back",
            Fact::TaskFinished { state } => match state {
                TaskState::Complete => "task.completed",
                TaskState::Cancelled => "task.cancelled",
                TaskState::ResolvedManually => "task.resolved_manually",
                TaskState::Error | TaskState::Pending | TaskState::InProgress => "task.failed",
            },
        }
    }
}
