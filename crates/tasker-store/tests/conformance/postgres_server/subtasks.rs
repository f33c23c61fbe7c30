//! Tallies of sub-tasks, counted by several stores at once, and what a lock of somebody else leaves to a look.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use jiff::SignedDuration;
use serde_json::json;
use tasker_model::id::TaskId;
use tasker_model::outcome::{FailureKind, Settlement};
use tasker_model::wait::{NEVER, Until, Wait};
use tasker_store::StoreError;
use tasker_store::store::{Created, Order};
use tokio::time::timeout;
use tokio_postgres::Client;

use super::contention::Crowd;
use super::place::{Place, Server};
use crate::fixture::{Fixture, Worker, end, fail, succeed};
use crate::subtask::Asking;

/// A lock on a task, as somebody holds it who changes the task.
struct Lock(Client);

impl Lock {
    async fn on(server: &Server, schema: &str, task: TaskId) -> Lock {
        let client = server.client().await;
        let sql = format!(
            "BEGIN; SELECT FROM {schema}.tasker_tasks WHERE task_id = '{task}' FOR NO KEY UPDATE"
        );
        client.batch_execute(&sql).await.unwrap();
        Lock(client)
    }

    async fn release(self) {
        self.0.batch_execute("COMMIT").await.unwrap();
    }
}

/// A store by a test's clock, with its server and schema.
async fn alone() -> (Fixture, Server, String) {
    let server = Server::for_tests();
    let place = Place::migrated(&server, "").await;
    let (url, schema) = (place.url.clone(), place.quoted());
    (place.open(&url).await, server, schema)
}

/// All that is due for a worker, a step at a time.
async fn take_all(f: &Fixture, worker: &Worker, how: fn() -> Settlement) {
    loop {
        let claimed = f.claim(worker, 1).await.claimed;
        let Some(claimed) = claimed.first() else {
            return;
        };
        f.settle(worker, claimed, how()).await;
    }
}

fn done() -> Settlement {
    succeed(&json!(1))
}

#[tokio::test]
async fn a_step_whose_task_is_locked_is_woken_later() {
    let (f, server, schema) = alone().await;
    for by_a_claim in [true, false] {
        let a = Asking::of(f.clone(), 1, 1, 0).await;
        a.create(0..1).await;
        a.wait().await;
        let first = f.claim_one(&a.working).await;
        let last = f
            .settle_and_claim(&a.working, &first, done(), 1)
            .await
            .claimed;
        let lock = Lock::on(&server, &schema, a.task).await;
        let progress = f.settle(&a.working, &last[0], done()).await;
        assert!(progress.left_due, "somebody must look");
        assert_eq!(a.counts().await, [1, 0, 0, 0], "nothing is lost");
        let progress = f.claim(&a.worker, 1).await;
        assert!(progress.claimed.is_empty());
        let soon = progress.next_due.unwrap().duration_since(f.now());
        assert!(soon < SignedDuration::from_millis(50), "{soon}");
        lock.release().await;
        // Whoever looks settles it, whatever it looks for.
        let left_due = if by_a_claim {
            f.claim(&a.working, 1).await.left_due
        } else {
            let mut budget = a.working.slots(1);
            budget.also_due = true;
            let done = f.store.complete(a.working.id, vec![], Some(budget));
            done.await.unwrap().1.left_due
        };
        assert!(left_due);
        assert!(a.woken().await.is_some());
        f.order(a.task, Order::CancelTask).await.unwrap();
    }
}

#[tokio::test]
async fn a_sub_task_that_is_locked_is_released_later() {
    let (f, server, schema) = alone().await;
    let a = Asking::of(f.clone(), 3, 2, 0).await;
    let ids = a.create(0..3).await;
    let lock = Lock::on(&server, &schema, ids[2]).await;
    let first = f.claim(&a.working, 1).await.claimed;
    let last = f
        .settle_and_claim(&a.working, &first[0], done(), 1)
        .await
        .claimed;
    let progress = f.settle(&a.working, &last[0], done()).await;
    assert!(progress.left_due);
    assert_eq!(a.counts().await, [3, 2, 1, 0]);
    assert_eq!(f.step(ids[2], 0).await.due_at, Some(NEVER));
    lock.release().await;
    take_all(&f, &a.working, done).await;
    assert_eq!(a.counts().await, [3, 0, 0, 0]);
    f.audit().await;
}

/// Runs sub-tasks until everything is over; every third step fails.
async fn work(f: &Fixture, worker: &Worker, over: &AtomicBool) {
    let nth = AtomicUsize::new(0);
    let how = || match nth.fetch_add(1, Ordering::Relaxed) % 3 {
        0 => fail(FailureKind::Permanent),
        _ => done(),
    };
    while !over.load(Ordering::Relaxed) {
        let mut claimed = f.claim(worker, 6).await.claimed;
        while !claimed.is_empty() {
            let ends = claimed.iter().rev().map(|c| end(c, how())).collect();
            let mut budget = worker.slots(6);
            budget.also_due = true;
            let done = f.store.complete(worker.id, ends, Some(budget));
            claimed = done.await.unwrap().1.claimed;
        }
    }
}

/// Creates sub-tasks page by page until the attempt has lost its lease, and waits for them.
async fn create(a: &Asking) {
    for page in 0..a.plan.count / 10 {
        let new = (page * 10..page * 10 + 10).map(|n| a.new_task(n, None));
        let created = a.f.create(&new.collect::<Vec<_>>()).await;
        if matches!(created[0], Created::Unwanted(_)) {
            return;
        }
        assert!(
            created
                .iter()
                .all(|created| matches!(created, Created::New(_)))
        );
    }
    let wait = Settlement::Wait(Wait {
        until: Until::Subtasks,
        signal: None,
    });
    let ends = vec![end(&a.claimed, wait)];
    a.f.store.complete(a.worker.id, ends, None).await.unwrap();
}

/// Orders for every sub-task, whatever its state: many are refused.
async fn give_orders(f: &Fixture, ids: &[TaskId], number: usize) {
    for (n, id) in ids.iter().enumerate().skip(number) {
        let order = match n % 5 {
            0 => Order::CancelTask,
            1 => Order::ResolveTask,
            _ => Order::RetryTask,
        };
        match f.order(*id, order).await {
            Ok(_) | Err(StoreError::IllegalMove(_) | StoreError::NoSuchTask(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_stores_count_the_same_sub_tasks() {
    let crowd = Crowd::of(4).await;
    let mut asking = Vec::new();
    for _ in 0..3 {
        asking.push(Asking::of(crowd.stores[0].clone(), 60, 7, 1_000).await);
    }
    let ids = asking.iter().flat_map(|a| {
        let id = |n| a.new_task(n, None).task_id;
        (0..a.plan.count).map(id).collect::<Vec<_>>()
    });
    let ids: Vec<TaskId> = ids.collect();
    let over = AtomicBool::new(false);
    let clients = async {
        let creates = join_all(asking.iter().map(create));
        let orders = crowd.stores.iter().enumerate().map(async |(number, f)| {
            for _ in 0..3 {
                give_orders(f, &ids, number).await;
            }
        });
        let cancel = async {
            while asking[2].f.step(asking[2].task, 0).await.subtasks.is_none() {}
            let cancelled = crowd.stores[3].order(asking[2].task, Order::CancelTask);
            cancelled.await.unwrap();
        };
        join(creates, join(join_all(orders), cancel)).await;
        for a in &asking {
            while a.counts().await[1] > 0 {
                tokio::task::yield_now().await;
            }
        }
        over.store(true, Ordering::Relaxed);
    };
    let workers = crowd.stores.iter().map(|f| f.worker(&[&asking[0].item]));
    let workers: Vec<Worker> = workers.collect();
    let stores = crowd.stores.iter().zip(&workers);
    let work = join_all(stores.map(|(f, worker)| work(f, worker, &over)));
    timeout(Duration::from_mins(2), join(clients, work))
        .await
        .expect("nobody waits for ever");
    let mut woken = Vec::new();
    while let Some(step) = asking[0].woken().await {
        woken.push(step.lease.step.task_id);
    }
    woken.sort();
    let mut expected = [asking[0].task, asking[1].task];
    expected.sort();
    assert_eq!(woken, expected, "once each, and not what was cancelled");
    for a in &asking[..2] {
        let [created, open, held, _] = a.counts().await;
        assert_eq!([created, open, held], [60, 0, 0]);
    }
    drop(asking);
    crowd.finish().await;
}
