//! Which task handlers this process knows.

use std::collections::HashMap;

use tasker_model::dag::nearest;
use tasker_model::name::{Namespace, Version};
use tasker_model::request::{CheckedRequest, TaskRequest};
use tasker_model::template::{ContentHash, TaskTemplate};

use crate::code::{Code, code};
use crate::error::{Error, HandlerProblem, InvalidHandler};
use crate::handler::TaskHandler;

/// Task handlers by namespace, name and version.
#[derive(Default)]
pub(crate) struct Registry {
    handlers: Vec<TaskHandler>,
    /// The code for each step of a definition, by position; also of definitions that older
    /// programs registered, where this program has code for all their steps.
    runnable: HashMap<ContentHash, Vec<Code>>,
}

impl Registry {
    pub(crate) fn register(&mut self, handler: TaskHandler) -> Result<(), Error> {
        if self
            .handlers
            .iter()
            .any(|known| same_version(&known.template, &handler.template))
        {
            return Err(Error::DuplicateHandler(handler.template.full_name()));
        }
        self.learn(&handler.template, &handler)?;
        self.handlers.push(handler);
        Ok(())
    }

    /// Takes in the code for a definition, and for all that follows from it.
    fn learn(&mut self, template: &TaskTemplate, own: &TaskHandler) -> Result<(), InvalidHandler> {
        let mut learned = vec![(template.hash(), code_of(template, own)?)];
        for derived in template.derived() {
            learned.push((derived.hash(), code_of(&derived, own)?));
        }
        self.runnable.extend(learned);
        Ok(())
    }

    /// All definitions that the task handlers of this process need, those that follow from another after
    /// it.
    pub(crate) fn templates(&self) -> Vec<TaskTemplate> {
        let templates = self.handlers.iter().map(|handler| &handler.template);
        templates
            .flat_map(|template| std::iter::once(template.clone()).chain(template.derived()))
            .collect()
    }

    /// Finds the handler that a request means, and checks the request against it.
    pub(crate) fn prepare(
        &self,
        mut request: TaskRequest,
        context_bytes_max: usize,
    ) -> Result<CheckedRequest, Error> {
        let handler = self.find(&request)?;
        if let Some(prepare) = &handler.prepare {
            prepare(&mut request).map_err(|reason| Error::Refused {
                handler: handler.template.full_name(),
                reason,
            })?;
        }
        Ok(request.check(&handler.template, context_bytes_max)?)
    }

    /// Takes in a definition found in the store. Gives whether this process can run it.
    pub(crate) fn adopt_stored(&mut self, template: &TaskTemplate) -> bool {
        if self.runnable.contains_key(&template.hash()) {
            return true;
        }
        let known = self
            .handlers
            .iter()
            .find(|known| same_version(&known.template, template));
        let Some(known) = known.cloned() else {
            return false;
        };
        self.learn(template, &known).is_ok()
    }

    pub(crate) fn handlers(&self) -> &[TaskHandler] {
        &self.handlers
    }

    /// The code for a step of a definition that this process can run.
    pub(crate) fn code(&self, hash: ContentHash, position: u32) -> Option<&Code> {
        self.runnable.get(&hash)?.get(position as usize)
    }

    /// The handler that a request means: the version it names, or else the highest.
    ///
    /// `shop/order` means `order` of namespace `shop` (spec 16 S-58), unless a handler has that
    /// very name.
    pub(crate) fn find(&self, request: &TaskRequest) -> Result<&TaskHandler, Error> {
        let named = |namespace: &str, name: &str| {
            let source = |handler: &TaskHandler| {
                let source = handler.template.source();
                source.namespace.as_str() == namespace && source.name.as_str() == name
            };
            self.handlers.iter().any(source)
        };
        let (mut namespace, mut name) = (request.namespace.as_str(), request.name.as_str());
        if let Some((prefix, bare)) = name.split_once('/')
            && (prefix == namespace || namespace == Namespace::DEFAULT)
            && !named(namespace, name)
        {
            (namespace, name) = (prefix, bare);
        }
        let of_name = || {
            self.handlers.iter().filter(|handler| {
                let source = handler.template.source();
                source.namespace.as_str() == namespace && source.name.as_str() == name
            })
        };
        let version = |handler: &&TaskHandler| handler.template.source().version;
        let found = match request.version {
            None => of_name().max_by_key(version),
            Some(wanted) => of_name().find(|handler| version(handler) == wanted),
        };
        found.ok_or_else(|| {
            let versions: Vec<Version> = of_name().map(|handler| version(&handler)).collect();
            Error::NoHandler(self.no_handler(request, versions))
        })
    }

    fn no_handler(&self, request: &TaskRequest, mut versions: Vec<Version>) -> String {
        let mut text = format!("No task handler for {}", request.name);
        if request.namespace != Namespace::DEFAULT {
            text += &format!(" in namespace {}", request.namespace);
        }
        if let Some(version) = request.version {
            text += &format!(" and version {version}");
        }
        versions.sort_unstable();
        if !versions.is_empty() {
            let known: Vec<String> = versions.iter().map(ToString::to_string).collect();
            return format!("{text}; known versions: {}", known.join(", "));
        }
        let known: Vec<String> = self
            .handlers
            .iter()
            .map(|h| h.template.full_name())
            .collect();
        let wanted = format!("{}.{}", request.namespace, request.name);
        match nearest(&wanted, known.iter().map(String::as_str)) {
            Some(name) => format!("{text}; did you mean {name}?"),
            None if known.is_empty() => format!("{text}; none is registered"),
            None => format!("{text}; registered: {}", known.join(", ")),
        }
    }
}

/// The code for each step of a definition, by position; the error names everything that is wrong.
fn code_of(template: &TaskTemplate, own: &TaskHandler) -> Result<Vec<Code>, InvalidHandler> {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for step in &template.source().steps {
        match code(own, template, step) {
            Ok(code) => found.push(code),
            Err(wrong) => problems.extend(wrong.into_iter().map(|wrong| {
                let (step, at) = (
                    step.name.to_string(),
                    format!("{}{}", wrong.key, wrong.path),
                );
                let problem = wrong.problem;
                HandlerProblem::Code { step, at, problem }
            })),
        }
    }
    if problems.is_empty() {
        return Ok(found);
    }
    Err(InvalidHandler {
        full_name: template.full_name(),
        problems,
    })
}

fn same_version(a: &TaskTemplate, b: &TaskTemplate) -> bool {
    let key = |template: &TaskTemplate| {
        let source = template.source();
        (
            source.namespace.clone(),
            source.name.clone(),
            source.version,
        )
    };
    key(a) == key(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::{Step, StepContext, StepResult};

    async fn nothing(_: StepContext) -> StepResult<()> {
        Ok(())
    }

    fn registry() -> Registry {
        let mut registry = Registry::default();
        for version in ["0.9.0", "0.10.0"] {
            let handler = TaskHandler::new("payments", "refund", version);
            registry
                .register(handler.step(Step::new("a", nothing)).build().unwrap())
                .unwrap();
        }
        registry
    }

    #[test]
    fn an_omitted_version_means_the_highest() {
        let registry = registry();
        let request = TaskRequest::new("refund").namespace("payments");
        let found = registry.find(&request).unwrap();
        assert_eq!(found.template.full_name(), "payments.refund@0.10.0");
        let older = registry
            .find(&request.version(Version::new(0, 9, 0)))
            .unwrap();
        assert_eq!(older.template.full_name(), "payments.refund@0.9.0");
    }

    #[test]
    fn a_name_with_its_namespace_in_front_is_understood() {
        let registry = registry();
        for request in [
            TaskRequest::new("payments/refund"),
            TaskRequest::new("payments/refund").namespace("payments"),
        ] {
            let found = registry.find(&request).unwrap();
            assert_eq!(found.template.full_name(), "payments.refund@0.10.0");
        }
        let other = TaskRequest::new("payments/refund").namespace("shop");
        assert!(registry.find(&other).is_err());
    }

    #[test]
    fn an_unknown_handler_is_named_with_what_is_near() {
        let registry = registry();
        let refusal = |request: TaskRequest| registry.find(&request).unwrap_err().to_string();
        assert!(
            refusal(TaskRequest::new("nonexistent"))
                .starts_with("No task handler for nonexistent;")
        );
        assert_eq!(
            refusal(TaskRequest::new("refnud").namespace("payments")),
            "No task handler for refnud in namespace payments; did you mean payments.refund@0.9.0?"
        );
        let version = TaskRequest::new("refund")
            .namespace("payments")
            .version(Version::new(2, 0, 0));
        assert_eq!(
            refusal(version),
            "No task handler for refund in namespace payments and version 2.0.0; known versions: 0.9.0, 0.10.0"
        );
    }

    #[test]
    fn a_version_is_registered_once() {
        let mut registry = registry();
        let again = TaskHandler::new("payments", "refund", "0.9.0").step(Step::new("b", nothing));
        let error = registry.register(again.build().unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "task handler `payments.refund@0.9.0` is registered twice"
        );
    }
}
