//! Trigger rules, timers and signals in a running engine.

use std::time::Duration;

use serde_json::{Value, json};
use tasker::model::event::Fact;
use tasker::model::step::StepState;
use tasker::model::task::TaskState;
use tasker::model::trigger::TriggerRule;
use tasker::store::store::Signalled;
use tasker::{
    Error, Options, PermanentError, Step, StepContext, StepResult, Task, TaskHandler, Tasker,
    explain,
};

use crate::support::{
    assert_sound, assert_state, in_memory, on_file, on_manual_clock, request_for, run, statuses,
};

async fn done(step: StepContext) -> StepResult<String> {
    Ok(step.name().to_owned())
}

async fn fails(_: StepContext) -> StepResult<()> {
    Err(PermanentError::new("no").into())
}

fn build(steps: impl IntoIterator<Item = Step>) -> TaskHandler {
    let definition = TaskHandler::new("waiting", "handler", "1.0.0");
    let definition = steps
        .into_iter()
        .fold(definition, tasker::handler::Definition::step);
    definition.build().unwrap()
}

/// Waits until a step has been given back to wait.
async fn waits(tasker: &Tasker, task: &Task, step: &str) {
    let mut events = tasker.events();
    let waits = || async {
        let steps = task.detail().await.unwrap().steps;
        let found = steps
            .into_iter()
            .find(|found| found.name.as_str() == step)
            .unwrap();
        found.state == StepState::Pending
            && found.due_at.is_some()
            && found.attempts == 0
            && task
                .detail()
                .await
                .unwrap()
                .transitions
                .iter()
                .any(|t| t.reason.is_some())
    };
    while !waits().await {
        events.next().await.unwrap();
    }
}

#[tokio::test]
async fn an_error_branch_runs_only_when_something_failed() {
    let steps = |first: Step| {
        [
            first,
            Step::new("ship", done).depends_on_step("charge"),
            Step::new("apologise", done)
                .depends_on_steps(["charge", "ship"])
                .trigger_rule(TriggerRule::AnyFailed),
        ]
    };
    let (_tasker, task) = run(build(steps(Step::new("charge", done)))).await;
    assert_state(&task, TaskState::Complete);
    assert_eq!(
        statuses(&task).await,
        [
            ("charge".to_owned(), "completed"),
            ("ship".to_owned(), "completed"),
            ("apologise".to_owned(), "skipped")
        ]
    );
    let (_tasker, task) = run(build(steps(Step::new("charge", fails)))).await;
    assert_state(&task, TaskState::Error);
    assert_eq!(
        statuses(&task).await,
        [
            ("charge".to_owned(), "failed"),
            ("ship".to_owned(), "pending"),
            ("apologise".to_owned(), "completed")
        ]
    );
}

#[tokio::test]
async fn a_skip_goes_down_a_chain_that_asks_for_success() {
    let (tasker, task) = run(build([
        Step::new("a", done),
        Step::new("b", done)
            .depends_on_step("a")
            .trigger_rule(TriggerRule::AnyFailed),
        Step::new("c", done)
            .depends_on_step("b")
            .trigger_rule(TriggerRule::AllSuccess),
        Step::new("d", done)
            .depends_on_step("c")
            .trigger_rule(TriggerRule::AllSuccess),
        Step::new("e", done).depends_on_step("d"),
    ]))
    .await;
    assert_state(&task, TaskState::Complete);
    let states: Vec<&str> = statuses(&task)
        .await
        .into_iter()
        .map(|(_, status)| status)
        .collect();
    assert_eq!(
        states,
        ["completed", "skipped", "skipped", "skipped", "completed"]
    );
    let why = explain(&**tasker.store(), task.id(), Some("c"))
        .await
        .unwrap();
    assert_eq!(
        why[0].why,
        "skipped: its parents did not end as its trigger rule asks"
    );
}

#[tokio::test]
async fn a_delay_holds_no_slot_and_ends_by_itself() {
    let handler = build([
        Step::new("first", done),
        Step::new("later", done)
            .depends_on_step("first")
            .delay(Duration::from_hours(1)),
    ]);
    let request = request_for(&handler);
    let (tasker, clock) = on_manual_clock(handler).await;
    let mut task = tasker.executor().execute_async(request).await.unwrap();
    waits(&tasker, &task, "later").await;
    let why = explain(&**tasker.store(), task.id(), Some("later"))
        .await
        .unwrap();
    assert!(why[0].why.starts_with("it waits until "), "{}", why[0].why);
    clock.advance(Duration::from_hours(1));
    task.wait(None).await.unwrap();
    assert_state(&task, TaskState::Complete);
    assert_sound(&tasker).await;
}

fn approval(step: Step) -> TaskHandler {
    build([Step::new("ask", done), step.depends_on_step("ask")])
}

async fn read_signal(step: StepContext) -> StepResult<Value> {
    Ok(step.signal::<Value>()?)
}

fn result(task_steps: &[tasker::WorkflowStep], name: &str) -> Option<Value> {
    task_steps
        .iter()
        .find(|step| step.name == name)
        .unwrap()
        .result
        .clone()
}

#[tokio::test]
async fn a_signal_lets_a_step_go_on_with_what_came() {
    let handler = approval(Step::new("decide", read_signal).wait_for("approval"));
    let request = request_for(&handler);
    let tasker = in_memory([handler]).await;
    let mut task = tasker.executor().execute_async(request).await.unwrap();
    waits(&tasker, &task, "decide").await;
    let why = explain(&**tasker.store(), task.id(), Some("decide"))
        .await
        .unwrap();
    assert_eq!(why[0].why, "it waits for signal `approval`");
    let unknown = tasker
        .signal(task.id(), "aproval", &json!(1), "ada")
        .await
        .unwrap_err();
    assert!(
        matches!(&unknown, Error::NoSuchSignal(text) if text.ends_with("did you mean `approval`?")),
        "{unknown}"
    );
    let sent = tasker
        .signal(task.id(), "approval", &json!({"by": "boss"}), "ada")
        .await
        .unwrap();
    assert_eq!(sent, Signalled::Delivered);
    task.wait(None).await.unwrap();
    assert_state(&task, TaskState::Complete);
    let steps = task.workflow_steps().await.unwrap();
    assert_eq!(result(&steps, "decide"), Some(json!({"by": "boss"})));
    assert_sound(&tasker).await;
}

#[tokio::test]
async fn a_signal_that_does_not_come_means_the_default_or_a_failure() {
    let minute = Duration::from_mins(1);
    let with_default =
        Step::new("decide", read_signal).wait_for_or("approval", minute, json!("no answer"));
    let without = Step::new("decide", read_signal).wait_for_within("approval", minute);
    for (step, expected) in [(with_default, Some(json!("no answer"))), (without, None)] {
        let handler = approval(step);
        let request = request_for(&handler);
        let (tasker, clock) = on_manual_clock(handler).await;
        let mut task = tasker.executor().execute_async(request).await.unwrap();
        waits(&tasker, &task, "decide").await;
        clock.advance(Duration::from_mins(1));
        task.wait(None).await.unwrap();
        let steps = task.workflow_steps().await.unwrap();
        assert_eq!(result(&steps, "decide"), expected);
        if expected.is_none() {
            assert_state(&task, TaskState::Error);
            let record = task.detail().await.unwrap().transitions;
            let failure = record
                .into_iter()
                .find_map(|change| change.failure)
                .unwrap();
            assert_eq!(failure.message, "signal `approval` did not come in time");
            assert_eq!(failure.error_code.as_deref(), Some("SIGNAL_TIMEOUT"));
        }
        assert_sound(&tasker).await;
    }
}

#[tokio::test]
async fn a_thousand_waiting_steps_leave_the_slots_to_others() {
    let handler = approval(Step::new("decide", read_signal).wait_for("approval"));
    let request = request_for(&handler);
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        slots: 2,
        ..Options::default()
    };
    let tasker = on_file(&folder.path().join("a.db"), [handler], options).await;
    let mut tasks = tasker
        .executor()
        .execute_all(vec![request.clone(); 1_000])
        .await
        .unwrap();
    for task in &tasks {
        waits(&tasker, task, "decide").await;
    }
    // With two slots, this one runs although a thousand wait.
    let mut last = tasker.executor().execute_async(request).await.unwrap();
    waits(&tasker, &last, "decide").await;
    tasker
        .signal(last.id(), "approval", &json!(true), "ada")
        .await
        .unwrap();
    last.wait(None).await.unwrap();
    assert_state(&last, TaskState::Complete);
    let first = &mut tasks[0];
    tasker
        .signal(first.id(), "approval", &json!(true), "ada")
        .await
        .unwrap();
    first.wait(None).await.unwrap();
    assert_state(first, TaskState::Complete);
}

#[tokio::test]
async fn events_say_what_a_step_waits_for_and_that_it_was_skipped() {
    let handler = build([
        Step::new("timer", done).delay(Duration::from_millis(1)),
        Step::new("never", done)
            .depends_on_step("timer")
            .trigger_rule(TriggerRule::AnyFailed),
    ]);
    let request = request_for(&handler);
    let tasker = in_memory([handler]).await;
    let mut events = tasker.events();
    let task = tasker.executor().execute_sync(request, None).await.unwrap();
    assert_state(&task, TaskState::Complete);
    let mut names = Vec::new();
    while let Some(event) = events.next().await {
        names.push(event.fact.name());
        if matches!(event.fact, Fact::TaskFinished { .. }) {
            break;
        }
    }
    assert!(
        names.contains(&"step.waiting") && names.contains(&"step.skipped"),
        "{names:?}"
    );
}

#[tokio::test]
async fn a_wait_survives_the_engine() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let handler = approval(Step::new("decide", read_signal).wait_for("approval"));
    let request = request_for(&handler);
    let first = on_file(&path, [handler.clone()], Options::default()).await;
    let task = first.executor().execute_async(request).await.unwrap();
    waits(&first, &task, "decide").await;
    let id = task.id();
    first.stop().await.unwrap();
    let second = on_file(&path, [handler], Options::default()).await;
    second
        .signal(id, "approval", &json!("yes"), "ada")
        .await
        .unwrap();
    let mut task = second.executor().task(id).await.unwrap();
    task.wait(None).await.unwrap();
    assert_state(&task, TaskState::Complete);
    assert_sound(&second).await;
}

#[test]
fn what_cannot_be_waited_for_is_refused_when_it_is_built() {
    let definition = TaskHandler::new("waiting", "handler", "1.0.0");
    let rule = TriggerRule::AtLeast(2);
    let refused = definition
        .step(Step::new("a", done).wait_for(" "))
        .step(Step::new("b", done).depends_on_step("a").trigger_rule(rule))
        .build();
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("signal is blank"), "{text}");
    let definition = TaskHandler::new("waiting", "handler", "1.0.0");
    let refused = definition
        .step(Step::new("a", done))
        .step(Step::new("b", done).depends_on_step("a").trigger_rule(rule))
        .build();
    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains("step `b`: trigger rule `at_least: 2` with 1 parents"),
        "{text}"
    );
}
