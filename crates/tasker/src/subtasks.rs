//! Steps that other tasks do: what is started for them, and what becomes of the step.
//!
//! Such a step is claimed twice at least: first to start its sub-tasks, a page at a time, and again
//! when the store finds its tally decided. In between it waits and holds no slot. Whatever is done
//! here may be done again after a crash: the ids of sub-tasks follow from the step and their place, so
//! a repeated creation is recognised.

mod gather;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures_util::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use tasker_model::event::Fact;
use tasker_model::id::{StepKey, TaskId, WorkerId};
use tasker_model::outcome::{Failure, FailureKind, Outcome};
use tasker_model::request::CheckedRequest;
use tasker_model::subtask::{
    SUBTASK_DEPTH_MAX, SubtaskPlan, SubtaskStanding, SubtaskTally, replacement_id,
};
use tasker_model::task::TaskState;
use tasker_model::wait::{NEVER, Until, Wait};
use tasker_store::record::{SubtaskRecord, TaskRecord};
use tasker_store::store::{ClaimedStep, Created, Lease, NewOrigin, NewTask, Order};
use tasker_store::{Clock, Store, StoreError};

use crate::code::Code;
use crate::events::Publisher;
use crate::handler::StepContext;
use crate::registry::Registry;

/// Sub-tasks that are created or read at once: enough to share a flush of the disk, few enough that
/// memory stays small.
const PAGE: usize = 500;
/// Sub-tasks that one attempt creates before it lets others have its slot.
const CREATED_PER_ATTEMPT: usize = 10_000;
/// How long an attempt waits before it gives its step back because the store has failed.
const STORE_PAUSE: SignedDuration = SignedDuration::from_millis(250);
/// Who is recorded as the actor where this module acts.
pub(crate) const ACTOR: &str = "tasker";

/// What starting and ending sub-tasks needs of the engine.
pub(crate) struct Subtasks {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) publisher: Publisher,
    pub(crate) notify: Box<dyn Fn(Notice) + Send + Sync>,
    pub(crate) worker: WorkerId,
    pub(crate) context_bytes_max: usize,
    pub(crate) result_bytes_max: usize,
}

/// What the engine's loop is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Something may be due.
    Due,
    /// Attempts may have lost their leases.
    Cancelled,
}

/// One attempt of a step with sub-tasks.
pub(crate) struct Attempt {
    lease: Lease,
    tally: Option<SubtaskTally>,
    /// Whether it has waited for its sub-tasks since it was last sent round.
    has_waited: bool,
}

impl Attempt {
    pub(crate) fn of(claimed: &ClaimedStep) -> Attempt {
        Attempt {
            lease: claimed.lease,
            tally: claimed.subtasks,
            has_waited: claimed.waited_until == Some(NEVER),
        }
    }
}

/// Why an attempt ends before its step does.
enum Stop {
    /// With this outcome.
    With(Box<Outcome>),
    /// The store could not be asked.
    Store(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Stop {
        Stop::Store(error)
    }
}

impl From<Outcome> for Stop {
    fn from(outcome: Outcome) -> Stop {
        Stop::With(Box::new(outcome))
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::from(Outcome::Failed(failure))
    }
}

impl Subtasks {
    /// Does what is to be done about a step now: start, mend, wait, or end.
    ///
    /// A store that fails costs no attempt: the step is given back, and claimed again.
    pub(crate) async fn perform(
        &self,
        attempt: Attempt,
        code: Code,
        context: StepContext,
    ) -> Outcome {
        match self.next(&attempt, code, context).await {
            Ok(outcome) => outcome,
            Err(Stop::With(outcome)) => *outcome,
            Err(Stop::Store(error)) if error.is_transient() => {
                tracing::warn!(%error, "the store failed while sub-tasks were looked after");
                let now = self.clock.now();
                let later = now.checked_add(STORE_PAUSE).unwrap_or(Timestamp::MAX);
                self.clock.sleep_until(later).await;
                Outcome::HandedBack
            }
            Err(Stop::Store(error)) => Outcome::Failed(Failure::new(
                FailureKind::Retryable,
                format!("sub-tasks could not be looked after: {error}"),
            )),
        }
    }

    async fn next(
        &self,
        attempt: &Attempt,
        code: Code,
        context: StepContext,
    ) -> Result<Outcome, Stop> {
        let step = attempt.lease.step;
        let Some(tally) = attempt.tally.filter(SubtaskTally::is_started) else {
            return self.start(attempt, code, context).await;
        };
        if !attempt.has_waited && tally.failed > 0 {
            self.mend(attempt, tally).await?;
            return Ok(waiting(Until::Subtasks));
        }
        if !tally.is_decided() {
            return Ok(waiting(Until::Subtasks));
        }
        if tally.is_failed() {
            self.cancel_open(step).await?;
            return Ok(Outcome::Failed(self.failure(step, tally).await?));
        }
        gather::result(self, step, tally).await
    }

    /// Creates what has not been created yet, as much as one attempt may.
    async fn start(
        &self,
        attempt: &Attempt,
        code: Code,
        context: StepContext,
    ) -> Result<Outcome, Stop> {
        let asked_by = self.task(attempt.lease.step.task_id).await?;
        let planned = plan::of(self, &asked_by, code, context).await?;
        if planned.plan.count == 0 {
            let nothing = SubtaskTally::new(planned.plan);
            return gather::result(self, attempt.lease.step, nothing).await;
        }
        self.check_depth(&asked_by).await?;
        let plan = attempt.tally.map_or(planned.plan, |tally| tally.plan);
        let mut ordinal = attempt.tally.map_or(0, |tally| tally.created);
        let mut left = CREATED_PER_ATTEMPT;
        while ordinal < plan.count {
            if left == 0 {
                return Ok(waiting(Until::After(0)));
            }
            let many = left.min(PAGE).min((plan.count - ordinal) as usize);
            let page = planned.page(ordinal, many)?;
            let place =
                |(ordinal, request)| self.new_task(attempt.lease, plan, ordinal, None, request);
            let tasks = (ordinal..).zip(page).map(place).collect();
            self.create(tasks).await?;
            ordinal += u32::try_from(many).expect("invariant: at most PAGE");
            left -= many;
        }
        Ok(waiting(Until::Subtasks))
    }

    fn new_task(
        &self,
        lease: Lease,
        plan: SubtaskPlan,
        ordinal: u32,
        replaces: Option<TaskId>,
        request: CheckedRequest,
    ) -> NewTask {
        let origin = NewOrigin::Step {
            lease,
            worker: self.worker,
            ordinal,
            plan,
            replaces,
        };
        NewTask {
            task_id: replaces.map_or_else(|| origin.origin().subtask_id(), replacement_id),
            request,
            identity: None,
            origin: Some(origin),
        }
    }

    /// Creates sub-tasks; an attempt that has lost its lease ends here.
    async fn create(&self, tasks: Vec<NewTask>) -> Result<(), Stop> {
        let (created, progress) = self.store.create(tasks, None).await?;
        let now = self.clock.now();
        for answer in &created {
            match answer {
                Created::New(task_id) => {
                    self.publisher.publish(now, *task_id, || Fact::TaskCreated);
                }
                Created::Unwanted(_) => return Err(Outcome::HandedBack.into()),
                Created::Existing(_) | Created::Duplicate(_) => {}
            }
        }
        for (task_id, state) in progress.finished {
            self.publisher
                .publish(now, task_id, || Fact::TaskFinished { state });
        }
        (self.notify)(Notice::Due);
        Ok(())
    }

    /// After the step was sent round by a person: what failed goes round again, and what was cancelled
    /// is started anew.
    async fn mend(&self, attempt: &Attempt, tally: SubtaskTally) -> Result<(), Stop> {
        let step = attempt.lease.step;
        let mut from = 0;
        loop {
            let page = self.store.subtasks(step, from, PAGE).await?;
            // All at the same time, so that they share commits.
            let failed = of(&page, SubtaskStanding::Failed);
            let again = failed.map(|subtask| self.replacement(attempt, tally, subtask));
            let again: Vec<NewTask> = try_join_all(again).await?.into_iter().flatten().collect();
            if !again.is_empty() {
                self.create(again).await?;
            }
            match page.last() {
                Some(last) if page.len() == PAGE => from = last.ordinal + 1,
                _ => break,
            }
        }
        (self.notify)(Notice::Due);
        Ok(())
    }

    /// What is to stand in the place of a sub-task, unless that itself goes round again.
    async fn replacement(
        &self,
        attempt: &Attempt,
        tally: SubtaskTally,
        subtask: &SubtaskRecord,
    ) -> Result<Option<NewTask>, Stop> {
        if self.retried(subtask).await? {
            return Ok(None);
        }
        let request = self.same_request(subtask.task_id).await?;
        let (place, old) = (subtask.ordinal, Some(subtask.task_id));
        Ok(Some(self.new_task(
            attempt.lease,
            tally.plan,
            place,
            old,
            request,
        )))
    }

    /// Sends a failed sub-task round again; not so one that was cancelled, or is undone.
    async fn retried(&self, subtask: &SubtaskRecord) -> Result<bool, Stop> {
        if subtask.state != TaskState::Error {
            return Ok(false);
        }
        let order = self
            .store
            .operate(subtask.task_id, Order::RetryTask, ACTOR.to_owned())
            .await;
        match order {
            Ok(_) => Ok(true),
            Err(StoreError::Refused(_)) => Ok(false),
            // Somebody else was faster.
            Err(StoreError::IllegalMove(_)) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// The request of a task that exists, to ask it again.
    async fn same_request(&self, task_id: TaskId) -> Result<CheckedRequest, Stop> {
        let task = self.task(task_id).await?;
        let template = self.store.template(task.template).await?;
        plan::repeat(&task, &template, self.context_bytes_max)
    }

    /// Cancels the sub-tasks that are still open.
    async fn cancel_open(&self, step: StepKey) -> Result<(), Stop> {
        let mut from = 0;
        loop {
            let page = self.store.subtasks(step, from, PAGE).await?;
            let open = of(&page, SubtaskStanding::Open);
            try_join_all(open.map(|subtask| cancel(&*self.store, subtask.task_id))).await?;
            match page.last() {
                Some(last) if page.len() == PAGE => from = last.ordinal + 1,
                _ => break,
            }
        }
        // Attempts of them may run here.
        (self.notify)(Notice::Cancelled);
        Ok(())
    }

    /// Why a step fails of whose sub-tasks too many have failed.
    async fn failure(&self, step: StepKey, tally: SubtaskTally) -> Result<Failure, Stop> {
        let mut from = 0;
        let failed = |subtask: &SubtaskRecord| {
            SubtaskStanding::from(subtask.state) == SubtaskStanding::Failed
        };
        loop {
            let page = self.store.subtasks(step, from, PAGE).await?;
            // Those that were cancelled here, because of the others, are not the reason.
            let reason = page.iter().find(|s| s.state == TaskState::Error);
            let any = page.iter().find(|subtask| failed(subtask));
            match (reason.or(any.filter(|_| page.len() < PAGE)), page.last()) {
                (Some(first), _) => return gather::failure(self, tally, first).await,
                (None, Some(last)) if page.len() == PAGE => from = last.ordinal + 1,
                (None, _) => return Ok(gather::unexplained(tally)),
            }
        }
    }

    async fn task(&self, task_id: TaskId) -> Result<TaskRecord, Stop> {
        let task = self.store.task(task_id).await?;
        Ok(task.ok_or(StoreError::NoSuchTask(task_id))?)
    }

    /// A workflow that starts itself would go on for ever.
    async fn check_depth(&self, task: &TaskRecord) -> Result<(), Stop> {
        let mut above = task.origin;
        for _ in 0..SUBTASK_DEPTH_MAX {
            let Some(origin) = above else {
                return Ok(());
            };
            above = match self.store.task(origin.task_id()).await? {
                Some(task) => task.origin,
                None => None,
            };
        }
        let text = format!(
            "there are {SUBTASK_DEPTH_MAX} tasks above this one already, each started by the one before; \
             a workflow that starts itself must have an end"
        );
        Err(permanent("SUBTASKS_TOO_DEEP", text).into())
    }
}

/// Those of a page that stand so.
fn of(page: &[SubtaskRecord], standing: SubtaskStanding) -> impl Iterator<Item = &SubtaskRecord> {
    let stands = move |subtask: &&SubtaskRecord| SubtaskStanding::from(subtask.state) == standing;
    page.iter().filter(stands)
}

/// Cancels a task that somebody else may have ended meanwhile.
pub(crate) async fn cancel(store: &dyn Store, task_id: TaskId) -> Result<(), StoreError> {
    let order = store.operate(task_id, Order::CancelTask, ACTOR.to_owned());
    match order.await {
        Ok(_) | Err(StoreError::IllegalMove(_) | StoreError::NoSuchTask(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn waiting(until: Until) -> Outcome {
    Outcome::Waiting(Wait {
        until,
        signal: None,
    })
}

fn permanent(code: &str, message: impl Into<String>) -> Failure {
    Failure {
        error_code: Some(code.to_owned()),
        ..Failure::new(FailureKind::Permanent, message)
    }
}
