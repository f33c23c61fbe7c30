//! Steps that start a task and have its result.

use tasker_model::request::TaskRequest;

use super::function::{StepFunction, StepFuture};
use super::reference::NoResult;
use super::step::{Step, Typed, step};

/// A step that starts a task of another handler, which an async function asks for, waits for it without
/// a slot, and has its result: that of the task's last step, or by name those of several.
///
/// If the task fails, so does the step, with the code `SUBTASK_FAILED`.
///
/// ```
/// use tasker::{Parent, StepResult, TaskHandler, TaskRequest, step, subtask};
///
/// async fn pay() -> StepResult<TaskRequest> {
///     Ok(TaskRequest::new("take_payment").namespace("money"))
/// }
/// async fn ship(Parent(receipt): Parent<String>) -> StepResult<String> {
///     Ok(format!("paid: {receipt}"))
/// }
///
/// let mut order = TaskHandler::new("shop", "order", "1.0.0");
/// let receipt = order.add(subtask("pay", pay).returning::<String>());
/// order.add(step("ship", ship).after(&receipt));
/// # order.build().unwrap();
/// ```
pub fn subtask<F, A>(name: impl Into<String>, function: F) -> Subtask<A>
where
    F: StepFunction<A>,
    F::Returned: StepFuture<Value = TaskRequest>,
    A: 'static,
{
    Subtask(step(name, function))
}

/// A step that starts a task, before it is said what that gives: [`returning`](Subtask::returning).
#[must_use = "say what the task gives"]
pub struct Subtask<A>(Step<Typed<A, TaskRequest, NoResult>>);

impl<A> Subtask<A> {
    /// The type of the task's result, which is the step's. A [`serde_json::Value`] fits every result.
    ///
    /// If it does not fit, whoever takes it fails permanently, with the code `PARENT_TYPE`.
    pub fn returning<T>(mut self) -> Step<Typed<A, T, NoResult>> {
        self.0.plan.configure.starts_task = true;
        self.0.retyped()
    }
}
