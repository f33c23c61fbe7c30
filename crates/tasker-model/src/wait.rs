//! What a step waits for once its parents have ended, without holding a slot.
//!
//! The worker that first claims such a step gives it back with a [`Wait`]; the store keeps the time,
//! and the step is due again when it comes, or when the signal does. That it was given back so is
//! stored with the step: the second claim runs it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::name::SignalName;

/// What a definition says that a step waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum WaitFor {
    /// A span after its parents have ended.
    Delay {
        /// How long, in milliseconds.
        delay_ms: u64,
    },
    /// A time.
    Until {
        /// The time in RFC 3339, or a CEL expression over context and results that gives it.
        time: String,
    },
    /// A signal from outside.
    Signal {
        /// Its name.
        name: SignalName,
        /// How long at most, in milliseconds; for ever if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
        /// What the step goes on with when the time is over; without it, the step then fails.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default: Option<Value>,
    },
}

/// How long a step that was given back waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// So many milliseconds from now on.
    After(u64),
    /// Until a time.
    At(Timestamp),
    /// Until its signal comes.
    Signalled,
    /// Until its sub-tasks have ended, or too many of them have failed.
    Subtasks,
}

/// What a step that was given back waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// A time at which it is due in any case.
    pub until: Until,
    /// A signal that makes it due before.
    pub signal: Option<SignalName>,
}

/// When a step is due that waits for nothing but a signal: later than anybody will look.
///
/// The first day of the year 9999: both stores can hold it, and those clocks will be others.
pub const NEVER: Timestamp = Timestamp::constant(253_370_764_800, 0);
