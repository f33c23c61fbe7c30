//! Queues with limits, priorities, delayed starts, and deleting what is over.

use serde_json::json;
use tasker_model::request::TaskRequest;
use tasker_model::task::TaskState;
use tasker_store::record::QueueRecord;
use tasker_store::store::{Deleted, Expired, Runnable};

use crate::fixture::{Defined, Fixture, LEASE_MS, fail, ms, positions, source, succeed};

fn request(defined: &Defined) -> TaskRequest {
    TaskRequest::new(defined.template.source().name.as_str())
}

fn queue(name: &str) -> tasker_model::name::Queue {
    name.parse().unwrap()
}

pub(crate) async fn a_task_does_not_start_before_its_time(f: Fixture) {
    let one = f.define("one", &[("a", &[]), ("b", &["a"])]).await;
    let worker = f.worker(&[&one]);
    let start_at = f.now_and(60_000);
    let later = f.asked(&one, request(&one).start_at(start_at));
    let created = f.store.create(vec![later.clone()], Some(worker.slots(5)));
    assert!(
        created.await.unwrap().1.claimed.is_empty(),
        "not even at once"
    );
    assert_eq!(f.step(later.task_id, 0).await.due_at, Some(start_at));
    let progress = f.claim(&worker, 5).await;
    assert!(progress.claimed.is_empty());
    assert_eq!(progress.next_due, Some(start_at));
    assert_eq!(f.state(later.task_id).await, TaskState::Pending);
    f.clock.advance(ms(60_000));
    assert_eq!(positions(&f.claim(&worker, 5).await), [0]);
    let record = f.store.task(later.task_id).await.unwrap().unwrap();
    assert_eq!(record.start_at, Some(start_at));
}

pub(crate) async fn a_start_in_the_past_is_now(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let task = f.asked(&one, request(&one).start_at(f.now() - ms(60_000)));
    f.create(std::slice::from_ref(&task)).await;
    assert_eq!(f.step(task.task_id, 0).await.due_at, Some(f.now()));
}

pub(crate) async fn a_priority_is_worth_ten_seconds_a_level(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    let mut tasks = Vec::new();
    // The second is preferred to all, the fourth has waited for longer than the third's level is
    // worth, and the last is put off.
    for (priority, pause) in [(0, 0), (2, 15_000), (1, 1), (0, 0), (-1, 0)] {
        f.clock.advance(ms(pause));
        let task = f.asked(&one, request(&one).priority(priority));
        f.create(std::slice::from_ref(&task)).await;
        tasks.push(task.task_id);
    }
    let mut order = Vec::new();
    for _ in &tasks {
        let claimed = f.claim(&worker, 1).await.claimed;
        order.push(claimed[0].lease.step.task_id);
    }
    let expected = [1, 0, 2, 3, 4].map(|n: usize| tasks[n]);
    assert_eq!(order, expected);
    let record = f.store.task(tasks[1]).await.unwrap().unwrap();
    assert_eq!(record.priority, 2);
}

pub(crate) async fn priorities_are_claimed_together(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    let tasks: Vec<_> = [0, 5, 0, -5, 100]
        .map(|priority| f.asked(&one, request(&one).priority(priority)))
        .into();
    f.create(&tasks).await;
    let claimed = f.claim(&worker, 10).await.claimed;
    let order: Vec<_> = claimed.iter().map(|c| c.lease.step.task_id).collect();
    let expected = [4, 1, 0, 2, 3].map(|n: usize| tasks[n].task_id);
    assert_eq!(order, expected);
    assert!(f.claim(&worker, 10).await.claimed.is_empty());
}

pub(crate) async fn a_queue_of_its_own_is_claimed_apart(f: Fixture) {
    let mut definition = source("mixed", &[("a", &[]), ("b", &["a"])]);
    definition.steps[1].queue = Some(queue("gpu"));
    let mixed = f.register(definition).await;
    // The fixture's worker serves the namespace's queue alone.
    let worker = f.worker(&[&mixed]);
    let task = f.start(&mixed).await;
    let first = f.claim_one(&worker).await;
    let progress = f
        .settle_and_claim(&worker, &first, succeed(&json!(1)), 5)
        .await;
    assert!(progress.claimed.is_empty(), "not on this worker's queue");
    assert!(f.claim(&worker, 5).await.claimed.is_empty());
    let mut budget = worker.slots(5);
    budget.runnable = [Runnable {
        queue: queue("gpu"),
        template: mixed.runnable.template,
    }]
    .into();
    let claimed = f.store.claim(budget).await.unwrap();
    assert_eq!(positions(&claimed), [1]);
    f.settle(&worker, &claimed.claimed[0], succeed(&json!(2)))
        .await;
    assert_eq!(f.state(task).await, TaskState::Complete);
}

pub(crate) async fn a_limited_queue_runs_no_more_than_its_limit(f: Fixture) {
    let wide = f
        .define("wide", &[("a", &[]), ("b", &[]), ("c", &[]), ("d", &["a"])])
        .await;
    let (worker, other) = (f.worker(&[&wide]), f.worker(&[&wide]));
    f.store
        .set_queue_limit(queue("shop"), Some(2))
        .await
        .unwrap();
    let task = f.plain(&wide);
    let created = f.store.create(vec![task.clone()], Some(worker.slots(5)));
    let (_, progress) = created.await.unwrap();
    assert!(
        progress.claimed.is_empty() && progress.left_due,
        "left to a look"
    );
    let first = f.claim(&worker, 5).await;
    assert_eq!(positions(&first), [0, 1]);
    assert!(
        f.claim(&other, 5).await.claimed.is_empty(),
        "on all nodes together"
    );
    // The child of `a` waits like everybody else, behind `c`.
    let done = f
        .settle_and_claim(&worker, &first.claimed[0], succeed(&json!(1)), 5)
        .await;
    assert!(done.claimed.is_empty() && done.left_due);
    assert_eq!(positions(&f.claim(&other, 5).await), [2]);
    assert!(f.claim(&worker, 5).await.claimed.is_empty());
    f.store.set_queue_limit(queue("shop"), None).await.unwrap();
    assert_eq!(positions(&f.claim(&worker, 5).await), [3]);
}

pub(crate) async fn a_limit_of_zero_pauses_a_queue(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    f.store
        .set_queue_limit(queue("shop"), Some(0))
        .await
        .unwrap();
    f.start(&one).await;
    let progress = f.claim(&worker, 5).await;
    assert!(progress.claimed.is_empty() && !progress.left_due);
    assert_eq!(
        progress.next_due, None,
        "nobody need look until the limit is raised"
    );
    f.store
        .set_queue_limit(queue("shop"), Some(1))
        .await
        .unwrap();
    assert_eq!(f.claim(&worker, 5).await.claimed.len(), 1);
}

pub(crate) async fn an_expired_lease_takes_no_room(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    f.store
        .set_queue_limit(queue("shop"), Some(1))
        .await
        .unwrap();
    f.start(&one).await;
    f.claim_one(&worker).await;
    assert!(f.claim(&worker, 5).await.claimed.is_empty());
    f.clock.advance(ms(LEASE_MS));
    assert_eq!(f.claim_one(&f.worker(&[&one])).await.lease.attempt, 2);
}

pub(crate) async fn queues_tell_what_runs_and_what_waits(f: Fixture) {
    let wide = f
        .define("wide", &[("a", &[]), ("b", &[]), ("c", &["a"])])
        .await;
    let worker = f.worker(&[&wide]);
    f.start(&wide).await;
    f.claim(&worker, 1).await;
    f.store
        .set_queue_limit(queue("empty"), Some(7))
        .await
        .unwrap();
    let record = |name: &str, concurrency_limit, running, due| QueueRecord {
        queue: queue(name),
        concurrency_limit,
        running,
        due,
    };
    let expected = [record("empty", Some(7), 0, 0), record("shop", None, 1, 1)];
    assert_eq!(f.store.queues().await.unwrap(), expected);
}

pub(crate) async fn finished_tasks_are_deleted_in_batches(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    let mut tasks = Vec::new();
    for n in 0..5 {
        tasks.push(f.start(&one).await);
        let claimed = f.claim_one(&worker).await;
        let end = if n == 3 {
            fail(tasker_model::outcome::FailureKind::Permanent)
        } else {
            succeed(&json!(n))
        };
        f.settle(&worker, &claimed, end).await;
    }
    let running = f.start(&one).await;
    f.clock.advance(ms(1_000));
    let young = f.start(&one).await;
    let claimed = f.claim(&worker, 2).await.claimed;
    f.settle(&worker, &claimed[1], succeed(&json!(true))).await;
    let expired = Expired {
        states: vec![TaskState::Complete],
        finished_before: f.now(),
        namespace: Some("shop".to_owned()),
    };
    let delete = |after, limit| f.store.delete_finished(expired.clone(), after, limit);
    let first = delete(None, 3).await.unwrap();
    assert_eq!(
        first,
        Deleted {
            tasks: 3,
            last: Some(tasks[2])
        }
    );
    let rest = delete(first.last, 3).await.unwrap();
    assert_eq!(
        rest,
        Deleted {
            tasks: 1,
            last: None
        }
    );
    let left = f.list(tasker_store::store::TaskFilter::default()).await;
    assert_eq!(
        left,
        [young, running, tasks[3]],
        "failed, unfinished and young ones stay"
    );
    assert_eq!(f.store.task(tasks[0]).await.unwrap().map(|_| ()), None);
    let others = Expired {
        namespace: Some("elsewhere".to_owned()),
        finished_before: f.now_and(9_000),
        ..expired.clone()
    };
    let deleted = f.store.delete_finished(others, None, 9).await.unwrap();
    assert_eq!(
        deleted,
        Deleted {
            tasks: 0,
            last: None
        }
    );
}
