//! The pattern workflows of the specification (07 A4): with their built-in failures, each reaches
//! `complete` within the default limit of three attempts.

use tasker::model::task::TaskState;
use tasker_testing::patterns::{self, Done, MIXED, Pattern};

use crate::support::{assert_state, attempts, run, statuses};

async fn completes_with_its_built_in_failures(pattern: Pattern) {
    let (_tasker, task) = run(pattern.handler().unwrap()).await;
    assert_state(&task, TaskState::Complete);
    assert_eq!(task.status(), "completed");
    let steps = task.workflow_steps().await.unwrap();
    assert_eq!(steps.len(), pattern.steps.len());
    for (name, parents, failures) in pattern.steps {
        let step = steps.iter().find(|step| step.name == *name).unwrap();
        let done: Done = step.result_as().unwrap().unwrap();
        assert_eq!(step.attempts, failures + 1, "{name}");
        assert_eq!(done.total_attempts, failures + 1, "{name}");
        assert_eq!(
            done.after,
            parents.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()
        );
    }
}

#[tokio::test]
async fn linear() {
    completes_with_its_built_in_failures(patterns::LINEAR).await;
}

#[tokio::test]
async fn diamond() {
    completes_with_its_built_in_failures(patterns::DIAMOND).await;
}

#[tokio::test]
async fn parallel_merge() {
    completes_with_its_built_in_failures(patterns::PARALLEL_MERGE).await;
}

#[tokio::test]
async fn tree() {
    completes_with_its_built_in_failures(patterns::TREE).await;
}

#[tokio::test]
async fn mixed() {
    completes_with_its_built_in_failures(MIXED).await;
}

#[tokio::test]
async fn configurable_failure() {
    completes_with_its_built_in_failures(patterns::CONFIGURABLE_FAILURE).await;
}

#[tokio::test]
async fn mixed_uses_every_attempt_of_its_critical_step() {
    let (_tasker, task) = run(MIXED.handler().unwrap()).await;
    assert_eq!(attempts(&task, "process_critical_data").await, 3);
}

#[tokio::test]
async fn one_failure_more_and_only_what_depends_on_it_stops() {
    let handler = MIXED
        .handler_with(|failures, step| async move {
            let failures = if step.name() == "process_critical_data" {
                3
            } else {
                failures
            };
            patterns::fail_first(failures, &step)
        })
        .unwrap();
    let (_tasker, task) = run(handler).await;
    assert_state(&task, TaskState::Error);
    assert_eq!(
        attempts(&task, "process_critical_data").await,
        3,
        "no fourth execution"
    );
    let statuses = statuses(&task).await;
    let unfinished: Vec<_> = statuses.iter().filter(|(_, s)| *s != "completed").collect();
    let failed = ("process_critical_data".to_owned(), "failed");
    let waiting = ("finalize_and_report".to_owned(), "pending");
    assert_eq!(unfinished, [&failed, &waiting]);
}
