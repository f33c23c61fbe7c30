//! Which functions are step handlers.

use std::sync::Arc;

use serde::Serialize;

use super::error::{HandlerError, StepError};

/// What performs a step: a function of up to eight arguments, given here as a tuple, or a
/// [`StepHandler`](super::StepHandler).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a step handler",
    label = "expected an `async fn` with at most eight arguments",
    note = "it is shared between threads: what it holds must be `Send + Sync + 'static`"
)]
pub trait StepFunction<Arguments>: Send + Sync + 'static {
    /// What calling it gives.
    type Returned;

    /// Calls it.
    fn call(self: &Arc<Self>, arguments: Arguments) -> Self::Returned;
}

macro_rules! functions {
    ($($value:ident $argument:ident),*) => {
        impl<Function, Returned, $($argument),*> StepFunction<($($argument,)*)> for Function
        where
            Function: Fn($($argument),*) -> Returned + Send + Sync + 'static,
        {
            type Returned = Returned;

            fn call(self: &Arc<Self>, ($($value,)*): ($($argument,)*)) -> Returned {
                self($($value),*)
            }
        }
    };
}

functions!();
functions!(a A);
functions!(a A, b B);
functions!(a A, b B, c C);
functions!(a A, b B, c C, d D);
functions!(a A, b B, c C, d D, e E);
functions!(a A, b B, c C, d D, e E, f F);
functions!(a A, b B, c C, d D, e E, f F, g G);
functions!(a A, b B, c C, d D, e E, f F, g G, h H);

/// What a step handler's future gives: a result that can be stored, or an error.
#[diagnostic::on_unimplemented(
    message = "a step handler cannot return `{Self}`",
    label = "expected `StepResult<T>`, or a `Result` with an error of yours",
    note = "an error type of yours says how it is treated by implementing `HandlerError`"
)]
pub trait StepOutput {
    /// The result, which is stored as JSON.
    type Value: Serialize + Send + 'static;

    /// The result, or the error as steps know it.
    fn into_result(self) -> Result<Self::Value, StepError>;
}

impl<T: Serialize + Send + 'static, E: HandlerError> StepOutput for Result<T, E> {
    type Value = T;

    fn into_result(self) -> Result<T, StepError> {
        self.map_err(HandlerError::into_step_error)
    }
}

/// What a step handler returns when it is called: the future of its result.
#[diagnostic::on_unimplemented(
    message = "a step handler must be async, and this one returns `{Self}`",
    label = "expected an `async fn`",
    note = "write `async fn`; its future must be `Send`"
)]
pub trait StepFuture: Send + 'static {
    /// The result, which is stored as JSON.
    type Value: Serialize + Send + 'static;

    /// Waits for it.
    fn wait(self) -> impl Future<Output = Result<Self::Value, StepError>> + Send;
}

impl<R> StepFuture for R
where
    R: Future<Output: StepOutput> + Send + 'static,
{
    type Value = <R::Output as StepOutput>::Value;

    async fn wait(self) -> Result<Self::Value, StepError> {
        self.await.into_result()
    }
}
