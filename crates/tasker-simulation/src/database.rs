//! The real store, and the way to it, on which anything may get lost.
//!
//! A call is carried out at one moment of virtual time, as a whole: the simulation's thread waits
//! for the store's answer, whatever threads the store has. What is random is how long a call is
//! under way there and back, and whether it or its answer arrives at all.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tasker::model::id::{StepKey, TaskId, WorkerId};
use tasker::model::name::Queue;
use tasker::model::progress::StepProgress;
use tasker::model::task::TaskState;
use tasker::model::template::TaskTemplate;
use tasker::store::figures::{Analytics, SlowStep, SlowTask, Slowest, SystemHealth};
use tasker::store::record::{
    QueueRecord, SubtaskRecord, TaskDetail, TaskRecord, TaskSummary, TemplateId, WorkerRecord,
};
use tasker::store::store::{
    Aftermath, ClaimBudget, ClaimedStep, Completion, Created, Deleted, Expired, Lease, NewTask,
    Order, Page, Progress, Recorded, Runnable, Signal, Signalled, TaskFilter,
};
use tasker::store::{Clock, Store, StoreError};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::chance::Chance;
use crate::ledger::Ledger;
use crate::plan::{Network, Notice};
use crate::process::{Process, ProcessClock};

/// Calls after which a seed is given up: something asks again and again.
const CALLS_MAX: u64 = 300_000;

/// What may leave something due to others. A claim that has changed nothing must not make others
/// look: they would wake each other for ever.
const LEAVES_WORK: [&str; 4] = ["create", "complete", "operate", "set_queue_limit"];

/// A call that takes longer than usual takes so long one way.
const SLOW: std::ops::Range<Duration> = Duration::from_millis(200)..Duration::from_secs(90);

/// The store that all nodes share.
pub(crate) struct Database {
    store: Arc<dyn Store>,
    /// Where the store does what it does in the background.
    io: Handle,
    ledger: Arc<Ledger>,
    notice: Notice,
    calls: AtomicU64,
    writes: AtomicU64,
    rung: Arc<Notify>,
    /// Out of reach for everybody.
    pub(crate) unreachable: AtomicBool,
    /// Told when the simulation cannot go on.
    pub(crate) alarm: Arc<Notify>,
}

impl Database {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        io: Handle,
        ledger: Arc<Ledger>,
        notice: Notice,
    ) -> Database {
        Database {
            store,
            io,
            ledger,
            notice,
            calls: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            rung: Arc::default(),
            unreachable: AtomicBool::new(false),
            alarm: Arc::default(),
        }
    }

    /// Carries out a call at this moment, and waits for the answer on this thread.
    pub(crate) fn at_once<T>(
        &self,
        call: impl FnOnce(&dyn Store) -> BoxFuture<'_, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let _entered = self.io.enter();
        blocking(call(&*self.store))
    }

    fn count_call(&self) {
        if self.calls.fetch_add(1, Ordering::Relaxed) == CALLS_MAX {
            self.ledger
                .problem(format!("the store was called {CALLS_MAX} times"));
            self.alarm.notify_one();
        }
    }

    /// Somebody has committed something that others may be waiting for.
    fn committed(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        if self.notice == Notice::Bell {
            self.rung.notify_waiters();
        }
    }
}

/// Polls on this thread, which sleeps in between: no other part of the simulation runs meanwhile.
fn blocking<T>(call: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    // Else tokio would make a task that polls often yield to others, which cannot run here.
    let mut call = pin!(tokio::task::unconstrained(call));
    loop {
        match call.as_mut().poll(&mut context) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => std::thread::park(),
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    Unconnected,
    Lost,
    AnswerLost,
}

/// The store as one process reaches it.
pub(crate) struct Connection {
    database: Arc<Database>,
    process: Arc<Process>,
    network: Network,
    chance: Mutex<Chance>,
}

impl Connection {
    pub(crate) fn new(
        database: Arc<Database>,
        process: Arc<Process>,
        network: Network,
        chance: Chance,
    ) -> Connection {
        Connection {
            database,
            process,
            network,
            chance: Mutex::new(chance),
        }
    }

    /// Draws what becomes of a call, and how long it takes there and back.
    fn draw(&self) -> (Fate, Duration, Duration) {
        let network = &self.network;
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        let fate = if chance.happens(network.unconnected) {
            Fate::Unconnected
        } else if chance.happens(network.lost) {
            Fate::Lost
        } else if chance.happens(network.answer_lost) {
            Fate::AnswerLost
        } else {
            Fate::Answered
        };
        let mut way = || {
            let slow = chance.happens(network.slow);
            chance.time(if slow { &SLOW } else { &network.latency })
        };
        (fate, way(), way())
    }

    async fn call<T>(
        &self,
        verb: &'static str,
        call: impl FnOnce(&dyn Store) -> BoxFuture<'_, Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let (database, process) = (&self.database, &self.process);
        database.count_call();
        let (fate, there, back) = self.draw();
        if fate == Fate::Unconnected {
            return Err(self.failed(verb, fate));
        }
        // On its way a call does not care whether its sender is frozen.
        crate::process::sleep(process.clock(), there).await;
        if fate == Fate::Lost || database.unreachable.load(Ordering::Relaxed) {
            process.sleep(back).await;
            return Err(self.failed(verb, Fate::Lost));
        }
        if process.is_gone() {
            // Nothing of a dead process reaches the database any more; nor does it learn anything.
            std::future::pending::<()>().await;
        }
        let answer = database.at_once(call);
        if LEAVES_WORK.contains(&verb) {
            database.committed();
        }
        if let Err(error) = &answer
            && !is_refusal(error)
        {
            let (error, cause) = (error, std::error::Error::source(error));
            database
                .ledger
                .problem(format!("{process}: {verb} failed: {error}: {cause:?}"));
        }
        process.sleep(back).await;
        if fate == Fate::AnswerLost {
            return Err(self.failed(verb, fate));
        }
        database.ledger.note(|| format!("{process}: {verb}"));
        answer
    }

    fn failed(&self, verb: &'static str, fate: Fate) -> StoreError {
        let (ledger, process) = (&self.database.ledger, &self.process);
        ledger.note(|| format!("{process}: {verb}: {fate:?}"));
        ledger.count(match fate {
            Fate::Unconnected => "calls without connection",
            Fate::AnswerLost => "answers lost",
            _ => "calls lost",
        });
        StoreError::Unavailable(format!("simulated: {fate:?}").into())
    }
}

/// Whether an error says that what was asked for is not allowed, which is the right answer to
/// many orders.
fn is_refusal(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::IllegalMove(_) | StoreError::Refused(_) | StoreError::NoSuchTask(_)
    )
}

impl Store for Connection {
    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(ProcessClock(self.process.clone()))
    }

    fn register_template(
        &self,
        template: TaskTemplate,
    ) -> BoxFuture<'_, Result<TemplateId, StoreError>> {
        self.call("register_template", move |store| {
            store.register_template(template)
        })
        .boxed()
    }

    fn templates(
        &self,
        after: Option<TemplateId>,
    ) -> BoxFuture<'_, Result<Vec<(TemplateId, TaskTemplate)>, StoreError>> {
        self.call("templates", move |store| store.templates(after))
            .boxed()
    }

    fn template(&self, id: TemplateId) -> BoxFuture<'_, Result<TaskTemplate, StoreError>> {
        self.call("template", move |store| store.template(id))
            .boxed()
    }

    fn register_worker(&self, worker: WorkerRecord) -> BoxFuture<'_, Result<(), StoreError>> {
        self.call("register_worker", move |store| {
            store.register_worker(worker)
        })
        .boxed()
    }

    fn workers(&self, since: Timestamp) -> BoxFuture<'_, Result<Vec<WorkerRecord>, StoreError>> {
        self.call("workers", move |store| store.workers(since))
            .boxed()
    }

    fn create(
        &self,
        tasks: Vec<NewTask>,
        budget: Option<ClaimBudget>,
    ) -> BoxFuture<'_, Result<(Vec<Created>, Progress), StoreError>> {
        self.call("create", move |store| store.create(tasks, budget))
            .boxed()
    }

    fn claim(&self, budget: ClaimBudget) -> BoxFuture<'_, Result<Progress, StoreError>> {
        self.call("claim", move |store| store.claim(budget)).boxed()
    }

    fn complete(
        &self,
        worker: WorkerId,
        completions: Vec<Completion>,
        budget: Option<ClaimBudget>,
    ) -> BoxFuture<'_, Result<(Vec<Recorded>, Progress), StoreError>> {
        self.call("complete", move |store| {
            store.complete(worker, completions, budget)
        })
        .boxed()
    }

    fn subtasks(
        &self,
        step: StepKey,
        from: u32,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<SubtaskRecord>, StoreError>> {
        self.call("subtasks", move |store| store.subtasks(step, from, limit))
            .boxed()
    }
    fn aftermaths(
        &self,
        templates: Vec<TemplateId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Aftermath>, StoreError>> {
        self.call("aftermaths", move |store| {
            store.aftermaths(templates.clone(), limit)
        })
        .boxed()
    }
    fn end_aftermath(
        &self,
        task_id: TaskId,
        since: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.call("end_aftermath", move |store| {
            store.end_aftermath(task_id, since)
        })
        .boxed()
    }
    fn heartbeat(
        &self,
        worker: WorkerId,
        leases: Vec<Lease>,
        lease_ms: u64,
    ) -> BoxFuture<'_, Result<Vec<Lease>, StoreError>> {
        self.call("heartbeat", move |store| {
            store.heartbeat(worker, leases, lease_ms)
        })
        .boxed()
    }

    fn note_progress(
        &self,
        worker: WorkerId,
        notes: Vec<(Lease, StepProgress)>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.call("note_progress", move |store| {
            store.note_progress(worker, notes)
        })
        .boxed()
    }

    fn held(
        &self,
        worker: WorkerId,
        runnable: Arc<[Runnable]>,
    ) -> BoxFuture<'_, Result<Vec<ClaimedStep>, StoreError>> {
        self.call("held", move |store| store.held(worker, runnable))
            .boxed()
    }

    fn operate(
        &self,
        task_id: TaskId,
        order: Order,
        actor: String,
    ) -> BoxFuture<'_, Result<TaskState, StoreError>> {
        self.call("operate", move |store| store.operate(task_id, order, actor))
            .boxed()
    }

    fn signal(
        &self,
        task_id: TaskId,
        signal: Signal,
    ) -> BoxFuture<'_, Result<Signalled, StoreError>> {
        self.call("signal", move |store| store.signal(task_id, signal))
            .boxed()
    }

    fn task(&self, task_id: TaskId) -> BoxFuture<'_, Result<Option<TaskRecord>, StoreError>> {
        self.call("task", move |store| store.task(task_id)).boxed()
    }

    fn task_detail(
        &self,
        task_id: TaskId,
    ) -> BoxFuture<'_, Result<Option<TaskDetail>, StoreError>> {
        self.call("task_detail", move |store| store.task_detail(task_id))
            .boxed()
    }

    fn tasks(
        &self,
        filter: TaskFilter,
        page: Page,
    ) -> BoxFuture<'_, Result<Vec<TaskSummary>, StoreError>> {
        self.call("tasks", move |store| store.tasks(filter, page))
            .boxed()
    }

    fn delete_finished(
        &self,
        expired: Expired,
        after: Option<TaskId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Deleted, StoreError>> {
        self.call("delete_finished", move |store| {
            store.delete_finished(expired, after, limit)
        })
        .boxed()
    }

    fn queues(&self) -> BoxFuture<'_, Result<Vec<QueueRecord>, StoreError>> {
        self.call("queues", move |store| store.queues()).boxed()
    }

    fn system_health(&self) -> BoxFuture<'_, Result<SystemHealth, StoreError>> {
        self.call("system_health", move |store| store.system_health())
            .boxed()
    }

    fn analytics(&self, since: Option<Timestamp>) -> BoxFuture<'_, Result<Analytics, StoreError>> {
        self.call("analytics", move |store| store.analytics(since))
            .boxed()
    }

    fn slowest_tasks(&self, among: Slowest) -> BoxFuture<'_, Result<Vec<SlowTask>, StoreError>> {
        self.call("slowest_tasks", move |store| store.slowest_tasks(among))
            .boxed()
    }

    fn slowest_steps(&self, among: Slowest) -> BoxFuture<'_, Result<Vec<SlowStep>, StoreError>> {
        self.call("slowest_steps", move |store| store.slowest_steps(among))
            .boxed()
    }

    fn set_queue_limit(
        &self,
        queue: Queue,
        limit: Option<u32>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.call("set_queue_limit", move |store| {
            store.set_queue_limit(queue, limit)
        })
        .boxed()
    }

    fn change_mark(&self) -> Option<u64> {
        let marks = self.database.notice == Notice::Mark;
        marks.then(|| self.database.writes.load(Ordering::Relaxed))
    }

    fn rung(&self) -> BoxFuture<'static, ()> {
        let rung = self.database.rung.clone().notified_owned();
        let process = self.process.clone();
        async move {
            rung.await;
            process.runs().await;
        }
        .boxed()
    }

    fn statements(&self) -> u64 {
        self.database.store.statements()
    }
}
