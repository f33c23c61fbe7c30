//! Orders as a customer makes them, and every way in which one may fail.

use order_processing::money::Cents;
use order_processing::shop::Shop;
use order_processing::{step_handlers, task_handler};
use serde_json::{Value, json};
use tasker::model::outcome::{Failure, FailureKind};
use tasker::model::task::TaskState;
use tasker::{Task, TaskRequest, Tasker, WorkflowStep};

const SAMPLE: &str = include_str!("../sample.json");

/// The sample with these members in place of its own.
fn sample(changes: &Value) -> Value {
    let mut context: Value = serde_json::from_str(SAMPLE).unwrap();
    for (name, value) in changes.as_object().unwrap() {
        context[name] = value.clone();
    }
    context
}

async fn start(shop: &Shop) -> Tasker {
    let handler = task_handler("test", shop).unwrap();
    let tasker = Tasker::builder("sqlite::memory:").register(handler);
    tasker.start().await.unwrap()
}

fn request(context: Value) -> TaskRequest {
    TaskRequest::new("process_order")
        .namespace("ecommerce")
        .context(context)
}

async fn run(changes: &Value, shop: &Shop) -> Task {
    let tasker = start(shop).await;
    let request = request(sample(changes));
    tasker.executor().execute_sync(request, None).await.unwrap()
}

async fn step(task: &Task, name: &str) -> WorkflowStep {
    let steps = task.workflow_steps().await.unwrap();
    steps.into_iter().find(|step| step.name == name).unwrap()
}

/// All failures of all attempts, in order.
async fn failures(task: &Task) -> Vec<Failure> {
    let record = task.detail().await.unwrap().transitions;
    record
        .into_iter()
        .filter_map(|change| change.failure)
        .collect()
}

#[tokio::test]
async fn the_sample_costs_124_76() {
    let shop = Shop::default();
    let task = run(&json!({}), &shop).await;
    assert_eq!(task.state(), TaskState::Complete);
    for step in task.workflow_steps().await.unwrap() {
        assert_eq!(
            (step.status, step.attempts),
            ("completed", 1),
            "{}",
            step.name
        );
    }
    let cart = step(&task, "validate_cart").await.result.unwrap();
    let money = [
        &cart["subtotal"],
        &cart["tax"],
        &cart["shipping"],
        &cart["total"],
    ];
    assert_eq!(money, [109.97, 8.8, 5.99, 124.76]);
    assert_eq!(cart["validated_items"][0]["line_total"], 59.98);
    assert_eq!(cart["item_count"], 3);
    let payment = step(&task, "process_payment").await.result.unwrap();
    assert_eq!(payment["amount_charged"], 124.76);
    assert_eq!(payment["payment_method_type"], "credit_card");
    let stock = step(&task, "update_inventory").await.result.unwrap();
    assert_eq!(stock["total_items_reserved"], 3);
    assert_eq!(stock["updated_products"][0]["previous_stock"], 10);
    assert_eq!(stock["updated_products"][0]["new_stock"], 8);
    let order = step(&task, "create_order").await.result.unwrap();
    assert_eq!(order["order_id"], format!("order_{}", task.id()));
    let number = order["order_number"].as_str().unwrap();
    let parts: Vec<&str> = number.split('-').collect();
    assert_eq!(
        (parts[0], parts[1].len(), parts[2].len()),
        ("ORD", 8, 8),
        "{number}"
    );
    let mail = step(&task, "send_confirmation").await.result.unwrap();
    assert_eq!(mail["recipient"], "ada@example.com");
    assert_eq!(mail["email_type"], "order_confirmation");
}

#[tokio::test]
async fn what_is_missing_or_wrong_ends_its_step() {
    ends_with_code(&[
        (
            "validate_cart",
            json!({"cart_items": []}),
            "MISSING_CART_ITEMS",
        ),
        (
            "validate_cart",
            json!({"cart_items": [{"quantity": 1}]}),
            "MISSING_PRODUCT_ID",
        ),
        (
            "validate_cart",
            json!({"cart_items": [{"product_id": 1}]}),
            "INVALID_QUANTITY",
        ),
        (
            "process_payment",
            json!({"payment_info": {"token": "t"}}),
            "MISSING_PAYMENT_METHOD",
        ),
        (
            "process_payment",
            json!({"payment_info": {"method": "paypal"}}),
            "MISSING_PAYMENT_TOKEN",
        ),
        (
            "process_payment",
            json!({"payment_info": {"method": "paypal", "token": "t", "amount": 124.75}}),
            "PAYMENT_AMOUNT_MISMATCH",
        ),
        (
            "update_inventory",
            json!({"customer_info": {"email": "a@b.org"}}),
            "MISSING_CUSTOMER_INFO",
        ),
        (
            "create_order",
            json!({"customer_info": {"id": 1}}),
            "MISSING_CUSTOMER_INFO",
        ),
        (
            "send_confirmation",
            json!({"customer_info": {"id": 1, "email": "ada"}}),
            "INVALID_EMAIL",
        ),
    ])
    .await;
}

#[tokio::test]
async fn what_is_refused_ends_its_step() {
    ends_with_code(&[
        (
            "validate_cart",
            json!({"simulate": {"catalogue": "not_found"}}),
            "PRODUCT_NOT_FOUND",
        ),
        (
            "validate_cart",
            json!({"simulate": {"catalogue": "inactive"}}),
            "PRODUCT_INACTIVE",
        ),
        (
            "process_payment",
            json!({"simulate": {"payment": "insufficient_funds"}}),
            "PAYMENT_DECLINED",
        ),
        (
            "process_payment",
            json!({"simulate": {"payment": "card_declined"}}),
            "PAYMENT_DECLINED",
        ),
        (
            "process_payment",
            json!({"simulate": {"payment": "invalid_card"}}),
            "PAYMENT_DECLINED",
        ),
        (
            "create_order",
            json!({"simulate": {"order": "invalid"}}),
            "ORDER_VALIDATION_FAILED",
        ),
    ])
    .await;
}

/// Runs an order with each of these changes: the step fails once and for all, with this code.
async fn ends_with_code(cases: &[(&str, Value, &str)]) {
    for (name, changes, code) in cases {
        let task = run(changes, &Shop::default()).await;
        assert_eq!(task.state(), TaskState::Error, "{changes}");
        assert_eq!(step(&task, name).await.attempts, 1, "{changes}");
        let failures = failures(&task).await;
        assert_eq!(failures.len(), 1, "{changes}");
        assert_eq!(failures[0].kind, FailureKind::Permanent, "{changes}");
        assert_eq!(failures[0].error_code.as_deref(), Some(*code), "{changes}");
    }
}

#[tokio::test]
async fn a_retryable_failure_takes_all_attempts_of_its_step() {
    let eleven = json!({"cart_items": [{"product_id": 1, "quantity": 11}]});
    let simulate = |part: &str, failure: &str| json!({"simulate": {(part): failure}});
    let cases = [
        ("validate_cart", eleven, 3, None),
        (
            "process_payment",
            simulate("payment", "rate_limited"),
            3,
            Some(30_000),
        ),
        (
            "process_payment",
            simulate("payment", "unavailable"),
            3,
            None,
        ),
        ("process_payment", simulate("payment", "timeout"), 3, None),
        ("process_payment", simulate("payment", "network"), 3, None),
        ("process_payment", simulate("payment", "unknown"), 3, None),
        (
            "update_inventory",
            simulate("inventory", "shortage"),
            2,
            None,
        ),
        (
            "update_inventory",
            simulate("inventory", "reservation_failed"),
            2,
            None,
        ),
        (
            "update_inventory",
            simulate("inventory", "unknown"),
            2,
            None,
        ),
        (
            "send_confirmation",
            simulate("email", "rate_limited"),
            5,
            Some(60_000),
        ),
        (
            "send_confirmation",
            simulate("email", "unavailable"),
            5,
            None,
        ),
        ("send_confirmation", simulate("email", "unknown"), 5, None),
    ];
    for (name, changes, attempts, retry_after_ms) in cases {
        let task = run(&changes, &Shop::default()).await;
        assert_eq!(task.state(), TaskState::Error, "{changes}");
        assert_eq!(step(&task, name).await.attempts, attempts, "{changes}");
        let failures = failures(&task).await;
        assert_eq!(failures.len(), attempts as usize, "{changes}");
        for failure in failures {
            assert_eq!(failure.kind, FailureKind::Retryable, "{changes}");
            assert_eq!(failure.retry_after_ms, retry_after_ms, "{changes}");
        }
    }
}

#[tokio::test]
async fn a_lost_answer_does_not_charge_twice() {
    let shop = Shop::default();
    let simulate =
        json!({"payment": "timeout", "inventory": "shortage", "email": "unavailable", "times": 1});
    let task = run(&json!({"simulate": simulate}), &shop).await;
    assert_eq!(task.state(), TaskState::Complete);
    for (name, attempts) in [
        ("process_payment", 2),
        ("update_inventory", 2),
        ("send_confirmation", 2),
    ] {
        assert_eq!(step(&task, name).await.attempts, attempts, "{name}");
    }
    let books = shop.books();
    assert_eq!((books.payments.len(), books.taken), (1, Cents(12_476)));
    assert_eq!(books.mails.len(), 1);
    assert_eq!((books.stock(1), books.stock(2)), (8, 9));
}

#[tokio::test]
async fn a_step_done_by_hand_without_a_result_is_missed_by_the_next() {
    let cases = [
        (
            json!({"catalogue": "inactive"}),
            "validate_cart",
            "MISSING_CART_TOTAL",
        ),
        (
            json!({"payment": "card_declined"}),
            "process_payment",
            "MISSING_PAYMENT_RESULT",
        ),
        (
            json!({"inventory": "shortage"}),
            "update_inventory",
            "MISSING_INVENTORY_RESULT",
        ),
        (
            json!({"order": "invalid"}),
            "create_order",
            "MISSING_ORDER_RESULT",
        ),
    ];
    for (simulate, name, code) in cases {
        let tasker = start(&Shop::default()).await;
        let request = request(sample(&json!({"simulate": simulate})));
        let mut task = tasker.executor().execute_sync(request, None).await.unwrap();
        assert_eq!(task.state(), TaskState::Error);
        tasker
            .resolve_step(task.id(), name, None, "test")
            .await
            .unwrap();
        assert_eq!(task.wait(None).await.unwrap(), TaskState::Error);
        let last = failures(&task).await.pop().unwrap();
        assert_eq!(last.error_code.as_deref(), Some(code));
    }
}

#[tokio::test]
async fn express_gives_up_sooner_and_premium_is_marked() {
    let changes = json!({
        "priority": "express",
        "customer_info": {"id": 1, "email": "ada@example.com", "tier": "premium"},
        "simulate": {"payment": "unavailable"}
    });
    let task = run(&changes, &Shop::default()).await;
    assert_eq!(task.state(), TaskState::Error);
    let cart = step(&task, "validate_cart").await.result.unwrap();
    let express = json!({"payment_timeout_ms": 15_000, "payment_retries": 1, "email_retries": 2});
    assert_eq!(cart["express_processing"], express);
    assert_eq!(cart["premium_processing"], true);
    assert_eq!(step(&task, "process_payment").await.attempts, 2);
    let last = failures(&task).await.pop().unwrap();
    assert_eq!(
        last.error_code.as_deref(),
        Some("EXPRESS_RETRIES_EXHAUSTED")
    );
    let mail = json!({"priority": "express", "simulate": {"email": "unavailable", "times": 2}});
    assert_eq!(
        run(&mail, &Shop::default()).await.state(),
        TaskState::Complete
    );
}

#[tokio::test]
async fn a_request_that_does_not_fit_the_schema_is_refused() {
    let tasker = start(&Shop::default()).await;
    for changes in [
        json!({"customer_info": null}),
        json!({"priority": "soon"}),
        json!({"cart_items": [{"product_id": 1, "quantity": 0}]}),
    ] {
        let request = request(sample(&changes));
        assert!(
            tasker.executor().execute_sync(request, None).await.is_err(),
            "{changes}"
        );
    }
}

#[test]
fn every_handler_of_the_file_has_code() {
    let names: Vec<String> = step_handlers().names().map(str::to_owned).collect();
    assert_eq!(names.len(), 5);
    assert!(task_handler("production", &Shop::default()).is_ok());
}
