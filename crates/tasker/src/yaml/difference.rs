//! What two definitions do not have in common.

use serde::Serialize;
use serde_json::Value;
use tasker_model::template::TaskTemplate;

use super::canonical::to_value;

/// One thing in which two definitions differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Where, as in the file, with steps by their names: `step_templates.charge.retry_limit`.
    pub at: String,
    /// What the first says; `None` if it leaves the key out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What the second says; `None` if it leaves the key out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// Compares two definitions key by key, and their steps by name.
pub fn differences(before: &TaskTemplate, after: &TaskTemplate) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(
        "",
        Some(&to_value(before)),
        Some(&to_value(after)),
        &mut found,
    );
    found
}

fn compare(at: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    match (before, after) {
        (before, after) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let added = after.keys().filter(|key| !before.contains_key(*key));
            for key in before.keys().chain(added) {
                compare(&join(at, key), before.get(key), after.get(key), found);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) if at == "step_templates" => {
            compare_steps(at, before, after, found);
        }
        _ => found.push(Difference {
            at: at.to_owned(),
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

fn join(at: &str, key: &str) -> String {
    if at.is_empty() {
        key.to_owned()
    } else {
        format!("{at}.{key}")
    }
}

/// Steps by name; their order counts, too, since results are listed in it.
fn compare_steps(at: &str, before: &[Value], after: &[Value], found: &mut Vec<Difference>) {
    let name = |step: &Value| step["name"].as_str().unwrap_or_default().to_owned();
    let of =
        |steps: &[Value], wanted: &str| steps.iter().find(|step| name(step) == wanted).cloned();
    let both =
        |step: &&Value| of(before, &name(step)).is_some() && of(after, &name(step)).is_some();
    let order = |steps: &[Value]| steps.iter().filter(both).map(name).collect::<Vec<_>>();
    let (order_before, order_after) = (order(before), order(after));
    if order_before != order_after {
        let at = format!("{at} (order)");
        let (before, after) = (Some(order_before.into()), Some(order_after.into()));
        found.push(Difference { at, before, after });
    }
    let added = after
        .iter()
        .filter(|step| of(before, &name(step)).is_none());
    for step in before.iter().chain(added) {
        let name = name(step);
        let (before, after) = (of(before, &name), of(after, &name));
        compare(&join(at, &name), before.as_ref(), after.as_ref(), found);
    }
}
