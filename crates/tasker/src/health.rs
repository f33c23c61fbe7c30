//! Whether this process can do its work at this moment: what a load balancer or an operator asks.

use std::time::Duration;

use tasker_model::id::TaskId;
use tasker_store::Store;
use uuid::Uuid;

/// A store that takes longer to find nothing cannot be worked with.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Whether a process is ready for work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// The engine runs and its store answers.
    Ready,
    /// Requests would fail now. Attempts that run go on, and their outcomes are kept until they can
    /// be recorded; the engine goes on by itself once the reason is gone.
    NotReady {
        /// What is missing, for people.
        reason: String,
    },
}

/// Asks the store for a task that nobody has: one look at an index.
pub(crate) async fn of_store(store: &dyn Store) -> Health {
    let nobodys = TaskId::from_uuid(Uuid::nil());
    let reason = match tokio::time::timeout(ANSWER_WITHIN, store.task(nobodys)).await {
        Ok(Ok(_)) => return Health::Ready,
        Ok(Err(error)) => format!("the store failed: {}", with_causes(&error)),
        Err(_) => format!("the store did not answer within {ANSWER_WITHIN:?}"),
    };
    Health::NotReady { reason }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
