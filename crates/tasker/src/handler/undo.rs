//! What undoes a step, if its task fails or is cancelled after it.

use tasker_model::template::{StepTemplate, Undo};

use super::argument::Arguments;
use super::function::{StepFunction, StepFuture};
use super::place::{UndoOf, Unplaced};
use super::reference::NoResult;
use super::step::{Plan, Step, Typed, step};

impl<A, V, Results> Step<Typed<A, V, Results>> {
    /// Undoes the step by an async function, if the task fails or is cancelled after the step was
    /// complete. What came last is undone first.
    ///
    /// The function takes the step's result as an [`Undone<T>`](super::Undone), the results of the
    /// steps named in [`after`](Step::after) before as `Parent<T>`, in the same order, and all other
    /// arguments as they are in the step. None of them must be taken. It is registered as
    /// `<step>.undo`.
    ///
    /// ```
    /// use tasker::{IdempotencyKey, StepResult, TaskHandler, Undone, step};
    ///
    /// async fn charge() -> StepResult<String> {
    ///     Ok("receipt 7".to_owned())
    /// }
    /// async fn refund(Undone(receipt): Undone<String>, key: IdempotencyKey) -> StepResult<()> {
    ///     println!("{receipt} is given back, once for {}", key.0);
    ///     Ok(())
    /// }
    ///
    /// let mut order = TaskHandler::new("shop", "order", "1.0.0");
    /// order.add(step("charge", charge).undo(refund));
    /// # order.build().unwrap();
    /// ```
    pub fn undo<F, B>(self, function: F) -> Self
    where
        F: StepFunction<B>,
        F::Returned: StepFuture,
        B: Arguments<UndoOf<V, Results>> + 'static,
    {
        let name = name_of_undo(&self.plan);
        self.undo_with(step(name, function))
    }

    /// Undoes the step as [`undo`](Step::undo) does, with retries, a timeout or a config:
    /// `.undo_with(step("refund", refund).retry_limit(10))`. It is registered by the name given here.
    pub fn undo_with<B, W>(mut self, by: Step<Typed<B, W, NoResult>>) -> Self
    where
        B: Arguments<UndoOf<V, Results>> + 'static,
        W: 'static,
    {
        let reads = self.plan.reads.clone();
        self.plan.undo = Some(Box::new(by.placed::<UndoOf<V, Results>>(reads)));
        self
    }
}

impl Step {
    /// Undoes the step by an async function, if the task fails or is cancelled after the step was
    /// complete. What came last is undone first.
    ///
    /// The function may take the step's result as an [`Undone<T>`](super::Undone); `build` compares
    /// the types. The results of the steps that this one depends on it reads by name
    /// ([`StepContext::parent`](super::StepContext::parent)). It is registered as `<step>.undo`.
    pub fn undo<F, B>(self, function: F) -> Step
    where
        F: StepFunction<B>,
        F::Returned: StepFuture,
        B: Arguments<Unplaced> + 'static,
    {
        let undo = step(name_of_undo(&self.plan), function);
        self.undo_with(undo.placed::<Unplaced>(Vec::new()))
    }

    /// Undoes the step as another one is performed: `.undo_with(Step::http("refund", config))`. Of
    /// that step its code, config, retries and timeout count.
    pub fn undo_with(mut self, by: Step) -> Step {
        self.plan.undo = Some(Box::new(by));
        self
    }
}

fn name_of_undo(plan: &Plan) -> String {
    format!("{}.undo", plan.name)
}

impl Plan {
    /// What undoes a step that is performed so, as data.
    pub(super) fn as_undo(&self) -> Undo {
        Undo {
            handler: self.handler().to_owned(),
            handler_config: self.configure.handler_config.clone(),
            retry: self.configure.retry.clone(),
            timeout_ms: self.configure.timeout_ms,
        }
    }

    /// Whether it says nothing but what counts for an undo.
    pub(super) fn fits_undo(&self) -> bool {
        let said = &self.configure;
        let counts = StepTemplate {
            handler_config: said.handler_config.clone(),
            retry: said.retry.clone(),
            timeout_ms: said.timeout_ms,
            ..StepTemplate::named(said.name.clone())
        };
        *said == counts && self.undo.is_none() && !self.waits_for_signal()
    }
}
