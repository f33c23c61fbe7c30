//! What a user writes: step handlers, their errors, and the task handler that ties them together.

pub mod error;
pub(crate) mod log;
pub mod context;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;
use tasker_model::json::Json;
use tasker_model::name::{Namespace, Queue, StepName, TaskName, Version};
use tasker_model::outcome::{Failure, FailureKind, Outcome};
use tasker_model::retry::Backoff;
use tasker_model::template::{StepTemplate, TaskTemplate, TemplateSource};

use crate::error::{Error, HandlerProblem, InvalidHandler};

pub use context::StepContext;
pub use error::{NonRetryableError, PermanentError, RetryableError, StepError};

/// What a step handler returns: its result, or why there is none.
pub type StepResult<T> = Result<T, StepError>;

/// A step handler behind one type: from the context of an attempt to its outcome.
pub(crate) type StepHandler = Arc<dyn Fn(StepContext) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// One step of a task handler: its name, its code, and how it is run.
pub struct Step {
    name: String,
    handler: StepHandler,
    configure: StepTemplate,
}

impl Step {
    /// A step without dependencies, performed by an async function, with the default policies:
    /// three attempts with exponential backoff.
    pub fn new<F, R, T>(name: impl Into<String>, handler: F) -> Step
    where
        F: Fn(StepContext) -> R + Send + Sync + 'static,
        R: Future<Output = StepResult<T>> + Send + 'static,
        T: Serialize + Send + 'static,
    {
        let handler: StepHandler = Arc::new(move |context| {
            let running = handler(context);
            async move { outcome(running.await) }.boxed()
        });
        let placeholder = StepName::new("step").expect("invariant: a valid name");
        Step {
            name: name.into(),
            handler,
            configure: StepTemplate::named(placeholder),
        }
    }

    /// Its code alone.
    pub(crate) fn into_code(self) -> StepHandler {
        self.handler
    }

    /// Says what the step does, for people.
    pub fn description(mut self, text: impl Into<String>) -> Step {
        self.configure.description = text.into();
        self
    }

    /// Waits for another step. May be called several times.
    pub fn depends_on_step(mut self, name: impl Into<String>) -> Step {
        self.configure.depends_on_steps.push(name.into());
        self
    }

    /// Waits for several other steps.
    pub fn depends_on_steps<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Step {
        self.configure
            .depends_on_steps
            .extend(names.into_iter().map(Into::into));
        self
    }

    /// `false`: one attempt only.
    pub fn retryable(mut self, retryable: bool) -> Step {
        self.configure.retry.retryable = retryable;
        self
    }

    /// The largest number of attempts, the first included.
    pub fn retry_limit(mut self, attempts: u32) -> Step {
        self.configure.retry.limit = attempts;
        self
    }

    /// How long to wait between attempts.
    pub fn backoff(mut self, backoff: Backoff) -> Step {
        self.configure.retry.backoff = backoff;
        self
    }

    /// The longest time of one attempt; then it is stopped and counts as failed, retryably.
    pub fn timeout(mut self, timeout: Duration) -> Step {
        self.configure.timeout_ms = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Whether a request may bypass the step.
    pub fn skippable(mut self, skippable: bool) -> Step {
        self.configure.skippable = skippable;
        self
    }

    /// Where workers claim the step, instead of the task's queue.
    pub fn queue(mut self, queue: Queue) -> Step {
        self.configure.queue = Some(queue);
        self
    }

    /// Label of the outside system that the step touches.
    pub fn dependent_system(mut self, name: impl Into<String>) -> Step {
        self.configure.dependent_system = Some(name.into());
        self
    }
}

/// What a handler returned, as the outcome of its attempt.
fn outcome<T: Serialize>(returned: StepResult<T>) -> Outcome {
    match returned {
        Ok(value) => match Json::of(&value) {
            Ok(result) => Outcome::Completed { result },
            Err(error) => {
                let message = format!("the result cannot be written as JSON: {error}");
                Outcome::Failed(Failure::new(FailureKind::ResultRefused, message))
            }
        },
        Err(error) => Outcome::Failed(error.into_failure()),
    }
}

/// A workflow: its definition and the code of its steps. Cheap to clone.
#[derive(Clone)]
pub struct TaskHandler {
    pub(crate) template: TaskTemplate,
    /// By the handler names of the definition.
    pub(crate) steps: Arc<[(String, StepHandler)]>,
}

impl std::fmt::Debug for TaskHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TaskHandler")
            .field(&self.template.full_name())
            .finish()
    }
}

impl TaskHandler {
    /// Begins the definition of a task handler.
    #[expect(
        clippy::new_ret_no_self,
        reason = "the definition is checked as a whole, by build"
    )]
    pub fn new(
        namespace: impl Into<String>,
        name: impl Into<String>,
        version: impl Into<String>,
    ) -> Definition {
        Definition {
            namespace: namespace.into(),
            name: name.into(),
            version: version.into(),
            description: String::new(),
            schema: None,
            deadline: None,
            queue: None,
            steps: Vec::new(),
        }
    }

    /// A definition that was checked, with the code for the handler names of its steps.
    pub(crate) fn from_parts(
        template: TaskTemplate,
        steps: Vec<(String, StepHandler)>,
    ) -> TaskHandler {
        let steps = steps.into();
        TaskHandler { template, steps }
    }

    /// The definition.
    pub fn template(&self) -> &TaskTemplate {
        &self.template
    }

    /// The code behind a handler name.
    pub(crate) fn step_handler(&self, name: &str) -> Option<&StepHandler> {
        self.steps
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, handler)| handler)
    }
}

/// A task handler that is being defined.
pub struct Definition {
    namespace: String,
    name: String,
    version: String,
    description: String,
    schema: Option<Value>,
    deadline: Option<Duration>,
    queue: Option<Queue>,
    steps: Vec<Step>,
}

impl Definition {
    /// Says what the task does, for people.
    pub fn description(mut self, text: impl Into<String>) -> Definition {
        self.description = text.into();
        self
    }

    /// The JSON schema of the context. Members marked `"x-secret": true` are never shown.
    pub fn schema(mut self, schema: Value) -> Definition {
        self.schema = Some(schema);
        self
    }

    /// The longest time from the creation to the end of a whole task.
    pub fn deadline(mut self, deadline: Duration) -> Definition {
        self.deadline = Some(deadline);
        self
    }

    /// Where workers claim its steps, instead of the namespace.
    pub fn queue(mut self, queue: Queue) -> Definition {
        self.queue = Some(queue);
        self
    }

    /// Adds a step.
    pub fn step(mut self, step: Step) -> Definition {
        self.steps.push(step);
        self
    }

    /// Checks the definition as a whole; the error names everything that is wrong with it.
    pub fn build(self) -> Result<TaskHandler, Error> {
        let full_name = format!("{}.{}@{}", self.namespace, self.name, self.version);
        let mut problems = Vec::new();
        let namespace = keep(Namespace::new(&self.namespace), &mut problems);
        let name = keep(TaskName::new(&self.name), &mut problems);
        let version = keep(self.version.parse::<Version>(), &mut problems);
        let mut steps = Vec::with_capacity(self.steps.len());
        let mut handlers = Vec::with_capacity(self.steps.len());
        for step in self.steps {
            if let Some(name) = keep(StepName::new(&step.name), &mut problems) {
                steps.push(StepTemplate {
                    handler: step.name.clone(),
                    name,
                    ..step.configure
                });
                handlers.push((step.name, step.handler));
            }
        }
        let (Some(namespace), Some(name), Some(version), []) =
            (namespace, name, version, problems.as_slice())
        else {
            return Err(InvalidHandler {
                full_name,
                problems,
            }
            .into());
        };
        let (description, schema, queue) = (self.description, self.schema, self.queue);
        let deadline_ms = self
            .deadline
            .map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
        let source = TemplateSource {
            namespace,
            name,
            version,
            description,
            schema,
            deadline_ms,
            queue,
            steps,
        };
        match TaskTemplate::new(source) {
            Ok(template) => Ok(TaskHandler {
                template,
                steps: handlers.into(),
            }),
            Err(invalid) => {
                let problems = vec![HandlerProblem::Template(invalid)];
                Err(InvalidHandler {
                    full_name,
                    problems,
                }
                .into())
            }
        }
    }
}

/// The value, or one problem more.
fn keep<T, E: Into<HandlerProblem>>(
    checked: Result<T, E>,
    problems: &mut Vec<HandlerProblem>,
) -> Option<T> {
    checked
        .map_err(|problem| problems.push(problem.into()))
        .ok()
}
