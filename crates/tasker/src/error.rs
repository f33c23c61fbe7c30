//! What can go wrong for users of the library.

use std::sync::Arc;

use tasker_model::id::{InvalidId, TaskId};
use tasker_model::name::{InvalidName, InvalidVersion};
use tasker_model::request::InvalidRequest;
use tasker_model::template::InvalidTemplate;
use tasker_store::StoreError;

/// An error of the library, by what its caller can do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The definition of a task handler does not hold together: fix the code.
    #[error(transparent)]
    InvalidHandler(#[from] InvalidHandler),
    /// Two task handlers have the same namespace, name and version: change one.
    #[error("task handler `{0}` is registered twice")]
    DuplicateHandler(String),
    /// Nobody has registered what the request asks for: check its spelling.
    #[error("{0}")]
    NoHandler(String),
    /// The request does not fit: fix it. Nothing was created.
    #[error(transparent)]
    InvalidRequest(#[from] InvalidRequest),
    /// The task handler refused the request when it filled in defaults. Nothing was created.
    #[error("{handler} refuses the request: {reason}")]
    Refused {
        /// The full name of the task handler.
        handler: String,
        /// Why.
        reason: String,
    },
    /// The request equals an earlier one, by the identity strategy. Nothing was created.
    #[error("the request is identical to one made in the last minute; its task is {0}")]
    Duplicate(TaskId),
    /// There is no such task.
    #[error("there is no task {0}")]
    NoSuchTask(TaskId),
    /// There is no such step.
    #[error("task {task_id} has no step `{step}`; it has {}", .known.join(", "))]
    NoSuchStep {
        /// The task.
        task_id: TaskId,
        /// The name given.
        step: String,
        /// The names of its steps.
        known: Vec<String>,
    },
    /// No step of the task waits for such a signal.
    #[error("{0}")]
    NoSuchSignal(String),
    /// The text is not an id.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
    /// The value cannot be written as JSON.
    #[error("the value cannot be written as JSON: {0}")]
    NotJson(Arc<serde_json::Error>),
    /// A limit is out of its range.
    #[error("option `{option}` is {found}; {allowed}")]
    BadOption {
        /// Which.
        option: &'static str,
        /// What it is.
        found: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// `start` was called outside a tokio runtime, which step handlers need.
    #[error("no tokio runtime: start Tasker inside one, it runs the step handlers")]
    NoRuntime,
    /// The engine has been stopped.
    #[error("the engine is stopped")]
    Stopped,
    /// The store refused or failed.
    #[error(transparent)]
    Store(Arc<StoreError>),
}

impl Error {
    /// Whether the same call may succeed later without anybody changing anything: the store is
    /// busy or cannot be reached.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Store(error) if error.is_transient())
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        match error {
            StoreError::NoSuchTask(id) => Error::NoSuchTask(id),
            StoreError::Closed => Error::Stopped,
            error => Error::Store(Arc::new(error)),
        }
    }
}

/// A definition that cannot be used, with everything that is wrong with it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("task handler `{full_name}`: {}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct InvalidHandler {
    /// `namespace.name@version`, as given.
    pub full_name: String,
    /// What is wrong, all of it.
    pub problems: Vec<HandlerProblem>,
}

/// One thing that is wrong with the definition of a task handler.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HandlerProblem {
    /// A name cannot be one.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The version is none.
    #[error(transparent)]
    Version(#[from] InvalidVersion),
    /// A step cannot be performed as it is written.
    #[error("step `{step}`, {at}: {problem}")]
    Code {
        /// The step.
        step: String,
        /// The key, and where in its value.
        at: String,
        /// What is wrong.
        problem: String,
    },
    /// The steps or the schema do not hold together.
    #[error("{}", .0.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Template(#[from] InvalidTemplate),
    /// A step takes a result as a type that its parent does not give.
    #[error(
        "step `{step}` takes the result of `{parent}` as {wanted}, but `{parent}` gives {given}"
    )]
    ParentType {
        /// The step that takes the result.
        step: String,
        /// The step that gives it.
        parent: String,
        /// The type as which it is taken.
        wanted: &'static str,
        /// The type that is given.
        given: &'static str,
    },
    /// A reference of one definition was used in another.
    #[error(
        "step `{step}` comes after `{parent}` of another definition, {of}; a reference is good for \
         the definition whose `add` has returned it"
    )]
    OtherDefinition {
        /// The step with the reference.
        step: String,
        /// The step that it refers to.
        parent: String,
        /// The full name of the other definition.
        of: String,
    },
    /// A step takes shared state that was not given.
    #[error("step `{step}` takes State<{state}>, which was not given; add `.state(…)` with {state}{}", given_states(.given))]
    NoState {
        /// The step.
        step: String,
        /// The type that it takes.
        state: &'static str,
        /// The types that were given.
        given: Vec<&'static str>,
    },
    /// A step takes what there is not at its place.
    #[error("step `{step}` {misfit}")]
    Misfit {
        /// The step.
        step: String,
        /// What it takes.
        misfit: Misfit,
    },
    /// What undoes a step takes what there is not for it.
    #[error("what undoes step `{step}` {misfit}")]
    UndoMisfit {
        /// The step.
        step: String,
        /// What is taken.
        misfit: Misfit,
    },
    /// What undoes a step takes its result as a type that the step does not give.
    #[error("what undoes step `{step}` takes its result as {wanted}, but `{step}` gives {given}")]
    UndoneType {
        /// The step.
        step: String,
        /// The type as which its result is taken.
        wanted: &'static str,
        /// The type that it gives.
        given: &'static str,
    },
    /// More is said for what undoes a step than has an effect.
    #[error(
        "what undoes step `{step}` is told more than its config, its retries and its timeout, which is \
         all that an undo has"
    )]
    UndoPlan {
        /// The step.
        step: String,
    },
    /// Two pieces of code have one name.
    #[error(
        "what undoes step `{step}` is named `{name}`, and so is other code; give it another name"
    )]
    UndoName {
        /// The step.
        step: String,
        /// The name.
        name: String,
    },
    /// There can be one value of a type.
    #[error(
        "two values were given as shared state of the type {state}; wrap one in a type of its own"
    )]
    StateTwice {
        /// The type.
        state: &'static str,
    },
}

/// What code takes, and why it is not there: it stands at the wrong place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The item of a list.
    #[error("takes Item<{0}>, but runs over no list")]
    Item(&'static str),
    /// The place of an item.
    #[error("takes Index, but runs over no list")]
    Index,
    /// The result of the step that is undone.
    #[error("takes Undone<{0}>, but undoes nothing")]
    Undone(&'static str),
    /// The context of the task, for an item.
    #[error(
        "takes Context<{0}>, which one item of a list does not see; take what is needed into the list"
    )]
    Context(&'static str),
    /// What came with a signal, where no signal is waited for.
    #[error("takes Signal<{0}>, but neither an item of a list nor an undo waits for one")]
    Signal(&'static str),
}

fn given_states(given: &[&str]) -> String {
    match given {
        [] => String::new(),
        given => format!("; given were: {}", given.join(", ")),
    }
}
