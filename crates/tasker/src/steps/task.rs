//! A step that starts a task, and has its result.
//!
//! What it gives is the request; the engine starts the task as a sub-task, waits for it, and puts its
//! result in the place of the request.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use serde_json::Value;
use tasker_model::json::Json;
use tasker_model::name::{Namespace, TaskName, Version};
use tasker_model::outcome::{Failure, Outcome};
use tasker_model::request::TaskRequest;

use crate::expression::{Scope, ValueTemplate, Variables};
use crate::handler::{StepCode, StepContext};

use super::config::Reader;
use super::{ConfigProblem, permanent, unreadable, valueless};

const KEYS: &[&str] = &[
    "name",
    "namespace",
    "version",
    "context",
    "tags",
    "bypass_steps",
    "priority",
    "start_at",
];

/// The handler of a step that starts a task; or everything that is wrong with its configuration.
pub(crate) fn task(config: &Value, variables: Variables) -> Result<StepCode, Vec<ConfigProblem>> {
    let request = Arc::new(read(config, variables)?);
    Ok(Arc::new(move |attempt| {
        let outcome = match asked(&request, &attempt) {
            Ok(result) => Outcome::Completed { result },
            Err(failure) => Outcome::Failed(*failure),
        };
        futures_util::future::ready(outcome).boxed()
    }))
}

/// What is written out is checked now, what expressions give when they are evaluated.
fn read(config: &Value, variables: Variables) -> Result<ValueTemplate, Vec<ConfigProblem>> {
    let mut reader = Reader::new(config, KEYS)?;
    reader.required("name");
    text::<TaskName>(&mut reader, "name");
    text::<Namespace>(&mut reader, "namespace");
    text::<Version>(&mut reader, "version");
    text::<Timestamp>(&mut reader, "start_at");
    shape(&mut reader, "context", "an object", Value::is_object);
    shape(&mut reader, "tags", "a list", Value::is_array);
    shape(&mut reader, "bypass_steps", "a list", Value::is_array);
    shape(&mut reader, "priority", "a whole number", Value::is_i64);
    let whole = ValueTemplate::compile(config, variables.plain());
    let whole = whole.map_err(|problems| {
        let problems = problems.into_iter().map(|found| ConfigProblem {
            path: found.path,
            problem: found.problem.to_string(),
        });
        reader.problems.extend(problems);
    });
    reader.end(whole.ok())
}

/// A text that is written out must be one that a request may have there.
fn text<T: FromStr<Err: Display>>(config: &mut Reader<'_>, key: &str) {
    let written = config.text(key).filter(|text| !text.contains("${{"));
    if let Some(Err(error)) = written.map(|text| text.parse::<T>()) {
        config.refuse(key, error.to_string());
    }
}

/// A value is of a type, unless an expression gives it.
fn shape(config: &mut Reader<'_>, key: &str, what: &str, fits: impl Fn(&Value) -> bool) {
    let Some(value) = config.get(key).filter(|value| !fits(value)) else {
        return;
    };
    if !value.as_str().is_some_and(|text| text.contains("${{")) {
        config.expected(key, &format!("{what} or an expression"), value);
    }
}

/// The request, as the engine reads it.
fn asked(request: &ValueTemplate, attempt: &StepContext) -> Result<Json, Box<Failure>> {
    let scope = Scope::new(attempt, request.uses()).map_err(unreadable)?;
    let value = request.evaluate(&scope);
    let mut value = value.map_err(|error| valueless("task", &error))?;
    let members = value
        .as_object_mut()
        .expect("invariant: the configuration is an object");
    // A key that says nothing is as good as none.
    members.retain(|_, value| !value.is_null());
    let namespace = attempt.namespace();
    members
        .entry("namespace")
        .or_insert_with(|| namespace.into());
    members
        .entry("context")
        .or_insert_with(|| Value::Object(serde_json::Map::new()));
    let checked: TaskRequest = serde_json::from_value(value).map_err(|error| {
        let text = format!("`task` makes no request: {error}");
        permanent("NOT_A_REQUEST", text)
    })?;
    Json::of(&checked).map_err(|error| permanent("NOT_A_REQUEST", error.to_string()))
}
