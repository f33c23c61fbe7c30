//! What people order: each order has its effect at once, and is on record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tasker::model::event::Fact;
use tasker::model::task::TaskState;
use tasker::{
    Error, PermanentError, Step, StepContext, StepResult, Task, TaskHandler, Tasker, explain,
};
use tasker_testing::patterns::{DIAMOND, fail_first};
use tokio::sync::oneshot;

use crate::support::{assert_sound, assert_state, attempts, in_memory, request_for, run, statuses};

/// A chain whose middle step fails for good until it is mended.
fn chain(mended: Arc<AtomicBool>) -> TaskHandler {
    let middle = move |_: StepContext| {
        let mended = mended.load(Ordering::SeqCst);
        async move {
            if mended {
                return Ok(2);
            }
            StepResult::Err(PermanentError::new("not yet").into())
        }
    };
    TaskHandler::new("operators", "chain", "1.0.0")
        .step(Step::new("first", |_| async { Ok(1) }))
        .step(Step::new("middle", middle).depends_on_step("first"))
        .step(
            Step::new("last", |step: StepContext| async move {
                Ok(step.parent::<u32>("middle").unwrap_or(100) + 1)
            })
            .depends_on_step("middle"),
        )
        .build()
        .unwrap()
}

async fn failed_chain(mended: &Arc<AtomicBool>) -> (Tasker, Task) {
    let (tasker, task) = run(chain(mended.clone())).await;
    assert_state(&task, TaskState::Error);
    (tasker, task)
}

#[tokio::test]
async fn a_failed_step_is_retried_and_its_task_goes_on() {
    let mended = Arc::new(AtomicBool::new(false));
    let (tasker, mut task) = failed_chain(&mended).await;
    mended.store(true, Ordering::SeqCst);
    let state = tasker
        .retry_step(task.id(), "middle", 1, "ada")
        .await
        .unwrap();
    assert_eq!(state, TaskState::Pending, "re-opened by the order itself");
    assert_eq!(task.wait(None).await.unwrap(), TaskState::Complete);
    let record = task.detail().await.unwrap().transitions;
    assert!(
        record
            .iter()
            .any(|transition| transition.actor.as_deref() == Some("ada"))
    );
    assert_sound(&tasker).await;
}

#[tokio::test]
async fn a_failed_task_is_retried_as_a_whole() {
    let mended = Arc::new(AtomicBool::new(false));
    let (tasker, mut task) = failed_chain(&mended).await;
    tasker.retry_task(task.id(), "ada").await.unwrap();
    assert_eq!(
        task.wait(None).await.unwrap(),
        TaskState::Error,
        "not mended: it fails again"
    );
    assert_eq!(attempts(&task, "middle").await, 2);
    mended.store(true, Ordering::SeqCst);
    tasker.retry_task(task.id(), "ada").await.unwrap();
    assert_eq!(task.wait(None).await.unwrap(), TaskState::Complete);
    assert_sound(&tasker).await;
}

#[tokio::test]
async fn a_resolved_step_hands_its_result_to_its_children() {
    let (tasker, mut task) = failed_chain(&Arc::default()).await;
    let result = serde_json::json!(41);
    tasker
        .resolve_step(task.id(), "middle", Some(&result), "ada")
        .await
        .unwrap();
    assert_eq!(task.wait(None).await.unwrap(), TaskState::Complete);
    let steps = task.workflow_steps().await.unwrap();
    assert_eq!(steps[2].result_as::<u32>().unwrap(), Some(42));
    assert_eq!(steps[1].status, "completed");
    assert_sound(&tasker).await;
}

#[tokio::test]
async fn a_skipped_step_lets_its_children_start_without_a_result() {
    let (tasker, mut task) = failed_chain(&Arc::default()).await;
    tasker.skip_step(task.id(), "middle", "ada").await.unwrap();
    assert_eq!(task.wait(None).await.unwrap(), TaskState::Complete);
    let steps = task.workflow_steps().await.unwrap();
    assert_eq!(
        (steps[1].status, &steps[2].result),
        ("skipped", &Some(101.into()))
    );
    assert_sound(&tasker).await;
}

#[tokio::test]
async fn orders_that_make_no_sense_are_refused_with_what_would() {
    let (tasker, mut task) = failed_chain(&Arc::default()).await;
    let id = task.id();
    let refusal = |result: Result<TaskState, Error>| result.unwrap_err().to_string();
    assert_eq!(
        refusal(tasker.cancel_task(id, "ada").await),
        "a task in state `error` cannot cancel; it can retry, resolve"
    );
    assert!(
        refusal(tasker.retry_step(id, "first", 1, "ada").await)
            .contains("a step in state `complete` cannot retry")
    );
    assert_eq!(
        refusal(tasker.skip_step(id, "midle", "ada").await),
        format!("task {id} has no step `midle`; it has first, middle, last")
    );
    assert!(
        refusal(tasker.raise_limit(id, "middle", 2, "ada").await)
            .contains("may make 3 attempts already")
    );
    assert_eq!(
        tasker.resolve_task(id, "ada").await.unwrap(),
        TaskState::ResolvedManually
    );
    task.refresh().await.unwrap();
    assert_eq!(
        (task.status(), task.manually_resolved()),
        ("completed", true)
    );
    assert!(
        refusal(tasker.retry_step(id, "middle", 1, "ada").await)
            .contains("`resolved_manually` cannot retry")
    );
    assert_sound(&tasker).await;
}

#[tokio::test]
async fn raising_the_limit_sends_an_exhausted_step_round_again() {
    let handler = DIAMOND
        .handler_with(|failures, step| async move {
            let failures = if step.name() == "branch_one_process" {
                4
            } else {
                failures
            };
            fail_first(failures, &step)
        })
        .unwrap();
    let (tasker, mut task) = run(handler).await;
    assert_state(&task, TaskState::Error);
    tasker
        .raise_limit(task.id(), "branch_one_process", 5, "ada")
        .await
        .unwrap();
    assert_eq!(task.wait(None).await.unwrap(), TaskState::Complete);
    assert_eq!(attempts(&task, "branch_one_process").await, 5);
    assert_sound(&tasker).await;
}

/// Tells when it is dropped.
struct Tell(Option<oneshot::Sender<()>>);

impl Drop for Tell {
    fn drop(&mut self) {
        let _ = self.0.take().unwrap().send(());
    }
}

#[tokio::test]
async fn cancelling_a_task_reaches_the_handler_that_runs() {
    let (stopped, was_stopped) = oneshot::channel::<()>();
    let tell = Arc::new(std::sync::Mutex::new(Some(Tell(Some(stopped)))));
    let handler = TaskHandler::new("operators", "hangs", "1.0.0")
        .step(Step::new("hangs", move |_| {
            let tell = tell.lock().unwrap().take();
            async move {
                std::future::pending::<()>().await;
                drop(tell);
                Ok(())
            }
        }))
        .step(Step::new("never", |_| async { Ok(()) }).depends_on_step("hangs"))
        .build()
        .unwrap();
    let request = request_for(&handler);
    let tasker = in_memory([handler]).await;
    let mut events = tasker.events();
    let mut task = tasker.executor().execute_async(request).await.unwrap();
    while !matches!(events.next().await.unwrap().fact, Fact::StepStarted { .. }) {}
    let why = explain(&**tasker.store(), task.id(), Some("never"))
        .await
        .unwrap();
    assert_eq!(why[0].why, "it waits for `hangs` (running)");
    assert_eq!(
        tasker.cancel_task(task.id(), "ada").await.unwrap(),
        TaskState::Cancelled
    );
    was_stopped.await.unwrap();
    task.refresh().await.unwrap();
    assert_eq!(task.status(), "cancelled");
    let all: Vec<_> = statuses(&task)
        .await
        .into_iter()
        .map(|(_, status)| status)
        .collect();
    assert_eq!(all, ["cancelled", "cancelled"]);
    assert_sound(&tasker).await;
}
