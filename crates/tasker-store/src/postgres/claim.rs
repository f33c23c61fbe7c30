//! Taking steps that are due.

use std::time::Instant;

use tokio_postgres::types::Type;

use super::Inner;
use super::answer::KnownInputs;
use super::budget::Budget;
use crate::error::StoreError;
use crate::store::{ClaimBudget, Progress};

impl Inner {
    pub(super) async fn claim(&self, budget: ClaimBudget) -> Result<Progress, StoreError> {
        let look = self.looks.next(&budget, self.given_time().is_some());
        let columns = Budget::of(Some(&budget));
        let now = self.given_time();
        let started = Instant::now();
        let rows = self
            .connections
            .rows(
                include_str!("../../sql/postgres/claim.sql"),
                &[
                    (&now, Type::TIMESTAMPTZ),
                    (&columns.worker, Type::UUID),
                    (&columns.lease_ms, Type::INT8),
                    (&columns.slots, Type::INT4),
                    (&columns.queues, Type::TEXT_ARRAY),
                    (&columns.templates, Type::INT8_ARRAY),
                    (&look.due_after, Type::TIMESTAMPTZ),
                    (&look.leased_after, Type::TIMESTAMPTZ),
                    (&look.thorough, Type::BOOL),
                ],
            )
            .await?;
        let took = started.elapsed();
        let (mut progress, summary) = self.progress(&rows, &KnownInputs::default()).await?;
        self.saw_time(summary.at);
        if progress.claimed.len() < budget.slots {
            progress.next_due = summary.next_due;
        }
        let reached = if summary.left_due {
            summary.next_due
        } else {
            Some(summary.at)
        };
        self.looks.looked(&budget, &look, reached, took);
        Ok(progress)
    }
}
