//! Tasks that somebody creates by SQL, in a transaction of their own, on PostgreSQL.

use serde_json::json;
use tasker::model::id::TaskId;
use tasker::model::outcome::FailureKind;
use tasker::model::task::TaskState;
use tasker::store::postgres::PostgresStore;
use tasker::store::record::TaskDetail;
use tasker::{Step, StepContext, StepResult, TaskHandler, Tasker};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::support::assert_sound;

#[derive(serde::Deserialize)]
struct Order {
    lines: Vec<i64>,
    currency: String,
}

async fn total(step: StepContext) -> StepResult<i64> {
    Ok(step.context::<Order>()?.lines.iter().sum())
}

async fn bill(step: StepContext) -> StepResult<String> {
    let order: Order = step.context()?;
    let total: i64 = step.parent("total")?;
    Ok(format!("{total} {}", order.currency))
}

fn order() -> TaskHandler {
    TaskHandler::new("shop", "order", "1.0.0")
        .schema(json!({
            "type": "object",
            "required": ["lines"],
            "properties": {
                "lines": {"type": "array", "items": {"type": "integer"}},
                "currency": {"type": "string", "default": "EUR"}
            }
        }))
        .step(Step::new("total", total))
        .step(Step::new("bill", bill).depends_on_step("total"))
        .build()
        .unwrap()
}

/// An engine on a schema of its own, and a connection that has nothing to do with it.
async fn shop() -> (Tasker, Client, String) {
    let server = std::env::var("TASKER_TEST_POSTGRES")
        .expect("TASKER_TEST_POSTGRES names a database for tests; `cargo xtask test` starts one");
    let schema = format!("engine_{}", Uuid::now_v7().simple());
    let and = if server.contains('?') { '&' } else { '?' };
    let url = format!("{server}{and}schema={schema}&connections=4");
    PostgresStore::migrate(&url).await.unwrap();
    let tasker = Tasker::builder(url)
        .register(order())
        .start()
        .await
        .unwrap();
    let (client, connection) = tokio_postgres::connect(&server, NoTls).await.unwrap();
    tokio::spawn(connection);
    (tasker, client, schema)
}

async fn leave(tasker: Tasker, client: Client, schema: String) {
    assert_sound(&tasker).await;
    tasker.stop().await.unwrap();
    let drop = format!("DROP SCHEMA {schema} CASCADE");
    client.batch_execute(&drop).await.unwrap();
}

/// The end of a task, which another process may bring about as well: so it is looked up.
async fn ended(tasker: &Tasker, id: TaskId) -> TaskDetail {
    loop {
        let detail = tasker.store().task_detail(id).await.unwrap().unwrap();
        if detail.task.summary.state.is_final() {
            return detail;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_task_created_by_sql_runs_once_its_transaction_commits() {
    let (tasker, mut client, schema) = shop().await;
    let create = format!("SELECT {schema}.create_task($1::text::jsonb)");
    let request = json!({"namespace": "shop", "name": "order", "context": {"lines": [3, 4]}});
    let request = request.to_string();
    let transaction = client.transaction().await.unwrap();
    let undone: Uuid = transaction
        .query_one(&create, &[&request])
        .await
        .unwrap()
        .get(0);
    transaction.rollback().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let kept: Uuid = transaction
        .query_one(&create, &[&request])
        .await
        .unwrap()
        .get(0);
    transaction.commit().await.unwrap();
    let detail = ended(&tasker, TaskId::from_uuid(kept)).await;
    assert_eq!(detail.task.summary.state, TaskState::Complete);
    // Also the child, which is handed over without another look at the context, sees the default.
    let result = detail.steps[1].result.as_ref().unwrap();
    assert_eq!(result.as_str(), r#""7 EUR""#);
    let gone = tasker
        .store()
        .task(TaskId::from_uuid(undone))
        .await
        .unwrap();
    assert!(gone.is_none());
    leave(tasker, client, schema).await;
}

#[tokio::test]
async fn a_context_that_does_not_fit_fails_for_good_before_the_handler_runs() {
    let (tasker, client, schema) = shop().await;
    let create = format!("SELECT {schema}.create_task($1::text::jsonb)");
    let context = json!({"lines": [1, "two"], "currency": 5});
    let request = json!({"namespace": "shop", "name": "order", "context": context}).to_string();
    let id: Uuid = client.query_one(&create, &[&request]).await.unwrap().get(0);
    let detail = ended(&tasker, TaskId::from_uuid(id)).await;
    assert_eq!(detail.task.summary.state, TaskState::Error);
    assert_eq!(detail.steps[0].attempts, 1, "it is not tried again");
    let failures = detail.transitions.iter().filter_map(|t| t.failure.as_ref());
    let failures: Vec<_> = failures.collect();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].kind, FailureKind::Permanent);
    let text = &failures[0].message;
    assert!(
        text.contains("/lines/1: \"two\" is not of type \"integer\"")
            && text.contains("/currency: "),
        "{text}"
    );
    leave(tasker, client, schema).await;
}
