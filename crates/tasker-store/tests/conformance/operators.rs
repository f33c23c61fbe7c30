//! The functions and the view for operators on PostgreSQL: row for row what the library computes.

use jiff::Timestamp;
use serde_json::{Value, json};
use tasker_model::dag::relationships::relationships;
use tasker_store::figures::Slowest;
use tokio_postgres::{Client, NoTls};

use crate::figures::{all, mix};
use crate::fixture::{Fixture, postgres_with_url};

/// A connection of somebody who has nothing to do with the library; its `search_path` is the schema.
pub(crate) async fn client(url: &str) -> Client {
    let (server, options) = url.rsplit_once("schema=").unwrap();
    let schema = options.split('&').next().unwrap();
    let server = server.trim_end_matches(['?', '&']);
    let (client, connection) = tokio_postgres::connect(server, NoTls).await.unwrap();
    tokio::spawn(connection);
    let path = format!("SET search_path = {schema}");
    client.batch_execute(&path).await.unwrap();
    client
}

/// The rows of a query as JSON: times in one spelling, numbers as one type.
async fn rows(client: &Client, query: &str) -> Vec<Value> {
    let sql = format!("SELECT row_to_json(q)::text FROM ({query}) q");
    let rows = client.query(&sql, &[]).await.unwrap();
    let row = |row: &tokio_postgres::Row| plain(serde_json::from_str(row.get(0)).unwrap());
    rows.iter().map(row).collect()
}

fn plain(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members
                .into_iter()
                .map(|(key, member)| (key, plain(member)));
            Value::Object(members.collect())
        }
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Number(number) => json!(number.as_f64()),
        Value::String(text) => match text.parse::<Timestamp>() {
            Ok(time) => json!(time),
            Err(_) => Value::String(text),
        },
        other => other,
    }
}

#[track_caller]
fn same(found: &[Value], expected: Vec<Value>, what: &str) {
    let expected: Vec<_> = expected.into_iter().map(plain).collect();
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected, "{what}");
    }
}

fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1_000.0
}

async fn filled() -> (Fixture, Client, String) {
    let (f, url) = postgres_with_url().await;
    mix(&f).await;
    let client = client(&url).await;
    let now = format!("now => '{}'", f.now());
    (f, client, now)
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one entry per column")]
async fn functions_about_one_task_say_what_the_library_says() {
    let (f, client, now) = filled().await;
    let mut batch = (Vec::new(), Vec::new());
    let details = all(&f).await;
    for detail in details.iter().rev() {
        let task = &detail.task.summary;
        let id = task.task_id;
        let template = f.store.template(detail.task.template).await.unwrap();
        let names = |step: usize| detail.steps[step].name.as_str();
        let readiness: Vec<_> = detail
            .readiness(&template, f.now())
            .into_iter()
            .zip(0..)
            .map(|(row, step)| {
                json!({
                    "task_id": id, "position": row.position, "name": names(step),
                    "current_state": row.state, "readiness": row.readiness,
                    "dependencies_satisfied": row.dependencies_satisfied,
                    "retry_eligible": row.retry_eligible,
                    "ready_for_execution": row.ready_for_execution,
                    "last_failure_at": row.last_failure_at, "next_retry_at": row.next_retry_at,
                    "total_parents": row.total_parents,
                    "completed_parents": row.completed_parents, "attempts": row.attempts,
                    "retry_limit": row.attempt_limit, "last_attempted_at": row.last_attempted_at,
                })
            })
            .collect();
        let sql = format!("SELECT * FROM get_step_readiness_status('{id}', {now})");
        same(&rows(&client, &sql).await, readiness.clone(), "readiness");
        let sql = format!("SELECT * FROM get_step_readiness_status('{id}', '{{0,99}}', {now})");
        same(
            &rows(&client, &sql).await,
            readiness[..1].to_vec(),
            "chosen steps",
        );
        batch.0.extend(readiness);

        let context = detail.execution_context(f.now());
        let context = vec![json!({
            "task_id": id, "status": task.state, "total_steps": context.total_steps,
            "pending_steps": context.pending_steps,
            "in_progress_steps": context.in_progress_steps,
            "completed_steps": context.completed_steps, "failed_steps": context.failed_steps,
            "cancelled_steps": context.cancelled_steps, "ready_steps": context.ready_steps,
            "execution_status": context.execution_status,
            "recommended_action": context.recommended_action,
            "completion_percentage": context.completion_percentage,
            "health_status": context.health_status,
        })];
        let sql = format!("SELECT * FROM get_task_execution_context('{id}', {now})");
        let found = without_template(rows(&client, &sql).await);
        same(&found, context.clone(), "context");
        batch.1.extend(context);

        let graph = relationships(template.dag());
        let mut levels: Vec<_> = graph
            .iter()
            .map(|s| (s.dependency_level, s.position))
            .collect();
        levels.sort_unstable();
        let levels = levels
            .into_iter()
            .map(|(level, position)| json!({"position": position, "dependency_level": level}));
        let sql = format!("SELECT * FROM calculate_dependency_levels('{id}')");
        same(&rows(&client, &sql).await, levels.collect(), "levels");
        let graph = graph.into_iter().zip(0..).map(|(row, step)| {
            json!({
                "task_id": id, "position": row.position, "name": names(step),
                "parent_count": row.parents.len(), "child_count": row.children.len(),
                "parent_step_ids": row.parents, "child_step_ids": row.children,
                "is_root_step": row.is_root, "is_leaf_step": row.is_leaf,
                "min_depth_from_root": row.min_depth_from_root,
            })
        });
        let sql = format!("SELECT * FROM tasker_step_dag_relationships WHERE task_id = '{id}'");
        let sql = format!("{sql} ORDER BY position");
        same(&rows(&client, &sql).await, graph.collect(), "relationships");
    }
    let every = "(SELECT array_agg(task_id) FROM tasker_tasks)";
    let sql = format!("SELECT * FROM get_step_readiness_status_batch({every}, {now})");
    same(
        &rows(&client, &sql).await,
        batch.0,
        "the batch of readiness",
    );
    let sql = format!("SELECT * FROM get_task_execution_contexts_batch({every}, {now})");
    let found = without_template(rows(&client, &sql).await);
    same(&found, batch.1, "the batch of contexts");
}

/// The number of a definition is the store's own.
fn without_template(mut rows: Vec<Value>) -> Vec<Value> {
    for row in &mut rows {
        let number = row.as_object_mut().unwrap().remove("template_id");
        assert!(number.is_some_and(|number| number.is_number()));
    }
    rows
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one entry per column")]
async fn functions_about_all_tasks_say_what_the_library_says() {
    let (f, client, now) = filled().await;
    let health = f.store.system_health().await.unwrap();
    let (tasks, steps) = (&health.tasks, &health.steps);
    let expected = json!({
        "total_tasks": tasks.total, "pending_tasks": tasks.pending,
        "in_progress_tasks": tasks.in_progress, "complete_tasks": tasks.complete,
        "error_tasks": tasks.error, "cancelled_tasks": tasks.cancelled,
        "resolved_manually_tasks": tasks.resolved_manually,
        "total_steps": steps.total, "pending_steps": steps.pending,
        "in_progress_steps": steps.in_progress, "complete_steps": steps.complete,
        "error_steps": steps.error, "cancelled_steps": steps.cancelled,
        "resolved_manually_steps": steps.resolved_manually, "skipped_steps": steps.skipped,
        "retryable_error_steps": steps.retryable_error,
        "exhausted_retry_steps": steps.exhausted_retry,
        "permanent_error_steps": steps.permanent_error, "in_backoff_steps": steps.in_backoff,
    });
    let mut found = rows(
        &client,
        &format!("SELECT * FROM get_system_health_counts_v01({now})"),
    )
    .await;
    for server in ["active_connections", "max_connections"] {
        let count = found[0].as_object_mut().unwrap().remove(server);
        assert!(
            count.is_some_and(|count| count.as_f64() >= Some(1.0)),
            "{server}"
        );
    }
    same(&found, vec![expected], "health");

    let found = f.store.analytics(None).await.unwrap();
    let expected = json!({
        "active_tasks_count": found.active_tasks, "total_namespaces_count": found.namespaces,
        "unique_task_types_count": found.task_types,
        "system_health_score": found.system_health_score,
        "task_throughput": found.task_throughput, "completion_count": found.completions,
        "error_count": found.errors, "completion_rate": found.completion_rate,
        "error_rate": found.error_rate, "avg_task_duration": seconds(found.avg_task_duration_ms),
        "avg_step_duration": seconds(found.avg_step_duration_ms),
        "step_throughput": found.step_throughput,
        "analysis_period_start": found.analysis_period_start,
        "calculated_at": found.calculated_at,
    });
    let sql = format!("SELECT * FROM get_analytics_metrics_v01({now})");
    same(&rows(&client, &sql).await, vec![expected], "analytics");

    let found = f.store.slowest_tasks(Slowest::default()).await.unwrap();
    let expected = found.iter().map(|task| {
        json!({
            "task_id": task.task_id, "task_name": task.name, "namespace_name": task.namespace,
            "version": task.version, "duration_seconds": seconds(task.duration_ms),
            "step_count": task.steps, "completed_steps": task.done_steps,
            "error_steps": task.failed_steps, "created_at": task.created_at,
            "completed_at": task.finished_at, "initiator": task.initiator,
            "source_system": task.source_system, "status": task.state,
        })
    });
    let sql = format!("SELECT * FROM get_slowest_tasks_v01({now})");
    same(
        &rows(&client, &sql).await,
        expected.collect(),
        "slowest tasks",
    );

    let found = f.store.slowest_steps(Slowest::default()).await.unwrap();
    let expected = found.iter().map(|step| {
        json!({
            "task_id": step.task_id, "position": step.position, "step_name": step.name,
            "task_name": step.task_name, "namespace_name": step.namespace,
            "version": step.version, "duration_seconds": seconds(step.duration_ms),
            "total_seconds": seconds(step.total_ms), "attempts": step.attempts,
            "created_at": step.created_at, "completed_at": step.finished_at,
            "retryable": step.retryable, "step_status": "complete",
        })
    });
    let sql = format!("SELECT * FROM get_slowest_steps_v01({now})");
    same(
        &rows(&client, &sql).await,
        expected.collect(),
        "slowest steps",
    );
}

#[tokio::test]
async fn what_does_not_exist_has_no_rows() {
    let (f, url) = postgres_with_url().await;
    let client = client(&url).await;
    let id = f.task_id();
    for query in [
        format!("get_step_readiness_status('{id}')"),
        "get_step_readiness_status_batch('{}')".to_owned(),
        format!("get_task_execution_context('{id}')"),
        format!("get_task_execution_contexts_batch(ARRAY['{id}']::uuid[])"),
        format!("calculate_dependency_levels('{id}')"),
        "tasker_step_dag_relationships".to_owned(),
        "get_slowest_tasks_v01()".to_owned(),
        "get_slowest_steps_v01()".to_owned(),
    ] {
        let found = rows(&client, &format!("SELECT * FROM {query}")).await;
        assert!(found.is_empty(), "{query}: {found:?}");
    }
}

/// Sixty layers of two steps: 2^60 paths.
#[tokio::test]
async fn many_paths_cost_no_more_than_their_edges() {
    let (f, url) = postgres_with_url().await;
    let names: Vec<[String; 2]> = (0..60)
        .map(|i| [format!("a{i}"), format!("b{i}")])
        .collect();
    let mut steps: Vec<(&str, Vec<&str>)> = Vec::new();
    for (layer, pair) in names.iter().enumerate() {
        let before = layer.checked_sub(1).map(|before| &names[before]);
        let parents: Vec<&str> = before.into_iter().flatten().map(String::as_str).collect();
        steps.extend(pair.iter().map(|name| (name.as_str(), parents.clone())));
    }
    let steps: Vec<(&str, &[&str])> = steps.iter().map(|(n, p)| (*n, p.as_slice())).collect();
    let task = f.start(&f.define("dense", &steps).await).await;
    let client = client(&url).await;
    let sql = format!(
        "SELECT max(l.dependency_level) AS level, max(r.min_depth_from_root) AS depth
         FROM calculate_dependency_levels('{task}') l
         JOIN tasker_step_dag_relationships r ON r.task_id = '{task}' AND r.position = l.position"
    );
    let found = rows(&client, &sql).await;
    assert_eq!(found, [json!({"level": 59.0, "depth": 59.0})]);
}

/// Every example of the page, as it stands there.
#[tokio::test]
async fn the_examples_of_the_page_run() {
    let (f, url) = postgres_with_url().await;
    let order = f
        .define("order", &[("a", &[]), ("b", &["a"]), ("c", &["b"])])
        .await;
    let task = f.start(&order).await;
    f.run_all(&f.worker(&[&order])).await;
    let client = client(&url).await;
    let page = include_str!("../../../../docs/SQL_FUNCTIONS.md");
    let mut examples = 0;
    for example in page.split("```sql\n").skip(1) {
        let sql = example.split("```").next().unwrap();
        if let Err(error) = client.batch_execute(sql).await {
            panic!("{sql}: {error:?}");
        }
        examples += 1;
    }
    assert_eq!(examples, 6);
    let created = f.list(tasker_store::store::TaskFilter::default()).await;
    assert_eq!(created.len(), 2, "the last example creates a task");
    assert!(created.contains(&task));
}
