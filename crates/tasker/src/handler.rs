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
use tasker_model::name::{Namespace, Queue, SignalName, StepName, TaskName, Version};
use tasker_model::outcome::{Failure, FailureKind, Outcome};
use tasker_model::retry::Backoff;
use tasker_model::template::{StepTemplate, TaskTemplate, TemplateSource};
use tasker_model::trigger::TriggerRule;
use tasker_model::wait::WaitFor;

use crate::error::{Error, HandlerProblem, InvalidHandler};

pub use context::StepContext;
pub use error::{NonRetryableError, PermanentError, RetryableError, StepError};

/// What a step handler returns: its result, or why there is none.
pub type StepResult<T> = Result<T, StepError>;

/// A step handler behind one type: from the context of an attempt to its outcome.
pub(crate) type StepHandler = Arc<dyn Fn(StepContext) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// The handler of steps that send a request.
pub(crate) const HTTP: &str = "tasker.http";
/// The handler of steps that run a program.
pub(crate) const COMMAND: &str = "tasker.command";
/// The handler of steps that only wait: it completes with what came with the signal, if any.
pub(crate) const PASS: &str = "tasker.pass";

/// The code of [`PASS`].
pub(crate) fn pass() -> StepHandler {
    Arc::new(|context: StepContext| {
        let came = context.signal_json().cloned();
        let result = came.unwrap_or_else(|| Json::from_stored("null"));
        futures_util::future::ready(Outcome::Completed { result }).boxed()
    })
}

/// One step of a task handler: its name, its code, and how it is run.
pub struct Step {
    name: String,
    handler: StepHandler,
    configure: StepTemplate,
    signal: Option<Awaited>,
    /// The handler of a step that needs no code.
    built_in: Option<&'static str>,
}

/// The signal that a step waits for, before its name is checked.
struct Awaited {
    name: String,
    timeout: Option<Duration>,
    default: Option<Value>,
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
            signal: None,
            built_in: None,
        }
    }

    /// A step that needs no code, because it only waits: for a time, a signal, or its parents. Its
    /// result is what came with the signal, if any.
    pub fn pass(name: impl Into<String>) -> Step {
        Step::built_in(name, PASS, None)
    }

    fn built_in(name: impl Into<String>, handler: &'static str, config: Option<Value>) -> Step {
        let step = Step::new(name, |_| async { Ok(()) });
        Step {
            configure: StepTemplate {
                handler_config: config,
                ..step.configure
            },
            built_in: Some(handler),
            ..step
        }
    }

    /// A step that sends a request; see the page about steps without code for what it can be told.
    pub fn http(name: impl Into<String>, config: Value) -> Step {
        Step::built_in(name, HTTP, Some(config))
    }

    /// A step that runs a program; see the page about steps without code for what it can be told.
    pub fn command(name: impl Into<String>, config: Value) -> Step {
        Step::built_in(name, COMMAND, Some(config))
    }

    /// What the code is told beside the task's context and the parents' results:
    /// [`StepContext::config`].
    pub fn config(mut self, config: Value) -> Step {
        self.configure.handler_config = Some(config);
        self
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

    /// Which ends of its parents it starts on; without this, it starts when none has failed.
    pub fn trigger_rule(mut self, rule: TriggerRule) -> Step {
        self.configure.trigger_rule = rule;
        self
    }

    /// A condition in CEL over `context` and `results`; if it is false, the step is skipped.
    pub fn when(mut self, condition: impl Into<String>) -> Step {
        self.configure.when = Some(condition.into());
        self
    }

    /// Starts so long after its parents have ended. Waiting holds no slot, and survives everything.
    pub fn delay(mut self, delay: Duration) -> Step {
        let delay_ms = milliseconds(delay);
        self.configure.wait = Some(WaitFor::Delay { delay_ms });
        self
    }

    /// Does not start before a time, in RFC 3339, or an expression in CEL that gives it.
    pub fn until(mut self, time: impl Into<String>) -> Step {
        self.configure.wait = Some(WaitFor::Until { time: time.into() });
        self
    }

    /// Waits for a signal, which [`Tasker::signal`](crate::Tasker::signal) sends; what comes with it
    /// is read by [`StepContext::signal`]. Waiting holds no slot, and survives everything.
    pub fn wait_for(mut self, signal: impl Into<String>) -> Step {
        self.signal = Some(Awaited {
            name: signal.into(),
            timeout: None,
            default: None,
        });
        self
    }

    /// Waits for a signal, and fails permanently if it does not come in time, with the code
    /// `SIGNAL_TIMEOUT`.
    pub fn wait_for_within(mut self, signal: impl Into<String>, timeout: Duration) -> Step {
        self.signal = Some(Awaited {
            name: signal.into(),
            timeout: Some(timeout),
            default: None,
        });
        self
    }

    /// Waits for a signal, and goes on with a default if it does not come in time.
    pub fn wait_for_or(
        mut self,
        signal: impl Into<String>,
        timeout: Duration,
        default: Value,
    ) -> Step {
        self.signal = Some(Awaited {
            name: signal.into(),
            timeout: Some(timeout),
            default: Some(default),
        });
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
        self.configure.timeout_ms = Some(milliseconds(timeout));
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

impl Awaited {
    fn check(self, problems: &mut Vec<HandlerProblem>) -> Option<WaitFor> {
        Some(WaitFor::Signal {
            name: keep(SignalName::new(&self.name), problems)?,
            timeout_ms: self.timeout.map(milliseconds),
            default: self.default,
        })
    }
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
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
            let wait = match step.signal {
                None => step.configure.wait,
                Some(signal) => signal.check(&mut problems),
            };
            if let Some(name) = keep(StepName::new(&step.name), &mut problems) {
                let handler = step.built_in.map_or(step.name, str::to_owned);
                if step.built_in.is_none() {
                    handlers.push((handler.clone(), step.handler));
                }
                steps.push(StepTemplate {
                    handler,
                    name,
                    wait,
                    ..step.configure
                });
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
        let deadline_ms = self.deadline.map(milliseconds);
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
