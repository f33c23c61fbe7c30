//! What a step handler is given.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tasker_model::annotation::Annotation;
use tasker_model::derived::{ItemContext, UndoContext};
use tasker_model::id::{Position, StepKey, TaskId};
use tasker_model::json::Json;
use tasker_model::progress::StepProgress;
use tasker_model::template::{StepTemplate, TaskTemplate};
use tasker_store::store::ClaimedStep;
use tokio_util::sync::CancellationToken;

use super::annotations::Annotations;
use super::error::PermanentError;
use super::log::AttemptLog;
use super::progress::Reporter;
use super::state::States;

/// One attempt of one step, as its handler sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StepContext {
    key: StepKey,
    attempt: u32,
    attempt_limit: u32,
    template: TaskTemplate,
    context: Json,
    parents: Arc<[(Position, Option<Json>)]>,
    cancelled: CancellationToken,
    log: AttemptLog,
    signal: Option<Json>,
    states: Arc<States>,
    reporter: Reporter,
    part: Part,
    annotations: Annotations,
}

/// What a step is part of: that decides what its task's context holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum View {
    /// A task that somebody asked for.
    #[default]
    Task,
    /// A task that does one item of a list.
    Item,
    /// A task that undoes another.
    Undo,
}

/// What is read from the context of a task that nobody asked for.
#[derive(Debug, Clone, Default)]
enum Part {
    #[default]
    Task,
    Item {
        item: Json,
        index: u32,
    },
    /// The results of the steps that are undone.
    Undo(Arc<[(String, Json)]>),
}

impl StepContext {
    pub(crate) fn new(
        step: &ClaimedStep,
        cancelled: CancellationToken,
        reporter: Reporter,
    ) -> StepContext {
        StepContext {
            key: step.lease.step,
            attempt: step.lease.attempt,
            attempt_limit: step.attempt_limit,
            template: step.template.clone(),
            context: step.context.clone(),
            parents: step.parents.clone(),
            cancelled,
            log: AttemptLog::default(),
            signal: step.signal.clone(),
            states: Arc::default(),
            reporter,
            part: Part::Task,
            annotations: Annotations::default(),
        }
    }

    /// Reads what is there for a step of this kind.
    pub(crate) fn viewed(self, view: View) -> Result<StepContext, PermanentError> {
        let unreadable = |error: serde_json::Error| {
            PermanentError::new(format!("the context of the task cannot be read: {error}"))
                .error_code("CONTEXT_TYPE")
        };
        match view {
            View::Task => Ok(self),
            View::Item => {
                let ItemContext { item, index } = self.context.read().map_err(unreadable)?;
                let item = Json::of::<Value>(&item).map_err(unreadable)?;
                let part = Part::Item { item, index };
                Ok(StepContext { part, ..self })
            }
            View::Undo => {
                let undo: UndoContext = self.context.read().map_err(unreadable)?;
                let context = Json::of(&undo.context).map_err(unreadable)?;
                let results = undo.results.iter();
                let results = results.map(|(name, result)| Ok((name.clone(), Json::of(result)?)));
                let results = results.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
                let part = Part::Undo(results.into());
                Ok(StepContext {
                    context,
                    part,
                    ..self
                })
            }
        }
    }

    /// The item of the list that this attempt is about, as a type.
    ///
    /// The error is permanent: the step runs over no list, or the item is of another shape.
    pub fn item<T: DeserializeOwned>(&self) -> Result<T, PermanentError> {
        let step = self.name();
        let Part::Item { item, index } = &self.part else {
            let text = format!("step `{step}` runs over no list, so there is no item");
            return Err(PermanentError::new(text).error_code("NO_ITEM"));
        };
        item.read().map_err(|error| {
            let text = format!("item {index} of the list does not fit step `{step}`: {error}");
            PermanentError::new(text).error_code("ITEM_TYPE")
        })
    }

    /// The place of the item in its list, from 0; `None` if the step runs over no list.
    pub fn index(&self) -> Option<u32> {
        match &self.part {
            Part::Item { index, .. } => Some(*index),
            Part::Task | Part::Undo(_) => None,
        }
    }

    /// Whether it undoes a step.
    pub(crate) fn undoes(&self) -> bool {
        matches!(self.part, Part::Undo(_))
    }

    pub(crate) fn with_states(self, states: &Arc<States>) -> StepContext {
        StepContext {
            states: states.clone(),
            ..self
        }
    }

    /// What was logged so far, by any clone.
    pub(crate) fn annotations(&self) -> Annotations {
        self.annotations.clone()
    }

    pub(crate) fn attempt_log(&self) -> AttemptLog {
        self.log.clone()
    }

    fn definition(&self) -> &StepTemplate {
        self.template.step(self.key.position)
    }

    /// The task that this step belongs to.
    pub fn task_id(&self) -> TaskId {
        self.key.task_id
    }

    /// The namespace of its task.
    pub(crate) fn namespace(&self) -> &str {
        self.template.source().namespace.as_str()
    }

    /// The name of this step.
    pub fn name(&self) -> &str {
        self.definition().name.as_str()
    }

    /// The number of this attempt, from 1. It grows with every attempt, also after a crash, so
    /// an outside system can refuse what comes from an earlier one. An attempt that was handed
    /// back by a planned shutdown does not count: its number is given out again.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How many attempts there may be.
    pub fn attempt_limit(&self) -> u32 {
        self.attempt_limit
    }

    /// A key that is the same for all attempts of this step, for outside systems that recognise a
    /// repeated request.
    pub fn idempotency_key(&self) -> String {
        self.key.idempotency_key()
    }

    /// The task's input as a type.
    ///
    /// The error is permanent: the same input will not fit the next time either.
    pub fn context<T: DeserializeOwned>(&self) -> Result<T, PermanentError> {
        self.context.read().map_err(|error| {
            PermanentError::new(format!(
                "the context does not fit the handler's type: {error}"
            ))
            .error_code("CONTEXT_TYPE")
        })
    }

    /// The result of a step that this one depends on, as a type.
    ///
    /// The error is permanent. It names the step if this one does not depend on it, if it was
    /// skipped or resolved without a result, or if its result is of another shape.
    pub fn parent<T: DeserializeOwned>(&self, name: &str) -> Result<T, PermanentError> {
        let result = self.parent_json(name)?.ok_or_else(|| {
            let text = format!("step `{name}` has no result: it was skipped or resolved by hand");
            PermanentError::new(text).error_code("PARENT_WITHOUT_RESULT")
        })?;
        self.read_result(name, result)
    }

    /// The result of a step that this one depends on, as a type; `None` if it was skipped or
    /// resolved without a result.
    pub fn parent_if_any<T: DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Option<T>, PermanentError> {
        let result = self.parent_json(name)?;
        result
            .map(|result| self.read_result(name, result))
            .transpose()
    }

    fn read_result<T: DeserializeOwned>(
        &self,
        name: &str,
        result: &Json,
    ) -> Result<T, PermanentError> {
        result.read().map_err(|error| {
            let step = self.name();
            let text = format!("the result of step `{name}` does not fit step `{step}`: {error}");
            PermanentError::new(text).error_code("PARENT_TYPE")
        })
    }

    /// The result of a step that this one depends on, as it is stored; `None` if it was skipped
    /// or resolved without a result.
    pub fn parent_json(&self, name: &str) -> Result<Option<&Json>, PermanentError> {
        if let Part::Undo(results) = &self.part {
            let result = results.iter().find(|(known, _)| known == name);
            return Ok(result.map(|(_, result)| result));
        }
        let position = self.template.position(name);
        let parent = position.and_then(|p| self.parents.iter().find(|(parent, _)| *parent == p));
        parent.map(|(_, result)| result.as_ref()).ok_or_else(|| {
            let (step, parents) = (self.name(), self.definition().depends_on_steps.join(", "));
            let parents = if parents.is_empty() {
                "nothing"
            } else {
                &parents
            };
            let text =
                format!("step `{step}` does not depend on `{name}`; it depends on {parents}");
            PermanentError::new(text).error_code("NOT_A_PARENT")
        })
    }

    /// The results of all parents that have one, in the order in which the step names them.
    pub fn parents<T: DeserializeOwned>(&self) -> Result<Vec<T>, PermanentError> {
        let results = self
            .parents
            .iter()
            .filter_map(|(parent, result)| Some((*parent, result.as_ref()?)));
        let read =
            |(parent, result)| self.read_result(self.template.step(parent).name.as_str(), result);
        results.map(read).collect()
    }

    /// What was given to [`Definition::state`](super::Definition::state) with this type.
    pub fn state<S: 'static>(&self) -> Option<&S> {
        self.states.get()
    }

    /// The task's input as it is stored.
    pub(crate) fn context_json(&self) -> &Json {
        &self.context
    }

    /// The steps that this one depends on, in the order in which it names them.
    ///
    /// For a step of an undo, those that are undone with it, itself included.
    pub(crate) fn parent_names(&self) -> impl Iterator<Item = &str> {
        let (parents, undone): (_, &[(String, Json)]) = match &self.part {
            Part::Undo(results) => (&[][..], results),
            Part::Task | Part::Item { .. } => (&self.parents[..], &[]),
        };
        let of = |(parent, _): &(Position, Option<Json>)| self.template.step(*parent).name.as_str();
        let undone = undone.iter().map(|(name, _)| name.as_str());
        parents.iter().map(of).chain(undone)
    }

    /// What the definition tells this step's code, as a type.
    ///
    /// The error is permanent. A step without a configuration reads as `null`.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, PermanentError> {
        let config = self.definition().handler_config.as_ref();
        T::deserialize(config.unwrap_or(&serde_json::Value::Null)).map_err(|error| {
            let step = self.name();
            PermanentError::new(format!(
                "the handler_config of step `{step}` does not fit its handler: {error}"
            ))
            .error_code("CONFIG_TYPE")
        })
    }

    /// What came with the signal that this step waited for, as a type; the default of its definition
    /// if the signal did not come in time.
    ///
    /// The error is permanent: the step waits for no signal, or what came is of another shape.
    pub fn signal<T: DeserializeOwned>(&self) -> Result<T, PermanentError> {
        let step = self.name();
        let signal = self.signal_json().ok_or_else(|| {
            PermanentError::new(format!("step `{step}` does not wait for a signal"))
                .error_code("NO_SIGNAL")
        })?;
        signal.read().map_err(|error| {
            let text = format!("what came with the signal does not fit step `{step}`: {error}");
            PermanentError::new(text).error_code("SIGNAL_TYPE")
        })
    }

    /// Goes on as if this had come with the signal.
    pub(crate) fn set_signal(&mut self, signal: Json) {
        self.signal = Some(signal);
    }

    /// What came with the signal that this step waited for, as it is stored.
    pub fn signal_json(&self) -> Option<&Json> {
        self.signal.as_ref()
    }

    /// Says how far this attempt has come: so much is done, of so much if that is known. Shown to
    /// whoever looks, as an event at once and in the store within a second or so; of what is said in
    /// between, the latest counts.
    pub fn progress(&self, done: u64, total: impl Into<Option<u64>>, message: impl Into<String>) {
        self.reporter.report(StepProgress {
            done,
            total: total.into(),
            message: message.into(),
        });
    }

    /// Keeps a line with this attempt's record, for whoever looks at the task later. Not for
    /// secrets. Of very many lines the last ones are kept: 200 of them, or 16 KiB.
    pub fn log(&self, line: impl AsRef<str>) {
        self.log.push(line.as_ref());
    }

    /// Notes something about the task: a JSON object of a type, kept with the task if this attempt
    /// completes its step, and only then, in the same commit as its result.
    ///
    /// The error, which is permanent, says what is wrong with the note: it is no object, larger than 64 KiB,
    /// or one of more than 100.
    pub fn annotate<T: Serialize>(
        &self,
        annotation_type: impl AsRef<str>,
        annotation: T,
    ) -> Result<(), PermanentError> {
        let annotation = Annotation::new(annotation_type, &annotation);
        annotation
            .and_then(|annotation| self.annotations.add(annotation))
            .map_err(|error| PermanentError::new(error.to_string()).error_code("ANNOTATION"))
    }

    /// Ends when this attempt is of no use any more: its task was cancelled, its time is over, or
    /// its lease was lost. Whatever it returns afterwards is ignored.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Whether this attempt is of no use any more; for handlers that work without awaiting.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use tasker_model::id::StepKey;
    use tasker_model::name::{Namespace, StepName, TaskName, Version};
    use tasker_model::template::TemplateSource;

    use super::*;

    impl StepContext {
        /// The second of three attempts of the step `here`.
        pub(crate) fn example(context: &Value, parents: &[(&str, Option<Value>)]) -> StepContext {
            let mut steps = Vec::new();
            let mut here = StepTemplate::named(StepName::new("here").unwrap());
            for (name, _) in parents {
                steps.push(StepTemplate::named(StepName::new(*name).unwrap()));
                here.depends_on_steps.push((*name).to_owned());
            }
            steps.push(here);
            let source = TemplateSource {
                namespace: Namespace::new("tests").unwrap(),
                name: TaskName::new("example").unwrap(),
                version: "1.0.0".parse::<Version>().unwrap(),
                description: String::new(),
                schema: None,
                deadline_ms: None,
                queue: None,
                steps,
            };
            let template = TaskTemplate::new(source).unwrap();
            let position = |name: &str| template.position(name).unwrap();
            let parents = parents
                .iter()
                .map(|(name, result)| {
                    (
                        position(name),
                        result.as_ref().map(|r| Json::of(r).unwrap()),
                    )
                })
                .collect();
            StepContext {
                key: StepKey {
                    task_id: "0190b6a0-0000-7000-8000-000000000001".parse().unwrap(),
                    position: position("here"),
                },
                attempt: 2,
                attempt_limit: 3,
                context: Json::of(context).unwrap(),
                parents,
                signal: None,
                cancelled: CancellationToken::new(),
                log: AttemptLog::default(),
                states: Arc::default(),
                reporter: Reporter::default(),
                part: Part::Task,
                annotations: Annotations::default(),
                template,
            }
        }
    }
}
