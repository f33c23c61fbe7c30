//! What a user writes: step handlers, their errors, and the task handler that ties them together.
//!
//! The compiler holds the arguments of a step handler against the steps it comes after
//! ([`Step::after`]); what only the whole definition shows is checked by [`Definition::build`].

pub mod error;
mod type_name;
mod state;
mod annotations;
pub(crate) mod log;
pub(crate) mod progress;
pub mod context;
mod reference;
mod argument;
mod place;
mod function;
mod step;
mod map;
mod subtask;
mod undo;
mod step_handler;
mod wiring;
mod definition;
mod task_definition;

pub(crate) use annotations::Annotations;
pub use argument::{
    AllTaken, Argument, Arguments, Attempt, Cancellation, Config, Context, IdempotencyKey, Inputs,
    Log, Needs, Parent, Parents, Progress, Signal, State, Takes,
};
pub use context::StepContext;
pub(crate) use context::View;
pub(crate) use definition::{Annotate, shared};
pub use definition::{Definition, TaskHandler};
pub use error::{HandlerError, NonRetryableError, PermanentError, RetryableError, StepError};
pub use function::{StepFunction, StepFuture, StepOutput};
pub use map::{List, Map, Mapped, map};
pub use place::{Index, Item, ItemOf, ItemTaken, UndoOf, Undone, Unplaced};
pub use reference::{AppendTo, Many, Next, NoResult, ParentRef, ParentRefs, Read, StepRef};
pub(crate) use state::States;
pub(crate) use step::{COMMAND, HTTP, PASS, StepCode, TASK, pass};
pub use step::{Step, Typed, Untyped, step};
pub use step_handler::{StepHandler, Whole};
pub use subtask::{Subtask, subtask};
pub use task_definition::TaskDefinition;
pub use tasker_model::subtask::Counted;
pub(crate) use type_name::TypeName;

/// What a step handler returns: its result, or why there is none.
pub type StepResult<T> = Result<T, StepError>;
