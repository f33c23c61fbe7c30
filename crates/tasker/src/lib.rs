#![doc = include_str!("../../../README.md")]
//!
//! # The modules
//!
//! They follow the life of a task: [`handler`] is what you write, [`options`] every limit,
//! [`error`] what can go wrong; the rest is behind [`Tasker`], [`TaskExecutor`] and [`Task`].

pub mod error;
pub mod options;
pub mod handler;
mod registry;
mod events;
mod execute;

mod worker;
mod task;
mod executor;
mod explain;
mod doctor;
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
    Argument, Attempt, Cancellation, Context, HandlerError, IdempotencyKey, NonRetryableError,
    Parent, Parents, PermanentError, RetryableError, State, Step, StepContext, StepError,
    StepHandler, StepRef, StepResult, TaskDefinition, TaskHandler, step,
};
pub use health::Health;
pub use options::{Options, Retention};
pub use retention::prune;
pub use task::{Task, WorkflowStep, step_position};
pub use tasker_model as model;
pub use tasker_model::request::TaskRequest;
pub use tasker_store as store;
