//! From a file's tree to a definition.

use tasker_model::dag::{Dag, DagError};
use tasker_model::name::{Namespace, Queue, SignalName, StepName, TaskName, Version};
use tasker_model::retry::{Backoff, RetryPolicy};
use tasker_model::schema::ContextSchema;
use tasker_model::template::{CustomEvent, StepTemplate, TaskTemplate, TemplateSource};
use tasker_model::trigger::TriggerRule;
use tasker_model::wait::WaitFor;

use super::problem::{Place, Problem};
use super::read::{Fields, hint};
use super::tree::{Node, Value};
use crate::code;
use crate::handler::{COMMAND, HTTP, PASS};

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
/// The keys of a step.
pub(super) const STEP_KEYS: &[&str] = &[
    "name",
    "handler",
    "handler_class",
    "description",
    "dependent_system",
    "depends_on_step",
    "depends_on_steps",
    "trigger_rule",
    "when",
    "delay",
    "until",
    "wait_for",
    "default_retryable",
    "retryable",
    "default_retry_limit",
    "retry_limit",
    "backoff",
    "retry_after_cap",
    "timeout",
    "skippable",
    "queue",
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

/// The value, or one problem more.
fn keep<T, E: std::fmt::Display>(
    checked: Result<T, E>,
    at: Place,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let problem = |error: E| problems.push(Problem::new(at, error.to_string()));
    checked.map_err(problem).ok()
}

fn queue(fields: &Fields<'_>, problems: &mut Vec<Problem>) -> Option<Queue> {
    let name = fields.text("queue", problems)?;
    keep(Queue::new(name), fields.at_value("queue"), problems)
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
        let mut parents = Vec::new();
        if let Some(parent) = fields.text("depends_on_step", problems) {
            parents.push((parent, fields.at_value("depends_on_step")));
        }
        for parent in fields.texts("depends_on_steps", problems) {
            if !parents.iter().any(|(known, _)| *known == parent.0) {
                parents.push(parent);
            }
        }
        let (handler, config) = handler(&fields, problems);
        let written = config.map(Node::to_json);
        let checked = fields
            .get("name")
            .and_then(|node| keep(StepName::new(name), node.at, problems));
        let placeholder = || StepName::new("step").expect("invariant: a valid name");
        let own = fields.text("dependent_system", problems);
        let template = StepTemplate {
            handler: handler.unwrap_or_default(),
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
        for problem in code::problems(&template) {
            let at = match problem.key {
                "handler_config" => config.map_or(node.at, |node| node.at_pointer(&problem.path)),
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

/// What performs the step, and what it is told: a registered name, or the kind of a step that
/// needs no code, `handler: {http: …}` or `handler: {command: …}`, with its settings.
fn handler<'a>(
    fields: &Fields<'a>,
    problems: &mut Vec<Problem>,
) -> (Option<String>, Option<&'a Node>) {
    let config = fields.get("handler_config");
    if let Some(node) = config.filter(|node| !matches!(node.value, Value::Map(_))) {
        let message = format!("`handler_config` must be a mapping; found {}", node.kind());
        problems.push(Problem::new(node.at, message));
    }
    let class = fields.text("handler_class", problems);
    let Some(node) = fields.get("handler") else {
        let mut waits = ["delay", "until", "wait_for"].into_iter();
        if fields.get("handler_class").is_none() {
            // A step that only waits needs no code.
            if waits.any(|key| fields.get(key).is_some()) {
                return (Some(PASS.to_owned()), config);
            }
            fields.required("handler", problems);
        }
        return (class.map(str::to_owned), config);
    };
    if class.is_some() {
        let message = "`handler` and `handler_class` are two names of the same key; keep one";
        problems.push(Problem::new(fields.place("handler_class"), message));
    }
    match &node.value {
        Value::Text(name) => (Some(name.clone()), config),
        Value::Map(_) => kind_of_step(node, config, problems),
        _ => {
            let message = format!(
                "`handler` must be a text, or a mapping with {}; found {}",
                KINDS.map(|(kind, _)| format!("`{kind}`")).join(" or "),
                node.kind()
            );
            problems.push(Problem::new(node.at, message));
            (None, config)
        }
    }
}

/// The steps that need no code, and the names of their handlers.
pub(super) const KINDS: [(&str, &str); 2] = [("http", HTTP), ("command", COMMAND)];

fn kind_of_step<'a>(
    node: &'a Node,
    config: Option<&'a Node>,
    problems: &mut Vec<Problem>,
) -> (Option<String>, Option<&'a Node>) {
    let known = KINDS.map(|(kind, _)| kind);
    let Some(kinds) = Fields::of(node, "`handler`", &known, problems) else {
        return (None, config);
    };
    if let Some(config) = config {
        let message = "`handler_config` has no effect: the settings stand with the handler";
        problems.push(Problem::new(config.at, message));
    }
    let named: Vec<_> = KINDS
        .iter()
        .filter(|(kind, _)| kinds.get(kind).is_some())
        .collect();
    let [(kind, handler)] = named.as_slice() else {
        let message = format!("`handler` must have exactly one of {}", known.join(", "));
        problems.push(Problem::new(node.at, message));
        return (None, config);
    };
    (Some((*handler).to_owned()), kinds.get(kind))
}

/// `trigger_rule: all_done`, or `{at_least: 2}`.
fn trigger_rule(fields: &Fields<'_>, parents: usize, problems: &mut Vec<Problem>) -> TriggerRule {
    const WORDS: &[(&str, TriggerRule)] = &[
        ("none_failed", TriggerRule::NoneFailed),
        ("all_success", TriggerRule::AllSuccess),
        ("any_success", TriggerRule::AnySuccess),
        ("any_failed", TriggerRule::AnyFailed),
        ("all_done", TriggerRule::AllDone),
    ];
    let Some(node) = fields.get("trigger_rule") else {
        return TriggerRule::default();
    };
    if let Value::Text(word) = &node.value {
        if let Some((_, rule)) = WORDS.iter().find(|(known, _)| known == word) {
            return *rule;
        }
        let known: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
        let hint = hint(word, &known);
        let message = format!("there is no trigger rule `{word}`{hint}, or `{{at_least: 2}}`");
        problems.push(Problem::new(node.at, message));
        return TriggerRule::default();
    }
    let Some(rule) = Fields::of(node, "`trigger_rule`", &["at_least"], problems) else {
        return TriggerRule::default();
    };
    rule.required("at_least", problems);
    let Some(count) = rule.whole("at_least", problems) else {
        return TriggerRule::default();
    };
    if count == 0 || count as usize > parents {
        let message = format!(
            "`at_least: {count}` of {parents} parents: at least 1, and no more than there are, \
             can be asked"
        );
        problems.push(Problem::new(rule.at_value("at_least"), message));
        return TriggerRule::default();
    }
    TriggerRule::AtLeast(count)
}

/// One of `delay: 5m`, `until: 2026-12-24T18:00:00Z` and `wait_for: approval`.
fn wait(fields: &Fields<'_>, problems: &mut Vec<Problem>) -> Option<WaitFor> {
    const KEYS: [&str; 3] = ["delay", "until", "wait_for"];
    let mut named = KEYS.into_iter().filter(|key| fields.get(key).is_some());
    let key = named.next()?;
    if let Some(second) = named.next() {
        let message = format!("a step waits for one thing: keep `{key}` or `{second}`");
        problems.push(Problem::new(fields.place(second), message));
    }
    match key {
        "delay" => fields
            .span_ms("delay", problems)
            .map(|delay_ms| WaitFor::Delay { delay_ms }),
        // Whether it is a time or an expression is seen with the rest of the step's code.
        "until" => fields.text("until", problems).map(|time| WaitFor::Until {
            time: time.to_owned(),
        }),
        _ => wait_for(fields, problems),
    }
}

/// `wait_for: approval`, or `{signal: approval, timeout: 2d, default: no}`.
fn wait_for(fields: &Fields<'_>, problems: &mut Vec<Problem>) -> Option<WaitFor> {
    let node = fields.get("wait_for")?;
    if let Value::Text(name) = &node.value {
        let name = keep(SignalName::new(name), node.at, problems)?;
        return Some(WaitFor::Signal {
            name,
            timeout_ms: None,
            default: None,
        });
    }
    let signal = Fields::of(
        node,
        "`wait_for`",
        &["signal", "timeout", "default"],
        problems,
    )?;
    signal.required("signal", problems);
    let name = signal.text("signal", problems)?;
    let timeout_ms = signal.span_ms("timeout", problems);
    let default = signal.value("default").map(Node::to_json);
    if default.is_some() && timeout_ms.is_none() {
        let message = "`default` has no effect without `timeout`: the step waits for ever";
        problems.push(Problem::new(signal.place("default"), message));
    }
    Some(WaitFor::Signal {
        name: keep(SignalName::new(name), signal.at_value("signal"), problems)?,
        timeout_ms,
        default,
    })
}

/// The two spellings of a key: that of the definition wins over the short one (spec 16 S-18).
fn spelled<T: PartialEq>(
    fields: &Fields<'_>,
    long: &str,
    short: &str,
    values: (Option<T>, Option<T>),
    notes: &mut Vec<Problem>,
) -> Option<T> {
    let (of_long, of_short) = values;
    if of_long.is_some() && of_short.is_some() && of_long != of_short {
        let message = format!("`{short}` has no effect: `{long}` says otherwise");
        notes.push(Problem::new(fields.place(short), message));
    }
    of_long.or(of_short)
}

fn retry(
    fields: &Fields<'_>,
    problems: &mut Vec<Problem>,
    notes: &mut Vec<Problem>,
) -> RetryPolicy {
    let default = RetryPolicy::default();
    let (long, short) = ("default_retryable", "retryable");
    let flags = (fields.flag(long, problems), fields.flag(short, problems));
    let retryable = spelled(fields, long, short, flags, notes);
    let (long, short) = ("default_retry_limit", "retry_limit");
    let limits = (fields.whole(long, problems), fields.whole(short, problems));
    let limit = spelled(fields, long, short, limits, notes);
    let policy = RetryPolicy {
        retryable: retryable.unwrap_or(default.retryable),
        limit: limit.unwrap_or(default.limit),
        backoff: backoff(fields, problems).unwrap_or_default(),
        server_delay_cap_ms: fields
            .span_ms("retry_after_cap", problems)
            .unwrap_or(default.server_delay_cap_ms),
    };
    if let Err(invalid) = policy.check() {
        let key = match invalid {
            tasker_model::retry::InvalidRetryPolicy::NoAttempt if fields.get(long).is_some() => {
                long
            }
            tasker_model::retry::InvalidRetryPolicy::NoAttempt => short,
            _ => "backoff",
        };
        problems.push(Problem::new(fields.place(key), invalid.to_string()));
    }
    policy
}

/// `backoff: {exponential: {base, cap, jitter}}`, `{fixed: span}` or `{table: {delays, …}}`.
fn backoff(fields: &Fields<'_>, problems: &mut Vec<Problem>) -> Option<Backoff> {
    const KINDS: &[&str] = &["exponential", "fixed", "table"];
    let node = fields.get("backoff")?;
    let kinds = Fields::of(node, "`backoff`", KINDS, problems)?;
    let named: Vec<&str> = KINDS
        .iter()
        .copied()
        .filter(|kind| kinds.get(kind).is_some())
        .collect();
    let [kind] = named.as_slice() else {
        let message = format!("`backoff` must have exactly one of {}", KINDS.join(", "));
        problems.push(Problem::new(node.at, message));
        return None;
    };
    if *kind == "fixed" {
        return kinds
            .span_ms("fixed", problems)
            .map(|delay_ms| Backoff::Fixed { delay_ms });
    }
    let settings = kinds.get(kind)?;
    if *kind == "exponential" {
        let settings = Fields::of(
            settings,
            "`exponential`",
            &["base", "cap", "jitter"],
            problems,
        )?;
        return Some(Backoff::Exponential {
            base_ms: settings.span_ms("base", problems).unwrap_or(1_000),
            cap_ms: settings.span_ms("cap", problems).unwrap_or(30_000),
            jitter: settings.number("jitter", problems).unwrap_or(0.1),
        });
    }
    let settings = Fields::of(
        settings,
        "`table`",
        &["delays", "multiplier", "cap", "jitter"],
        problems,
    )?;
    settings.required("delays", problems);
    Some(Backoff::Table {
        delays_ms: settings.spans_ms("delays", problems)?,
        multiplier: settings.number("multiplier", problems).unwrap_or(2.0),
        cap_ms: settings.span_ms("cap", problems).unwrap_or(300_000),
        jitter: settings.number("jitter", problems).unwrap_or(0.1),
    })
}

fn timeout(fields: &Fields<'_>, problems: &mut Vec<Problem>) -> Option<u64> {
    let timeout = fields.span_ms("timeout", problems)?;
    if timeout == 0 {
        let message = "a timeout of 0 would end the attempt before it starts";
        problems.push(Problem::new(fields.at_value("timeout"), message));
    }
    Some(timeout)
}

fn custom_events(fields: &Fields<'_>, problems: &mut Vec<Problem>) -> Vec<CustomEvent> {
    let mut events = Vec::new();
    for node in fields.list("custom_events", problems).unwrap_or_default() {
        let Some(event) = Fields::of(node, "an event", &["name", "description"], problems) else {
            continue;
        };
        event.required("name", problems);
        let name = event.text("name", problems).unwrap_or_default().to_owned();
        let description = event
            .text("description", problems)
            .unwrap_or_default()
            .to_owned();
        let custom = CustomEvent { name, description };
        if event.get("name").is_some() {
            keep(custom.check(), event.at_value("name"), problems);
        }
        events.push(custom);
    }
    events
}
