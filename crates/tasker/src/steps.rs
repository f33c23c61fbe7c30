//! Steps that need no code: what they do is written in the definition.
//!
//! [`command`] runs a program, [`http`] sends a request, [`task`] starts a task. They are made from the
//! `handler_config` of a step, checked as a whole when the definition is read.

mod config;
mod redact;
#[cfg(test)]
mod server;
pub(crate) mod command;
pub(crate) mod http;
pub(crate) mod task;

use std::time::Duration;

use serde_json::Value;
use tasker_model::outcome::{Failure, FailureKind};

use crate::expression::{ExpressionError, results_named};
use crate::handler::PermanentError;

use command::all_ended;

/// What is wrong with a configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigProblem {
    /// A JSON pointer within the configuration.
    pub(crate) path: String,
    /// For people, in one line.
    pub(crate) problem: String,
}

/// The steps whose results a configuration names, as far as its expressions show it, and where: a
/// JSON pointer. A step that does not depend on them has no such results.
pub(crate) fn parents_named(config: &Value) -> Vec<(String, String)> {
    results_named(config)
}

/// Waits until nothing is left of all programs that were asked to end, and gives whether that is so
/// in time. For the end of a process: a program that ignores SIGTERM outlives it otherwise.
pub(crate) fn programs_ended(within: Duration) -> bool {
    all_ended(within)
}

/// A failure that further attempts cannot mend.
fn permanent(code: &str, message: impl Into<String>) -> Box<Failure> {
    Box::new(Failure {
        error_code: Some(code.to_owned()),
        ..Failure::new(FailureKind::Permanent, message)
    })
}

/// A failure that may go away.
fn retryable(code: &str, message: impl Into<String>) -> Box<Failure> {
    Box::new(Failure {
        error_code: Some(code.to_owned()),
        ..Failure::new(FailureKind::Retryable, message)
    })
}

/// An expression of a key has no value.
fn valueless(key: &str, error: &ExpressionError) -> Box<Failure> {
    let message = format!("`{key}`: {error}");
    // A worker with another environment may well do it.
    if error.elsewhere {
        return retryable("ENVIRONMENT", message);
    }
    permanent("EXPRESSION", message)
}

fn unreadable(error: PermanentError) -> Box<Failure> {
    Box::new(Failure {
        error_code: error.error_code,
        context: error.context,
        ..Failure::new(FailureKind::Permanent, error.message)
    })
}

/// A value that belongs to a failure, beside the others.
fn with_context(mut failure: Box<Failure>, key: &str, value: impl Into<Value>) -> Box<Failure> {
    if !failure.context.is_object() {
        failure.context = Value::Object(serde_json::Map::new());
    }
    failure.context[key] = value.into();
    failure
}

#[cfg(test)]
mod tests;
