//! The embedded store: one SQLite file, in WAL mode, durable at every commit.
//!
//! One thread writes, with group commit: all verbs that wait at the same time share a transaction
//! (`sqlite/writer.rs`). Two threads read beside it. Several processes may use one file; SQLite's own
//! locks keep their transactions apart, and every decision is made inside one, from what is
//! stored, so nothing is assumed about who wrote last.

mod connection;
mod transaction;
mod writer;
mod row;
mod subtask;
mod work;
mod sheet;
mod signal;
mod children;
mod claim;
mod create;
mod complete;
mod heartbeat;
mod held;
mod query;
mod figures;
mod delete;

pub use create::create_in;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tasker_model::id::{StepKey, TaskId, WorkerId};
use tasker_model::name::Queue;
use tasker_model::progress::StepProgress;
use tasker_model::task::TaskState;
use tasker_model::template::TaskTemplate;

use crate::clock::Clock;
use crate::error::StoreError;
use crate::figures::{Analytics, SlowStep, SlowTask, Slowest, SystemHealth};
use crate::record::{
    QueueRecord, SubtaskRecord, TaskDetail, TaskRecord, TaskSummary, TemplateId, WorkerRecord,
};
use crate::store::{
    Aftermath, ClaimBudget, ClaimedStep, Completion, Created, Deleted, Expired, Lease, NewTask,
    Order, Page, Progress, Recorded, Runnable, Signal, Signalled, Store, TaskFilter,
};
use connection::Location;
use transaction::Tx;
use writer::{Session, Thread};

pub use rusqlite;

/// Threads that read beside the writer.
const READERS: usize = 2;

/// A store in one SQLite file, or in memory.
pub struct SqliteStore {
    clock: Arc<dyn Clock>,
    statements: Arc<AtomicU64>,
    wal: Option<PathBuf>,
    writer: Thread,
    /// Empty for a store in memory: its one connection reads, too.
    reader: Option<Thread>,
}

impl SqliteStore {
    /// Opens or creates a file, and brings its schema up to date.
    pub fn open(path: impl AsRef<Path>, clock: Arc<dyn Clock>) -> Result<SqliteStore, StoreError> {
        let path = path.as_ref();
        let location = Location::File(path.to_owned());
        let statements = Arc::new(AtomicU64::new(0));
        let session = || Session::new(location.clone(), clock.clone(), statements.clone());
        let mut write = session();
        write.open_and_migrate()?;
        let writer = Thread::writing("tasker-sqlite-write", write)?;
        let reader = Thread::reading("tasker-sqlite-read", READERS, session)?;
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        Ok(SqliteStore {
            clock,
            statements,
            wal: Some(wal.into()),
            writer,
            reader: Some(reader),
        })
    }

    /// A store that lives and dies with this value, for tests and throw-away runs.
    pub fn in_memory(clock: Arc<dyn Clock>) -> Result<SqliteStore, StoreError> {
        let statements = Arc::new(AtomicU64::new(0));
        let mut session = Session::new(Location::Memory, clock.clone(), statements.clone());
        session.open_and_migrate()?;
        let writer = Thread::writing("tasker-sqlite-memory", session)?;
        Ok(SqliteStore {
            clock,
            statements,
            wal: None,
            writer,
            reader: None,
        })
    }

    fn write<T, F>(&self, run: F) -> BoxFuture<'_, Result<T, StoreError>>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.writer.run(run).boxed()
    }

    fn read<T, F>(&self, run: F) -> BoxFuture<'_, Result<T, StoreError>>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.reader
            .as_ref()
            .unwrap_or(&self.writer)
            .run(run)
            .boxed()
    }
}

impl Store for SqliteStore {
    fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    fn register_template(
        &self,
        template: TaskTemplate,
    ) -> BoxFuture<'_, Result<TemplateId, StoreError>> {
        self.write(move |tx| tx.register_template(&template))
    }

    fn templates(
        &self,
        after: Option<TemplateId>,
    ) -> BoxFuture<'_, Result<Vec<(TemplateId, TaskTemplate)>, StoreError>> {
        self.read(move |tx| query::templates(tx, after))
    }

    fn template(&self, id: TemplateId) -> BoxFuture<'_, Result<TaskTemplate, StoreError>> {
        self.read(move |tx| tx.template(id))
    }

    fn register_worker(&self, worker: WorkerRecord) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(move |tx| heartbeat::register_worker(tx, &worker))
    }

    fn workers(&self, since: Timestamp) -> BoxFuture<'_, Result<Vec<WorkerRecord>, StoreError>> {
        self.read(move |tx| query::workers(tx, since))
    }

    fn create(
        &self,
        tasks: Vec<NewTask>,
        budget: Option<ClaimBudget>,
    ) -> BoxFuture<'_, Result<(Vec<Created>, Progress), StoreError>> {
        self.write(move |tx| create::create(tx, &tasks, budget.as_ref()))
    }

    fn claim(&self, budget: ClaimBudget) -> BoxFuture<'_, Result<Progress, StoreError>> {
        self.write(move |tx| claim::claim(tx, &budget))
    }

    fn complete(
        &self,
        worker: WorkerId,
        completions: Vec<Completion>,
        budget: Option<ClaimBudget>,
    ) -> BoxFuture<'_, Result<(Vec<Recorded>, Progress), StoreError>> {
        self.write(move |tx| complete::complete(tx, worker, &completions, budget.as_ref()))
    }

    fn subtasks(
        &self,
        step: StepKey,
        from: u32,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<SubtaskRecord>, StoreError>> {
        self.read(move |tx| subtask::subtasks(tx, step, from, limit))
    }

    fn aftermaths(
        &self,
        templates: Vec<TemplateId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Aftermath>, StoreError>> {
        self.read(move |tx| subtask::aftermaths(tx, &templates, limit))
    }

    fn end_aftermath(
        &self,
        task_id: TaskId,
        since: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(move |tx| subtask::end_aftermath(tx, task_id, since))
    }

    fn heartbeat(
        &self,
        worker: WorkerId,
        leases: Vec<Lease>,
        lease_ms: u64,
    ) -> BoxFuture<'_, Result<Vec<Lease>, StoreError>> {
        self.write(move |tx| heartbeat::heartbeat(tx, worker, &leases, lease_ms))
    }

    fn note_progress(
        &self,
        worker: WorkerId,
        notes: Vec<(Lease, StepProgress)>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(move |tx| heartbeat::note_progress(tx, worker, &notes))
    }

    /// On the thread that writes: behind whatever this process has sent before.
    fn held(
        &self,
        worker: WorkerId,
        runnable: Arc<[Runnable]>,
    ) -> BoxFuture<'_, Result<Vec<ClaimedStep>, StoreError>> {
        self.write(move |tx| held::held(tx, worker, &runnable))
    }

    fn operate(
        &self,
        task_id: TaskId,
        order: Order,
        actor: String,
    ) -> BoxFuture<'_, Result<TaskState, StoreError>> {
        self.write(move |tx| sheet::operate(tx, task_id, &order, &actor))
    }

    fn signal(
        &self,
        task_id: TaskId,
        signal: Signal,
    ) -> BoxFuture<'_, Result<Signalled, StoreError>> {
        self.write(move |tx| signal::signal(tx, task_id, &signal))
    }

    fn task(&self, task_id: TaskId) -> BoxFuture<'_, Result<Option<TaskRecord>, StoreError>> {
        self.read(move |tx| query::task(tx, task_id))
    }

    fn task_detail(
        &self,
        task_id: TaskId,
    ) -> BoxFuture<'_, Result<Option<TaskDetail>, StoreError>> {
        self.read(move |tx| query::task_detail(tx, task_id))
    }

    fn tasks(
        &self,
        filter: TaskFilter,
        page: Page,
    ) -> BoxFuture<'_, Result<Vec<TaskSummary>, StoreError>> {
        self.read(move |tx| query::tasks(tx, &filter, &page))
    }

    fn delete_finished(
        &self,
        expired: Expired,
        after: Option<TaskId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Deleted, StoreError>> {
        self.write(move |tx| delete::delete_finished(tx, &expired, after, limit))
    }

    fn queues(&self) -> BoxFuture<'_, Result<Vec<QueueRecord>, StoreError>> {
        self.read(|tx| query::queues(tx))
    }

    fn system_health(&self) -> BoxFuture<'_, Result<SystemHealth, StoreError>> {
        self.read(|tx| figures::system_health(tx))
    }

    fn analytics(&self, since: Option<Timestamp>) -> BoxFuture<'_, Result<Analytics, StoreError>> {
        self.read(move |tx| figures::analytics(tx, since))
    }

    fn slowest_tasks(&self, among: Slowest) -> BoxFuture<'_, Result<Vec<SlowTask>, StoreError>> {
        self.read(move |tx| figures::slowest_tasks(tx, &among))
    }

    fn slowest_steps(&self, among: Slowest) -> BoxFuture<'_, Result<Vec<SlowStep>, StoreError>> {
        self.read(move |tx| figures::slowest_steps(tx, &among))
    }

    fn set_queue_limit(
        &self,
        queue: Queue,
        limit: Option<u32>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(move |tx| query::set_queue_limit(tx, &queue, limit))
    }

    /// The write-ahead log's time of change and size: a look at the file, no statement.
    fn change_mark(&self) -> Option<u64> {
        let found = std::fs::metadata(self.wal.as_ref()?).ok()?;
        let changed = found.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(u64::from(changed.subsec_nanos()) ^ (changed.as_secs() << 30) ^ (found.len() << 8))
    }

    fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }
}
