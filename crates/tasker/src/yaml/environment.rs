//! The differences between environments: one section per name, laid over the rest of the file.

use super::problem::Problem;
use super::tree::{Key, Node, Value};

/// The key that holds the sections.
pub(super) const KEY: &str = "environments";
const STEPS: &str = "step_templates";

/// The file without its sections, and the sections by name.
pub(super) fn split(root: &Node) -> (Node, Vec<(String, Node)>) {
    let Value::Map(entries) = &root.value else {
        return (root.clone(), Vec::new());
    };
    let sections = entries.iter().find(|(key, _)| key.name == KEY);
    let sections = match sections.map(|(_, node)| &node.value) {
        Some(Value::Map(sections)) => sections.as_slice(),
        _ => &[],
    };
    let rest = entries.iter().filter(|(key, _)| key.name != KEY).cloned();
    let base = Node {
        at: root.at,
        value: Value::Map(rest.collect()),
    };
    let named = sections
        .iter()
        .map(|(key, node)| (key.name.clone(), node.clone()));
    (base, named.collect())
}

/// Lays a section over the file (spec 03 §4.3): mappings merge key by key, steps merge by name,
/// everything else is replaced. A step that the file does not have is left out, with a note.
pub(super) fn merge(base: &Node, over: &Node, notes: &mut Vec<Problem>) -> Node {
    let (Value::Map(base_entries), Value::Map(over_entries)) = (&base.value, &over.value) else {
        return over.clone();
    };
    let mut merged = base_entries.clone();
    for (key, node) in over_entries {
        let place = merged.iter().position(|(known, _)| known.name == key.name);
        let Some(place) = place else {
            merged.push((key.clone(), node.clone()));
            continue;
        };
        let known = &merged[place].1;
        let value = match (&known.value, &node.value) {
            (Value::List(steps), Value::List(changes)) if key.name == STEPS => {
                merge_steps(known, steps, changes, notes)
            }
            _ => merge(known, node, notes),
        };
        merged[place] = (merged[place].0.clone(), value);
    }
    Node {
        at: base.at,
        value: Value::Map(merged),
    }
}

fn merge_steps(list: &Node, steps: &[Node], changes: &[Node], notes: &mut Vec<Problem>) -> Node {
    let mut merged = steps.to_vec();
    for change in changes {
        let Some(name) = name(change) else {
            let message = "a step of an environment needs the `name` of the step it changes";
            notes.push(Problem::new(change.at, message));
            continue;
        };
        let place = merged
            .iter()
            .position(|step| self::name(step) == Some(name));
        if let Some(place) = place {
            merged[place] = merge(&merged[place], change, notes);
        } else {
            let message = format!("no step is named `{name}`; this section changes nothing");
            notes.push(Problem::new(change.at, message));
        }
    }
    Node {
        at: list.at,
        value: Value::List(merged),
    }
}

fn name(step: &Node) -> Option<&str> {
    let Value::Map(entries) = &step.value else {
        return None;
    };
    let named = entries
        .iter()
        .find(|(Key { name, .. }, _)| name == "name")?;
    match &named.1.value {
        Value::Text(name) => Some(name),
        _ => None,
    }
}
