//! References to steps: how one step names the results of others, with their types.
//!
//! What the compiler sees is a list of types, [`Next`] and [`NoResult`]; what `build` sees are the
//! names beside it. Nothing of both is stored with the definition.

use std::marker::PhantomData;
use std::sync::Arc;

use super::type_name::TypeName;

/// A definition, told apart from all others by the address of its full name.
pub(crate) type Definer = Arc<str>;

/// A step as another one names it.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) name: String,
    /// The definition that gave the reference; `None` if somebody wrote the name.
    pub(crate) of: Option<Definer>,
}

/// A step whose result is a `T`. Given by [`Definition::add`](super::Definition::add).
#[derive(Debug)]
pub struct StepRef<T> {
    step: Named,
    result: PhantomData<fn() -> T>,
}

impl<T> Clone for StepRef<T> {
    fn clone(&self) -> Self {
        StepRef::to(self.step.clone())
    }
}

impl<T> StepRef<T> {
    /// Refers to a step by its name, where its reference is out of reach.
    ///
    /// The compiler cannot see whether it exists and gives a `T`; `build` checks that. Every
    /// result may be taken as a [`serde_json::Value`].
    pub fn named(name: impl Into<String>) -> StepRef<T> {
        StepRef::to(Named {
            name: name.into(),
            of: None,
        })
    }

    pub(crate) fn to(step: Named) -> StepRef<T> {
        StepRef {
            step,
            result: PhantomData,
        }
    }

    /// The name of the step.
    pub fn name(&self) -> &str {
        &self.step.name
    }
}

/// The steps whose results one argument takes, and as what.
#[derive(Debug, Clone)]
pub struct Read {
    pub(crate) steps: Vec<Named>,
    pub(crate) wanted: TypeName,
}

/// The results that a step handler takes: this one first, then the rest.
#[derive(Debug)]
pub struct Next<First, Rest>(PhantomData<fn() -> (First, Rest)>);

/// No result is left to take.
#[derive(Debug)]
pub struct NoResult;

/// The results of many steps, as one argument.
#[derive(Debug)]
pub struct Many<T>(PhantomData<fn() -> T>);

/// A list of results that stands behind another, for a second `after`.
#[diagnostic::on_unimplemented(
    message = "a step that runs over a list cannot take the results of other steps",
    label = "one item of a list does not see them",
    note = "take what the items need into the list, or wait without taking a result: `.follows(&step)`"
)]
pub trait AppendTo<Before> {
    /// Both lists, as one.
    type Both;
}

impl<More> AppendTo<NoResult> for More {
    type Both = More;
}

impl<First, Rest, More: AppendTo<Rest>> AppendTo<Next<First, Rest>> for More {
    type Both = Next<First, More::Both>;
}

/// One part of what a step comes after: one step, or a list of steps with results of one type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a reference to a step",
    label = "expected `&StepRef<T>`, or a list of them",
    note = "`after` takes what `add` has returned: `.after(&charge)`, or `.after((&fetch, &stock))`"
)]
pub trait ParentRef {
    /// What its results are to the compiler.
    type Result;
    /// What is read, for `build`.
    fn read(self) -> Read;
}

fn read_as<'a, T: 'static>(steps: impl IntoIterator<Item = &'a StepRef<T>>) -> Read {
    Read {
        steps: steps.into_iter().map(|step| step.step.clone()).collect(),
        wanted: TypeName::of::<T>(),
    }
}

impl<T: 'static> ParentRef for &StepRef<T> {
    type Result = T;

    fn read(self) -> Read {
        read_as([self])
    }
}

impl<T: 'static> ParentRef for &[StepRef<T>] {
    type Result = Many<T>;

    fn read(self) -> Read {
        read_as(self)
    }
}

impl<T: 'static> ParentRef for &Vec<StepRef<T>> {
    type Result = Many<T>;

    fn read(self) -> Read {
        read_as(self)
    }
}

impl<T: 'static, const N: usize> ParentRef for [&StepRef<T>; N] {
    type Result = Many<T>;

    fn read(self) -> Read {
        read_as(self)
    }
}

/// What a step comes after: a [`ParentRef`], or up to eight of them as a tuple.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say which steps come before",
    label = "expected `&StepRef<T>`, or a tuple of them",
    note = "`after` takes what `add` has returned: `.after(&charge)`, or `.after((&fetch, &stock))`"
)]
pub trait ParentRefs {
    /// The results, as a list of types.
    type Results;
    /// What is read, in that order.
    fn reads(self) -> Vec<Read>;
}

impl<A: ParentRef> ParentRefs for A {
    type Results = Next<A::Result, NoResult>;

    fn reads(self) -> Vec<Read> {
        vec![self.read()]
    }
}

macro_rules! results {
    () => { NoResult };
    ($first:ident $($rest:ident)*) => { Next<$first::Result, results!($($rest)*)> };
}

macro_rules! parents {
    ($($value:ident $part:ident),+) => {
        impl<$($part: ParentRef),+> ParentRefs for ($($part,)+) {
            type Results = results!($($part)+);

            fn reads(self) -> Vec<Read> {
                let ($($value,)+) = self;
                vec![$($value.read()),+]
            }
        }
    };
}

parents!(a A);
parents!(a A, b B);
parents!(a A, b B, c C);
parents!(a A, b B, c C, d D);
parents!(a A, b B, c C, d D, e E);
parents!(a A, b B, c C, d D, e E, f F);
parents!(a A, b B, c C, d D, e E, f F, g G);
parents!(a A, b B, c C, d D, e E, f F, g G, h H);
