//! Which leases a worker has, as the database knows it.

use std::sync::Arc;

use tasker_model::id::WorkerId;
use tokio_postgres::types::Type;

use super::Inner;
use super::answer::{KnownInputs, Part};
use super::budget::Budget;
use crate::error::StoreError;
use crate::store::{ClaimBudget, ClaimedStep, Runnable};

impl Inner {
    pub(super) async fn held(
        &self,
        worker: WorkerId,
        runnable: Arc<[Runnable]>,
    ) -> Result<Vec<ClaimedStep>, StoreError> {
        let columns = Budget::of(Some(&ClaimBudget {
            worker,
            slots: 0,
            lease_ms: 0,
            runnable,
            also_due: false,
        }));
        let rows = self
            .connections
            .rows(
                include_str!("../../sql/postgres/held.sql"),
                &[
                    (&columns.worker, Type::UUID),
                    (&columns.queues, Type::TEXT_ARRAY),
                    (&columns.templates, Type::INT8_ARRAY),
                ],
            )
            .await?;
        let mut held = Vec::with_capacity(rows.len());
        for row in &rows {
            if let Part::Claimed(claimed) = Part::of(row)? {
                held.push(self.hand_out(*claimed, &KnownInputs::default()).await?);
            }
        }
        Ok(held)
    }
}
