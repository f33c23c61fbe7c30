//! A DAG as text: Mermaid for documents, and a drawing for terminals.
//!
//! Both take names and an optional state per step, so that the same picture shows a definition
//! and a running task.

use std::fmt::Write as _;

use super::Dag;
use crate::id::Position;
use crate::step::StepState;

/// What a drawing says of a step.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// The step's name.
    pub name: &'a str,
    /// Its state, if the picture is of a task rather than of a definition.
    pub state: Option<StepState>,
    /// What is special about it, in a few words; nothing if empty.
    pub note: &'a str,
}

/// Mermaid source: one node per step, one arrow per edge, a class per state.
pub fn mermaid(dag: &Dag, nodes: &[Node<'_>]) -> String {
    assert_eq!(dag.len(), nodes.len(), "one node per step");
    let mut out = String::from("graph TD\n");
    for &step in dag.order() {
        let node = nodes[step as usize];
        let mut label = escape(node.name);
        if !node.note.is_empty() {
            label += &format!("<br/>{}", escape(node.note));
        }
        match node.state {
            Some(state) => line(
                &mut out,
                &format!("    s{step}[\"{label}<br/>{state}\"]:::{state}"),
            ),
            None => line(&mut out, &format!("    s{step}[\"{label}\"]")),
        }
    }
    for &step in dag.order() {
        for child in dag.children(step) {
            line(&mut out, &format!("    s{step} --> s{child}"));
        }
    }
    let used = |state: StepState| nodes.iter().any(|node| node.state == Some(state));
    for &state in StepState::ALL.iter().filter(|state| used(**state)) {
        line(&mut out, &format!("    classDef {state} {}", style(state)));
    }
    out
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("invariant: writing to a String does not fail");
}

fn escape(name: &str) -> String {
    name.replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

const fn style(state: StepState) -> &'static str {
    match state {
        StepState::Pending => "fill:#eceff1,stroke:#607d8b,color:#263238",
        StepState::InProgress => "fill:#e3f2fd,stroke:#1976d2,color:#0d47a1",
        StepState::Complete | StepState::ResolvedManually => {
            "fill:#e8f5e9,stroke:#388e3c,color:#1b5e20"
        }
        StepState::Error => "fill:#ffebee,stroke:#d32f2f,color:#b71c1c",
        StepState::Cancelled => "fill:#f3e5f5,stroke:#7b1fa2,color:#4a148c",
        StepState::Skipped => "fill:#fafafa,stroke:#9e9e9e,color:#616161",
    }
}

/// The mark of a state in terminal output. The word always stands beside it.
pub const fn mark(state: StepState) -> char {
    match state {
        StepState::Pending => '·',
        StepState::InProgress => '▶',
        StepState::Complete => '✓',
        StepState::ResolvedManually => '✔',
        StepState::Error => '✗',
        StepState::Cancelled => '⊘',
        StepState::Skipped => '↷',
    }
}

/// A drawing for terminals: a row per step, parents above children, and to its left one column
/// per edge that is still open.
///
/// `●` is where a step stands, `│` an edge that passes by; the corners and tees are where edges
/// arrive. A graph with more than [`LANES_MAX`] open edges at once is listed instead, each step
/// with its parents.
pub fn text(dag: &Dag, nodes: &[Node<'_>]) -> String {
    assert_eq!(dag.len(), nodes.len(), "one node per step");
    drawn(dag, nodes).unwrap_or_else(|| listed(dag, nodes))
}

/// The widest drawing, in columns of edges; wider ones do not fit a terminal.
pub const LANES_MAX: usize = 24;

fn label(node: &Node<'_>) -> String {
    let mut label = match node.state {
        Some(state) => format!("{} {} ({state})", mark(state), node.name),
        None => node.name.to_owned(),
    };
    if !node.note.is_empty() {
        label += &format!(" · {}", node.note);
    }
    label
}

fn listed(dag: &Dag, nodes: &[Node<'_>]) -> String {
    const PARENTS_SHOWN: usize = 4;
    let mut out = String::new();
    for &step in dag.order() {
        let parents = dag.parents(step);
        let mut after: Vec<&str> = parents
            .iter()
            .take(PARENTS_SHOWN)
            .map(|p| nodes[*p as usize].name)
            .collect();
        let more = format!("{} more", parents.len().saturating_sub(PARENTS_SHOWN));
        if parents.len() > PARENTS_SHOWN {
            after.push(&more);
        }
        let after = if after.is_empty() {
            String::new()
        } else {
            format!("  ← {}", after.join(", "))
        };
        line(
            &mut out,
            &format!("{}{after}", label(&nodes[step as usize])),
        );
    }
    out
}

fn drawn(dag: &Dag, nodes: &[Node<'_>]) -> Option<String> {
    let mut out = String::new();
    // Each lane carries the edges from one parent to children that are not drawn yet.
    let mut lanes: Vec<Option<(Position, usize)>> = Vec::new();
    for &step in dag.order() {
        let mut arriving: Vec<usize> = dag
            .parents(step)
            .iter()
            .filter_map(|parent| {
                lanes
                    .iter()
                    .position(|lane| lane.is_some_and(|l| l.0 == *parent))
            })
            .collect();
        arriving.sort_unstable();
        let place = place_of(step, dag, &arriving, &mut lanes);
        if lanes.len() > LANES_MAX {
            return None;
        }
        let row = row(&lanes, place, &arriving);
        line(&mut out, &format!("{row}{}", label(&nodes[step as usize])));
        advance(step, dag, place, &arriving, &mut lanes);
    }
    Some(out)
}

/// The column of a step: that of an arriving edge which ends here, else the first free one.
fn place_of(
    step: Position,
    dag: &Dag,
    arriving: &[usize],
    lanes: &mut Vec<Option<(Position, usize)>>,
) -> usize {
    let ends_here = |lane: usize| lanes[lane].is_some_and(|(_, remaining)| remaining == 1);
    if let Some(&lane) = arriving.iter().find(|lane| ends_here(**lane)) {
        return lane;
    }
    debug_assert!(
        arriving.len() == dag.parents(step).len(),
        "parents are drawn before children"
    );
    if let Some(free) = lanes.iter().position(Option::is_none) {
        return free;
    }
    lanes.push(None);
    lanes.len() - 1
}

fn row(lanes: &[Option<(Position, usize)>], place: usize, arriving: &[usize]) -> String {
    let first = arriving
        .iter()
        .copied()
        .chain([place])
        .min()
        .unwrap_or(place);
    let last = arriving
        .iter()
        .copied()
        .chain([place])
        .max()
        .unwrap_or(place);
    let mut row = String::new();
    for (lane, carried) in lanes.iter().enumerate() {
        let inside = first < lane && lane < last;
        let ends = carried.is_some_and(|(_, remaining)| remaining == 1);
        let mark = if lane == place {
            '●'
        } else if arriving.contains(&lane) {
            match (ends, lane == first, lane == last) {
                (true, true, _) => '└',
                (true, _, true) => '┘',
                (true, _, _) => '┴',
                (false, true, _) => '├',
                (false, _, true) => '┤',
                (false, _, _) => '┼',
            }
        } else {
            match (carried.is_some(), inside) {
                (true, true) => '┼',
                (true, false) => '│',
                (false, true) => '─',
                (false, false) => ' ',
            }
        };
        row.push(mark);
        row.push(if first <= lane && lane < last {
            '─'
        } else {
            ' '
        });
    }
    row
}

fn advance(
    step: Position,
    dag: &Dag,
    place: usize,
    arriving: &[usize],
    lanes: &mut Vec<Option<(Position, usize)>>,
) {
    for &lane in arriving {
        let (parent, remaining) = lanes[lane].expect("invariant: arriving lanes are in use");
        lanes[lane] = (remaining > 1).then_some((parent, remaining - 1));
    }
    let children = dag.children(step).len();
    if children > 0 {
        lanes[place] = Some((step, children));
    }
    while lanes.last().is_some_and(Option::is_none) {
        lanes.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIAMOND: &[(&str, &[&str])] = &[
        ("start", &[]),
        ("left", &["start"]),
        ("right", &["start"]),
        ("merge", &["left", "right"]),
    ];

    fn diamond() -> Dag {
        Dag::new(
            DIAMOND
                .iter()
                .map(|(name, deps)| (*name, deps.iter().copied())),
        )
        .unwrap()
    }

    fn nodes(state: Option<StepState>) -> Vec<Node<'static>> {
        DIAMOND
            .iter()
            .map(|(name, _)| Node {
                name,
                state,
                note: "",
            })
            .collect()
    }

    #[test]
    fn a_diamond_in_mermaid() {
        assert_eq!(
            mermaid(&diamond(), &nodes(None)),
            "graph TD\n    s0[\"start\"]\n    s1[\"left\"]\n    s2[\"right\"]\n    s3[\"merge\"]\n    \
             s0 --> s1\n    s0 --> s2\n    s1 --> s3\n    s2 --> s3\n"
        );
        let with_states = mermaid(&diamond(), &nodes(Some(StepState::Complete)));
        assert!(with_states.contains("s3[\"merge<br/>complete\"]:::complete"));
        assert!(with_states.contains("classDef complete "));
    }

    #[test]
    fn a_diamond_in_a_terminal() {
        assert_eq!(
            text(&diamond(), &nodes(None)),
            "● start\n├─● left\n● │ right\n●─┘ merge\n"
        );
    }

    #[test]
    fn a_graph_too_wide_for_a_terminal_is_listed() {
        let leaves: Vec<String> = (0..40).map(|n| format!("leaf_{n}")).collect();
        let all: Vec<&str> = leaves.iter().map(String::as_str).collect();
        let steps = all
            .iter()
            .map(|name| (*name, Vec::new()))
            .chain([("sum", all.clone())]);
        let dag = Dag::new(steps).unwrap();
        let nodes: Vec<_> = all
            .iter()
            .chain(&["sum"])
            .map(|name| Node {
                name,
                state: None,
                note: "",
            })
            .collect();
        let listed = text(&dag, &nodes);
        assert!(listed.starts_with("leaf_0\nleaf_1\n"));
        assert!(
            listed.ends_with("sum  ← leaf_0, leaf_1, leaf_2, leaf_3, 36 more\n"),
            "{listed}"
        );
    }

    #[test]
    fn names_cannot_break_out_of_a_label() {
        let dag = Dag::new([("a\"]; click", [])]).unwrap();
        let drawn = mermaid(
            &dag,
            &[Node {
                name: "a\"]; click",
                state: None,
                note: "<b>",
            }],
        );
        assert!(drawn.contains("s0[\"a&quot;]; click<br/>&lt;b&gt;\"]"));
    }
}
