#![doc = include_str!("../../../README.md")]
//!
//! # The modules
//!
//! They follow the life of a task: [`handler`] is what you write, [`options`] every limit,
//! [`error`] what can go wrong; the rest is behind [`Tasker`], [`TaskExecutor`] and [`Task`].

pub mod error;
pub mod options;
pub mod handler;
mod expression;
mod steps;
mod gate;
mod code;
pub mod yaml;
mod step_handlers;
mod registry;
mod events;
mod subtasks;
mod execute;

mod worker;
mod task;
mod executor;
mod explain;
mod doctor;
mod signal;
mod retention;
mod health;
mod engine;

pub use doctor::{Diagnosis, Finding, diagnose};
pub use engine::{Builder, Tasker};
pub use error::Error;
pub use events::Events;
pub use executor::TaskExecutor;
pub use explain::{Explanation, explain};
pub use handler::{
    Argument, Attempt, Cancellation, Config, Context, Counted, HandlerError, IdempotencyKey, Index,
    Item, Log, NonRetryableError, Parent, Parents, PermanentError, Progress, RetryableError,
    Signal, State, Step, StepContext, StepError, StepHandler, StepRef, StepResult, TaskDefinition,
    TaskHandler, Undone, map, step, subtask,
};
pub use health::Health;
pub use options::{Options, Retention};
pub use retention::prune;
pub use signal::send as send_signal;
pub use step_handlers::StepHandlers;
pub use task::{Task, WorkflowStep, step_position};
pub use tasker_model as model;
pub use tasker_model::request::TaskRequest;
pub use tasker_store as store;

/// The pages whose programs are compiled with the tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../docs/HANDLERS.md")]
    struct Handlers;
    #[doc = include_str!("../../../docs/YAML.md")]
    struct Yaml;
}
