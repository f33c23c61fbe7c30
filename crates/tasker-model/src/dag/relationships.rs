//! A step's place in the graph, as operators are shown it (spec 05 §8).

use serde::Serialize;

use crate::dag::Dag;
use crate::id::Position;

/// One step with its neighbours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Relationships {
    /// The step.
    pub position: Position,
    /// The steps that it waits for, ascending.
    pub parents: Vec<Position>,
    /// The steps that wait for it, ascending.
    pub children: Vec<Position>,
    /// Whether it waits for none.
    pub is_root: bool,
    /// Whether none waits for it.
    pub is_leaf: bool,
    /// The shortest distance from a root, in edges.
    pub min_depth_from_root: u32,
    /// The longest distance from a root, in edges (spec 05 §5).
    pub dependency_level: u32,
}

/// Every step of a graph with its neighbours, by position.
pub fn relationships(dag: &Dag) -> Vec<Relationships> {
    let ascending = |steps: &[Position]| {
        let mut steps = steps.to_vec();
        steps.sort_unstable();
        steps
    };
    let depths = dag.min_depths();
    let step = |(position, depth): (Position, u32)| Relationships {
        position,
        parents: ascending(dag.parents(position)),
        children: ascending(dag.children(position)),
        is_root: dag.parents(position).is_empty(),
        is_leaf: dag.children(position).is_empty(),
        min_depth_from_root: depth,
        dependency_level: dag.level(position),
    };
    (0..).zip(depths).map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dag(steps: &[(&str, &[&str])]) -> Dag {
        let steps = steps
            .iter()
            .map(|(name, parents)| (*name, parents.iter().copied()));
        Dag::new(steps).unwrap()
    }

    #[test]
    fn a_short_cut_makes_a_depth_smaller_than_its_level() {
        // Spec 05 §5 and §8: a→b, a→c, b→d, c→d, a→e, d→e.
        let found = relationships(&dag(&[
            ("a", &[]),
            ("b", &["a"]),
            ("c", &["a"]),
            ("d", &["c", "b"]),
            ("e", &["d", "a"]),
        ]));
        let levels: Vec<_> = found.iter().map(|step| step.dependency_level).collect();
        let depths: Vec<_> = found.iter().map(|step| step.min_depth_from_root).collect();
        assert_eq!(levels, [0, 1, 1, 2, 3]);
        assert_eq!(depths, [0, 1, 1, 2, 1]);
        assert_eq!(
            found[3].parents,
            [1, 2],
            "ascending, whatever was named first"
        );
    }

    #[test]
    fn the_dummy_task_of_the_specification() {
        // Spec 08 C31 and C32: one and two are roots, three follows two, four follows three.
        let found = relationships(&dag(&[
            ("one", &[]),
            ("two", &[]),
            ("three", &["two"]),
            ("four", &["three"]),
        ]));
        let shape: Vec<_> = found
            .iter()
            .map(|s| {
                (
                    s.parents.len(),
                    s.children.len(),
                    s.is_root,
                    s.is_leaf,
                    s.min_depth_from_root,
                )
            })
            .collect();
        assert_eq!(
            shape,
            [
                (0, 0, true, true, 0),
                (0, 1, true, false, 0),
                (1, 1, false, false, 1),
                (1, 0, false, true, 2)
            ]
        );
    }
}
