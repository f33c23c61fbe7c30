//! One tour through every verb takes every legal move of both state machines but one.

use std::collections::BTreeSet;

use serde_json::json;
use tasker_model::outcome::{FailureKind, Settlement, SkipCause};
use tasker_model::step::{StepEvent, StepState};
use tasker_model::task::{TaskEvent, TaskState};
use tasker_model::transition::Change;
use tasker_store::store::{Order, TaskFilter};

use crate::fixture::{Defined, Fixture, Worker, fail, ms, retry_in, source, succeed};

/// A task goes back to `pending` only by a person's retry: with its only running step handed
/// back it stays `in_progress`, because it has started.
const UNTAKEN: &str = "task in_progress → pending (park)";

pub(crate) async fn every_legal_move_but_one_is_taken(f: Fixture) {
    let wide = f
        .define("wide", &[("a", &[]), ("b", &[]), ("c", &["a"])])
        .await;
    let worker = f.worker(&[&wide]);
    successes(&f, &wide, &worker).await;
    skips(&f, &wide, &worker).await;
    failures(&f, &wide, &worker).await;
    cancellations(&f, &wide, &worker).await;
    deadlines(&f).await;
    f.audit().await;
    let untaken = untaken(&f).await;
    assert_eq!(untaken, [UNTAKEN], "moves that the tour did not take");
}

async fn successes(f: &Fixture, wide: &Defined, worker: &Worker) {
    let complete = f.start(wide).await;
    let root = &f.claim(worker, 1).await.claimed[0];
    f.settle(worker, root, Settlement::HandBack).await;
    f.order(complete, Order::SkipStep(1)).await.unwrap();
    f.order(
        complete,
        Order::ResolveStep {
            position: 2,
            result: None,
        },
    )
    .await
    .unwrap();
    f.run_all(worker).await;
    f.order(complete, Order::CancelTask).await.unwrap();
}

async fn skips(f: &Fixture, wide: &Defined, worker: &Worker) {
    let task = f.start(wide).await;
    let cause = SkipCause::Condition;
    for root in f.claim(worker, 2).await.claimed {
        f.settle(worker, &root, Settlement::Skip { cause }).await;
    }
    f.order(task, Order::CancelTask).await.unwrap();
}

async fn failures(f: &Fixture, wide: &Defined, worker: &Worker) {
    let task = f.start(wide).await;
    let roots = f.claim(worker, 2).await.claimed;
    f.settle(worker, &roots[0], retry_in(0)).await;
    f.settle(worker, &roots[1], fail(FailureKind::Permanent))
        .await;
    let again = f.claim_one(worker).await;
    f.settle(worker, &again, fail(FailureKind::Permanent)).await;
    f.order(task, Order::RetryTask).await.unwrap();
    for step in f.claim(worker, 2).await.claimed {
        f.settle(worker, &step, fail(FailureKind::Permanent)).await;
    }
    f.order(
        task,
        Order::ResolveStep {
            position: 1,
            result: None,
        },
    )
    .await
    .unwrap();
    f.order(task, Order::ResolveTask).await.unwrap();
    f.order(task, Order::CancelTask).await.unwrap();
}

async fn cancellations(f: &Fixture, wide: &Defined, worker: &Worker) {
    let fresh = f.start(wide).await;
    f.order(fresh, Order::CancelTask).await.unwrap();
    let running = f.start(wide).await;
    f.claim(worker, 2).await;
    f.order(running, Order::CancelTask).await.unwrap();
}

async fn deadlines(f: &Fixture) {
    let mut definition = source("late", &[("a", &[])]);
    definition.deadline_ms = Some(1);
    let late = f.register(definition).await;
    f.start(&late).await;
    f.clock.advance(ms(1));
    f.claim(&f.worker(&[]), 1).await;
    let task = f.start(&late).await;
    let worker = f.worker(&[&late]);
    let step = f.claim_one(&worker).await;
    f.settle(&worker, &step, succeed(&json!(1))).await;
    assert_eq!(f.state(task).await, TaskState::Complete);
}

/// The legal moves that no transition of any task took, as a report.
async fn untaken(f: &Fixture) -> Vec<String> {
    let mut taken = BTreeSet::new();
    for task in f.list(TaskFilter::default()).await {
        for transition in f.detail(task).await.transitions {
            taken.insert(match transition.change {
                Change::Task { from, to } => ("task", from.map(TaskState::as_str), to.as_str()),
                Change::Step { from, to, .. } => ("step", from.map(StepState::as_str), to.as_str()),
            });
        }
    }
    let mut untaken = Vec::new();
    let mut look = |machine, from: &'static str, to: &'static str, event: &'static str| {
        if !taken.contains(&(machine, Some(from), to)) {
            untaken.push(format!("{machine} {from} → {to} ({event})"));
        }
    };
    for (from, event) in pairs(StepState::ALL, StepEvent::ALL) {
        if let Ok(to) = from.after(event) {
            look("step", from.as_str(), to.as_str(), event.as_str());
        }
    }
    for (from, event) in pairs(TaskState::ALL, TaskEvent::ALL) {
        if let Ok(to) = from.after(event) {
            look("task", from.as_str(), to.as_str(), event.as_str());
        }
    }
    println!(
        "{} different moves taken, not taken: {untaken:?}",
        taken.len()
    );
    untaken
}

fn pairs<S: Copy, E: Copy>(states: &[S], events: &[E]) -> Vec<(S, E)> {
    let with_events = |state: &S| {
        let state = *state;
        events.iter().map(move |event| (state, *event))
    };
    states.iter().flat_map(with_events).collect()
}
