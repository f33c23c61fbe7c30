//! Nodes whose clocks are hours apart: the store asks neither, the database's decides.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tasker_model::outcome::Settlement;
use tasker_store::Clock;
use tasker_store::postgres::PostgresStore;
use tasker_store::store::ClaimBudget;

use crate::fixture::{Fixture, end, postgres_with_url, retry_in, succeed};

/// Far more than any test lasts, far less than the clocks differ.
const NEAR: SignedDuration = SignedDuration::from_mins(10);

/// The clock of a machine that nobody has set.
struct Skewed(SignedDuration);

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        let now = Timestamp::now() + self.0;
        Timestamp::from_microsecond(now.as_microsecond()).unwrap()
    }

    fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }

    fn is_real(&self) -> bool {
        true
    }
}

#[track_caller]
fn assert_near(time: Timestamp) {
    let apart = time.duration_since(Timestamp::now()).abs();
    assert!(apart < NEAR, "{time} is not now");
}

#[tokio::test]
async fn nodes_with_wrong_clocks_keep_each_others_leases() {
    let (f, url) = postgres_with_url().await;
    let mut nodes = Vec::new();
    for hours in [2, -2] {
        let clock = Arc::new(Skewed(SignedDuration::from_hours(hours)));
        let store = PostgresStore::open(&url, clock).await.unwrap();
        nodes.push(f.beside(Arc::new(store)));
    }
    let [ahead, behind]: &[Fixture; 2] = nodes.as_slice().try_into().unwrap();
    let chain = ahead.define("chain", &[("a", &[]), ("b", &["a"])]).await;
    let (fast, slow) = (ahead.worker(&[&chain]), behind.worker(&[&chain]));
    let task = ahead.start(&chain).await;

    // Two hours behind, it takes at once what somebody two hours ahead has created.
    let claimed = behind.claim_one(&slow).await;
    let until = f.step(task, 0).await.due_at.unwrap();
    assert_near(until);
    // Two hours ahead, it does not think that the lease is over.
    assert!(ahead.claim(&fast, 10).await.claimed.is_empty());
    let leases = vec![claimed.lease];
    let lost = behind.store.heartbeat(slow.id, leases, 60_000).await;
    assert!(lost.unwrap().is_empty());
    assert!(f.step(task, 0).await.due_at.unwrap() > until);

    behind.settle(&slow, &claimed, retry_in(0)).await;
    let again = ahead.claim_one(&fast).await;
    let budget = ClaimBudget {
        also_due: true,
        ..fast.slots(1)
    };
    let done = vec![end(&again, succeed(&json!(1)))];
    let done = ahead.store.complete(fast.id, done, Some(budget)).await;
    let next = done.unwrap().1.claimed.remove(0);
    ahead.settle(&fast, &next, Settlement::HandBack).await;
    let third = behind.claim_one(&slow).await;
    behind.settle(&slow, &third, succeed(&json!(2))).await;

    for transition in f.detail(task).await.transitions {
        assert_near(transition.at);
    }
    for node in [ahead, behind] {
        assert_near(node.store.clock().now());
    }
    f.audit().await;
}
