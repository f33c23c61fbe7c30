//! The code behind definitions that are written in YAML.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tasker_model::dag::nearest;
use tasker_model::template::StepTemplate;

use crate::code;
use crate::handler::{
    Arguments, States, StepFunction, StepFuture, TaskHandler, TypeName, Unplaced, Untyped, View,
    shared, step,
};
use crate::yaml::TemplateFile;
use crate::yaml::problem::{InvalidFile, Problem};

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
    by_name: BTreeMap<String, Arc<Untyped>>,
    states: Arc<States>,
}

/// A handler as a definition names it, and what for.
struct Use<'a> {
    handler: &'a str,
    config: Option<&'a Value>,
    step: &'a StepTemplate,
    place: View,
}

impl<'a> Use<'a> {
    /// What a step names: what performs it, and what undoes it.
    fn by(step: &'a StepTemplate) -> impl Iterator<Item = Use<'a>> {
        let is_map = step.map.is_some();
        let performs = Use {
            handler: &step.handler,
            config: step.handler_config.as_ref(),
            step,
            place: if is_map { View::Item } else { View::Task },
        };
        let undoes = step.undo.iter().map(move |undo| Use {
            handler: &undo.handler,
            config: undo.handler_config.as_ref(),
            step,
            place: View::Undo,
        });
        std::iter::once(performs).chain(undoes)
    }

    fn needs_no_code(&self) -> bool {
        code::is_built_in(self.handler) || code::api_config(self.config).is_some()
    }
}

impl std::fmt::Display for Use<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (handler, step) = (self.handler, &self.step.name);
        match self.place {
            View::Task | View::Item => write!(f, "handler `{handler}` of step `{step}`"),
            View::Undo => write!(f, "handler `{handler}`, which undoes step `{step}`,"),
        }
    }
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
    /// written in the file. What runs over a list may take an [`Item`](crate::Item), what undoes a
    /// step its result, [`Undone`](crate::Undone). A name that is added again means the later one.
    pub fn add<F, A>(mut self, name: impl Into<String>, handler: F) -> StepHandlers
    where
        F: StepFunction<A>,
        F::Returned: StepFuture,
        A: Arguments<Unplaced> + 'static,
    {
        let name = name.into();
        let step = step(name.as_str(), handler).placed::<Unplaced>(Vec::new());
        self.by_name.insert(name, Arc::new(step.code));
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

    /// Gives a definition its code. The error names everything that does not fit: handlers that are
    /// not known, and those that take what is not there, with the place in the file.
    pub fn bind(&self, file: &TemplateFile) -> Result<TaskHandler, InvalidFile> {
        let steps = &file.template.source().steps;
        let mut known_code = Vec::with_capacity(steps.len());
        let mut wrong = Vec::new();
        for (step, at) in steps.iter().zip(&file.handlers) {
            for used in Use::by(step) {
                match self.by_name.get(used.handler) {
                    Some(known) => {
                        let problems = self.problems(&used, known).into_iter();
                        wrong.extend(problems.map(|text| Problem::new(*at, text)));
                        let code = shared(&known.code, &self.states);
                        known_code.push((used.handler.to_owned(), code));
                    }
                    None if used.needs_no_code() => {}
                    None => wrong.push(Problem::new(*at, self.not_known(&used))),
                }
            }
        }
        if !wrong.is_empty() {
            return Err(InvalidFile::new(&file.path, wrong));
        }
        Ok(TaskHandler::from_parts(file.template.clone(), known_code))
    }

    /// What code takes that it is not given where it is used.
    fn problems(&self, used: &Use<'_>, code: &Untyped) -> Vec<String> {
        let states = code.needs.states.iter();
        let missing = states.filter(|state| !self.states.has(**state));
        let mut found: Vec<String> = missing.map(|state| self.not_given(used, *state)).collect();
        let misfits = code.needs.misfits(used.place).into_iter();
        found.extend(misfits.map(|misfit| format!("{used} {misfit}")));
        found.extend(self.undone_as_another_type(used, code));
        found
    }

    fn undone_as_another_type(&self, used: &Use<'_>, code: &Untyped) -> Option<String> {
        // What a list or a task gives in the end is not what its code gives.
        if used.place != View::Undo || used.step.has_subtasks() {
            return None;
        }
        let given = self.by_name.get(&used.step.handler)?.gives;
        let wanted = code.needs.undone.filter(|wanted| !given.fits(*wanted))?;
        let (wanted, given, by) = (wanted.name, given.name, &used.step.handler);
        Some(format!(
            "{used} takes its result as {wanted}, but `{by}` gives {given}"
        ))
    }

    fn not_given(&self, used: &Use<'_>, state: TypeName) -> String {
        let name = state.name;
        let text =
            format!("{used} takes State<{name}>, which was not given; add `.state(…)` with {name}");
        match self.states.names().collect::<Vec<_>>().as_slice() {
            [] => text,
            given => format!("{text}; given were: {}", given.join(", ")),
        }
    }

    fn not_known(&self, used: &Use<'_>) -> String {
        let used_as = used.to_string();
        let text = format!(
            "no code is registered for {}",
            used_as.trim_end_matches(',')
        );
        match nearest(used.handler, self.names()) {
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

    #[test]
    fn code_is_held_against_what_it_is_used_for() {
        use crate::{Index, Item, Undone};
        async fn resize(_: Item<u8>, _: Index) -> StepResult<u8> {
            Ok(1)
        }
        async fn charge(_: Context<u8>) -> StepResult<u16> {
            Ok(1)
        }
        async fn refund(_: Undone<u8>) -> StepResult<()> {
            Ok(())
        }
        let text = "name: a\nstep_templates:\n\
                    - {name: good, handler: resize, map: context.list, undo: nothing}\n\
                    - {name: plain, handler: resize}\n\
                    - {name: each, handler: charge, map: context.list, undo: reufnd}\n\
                    - {name: pay, handler: charge, undo: refund}\n\
                    - {name: back, handler: refund}\n";
        let file = load_text(Path::new("a.yaml"), text, "test").unwrap();
        let code = StepHandlers::new()
            .add("resize", resize)
            .add("charge", charge);
        let code = code.add("refund", refund).add("nothing", nothing);
        let found = code.bind(&file).unwrap_err().to_string();
        let found: Vec<_> = found
            .lines()
            .map(|line| line.split_once(": ").unwrap().1)
            .collect();
        assert_eq!(
            found,
            [
                "handler `resize` of step `plain` takes Index, but runs over no list",
                "handler `resize` of step `plain` takes Item<u8>, but runs over no list",
                "handler `charge` of step `each` takes Context<u8>, which one item of a list does not \
                 see; take what is needed into the list",
                "no code is registered for handler `reufnd`, which undoes step `each`; did you mean \
                 `refund`?",
                "handler `refund`, which undoes step `pay`, takes its result as u8, but `charge` gives \
                 u16",
                "handler `refund` of step `back` takes Undone<u8>, but undoes nothing",
            ]
        );
        let good = text.lines().take(3).collect::<Vec<_>>().join("\n");
        let file = load_text(Path::new("a.yaml"), &good, "test").unwrap();
        code.bind(&file).unwrap();
    }
}
