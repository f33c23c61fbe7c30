//! Claiming: who is given what, when, and what happens to leases that nobody came back for.

use std::collections::HashSet;

use futures_util::future::join_all;
use serde_json::json;
use tasker_model::json::Json;
use tasker_model::outcome::FailureKind;
use tasker_model::step::StepState::{Complete, Error, InProgress, Pending};
use tasker_model::task::TaskState;
use tasker_model::transition::Reason;

use crate::fixture::{
    Fixture, LEASE_MS, fail, last_of, moves_of, ms, positions, retry_in, source, succeed,
    task_moves,
};

pub(crate) async fn no_step_is_given_twice(f: Fixture) {
    let wide = f
        .define("wide", &[("a", &[]), ("b", &[]), ("c", &[])])
        .await;
    for _ in 0..20 {
        f.start(&wide).await;
    }
    let workers: Vec<_> = (0..6).map(|_| f.worker(&[&wide])).collect();
    let claims = workers
        .iter()
        .cycle()
        .take(24)
        .map(|worker| f.claim(worker, 4));
    let mut given: Vec<_> = join_all(claims).await;
    // A claim leaves what another has under way, which may then leave it, too.
    given.push(f.claim(&workers[0], 100).await);
    let given: Vec<_> = given
        .iter()
        .flat_map(|p| &p.claimed)
        .map(|c| c.lease.step)
        .collect();
    let distinct: HashSet<_> = given.iter().collect();
    assert_eq!((given.len(), distinct.len()), (60, 60));
    assert!(f.claim(&workers[0], 100).await.claimed.is_empty());
}

pub(crate) async fn a_definition_named_twice_gives_each_step_once(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one, &one]);
    let task = f.start(&one).await;
    let progress = f.claim(&worker, 10).await;
    assert_eq!(positions(&progress), [0]);
    assert_eq!(f.step(task, 0).await.attempts, 1);
}

pub(crate) async fn the_oldest_is_claimed_first(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let two = f.define("two", &[("a", &[])]).await;
    let worker = f.worker(&[&two, &one]);
    let mut expected = Vec::new();
    for defined in [&one, &two, &two, &one, &two] {
        expected.push(f.start(defined).await);
        f.clock.advance(ms(10));
    }
    let mut order = Vec::new();
    for slots in [1, 3, 1] {
        let progress = f.claim(&worker, slots).await;
        assert_eq!(progress.claimed.len(), slots);
        order.extend(progress.claimed.iter().map(|c| c.lease.step.task_id));
    }
    assert_eq!(order, expected);
}

pub(crate) async fn only_what_the_worker_can_run_is_claimed(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let two = f.define("two", &[("a", &[])]).await;
    let mut changed = source("one", &[("a", &[])]);
    "other".clone_into(&mut changed.steps[0].handler);
    let changed = f.register(changed).await;
    let task = f.start(&one).await;
    for other in [f.worker(&[&two]), f.worker(&[&changed]), f.worker(&[])] {
        let progress = f.claim(&other, 10).await;
        assert!(progress.claimed.is_empty() && !progress.left_due);
        assert_eq!(
            progress.next_due, None,
            "nothing of this will ever be runnable here"
        );
    }
    assert_eq!(
        f.claim_one(&f.worker(&[&one])).await.lease.step.task_id,
        task
    );
}

pub(crate) async fn slots_limit_a_claim(f: Fixture) {
    let wide = f
        .define("wide", &[("a", &[]), ("b", &[]), ("c", &[])])
        .await;
    let worker = f.worker(&[&wide]);
    let task = f.start(&wide).await;
    assert!(f.claim(&worker, 0).await.claimed.is_empty());
    assert_eq!(
        f.state(task).await,
        TaskState::Pending,
        "a claim of nothing starts nothing"
    );
    let first = f.claim(&worker, 2).await;
    assert_eq!(positions(&first), [0, 1]);
    assert!(first.left_due);
    assert_eq!(first.next_due, None, "it did not look further");
    let rest = f.claim(&worker, 2).await;
    assert_eq!(positions(&rest), [2]);
    assert!(!rest.left_due, "there was a slot for more");
    assert_eq!(f.state(task).await, TaskState::InProgress);
    let started = [
        (None, TaskState::Pending),
        (Some(TaskState::Pending), TaskState::InProgress),
    ];
    assert_eq!(
        task_moves(&f.detail(task).await),
        started,
        "a task starts once"
    );
}

pub(crate) async fn a_retry_is_claimed_when_it_is_due(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    let task = f.start(&one).await;
    let first = f.claim_one(&worker).await;
    f.settle(&worker, &first, retry_in(2_000)).await;
    f.clock.advance(ms(1_999));
    let early = f.claim(&worker, 10).await;
    assert!(early.claimed.is_empty());
    assert_eq!(early.next_due, Some(f.now_and(1)));
    f.clock.advance(ms(1));
    let second = f.claim_one(&worker).await;
    assert_eq!(second.lease.attempt, 2);
    let detail = f.detail(task).await;
    let expected = [
        (None, Pending),
        (Some(Pending), InProgress),
        (Some(InProgress), Error),
        (Some(Error), Pending),
        (Some(Pending), InProgress),
    ];
    assert_eq!(moves_of(&detail, 0), expected);
    let [.., again, started] = &detail.transitions[..] else {
        panic!("two transitions or more");
    };
    assert_eq!(
        (again.reason, again.attempt),
        (Some(Reason::Retry), Some(2))
    );
    assert_eq!((started.reason, started.attempt), (None, Some(2)));
    assert_eq!((started.worker, started.at), (Some(worker.id), f.now()));
    let step = &detail.steps[0];
    assert_eq!((step.attempts, step.lost_attempts), (2, 0));
    assert_eq!(step.finished_at, None, "it runs again");
}

pub(crate) async fn a_lease_that_expired_is_claimed_again(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let (gone, other) = (f.worker(&[&one]), f.worker(&[&one]));
    let task = f.start(&one).await;
    let lost = f.claim_one(&gone).await;
    f.clock.advance(ms(LEASE_MS - 1));
    assert!(
        f.claim(&other, 10).await.claimed.is_empty(),
        "the lease holds"
    );
    f.clock.advance(ms(1));
    let again = f.claim_one(&other).await;
    assert_eq!((lost.lease.attempt, again.lease.attempt), (1, 2));
    let detail = f.detail(task).await;
    let step = &detail.steps[0];
    assert_eq!((step.attempts, step.lost_attempts), (2, 1));
    assert_eq!(
        (step.worker, step.due_at),
        (Some(other.id), Some(f.now_and(LEASE_MS)))
    );
    let expected = [
        (None, Pending),
        (Some(Pending), InProgress),
        (Some(InProgress), Pending),
        (Some(Pending), InProgress),
    ];
    assert_eq!(moves_of(&detail, 0), expected);
    let [.., released, started] = &detail.transitions[..] else {
        panic!("two transitions or more");
    };
    assert_eq!(
        (released.reason, released.attempt),
        (Some(Reason::LeaseLost), Some(1))
    );
    assert_eq!(released.worker, Some(gone.id), "the one who lost it");
    assert_eq!((started.worker, started.attempt), (Some(other.id), Some(2)));
    f.settle(&other, &again, succeed(&json!(1))).await;
    assert_eq!(
        f.step(task, 0).await.lost_attempts,
        1,
        "a loss is remembered"
    );
}

pub(crate) async fn a_lease_lost_at_the_last_attempt_fails_the_step(f: Fixture) {
    let mut definition = source("two", &[("a", &[]), ("b", &["a"])]);
    definition.steps[0].retry.limit = 2;
    let two = f.register(definition).await;
    let worker = f.worker(&[&two]);
    let task = f.start(&two).await;
    let first = f.claim_one(&worker).await;
    f.settle(&worker, &first, retry_in(0)).await;
    f.claim_one(&worker).await;
    f.clock.advance(ms(LEASE_MS));
    let progress = f.claim(&worker, 10).await;
    assert!(progress.claimed.is_empty());
    assert_eq!(progress.finished, [(task, TaskState::Error)]);
    let detail = f.detail(task).await;
    let step = &detail.steps[0];
    assert_eq!((step.state, step.failure), (Error, Some(FailureKind::Lost)));
    assert_eq!((step.attempts, step.lost_attempts), (2, 1));
    assert_eq!((step.due_at, step.worker), (None, None));
    let failed = last_of(&detail, 0);
    assert_eq!(
        (failed.reason, failed.attempt),
        (Some(Reason::LeaseLost), Some(2))
    );
    let failure = failed.failure.as_ref().unwrap();
    assert_eq!(failure.kind, FailureKind::Lost);
    assert_eq!(failure.message, "the worker vanished during attempt 2 of 2");
    assert_eq!(detail.steps[1].state, Pending, "its child never starts");
    assert!(
        f.claim(&worker, 10).await.finished.is_empty(),
        "it fails once"
    );
}

pub(crate) async fn three_lost_leases_quarantine_a_step(f: Fixture) {
    let mut definition = source("many", &[("a", &[])]);
    definition.steps[0].retry.limit = 100;
    let many = f.register(definition).await;
    let worker = f.worker(&[&many]);
    let task = f.start(&many).await;
    for attempt in 1..=3 {
        let claimed = f.claim_one(&worker).await;
        assert_eq!(claimed.lease.attempt, attempt);
        f.clock.advance(ms(LEASE_MS));
    }
    let progress = f.claim(&worker, 10).await;
    assert!(progress.claimed.is_empty());
    assert_eq!(progress.finished, [(task, TaskState::Error)]);
    let step = f.step(task, 0).await;
    assert_eq!(
        (step.state, step.failure),
        (Error, Some(FailureKind::Quarantined))
    );
    assert_eq!(
        (step.attempts, step.lost_attempts, step.due_at),
        (3, 3, None)
    );
}

pub(crate) async fn next_due_is_the_earliest_time_of_all(f: Fixture) {
    let mut limited = source("limited", &[("a", &[])]);
    limited.deadline_ms = Some(5_000);
    let limited = f.register(limited).await;
    let one = f.define("one", &[("a", &[]), ("b", &[])]).await;
    let worker = f.worker(&[&one, &limited]);
    assert_eq!(f.claim(&worker, 10).await.next_due, None, "an empty store");
    f.start(&one).await;
    let progress = f.claim(&worker, 10).await;
    assert_eq!(
        progress.next_due,
        Some(f.now_and(LEASE_MS)),
        "the end of its own leases"
    );
    let [a, b] = &progress.claimed[..] else {
        panic!("two steps");
    };
    f.settle(&worker, a, retry_in(9_000)).await;
    f.settle(&worker, b, retry_in(7_000)).await;
    assert_eq!(
        f.claim(&worker, 10).await.next_due,
        Some(f.now_and(7_000)),
        "the first retry"
    );
    f.start(&limited).await;
    let deadline = f.now_and(5_000);
    assert_eq!(
        f.claim(&worker, 10).await.next_due,
        Some(deadline),
        "a deadline"
    );
    assert_eq!(
        f.claim(&f.worker(&[]), 10).await.next_due,
        Some(deadline),
        "is everybody's"
    );
    f.clock.advance(ms(5_000));
    assert_eq!(
        f.claim(&worker, 10).await.next_due,
        Some(f.now_and(2_000)),
        "and then is over"
    );
}

pub(crate) async fn inputs_are_the_context_and_the_results_of_parents_as_named(f: Fixture) {
    let steps: &[(&str, &[&str])] = &[
        ("a", &[]),
        ("b", &[]),
        ("c", &[]),
        ("join", &["c", "a", "b"]),
    ];
    let join = f.define("join", steps).await;
    let worker = f.worker(&[&join]);
    let task = f.start(&join).await;
    let roots = f.claim(&worker, 10).await.claimed;
    for step in &roots {
        assert_eq!(step.context.as_str(), r#"{"n":1}"#);
        assert!(step.parents.is_empty());
        assert_eq!(
            (step.attempt_limit, step.template.hash()),
            (3, join.template.hash())
        );
        let result = json!({"from": step.lease.step.position});
        f.settle(&worker, step, succeed(&result)).await;
    }
    let claimed = f.claim_one(&worker).await;
    assert_eq!(claimed.lease.step.task_id, task);
    let parents: Vec<_> = claimed
        .parents
        .iter()
        .map(|(parent, result)| (*parent, result.as_ref().map_or("", Json::as_str)))
        .collect();
    let expected = [
        (2, r#"{"from":2}"#),
        (0, r#"{"from":0}"#),
        (1, r#"{"from":1}"#),
    ];
    assert_eq!(parents, expected);
    assert_eq!(claimed.context.as_str(), r#"{"n":1}"#);
}

pub(crate) async fn a_deadline_fails_what_is_open(f: Fixture) {
    let steps: &[(&str, &[&str])] = &[
        ("done", &[]),
        ("failed", &[]),
        ("backoff", &[]),
        ("running", &[]),
        ("due", &["done"]),
        ("waiting", &["running"]),
    ];
    let mut definition = source("late", steps);
    definition.deadline_ms = Some(10_000);
    let late = f.register(definition).await;
    let worker = f.worker(&[&late]);
    let task = f.start(&late).await;
    let roots = f.claim(&worker, 10).await.claimed;
    f.settle(&worker, &roots[0], succeed(&json!(1))).await;
    f.settle(&worker, &roots[1], fail(FailureKind::Permanent))
        .await;
    f.settle(&worker, &roots[2], retry_in(60_000)).await;
    f.clock.advance(ms(9_999));
    assert!(f.claim(&worker, 0).await.finished.is_empty(), "not yet");
    f.clock.advance(ms(1));
    let progress = f.claim(&worker, 10).await;
    assert_eq!(progress.finished, [(task, TaskState::Error)]);
    assert!(
        progress.claimed.is_empty(),
        "what is due is not started any more"
    );
    let detail = f.detail(task).await;
    let states: Vec<_> = detail.steps.iter().map(|step| step.state).collect();
    assert_eq!(states, [Complete, Error, Error, Error, Error, Pending]);
    let failures: Vec<_> = detail.steps.iter().map(|step| step.failure).collect();
    let exceeded = Some(FailureKind::DeadlineExceeded);
    let permanent = Some(FailureKind::Permanent);
    assert_eq!(
        failures,
        [None, permanent, exceeded, exceeded, exceeded, None]
    );
    assert_eq!(detail.task.deadline_at, None, "it is over");
    for position in [3, 4] {
        let last = last_of(&detail, position);
        assert_eq!(last.reason, Some(Reason::DeadlineExceeded));
        let text = &last.failure.as_ref().unwrap().message;
        assert_eq!(text, "the deadline of the task has passed");
    }
    assert_eq!(detail.steps[4].attempts, 0, "it fails without an attempt");
    f.refused(worker.id, roots[3].lease, succeed(&json!(1)))
        .await;
    assert!(f.claim(&worker, 10).await.finished.is_empty(), "once");
}

pub(crate) async fn a_deadline_fails_a_task_that_never_started(f: Fixture) {
    let mut definition = source("late", &[("a", &[]), ("b", &["a"])]);
    definition.deadline_ms = Some(1);
    let late = f.register(definition).await;
    let task = f.start(&late).await;
    let record = f.store.task(task).await.unwrap().unwrap();
    assert_eq!(record.deadline_at, Some(f.now_and(1)));
    f.clock.advance(ms(1));
    // Whoever claims, and whatever they can run.
    let progress = f.claim(&f.worker(&[]), 1).await;
    assert_eq!(progress.finished, [(task, TaskState::Error)]);
    let detail = f.detail(task).await;
    let expected = [
        (None, TaskState::Pending),
        (Some(TaskState::Pending), TaskState::Error),
    ];
    assert_eq!(task_moves(&detail), expected);
    assert_eq!(
        moves_of(&detail, 0),
        [(None, Pending), (Some(Pending), Error)]
    );
}

pub(crate) async fn a_task_within_its_deadline_is_left_alone(f: Fixture) {
    let mut definition = source("quick", &[("a", &[])]);
    definition.deadline_ms = Some(1_000);
    let quick = f.register(definition).await;
    let worker = f.worker(&[&quick]);
    let task = f.start(&quick).await;
    f.run_all(&worker).await;
    f.clock.advance(ms(2_000));
    assert!(f.claim(&worker, 10).await.finished.is_empty());
    assert_eq!(f.state(task).await, TaskState::Complete);
}
