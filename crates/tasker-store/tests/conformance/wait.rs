//! Steps that wait for a time or a signal, and hold no slot meanwhile.

use jiff::Timestamp;
use serde_json::json;
use tasker_model::id::TaskId;
use tasker_model::json::Json;
use tasker_model::name::SignalName;
use tasker_model::outcome::{FailureKind, Settlement};
use tasker_model::step::StepState::Pending;
use tasker_model::task::TaskState;
use tasker_model::transition::Reason;
use tasker_model::wait::{NEVER, Until, Wait, WaitFor};
use tasker_store::StoreError;
use tasker_store::store::{Expired, Order, Signal, Signalled};

use crate::fixture::{Defined, Fixture, Worker, fail, last_of, ms, source, succeed, text};

fn approval() -> SignalName {
    SignalName::new("approval").unwrap()
}

/// Waits for `approval`, and ends it at a time.
fn until(until: Until) -> Settlement {
    Settlement::Wait(Wait {
        until,
        signal: Some(approval()),
    })
}

async fn send(f: &Fixture, task: TaskId, payload: &str) -> Result<Signalled, StoreError> {
    let signal = Signal {
        name: approval(),
        payload: text(&json!(payload)),
        by: "ada".to_owned(),
    };
    f.store.signal(task, signal).await
}

/// A task whose only step waits for `approval`.
async fn waiting(f: &Fixture) -> (Defined, Worker) {
    let mut definition = source("waiting", &[("a", &[])]);
    definition.steps[0].wait = Some(WaitFor::Signal {
        name: approval(),
        timeout_ms: None,
        default: None,
    });
    let defined = f.register(definition).await;
    let worker = f.worker(&[&defined]);
    (defined, worker)
}

pub(crate) async fn a_step_that_waits_is_due_at_its_time(f: Fixture) {
    let (defined, worker) = waiting(&f).await;
    let task = f.start(&defined).await;
    let first = f.claim_one(&worker).await;
    assert_eq!((first.waited_until, &first.signal), (None, &None));
    let over = f.now_and(5_000);
    f.settle(&worker, &first, until(Until::After(5_000))).await;
    let detail = f.detail(task).await;
    let step = &detail.steps[0];
    assert_eq!(
        (step.state, step.attempts, step.due_at),
        (Pending, 0, Some(over))
    );
    assert_eq!((step.worker, step.awaits.clone()), (None, Some(approval())));
    let record = last_of(&detail, 0);
    assert_eq!(
        (record.reason, record.retry_at),
        (Some(Reason::Waiting), Some(over))
    );
    f.clock.advance(ms(4_999));
    assert!(f.claim(&worker, 1).await.claimed.is_empty());
    f.clock.advance(ms(1));
    let second = f.claim_one(&worker).await;
    assert_eq!((second.lease.attempt, second.waited_until), (1, Some(over)));
    assert_eq!(second.signal, None);
    assert_eq!(
        f.detail(task).await.steps[0].awaits,
        None,
        "it waits no longer"
    );
}

pub(crate) async fn a_time_can_be_given_and_may_be_over(f: Fixture) {
    let (defined, worker) = waiting(&f).await;
    let task = f.start(&defined).await;
    let first = f.claim_one(&worker).await;
    f.settle(&worker, &first, until(Until::At(f.now()))).await;
    let second = f.claim_one(&worker).await;
    f.settle(&worker, &second, until(Until::At(Timestamp::MAX)))
        .await;
    assert_eq!(f.detail(task).await.steps[0].due_at, Some(NEVER));
}

pub(crate) async fn a_signal_ends_the_wait(f: Fixture) {
    let (defined, worker) = waiting(&f).await;
    let task = f.start(&defined).await;
    let first = f.claim_one(&worker).await;
    f.settle(&worker, &first, until(Until::Signalled)).await;
    assert!(f.claim(&worker, 1).await.claimed.is_empty());
    f.clock.advance(ms(1_000));
    assert_eq!(send(&f, task, "yes").await.unwrap(), Signalled::Delivered);
    assert_eq!(send(&f, task, "no").await.unwrap(), Signalled::Known);
    let second = f.claim_one(&worker).await;
    let payload = second.signal.as_ref().map(Json::as_str);
    assert_eq!(payload, Some(r#""yes""#), "the first counts");
    let signals = f.detail(task).await.signals;
    let sent: Vec<_> = signals
        .iter()
        .map(|s| (s.name.as_str(), s.by.as_str(), s.at))
        .collect();
    assert_eq!(sent, [("approval", "ada", f.now())]);
}

pub(crate) async fn an_early_signal_is_kept(f: Fixture) {
    let (defined, worker) = waiting(&f).await;
    let task = f.start(&defined).await;
    assert_eq!(send(&f, task, "yes").await.unwrap(), Signalled::Kept);
    let first = f.claim_one(&worker).await;
    f.settle(&worker, &first, until(Until::Signalled)).await;
    let second = f.claim_one(&worker).await;
    assert_eq!(second.signal.as_ref().map(Json::as_str), Some(r#""yes""#));
}

pub(crate) async fn what_has_come_survives_a_lost_lease_and_a_retry(f: Fixture) {
    let (defined, worker) = waiting(&f).await;
    let task = f.start(&defined).await;
    let first = f.claim_one(&worker).await;
    f.settle(&worker, &first, until(Until::Signalled)).await;
    send(&f, task, "yes").await.unwrap();
    f.claim_one(&worker).await;
    f.clock.advance(ms(crate::fixture::LEASE_MS));
    let again = f.claim_one(&worker).await;
    assert!(again.signal.is_some() && again.waited_until.is_some());
    f.settle(&worker, &again, fail(FailureKind::Permanent))
        .await;
    f.order(task, Order::RetryTask).await.unwrap();
    let retried = f.claim_one(&worker).await;
    assert!(retried.signal.is_some(), "nobody has to send it again");
    assert_eq!(
        retried.waited_until, None,
        "but a wait without it would begin anew"
    );
}

pub(crate) async fn a_final_task_takes_no_signal(f: Fixture) {
    let (defined, worker) = waiting(&f).await;
    let task = f.start(&defined).await;
    let step = f.claim_one(&worker).await;
    f.settle(&worker, &step, succeed(&json!(1))).await;
    let refused = send(&f, task, "yes").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the task is complete; nothing of it waits for a signal any more"
    );
    let unknown = send(&f, f.task_id(), "yes").await.unwrap_err();
    assert!(matches!(unknown, StoreError::NoSuchTask(_)));
}

pub(crate) async fn a_task_that_waits_can_be_cancelled_and_deleted(f: Fixture) {
    let (defined, worker) = waiting(&f).await;
    let task = f.start(&defined).await;
    let step = f.claim_one(&worker).await;
    f.settle(&worker, &step, until(Until::Signalled)).await;
    send(&f, f.start(&defined).await, "yes").await.unwrap();
    f.order(task, Order::CancelTask).await.unwrap();
    f.clock.advance(ms(1));
    let expired = Expired {
        states: vec![TaskState::Cancelled],
        finished_before: f.now(),
        namespace: None,
    };
    let deleted = f.store.delete_finished(expired, None, 10).await.unwrap();
    assert_eq!(deleted.tasks, 1);
}
