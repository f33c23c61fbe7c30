//! Stopping in order, and coming back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tasker::model::event::Fact;
use tasker::model::task::TaskState;
use tasker::model::transition::Reason;
use tasker::{Options, Step, StepContext, StepResult, TaskHandler};

use crate::support::{assert_sound, on_file, request_for};

/// A step that hangs until it may pass.
fn gate(open: Arc<AtomicBool>) -> TaskHandler {
    let pass = move |step: StepContext| {
        let open = open.load(Ordering::SeqCst);
        async move {
            if !open {
                std::future::pending::<()>().await;
            }
            StepResult::Ok(step.attempt())
        }
    };
    TaskHandler::new("shutdown", "gate", "1.0.0")
        .step(Step::new("pass", pass))
        .build()
        .unwrap()
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_handed_back_and_costs_no_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let open = Arc::new(AtomicBool::new(false));
    let options = Options {
        shutdown_grace_seconds: 0,
        ..Options::default()
    };
    let handler = gate(open.clone());

    let tasker = on_file(&path, [handler.clone()], options.clone()).await;
    let mut events = tasker.events();
    let id = tasker
        .executor()
        .execute_async(request_for(&handler))
        .await
        .unwrap()
        .id();
    while !matches!(events.next().await.unwrap().fact, Fact::StepStarted { .. }) {}
    tasker.stop().await.unwrap();

    open.store(true, Ordering::SeqCst);
    let tasker = on_file(&path, [handler], options).await;
    let mut task = tasker.executor().task(id).await.unwrap();
    assert_eq!(task.wait(None).await.unwrap(), TaskState::Complete);
    let steps = task.workflow_steps().await.unwrap();
    assert_eq!(
        steps[0].result_as::<u32>().unwrap(),
        Some(1),
        "the first attempt was given back"
    );
    let record = task.detail().await.unwrap().transitions;
    assert!(
        record
            .iter()
            .any(|transition| transition.reason == Some(Reason::HandedBack))
    );
    assert_sound(&tasker).await;
}

#[tokio::test]
async fn what_finishes_in_time_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let (release, gate) = tokio::sync::watch::channel(false);
    let waits = move |_: StepContext| {
        let mut gate = gate.clone();
        async move {
            gate.wait_for(|open| *open).await?;
            Ok("in time")
        }
    };
    let handler = TaskHandler::new("shutdown", "finishes", "1.0.0")
        .step(Step::new("waits", waits))
        .step(Step::new("later", |_| async { Ok(()) }).depends_on_step("waits"))
        .build()
        .unwrap();
    let tasker = on_file(&path, [handler.clone()], Options::default()).await;
    let store = tasker.store().clone();
    let mut events = tasker.events();
    let task = tasker
        .executor()
        .execute_async(request_for(&handler))
        .await
        .unwrap();
    while !matches!(events.next().await.unwrap().fact, Fact::StepStarted { .. }) {}
    let stopping = tokio::spawn(tasker.stop());
    release.send(true).unwrap();
    stopping.await.unwrap().unwrap();
    let detail = store.task_detail(task.id()).await.unwrap().unwrap();
    let states: Vec<_> = detail.steps.iter().map(|step| step.status).collect();
    assert_eq!(
        states,
        ["completed", "pending"],
        "nothing new starts while stopping"
    );
}

#[tokio::test]
async fn a_definition_that_was_changed_does_not_strand_running_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let open = Arc::new(AtomicBool::new(false));
    let options = Options {
        shutdown_grace_seconds: 0,
        ..Options::default()
    };
    let old = gate(open.clone());
    let tasker = on_file(&path, [old.clone()], options.clone()).await;
    let id = tasker
        .executor()
        .execute_async(request_for(&old))
        .await
        .unwrap()
        .id();
    tasker.stop().await.unwrap();

    // The same version, deployed with one step more.
    open.store(true, Ordering::SeqCst);
    let pass = |_: StepContext| async { StepResult::Ok(7) };
    let new = TaskHandler::new("shutdown", "gate", "1.0.0")
        .step(Step::new("pass", pass))
        .step(Step::new("more", pass).depends_on_step("pass"))
        .build()
        .unwrap();
    assert_ne!(old.template().hash(), new.template().hash());
    let tasker = on_file(&path, [new.clone()], options).await;
    let mut task = tasker.executor().task(id).await.unwrap();
    assert_eq!(task.wait(None).await.unwrap(), TaskState::Complete);
    assert_eq!(
        task.workflow_steps().await.unwrap().len(),
        1,
        "pinned to what it began with"
    );
    let task = tasker
        .executor()
        .execute_sync(request_for(&new), None)
        .await
        .unwrap();
    assert_eq!(task.workflow_steps().await.unwrap().len(), 2);
}
