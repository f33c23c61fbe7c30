//! The store on PostgreSQL: for many nodes, on any server from version 13 on.
//!
//! Each verb of the hot path is one call of a function in the database (`migrations/postgres`): one
//! round trip, one transaction, no session state. The rules that a verb applies are those of
//! `tasker-model`, written as sets; the conformance suite holds them against the embedded store.
//! Many nodes work at once without waiting for each other: a claim skips what another node has
//! locked, and everybody locks tasks in one order.

mod migrations;
mod address;
mod row;
mod connection;
mod migrate;
mod clock;
mod bell;
mod looks;
mod budget;
mod template;
mod answer;
mod create;
mod claim;
mod complete;
mod held;
mod sheet;
mod signal;
mod subtask;
mod query;
mod figures;
mod delete;

pub use migrations::MigrationStatus;

use std::sync::Arc;

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
use address::Address;
use bell::Bell;
use clock::DatabaseClock;
use connection::Connections;
use looks::Looks;
use template::Templates;

/// A store in one schema of a PostgreSQL database.
pub struct PostgresStore(Arc<Inner>);

struct Inner {
    connections: Arc<Connections>,
    /// The clock of a test; without one, the database's clock decides.
    given: Option<Arc<dyn Clock>>,
    clock: Arc<DatabaseClock>,
    templates: Arc<Templates>,
    looks: Arc<Looks>,
    bell: Arc<Bell>,
}

impl PostgresStore {
    /// Connects, and checks that the schema is there and of a version that this program knows.
    ///
    /// A clock that is not real decides instead of the database's; for tests.
    pub async fn open(url: &str, clock: Arc<dyn Clock>) -> Result<PostgresStore, StoreError> {
        let connections = Arc::new(Connections::new(Address::parse(url)?)?);
        let check = connections.clone();
        connections
            .spawn(async move { check.check_version().await })
            .await?;
        let given = (!clock.is_real()).then_some(clock);
        let listens = connections.address.listen && given.is_none();
        let bell = Arc::new(Bell::new(&connections, listens));
        Ok(PostgresStore(Arc::new(Inner {
            connections,
            given,
            clock: Arc::default(),
            templates: Arc::default(),
            looks: Arc::default(),
            bell,
        })))
    }

    /// Brings the schema up to date, creating it if need be. Gives the versions before and after.
    pub async fn migrate(url: &str) -> Result<(i64, i64), StoreError> {
        let connections = Arc::new(Connections::new(Address::parse(url)?)?);
        let work = connections.clone();
        connections.spawn(async move { work.migrate().await }).await
    }

    /// Every migration that this program knows or the database has.
    pub async fn migrations(url: &str) -> Result<Vec<MigrationStatus>, StoreError> {
        let connections = Arc::new(Connections::new(Address::parse(url)?)?);
        let work = connections.clone();
        let version = connections
            .spawn(async move { work.version().await })
            .await?;
        Ok(migrations::list(version.0))
    }

    /// The SQL that brings the URL's schema from nothing to this program's version, for those who
    /// let nobody but themselves change a schema.
    pub fn migration_script(url: &str) -> Result<String, StoreError> {
        Ok(migrations::script(&Address::parse(url)?.quoted_schema()))
    }

    fn run<T, F>(&self, run: impl FnOnce(Arc<Inner>) -> F) -> BoxFuture<'_, Result<T, StoreError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let run = run(self.0.clone());
        let connections = self.0.connections.clone();
        self.0.connections.spawn(async move {
            match run.await {
                // What was there when the store was opened is gone: say what is there now.
                Err(StoreError::NotMigrated { .. }) => {
                    connections.check_version().await?;
                    let found = "a schema with its version, but without some of its parts";
                    Err(StoreError::BadRow(found.to_owned()))
                }
                answer => answer,
            }
        })
    }
}

impl Inner {
    /// The time to hand to the database: `None` lets it decide.
    fn given_time(&self) -> Option<Timestamp> {
        self.given.as_ref().map(|clock| clock.now())
    }
}

impl Store for PostgresStore {
    fn clock(&self) -> Arc<dyn Clock> {
        match &self.0.given {
            Some(clock) => clock.clone(),
            None => self.0.clock.clone(),
        }
    }

    fn register_template(
        &self,
        template: TaskTemplate,
    ) -> BoxFuture<'_, Result<TemplateId, StoreError>> {
        self.run(|inner| async move { inner.register_template(&template).await })
    }

    fn templates(
        &self,
        after: Option<TemplateId>,
    ) -> BoxFuture<'_, Result<Vec<(TemplateId, TaskTemplate)>, StoreError>> {
        self.run(|inner| async move { inner.templates(after).await })
    }

    fn template(&self, id: TemplateId) -> BoxFuture<'_, Result<TaskTemplate, StoreError>> {
        self.run(|inner| async move { inner.template(id).await })
    }

    fn register_worker(&self, worker: WorkerRecord) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(|inner| async move { inner.register_worker(worker).await })
    }

    fn workers(&self, since: Timestamp) -> BoxFuture<'_, Result<Vec<WorkerRecord>, StoreError>> {
        self.run(|inner| async move { inner.workers(since).await })
    }

    fn create(
        &self,
        tasks: Vec<NewTask>,
        budget: Option<ClaimBudget>,
    ) -> BoxFuture<'_, Result<(Vec<Created>, Progress), StoreError>> {
        self.run(|inner| async move { inner.create(tasks, budget).await })
    }

    fn claim(&self, budget: ClaimBudget) -> BoxFuture<'_, Result<Progress, StoreError>> {
        self.run(|inner| async move { inner.claim(budget).await })
    }

    fn complete(
        &self,
        worker: WorkerId,
        completions: Vec<Completion>,
        budget: Option<ClaimBudget>,
    ) -> BoxFuture<'_, Result<(Vec<Recorded>, Progress), StoreError>> {
        self.run(|inner| async move { inner.complete(worker, completions, budget).await })
    }

    fn subtasks(
        &self,
        step: StepKey,
        from: u32,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<SubtaskRecord>, StoreError>> {
        self.run(|inner| async move { inner.subtasks(step, from, limit).await })
    }

    fn aftermaths(
        &self,
        templates: Vec<TemplateId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Aftermath>, StoreError>> {
        self.run(|inner| async move { inner.aftermaths(templates, limit).await })
    }

    fn end_aftermath(
        &self,
        task_id: TaskId,
        since: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(|inner| async move { inner.end_aftermath(task_id, since).await })
    }

    fn heartbeat(
        &self,
        worker: WorkerId,
        leases: Vec<Lease>,
        lease_ms: u64,
    ) -> BoxFuture<'_, Result<Vec<Lease>, StoreError>> {
        self.run(|inner| async move { inner.heartbeat(worker, leases, lease_ms).await })
    }

    fn note_progress(
        &self,
        worker: WorkerId,
        notes: Vec<(Lease, StepProgress)>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(|inner| async move { inner.note_progress(worker, notes).await })
    }

    fn held(
        &self,
        worker: WorkerId,
        runnable: Arc<[Runnable]>,
    ) -> BoxFuture<'_, Result<Vec<ClaimedStep>, StoreError>> {
        self.run(|inner| async move { inner.held(worker, runnable).await })
    }

    fn operate(
        &self,
        task_id: TaskId,
        order: Order,
        actor: String,
    ) -> BoxFuture<'_, Result<TaskState, StoreError>> {
        self.run(|inner| async move { inner.operate(task_id, order, actor).await })
    }

    fn signal(
        &self,
        task_id: TaskId,
        signal: Signal,
    ) -> BoxFuture<'_, Result<Signalled, StoreError>> {
        self.run(|inner| async move { inner.signal(task_id, signal).await })
    }

    fn task(&self, task_id: TaskId) -> BoxFuture<'_, Result<Option<TaskRecord>, StoreError>> {
        self.run(|inner| async move { inner.task(task_id).await })
    }

    fn task_detail(
        &self,
        task_id: TaskId,
    ) -> BoxFuture<'_, Result<Option<TaskDetail>, StoreError>> {
        self.run(|inner| async move { inner.task_detail(task_id).await })
    }

    fn tasks(
        &self,
        filter: TaskFilter,
        page: Page,
    ) -> BoxFuture<'_, Result<Vec<TaskSummary>, StoreError>> {
        self.run(|inner| async move { inner.tasks(filter, page).await })
    }

    fn delete_finished(
        &self,
        expired: Expired,
        after: Option<TaskId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Deleted, StoreError>> {
        self.run(|inner| async move { inner.delete_finished(expired, after, limit).await })
    }

    fn queues(&self) -> BoxFuture<'_, Result<Vec<QueueRecord>, StoreError>> {
        self.run(|inner| async move { inner.queues().await })
    }

    fn system_health(&self) -> BoxFuture<'_, Result<SystemHealth, StoreError>> {
        self.run(|inner| async move { inner.system_health().await })
    }

    fn analytics(&self, since: Option<Timestamp>) -> BoxFuture<'_, Result<Analytics, StoreError>> {
        self.run(|inner| async move { inner.analytics(since).await })
    }

    fn slowest_tasks(&self, among: Slowest) -> BoxFuture<'_, Result<Vec<SlowTask>, StoreError>> {
        self.run(|inner| async move { inner.slowest_tasks(among).await })
    }

    fn slowest_steps(&self, among: Slowest) -> BoxFuture<'_, Result<Vec<SlowStep>, StoreError>> {
        self.run(|inner| async move { inner.slowest_steps(among).await })
    }

    fn set_queue_limit(
        &self,
        queue: Queue,
        limit: Option<u32>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(|inner| async move { inner.set_queue_limit(queue, limit).await })
    }

    /// A look costs a round trip here: nodes ring instead.
    fn change_mark(&self) -> Option<u64> {
        None
    }

    fn rung(&self) -> BoxFuture<'static, ()> {
        self.0.bell.rung()
    }

    fn local(&self) -> Option<Arc<dyn Store>> {
        let inner = &self.0;
        let connections = match inner.connections.local() {
            Ok(connections) => connections,
            Err(error) => {
                tracing::warn!(%error, "the engine cannot have connections of its own");
                return None;
            }
        };
        Some(Arc::new(PostgresStore(Arc::new(Inner {
            connections: Arc::new(connections),
            given: inner.given.clone(),
            clock: inner.clock.clone(),
            templates: inner.templates.clone(),
            looks: inner.looks.clone(),
            bell: inner.bell.clone(),
        }))))
    }

    fn statements(&self) -> u64 {
        self.0.connections.statements()
    }
}
