//! Handlers that fail in every way that handlers can.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::SignedDuration;
use tasker::model::event::Fact;
use tasker::model::outcome::FailureKind;
use tasker::model::retry::Backoff;
use tasker::model::task::TaskState;
use tasker::{
    Events, NonRetryableError, Options, RetryableError, Step, StepContext, StepResult, Task,
    TaskHandler, Tasker, explain,
};
use tokio::sync::Notify;

use crate::support::{
    assert_sound, assert_state, attempts, in_memory, on_file, on_manual_clock, request_for, run,
};

fn one_step(step: Step) -> TaskHandler {
    let quick = Backoff::Fixed { delay_ms: 5 };
    TaskHandler::new("failures", "one_step", "1.0.0")
        .step(step.backoff(quick))
        .build()
        .unwrap()
}

/// The kind and message of a step's last failure.
async fn failure(task: &Task) -> (FailureKind, String) {
    let record = task.detail().await.unwrap().transitions;
    let failure = record
        .into_iter()
        .rev()
        .find_map(|transition| transition.failure)
        .unwrap();
    (failure.kind, failure.message)
}

#[tokio::test]
async fn a_permanent_error_ends_the_step_at_once_and_keeps_code_and_context() {
    let (_tasker, task) = run(one_step(Step::new("pay", |_| async {
        let mut error = NonRetryableError::new("card declined").error_code("DECLINED");
        error.context = serde_json::json!({"reason": "insufficient_funds"});
        StepResult::<()>::Err(error.into())
    })))
    .await;
    assert_state(&task, TaskState::Error);
    assert_eq!(task.status(), "failed");
    assert_eq!(attempts(&task, "pay").await, 1);
    let record = task.detail().await.unwrap().transitions;
    let failure = record
        .into_iter()
        .find_map(|transition| transition.failure)
        .unwrap();
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert_eq!(failure.error_code.as_deref(), Some("DECLINED"));
    assert_eq!(failure.context["reason"], "insufficient_funds");
}

#[tokio::test]
async fn what_a_handler_logs_is_kept_with_its_attempt() {
    let step = Step::new("talks", |step: StepContext| async move {
        step.log(format!("attempt {}", step.attempt()));
        assert!(step.attempt() > 1, "first attempt");
        Ok(())
    });
    let (_tasker, task) = run(one_step(step)).await;
    let record = task.detail().await.unwrap().transitions;
    let kept: Vec<String> = record.into_iter().filter_map(|change| change.log).collect();
    assert_eq!(kept, ["attempt 1\n", "attempt 2\n"]);
}

#[tokio::test]
async fn progress_is_told_at_once_and_kept_with_the_step() {
    let go_on = Arc::new(Notify::new());
    let notified = go_on.clone();
    let step = Step::new("works", move |step: StepContext| {
        let go_on = notified.clone();
        async move {
            for done in 1..=1_000 {
                step.progress(done, 1_000, "counting");
            }
            go_on.notified().await;
            Ok(())
        }
    });
    let handler = one_step(step);
    let request = request_for(&handler);
    let tasker = in_memory([handler]).await;
    let mut events = tasker.events();
    let mut task = tasker.executor().execute_async(request).await.unwrap();
    let told = loop {
        if let Fact::StepProgressed { progress, .. } = events.next().await.unwrap().fact
            && progress.done == 1_000
        {
            break progress;
        }
    };
    assert_eq!(told.to_string(), "1000 of 1000, counting");
    // The store is told within a second or so; a poll waits for it.
    let mut clock = tokio::time::interval(Duration::from_millis(20));
    while task.detail().await.unwrap().steps[0].progress.as_ref() != Some(&told) {
        clock.tick().await;
    }
    let why = explain(&**tasker.store(), task.id(), None).await.unwrap();
    let why = &why[0].why;
    assert!(
        why.contains(" and has come to 1000 of 1000, counting; its lease"),
        "{why}"
    );
    go_on.notify_one();
    task.wait(None).await.unwrap();
    assert_eq!(task.detail().await.unwrap().steps[0].progress, Some(told));
}

#[tokio::test]
async fn not_retryable_means_one_attempt_and_not_none() {
    let fails = |_| async { StepResult::<()>::Err(RetryableError::new("no").into()) };
    let (_tasker, task) = run(one_step(Step::new("once", fails).retryable(false))).await;
    assert_state(&task, TaskState::Error);
    assert_eq!(attempts(&task, "once").await, 1);
    let (_tasker, task) = run(one_step(
        Step::new("once", |_| async { Ok(1) }).retryable(false),
    ))
    .await;
    assert_state(&task, TaskState::Complete);
}

#[tokio::test]
async fn a_panic_is_a_failure_of_its_attempt_alone() {
    let (_tasker, task) = run(one_step(Step::new(
        "panics",
        |step: StepContext| async move {
            assert!(step.attempt() > 1, "first attempt");
            Ok("second attempt")
        },
    )))
    .await;
    assert_state(&task, TaskState::Complete);
    assert_eq!(
        failure(&task).await,
        (
            FailureKind::Panicked,
            "the handler panicked: first attempt".to_owned()
        )
    );
}

#[tokio::test]
async fn a_handler_that_panics_before_its_future_is_survived() {
    fn refuses(_: StepContext) -> std::future::Ready<StepResult<()>> {
        panic!("no future at all")
    }
    let (_tasker, task) = run(one_step(Step::new("panics", refuses).retry_limit(2))).await;
    assert_state(&task, TaskState::Error);
    assert_eq!(attempts(&task, "panics").await, 2);
}

/// Counts how often it was dropped.
struct OnDrop(Arc<AtomicU32>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_handler_that_never_returns_is_stopped_at_its_timeout() {
    let dropped = Arc::new(AtomicU32::new(0));
    let count = dropped.clone();
    let step = Step::new("hangs", move |_| {
        let guard = OnDrop(count.clone());
        async move {
            std::future::pending::<()>().await;
            drop(guard);
            Ok(())
        }
    });
    let step = step.timeout(Duration::from_millis(30)).retry_limit(2);
    let (tasker, task) = run(one_step(step)).await;
    assert_state(&task, TaskState::Error);
    assert_eq!(attempts(&task, "hangs").await, 2);
    let (kind, message) = failure(&task).await;
    assert_eq!(kind, FailureKind::TimedOut);
    assert!(message.contains("timeout of 30ms"), "{message}");
    tasker.stop().await.unwrap();
    assert_eq!(
        dropped.load(Ordering::SeqCst),
        2,
        "both futures were dropped"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_handler_that_blocks_its_thread_holds_nobody_else_up() {
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(std::sync::Mutex::new(blocked));
    let waits = blocked.clone();
    let blocks = Step::new("blocks", move |_| {
        let waits = waits.clone();
        async move {
            // An error means that the test is over.
            let _ = waits.lock().unwrap().recv();
            Ok(())
        }
    });
    let handler = TaskHandler::new("failures", "blocks", "1.0.0")
        .step(blocks.timeout(Duration::from_millis(50)).retryable(false))
        .step(Step::new("beside", |_| async { Ok(1) }))
        .build()
        .unwrap();
    let (tasker, task) = run(handler).await;
    assert_state(&task, TaskState::Error);
    assert_eq!(failure(&task).await.0, FailureKind::TimedOut);
    assert_sound(&tasker).await;
    drop(release);
}

#[tokio::test]
async fn results_that_cannot_be_stored_are_refused_with_their_size() {
    let folder = tempfile::tempdir().unwrap();
    let handler = one_step(Step::new("large", |_| async { Ok("x".repeat(2_000)) }));
    let options = Options {
        result_bytes_max: 1_000,
        ..Options::default()
    };
    let tasker = on_file(&folder.path().join("t.db"), [handler.clone()], options).await;
    let task = tasker
        .executor()
        .execute_sync(request_for(&handler), None)
        .await
        .unwrap();
    assert_eq!(
        attempts(&task, "large").await,
        1,
        "the same result would come again"
    );
    let (kind, message) = failure(&task).await;
    assert_eq!(kind, FailureKind::ResultRefused);
    assert!(
        message.contains("2002 bytes of JSON; at most 1000"),
        "{message}"
    );
    let unwritable = |_| async { Ok(std::collections::HashMap::from([((1, 2), 3)])) };
    let (_tasker, task) = run(one_step(Step::new("odd", unwritable))).await;
    assert!(failure(&task).await.1.contains("key must be a string"));
}

#[tokio::test]
async fn a_parent_that_is_none_or_of_another_shape_is_named() {
    let reads =
        |name: &'static str| move |step: StepContext| async move { Ok(step.parent::<u32>(name)?) };
    for (name, part) in [
        (
            "stranger",
            "step `child` does not depend on `stranger`; it depends on parent",
        ),
        (
            "parent",
            "the result of step `parent` does not fit step `child`: invalid type: string",
        ),
    ] {
        let handler = TaskHandler::new("failures", "shapes", "1.0.0")
            .step(Step::new("parent", |_| async { Ok("text") }))
            .step(Step::new("child", reads(name)).depends_on_step("parent"))
            .build()
            .unwrap();
        let (_tasker, task) = run(handler).await;
        let (kind, message) = failure(&task).await;
        assert_eq!(kind, FailureKind::Permanent);
        assert!(message.contains(part), "{message}");
    }
}

/// The delay that the engine announces for the next attempt.
async fn retry_in_ms(events: &mut Events) -> u64 {
    loop {
        if let Fact::StepFailed { retry_in_ms, .. } = events.next().await.unwrap().fact {
            return retry_in_ms.unwrap();
        }
    }
}

async fn due_in(tasker: &Tasker, task: &Task) -> SignedDuration {
    let detail = task.detail().await.unwrap();
    detail.steps[0]
        .due_at
        .unwrap()
        .duration_since(tasker.store().clock().now())
}

#[tokio::test]
async fn retries_wait_for_their_backoff_and_for_what_the_failure_asks() {
    let asked = |step: StepContext| async move {
        match step.attempt() {
            1 => Err(RetryableError::new("busy").into()),
            2 => Err(RetryableError::new("busy").retry_after(60.0).into()),
            attempt => StepResult::Ok(attempt),
        }
    };
    let backoff = Backoff::Exponential {
        base_ms: 1_000,
        cap_ms: 30_000,
        jitter: 0.0,
    };
    let handler = TaskHandler::new("failures", "waits", "1.0.0")
        .step(Step::new("asks", asked).backoff(backoff))
        .build()
        .unwrap();
    let (tasker, clock) = on_manual_clock(handler.clone()).await;
    let mut events = tasker.events();
    let mut task = tasker
        .executor()
        .execute_async(request_for(&handler))
        .await
        .unwrap();
    assert_eq!(task.status(), "pending");
    for (delay_ms, seconds) in [(2_000, 2), (60_000, 60)] {
        assert_eq!(retry_in_ms(&mut events).await, delay_ms);
        assert_eq!(
            due_in(&tasker, &task).await,
            SignedDuration::from_secs(seconds)
        );
        clock.advance(Duration::from_millis(delay_ms - 1));
        assert_eq!(task.refresh().await.unwrap(), TaskState::InProgress);
        clock.advance(Duration::from_millis(1));
    }
    assert_eq!(task.wait(None).await.unwrap(), TaskState::Complete);
    assert_eq!(attempts(&task, "asks").await, 3);
    assert_sound(&tasker).await;
}

#[tokio::test]
async fn branches_never_wait_for_each_other() {
    let arrived = Arc::new(Notify::new());
    let (tell, wait) = (arrived.clone(), arrived);
    let handler = TaskHandler::new("failures", "branches", "1.0.0")
        .step(Step::new("slow", move |_| {
            let wait = wait.clone();
            async move {
                // Ends only once the other branch has run to its end.
                wait.notified().await;
                Ok(())
            }
        }))
        .step(Step::new("fast", |_| async { Ok(()) }))
        .step(
            Step::new("faster", move |_| {
                tell.notify_one();
                async { Ok(()) }.boxed()
            })
            .depends_on_step("fast"),
        )
        .build()
        .unwrap();
    let (_tasker, task) = run(handler).await;
    assert_state(&task, TaskState::Complete);
}

#[tokio::test]
async fn the_deadline_of_a_task_ends_all_of_it() {
    let handler = TaskHandler::new("failures", "deadline", "1.0.0")
        .deadline(Duration::from_secs(90))
        .step(Step::new("hangs", |_| async {
            std::future::pending::<()>().await;
            Ok(())
        }))
        .step(Step::new("after", |_| async { Ok(()) }).depends_on_step("hangs"))
        .build()
        .unwrap();
    let (tasker, clock) = on_manual_clock(handler.clone()).await;
    let mut events = tasker.events();
    let mut task = tasker
        .executor()
        .execute_async(request_for(&handler))
        .await
        .unwrap();
    while !matches!(events.next().await.unwrap().fact, Fact::StepStarted { .. }) {}
    clock.advance(Duration::from_secs(91));
    assert_eq!(task.wait(None).await.unwrap(), TaskState::Error);
    assert_eq!(failure(&task).await.0, FailureKind::DeadlineExceeded);
    assert_sound(&tasker).await;
}

#[tokio::test]
async fn every_fact_is_published_once() {
    let fails = |_| async { StepResult::<()>::Err(RetryableError::new("no").into()) };
    let handler = one_step(Step::new("fails", fails));
    let request = request_for(&handler);
    let tasker = in_memory([handler]).await;
    let mut events = tasker.events();
    let task = tasker.executor().execute_sync(request, None).await.unwrap();
    assert_state(&task, TaskState::Error);
    tasker.stop().await.unwrap();
    drop(task);
    let mut names = Vec::new();
    while let Some(event) = events.next().await {
        names.push(event.fact.name());
    }
    let count = |name: &str| names.iter().filter(|found| **found == name).count();
    assert_eq!(count("task.initialize_requested"), 1, "{names:?}");
    assert_eq!(
        count("step.execution_requested"),
        3,
        "no fourth execution: {names:?}"
    );
    assert_eq!(count("step.failed"), 3, "{names:?}");
    assert_eq!(count("task.failed"), 1, "{names:?}");
    assert_eq!(names.last(), Some(&"task.failed"), "{names:?}");
}
