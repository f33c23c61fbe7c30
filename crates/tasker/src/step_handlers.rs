//! The code behind definitions that are written in YAML.

use std::collections::BTreeMap;
use std::sync::Arc;

use tasker_model::dag::nearest;
use tasker_model::template::StepTemplate;

use crate::code;
use crate::handler::{
    Arguments, NoResult, States, StepCode, StepFunction, StepFuture, TaskHandler, TypeName, shared,
    step,
};
use crate::yaml::TemplateFile;
use crate::yaml::problem::{InvalidFile, Place, Problem};

/// Step handlers by the names that template files give them.
///
/// ```
/// use std::path::Path;
/// use tasker::{StepContext, StepHandlers, StepResult, yaml};
///
/// async fn validate_user(_: StepContext) -> StepResult<bool> {
///     Ok(true)
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let text = "{name: my_task, step_templates: [{name: validate, handler_class: 'Users::Validate'}]}";
/// let file = yaml::load_text(Path::new("my_task.yaml"), text, yaml::DEFAULT_ENVIRONMENT)?;
/// let handler = StepHandlers::new().add("Users::Validate", validate_user).bind(&file)?;
/// assert_eq!(handler.template().full_name(), "default.my_task@0.1.0");
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct StepHandlers {
    by_name: BTreeMap<String, Known>,
    states: Arc<States>,
}

/// Code, and the types of the shared state that it takes.
#[derive(Clone)]
struct Known {
    code: StepCode,
    states: Vec<TypeName>,
}

impl std::fmt::Debug for StepHandlers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.by_name.keys()).finish()
    }
}

impl StepHandlers {
    /// None yet.
    pub fn new() -> StepHandlers {
        StepHandlers::default()
    }

    /// Adds a step handler under the exact text that files name it with: an async function whose
    /// arguments say what it takes, or a [`StepHandler`](crate::StepHandler). The results of other
    /// steps it reads by name, from its [`StepContext`](crate::StepContext): which they are is
    /// written in the file. A name that is added again means the later one.
    pub fn add<F, A>(mut self, name: impl Into<String>, handler: F) -> StepHandlers
    where
        F: StepFunction<A>,
        F::Returned: StepFuture,
        A: Arguments<NoResult> + 'static,
    {
        let name = name.into();
        let (code, states) = step(name.as_str(), handler).erase().into_code();
        self.by_name.insert(name, Known { code, states });
        self
    }

    /// Shares a value with the handlers, which take clones of it as [`State<S>`](crate::State). A
    /// second value of the same type is passed over.
    pub fn state<S: Clone + Send + Sync + 'static>(mut self, state: S) -> StepHandlers {
        if self.states.get::<S>().is_none() {
            Arc::make_mut(&mut self.states).insert(state);
        }
        self
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Gives a definition its code. The error names every step whose handler is not known, and
    /// the place in the file.
    pub fn bind(&self, file: &TemplateFile) -> Result<TaskHandler, InvalidFile> {
        let steps = &file.template.source().steps;
        let mut known_code = Vec::with_capacity(steps.len());
        let mut missing = Vec::new();
        for (step, at) in steps.iter().zip(&file.handlers) {
            let needs_none = code::is_built_in(&step.handler);
            match self.by_name.get(&step.handler) {
                Some(known) => {
                    let lacks = known
                        .states
                        .iter()
                        .filter(|state| !self.states.has(**state));
                    missing.extend(lacks.map(|state| self.not_given(*at, step, *state)));
                    let code = shared(&known.code, &self.states);
                    known_code.push((step.handler.clone(), code));
                }
                None if needs_none || code::api_config(step).is_some() => {}
                None => {
                    let message = self.not_known(&step.handler, step.name.as_str());
                    missing.push(Problem::new(*at, message));
                }
            }
        }
        if !missing.is_empty() {
            return Err(InvalidFile::new(&file.path, missing));
        }
        Ok(TaskHandler::from_parts(file.template.clone(), known_code))
    }

    fn not_given(&self, at: Place, step: &StepTemplate, state: TypeName) -> Problem {
        let (handler, step, name) = (&step.handler, &step.name, state.name);
        let text = format!(
            "handler `{handler}` of step `{step}` takes State<{name}>, which was not given; add \
             `.state(…)` with {name}"
        );
        let given: Vec<&str> = self.states.names().collect();
        let given = match given.as_slice() {
            [] => String::new(),
            given => format!("; given were: {}", given.join(", ")),
        };
        Problem::new(at, text + &given)
    }

    fn not_known(&self, handler: &str, step: &str) -> String {
        let text = format!("no code is registered for handler `{handler}` of step `{step}`");
        match nearest(handler, self.names()) {
            Some(near) => format!("{text}; did you mean `{near}`?"),
            None if self.by_name.is_empty() => format!("{text}; none is registered"),
            None => format!(
                "{text}; registered: {}",
                self.names().collect::<Vec<_>>().join(", ")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::yaml::load_text;
    use crate::{Attempt, Context, State, StepContext, StepResult};

    async fn nothing(_: StepContext) -> StepResult<()> {
        Ok(())
    }

    #[test]
    fn code_takes_what_it_needs_as_arguments() {
        async fn charge(
            Context(context): Context<serde_json::Value>,
            State(rate): State<u64>,
            attempt: Attempt,
        ) -> StepResult<u64> {
            let cents = context["cents"].as_u64().unwrap_or_default();
            Ok(cents * rate + u64::from(attempt.number))
        }
        let text = "name: a\nstep_templates:\n- name: x\n  handler: charge\n";
        let file = load_text(Path::new("a.yaml"), text, "test").unwrap();
        let code = StepHandlers::new().add("charge", charge);
        assert_eq!(
            code.bind(&file).unwrap_err().to_string(),
            "a.yaml:4:3: handler `charge` of step `x` takes State<u64>, which was not given; add \
             `.state(…)` with u64"
        );
        assert!(code.clone().state(7_u64).bind(&file).is_ok());
        let other = code.state("text").bind(&file).unwrap_err().to_string();
        assert!(other.ends_with("; given were: &str"), "{other}");
    }

    #[test]
    fn every_missing_handler_is_named_with_its_place() {
        let text = "name: a\nstep_templates:\n- name: x\n  handler: Shop::Chrage\n- name: y\n  handler_class: Else\n";
        let file = load_text(Path::new("a.yaml"), text, "test").unwrap();
        let bound = StepHandlers::new().add("Shop::Charge", nothing).bind(&file);
        assert_eq!(
            bound.unwrap_err().to_string(),
            "a.yaml:4:3: no code is registered for handler `Shop::Chrage` of step `x`; did you mean `Shop::Charge`?\n\
             a.yaml:6:3: no code is registered for handler `Else` of step `y`; registered: Shop::Charge"
        );
        let none = StepHandlers::new().bind(&file).unwrap_err().to_string();
        assert!(
            none.contains("handler `Else` of step `y`; none is registered"),
            "{none}"
        );
    }
}
