//! What expressions are evaluated over.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use serde_json::{Map, Value};

use crate::handler::{PermanentError, StepContext};

use super::Uses;
use super::convert;
use super::syntax::Segment;

/// The variables of one attempt, as far as its expressions need them.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    variables: BTreeMap<&'static str, Variable>,
}

#[derive(Debug)]
struct Variable {
    json: Value,
    /// Made when an expression first needs it: most of them only select.
    converted: OnceLock<Box<dyn Val>>,
}

impl Scope {
    /// What an attempt offers of what is used.
    ///
    /// Fails only if what is stored cannot be read.
    pub(crate) fn new(attempt: &StepContext, uses: &Uses) -> Result<Scope, PermanentError> {
        let mut scope = Scope::default();
        for name in &uses.variables {
            let value = match *name {
                "context" => attempt.context()?,
                "results" => results(attempt, uses)?,
                "item" => attempt.item()?,
                "index" => attempt.index().into(),
                "step" => attempt.name().into(),
                "task_id" => attempt.task_id().to_string().into(),
                "attempt" => attempt.attempt().into(),
                "attempt_limit" => attempt.attempt_limit().into(),
                "idempotency_key" => attempt.idempotency_key().into(),
                "signal" if attempt.signal_json().is_some() => attempt.signal()?,
                "signal" => Value::Null,
                "env" => environment(uses),
                // Is set later.
                _ => continue,
            };
            scope.set(name, value);
        }
        Ok(scope)
    }

    /// Adds a variable, or replaces it.
    pub(crate) fn set(&mut self, name: &'static str, value: Value) {
        let variable = Variable {
            json: value,
            converted: OnceLock::new(),
        };
        self.variables.insert(name, variable);
    }

    /// What the environment gave: not to be shown anywhere.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let env = self.variables.get("env");
        let members = env.and_then(|env| env.json.as_object());
        members
            .into_iter()
            .flat_map(Map::values)
            .filter_map(Value::as_str)
    }

    pub(super) fn lacks_env(&self, name: &str) -> bool {
        let env = self.variables.get("env");
        env.is_none_or(|env| env.json.get(name).is_none())
    }

    /// A member of a variable; the problem names the part of the path that is missing.
    pub(super) fn select(&self, root: &str, path: &[Segment]) -> Result<Value, String> {
        let variable = self.variables.get(root);
        let mut value = &variable
            .ok_or_else(|| format!("there is no `{root}`"))?
            .json;
        let mut walked = root.to_owned();
        for segment in path {
            let (found, name) = match segment {
                Segment::Key(key) => (value.get(key), format!("`{key}`")),
                Segment::Index(index) => (value.get(index), format!("element {index}")),
            };
            value = found.ok_or_else(|| match value {
                Value::Object(_) | Value::Array(_) => format!("`{walked}` has no {name}"),
                other => format!("`{walked}` is {} and has no {name}", kind(other)),
            })?;
            walked = match segment {
                Segment::Key(key) => format!("{walked}.{key}"),
                Segment::Index(index) => format!("{walked}[{index}]"),
            };
        }
        Ok(value.clone())
    }
}

impl VariableResolver for Scope {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let variable = self.variables.get(name)?;
        let value = variable.converted.get_or_init(|| {
            convert::from_json(&variable.json)
                .try_into()
                .expect("invariant: every JSON value is one of the language")
        });
        Some(CowVal::Borrowed(value.as_ref()))
    }
}

/// The results of the parents that are named, or of all; `null` for one without result.
fn results(attempt: &StepContext, uses: &Uses) -> Result<Value, PermanentError> {
    let mut members = Map::new();
    for name in attempt.parent_names() {
        if uses.any_result || uses.results.contains(name) {
            let value = match attempt.parent_json(name)? {
                Some(_) => attempt.parent(name)?,
                None => Value::Null,
            };
            members.insert(name.to_owned(), value);
        }
    }
    if attempt.undoes() {
        // It knows the parents of what it undoes by their results alone.
        for name in &uses.results {
            members.entry(name).or_insert(Value::Null);
        }
    }
    Ok(Value::Object(members))
}

/// Those variables that are named: never the whole environment.
fn environment(uses: &Uses) -> Value {
    let known = uses
        .env
        .iter()
        .filter_map(|name| Some((name.clone(), std::env::var(name).ok()?.into())));
    Value::Object(known.collect())
}

/// What a value is, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
