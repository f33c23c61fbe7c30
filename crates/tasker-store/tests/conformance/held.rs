//! What a worker holds, as the store knows it: the way back to claims whose answer was lost.

use serde_json::json;
use tasker_model::outcome::Settlement;
use tasker_store::store::{ClaimedStep, Order};

use crate::fixture::{Fixture, LEASE_MS, Worker, end, ms, succeed, text};

/// What the store says that a worker holds, by task and position.
async fn held(f: &Fixture, worker: &Worker) -> Vec<ClaimedStep> {
    let runnable = worker.slots(0).runnable;
    let mut held = f.store.held(worker.id, runnable).await.unwrap();
    held.sort_by_key(|claimed| claimed.lease.step);
    held
}

/// Everything about a claimed step.
fn told(claimed: &ClaimedStep) -> String {
    format!(
        "{:?} of {}, {} on {:?} after {:?}",
        claimed.lease,
        claimed.attempt_limit,
        claimed.template.hash(),
        claimed.context,
        claimed.parents
    )
}

pub(crate) async fn what_is_held_is_what_was_claimed(f: Fixture) {
    let steps: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("c", &["b", "a"])];
    let chain = f.define("chain", steps).await;
    let (worker, other) = (f.worker(&[&chain]), f.worker(&[&chain]));
    let task = f.start(&chain).await;
    assert!(held(&f, &worker).await.is_empty(), "nothing was claimed");
    let mut claimed = f.claim_one(&worker).await;
    for result in 1..3 {
        let before = f.as_text(task).await;
        let found = held(&f, &worker).await;
        assert_eq!(found.len(), 1);
        assert_eq!(told(&found[0]), told(&claimed));
        assert!(held(&f, &other).await.is_empty(), "somebody else's");
        assert_eq!(f.as_text(task).await, before, "only asked");
        let result = succeed(&json!(result));
        let mut next = f.settle_and_claim(&worker, &found[0], result, 1).await;
        claimed = next.claimed.pop().unwrap();
    }
    // Its parents are named in another order than they are defined in.
    let last = held(&f, &worker).await.remove(0);
    let parents = [(1, Some(text(&json!(2)))), (0, Some(text(&json!(1))))];
    assert_eq!(*last.parents, parents);
    f.settle(&worker, &last, succeed(&json!(3))).await;
    assert!(held(&f, &worker).await.is_empty(), "all is recorded");
}

pub(crate) async fn a_repeated_completion_finds_its_children_held(f: Fixture) {
    let fork = f.define("fork", &[("a", &[]), ("b", &["a"]), ("c", &["a"])]);
    let fork = fork.await;
    let worker = f.worker(&[&fork]);
    f.start(&fork).await;
    let root = f.claim_one(&worker).await;
    let done = || vec![end(&root, succeed(&json!(1)))];
    // The answer to this one is lost.
    let lost = f.store.complete(worker.id, done(), Some(worker.slots(2)));
    let (_, progress) = lost.await.unwrap();
    let again = f.store.complete(worker.id, done(), Some(worker.slots(2)));
    assert!(again.await.unwrap().1.claimed.is_empty());
    let found = held(&f, &worker).await;
    let mut claimed: Vec<_> = progress.claimed.iter().map(told).collect();
    claimed.sort();
    assert_eq!(found.iter().map(told).collect::<Vec<_>>(), claimed);
    for step in &found {
        f.settle(&worker, step, succeed(&json!(2))).await;
    }
}

pub(crate) async fn what_was_given_up_or_taken_away_is_not_held(f: Fixture) {
    let steps: &[(&str, &[&str])] = &[
        ("back", &[]),
        ("cancelled", &[]),
        ("expired", &[]),
        ("kept", &[]),
    ];
    let wide = f.define("wide", steps).await;
    let (worker, other) = (f.worker(&[&wide]), f.worker(&[&wide]));
    let task = f.start(&wide).await;
    let claimed = f.claim(&worker, 10).await.claimed;
    f.settle(&worker, &claimed[0], Settlement::HandBack).await;
    f.order(task, Order::CancelStep(1)).await.unwrap();
    f.clock.advance(ms(1));
    let kept = vec![claimed[3].lease];
    let renewed = f.store.heartbeat(worker.id, kept, LEASE_MS).await;
    assert!(renewed.unwrap().is_empty());
    f.clock.advance(ms(LEASE_MS - 1));
    let leases = async || -> Vec<_> {
        let held = held(&f, &worker).await;
        held.iter().map(|claimed| claimed.lease).collect()
    };
    // Nobody has taken the expired one.
    assert_eq!(leases().await, [claimed[2].lease, claimed[3].lease]);
    assert_eq!(f.claim(&other, 10).await.claimed.len(), 2);
    assert_eq!(leases().await, [claimed[3].lease]);
}

pub(crate) async fn only_what_the_worker_can_run_is_found(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let two = f.define("two", &[("a", &[])]).await;
    let both = f.worker(&[&one, &two, &one]);
    f.start(&one).await;
    f.start(&two).await;
    assert_eq!(f.claim(&both, 10).await.claimed.len(), 2);
    assert_eq!(held(&f, &both).await.len(), 2, "each once");
    let none = f.store.held(both.id, [].into()).await;
    assert!(none.unwrap().is_empty());
    let only = f.worker(&[&two]).slots(0).runnable;
    let found = f.store.held(both.id, only).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].template.hash(), two.template.hash());
}
