//! How the steps of a definition are performed: what is asked before, and the handler.
//!
//! A definition may come from Rust, from a file, or from the store, where an older program has left
//! it. Whether this process can run it is decided here, and everything that is wrong is found when it
//! is read or registered, not when a step runs.

use std::sync::Arc;

use serde_json::Value;
use tasker_model::dag::nearest;
use tasker_model::template::{MapOver, StepTemplate, TaskTemplate};

use crate::expression::{Expression, InvalidExpression, Variables};
use crate::gate::Gate;
use crate::handler::{Annotate, COMMAND, HTTP, PASS, StepCode, TASK, TaskHandler, View, pass};
use crate::steps::{self, ConfigProblem};

/// What performs one step. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Code {
    pub(crate) gate: Arc<Gate>,
    pub(crate) handler: StepCode,
    pub(crate) role: Role,
    pub(crate) view: View,
    /// What to note when the step is complete.
    pub(crate) annotate: Option<Annotate>,
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
                over: Expression::compile(&limits.over, Variables::TASK.plain())?,
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
    /// The key of the step: `when`, `until`, `map`, `handler_config`, `handler` or `undo`.
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
///
/// `view` says what the definition is that it stands in: one that people write, or one that follows from
/// that.
pub(crate) fn problems(step: &StepTemplate, view: View) -> Vec<StepProblem> {
    let mut found = Vec::new();
    match Gate::of(step) {
        Err((key, error)) => found.push(StepProblem::new(key, format!("`{key}`: {error}"))),
        Ok(gate) => {
            for (key, name) in gate.results_named() {
                found.extend(no_result(step, name).map(|text| StepProblem::new(key, text)));
            }
        }
    }
    if let Some(map) = &step.map {
        found.extend(problems_of_list(step, &map.over));
    }
    if step.handler == TASK && !step.starts_task {
        let text = format!("a step with the handler `{TASK}` must say `starts_task`");
        found.push(StepProblem::new("handler", text));
    }
    let seen = seen_by_code(step, view);
    let config = step.handler_config.as_ref();
    found.extend(problems_of_config(&step.handler, config, seen));
    // What an item knows is said by its variables, and what an undo knows by what it undoes.
    if seen == View::Task && is_built_in(&step.handler) {
        found.extend(parents_not_known(config, |name| no_result(step, name)));
    }
    if let Some(undo) = &step.undo {
        let config = undo.handler_config.as_ref();
        let mut wrong = problems_of_config(&undo.handler, config, View::Undo);
        if is_built_in(&undo.handler) {
            let is_own = |name: &str| name == step.name.as_str();
            wrong.extend(parents_not_known(config, |name| {
                if is_own(name) {
                    None
                } else {
                    no_result(step, name)
                }
            }));
        }
        if undo.handler == TASK {
            wrong.push(StepProblem::new(
                "undo",
                "what undoes a step cannot start a task",
            ));
        }
        found.extend(wrong.into_iter().map(|wrong| StepProblem {
            key: "undo",
            ..wrong
        }));
    }
    found
}

/// What the code of a step sees: one that runs over a list sees its items.
fn seen_by_code(step: &StepTemplate, view: View) -> View {
    if step.map.is_some() { View::Item } else { view }
}

/// Why a step has no result of a name that is not one of its parents'.
fn no_result(step: &StepTemplate, name: &str) -> Option<String> {
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
}

fn problems_of_list(step: &StepTemplate, over: &str) -> Vec<StepProblem> {
    match Expression::compile(over, Variables::TASK.plain()) {
        Err(error) => vec![StepProblem::new("map", format!("`over`: {error}"))],
        Ok(over) => {
            let named = over.uses().results.iter();
            let missing = named.filter_map(|name| no_result(step, name));
            missing.map(|text| StepProblem::new("map", text)).collect()
        }
    }
}

fn problems_of_config(handler: &str, config: Option<&Value>, view: View) -> Vec<StepProblem> {
    let built = built_in(handler, config, view);
    let wrong = built.and_then(Result::err).into_iter().flatten();
    wrong.map(StepProblem::of_config).collect()
}

fn parents_not_known(
    config: Option<&Value>,
    problem: impl Fn(&str) -> Option<String>,
) -> Vec<StepProblem> {
    let named = config.map(steps::parents_named).unwrap_or_default();
    let wrong = named.into_iter().filter_map(|(path, name)| {
        let problem = problem(&name)?;
        Some(StepProblem::of_config(ConfigProblem { path, problem }))
    });
    wrong.collect()
}

/// Whether a handler needs no program.
pub(crate) fn is_built_in(handler: &str) -> bool {
    [PASS, HTTP, COMMAND, TASK].contains(&handler)
}

/// The code of a handler that needs no program; `None` if the name is not that of one.
fn built_in(
    handler: &str,
    config: Option<&Value>,
    view: View,
) -> Option<Result<StepCode, Vec<ConfigProblem>>> {
    let none = Value::Object(serde_json::Map::new());
    let config = config.unwrap_or(&none);
    let variables = Variables::of(view);
    Some(match handler {
        PASS => Ok(pass()),
        HTTP => steps::http::http(config, variables),
        COMMAND => steps::command::command(config, variables),
        TASK => steps::task::task(config, variables),
        _ => return None,
    })
}

/// The original's way to configure a request (spec 03 §10): understood where no program has code
/// for the handler that the step names.
pub(crate) fn api_config(config: Option<&Value>) -> Option<Value> {
    let config = config?.as_object()?;
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
    view: View,
) -> Result<Code, Vec<StepProblem>> {
    let found = problems(step, view);
    if !found.is_empty() {
        return Err(found);
    }
    let gate =
        Gate::of(step).map_err(|(key, error)| vec![StepProblem::new(key, error.to_string())])?;
    if step.handler == COMMAND
        && !names(own.template(), &step.handler, step.handler_config.as_ref())
    {
        let text = "the program is not one that this process was told to run";
        return Err(vec![StepProblem::new("handler_config", text)]);
    }
    let seen = seen_by_code(step, view);
    let written = built_in(&step.handler, step.handler_config.as_ref(), seen);
    let known = || own.step_code(&step.handler).cloned().map(Ok);
    let api = || {
        let config = api_config(step.handler_config.as_ref())?;
        Some(steps::http::http(&config, Variables::of(seen)))
    };
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
        view,
        annotate: own.annotate.clone().filter(|_| view == View::Task),
    })
}

/// Whether a definition says this of one of its steps, or of what undoes one.
fn names(template: &TaskTemplate, handler: &str, config: Option<&Value>) -> bool {
    template.source().steps.iter().any(|step| {
        let does = (step.handler.as_str(), step.handler_config.as_ref());
        let undo = step.undo.as_ref();
        let undoes = undo.map(|undo| (undo.handler.as_str(), undo.handler_config.as_ref()));
        does == (handler, config) || undoes == Some((handler, config))
    })
}
