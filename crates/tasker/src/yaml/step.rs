//! The keys of one step.

use tasker_model::name::{Queue, SignalName};
use tasker_model::retry::{Backoff, RetryPolicy};
use tasker_model::subtask::{Gather, MAP_CONCURRENCY};
use tasker_model::template::{CustomEvent, MapOver, Undo};
use tasker_model::trigger::TriggerRule;
use tasker_model::wait::WaitFor;

use super::problem::{Place, Problem};
use super::read::{Fields, hint};
use super::tree::{Node, Value};
use crate::handler::{COMMAND, HTTP, PASS, TASK};

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
    "map",
    "starts_task",
    "undo",
    "point_of_no_return",
];

/// The keys of what undoes a step.
const UNDO_KEYS: &[&str] = &[
    "handler",
    "handler_class",
    "handler_config",
    "default_retryable",
    "retryable",
    "default_retry_limit",
    "retry_limit",
    "backoff",
    "retry_after_cap",
    "timeout",
];

/// The value, or one problem more.
pub(super) fn keep<T, E: std::fmt::Display>(
    checked: Result<T, E>,
    at: Place,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let problem = |error: E| problems.push(Problem::new(at, error.to_string()));
    checked.map_err(problem).ok()
}

pub(super) fn queue(fields: &Fields<'_>, problems: &mut Vec<Problem>) -> Option<Queue> {
    let name = fields.text("queue", problems)?;
    keep(Queue::new(name), fields.at_value("queue"), problems)
}

/// What performs the step, and what it is told: a registered name, or the kind of a step that
/// needs no code, such as `handler: {http: …}`, with its settings.
pub(super) fn handler<'a>(
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
pub(super) const KINDS: [(&str, &str); 3] = [("http", HTTP), ("command", COMMAND), ("task", TASK)];

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
pub(super) fn trigger_rule(
    fields: &Fields<'_>,
    parents: usize,
    problems: &mut Vec<Problem>,
) -> TriggerRule {
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
pub(super) fn wait(fields: &Fields<'_>, problems: &mut Vec<Problem>) -> Option<WaitFor> {
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

/// `map: results.list`, or `{over: results.list, concurrency: 10, max_failures: 5, gather: count}`.
pub(super) fn map(fields: &Fields<'_>, problems: &mut Vec<Problem>) -> Option<MapOver> {
    const WORDS: [(&str, Gather); 2] = [("list", Gather::List), ("count", Gather::Count)];
    let node = fields.get("map")?;
    if let Value::Text(over) = &node.value {
        return Some(MapOver::new(over));
    }
    let keys = ["over", "concurrency", "max_failures", "gather"];
    let map = Fields::of(node, "`map`", &keys, problems)?;
    map.required("over", problems);
    let over = map.text("over", problems)?;
    let word = map.text("gather", problems).unwrap_or("list");
    let gather = WORDS.iter().find(|(known, _)| *known == word);
    if gather.is_none() {
        let hint = hint(word, &WORDS.map(|(word, _)| word));
        let message = format!("a map gathers no `{word}`{hint}");
        problems.push(Problem::new(map.at_value("gather"), message));
    }
    let over = MapOver {
        concurrency: map
            .whole("concurrency", problems)
            .unwrap_or(MAP_CONCURRENCY),
        max_failures: map.whole("max_failures", problems).unwrap_or_default(),
        gather: gather.map_or(Gather::List, |(_, gather)| *gather),
        ..MapOver::new(over)
    };
    if let Some(problem) = over.problem() {
        problems.push(Problem::new(map.at_value("concurrency"), problem));
    }
    Some(over)
}

/// `undo: Shop::Refund`, or a mapping with a handler of any kind and what is said of its attempts; with the
/// settings of the handler, if there are any.
pub(super) fn undo<'a>(
    fields: &Fields<'a>,
    problems: &mut Vec<Problem>,
    notes: &mut Vec<Problem>,
) -> (Option<Undo>, Option<&'a Node>) {
    let Some(node) = fields.get("undo") else {
        return (None, None);
    };
    if let Value::Text(name) = &node.value {
        return (Some(Undo::by(name)), None);
    }
    let Some(undo) = Fields::of(node, "`undo`", UNDO_KEYS, problems) else {
        return (None, None);
    };
    let (handler, config) = handler(&undo, problems);
    let read = Undo {
        handler_config: config.map(Node::to_json),
        retry: retry(&undo, problems, notes),
        timeout_ms: timeout(&undo, problems),
        ..Undo::by(handler.unwrap_or_default())
    };
    (Some(read), config)
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

pub(super) fn retry(
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

pub(super) fn timeout(fields: &Fields<'_>, problems: &mut Vec<Problem>) -> Option<u64> {
    let timeout = fields.span_ms("timeout", problems)?;
    if timeout == 0 {
        let message = "a timeout of 0 would end the attempt before it starts";
        problems.push(Problem::new(fields.at_value("timeout"), message));
    }
    Some(timeout)
}

pub(super) fn custom_events(fields: &Fields<'_>, problems: &mut Vec<Problem>) -> Vec<CustomEvent> {
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
