//! Definitions that follow from another: what runs for one item of a map, and what undoes a task.
//!
//! They are definitions like any other, registered beside the one that they follow from, so that their
//! tasks are claimed, retried, shown and cancelled by nothing of their own.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::name::TaskName;
use crate::template::{StepTemplate, TaskTemplate, TemplateSource};

/// The context of a task that does one item of a map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemContext<Item = Value> {
    /// The item.
    pub item: Item,
    /// Its place in the list, from 0.
    pub index: u32,
}

/// The context of a task that undoes another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UndoContext {
    /// The context of the task that is undone.
    pub context: Value,
    /// The results of its steps that are undone, and of those that these depend on, by name. A step
    /// that was skipped has none.
    pub results: Map<String, Value>,
}

impl TaskTemplate {
    /// Everything that follows from this definition.
    pub fn derived(&self) -> Vec<TaskTemplate> {
        let steps = self.source().steps.iter();
        let items = steps.filter_map(|step| self.item_template(step));
        items.chain(self.undo_template()).collect()
    }

    /// What runs for one item of the map of a step; `None` if the step has none.
    pub fn item_template(&self, step: &StepTemplate) -> Option<TaskTemplate> {
        step.map.as_ref()?;
        let position = self.position(step.name.as_str())?;
        let steps = vec![StepTemplate {
            description: step.description.clone(),
            handler: step.handler.clone(),
            retry: step.retry.clone(),
            timeout_ms: step.timeout_ms,
            dependent_system: step.dependent_system.clone(),
            handler_config: step.handler_config.clone(),
            custom_events: step.custom_events.clone(),
            starts_task: step.starts_task,
            ..StepTemplate::named(step.name.clone())
        }];
        let description = format!(
            "One item of step `{}` of `{}`.",
            step.name,
            self.full_name()
        );
        let source = TemplateSource {
            name: part_name(self.source(), step.name.as_str()),
            description,
            queue: Some(self.queue(position)),
            ..derived(self.source(), steps)
        };
        Some(TaskTemplate::new(source).expect("invariant: one checked step is a definition"))
    }

    /// What undoes a task: the steps that can be undone, each after those that came after it. `None` if
    /// there are none.
    ///
    /// Where a step that cannot be undone stands between two that can, their order still holds.
    pub fn undo_template(&self) -> Option<TaskTemplate> {
        let dag = self.dag();
        let mut steps = Vec::new();
        for (position, step) in (0..).zip(&self.source().steps) {
            let Some(undo) = &step.undo else { continue };
            let mut depends_on_steps = Vec::new();
            let mut seen = vec![false; dag.len()];
            let mut next: Vec<_> = dag.children(position).to_vec();
            while let Some(below) = next.pop() {
                if std::mem::replace(&mut seen[below as usize], true) {
                    continue;
                }
                let below_step = self.step(below);
                if below_step.undo.is_some() {
                    depends_on_steps.push(below_step.name.as_str().to_owned());
                } else {
                    next.extend(dag.children(below));
                }
            }
            depends_on_steps.sort_unstable();
            steps.push(StepTemplate {
                description: format!("Undoes step `{}`.", step.name),
                handler: undo.handler.clone(),
                handler_config: undo.handler_config.clone(),
                depends_on_steps,
                retry: undo.retry.clone(),
                timeout_ms: undo.timeout_ms,
                skippable: true,
                queue: Some(self.queue(position)),
                dependent_system: step.dependent_system.clone(),
                ..StepTemplate::named(step.name.clone())
            });
        }
        if steps.is_empty() {
            return None;
        }
        let source = TemplateSource {
            name: part_name(self.source(), "undo"),
            description: format!("Undoes a task of `{}`.", self.full_name()),
            ..derived(self.source(), steps)
        };
        Some(TaskTemplate::new(source).expect("invariant: part of a DAG, turned round, is one"))
    }
}

fn derived(from: &TemplateSource, steps: Vec<StepTemplate>) -> TemplateSource {
    TemplateSource {
        namespace: from.namespace.clone(),
        name: from.name.clone(),
        version: from.version,
        description: String::new(),
        schema: None,
        deadline_ms: None,
        queue: from.queue.clone(),
        steps,
    }
}

/// The name of a definition and of a part of it, the former shortened if both are too long for a name.
fn part_name(of: &TemplateSource, part: &str) -> TaskName {
    let part: String = part.chars().take(TaskName::MAX_CHARS / 2).collect();
    let room = TaskName::MAX_CHARS - part.chars().count() - 1;
    let of: String = of.name.as_str().chars().take(room).collect();
    let name = format!("{}.{}", of.trim_end(), part.trim_end());
    TaskName::new(name).expect("invariant: two names with a dot between them are one")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(steps: &Value) -> TaskTemplate {
        let source = json!({
            "namespace": "shop", "name": "order", "version": "1.2.0", "queue": "slow", "steps": steps
        });
        TaskTemplate::new(serde_json::from_value(source).unwrap()).unwrap()
    }

    #[test]
    fn an_item_is_the_step_alone() {
        let of = template(&json!([
            {"name": "list", "handler": "list"},
            {"name": "resize", "handler": "shrink", "depends_on_steps": ["list"], "timeout_ms": 5000,
             "retry": {"limit": 7}, "when": "true", "map": {"over": "results.list"}},
        ]));
        assert!(of.item_template(of.step(0)).is_none());
        let item = of.item_template(of.step(1)).unwrap();
        assert_eq!(item.full_name(), "shop.order.resize@1.2.0");
        assert_eq!(item.queue(0).as_str(), "slow");
        let step = item.step(0);
        assert_eq!(
            (step.handler.as_str(), step.timeout_ms),
            ("shrink", Some(5000))
        );
        assert_eq!(step.retry.limit, 7);
        assert!(step.map.is_none() && step.when.is_none() && step.depends_on_steps.is_empty());
        assert!(of.has_aftermath() && !item.has_aftermath());
    }

    #[test]
    fn undoing_turns_the_order_round_also_across_steps_that_cannot_be_undone() {
        let undo = |handler: &str| json!({"handler": handler});
        let of = template(&json!([
            {"name": "reserve", "handler": "a", "undo": undo("release")},
            {"name": "charge", "handler": "b", "depends_on_steps": ["reserve"], "undo": undo("refund")},
            {"name": "tell", "handler": "c", "depends_on_steps": ["reserve"]},
            {"name": "ship", "handler": "d", "depends_on_steps": ["charge", "tell"], "undo": undo("recall")},
        ]));
        let undone = of.undo_template().unwrap();
        assert_eq!(undone.full_name(), "shop.order.undo@1.2.0");
        let steps = undone.source().steps.iter();
        let shape: Vec<_> = steps
            .map(|step| {
                (
                    step.name.as_str(),
                    step.handler.as_str(),
                    step.depends_on_steps.join(" "),
                )
            })
            .collect();
        assert_eq!(
            shape,
            [
                ("reserve", "release", "charge ship".to_owned()),
                ("charge", "refund", "ship".to_owned()),
                ("ship", "recall", String::new()),
            ]
        );
        assert!(undone.source().steps.iter().all(|step| step.skippable));
        assert!(
            template(&json!([{"name": "a", "handler": "a"}]))
                .undo_template()
                .is_none()
        );
    }

    #[test]
    fn a_long_name_is_shortened() {
        let long = "x".repeat(TaskName::MAX_CHARS);
        let mut source =
            template(&json!([{"name": "a", "handler": "a", "undo": {"handler": "b"}}]))
                .source()
                .clone();
        source.name = TaskName::new(&long).unwrap();
        let of = TaskTemplate::new(source).unwrap();
        let undo = of.undo_template().unwrap();
        let expected = format!("{}.undo", &long[5..]);
        assert_eq!(undo.source().name.as_str(), expected);
    }
}
