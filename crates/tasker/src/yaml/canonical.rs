//! A definition as a file: the one form that all ways of writing it lead to.

use serde_json::{Map, Value, json};
use tasker_model::retry::{Backoff, RetryPolicy};
use tasker_model::subtask::{Gather, MAP_CONCURRENCY};
use tasker_model::template::{MapOver, StepTemplate, TaskTemplate, Undo};
use tasker_model::wait::WaitFor;

use super::step::KINDS;
use crate::handler::{PASS, TASK};

/// Shows a definition as YAML: every key in its place, defaults left out. Reading it gives the same
/// content hash.
pub fn to_yaml(template: &TaskTemplate) -> String {
    let options = serde_saphyr::ser_options! { compact_list_indent: true };
    let mut text = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut text, &to_value(template), options)
        .expect("invariant: JSON can be written as YAML, and to a String");
    text
}

/// The file as a value, in the order of its keys.
pub(super) fn to_value(template: &TaskTemplate) -> Value {
    let source = template.source();
    let mut file = Map::new();
    let mut put = |key: &str, value: Value| put(&mut file, key, value);
    put("name", json!(source.name));
    put("namespace_name", json!(source.namespace));
    put("version", json!(source.version));
    put("description", json!(source.description));
    put("queue", json!(source.queue));
    put("deadline", source.deadline_ms.map_or(Value::Null, span));
    put("schema", json!(source.schema));
    put("step_templates", source.steps.iter().map(step).collect());
    Value::Object(file)
}

/// Adds a key unless its value says nothing.
fn put(to: &mut Map<String, Value>, key: &str, value: Value) {
    let says_nothing = match &value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    if !says_nothing {
        to.insert(key.to_owned(), value);
    }
}

fn step(template: &StepTemplate) -> Value {
    let mut step = Map::new();
    let mut put = |key: &str, value: Value| put(&mut step, key, value);
    put("name", json!(template.name));
    let (handler, config) = performer(&template.handler, template.handler_config.as_ref());
    let only_waits = template.handler == PASS && template.wait.is_some();
    put("handler", unless(only_waits, handler));
    put("description", json!(template.description));
    put("dependent_system", json!(template.dependent_system));
    let parents = &template.depends_on_steps;
    put(
        "depends_on_steps",
        unless(parents.is_empty(), json!(parents)),
    );
    put(
        "trigger_rule",
        unless(
            template.trigger_rule.is_default(),
            json!(template.trigger_rule),
        ),
    );
    put("when", json!(template.when));
    match &template.wait {
        None => {}
        Some(WaitFor::Delay { delay_ms }) => put("delay", span(*delay_ms)),
        Some(WaitFor::Until { time }) => put("until", json!(time)),
        Some(wait @ WaitFor::Signal { .. }) => put("wait_for", wait_for(wait)),
    }
    retry(&template.retry, &mut put);
    put("timeout", template.timeout_ms.map_or(Value::Null, span));
    put("skippable", unless(!template.skippable, json!(true)));
    put("queue", json!(template.queue));
    put("handler_config", config);
    put("map", template.map.as_ref().map_or(Value::Null, map));
    put(
        "starts_task",
        unless(
            !template.starts_task || template.handler == TASK,
            json!(true),
        ),
    );
    put("undo", template.undo.as_ref().map_or(Value::Null, undo));
    put(
        "point_of_no_return",
        unless(!template.point_of_no_return, json!(true)),
    );
    let events = &template.custom_events;
    put("custom_events", unless(events.is_empty(), json!(events)));
    Value::Object(step)
}

fn unless(is_default: bool, value: Value) -> Value {
    if is_default { Value::Null } else { value }
}

/// The values of `handler` and `handler_config`.
fn performer(handler: &str, config: Option<&Value>) -> (Value, Value) {
    let config = config.cloned().unwrap_or_default();
    match KINDS.iter().find(|(_, known)| *known == handler) {
        Some((kind, _)) => (json!({*kind: config}), Value::Null),
        None => (json!(handler), config),
    }
}

fn retry(retry: &RetryPolicy, put: &mut impl FnMut(&str, Value)) {
    let default = RetryPolicy::default();
    put(
        "retryable",
        unless(retry.retryable == default.retryable, json!(retry.retryable)),
    );
    put(
        "retry_limit",
        unless(retry.limit == default.limit, json!(retry.limit)),
    );
    put(
        "backoff",
        unless(retry.backoff == default.backoff, backoff(&retry.backoff)),
    );
    let cap = retry.server_delay_cap_ms;
    put(
        "retry_after_cap",
        unless(cap == default.server_delay_cap_ms, span(cap)),
    );
}

fn map(map: &MapOver) -> Value {
    if *map == MapOver::new(map.over.as_str()) {
        return json!(map.over);
    }
    let mut of = Map::new();
    of.insert("over".to_owned(), json!(map.over));
    if map.concurrency != MAP_CONCURRENCY {
        of.insert("concurrency".to_owned(), json!(map.concurrency));
    }
    if map.max_failures != 0 {
        of.insert("max_failures".to_owned(), json!(map.max_failures));
    }
    if map.gather != Gather::List {
        of.insert("gather".to_owned(), json!(map.gather));
    }
    Value::Object(of)
}

fn undo(undo: &Undo) -> Value {
    let is_name = !KINDS.iter().any(|(_, handler)| *handler == undo.handler);
    if is_name && *undo == Undo::by(undo.handler.as_str()) {
        return json!(undo.handler);
    }
    let mut of = Map::new();
    let mut put = |key: &str, value: Value| put(&mut of, key, value);
    let (handler, config) = performer(&undo.handler, undo.handler_config.as_ref());
    put("handler", handler);
    retry(&undo.retry, &mut put);
    put("timeout", undo.timeout_ms.map_or(Value::Null, span));
    put("handler_config", config);
    Value::Object(of)
}

fn wait_for(wait: &WaitFor) -> Value {
    let WaitFor::Signal {
        name,
        timeout_ms,
        default,
    } = wait
    else {
        return Value::Null;
    };
    let Some(timeout_ms) = timeout_ms else {
        return json!(name);
    };
    let mut signal = Map::new();
    signal.insert("signal".to_owned(), json!(name));
    signal.insert("timeout".to_owned(), span(*timeout_ms));
    if let Some(default) = default {
        signal.insert("default".to_owned(), default.clone());
    }
    Value::Object(signal)
}

fn backoff(backoff: &Backoff) -> Value {
    match backoff {
        Backoff::Fixed { delay_ms } => json!({"fixed": span(*delay_ms)}),
        Backoff::Exponential {
            base_ms,
            cap_ms,
            jitter,
        } => {
            json!({"exponential": {"base": span(*base_ms), "cap": span(*cap_ms), "jitter": jitter}})
        }
        Backoff::Table {
            delays_ms,
            multiplier,
            cap_ms,
            jitter,
        } => {
            let delays: Vec<Value> = delays_ms.iter().copied().map(span).collect();
            json!({"table": {
                "delays": delays, "multiplier": multiplier, "cap": span(*cap_ms), "jitter": jitter
            }})
        }
    }
}

/// A span of whole seconds as a number of seconds, another one in milliseconds.
fn span(ms: u64) -> Value {
    if ms.is_multiple_of(1_000) {
        json!(ms / 1_000)
    } else {
        json!(format!("{ms}ms"))
    }
}
