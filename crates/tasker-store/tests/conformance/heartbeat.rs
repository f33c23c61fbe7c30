//! Leases that are extended, leases that are lost, and workers that say they are alive.

use jiff::SignedDuration;
use serde_json::json;
use tasker_model::id::WorkerId;
use tasker_model::progress::StepProgress;
use tasker_store::record::WorkerRecord;
use tasker_store::store::Order;

use crate::fixture::{Fixture, LEASE_MS, ms, succeed};

pub(crate) async fn a_heartbeat_extends_a_lease(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let (worker, other) = (f.worker(&[&one]), f.worker(&[&one]));
    let task = f.start(&one).await;
    let step = f.claim_one(&worker).await;
    let transitions = f.detail(task).await.transitions.len();
    for _ in 0..3 {
        f.clock.advance(ms(LEASE_MS - 1));
        let lost = f
            .store
            .heartbeat(worker.id, vec![step.lease], LEASE_MS)
            .await;
        assert_eq!(lost.unwrap(), []);
        assert_eq!(f.step(task, 0).await.due_at, Some(f.now_and(LEASE_MS)));
        let claim = f.claim(&other, 10).await;
        assert!(claim.claimed.is_empty());
        assert_eq!(claim.next_due, Some(f.now_and(LEASE_MS)));
    }
    assert_eq!(
        f.detail(task).await.transitions.len(),
        transitions,
        "nothing changed its state"
    );
    f.clock.advance(ms(LEASE_MS));
    assert_eq!(f.claim_one(&other).await.lease.attempt, 2);
}

pub(crate) async fn progress_is_noted_by_whoever_holds_the_lease(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    let task = f.start(&one).await;
    let first = f.claim_one(&worker).await;
    let note = |done, message: &str| StepProgress {
        done,
        total: Some(9),
        message: message.to_owned(),
    };
    let send = |by, lease, note| f.store.note_progress(by, vec![(lease, note)]);
    send(worker.id, first.lease, note(3, "a third"))
        .await
        .unwrap();
    assert_eq!(f.step(task, 0).await.progress, Some(note(3, "a third")));
    let other = f.worker(&[&one]);
    send(other.id, first.lease, note(4, "")).await.unwrap();
    assert_eq!(f.step(task, 0).await.progress, Some(note(3, "a third")));
    f.clock.advance(ms(LEASE_MS));
    let second = f.claim_one(&worker).await;
    assert_eq!(
        f.step(task, 0).await.progress,
        None,
        "another attempt begins anew"
    );
    send(worker.id, first.lease, note(5, "")).await.unwrap();
    assert_eq!(
        f.step(task, 0).await.progress,
        None,
        "of a lost lease nothing is noted"
    );
    send(worker.id, second.lease, note(9, "")).await.unwrap();
    f.settle(&worker, &second, succeed(&json!(1))).await;
    assert_eq!(f.step(task, 0).await.progress, Some(note(9, "")));
}

pub(crate) async fn lost_leases_are_given_back_in_order(f: Fixture) {
    let steps: &[(&str, &[&str])] = &[
        ("done", &[]),
        ("held", &[]),
        ("cancelled", &[]),
        ("back", &[]),
        ("kept", &[]),
    ];
    let wide = f.define("wide", steps).await;
    let worker = f.worker(&[&wide]);
    let task = f.start(&wide).await;
    let claimed = f.claim(&worker, 10).await.claimed;
    f.settle(&worker, &claimed[0], succeed(&json!(1))).await;
    f.order(task, Order::CancelStep(2)).await.unwrap();
    f.settle(
        &worker,
        &claimed[3],
        tasker_model::outcome::Settlement::HandBack,
    )
    .await;
    let leases: Vec<_> = claimed.iter().map(|step| step.lease).collect();
    f.clock.advance(ms(5));
    let before: Vec<_> = f
        .detail(task)
        .await
        .steps
        .iter()
        .map(|step| step.due_at)
        .collect();
    for _ in 0..2 {
        let lost = f
            .store
            .heartbeat(worker.id, leases.clone(), LEASE_MS)
            .await
            .unwrap();
        assert_eq!(lost, [leases[0], leases[2], leases[3]]);
    }
    let after: Vec<_> = f
        .detail(task)
        .await
        .steps
        .iter()
        .map(|step| step.due_at)
        .collect();
    let extended = Some(f.now_and(LEASE_MS));
    assert_eq!(after, [None, extended, None, before[3], extended]);
    assert!(
        f.store
            .heartbeat(worker.id, vec![], LEASE_MS)
            .await
            .unwrap()
            .is_empty()
    );
}

pub(crate) async fn a_lease_of_another_worker_or_attempt_is_lost(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let (worker, other) = (f.worker(&[&one]), f.worker(&[&one]));
    let task = f.start(&one).await;
    let first = f.claim_one(&worker).await;
    let foreign = f
        .store
        .heartbeat(other.id, vec![first.lease], LEASE_MS)
        .await;
    assert_eq!(foreign.unwrap(), [first.lease]);
    f.clock.advance(ms(LEASE_MS));
    let second = f.claim_one(&worker).await;
    let before = f.as_text(task).await;
    f.clock.advance(ms(1));
    let stale = f
        .store
        .heartbeat(worker.id, vec![first.lease], LEASE_MS)
        .await;
    assert_eq!(stale.unwrap(), [first.lease]);
    assert_eq!(f.as_text(task).await, before);
    let held = f
        .store
        .heartbeat(worker.id, vec![second.lease], LEASE_MS)
        .await;
    assert_eq!(held.unwrap(), []);
}

pub(crate) async fn an_expired_lease_that_nobody_took_is_extended(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    f.start(&one).await;
    let step = f.claim_one(&worker).await;
    f.clock.advance(ms(2 * LEASE_MS));
    let lost = f
        .store
        .heartbeat(worker.id, vec![step.lease], LEASE_MS)
        .await;
    assert_eq!(lost.unwrap(), []);
    assert!(f.claim(&worker, 10).await.claimed.is_empty());
}

fn announced(f: &Fixture, id: WorkerId, handlers: &[&str]) -> WorkerRecord {
    WorkerRecord {
        worker_id: id,
        host: "näher.example".to_owned(),
        pid: 4_294_967_295,
        handlers: handlers.iter().map(|name| (*name).to_owned()).collect(),
        started_at: f.now(),
        seen_at: f.now(),
        attempts: 0,
    }
}

pub(crate) async fn workers_are_registered_and_listed(f: Fixture) {
    let start = f.now();
    let (first, second) = (f.worker(&[]).id, f.worker(&[]).id);
    assert!(f.store.workers(start).await.unwrap().is_empty());
    let mut record = announced(&f, first, &["shop.order@1.0.0"]);
    f.store.register_worker(record.clone()).await.unwrap();
    f.clock.advance(ms(1_000));
    f.store
        .register_worker(announced(&f, second, &[]))
        .await
        .unwrap();
    let both = f.store.workers(start).await.unwrap();
    let ids: Vec<_> = both.iter().map(|worker| worker.worker_id).collect();
    assert_eq!(ids, [first, second]);
    let found = &both[0];
    assert_eq!(
        (found.host.as_str(), found.pid),
        ("näher.example", u32::MAX)
    );
    assert_eq!(found.handlers, ["shop.order@1.0.0"]);
    assert_eq!((found.started_at, found.seen_at), (start, start));
    let recent = f.store.workers(f.now()).await.unwrap();
    assert_eq!(recent.len(), 1);
    assert_eq!(recent[0].worker_id, second);
    // The first says that it is alive, and that it has learnt something.
    record.seen_at = f.now();
    record.handlers.push("shop.refund@1.0.0".to_owned());
    f.store.register_worker(record).await.unwrap();
    let both = f.store.workers(f.now()).await.unwrap();
    assert_eq!(both.len(), 2, "nobody is listed twice");
    assert_eq!((both[0].started_at, both[0].handlers.len()), (start, 2));
}

pub(crate) async fn workers_are_forgotten_after_a_day(f: Fixture) {
    let long_ago = f.now() - SignedDuration::from_hours(48);
    let (first, second) = (f.worker(&[]).id, f.worker(&[]).id);
    f.store
        .register_worker(announced(&f, first, &[]))
        .await
        .unwrap();
    let day = 24 * 60 * 60 * 1_000;
    f.clock.advance(ms(day));
    f.store
        .register_worker(announced(&f, second, &[]))
        .await
        .unwrap();
    assert_eq!(f.store.workers(long_ago).await.unwrap().len(), 2);
    f.clock.advance(ms(1));
    f.store
        .register_worker(announced(&f, second, &[]))
        .await
        .unwrap();
    let left = f.store.workers(long_ago).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].worker_id, second);
}
