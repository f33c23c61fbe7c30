//! Creating tasks: what is recorded, what is due, and when a request is one that is known.

use futures_util::future::join;
use jiff::SignedDuration;
use serde_json::json;
use tasker_model::identity::{Identity, IdentityStrategy};
use tasker_model::request::TaskRequest;
use tasker_model::step::StepState::{Complete, InProgress, Pending, Skipped};
use tasker_model::task::TaskState;
use tasker_model::transition::{Change, Reason};
use tasker_store::StoreError;
use tasker_store::record::StepCounts;
use tasker_store::store::{Created, NewTask, Order};

use crate::fixture::{Defined, Fixture, LEASE_MS, moves_of, ms, positions, source, task_moves};

pub(crate) async fn the_first_record_is_complete(f: Fixture) {
    let chain = f.define("chain", &[("a", &[]), ("b", &["a"])]).await;
    let task = f.start(&chain).await;
    let detail = f.detail(task).await;
    assert_eq!(detail.task.summary.state, TaskState::Pending);
    assert_eq!(detail.task.summary.finished_at, None);
    assert_eq!(task_moves(&detail), [(None, TaskState::Pending)]);
    assert_eq!(moves_of(&detail, 0), [(None, Pending)]);
    assert_eq!(moves_of(&detail, 1), [(None, Pending)]);
    assert_eq!(detail.transitions.len(), 3);
    assert!(matches!(detail.transitions[0].change, Change::Task { .. }));
    for (transition, sequence) in detail.transitions.iter().zip(1..) {
        assert_eq!(transition.sequence, sequence);
        assert_eq!(transition.at, f.now());
        assert_eq!((transition.worker, transition.reason), (None, None));
    }
    let first = &detail.steps[0];
    assert_eq!((first.attempts, first.attempt_limit), (0, 3));
    assert_eq!((first.lost_attempts, first.worker), (0, None));
    assert_eq!((first.started_at, first.finished_at), (None, None));
}

pub(crate) async fn a_request_is_stored_as_it_was_asked(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let asked_at = f.now() - SignedDuration::from_secs(5);
    let request = TaskRequest {
        initiator: "ann".to_owned(),
        source_system: "till".to_owned(),
        reason: "sale — 5 €".to_owned(),
        tags: vec!["x".to_owned(), "y, \"z\"".to_owned()],
        requested_at: Some(asked_at),
        ..TaskRequest::new("one").context(json!({"z": 1, "a": [null, "é"]}))
    };
    let new = f.asked(&one, request);
    let task = new.task_id;
    f.create(&[new]).await;
    let stored = f.store.task(task).await.unwrap().unwrap();
    assert_eq!(stored.context.as_str(), r#"{"z":1,"a":[null,"é"]}"#);
    assert_eq!(stored.initiator, "ann");
    assert_eq!(stored.source_system, "till");
    assert_eq!(stored.reason, "sale — 5 €");
    assert_eq!(stored.tags, ["x", "y, \"z\""]);
    assert_eq!(stored.requested_at, asked_at);
    assert_eq!(stored.summary.created_at, f.now());
    assert_eq!(stored.deadline_at, None);
    let summary = stored.summary;
    let named = (summary.namespace.as_str(), summary.name.as_str());
    assert_eq!(named, ("shop", "one"));
    assert_eq!(
        (summary.version.to_string(), summary.status),
        ("1.0.0".to_owned(), "pending")
    );
}

pub(crate) async fn roots_are_due_and_nothing_else(f: Fixture) {
    let steps: &[(&str, &[&str])] = &[
        ("a", &[]),
        ("b", &[]),
        ("c", &["a", "b"]),
        ("d", &["c", "a"]),
    ];
    let dag = f.define("dag", steps).await;
    let task = f.start(&dag).await;
    let detail = f.detail(task).await;
    let due: Vec<_> = detail.steps.iter().map(|step| step.due_at).collect();
    assert_eq!(due, [Some(f.now()), Some(f.now()), None, None]);
    let waits: Vec<_> = detail
        .steps
        .iter()
        .map(|step| step.unfinished_parents)
        .collect();
    assert_eq!(waits, [0, 0, 2, 2]);
    assert_eq!(detail.task.summary.steps, counts(4, 0, 2));
}

fn counts(total_steps: u32, done_steps: u32, open_steps: u32) -> StepCounts {
    StepCounts {
        total_steps,
        done_steps,
        open_steps,
        failed_steps: 0,
        cancelled_steps: 0,
    }
}

fn keyed(f: &Fixture, defined: &Defined, key: &str) -> NewTask {
    let name = defined.template.source().name.as_str();
    f.asked(defined, TaskRequest::new(name).idempotency_key(key))
}

pub(crate) async fn an_idempotency_key_gives_the_first_task(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let (first, second) = (keyed(&f, &one, "k"), keyed(&f, &one, "k"));
    let (other, id) = (keyed(&f, &one, "K"), first.task_id);
    assert_eq!(f.create(&[first]).await, [Created::New(id)]);
    let before = f.as_text(id).await;
    f.clock.advance(ms(1_000_000_000));
    assert_eq!(
        f.create(std::slice::from_ref(&second)).await,
        [Created::Existing(id)]
    );
    assert!(f.store.task(second.task_id).await.unwrap().is_none());
    assert_eq!(f.as_text(id).await, before);
    let other_id = other.task_id;
    assert_eq!(f.create(&[other]).await, [Created::New(other_id)]);
    // Also within one batch, and for a task that has ended.
    let twins = [keyed(&f, &one, "t"), keyed(&f, &one, "t")];
    let twin = twins[0].task_id;
    assert_eq!(
        f.create(&twins).await,
        [Created::New(twin), Created::Existing(twin)]
    );
    f.run_all(&f.worker(&[&one])).await;
    let late = keyed(&f, &one, "k");
    assert_eq!(f.create(&[late]).await, [Created::Existing(id)]);
}

pub(crate) async fn an_idempotency_key_belongs_to_one_handler(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let two = f.define("two", &[("a", &[])]).await;
    let mut elsewhere = source("one", &[("a", &[])]);
    elsewhere.namespace = "depot".parse().unwrap();
    let elsewhere = f.register(elsewhere).await;
    let mut newer = source("one", &[("a", &[])]);
    newer.version = "1.1.0".parse().unwrap();
    let newer = f.register(newer).await;
    let tasks = [&one, &two, &elsewhere, &newer].map(|defined| keyed(&f, defined, "k"));
    let [first, second, third, _] = tasks.each_ref().map(|task| task.task_id);
    let expected = [
        Created::New(first),
        Created::New(second),
        Created::New(third),
        // A new version of a handler is still the same handler.
        Created::Existing(first),
    ];
    assert_eq!(f.create(&tasks).await, expected);
}

pub(crate) async fn a_repeated_create_changes_nothing(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    let new = f.plain(&one);
    let id = new.task_id;
    f.create(std::slice::from_ref(&new)).await;
    let before = f.as_text(id).await;
    f.clock.advance(ms(1));
    let again = f
        .store
        .create(vec![new.clone(), new], Some(worker.slots(5)));
    let (created, progress) = again.await.unwrap();
    assert_eq!(created, [Created::Existing(id), Created::Existing(id)]);
    assert_eq!(f.step_states(id).await.len(), 1);
    if progress.claimed.is_empty() {
        assert_eq!(f.as_text(id).await, before);
    }
    let other = f.plain(&one);
    let other_id = other.task_id;
    assert_eq!(f.create(&[other]).await, [Created::New(other_id)]);
}

/// The answer to the first call may have been lost: its sender must not be told that somebody
/// else was faster.
pub(crate) async fn a_repeated_create_with_identity_is_no_duplicate(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let new = hashed(&f, &one);
    let id = new.task_id;
    assert_eq!(
        f.create(std::slice::from_ref(&new)).await,
        [Created::New(id)]
    );
    assert_eq!(f.create(&[new]).await, [Created::Existing(id)]);
}

fn hashed(f: &Fixture, defined: &Defined) -> NewTask {
    let new = f.plain(defined);
    let identity = IdentityStrategy::Hash.of(&new.request, f.now());
    NewTask { identity, ..new }
}

pub(crate) async fn equal_requests_within_a_minute_are_one(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let first = hashed(&f, &one);
    let id = first.task_id;
    assert_eq!(f.create(&[first]).await, [Created::New(id)]);
    f.clock.advance(ms(59_999));
    let soon = hashed(&f, &one);
    assert_eq!(
        f.create(std::slice::from_ref(&soon)).await,
        [Created::Duplicate(id)]
    );
    assert!(f.store.task(soon.task_id).await.unwrap().is_none());
    f.clock.advance(ms(1));
    // What was refused does not prolong the minute: it slides with what was created.
    let later = hashed(&f, &one);
    let later_id = later.task_id;
    assert_eq!(f.create(&[later]).await, [Created::New(later_id)]);
    let after = hashed(&f, &one);
    assert_eq!(f.create(&[after]).await, [Created::Duplicate(later_id)]);
    let different = TaskRequest::new("one").context(json!({"n": 2}));
    let mut different = f.asked(&one, different);
    different.identity = IdentityStrategy::Hash.of(&different.request, f.now());
    let different_id = different.task_id;
    assert_eq!(f.create(&[different]).await, [Created::New(different_id)]);
}

pub(crate) async fn an_identity_without_window_lasts(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let own = |key: &str| NewTask {
        identity: Some(Identity {
            key: key.to_owned(),
            since: None,
        }),
        ..f.plain(&one)
    };
    let tasks = [own("x"), own("x"), own("y")];
    let [x, _, y] = tasks.each_ref().map(|task| task.task_id);
    let expected = [Created::New(x), Created::Duplicate(x), Created::New(y)];
    assert_eq!(f.create(&tasks).await, expected);
    f.clock.advance(ms(1_000_000_000_000));
    assert_eq!(f.create(&[own("x")]).await, [Created::Duplicate(x)]);
}

fn bypassing(f: &Fixture, defined: &Defined, steps: &[&str]) -> NewTask {
    let name = defined.template.source().name.as_str();
    let bypass_steps = steps.iter().map(|step| (*step).to_owned()).collect();
    let request = TaskRequest {
        bypass_steps,
        ..TaskRequest::new(name)
    };
    f.asked(defined, request)
}

pub(crate) async fn bypassed_steps_are_skipped_and_count_as_done(f: Fixture) {
    let steps: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["a", "c"])];
    let chain = f.define("chain", steps).await;
    let new = bypassing(&f, &chain, &["a", "c"]);
    let task = new.task_id;
    f.create(&[new]).await;
    let detail = f.detail(task).await;
    let states: Vec<_> = detail.steps.iter().map(|step| step.state).collect();
    assert_eq!(states, [Skipped, Pending, Skipped, Pending]);
    let waits: Vec<_> = detail
        .steps
        .iter()
        .map(|step| step.unfinished_parents)
        .collect();
    assert_eq!(
        waits,
        [0, 0, 1, 0],
        "only what is not bypassed is waited for"
    );
    assert_eq!(detail.task.summary.steps, counts(4, 2, 2));
    assert_eq!(detail.task.bypass_steps, ["a", "c"]);
    assert_eq!(
        moves_of(&detail, 0),
        [(None, Pending), (Some(Pending), Skipped)]
    );
    let reasons: Vec<_> = detail.transitions.iter().filter_map(|t| t.reason).collect();
    assert_eq!(reasons, [Reason::Bypassed, Reason::Bypassed]);
    let worker = f.worker(&[&chain]);
    let progress = f.claim(&worker, 10).await;
    assert_eq!(positions(&progress), [1, 3]);
    let parents = &progress.claimed[1].parents;
    assert_eq!(
        parents.as_ref(),
        [(0, None), (2, None)],
        "skipped parents have no result"
    );
    f.clock.advance(ms(LEASE_MS));
    f.run_all(&worker).await;
    assert_eq!(f.state(task).await, TaskState::Complete);
    assert_eq!(
        f.step_states(task).await,
        [Skipped, Complete, Skipped, Complete]
    );
}

pub(crate) async fn a_task_with_every_step_bypassed_is_complete(f: Fixture) {
    let chain = f.define("chain", &[("a", &[]), ("b", &["a"])]).await;
    let new = bypassing(&f, &chain, &["a", "b"]);
    let task = new.task_id;
    let worker = f.worker(&[&chain]);
    let created = f.store.create(vec![new], Some(worker.slots(5))).await;
    let (created, progress) = created.unwrap();
    assert_eq!(created, [Created::New(task)]);
    assert_eq!(progress.finished, [(task, TaskState::Complete)]);
    assert!(progress.claimed.is_empty());
    let detail = f.detail(task).await;
    assert_eq!(detail.task.summary.finished_at, Some(f.now()));
    assert_eq!(detail.task.summary.steps, counts(2, 2, 0));
    let expected = [
        (None, TaskState::Pending),
        (Some(TaskState::Pending), TaskState::InProgress),
        (Some(TaskState::InProgress), TaskState::Complete),
    ];
    assert_eq!(task_moves(&detail), expected);
}

pub(crate) async fn slots_limit_what_is_claimed_at_once(f: Fixture) {
    let roots = f
        .define(
            "roots",
            &[("a", &[]), ("b", &["a"]), ("c", &[]), ("d", &[])],
        )
        .await;
    let worker = f.worker(&[&roots]);
    let new = [f.plain(&roots), f.plain(&roots)];
    let [first, second] = new.each_ref().map(|task| task.task_id);
    let created = f.store.create(new.to_vec(), Some(worker.slots(4))).await;
    let (_, progress) = created.unwrap();
    let claimed: Vec<_> = progress.claimed.iter().map(|c| c.lease.step).collect();
    let claimed: Vec<_> = claimed.iter().map(|s| (s.task_id, s.position)).collect();
    assert_eq!(claimed, [(first, 0), (first, 2), (first, 3), (second, 0)]);
    assert!(progress.left_due, "two roots are left");
    assert_eq!(
        f.step_states(first).await,
        [InProgress, Pending, InProgress, InProgress]
    );
    assert_eq!(
        f.step_states(second).await,
        [InProgress, Pending, Pending, Pending]
    );
    let step = f.step(first, 0).await;
    assert_eq!((step.attempts, step.worker), (1, Some(worker.id)));
    assert_eq!(step.due_at, Some(f.now_and(LEASE_MS)));
    assert_eq!(step.started_at, Some(f.now()));
    assert_eq!(f.state(first).await, TaskState::InProgress);
    let rest = f.claim(&worker, 10).await;
    assert_eq!(positions(&rest), [2, 3], "and nothing that was claimed");
    let moves = [(None, Pending), (Some(Pending), InProgress)];
    assert_eq!(moves_of(&f.detail(first).await, 0), moves);
}

pub(crate) async fn only_runnable_definitions_are_claimed_at_once(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let two = f.define("two", &[("a", &[])]).await;
    let worker = f.worker(&[&two]);
    let new = [f.plain(&one), f.plain(&two)];
    let [first, second] = new.each_ref().map(|task| task.task_id);
    let created = f.store.create(new.to_vec(), Some(worker.slots(5))).await;
    let (_, progress) = created.unwrap();
    let claimed: Vec<_> = progress
        .claimed
        .iter()
        .map(|c| c.lease.step.task_id)
        .collect();
    assert_eq!(claimed, [second]);
    assert_eq!(f.state(first).await, TaskState::Pending);
    assert_eq!(f.step_states(first).await, [Pending]);
}

pub(crate) async fn without_a_budget_nothing_is_claimed(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    for budget in [None, Some(worker.slots(0))] {
        let new = f.plain(&one);
        let task = new.task_id;
        let (_, progress) = f.store.create(vec![new], budget).await.unwrap();
        assert!(progress.claimed.is_empty());
        assert_eq!(f.step_states(task).await, [Pending]);
    }
}

pub(crate) async fn a_batch_is_answered_in_order(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let known = keyed(&f, &one, "k");
    let known_id = known.task_id;
    f.create(&[known]).await;
    let batch = [
        f.plain(&one),
        keyed(&f, &one, "k"),
        hashed(&f, &one),
        hashed(&f, &one),
    ];
    let [plain, _, first, _] = batch.each_ref().map(|task| task.task_id);
    let expected = [
        Created::New(plain),
        Created::Existing(known_id),
        Created::New(first),
        Created::Duplicate(first),
    ];
    assert_eq!(f.create(&batch).await, expected);
    assert!(f.create(&[]).await.is_empty());
}

/// Verbs that wait at the same time may share a transaction; the failure of one is its own.
pub(crate) async fn a_failing_neighbour_does_not_disturb_a_create(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let done = f.start(&one).await;
    f.run_all(&f.worker(&[&one])).await;
    for _ in 0..20 {
        let new = f.plain(&one);
        let task = new.task_id;
        let create = f.store.create(vec![new], None);
        let illegal = f.order(done, Order::RetryTask);
        let (created, refused) = join(create, illegal).await;
        assert_eq!(created.unwrap().0, [Created::New(task)]);
        assert!(matches!(refused, Err(StoreError::IllegalMove(_))));
    }
}
