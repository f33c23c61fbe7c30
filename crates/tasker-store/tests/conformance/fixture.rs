//! What every test stands on: a store, a clock, and short words for the verbs.

use std::any::Any;
use std::future::{Ready, ready};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tasker_model::id::{Position, StepKey, TaskId, WorkerId};
use tasker_model::json::Json;
use tasker_model::name::{Queue, StepName};
use tasker_model::outcome::{Failure, FailureKind, Settlement};
use tasker_model::request::TaskRequest;
use tasker_model::step::StepState;
use tasker_model::subtask::{SubtaskStanding, SubtaskTally};
use tasker_model::task::TaskState;
use tasker_model::template::{StepTemplate, TaskTemplate, TemplateSource};
use tasker_model::transition::{Change, Transition};
use tasker_model::wait::NEVER;
use tasker_store::postgres::PostgresStore;
use tasker_store::record::{StepRecord, TaskDetail, TemplateId};
use tasker_store::sqlite::SqliteStore;
use tasker_store::store::{
    ClaimBudget, ClaimedStep, Completion, Created, Lease, NewTask, Order, Page, Progress, Recorded,
    Runnable, TaskFilter,
};
use tasker_store::{Clock as _, ManualClock, Store, StoreError, audit};
use uuid::Uuid;

/// How long leases last unless a test says otherwise.
pub(crate) const LEASE_MS: u64 = 30_000;

/// One empty store of some backend.
#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<ManualClock>,
    /// Ids grow, so that those made later sort later, and are the same in every run.
    ids: Arc<AtomicU64>,
    /// What must live as long as the store.
    _guard: Arc<dyn Any + Send + Sync>,
}

/// The embedded store, in memory.
pub(crate) fn sqlite_in_memory() -> Ready<Fixture> {
    let clock = clock();
    let store = Arc::new(SqliteStore::in_memory(clock.clone()).unwrap());
    ready(Fixture::new(store, clock, Arc::new(())))
}

/// The embedded store, in a file of its own.
pub(crate) fn sqlite_in_a_file() -> Ready<Fixture> {
    ready(sqlite_with_path().0)
}

/// The embedded store, in a file of its own, with the path to it.
pub(crate) fn sqlite_with_path() -> (Fixture, PathBuf) {
    let clock = clock();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasker.db");
    let store = Arc::new(SqliteStore::open(&path, clock.clone()).unwrap());
    (Fixture::new(store, clock, Arc::new(folder)), path)
}

/// The store on PostgreSQL, in a schema of its own.
pub(crate) async fn postgres() -> Fixture {
    postgres_with_url().await.0
}

/// The store on PostgreSQL, in a schema of its own, with the URL to it.
pub(crate) async fn postgres_with_url() -> (Fixture, String) {
    let server = std::env::var("TASKER_TEST_POSTGRES")
        .expect("TASKER_TEST_POSTGRES names a database for tests; `cargo xtask test` starts one");
    let (url, schema) = fresh_schema(&server);
    PostgresStore::migrate(&url).await.unwrap();
    let clock = clock();
    let store = PostgresStore::open(&url, clock.clone()).await.unwrap();
    let guard = Arc::new(DropSchema { server, schema });
    (Fixture::new(Arc::new(store), clock, guard), url)
}

/// The URL of a schema that nobody else uses.
pub(crate) fn fresh_schema(server: &str) -> (String, String) {
    let schema = format!("test_{}", Uuid::now_v7().simple());
    let and = if server.contains('?') { '&' } else { '?' };
    (
        format!("{server}{and}schema={schema}&connections=4"),
        schema,
    )
}

/// Removes a schema when its test is over, so that a database that is kept does not fill up.
struct DropSchema {
    server: String,
    schema: String,
}

impl Drop for DropSchema {
    fn drop(&mut self) {
        let (server, schema) = (self.server.clone(), self.schema.clone());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let (client, connection) = tokio_postgres::connect(&server, tokio_postgres::NoTls)
                    .await
                    .unwrap();
                let connected = tokio::spawn(connection);
                let sql = format!("DROP SCHEMA {schema} CASCADE");
                client.batch_execute(&sql).await.unwrap();
                connected.abort();
            });
        });
        assert!(
            dropped.join().is_ok() || std::thread::panicking(),
            "the schema is dropped"
        );
    }
}

/// A clock at the start of all tests.
pub(crate) fn clock() -> Arc<ManualClock> {
    let start = "2026-01-01T00:00:00Z".parse().unwrap();
    Arc::new(ManualClock::new(start))
}

/// The definition of a task: steps by name, with the names of those they wait for.
pub(crate) fn source(name: &str, steps: &[(&str, &[&str])]) -> TemplateSource {
    let steps = steps
        .iter()
        .map(|(step, parents)| StepTemplate {
            depends_on_steps: parents.iter().map(|p| (*p).to_owned()).collect(),
            skippable: true,
            ..StepTemplate::named(StepName::new(step).unwrap())
        })
        .collect();
    TemplateSource {
        namespace: "shop".parse().unwrap(),
        name: name.parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        description: String::new(),
        schema: None,
        deadline_ms: None,
        queue: None,
        steps,
    }
}

/// A registered definition.
#[derive(Debug, Clone)]
pub(crate) struct Defined {
    pub(crate) template: TaskTemplate,
    pub(crate) runnable: Runnable,
}

/// Somebody who claims.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    runnable: Arc<[Runnable]>,
}

impl Worker {
    /// A worker that can run these definitions.
    pub(crate) fn new(id: WorkerId, can_run: &[&Defined]) -> Worker {
        let runnable = can_run.iter().map(|d| d.runnable.clone()).collect();
        Worker { id, runnable }
    }

    /// A budget of so many slots, for what the worker can run.
    pub(crate) fn slots(&self, slots: usize) -> ClaimBudget {
        ClaimBudget {
            worker: self.id,
            slots,
            lease_ms: LEASE_MS,
            runnable: self.runnable.clone(),
            also_due: false,
        }
    }
}

/// A JSON value as a store keeps it.
pub(crate) fn text(value: &Value) -> Json {
    Json::of(value).unwrap()
}

/// Success with a result.
pub(crate) fn succeed(result: &Value) -> Settlement {
    Settlement::Complete {
        result: text(result),
    }
}

/// Failure for good.
pub(crate) fn fail(kind: FailureKind) -> Settlement {
    Settlement::Fail {
        failure: Failure::new(kind, "no"),
    }
}

/// Failure with another attempt after a delay.
pub(crate) fn retry_in(delay_ms: u64) -> Settlement {
    Settlement::Retry {
        failure: Failure::new(FailureKind::Retryable, "not yet"),
        delay_ms,
    }
}

/// The end of a claimed attempt.
pub(crate) fn end(claimed: &ClaimedStep, settlement: Settlement) -> Completion {
    Completion {
        lease: claimed.lease,
        settlement,
        log: None,
        annotations: Vec::new(),
        context: Some(claimed.context.clone()),
    }
}

/// The positions of claimed steps, in the order in which they were given.
pub(crate) fn positions(progress: &Progress) -> Vec<Position> {
    let position = |claimed: &ClaimedStep| claimed.lease.step.position;
    progress.claimed.iter().map(position).collect()
}

/// A duration of so many milliseconds.
pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The moves of one step in a record: where from, where to.
pub(crate) fn moves_of(detail: &TaskDetail, step: Position) -> Vec<(Option<StepState>, StepState)> {
    let of_step = |transition: &Transition| match transition.change {
        Change::Step { position, from, to } if position == step => Some((from, to)),
        _ => None,
    };
    detail.transitions.iter().filter_map(of_step).collect()
}

/// The moves of the task itself in a record.
pub(crate) fn task_moves(detail: &TaskDetail) -> Vec<(Option<TaskState>, TaskState)> {
    let of_task = |transition: &Transition| match transition.change {
        Change::Task { from, to } => Some((from, to)),
        Change::Step { .. } => None,
    };
    detail.transitions.iter().filter_map(of_task).collect()
}

/// The last transition of a step.
pub(crate) fn last_of(detail: &TaskDetail, step: Position) -> &Transition {
    let of_step = |transition: &&Transition| matches!(transition.change, Change::Step { position, .. } if position == step);
    detail.transitions.iter().rfind(of_step).unwrap()
}

impl Fixture {
    /// Puts a store and its clock to use; `guard` is dropped with it.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<ManualClock>,
        guard: Arc<dyn Any + Send + Sync>,
    ) -> Fixture {
        Fixture {
            store,
            clock,
            ids: Arc::default(),
            _guard: guard,
        }
    }

    /// Another store on the same data.
    pub(crate) fn beside(&self, store: Arc<dyn Store>) -> Fixture {
        Fixture {
            store,
            ..self.clone()
        }
    }

    fn uuid(&self) -> Uuid {
        let number = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
        Uuid::from_u128((0x0195_0000_0000_7000_8000 << 48) | u128::from(number))
    }

    /// An id that nobody has.
    pub(crate) fn task_id(&self) -> TaskId {
        TaskId::from_uuid(self.uuid())
    }

    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The time so many milliseconds from now.
    pub(crate) fn now_and(&self, milliseconds: u64) -> Timestamp {
        self.now() + ms(milliseconds)
    }

    /// Registers a definition.
    pub(crate) async fn register(&self, source: TemplateSource) -> Defined {
        let template = TaskTemplate::new(source).unwrap();
        let id = self
            .store
            .register_template(template.clone())
            .await
            .unwrap();
        let queue = Queue::from(&template.source().namespace);
        let runnable = Runnable {
            queue,
            template: id,
        };
        Defined { template, runnable }
    }

    /// Registers a definition that is only a graph.
    pub(crate) async fn define(&self, name: &str, steps: &[(&str, &[&str])]) -> Defined {
        self.register(source(name, steps)).await
    }

    /// A worker that can run these definitions.
    pub(crate) fn worker(&self, can_run: &[&Defined]) -> Worker {
        Worker::new(WorkerId::from_uuid(self.uuid()), can_run)
    }

    /// A task to create, as asked by `request`.
    pub(crate) fn asked(&self, defined: &Defined, request: TaskRequest) -> NewTask {
        NewTask {
            task_id: self.task_id(),
            request: request.check(&defined.template, 100_000).unwrap(),
            identity: None,
            origin: None,
        }
    }

    /// A task to create, with nothing special about it.
    pub(crate) fn plain(&self, defined: &Defined) -> NewTask {
        let name = defined.template.source().name.as_str();
        self.asked(defined, TaskRequest::new(name).context(json!({"n": 1})))
    }

    /// Creates tasks, claims nothing.
    pub(crate) async fn create(&self, tasks: &[NewTask]) -> Vec<Created> {
        let created = self.store.create(tasks.to_vec(), None).await;
        created.unwrap().0
    }

    /// Creates one task with nothing special about it.
    pub(crate) async fn start(&self, defined: &Defined) -> TaskId {
        let task = self.plain(defined);
        let id = task.task_id;
        assert_eq!(self.create(&[task]).await, [Created::New(id)]);
        id
    }

    /// Claims up to so many steps.
    pub(crate) async fn claim(&self, worker: &Worker, slots: usize) -> Progress {
        self.store.claim(worker.slots(slots)).await.unwrap()
    }

    /// Claims the one step that is due.
    pub(crate) async fn claim_one(&self, worker: &Worker) -> ClaimedStep {
        let mut progress = self.claim(worker, 100).await;
        assert_eq!(progress.claimed.len(), 1, "one step is due");
        progress.claimed.pop().unwrap()
    }

    /// Records the end of one attempt, claims nothing.
    pub(crate) async fn settle(
        &self,
        worker: &Worker,
        claimed: &ClaimedStep,
        settlement: Settlement,
    ) -> Progress {
        let completion = end(claimed, settlement);
        let done = self.store.complete(worker.id, vec![completion], None);
        let (recorded, progress) = done.await.unwrap();
        assert_eq!(recorded, [Recorded::Yes]);
        progress
    }

    /// Records the end of one attempt and claims up to so many children.
    pub(crate) async fn settle_and_claim(
        &self,
        worker: &Worker,
        claimed: &ClaimedStep,
        settlement: Settlement,
        slots: usize,
    ) -> Progress {
        let completion = end(claimed, settlement);
        let budget = Some(worker.slots(slots));
        let done = self.store.complete(worker.id, vec![completion], budget);
        let (recorded, progress) = done.await.unwrap();
        assert_eq!(recorded, [Recorded::Yes]);
        progress
    }

    /// Tries to record the end of an attempt, and asserts that it is refused and changes nothing.
    pub(crate) async fn refused(&self, worker: WorkerId, lease: Lease, settlement: Settlement) {
        let before = self.as_text(lease.step.task_id).await;
        let completion = Completion {
            lease,
            settlement,
            log: None,
            annotations: Vec::new(),
            context: None,
        };
        let done = self.store.complete(worker, vec![completion], None);
        let (recorded, progress) = done.await.unwrap();
        assert_eq!(recorded, [Recorded::LeaseLost]);
        assert!(progress.finished.is_empty() && progress.claimed.is_empty());
        assert_eq!(self.as_text(lease.step.task_id).await, before);
    }

    /// Claims and completes whatever is due, until nothing is.
    pub(crate) async fn run_all(&self, worker: &Worker) {
        loop {
            let claimed = self.claim(worker, 100).await.claimed;
            if claimed.is_empty() {
                return;
            }
            for step in &claimed {
                self.settle(worker, step, succeed(&json!(true))).await;
            }
        }
    }

    /// Gives an order as `ann`.
    pub(crate) async fn order(&self, task: TaskId, order: Order) -> Result<TaskState, StoreError> {
        self.store.operate(task, order, "ann".to_owned()).await
    }

    /// Gives an order, and asserts that it is refused with this text and changes nothing.
    pub(crate) async fn order_refused(&self, task: TaskId, order: Order, error: &str) {
        let before = self.as_text(task).await;
        let refusal = self.order(task, order).await.unwrap_err();
        assert_eq!(refusal.to_string(), error);
        assert!(!refusal.is_transient(), "the same order will never succeed");
        assert_eq!(self.as_text(task).await, before, "nothing changed");
    }

    /// Everything about a task.
    pub(crate) async fn detail(&self, task: TaskId) -> TaskDetail {
        self.store.task_detail(task).await.unwrap().unwrap()
    }

    /// Everything about a task as one text, to be compared.
    pub(crate) async fn as_text(&self, task: TaskId) -> String {
        serde_json::to_string_pretty(&self.detail(task).await).unwrap()
    }

    /// One step of a task.
    pub(crate) async fn step(&self, task: TaskId, position: Position) -> StepRecord {
        let mut detail = self.detail(task).await;
        detail.steps.swap_remove(position as usize)
    }

    /// The state of a task.
    pub(crate) async fn state(&self, task: TaskId) -> TaskState {
        self.store.task(task).await.unwrap().unwrap().summary.state
    }

    /// The states of a task's steps.
    pub(crate) async fn step_states(&self, task: TaskId) -> Vec<StepState> {
        let steps = self.detail(task).await.steps;
        steps.iter().map(|step| step.state).collect()
    }

    /// A page of all tasks.
    pub(crate) async fn list(&self, filter: TaskFilter) -> Vec<TaskId> {
        let page = Page {
            limit: 10_000,
            before: None,
        };
        let found = self.store.tasks(filter, page).await.unwrap();
        found.iter().map(|task| task.task_id).collect()
    }

    /// Asserts every invariant of every task.
    pub(crate) async fn audit(&self) {
        let templates = self.store.templates(None).await.unwrap();
        let template = |id: TemplateId| &templates.iter().find(|(t, _)| *t == id).unwrap().1;
        let all = TaskFilter {
            also_subtasks: true,
            ..TaskFilter::default()
        };
        for task in self.list(all).await {
            let detail = self.detail(task).await;
            let found = audit::check(&detail, template(detail.task.template));
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            assert!(
                found.is_empty(),
                "{found:#?} in {}",
                self.as_text(task).await
            );
            for step in &detail.steps {
                self.audit_tally(task, step).await;
            }
        }
    }

    /// Asserts that what a step has counted is what there is.
    async fn audit_tally(&self, task: TaskId, step: &StepRecord) {
        if step.subtasks.is_none() {
            return;
        }
        let key = StepKey::new(task, step.position);
        let mut all = Vec::new();
        for subtask in self.store.subtasks(key, 0, 10_000).await.unwrap() {
            all.push(self.detail(subtask.task_id).await);
        }
        assert_tally(key, step, &all.iter().collect::<Vec<_>>());
    }
}

/// Asserts that a step has counted these sub-tasks, which are all of its, and done what follows from it.
pub(crate) fn assert_tally(key: StepKey, step: &StepRecord, all: &[&TaskDetail]) {
    let Some(tally) = step.subtasks else {
        assert!(all.is_empty(), "{key:?} has counted nothing");
        return;
    };
    let never = |step: &StepRecord| step.due_at == Some(NEVER);
    let mut found = SubtaskTally::new(tally.plan);
    for subtask in all {
        let state = subtask.task.summary.state;
        let standing = SubtaskStanding::from(state);
        let is_held = state == TaskState::Pending && subtask.steps.iter().any(never);
        found.created += 1;
        found.open += u32::from(standing == SubtaskStanding::Open);
        found.failed += u32::from(standing == SubtaskStanding::Failed);
        found.held += u32::from(is_held);
    }
    assert_eq!(tally, found, "{key:?}");
    assert!(
        tally.held == 0 || !tally.has_room(),
        "{key:?} holds sub-tasks back, and need not: {tally:?}"
    );
    let waits = step.state == StepState::Pending && never(step) && step.awaits.is_none();
    assert!(
        !waits || !tally.is_decided(),
        "{key:?} waits for sub-tasks, and need not: {tally:?}"
    );
}
