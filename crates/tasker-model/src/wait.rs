//! What a step waits for once its parents have ended, without holding a slot.
//!
//! The worker that first claims such a step gives it back with a [`Wait`]; the store keeps the time,
//! and the step is due again when it comes, or when the signal does. That it was given back so is
//! stored with the step: the second claim runs it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::given;
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
        #[serde(
            default,
            deserialize_with = "given",
            skip_serializing_if = "Option::is_none"
        )]
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

/// A span of time as people read it: `0.4 s`, `12.5 s`, `1h 30m`, `48h`.
pub fn span_text(span: Duration) -> String {
    if span < Duration::from_mins(2) {
        return format!("{:.1} s", span.as_secs_f64());
    }
    let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    format!("{:#}", SignedDuration::from_secs(seconds))
}

/// When a step is due that waits for nothing but a signal: later than anybody will look.
///
/// The first day of the year 9999: both stores can hold it, and those clocks will be others.
pub const NEVER: Timestamp = Timestamp::constant(253_370_764_800, 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_people_read_them() {
        for (ms, text) in [
            (0, "0.0 s"),
            (400, "0.4 s"),
            (119_900, "119.9 s"),
            (5_400_000, "1h 30m"),
            (172_800_999, "48h"),
        ] {
            assert_eq!(span_text(Duration::from_millis(ms)), text);
        }
        assert!(span_text(Duration::MAX).ends_with('s'));
    }
}
