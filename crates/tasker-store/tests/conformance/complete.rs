//! Recording the ends of attempts: what is stored, what follows, and whose word counts.

use serde_json::json;
use tasker_model::annotation::Annotation;
use tasker_model::json::Json;
use tasker_model::outcome::{FailureKind, Settlement};
use tasker_model::step::StepState::{Complete, Error, InProgress, Pending};
use tasker_model::task::TaskState;
use tasker_model::transition::Reason;
use tasker_store::store::{ClaimBudget, ClaimedStep, Order, Recorded};

use crate::fixture::{
    Fixture, LEASE_MS, end, fail, last_of, moves_of, ms, positions, retry_in, source, succeed,
    task_moves,
};

pub(crate) async fn a_result_is_stored_with_its_time(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    let task = f.start(&one).await;
    let claimed = f.claim_one(&worker).await;
    f.clock.advance(ms(1_234));
    let progress = f
        .settle(&worker, &claimed, succeed(&json!({"total": 124.76})))
        .await;
    assert_eq!(progress.finished, [(task, TaskState::Complete)]);
    let detail = f.detail(task).await;
    let step = &detail.steps[0];
    assert_eq!(
        step.result.as_ref().map(Json::as_str),
        Some(r#"{"total":124.76}"#)
    );
    assert_eq!(
        (step.state, step.due_at, step.worker),
        (Complete, None, None)
    );
    assert_eq!((step.failure, step.finished_at), (None, Some(f.now())));
    let ended = last_of(&detail, 0);
    assert_eq!((ended.attempt, ended.worker), (Some(1), Some(worker.id)));
    assert_eq!(ended.duration_ms, Some(1_234.0));
    assert_eq!((&ended.failure, ended.retry_at), (&None, None));
    assert_eq!(detail.task.summary.finished_at, Some(f.now()));
}

pub(crate) async fn what_an_attempt_logged_is_kept_with_its_end(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    let task = f.start(&one).await;
    let ends = [Settlement::HandBack, retry_in(0), succeed(&json!(1))];
    for (number, settlement) in ends.into_iter().enumerate() {
        let claimed = f.claim_one(&worker).await;
        let mut completion = end(&claimed, settlement);
        completion.log = Some(format!("line {number}\n"));
        f.store
            .complete(worker.id, vec![completion], None)
            .await
            .unwrap();
    }
    let record = f.detail(task).await.transitions;
    let kept: Vec<String> = record.into_iter().filter_map(|change| change.log).collect();
    assert_eq!(kept, ["line 0\n", "line 1\n", "line 2\n"]);
}

pub(crate) async fn a_child_is_handed_over_in_the_same_commit(f: Fixture) {
    let chain = f
        .define("chain", &[("a", &[]), ("b", &["a"]), ("c", &["b"])])
        .await;
    let worker = f.worker(&[&chain]);
    let task = f.start(&chain).await;
    let mut step = f.claim_one(&worker).await;
    for position in 0..2 {
        f.clock.advance(ms(5));
        let result = json!(position);
        let mut progress = f
            .settle_and_claim(&worker, &step, succeed(&result), 3)
            .await;
        assert_eq!(positions(&progress), [position + 1]);
        step = progress.claimed.pop().unwrap();
        assert_eq!(
            step.parents.as_ref(),
            [(position, Some(Json::of(&position).unwrap()))]
        );
        assert_eq!((step.lease.attempt, step.attempt_limit), (1, 3));
        let record = f.step(task, position + 1).await;
        assert_eq!((record.state, record.worker), (InProgress, Some(worker.id)));
        assert_eq!((record.attempts, record.started_at), (1, Some(f.now())));
        assert_eq!(record.due_at, Some(f.now_and(LEASE_MS)));
        let other = f.worker(&[&chain]);
        assert!(f.claim(&other, 10).await.claimed.is_empty(), "it is taken");
    }
    let progress = f
        .settle_and_claim(&worker, &step, succeed(&json!(2)), 3)
        .await;
    assert_eq!(progress.finished, [(task, TaskState::Complete)]);
    let moves = [
        (None, Pending),
        (Some(Pending), InProgress),
        (Some(InProgress), Complete),
    ];
    assert_eq!(moves_of(&f.detail(task).await, 1), moves);
}

pub(crate) async fn without_a_slot_a_child_is_due(f: Fixture) {
    let steps: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b"])];
    let dag = f.define("dag", steps).await;
    let worker = f.worker(&[&dag]);
    let task = f.start(&dag).await;
    let root = f.claim_one(&worker).await;
    f.clock.advance(ms(5));
    let progress = f
        .settle_and_claim(&worker, &root, succeed(&json!(1)), 1)
        .await;
    assert_eq!(positions(&progress), [1]);
    assert!(progress.left_due, "there was no slot for the other child");
    let left = f.step(task, 2).await;
    assert_eq!((left.state, left.due_at), (Pending, Some(f.now())));
    assert_eq!((left.attempts, left.unfinished_parents), (0, 0));
    let waits = f.step(task, 3).await;
    assert_eq!(
        (waits.due_at, waits.unfinished_parents),
        (None, 1),
        "not its turn"
    );
    assert_eq!(f.claim_one(&worker).await.lease.step.position, 2);
}

pub(crate) async fn a_child_of_a_foreign_definition_is_not_handed_over(f: Fixture) {
    let chain = f.define("chain", &[("a", &[]), ("b", &["a"])]).await;
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&chain]);
    f.start(&chain).await;
    let step = f.claim_one(&worker).await;
    let elsewhere = f.worker(&[&one]);
    let budget = Some(ClaimBudget {
        worker: worker.id,
        ..elsewhere.slots(5)
    });
    let ends = vec![end(&step, succeed(&json!(1)))];
    let (recorded, progress) = f.store.complete(worker.id, ends, budget).await.unwrap();
    assert_eq!(recorded, [Recorded::Yes]);
    assert!(progress.claimed.is_empty());
    assert_eq!(f.claim_one(&worker).await.lease.step.position, 1);
}

pub(crate) async fn also_due_takes_older_work_too(f: Fixture) {
    let chain = f.define("chain", &[("a", &[]), ("b", &["a"])]).await;
    let worker = f.worker(&[&chain]);
    let first = f.start(&chain).await;
    let root = f.claim_one(&worker).await;
    let second = f.start(&chain).await;
    let only_children = f
        .settle_and_claim(&worker, &root, succeed(&json!(1)), 5)
        .await;
    assert_eq!(
        positions(&only_children),
        [1],
        "what was due before is left alone"
    );
    let budget = ClaimBudget {
        also_due: true,
        ..worker.slots(5)
    };
    let third = f.start(&chain).await;
    let ends = vec![end(&only_children.claimed[0], succeed(&json!(1)))];
    let (_, progress) = f
        .store
        .complete(worker.id, ends, Some(budget))
        .await
        .unwrap();
    assert_eq!(progress.finished, [(first, TaskState::Complete)]);
    let claimed: Vec<_> = progress
        .claimed
        .iter()
        .map(|c| c.lease.step.task_id)
        .collect();
    assert_eq!(claimed, [second, third]);
}

pub(crate) async fn what_nobody_looked_for_may_be_left(f: Fixture) {
    let chain = f.define("chain", &[("a", &[]), ("b", &["a"])]).await;
    let worker = f.worker(&[&chain]);
    f.start(&chain).await;
    let root = f.claim_one(&worker).await;
    f.start(&chain).await;
    let budget = ClaimBudget {
        also_due: true,
        ..worker.slots(1)
    };
    let ends = vec![end(&root, succeed(&json!(1)))];
    let (_, progress) = f
        .store
        .complete(worker.id, ends, Some(budget))
        .await
        .unwrap();
    assert_eq!(positions(&progress), [1], "the child took the only slot");
    assert!(
        progress.left_due,
        "the older step was not looked for: the worker must look again"
    );
}

pub(crate) async fn a_repeated_completion_changes_nothing(f: Fixture) {
    let chain = f.define("chain", &[("a", &[]), ("b", &["a"])]).await;
    let worker = f.worker(&[&chain]);
    f.start(&chain).await;
    let step = f.claim_one(&worker).await;
    f.settle(&worker, &step, succeed(&json!(1))).await;
    f.clock.advance(ms(1));
    f.refused(worker.id, step.lease, succeed(&json!(2))).await;
    f.refused(worker.id, step.lease, fail(FailureKind::Permanent))
        .await;
    f.refused(worker.id, step.lease, retry_in(1)).await;
    f.refused(worker.id, step.lease, Settlement::HandBack).await;
    // Twice within one batch: the first counts.
    let child = f.claim_one(&worker).await;
    let ends = vec![
        end(&child, succeed(&json!(1))),
        end(&child, succeed(&json!(2))),
    ];
    let (recorded, _) = f.store.complete(worker.id, ends, None).await.unwrap();
    assert_eq!(recorded, [Recorded::Yes, Recorded::LeaseLost]);
    let stored = f.step(child.lease.step.task_id, 1).await;
    assert_eq!(stored.result.unwrap().as_str(), "1");
}

pub(crate) async fn a_stale_attempt_changes_nothing(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    let task = f.start(&one).await;
    let first = f.claim_one(&worker).await;
    f.settle(&worker, &first, retry_in(0)).await;
    f.refused(worker.id, first.lease, succeed(&json!("between")))
        .await;
    let second = f.claim_one(&worker).await;
    // The same worker, the same step, but not this attempt; nor one that was never made.
    f.refused(worker.id, first.lease, succeed(&json!("late")))
        .await;
    f.refused(worker.id, first.lease, Settlement::HandBack)
        .await;
    let mut invented = second.lease;
    invented.attempt = 3;
    f.refused(worker.id, invented, succeed(&json!("early")))
        .await;
    f.settle(&worker, &second, succeed(&json!("right"))).await;
    assert_eq!(f.step(task, 0).await.result.unwrap().as_str(), r#""right""#);
}

pub(crate) async fn another_worker_changes_nothing(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let (holder, other) = (f.worker(&[&one]), f.worker(&[&one]));
    f.start(&one).await;
    let step = f.claim_one(&holder).await;
    f.refused(other.id, step.lease, succeed(&json!(1))).await;
    f.refused(other.id, step.lease, fail(FailureKind::Permanent))
        .await;
    f.refused(other.id, step.lease, Settlement::HandBack).await;
    f.settle(&holder, &step, succeed(&json!(1))).await;
}

pub(crate) async fn a_completion_after_the_lease_was_retaken_changes_nothing(f: Fixture) {
    let chain = f.define("chain", &[("a", &[]), ("b", &["a"])]).await;
    let (slow, quick) = (f.worker(&[&chain]), f.worker(&[&chain]));
    let task = f.start(&chain).await;
    let paused = f.claim_one(&slow).await;
    f.clock.advance(ms(LEASE_MS));
    let taken = f.claim_one(&quick).await;
    f.refused(slow.id, paused.lease, succeed(&json!("slow")))
        .await;
    f.settle(&quick, &taken, succeed(&json!("quick"))).await;
    f.refused(slow.id, paused.lease, succeed(&json!("slow")))
        .await;
    assert_eq!(f.step(task, 0).await.result.unwrap().as_str(), r#""quick""#);
    let child = f.claim_one(&quick).await;
    assert_eq!(
        child.parents.as_ref(),
        [(0, Some(Json::of("quick").unwrap()))]
    );
}

pub(crate) async fn an_expired_lease_that_nobody_took_still_counts(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    let task = f.start(&one).await;
    let step = f.claim_one(&worker).await;
    f.clock.advance(ms(10 * LEASE_MS));
    f.settle(&worker, &step, succeed(&json!(1))).await;
    assert_eq!(f.state(task).await, TaskState::Complete);
    assert_eq!(f.step(task, 0).await.lost_attempts, 0);
}

pub(crate) async fn one_lost_lease_does_not_spoil_the_batch(f: Fixture) {
    let wide = f
        .define("wide", &[("a", &[]), ("b", &[]), ("c", &[])])
        .await;
    let worker = f.worker(&[&wide]);
    let task = f.start(&wide).await;
    let steps = f.claim(&worker, 3).await.claimed;
    f.order(task, Order::CancelStep(1)).await.unwrap();
    let ends = steps
        .iter()
        .map(|step| end(step, succeed(&json!(1))))
        .collect();
    let (recorded, progress) = f.store.complete(worker.id, ends, None).await.unwrap();
    assert_eq!(
        recorded,
        [Recorded::Yes, Recorded::LeaseLost, Recorded::Yes]
    );
    assert_eq!(progress.finished, [(task, TaskState::Cancelled)]);
}

pub(crate) async fn a_retry_waits_for_its_delay(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    let task = f.start(&one).await;
    let claimed = f.claim_one(&worker).await;
    f.clock.advance(ms(10));
    let progress = f.settle(&worker, &claimed, retry_in(4_000)).await;
    assert!(progress.finished.is_empty());
    let detail = f.detail(task).await;
    let step = &detail.steps[0];
    assert_eq!((step.state, step.attempts), (Error, 1));
    assert_eq!((step.due_at, step.worker), (Some(f.now_and(4_000)), None));
    assert_eq!(step.failure, Some(FailureKind::Retryable));
    let failed = last_of(&detail, 0);
    assert_eq!(failed.retry_at, Some(f.now_and(4_000)));
    assert_eq!(failed.failure.as_ref().unwrap().message, "not yet");
    assert_eq!(failed.duration_ms, Some(10.0));
    assert_eq!(detail.task.summary.state, TaskState::InProgress);
    assert_eq!(
        detail.task.summary.steps.failed_steps, 0,
        "it will be tried again"
    );
    // A success afterwards takes the failure with it.
    f.clock.advance(ms(4_000));
    let again = f.claim_one(&worker).await;
    f.settle(&worker, &again, succeed(&json!(1))).await;
    let step = f.step(task, 0).await;
    assert_eq!(
        (step.state, step.failure, step.attempts),
        (Complete, None, 2)
    );
}

pub(crate) async fn a_permanent_failure_blocks_its_descendants_only(f: Fixture) {
    let steps: &[(&str, &[&str])] = &[
        ("start", &[]),
        ("bad", &["start"]),
        ("below", &["bad"]),
        ("good", &["start"]),
        ("better", &["good"]),
        ("merge", &["below", "better"]),
    ];
    let dag = f.define("dag", steps).await;
    let worker = f.worker(&[&dag]);
    let task = f.start(&dag).await;
    let root = f.claim_one(&worker).await;
    let both = f
        .settle_and_claim(&worker, &root, succeed(&json!(1)), 5)
        .await
        .claimed;
    let failed = f
        .settle_and_claim(&worker, &both[0], fail(FailureKind::Permanent), 5)
        .await;
    assert!(failed.claimed.is_empty() && failed.finished.is_empty());
    assert_eq!(
        f.state(task).await,
        TaskState::InProgress,
        "the other branch goes on"
    );
    let next = f
        .settle_and_claim(&worker, &both[1], succeed(&json!(1)), 5)
        .await;
    assert_eq!(positions(&next), [4]);
    let last = f
        .settle_and_claim(&worker, &next.claimed[0], succeed(&json!(1)), 5)
        .await;
    assert!(last.claimed.is_empty());
    assert_eq!(last.finished, [(task, TaskState::Error)]);
    let states = f.step_states(task).await;
    assert_eq!(
        states,
        [Complete, Error, Pending, Complete, Complete, Pending]
    );
    let steps = f.detail(task).await.steps;
    assert_eq!(
        (steps[2].unfinished_parents, steps[5].unfinished_parents),
        (1, 1)
    );
    assert_eq!(
        f.store
            .task(task)
            .await
            .unwrap()
            .unwrap()
            .summary
            .steps
            .failed_steps,
        1
    );
}

pub(crate) async fn a_task_fails_only_when_nothing_is_open(f: Fixture) {
    let wide = f
        .define("wide", &[("a", &[]), ("b", &[]), ("c", &[])])
        .await;
    let worker = f.worker(&[&wide]);
    let task = f.start(&wide).await;
    let steps = f.claim(&worker, 2).await.claimed;
    f.settle(&worker, &steps[0], fail(FailureKind::Permanent))
        .await;
    assert_eq!(
        f.state(task).await,
        TaskState::InProgress,
        "one runs, one is due"
    );
    f.settle(&worker, &steps[1], retry_in(500)).await;
    let third = f.claim_one(&worker).await;
    f.settle(&worker, &third, succeed(&json!(1))).await;
    assert_eq!(
        f.state(task).await,
        TaskState::InProgress,
        "one waits for its retry"
    );
    f.clock.advance(ms(500));
    let again = f.claim_one(&worker).await;
    let progress = f
        .settle(&worker, &again, fail(FailureKind::Permanent))
        .await;
    assert_eq!(progress.finished, [(task, TaskState::Error)]);
    let detail = f.detail(task).await;
    assert_eq!(detail.task.summary.finished_at, Some(f.now()));
    let last = (Some(TaskState::InProgress), TaskState::Error);
    assert_eq!(task_moves(&detail).last(), Some(&last));
    assert_eq!(detail.task.summary.steps.failed_steps, 2);
}

/// The worker knows the limit of the time of its claim; what counts is the limit as stored.
pub(crate) async fn a_limit_raised_during_the_last_attempt_counts(f: Fixture) {
    let mut definition = source("one", &[("a", &[])]);
    definition.steps[0].retry.limit = 1;
    let one = f.register(definition).await;
    let worker = f.worker(&[&one]);
    let task = f.start(&one).await;
    let last = f.claim_one(&worker).await;
    let raise = Order::RaiseLimit {
        position: 0,
        attempt_limit: 3,
    };
    f.order(task, raise).await.unwrap();
    f.settle(&worker, &last, fail(FailureKind::Retryable)).await;
    let step = f.step(task, 0).await;
    assert!(step.due_at.is_some(), "two more attempts are allowed");
    assert_eq!(f.state(task).await, TaskState::InProgress);
}

pub(crate) async fn a_hand_back_does_not_count_the_attempt(f: Fixture) {
    let mut definition = source("one", &[("a", &[])]);
    definition.steps[0].retry.limit = 1;
    let one = f.register(definition).await;
    let worker = f.worker(&[&one]);
    let task = f.start(&one).await;
    for _ in 0..5 {
        let claimed = f.claim_one(&worker).await;
        assert_eq!(claimed.lease.attempt, 1);
        f.clock.advance(ms(10));
        let progress = f.settle(&worker, &claimed, Settlement::HandBack).await;
        assert!(progress.left_due && progress.finished.is_empty());
        let detail = f.detail(task).await;
        let step = &detail.steps[0];
        assert_eq!(
            (step.state, step.attempts, step.lost_attempts),
            (Pending, 0, 0)
        );
        assert_eq!((step.due_at, step.worker), (Some(f.now()), None));
        let back = last_of(&detail, 0);
        assert_eq!(
            (back.reason, back.worker),
            (Some(Reason::HandedBack), Some(worker.id))
        );
        assert_eq!(detail.task.summary.state, TaskState::InProgress);
        f.refused(worker.id, claimed.lease, succeed(&json!(1)))
            .await;
    }
    f.run_all(&worker).await;
    assert_eq!(f.state(task).await, TaskState::Complete);
}

pub(crate) async fn siblings_in_one_batch_make_a_child_ready_once(f: Fixture) {
    let steps: &[(&str, &[&str])] = &[("a", &[]), ("b", &[]), ("c", &[]), ("d", &["a", "b", "c"])];
    let join = f.define("join", steps).await;
    let worker = f.worker(&[&join]);
    let task = f.start(&join).await;
    let roots = f.claim(&worker, 3).await.claimed;
    let ends = roots
        .iter()
        .map(|step| end(step, succeed(&json!(1))))
        .collect();
    let done = f.store.complete(worker.id, ends, Some(worker.slots(3)));
    let (recorded, progress) = done.await.unwrap();
    assert_eq!(recorded, [Recorded::Yes; 3]);
    assert_eq!(positions(&progress), [3]);
    assert_eq!(progress.claimed[0].parents.len(), 3);
    let child = f.step(task, 3).await;
    assert_eq!(
        (child.state, child.attempts, child.unfinished_parents),
        (InProgress, 1, 0)
    );
    let moves = [(None, Pending), (Some(Pending), InProgress)];
    assert_eq!(moves_of(&f.detail(task).await, 3), moves);
}

pub(crate) async fn siblings_in_separate_batches_make_a_child_ready_once(f: Fixture) {
    let steps: &[(&str, &[&str])] = &[("a", &[]), ("b", &[]), ("c", &[]), ("d", &["a", "b", "c"])];
    let join = f.define("join", steps).await;
    let (one, two) = (f.worker(&[&join]), f.worker(&[&join]));
    let task = f.start(&join).await;
    let first = f.claim(&one, 2).await.claimed;
    let other = f.claim_one(&two).await;
    for (step, left) in first.iter().zip([2, 1]) {
        let progress = f.settle_and_claim(&one, step, succeed(&json!(1)), 5).await;
        assert!(progress.claimed.is_empty());
        let child = f.step(task, 3).await;
        assert_eq!((child.unfinished_parents, child.due_at), (left, None));
    }
    let progress = f
        .settle_and_claim(&two, &other, succeed(&json!(1)), 5)
        .await;
    assert_eq!(positions(&progress), [3], "whoever is last takes it");
    assert!(f.claim(&one, 5).await.claimed.is_empty());
}

pub(crate) async fn a_diamond_runs_through(f: Fixture) {
    let steps: &[(&str, &[&str])] = &[
        ("top", &[]),
        ("left", &["top"]),
        ("right", &["top"]),
        ("end", &["left", "right"]),
    ];
    let diamond = f.define("diamond", steps).await;
    let worker = f.worker(&[&diamond]);
    let task = f.start(&diamond).await;
    let top = f.claim_one(&worker).await;
    let sides = f
        .settle_and_claim(&worker, &top, succeed(&json!(1)), 5)
        .await;
    assert_eq!(positions(&sides), [1, 2]);
    let [left, right] = &sides.claimed[..] else {
        panic!("two sides");
    };
    let none = f
        .settle_and_claim(&worker, right, succeed(&json!("r")), 5)
        .await;
    assert!(none.claimed.is_empty());
    let last = f
        .settle_and_claim(&worker, left, succeed(&json!("l")), 5)
        .await;
    assert_eq!(positions(&last), [3]);
    let results: Vec<_> = last.claimed[0].parents.iter().cloned().collect();
    let result = |text: &str| Some(Json::of(text).unwrap());
    assert_eq!(results, [(1, result("l")), (2, result("r"))]);
    let finished = f
        .settle(&worker, &last.claimed[0], succeed(&json!(1)))
        .await
        .finished;
    assert_eq!(finished, [(task, TaskState::Complete)]);
    let expected = [
        (None, TaskState::Pending),
        (Some(TaskState::Pending), TaskState::InProgress),
        (Some(TaskState::InProgress), TaskState::Complete),
    ];
    assert_eq!(task_moves(&f.detail(task).await), expected);
}

pub(crate) async fn tasks_of_one_batch_finish_together(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let wide = f.define("wide", &[("a", &[]), ("b", &[])]).await;
    let worker = f.worker(&[&one, &wide]);
    let good = f.start(&one).await;
    let bad = f.start(&one).await;
    let open = f.start(&wide).await;
    let steps = f.claim(&worker, 10).await.claimed;
    let ends = steps
        .iter()
        .filter(|step| step.lease.step.position == 0)
        .map(|step| {
            let failing = step.lease.step.task_id == bad;
            end(
                step,
                if failing {
                    fail(FailureKind::Permanent)
                } else {
                    succeed(&json!(1))
                },
            )
        });
    let (_, progress) = f
        .store
        .complete(worker.id, ends.collect(), None)
        .await
        .unwrap();
    let mut finished = progress.finished;
    finished.sort_unstable();
    assert_eq!(
        finished,
        [(good, TaskState::Complete), (bad, TaskState::Error)]
    );
    assert_eq!(f.state(open).await, TaskState::InProgress);
    let (recorded, nothing) = f.store.complete(worker.id, vec![], None).await.unwrap();
    assert!(recorded.is_empty() && nothing.finished.is_empty());
}

pub(crate) async fn what_is_noted_comes_with_the_result_or_not_at_all(f: Fixture) {
    let defined = f.define("noted", &[("a", &[]), ("b", &["a"])]).await;
    let worker = f.worker(&[&defined]);
    let task = f.start(&defined).await;
    let noted = |claimed: &ClaimedStep, settlement, words: &[&str]| {
        let mut completion = end(claimed, settlement);
        let note = |word: &&str| Annotation::new("word", &json!({"word": word})).unwrap();
        completion.annotations = words.iter().map(note).collect();
        vec![completion]
    };
    let first = f.claim_one(&worker).await;
    let failed = noted(&first, retry_in(0), &["lost"]);
    f.store.complete(worker.id, failed, None).await.unwrap();
    let second = f.claim_one(&worker).await;
    let stale = noted(&first, succeed(&json!(1)), &["stale"]);
    f.store.complete(worker.id, stale, None).await.unwrap();
    let done = noted(&second, succeed(&json!(1)), &["one", "\0two"]);
    f.store.complete(worker.id, done, None).await.unwrap();
    let third = f.claim_one(&worker).await;
    let done = noted(&third, succeed(&json!(1)), &["three"]);
    f.store.complete(worker.id, done, None).await.unwrap();
    let found = f.detail(task).await.annotations;
    let shown: Vec<_> = found
        .iter()
        .map(|note| {
            (
                note.step.as_str(),
                note.annotation.annotation.as_str(),
                note.at,
            )
        })
        .collect();
    let expected = [
        ("a", r#"{"word":"one"}"#, f.now()),
        ("a", r#"{"word":"\u0000two"}"#, f.now()),
        ("b", r#"{"word":"three"}"#, f.now()),
    ];
    assert_eq!(shown, expected);
}
