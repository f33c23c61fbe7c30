//! The arguments of step handlers: what each of them takes from an attempt.

use serde::de::DeserializeOwned;

use super::context::StepContext;
use super::error::StepError;
use super::reference::{Many, Named, Next, NoResult, Read};
use super::type_name::TypeName;

/// The input of the task, as a type.
///
/// If it does not fit, the step fails permanently, with the code `CONTEXT_TYPE`: the same input
/// will not fit the next time either.
#[derive(Debug, Clone)]
pub struct Context<T>(pub T);

/// What the process shares with its steps: a connection pool, a client, a configuration. A clone
/// of what was given to [`Definition::state`](super::Definition::state).
#[derive(Debug, Clone)]
pub struct State<S>(pub S);

/// The result of a step that this one comes after.
///
/// If that step was skipped, or resolved by hand without a result, this one fails permanently,
/// with the code `PARENT_WITHOUT_RESULT`; take an `Option<Parent<T>>` to go on without.
#[derive(Debug, Clone)]
pub struct Parent<T>(pub T);

/// The results of a list of steps that this one comes after, in the order of the list. Steps that
/// were skipped, or resolved by hand without a result, are left out.
#[derive(Debug, Clone)]
pub struct Parents<T>(pub Vec<T>);

/// Which attempt this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Counted from 1, as [`StepContext::attempt`] says.
    pub number: u32,
    /// How many there may be.
    pub limit: u32,
}

impl Attempt {
    /// Whether a failure now is the step's last.
    pub fn is_last(self) -> bool {
        self.number >= self.limit
    }
}

/// The same text for all attempts of one step of one task, and for no other step. Hand it to
/// outside systems, so that they recognise a request that is repeated after a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(pub String);

/// Whether the attempt is still of use: its task may be cancelled, its time over, its lease lost.
#[derive(Debug, Clone)]
pub struct Cancellation(StepContext);

impl Cancellation {
    /// Ends when the attempt is of no use any more.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    /// Whether the attempt is of no use any more; for handlers that work without awaiting.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// What came with the signal that the step waited for ([`Step::wait_for`](super::Step::wait_for)), or
/// the default if it did not come in time.
///
/// If it does not fit, the step fails permanently, with the code `SIGNAL_TYPE`; if the step waits
/// for none, with `NO_SIGNAL`.
#[derive(Debug, Clone)]
pub struct Signal<T>(pub T);

/// What the definition tells the step's code ([`Step::config`](super::Step::config)).
///
/// If it does not fit, the step fails permanently, with the code `CONFIG_TYPE`.
#[derive(Debug, Clone)]
pub struct Config<T>(pub T);

/// Where lines are kept with the attempt's record, as by [`StepContext::log`].
#[derive(Debug, Clone)]
pub struct Log(StepContext);

impl Log {
    /// Keeps a line, for whoever looks at the task later. Not for secrets.
    pub fn line(&self, line: impl AsRef<str>) {
        self.0.log(line);
    }
}

/// Where a handler says how far it has come, as by [`StepContext::progress`].
#[derive(Debug, Clone)]
pub struct Progress(StepContext);

impl Progress {
    /// So much is done, of so much if that is known.
    pub fn set(&self, done: u64, total: impl Into<Option<u64>>, message: impl Into<String>) {
        self.0.progress(done, total, message);
    }
}

/// What arguments need beyond the attempt; collected before anything runs.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    pub(crate) states: Vec<TypeName>,
    pub(crate) context: Option<TypeName>,
    pub(crate) signal: Option<TypeName>,
    pub(crate) item: Option<TypeName>,
    pub(crate) index: bool,
    pub(crate) undone: Option<TypeName>,
}

impl Needs {
    /// A value of this type, given to [`Definition::state`](super::Definition::state).
    pub fn state<S: 'static>(&mut self) {
        self.states.push(TypeName::of::<S>());
    }
}

/// A type that step handlers can have as an argument. Implement it for types of yours:
///
/// ```
/// use tasker::{Argument, StepContext, StepError};
///
/// /// Waits less for the bank with every attempt.
/// struct Patience { seconds: u32 }
///
/// impl Argument for Patience {
///     fn take(step: &StepContext) -> Result<Self, StepError> {
///         Ok(Patience { seconds: 60 / step.attempt() })
///     }
/// }
///
/// async fn charge(patience: Patience) -> tasker::StepResult<u32> {
///     Ok(patience.seconds)
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "a step handler cannot take `{Self}` here",
    label = "one of its arguments does not fit",
    note = "`Parent<T>` takes the result of the next step named in `after`: the same types, in the same order",
    note = "the task's input is a `Context<T>`, shared state a `State<S>`; others implement `Argument`",
    note = "`Item<T>` and `Index` are for `map`, with the type of an item of its list; `Undone<T>` is for `undo`, with the type of the step's result"
)]
pub trait Argument: Sized {
    /// Says what must be there before the step can run.
    fn declare(_needs: &mut Needs) {}

    /// Takes the argument. An error is the outcome of the attempt.
    fn take(step: &StepContext) -> Result<Self, StepError>;
}

impl Argument for StepContext {
    fn take(step: &StepContext) -> Result<Self, StepError> {
        Ok(step.clone())
    }
}

impl<T: DeserializeOwned + 'static> Argument for Context<T> {
    fn declare(needs: &mut Needs) {
        needs.context = Some(TypeName::of::<T>());
    }

    fn take(step: &StepContext) -> Result<Self, StepError> {
        Ok(Context(step.context()?))
    }
}

impl<S: Clone + Send + Sync + 'static> Argument for State<S> {
    fn declare(needs: &mut Needs) {
        needs.state::<S>();
    }

    fn take(step: &StepContext) -> Result<Self, StepError> {
        let state = step.state::<S>();
        Ok(State(state.cloned().expect(
            "invariant: `build` has seen the state of every argument",
        )))
    }
}

impl Argument for Attempt {
    fn take(step: &StepContext) -> Result<Self, StepError> {
        Ok(Attempt {
            number: step.attempt(),
            limit: step.attempt_limit(),
        })
    }
}

impl Argument for IdempotencyKey {
    fn take(step: &StepContext) -> Result<Self, StepError> {
        Ok(IdempotencyKey(step.idempotency_key()))
    }
}

impl Argument for Cancellation {
    fn take(step: &StepContext) -> Result<Self, StepError> {
        Ok(Cancellation(step.clone()))
    }
}

impl<T: DeserializeOwned + 'static> Argument for Signal<T> {
    fn declare(needs: &mut Needs) {
        needs.signal = Some(TypeName::of::<T>());
    }

    fn take(step: &StepContext) -> Result<Self, StepError> {
        Ok(Signal(step.signal()?))
    }
}

impl<T: DeserializeOwned> Argument for Config<T> {
    fn take(step: &StepContext) -> Result<Self, StepError> {
        Ok(Config(step.config()?))
    }
}

impl Argument for Progress {
    fn take(step: &StepContext) -> Result<Self, StepError> {
        Ok(Progress(step.clone()))
    }
}

impl Argument for Log {
    fn take(step: &StepContext) -> Result<Self, StepError> {
        Ok(Log(step.clone()))
    }
}

/// What arguments are taken from, one after the other.
#[derive(Debug)]
pub struct Inputs<'a> {
    step: &'a StepContext,
    reads: std::slice::Iter<'a, Read>,
}

impl<'a> Inputs<'a> {
    pub(crate) fn new(step: &'a StepContext, reads: &'a [Read]) -> Inputs<'a> {
        Inputs {
            step,
            reads: reads.iter(),
        }
    }

    pub(crate) fn step(&self) -> &'a StepContext {
        self.step
    }

    fn next_read(&mut self) -> &'a [Named] {
        let read = self.reads.next();
        let read = read.expect("invariant: the compiler counted the results");
        &read.steps
    }

    pub(super) fn parent<T: DeserializeOwned>(&mut self) -> Result<Parent<T>, StepError> {
        let parent = &self.next_read()[0];
        Ok(Parent(self.step.parent(&parent.name)?))
    }

    pub(super) fn parent_if_any<T: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<Parent<T>>, StepError> {
        let parent = &self.next_read()[0];
        Ok(self.step.parent_if_any(&parent.name)?.map(Parent))
    }

    pub(super) fn parents<T: DeserializeOwned>(&mut self) -> Result<Parents<T>, StepError> {
        let parents = self.next_read().iter();
        let results =
            parents.filter_map(|parent| self.step.parent_if_any(&parent.name).transpose());
        Ok(Parents(results.collect::<Result<_, _>>()?))
    }
}

/// What fits at one place of a handler's arguments: an [`Argument`], or the next of the results
/// named in `after`. `Results` are those that may still be taken, `Rest` those that remain.
///
/// Where a step runs over a list, or is undone, `Results` is what there is to take instead:
/// [`ItemOf`](super::ItemOf), [`UndoOf`](super::UndoOf).
#[diagnostic::on_unimplemented(
    message = "a step handler cannot take `{Self}` here",
    label = "the results that its arguments may still take: `{Results}`",
    note = "the types must be the same, in the same order, and readable (`serde::Deserialize`)"
)]
pub trait Takes<Results>: Sized {
    /// The results that remain.
    type Rest;

    /// Says what must be there before the step can run.
    fn declare(_needs: &mut Needs) {}

    /// Takes it.
    fn take(inputs: &mut Inputs<'_>) -> Result<Self, StepError>;
}

impl<R, A: Argument> Takes<R> for A {
    type Rest = R;

    fn declare(needs: &mut Needs) {
        A::declare(needs);
    }

    fn take(inputs: &mut Inputs<'_>) -> Result<Self, StepError> {
        A::take(inputs.step)
    }
}

impl<T: DeserializeOwned, Rest> Takes<Next<T, Rest>> for Parent<T> {
    type Rest = Rest;

    fn take(inputs: &mut Inputs<'_>) -> Result<Self, StepError> {
        inputs.parent()
    }
}

impl<T: DeserializeOwned, Rest> Takes<Next<T, Rest>> for Option<Parent<T>> {
    type Rest = Rest;

    fn take(inputs: &mut Inputs<'_>) -> Result<Self, StepError> {
        inputs.parent_if_any()
    }
}

impl<T: DeserializeOwned, Rest> Takes<Next<Many<T>, Rest>> for Parents<T> {
    type Rest = Rest;

    fn take(inputs: &mut Inputs<'_>) -> Result<Self, StepError> {
        inputs.parents()
    }
}

/// Nothing is left over.
#[diagnostic::on_unimplemented(
    message = "the arguments of the step handler do not take all that the step is given",
    label = "not taken: `{Self}`",
    note = "add a `Parent<T>` for each step named in `after`, of the same type and in the same order",
    note = "to wait for a step without taking its result, use `.follows(&step)`",
    note = "a step that runs over a list takes an `Item<T>`, of the type that the list holds"
)]
pub trait AllTaken {}

impl AllTaken for NoResult {}

/// All arguments of a step handler, which together take all results.
#[diagnostic::on_unimplemented(
    message = "a step handler cannot take the arguments `{Self}`",
    label = "a step handler has at most eight arguments"
)]
pub trait Arguments<Results>: Sized {
    /// Says what must be there before the step can run.
    fn declare(needs: &mut Needs);

    /// Takes them, from the first to the last.
    fn take(inputs: &mut Inputs<'_>) -> Result<Self, StepError>;
}

impl<Results: AllTaken> Arguments<Results> for () {
    fn declare(_needs: &mut Needs) {}

    fn take(_inputs: &mut Inputs<'_>) -> Result<(), StepError> {
        Ok(())
    }
}

/// Each argument with the list it finds and the list it leaves.
macro_rules! arguments {
    ($($argument:ident: $found:ident => $left:ident),+; $last:ident) => {
        impl<Results, $($argument, $left),+> Arguments<Results> for ($($argument,)+)
        where
            $($argument: Takes<$found, Rest = $left>,)+
            $last: AllTaken,
        {
            fn declare(needs: &mut Needs) {
                $(<$argument as Takes<$found>>::declare(needs);)+
            }

            fn take(inputs: &mut Inputs<'_>) -> Result<Self, StepError> {
                Ok(($(<$argument as Takes<$found>>::take(inputs)?,)+))
            }
        }
    };
}

arguments!(A: Results => Ra; Ra);
arguments!(A: Results => Ra, B: Ra => Rb; Rb);
arguments!(A: Results => Ra, B: Ra => Rb, C: Rb => Rc; Rc);
arguments!(A: Results => Ra, B: Ra => Rb, C: Rb => Rc, D: Rc => Rd; Rd);
arguments!(A: Results => Ra, B: Ra => Rb, C: Rb => Rc, D: Rc => Rd, E: Rd => Re; Re);
arguments!(A: Results => Ra, B: Ra => Rb, C: Rb => Rc, D: Rc => Rd, E: Rd => Re, F: Re => Rf; Rf);
arguments!(A: Results => Ra, B: Ra => Rb, C: Rb => Rc, D: Rc => Rd, E: Rd => Re, F: Re => Rf,
    G: Rf => Rg; Rg);
arguments!(A: Results => Ra, B: Ra => Rb, C: Rb => Rc, D: Rc => Rd, E: Rd => Re, F: Re => Rf,
    G: Rf => Rg, H: Rg => Rh; Rh);
