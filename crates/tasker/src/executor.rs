//! From a request to a task.

use std::sync::Arc;
use std::time::Duration;

use tasker_model::id::TaskId;
use tasker_model::identity::IdentityStrategy;
use tasker_model::request::TaskRequest;
use tasker_model::task::TaskState;
use tasker_store::Store;
use tasker_store::sqlite::rusqlite::Connection;
use tasker_store::store::{Created, NewTask};
use tokio::sync::{mpsc, oneshot};

use crate::error::Error;
use crate::registry::Registry;
use crate::task::Task;
use crate::worker::{Creation, Message};

/// Creates tasks. Cheap to clone.
#[derive(Clone)]
pub struct TaskExecutor {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) identity: IdentityStrategy,
    pub(crate) context_bytes_max: usize,
    pub(crate) engine: mpsc::UnboundedSender<Message>,
}

impl TaskExecutor {
    /// Creates a task and returns at once, when it is durable.
    ///
    /// A request with a known idempotency key gives the task of the first request.
    pub async fn execute_async(&self, request: TaskRequest) -> Result<Task, Error> {
        let mut created = self.create(vec![self.prepare(request)?], None).await?;
        self.accept(&created.pop().expect("invariant: one answer per task"))
    }

    /// Creates a task and waits until it is final, or until the deadline is over; the task's
    /// status says which.
    pub async fn execute_sync(
        &self,
        request: TaskRequest,
        deadline: Option<Duration>,
    ) -> Result<Task, Error> {
        let (told, tell) = oneshot::channel();
        let mut created = self
            .create(vec![self.prepare(request)?], Some(told))
            .await?;
        let created = created.pop().expect("invariant: one answer per task");
        let is_new = matches!(created, Created::New(_));
        let mut task = self.accept(&created)?;
        if is_new {
            task.wait_for(tell, deadline).await?;
        } else {
            task.wait(deadline).await?;
        }
        Ok(task)
    }

    /// Creates many tasks in one transaction; all of them or, on an error, none.
    ///
    /// The answers stand in the order of the requests.
    pub async fn execute_all(&self, requests: Vec<TaskRequest>) -> Result<Vec<Task>, Error> {
        let tasks = requests.into_iter().map(|request| self.prepare(request));
        let created = self.create(tasks.collect::<Result<_, _>>()?, None).await?;
        created
            .into_iter()
            .map(|created| self.accept(&created))
            .collect()
    }

    /// Creates a task inside a transaction that the caller has begun on its own connection to the
    /// same SQLite file: the task exists if and only if the caller commits.
    ///
    /// Workers notice it within a fraction of a second after the commit; call
    /// [`TaskExecutor::look`] then to start it at once.
    pub fn create_in(
        &self,
        connection: &Connection,
        request: TaskRequest,
    ) -> Result<TaskId, Error> {
        let task = self.prepare(request)?;
        let created = tasker_store::sqlite::create_in(connection, &task, &self.store.clock())?;
        Ok(self.accept(&created)?.id())
    }

    /// Tells the engine of this process that something may be due.
    pub fn look(&self) {
        // An engine that has stopped looks no more.
        let _ = self.engine.send(Message::Look);
    }

    /// A task that exists.
    pub async fn task(&self, id: TaskId) -> Result<Task, Error> {
        let found = self.store.task(id).await?.ok_or(Error::NoSuchTask(id))?;
        Ok(self.handle(id, found.summary.state))
    }

    fn handle(&self, id: TaskId, state: TaskState) -> Task {
        Task::new(id, state, self.store.clone(), self.engine.clone())
    }

    /// Finds the handler and checks the request against it.
    fn prepare(&self, mut request: TaskRequest) -> Result<NewTask, Error> {
        let requested_at = request
            .requested_at
            .unwrap_or_else(|| self.store.clock().now());
        request.requested_at = Some(requested_at);
        let request = self.registry.prepare(request, self.context_bytes_max)?;
        let identity = self.identity.of(&request, requested_at);
        Ok(NewTask {
            task_id: TaskId::from_uuid(uuid::Uuid::now_v7()),
            request,
            identity,
            origin: None,
        })
    }

    async fn create(
        &self,
        tasks: Vec<NewTask>,
        watch: Option<oneshot::Sender<TaskState>>,
    ) -> Result<Vec<Created>, Error> {
        let (reply, answer) = oneshot::channel();
        let creation = Message::Create(Creation {
            tasks,
            watch,
            reply,
        });
        self.engine.send(creation).map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }

    fn accept(&self, created: &Created) -> Result<Task, Error> {
        match created {
            Created::New(id) | Created::Existing(id) => Ok(self.handle(*id, TaskState::Pending)),
            Created::Duplicate(id) => Err(Error::Duplicate(*id)),
            Created::Unwanted(id) => Err(Error::NoSuchTask(*id)),
        }
    }
}
