//! When a failed step may be tried again.
//!
//! All delays are in milliseconds. Chance is an argument: the caller passes a number in `[0, 1)`,
//! so the same number gives the same delay.

use serde::{Deserialize, Serialize};

/// How long to wait between attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Backoff {
    /// `base_ms × 2^n` after attempt `n` (spec 04 §4.1: 2 s, 4 s, 8 s, 16 s, 30 s by default).
    Exponential {
        /// What is doubled.
        base_ms: u64,
        /// Never longer than this, jitter included.
        cap_ms: u64,
        /// Largest deviation to either side, as a share of the delay: 0.1 is ±10 %.
        jitter: f64,
    },
    /// Always the same delay.
    Fixed {
        /// The delay.
        delay_ms: u64,
    },
    /// One delay per attempt (spec 04 §4.2); beyond the table, `n ^ multiplier` whole seconds.
    Table {
        /// The delay after attempt 1, 2, 3, …
        delays_ms: Vec<u64>,
        /// The exponent that takes over beyond the table.
        multiplier: f64,
        /// Never longer than this, jitter included.
        cap_ms: u64,
        /// Largest deviation to either side, as a share of the delay.
        jitter: f64,
    },
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff::Exponential {
            base_ms: 1_000,
            cap_ms: 30_000,
            jitter: 0.1,
        }
    }
}

/// Whether, how often and when a step is tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// `false` means one attempt (spec 00 N-O3: it never means "do not run").
    pub retryable: bool,
    /// The largest number of attempts, the first included and crashes included.
    pub limit: u32,
    /// How long to wait between attempts.
    pub backoff: Backoff,
    /// The longest delay that a failure may ask for (`retry_after`), in milliseconds.
    pub server_delay_cap_ms: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            retryable: true,
            limit: 3,
            backoff: Backoff::default(),
            server_delay_cap_ms: 300_000,
        }
    }
}

/// A policy that cannot be followed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidRetryPolicy {
    /// Nothing would ever run.
    #[error("retry limit is 0; it counts the first attempt, so at least 1 is needed")]
    NoAttempt,
    /// A share outside its range.
    #[error("jitter is {0}; it is a share from 0 to 1")]
    Jitter(f64),
    /// A table without entries.
    #[error("the table of delays is empty")]
    EmptyTable,
    /// An exponent that shrinks delays.
    #[error("multiplier is {0}; it must be at least 1 and finite")]
    Multiplier(f64),
}

impl RetryPolicy {
    /// The attempts that may be made in all.
    pub fn attempt_limit(&self) -> u32 {
        if self.retryable { self.limit } else { 1 }
    }

    /// Whether the policy can be followed.
    pub fn check(&self) -> Result<(), InvalidRetryPolicy> {
        if self.limit == 0 {
            return Err(InvalidRetryPolicy::NoAttempt);
        }
        let jitter = match &self.backoff {
            Backoff::Fixed { .. } => 0.0,
            Backoff::Exponential { jitter, .. } => *jitter,
            Backoff::Table {
                delays_ms,
                multiplier,
                jitter,
                ..
            } => {
                if delays_ms.is_empty() {
                    return Err(InvalidRetryPolicy::EmptyTable);
                }
                if !(multiplier.is_finite() && *multiplier >= 1.0) {
                    return Err(InvalidRetryPolicy::Multiplier(*multiplier));
                }
                *jitter
            }
        };
        if (0.0..=1.0).contains(&jitter) {
            Ok(())
        } else {
            Err(InvalidRetryPolicy::Jitter(jitter))
        }
    }

    /// The delay after failed attempt `attempt` (from 1), in milliseconds.
    ///
    /// A delay that the failure asks for is honoured up to `server_delay_cap_ms`; the longer of
    /// it and the policy's own delay wins. `chance` is in `[0, 1)`.
    pub fn delay_ms(&self, attempt: u32, requested_ms: Option<u64>, chance: f64) -> u64 {
        debug_assert!((0.0..1.0).contains(&chance), "chance is in [0, 1)");
        debug_assert!(attempt > 0, "attempts are numbered from 1");
        let own = self.backoff.delay_ms(attempt, chance);
        requested_ms.map_or(own, |asked| own.max(asked.min(self.server_delay_cap_ms)))
    }
}

impl Backoff {
    fn delay_ms(&self, attempt: u32, chance: f64) -> u64 {
        match self {
            Backoff::Fixed { delay_ms } => *delay_ms,
            Backoff::Exponential {
                base_ms,
                cap_ms,
                jitter,
            } => {
                let factor = 1_u64.checked_shl(attempt).unwrap_or(u64::MAX);
                spread(base_ms.saturating_mul(factor).min(*cap_ms), *jitter, chance).min(*cap_ms)
            }
            Backoff::Table {
                delays_ms,
                multiplier,
                cap_ms,
                jitter,
            } => {
                let listed = delays_ms.get(attempt as usize - 1).copied();
                let delay = listed.unwrap_or_else(|| {
                    let seconds = f64::from(attempt).powf(*multiplier).trunc();
                    whole_ms(seconds).saturating_mul(1_000)
                });
                spread(delay.min(*cap_ms), *jitter, chance).min(*cap_ms)
            }
        }
    }
}

fn spread(delay_ms: u64, jitter: f64, chance: f64) -> u64 {
    whole_ms(delay_ms as f64 * (1.0 + jitter * (2.0 * chance - 1.0)))
}

/// Rounds; casts from floats saturate, and every value here is positive.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates as meant"
)]
fn whole_ms(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential() -> RetryPolicy {
        let backoff = Backoff::Exponential {
            base_ms: 1_000,
            cap_ms: 30_000,
            jitter: 0.0,
        };
        RetryPolicy {
            backoff,
            ..RetryPolicy::default()
        }
    }

    #[test]
    fn exponential_doubles_up_to_its_cap() {
        let delays = [1, 2, 3, 4, 5, 6, 63, 64, 100].map(|n| exponential().delay_ms(n, None, 0.5));
        assert_eq!(
            delays,
            [
                2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000, 30_000, 30_000
            ]
        );
    }

    #[test]
    fn jitter_stays_within_its_share_and_below_the_cap() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.delay_ms(1, None, 0.0), 1_800);
        assert_eq!(policy.delay_ms(1, None, 0.5), 2_000);
        assert!(policy.delay_ms(1, None, 0.999_999) <= 2_200);
        assert_eq!(policy.delay_ms(9, None, 0.999_999), 30_000);
    }

    #[test]
    fn a_table_gives_way_to_a_power_beyond_its_end() {
        // Spec 08 G91.
        let policy = RetryPolicy {
            backoff: Backoff::Table {
                delays_ms: vec![5_000, 10_000],
                multiplier: 1.5,
                cap_ms: 60_000,
                jitter: 0.0,
            },
            ..RetryPolicy::default()
        };
        let delays = [1, 2, 3, 100].map(|n| policy.delay_ms(n, None, 0.5));
        assert_eq!(delays, [5_000, 10_000, 5_000, 60_000]);
    }

    #[test]
    fn a_requested_delay_is_a_minimum_with_a_cap() {
        let policy = exponential();
        assert_eq!(policy.delay_ms(1, Some(60_000), 0.5), 60_000);
        assert_eq!(policy.delay_ms(1, Some(10), 0.5), 2_000);
        assert_eq!(policy.delay_ms(1, Some(86_400_000), 0.5), 300_000);
    }

    #[test]
    fn not_retryable_means_one_attempt() {
        let policy = RetryPolicy {
            retryable: false,
            ..RetryPolicy::default()
        };
        assert_eq!(policy.attempt_limit(), 1);
        assert_eq!(policy.check(), Ok(()));
        let none = RetryPolicy {
            limit: 0,
            ..RetryPolicy::default()
        };
        assert_eq!(none.check(), Err(InvalidRetryPolicy::NoAttempt));
    }
}
