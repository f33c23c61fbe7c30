//! The verbs of a store, and what each of them guarantees.
//!
//! Every verb is one transaction: it happens wholly or not at all, and when it returns `Ok` it is
//! durable. Batches go in and come out. A verb that fails with a transient error may be repeated.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tasker_model::annotation::Annotation;
use tasker_model::id::{Position, StepKey, TaskId, WorkerId};
use tasker_model::identity::Identity;
use tasker_model::json::Json;
use tasker_model::name::{Queue, SignalName};
use tasker_model::outcome::Settlement;
use tasker_model::progress::StepProgress;
use tasker_model::request::CheckedRequest;
use tasker_model::step::StepState;
use tasker_model::subtask::{Origin, SubtaskPlan, SubtaskTally};
use tasker_model::task::TaskState;
use tasker_model::template::TaskTemplate;

use crate::clock::Clock;
use crate::error::StoreError;
use crate::figures::{Analytics, SlowStep, SlowTask, Slowest, SystemHealth};
use crate::record::{
    QueueRecord, SubtaskRecord, TaskDetail, TaskRecord, TaskSummary, TemplateId, WorkerRecord,
};

/// The right of one worker to finish one attempt of one step.
///
/// Given out by a claim; the attempt number is the fencing token. The rows are the store's own
/// short cut to what the lease is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The step.
    pub step: StepKey,
    /// The attempt.
    pub attempt: u32,
    pub(crate) task_row: i64,
    pub(crate) step_row: i64,
}

/// What a worker can run: one definition, on one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runnable {
    /// Where the steps are claimed.
    pub queue: Queue,
    /// The definition whose handlers the worker has.
    pub template: TemplateId,
}

/// How much a worker is ready to take on, with a create, a claim or a complete.
#[derive(Debug, Clone)]
pub struct ClaimBudget {
    /// Who takes it on.
    pub worker: WorkerId,
    /// At most this many steps.
    pub slots: usize,
    /// How long the leases last unless a heartbeat extends them.
    pub lease_ms: u64,
    /// What it can run.
    pub runnable: Arc<[Runnable]>,
    /// With a complete: also take steps that were due before it. Without, only the children that
    /// it makes ready, which saves the look at the index when nothing is known to wait there.
    pub also_due: bool,
}

impl ClaimBudget {
    /// Whether the worker runs this definition's steps on this queue.
    pub(crate) fn runs(&self, template: TemplateId, queue: &Queue) -> bool {
        let asked = |runnable: &Runnable| runnable.template == template && runnable.queue == *queue;
        self.runnable.iter().any(asked)
    }
}

/// A step that was claimed, with all that its handler needs.
#[derive(Debug, Clone)]
pub struct ClaimedStep {
    /// The right to finish the attempt.
    pub lease: Lease,
    /// Attempts allowed.
    pub attempt_limit: u32,
    /// The definition of its task.
    pub template: TaskTemplate,
    /// The task's input.
    pub context: Json,
    /// Whether the context fits the definition's schema and has its defaults. Not so for a task that
    /// was created by SQL: then whoever runs the step applies the schema first.
    pub context_checked: bool,
    /// The results of its parents, in the order in which it names them; `None` where a parent
    /// was skipped or resolved without a result.
    pub parents: Arc<[(Position, Option<Json>)]>,
    /// The states of its parents, in the same order.
    pub parent_states: Arc<[StepState]>,
    /// For a step that waits for a time or a signal: until when it was given back, if it was.
    pub waited_until: Option<Timestamp>,
    /// What came with the signal that it waited for, if it has come.
    pub signal: Option<Json>,
    /// The sub-tasks that it has started.
    pub subtasks: Option<SubtaskTally>,
}

/// A signal to a task.
#[derive(Debug, Clone)]
pub struct Signal {
    /// Its name.
    pub name: SignalName,
    /// What comes with it.
    pub payload: Json,
    /// Who sends it.
    pub by: String,
}

impl Signal {
    /// Whether a task in this state can be sent one.
    pub(crate) fn check(state: TaskState) -> Result<(), StoreError> {
        if state.is_final() {
            let text = format!("the task is {state}; nothing of it waits for a signal any more");
            return Err(StoreError::Refused(text));
        }
        Ok(())
    }
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signalled {
    /// A step waited for it, and goes on.
    Delivered,
    /// No step waits for it yet; it is kept until one does.
    Kept,
    /// The task has had a signal of this name; that one counts, and nothing has changed.
    Known,
}

/// A task to create.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// Its id, made by the caller so that a repeated create is recognised.
    pub task_id: TaskId,
    /// The checked request.
    pub request: CheckedRequest,
    /// What makes it equal to another.
    pub identity: Option<Identity>,
    /// Why it exists, if nobody asked for it.
    pub origin: Option<NewOrigin>,
}

/// Why a task is created that nobody asked for.
#[derive(Debug, Clone, Copy)]
pub enum NewOrigin {
    /// An attempt starts it.
    Step {
        /// The attempt.
        lease: Lease,
        /// Who runs it.
        worker: WorkerId,
        /// Which of the step's sub-tasks it is, from 0.
        ordinal: u32,
        /// All that the step means to start; what came with the first of them counts.
        plan: SubtaskPlan,
        /// The sub-task whose place it takes: a cancelled one.
        replaces: Option<TaskId>,
    },
    /// It undoes what a task did.
    Undo {
        /// The task that failed or was cancelled.
        task_id: TaskId,
    },
}

impl NewOrigin {
    /// As it is stored.
    pub const fn origin(&self) -> Origin {
        match self {
            NewOrigin::Step { lease, ordinal, .. } => Origin::Step {
                task_id: lease.step.task_id,
                position: lease.step.position,
                ordinal: *ordinal,
            },
            NewOrigin::Undo { task_id } => Origin::Undo { task_id: *task_id },
        }
    }
}

/// The idempotency key as it is stored: keys of different task handlers do not meet.
pub(crate) fn scoped_key(new: &NewTask) -> Option<String> {
    let source = new.request.template.source();
    let key = new.request.request.idempotency_key.as_ref()?;
    Some(format!(
        "{}\u{1f}{}\u{1f}{key}",
        source.namespace, source.name
    ))
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// A new task.
    New(TaskId),
    /// The idempotency key is known: the task of the first request.
    Existing(TaskId),
    /// The identity strategy finds it equal to a task that exists; nothing was created.
    Duplicate(TaskId),
    /// Nothing was created: the attempt that starts it has lost its lease, or what it undoes has
    /// neither failed nor been cancelled.
    Unwanted(TaskId),
}

/// A task that is final, or steps of which are, and of which something is left to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aftermath {
    /// The task.
    pub task_id: TaskId,
    /// Its state.
    pub state: TaskState,
    /// Since when; what has been seen to is told by it.
    pub since: Timestamp,
    /// Sub-tasks that nobody waits for any more: those that are open and whose step has ended. At most
    /// as many as were asked for.
    pub orphans: Vec<TaskId>,
}

/// The end of an attempt, decided.
#[derive(Debug, Clone)]
pub struct Completion {
    /// The attempt.
    pub lease: Lease,
    /// What becomes of its step.
    pub settlement: Settlement,
    /// The lines that its handler logged, each ended by a newline.
    pub log: Option<String>,
    /// What its handler noted about the task: kept if it completes the step.
    pub annotations: Vec<Annotation>,
    /// The task's context as it was claimed, if the worker still has it: then children that are
    /// handed over need not read it again.
    pub context: Option<Json>,
}

/// Whether an outcome was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It was, with this commit.
    Yes,
    /// The lease was lost before: the outcome changed nothing.
    LeaseLost,
}

/// What a transaction of the hot path brought about beside its own purpose.
#[derive(Debug, Default)]
pub struct Progress {
    /// Steps claimed for the budget, within the same transaction.
    pub claimed: Vec<ClaimedStep>,
    /// Tasks that reached a final state.
    pub finished: Vec<(TaskId, TaskState)>,
    /// Whether something that is due may have been left for want of slots.
    pub left_due: bool,
    /// After a claim that took all there was: when something runnable is due next, leases' ends
    /// and deadlines included.
    pub next_due: Option<Timestamp>,
}

/// What a person, or a program in their name, orders.
#[derive(Debug, Clone)]
pub enum Order {
    /// Stop the task: nothing more starts, running attempts lose their lease.
    CancelTask,
    /// Send every failed step of the task round again.
    RetryTask,
    /// Accept a failed task as handled.
    ResolveTask,
    /// Stop a step that is not done, and all steps that depend on it.
    CancelStep(Position),
    /// Send a failed step round again, with at least this many attempts left.
    RetryStep {
        /// The step.
        position: Position,
        /// Attempts from now on; never fewer than the step has left anyway.
        attempts: u32,
    },
    /// Declare a step done, with the result that its children read.
    ResolveStep {
        /// The step.
        position: Position,
        /// Its result.
        result: Option<Json>,
    },
    /// Declare a step not needed.
    SkipStep(Position),
    /// Allow a step this many attempts in all; a step that failed for want of attempts is due
    /// again.
    RaiseLimit {
        /// The step.
        position: Position,
        /// Attempts in all.
        attempt_limit: u32,
    },
}

/// Which tasks to list.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Only these states; all if empty.
    pub states: Vec<TaskState>,
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only this task handler.
    pub name: Option<String>,
    /// Also tasks that nobody asked for: sub-tasks, and what undoes a task.
    pub also_subtasks: bool,
}

/// Which finished tasks may go.
#[derive(Debug, Clone)]
pub struct Expired {
    /// Only tasks in these final states.
    pub states: Vec<TaskState>,
    /// Only tasks that ended before.
    pub finished_before: Timestamp,
    /// Only this namespace.
    pub namespace: Option<String>,
}

/// What one transaction of deleting did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// Tasks that are gone, with all that belonged to them.
    pub tasks: u64,
    /// Where the next transaction begins; `None` if there is nothing left to look at.
    pub last: Option<TaskId>,
}

/// One page of a list, newest first.
#[derive(Debug, Clone)]
pub struct Page {
    /// At most this many.
    pub limit: usize,
    /// Only tasks older than this one: the last of the previous page.
    pub before: Option<TaskId>,
}

/// The durable state of the engine.
///
/// Implementations pass the conformance suite in `tests/conformance`.
pub trait Store: Send + Sync + 'static {
    /// The clock that decides what is due here.
    fn clock(&self) -> Arc<dyn Clock>;

    /// Makes a definition known and gives its number. Safe to repeat.
    fn register_template(
        &self,
        template: TaskTemplate,
    ) -> BoxFuture<'_, Result<TemplateId, StoreError>>;

    /// Every definition that was registered here after a known one (`None`: all), oldest first.
    fn templates(
        &self,
        after: Option<TemplateId>,
    ) -> BoxFuture<'_, Result<Vec<(TemplateId, TaskTemplate)>, StoreError>>;

    /// One definition.
    fn template(&self, id: TemplateId) -> BoxFuture<'_, Result<TaskTemplate, StoreError>>;

    /// Announces a worker and what it runs, or says that it is still alive. Safe to repeat.
    fn register_worker(&self, worker: WorkerRecord) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Workers that have been seen since a time.
    fn workers(&self, since: Timestamp) -> BoxFuture<'_, Result<Vec<WorkerRecord>, StoreError>>;

    /// Creates tasks with their steps and first transitions, and claims of the new roots what the
    /// budget allows.
    ///
    /// The answers stand in the order of the tasks. Repeating a create with the same ids gives
    /// `Existing` for what was created before. A sub-task is counted in the tally of the step that
    /// starts it; beyond the concurrency of its plan it is held: due once another one has ended. Tasks
    /// with an origin come alone: all of one call have the same, and nothing is claimed for it.
    fn create(
        &self,
        tasks: Vec<NewTask>,
        budget: Option<ClaimBudget>,
    ) -> BoxFuture<'_, Result<(Vec<Created>, Progress), StoreError>>;

    /// Takes steps that are due, oldest first: new ones, retries, and those whose lease has
    /// expired. Fails tasks whose deadline has passed.
    ///
    /// No step is given to two workers. A step whose lease expired for the last allowed time
    /// fails instead of being claimed.
    fn claim(&self, budget: ClaimBudget) -> BoxFuture<'_, Result<Progress, StoreError>>;

    /// Records the ends of attempts, makes children due, finishes tasks, and claims what the
    /// budget allows: first the children that this made ready.
    ///
    /// An outcome whose attempt no longer holds its lease changes nothing and is answered with
    /// `LeaseLost`. Repeating a completion gives `LeaseLost`, too.
    fn complete(
        &self,
        worker: WorkerId,
        completions: Vec<Completion>,
        budget: Option<ClaimBudget>,
    ) -> BoxFuture<'_, Result<(Vec<Recorded>, Progress), StoreError>>;

    /// The sub-tasks of a step with the results of their last steps, by ordinal, from one on.
    fn subtasks(
        &self,
        step: StepKey,
        from: u32,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<SubtaskRecord>, StoreError>>;

    /// Tasks of these definitions that have failed or were cancelled, or steps of which have ended
    /// before their sub-tasks, and that nobody has seen to since: the longest ago first. Changes nothing.
    fn aftermaths(
        &self,
        templates: Vec<TemplateId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Aftermath>, StoreError>>;

    /// Notes that all has been done that was left to do of a task since a time; nothing if more has come
    /// up after it. Safe to repeat.
    fn end_aftermath(
        &self,
        task_id: TaskId,
        since: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Extends leases, and gives those that were lost. Safe to repeat.
    fn heartbeat(
        &self,
        worker: WorkerId,
        leases: Vec<Lease>,
        lease_ms: u64,
    ) -> BoxFuture<'_, Result<Vec<Lease>, StoreError>>;

    /// Notes how far attempts have come, for people who look; those whose lease was lost are passed
    /// over. Safe to repeat.
    fn note_progress(
        &self,
        worker: WorkerId,
        notes: Vec<(Lease, StepProgress)>,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Every step that a worker holds the lease of, with all that its handler needs. Changes nothing.
    ///
    /// For a worker whose call has failed, but may have happened: what it claimed without learning
    /// of it would otherwise wait for the end of a lease that nobody uses. Only steps of what it can
    /// run are found; a lease that has run out is held until somebody else claims the step. Costs a
    /// look over all leases of those definitions, so it is not for every day.
    fn held(
        &self,
        worker: WorkerId,
        runnable: Arc<[Runnable]>,
    ) -> BoxFuture<'_, Result<Vec<ClaimedStep>, StoreError>>;

    /// Carries out a person's order and records who gave it; re-opens the task in the same
    /// transaction where that is what the order means.
    ///
    /// Gives the task's state afterwards. An order that the state machines do not allow is
    /// `IllegalMove` and changes nothing.
    fn operate(
        &self,
        task_id: TaskId,
        order: Order,
        actor: String,
    ) -> BoxFuture<'_, Result<TaskState, StoreError>>;

    /// Sends a signal to a task: steps that wait for it are due, and those that will wait find it.
    ///
    /// The first signal of a name counts, so that sending is safe to repeat. A task that is final is
    /// `Refused`.
    fn signal(
        &self,
        task_id: TaskId,
        signal: Signal,
    ) -> BoxFuture<'_, Result<Signalled, StoreError>>;

    /// A task without its steps.
    fn task(&self, task_id: TaskId) -> BoxFuture<'_, Result<Option<TaskRecord>, StoreError>>;

    /// A task with steps and record, read at one moment.
    fn task_detail(&self, task_id: TaskId)
    -> BoxFuture<'_, Result<Option<TaskDetail>, StoreError>>;

    /// Tasks, newest first.
    fn tasks(
        &self,
        filter: TaskFilter,
        page: Page,
    ) -> BoxFuture<'_, Result<Vec<TaskSummary>, StoreError>>;

    /// Deletes up to so many finished tasks with all that belongs to them, oldest first, beginning
    /// after `after`. Nobody waits for it: a task that somebody else has locked is left.
    fn delete_finished(
        &self,
        expired: Expired,
        after: Option<TaskId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Deleted, StoreError>>;

    /// Every queue that has open steps or a limit.
    fn queues(&self) -> BoxFuture<'_, Result<Vec<QueueRecord>, StoreError>>;

    /// Tasks and steps by state. Reads every row: a look now and then, not a poll.
    fn system_health(&self) -> BoxFuture<'_, Result<SystemHealth, StoreError>>;

    /// Throughput, rates and mean durations since a time (`None`: the last hour). Reads every task.
    fn analytics(&self, since: Option<Timestamp>) -> BoxFuture<'_, Result<Analytics, StoreError>>;

    /// Tasks that ended, the slowest first.
    fn slowest_tasks(&self, among: Slowest) -> BoxFuture<'_, Result<Vec<SlowTask>, StoreError>>;

    /// Steps that completed, those with the longest last attempt first.
    fn slowest_steps(&self, among: Slowest) -> BoxFuture<'_, Result<Vec<SlowStep>, StoreError>>;

    /// Limits the attempts that run on a queue at the same time, on all nodes together: 0 pauses
    /// it, `None` takes the limit away. Attempts that run go on.
    fn set_queue_limit(
        &self,
        queue: Queue,
        limit: Option<u32>,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// A cheap sign that changes whenever any process has committed to this store, or `None` if
    /// the store cannot tell. Used to notice other processes' work early; claiming also polls.
    fn change_mark(&self) -> Option<u64>;

    /// Ends when another node says that it has left something due, if the store can tell. Polling
    /// goes on in any case.
    fn rung(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    /// The same store for a caller that awaits its calls on one thread of its own, which also does
    /// their input and output: no call wakes another thread. `None` where calls have a thread of
    /// their own in any case.
    fn local(&self) -> Option<Arc<dyn Store>> {
        None
    }

    /// How many statements this process has run, where the store counts them.
    fn statements(&self) -> u64;
}
