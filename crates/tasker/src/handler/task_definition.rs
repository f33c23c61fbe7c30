//! Task handlers as types with constants and methods, for those who like objects better.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tasker_model::json::Json;
use tasker_model::request::TaskRequest;

use super::context::StepContext;
use super::definition::{Definition, TaskHandler};
use super::error::PermanentError;
use crate::error::Error;

/// A task handler, as a type. [`TaskHandler::of`] makes one of it.
pub trait TaskDefinition: Send + Sync + 'static {
    /// Its name within the namespace.
    const TASK_NAME: &'static str;
    /// The team or domain.
    const NAMESPACE: &'static str = "default";
    /// The version of this definition.
    const VERSION: &'static str = "0.1.0";
    /// What the task does, for people.
    const DESCRIPTION: &'static str = "";

    /// Adds the steps.
    fn define_step_templates(&self, templates: &mut Definition);

    /// The JSON schema of the context, if it has one.
    fn schema(&self) -> Option<Value> {
        None
    }

    /// The longest time from the creation to the end of a whole task, if it has one.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    /// Called once for each task, before its request is held against the schema and stored: may
    /// fill in what the context lacks, bypass skippable steps, set the priority. An error refuses
    /// the request, and nothing is created.
    ///
    /// Tasks that are created by SQL come into being without it.
    fn establish_step_dependencies_and_defaults(
        &self,
        _request: &mut TaskRequest,
    ) -> Result<(), String> {
        Ok(())
    }

    /// Called once for each step that an attempt completes, with what will be its result, which is
    /// recorded together with all that is noted here with [`StepContext::annotate`]. An error is kept in
    /// the attempt's log and changes nothing else: the work has been done.
    ///
    /// Steps that were skipped, bypassed or resolved by hand are none that an attempt completes.
    fn update_annotations(
        &self,
        _step: &StepContext,
        _result: &Json,
    ) -> Result<(), PermanentError> {
        Ok(())
    }
}

impl TaskHandler {
    /// The task handler that a type describes; the error names everything that is wrong with it.
    pub fn of<D: TaskDefinition>(described: D) -> Result<TaskHandler, Error> {
        let mut definition = TaskHandler::new(D::NAMESPACE, D::TASK_NAME, D::VERSION);
        definition = definition.description(D::DESCRIPTION);
        if let Some(schema) = described.schema() {
            definition = definition.schema(schema);
        }
        if let Some(deadline) = described.deadline() {
            definition = definition.deadline(deadline);
        }
        described.define_step_templates(&mut definition);
        let described = Arc::new(described);
        let annotated = described.clone();
        definition.annotate = Some(Arc::new(move |step, result| {
            annotated.update_annotations(step, result)
        }));
        definition.prepare = Some(Arc::new(move |request| {
            described.establish_step_dependencies_and_defaults(request)
        }));
        definition.build()
    }
}
