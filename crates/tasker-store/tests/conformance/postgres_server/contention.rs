//! Several stores at work on the same tasks at once: nobody waits in a circle, nothing is given or
//! created twice.
//!
//! Each test has a database of its own, because the server counts deadlocks per database. The
//! stores would hide them: whoever is pushed aside tries again.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use jiff::Timestamp;
use serde_json::json;
use tasker_model::id::TaskId;
use tasker_model::identity::Identity;
use tasker_model::request::TaskRequest;
use tasker_model::step::StepState;
use tasker_model::task::TaskState;
use tasker_store::postgres::PostgresStore;
use tasker_store::store::{ClaimedStep, Created, Expired, NewTask, Order, Recorded, TaskFilter};
use tasker_store::{StoreError, SystemClock};
use tokio::time::timeout;

use super::place::{Place, Server};
use crate::fixture::{Defined, Fixture, LEASE_MS, Worker, end, moves_of, source, succeed};

/// Several stores on one schema, and nobody else in their database.
pub(super) struct Crowd {
    pub(super) stores: Vec<Fixture>,
    server: Server,
}

impl Crowd {
    pub(super) async fn of(count: usize) -> Crowd {
        let given = Server::for_tests();
        let database = Place::fresh(&given, "").schema.clone();
        given.run(&format!("CREATE DATABASE {database}")).await;
        let server = Server { database, ..given };
        let place = Place::migrated(&server, "").await;
        let url = place.url.clone();
        let first = place.open_by_its_clock(&url).await;
        let mut stores = vec![first];
        while stores.len() < count {
            let store = PostgresStore::open(&url, Arc::new(SystemClock)).await;
            stores.push(stores[0].beside(Arc::new(store.unwrap())));
        }
        Crowd { stores, server }
    }

    /// Audits every task, sends everybody home and asks the server.
    pub(super) async fn finish(self) {
        self.stores[0].audit().await;
        drop(self.stores);
        let name = self.server.database;
        let given = Server::for_tests().client().await;
        // A session counts its deadlocks where others see them when it ends at the latest.
        let gone = async {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1";
            while given
                .query_one(sql, &[&name])
                .await
                .unwrap()
                .get::<_, i64>(0)
                > 0
            {}
        };
        timeout(Duration::from_mins(1), gone)
            .await
            .expect("all sessions end");
        let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = $1";
        let deadlocks: i64 = given.query_one(sql, &[&name]).await.unwrap().get(0);
        let drop = format!("DROP DATABASE {name}");
        given.batch_execute(&drop).await.unwrap();
        assert_eq!(deadlocks, 0);
    }
}

/// One root, a hundred children, and one that waits for them all.
async fn fan(f: &Fixture) -> Defined {
    let names: Vec<String> = (0..100).map(|n| format!("child_{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let root: &[&str] = &["root"];
    let mut steps = vec![("root", &[][..])];
    steps.extend(names.iter().map(|name| (*name, root)));
    steps.push(("last", names.as_slice()));
    f.register(source("fan", &steps)).await
}

const LAST: u32 = 101;

/// All children of these tasks, claimed by everybody at once.
async fn claim_children(crowd: &Crowd, workers: &[Worker], count: usize) -> Vec<Vec<ClaimedStep>> {
    let taken = AtomicUsize::new(0);
    let claims = crowd.stores.iter().zip(workers).map(async |(f, worker)| {
        let mut claimed = Vec::new();
        // What another has locked is passed over, and there at the next look.
        while taken.load(Ordering::Relaxed) < count {
            let found = f.claim(worker, 10).await.claimed;
            taken.fetch_add(found.len(), Ordering::Relaxed);
            claimed.extend(found);
        }
        claimed
    });
    timeout(Duration::from_mins(2), join_all(claims))
        .await
        .expect("every child is given to somebody")
}

/// Hands in what was claimed, in small batches from two sides of each store, while its leases are
/// extended all the time. Gives what was claimed meanwhile.
async fn complete_at_once(
    crowd: &Crowd,
    workers: &[Worker],
    claimed: &[Vec<ClaimedStep>],
) -> Vec<ClaimedStep> {
    let batches = crowd.stores.iter().zip(workers).zip(claimed);
    let sides = batches.map(async |((f, worker), claimed)| {
        let over = AtomicBool::new(false);
        let leases: Vec<_> = claimed.iter().map(|claimed| claimed.lease).collect();
        let extend = async {
            while !over.load(Ordering::Relaxed) {
                let beat = f.store.heartbeat(worker.id, leases.clone(), LEASE_MS);
                let lost: HashSet<_> = beat.await.unwrap().into_iter().collect();
                assert!(lost.iter().all(|lease| leases.contains(lease)));
            }
        };
        let (left, right) = claimed.split_at(claimed.len() / 2);
        let complete = async {
            let sides = join(
                complete_all(f, worker, left),
                complete_all(f, worker, right),
            );
            let (left, right) = sides.await;
            over.store(true, Ordering::Relaxed);
            [left, right].concat()
        };
        join(extend, complete).await.1
    });
    join_all(sides).await.concat()
}

async fn complete_all(f: &Fixture, worker: &Worker, claimed: &[ClaimedStep]) -> Vec<ClaimedStep> {
    let mut handed_over = Vec::new();
    for batch in claimed.chunks(3) {
        let ends = batch
            .iter()
            .map(|claimed| end(claimed, succeed(&json!(1))))
            .collect();
        let done = f.store.complete(worker.id, ends, Some(worker.slots(3)));
        let (recorded, progress) = done.await.unwrap();
        assert!(recorded.iter().all(|recorded| *recorded == Recorded::Yes));
        handed_over.extend(progress.claimed);
    }
    handed_over
}

/// Fans in `count` tasks at once; what a batch holds is of all of them.
async fn fan_in(crowd: &Crowd, workers: &[Worker], fan: &Defined, count: usize) {
    let f = &crowd.stores[0];
    let tasks = join_all((0..count).map(|_| f.start(fan))).await;
    let roots = f.claim(&workers[0], count).await.claimed;
    assert_eq!(roots.len(), count);
    for root in &roots {
        f.settle(&workers[0], root, succeed(&json!(0))).await;
    }
    let mut claimed = claim_children(crowd, workers, count * 100).await;
    let steps: HashSet<_> = claimed.iter().flatten().map(|c| c.lease.step).collect();
    let given: usize = claimed.iter().map(Vec::len).sum();
    assert_eq!(
        (given, steps.len()),
        (count * 100, count * 100),
        "once each"
    );
    for claimed in &mut claimed {
        claimed.sort_by_key(|claimed| claimed.lease.step.position);
    }
    let last = complete_at_once(crowd, workers, &claimed).await;
    let waiting: HashSet<TaskId> = last.iter().map(|c| c.lease.step.task_id).collect();
    assert_eq!(
        (last.len(), &waiting),
        (count, &tasks.iter().copied().collect())
    );
    for claimed in &last {
        assert_eq!(claimed.parents.len(), 100);
        assert!(claimed.parents.iter().all(|(_, result)| result.is_some()));
        let of_worker = async |worker: &Worker| {
            let done = f
                .store
                .complete(worker.id, vec![end(claimed, succeed(&json!(2)))], None);
            done.await.unwrap().0[0]
        };
        let recorded = join_all(workers.iter().map(of_worker)).await;
        let own = recorded
            .iter()
            .filter(|recorded| **recorded == Recorded::Yes);
        assert_eq!(own.count(), 1, "one of them holds the lease");
    }
    for task in tasks {
        assert_eq!(f.state(task).await, TaskState::Complete);
        let moves = moves_of(&f.detail(task).await, LAST);
        let running = Some(StepState::InProgress);
        let expected = [
            (None, StepState::Pending),
            (Some(StepState::Pending), StepState::InProgress),
            (running, StepState::Complete),
        ];
        assert_eq!(moves, expected);
    }
}

#[tokio::test]
async fn a_hundred_children_that_end_at_once_make_the_last_ready_once() {
    let crowd = Crowd::of(4).await;
    let fan = fan(&crowd.stores[0]).await;
    let workers: Vec<_> = crowd.stores.iter().map(|f| f.worker(&[&fan])).collect();
    for count in [1, 1, 1, 3] {
        fan_in(&crowd, &workers, &fan, count).await;
    }
    crowd.finish().await;
}

/// Claims, extends and completes what there is, until everything is over.
async fn work(f: &Fixture, worker: &Worker, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let mut claimed = f.claim(worker, 6).await.claimed;
        while !claimed.is_empty() {
            let leases = claimed.iter().map(|claimed| claimed.lease).collect();
            let beat = f.store.heartbeat(worker.id, leases, LEASE_MS);
            let ends = claimed
                .iter()
                .rev()
                .map(|c| end(c, succeed(&json!(1))))
                .collect();
            let mut budget = worker.slots(6);
            budget.also_due = true;
            let done = f.store.complete(worker.id, ends, Some(budget));
            let (beat, done) = join(beat, done).await;
            beat.unwrap();
            claimed = done.unwrap().1.claimed;
        }
    }
}

/// Orders for every task, whatever its state: most are refused.
async fn give_orders(f: &Fixture, tasks: &[TaskId]) {
    for task in tasks {
        let orders = [
            Order::SkipStep(3),
            Order::CancelStep(1),
            Order::RetryTask,
            Order::CancelTask,
        ];
        for order in orders {
            match f.order(*task, order).await {
                Ok(_) | Err(StoreError::IllegalMove(_) | StoreError::Refused(_)) => {}
                // It was deleted.
                Err(StoreError::NoSuchTask(_)) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn no_mix_of_verbs_waits_in_a_circle() {
    let crowd = Crowd::of(4).await;
    let f = &crowd.stores[0];
    let diamond = f
        .define(
            "diamond",
            &[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])],
        )
        .await;
    let workers: Vec<_> = crowd.stores.iter().map(|f| f.worker(&[&diamond])).collect();
    let queue = diamond.runnable.queue.clone();
    let over = AtomicBool::new(false);
    let clients = crowd.stores.iter().enumerate().map(async |(number, f)| {
        for round in 0..6 {
            let request = || TaskRequest::new("diamond").priority(round % 2);
            let new: Vec<_> = (0..8).map(|_| f.asked(&diamond, request())).collect();
            let tasks: Vec<_> = new.iter().map(|new| new.task_id).collect();
            let budget = workers[number].slots(1);
            f.store.create(new, Some(budget)).await.unwrap();
            // A limited queue has a lock of its own.
            let limit = (round % 3 == 1).then_some(10);
            f.store.set_queue_limit(queue.clone(), limit).await.unwrap();
            give_orders(f, &tasks[..4]).await;
            let expired = Expired {
                states: vec![TaskState::Complete, TaskState::Cancelled],
                finished_before: Timestamp::now(),
                namespace: None,
            };
            f.store.delete_finished(expired, None, 5).await.unwrap();
        }
    });
    let clients = async {
        join_all(clients).await;
        over.store(true, Ordering::Relaxed);
    };
    let stores = crowd.stores.iter().zip(&workers);
    let work = join_all(stores.map(|(f, worker)| work(f, worker, &over)));
    timeout(Duration::from_mins(2), join(clients, work))
        .await
        .expect("nobody waits for ever");
    crowd.finish().await;
}

/// What two stores answer when both are asked to create the same at once.
async fn both_create(crowd: &Crowd, new: [NewTask; 2]) -> [Created; 2] {
    let [left, right] = new.map(|new| vec![new]);
    let (left, right) = join(
        crowd.stores[0].create(&left),
        crowd.stores[1].create(&right),
    )
    .await;
    [left[0].clone(), right[0].clone()]
}

/// That one was created and the other one found it.
fn assert_one_is_new(created: &[Created; 2], known: fn(TaskId) -> Created) {
    match created {
        [Created::New(task), other] | [other, Created::New(task)] => {
            assert_eq!(*other, known(*task));
        }
        neither => panic!("{neither:?}"),
    }
}

#[tokio::test]
async fn equal_requests_at_once_are_one_task() {
    let crowd = Crowd::of(2).await;
    let one = crowd.stores[0].define("one", &[("a", &[])]).await;
    for round in 0..50 {
        let keyed = || {
            let request = TaskRequest::new("one").idempotency_key(format!("key {round}"));
            crowd.stores[0].asked(&one, request)
        };
        let created = both_create(&crowd, [keyed(), keyed()]).await;
        assert_one_is_new(&created, Created::Existing);
        let identified = || NewTask {
            identity: Some(Identity {
                key: format!("identity {round}"),
                since: None,
            }),
            ..crowd.stores[0].plain(&one)
        };
        let created = both_create(&crowd, [identified(), identified()]).await;
        assert_one_is_new(&created, Created::Duplicate);
    }
    assert_eq!(crowd.stores[1].list(TaskFilter::default()).await.len(), 100);
    crowd.finish().await;
}

#[tokio::test]
async fn batches_of_equal_requests_in_opposite_orders_do_not_block_each_other() {
    let crowd = Crowd::of(2).await;
    let one = crowd.stores[0].define("one", &[("a", &[])]).await;
    for round in 0..10 {
        let batch = || -> Vec<NewTask> {
            let keyed = |n: u32| {
                let key = format!("{round} {n}");
                crowd.stores[0].asked(&one, TaskRequest::new("one").idempotency_key(key))
            };
            (0..30).map(keyed).collect()
        };
        let (there, mut back) = (batch(), batch());
        back.reverse();
        let both = join(
            crowd.stores[0].create(&there),
            crowd.stores[1].create(&back),
        );
        let (left, mut right) = both.await;
        right.reverse();
        for created in left.into_iter().zip(right) {
            assert_one_is_new(&created.into(), Created::Existing);
        }
    }
    crowd.finish().await;
}

#[tokio::test]
async fn orders_at_once_need_one_connection_each() {
    let server = Server::for_tests();
    let place = Place::migrated(&server, "").await;
    let url = format!("{}&connections=2", place.url);
    let first = place.open(&url).await;
    let mut tasks = Vec::new();
    for n in 0..8 {
        let one = first.define(&format!("one_{n}"), &[("a", &[])]).await;
        tasks.push(first.start(&one).await);
    }
    // It has seen none of the definitions, and holds a connection when it needs them.
    let store = PostgresStore::open(&url, first.clock.clone())
        .await
        .unwrap();
    let f = first.beside(Arc::new(store));
    let orders = join_all(tasks.iter().map(|task| f.order(*task, Order::CancelTask)));
    let ten = Duration::from_secs(10);
    let states = timeout(ten, orders)
        .await
        .expect("nobody waits for a second one");
    for state in states {
        assert_eq!(state.unwrap(), TaskState::Cancelled);
    }
}
