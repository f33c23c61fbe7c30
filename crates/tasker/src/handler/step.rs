//! One step of a task handler, before it is part of a definition.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{self, BoxFuture};
use serde::Serialize;
use tasker_model::json::Json;
use tasker_model::name::{Queue, StepName};
use tasker_model::outcome::{Failure, FailureKind, Outcome};
use tasker_model::retry::Backoff;
use tasker_model::template::StepTemplate;

use super::StepResult;
use super::argument::{Arguments, Inputs, Needs};
use super::context::StepContext;
use super::error::StepError;
use super::function::{StepFunction, StepFuture, StepOutput};
use super::reference::{Append, NoResult, ParentRefs, Read};
use super::type_name::TypeName;

/// What performs a step, behind one type: from the context of an attempt to its outcome.
pub(crate) type StepCode = Arc<dyn Fn(StepContext) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// One step of a task handler: its name, its code, and how it is run.
///
/// [`step`] makes one from a function whose arguments say what it takes;
/// [`Definition::add`](super::Definition::add) checks them. [`Step::new`] makes one from a function
/// that reads everything from its [`StepContext`] while it runs, for graphs that are put together
/// by a program; [`Definition::step`](super::Definition::step) adds it.
pub struct Step<Code = Untyped> {
    pub(crate) name: String,
    pub(crate) configure: StepTemplate,
    /// The results that the arguments take, in the order of the type list.
    pub(crate) reads: Vec<Read>,
    /// What comes before without being taken.
    pub(crate) waits: Vec<Read>,
    pub(crate) code: Code,
}

/// The code of a step with a type for nothing but its result.
pub struct Untyped {
    pub(crate) code: StepCode,
    pub(crate) gives: TypeName,
    pub(crate) needs: Needs,
}

/// The code of a step with the types of its arguments, and of the results that they may take.
pub struct Typed<Function, Arguments, Results> {
    function: Function,
    types: PhantomData<fn() -> (Arguments, Results)>,
}

/// A step that is performed by an async function, or by a [`StepHandler`](super::StepHandler).
///
/// It has no dependencies and the default policies: three attempts with exponential backoff.
pub fn step<F, A>(name: impl Into<String>, function: F) -> Step<Typed<F, A, NoResult>>
where
    F: StepFunction<A>,
    F::Returned: StepFuture,
{
    let types = PhantomData;
    Step::named(name.into(), Typed { function, types })
}

impl Step {
    /// A step without dependencies, performed by an async function, with the default policies:
    /// three attempts with exponential backoff.
    pub fn new<F, R, T>(name: impl Into<String>, handler: F) -> Step
    where
        F: Fn(StepContext) -> R + Send + Sync + 'static,
        R: Future<Output = StepResult<T>> + Send + 'static,
        T: Serialize + Send + 'static,
    {
        let code: StepCode = Arc::new(move |context| {
            let running = handler(context);
            async move { outcome(running.await) }.boxed()
        });
        let (gives, needs) = (TypeName::of::<T>(), Needs::default());
        Step::named(name.into(), Untyped { code, gives, needs })
    }
}

impl<F, A, Results> Step<Typed<F, A, Results>> {
    /// Waits for other steps and takes their results: one `&StepRef<T>`, or several as a tuple.
    ///
    /// The function has a [`Parent<T>`](super::Parent) for each of them, in this order; other
    /// arguments may stand between. A list, `[&a, &b]` or `&vec`, is taken as
    /// [`Parents<T>`](super::Parents). Called again, it adds to what it was given before.
    pub fn after<P: ParentRefs>(
        mut self,
        parents: P,
    ) -> Step<Typed<F, A, <Results as Append<P::Results>>::Both>>
    where
        Results: Append<P::Results>,
    {
        for read in parents.reads() {
            self.depend_on(&read);
            self.reads.push(read);
        }
        let (function, types) = (self.code.function, PhantomData);
        Step {
            name: self.name,
            configure: self.configure,
            reads: self.reads,
            waits: self.waits,
            code: Typed { function, types },
        }
    }

    /// Forgets the types, after they have been checked.
    pub(crate) fn erase(self) -> Step
    where
        F: StepFunction<A>,
        F::Returned: StepFuture,
        A: Arguments<Results>,
    {
        let mut needs = Needs::default();
        A::declare(&mut needs);
        let function = Arc::new(self.code.function);
        let reads = self.reads.clone();
        let code: StepCode =
            Arc::new(
                move |context| match A::take(&mut Inputs::new(&context, &reads)) {
                    Ok(arguments) => {
                        let running = function.call(arguments).wait();
                        async move { outcome(running.await.into_result()) }.boxed()
                    }
                    Err(error) => future::ready(Outcome::Failed(error.into_failure())).boxed(),
                },
            );
        let gives = TypeName::of::<<<F::Returned as StepFuture>::Output as StepOutput>::Value>();
        Step {
            name: self.name,
            configure: self.configure,
            reads: self.reads,
            waits: self.waits,
            code: Untyped { code, gives, needs },
        }
    }
}

impl<Code> Step<Code> {
    fn named(name: String, code: Code) -> Step<Code> {
        let placeholder = StepName::new("step").expect("invariant: a valid name");
        Step {
            name,
            configure: StepTemplate::named(placeholder),
            reads: Vec::new(),
            waits: Vec::new(),
            code,
        }
    }

    fn depend_on(&mut self, read: &Read) {
        let known = &mut self.configure.depends_on_steps;
        for parent in &read.steps {
            if !known.contains(&parent.name) {
                known.push(parent.name.clone());
            }
        }
    }

    /// Waits for other steps without taking their results.
    pub fn waits_for(mut self, steps: impl ParentRefs) -> Step<Code> {
        for read in steps.reads() {
            self.depend_on(&read);
            self.waits.push(read);
        }
        self
    }

    /// Waits for another step, by name. May be called several times.
    pub fn depends_on_step(mut self, name: impl Into<String>) -> Step<Code> {
        self.configure.depends_on_steps.push(name.into());
        self
    }

    /// Waits for several other steps, by name.
    pub fn depends_on_steps<S: Into<String>>(
        mut self,
        names: impl IntoIterator<Item = S>,
    ) -> Step<Code> {
        self.configure
            .depends_on_steps
            .extend(names.into_iter().map(Into::into));
        self
    }

    /// Says what the step does, for people.
    pub fn description(mut self, text: impl Into<String>) -> Step<Code> {
        self.configure.description = text.into();
        self
    }

    /// `false`: one attempt only.
    pub fn retryable(mut self, retryable: bool) -> Step<Code> {
        self.configure.retry.retryable = retryable;
        self
    }

    /// The largest number of attempts, the first included.
    pub fn retry_limit(mut self, attempts: u32) -> Step<Code> {
        self.configure.retry.limit = attempts;
        self
    }

    /// How long to wait between attempts.
    pub fn backoff(mut self, backoff: Backoff) -> Step<Code> {
        self.configure.retry.backoff = backoff;
        self
    }

    /// The longest time of one attempt; then it is stopped and counts as failed, retryably.
    pub fn timeout(mut self, timeout: Duration) -> Step<Code> {
        self.configure.timeout_ms = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Whether a request may bypass the step.
    pub fn skippable(mut self, skippable: bool) -> Step<Code> {
        self.configure.skippable = skippable;
        self
    }

    /// Where workers claim the step, instead of the task's queue.
    pub fn queue(mut self, queue: Queue) -> Step<Code> {
        self.configure.queue = Some(queue);
        self
    }

    /// Label of the outside system that the step touches.
    pub fn dependent_system(mut self, name: impl Into<String>) -> Step<Code> {
        self.configure.dependent_system = Some(name.into());
        self
    }
}

/// What a handler returned, as the outcome of its attempt.
fn outcome<T: Serialize>(returned: Result<T, StepError>) -> Outcome {
    match returned {
        Ok(value) => match Json::of(&value) {
            Ok(result) => Outcome::Completed { result },
            Err(error) => {
                let message = format!("the result cannot be written as JSON: {error}");
                Outcome::Failed(Failure::new(FailureKind::ResultRefused, message))
            }
        },
        Err(error) => Outcome::Failed(error.into_failure()),
    }
}
