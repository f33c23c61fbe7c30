//! What task handlers note about their tasks: the dummy task of the specification's examples (07 A1).

use serde_json::{Value, json};
use tasker::handler::Definition;
use tasker::model::json::Json;
use tasker::model::retry::Backoff;
use tasker::model::task::TaskState;
use tasker::{
    Options, PermanentError, RetryableError, StepContext, StepResult, Task, TaskDefinition,
    TaskHandler, step,
};

use crate::support::{assert_sound, assert_state, attempts, both_stores, on, request_for, run};

struct DummyTask;

async fn dummy(step: StepContext) -> StepResult<Value> {
    if step.attempt() == 1 {
        step.annotate("lost", json!({"attempt": 1}))?;
        return Err(RetryableError::new("not yet").into());
    }
    Ok(json!({"dummy": true}))
}

const QUICK: Backoff = Backoff::Fixed { delay_ms: 1 };

impl TaskDefinition for DummyTask {
    const TASK_NAME: &'static str = "dummy_task";

    fn define_step_templates(&self, templates: &mut Definition) {
        templates.add(step("step-one", dummy).backoff(QUICK));
        let two = templates.add(step("step-two", dummy).backoff(QUICK));
        let three = templates.add(step("step-three", dummy).backoff(QUICK).follows(&two));
        templates.add(step("step-four", dummy).backoff(QUICK).follows(&three));
    }

    fn update_annotations(&self, step: &StepContext, result: &Json) -> Result<(), PermanentError> {
        let result: Value = result
            .read()
            .map_err(|error| PermanentError::new(error.to_string()))?;
        let note =
            json!({"dummy_annotation": result["dummy"], "step_name": step.name(), "odd": "\0"});
        step.annotate("dummy-annotation", note)
    }
}

async fn noted(task: &Task) -> Vec<(String, Value)> {
    let notes = task.detail().await.unwrap().annotations.into_iter();
    notes
        .map(|note| {
            let annotation = note.annotation.annotation.read().unwrap();
            (
                format!("{} {}", note.annotation.annotation_type, note.step),
                annotation,
            )
        })
        .collect()
}

/// Four steps, each tried twice: four notes (08 J130).
#[tokio::test]
async fn each_completed_step_is_noted_once() {
    for url in both_stores().await {
        let handler = TaskHandler::of(DummyTask).unwrap();
        let request = request_for(&handler);
        let tasker = on(url, [handler], Options::default()).await;
        let task = tasker.executor().execute_sync(request, None).await.unwrap();
        assert_state(&task, TaskState::Complete);
        assert_eq!(attempts(&task, "step-four").await, 2);
        let mut notes = noted(&task).await;
        notes.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = ["step-four", "step-one", "step-three", "step-two"].map(|name| {
            let note = json!({"dummy_annotation": true, "step_name": name, "odd": "\0"});
            (format!("dummy-annotation {name}"), note)
        });
        assert_eq!(notes, expected);
        assert_sound(&tasker).await;
        tasker.stop().await.unwrap();
    }
}

struct Careless;

impl TaskDefinition for Careless {
    const TASK_NAME: &'static str = "careless";

    fn define_step_templates(&self, templates: &mut Definition) {
        async fn nothing(step: StepContext) -> StepResult<()> {
            step.annotate("ok", json!({"n": 1}))?;
            assert!(step.annotate("ok", [1]).is_err());
            Ok(())
        }
        templates.add(step("only", nothing));
    }

    fn update_annotations(&self, step: &StepContext, _result: &Json) -> Result<(), PermanentError> {
        step.annotate("", json!({}))
    }
}

/// The work has been done: what cannot be noted is said on the record.
#[tokio::test]
async fn a_note_that_is_none_loses_no_result() {
    let (_tasker, task) = run(TaskHandler::of(Careless).unwrap()).await;
    assert_state(&task, TaskState::Complete);
    assert_eq!(
        noted(&task).await,
        [("ok only".to_owned(), json!({"n": 1}))]
    );
    let record = task.detail().await.unwrap().transitions;
    let log: String = record.into_iter().filter_map(|t| t.log).collect();
    assert!(
        log.starts_with("update_annotations: annotation type "),
        "{log}"
    );
}
