//! Task handlers and step handlers as types: the programs of the specification's quick reference
//! (16 L), and what their methods may do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tasker::handler::Definition;
use tasker::model::outcome::FailureKind;
use tasker::model::task::TaskState;
use tasker::{
    Context, Error, NonRetryableError, RetryableError, StepContext, StepHandler, StepResult,
    TaskDefinition, TaskHandler, TaskRequest, Tasker, step,
};

use crate::support::{assert_sound, assert_state, attempts, in_memory, run};

struct MyTask;

impl TaskDefinition for MyTask {
    const TASK_NAME: &'static str = "my_task";
    const NAMESPACE: &'static str = "my_namespace";
    const VERSION: &'static str = "1.0.0";

    fn define_step_templates(&self, templates: &mut Definition) {
        let first = templates.add(step("step_one", StepOne));
        templates.add(step("step_two", StepTwo).after(&first).retry_limit(2));
    }

    fn schema(&self) -> Option<Value> {
        Some(json!({
            "type": "object",
            "required": ["input_data"],
            "properties": {"input_data": {"type": "string"}}
        }))
    }

    fn establish_step_dependencies_and_defaults(
        &self,
        request: &mut TaskRequest,
    ) -> Result<(), String> {
        if request.reason == "refused" {
            return Err("not today".to_owned());
        }
        if let Some(context) = request.context.as_object_mut() {
            context.entry("source").or_insert(json!("default"));
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Processed {
    processed_data: String,
    timestamp: String,
}

struct StepOne;

impl StepHandler for StepOne {
    type Output = Processed;

    async fn process(&self, step: &StepContext) -> StepResult<Processed> {
        let context: Value = step.context()?;
        let input = context["input_data"].as_str();
        let input = input.ok_or(NonRetryableError::new("Bad data: no input"))?;
        if input == "outage" && step.attempt() == 1 {
            return Err(RetryableError::new("Service timeout")
                .retry_after(0.001)
                .into());
        }
        Ok(Processed {
            processed_data: format!("{input} from {}", context["source"]),
            timestamp: "2025-01-01T00:00:00Z".to_owned(),
        })
    }
}

struct StepTwo;

impl StepHandler for StepTwo {
    type Output = String;

    async fn process(&self, step: &StepContext) -> StepResult<String> {
        let before: Processed = step.parent("step_one")?;
        Ok(before.processed_data)
    }

    fn process_results(&self, step: &StepContext, output: String) -> StepResult<String> {
        Ok(format!("{}: {output}", step.name()))
    }
}

async fn engine() -> Tasker {
    in_memory([TaskHandler::of(MyTask).unwrap()]).await
}

fn request(input: &str) -> TaskRequest {
    TaskRequest::new("my_task")
        .namespace("my_namespace")
        .version("1.0.0".parse().unwrap())
        .context(json!({"input_data": input}))
}

#[tokio::test]
async fn the_quick_reference_runs() {
    let tasker = engine().await;
    let executor = tasker.executor();
    let task = executor.execute_async(request("value")).await.unwrap();
    assert_eq!(task.status(), "pending");
    let task = executor
        .execute_sync(request("outage"), None)
        .await
        .unwrap();
    assert_eq!(task.status(), "completed");
    let steps = task.workflow_steps().await.unwrap();
    let shown = steps.iter().map(|step| (step.name.as_str(), step.status));
    let expected = [("step_one", "completed"), ("step_two", "completed")];
    assert_eq!(shown.collect::<Vec<_>>(), expected);
    assert_eq!(steps[0].attempts, 2);
    let expected = json!("step_two: outage from \"default\"");
    assert_eq!(
        steps[1].result,
        Some(expected),
        "as `process_results` made it"
    );
    assert_sound(&tasker).await;
}

#[tokio::test]
async fn defaults_are_stored_before_the_first_step() {
    let tasker = engine().await;
    let task = tasker.executor().execute_async(request("x")).await.unwrap();
    assert_eq!(
        task.detail().await.unwrap().task.context.as_str(),
        r#"{"input_data":"x","source":"default"}"#
    );
}

#[tokio::test]
async fn a_request_is_refused_by_the_hook_or_the_schema_and_leaves_nothing() {
    let tasker = engine().await;
    let mut refused = request("x");
    refused.reason = "refused".to_owned();
    let error = tasker.executor().execute_async(refused).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }));
    assert_eq!(
        error.to_string(),
        "my_namespace.my_task@1.0.0 refuses the request: not today"
    );
    let unfit = request("x").context(json!({}));
    let error = tasker.executor().execute_async(unfit).await.unwrap_err();
    assert!(error.to_string().contains("input_data"), "{error}");
    let filter = tasker::store::store::TaskFilter::default();
    let page = tasker::store::store::Page {
        limit: 10,
        before: None,
    };
    assert!(tasker.store().tasks(filter, page).await.unwrap().is_empty());
}

/// Does its work, and cannot shape what came of it.
struct Unshaped {
    done: Arc<AtomicU32>,
}

impl StepHandler for Unshaped {
    type Output = u32;

    async fn process(&self, _step: &StepContext) -> StepResult<u32> {
        Ok(self.done.fetch_add(1, Ordering::SeqCst))
    }

    fn process_results(&self, _step: &StepContext, _output: u32) -> StepResult<u32> {
        Err(RetryableError::new("no shape").into())
    }
}

#[tokio::test]
async fn what_has_been_done_is_not_done_again_for_its_shape() {
    let done = Arc::new(AtomicU32::new(0));
    let mut definition = TaskHandler::new("objects", "unshaped", "1.0.0");
    definition.add(step("only", Unshaped { done: done.clone() }));
    let (_tasker, task) = run(definition.build().unwrap()).await;
    assert_state(&task, TaskState::Error);
    assert_eq!(attempts(&task, "only").await, 1);
    assert_eq!(done.load(Ordering::SeqCst), 1);
    let record = task.detail().await.unwrap().transitions;
    let failure = record.into_iter().find_map(|t| t.failure).unwrap();
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert_eq!(failure.message, "no shape");
}

/// All constants but the name have defaults; functions and types may stand side by side.
struct Small;

impl TaskDefinition for Small {
    const TASK_NAME: &'static str = "small";

    fn define_step_templates(&self, templates: &mut Definition) {
        async fn length(Context(words): Context<Vec<(String, String)>>) -> StepResult<usize> {
            Ok(words.len())
        }
        templates.add(step("length", length));
    }
}

#[test]
fn a_name_and_steps_are_enough() {
    let handler = TaskHandler::of(Small).unwrap();
    assert_eq!(handler.template().full_name(), "default.small@0.1.0");
}

#[test]
fn a_type_is_refused_with_all_its_problems() {
    struct Empty;
    impl TaskDefinition for Empty {
        const TASK_NAME: &'static str = "empty";
        const VERSION: &'static str = "one";
        fn define_step_templates(&self, _templates: &mut Definition) {}
    }
    let error = TaskHandler::of(Empty).unwrap_err().to_string();
    assert!(error.contains("`one` is not a version"), "{error}");
}
