//! Tasks that tasks start: how they are counted, held, replaced, told after a failure and deleted.

use std::time::Duration;

use serde_json::json;
use tasker_model::id::TaskId;
use tasker_model::json::Json;
use tasker_model::outcome::{FailureKind, Settlement};
use tasker_model::subtask::{Gather, Origin, SubtaskPlan, SubtaskTally, replacement_id};
use tasker_model::task::TaskState;
use tasker_model::template::MapOver;
use tasker_model::wait::{NEVER, Until, Wait};
use tasker_store::store::{
    Aftermath, ClaimedStep, Created, Expired, NewOrigin, NewTask, Order, TaskFilter,
};

use crate::fixture::{Defined, Fixture, LEASE_MS, Worker, fail, ms, retry_in, source, succeed};

/// The first step of a task, while it starts its sub-tasks.
pub(crate) struct Asking {
    pub(crate) f: Fixture,
    list: Defined,
    pub(crate) item: Defined,
    pub(crate) worker: Worker,
    /// Who runs the sub-tasks.
    pub(crate) working: Worker,
    pub(crate) task: TaskId,
    pub(crate) claimed: ClaimedStep,
    pub(crate) plan: SubtaskPlan,
}

impl Asking {
    /// So many items, of which so many may run at the same time, and so many fail.
    pub(crate) async fn of(f: Fixture, count: u32, concurrency: u32, max_failures: u32) -> Asking {
        let item = f
            .define("item", &[("first", &[]), ("last", &["first"])])
            .await;
        Asking::with(
            f,
            item,
            [count, concurrency, max_failures],
            succeed(&json!(1)),
        )
        .await
    }

    /// With the end of another step of the task.
    async fn with(f: Fixture, item: Defined, plan: [u32; 3], beside_ends: Settlement) -> Asking {
        let mut definition = source(
            "list",
            &[("each", &[]), ("beside", &[]), ("after", &["each"])],
        );
        definition.steps[0].map = Some(MapOver::new("context.list"));
        let list = f.register(definition).await;
        let (worker, working) = (f.worker(&[&list]), f.worker(&[&item]));
        let task = f.start(&list).await;
        let mut claimed = f.claim(&worker, 2).await.claimed;
        let beside = claimed.pop().unwrap();
        f.settle(&worker, &beside, beside_ends).await;
        let [count, concurrency, max_failures] = plan;
        Asking {
            claimed: claimed.pop().unwrap(),
            plan: SubtaskPlan {
                count,
                concurrency,
                max_failures,
                gather: Gather::List,
            },
            f,
            list,
            item,
            worker,
            working,
            task,
        }
    }

    pub(crate) fn new_task(&self, ordinal: u32, replaces: Option<TaskId>) -> NewTask {
        let origin = NewOrigin::Step {
            lease: self.claimed.lease,
            worker: self.worker.id,
            ordinal,
            plan: self.plan,
            replaces,
        };
        NewTask {
            task_id: replaces.map_or_else(|| origin.origin().subtask_id(), replacement_id),
            origin: Some(origin),
            ..self.f.plain(&self.item)
        }
    }

    /// Creates the sub-tasks with these ordinals, and gives their ids.
    pub(crate) async fn create(&self, ordinals: std::ops::Range<u32>) -> Vec<TaskId> {
        let new: Vec<_> = ordinals.map(|n| self.new_task(n, None)).collect();
        let created = self.f.create(&new).await;
        let ids: Vec<_> = new.iter().map(|new| new.task_id).collect();
        let expected: Vec<_> = ids.iter().copied().map(Created::New).collect();
        assert_eq!(created, expected);
        ids
    }

    /// Creates all that is planned, and waits for it.
    async fn start(&self) -> Vec<TaskId> {
        let ids = self.create(0..self.plan.count).await;
        self.wait().await;
        ids
    }

    pub(crate) async fn wait(&self) {
        let wait = Settlement::Wait(Wait {
            until: Until::Subtasks,
            signal: None,
        });
        self.f.settle(&self.worker, &self.claimed, wait).await;
    }

    async fn tally(&self) -> SubtaskTally {
        self.f.step(self.task, 0).await.subtasks.unwrap()
    }

    /// How many were created, are open, are held, and have failed.
    pub(crate) async fn counts(&self) -> [u32; 4] {
        let tally = self.tally().await;
        assert_eq!(tally.plan, self.plan);
        [tally.created, tally.open, tally.held, tally.failed]
    }

    /// Ends so many of the sub-tasks that may run.
    async fn end(&self, count: usize, how: fn() -> Settlement) {
        let claimed = self.f.claim(&self.working, count).await.claimed;
        assert_eq!(claimed.len(), count);
        for claimed in claimed {
            let next = self
                .f
                .settle_and_claim(&self.working, &claimed, how(), 1)
                .await;
            for claimed in next.claimed {
                self.f.settle(&self.working, &claimed, how()).await;
            }
        }
    }

    /// How many of the sub-tasks could be claimed now.
    async fn due(&self) -> usize {
        let queues = self.f.store.queues().await.unwrap();
        let due: u32 = queues.iter().map(|queue| queue.due).sum();
        due as usize
    }

    /// The step, if it is due.
    pub(crate) async fn woken(&self) -> Option<ClaimedStep> {
        self.f.claim(&self.worker, 1).await.claimed.pop()
    }

    async fn aftermath(&self) -> Option<Aftermath> {
        let templates = vec![self.list.runnable.template, self.item.runnable.template];
        let found = self.f.store.aftermaths(templates, 10).await.unwrap();
        assert!(found.len() < 2);
        found.into_iter().next()
    }
}

fn done() -> Settlement {
    succeed(&json!({"n": 1}))
}

fn failed() -> Settlement {
    fail(FailureKind::Permanent)
}

pub(crate) async fn beyond_the_concurrency_they_are_held(f: Fixture) {
    let a = Asking::of(f, 5, 2, 0).await;
    let ids = a.create(0..3).await;
    assert_eq!((a.counts().await, a.due().await), ([3, 3, 1, 0], 2));
    a.create(3..5).await;
    assert_eq!((a.counts().await, a.due().await), ([5, 5, 3, 0], 2));
    assert_eq!(a.f.step(ids[2], 0).await.due_at, Some(NEVER));
    a.end(1, done).await;
    assert_eq!((a.counts().await, a.due().await), ([5, 4, 2, 0], 2));
    assert_eq!(
        a.f.step(ids[2], 0).await.due_at,
        Some(a.f.now()),
        "in order"
    );
    a.end(2, done).await;
    assert_eq!((a.counts().await, a.due().await), ([5, 2, 0, 0], 2));
    a.end(2, done).await;
    assert_eq!((a.counts().await, a.due().await), ([5, 0, 0, 0], 0));
}

pub(crate) async fn the_last_end_wakes_the_step(f: Fixture) {
    let a = Asking::of(f, 3, 3, 1).await;
    a.start().await;
    assert!(a.woken().await.is_none());
    a.end(1, failed).await;
    a.end(1, done).await;
    assert!(a.woken().await.is_none());
    a.end(1, done).await;
    let woken = a.woken().await.unwrap();
    assert_eq!(woken.lease.attempt, 1, "to wait is no attempt");
    assert_eq!(woken.waited_until, Some(NEVER));
    assert_eq!(woken.subtasks, Some(a.tally().await));
    assert_eq!(a.counts().await, [3, 0, 0, 1]);
}

pub(crate) async fn too_many_failures_wake_it_and_start_nothing_more(f: Fixture) {
    let a = Asking::of(f, 9, 3, 1).await;
    a.start().await;
    a.end(1, failed).await;
    assert_eq!((a.counts().await, a.due().await), ([9, 8, 5, 1], 3));
    a.end(1, failed).await;
    // Two others run on; beside them only the step is due.
    assert_eq!((a.counts().await, a.due().await), ([9, 7, 5, 2], 3));
    assert_eq!(a.woken().await.unwrap().lease.step, a.claimed.lease.step);
    a.end(2, done).await;
    assert_eq!((a.counts().await, a.due().await), ([9, 5, 5, 2], 0));
}

pub(crate) async fn a_step_that_waits_too_late_is_due_at_once(f: Fixture) {
    let a = Asking::of(f, 2, 2, 0).await;
    a.create(0..2).await;
    a.end(2, done).await;
    a.wait().await;
    assert!(a.woken().await.is_some());
}

pub(crate) async fn ends_of_one_commit_are_counted_together(f: Fixture) {
    let item = f.define("item", &[("only", &[])]).await;
    let a = Asking::with(f, item, [7, 4, 7], succeed(&json!(1))).await;
    a.start().await;
    let claimed = a.f.claim(&a.working, 4).await.claimed;
    let ends = claimed.iter().zip([done(), failed(), done(), failed()]);
    let ends = ends.map(|(claimed, how)| crate::fixture::end(claimed, how));
    let ended = a.f.store.complete(a.working.id, ends.collect(), None);
    assert_eq!(ended.await.unwrap().1.finished.len(), 4);
    assert_eq!((a.counts().await, a.due().await), ([7, 3, 0, 2], 3));
}

pub(crate) async fn without_the_lease_nothing_is_created(f: Fixture) {
    let a = Asking::of(f, 2, 1, 0).await;
    a.create(0..1).await;
    a.f.clock.advance(ms(LEASE_MS));
    let other = a.f.worker(&[&a.list]);
    let taken = a.f.claim_one(&other).await;
    assert_eq!(taken.lease.step, a.claimed.lease.step);
    let late = a.new_task(1, None);
    let id = late.task_id;
    assert_eq!(a.f.create(&[late]).await, [Created::Unwanted(id)]);
    assert!(a.f.store.task(id).await.unwrap().is_none());
    assert_eq!(a.counts().await, [1, 1, 0, 0]);
}

pub(crate) async fn a_repeated_creation_is_counted_once(f: Fixture) {
    let a = Asking::of(f, 3, 1, 0).await;
    let ids = a.create(0..2).await;
    let again: Vec<_> = (0..3).map(|n| a.new_task(n, None)).collect();
    let expected = [
        Created::Existing(ids[0]),
        Created::Existing(ids[1]),
        Created::New(again[2].task_id),
    ];
    assert_eq!(a.f.create(&again).await, expected);
    assert_eq!((a.counts().await, a.due().await), ([3, 3, 2, 0], 1));
}

pub(crate) async fn what_came_first_is_the_plan(f: Fixture) {
    let a = Asking::of(f, 2, 1, 0).await;
    a.create(0..1).await;
    let mut other = a.new_task(1, None);
    if let Some(NewOrigin::Step { plan, .. }) = &mut other.origin {
        plan.concurrency = 100;
    }
    a.f.create(&[other]).await;
    assert_eq!(a.counts().await, [2, 2, 1, 0]);
}

pub(crate) async fn a_held_one_that_is_cancelled_is_not_started(f: Fixture) {
    let a = Asking::of(f, 4, 1, 4).await;
    let ids = a.start().await;
    a.f.order(ids[1], Order::CancelTask).await.unwrap();
    assert_eq!((a.counts().await, a.due().await), ([4, 3, 2, 1], 1));
    a.end(1, done).await;
    assert_eq!((a.counts().await, a.due().await), ([4, 2, 1, 1], 1));
    assert_eq!(a.f.step(ids[2], 0).await.due_at, Some(a.f.now()));
    a.f.order(ids[2], Order::CancelTask).await.unwrap();
    assert_eq!((a.counts().await, a.due().await), ([4, 1, 0, 2], 1));
}

/// A person may declare what comes first done; when the rest starts is still the plan's business.
pub(crate) async fn a_held_one_stays_held_whatever_is_ordered(f: Fixture) {
    let a = Asking::of(f, 2, 1, 2).await;
    let ids = a.start().await;
    a.f.order(ids[1], Order::SkipStep(0)).await.unwrap();
    assert_eq!((a.counts().await, a.due().await), ([2, 2, 1, 0], 1));
    assert_eq!(a.f.step(ids[1], 1).await.due_at, Some(NEVER));
    a.end(1, done).await;
    assert_eq!((a.counts().await, a.due().await), ([2, 1, 0, 0], 1));
    assert_eq!(a.f.step(ids[1], 1).await.due_at, Some(a.f.now()));
    a.end(1, done).await;
    assert!(a.woken().await.is_some());
}

pub(crate) async fn every_end_makes_room(f: Fixture) {
    let a = Asking::of(f, 7, 1, 9).await;
    let ids = a.start().await;
    a.end(1, done).await;
    a.end(1, failed).await;
    a.f.order(ids[2], Order::CancelTask).await.unwrap();
    a.f.order(ids[3], Order::CancelStep(0)).await.unwrap();
    for position in 0..2 {
        let result = None;
        let order = Order::ResolveStep { position, result };
        a.f.order(ids[4], order).await.unwrap();
    }
    assert_eq!(a.f.state(ids[4]).await, TaskState::Complete);
    a.f.order(ids[5], Order::SkipStep(0)).await.unwrap();
    assert_eq!((a.counts().await, a.due().await), ([7, 2, 1, 3], 1));
    a.f.order(ids[5], Order::SkipStep(1)).await.unwrap();
    assert_eq!((a.counts().await, a.due().await), ([7, 1, 0, 3], 1));
    assert!(a.woken().await.is_none());
    // Of one that runs, too.
    let claimed = a.f.claim_one(&a.working).await;
    assert_eq!(claimed.lease.step.task_id, ids[6]);
    a.f.order(ids[6], Order::CancelTask).await.unwrap();
    assert_eq!((a.counts().await, a.due().await), ([7, 0, 0, 4], 1));
    assert!(a.woken().await.is_some());
}

pub(crate) async fn a_failure_that_is_taken_back_makes_room(f: Fixture) {
    let a = Asking::of(f, 4, 1, 0).await;
    let ids = a.start().await;
    a.end(1, failed).await;
    assert_eq!(a.counts().await, [4, 3, 3, 1]);
    a.f.order(ids[0], Order::ResolveTask).await.unwrap();
    assert_eq!(a.counts().await, [4, 3, 2, 0]);
    assert_eq!(a.f.step(ids[1], 0).await.due_at, Some(a.f.now()));
    a.f.order(ids[1], Order::CancelTask).await.unwrap();
    assert_eq!(a.counts().await, [4, 2, 2, 1]);
    // The step was due by the first failure, and is still so: whoever claims it sees what is.
    let woken = a.woken().await.unwrap();
    assert_eq!(woken.subtasks, Some(a.tally().await));
}

pub(crate) async fn orders_are_counted(f: Fixture) {
    let a = Asking::of(f, 2, 2, 2).await;
    let ids = a.start().await;
    a.end(2, failed).await;
    assert_eq!(a.counts().await, [2, 0, 0, 2]);
    a.f.order(ids[0], Order::ResolveTask).await.unwrap();
    assert_eq!(a.counts().await, [2, 0, 0, 1]);
    a.f.order(ids[1], Order::RetryTask).await.unwrap();
    assert_eq!(a.counts().await, [2, 1, 0, 0]);
    a.end(1, failed).await;
    assert_eq!(a.counts().await, [2, 0, 0, 1]);
    a.f.order(ids[1], Order::SkipStep(0)).await.unwrap();
    assert_eq!(a.counts().await, [2, 1, 0, 0], "its last step is left");
    a.f.order(ids[1], Order::CancelStep(1)).await.unwrap();
    assert_eq!(a.counts().await, [2, 0, 0, 1]);
}

pub(crate) async fn one_that_goes_round_again_is_waited_for(f: Fixture) {
    let a = Asking::of(f, 1, 1, 0).await;
    let ids = a.create(0..1).await;
    a.end(1, failed).await;
    a.f.order(ids[0], Order::RetryTask).await.unwrap();
    a.wait().await;
    assert!(a.woken().await.is_none());
    a.end(1, done).await;
    assert!(a.woken().await.is_some());
}

pub(crate) async fn lost_leases_and_deadlines_are_counted(f: Fixture) {
    let mut definition = source("item", &[("only", &[])]);
    definition.deadline_ms = Some(10 * LEASE_MS);
    let item = f.register(definition).await;
    let a = Asking::with(f, item, [3, 1, 9], succeed(&json!(1))).await;
    let ids = a.start().await;
    for _ in 0..3 {
        assert_eq!(a.f.claim_one(&a.working).await.lease.step.task_id, ids[0]);
        a.f.clock.advance(ms(LEASE_MS));
    }
    // The one that is lost for good makes room for the next.
    a.f.claim(&a.working, 1).await;
    assert_eq!(a.f.state(ids[0]).await, TaskState::Error);
    assert_eq!((a.counts().await, a.due().await), ([3, 2, 1, 1], 1));
    a.f.clock.advance(ms(7 * LEASE_MS));
    a.f.claim(&a.working, 1).await;
    assert_eq!(a.counts().await, [3, 0, 0, 3]);
    assert!(a.woken().await.is_some());
}

pub(crate) async fn what_was_cancelled_is_replaced(f: Fixture) {
    let a = Asking::of(f, 3, 2, 1).await;
    let ids = a.create(0..3).await;
    a.f.order(ids[0], Order::CancelTask).await.unwrap();
    assert_eq!((a.counts().await, a.due().await), ([3, 2, 0, 1], 2));
    let new = a.new_task(0, Some(ids[0]));
    let id = new.task_id;
    let new = [new];
    assert_eq!(a.f.create(&new).await, [Created::New(id)]);
    assert_eq!((a.counts().await, a.due().await), ([3, 3, 1, 0], 2));
    assert_eq!(a.f.create(&new).await, [Created::Existing(id)]);
    assert_eq!(a.counts().await, [3, 3, 1, 0]);
    let step = a.claimed.lease.step;
    let origin = Origin::Step {
        task_id: step.task_id,
        position: step.position,
        ordinal: 0,
    };
    assert_eq!(a.f.detail(id).await.task.origin, Some(origin));
    assert_eq!(a.f.detail(ids[0]).await.task.origin, None);
    let all = a.f.store.subtasks(step, 0, 10).await.unwrap();
    let all: Vec<_> = all.iter().map(|s| (s.ordinal, s.task_id)).collect();
    assert_eq!(all, [(0, id), (1, ids[1]), (2, ids[2])]);
    // What only runs, or has another place, is not replaced.
    let new = a.new_task(2, Some(ids[1]));
    a.f.create(&[new]).await;
    assert_eq!(
        a.f.detail(ids[1]).await.task.origin.map(|o| o.task_id()),
        Some(a.task)
    );
}

/// While the first is replaced, the failure of the others still forbids a start.
pub(crate) async fn what_is_replaced_makes_room_for_all(f: Fixture) {
    let a = Asking::of(f, 4, 3, 0).await;
    let ids = a.create(0..4).await;
    for id in &ids {
        a.f.order(*id, Order::CancelTask).await.unwrap();
    }
    assert_eq!((a.counts().await, a.due().await), ([4, 0, 0, 4], 0));
    let again: Vec<_> = (0..)
        .zip(&ids)
        .map(|(n, id)| a.new_task(n, Some(*id)))
        .collect();
    let expected: Vec<_> = again.iter().map(|new| Created::New(new.task_id)).collect();
    assert_eq!(a.f.create(&again).await, expected);
    assert_eq!((a.counts().await, a.due().await), ([4, 4, 1, 0], 3));
}

pub(crate) async fn what_failed_is_replaced_too(f: Fixture) {
    let a = Asking::of(f, 2, 1, 1).await;
    let ids = a.create(0..2).await;
    a.end(1, failed).await;
    assert_eq!((a.counts().await, a.due().await), ([2, 1, 0, 1], 1));
    let new = a.new_task(0, Some(ids[0]));
    assert_eq!(
        a.f.create(std::slice::from_ref(&new)).await,
        [Created::New(new.task_id)]
    );
    assert_eq!((a.counts().await, a.due().await), ([2, 2, 1, 0], 1));
    // What has given up its place counts no more, whatever becomes of it.
    a.f.order(ids[0], Order::RetryTask).await.unwrap();
    assert_eq!(a.counts().await, [2, 2, 1, 0]);
    a.f.order(ids[0], Order::CancelTask).await.unwrap();
    assert_eq!(a.counts().await, [2, 2, 1, 0]);
}

pub(crate) async fn every_last_step_has_its_result(f: Fixture) {
    let steps: &[(&str, &[&str])] = &[("z", &[]), ("b", &["z"]), ("a", &["z"]), ("c", &[])];
    let item = f.define("item", steps).await;
    let a = Asking::with(f, item, [1, 1, 1], succeed(&json!(1))).await;
    let ids = a.start().await;
    a.f.order(ids[0], Order::SkipStep(2)).await.unwrap();
    a.f.run_all(&a.working).await;
    let step = a.claimed.lease.step;
    let found = a.f.store.subtasks(step, 0, 9).await.unwrap();
    let results = found[0].results.iter();
    let results: Vec<_> = results
        .map(|(name, result)| (name.as_str(), result.as_ref().map(Json::as_str)))
        .collect();
    let expected = [("b", Some("true")), ("a", None), ("c", Some("true"))];
    assert_eq!(results, expected, "in the order of the definition");
}

pub(crate) async fn their_last_results_are_read_page_by_page(f: Fixture) {
    let a = Asking::of(f, 5, 5, 5).await;
    let ids = a.start().await;
    a.end(3, done).await;
    a.end(1, failed).await;
    let page =
        a.f.store
            .subtasks(a.claimed.lease.step, 2, 2)
            .await
            .unwrap();
    let found: Vec<_> = page.iter().map(|s| (s.ordinal, s.task_id)).collect();
    assert_eq!(found, [(2, ids[2]), (3, ids[3])]);
    let all =
        a.f.store
            .subtasks(a.claimed.lease.step, 0, 9)
            .await
            .unwrap();
    for subtask in all {
        let [(name, result)] = &subtask.results[..] else {
            panic!("one step is the last: {subtask:?}");
        };
        assert_eq!(name.as_str(), "last");
        let is_complete = subtask.state == TaskState::Complete;
        assert_eq!(
            result.as_ref().map(Json::as_str),
            is_complete.then_some(r#"{"n":1}"#)
        );
    }
}

pub(crate) async fn a_failed_task_is_told_until_it_is_seen_to(f: Fixture) {
    let a = Asking::of(f, 3, 2, 0).await;
    let ids = a.start().await;
    assert_eq!(a.aftermath().await, None);
    a.end(1, done).await;
    a.f.order(a.task, Order::CancelTask).await.unwrap();
    let told = a.aftermath().await.unwrap();
    assert_eq!((told.task_id, told.state), (a.task, TaskState::Cancelled));
    assert_eq!(told.orphans.len(), 2);
    let others = vec![a.item.runnable.template];
    assert_eq!(a.f.store.aftermaths(others, 10).await.unwrap(), []);
    for orphan in &told.orphans {
        assert!(ids.contains(orphan));
        a.f.order(*orphan, Order::CancelTask).await.unwrap();
    }
    assert_eq!(a.counts().await, [3, 0, 0, 2]);
    let left = a.aftermath().await.unwrap();
    assert_eq!((left.since, left.orphans), (told.since, vec![]));
    let (end, microsecond) = (
        |since| a.f.store.end_aftermath(a.task, since),
        Duration::from_micros(1),
    );
    end(told.since - microsecond).await.unwrap();
    end(told.since + microsecond).await.unwrap();
    assert!(a.aftermath().await.is_some());
    end(told.since).await.unwrap();
    end(told.since).await.unwrap();
    assert_eq!(a.aftermath().await, None);
}

pub(crate) async fn a_task_that_fails_again_is_told_again(f: Fixture) {
    let a = Asking::of(f, 1, 1, 0).await;
    a.f.settle(&a.worker, &a.claimed, failed()).await;
    let first = a.aftermath().await.unwrap();
    assert_eq!((first.state, first.since), (TaskState::Error, a.f.now()));
    a.f.clock.advance(ms(5));
    a.f.order(a.task, Order::RetryTask).await.unwrap();
    let again = a.f.claim_one(&a.worker).await;
    a.f.settle(&a.worker, &again, failed()).await;
    let second = a.aftermath().await.unwrap();
    assert_eq!(second.since, a.f.now());
    a.f.store.end_aftermath(a.task, first.since).await.unwrap();
    assert_eq!(a.aftermath().await, Some(second));
}

pub(crate) async fn a_step_that_is_skipped_leaves_its_sub_tasks(f: Fixture) {
    let a = Asking::of(f, 2, 2, 0).await;
    let mut ids = a.start().await;
    a.f.order(a.task, Order::SkipStep(0)).await.unwrap();
    let mut told = a.aftermath().await.unwrap();
    told.orphans.sort();
    ids.sort();
    assert_eq!((told.state, told.orphans), (TaskState::InProgress, ids));
}

/// Of a task that goes on, since another step waits for its retry.
pub(crate) async fn a_step_that_fails_for_good_leaves_its_sub_tasks(f: Fixture) {
    for is_lost in [false, true] {
        let f = f.clone();
        let item = f.define("item", &[("only", &[])]).await;
        let a = Asking::with(f, item, [2, 2, 0], retry_in(1_000_000)).await;
        a.create(0..2).await;
        if is_lost {
            for _ in 0..2 {
                a.f.clock.advance(ms(LEASE_MS));
                assert_eq!(a.f.claim(&a.worker, 9).await.claimed.len(), 1);
            }
            a.f.clock.advance(ms(LEASE_MS));
            assert!(a.f.claim(&a.worker, 9).await.claimed.is_empty());
        } else {
            a.f.settle(&a.worker, &a.claimed, failed()).await;
        }
        let told = a.aftermath().await.unwrap();
        assert_eq!((told.state, told.orphans.len()), (TaskState::InProgress, 2));
        // That nobody sees to it here shall not concern the next round.
        for orphan in told.orphans {
            a.f.order(orphan, Order::CancelTask).await.unwrap();
        }
        a.f.store.end_aftermath(a.task, told.since).await.unwrap();
    }
}

pub(crate) async fn what_failed_is_undone_once_and_stays_closed(f: Fixture) {
    let a = Asking::of(f, 1, 1, 0).await;
    let undo = || {
        let origin = NewOrigin::Undo { task_id: a.task };
        NewTask {
            task_id: origin.origin().subtask_id(),
            origin: Some(origin),
            ..a.f.plain(&a.item)
        }
    };
    let id = undo().task_id;
    assert_eq!(
        a.f.create(&[undo()]).await,
        [Created::Unwanted(id)],
        "it runs"
    );
    a.f.settle(&a.worker, &a.claimed, failed()).await;
    assert_eq!(a.f.create(&[undo()]).await, [Created::New(id)]);
    assert_eq!(a.f.create(&[undo()]).await, [Created::Existing(id)]);
    let (task, detail) = (a.f.detail(id).await.task, a.f.detail(a.task).await);
    assert_eq!(task.origin, Some(Origin::Undo { task_id: a.task }));
    assert_eq!(detail.undone_by, Some((id, TaskState::Pending)));
    let refusal = format!(
        "task {id} undoes what this one did, so this one cannot be re-opened; \
         create a new task instead"
    );
    for order in [Order::RetryTask, Order::SkipStep(0)] {
        a.f.order_refused(a.task, order, &refusal).await;
    }
    a.end(1, done).await;
    let detail = a.f.detail(a.task).await;
    assert_eq!(detail.undone_by, Some((id, TaskState::Complete)));
    a.f.order(a.task, Order::ResolveTask).await.unwrap();
}

pub(crate) async fn lists_show_them_if_asked(f: Fixture) {
    let a = Asking::of(f, 2, 2, 0).await;
    let ids = a.start().await;
    for states in [vec![], vec![TaskState::Pending, TaskState::InProgress]] {
        let filter = TaskFilter {
            states,
            ..TaskFilter::default()
        };
        assert_eq!(a.f.list(filter.clone()).await, [a.task]);
        let found = a.f.list(TaskFilter {
            also_subtasks: true,
            ..filter
        });
        let found = found.await;
        assert_eq!(found.len(), 3);
        assert!(ids.iter().all(|id| found.contains(id)));
    }
}

pub(crate) async fn they_are_deleted_after_what_started_them(f: Fixture) {
    let a = Asking::of(f, 2, 2, 0).await;
    let ids = a.start().await;
    a.end(1, done).await;
    let delete = async || {
        let expired = Expired {
            states: vec![TaskState::Complete, TaskState::Cancelled],
            finished_before: a.f.now_and(1),
            namespace: None,
        };
        let deleted = a.f.store.delete_finished(expired, None, 10).await;
        deleted.unwrap().tasks
    };
    assert_eq!(delete().await, 0);
    a.f.order(a.task, Order::CancelTask).await.unwrap();
    assert_eq!(delete().await, 0, "something is left to do of it");
    let since = a.aftermath().await.unwrap().since;
    a.f.store.end_aftermath(a.task, since).await.unwrap();
    assert_eq!(delete().await, 1);
    assert_eq!(delete().await, 1, "the one that is over");
    // Nobody counts it any more.
    a.end(1, done).await;
    assert_eq!(delete().await, 1);
    for id in ids {
        assert!(a.f.store.task(id).await.unwrap().is_none());
    }
}
