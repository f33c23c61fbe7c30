//! Steps with sub-tasks, and undoing, through the whole engine on a store in memory.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tasker_model::id::TaskId;
use tasker_model::json::Json;
use tasker_model::outcome::{Failure, FailureKind, Outcome};
use tasker_model::request::TaskRequest;
use tasker_model::task::TaskState;
use tasker_model::template::TaskTemplate;
use tasker_store::record::TaskDetail;

use crate::handler::{StepCode, StepContext, TaskHandler};
use crate::{Builder, Task, Tasker};

mod typed;

const SOON: Option<Duration> = Some(Duration::from_secs(20));

fn handler(name: &str, steps: &Value, codes: Vec<(&str, StepCode)>) -> TaskHandler {
    let source = json!({
        "namespace": "tests", "name": name, "version": "1.0.0", "steps": steps
    });
    let template = TaskTemplate::new(serde_json::from_value(source).unwrap()).unwrap();
    let codes = codes
        .into_iter()
        .map(|(name, code)| (name.to_owned(), code));
    TaskHandler::from_parts(template, codes.collect())
}

fn code(
    run: impl Fn(StepContext) -> Result<Value, &'static str> + Send + Sync + 'static,
) -> StepCode {
    let run = Arc::new(run);
    Arc::new(move |context| {
        let run = run.clone();
        async move {
            match run(context) {
                Ok(value) => Outcome::Completed {
                    result: Json::of(&value).unwrap(),
                },
                Err(message) => Outcome::Failed(Failure::new(FailureKind::Permanent, message)),
            }
        }
        .boxed()
    })
}

async fn engine(handlers: Vec<TaskHandler>) -> Tasker {
    let builder = Tasker::builder("sqlite::memory:");
    let register = |builder: Builder, handler| builder.register(handler);
    let builder = handlers.into_iter().fold(builder, register);
    builder.start().await.unwrap()
}

async fn run(tasker: &Tasker, name: &str, context: Value) -> Task {
    let request = TaskRequest::new(name).namespace("tests").context(context);
    tasker.executor().execute_sync(request, SOON).await.unwrap()
}

async fn detail(tasker: &Tasker, id: TaskId) -> TaskDetail {
    tasker.store().task_detail(id).await.unwrap().unwrap()
}

fn result(detail: &TaskDetail, step: &str) -> Value {
    let step = detail.steps.iter().find(|s| s.name.as_str() == step);
    step.unwrap().result.as_ref().unwrap().read().unwrap()
}

/// Doubles the item; fails for those that the predicate names.
fn doubling(fails: impl Fn(i64) -> bool + Send + Sync + 'static) -> Vec<(&'static str, StepCode)> {
    let list = code(|context| {
        let wanted: Value = context.context().unwrap();
        let count = wanted["count"].as_i64().unwrap();
        Ok((0..count).collect::<Vec<i64>>().into())
    });
    let double = code(move |context| {
        let wanted: Value = context.context().unwrap();
        let item = wanted["item"].as_i64().unwrap();
        if fails(item) {
            return Err("too hard");
        }
        Ok((item * 2).into())
    });
    vec![("list", list), ("double", double)]
}

fn mapped(map: &Value) -> Value {
    json!([
        {"name": "list", "handler": "list"},
        {"name": "double", "handler": "double", "depends_on_steps": ["list"], "map": map},
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_gives_its_results_in_order() {
    let map = json!({"over": "results.list", "concurrency": 3});
    let tasker = engine(vec![handler("m", &mapped(&map), doubling(|_| false))]).await;
    for count in [0, 1, 2, 1_234] {
        let task = run(&tasker, "m", json!({"count": count})).await;
        let detail = detail(&tasker, task.id()).await;
        assert_eq!(detail.task.summary.state, TaskState::Complete, "{detail:?}");
        let expected: Vec<i64> = (0..count).map(|n| n * 2).collect();
        assert_eq!(result(&detail, "double"), json!(expected));
    }
    tasker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_items_run_at_once_than_are_allowed() {
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let double: StepCode = {
        let (now, most) = (now.clone(), most.clone());
        Arc::new(move |_| {
            let (now, most) = (now.clone(), most.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::SeqCst);
                let result = Json::of(&1).unwrap();
                Outcome::Completed { result }
            }
            .boxed()
        })
    };
    let mut codes = doubling(|_| false);
    codes[1].1 = double;
    let map = json!({"over": "results.list", "concurrency": 3, "gather": "count"});
    let tasker = engine(vec![handler("m", &mapped(&map), codes)]).await;
    let task = run(&tasker, "m", json!({"count": 200})).await;
    let detail = detail(&tasker, task.id()).await;
    assert_eq!(
        result(&detail, "double"),
        json!({"items": 200, "failed": 0})
    );
    assert!((1..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    tasker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sub_task_has_failed_because_of_the_step_that_did() {
    let attempts = Arc::new(AtomicU32::new(0));
    // Fails later than the other, and then succeeds.
    let flaky: StepCode = Arc::new(move |_| {
        let is_first = attempts.fetch_add(1, Ordering::SeqCst) == 0;
        let again = Failure::new(FailureKind::Retryable, "not yet");
        let done = Json::of(&1).unwrap();
        async move {
            if is_first {
                Outcome::Failed(again)
            } else {
                Outcome::Completed { result: done }
            }
        }
        .boxed()
    });
    let steps = json!([
        {"name": "charge", "handler": "charge"},
        {"name": "tell", "handler": "tell", "depends_on_steps": ["charge"], "trigger_rule": "any_failed",
            "retry": {"backoff": {"fixed": {"delay_ms": 1}}}},
    ]);
    let codes = vec![("charge", code(|_| Err("declined"))), ("tell", flaky)];
    let pay = handler("pay", &steps, codes);
    let order = json!([
        {"name": "pay", "handler": "tasker.task", "handler_config": {"name": "pay"}, "starts_task": true},
    ]);
    let tasker = engine(vec![pay, handler("order", &order, Vec::new())]).await;
    let task = run(&tasker, "order", json!({})).await;
    let found = detail(&tasker, task.id()).await;
    let failure = found.transitions.iter().find_map(|t| t.failure.as_ref());
    let message = &failure.unwrap().message;
    assert!(
        message.ends_with("ended in error: `charge`: declined"),
        "{message}"
    );
    tasker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn items_may_fail_up_to_the_budget_and_are_mended_by_a_retry() {
    let map = json!({"over": "results.list", "max_failures": 2, "concurrency": 4});
    let hard = Arc::new(Mutex::new(vec![3, 5]));
    let codes = {
        let hard = hard.clone();
        doubling(move |item| hard.lock().unwrap().contains(&item))
    };
    let tasker = engine(vec![handler("m", &mapped(&map), codes)]).await;
    let task = run(&tasker, "m", json!({"count": 7})).await;
    let found = detail(&tasker, task.id()).await;
    assert_eq!(
        result(&found, "double"),
        json!([0, 2, 4, null, 8, null, 12])
    );

    hard.lock().unwrap().push(0);
    let task = run(&tasker, "m", json!({"count": 40})).await;
    let found = detail(&tasker, task.id()).await;
    assert_eq!(found.task.summary.state, TaskState::Error);
    let failure = found
        .transitions
        .iter()
        .rev()
        .find_map(|t| t.failure.as_ref());
    let failure = failure.unwrap();
    assert_eq!(failure.error_code.as_deref(), Some("SUBTASK_FAILED"));
    assert!(failure.message.contains("too hard"), "{}", failure.message);

    hard.lock().unwrap().clear();
    tasker.retry_task(task.id(), "somebody").await.unwrap();
    let mut task = tasker.executor().task(task.id()).await.unwrap();
    task.wait(SOON).await.unwrap();
    let found = detail(&tasker, task.id()).await;
    let expected: Vec<i64> = (0..40).map(|n| n * 2).collect();
    assert_eq!(result(&found, "double"), json!(expected));
    tasker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_has_the_result_of_the_task_that_it_starts() {
    let ask = code(|context| {
        let wanted: Value = context.context().unwrap();
        Ok(json!({"name": "child", "namespace": "tests", "context": {"n": wanted["n"]}}))
    });
    let parent = handler(
        "parent",
        &json!([{"name": "ask", "handler": "ask", "starts_task": true}]),
        vec![("ask", ask)],
    );
    let plus = code(|context| {
        let wanted: Value = context.context().unwrap();
        match wanted["n"].as_i64() {
            Some(n) => Ok((n + 1).into()),
            None => Err("n is no number"),
        }
    });
    let child = handler(
        "child",
        &json!([{"name": "plus", "handler": "plus"}]),
        vec![("plus", plus)],
    );
    let tasker = engine(vec![parent, child]).await;
    let task = run(&tasker, "parent", json!({"n": 41})).await;
    assert_eq!(result(&detail(&tasker, task.id()).await, "ask"), json!(42));
    let task = run(&tasker, "parent", json!({"n": "x"})).await;
    let found = detail(&tasker, task.id()).await;
    assert_eq!(found.task.summary.state, TaskState::Error);
    let failure = found
        .transitions
        .iter()
        .rev()
        .find_map(|t| t.failure.as_ref());
    assert!(failure.unwrap().message.contains("n is no number"));
    tasker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_starts_itself_comes_to_an_end() {
    let ask = code(|_| Ok(json!({"name": "loop", "namespace": "tests", "context": {}})));
    let looping = handler(
        "loop",
        &json!([{"name": "ask", "handler": "ask", "starts_task": true}]),
        vec![("ask", ask)],
    );
    let tasker = engine(vec![looping]).await;
    let task = run(&tasker, "loop", json!({})).await;
    let found = detail(&tasker, task.id()).await;
    let failure = found
        .transitions
        .iter()
        .rev()
        .find_map(|t| t.failure.as_ref());
    assert!(failure.unwrap().message.contains("must have an end"));
    tasker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_complete_is_undone_in_reverse_order() {
    let done = Arc::new(Mutex::new(Vec::new()));
    let does = |name: &'static str| {
        let done = done.clone();
        code(move |_| {
            done.lock().unwrap().push(name);
            Ok(json!({"did": name}))
        })
    };
    let codes = vec![
        ("reserve", does("reserve")),
        ("release", does("release")),
        ("charge", does("charge")),
        ("refund", does("refund")),
        ("ship", code(|_| Err("no lorry"))),
        ("recall", does("recall")),
    ];
    let saga = handler(
        "saga",
        &json!([
            {"name": "reserve", "handler": "reserve", "undo": {"handler": "release"}},
            {"name": "charge", "handler": "charge", "depends_on_steps": ["reserve"],
             "undo": {"handler": "refund"}},
            {"name": "ship", "handler": "ship", "depends_on_steps": ["charge"],
             "undo": {"handler": "recall"}},
        ]),
        codes,
    );
    let tasker = engine(vec![saga]).await;
    let mut events = tasker.events();
    let task = run(&tasker, "saga", json!({})).await;
    assert_eq!(task.state(), TaskState::Error);
    let undo = tasker_model::subtask::Origin::Undo { task_id: task.id() }.subtask_id();
    while let Some(event) = events.next().await {
        if event.task_id == undo && event.fact.name() == "task.completed" {
            break;
        }
    }
    assert_eq!(
        *done.lock().unwrap(),
        ["reserve", "charge", "refund", "release"]
    );
    let found = detail(&tasker, task.id()).await;
    assert_eq!(found.undone_by, Some((undo, TaskState::Complete)));
    let again = tasker.retry_task(task.id(), "somebody").await;
    assert!(
        again
            .unwrap_err()
            .to_string()
            .contains("cannot be re-opened")
    );
    tasker.stop().await.unwrap();
}
