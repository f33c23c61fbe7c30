//! Reading: lists page by page, filters, definitions, and the answer to what does not exist.

use tasker_model::id::TaskId;
use tasker_model::outcome::FailureKind;
use tasker_model::task::TaskState;
use tasker_store::StoreError;
use tasker_store::store::{Order, Page, TaskFilter};

use crate::fixture::{Fixture, fail, ms, source};

async fn page(
    f: &Fixture,
    filter: &TaskFilter,
    before: Option<TaskId>,
    limit: usize,
) -> Vec<TaskId> {
    let page = Page { limit, before };
    let found = f.store.tasks(filter.clone(), page).await.unwrap();
    found.iter().map(|task| task.task_id).collect()
}

/// Walks through a list to its end.
async fn walk(f: &Fixture, filter: &TaskFilter, limit: usize) -> Vec<TaskId> {
    let mut found = Vec::new();
    loop {
        let next = page(f, filter, found.last().copied(), limit).await;
        assert!(next.len() <= limit);
        if next.is_empty() {
            return found;
        }
        let goes_on = !next.iter().any(|task| found.contains(task));
        assert!(goes_on, "{next:?} comes again after {found:?}");
        found.extend(next);
    }
}

pub(crate) async fn pages_go_from_new_to_old(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let all = TaskFilter::default();
    assert!(page(&f, &all, None, 10).await.is_empty());
    let mut tasks = Vec::new();
    for _ in 0..25 {
        tasks.push(f.start(&one).await);
        f.clock.advance(ms(1));
    }
    tasks.reverse();
    for limit in [1, 7, 25, 100] {
        assert_eq!(walk(&f, &all, limit).await, tasks, "by {limit}");
    }
    assert!(page(&f, &all, None, 0).await.is_empty());
    // What is created while somebody turns pages does not shift them.
    let first = page(&f, &all, None, 10).await;
    f.start(&one).await;
    let second = page(&f, &all, Some(first[9]), 10).await;
    assert_eq!([first, second].concat(), tasks[..20]);
}

pub(crate) async fn tasks_of_one_moment_are_listed_once_each(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let batch: Vec<_> = (0..9).map(|_| f.plain(&one)).collect();
    let mut ids: Vec<_> = batch.iter().map(|task| task.task_id).collect();
    f.create(&batch).await;
    let mut found = walk(&f, &TaskFilter::default(), 2).await;
    found.sort_unstable();
    ids.sort_unstable();
    assert_eq!(found, ids);
}

/// One task in each state, several times over.
async fn one_of_each(f: &Fixture) -> Vec<(TaskState, TaskId)> {
    let one = f.define("one", &[("a", &[])]).await;
    let worker = f.worker(&[&one]);
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let failed = [f.start(&one).await, f.start(&one).await];
        for step in f.claim(&worker, 2).await.claimed {
            f.settle(&worker, &step, fail(FailureKind::Permanent)).await;
        }
        f.order(failed[1], Order::ResolveTask).await.unwrap();
        let complete = f.start(&one).await;
        f.run_all(&worker).await;
        let cancelled = f.start(&one).await;
        f.order(cancelled, Order::CancelTask).await.unwrap();
        let running = f.start(&one).await;
        f.claim_one(&worker).await;
        tasks.extend([
            (TaskState::Error, failed[0]),
            (TaskState::ResolvedManually, failed[1]),
            (TaskState::Complete, complete),
            (TaskState::Cancelled, cancelled),
            (TaskState::InProgress, running),
        ]);
    }
    tasks.push((TaskState::Pending, f.start(&one).await));
    tasks.sort_by_key(|(_, task)| std::cmp::Reverse(*task));
    tasks
}

pub(crate) async fn a_list_is_filtered_by_state(f: Fixture) {
    let tasks = one_of_each(&f).await;
    let ids = |wanted: &[TaskState]| -> Vec<TaskId> {
        let wanted = tasks.iter().filter(|(state, _)| wanted.contains(state));
        wanted.map(|(_, task)| *task).collect()
    };
    let sets = TaskState::ALL.iter().map(|state| vec![*state]).chain([
        vec![TaskState::Complete, TaskState::ResolvedManually],
        vec![TaskState::Error, TaskState::Cancelled, TaskState::Pending],
        TaskState::ALL.to_vec(),
    ]);
    for states in sets {
        let expected = ids(&states);
        assert!(!expected.is_empty());
        let filter = TaskFilter {
            states: states.clone(),
            ..TaskFilter::default()
        };
        for limit in [1, 2, 100] {
            assert_eq!(
                walk(&f, &filter, limit).await,
                expected,
                "{states:?} by {limit}"
            );
        }
    }
}

pub(crate) async fn a_state_that_is_named_twice_lists_a_task_once(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let task = f.start(&one).await;
    let filter = TaskFilter {
        states: vec![TaskState::Pending, TaskState::Pending],
        ..TaskFilter::default()
    };
    assert_eq!(page(&f, &filter, None, 10).await, [task]);
}

pub(crate) async fn a_list_is_filtered_by_handler(f: Fixture) {
    let order = f.define("order", &[("a", &[])]).await;
    let refund = f.define("refund", &[("a", &[])]).await;
    let mut depot = source("order", &[("a", &[])]);
    depot.namespace = "depot".parse().unwrap();
    let depot = f.register(depot).await;
    let mut made = Vec::new();
    for defined in [&order, &refund, &depot, &order] {
        made.push(f.start(defined).await);
    }
    let [first, refunded, stored, second] = made[..] else {
        panic!("four tasks");
    };
    let list = async |namespace: Option<&str>, name: Option<&str>, states: &[TaskState]| {
        let filter = TaskFilter {
            states: states.to_vec(),
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
            also_subtasks: false,
        };
        walk(&f, &filter, 1).await
    };
    assert_eq!(
        list(Some("shop"), None, &[]).await,
        [second, refunded, first]
    );
    assert_eq!(
        list(None, Some("order"), &[]).await,
        [second, stored, first]
    );
    assert_eq!(list(Some("depot"), Some("order"), &[]).await, [stored]);
    assert_eq!(
        list(Some("shop"), Some("order"), &[TaskState::Pending]).await,
        [second, first]
    );
    assert!(
        list(Some("shop"), None, &[TaskState::Complete])
            .await
            .is_empty()
    );
    assert!(
        list(Some("Shop"), None, &[]).await.is_empty(),
        "names are case-sensitive"
    );
    assert!(list(Some("depot"), Some("refund"), &[]).await.is_empty());
    assert!(list(Some("shop' OR 1=1 --"), None, &[]).await.is_empty());
}

pub(crate) async fn what_does_not_exist_is_not_found(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    f.start(&one).await;
    let unknown = f.task_id();
    assert!(f.store.task(unknown).await.unwrap().is_none());
    assert!(f.store.task_detail(unknown).await.unwrap().is_none());
    let page = Page {
        limit: 1,
        before: Some(unknown),
    };
    let refused = f
        .store
        .tasks(TaskFilter::default(), page)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, StoreError::NoSuchTask(id) if id == unknown),
        "{refused}"
    );
}

pub(crate) async fn a_list_tells_what_a_task_tells(f: Fixture) {
    for (state, task) in one_of_each(&f).await {
        let record = f.store.task(task).await.unwrap().unwrap();
        assert_eq!(record.summary.state, state);
        assert_eq!(record.summary.status, state.status());
        let filter = TaskFilter {
            states: vec![state],
            ..TaskFilter::default()
        };
        let page = Page {
            limit: 100,
            before: None,
        };
        let listed = f.store.tasks(filter, page).await.unwrap();
        let listed = listed.iter().find(|found| found.task_id == task).unwrap();
        let text = |summary| serde_json::to_string(summary).unwrap();
        assert_eq!(text(listed), text(&record.summary));
        let detail = f.detail(task).await;
        assert_eq!(text(&detail.task.summary), text(&record.summary));
    }
}

pub(crate) async fn definitions_are_kept_once_each(f: Fixture) {
    assert!(f.store.templates(None).await.unwrap().is_empty());
    let first = f.define("one", &[("a", &[])]).await;
    let again = f.define("one", &[("a", &[])]).await;
    assert_eq!(first.runnable, again.runnable);
    let mut changed = source("one", &[("a", &[])]);
    changed.steps[0].timeout_ms = Some(1);
    let changed = f.register(changed).await;
    assert_ne!(
        first.runnable.template, changed.runnable.template,
        "another content"
    );
    // A create makes its definition known, too.
    let unknown = source("two", &[("a", &[]), ("b", &["a"])]);
    let template = tasker_model::template::TaskTemplate::new(unknown).unwrap();
    let created = crate::fixture::Defined {
        template,
        runnable: first.runnable.clone(),
    };
    let task = f.start(&created).await;
    let all = f.store.templates(None).await.unwrap();
    let hashes: Vec<_> = all.iter().map(|(_, template)| template.hash()).collect();
    let expected = [&first, &changed, &created].map(|defined| defined.template.hash());
    assert_eq!(hashes, expected, "in the order in which they became known");
    for (id, template) in &all {
        assert_eq!(f.store.template(*id).await.unwrap().hash(), template.hash());
    }
    let newer = f.store.templates(Some(all[0].0)).await.unwrap();
    let numbers = |list: &[_]| list.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    assert_eq!(numbers(&newer), numbers(&all[1..]));
    assert!(f.store.templates(Some(all[2].0)).await.unwrap().is_empty());
    let pinned = f.store.task(task).await.unwrap().unwrap().template;
    assert_eq!(pinned, all[2].0);
}

pub(crate) async fn the_change_mark_changes_with_every_commit(f: Fixture) {
    let one = f.define("one", &[("a", &[])]).await;
    let Some(before) = f.store.change_mark() else {
        return;
    };
    assert_eq!(f.store.change_mark(), Some(before), "nothing happened");
    f.start(&one).await;
    let after = f.store.change_mark().unwrap();
    assert_ne!(after, before);
    f.list(TaskFilter::default()).await;
    assert_eq!(
        f.store.change_mark(),
        Some(after),
        "reading changes nothing"
    );
}
