//! Steps that run over a list.

use std::collections::{BTreeSet, VecDeque};

use serde_json::Value;
use tasker_model::request::TaskRequest;
use tasker_model::subtask::{Counted, Gather};
use tasker_model::template::MapOver;

use super::function::{StepFunction, StepFuture};
use super::place::ItemOf;
use super::reference::{NoResult, ParentRef as _, StepRef};
use super::step::{Step, Typed, step};

/// A step that is performed once for each item of a list, by an async function that takes an
/// [`Item<T>`](super::Item): each item is a task of its own, with its own attempts.
///
/// The step's result is the list of all results, in the order of the items. Its retry policy and its
/// timeout are those of each item.
///
/// ```
/// use tasker::{Index, Item, Parent, StepResult, TaskHandler, map, step};
///
/// async fn list() -> StepResult<Vec<String>> {
///     Ok(vec!["a.png".to_owned(), "b.png".to_owned()])
/// }
/// async fn resize(Item(name): Item<String>, Index(place): Index) -> StepResult<u64> {
///     Ok(name.len() as u64 + u64::from(place))
/// }
/// async fn sum(Parent(sizes): Parent<Vec<u64>>) -> StepResult<u64> {
///     Ok(sizes.iter().sum())
/// }
///
/// let mut album = TaskHandler::new("photos", "album", "1.0.0");
/// let list = album.add(step("list", list));
/// let sizes = album.add(map("resize", resize).over(&list).concurrency(20));
/// album.add(step("sum", sum).after(&sizes));
/// # album.build().unwrap();
/// ```
pub fn map<F, A>(name: impl Into<String>, function: F) -> Map<A, <F::Returned as StepFuture>::Value>
where
    F: StepFunction<A>,
    F::Returned: StepFuture,
    A: 'static,
{
    Map(step(name, function))
}

/// A step that is performed once for each item of a list, before it is said which:
/// [`over`](Map::over).
#[must_use = "say which list it runs over"]
pub struct Map<A, Each>(Step<Typed<A, Each, NoResult>>);

/// A step that runs over a list of `T`, as [`Definition::add`](super::Definition::add) takes it.
pub type Mapped<A, V, T> = Step<Typed<A, V, ItemOf<T>>>;

impl<A, Each> Map<A, Each> {
    /// Runs over the list that another step gives, once that has ended.
    pub fn over<L: List>(self, list: &StepRef<L>) -> Mapped<A, Vec<Each>, L::Item> {
        let mut step = self.over_expression(results_of(list.name()));
        step.take_read(list.read());
        step
    }

    /// Runs over the list that an expression in CEL gives, over `context` and `results`: a part of
    /// what a step gives, `results.album.images`, or a list with what items need of the task,
    /// `results.lines.map(line, {'line': line, 'order': context.id})`.
    ///
    /// Name the steps whose results it uses with [`Step::follows`]. The items are read as the function
    /// takes them; for a [`StepHandler`](super::StepHandler), say as what: `over_expression::<Image>`.
    pub fn over_expression<T>(self, list: impl Into<String>) -> Mapped<A, Vec<Each>, T> {
        let mut step = self.0.retyped();
        step.plan.configure.map = Some(MapOver::new(list));
        step
    }
}

impl<A, V, T> Mapped<A, V, T> {
    /// How many items are worked on at the same time; 1,000 unless it is said.
    pub fn concurrency(mut self, items: u32) -> Self {
        self.list().concurrency = items;
        self
    }

    fn list(&mut self) -> &mut MapOver {
        let list = self.plan.configure.map.as_mut();
        list.expect("invariant: a mapped step has a list")
    }
}

impl<A, Each, T> Mapped<A, Vec<Each>, T> {
    /// How many items may fail for good before the step does: there is `None` in their places.
    pub fn max_failures(mut self, items: u32) -> Mapped<A, Vec<Option<Each>>, T> {
        self.list().max_failures = items;
        self.retyped()
    }

    /// Keeps no results, and counts them: for lists whose results together are too large for one.
    pub fn count_only(mut self) -> Mapped<A, Counted, T> {
        self.list().gather = Gather::Count;
        self.retyped()
    }
}

impl<A, T> Mapped<A, Counted, T> {
    /// How many items may fail for good before the step does.
    pub fn max_failures(mut self, items: u32) -> Self {
        self.list().max_failures = items;
        self
    }
}

impl<A, T> Mapped<A, Vec<TaskRequest>, T> {
    /// Starts the task that the function asks for, for each item: in the list are the results of
    /// these tasks, as [`subtask`](super::subtask()) has the result of one.
    pub fn returning<Each>(mut self) -> Mapped<A, Vec<Each>, T> {
        self.plan.configure.starts_task = true;
        self.retyped()
    }
}

/// A result that a step can run over.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a list",
    label = "expected the reference of a step that gives a list, such as `Vec<T>`",
    note = "a list within a result is named by `over_expression(\"results.album.images\")`"
)]
pub trait List: 'static {
    /// What it holds.
    type Item;
}

impl<T: 'static> List for Vec<T> {
    type Item = T;
}

impl<T: 'static> List for VecDeque<T> {
    type Item = T;
}

impl<T: 'static> List for BTreeSet<T> {
    type Item = T;
}

impl<T: 'static, const N: usize> List for [T; N] {
    type Item = T;
}

/// Plain JSON may be a list.
impl List for Value {
    type Item = Value;
}

/// The expression for the result of a step.
fn results_of(name: &str) -> String {
    const WORDS: [&str; 4] = ["true", "false", "null", "in"];
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let goes_on = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if begins && goes_on && !WORDS.contains(&name) {
        return format!("results.{name}");
    }
    format!("results[{}]", Value::from(name))
}
