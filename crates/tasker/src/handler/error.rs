//! How a step handler fails.
//!
//! Any error may be returned with `?` and is retried; [`RetryableError`] adds when, and
//! [`PermanentError`] says that trying again is of no use.

use std::error::Error as StdError;
use std::fmt;

use serde_json::Value;
use tasker_model::outcome::{Failure, FailureKind};

/// A failure that may go away.
#[derive(Debug, Clone, Default)]
pub struct RetryableError {
    /// What happened, for people.
    pub message: String,
    /// The shortest time to wait before the next attempt, in seconds.
    pub retry_after: Option<f64>,
    /// What else is worth recording; not for secrets.
    pub context: Value,
}

impl RetryableError {
    /// A failure that is tried again when the step's backoff says so.
    pub fn new(message: impl Into<String>) -> RetryableError {
        RetryableError {
            message: message.into(),
            ..RetryableError::default()
        }
    }

    /// Waits at least so many seconds before the next attempt.
    pub fn retry_after(mut self, seconds: f64) -> RetryableError {
        self.retry_after = Some(seconds);
        self
    }
}

/// A failure that no further attempt can mend.
#[derive(Debug, Clone, Default)]
pub struct PermanentError {
    /// What happened, for people.
    pub message: String,
    /// The handler's own code for it, such as `CARD_DECLINED`.
    pub error_code: Option<String>,
    /// What else is worth recording; not for secrets.
    pub context: Value,
}

/// The other name of [`PermanentError`].
pub type NonRetryableError = PermanentError;

impl PermanentError {
    /// A failure that ends the step.
    pub fn new(message: impl Into<String>) -> PermanentError {
        PermanentError {
            message: message.into(),
            ..PermanentError::default()
        }
    }

    /// Adds the handler's own code.
    pub fn error_code(mut self, code: impl Into<String>) -> PermanentError {
        self.error_code = Some(code.into());
        self
    }
}

impl fmt::Display for RetryableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Display for PermanentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for RetryableError {}
impl StdError for PermanentError {}

/// Why a step handler failed. Made by `?` from any error.
///
/// Like other catch-all errors it is not itself a `std::error::Error`: otherwise `?` could not
/// take every error in.
#[derive(Debug)]
pub struct StepError(Box<dyn StdError + Send + Sync>);

impl<E: StdError + Send + Sync + 'static> From<E> for StepError {
    fn from(error: E) -> StepError {
        StepError(Box::new(error))
    }
}

/// An error type that decides for itself whether trying again is of use. A step handler may return
/// it in place of [`StepError`]:
///
/// ```
/// use tasker::{HandlerError, PermanentError, RetryableError, StepError};
///
/// enum PaymentError { Declined(String), Busy { seconds: f64 } }
///
/// impl HandlerError for PaymentError {
///     fn into_step_error(self) -> StepError {
///         match self {
///             PaymentError::Declined(why) => PermanentError::new(why).error_code("DECLINED").into(),
///             PaymentError::Busy { seconds } => {
///                 RetryableError::new("the bank is busy").retry_after(seconds).into()
///             }
///         }
///     }
/// }
///
/// async fn charge() -> Result<String, PaymentError> {
///     Err(PaymentError::Busy { seconds: 2.0 })
/// }
/// ```
///
/// In a function that returns a [`StepError`], `?` takes such an error as it takes every other:
/// it is tried again. There, call [`HandlerError::into_step_error`], or return the error's own type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say whether trying again is of use",
    label = "the error of a step handler",
    note = "implement `tasker::HandlerError` for it, or return a `StepResult<T>` and use `?`"
)]
pub trait HandlerError {
    /// The error as steps know it: from a [`PermanentError`], a [`RetryableError`], or any other.
    fn into_step_error(self) -> StepError;
}

impl HandlerError for StepError {
    fn into_step_error(self) -> StepError {
        self
    }
}

impl HandlerError for PermanentError {
    fn into_step_error(self) -> StepError {
        self.into()
    }
}

impl HandlerError for RetryableError {
    fn into_step_error(self) -> StepError {
        self.into()
    }
}

impl StepError {
    /// The same error, and no further attempt: what it concerns has happened.
    pub(crate) fn into_permanent(self) -> PermanentError {
        let failure = self.into_failure();
        PermanentError {
            message: failure.message,
            error_code: failure.error_code,
            context: failure.context,
        }
    }

    /// The failure as it is recorded.
    pub(crate) fn into_failure(self) -> Failure {
        let error = match self.0.downcast::<RetryableError>() {
            Ok(retryable) => return retryable_failure(*retryable),
            Err(error) => error,
        };
        match error.downcast::<PermanentError>() {
            Ok(permanent) => Failure {
                error_code: permanent.error_code,
                context: permanent.context,
                ..Failure::new(FailureKind::Permanent, permanent.message)
            },
            Err(other) => Failure::new(FailureKind::Retryable, with_causes(other.as_ref())),
        }
    }
}

fn retryable_failure(error: RetryableError) -> Failure {
    let seconds = error
        .retry_after
        .filter(|seconds| seconds.is_finite() && *seconds > 0.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive; saturates"
    )]
    let retry_after_ms = seconds.map(|seconds| (seconds * 1_000.0).ceil() as u64);
    Failure {
        retry_after_ms,
        context: error.context,
        ..Failure::new(FailureKind::Retryable, error.message)
    }
}

/// An error and what caused it, in one line.
fn with_causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(returned: Result<(), StepError>) -> Failure {
        returned.unwrap_err().into_failure()
    }

    fn parse() -> Result<(), StepError> {
        "x".parse::<u8>()?;
        Ok(())
    }

    #[test]
    fn the_kind_of_error_decides() {
        let retryable = failure(Err(RetryableError::new("busy").retry_after(1.5).into()));
        assert_eq!(
            (retryable.kind, retryable.retry_after_ms),
            (FailureKind::Retryable, Some(1_500))
        );
        let permanent = failure(Err(PermanentError::new("no").error_code("DECLINED").into()));
        assert_eq!(permanent.kind, FailureKind::Permanent);
        assert_eq!(permanent.error_code.as_deref(), Some("DECLINED"));
        let other = failure(parse());
        assert_eq!(other.kind, FailureKind::Retryable);
        assert_eq!(other.message, "invalid digit found in string");
    }

    #[test]
    fn a_senseless_delay_is_ignored() {
        for seconds in [f64::NAN, f64::INFINITY, -1.0] {
            let failure = failure(Err(RetryableError::new("busy").retry_after(seconds).into()));
            assert_eq!(failure.retry_after_ms, None, "{seconds}");
        }
    }
}
