//! Step handlers as types with methods, for those who like objects better than functions.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;

use super::StepResult;
use super::argument::{Argument, Arguments, Inputs, Needs};
use super::context::StepContext;
use super::error::StepError;
use super::function::StepFunction;

/// The code of a step, as a type. Its fields hold what it works with; one value serves all
/// attempts. Given to [`step`](super::step()) in place of a function.
///
/// ```
/// use tasker::{StepContext, StepHandler, StepResult, TaskHandler, step};
///
/// struct Greet { greeting: String }
///
/// impl StepHandler for Greet {
///     type Output = String;
///
///     async fn process(&self, step: &StepContext) -> StepResult<String> {
///         let name: String = step.parent("find_name")?;
///         Ok(format!("{}, {name}", self.greeting))
///     }
/// }
///
/// async fn find_name() -> StepResult<String> {
///     Ok("world".to_owned())
/// }
///
/// let mut hello = TaskHandler::new("default", "hello", "1.0.0");
/// let name = hello.add(step("find_name", find_name));
/// hello.add(step("greet", Greet { greeting: "Hello".to_owned() }).after(&name));
/// # hello.build().unwrap();
/// ```
pub trait StepHandler: Send + Sync + 'static {
    /// The result.
    type Output: Serialize + Send + 'static;

    /// Does the work.
    fn process(&self, step: &StepContext) -> impl Future<Output = StepResult<Self::Output>> + Send;

    /// Makes what is stored from what `process` returned; the same, if it is not written.
    ///
    /// Its error is permanent, whatever its type: the work has been done, and to do it again would
    /// not help.
    fn process_results(
        &self,
        _step: &StepContext,
        output: Self::Output,
    ) -> StepResult<Self::Output> {
        Ok(output)
    }
}

/// The argument of a [`StepHandler`], which reads all that it takes from the context.
#[derive(Debug)]
pub struct Whole(StepContext);

impl<Results> Arguments<Results> for Whole {
    fn declare(_needs: &mut Needs) {}

    fn take(inputs: &mut Inputs<'_>) -> Result<Self, StepError> {
        StepContext::take(inputs.step()).map(Whole)
    }
}

impl<Handler: StepHandler> StepFunction<Whole> for Handler {
    type Returned = BoxFuture<'static, StepResult<Handler::Output>>;

    fn call(self: &Arc<Self>, Whole(step): Whole) -> Self::Returned {
        let handler = self.clone();
        async move {
            let output = handler.process(&step).await?;
            let shaped = handler.process_results(&step, output);
            shaped.map_err(|error| error.into_permanent().into())
        }
        .boxed()
    }
}
