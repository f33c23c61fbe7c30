//! What a person orders: what each order does, what it refuses, and what is remembered of it.

use serde_json::json;
use tasker_model::id::{Position, TaskId};
use tasker_model::json::Json;
use tasker_model::outcome::FailureKind;
use tasker_model::step::StepState::{
    Cancelled, Complete, Error, InProgress, Pending, ResolvedManually, Skipped,
};
use tasker_model::task::TaskState;
use tasker_model::transition::Reason;
use tasker_store::StoreError;
use tasker_store::store::{ClaimedStep, Order};

use crate::fixture::{
    Defined, Fixture, LEASE_MS, Worker, fail, last_of, moves_of, ms, positions, retry_in, source,
    succeed, task_moves, text,
};

/// A task with a step in each situation: 0 complete, 1 failed for good, 2 waits for its retry,
/// 3 runs, 4 is due, 5 waits for 3, 6 waits for 5.
async fn mixed(f: &Fixture) -> (TaskId, Worker, ClaimedStep) {
    let steps: &[(&str, &[&str])] = &[
        ("done", &[]),
        ("failed", &[]),
        ("backoff", &[]),
        ("running", &[]),
        ("due", &["done"]),
        ("waiting", &["running"]),
        ("last", &["waiting"]),
    ];
    let mixed = f.define("mixed", steps).await;
    let worker = f.worker(&[&mixed]);
    let task = f.start(&mixed).await;
    let mut roots = f.claim(&worker, 4).await.claimed;
    f.settle(&worker, &roots[0], succeed(&json!(1))).await;
    f.settle(&worker, &roots[1], fail(FailureKind::Permanent))
        .await;
    f.settle(&worker, &roots[2], retry_in(60_000)).await;
    let states = f.step_states(task).await;
    assert_eq!(
        states,
        [
            Complete, Error, Error, InProgress, Pending, Pending, Pending
        ]
    );
    (task, worker, roots.remove(3))
}

/// A task whose only step has failed for good, with a child that waits.
async fn failed(f: &Fixture) -> (TaskId, Worker) {
    let chain = f.define("chain", &[("a", &[]), ("b", &["a"])]).await;
    let worker = f.worker(&[&chain]);
    let task = f.start(&chain).await;
    let step = f.claim_one(&worker).await;
    f.settle(&worker, &step, fail(FailureKind::Permanent)).await;
    assert_eq!(f.state(task).await, TaskState::Error);
    (task, worker)
}

const REOPENED: [(Option<TaskState>, TaskState); 3] = [
    (Some(TaskState::InProgress), TaskState::Error),
    (Some(TaskState::Error), TaskState::Pending),
    (Some(TaskState::Pending), TaskState::InProgress),
];

const fn retry(position: Position, attempts: u32) -> Order {
    Order::RetryStep { position, attempts }
}

const fn resolve(position: Position, result: Option<Json>) -> Order {
    Order::ResolveStep { position, result }
}

const fn raise(position: Position, attempt_limit: u32) -> Order {
    Order::RaiseLimit {
        position,
        attempt_limit,
    }
}

pub(crate) async fn cancelling_a_task_stops_all_of_it(f: Fixture) {
    let (task, worker, running) = mixed(&f).await;
    f.clock.advance(ms(1));
    assert_eq!(
        f.order(task, Order::CancelTask).await.unwrap(),
        TaskState::Cancelled
    );
    let detail = f.detail(task).await;
    let states: Vec<_> = detail.steps.iter().map(|step| step.state).collect();
    let stopped = [
        Complete, Error, Cancelled, Cancelled, Cancelled, Cancelled, Cancelled,
    ];
    assert_eq!(states, stopped, "what has ended stays as it ended");
    assert!(
        detail
            .steps
            .iter()
            .all(|step| step.due_at.is_none() && step.worker.is_none())
    );
    assert_eq!(detail.task.summary.finished_at, Some(f.now()));
    let ended = last_of(&detail, 3);
    assert_eq!(
        (ended.reason, ended.worker),
        (Some(Reason::TaskCancelled), Some(worker.id))
    );
    assert_eq!(ended.actor.as_deref(), Some("ann"));
    let detour = [(Some(Error), Pending), (Some(Pending), Cancelled)];
    assert_eq!(
        moves_of(&detail, 2)[3..],
        detour,
        "a backoff has no straight way"
    );
    f.refused(worker.id, running.lease, succeed(&json!(1)))
        .await;
    let lost = f
        .store
        .heartbeat(worker.id, vec![running.lease], LEASE_MS)
        .await;
    assert_eq!(lost.unwrap(), [running.lease], "its worker is told");
    f.clock.advance(ms(1_000_000));
    let later = f.claim(&worker, 10).await;
    assert!(later.claimed.is_empty() && later.next_due.is_none());
}

pub(crate) async fn a_task_can_be_cancelled_before_it_starts_and_after_it_is_complete(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    let complete = f.start(&one).await;
    f.run_all(&worker).await;
    f.order(complete, Order::CancelTask).await.unwrap();
    assert_eq!(f.state(complete).await, TaskState::Cancelled);
    assert_eq!(
        f.step_states(complete).await,
        [Complete],
        "what is done is done"
    );
    let fresh = f.start(&one).await;
    f.order(fresh, Order::CancelTask).await.unwrap();
    let straight = [
        (None, TaskState::Pending),
        (Some(TaskState::Pending), TaskState::Cancelled),
    ];
    assert_eq!(task_moves(&f.detail(fresh).await), straight);
    assert!(f.claim(&worker, 10).await.claimed.is_empty());
}

pub(crate) async fn a_failed_task_can_be_resolved_and_then_cancelled(f: Fixture) {
    let (task, _) = failed(&f).await;
    let resolved = f.order(task, Order::ResolveTask).await.unwrap();
    assert_eq!(resolved, TaskState::ResolvedManually);
    assert_eq!(
        f.step_states(task).await,
        [Error, Pending],
        "its steps stay as they are"
    );
    let detail = f.detail(task).await;
    let last = detail.transitions.last().unwrap();
    assert_eq!(
        (last.actor.as_deref(), last.reason),
        (Some("ann"), Some(Reason::Operator))
    );
    f.audit().await;
    let closed = "a task in state `resolved_manually` cannot retry; it can cancel";
    f.order_refused(task, Order::RetryTask, closed).await;
    f.order_refused(task, Order::SkipStep(0), closed).await;
    f.order(task, Order::CancelTask).await.unwrap();
    assert_eq!(f.step_states(task).await, [Error, Cancelled]);
}

pub(crate) async fn cancelling_a_step_cancels_its_descendants(f: Fixture) {
    let (task, worker, running) = mixed(&f).await;
    let state = f.order(task, Order::CancelStep(3)).await.unwrap();
    assert_eq!(state, TaskState::InProgress, "the rest goes on");
    let states = f.step_states(task).await;
    assert_eq!(
        states,
        [
            Complete, Error, Error, Cancelled, Pending, Cancelled, Cancelled
        ]
    );
    f.refused(worker.id, running.lease, succeed(&json!(1)))
        .await;
    let detail = f.detail(task).await;
    let reasons = [3, 5, 6].map(|position| last_of(&detail, position).reason);
    let [ordered, below] = [Some(Reason::Operator), Some(Reason::ParentCancelled)];
    assert_eq!(reasons, [ordered, below, below]);
    assert_eq!(last_of(&detail, 6).actor.as_deref(), Some("ann"));
    // The roll-up: a failure weighs more than a cancellation.
    f.clock.advance(ms(60_000));
    f.run_all(&worker).await;
    assert_eq!(f.state(task).await, TaskState::Error);
}

pub(crate) async fn a_step_in_its_backoff_can_be_cancelled(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    let task = f.start(&one).await;
    let step = f.claim_one(&worker).await;
    f.settle(&worker, &step, retry_in(1_000)).await;
    let state = f.order(task, Order::CancelStep(0)).await.unwrap();
    assert_eq!(
        state,
        TaskState::Cancelled,
        "nothing else is open, nothing has failed for good"
    );
    let moves = moves_of(&f.detail(task).await, 0);
    assert_eq!(
        moves[3..],
        [(Some(Error), Pending), (Some(Pending), Cancelled)]
    );
    f.clock.advance(ms(1_000));
    assert!(f.claim(&worker, 10).await.claimed.is_empty());
}

pub(crate) async fn cancelling_all_roots_of_a_new_task_cancels_it(f: Fixture) {
    let join = f
        .define("join", &[("a", &[]), ("b", &[]), ("c", &["a", "b"])])
        .await;
    let task = f.start(&join).await;
    assert_eq!(
        f.order(task, Order::CancelStep(0)).await.unwrap(),
        TaskState::Pending
    );
    assert_eq!(f.step_states(task).await, [Cancelled, Pending, Cancelled]);
    assert_eq!(
        f.order(task, Order::CancelStep(1)).await.unwrap(),
        TaskState::Cancelled
    );
    let summary = f.store.task(task).await.unwrap().unwrap().summary;
    assert_eq!(
        (summary.steps.cancelled_steps, summary.steps.open_steps),
        (3, 0)
    );
}

pub(crate) async fn retrying_a_step_reopens_its_task(f: Fixture) {
    let (task, worker) = failed(&f).await;
    f.clock.advance(ms(7));
    assert_eq!(
        f.order(task, retry(0, 1)).await.unwrap(),
        TaskState::Pending
    );
    let detail = f.detail(task).await;
    assert_eq!(detail.task.summary.finished_at, None);
    let step = &detail.steps[0];
    assert_eq!(
        (step.state, step.due_at, step.failure),
        (Pending, Some(f.now()), None)
    );
    assert_eq!(
        (step.attempts, step.attempt_limit),
        (1, 3),
        "two were left anyway"
    );
    let again = last_of(&detail, 0);
    assert_eq!(
        (again.reason, again.attempt),
        (Some(Reason::Operator), Some(2))
    );
    assert_eq!(again.actor.as_deref(), Some("ann"));
    assert!(f.claim(&f.worker(&[]), 10).await.claimed.is_empty());
    f.run_all(&worker).await;
    let detail = f.detail(task).await;
    assert_eq!(detail.task.summary.state, TaskState::Complete);
    assert_eq!(detail.steps[0].attempts, 2);
    let moves = task_moves(&detail);
    assert_eq!(moves[2..5], REOPENED);
    assert_eq!(moves.len(), 6, "and then it was complete");
}

pub(crate) async fn a_retry_leaves_as_many_attempts_as_asked(f: Fixture) {
    let mut definition = source("one", &[("a", &[])]);
    definition.steps[0].retry.limit = 1;
    let one = f.register(definition).await;
    let worker = f.worker(&[&one]);
    let task = f.start(&one).await;
    for (asked, attempts, limit) in [(2, 1, 3), (0, 2, 3), (1, 3, 4), (u32::MAX, 4, u32::MAX)] {
        let step = f.claim_one(&worker).await;
        assert_eq!(step.lease.attempt, attempts);
        f.settle(&worker, &step, fail(FailureKind::Permanent)).await;
        f.order(task, retry(0, asked)).await.unwrap();
        assert_eq!(f.step(task, 0).await.attempt_limit, limit, "{asked} asked");
    }
}

pub(crate) async fn a_retry_ends_a_backoff(f: Fixture) {
    let (task, worker, _) = mixed(&f).await;
    assert_eq!(
        f.order(task, retry(2, 1)).await.unwrap(),
        TaskState::InProgress
    );
    let step = f.step(task, 2).await;
    assert_eq!((step.state, step.due_at), (Pending, Some(f.now())));
    let claimed = f.claim(&worker, 10).await;
    let mut given = positions(&claimed);
    given.sort_unstable();
    assert_eq!(given, [2, 4]);
}

pub(crate) async fn retrying_a_task_retries_every_failed_step(f: Fixture) {
    let steps: &[(&str, &[&str])] = &[("a", &[]), ("b", &[]), ("c", &[]), ("d", &["a"])];
    let mut definition = source("wide", steps);
    definition.steps[1].retry.limit = 1;
    let wide = f.register(definition).await;
    let worker = f.worker(&[&wide]);
    let task = f.start(&wide).await;
    let roots = f.claim(&worker, 10).await.claimed;
    f.settle(&worker, &roots[0], fail(FailureKind::Permanent))
        .await;
    f.settle(&worker, &roots[1], fail(FailureKind::Retryable))
        .await;
    f.settle(&worker, &roots[2], succeed(&json!(1))).await;
    assert_eq!(
        f.order(task, Order::RetryTask).await.unwrap(),
        TaskState::Pending
    );
    assert_eq!(
        f.step_states(task).await,
        [Pending, Pending, Complete, Pending]
    );
    assert_eq!(
        f.step(task, 1).await.attempt_limit,
        2,
        "one more than were made"
    );
    f.run_all(&worker).await;
    assert_eq!(f.state(task).await, TaskState::Complete);
    assert_eq!(
        f.step(task, 2).await.attempts,
        1,
        "what was complete did not run again"
    );
}

pub(crate) async fn a_task_that_fails_again_is_failed_again(f: Fixture) {
    let wide = f.define("wide", &[("a", &[]), ("b", &[])]).await;
    let worker = f.worker(&[&wide]);
    let task = f.start(&wide).await;
    for step in f.claim(&worker, 2).await.claimed {
        f.settle(&worker, &step, fail(FailureKind::Permanent)).await;
    }
    assert_eq!(
        f.order(task, retry(0, 1)).await.unwrap(),
        TaskState::Pending
    );
    let step = f.claim_one(&worker).await;
    f.clock.advance(ms(3));
    let progress = f.settle(&worker, &step, succeed(&json!(1))).await;
    assert_eq!(
        progress.finished,
        [(task, TaskState::Error)],
        "the other one is still failed"
    );
    let summary = f.store.task(task).await.unwrap().unwrap().summary;
    assert_eq!(summary.finished_at, Some(f.now()));
}

pub(crate) async fn a_resolved_result_is_what_children_read(f: Fixture) {
    let (task, worker) = failed(&f).await;
    let by_hand = text(&json!({"paid": "in cash"}));
    let order = resolve(0, Some(by_hand.clone()));
    assert_eq!(f.order(task, order).await.unwrap(), TaskState::Pending);
    let step = f.step(task, 0).await;
    assert_eq!((step.state, step.failure), (ResolvedManually, None));
    assert_eq!(step.result, Some(by_hand.clone()));
    let child = f.claim_one(&worker).await;
    assert_eq!(child.parents.as_ref(), [(0, Some(by_hand))]);
    f.settle(&worker, &child, succeed(&json!(1))).await;
    let detail = f.detail(task).await;
    assert_eq!(detail.task.summary.state, TaskState::Complete);
    assert_eq!(
        last_of(&detail, 0).description(),
        "manually resolved by ann"
    );
    assert_eq!(task_moves(&detail)[2..5], REOPENED);
}

pub(crate) async fn resolving_the_last_failed_step_completes_the_task(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    let task = f.start(&one).await;
    let step = f.claim_one(&worker).await;
    f.settle(&worker, &step, fail(FailureKind::Permanent)).await;
    assert_eq!(
        f.order(task, resolve(0, None)).await.unwrap(),
        TaskState::Complete
    );
    let detail = f.detail(task).await;
    assert_eq!(detail.steps[0].result, None);
    let moves = task_moves(&detail);
    assert_eq!(moves[2..5], REOPENED);
    assert_eq!(
        moves[5..],
        [(Some(TaskState::InProgress), TaskState::Complete)]
    );
}

pub(crate) async fn a_step_can_be_resolved_before_its_turn(f: Fixture) {
    let chain = f
        .define("chain", &[("a", &[]), ("b", &["a"]), ("c", &["b"])])
        .await;
    let worker = f.worker(&[&chain]);
    let task = f.start(&chain).await;
    let early = resolve(1, Some(text(&json!("early"))));
    assert_eq!(f.order(task, early).await.unwrap(), TaskState::Pending);
    let claimed = f.claim(&worker, 10).await;
    assert_eq!(
        positions(&claimed),
        [0, 2],
        "its child need not wait for its parent"
    );
    let after = f
        .settle_and_claim(&worker, &claimed.claimed[0], succeed(&json!(1)), 5)
        .await;
    assert!(after.claimed.is_empty(), "it does not come back to life");
    assert_eq!(
        f.step_states(task).await,
        [Complete, ResolvedManually, InProgress]
    );
    f.settle(&worker, &claimed.claimed[1], succeed(&json!(1)))
        .await;
    assert_eq!(f.state(task).await, TaskState::Complete);
}

pub(crate) async fn a_new_task_can_be_resolved_step_by_step(f: Fixture) {
    let chain = f.define("chain", &[("a", &[]), ("b", &["a"])]).await;
    let task = f.start(&chain).await;
    assert_eq!(
        f.order(task, resolve(1, None)).await.unwrap(),
        TaskState::Pending
    );
    assert_eq!(
        f.order(task, Order::SkipStep(0)).await.unwrap(),
        TaskState::Complete
    );
    assert_eq!(f.step_states(task).await, [Skipped, ResolvedManually]);
}

pub(crate) async fn skipping_lets_children_go_on(f: Fixture) {
    let (task, worker) = failed(&f).await;
    assert_eq!(
        f.order(task, Order::SkipStep(0)).await.unwrap(),
        TaskState::Pending
    );
    let detail = f.detail(task).await;
    let moves = moves_of(&detail, 0);
    assert_eq!(
        moves[3..],
        [(Some(Error), Pending), (Some(Pending), Skipped)]
    );
    assert_eq!(
        (detail.steps[0].failure, detail.steps[0].due_at),
        (None, None)
    );
    let child = f.claim_one(&worker).await;
    assert_eq!(
        child.parents.as_ref(),
        [(0, None)],
        "a skipped step has no result"
    );
    f.settle(&worker, &child, succeed(&json!(1))).await;
    assert_eq!(f.state(task).await, TaskState::Complete);
}

pub(crate) async fn a_due_step_that_is_skipped_does_not_run(f: Fixture) {
    let (task, worker, _) = mixed(&f).await;
    f.order(task, Order::SkipStep(4)).await.unwrap();
    f.order(task, Order::SkipStep(2)).await.unwrap();
    assert!(f.claim(&worker, 10).await.claimed.is_empty());
    let states = f.step_states(task).await;
    assert_eq!(
        states,
        [
            Complete, Error, Skipped, InProgress, Skipped, Pending, Pending
        ]
    );
}

/// What is left then is done or cancelled: by the roll-up, the task is cancelled.
pub(crate) async fn skipping_the_only_failure_beside_a_cancelled_step_cancels_the_task(f: Fixture) {
    let wide = f.define("wide", &[("a", &[]), ("b", &[])]).await;
    let worker = f.worker(&[&wide]);
    let task = f.start(&wide).await;
    f.order(task, Order::CancelStep(1)).await.unwrap();
    let step = f.claim_one(&worker).await;
    f.settle(&worker, &step, fail(FailureKind::Permanent)).await;
    assert_eq!(f.state(task).await, TaskState::Error);
    assert_eq!(
        f.order(task, Order::SkipStep(0)).await.unwrap(),
        TaskState::Cancelled
    );
}

async fn exhausted(f: &Fixture, kind: FailureKind) -> (TaskId, Worker) {
    let mut definition = source("one", &[("a", &[])]);
    definition.steps[0].retry.limit = 1;
    let one = f.register(definition).await;
    let worker = f.worker(&[&one]);
    let task = f.start(&one).await;
    let step = f.claim_one(&worker).await;
    if kind == FailureKind::Lost {
        f.clock.advance(ms(LEASE_MS));
        assert!(f.claim(&worker, 1).await.claimed.is_empty());
    } else {
        f.settle(&worker, &step, fail(kind)).await;
    }
    let step = f.step(task, 0).await;
    assert_eq!((step.state, step.failure), (Error, Some(kind)));
    (task, worker)
}

pub(crate) async fn a_raised_limit_sends_an_exhausted_step_round_again(f: Fixture) {
    let kinds = [
        FailureKind::Retryable,
        FailureKind::TimedOut,
        FailureKind::Lost,
    ];
    for kind in kinds {
        let (task, worker) = exhausted(&f, kind).await;
        assert_eq!(
            f.order(task, raise(0, 2)).await.unwrap(),
            TaskState::Pending,
            "{kind}"
        );
        let step = f.step(task, 0).await;
        assert_eq!((step.state, step.attempt_limit), (Pending, 2));
        assert_eq!(step.due_at, Some(f.now()));
        assert_eq!(f.claim_one(&worker).await.lease.attempt, 2);
        f.order(task, Order::CancelTask).await.unwrap();
    }
}

pub(crate) async fn a_raised_limit_does_not_help_a_permanent_failure(f: Fixture) {
    let (task, worker) = exhausted(&f, FailureKind::Permanent).await;
    assert_eq!(f.order(task, raise(0, 5)).await.unwrap(), TaskState::Error);
    let step = f.step(task, 0).await;
    assert_eq!(
        (step.state, step.attempt_limit, step.due_at),
        (Error, 5, None)
    );
    assert!(f.claim(&worker, 10).await.claimed.is_empty());
    f.order(task, retry(0, 1)).await.unwrap();
    assert_eq!(f.step(task, 0).await.attempt_limit, 5);
}

pub(crate) async fn a_limit_can_only_be_raised(f: Fixture) {
    let (task, _, _) = mixed(&f).await;
    let refusal = "the step may make 3 attempts already; a raised limit must be higher than that";
    for limit in [0, 2, 3] {
        f.order_refused(task, raise(2, limit), refusal).await;
    }
    let due = f.step(task, 2).await.due_at;
    assert_eq!(
        f.order(task, raise(2, 4)).await.unwrap(),
        TaskState::InProgress
    );
    let step = f.step(task, 2).await;
    assert_eq!(
        (step.attempt_limit, step.state, step.due_at),
        (4, Error, due)
    );
    f.order(task, raise(3, 9)).await.unwrap();
    assert_eq!(f.step(task, 3).await.state, InProgress, "what runs goes on");
    f.order(task, raise(6, 9)).await.unwrap();
    assert_eq!(f.step(task, 6).await.due_at, None, "what waits still waits");
}

pub(crate) async fn a_quarantined_step_starts_afresh_when_it_is_retried(f: Fixture) {
    let mut definition = source("many", &[("a", &[])]);
    definition.steps[0].retry.limit = 4;
    let many = f.register(definition).await;
    let worker = f.worker(&[&many]);
    let task = f.start(&many).await;
    for _ in 0..3 {
        f.claim_one(&worker).await;
        f.clock.advance(ms(LEASE_MS));
    }
    assert!(f.claim(&worker, 10).await.claimed.is_empty());
    assert_eq!(
        f.order(task, raise(0, 9)).await.unwrap(),
        TaskState::Error,
        "not by a limit"
    );
    f.order(task, retry(0, 1)).await.unwrap();
    assert_eq!(f.step(task, 0).await.lost_attempts, 0);
    f.claim_one(&worker).await;
    f.clock.advance(ms(LEASE_MS));
    assert_eq!(
        f.claim_one(&worker).await.lease.attempt,
        5,
        "one loss is no quarantine"
    );
}

pub(crate) async fn a_reopened_task_has_no_deadline(f: Fixture) {
    let mut definition = source("late", &[("a", &[]), ("b", &["a"])]);
    definition.deadline_ms = Some(1_000);
    let late = f.register(definition).await;
    let worker = f.worker(&[&late]);
    let overrun = f.start(&late).await;
    let failed = f.start(&late).await;
    let steps = f.claim(&worker, 10).await.claimed;
    f.settle(&worker, &steps[1], fail(FailureKind::Permanent))
        .await;
    assert_eq!(f.state(failed).await, TaskState::Error);
    f.clock.advance(ms(1_000));
    f.claim(&worker, 10).await;
    assert_eq!(f.state(overrun).await, TaskState::Error);
    for task in [overrun, failed] {
        f.order(task, Order::RetryTask).await.unwrap();
        assert_eq!(f.store.task(task).await.unwrap().unwrap().deadline_at, None);
    }
    f.clock.advance(ms(1_000_000));
    f.run_all(&worker).await;
    for task in [overrun, failed] {
        assert_eq!(f.state(task).await, TaskState::Complete);
    }
}

pub(crate) async fn illegal_orders_for_tasks_name_state_and_possibilities(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    let complete = f.start(&one).await;
    f.run_all(&worker).await;
    let running = f.start(&one).await;
    f.claim_one(&worker).await;
    let pending = f.start(&one).await;
    let (error, _) = failed(&f).await;
    let cancelled = f.start(&one).await;
    f.order(cancelled, Order::CancelTask).await.unwrap();
    let cases = [
        (
            pending,
            Order::RetryTask,
            "pending` cannot retry; it can start, fail, cancel",
        ),
        (
            pending,
            Order::ResolveTask,
            "pending` cannot resolve; it can start, fail, cancel",
        ),
        (
            running,
            Order::RetryTask,
            "in_progress` cannot retry; it can complete, fail, cancel, park",
        ),
        (
            running,
            Order::ResolveTask,
            "in_progress` cannot resolve; it can complete, fail, cancel, park",
        ),
        (
            complete,
            Order::RetryTask,
            "complete` cannot retry; it can cancel",
        ),
        (
            complete,
            Order::ResolveTask,
            "complete` cannot resolve; it can cancel",
        ),
        (
            error,
            Order::CancelTask,
            "error` cannot cancel; it can retry, resolve",
        ),
        (
            cancelled,
            Order::CancelTask,
            "cancelled` cannot cancel; it can do nothing more",
        ),
        (
            cancelled,
            Order::RetryTask,
            "cancelled` cannot retry; it can do nothing more",
        ),
        (
            cancelled,
            Order::ResolveTask,
            "cancelled` cannot resolve; it can do nothing more",
        ),
    ];
    for (task, order, text) in cases {
        f.order_refused(task, order, &format!("a task in state `{text}"))
            .await;
    }
}

pub(crate) async fn illegal_orders_for_steps_name_state_and_possibilities(f: Fixture) {
    let (task, _, _) = mixed(&f).await;
    f.order(task, Order::CancelStep(5)).await.unwrap();
    let cases = [
        (
            Order::CancelStep(0),
            "complete` cannot cancel; it can do nothing more",
        ),
        (
            Order::SkipStep(0),
            "complete` cannot skip; it can do nothing more",
        ),
        (
            retry(0, 1),
            "complete` cannot retry; it can do nothing more",
        ),
        (
            resolve(0, None),
            "complete` cannot resolve; it can do nothing more",
        ),
        (
            Order::CancelStep(1),
            "error` cannot cancel; it can retry, resolve",
        ),
        (
            retry(3, 1),
            "in_progress` cannot retry; it can complete, fail, cancel, release, decline",
        ),
        (
            resolve(3, None),
            "in_progress` cannot resolve; it can complete, fail, cancel, release, decline",
        ),
        (
            Order::SkipStep(3),
            "in_progress` cannot skip; it can complete, fail, cancel, release, decline",
        ),
        (
            retry(4, 1),
            "pending` cannot retry; it can claim, reject, cancel, resolve, skip",
        ),
        (
            Order::CancelStep(5),
            "cancelled` cannot cancel; it can do nothing more",
        ),
        (
            retry(5, 1),
            "cancelled` cannot retry; it can do nothing more",
        ),
        (
            resolve(5, None),
            "cancelled` cannot resolve; it can do nothing more",
        ),
        (
            Order::SkipStep(5),
            "cancelled` cannot skip; it can do nothing more",
        ),
    ];
    for (order, text) in cases {
        f.order_refused(task, order, &format!("a step in state `{text}"))
            .await;
    }
}

pub(crate) async fn nothing_of_a_task_that_is_closed_for_good_can_be_moved(f: Fixture) {
    let (task, worker, _) = mixed(&f).await;
    f.order(task, Order::CancelTask).await.unwrap();
    let closed = "a task in state `cancelled` cannot retry; it can do nothing more";
    let orders = [
        Order::CancelStep(0),
        retry(1, 1),
        resolve(1, None),
        Order::SkipStep(1),
        raise(1, 9),
    ];
    for order in orders {
        f.order_refused(task, order, closed).await;
    }
    assert!(f.claim(&worker, 10).await.claimed.is_empty());
}

pub(crate) async fn unknown_tasks_and_steps_are_named(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let (task, unknown) = (f.start(&one).await, f.task_id());
    let refused = f.order(unknown, Order::CancelTask).await.unwrap_err();
    assert!(matches!(refused, StoreError::NoSuchTask(id) if id == unknown));
    assert_eq!(refused.to_string(), format!("there is no task {unknown}"));
    let nowhere = format!("task {task} has no step number 1");
    let beyond = [
        Order::CancelStep(1),
        retry(1, 1),
        resolve(1, None),
        Order::SkipStep(1),
        raise(1, 9),
    ];
    for order in beyond {
        f.order_refused(task, order, &nowhere).await;
    }
    let far = Order::SkipStep(u32::MAX);
    f.order_refused(
        task,
        far,
        &format!("task {task} has no step number 4294967295"),
    )
    .await;
}

pub(crate) async fn the_actor_is_recorded(f: Fixture) {
    let (task, _) = failed(&f).await;
    let longest = "ö".repeat(128);
    let too_long = f
        .store
        .operate(task, Order::RetryTask, format!("{longest}x"))
        .await;
    let text = too_long.unwrap_err().to_string();
    assert_eq!(text, "the actor's name is longer than 128 characters");
    assert_eq!(f.state(task).await, TaskState::Error);
    let known = f.detail(task).await.transitions.len();
    assert!(
        f.detail(task)
            .await
            .transitions
            .iter()
            .all(|t| t.actor.is_none())
    );
    f.store
        .operate(task, Order::RetryTask, longest.clone())
        .await
        .unwrap();
    let detail = f.detail(task).await;
    assert_eq!(detail.transitions.len(), known + 2, "the step and its task");
    for transition in &detail.transitions[known..] {
        assert_eq!(transition.actor.as_deref(), Some(longest.as_str()));
        assert_eq!(transition.reason, Some(Reason::Operator));
    }
}

/// Whoever comes first wins; the other is told, and nothing is recorded twice.
pub(crate) async fn an_order_and_a_completion_at_once_do_not_mix(f: Fixture) {
    let one: Defined = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    for _ in 0..10 {
        let task = f.start(&one).await;
        let step = f.claim_one(&worker).await;
        let ends = vec![crate::fixture::end(&step, succeed(&json!(1)))];
        let complete = f.store.complete(worker.id, ends, None);
        let cancel = f.order(task, Order::CancelStep(0));
        let (recorded, cancelled) = futures_util::future::join(complete, cancel).await;
        let recorded = recorded.unwrap().0[0];
        let state = f.step(task, 0).await.state;
        match (recorded, cancelled) {
            (tasker_store::store::Recorded::Yes, Err(StoreError::IllegalMove(_))) => {
                assert_eq!(state, Complete);
            }
            (tasker_store::store::Recorded::LeaseLost, Ok(TaskState::Cancelled)) => {
                assert_eq!(state, Cancelled);
            }
            other => panic!("both or neither: {other:?}"),
        }
    }
}
