//! `create_task` on PostgreSQL: tasks made in a transaction of the caller's own, by the library's rules.

use std::sync::Arc;

use serde_json::{Value, json};
use tasker_model::id::TaskId;
use tasker_model::identity::IdentityStrategy;
use tasker_model::name::StepName;
use tasker_model::request::TaskRequest;
use tasker_model::template::{StepTemplate, TemplateSource};
use tasker_store::postgres::PostgresStore;
use tasker_store::store::{Created, NewTask, TaskFilter};
use tasker_store::{Store as _, SystemClock};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::fixture::{Defined, Fixture, postgres_with_url, source};
use crate::operators::client;

const CREATE: &str = "SELECT create_task($1::text::jsonb, $2)";

async fn create(client: &Client, request: &Value, strategy: &str) -> TaskId {
    let request = request.to_string();
    let row = client.query_one(CREATE, &[&request, &strategy]).await;
    TaskId::from_uuid(row.unwrap().get::<_, Uuid>(0))
}

/// Message and hint of a refusal.
async fn refusal(client: &Client, request: &str) -> (String, String) {
    let refused = client.query_one(CREATE, &[&request, &"default"]).await;
    let error = refused.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "22023", "{error}");
    (error.message().to_owned(), error.hint().unwrap().to_owned())
}

fn order() -> TemplateSource {
    let required = StepTemplate {
        skippable: false,
        ..StepTemplate::named(StepName::new("pay").unwrap())
    };
    let mut source = source("order", &[("pack", &[]), ("ship", &["pack"])]);
    source.steps.push(required);
    source
}

async fn ordering() -> (Fixture, Client, Defined) {
    let (f, url) = postgres_with_url().await;
    let defined = f.register(order()).await;
    (f, client(&url).await, defined)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "every caller writes the value in place"
)]
fn request(more: Value) -> Value {
    let mut request = json!({"name": "order", "namespace": "shop", "context": {"n": 1}});
    let members = request.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    request
}

#[tokio::test]
async fn a_task_is_stored_as_the_library_stores_it() {
    let (f, client, defined) = ordering().await;
    let asked = request(json!({
        "version": "1.0.0", "initiator": "ann", "source_system": "till", "reason": "sale",
        "tags": ["a", "b"], "bypass_steps": ["pack"], "requested_at": "2026-01-02T03:04:05Z",
        "priority": -7, "start_at": "2030-01-01T00:00:00+01:00", "idempotency_key": "k"
    }));
    let id = create(&client, &asked, "default").await;
    let by_library: TaskRequest = serde_json::from_value(asked).unwrap();
    let mut by_library = f.asked(&defined, by_library);
    by_library.request.request.idempotency_key = None;
    let other = by_library.task_id;
    f.create(&[by_library]).await;
    let comparable = async |id| {
        let mut detail = serde_json::to_value(f.detail(id).await).unwrap();
        // What the clock or chance decides: the function goes by the database's clock.
        detail["task"]["task_id"].take();
        detail["task"]["created_at"].take();
        for transition in detail["transitions"].as_array_mut().unwrap() {
            transition["task_id"].take();
            transition["at"].take();
        }
        detail["task"]["context"] =
            serde_json::from_str(f.store.task(id).await.unwrap().unwrap().context.as_str())
                .unwrap();
        detail
    };
    assert_eq!(comparable(id).await, comparable(other).await);
    f.audit().await;
}

#[tokio::test]
async fn the_transaction_of_the_caller_decides() {
    let (f, mut client, _) = ordering().await;
    let sql =
        "SELECT create_task('{\"name\": \"order\", \"namespace\": \"shop\", \"context\": {}}')";
    let transaction = client.transaction().await.unwrap();
    let row = transaction.query_one(sql, &[]).await.unwrap();
    let undone = TaskId::from_uuid(row.get(0));
    transaction.rollback().await.unwrap();
    assert!(f.store.task(undone).await.unwrap().is_none());
    assert_eq!(f.list(TaskFilter::default()).await, []);
    let transaction = client.transaction().await.unwrap();
    let row = transaction.query_one(sql, &[]).await.unwrap();
    let kept = TaskId::from_uuid(row.get(0));
    assert_eq!(
        f.list(TaskFilter::default()).await,
        [],
        "nothing is seen before the commit"
    );
    transaction.commit().await.unwrap();
    assert_eq!(f.list(TaskFilter::default()).await, [kept]);
}

#[tokio::test]
async fn a_commit_rings() {
    let (f, url) = postgres_with_url().await;
    f.register(order()).await;
    let client = client(&url).await;
    // A test's clock does not listen.
    let store = PostgresStore::open(&url, Arc::new(SystemClock))
        .await
        .unwrap();
    // The first may be heard because listening has just begun; the second is a ring.
    for _ in 0..2 {
        let heard = store.rung();
        let ringing = async {
            loop {
                create(&client, &request(json!({})), "default").await;
            }
        };
        tokio::select! {
            () = heard => {}
            () = ringing => {}
        }
    }
}

#[tokio::test]
async fn the_highest_version_is_meant_unless_one_is_named() {
    let (f, client, _) = ordering().await;
    for version in ["0.9.0", "1.10.0", "1.9.0"] {
        let mut source = order();
        source.version = version.parse().unwrap();
        f.register(source).await;
    }
    let version = async |more| {
        let id = create(&client, &request(more), "default").await;
        let task = f.store.task(id).await.unwrap().unwrap();
        task.summary.version.to_string()
    };
    assert_eq!(version(json!({})).await, "1.10.0");
    assert_eq!(version(json!({"version": null})).await, "1.10.0");
    assert_eq!(version(json!({"version": "1.9.0"})).await, "1.9.0");
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn a_bad_request_is_refused_with_what_is_allowed() {
    let (f, client, _) = ordering().await;
    let with = |more: Value| request(more).to_string();
    let cases: &[(String, &str, &str)] = &[
        (
            "[]".into(),
            "the request is array; it must be a JSON object",
            "allowed keys: name, ",
        ),
        (
            "{}".into(),
            "the request lacks name, context",
            "name and context are required",
        ),
        (
            with(json!({"contxt": 1})),
            "the request has unknown keys: contxt",
            "allowed keys: name, ",
        ),
        (
            with(json!({"name": "ordr"})),
            "No task handler for ordr in namespace shop",
            "registered: shop.order",
        ),
        (
            with(json!({"version": "7.0.0"})),
            "No task handler for order in namespace shop and version 7.0.0",
            "known versions: 1.0.0",
        ),
        (
            with(json!({"context": []})),
            "the context is of type array; it must be a JSON object",
            "{\"context\"",
        ),
        (
            with(json!({"reason": 5})),
            "`reason` is of type number; it must be a string",
            "write {\"reason\"",
        ),
        (
            with(json!({"reason": null})),
            "`reason` is of type null; it must be a string",
            "write",
        ),
        (
            with(json!({"initiator": "é".repeat(129)})),
            "`initiator` has 129 characters; at most 128 are allowed",
            "shorten `initiator`",
        ),
        (
            with(json!({"idempotency_key": "k".repeat(256)})),
            "`idempotency_key` has 256 characters; at most 255 are allowed",
            "shorten",
        ),
        (
            with(json!({"tags": "a"})),
            "`tags` is of type string; it must be a list of strings",
            "write",
        ),
        (
            with(json!({"tags": [1]})),
            "`tags` holds a value of type number; it must be a list",
            "write",
        ),
        (
            with(json!({"tags": null})),
            "`tags` is of type null; it must be a list",
            "write",
        ),
        (
            with(json!({"priority": 101})),
            "`priority` is 101; it may be -100 to 100",
            "whole number",
        ),
        (
            with(json!({"priority": 1.5})),
            "`priority` is 1.5; it may be -100 to 100",
            "whole number",
        ),
        (
            with(json!({"priority": "5"})),
            "`priority` is \"5\"; it may be",
            "whole number",
        ),
        (
            with(json!({"priority": null})),
            "`priority` is null; it may be",
            "whole number",
        ),
        (
            with(json!({"start_at": "tomorrow"})),
            "`start_at` is \"tomorrow\", which is not a time",
            "offset",
        ),
        (
            with(json!({"requested_at": "2026-02-30T00:00:00Z"})),
            "`requested_at` is \"2026-02-30T00:00:00Z\", which is not a time",
            "2026-01-31T08:00:00Z",
        ),
        (
            with(json!({"bypass_steps": ["pay"]})),
            "`bypass_steps` names `pay`, which is not skippable",
            "skippable steps: pack, ship",
        ),
        (
            with(json!({"bypass_steps": ["x"]})),
            "`bypass_steps` names `x`, which is not a step of shop.order@1.0.0",
            "skippable steps: pack, ship",
        ),
        (
            with(json!({"context": {"text": "x".repeat(4 << 20)}})),
            "the context is 4194316 bytes of JSON; at most 4194304 are allowed",
            "reference",
        ),
    ];
    for (request, message, hint) in cases {
        let (found, advice) = refusal(&client, request).await;
        assert!(found.starts_with(message), "{found}");
        assert!(advice.contains(hint), "{found}: {advice}");
    }
    let strategy = client
        .query_one(CREATE, &[&with(json!({})), &"hsh"])
        .await
        .unwrap_err();
    let strategy = strategy.as_db_error().unwrap();
    assert_eq!(strategy.message(), "unknown identity strategy `hsh`");
    assert_eq!(strategy.hint(), Some("allowed: default, hash"));
    assert_eq!(
        f.list(TaskFilter::default()).await,
        [],
        "nothing was created"
    );
}

#[tokio::test]
async fn an_idempotency_key_means_the_same_task_here_and_there() {
    let (f, client, defined) = ordering().await;
    let asked = request(json!({"idempotency_key": "k"}));
    let id = create(&client, &asked, "default").await;
    assert_eq!(create(&client, &asked, "default").await, id);
    let asked: TaskRequest = serde_json::from_value(asked).unwrap();
    let by_library = f.asked(&defined, asked);
    assert_eq!(f.create(&[by_library]).await, [Created::Existing(id)]);
    let asked = request(json!({"idempotency_key": "l"}));
    let by_library = f.asked(&defined, serde_json::from_value(asked.clone()).unwrap());
    let first = by_library.task_id;
    f.create(&[by_library]).await;
    assert_eq!(create(&client, &asked, "default").await, first);
}

/// The identity is a hash of every byte: any difference in the canonical text shows here.
#[tokio::test]
async fn an_identity_is_the_same_here_and_there() {
    let (f, client, defined) = ordering().await;
    let odd = json!({
        "b": [1, -1, 0, u64::MAX, i64::MIN, 2.5, 100.0, -0.1, 1e-7, 1.5e-5, 0.000_123, 1.5e300, 1e22,
              1_234_567_890_123_456.7, 5e-324, 0.1 + 0.2, 9_007_199_254_740_993_i64],
        "a": "é \n\t\r\u{8}\u{c}\u{1f}\u{7f}\"\\/\u{2028}😀", "ab": {}, "A": null, "é": [[], {}, true],
        "z\"": {"y": false, "x": {"w": ""}}
    });
    for (number, context) in [json!({}), odd].into_iter().enumerate() {
        let asked = request(json!({
            "context": context, "reason": format!("„{number}“"), "initiator": "ann",
            "bypass_steps": ["ship", "pack"], "requested_at": f.now(),
        }));
        let id = create(&client, &asked, "hash").await;
        assert_eq!(
            create(&client, &asked, "hash").await,
            id,
            "an equal request is one"
        );
        let request: TaskRequest = serde_json::from_value(asked).unwrap();
        let request = request.check(&defined.template, 100_000).unwrap();
        let identity = IdentityStrategy::Hash.of(&request, f.now_and(1_000));
        let new = NewTask {
            task_id: f.task_id(),
            request,
            identity,
            origin: None,
        };
        assert_eq!(f.create(&[new]).await, [Created::Duplicate(id)]);
    }
}

#[tokio::test]
async fn only_a_context_with_a_schema_is_left_to_the_worker() {
    let (f, client, plain) = ordering().await;
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    let strict = TemplateSource {
        schema: Some(schema),
        ..source("strict", &[("a", &[])])
    };
    let strict = f.register(strict).await;
    let worker = f.worker(&[&plain, &strict]);
    let by_sql = create(&client, &request(json!({"name": "strict"})), "default").await;
    create(&client, &request(json!({})), "default").await;
    f.start(&strict).await;
    // The function goes by the database's clock, which is ahead of the test's.
    f.clock
        .advance(std::time::Duration::from_hours(24 * 365 * 100));
    let claimed = f.claim(&worker, 100).await.claimed;
    assert_eq!(claimed.len(), 4);
    for step in claimed {
        let unchecked = step.lease.step.task_id == by_sql;
        assert_eq!(step.context_checked, !unchecked);
    }
}
