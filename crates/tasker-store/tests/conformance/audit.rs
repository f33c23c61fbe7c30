//! The audit finds damage: each invariant is broken by hand once, in a file, and must be named.

use serde_json::json;
use tasker_model::id::TaskId;
use tasker_model::outcome::FailureKind;
use tasker_model::step::StepState::{Complete, Error, InProgress, Pending};
use tasker_model::task::TaskState;
use tasker_store::audit::{self, Violation};
use tasker_store::sqlite::rusqlite::Connection;

use crate::fixture::{Fixture, fail, retry_in, sqlite_with_path, succeed};

/// A running task (task number 1) and a failed one (2).
///
/// Of the first, step 0 `a` is complete, 1 `b` runs, 2 `c` waits for `b`, 3 `d` waits for its
/// retry. Of the second, `a` is complete, `b` failed for good, `c` waits in vain, `d` is complete.
async fn two_tasks(f: &Fixture) -> [TaskId; 2] {
    let steps: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &[])];
    let dag = f.define("dag", steps).await;
    let worker = f.worker(&[&dag]);
    let mut tasks = Vec::new();
    for failed in [false, true] {
        let task = f.start(&dag).await;
        let roots = f.claim(&worker, 2).await.claimed;
        let next = f
            .settle_and_claim(&worker, &roots[0], succeed(&json!(1)), 1)
            .await
            .claimed;
        let end = if failed {
            succeed(&json!(1))
        } else {
            retry_in(5_000)
        };
        f.settle(&worker, &roots[1], end).await;
        if failed {
            f.settle(&worker, &next[0], fail(FailureKind::Permanent))
                .await;
        }
        tasks.push(task);
    }
    assert_eq!(
        f.step_states(tasks[0]).await,
        [Complete, InProgress, Pending, Error]
    );
    assert_eq!(
        f.step_states(tasks[1]).await,
        [Complete, Error, Pending, Complete]
    );
    assert_eq!(f.state(tasks[1]).await, TaskState::Error);
    [tasks[0], tasks[1]]
}

async fn violations(f: &Fixture, task: TaskId) -> Vec<Violation> {
    let detail = f.detail(task).await;
    let template = f.store.template(detail.task.template).await.unwrap();
    audit::check(&detail, &template)
}

/// Damages a fresh store and asserts that the audit of the task names it, and nothing else is
/// wrong but what follows from it.
async fn finds(number: usize, damage: &str, invariant: &str, text: &str) {
    let (f, path) = sqlite_with_path();
    let tasks = two_tasks(&f).await;
    for task in tasks {
        assert_eq!(violations(&f, task).await, [], "before the damage");
    }
    Connection::open(path)
        .unwrap()
        .execute_batch(damage)
        .unwrap();
    let found = violations(&f, tasks[number - 1]).await;
    let named = |v: &Violation| v.invariant == invariant && v.found.contains(text);
    assert!(
        found.iter().any(named),
        "{damage}: no {invariant} `{text}` among {found:#?}"
    );
    let other = violations(&f, tasks[2 - number]).await;
    assert_eq!(other, [], "the other task is as it was");
}

#[tokio::test]
async fn i1_a_step_that_started_too_early() {
    let damage = "
        UPDATE tasker_steps SET state = 'in_progress', worker = zeroblob(16), due_at = 1, attempts = 1
        WHERE task_no = 1 AND position = 2;
        INSERT INTO tasker_transitions (task_no, sequence, position, from_state, to_state, at)
        SELECT 1, transitions + 1, 2, 'pending', 'in_progress', 0 FROM tasker_tasks WHERE task_no = 1;
        UPDATE tasker_tasks SET transitions = transitions + 1, open_steps = open_steps + 1
        WHERE task_no = 1";
    finds(
        1,
        damage,
        "I1",
        "starts step 2 with 1 parents that are not done",
    )
    .await;
}

#[tokio::test]
async fn i2_a_lease_without_worker_and_a_worker_without_lease() {
    let nobody = "UPDATE tasker_steps SET worker = NULL WHERE task_no = 1 AND position = 1";
    finds(
        1,
        nobody,
        "I2",
        "step `b` is in_progress and has worker None",
    )
    .await;
    let idle = "UPDATE tasker_steps SET worker = zeroblob(16) WHERE task_no = 1 AND position = 2";
    finds(1, idle, "I2", "step `c` is pending and has worker Some").await;
}

#[tokio::test]
async fn i3_attempts_beyond_the_limit_or_the_record() {
    let beyond = "UPDATE tasker_steps SET attempt_limit = 0 WHERE task_no = 2 AND position = 0";
    finds(2, beyond, "I3", "step `a` made 1 attempts of 0").await;
    let uncounted = "UPDATE tasker_steps SET attempts = 0 WHERE task_no = 2 AND position = 0";
    finds(
        2,
        uncounted,
        "I3",
        "step `a` counts 0 attempts, 1 are recorded",
    )
    .await;
    let invented = "UPDATE tasker_steps SET attempts = 2 WHERE task_no = 1 AND position = 1";
    finds(
        1,
        invented,
        "I3",
        "step `b` counts 2 attempts, 1 are recorded",
    )
    .await;
    let lost = "UPDATE tasker_steps SET lost_attempts = 4 WHERE task_no = 1 AND position = 1";
    finds(1, lost, "I3", "step `b` lost 4 attempts").await;
}

#[tokio::test]
async fn i4_counters_that_do_not_count() {
    let waits = "UPDATE tasker_steps SET unfinished_parents = 0 WHERE task_no = 1 AND position = 2";
    finds(
        1,
        waits,
        "I4",
        "step `c` keeps 0 unfinished parents, it has 1",
    )
    .await;
    for column in ["done", "open", "failed", "cancelled"] {
        let count = format!(
            "UPDATE tasker_tasks SET {column}_steps = {column}_steps + 1 WHERE task_no = 1"
        );
        finds(1, &count, "I4", "kept counts").await;
    }
    let total = "UPDATE tasker_tasks SET total_steps = 5 WHERE task_no = 2";
    finds(2, total, "I4", "kept counts").await;
    let missing = "DELETE FROM tasker_steps WHERE task_no = 1 AND position = 3";
    finds(1, missing, "I4", "the task has 3 steps, its definition 4").await;
}

#[tokio::test]
async fn i5_a_step_that_nobody_looks_at_or_that_is_looked_at_in_vain() {
    let forgotten = "UPDATE tasker_steps SET due_at = NULL WHERE task_no = 1 AND position = 1";
    finds(
        1,
        forgotten,
        "I5",
        "step `b` is in_progress; it must be due",
    )
    .await;
    let no_retry = "UPDATE tasker_steps SET due_at = NULL WHERE task_no = 1 AND position = 3";
    finds(1, no_retry, "I5", "step `d` is error; it must be due").await;
    let too_early = "UPDATE tasker_steps SET due_at = 1 WHERE task_no = 1 AND position = 2";
    finds(
        1,
        too_early,
        "I5",
        "step `c` is pending; it must not be due",
    )
    .await;
    let again = "UPDATE tasker_steps SET due_at = 1 WHERE task_no = 1 AND position = 0";
    finds(1, again, "I5", "step `a` is complete; it must not be due").await;
    let ended = "UPDATE tasker_steps SET due_at = 1 WHERE task_no = 2 AND position = 1";
    finds(2, ended, "I5", "step `b` is error; it must not be due").await;
}

#[tokio::test]
async fn i5_a_task_that_is_final_too_early_or_too_late() {
    let early = "UPDATE tasker_tasks SET state = 'complete', finished_at = 1 WHERE task_no = 1";
    finds(1, early, "I5", "the task is complete with 2 open steps").await;
    let late =
        "UPDATE tasker_tasks SET state = 'in_progress', finished_at = NULL WHERE task_no = 2";
    finds(2, late, "I5", "the task is in_progress with steps").await;
    let wrong = "UPDATE tasker_tasks SET state = 'complete' WHERE task_no = 2";
    finds(2, wrong, "I5", "the task is complete with steps").await;
    let endless = "UPDATE tasker_tasks SET finished_at = NULL WHERE task_no = 2";
    finds(2, endless, "I5", "the task is error and its end is None").await;
    let ended = "UPDATE tasker_tasks SET finished_at = 1 WHERE task_no = 1";
    finds(
        1,
        ended,
        "I5",
        "the task is in_progress and its end is Some",
    )
    .await;
}

/// A task that waits for nothing is the worst that can happen to it; the audit must say so.
#[tokio::test]
async fn i5_a_task_that_waits_for_nothing() {
    let (f, path) = sqlite_with_path();
    let one = f.define("one", &[("a", &[])]).await;
    let task = f.start(&one).await;
    Connection::open(path)
        .unwrap()
        .execute_batch("UPDATE tasker_steps SET due_at = NULL")
        .unwrap();
    let found = violations(&f, task).await;
    let named = |v: &Violation| v.invariant == "I5" && v.found.contains("it must be due");
    assert!(found.iter().any(named), "{found:#?}");
}

#[tokio::test]
async fn i6_a_state_that_no_transition_made() {
    let step = "UPDATE tasker_steps SET state = 'skipped' WHERE task_no = 2 AND position = 0";
    let text = "the record of step `a` ends in Some(Complete), it is skipped";
    finds(2, step, "I6", text).await;
    let task = "UPDATE tasker_tasks SET state = 'resolved_manually' WHERE task_no = 2";
    let text = "the record ends in Some(Error), the task is resolved_manually";
    finds(2, task, "I6", text).await;
    let result = "UPDATE tasker_steps SET result = NULL WHERE task_no = 2 AND position = 0";
    finds(2, result, "I6", "step `a` is complete without a result").await;
}

#[tokio::test]
async fn i6_a_transition_that_is_missing_or_changed() {
    let last = "DELETE FROM tasker_transitions WHERE task_no = 1
        AND sequence = (SELECT transitions FROM tasker_tasks WHERE task_no = 1)";
    finds(1, last, "I6", "recorded").await;
    let middle = "DELETE FROM tasker_transitions WHERE task_no = 1 AND sequence = 7";
    finds(1, middle, "I6", "transition 7 is 8").await;
    let all = "DELETE FROM tasker_transitions WHERE task_no = 2";
    finds(2, all, "I6", "the record ends in None, the task is error").await;
    let source = "UPDATE tasker_transitions SET from_state = 'error'
        WHERE task_no = 2 AND position = 0 AND to_state = 'complete'";
    finds(
        2,
        source,
        "I6",
        "leaves Some(Error), step 0 was Some(InProgress)",
    )
    .await;
    finds(2, source, "I6", "to complete is illegal").await;
    let of_task = "UPDATE tasker_transitions SET from_state = 'complete'
        WHERE task_no = 2 AND position IS NULL AND to_state = 'error'";
    finds(
        2,
        of_task,
        "I6",
        "leaves Some(Complete), the task was Some(InProgress)",
    )
    .await;
    finds(2, of_task, "I6", "to error is illegal").await;
}
