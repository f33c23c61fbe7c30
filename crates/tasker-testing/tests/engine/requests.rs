//! Requests, good and bad; the store as others see it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tasker::model::identity::IdentityStrategy;
use tasker::model::task::TaskState;
use tasker::store::sqlite::rusqlite::Connection;
use tasker::{Error, Options, Step, StepContext, StepResult, TaskHandler, TaskRequest, Tasker};

use crate::support::{assert_sound, in_memory, on_file, request_for};

async fn sum(step: StepContext) -> StepResult<i64> {
    #[derive(serde::Deserialize)]
    struct Numbers {
        a: i64,
        b: i64,
    }
    let numbers: Numbers = step.context()?;
    Ok(numbers.a + numbers.b)
}

fn adder() -> TaskHandler {
    TaskHandler::new("requests", "adder", "1.0.0")
        .schema(json!({
            "type": "object",
            "required": ["a"],
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "default": 10}}
        }))
        .step(Step::new("sum", sum))
        .build()
        .unwrap()
}

fn request() -> TaskRequest {
    request_for(&adder()).context(json!({"a": 1}))
}

async fn refusal(tasker: &Tasker, request: TaskRequest) -> String {
    tasker
        .executor()
        .execute_async(request)
        .await
        .unwrap_err()
        .to_string()
}

#[tokio::test]
async fn defaults_of_the_schema_reach_the_handler_and_the_store() {
    let tasker = in_memory([adder()]).await;
    let task = tasker
        .executor()
        .execute_sync(request(), None)
        .await
        .unwrap();
    let steps = task.workflow_steps().await.unwrap();
    assert_eq!(steps[0].result_as::<i64>().unwrap(), Some(11));
    assert_eq!(
        task.detail().await.unwrap().task.context.as_str(),
        r#"{"a":1,"b":10}"#
    );
}

#[tokio::test]
async fn bad_requests_create_nothing() {
    let tasker = in_memory([adder()]).await;
    let unknown = refusal(&tasker, TaskRequest::new("addr").namespace("requests")).await;
    assert_eq!(
        unknown,
        "No task handler for addr in namespace requests; did you mean requests.adder@1.0.0?"
    );
    let types = refusal(&tasker, request().context(json!({"a": "one", "b": 2.5}))).await;
    assert!(
        types.contains("/a: \"one\" is not of type \"integer\"") && types.contains("/b: "),
        "{types}"
    );
    let large = json!({"a": 1, "text": "x".repeat(100 * 1024 * 1024)});
    let large = refusal(&tasker, request().context(large)).await;
    assert!(large.starts_with("the context is 104857"), "{large}");
    assert!(large.contains("at most 4194304 are allowed"), "{large}");
    let none = tasker::store::store::TaskFilter::default();
    let page = tasker::store::store::Page {
        limit: 10,
        before: None,
    };
    assert!(tasker.store().tasks(none, page).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_definition_is_refused_with_all_its_problems() {
    let error = TaskHandler::new("requests", "", "one")
        .step(Step::new("a", sum).depends_on_step("b"))
        .build()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "task handler `requests.@one`: task name is blank; `one` is not a version; expected three \
         numbers such as 1.4.2, without suffix, at most 16 characters"
    );
    let error = TaskHandler::new("requests", "cyclic", "1.0.0")
        .step(Step::new("a", sum).depends_on_step("b"))
        .step(Step::new("b", sum).depends_on_step("a"))
        .build()
        .unwrap_err();
    assert!(error.to_string().contains("a → b → a"), "{error}");
}

#[tokio::test]
async fn an_idempotency_key_gives_the_task_of_the_first_request() {
    let tasker = in_memory([adder()]).await;
    let executor = tasker.executor();
    let first = executor
        .execute_sync(request().idempotency_key("k"), None)
        .await
        .unwrap();
    let again = executor
        .execute_sync(request().idempotency_key("k"), None)
        .await
        .unwrap();
    assert_eq!(
        (again.id(), again.state()),
        (first.id(), TaskState::Complete)
    );
    let other = executor
        .execute_sync(request().idempotency_key("l"), None)
        .await
        .unwrap();
    assert_ne!(other.id(), first.id());
}

#[tokio::test]
async fn the_hash_strategy_refuses_an_equal_request() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        identity_strategy: IdentityStrategy::Hash,
        ..Options::default()
    };
    let tasker = on_file(&folder.path().join("t.db"), [adder()], options).await;
    let first = tasker.executor().execute_async(request()).await.unwrap();
    match tasker
        .executor()
        .execute_async(request())
        .await
        .unwrap_err()
    {
        Error::Duplicate(id) => assert_eq!(id, first.id()),
        other => panic!("{other}"),
    }
    let mut another = request();
    another.reason = "another".to_owned();
    assert!(tasker.executor().execute_async(another).await.is_ok());
}

#[tokio::test]
async fn many_requests_are_answered_in_their_order() {
    let tasker = in_memory([adder()]).await;
    let requests = (0..50).map(|a| request().context(json!({"a": a})));
    let mut tasks = tasker
        .executor()
        .execute_all(requests.collect())
        .await
        .unwrap();
    for (task, a) in tasks.iter_mut().zip(0..) {
        assert_eq!(task.wait(None).await.unwrap(), TaskState::Complete);
        let steps = task.workflow_steps().await.unwrap();
        assert_eq!(steps[0].result_as::<i64>().unwrap(), Some(a + 10));
    }
    assert_sound(&tasker).await;
}

#[tokio::test]
async fn a_task_can_be_created_by_the_commit_of_the_business_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let tasker = on_file(&path, [adder()], Options::default()).await;
    let executor = tasker.executor();
    let mut connection = Connection::open(&path).unwrap();
    connection
        .execute_batch("CREATE TABLE orders (number INTEGER)")
        .unwrap();

    let transaction = connection.transaction().unwrap();
    transaction
        .execute("INSERT INTO orders VALUES (1)", [])
        .unwrap();
    let lost = executor.create_in(&transaction, request()).unwrap();
    transaction.rollback().unwrap();
    assert!(matches!(
        executor.task(lost).await,
        Err(Error::NoSuchTask(_))
    ));

    let transaction = connection.transaction().unwrap();
    transaction
        .execute("INSERT INTO orders VALUES (1)", [])
        .unwrap();
    let kept = executor.create_in(&transaction, request()).unwrap();
    transaction.commit().unwrap();
    let mut task = executor.task(kept).await.unwrap();
    assert_eq!(
        task.wait(None).await.unwrap(),
        TaskState::Complete,
        "noticed without being told"
    );
}

#[tokio::test]
async fn two_engines_share_a_file_and_no_step_runs_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let runs = Arc::new(std::sync::Mutex::new(std::collections::HashSet::new()));
    let handler = |who: &'static str| {
        let runs = runs.clone();
        tasker_testing::patterns::MIXED
            .handler_with(move |failures, step| {
                let new = runs
                    .lock()
                    .unwrap()
                    .insert((step.idempotency_key(), step.attempt()));
                assert!(
                    new,
                    "{who} repeats attempt {} of {}",
                    step.attempt(),
                    step.name()
                );
                async move { tasker_testing::patterns::fail_first(failures, &step) }
            })
            .unwrap()
    };
    let one = on_file(
        &path,
        [handler("one")],
        Options {
            slots: 4,
            ..Options::default()
        },
    )
    .await;
    let two = on_file(
        &path,
        [handler("two")],
        Options {
            slots: 4,
            ..Options::default()
        },
    )
    .await;
    let request = || request_for(&handler("request"));
    let mut tasks = one
        .executor()
        .execute_all((0..40).map(|_| request()).collect())
        .await
        .unwrap();
    tasks.extend(
        two.executor()
            .execute_all((0..40).map(|_| request()).collect())
            .await
            .unwrap(),
    );
    for task in &mut tasks {
        assert_eq!(task.wait(None).await.unwrap(), TaskState::Complete);
    }
    assert_sound(&one).await;
    assert_sound(&two).await;
}

#[tokio::test]
async fn waiting_ends_with_the_deadline_and_the_task_goes_on() {
    let handler = TaskHandler::new("requests", "slow", "1.0.0")
        .step(Step::new("hangs", |_| async {
            std::future::pending::<()>().await;
            Ok(())
        }))
        .build()
        .unwrap();
    let request = request_for(&handler);
    let tasker = in_memory([handler]).await;
    let deadline = Some(Duration::from_millis(50));
    let task = tasker
        .executor()
        .execute_sync(request, deadline)
        .await
        .unwrap();
    assert_eq!(task.status(), "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_learns_of_what_another_process_finishes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("two.db");
    let asks = Options {
        slots: 0,
        ..Options::default()
    };
    let asker = on_file(&file, [adder()], asks).await;
    let runner = on_file(&file, [adder()], Options::default()).await;
    let task = asker.executor().execute_sync(request(), None).await;
    assert_eq!(task.unwrap().state(), TaskState::Complete);
    assert_sound(&asker).await;
    runner.stop().await.unwrap();
}
