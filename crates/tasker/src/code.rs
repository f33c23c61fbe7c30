//! How the steps of a definition are performed: what is asked before, and the handler.
//!
//! A definition may come from Rust, from a file, or from the store, where an older program has left
//! it. Whether this process can run it is decided here, and everything that is wrong is found when it
//! is read or registered, not when a step runs.

use std::sync::Arc;

use serde_json::Value;
use tasker_model::dag::nearest;
use tasker_model::template::{MapOver, StepTemplate, TaskTemplate};

use crate::expression::{Expression, InvalidExpression, TASK};
use crate::gate::Gate;
use crate::handler::{COMMAND, HTTP, PASS, StepCode, TaskHandler, pass};
use crate::steps::{self, ConfigProblem};

/// What performs one step. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Code {
    pub(crate) gate: Arc<Gate>,
    pub(crate) handler: StepCode,
    pub(crate) role: Role,
}

/// What the code of a step is there for.
#[derive(Clone)]
pub(crate) enum Role {
    /// What it gives is the step's result.
    Performs,
    /// What it gives is the request of a sub-task.
    Asks,
    /// It performs one item of a list, in a sub-task.
    Maps(Arc<Mapping>),
}

/// The list that a step runs over, and what runs for an item of it.
pub(crate) struct Mapping {
    pub(crate) over: Expression,
    pub(crate) limits: MapOver,
    pub(crate) item: TaskTemplate,
}

impl Role {
    /// What a step's definition says. An expression that is none is told by [`problems`].
    fn of(template: &TaskTemplate, step: &StepTemplate) -> Result<Role, InvalidExpression> {
        Ok(match (&step.map, template.item_template(step)) {
            (Some(limits), Some(item)) => Role::Maps(Arc::new(Mapping {
                over: Expression::compile(&limits.over, TASK)?,
                limits: limits.clone(),
                item,
            })),
            _ if step.starts_task => Role::Asks,
            _ => Role::Performs,
        })
    }
}

/// One thing that is wrong with what a definition says for the code of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepProblem {
    /// The key of the step: `when`, `until`, `handler_config` or `handler`.
    pub(crate) key: &'static str,
    /// A JSON pointer within the value of the key.
    pub(crate) path: String,
    pub(crate) problem: String,
}

impl StepProblem {
    fn new(key: &'static str, problem: impl Into<String>) -> StepProblem {
        StepProblem {
            key,
            path: String::new(),
            problem: problem.into(),
        }
    }

    fn of_config(problem: ConfigProblem) -> StepProblem {
        StepProblem {
            key: "handler_config",
            path: problem.path,
            problem: problem.problem,
        }
    }
}

/// Everything that is wrong with a step, save for handlers that only a program can have.
pub(crate) fn problems(step: &StepTemplate) -> Vec<StepProblem> {
    let mut found = Vec::new();
    let parent = |name: &str| {
        let parents = step.depends_on_steps.iter().map(String::as_str);
        if parents.clone().any(|parent| parent == name) {
            return None;
        }
        let hint = match nearest(name, parents.clone()) {
            Some(near) => format!("; did you mean `{near}`?"),
            None if step.depends_on_steps.is_empty() => "; it depends on nothing".to_owned(),
            None => format!("; it depends on {}", parents.collect::<Vec<_>>().join(", ")),
        };
        let step = &step.name;
        Some(format!(
            "step `{step}` has no results of `{name}`, on which it does not depend{hint}"
        ))
    };
    match Gate::of(step) {
        Err((key, error)) => found.push(StepProblem::new(key, format!("`{key}`: {error}"))),
        Ok(gate) => {
            for (key, name) in gate.results_named() {
                found.extend(parent(name).map(|problem| StepProblem::new(key, problem)));
            }
        }
    }
    if let Some(built) = built_in(&step.handler, step.handler_config.as_ref()) {
        found.extend(
            built
                .err()
                .into_iter()
                .flatten()
                .map(StepProblem::of_config),
        );
        let config = step.handler_config.as_ref();
        for (path, name) in config.map(steps::parents_named).unwrap_or_default() {
            let problem = parent(&name).map(|problem| ConfigProblem { path, problem });
            found.extend(problem.map(StepProblem::of_config));
        }
    }
    found
}

/// Whether a handler needs no program.
pub(crate) fn is_built_in(handler: &str) -> bool {
    [PASS, HTTP, COMMAND].contains(&handler)
}

/// The code of a handler that needs no program; `None` if the name is not that of one.
fn built_in(handler: &str, config: Option<&Value>) -> Option<Result<StepCode, Vec<ConfigProblem>>> {
    let none = Value::Object(serde_json::Map::new());
    let config = config.unwrap_or(&none);
    Some(match handler {
        PASS => Ok(pass()),
        HTTP => steps::http::http(config),
        COMMAND => steps::command::command(config),
        _ => return None,
    })
}

/// The original's way to configure a request (spec 03 §10): understood where no program has code
/// for the handler that the step names.
pub(crate) fn api_config(step: &StepTemplate) -> Option<Value> {
    let config = step.handler_config.as_ref()?.as_object()?;
    if config.get("type")?.as_str()? != "api" {
        return None;
    }
    // These say how to wait between attempts, which is the step's own `backoff` here.
    let ignored = [
        "type",
        "retry_delay",
        "enable_exponential_backoff",
        "jitter_factor",
    ];
    let kept = config
        .iter()
        .filter(|(key, _)| !ignored.contains(&key.as_str()));
    Some(Value::Object(
        kept.map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    ))
}

/// The code for a step of a definition, or what is wrong.
///
/// `own` is the task handler of this process with the same namespace, name and version; the
/// definition may be an older or newer form of it. A program is only started if `own` names the very
/// same one: what is in the store is not trusted with that.
pub(crate) fn code(
    own: &TaskHandler,
    template: &TaskTemplate,
    step: &StepTemplate,
) -> Result<Code, Vec<StepProblem>> {
    let found = problems(step);
    if !found.is_empty() {
        return Err(found);
    }
    let gate =
        Gate::of(step).map_err(|(key, error)| vec![StepProblem::new(key, error.to_string())])?;
    let is_own = |known: &StepTemplate| {
        known.handler == step.handler && known.handler_config == step.handler_config
    };
    if step.handler == COMMAND && !own.template().source().steps.iter().any(is_own) {
        let text = "the program is not one that this process was told to run";
        return Err(vec![StepProblem::new("handler_config", text)]);
    }
    let written = built_in(&step.handler, step.handler_config.as_ref());
    let known = || own.step_code(&step.handler).cloned().map(Ok);
    let api = || api_config(step).map(|config| steps::http::http(&config));
    let handler = written.or_else(known).or_else(api);
    let Some(handler) = handler else {
        let text = format!("no code is registered for handler `{}`", step.handler);
        return Err(vec![StepProblem::new("handler", text)]);
    };
    let of_config = |problems: Vec<ConfigProblem>| {
        problems
            .into_iter()
            .map(StepProblem::of_config)
            .collect::<Vec<_>>()
    };
    let role = Role::of(template, step)
        .map_err(|error| vec![StepProblem::new("map", format!("`over`: {error}"))])?;
    Ok(Code {
        gate: Arc::new(gate),
        handler: handler.map_err(of_config)?,
        role,
    })
}
