//! Steps without code, run by the engine.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::json;
use tasker_model::outcome::FailureKind;
use tasker_model::task::TaskState;
use tempfile::TempDir;

use super::command::command;
use super::http::http;
use super::server::{Reply, Request, Server};
use super::task::task;
use super::*;
use crate::expression::Variables;
use crate::handler::{Step, StepCode, StepContext, TaskHandler};
use crate::{Task, TaskRequest, Tasker};

/// A definition whose steps have this code.
fn with_code(steps: Vec<(Step, StepCode)>) -> TaskHandler {
    let mut definition = TaskHandler::new("steps", "example", "1.0.0");
    let mut code = Vec::new();
    for (step, handler) in steps {
        definition = definition.step(step);
        code.push(handler);
    }
    let built = definition.build().unwrap();
    let names = built.template().source().steps.iter();
    let names = names.map(|step| step.name.as_str().to_owned());
    TaskHandler::from_parts(built.template().clone(), names.zip(code).collect())
}

fn step(name: &str) -> Step {
    let backoff = tasker_model::retry::Backoff::Fixed { delay_ms: 5 };
    Step::new(name, |_: StepContext| async { Ok(()) }).backoff(backoff)
}

async fn engine(handler: TaskHandler) -> Tasker {
    let builder = Tasker::builder("sqlite::memory:").register(handler);
    builder.start().await.unwrap()
}

fn request() -> TaskRequest {
    TaskRequest::new("example")
        .namespace("steps")
        .context(json!({"id": 7}))
}

async fn results(task: &Task) -> Vec<Option<Value>> {
    let steps = task.workflow_steps().await.unwrap();
    steps.iter().map(|step| step.result_as().unwrap()).collect()
}

#[tokio::test]
async fn a_task_without_code_runs_to_its_end() {
    let server = Server::start(|request: &Request| {
        // The first request of each kind fails.
        let (status, wait) = match request.headers["x-attempt"].as_str() {
            "1" => (503, "retry-after: 0\r\n"),
            _ => (200, ""),
        };
        Reply::Full(status, wait.to_owned(), br#"{"price": 2.5}"#.to_vec())
    })
    .await;
    let fetch = json!({
        "url": server.url("/prices/${{ context.id }}"),
        "headers": {"X-Attempt": "${{ attempt }}"},
    });
    let sum = json!({
        "program": "sh",
        "args": ["-c", "echo computing >&2; printf '{\"sum\": %s}' \"$1\"", "sh",
                 "${{ results.fetch.price * double(context.id) }}"],
    });
    let named = parents_named(&sum);
    assert_eq!(named, [("/args/3".to_owned(), "fetch".to_owned())]);
    let handler = with_code(vec![
        (step("fetch"), http(&fetch, Variables::TASK).unwrap()),
        (
            step("sum").depends_on_step("fetch"),
            command(&sum, Variables::TASK).unwrap(),
        ),
    ]);
    let tasker = engine(handler).await;
    let task = tasker
        .executor()
        .execute_sync(request(), None)
        .await
        .unwrap();
    assert_eq!(
        task.state(),
        TaskState::Complete,
        "{:#?}",
        task.detail().await
    );
    let expected = [Some(json!({"price": 2.5})), Some(json!({"sum": 17.5}))];
    assert_eq!(results(&task).await, expected);
    let record = task.detail().await.unwrap().transitions;
    let log: String = record.into_iter().filter_map(|change| change.log).collect();
    assert!(
        log.contains(": 503 in ") && log.contains("computing\n"),
        "{log}"
    );
    tasker.stop().await.unwrap();
}

/// Waits until a process whose id stands in the file does not exist any more.
async fn gone(file: &Path) {
    let mut look = tokio::time::interval(Duration::from_millis(5));
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        look.tick().await;
        let pid = fs::read_to_string(file).unwrap_or_default();
        if pid.ends_with('\n') && !Path::new("/proc").join(pid.trim()).exists() {
            return;
        }
    }
    panic!("{} names a process that runs", file.display());
}

#[tokio::test]
async fn a_step_that_takes_too_long_ends_its_program() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("pid");
    let text = format!(
        "trap '' TERM; echo $$ > {}; echo begun >&2; while :; do :; done",
        file.display()
    );
    let config = json!({"program": "sh", "args": ["-c", text], "grace": 0.1});
    let slow = step("slow")
        .timeout(Duration::from_millis(500))
        .retry_limit(1);
    let tasker = engine(with_code(vec![(
        slow,
        command(&config, Variables::TASK).unwrap(),
    )]))
    .await;
    let task = tasker
        .executor()
        .execute_sync(request(), None)
        .await
        .unwrap();
    assert_eq!(task.state(), TaskState::Error);
    let record = task.detail().await.unwrap().transitions;
    let failed = record
        .iter()
        .find_map(|change| change.failure.as_ref())
        .unwrap();
    assert_eq!(failed.kind, FailureKind::TimedOut);
    assert!(
        record
            .iter()
            .any(|change| change.log.as_deref() == Some("begun\n"))
    );
    gone(&file).await;
    assert!(programs_ended(Duration::from_secs(20)));
}

#[tokio::test]
async fn a_cancelled_task_ends_its_program() {
    let folder = TempDir::new().unwrap();
    let (begun, file) = (folder.path().join("begun"), folder.path().join("pid"));
    let text = format!(
        "echo $$ > {}; mkfifo {1}; echo > {1}; exec cat {1}",
        file.display(),
        begun.display()
    );
    let config = json!({"program": "sh", "args": ["-c", text]});
    let tasker = engine(with_code(vec![(
        step("waits"),
        command(&config, Variables::TASK).unwrap(),
    )]))
    .await;
    let task = tasker.executor().execute_async(request()).await.unwrap();
    let mut look = tokio::time::interval(Duration::from_millis(5));
    while !begun.exists() {
        look.tick().await;
    }
    tasker.cancel_task(task.id(), "test").await.unwrap();
    gone(&file).await;
}

/// Every configuration in the documentation is one.
#[test]
fn the_examples_of_the_documentation_are_in_order() {
    let page = include_str!("../../../../docs/STEPS.md");
    let mut checked = 0;
    for block in page.split("```yaml\n").skip(1) {
        let text = block.split("```").next().unwrap();
        let config: Value = serde_saphyr::from_str(text).unwrap();
        let problems = match text.lines().next().unwrap() {
            "# command" => command(&config, Variables::TASK).err(),
            "# http" => http(&config, Variables::TASK).err(),
            "# task" => task(&config, Variables::TASK).err(),
            other => panic!("of which step is {other}?"),
        };
        assert_eq!(problems, None, "{text}");
        checked += 1;
    }
    assert_eq!(checked, 4);
}

/// Every key and every code is documented.
#[test]
fn the_documentation_is_complete() {
    let page = include_str!("../../../../docs/STEPS.md");
    let sources = [
        include_str!("../steps.rs"),
        include_str!("command.rs"),
        include_str!("command/exit.rs"),
        include_str!("command/run.rs"),
        include_str!("http.rs"),
        include_str!("http/answer.rs"),
        include_str!("http/send.rs"),
        include_str!("http/request.rs"),
        include_str!("task.rs"),
        include_str!("../subtasks.rs"),
        include_str!("../subtasks/plan.rs"),
    ];
    let of_failures = sources.iter().flat_map(|source| {
        let calls = source.split("permanent(\"").skip(1);
        calls.chain(source.split("retryable(\"").skip(1))
    });
    let keys = sources.iter().flat_map(|source| {
        let list = source.split("const KEYS: &[&str] = &[").nth(1);
        let list = list.and_then(|list| list.split("];").next());
        list.unwrap_or_default().split('"').skip(1).step_by(2)
    });
    let names = of_failures.map(|call| call.split('"').next().unwrap_or_default());
    for name in names.chain(keys) {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}
