//! The engine of one process: started, asked, stopped.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tasker_model::id::{TaskId, WorkerId};
use tasker_model::json::Json;
use tasker_model::task::TaskState;
use tasker_store::record::WorkerRecord;
use tasker_store::store::{Order, Signalled};
use tasker_store::{Clock, Store, StoreError, SystemClock};
use tokio::sync::{mpsc, oneshot};

use crate::error::Error;
use crate::events::{Events, Publisher};
use crate::executor::TaskExecutor;
use crate::handler::TaskHandler;
use crate::health::{self, Health};
use crate::options::Options;
use crate::registry::Registry;
use crate::retention::Sweeper;
use crate::signal;
use crate::steps::programs_ended;
use crate::task::step_position;
use crate::worker::{Message, Parts, Thread, Worker, random_worker_id};

/// How long an engine that stops waits for programs that were killed.
const PROGRAMS_END_WITHIN: Duration = Duration::from_secs(10);

/// How the engine of a process is put together.
pub struct Builder {
    url: String,
    store: Option<Arc<dyn Store>>,
    clock: Arc<dyn Clock>,
    worker_id: WorkerId,
    options: Options,
    handlers: Vec<TaskHandler>,
}

impl Builder {
    /// Uses a store that is open already, instead of opening the URL.
    pub fn store(mut self, store: Arc<dyn Store>) -> Builder {
        self.store = Some(store);
        self
    }

    /// Makes a task handler known to this process.
    pub fn register(mut self, handler: TaskHandler) -> Builder {
        self.handlers.push(handler);
        self
    }

    /// Sets limits.
    pub fn options(mut self, options: Options) -> Builder {
        self.options = options;
        self
    }

    /// Gives the worker this id instead of a random one; for tests that replay.
    pub fn worker_id(mut self, worker_id: WorkerId) -> Builder {
        self.worker_id = worker_id;
        self
    }

    /// Opens the store by this clock instead of the system's; for tests.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Builder {
        self.clock = clock;
        self
    }

    /// Opens the store, registers the task handlers, and starts the engine.
    ///
    /// Step handlers run on the tokio runtime that this is called on; the engine itself runs on a
    /// thread of its own, so that no handler can hold it up.
    pub async fn start(self) -> Result<Tasker, Error> {
        let (mut tasker, worker, ended) = self.assemble(Thread::Own).await?;
        tasker.thread = Some(spawn(worker, ended)?);
        Ok(tasker)
    }

    /// Like [`Builder::start`], but gives the engine's loop to the caller instead of a thread: for
    /// simulations, where everything happens on one thread, in one order.
    ///
    /// Nothing happens unless the future is polled on the runtime that this is called on. To drop
    /// it before its end is what the death of the process would be.
    pub async fn start_here(self) -> Result<(Tasker, impl Future<Output = ()> + Send), Error> {
        let (tasker, worker, ended) = self.assemble(Thread::Shared).await?;
        Ok((tasker, run(worker, ended)))
    }

    async fn assemble(
        self,
        thread: Thread,
    ) -> Result<(Tasker, Worker, oneshot::Sender<()>), Error> {
        self.options.check()?;
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let mut registry = Registry::default();
        let mut finder = Registry::default();
        for handler in self.handlers {
            finder.register(handler.clone())?;
            registry.register(handler)?;
        }
        let store = match self.store {
            Some(store) => store,
            None => tasker_store::open(&self.url, self.clock).await?,
        };
        // What the store knows need not be told again: with what follows from definitions there are many.
        let mut templates = store.templates(None).await?;
        let known: HashSet<_> = templates.iter().map(|(_, known)| known.hash()).collect();
        let mut own = registry.templates();
        own.retain(|template| !known.contains(&template.hash()));
        if !own.is_empty() {
            for template in own {
                store.register_template(template).await?;
            }
            // With those that others have told meanwhile: from here on, only what is newer is read.
            templates = store.templates(None).await?;
        }
        let record = worker_record(self.worker_id, &registry, &*store);
        store.register_worker(record.clone()).await?;
        let publisher = Publisher::new(self.options.event_buffer);
        let (engine, inbox) = mpsc::unbounded_channel();
        let finder = Arc::new(finder);
        let executor = TaskExecutor {
            store: store.clone(),
            registry: finder.clone(),
            identity: self.options.identity_strategy.clone(),
            context_bytes_max: self.options.context_bytes_max,
            engine: engine.clone(),
        };
        let grace = Duration::from_secs(self.options.shutdown_grace_seconds);
        let (options, events) = (self.options, publisher.clone());
        let sweeper = (!options.retention.is_empty())
            .then(|| Sweeper::start(&runtime, store.clone(), options.retention.clone()));
        let parts = Parts {
            store: store.clone(),
            registry,
            finder,
            options,
            publisher,
            record,
            templates,
            runtime,
            thread,
        };
        let worker = Worker::new(parts, inbox, engine.downgrade());
        let (ended, end) = oneshot::channel();
        let tasker = Tasker {
            store,
            executor,
            engine,
            events,
            grace,
            thread: None,
            end,
            _sweeper: sweeper,
        };
        Ok((tasker, worker, ended))
    }
}

fn worker_record(worker_id: WorkerId, registry: &Registry, store: &dyn Store) -> WorkerRecord {
    let now = store.clock().now();
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() {
        "unknown"
    } else {
        host.trim()
    };
    WorkerRecord {
        worker_id,
        host: host.to_owned(),
        pid: std::process::id(),
        handlers: registry
            .handlers()
            .iter()
            .map(|h| h.template.full_name())
            .collect(),
        started_at: now,
        seen_at: now,
        attempts: 0,
    }
}

fn spawn(worker: Worker, ended: oneshot::Sender<()>) -> Result<JoinHandle<()>, Error> {
    let cannot = |error| Error::from(StoreError::NoThread(error));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(cannot)?;
    std::thread::Builder::new()
        .name("tasker-engine".to_owned())
        .spawn(move || runtime.block_on(run(worker, ended)))
        .map_err(cannot)
}

async fn run(worker: Worker, ended: oneshot::Sender<()>) {
    worker.run().await;
    // Whoever stopped the engine may not wait for its end.
    let _ = ended.send(());
}

/// The engine of this process. Dropping it stops it without waiting; see [`Tasker::stop`].
pub struct Tasker {
    store: Arc<dyn Store>,
    executor: TaskExecutor,
    engine: mpsc::UnboundedSender<Message>,
    events: Publisher,
    grace: Duration,
    /// `None` if the loop runs on a thread of the caller's.
    thread: Option<JoinHandle<()>>,
    end: oneshot::Receiver<()>,
    /// Deletes old tasks for as long as this lives.
    _sweeper: Option<Sweeper>,
}

impl Tasker {
    /// Begins to put an engine together, on the store that a URL names: `sqlite:PATH`, or
    /// `sqlite::memory:` for one that ends with the process.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder {
            url: url.into(),
            store: None,
            clock: Arc::new(SystemClock),
            worker_id: random_worker_id(),
            options: Options::default(),
            handlers: Vec::new(),
        }
    }

    /// What creates tasks.
    pub fn executor(&self) -> TaskExecutor {
        self.executor.clone()
    }

    /// The store beneath.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Whether this process is ready for work: asks the store, and waits a second at most.
    pub async fn health(&self) -> Health {
        if self.engine.is_closed() {
            let reason = "the engine has stopped".to_owned();
            return Health::NotReady { reason };
        }
        health::of_store(&*self.store).await
    }

    /// Subscribes to events from now on.
    pub fn events(&self) -> Events {
        self.events.subscribe()
    }

    /// Stops a task: nothing more starts, and running handlers are told.
    pub async fn cancel_task(&self, task: TaskId, actor: &str) -> Result<TaskState, Error> {
        self.operate(task, Order::CancelTask, actor).await
    }

    /// Sends every failed step of a failed task round again.
    pub async fn retry_task(&self, task: TaskId, actor: &str) -> Result<TaskState, Error> {
        self.operate(task, Order::RetryTask, actor).await
    }

    /// Accepts a failed task as handled.
    pub async fn resolve_task(&self, task: TaskId, actor: &str) -> Result<TaskState, Error> {
        self.operate(task, Order::ResolveTask, actor).await
    }

    /// Stops a step and all that depend on it.
    pub async fn cancel_step(
        &self,
        task: TaskId,
        step: &str,
        actor: &str,
    ) -> Result<TaskState, Error> {
        let position = step_position(&*self.store, task, step).await?;
        self.operate(task, Order::CancelStep(position), actor).await
    }

    /// Sends a failed step round again, with at least this many attempts left.
    pub async fn retry_step(
        &self,
        task: TaskId,
        step: &str,
        attempts: u32,
        actor: &str,
    ) -> Result<TaskState, Error> {
        let position = step_position(&*self.store, task, step).await?;
        self.operate(task, Order::RetryStep { position, attempts }, actor)
            .await
    }

    /// Declares a step done, with the result that its children read.
    pub async fn resolve_step(
        &self,
        task: TaskId,
        step: &str,
        result: Option<&serde_json::Value>,
        actor: &str,
    ) -> Result<TaskState, Error> {
        let position = step_position(&*self.store, task, step).await?;
        let result = result.map(Json::of).transpose();
        let result = result.map_err(|error| Error::NotJson(Arc::new(error)))?;
        self.operate(task, Order::ResolveStep { position, result }, actor)
            .await
    }

    /// Declares a step not needed.
    pub async fn skip_step(
        &self,
        task: TaskId,
        step: &str,
        actor: &str,
    ) -> Result<TaskState, Error> {
        let position = step_position(&*self.store, task, step).await?;
        self.operate(task, Order::SkipStep(position), actor).await
    }

    /// Sends a signal to a task: steps that wait for it go on, and those that will wait find it.
    ///
    /// The first signal of a name counts, so that sending is safe to repeat.
    pub async fn signal(
        &self,
        task: TaskId,
        name: &str,
        payload: &serde_json::Value,
        actor: &str,
    ) -> Result<Signalled, Error> {
        let sent = signal::send(&*self.store, task, name, payload, actor).await?;
        // An engine that has stopped runs nothing that could be told.
        let _ = self.engine.send(Message::Look);
        Ok(sent)
    }

    /// Allows a step this many attempts in all.
    pub async fn raise_limit(
        &self,
        task: TaskId,
        step: &str,
        attempt_limit: u32,
        actor: &str,
    ) -> Result<TaskState, Error> {
        let position = step_position(&*self.store, task, step).await?;
        self.operate(
            task,
            Order::RaiseLimit {
                position,
                attempt_limit,
            },
            actor,
        )
        .await
    }

    async fn operate(&self, task: TaskId, order: Order, actor: &str) -> Result<TaskState, Error> {
        let state = self.store.operate(task, order, actor.to_owned()).await?;
        // An engine that has stopped runs nothing that could be told.
        let _ = self.engine.send(Message::CheckLeases);
        let _ = self.engine.send(Message::Look);
        Ok(state)
    }

    /// Stops the engine: nothing more is claimed, running attempts may finish within the grace of
    /// the options and are handed back after it. Everything that ended is recorded.
    pub async fn stop(self) -> Result<(), Error> {
        // If the loop has ended before, there is nothing to tell it.
        let _ = self.engine.send(Message::Stop(self.grace));
        // Dropped with the loop: an error means just that it has ended.
        drop(self.end.await);
        let Some(thread) = self.thread else {
            return Ok(());
        };
        let joined = thread.join().map_err(|_| Error::Stopped);
        // A program that ignores its end outlives the process otherwise.
        let ended = tokio::task::spawn_blocking(|| programs_ended(PROGRAMS_END_WITHIN)).await;
        if !ended.unwrap_or(false) {
            tracing::warn!("programs of steps did not end in time");
        }
        joined
    }
}
