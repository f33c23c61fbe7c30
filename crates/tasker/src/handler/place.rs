//! What code may take beside the arguments that every step handler may have: the item, where it runs
//! over a list; the step's result, where it undoes one.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use super::argument::{AllTaken, Inputs, Needs, Parent, Parents, Takes};
use super::context::View;
use super::error::StepError;
use super::reference::{Many, Next};
use super::type_name::TypeName;
use crate::error::Misfit;

/// The item of the list that a step runs over ([`map`](super::map())).
///
/// If it does not fit, the item fails permanently, with the code `ITEM_TYPE`.
#[derive(Debug, Clone)]
pub struct Item<T>(pub T);

/// The place of the item in its list, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Index(pub u32);

/// The result of the step that is undone ([`Step::undo`](super::Step::undo)).
///
/// If it does not fit, the undo fails permanently, with the code `PARENT_TYPE`.
#[derive(Debug, Clone)]
pub struct Undone<T>(pub T);

/// What the code of a step that runs over a list takes: an item of this type, as an [`Item<T>`], and
/// its [`Index`] if it likes.
#[derive(Debug)]
pub struct ItemOf<T>(PhantomData<fn() -> T>);

/// What is left of [`ItemOf`] when the item is taken: the [`Index`].
#[derive(Debug)]
pub struct ItemTaken;

/// What the code that undoes a step may take: the step's result, as an [`Undone<T>`], and the results
/// of the steps that it came after, as it has taken them itself.
#[derive(Debug)]
pub struct UndoOf<T, Results>(PhantomData<fn() -> (T, Results)>);

/// What code may take whose step is named elsewhere, and whose types are compared there.
#[derive(Debug)]
pub struct Unplaced;

#[diagnostic::do_not_recommend]
impl AllTaken for ItemTaken {}
#[diagnostic::do_not_recommend]
impl<T, Results> AllTaken for UndoOf<T, Results> {}
#[diagnostic::do_not_recommend]
impl AllTaken for Unplaced {}

impl<T: DeserializeOwned> Item<T> {
    fn of(inputs: &Inputs<'_>) -> Result<Self, StepError> {
        Ok(Item(inputs.step().item()?))
    }
}

impl<T: DeserializeOwned> Takes<ItemOf<T>> for Item<T> {
    type Rest = ItemTaken;

    fn take(inputs: &mut Inputs<'_>) -> Result<Self, StepError> {
        Item::of(inputs)
    }
}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned + 'static> Takes<Unplaced> for Item<T> {
    type Rest = Unplaced;

    fn declare(needs: &mut Needs) {
        needs.item = Some(TypeName::of::<T>());
    }

    fn take(inputs: &mut Inputs<'_>) -> Result<Self, StepError> {
        Item::of(inputs)
    }
}

impl Index {
    fn of(inputs: &Inputs<'_>) -> Index {
        let index = inputs.step().index();
        Index(index.expect("invariant: an index is taken where there is an item"))
    }
}

impl<T> Takes<ItemOf<T>> for Index {
    type Rest = ItemOf<T>;

    fn take(inputs: &mut Inputs<'_>) -> Result<Self, StepError> {
        Ok(Index::of(inputs))
    }
}

impl Takes<ItemTaken> for Index {
    type Rest = ItemTaken;

    fn take(inputs: &mut Inputs<'_>) -> Result<Self, StepError> {
        Ok(Index::of(inputs))
    }
}

#[diagnostic::do_not_recommend]
impl Takes<Unplaced> for Index {
    type Rest = Unplaced;

    fn declare(needs: &mut Needs) {
        needs.index = true;
    }

    fn take(inputs: &mut Inputs<'_>) -> Result<Self, StepError> {
        Ok(Index::of(inputs))
    }
}

impl<T: DeserializeOwned> Undone<T> {
    fn of(inputs: &Inputs<'_>) -> Result<Self, StepError> {
        let step = inputs.step();
        Ok(Undone(step.parent(step.name())?))
    }
}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned + 'static, Results> Takes<UndoOf<T, Results>> for Undone<T> {
    type Rest = UndoOf<T, Results>;

    // The type of the result may still change: `max_failures` may be said after `undo`.
    fn declare(needs: &mut Needs) {
        needs.undone = Some(TypeName::of::<T>());
    }

    fn take(inputs: &mut Inputs<'_>) -> Result<Self, StepError> {
        Undone::of(inputs)
    }
}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned + 'static> Takes<Unplaced> for Undone<T> {
    type Rest = Unplaced;

    fn declare(needs: &mut Needs) {
        needs.undone = Some(TypeName::of::<T>());
    }

    fn take(inputs: &mut Inputs<'_>) -> Result<Self, StepError> {
        Undone::of(inputs)
    }
}

#[diagnostic::do_not_recommend]
impl<P: DeserializeOwned, T, Rest> Takes<UndoOf<T, Next<P, Rest>>> for Parent<P> {
    type Rest = UndoOf<T, Rest>;

    fn take(inputs: &mut Inputs<'_>) -> Result<Self, StepError> {
        inputs.parent()
    }
}

#[diagnostic::do_not_recommend]
impl<P: DeserializeOwned, T, Rest> Takes<UndoOf<T, Next<P, Rest>>> for Option<Parent<P>> {
    type Rest = UndoOf<T, Rest>;

    fn take(inputs: &mut Inputs<'_>) -> Result<Self, StepError> {
        inputs.parent_if_any()
    }
}

#[diagnostic::do_not_recommend]
impl<P: DeserializeOwned, T, Rest> Takes<UndoOf<T, Next<Many<P>, Rest>>> for Parents<P> {
    type Rest = UndoOf<T, Rest>;

    fn take(inputs: &mut Inputs<'_>) -> Result<Self, StepError> {
        inputs.parents()
    }
}

impl Needs {
    /// What is taken and is not there at such a place.
    pub(crate) fn misfits(&self, place: View) -> Vec<Misfit> {
        let (in_item, in_undo) = (place == View::Item, place == View::Undo);
        let found = [
            (self.item.filter(|_| !in_item)).map(|item| Misfit::Item(item.name)),
            (self.index && !in_item).then_some(Misfit::Index),
            (self.undone.filter(|_| !in_undo)).map(|result| Misfit::Undone(result.name)),
            (self.context.filter(|_| in_item)).map(|context| Misfit::Context(context.name)),
            (self.signal.filter(|_| in_item || in_undo)).map(|signal| Misfit::Signal(signal.name)),
        ];
        found.into_iter().flatten().collect()
    }
}
