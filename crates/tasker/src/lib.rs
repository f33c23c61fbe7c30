//! Durable multi-step workflows.
//!
//! A **task handler** describes a workflow: steps, each with the code that performs it and the
//! steps it waits for. A **task** is one run of it on a context. Steps run as soon as their
//! parents are done, in parallel where the graph allows; each result is stored, failures are
//! retried with backoff, and a crash loses nothing.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tasker::{Step, StepContext, StepResult, TaskHandler, TaskRequest, Tasker};
//!
//! #[derive(Deserialize)]
//! struct Order { cents: u64 }
//!
//! #[derive(Serialize, Deserialize)]
//! struct Payment { receipt: String }
//!
//! async fn charge(step: StepContext) -> StepResult<Payment> {
//!     let order: Order = step.context()?;
//!     Ok(Payment { receipt: format!("{} cents, key {}", order.cents, step.idempotency_key()) })
//! }
//!
//! async fn ship(step: StepContext) -> StepResult<String> {
//!     let payment: Payment = step.parent("charge")?;
//!     Ok(format!("shipped after {}", payment.receipt))
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let checkout = TaskHandler::new("shop", "checkout", "1.0.0")
//!     .step(Step::new("charge", charge).retry_limit(5))
//!     .step(Step::new("ship", ship).depends_on_step("charge"))
//!     .build()?;
//! let tasker = Tasker::builder("sqlite::memory:").register(checkout).start().await?;
//! let request = TaskRequest::new("checkout").namespace("shop").context(serde_json::json!({"cents": 999}));
//! let task = tasker.executor().execute_sync(request, None).await?;
//! assert_eq!(task.status(), "completed");
//! for step in task.workflow_steps().await? {
//!     println!("{}: {} {:?}", step.name, step.status, step.result);
//! }
//! tasker.stop().await?;
//! # Ok(()) })
//! # }
//! ```
//!
//! The modules below follow the life of a task; `ARCHITECTURE.md` walks through them.

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
mod engine;

pub use doctor::{Diagnosis, Finding, diagnose};
pub use engine::{Builder, Tasker};
pub use error::Error;
pub use events::Events;
pub use executor::TaskExecutor;
pub use explain::{Explanation, explain};
pub use handler::{
    NonRetryableError, PermanentError, RetryableError, Step, StepContext, StepError, StepResult,
    TaskHandler,
};
pub use options::Options;
pub use task::{Task, WorkflowStep, step_position};
pub use tasker_model as model;
pub use tasker_model::request::TaskRequest;
pub use tasker_store as store;
