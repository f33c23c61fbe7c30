//! A task as the library hands it out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tasker_model::dag::Dag;
use tasker_model::id::{Position, TaskId};
use tasker_model::json::Json;
use tasker_model::outcome::Failure;
use tasker_model::step::StepState;
use tasker_model::task::TaskState;
use tasker_model::transition::Change;
use tasker_store::Store;
use tasker_store::record::TaskDetail;
use tokio::sync::{mpsc, oneshot};

use crate::error::Error;
use crate::execute::until;
use crate::worker::Message;

/// How often a task that another process may finish is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A task, with its state as last seen. Cheap to clone.
#[derive(Clone)]
pub struct Task {
    id: TaskId,
    state: TaskState,
    store: Arc<dyn Store>,
    engine: mpsc::UnboundedSender<Message>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task")
            .field("id", &self.id)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// One step of a task, with its result.
#[derive(Debug, Clone, Serialize)]
pub struct WorkflowStep {
    /// Its name.
    pub name: String,
    /// The word for its state (spec 16): pending, running, completed, failed, cancelled, skipped.
    pub status: &'static str,
    /// Its state.
    pub state: StepState,
    /// Attempts made.
    pub attempts: u32,
    /// What it produced.
    pub result: Option<Value>,
    /// For a step that failed: what its last failure said.
    pub error: Option<String>,
}

impl WorkflowStep {
    /// The result as a type; `None` if there is no result.
    pub fn result_as<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        let read = self.result.clone().map(serde_json::from_value).transpose();
        read.map_err(|error| Error::NotJson(Arc::new(error)))
    }
}

impl Task {
    pub(crate) fn new(
        id: TaskId,
        state: TaskState,
        store: Arc<dyn Store>,
        engine: mpsc::UnboundedSender<Message>,
    ) -> Task {
        Task {
            id,
            state,
            store,
            engine,
        }
    }

    /// Its id.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// The word for its state as last seen: `pending`, `running`, `completed`, `failed` or
    /// `cancelled`.
    pub fn status(&self) -> &'static str {
        self.state.status()
    }

    /// Its state as last seen.
    pub fn state(&self) -> TaskState {
        self.state
    }

    /// Whether a person declared it done: then `status` is `completed`, too.
    pub fn manually_resolved(&self) -> bool {
        self.state == TaskState::ResolvedManually
    }

    /// Looks at the store again.
    pub async fn refresh(&mut self) -> Result<TaskState, Error> {
        let found = self
            .store
            .task(self.id)
            .await?
            .ok_or(Error::NoSuchTask(self.id))?;
        self.state = found.summary.state;
        Ok(self.state)
    }

    /// Its steps, parents before children.
    pub async fn workflow_steps(&self) -> Result<Vec<WorkflowStep>, Error> {
        let detail = self.detail().await?;
        let templates = self.store.template(detail.task.template).await?;
        steps_in_order(&detail, templates.dag())
    }

    /// The task with steps and record, as stored.
    pub async fn detail(&self) -> Result<TaskDetail, Error> {
        self.store
            .task_detail(self.id)
            .await?
            .ok_or(Error::NoSuchTask(self.id))
    }

    /// Waits until the task is final, or the time is over; gives its state then.
    ///
    /// Tasks that this process finishes are noticed at once, those of other processes within a
    /// second. While the store cannot be reached, the wait goes on until the time is over.
    pub async fn wait(&mut self, deadline: Option<Duration>) -> Result<TaskState, Error> {
        let (told, tell) = oneshot::channel();
        // The engine may have stopped; then the looks at the store are what remains.
        let _ = self.engine.send(Message::Watch(self.id, told));
        match self.refresh().await {
            Ok(state) if !state.is_final() => self.wait_for(tell, deadline).await,
            Err(error) if error.is_transient() => self.wait_for(tell, deadline).await,
            ended => ended,
        }
    }

    /// Waits until the engine tells, or a look at the store shows, that the task is final.
    ///
    /// The engine may never tell: another process may finish the task, or the answer that says so
    /// may be lost.
    pub(crate) async fn wait_for(
        &mut self,
        mut tell: oneshot::Receiver<TaskState>,
        deadline: Option<Duration>,
    ) -> Result<TaskState, Error> {
        let clock = self.store.clock();
        let end = deadline.map(|deadline| until(clock.now(), deadline));
        let mut told = true;
        loop {
            let look = until(clock.now(), LOOK_EVERY);
            tokio::select! {
                biased;
                state = &mut tell, if told => match state {
                    Ok(state) => {
                        self.state = state;
                        return Ok(state);
                    }
                    Err(_) => told = false,
                },
                () = clock.sleep_until(end.map_or(look, |end| end.min(look))) => {}
            }
            let is_over = end.is_some_and(|end| end <= clock.now());
            match self.refresh().await {
                Ok(state) if is_over || state.is_final() => return Ok(state),
                Ok(_) => {}
                Err(error) if !is_over && error.is_transient() => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn steps_in_order(detail: &TaskDetail, dag: &Dag) -> Result<Vec<WorkflowStep>, Error> {
    let mut order: Vec<Position> = dag.order().to_vec();
    order.sort_by_key(|position| (dag.level(*position), *position));
    let failures = last_failures(detail);
    let steps = order.into_iter().map(|position| {
        let step = &detail.steps[position as usize];
        let result = step.result.as_ref().map(Json::read).transpose();
        Ok(WorkflowStep {
            name: step.name.as_str().to_owned(),
            status: step.state.status(),
            state: step.state,
            attempts: step.attempts,
            result: result.map_err(|error| Error::NotJson(Arc::new(error)))?,
            error: failures
                .get(&position)
                .map(|failure| failure.message.clone()),
        })
    });
    steps.collect()
}

/// The last failure of every step that has failed.
fn last_failures(detail: &TaskDetail) -> HashMap<Position, &Failure> {
    let mut failures = HashMap::new();
    for transition in &detail.transitions {
        if let (Change::Step { position, .. }, Some(failure)) =
            (transition.change, &transition.failure)
            && detail.steps[position as usize].state == StepState::Error
        {
            failures.insert(position, failure);
        }
    }
    failures
}

/// The place of a step that a person names.
pub async fn step_position(store: &dyn Store, task_id: TaskId, step: &str) -> Result<u32, Error> {
    let task = store
        .task(task_id)
        .await?
        .ok_or(Error::NoSuchTask(task_id))?;
    let template = store.template(task.template).await?;
    template.position(step).ok_or_else(|| {
        let steps = &template.source().steps;
        let known = steps
            .iter()
            .map(|step| step.name.as_str().to_owned())
            .collect();
        Error::NoSuchStep {
            task_id,
            step: step.to_owned(),
            known,
        }
    })
}
