//! A budget as parameters of a call.

use uuid::Uuid;

use super::row::milliseconds;
use crate::store::ClaimBudget;

/// What a worker is ready to take on, column by column.
#[derive(Default)]
pub(super) struct Budget {
    pub(super) worker: Option<Uuid>,
    pub(super) lease_ms: i64,
    pub(super) slots: i32,
    pub(super) queues: Vec<String>,
    pub(super) templates: Vec<i64>,
}

impl Budget {
    pub(super) fn of(budget: Option<&ClaimBudget>) -> Budget {
        let Some(budget) = budget else {
            return Budget::default();
        };
        // A definition may be named twice.
        let mut runnable: Vec<_> = budget
            .runnable
            .iter()
            .map(|runnable| (runnable.queue.as_str(), runnable.template))
            .collect();
        runnable.sort_unstable();
        runnable.dedup();
        Budget {
            worker: Some(*budget.worker.as_uuid()),
            lease_ms: milliseconds(budget.lease_ms),
            slots: i32::try_from(budget.slots).unwrap_or(i32::MAX),
            queues: runnable
                .iter()
                .map(|(queue, _)| (*queue).to_owned())
                .collect(),
            templates: runnable.iter().map(|(_, template)| template.0).collect(),
        }
    }

    /// The same as one text per definition and queue.
    pub(super) fn runs(&self) -> Vec<String> {
        let runnable = self.templates.iter().zip(&self.queues);
        runnable
            .map(|(template, queue)| format!("{template}:{queue}"))
            .collect()
    }
}
