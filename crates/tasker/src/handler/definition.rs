//! Task handlers, and how they are defined.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tasker_model::json::Json;
use tasker_model::name::{Namespace, Queue, StepName, TaskName, Version};
use tasker_model::request::TaskRequest;
use tasker_model::template::{StepTemplate, TaskTemplate, TemplateSource};

use super::argument::Arguments;
use super::context::StepContext;
use super::error::PermanentError;
use super::reference::{Definer, Named, StepRef};
use super::state::States;
use super::step::{Plan, Step, StepCode, Typed, milliseconds};
use super::wiring;
use crate::error::{Error, HandlerProblem, InvalidHandler};

/// Changes a request before it is checked.
pub(crate) type Prepare = Arc<dyn Fn(&mut TaskRequest) -> Result<(), String> + Send + Sync>;

/// Notes something about a task when a step of it is complete.
pub(crate) type Annotate =
    Arc<dyn Fn(&StepContext, &Json) -> Result<(), PermanentError> + Send + Sync>;

/// A workflow: its definition and the code of its steps. Cheap to clone.
#[derive(Clone)]
pub struct TaskHandler {
    pub(crate) template: TaskTemplate,
    /// By the handler names of the definition.
    pub(crate) steps: Arc<[(String, StepCode)]>,
    pub(crate) prepare: Option<Prepare>,
    pub(crate) annotate: Option<Annotate>,
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
        let (namespace, name, version) = (namespace.into(), name.into(), version.into());
        Definition {
            definer: format!("{namespace}.{name}@{version}").into(),
            namespace,
            name,
            version,
            description: String::new(),
            schema: None,
            deadline: None,
            queue: None,
            steps: Vec::new(),
            states: States::default(),
            prepare: None,
            annotate: None,
            problems: Vec::new(),
        }
    }

    /// A definition that was checked, with the code for the handler names of its steps.
    pub(crate) fn from_parts(
        template: TaskTemplate,
        steps: Vec<(String, StepCode)>,
    ) -> TaskHandler {
        TaskHandler {
            template,
            steps: steps.into(),
            prepare: None,
            annotate: None,
        }
    }

    /// The definition.
    pub fn template(&self) -> &TaskTemplate {
        &self.template
    }

    /// The code behind a handler name.
    pub(crate) fn step_code(&self, name: &str) -> Option<&StepCode> {
        self.steps
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, code)| code)
    }
}

/// A task handler that is being defined.
pub struct Definition {
    definer: Definer,
    namespace: String,
    name: String,
    version: String,
    description: String,
    schema: Option<Value>,
    deadline: Option<Duration>,
    queue: Option<Queue>,
    steps: Vec<Step>,
    states: States,
    pub(super) prepare: Option<Prepare>,
    pub(super) annotate: Option<Annotate>,
    problems: Vec<HandlerProblem>,
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

    /// Shares a value with the steps, which take clones of it as [`State<S>`](super::State): a
    /// connection pool, a client, a configuration. One value of each type.
    pub fn state<S: Clone + Send + Sync + 'static>(mut self, state: S) -> Definition {
        if !self.states.insert(state) {
            let state = std::any::type_name::<S>();
            self.problems.push(HandlerProblem::StateTwice { state });
        }
        self
    }

    /// Adds a step and gives a reference to it, by which others come after it.
    ///
    /// The arguments of its function are checked by the compiler, against what was named in
    /// [`Step::after`].
    pub fn add<A, V, Results>(&mut self, step: Step<Typed<A, V, Results>>) -> StepRef<V>
    where
        A: Arguments<Results> + 'static,
        V: 'static,
    {
        let named = Named {
            name: step.plan.name.clone(),
            of: Some(self.definer.clone()),
        };
        self.steps.push(step.erase());
        StepRef::to(named)
    }

    /// Adds a step that reads what it takes while it runs.
    pub fn step(mut self, step: Step) -> Definition {
        self.steps.push(step);
        self
    }

    /// Checks the definition as a whole; the error names everything that is wrong with it.
    pub fn build(mut self) -> Result<TaskHandler, Error> {
        let full_name = self.definer.to_string();
        let mut problems = std::mem::take(&mut self.problems);
        problems.extend(wiring::problems(&self.definer, &self.steps, &self.states));
        let states = Arc::new(std::mem::take(&mut self.states));
        let (prepare, annotate) = (self.prepare.take(), self.annotate.take());
        let mut codes = Vec::with_capacity(self.steps.len());
        let performed = self.steps.iter().chain(undoing(&self.steps));
        for step in performed.filter(|step| step.plan.built_in.is_none()) {
            codes.push((step.plan.name.clone(), shared(&step.code.code, &states)));
        }
        let source = self.into_source(&mut problems);
        let template = source.and_then(|source| keep(TaskTemplate::new(source), &mut problems));
        match template.filter(|_| problems.is_empty()) {
            Some(template) => Ok(TaskHandler {
                template,
                steps: codes.into(),
                prepare,
                annotate,
            }),
            None => Err(InvalidHandler {
                full_name,
                problems,
            }
            .into()),
        }
    }

    /// The definition as data, if all its names are some.
    fn into_source(self, problems: &mut Vec<HandlerProblem>) -> Option<TemplateSource> {
        let namespace = keep(Namespace::new(&self.namespace), problems);
        let name = keep(TaskName::new(&self.name), problems);
        let version = keep(self.version.parse::<Version>(), problems);
        let steps: Vec<_> = (self.steps.into_iter())
            .map(|step| step_source(step.plan, problems))
            .collect();
        Some(TemplateSource {
            namespace: namespace?,
            name: name?,
            version: version?,
            description: self.description,
            schema: self.schema,
            deadline_ms: self.deadline.map(milliseconds),
            queue: self.queue,
            steps: steps.into_iter().collect::<Option<_>>()?,
        })
    }
}

fn step_source(mut plan: Plan, problems: &mut Vec<HandlerProblem>) -> Option<StepTemplate> {
    let wait = keep(plan.wait(), problems);
    let name = keep(StepName::new(&plan.name), problems);
    Some(StepTemplate {
        name: name?,
        wait: wait?,
        handler: plan.handler().to_owned(),
        undo: plan.undo.as_ref().map(|undo| undo.plan.as_undo()),
        ..plan.configure
    })
}

/// The steps that undo others.
fn undoing(steps: &[Step]) -> impl Iterator<Item = &Step> {
    steps.iter().filter_map(|step| step.plan.undo.as_deref())
}

/// Code that finds the shared state in its context.
pub(crate) fn shared(code: &StepCode, states: &Arc<States>) -> StepCode {
    let (code, states) = (code.clone(), states.clone());
    Arc::new(move |context| code(context.with_states(&states)))
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
