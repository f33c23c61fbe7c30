//! One step of a task handler, before it is part of a definition.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{self, BoxFuture};
use serde::Serialize;
use serde_json::Value;
use tasker_model::json::Json;
use tasker_model::name::{InvalidName, Queue, SignalName, StepName};
use tasker_model::outcome::{Failure, FailureKind, Outcome};
use tasker_model::retry::Backoff;
use tasker_model::template::{MapOver, StepTemplate};
use tasker_model::trigger::TriggerRule;
use tasker_model::wait::WaitFor;

use super::StepResult;
use super::argument::{Arguments, Inputs, Needs};
use super::context::StepContext;
use super::error::StepError;
use super::function::{StepFunction, StepFuture};
use super::reference::{AppendTo, NoResult, ParentRefs, Read};
use super::type_name::TypeName;

/// What performs a step, behind one type: from the context of an attempt to its outcome.
pub(crate) type StepCode = Arc<dyn Fn(StepContext) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// The handler of steps that send a request.
pub(crate) const HTTP: &str = "tasker.http";
/// The handler of steps that run a program.
pub(crate) const COMMAND: &str = "tasker.command";
/// The handler of steps that start a task.
pub(crate) const TASK: &str = "tasker.task";
/// The handler of steps that only wait: it completes with what came with the signal, if any.
pub(crate) const PASS: &str = "tasker.pass";

/// The code of [`PASS`].
pub(crate) fn pass() -> StepCode {
    Arc::new(|context: StepContext| {
        let came = context.signal_json().cloned();
        let result = came.unwrap_or_else(|| Json::from_stored("null"));
        future::ready(Outcome::Completed { result }).boxed()
    })
}

/// One step of a task handler: its name, its code, and how it is run.
///
/// [`step`] makes one from a function whose arguments say what it takes;
/// [`Definition::add`](super::Definition::add) checks them. [`Step::new`] makes one from a function
/// that reads everything from its [`StepContext`] while it runs, for graphs that are put together
/// by a program; [`Definition::step`](super::Definition::step) adds it.
pub struct Step<Code = Untyped> {
    pub(super) plan: Plan,
    pub(crate) code: Code,
}

/// What a step is beside its code.
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) configure: StepTemplate,
    /// The results that the arguments take, in the order of the type list.
    pub(super) reads: Vec<Read>,
    /// What comes before without being taken.
    pub(super) waits: Vec<Read>,
    signal: Option<Awaited>,
    /// The handler of a step that needs no code.
    pub(super) built_in: Option<&'static str>,
    /// What undoes it.
    pub(super) undo: Option<Box<Step>>,
}

/// The signal that a step waits for, before its name is checked.
struct Awaited {
    name: String,
    timeout: Option<Duration>,
    default: Option<Value>,
}

/// The code of a step with a type for nothing but its result.
pub struct Untyped {
    pub(crate) code: StepCode,
    pub(crate) gives: TypeName,
    pub(crate) needs: Needs,
}

/// The code of a step with the types of its arguments, of its result, and of the results that the
/// arguments may take.
pub struct Typed<Arguments, Value, Results> {
    run: Arc<dyn Fn(Arguments) -> BoxFuture<'static, Outcome> + Send + Sync>,
    types: PhantomData<fn() -> (Value, Results)>,
}

/// A step that is performed by an async function, or by a [`StepHandler`](super::StepHandler).
///
/// It has no dependencies and the default policies: three attempts with exponential backoff.
pub fn step<F, A>(
    name: impl Into<String>,
    function: F,
) -> Step<Typed<A, <F::Returned as StepFuture>::Value, NoResult>>
where
    F: StepFunction<A>,
    F::Returned: StepFuture,
    A: 'static,
{
    let (function, types) = (Arc::new(function), PhantomData);
    let run = move |arguments| {
        let running = function.call(arguments).wait();
        async move { outcome(running.await) }.boxed()
    };
    let run = Arc::new(run);
    Step::named(name.into(), Typed { run, types })
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

    /// A step that needs no code, because it only waits: for a time, a signal, or its parents. Its
    /// result is what came with the signal, if any.
    pub fn pass(name: impl Into<String>) -> Step {
        Step::built_in(name, PASS, None)
    }

    /// A step that sends a request; see the page about steps without code for what it can be told.
    pub fn http(name: impl Into<String>, config: Value) -> Step {
        Step::built_in(name, HTTP, Some(config))
    }

    /// A step that runs a program; see the page about steps without code for what it can be told.
    pub fn command(name: impl Into<String>, config: Value) -> Step {
        Step::built_in(name, COMMAND, Some(config))
    }

    /// A step that starts a task; see the page about steps without code for what it can be told.
    pub fn task(name: impl Into<String>, config: Value) -> Step {
        Step::built_in(name, TASK, Some(config)).starts_task()
    }

    fn built_in(name: impl Into<String>, handler: &'static str, config: Option<Value>) -> Step {
        let mut step = Step::new(name, |_| async { Ok(Value::Null) });
        step.plan.configure.handler_config = config;
        step.plan.built_in = Some(handler);
        step
    }

    /// Performs the step once for each item of a list: what the function reads is
    /// [`StepContext::item`], and the step's result is the list of all results, or their count.
    pub fn map_over(mut self, list: MapOver) -> Step {
        self.plan.configure.map = Some(list);
        self.code.gives = TypeName::of::<Value>();
        self
    }

    /// Takes what the function gives for a request: starts that task, waits for it without a slot,
    /// and has its result. With [`map_over`](Step::map_over), for each item.
    pub fn starts_task(mut self) -> Step {
        self.plan.configure.starts_task = true;
        self.code.gives = TypeName::of::<Value>();
        self
    }
}

impl<A, V, Results> Step<Typed<A, V, Results>> {
    /// Waits for other steps and takes their results: one `&StepRef<T>`, or several as a tuple.
    ///
    /// The function has a [`Parent<T>`](super::Parent) for each of them, in this order; other
    /// arguments may stand between. A list, `[&a, &b]` or `&vec`, is taken as
    /// [`Parents<T>`](super::Parents). Called again, it adds to what it was given before.
    pub fn after<P: ParentRefs>(
        mut self,
        parents: P,
    ) -> Step<Typed<A, V, <P::Results as AppendTo<Results>>::Both>>
    where
        P::Results: AppendTo<Results>,
    {
        for read in parents.reads() {
            self.take_read(read);
        }
        self.retyped()
    }

    pub(super) fn take_read(&mut self, read: Read) {
        self.depend_on(&read);
        self.plan.reads.push(read);
    }

    /// The same step, where what it gives or takes is another type to the compiler.
    pub(super) fn retyped<W, Others>(self) -> Step<Typed<A, W, Others>> {
        let (run, types) = (self.code.run, PhantomData);
        Step {
            plan: self.plan,
            code: Typed { run, types },
        }
    }

    /// Forgets the types, after they have been checked.
    pub(crate) fn erase(self) -> Step
    where
        A: Arguments<Results> + 'static,
        V: 'static,
    {
        let reads = self.plan.reads.clone();
        self.placed::<Results>(reads)
    }

    /// Forgets the types of code that takes its arguments from this, at a place of its own.
    pub(crate) fn placed<There>(self, reads: Vec<Read>) -> Step
    where
        A: Arguments<There> + 'static,
        V: 'static,
    {
        let mut needs = Needs::default();
        A::declare(&mut needs);
        let run = self.code.run;
        let code: StepCode =
            Arc::new(
                move |context| match A::take(&mut Inputs::new(&context, &reads)) {
                    Ok(arguments) => run(arguments),
                    Err(error) => future::ready(Outcome::Failed(error.into_failure())).boxed(),
                },
            );
        let gives = TypeName::of::<V>();
        Step {
            plan: self.plan,
            code: Untyped { code, gives, needs },
        }
    }
}

impl<Code> Step<Code> {
    fn named(name: String, code: Code) -> Step<Code> {
        let placeholder = StepName::new("step").expect("invariant: a valid name");
        let plan = Plan {
            name,
            configure: StepTemplate::named(placeholder),
            reads: Vec::new(),
            waits: Vec::new(),
            signal: None,
            built_in: None,
            undo: None,
        };
        Step { plan, code }
    }

    fn depend_on(&mut self, read: &Read) {
        let known = &mut self.plan.configure.depends_on_steps;
        for parent in &read.steps {
            if !known.contains(&parent.name) {
                known.push(parent.name.clone());
            }
        }
    }

    /// Waits for other steps without taking their results.
    pub fn follows(mut self, steps: impl ParentRefs) -> Step<Code> {
        for read in steps.reads() {
            self.depend_on(&read);
            self.plan.waits.push(read);
        }
        self
    }

    /// Waits for another step, by name. May be called several times.
    pub fn depends_on_step(mut self, name: impl Into<String>) -> Step<Code> {
        self.plan.configure.depends_on_steps.push(name.into());
        self
    }

    /// Waits for several other steps, by name.
    pub fn depends_on_steps<S: Into<String>>(
        mut self,
        names: impl IntoIterator<Item = S>,
    ) -> Step<Code> {
        self.plan
            .configure
            .depends_on_steps
            .extend(names.into_iter().map(Into::into));
        self
    }

    /// Says what the step does, for people.
    pub fn description(mut self, text: impl Into<String>) -> Step<Code> {
        self.plan.configure.description = text.into();
        self
    }

    /// Which ends of its parents it starts on; without this, it starts when none has failed.
    pub fn trigger_rule(mut self, rule: TriggerRule) -> Step<Code> {
        self.plan.configure.trigger_rule = rule;
        self
    }

    /// A condition in CEL over `context` and `results`; if it is false, the step is skipped.
    pub fn when(mut self, condition: impl Into<String>) -> Step<Code> {
        self.plan.configure.when = Some(condition.into());
        self
    }

    /// Starts so long after its parents have ended. Waiting holds no slot, and survives everything.
    pub fn delay(mut self, delay: Duration) -> Step<Code> {
        let delay_ms = milliseconds(delay);
        self.plan.configure.wait = Some(WaitFor::Delay { delay_ms });
        self
    }

    /// Does not start before a time, in RFC 3339, or an expression in CEL that gives it.
    pub fn until(mut self, time: impl Into<String>) -> Step<Code> {
        self.plan.configure.wait = Some(WaitFor::Until { time: time.into() });
        self
    }

    /// Waits for a signal, which [`Tasker::signal`](crate::Tasker::signal) sends; what comes with it
    /// is read by [`StepContext::signal`]. Waiting holds no slot, and survives everything.
    pub fn wait_for(mut self, signal: impl Into<String>) -> Step<Code> {
        self.plan.signal = Some(Awaited {
            name: signal.into(),
            timeout: None,
            default: None,
        });
        self
    }

    /// Waits for a signal, and fails permanently if it does not come in time, with the code
    /// `SIGNAL_TIMEOUT`.
    pub fn wait_for_within(mut self, signal: impl Into<String>, timeout: Duration) -> Step<Code> {
        self.plan.signal = Some(Awaited {
            name: signal.into(),
            timeout: Some(timeout),
            default: None,
        });
        self
    }

    /// Waits for a signal, and goes on with a default if it does not come in time.
    pub fn wait_for_or(
        mut self,
        signal: impl Into<String>,
        timeout: Duration,
        default: Value,
    ) -> Step<Code> {
        self.plan.signal = Some(Awaited {
            name: signal.into(),
            timeout: Some(timeout),
            default: Some(default),
        });
        self
    }

    /// What the code is told beside the task's context and the parents' results:
    /// [`StepContext::config`].
    pub fn config(mut self, config: Value) -> Step<Code> {
        self.plan.configure.handler_config = Some(config);
        self
    }

    /// `false`: one attempt only.
    pub fn retryable(mut self, retryable: bool) -> Step<Code> {
        self.plan.configure.retry.retryable = retryable;
        self
    }

    /// The largest number of attempts, the first included.
    pub fn retry_limit(mut self, attempts: u32) -> Step<Code> {
        self.plan.configure.retry.limit = attempts;
        self
    }

    /// How long to wait between attempts.
    pub fn backoff(mut self, backoff: Backoff) -> Step<Code> {
        self.plan.configure.retry.backoff = backoff;
        self
    }

    /// The longest time of one attempt; then it is stopped and counts as failed, retryably.
    pub fn timeout(mut self, timeout: Duration) -> Step<Code> {
        self.plan.configure.timeout_ms = Some(milliseconds(timeout));
        self
    }

    /// Nothing of the task is undone any more once this step is complete.
    pub fn point_of_no_return(mut self) -> Step<Code> {
        self.plan.configure.point_of_no_return = true;
        self
    }

    /// Whether a request may bypass the step.
    pub fn skippable(mut self, skippable: bool) -> Step<Code> {
        self.plan.configure.skippable = skippable;
        self
    }

    /// Where workers claim the step, instead of the task's queue.
    pub fn queue(mut self, queue: Queue) -> Step<Code> {
        self.plan.configure.queue = Some(queue);
        self
    }

    /// Label of the outside system that the step touches.
    pub fn dependent_system(mut self, name: impl Into<String>) -> Step<Code> {
        self.plan.configure.dependent_system = Some(name.into());
        self
    }
}

impl Plan {
    /// The name of its code.
    pub(super) fn handler(&self) -> &str {
        self.built_in.unwrap_or(&self.name)
    }

    pub(super) fn waits_for_signal(&self) -> bool {
        self.signal.is_some()
    }

    /// What the step waits for beside its parents; or else the problem.
    pub(super) fn wait(&mut self) -> Result<Option<WaitFor>, InvalidName> {
        let Some(signal) = self.signal.take() else {
            return Ok(self.configure.wait.take());
        };
        Ok(Some(WaitFor::Signal {
            name: SignalName::new(&signal.name)?,
            timeout_ms: signal.timeout.map(milliseconds),
            default: signal.default,
        }))
    }
}

pub(super) fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
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
