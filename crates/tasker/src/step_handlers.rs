//! The code behind definitions that are written in YAML.

use std::collections::BTreeMap;

use serde::Serialize;
use tasker_model::dag::nearest;

use crate::code;
use crate::handler::{Step, StepCode, StepContext, StepResult, TaskHandler};
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
    by_name: BTreeMap<String, StepCode>,
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

    /// Adds an async function under the exact text that files name it with. A name that is added
    /// again means the later one.
    pub fn add<F, R, T>(mut self, name: impl Into<String>, handler: F) -> StepHandlers
    where
        F: Fn(StepContext) -> R + Send + Sync + 'static,
        R: Future<Output = StepResult<T>> + Send + 'static,
        T: Serialize + Send + 'static,
    {
        let name = name.into();
        let code = Step::new(name.as_str(), handler).into_code();
        self.by_name.insert(name, code);
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
                Some(known) => known_code.push((step.handler.clone(), known.clone())),
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

    async fn nothing(_: StepContext) -> StepResult<()> {
        Ok(())
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
