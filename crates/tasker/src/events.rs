//! Facts for subscribers, published after the commit that made them true.
//!
//! Publishing never waits: a subscriber that falls behind by more than the buffer misses the
//! oldest events and is told how many.

use jiff::Timestamp;
use tasker_model::event::{Event, Fact};
use tasker_model::id::TaskId;
use tokio::sync::broadcast;

/// A subscription to the engine's events.
pub struct Events(broadcast::Receiver<Event>);

impl Events {
    /// The next event; `None` once the engine has stopped.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a subscriber was too slow and missed events");
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// Where the engine publishes.
#[derive(Clone)]
pub(crate) struct Publisher(broadcast::Sender<Event>);

impl Publisher {
    pub(crate) fn new(buffer: usize) -> Publisher {
        Publisher(broadcast::Sender::new(buffer))
    }

    pub(crate) fn subscribe(&self) -> Events {
        Events(self.0.subscribe())
    }

    /// Publishes a fact, if anybody listens: otherwise it is not even made.
    pub(crate) fn publish(&self, at: Timestamp, task_id: TaskId, fact: impl FnOnce() -> Fact) {
        if self.0.receiver_count() > 0 {
            // Fails only if the last subscriber went away just now.
            let _ = self.0.send(Event {
                task_id,
                at,
                fact: fact(),
            });
        }
    }
}
