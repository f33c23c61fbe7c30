//! Tasks that tasks start: how many may run, what is counted, when the step goes on, and what is left to do
//! after a failure.

use serde_json::json;
use tasker_model::id::TaskId;
use tasker_model::json::Json;
use tasker_model::outcome::{FailureKind, Settlement};
use tasker_model::subtask::{Gather, Origin, SubtaskPlan, replacement_id};
use tasker_model::task::TaskState;
use tasker_model::template::{MapOver, Undo};
use tasker_model::wait::{NEVER, Until, Wait};
use tasker_store::StoreError;
use tasker_store::store::{
    Aftermath, ClaimedStep, Created, Expired, NewOrigin, NewTask, Order, TaskFilter,
};

use crate::fixture::{
    Defined, Fixture, LEASE_MS, Worker, end, fail, ms, retry_in, source, succeed,
};

/// A step that runs, and may start others.
struct Starter {
    list: Defined,
    item: Defined,
    asking: Worker,
    working: Worker,
    task: TaskId,
    claimed: ClaimedStep,
    plan: SubtaskPlan,
}

/// `[how many, how many at once, how many may fail]`
async fn starter(f: &Fixture, [count, concurrency, max_failures]: [u32; 3]) -> Starter {
    let mut list = source("list", &[("each", &[]), ("after", &["each"])]);
    list.steps[0].map = Some(MapOver::new("context.list"));
    list.steps[0].undo = Some(Undo::by("undo"));
    let list = f.register(list).await;
    let item = f
        .define("item", &[("first", &[]), ("last", &["first"])])
        .await;
    let (asking, working) = (f.worker(&[&list]), f.worker(&[&item]));
    let task = f.start(&list).await;
    let claimed = f.claim_one(&asking).await;
    let plan = SubtaskPlan {
        count,
        concurrency,
        max_failures,
        gather: Gather::List,
    };
    Starter {
        list,
        item,
        asking,
        working,
        task,
        claimed,
        plan,
    }
}

impl Starter {
    fn new_task(&self, f: &Fixture, ordinal: u32, replaces: Option<TaskId>) -> NewTask {
        let origin = NewOrigin::Step {
            lease: self.claimed.lease,
            worker: self.asking.id,
            ordinal,
            plan: self.plan,
            replaces,
        };
        let id = origin.origin().subtask_id();
        NewTask {
            task_id: replaces.map_or(id, replacement_id),
            origin: Some(origin),
            ..f.plain(&self.item)
        }
    }

    fn id(&self, ordinal: u32) -> TaskId {
        let (task_id, position) = (self.task, 0);
        let origin = Origin::Step {
            task_id,
            position,
            ordinal,
        };
        origin.subtask_id()
    }

    async fn start(&self, f: &Fixture, ordinals: std::ops::Range<u32>) -> Vec<Created> {
        let tasks: Vec<_> = ordinals.map(|n| self.new_task(f, n, None)).collect();
        f.create(&tasks).await
    }

    /// Gives the step back until its sub-tasks have ended.
    async fn wait(&self, f: &Fixture) {
        let wait = Wait {
            until: Until::Subtasks,
            signal: None,
        };
        f.settle(&self.asking, &self.claimed, Settlement::Wait(wait))
            .await;
    }

    /// Created, open, held, failed.
    async fn counts(&self, f: &Fixture) -> [u32; 4] {
        let tally = f.detail(self.task).await.steps[0].subtasks.unwrap();
        assert_eq!(tally.plan, self.plan);
        [tally.created, tally.open, tally.held, tally.failed]
    }

    async fn is_due(&self, f: &Fixture) -> bool {
        let step = f.detail(self.task).await.steps.remove(0);
        step.due_at.is_some_and(|due| due <= f.now())
    }

    /// Runs one sub-task through, or ends its first step so.
    async fn end_one(&self, f: &Fixture, settlement: Option<Settlement>) -> TaskId {
        let first = f.claim(&self.working, 1).await.claimed.remove(0);
        if let Some(settlement) = settlement {
            f.settle(&self.working, &first, settlement).await;
        } else {
            let last = f.settle_and_claim(&self.working, &first, succeed(&json!(1)), 1);
            let last = last.await.claimed.remove(0);
            f.settle(&self.working, &last, succeed(&json!("done")))
                .await;
        }
        first.lease.step.task_id
    }

    async fn aftermaths(&self, f: &Fixture) -> Vec<Aftermath> {
        let templates = vec![self.list.runnable.template];
        f.store.aftermaths(templates, 10).await.unwrap()
    }
}

pub(crate) async fn no_more_run_at_once_than_are_allowed(f: Fixture) {
    let s = starter(&f, [5, 2, 0]).await;
    s.start(&f, 0..5).await;
    assert_eq!(s.counts(&f).await, [5, 5, 3, 0]);
    assert_eq!(f.claim(&s.working, 100).await.claimed.len(), 2);
    let held = f.detail(s.id(2)).await;
    assert_eq!(held.steps[0].due_at, Some(NEVER));
    assert_eq!(held.task.origin.unwrap().task_id(), s.task);
}

pub(crate) async fn the_next_one_starts_when_one_ends_whatever_in(f: Fixture) {
    let s = starter(&f, [6, 1, 9]).await;
    s.start(&f, 0..6).await;
    assert_eq!(s.end_one(&f, None).await, s.id(0));
    assert_eq!(s.counts(&f).await, [6, 5, 4, 0]);
    let failed = s.end_one(&f, Some(fail(FailureKind::Permanent))).await;
    assert_eq!(failed, s.id(1));
    assert_eq!(s.counts(&f).await, [6, 4, 3, 1]);
    f.order(s.id(2), Order::CancelTask).await.unwrap();
    assert_eq!(s.counts(&f).await, [6, 3, 2, 2]);
    // One that is held makes no room.
    f.order(s.id(5), Order::CancelTask).await.unwrap();
    assert_eq!(s.counts(&f).await, [6, 2, 1, 3]);
    for position in [0, 1] {
        let result = None;
        let order = Order::ResolveStep { position, result };
        f.order(s.id(3), order).await.unwrap();
    }
    assert_eq!(s.counts(&f).await, [6, 1, 0, 3]);
    assert_eq!(s.end_one(&f, None).await, s.id(4));
    assert_eq!(s.counts(&f).await, [6, 0, 0, 3]);
}

pub(crate) async fn what_takes_a_slot_keeps_it_while_it_waits(f: Fixture) {
    let s = starter(&f, [2, 1, 0]).await;
    s.start(&f, 0..2).await;
    let claimed = f.claim_one(&s.working).await;
    f.settle(&s.working, &claimed, retry_in(1_000)).await;
    assert!(f.claim(&s.working, 9).await.claimed.is_empty());
    assert_eq!(s.counts(&f).await, [2, 2, 1, 0]);
}

pub(crate) async fn a_deadline_of_a_sub_task_counts(f: Fixture) {
    let mut s = starter(&f, [2, 1, 1]).await;
    let mut item = source("short", &[("only", &[])]);
    item.deadline_ms = Some(1_000);
    s.item = f.register(item).await;
    s.working = f.worker(&[&s.item]);
    s.start(&f, 0..2).await;
    s.wait(&f).await;
    f.clock.advance(ms(1_000));
    f.claim(&s.working, 9).await;
    assert_eq!(s.counts(&f).await, [2, 0, 0, 2]);
    assert!(s.is_due(&f).await);
}

pub(crate) async fn a_lease_that_is_lost_for_good_counts(f: Fixture) {
    let s = starter(&f, [1, 1, 0]).await;
    s.start(&f, 0..1).await;
    s.wait(&f).await;
    for _ in 0..3 {
        assert_eq!(f.claim(&s.working, 9).await.claimed.len(), 1);
        f.clock.advance(ms(LEASE_MS));
    }
    assert!(f.claim(&s.working, 9).await.claimed.is_empty());
    assert_eq!(s.counts(&f).await, [1, 0, 0, 1]);
    assert!(s.is_due(&f).await);
}

pub(crate) async fn a_creation_repeated_counts_once(f: Fixture) {
    let s = starter(&f, [3, 9, 0]).await;
    let new = |n| Created::New(s.id(n));
    assert_eq!(s.start(&f, 0..2).await, [new(0), new(1)]);
    let again = [Created::Existing(s.id(1)), new(2)];
    assert_eq!(s.start(&f, 1..3).await, again);
    assert_eq!(s.counts(&f).await, [3, 3, 0, 0]);
}

pub(crate) async fn without_the_lease_nothing_is_created(f: Fixture) {
    let s = starter(&f, [2, 9, 0]).await;
    f.clock.advance(ms(LEASE_MS));
    // Somebody else has it now.
    let other = f.worker(&[&s.list]);
    assert_eq!(f.claim(&other, 1).await.claimed.len(), 1);
    let unwanted = [Created::Unwanted(s.id(0)), Created::Unwanted(s.id(1))];
    assert_eq!(s.start(&f, 0..2).await, unwanted);
    assert!(f.store.task(s.id(0)).await.unwrap().is_none());
    assert_eq!(f.detail(s.task).await.steps[0].subtasks, None);
}

pub(crate) async fn the_last_end_wakes_the_step(f: Fixture) {
    let s = starter(&f, [2, 2, 0]).await;
    s.start(&f, 0..2).await;
    s.wait(&f).await;
    s.end_one(&f, None).await;
    assert!(!s.is_due(&f).await);
    assert!(f.claim(&s.asking, 9).await.claimed.is_empty());
    s.end_one(&f, None).await;
    assert!(s.is_due(&f).await);
    let woken = f.claim_one(&s.asking).await;
    assert_eq!(woken.lease.attempt, 1, "waiting is no attempt");
    let tally = woken.subtasks.unwrap();
    assert!(tally.is_decided() && tally.is_started());
}

pub(crate) async fn too_many_failures_wake_the_step_and_start_nothing(f: Fixture) {
    let s = starter(&f, [6, 2, 1]).await;
    s.start(&f, 0..6).await;
    s.wait(&f).await;
    for expected in [[6, 5, 3, 1], [6, 4, 3, 2]] {
        assert!(!s.is_due(&f).await);
        s.end_one(&f, Some(fail(FailureKind::Permanent))).await;
        assert_eq!(s.counts(&f).await, expected);
    }
    assert!(s.is_due(&f).await);
}

pub(crate) async fn a_step_that_need_not_wait_is_due_at_once(f: Fixture) {
    let s = starter(&f, [1, 1, 0]).await;
    s.start(&f, 0..1).await;
    s.end_one(&f, None).await;
    s.wait(&f).await;
    assert!(s.is_due(&f).await);
}

pub(crate) async fn a_step_with_nothing_to_start_is_due_at_once(f: Fixture) {
    let s = starter(&f, [0, 1, 0]).await;
    s.wait(&f).await;
    assert!(s.is_due(&f).await);
}

pub(crate) async fn a_sub_task_that_is_sent_round_again_is_open_again(f: Fixture) {
    let s = starter(&f, [2, 2, 0]).await;
    s.start(&f, 0..2).await;
    let failed = s.end_one(&f, Some(fail(FailureKind::Permanent))).await;
    assert_eq!(s.counts(&f).await, [2, 1, 0, 1]);
    f.order(failed, Order::RetryTask).await.unwrap();
    assert_eq!(s.counts(&f).await, [2, 2, 0, 0]);
    s.wait(&f).await;
    for _ in 0..2 {
        s.end_one(&f, None).await;
    }
    assert_eq!(s.counts(&f).await, [2, 0, 0, 0]);
    assert!(s.is_due(&f).await);
}

pub(crate) async fn another_takes_the_place_of_one_that_was_cancelled(f: Fixture) {
    let s = starter(&f, [2, 1, 0]).await;
    s.start(&f, 0..2).await;
    f.order(s.id(0), Order::CancelTask).await.unwrap();
    assert_eq!(s.counts(&f).await, [2, 1, 1, 1]);
    let new = s.new_task(&f, 0, Some(s.id(0)));
    for expected in [Created::New(new.task_id), Created::Existing(new.task_id)] {
        assert_eq!(f.create(std::slice::from_ref(&new)).await, [expected]);
        assert_eq!(s.counts(&f).await[..2], [2, 2]);
    }
    let page = f.store.subtasks(s.claimed.lease.step, 0, 9).await.unwrap();
    let ids: Vec<_> = page.iter().map(|s| (s.ordinal, s.task_id)).collect();
    assert_eq!(ids, [(0, new.task_id), (1, s.id(1))]);
    assert_eq!(f.detail(s.id(0)).await.task.origin, None);
    for _ in 0..2 {
        s.end_one(&f, None).await;
    }
    assert_eq!(s.counts(&f).await, [2, 0, 0, 0]);
}

pub(crate) async fn results_are_those_of_the_last_steps_in_order_and_pages(f: Fixture) {
    let s = starter(&f, [5, 5, 0]).await;
    s.start(&f, 0..5).await;
    s.end_one(&f, None).await;
    let step = s.claimed.lease.step;
    let page = f.store.subtasks(step, 0, 2).await.unwrap();
    assert_eq!(
        (page.len(), page[1].ordinal, page[1].state),
        (2, 1, TaskState::Pending)
    );
    let [(name, result)] = &page[0].results[..] else {
        panic!("{:?}", page[0].results);
    };
    let result = result.as_ref().map(Json::as_str);
    assert_eq!((name.as_str(), result), ("last", Some("\"done\"")));
    let rest = f.store.subtasks(step, 3, 9).await.unwrap();
    assert_eq!(rest.iter().map(|s| s.ordinal).collect::<Vec<_>>(), [3, 4]);
}

pub(crate) async fn nobody_asked_for_what_a_step_started(f: Fixture) {
    let s = starter(&f, [2, 2, 0]).await;
    s.start(&f, 0..2).await;
    assert_eq!(f.list(TaskFilter::default()).await, [s.task]);
    let all = TaskFilter {
        also_subtasks: true,
        ..TaskFilter::default()
    };
    assert_eq!(f.list(all).await.len(), 3);
}

pub(crate) async fn a_cancelled_task_leaves_its_sub_tasks_to_be_cancelled(f: Fixture) {
    let s = starter(&f, [3, 1, 0]).await;
    s.start(&f, 0..3).await;
    s.wait(&f).await;
    s.end_one(&f, None).await;
    assert!(s.aftermaths(&f).await.is_empty());
    f.order(s.task, Order::CancelTask).await.unwrap();
    let left = s.aftermaths(&f).await.remove(0);
    assert_eq!((left.task_id, left.state), (s.task, TaskState::Cancelled));
    let mut orphans = left.orphans.clone();
    orphans.sort_unstable();
    assert_eq!(orphans, [s.id(1), s.id(2)]);
    // Nothing of it may go meanwhile.
    let expired = || Expired {
        states: vec![TaskState::Cancelled, TaskState::Complete],
        finished_before: f.now_and(1),
        namespace: None,
    };
    let deleted = f.store.delete_finished(expired(), None, 9).await.unwrap();
    assert_eq!(deleted.tasks, 0);
    for orphan in orphans {
        f.order(orphan, Order::CancelTask).await.unwrap();
    }
    f.clock.advance(ms(1));
    f.store.end_aftermath(s.task, f.now()).await.unwrap();
    assert_eq!(s.aftermaths(&f).await.len(), 1, "it was seen to before");
    f.store.end_aftermath(s.task, left.since).await.unwrap();
    assert!(s.aftermaths(&f).await.is_empty());
    // Sub-tasks stay for as long as the task that started them.
    let deleted = f.store.delete_finished(expired(), None, 9).await.unwrap();
    assert_eq!(deleted.tasks, 1);
    let deleted = f.store.delete_finished(expired(), None, 9).await.unwrap();
    assert_eq!(deleted.tasks, 3);
}

pub(crate) async fn a_step_that_is_resolved_leaves_its_sub_tasks(f: Fixture) {
    let s = starter(&f, [2, 2, 0]).await;
    s.start(&f, 0..2).await;
    s.wait(&f).await;
    let order = Order::ResolveStep {
        position: 0,
        result: None,
    };
    f.order(s.task, order).await.unwrap();
    let left = s.aftermaths(&f).await.remove(0);
    assert_eq!((left.state, left.orphans.len()), (TaskState::InProgress, 2));
    for orphan in left.orphans {
        f.order(orphan, Order::CancelTask).await.unwrap();
    }
    f.store.end_aftermath(s.task, left.since).await.unwrap();
    f.run_all(&s.asking).await;
    assert_eq!(f.state(s.task).await, TaskState::Complete);
}

pub(crate) async fn a_failure_is_undone_by_one_task(f: Fixture) {
    let s = starter(&f, [0, 1, 0]).await;
    f.settle(&s.asking, &s.claimed, succeed(&json!([]))).await;
    let undo = f
        .register(s.list.template.undo_template().unwrap().source().clone())
        .await;
    let new = || {
        let task_id = s.task;
        NewTask {
            task_id: Origin::Undo { task_id }.subtask_id(),
            origin: Some(NewOrigin::Undo { task_id }),
            ..f.plain(&undo)
        }
    };
    let id = new().task_id;
    assert_eq!(
        f.create(&[new()]).await,
        [Created::Unwanted(id)],
        "it has not failed"
    );
    let after = f.claim_one(&s.asking).await;
    f.settle(&s.asking, &after, fail(FailureKind::Permanent))
        .await;
    let left = s.aftermaths(&f).await.remove(0);
    assert_eq!((left.state, left.orphans.len()), (TaskState::Error, 0));
    assert_eq!(f.create(&[new()]).await, [Created::New(id)]);
    assert_eq!(f.create(&[new()]).await, [Created::Existing(id)]);
    let detail = f.detail(s.task).await;
    assert_eq!(detail.undone_by, Some((id, TaskState::Pending)));
    assert_eq!(
        f.detail(id).await.task.origin,
        Some(Origin::Undo { task_id: s.task })
    );
    for order in [Order::RetryTask, Order::CancelStep(1)] {
        let refused = f.order(s.task, order).await;
        let is_refused = matches!(
            refused,
            Err(StoreError::Refused(_) | StoreError::IllegalMove(_))
        );
        assert!(is_refused, "{refused:?}");
    }
    f.store.end_aftermath(s.task, left.since).await.unwrap();
    f.run_all(&f.worker(&[&undo])).await;
    let detail = f.detail(s.task).await;
    assert_eq!(detail.undone_by, Some((id, TaskState::Complete)));
}

pub(crate) async fn what_is_noted_comes_with_the_result_or_not_at_all(f: Fixture) {
    use tasker_model::annotation::Annotation;
    let defined = f.define("noted", &[("a", &[]), ("b", &["a"])]).await;
    let worker = f.worker(&[&defined]);
    let task = f.start(&defined).await;
    let noted = |claimed: &ClaimedStep, settlement, words: &[&str]| {
        let mut completion = end(claimed, settlement);
        let note = |word: &&str| Annotation::new("word", &json!({"word": word})).unwrap();
        completion.annotations = words.iter().map(note).collect();
        vec![completion]
    };
    let first = f.claim_one(&worker).await;
    let failed = noted(&first, retry_in(0), &["lost"]);
    f.store.complete(worker.id, failed, None).await.unwrap();
    let second = f.claim_one(&worker).await;
    let stale = noted(&first, succeed(&json!(1)), &["stale"]);
    f.store.complete(worker.id, stale, None).await.unwrap();
    let done = noted(&second, succeed(&json!(1)), &["one", "\0two"]);
    f.store.complete(worker.id, done, None).await.unwrap();
    let third = f.claim_one(&worker).await;
    let done = noted(&third, succeed(&json!(1)), &["three"]);
    f.store.complete(worker.id, done, None).await.unwrap();
    let found = f.detail(task).await.annotations;
    let shown: Vec<_> = found
        .iter()
        .map(|note| {
            (
                note.step.as_str(),
                note.annotation.annotation.as_str(),
                note.at,
            )
        })
        .collect();
    let expected = [
        ("a", r#"{"word":"one"}"#, f.now()),
        ("a", r#"{"word":"\u0000two"}"#, f.now()),
        ("b", r#"{"word":"three"}"#, f.now()),
    ];
    assert_eq!(shown, expected);
}
