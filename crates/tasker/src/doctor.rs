//! Does a whole store hold together?

mod subtasks;

use serde::Serialize;
use tasker_model::id::TaskId;
use tasker_model::outcome::FailureKind;
use tasker_store::store::{Page, TaskFilter};
use tasker_store::{Store, audit};

use crate::error::Error;

/// Tasks read at a time.
const PAGE: usize = 500;
/// Findings that are kept; their number is always given.
const FINDINGS_MAX: usize = 1_000;

/// What the examination of a store found.
#[derive(Debug, Default, Serialize)]
pub struct Diagnosis {
    /// Tasks examined.
    pub tasks: u64,
    /// Steps examined.
    pub steps: u64,
    /// How many things do not hold.
    pub violations: u64,
    /// The first of them.
    pub findings: Vec<Finding>,
    /// Steps whose workers vanished again and again; not a violation, but a person must look.
    pub quarantined: Vec<Finding>,
}

/// One thing that was found.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// The task.
    pub task_id: TaskId,
    /// What.
    pub found: String,
}

/// Examines every task of a store against the invariants.
///
/// Reads one task at a time; tasks may run meanwhile.
pub async fn diagnose(store: &dyn Store) -> Result<Diagnosis, Error> {
    let mut diagnosis = Diagnosis::default();
    let mut before = None;
    loop {
        let page = store
            .tasks(
                TaskFilter {
                    also_subtasks: true,
                    ..TaskFilter::default()
                },
                Page {
                    limit: PAGE,
                    before,
                },
            )
            .await?;
        let Some(last) = page.last() else {
            return Ok(diagnosis);
        };
        before = Some(last.task_id);
        for task in &page {
            examine(store, task.task_id, &mut diagnosis).await?;
        }
    }
}

async fn examine(store: &dyn Store, task_id: TaskId, into: &mut Diagnosis) -> Result<(), Error> {
    // Deleted since the list was read.
    let Some(detail) = store.task_detail(task_id).await? else {
        return Ok(());
    };
    let template = store.template(detail.task.template).await?;
    into.tasks += 1;
    into.steps += detail.steps.len() as u64;
    let violations = audit::check(&detail, &template);
    let mut found: Vec<String> = violations.iter().map(ToString::to_string).collect();
    found.extend(subtasks::check(store, task_id, &template).await?);
    for found in found {
        into.violations += 1;
        if into.findings.len() < FINDINGS_MAX {
            into.findings.push(Finding { task_id, found });
        }
    }
    for step in detail
        .steps
        .iter()
        .filter(|s| s.failure == Some(FailureKind::Quarantined))
    {
        let found = format!("step `{}` is quarantined", step.name);
        into.quarantined.push(Finding { task_id, found });
    }
    Ok(())
}
