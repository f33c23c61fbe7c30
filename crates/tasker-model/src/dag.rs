//! The graph of a task: which step waits for which.
//!
//! A [`Dag`] exists only if every dependency is known, no name stands twice and there is no
//! cycle. It is the one home of parents, children, levels and order; all are computed once, in
//! time linear in steps and edges.

pub mod diagram;
pub mod relationships;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::id::Position;

/// Why a set of steps is not a DAG.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DagError {
    /// A step depends on a name that no step has.
    #[error("step `{step}` depends on unknown step `{dependency}`{}", hint(.nearest.as_deref(), .known))]
    UnknownDependency {
        /// The step that depends.
        step: String,
        /// The name that no step has.
        dependency: String,
        /// The known name that looks most like it.
        nearest: Option<String>,
        /// The known names; empty beyond the first few such problems of one definition.
        known: Vec<String>,
    },
    /// Two steps have the same name.
    #[error("step `{name}` is defined twice, as number {first} and number {second}")]
    Duplicate {
        /// The name.
        name: String,
        /// Place of the first definition, from 1.
        first: usize,
        /// Place of the second definition, from 1.
        second: usize,
    },
    /// Steps wait for each other in a circle.
    #[error("steps wait for each other in a cycle: {}", .path.join(" → "))]
    Cycle {
        /// The names along the cycle; the first is repeated at the end.
        path: Vec<String>,
    },
}

/// To help with a name costs a look at all names: many wrong ones are not worth the square of it.
const HINTS_MAX: usize = 20;

fn hint(nearest: Option<&str>, known: &[String]) -> String {
    const SHOWN: usize = 12;
    match nearest {
        Some(name) => format!("; did you mean `{name}`?"),
        None if known.is_empty() => String::new(),
        None if known.len() > SHOWN => {
            format!(
                "; known steps: {}, … ({} in all)",
                known[..SHOWN].join(", "),
                known.len()
            )
        }
        None => format!("; known steps: {}", known.join(", ")),
    }
}

/// The known name that looks most like a mistyped one, if any is near enough to be meant.
pub fn nearest<'a>(mistyped: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(mistyped, name), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// A checked graph over positions `0..len`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dag {
    parents: Vec<Vec<Position>>,
    children: Vec<Vec<Position>>,
    levels: Vec<u32>,
    order: Vec<Position>,
}

impl Dag {
    /// Checks steps, given as name and names of dependencies, and reports everything at once.
    ///
    /// A dependency that is named twice counts once.
    pub fn new<'a, D>(steps: impl IntoIterator<Item = (&'a str, D)>) -> Result<Dag, Vec<DagError>>
    where
        D: IntoIterator<Item = &'a str>,
    {
        let steps: Vec<(&str, D)> = steps.into_iter().collect();
        let mut errors = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::with_capacity(steps.len());
        for (place, (name, _)) in steps.iter().enumerate() {
            if let Some(first) = places.insert(name, place) {
                places.insert(name, first);
                errors.push(DagError::Duplicate {
                    name: (*name).to_owned(),
                    first: first + 1,
                    second: place + 1,
                });
            }
        }
        let names: Vec<&str> = steps.iter().map(|(name, _)| *name).collect();
        let mut parents: Vec<Vec<Position>> = Vec::with_capacity(steps.len());
        for (name, dependencies) in steps {
            let mut of_step = Vec::new();
            for dependency in dependencies {
                if let Some(&place) = places.get(dependency) {
                    let place = position(place);
                    if !of_step.contains(&place) {
                        of_step.push(place);
                    }
                } else {
                    let hints = errors.len() < HINTS_MAX;
                    let known = if hints { names.as_slice() } else { &[] };
                    errors.push(unknown_dependency(name, dependency, known));
                }
            }
            parents.push(of_step);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Dag::from_parents(parents).map_err(|cycle| {
            let path = cycle
                .into_iter()
                .map(|p| names[p as usize].to_owned())
                .collect();
            vec![DagError::Cycle { path }]
        })
    }

    /// Builds the graph from each step's parents, or gives the positions along a cycle.
    fn from_parents(parents: Vec<Vec<Position>>) -> Result<Dag, Vec<Position>> {
        let mut children = vec![Vec::new(); parents.len()];
        for (child, of_child) in parents.iter().enumerate() {
            for &parent in of_child {
                children[parent as usize].push(position(child));
            }
        }
        let mut waiting: Vec<usize> = parents.iter().map(Vec::len).collect();
        let mut levels = vec![0_u32; parents.len()];
        let mut order = Vec::with_capacity(parents.len());
        // The smallest position first: ties keep the order of definition.
        let mut ready: BinaryHeap<Reverse<Position>> = waiting
            .iter()
            .enumerate()
            .filter(|(_, count)| **count == 0)
            .map(|(place, _)| Reverse(position(place)))
            .collect();
        while let Some(Reverse(parent)) = ready.pop() {
            order.push(parent);
            for &child in &children[parent as usize] {
                let place = child as usize;
                levels[place] = levels[place].max(levels[parent as usize] + 1);
                waiting[place] -= 1;
                if waiting[place] == 0 {
                    ready.push(Reverse(child));
                }
            }
        }
        if order.len() < parents.len() {
            return Err(cycle(&parents, &waiting));
        }
        Ok(Dag {
            parents,
            children,
            levels,
            order,
        })
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// Whether there are no steps.
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    /// The steps that this one waits for, in the order in which it names them.
    pub fn parents(&self, step: Position) -> &[Position] {
        &self.parents[step as usize]
    }

    /// The steps that wait for this one, in the order of definition.
    pub fn children(&self, step: Position) -> &[Position] {
        &self.children[step as usize]
    }

    /// The longest distance from a step without parents, in edges.
    pub fn level(&self, step: Position) -> u32 {
        self.levels[step as usize]
    }

    /// The shortest distance of each step from a step without parents, in edges.
    pub fn min_depths(&self) -> Vec<u32> {
        let mut depths = vec![0; self.len()];
        for &step in &self.order {
            let nearest = self.parents(step).iter().map(|p| depths[*p as usize]).min();
            depths[step as usize] = nearest.map_or(0, |depth: u32| depth + 1);
        }
        depths
    }

    /// All steps, parents before children; ties in the order of definition.
    pub fn order(&self) -> &[Position] {
        &self.order
    }

    /// The steps without parents.
    pub fn roots(&self) -> impl Iterator<Item = Position> {
        (0..position(self.len())).filter(|step| self.parents(*step).is_empty())
    }

    /// Every step that waits, directly or not, for one of these; in the order of definition.
    pub fn descendants(&self, of: &[Position]) -> Vec<Position> {
        let mut seen = vec![false; self.len()];
        let mut open: Vec<Position> = of.to_vec();
        while let Some(step) = open.pop() {
            for &child in self.children(step) {
                if !std::mem::replace(&mut seen[child as usize], true) {
                    open.push(child);
                }
            }
        }
        (0..position(self.len()))
            .filter(|step| seen[*step as usize])
            .collect()
    }

    /// The number of edges.
    pub fn edge_count(&self) -> usize {
        self.parents.iter().map(Vec::len).sum()
    }
}

fn position(place: usize) -> Position {
    Position::try_from(place).expect("invariant: a DAG has fewer steps than u32::MAX")
}

fn unknown_dependency(step: &str, dependency: &str, names: &[&str]) -> DagError {
    DagError::UnknownDependency {
        step: step.to_owned(),
        dependency: dependency.to_owned(),
        nearest: nearest(dependency, names.iter().copied()).map(str::to_owned),
        known: names.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// Walks from a step that never became ready, always to a parent that never became ready, until
/// a step is met again; what lies between the two meetings, reversed, is a cycle.
fn cycle(parents: &[Vec<Position>], waiting: &[usize]) -> Vec<Position> {
    let stuck = |step: Position| waiting[step as usize] > 0;
    let mut step = position(
        waiting
            .iter()
            .position(|count| *count > 0)
            .expect("invariant: some step is stuck"),
    );
    let mut met: HashMap<Position, usize> = HashMap::new();
    let mut path = Vec::new();
    loop {
        if let Some(&start) = met.get(&step) {
            path.push(step);
            let mut circle = path.split_off(start);
            circle.reverse();
            return circle;
        }
        met.insert(step, path.len());
        path.push(step);
        step = *parents[step as usize]
            .iter()
            .find(|parent| stuck(**parent))
            .expect("invariant: a stuck step has a stuck parent");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dag(steps: &[(&'static str, &[&'static str])]) -> Result<Dag, Vec<DagError>> {
        Dag::new(
            steps
                .iter()
                .map(|(name, deps)| (*name, deps.iter().copied())),
        )
    }

    fn messages(steps: &[(&'static str, &[&'static str])]) -> Vec<String> {
        dag(steps)
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn levels_are_the_longest_distance_from_a_root() {
        let dag = dag(&[
            ("a", &[]),
            ("b", &["a"]),
            ("c", &["a"]),
            ("d", &["b", "c"]),
            ("e", &["a", "d"]),
        ])
        .unwrap();
        let levels: Vec<u32> = (0..5).map(|step| dag.level(step)).collect();
        assert_eq!(levels, [0, 1, 1, 2, 3]);
        assert_eq!(dag.order(), [0, 1, 2, 3, 4]);
        assert_eq!(dag.children(0), [1, 2, 4]);
        assert_eq!(dag.descendants(&[1]), [3, 4]);
        assert_eq!(dag.roots().collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn all_problems_are_reported_at_once_with_a_hint() {
        assert_eq!(
            messages(&[
                ("charge", &[]),
                ("ship", &["chrage"]),
                ("ship", &["warehouse"])
            ]),
            [
                "step `ship` is defined twice, as number 2 and number 3",
                "step `ship` depends on unknown step `chrage`; did you mean `charge`?",
                "step `ship` depends on unknown step `warehouse`; known steps: charge, ship, ship",
            ]
        );
    }

    #[test]
    fn a_cycle_is_shown_as_a_path() {
        assert_eq!(
            messages(&[
                ("start", &[]),
                ("a", &["start", "c"]),
                ("b", &["a"]),
                ("c", &["b"])
            ]),
            ["steps wait for each other in a cycle: a → b → c → a"]
        );
        assert_eq!(
            messages(&[("a", &["a"])]),
            ["steps wait for each other in a cycle: a → a"]
        );
    }

    #[test]
    fn a_dependency_named_twice_counts_once() {
        let dag = dag(&[("a", &[]), ("b", &["a", "a"])]).unwrap();
        assert_eq!(dag.parents(1), [0]);
        assert_eq!(dag.edge_count(), 1);
    }
}
