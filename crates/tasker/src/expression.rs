//! Values that are computed from the task's context and its parents' results.
//!
//! An expression is written in [CEL](https://cel.dev). It is compiled once, when its definition is
//! read: what can be known to be wrong with it is refused then. What it evaluates to is computed
//! for every attempt, from a [`Scope`]. No message of this module holds a value: a context may
//! hold what must not reach a log.

mod convert;
mod syntax;
mod scope;
mod template;

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::{Env, ExecutionError, Program};
use serde_json::Value;
use tasker_model::dag::nearest;

use crate::handler::View;

pub(crate) use scope::{Scope, kind};
pub(crate) use template::{ValueTemplate, results_named};

use syntax::Segment;

/// A longer expression is refused, in bytes.
const EXPRESSION_BYTES_MAX: usize = 4 * 1024;

/// The names that expressions may use: by what their step is part of, and by where they stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variables(&'static [&'static str]);

impl Variables {
    /// In a step of a task. Those that only some places have stand at the ends.
    pub(crate) const TASK: Variables = Variables(&[
        "response",
        "context",
        "results",
        "step",
        "task_id",
        "attempt",
        "attempt_limit",
        "idempotency_key",
        "signal",
        "env",
    ]);

    /// In what a step does with one item of a list.
    const ITEM: Variables = Variables(&[
        "response",
        "item",
        "index",
        "step",
        "task_id",
        "attempt",
        "attempt_limit",
        "idempotency_key",
        "env",
    ]);

    /// Those of a step that is part of this.
    pub(crate) const fn of(view: View) -> Variables {
        match view {
            View::Task | View::Undo => Variables::TASK,
            View::Item => Variables::ITEM,
        }
    }

    /// What every expression may name.
    pub(crate) fn plain(self) -> &'static [&'static str] {
        &self.0[1..self.0.len() - 1]
    }

    /// With the worker's environment, for what must not be written into files.
    pub(crate) fn with_env(self) -> &'static [&'static str] {
        &self.0[1..]
    }

    /// With the answer to a request.
    pub(crate) fn with_response(self) -> &'static [&'static str] {
        &self.0[..self.0.len() - 1]
    }
}

/// The language with its extensions. Without time: what a step does shall follow from its input.
static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    for extension in [
        cel::extensions::strings,
        cel::extensions::lists,
        cel::extensions::math,
        cel::extensions::encoders,
    ] {
        env.add_extension(extension)
            .expect("invariant: the extensions have different names");
    }
    Arc::new(env)
});

/// What an expression, or several together, need of a scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    /// The variables that are named.
    pub(crate) variables: BTreeSet<&'static str>,
    /// The steps whose results are named, as far as that can be seen: `results.fetch`.
    pub(crate) results: BTreeSet<String>,
    /// Whether results are also used in a way that shows at run time only: `results[context.from]`.
    pub(crate) any_result: bool,
    /// The environment variables.
    pub(crate) env: BTreeSet<String>,
}

impl Uses {
    /// Adds what others need.
    pub(crate) fn add(&mut self, other: &Uses) {
        self.variables.extend(other.variables.iter().copied());
        self.results.extend(other.results.iter().cloned());
        self.any_result |= other.any_result;
        self.env.extend(other.env.iter().cloned());
    }
}

/// An expression that is known to be well formed.
pub(crate) struct Expression {
    text: String,
    program: Program,
    /// If the expression only selects: then it is answered from the JSON itself, which is quicker
    /// than a conversion to and fro, and keeps the order of keys.
    path: Option<(&'static str, Vec<Segment>)>,
    uses: Uses,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", .column.map(|column| format!("column {column}: ")).unwrap_or_default())]
pub(crate) struct InvalidExpression {
    /// Counted in characters, from 1, within the expression.
    pub(crate) column: Option<usize>,
    /// In one line.
    pub(crate) message: String,
}

impl InvalidExpression {
    fn new(message: impl Into<String>) -> InvalidExpression {
        InvalidExpression {
            column: None,
            message: message.into(),
        }
    }
}

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the expression `{expression}` has no value: {problem}")]
pub(crate) struct ExpressionError {
    /// Its text.
    pub(crate) expression: String,
    /// What is missing or does not fit; never a value.
    pub(crate) problem: String,
    /// Whether another worker may know the value: the environment of this one lacks a variable.
    pub(crate) elsewhere: bool,
}

impl Expression {
    /// Checks a text; `variables` are the names that it may use.
    pub(crate) fn compile(
        text: &str,
        variables: &'static [&'static str],
    ) -> Result<Expression, InvalidExpression> {
        let text = text.trim();
        if text.is_empty() {
            return Err(InvalidExpression::new("the expression is empty"));
        }
        if text.len() > EXPRESSION_BYTES_MAX {
            let (length, max) = (text.len(), EXPRESSION_BYTES_MAX);
            let message =
                format!("the expression is {length} bytes long; at most {max} are allowed");
            return Err(InvalidExpression::new(message));
        }
        syntax::check_nesting(text)?;
        let compiled = guarded(|| LANGUAGE.compile(text))
            .ok_or_else(|| InvalidExpression::new("the expression cannot be read"))?;
        let program = compiled.map_err(|errors| syntax::parse_error(text, &errors))?;
        let uses = syntax::check(&program, variables)?;
        let path = syntax::path(program.expression(), variables);
        Ok(Expression {
            text: text.to_owned(),
            program,
            path,
            uses,
        })
    }

    /// What it needs.
    pub(crate) fn uses(&self) -> &Uses {
        &self.uses
    }

    /// Its value.
    pub(crate) fn evaluate(&self, scope: &Scope) -> Result<Value, ExpressionError> {
        if let Some((root, path)) = &self.path {
            let found = scope.select(root, path);
            return found.map_err(|problem| self.failed(scope, problem));
        }
        let found = guarded(|| {
            let mut context = cel::Context::with_env(LANGUAGE.clone());
            context.set_variable_resolver(scope);
            self.program.execute(&context)
        });
        match found {
            None => Err(self.failed(scope, "its evaluation broke off".to_owned())),
            Some(Err(error)) => Err(self.failed(scope, self.explain(&error))),
            Some(Ok(value)) => {
                convert::to_json(&value).map_err(|problem| self.failed(scope, problem))
            }
        }
    }

    fn failed(&self, scope: &Scope, problem: String) -> ExpressionError {
        let missing = self.uses.env.iter().find(|name| scope.lacks_env(name));
        ExpressionError {
            expression: shortened(&self.text),
            elsewhere: missing.is_some(),
            problem: missing.map_or(problem, |name| {
                format!("the environment of this worker has no variable `{name}`")
            }),
        }
    }

    /// An error of the language without the values that it holds.
    fn explain(&self, error: &ExecutionError) -> String {
        match error {
            // A key that does not stand in the text was computed: it is a value.
            ExecutionError::NoSuchKey(key) if self.text.contains(key.as_str()) => {
                format!("there is no `{key}`")
            }
            ExecutionError::NoSuchKey(_) => "the computed key does not exist".to_owned(),
            ExecutionError::NoSuchOverload(overload) => {
                let types = overload.argument_types().join(", ");
                let name = overload.function();
                format!(
                    "`{name}` does not take ({types}); conversions are int(), double(), string()"
                )
            }
            ExecutionError::UnsupportedBinaryOperator(operator, left, right) => {
                let (left, right) = (left.type_of(), right.type_of());
                format!(
                    "`{operator}` does not take ({left}, {right}); conversions are int(), double(), string()"
                )
            }
            ExecutionError::UndeclaredReference(name) if self.text.contains(name.as_str()) => {
                format!("`{name}` is not defined")
            }
            ExecutionError::UnexpectedType { got, want } => format!("got {got}, needed {want}"),
            ExecutionError::InvalidArgumentCount { expected, actual } => {
                format!("{actual} arguments were given where {expected} are needed")
            }
            ExecutionError::FunctionError { function, .. } => {
                format!("`{function}` refused its arguments")
            }
            ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
            ExecutionError::RemainderByZero(_) => "remainder by zero".to_owned(),
            ExecutionError::Overflow(operator, ..) => {
                format!("`{operator}` gives a number beyond 64 bits")
            }
            ExecutionError::IndexOutOfBounds(_) => "the index is beyond the list".to_owned(),
            ExecutionError::DuplicateKey(_) => "a map has the same key twice".to_owned(),
            ExecutionError::ValuesNotComparable(..) => {
                "values of these types cannot be compared".to_owned()
            }
            _ => "an operation does not fit the types of its operands".to_owned(),
        }
    }
}

/// The text for a message: not more than fits a line or two.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 200;
    let one_line = text.replace(['\n', '\r'], " ");
    if one_line.len() <= SHOWN {
        return one_line;
    }
    format!("{}…", &one_line[..one_line.floor_char_boundary(SHOWN)])
}

/// Runs what may panic within the language: a mistake there ends an attempt, not a worker.
fn guarded<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}

/// ` did you mean …?`, or the names that there are.
fn hint(mistyped: &str, known: &[&str]) -> String {
    match nearest(mistyped, known.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("known are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests;
