//! Step handlers with typed arguments: what each argument gives, and what `build` refuses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tasker::model::outcome::{Failure, FailureKind};
use tasker::model::retry::Backoff;
use tasker::model::task::TaskState;
use tasker::{
    Argument, Attempt, Cancellation, Config, Context, HandlerError, IdempotencyKey, Log, Parent,
    Parents, PermanentError, Progress, RetryableError, Signal, State, Step, StepContext, StepError,
    StepRef, StepResult, Task, TaskHandler, Tasker, step,
};

use crate::support::{assert_sound, assert_state, attempts, in_memory, request_for, run, statuses};

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    cents: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Receipt {
    number: String,
}

async fn charge(Context(order): Context<Order>) -> StepResult<Receipt> {
    Ok(Receipt {
        number: format!("R-{}", order.cents),
    })
}

async fn weigh() -> StepResult<u32> {
    Ok(250)
}

async fn ship(
    attempt: Attempt,
    Parent(receipt): Parent<Receipt>,
    Context(order): Context<Order>,
    Parent(grams): Parent<u32>,
) -> StepResult<String> {
    let (number, cents, attempt) = (receipt.number, order.cents, attempt.number);
    Ok(format!(
        "{number}, {cents} cents, {grams} g, attempt {attempt}"
    ))
}

async fn run_with(handler: TaskHandler, context: Value) -> (Tasker, Task) {
    let request = request_for(&handler).context(context);
    let tasker = in_memory([handler]).await;
    let task = tasker.executor().execute_sync(request, None).await.unwrap();
    assert_sound(&tasker).await;
    (tasker, task)
}

/// The results by the names of the steps.
async fn results(task: &Task) -> BTreeMap<String, Value> {
    let steps = task.workflow_steps().await.unwrap().into_iter();
    steps
        .filter_map(|step| Some((step.name, step.result?)))
        .collect()
}

async fn last_failure(task: &Task) -> Failure {
    let record = task.detail().await.unwrap().transitions;
    let mut failures = record.into_iter().rev().filter_map(|t| t.failure);
    failures.next().unwrap()
}

/// A definition of one step, which is all that a test needs.
fn alone<F, A>(function: F) -> TaskHandler
where
    F: tasker::handler::StepFunction<A>,
    F::Returned: tasker::handler::StepFuture,
    A: tasker::handler::Arguments<tasker::handler::NoResult> + 'static,
{
    let mut definition = TaskHandler::new("typed", "alone", "1.0.0").state(7_u8);
    let quick = Backoff::Fixed { delay_ms: 1 };
    definition.add(step("only", function).backoff(quick).retry_limit(2));
    definition.build().unwrap()
}

#[tokio::test]
async fn arguments_stand_in_any_order_and_results_in_the_order_of_after() {
    let mut order = TaskHandler::new("typed", "order", "1.0.0");
    let charge = order.add(step("charge", charge));
    let weigh = order.add(step("weigh", weigh));
    order.add(step("ship", ship).after((&charge, &weigh)));
    let handler = order.build().unwrap();
    let (_tasker, task) = run_with(handler, json!({"cents": 1999})).await;
    assert_state(&task, TaskState::Complete);
    assert_eq!(
        results(&task).await["ship"],
        "R-1999, 1999 cents, 250 g, attempt 1"
    );
}

#[tokio::test]
async fn a_second_after_adds_and_follows_takes_nothing() {
    async fn last(Parent(grams): Parent<u32>, Parent(text): Parent<String>) -> StepResult<String> {
        Ok(format!("{text} {grams}"))
    }
    let mut order = TaskHandler::new("typed", "order", "1.0.0");
    let first = order.add(step("first", weigh));
    let second = order.add(step("second", || async {
        StepResult::Ok("two".to_owned())
    }));
    let third = order.add(step("third", weigh).follows((&first, &second)));
    let waits = step("last", last).after(&first).after(&second);
    order.add(waits.follows(&third).follows(&first));
    let handler = order.build().unwrap();
    let steps = &handler.template().source().steps;
    assert_eq!(steps[2].depends_on_steps, ["first", "second"]);
    assert_eq!(steps[3].depends_on_steps, ["first", "second", "third"]);
    let (_tasker, task) = run(handler).await;
    assert_eq!(results(&task).await["last"], "two 250");
}

#[tokio::test]
async fn a_list_of_steps_is_one_argument() {
    async fn sum(Parents(all): Parents<u32>, Parent(text): Parent<String>) -> StepResult<String> {
        Ok(format!("{text} {}", all.iter().sum::<u32>()))
    }
    let mut sums = TaskHandler::new("typed", "sums", "1.0.0");
    let parts: Vec<StepRef<u32>> = (1..=5_u32)
        .map(|n| {
            sums.add(step(format!("part{n}"), move || async move {
                StepResult::Ok(n)
            }))
        })
        .collect();
    let name = sums.add(step("name", || async { StepResult::Ok("sum".to_owned()) }));
    sums.add(step("all", sum).after((&parts, &name)));
    sums.add(step("two", sum).after(([&parts[0], &parts[4]], &name)));
    let (_tasker, task) = run(sums.build().unwrap()).await;
    let results = results(&task).await;
    assert_eq!(
        (&results["all"], &results["two"]),
        (&json!("sum 15"), &json!("sum 6"))
    );
}

/// An argument of the test's own.
struct Name(String);

impl Argument for Name {
    fn declare(needs: &mut tasker::handler::Needs) {
        needs.state::<u8>();
    }

    fn take(step: &StepContext) -> Result<Self, StepError> {
        let number = step.state::<u8>().expect("declared");
        Ok(Name(format!("{}{number}", step.name())))
    }
}

#[tokio::test]
async fn what_an_attempt_knows_of_itself_can_be_taken() {
    async fn all(
        step: StepContext,
        attempt: Attempt,
        IdempotencyKey(key): IdempotencyKey,
        cancellation: Cancellation,
        State(number): State<u8>,
        Name(name): Name,
    ) -> StepResult<(String, u8)> {
        assert_eq!((attempt.limit, attempt.is_last()), (2, attempt.number == 2));
        assert!(!cancellation.is_cancelled());
        if !attempt.is_last() {
            return Err(RetryableError::new("once more").into());
        }
        assert_eq!(key, step.idempotency_key());
        Ok((name, number))
    }
    let (_tasker, task) = run(alone(all)).await;
    assert_state(&task, TaskState::Complete);
    assert_eq!(results(&task).await["only"], json!(["only7", 7]));
}

#[tokio::test]
async fn signals_configurations_and_logs_are_arguments_too() {
    async fn decide(
        Signal(yes): Signal<bool>,
        Config(limit): Config<u32>,
        log: Log,
        progress: Progress,
    ) -> StepResult<u32> {
        progress.set(1, 2, "half");
        log.line(format!("answer: {yes}"));
        Ok(if yes { limit } else { 0 })
    }
    let mut definition = TaskHandler::new("typed", "decide", "1.0.0");
    let waits = step("decide", decide).config(json!(40));
    definition.add(waits.wait_for_or("answer", Duration::from_millis(1), json!(true)));
    definition.add(step("unfit", decide).config(json!("many")));
    let (_tasker, task) = run(definition.build().unwrap()).await;
    assert_eq!(results(&task).await["decide"], 40);
    let record = task.detail().await.unwrap().transitions;
    assert!(
        record
            .iter()
            .any(|t| t.log.as_deref() == Some("answer: true\n"))
    );
    assert_eq!(
        last_failure(&task).await.error_code.as_deref(),
        Some("NO_SIGNAL")
    );
}

#[tokio::test]
async fn a_cancelled_task_ends_the_wait_for_cancellation() {
    let seen = Arc::new(tokio::sync::Notify::new());
    let started = Arc::new(tokio::sync::Notify::new());
    let (see, start) = (seen.clone(), started.clone());
    let handler = alone(move |cancellation: Cancellation| {
        let (see, start) = (see.clone(), start.clone());
        async move {
            // On a task of its own: the attempt's future is dropped when it is cancelled.
            tokio::spawn(async move {
                start.notify_one();
                cancellation.cancelled().await;
                see.notify_one();
            });
            std::future::pending::<StepResult<()>>().await
        }
    });
    let request = request_for(&handler);
    let tasker = in_memory([handler]).await;
    let task = tasker.executor().execute_async(request).await.unwrap();
    started.notified().await;
    tasker.cancel_task(task.id(), "ada").await.unwrap();
    seen.notified().await;
}

#[tokio::test]
async fn state_is_one_value_for_all_steps_also_for_those_without_types() {
    type Counter = Arc<AtomicU32>;
    async fn count(State(counter): State<Counter>) -> StepResult<u32> {
        Ok(counter.fetch_add(1, Ordering::SeqCst))
    }
    let counter = Counter::default();
    let mut counts = TaskHandler::new("typed", "counts", "1.0.0").state(counter.clone());
    let first = counts.add(step("first", count));
    counts.add(step("second", count).follows(&first));
    let untyped = Step::new("third", |step: StepContext| async move {
        let counter = step.state::<Counter>().ok_or(PermanentError::new("none"))?;
        assert!(step.state::<u64>().is_none());
        Ok(counter.fetch_add(1, Ordering::SeqCst))
    });
    let handler = counts.step(untyped.depends_on_step("second")).build();
    let (_tasker, task) = run(handler.unwrap()).await;
    assert_state(&task, TaskState::Complete);
    assert_eq!(counter.load(Ordering::SeqCst), 3);
}

fn optional() -> TaskHandler {
    async fn price() -> StepResult<u32> {
        Err(PermanentError::new("no price").into())
    }
    async fn either(price: Option<Parent<u32>>) -> StepResult<u32> {
        Ok(price.map_or(1, |Parent(price)| price))
    }
    async fn exact(Parent(price): Parent<u32>) -> StepResult<u32> {
        Ok(price)
    }
    async fn list(Parents(prices): Parents<u32>) -> StepResult<usize> {
        Ok(prices.len())
    }
    let mut optional = TaskHandler::new("typed", "optional", "1.0.0");
    let given = optional.add(step("given", weigh));
    let price = optional.add(step("price", price).skippable(true));
    optional.add(step("either", either).after(&price));
    optional.add(step("exact", exact).after(&price));
    optional.add(step("list", list).after([&price, &given]));
    optional.build().unwrap()
}

#[tokio::test]
async fn a_skipped_parent_is_none_or_a_failure() {
    let mut request = request_for(&optional());
    request.bypass_steps = vec!["price".to_owned()];
    let tasker = in_memory([optional()]).await;
    let task = tasker.executor().execute_sync(request, None).await.unwrap();
    assert_state(&task, TaskState::Error);
    let results = results(&task).await;
    assert_eq!(
        (&results["either"], &results["list"]),
        (&json!(1), &json!(1))
    );
    let failure = last_failure(&task).await;
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert_eq!(failure.error_code.as_deref(), Some("PARENT_WITHOUT_RESULT"));
    assert!(failure.message.contains("`price`"), "{}", failure.message);
}

#[tokio::test]
async fn a_parent_resolved_by_hand_gives_what_was_typed() {
    let (tasker, mut task) = run(optional()).await;
    assert_state(&task, TaskState::Error);
    tasker
        .resolve_step(task.id(), "price", Some(&json!(40)), "ada")
        .await
        .unwrap();
    assert_eq!(task.wait(None).await.unwrap(), TaskState::Complete);
    let results = results(&task).await;
    let found = ["either", "exact", "list"].map(|step| &results[step]);
    assert_eq!(found, [&json!(40), &json!(40), &json!(2)]);
}

#[tokio::test]
async fn a_result_of_another_shape_is_refused_at_once() {
    let (tasker, mut task) = run(optional()).await;
    tasker
        .resolve_step(task.id(), "price", Some(&json!("forty")), "ada")
        .await
        .unwrap();
    assert_eq!(task.wait(None).await.unwrap(), TaskState::Error);
    let failure = last_failure(&task).await;
    assert_eq!(failure.error_code.as_deref(), Some("PARENT_TYPE"));
    assert!(
        failure
            .message
            .starts_with("the result of step `price` does not fit step `"),
        "{}",
        failure.message
    );
    assert_eq!(attempts(&task, "exact").await, 1);
}

#[tokio::test]
async fn a_context_of_another_shape_is_refused_at_once() {
    let (_tasker, task) = run_with(alone(charge), json!({"cents": "many"})).await;
    assert_state(&task, TaskState::Error);
    let failure = last_failure(&task).await;
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert_eq!(failure.error_code.as_deref(), Some("CONTEXT_TYPE"));
    assert_eq!(attempts(&task, "only").await, 1);
}

enum PaymentError {
    Declined(String),
    Busy,
    Broken(std::num::ParseIntError),
}

impl From<std::num::ParseIntError> for PaymentError {
    fn from(error: std::num::ParseIntError) -> PaymentError {
        PaymentError::Broken(error)
    }
}

impl HandlerError for PaymentError {
    fn into_step_error(self) -> StepError {
        match self {
            PaymentError::Declined(why) => PermanentError::new(why).error_code("DECLINED").into(),
            PaymentError::Busy => RetryableError::new("busy").retry_after(0.001).into(),
            PaymentError::Broken(error) => error.into(),
        }
    }
}

#[tokio::test]
async fn an_error_type_of_ones_own_decides() {
    async fn pay(attempt: Attempt, Context(text): Context<Value>) -> Result<u32, PaymentError> {
        match text["say"].as_str().unwrap_or_default() {
            "declined" => Err(PaymentError::Declined("no money".to_owned())),
            "busy" if !attempt.is_last() => Err(PaymentError::Busy),
            "busy" => Ok(1),
            number => Ok(number.parse()?),
        }
    }
    let (_tasker, declined) = run_with(alone(pay), json!({"say": "declined"})).await;
    let failure = last_failure(&declined).await;
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert_eq!(failure.error_code.as_deref(), Some("DECLINED"));
    let (_tasker, busy) = run_with(alone(pay), json!({"say": "busy"})).await;
    assert_state(&busy, TaskState::Complete);
    assert_eq!(last_failure(&busy).await.retry_after_ms, Some(1));
    let (_tasker, broken) = run_with(alone(pay), json!({"say": "x"})).await;
    assert_eq!(attempts(&broken, "only").await, 2);
    assert_eq!(
        last_failure(&broken).await.message,
        "invalid digit found in string"
    );
}

#[test]
fn build_names_everything_that_the_compiler_cannot_see() {
    struct Pool;
    impl Clone for Pool {
        fn clone(&self) -> Pool {
            Pool
        }
    }
    async fn takes(Parent(_): Parent<Receipt>, State(_): State<Pool>) -> StepResult<()> {
        Ok(())
    }
    async fn reads(Parent(_): Parent<Receipt>, Parent(_): Parent<Value>) -> StepResult<()> {
        Ok(())
    }
    let mut other = TaskHandler::new("typed", "refund", "2.0.0");
    let elsewhere = other.add(step("charge", charge));
    let mut wrong = TaskHandler::new("typed", "wrong", "1.0.0")
        .state(1_u8)
        .state(2_u8);
    wrong.add(step("weigh", weigh));
    wrong.add(step("ship", takes).after(&StepRef::named("weigh")));
    wrong.add(step("pack", reads).after((&elsewhere, &StepRef::named("wiegh"))));
    let text = wrong.build().unwrap_err().to_string();
    let here = module_path!();
    let pool = std::any::type_name::<Pool>();
    for part in [
        "task handler `typed.wrong@1.0.0`: ".to_owned(),
        format!(
            "step `ship` takes the result of `weigh` as {here}::Receipt, but `weigh` gives u32"
        ),
        format!("step `ship` takes State<{pool}>, which was not given"),
        "given were: u8".to_owned(),
        "step `pack` comes after `charge` of another definition, typed.refund@2.0.0".to_owned(),
        "step `pack` depends on unknown step `wiegh`; did you mean `weigh`?".to_owned(),
        "two values were given as shared state of the type u8".to_owned(),
    ] {
        assert!(text.contains(&part), "`{part}` is not in: {text}");
    }
}

#[tokio::test]
async fn a_name_refers_to_a_step_that_fits_and_json_fits_all() {
    async fn sum(
        Parent(grams): Parent<u32>,
        Parent(json): Parent<Value>,
        Parent(order): Parent<Order>,
    ) -> StepResult<String> {
        Ok(format!("{grams} {json} {}", order.cents))
    }
    let mut named = TaskHandler::new("typed", "named", "1.0.0");
    named.add(step("weigh", weigh));
    let parents = (
        &StepRef::named("weigh"),
        &StepRef::named("weigh"),
        &StepRef::named("untyped"),
    );
    named.add(step("sum", sum).after(parents));
    let untyped = Step::new("untyped", |_| async { Ok(json!({"cents": 5})) });
    let handler = named.step(untyped).build().unwrap();
    let (_tasker, task) = run(handler).await;
    assert_eq!(results(&task).await["sum"], "250 250 5");
    assert_eq!(statuses(&task).await.len(), 3);
}
