//! Every limit of the engine, with its unit and default.

use tasker_model::identity::IdentityStrategy;
use tasker_model::name::Queue;

use crate::error::Error;

/// How long the finished tasks of a namespace, or of all, are kept after their end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Days for complete, cancelled and resolved tasks.
    pub complete_days: u32,
    /// Days for failed tasks, which somebody may still want to look at.
    pub error_days: u32,
}

/// How an engine works.
#[derive(Debug, Clone)]
pub struct Options {
    /// Attempts that run at the same time; 0 for a process that only creates and reads tasks.
    pub slots: usize,
    /// The queues whose steps this worker claims; all of them if empty.
    pub queues: Vec<Queue>,
    /// How long a worker may be silent before its steps are given to others, in seconds. A third
    /// of it is the time between two heartbeats.
    pub lease_seconds: u64,
    /// The longest time of one attempt of a step that names none, in seconds.
    pub step_timeout_seconds: u64,
    /// How long `stop` waits for running attempts before it hands them back, in seconds.
    pub shutdown_grace_seconds: u64,
    /// The longest time between two looks at the store when nothing is known to be due, in
    /// seconds. Other processes' tasks are noticed sooner where the store shows a change.
    pub poll_seconds: u64,
    /// The largest context, in bytes of JSON.
    pub context_bytes_max: usize,
    /// The largest result of a step, in bytes of JSON.
    pub result_bytes_max: usize,
    /// Outcomes that one transaction records at most.
    pub commit_batch_max: usize,
    /// Events that a slow subscriber may fall behind before it misses the oldest.
    pub event_buffer: usize,
    /// What makes two requests the same.
    pub identity_strategy: IdentityStrategy,
    /// How long finished tasks are kept; for ever if empty.
    pub retention: Vec<Retention>,
    /// Seed of the jitter in backoffs; chosen by chance if absent.
    pub jitter_seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            slots: 64,
            queues: Vec::new(),
            lease_seconds: 30,
            step_timeout_seconds: 3_600,
            shutdown_grace_seconds: 30,
            poll_seconds: 10,
            context_bytes_max: 4 * 1024 * 1024,
            result_bytes_max: 4 * 1024 * 1024,
            commit_batch_max: 1_000,
            event_buffer: 4_096,
            identity_strategy: IdentityStrategy::Default,
            retention: Vec::new(),
            jitter_seed: None,
        }
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let at_least_one = [
            ("lease_seconds", self.lease_seconds),
            ("step_timeout_seconds", self.step_timeout_seconds),
            ("poll_seconds", self.poll_seconds),
            ("context_bytes_max", self.context_bytes_max as u64),
            ("result_bytes_max", self.result_bytes_max as u64),
            ("commit_batch_max", self.commit_batch_max as u64),
            ("event_buffer", self.event_buffer as u64),
        ];
        for (option, value) in at_least_one {
            if value == 0 {
                let allowed = "it must be at least 1";
                return Err(Error::BadOption {
                    option,
                    found: value.to_string(),
                    allowed,
                });
            }
        }
        if self.slots > 100_000 {
            let allowed = "at most 100000 attempts may run at once";
            return Err(Error::BadOption {
                option: "slots",
                found: self.slots.to_string(),
                allowed,
            });
        }
        Ok(())
    }

    /// Whether the worker claims on a queue.
    pub(crate) fn serves(&self, queue: &Queue) -> bool {
        self.queues.is_empty() || self.queues.contains(queue)
    }

    pub(crate) const fn lease_ms(&self) -> u64 {
        self.lease_seconds.saturating_mul(1_000)
    }
}
