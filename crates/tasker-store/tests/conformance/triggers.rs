//! Trigger rules: which ends of its parents a step starts on.

use serde_json::json;
use tasker_model::outcome::{FailureKind, Settlement, SkipCause};
use tasker_model::step::StepState::{self, Complete, Error, Pending, Skipped};
use tasker_model::task::TaskState;
use tasker_model::transition::Reason;
use tasker_model::trigger::TriggerRule::{
    self, AllDone, AllSuccess, AnyFailed, AnySuccess, AtLeast,
};
use tasker_store::store::Order;

use crate::fixture::{
    Defined, Fixture, LEASE_MS, Worker, fail, last_of, ms, positions, source, succeed,
};

/// `a`, `b` and `c`, and `d` after all of them with a rule.
async fn joined(f: &Fixture, rule: TriggerRule) -> (Defined, Worker) {
    let mut definition = source(
        "joined",
        &[("a", &[]), ("b", &[]), ("c", &[]), ("d", &["a", "b", "c"])],
    );
    definition.steps[3].trigger_rule = rule;
    let defined = f.register(definition).await;
    let worker = f.worker(&[&defined]);
    (defined, worker)
}

fn skip() -> Settlement {
    Settlement::Skip {
        cause: SkipCause::Condition,
    }
}

/// Ends the three roots one after the other, and says after which of them the last step was due.
async fn due_after(f: &Fixture, rule: TriggerRule, ends: [Settlement; 3]) -> Option<usize> {
    let (defined, worker) = joined(f, rule).await;
    let task = f.start(&defined).await;
    let roots = f.claim(&worker, 3).await.claimed;
    let mut due = None;
    for (number, settlement) in ends.into_iter().enumerate() {
        f.settle(&worker, &roots[number], settlement).await;
        let last = &f.detail(task).await.steps[3];
        if due.is_none() && last.due_at.is_some() {
            due = Some(number + 1);
        }
    }
    // Out of the way of the next.
    if !f.state(task).await.is_final() {
        f.order(task, Order::CancelTask).await.unwrap();
    }
    due
}

pub(crate) async fn a_rule_is_decided_as_soon_as_it_can_be(f: Fixture) {
    let done = || succeed(&json!(1));
    let failed = || fail(FailureKind::Permanent);
    for (rule, ends, expected) in [
        (AnySuccess, [failed(), done(), done()], Some(2)),
        (AnySuccess, [failed(), failed(), failed()], None),
        (AnySuccess, [skip(), skip(), skip()], Some(3)),
        (AtLeast(2), [done(), skip(), done()], Some(3)),
        (AtLeast(2), [done(), done(), failed()], Some(2)),
        (AnyFailed, [done(), failed(), done()], Some(2)),
        (AnyFailed, [done(), skip(), done()], Some(3)),
        (AllDone, [failed(), skip(), failed()], Some(3)),
        (AllSuccess, [done(), failed(), done()], None),
        (AllSuccess, [done(), skip(), done()], Some(3)),
        (TriggerRule::NoneFailed, [skip(), skip(), skip()], Some(3)),
    ] {
        let shown = format!("{rule:?} of {ends:?}");
        assert_eq!(due_after(&f, rule, ends).await, expected, "{shown}");
    }
}

pub(crate) async fn whoever_claims_is_told_the_states_of_the_parents(f: Fixture) {
    let (defined, worker) = joined(&f, AllDone).await;
    let task = f.start(&defined).await;
    let roots = f.claim(&worker, 3).await.claimed;
    f.settle(&worker, &roots[0], succeed(&json!("a"))).await;
    f.settle(&worker, &roots[1], skip()).await;
    f.settle(&worker, &roots[2], fail(FailureKind::Permanent))
        .await;
    let last = f.claim_one(&worker).await;
    assert_eq!(*last.parent_states, [Complete, Skipped, Error]);
    let results: Vec<bool> = last
        .parents
        .iter()
        .map(|(_, result)| result.is_some())
        .collect();
    assert_eq!(results, [true, false, false]);
    let progress = f.settle(&worker, &last, succeed(&json!("d"))).await;
    assert_eq!(
        progress.finished,
        [(task, TaskState::Error)],
        "a failed step stays failed"
    );
}

pub(crate) async fn a_step_that_is_handed_over_knows_them_too(f: Fixture) {
    let mut definition = source("chain", &[("a", &[]), ("b", &["a"])]);
    definition.steps[1].trigger_rule = AllSuccess;
    let chain = f.register(definition).await;
    let worker = f.worker(&[&chain]);
    for (settlement, expected) in [(succeed(&json!(1)), Complete), (skip(), Skipped)] {
        f.start(&chain).await;
        let root = f.claim_one(&worker).await;
        let progress = f.settle_and_claim(&worker, &root, settlement, 1).await;
        assert_eq!(positions(&progress), [1]);
        assert_eq!(*progress.claimed[0].parent_states, [expected]);
    }
}

pub(crate) async fn a_skip_says_why(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    for (cause, reason) in [
        (SkipCause::Condition, Reason::Condition),
        (SkipCause::TriggerRule, Reason::TriggerRule),
    ] {
        let task = f.start(&one).await;
        let step = f.claim_one(&worker).await;
        let progress = f.settle(&worker, &step, Settlement::Skip { cause }).await;
        assert_eq!(progress.finished, [(task, TaskState::Complete)]);
        let detail = f.detail(task).await;
        assert_eq!(last_of(&detail, 0).reason, Some(reason));
        assert_eq!(
            (detail.steps[0].state, &detail.steps[0].result),
            (Skipped, &None)
        );
    }
}

pub(crate) async fn a_lost_step_counts_as_failed(f: Fixture) {
    let (defined, worker) = joined(&f, AnyFailed).await;
    let task = f.start(&defined).await;
    f.order(task, Order::SkipStep(0)).await.unwrap();
    f.order(task, Order::SkipStep(1)).await.unwrap();
    for _ in 0..3 {
        assert_eq!(positions(&f.claim(&worker, 1).await), [2]);
        f.clock.advance(ms(LEASE_MS));
    }
    assert_eq!(f.claim_one(&worker).await.lease.step.position, 3);
}

pub(crate) async fn a_step_waits_again_when_the_parent_that_failed_goes_round(f: Fixture) {
    let (defined, worker) = joined(&f, AnyFailed).await;
    let task = f.start(&defined).await;
    let roots = f.claim(&worker, 3).await.claimed;
    f.settle(&worker, &roots[0], fail(FailureKind::Permanent))
        .await;
    let retry = Order::RetryStep {
        position: 0,
        attempts: 1,
    };
    f.order(task, retry).await.unwrap();
    let state = |step: &tasker_store::record::StepRecord| (step.state, step.due_at.is_some());
    assert_eq!(state(&f.detail(task).await.steps[3]), (Pending, false));
    let again = f.claim_one(&worker).await;
    f.settle(&worker, &again, fail(FailureKind::Permanent))
        .await;
    assert_eq!(state(&f.detail(task).await.steps[3]), (Pending, true));
}

pub(crate) async fn a_deadline_starts_nothing(f: Fixture) {
    let mut definition = source("late", &[("a", &[]), ("b", &["a"])]);
    definition.steps[1].trigger_rule = AnyFailed;
    definition.deadline_ms = Some(1);
    let late = f.register(definition).await;
    let task = f.start(&late).await;
    f.clock.advance(ms(1));
    let progress = f.claim(&f.worker(&[&late]), 5).await;
    assert_eq!(progress.finished, [(task, TaskState::Error)]);
    assert!(progress.claimed.is_empty());
    assert_eq!(f.state(task).await, TaskState::Error);
    // Sent round again, it fails by itself, and then the other starts.
    f.order(task, Order::RetryTask).await.unwrap();
    let worker = f.worker(&[&late]);
    let again = f.claim_one(&worker).await;
    f.settle(&worker, &again, fail(FailureKind::Permanent))
        .await;
    assert_eq!(f.claim_one(&worker).await.lease.step.position, 1);
}

pub(crate) async fn resolving_a_failed_parent_counts_as_success(f: Fixture) {
    let (defined, worker) = joined(&f, AllSuccess).await;
    let task = f.start(&defined).await;
    let roots = f.claim(&worker, 3).await.claimed;
    f.settle(&worker, &roots[0], fail(FailureKind::Permanent))
        .await;
    f.settle(&worker, &roots[1], succeed(&json!(1))).await;
    let done = f.settle(&worker, &roots[2], succeed(&json!(1))).await;
    assert_eq!(done.finished, [(task, TaskState::Error)]);
    let resolve = Order::ResolveStep {
        position: 0,
        result: None,
    };
    assert_eq!(f.order(task, resolve).await.unwrap(), TaskState::Pending);
    let last = f.claim_one(&worker).await;
    assert_eq!(last.parent_states[0], StepState::ResolvedManually);
    let done = f.settle(&worker, &last, succeed(&json!(1))).await;
    assert_eq!(done.finished, [(task, TaskState::Complete)]);
}
