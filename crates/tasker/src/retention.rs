//! How long finished tasks are kept.
//!
//! Deleting goes in small transactions that nobody waits for, and begins where the last one ended;
//! it may be stopped at any moment and done by several processes at once.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tasker_model::task::TaskState;
use tasker_store::Store;
use tasker_store::store::Expired;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::error::Error;
use crate::options::Retention;

/// Tasks that one transaction deletes: few enough to be over before anybody notices.
const BATCH: usize = 200;
/// A hundred years: beyond, times would leave the calendar of some databases.
const DAYS_MAX: u32 = 36_500;
/// The time between two sweeps.
const SWEEP_EVERY: Duration = Duration::from_hours(1);

/// Deletes every finished task that is older than its time; gives how many that were.
pub async fn prune(store: &dyn Store, retention: &Retention) -> Result<u64, Error> {
    let now = store.clock().now();
    let done = [
        TaskState::Complete,
        TaskState::Cancelled,
        TaskState::ResolvedManually,
    ];
    let rules = [
        (done.as_slice(), retention.complete_days),
        (&[TaskState::Error], retention.error_days),
    ];
    let mut deleted = 0;
    for (states, days) in rules {
        let age = SignedDuration::from_hours(24 * i64::from(days.min(DAYS_MAX)));
        let expired = Expired {
            states: states.to_vec(),
            finished_before: now.checked_sub(age).unwrap_or(Timestamp::MIN),
            namespace: retention.namespace.clone(),
        };
        let mut after = None;
        loop {
            let batch = store.delete_finished(expired.clone(), after, BATCH).await?;
            deleted += batch.tasks;
            after = batch.last;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(deleted)
}

/// Prunes every hour until it is dropped.
pub(crate) struct Sweeper(AbortHandle);

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Sweeper {
    pub(crate) fn start(
        runtime: &Handle,
        store: Arc<dyn Store>,
        retention: Vec<Retention>,
    ) -> Sweeper {
        let sweep = async move {
            loop {
                for rule in &retention {
                    match prune(&*store, rule).await {
                        Ok(0) => {}
                        Ok(deleted) => tracing::info!(deleted, "old tasks were deleted"),
                        // The next sweep does what this one could not.
                        Err(error) => tracing::warn!(%error, "old tasks could not be deleted"),
                    }
                }
                let clock = store.clock();
                let next = clock.now().checked_add(SWEEP_EVERY);
                clock.sleep_until(next.unwrap_or(Timestamp::MAX)).await;
            }
        };
        Sweeper(runtime.spawn(sweep).abort_handle())
    }
}
