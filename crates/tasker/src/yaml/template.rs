//! From a file's tree to a definition.

use tasker_model::dag::{Dag, DagError};
use tasker_model::name::{Namespace, StepName, TaskName, Version};
use tasker_model::schema::ContextSchema;
use tasker_model::template::{StepTemplate, TaskTemplate, TemplateSource};

use super::problem::{Place, Problem};
use super::read::{Fields, hint};
use super::step::{
    STEP_KEYS, custom_events, handler, keep, map, queue, retry, timeout, trigger_rule, undo, wait,
};
use super::tree::{Node, Value};
use crate::code;
use crate::handler::{TASK, View};

/// The keys of a file.
pub(super) const TASK_KEYS: &[&str] = &[
    "name",
    "namespace_name",
    "version",
    "description",
    "schema",
    "deadline",
    "queue",
    "step_templates",
    "named_steps",
    "default_dependent_system",
    "environments",
    "task_handler_class",
    "module_namespace",
    "concurrent",
    "configuration",
    "handler_config",
    "custom_events",
];
/// Keys of the original that are understood and change nothing, and why.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("task_handler_class", "a template needs no class of its own"),
    ("module_namespace", "a template needs no class of its own"),
    (
        "concurrent",
        "steps always run as soon as their parents are done",
    ),
    (
        "configuration",
        "nothing reads it; a step's settings are its `handler_config`",
    ),
    (
        "handler_config",
        "nothing reads it here; it belongs to a step",
    ),
    (
        "custom_events",
        "nothing reads them here; they belong to a step",
    ),
];

/// What was read: the definition, and where each step names its handler.
pub(super) struct Read {
    pub(super) source: TemplateSource,
    pub(super) handlers: Vec<Place>,
}

/// Reads a definition, and notes everything that is wrong with it.
pub(super) fn read(
    root: &Node,
    problems: &mut Vec<Problem>,
    notes: &mut Vec<Problem>,
) -> Option<Read> {
    let before = problems.len();
    let file = Fields::of(root, "the file", TASK_KEYS, problems)?;
    for (key, why) in WITHOUT_EFFECT {
        if file.get(key).is_some() {
            notes.push(Problem::new(
                file.place(key),
                format!("`{key}` has no effect: {why}"),
            ));
        }
    }
    let namespace = file
        .text("namespace_name", problems)
        .unwrap_or(Namespace::DEFAULT);
    file.required("name", problems);
    let name = file.text("name", problems).unwrap_or_default();
    // `shop/order` in namespace `shop` is its full name (spec 16 S-58).
    let prefixed = name
        .split_once('/')
        .filter(|(prefix, _)| *prefix == namespace);
    let name = prefixed.map_or(name, |(_, bare)| bare);
    let version = file.text("version", problems).map(str::parse::<Version>);
    let version = version.and_then(|parsed| keep(parsed, file.at_value("version"), problems));
    let namespace = keep(
        Namespace::new(namespace),
        file.at_value("namespace_name"),
        problems,
    );
    let name = file
        .get("name")
        .and_then(|node| keep(TaskName::new(name), node.at, problems));
    let schema = schema(&file, problems);
    file.required("step_templates", problems);
    let steps = Steps::read(&file, problems, notes);
    let source = TemplateSource {
        namespace: namespace.unwrap_or_default(),
        name: name?,
        version: version.unwrap_or_default(),
        description: file
            .text("description", problems)
            .unwrap_or_default()
            .to_owned(),
        schema,
        deadline_ms: file.span_ms("deadline", problems),
        queue: queue(&file, problems),
        steps: steps.templates,
    };
    if problems.len() > before {
        return None;
    }
    // What is left to find has no better place than the list.
    if let Err(invalid) = TaskTemplate::new(source.clone()) {
        let at = file.place("step_templates");
        let wrong = invalid.problems.iter();
        problems.extend(wrong.map(|problem| Problem::new(at, problem.to_string())));
        return None;
    }
    let handlers = steps.handlers;
    Some(Read { source, handlers })
}

fn schema(file: &Fields<'_>, problems: &mut Vec<Problem>) -> Option<serde_json::Value> {
    let node = file.get("schema")?;
    let schema = node.to_json();
    if let Err(invalid) = ContextSchema::compile(schema.clone()) {
        problems.push(Problem::new(
            node.at_pointer(&invalid.path),
            invalid.to_string(),
        ));
    }
    Some(schema)
}

/// The steps of a file, with what is needed to say where something is wrong.
#[derive(Default)]
struct Steps<'a> {
    templates: Vec<StepTemplate>,
    handlers: Vec<Place>,
    names: Vec<(&'a str, Place)>,
    parents: Vec<Vec<(&'a str, Place)>>,
}

impl<'a> Steps<'a> {
    fn read(file: &Fields<'a>, problems: &mut Vec<Problem>, notes: &mut Vec<Problem>) -> Steps<'a> {
        let mut steps = Steps::default();
        let system = file.text("default_dependent_system", problems);
        for (number, node) in file
            .list("step_templates", problems)
            .unwrap_or_default()
            .iter()
            .enumerate()
        {
            steps.add(number + 1, node, system, problems, notes);
        }
        let listed = file.texts("named_steps", problems);
        if file.get("named_steps").is_some() {
            steps.check_listed(&listed, problems);
        }
        steps.check_graph(problems);
        steps
    }

    fn add(
        &mut self,
        number: usize,
        node: &'a Node,
        system: Option<&str>,
        problems: &mut Vec<Problem>,
        notes: &mut Vec<Problem>,
    ) {
        let Some(fields) = Fields::of(node, whose(node, number), STEP_KEYS, problems) else {
            return;
        };
        fields.required("name", problems);
        let name = fields.text("name", problems).unwrap_or_default();
        let parents = parents(&fields, problems);
        let (handler, config) = handler(&fields, problems);
        let written = config.map(Node::to_json);
        let checked = fields
            .get("name")
            .and_then(|node| keep(StepName::new(name), node.at, problems));
        let placeholder = || StepName::new("step").expect("invariant: a valid name");
        let own = fields.text("dependent_system", problems);
        let (undo, undo_config) = undo(&fields, problems, notes);
        let starts_task = fields.flag("starts_task", problems).unwrap_or_default();
        let template = StepTemplate {
            starts_task: starts_task || handler.as_deref() == Some(TASK),
            handler: handler.unwrap_or_default(),
            map: map(&fields, problems),
            undo,
            point_of_no_return: fields
                .flag("point_of_no_return", problems)
                .unwrap_or_default(),
            description: fields
                .text("description", problems)
                .unwrap_or_default()
                .to_owned(),
            depends_on_steps: parents.iter().map(|(name, _)| (*name).to_owned()).collect(),
            trigger_rule: trigger_rule(&fields, parents.len(), problems),
            wait: wait(&fields, problems),
            retry: retry(&fields, problems, notes),
            timeout_ms: timeout(&fields, problems),
            skippable: fields.flag("skippable", problems).unwrap_or_default(),
            queue: queue(&fields, problems),
            dependent_system: own.or(system).map(str::to_owned),
            handler_config: written,
            when: fields.text("when", problems).map(str::to_owned),
            custom_events: custom_events(&fields, problems),
            ..StepTemplate::named(checked.unwrap_or_else(placeholder))
        };
        for problem in code::problems(&template, View::Task) {
            let at = match problem.key {
                "handler_config" => config.map_or(node.at, |node| node.at_pointer(&problem.path)),
                "undo" if undo_config.is_some() => {
                    undo_config.map_or(node.at, |node| node.at_pointer(&problem.path))
                }
                key => fields.at_value(key),
            };
            let message = match problem.path.strip_prefix('/') {
                Some(path) => format!("`{path}`: {}", problem.problem),
                None => problem.problem,
            };
            problems.push(Problem::new(at, message));
        }
        self.templates.push(template);
        self.handlers
            .push(fields.place(if fields.get("handler").is_some() {
                "handler"
            } else {
                "handler_class"
            }));
        self.names.push((name, fields.at_value("name")));
        self.parents.push(parents);
    }

    /// With a list of names, whatever is not on it is a mistake (spec 03 §4.3).
    fn check_listed(&self, listed: &[(&str, Place)], problems: &mut Vec<Problem>) {
        let known: Vec<&str> = listed.iter().map(|(name, _)| *name).collect();
        let mut check = |what: &str, name: &str, at: Place| {
            if !known.contains(&name) {
                let hint = hint(name, &known);
                let message = format!("{what} '{name}' is not in the named_steps list{hint}");
                problems.push(Problem::new(at, message));
            }
        };
        for ((name, at), parents) in self.names.iter().zip(&self.parents) {
            check("Step template name", name, *at);
            for (parent, at) in parents {
                check("Dependency step", parent, *at);
            }
        }
    }

    fn check_graph(&self, problems: &mut Vec<Problem>) {
        let names = self.names.iter().map(|(name, _)| *name);
        let parents = self
            .parents
            .iter()
            .map(|of| of.iter().map(|(name, _)| *name));
        for error in Dag::new(names.zip(parents)).err().into_iter().flatten() {
            problems.push(Problem::new(self.place_of(&error), error.to_string()));
        }
    }

    fn place_of(&self, error: &DagError) -> Place {
        let of = |wanted: &str| self.names.iter().position(|(name, _)| *name == wanted);
        match error {
            DagError::UnknownDependency {
                step, dependency, ..
            } => {
                let parents = of(step).into_iter().flat_map(|place| &self.parents[place]);
                let mut named = parents.filter(|(name, _)| name == dependency);
                named.next().map_or(Place::START, |(_, at)| *at)
            }
            DagError::Duplicate { second, .. } => self.names[second - 1].1,
            DagError::Cycle { path } => {
                let first = path.first().and_then(|name| of(name));
                first.map_or(Place::START, |place| self.names[place].1)
            }
        }
    }
}

/// The two keys of dependencies, joined.
fn parents<'a>(fields: &Fields<'a>, problems: &mut Vec<Problem>) -> Vec<(&'a str, Place)> {
    let mut parents = Vec::new();
    if let Some(parent) = fields.text("depends_on_step", problems) {
        parents.push((parent, fields.at_value("depends_on_step")));
    }
    for parent in fields.texts("depends_on_steps", problems) {
        if !parents.iter().any(|(known, _)| *known == parent.0) {
            parents.push(parent);
        }
    }
    parents
}

/// A step in words: by its name, or else by its number.
fn whose(node: &Node, number: usize) -> String {
    let Value::Map(entries) = &node.value else {
        return format!("step number {number}");
    };
    let name = entries.iter().find(|(key, _)| key.name == "name");
    match name.map(|(_, node)| &node.value) {
        Some(Value::Text(name)) => format!("step `{name}`"),
        _ => format!("step number {number}"),
    }
}
