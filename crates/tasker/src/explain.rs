//! Why has this step not started?
//!
//! One answer per step, from the same conditions that a claim uses.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tasker_model::id::TaskId;
use tasker_model::outcome::FailureKind;
use tasker_model::readiness::{Readiness, readiness};
use tasker_model::task::TaskState;
use tasker_model::template::TaskTemplate;
use tasker_model::transition::{Change, Reason, Transition};
use tasker_model::wait::{NEVER, span_text};
use tasker_store::Store;
use tasker_store::record::{QueueRecord, StepRecord, TaskDetail, WorkerRecord};

use crate::error::Error;

/// A worker that has not been seen for so long does not count as one that could run a step.
const WORKER_SILENT_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// What a step is doing, or what it waits for.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The step.
    pub step: String,
    /// Its state.
    pub state: tasker_model::step::StepState,
    /// One sentence.
    pub why: String,
}

/// Explains every step of a task, or one of them.
pub async fn explain(
    store: &dyn Store,
    task_id: TaskId,
    only: Option<&str>,
) -> Result<Vec<Explanation>, Error> {
    let detail = store
        .task_detail(task_id)
        .await?
        .ok_or(Error::NoSuchTask(task_id))?;
    let template = store.template(detail.task.template).await?;
    if let Some(step) = only {
        crate::task::step_position(store, task_id, step).await?;
    }
    let now = store.clock().now();
    let since = now
        .checked_sub(WORKER_SILENT_AFTER)
        .unwrap_or(Timestamp::MIN);
    let workers = store.workers(since).await?;
    let queues = store.queues().await?;
    let asked = Asked {
        detail: &detail,
        template: &template,
        workers: &workers,
        queues: &queues,
        now,
    };
    let wanted = detail
        .steps
        .iter()
        .filter(|step| only.is_none_or(|o| o == step.name.as_str()));
    Ok(wanted
        .map(|step| Explanation {
            step: step.name.as_str().to_owned(),
            state: step.state,
            why: asked.why(step),
        })
        .collect())
}

struct Asked<'a> {
    detail: &'a TaskDetail,
    template: &'a TaskTemplate,
    workers: &'a [WorkerRecord],
    queues: &'a [QueueRecord],
    now: Timestamp,
}

impl Asked<'_> {
    fn why(&self, step: &StepRecord) -> String {
        match readiness(step.facts(), self.now) {
            Readiness::Done => self.done(step),
            Readiness::Cancelled => "it was cancelled".to_owned(),
            Readiness::Running { lease_until } => self.running(step, lease_until),
            Readiness::WaitingForParents { .. } => self.parents(step),
            Readiness::WaitingUntil(due) => self.waits(step, due),
            Readiness::Blocked => self.blocked(step),
            Readiness::LeaseExpired => {
                format!("its worker has vanished; {}", self.for_a_worker(step))
            }
            Readiness::Ready => self.for_a_worker(step),
        }
    }

    fn done(&self, step: &StepRecord) -> String {
        let reason = self.last_change(step).and_then(|last| last.reason);
        match reason {
            Some(Reason::Condition | Reason::TriggerRule) => {
                let last = self.last_change(step);
                last.map_or_else(String::new, Transition::description)
            }
            _ => format!("it is {}", step.state.status()),
        }
    }

    fn running(&self, step: &StepRecord, lease_until: Timestamp) -> String {
        let worker = self
            .workers
            .iter()
            .find(|worker| Some(worker.worker_id) == step.worker);
        let by = match worker {
            Some(worker) => format!("process {} on {}", worker.pid, worker.host),
            None => "a worker that has not been seen lately".to_owned(),
        };
        let (attempt, limit) = (step.attempts, step.attempt_limit);
        let come = step.progress.as_ref();
        let come = come.map_or_else(String::new, |progress| {
            format!(" and has come to {progress}")
        });
        format!(
            "attempt {attempt} of {limit} runs in {by}{come}; its lease ends in {}",
            self.in_(lease_until)
        )
    }

    fn parents(&self, step: &StepRecord) -> String {
        let parents = self.template.dag().parents(step.position).iter();
        let waiting: Vec<String> = parents
            .map(|parent| &self.detail.steps[*parent as usize])
            .filter(|parent| !parent.state.is_done())
            .map(|parent| format!("`{}` ({})", parent.name, parent.state.status()))
            .collect();
        let shown = waiting
            .iter()
            .take(8)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        match waiting.len().saturating_sub(8) {
            0 => format!("it waits for {shown}"),
            more => format!("it waits for {shown} and {more} more"),
        }
    }

    /// It waits for a signal, for a time that its definition names, or for its retry.
    fn waits(&self, step: &StepRecord, due: Timestamp) -> String {
        let is_waiting = self
            .last_change(step)
            .is_some_and(|last| last.reason == Some(Reason::Waiting));
        if due >= NEVER && step.awaits.is_none() {
            return Asked::subtasks(step);
        }
        match &step.awaits {
            Some(signal) if due >= NEVER => format!("it waits for signal `{signal}`"),
            Some(signal) => {
                let in_ = self.in_(due);
                format!("it waits for signal `{signal}`, at most until {due}: for {in_}")
            }
            None if is_waiting => format!("it waits until {due}: for {}", self.in_(due)),
            None => self.backoff(step, due),
        }
    }

    /// It waits for its sub-tasks, or is one that is held.
    fn subtasks(step: &StepRecord) -> String {
        let Some(tally) = &step.subtasks else {
            return "as many sub-tasks run beside it as may; it is held until one of them ends"
                .to_owned();
        };
        let (open, of, held, failed) = (tally.open, tally.plan.count, tally.held, tally.failed);
        let mut text = format!("it waits for {open} of its {of} sub-tasks");
        if held > 0 {
            text += &format!("; {held} of them are held until others end");
        }
        if failed > 0 {
            text += &format!("; {failed} failed");
        }
        text
    }

    fn backoff(&self, step: &StepRecord, due: Timestamp) -> String {
        match self.last_failure(step) {
            Some(failure) => format!(
                "attempt {} of {} failed ({}); the next is due in {}",
                step.attempts,
                step.attempt_limit,
                failure.message,
                self.in_(due)
            ),
            None => format!(
                "its task is not to start before {due}: in {}",
                self.in_(due)
            ),
        }
    }

    fn blocked(&self, step: &StepRecord) -> String {
        if self.detail.task.summary.state == TaskState::Cancelled {
            return "its task was cancelled".to_owned();
        }
        let message = self
            .last_failure(step)
            .map_or("no message", |f| f.message.as_str());
        let (attempts, limit) = (step.attempts, step.attempt_limit);
        match step.failure {
            Some(FailureKind::Quarantined) => format!("it is quarantined: {message}"),
            Some(FailureKind::Permanent) => format!("it failed permanently: {message}"),
            Some(FailureKind::DeadlineExceeded) => message.to_owned(),
            _ => format!("it failed, and all {attempts} of {limit} attempts are used: {message}"),
        }
    }

    fn for_a_worker(&self, step: &StepRecord) -> String {
        let queue = self.template.queue(step.position);
        let known = self.queues.iter().find(|known| known.queue == queue);
        match known.and_then(|known| Some((known.concurrency_limit?, known.running))) {
            Some((0, _)) => return format!("it is ready, but its queue `{queue}` is paused"),
            Some((limit, running)) if running >= limit => {
                return format!(
                    "it is ready, but its queue `{queue}` is full: {running} attempts run, \
                     {limit} may at the same time"
                );
            }
            _ => {}
        }
        let handler = self.template.full_name();
        if self
            .workers
            .iter()
            .any(|worker| worker.handlers.contains(&handler))
        {
            return "it is ready and waits for a free slot of a worker".to_owned();
        }
        format!("it is ready, but no worker runs {handler}")
    }

    fn changes(&self, step: &StepRecord) -> impl Iterator<Item = &Transition> {
        let step = step.position;
        let of_step = move |transition: &&Transition| matches!(transition.change, Change::Step { position, .. } if position == step);
        self.detail.transitions.iter().rev().filter(of_step)
    }

    fn last_change(&self, step: &StepRecord) -> Option<&Transition> {
        self.changes(step).next()
    }

    fn last_failure(&self, step: &StepRecord) -> Option<&tasker_model::outcome::Failure> {
        self.changes(step)
            .find_map(|transition| transition.failure.as_ref())
    }

    fn in_(&self, time: Timestamp) -> String {
        let span = Duration::try_from(time.duration_since(self.now));
        span_text(span.unwrap_or_default())
    }
}
