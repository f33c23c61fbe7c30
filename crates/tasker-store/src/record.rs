//! Tasks and steps as they are read back.

use jiff::Timestamp;
use serde::Serialize;
use tasker_model::annotation::Annotation;
use tasker_model::id::{Position, TaskId, WorkerId};
use tasker_model::json::Json;
use tasker_model::name::SignalName;
use tasker_model::name::{Namespace, Queue, StepName, TaskName, Version};
use tasker_model::outcome::FailureKind;
use tasker_model::progress::StepProgress;
use tasker_model::readiness::{StepFacts, StepReadiness};
use tasker_model::rollup::{ExecutionContext, StepTally};
use tasker_model::step::StepState;
use tasker_model::subtask::{Origin, SubtaskTally};
use tasker_model::task::TaskState;
use tasker_model::template::{TaskTemplate, TemplateSource};
use tasker_model::transition::Transition;

use crate::error::StoreError;

/// A definition as this store numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TemplateId(pub(crate) i64);

/// A task in a list.
#[derive(Debug, Clone, Serialize)]
pub struct TaskSummary {
    /// Its id.
    pub task_id: TaskId,
    /// Its handler's namespace.
    pub namespace: Namespace,
    /// Its handler's name.
    pub name: TaskName,
    /// Its handler's version.
    pub version: Version,
    /// Its state.
    pub state: TaskState,
    /// The word for its state (spec 16): pending, running, completed, failed, cancelled.
    pub status: &'static str,
    /// How many of its steps are where.
    #[serde(flatten)]
    pub steps: StepCounts,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it reached its final state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

/// A task's maintained counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StepCounts {
    /// All steps.
    pub total_steps: u32,
    /// Complete, resolved manually or skipped.
    pub done_steps: u32,
    /// Due, leased or waiting for a time.
    pub open_steps: u32,
    /// Failed for good.
    pub failed_steps: u32,
    /// Cancelled.
    pub cancelled_steps: u32,
}

impl From<StepTally> for StepCounts {
    fn from(tally: StepTally) -> StepCounts {
        StepCounts {
            total_steps: tally.total,
            done_steps: tally.done,
            open_steps: tally.open,
            failed_steps: tally.failed,
            cancelled_steps: tally.cancelled,
        }
    }
}

impl From<StepCounts> for StepTally {
    fn from(counts: StepCounts) -> StepTally {
        StepTally {
            total: counts.total_steps,
            done: counts.done_steps,
            open: counts.open_steps,
            failed: counts.failed_steps,
            cancelled: counts.cancelled_steps,
        }
    }
}

/// Everything about a task but its steps.
#[derive(Debug, Clone, Serialize)]
pub struct TaskRecord {
    /// What a list shows.
    #[serde(flatten)]
    pub summary: TaskSummary,
    /// The input, defaults included.
    pub context: Json,
    /// Who asked.
    pub initiator: String,
    /// Where the request came from.
    pub source_system: String,
    /// Why it was asked.
    pub reason: String,
    /// Labels.
    pub tags: Vec<String>,
    /// Steps that the request bypassed.
    pub bypass_steps: Vec<String>,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// When it must have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<Timestamp>,
    /// Which of the steps that are due are claimed first, -100 to 100.
    pub priority: i32,
    /// Nothing of it starts before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_at: Option<Timestamp>,
    /// Why it exists, if nobody asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// How many transitions it has.
    pub transitions: u32,
    /// Which definition it is pinned to.
    #[serde(skip)]
    pub template: TemplateId,
}

/// A step as stored.
#[derive(Debug, Clone, Serialize)]
pub struct StepRecord {
    /// Its place in the definition.
    pub position: Position,
    /// Its name.
    pub name: StepName,
    /// Its state.
    pub state: StepState,
    /// The word for its state (spec 16).
    pub status: &'static str,
    /// Attempts made, the running one included.
    pub attempts: u32,
    /// Attempts allowed.
    pub attempt_limit: u32,
    /// Attempts whose worker vanished.
    pub lost_attempts: u32,
    /// Parents that are not done.
    pub unfinished_parents: u32,
    /// How many more parents must end as the trigger rule asks, if it counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub awaited: Option<i32>,
    /// How far its last attempt had come when it was last heard of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<StepProgress>,
    /// The signal that it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub awaits: Option<SignalName>,
    /// The sub-tasks that it has started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subtasks: Option<SubtaskTally>,
    /// When it is to be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// Who runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// Why it last failed; the whole failure stands with its transition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureKind>,
    /// What it produced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Json>,
    /// When its last attempt started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When its last attempt ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

impl StepRecord {
    /// What readiness depends on.
    pub fn facts(&self) -> StepFacts {
        StepFacts {
            state: self.state,
            attempts: self.attempts,
            attempt_limit: self.attempt_limit,
            unfinished_parents: self.unfinished_parents,
            awaited: self.awaited,
            due_at: self.due_at,
            failure: self.failure,
        }
    }
}

/// A task with all that is known of it, read at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct TaskDetail {
    /// The task.
    pub task: TaskRecord,
    /// Its steps, by position.
    pub steps: Vec<StepRecord>,
    /// Its record, in order.
    pub transitions: Vec<Transition>,
    /// The signals that it was sent, by name.
    pub signals: Vec<SignalRecord>,
    /// What its steps have noted, in the order of their ends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<AnnotationRecord>,
    /// The task that undoes what this one did, and its state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undone_by: Option<(TaskId, TaskState)>,
}

/// A sub-task of a step.
#[derive(Debug, Clone, Serialize)]
pub struct SubtaskRecord {
    /// Which of the step's sub-tasks it is, from 0.
    pub ordinal: u32,
    /// The task.
    pub task_id: TaskId,
    /// Its state.
    pub state: TaskState,
    /// The results of those of its steps on which no other depends, by position.
    pub results: Vec<(StepName, Option<Json>)>,
}

/// A note about a task, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AnnotationRecord {
    /// The note.
    #[serde(flatten)]
    pub annotation: Annotation,
    /// The step with which it came.
    pub step: StepName,
    /// When.
    pub at: Timestamp,
}

/// A signal as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignalRecord {
    /// Its name.
    pub name: SignalName,
    /// What came with it.
    pub payload: Json,
    /// Who sent it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

impl TaskDetail {
    /// What each step waits for at `now`, by position; `template` is the task's definition.
    pub fn readiness(&self, template: &TaskTemplate, now: Timestamp) -> Vec<StepReadiness> {
        let step = |step: &StepRecord| {
            let parents = template.dag().parents(step.position).len();
            let parents = u32::try_from(parents).expect("invariant: at most STEPS_MAX steps");
            let last_attempt = (step.started_at, step.finished_at);
            StepReadiness::of(step.position, step.facts(), parents, last_attempt, now)
        };
        self.steps.iter().map(step).collect()
    }

    /// What the task as a whole is doing at `now`.
    pub fn execution_context(&self, now: Timestamp) -> ExecutionContext {
        let facts: Vec<StepFacts> = self.steps.iter().map(StepRecord::facts).collect();
        ExecutionContext::of(&facts, now)
    }
}

/// A process that claims and executes steps.
#[derive(Debug, Clone, Serialize)]
pub struct WorkerRecord {
    /// Random per start.
    pub worker_id: WorkerId,
    /// The machine's name.
    pub host: String,
    /// The process id.
    pub pid: u32,
    /// Full names of the task handlers that it runs.
    pub handlers: Vec<String>,
    /// When it registered.
    pub started_at: Timestamp,
    /// When it last said that it is alive.
    pub seen_at: Timestamp,
    /// Attempts on which it holds a lease; counted when workers are listed.
    pub attempts: u32,
}

/// A queue, and what there is on it at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueRecord {
    /// Its name.
    pub queue: Queue,
    /// Attempts at the same time on all nodes; 0 pauses the queue, `None` is no limit.
    pub concurrency_limit: Option<u32>,
    /// Attempts that run.
    pub running: u32,
    /// Steps that could be claimed.
    pub due: u32,
}

/// Reads a definition that was stored.
pub(crate) fn stored_template(definition: &str) -> Result<TaskTemplate, StoreError> {
    let bad = |error: String| StoreError::BadRow(format!("a stored definition: {error}"));
    let source: TemplateSource =
        serde_json::from_str(definition).map_err(|error| bad(error.to_string()))?;
    TaskTemplate::new(source).map_err(|error| bad(error.to_string()))
}
