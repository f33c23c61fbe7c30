//! How the steps fail.

use serde::Serialize;
use serde_json::json;
use tasker::{PermanentError, RetryableError, StepError};

/// Another attempt is of no use.
pub(crate) fn permanent(code: &str, message: impl Into<String>) -> StepError {
    PermanentError::new(message).error_code(code).into()
}

/// A service has said no; its word stands with the failure.
pub(crate) fn refused(code: &str, word: impl Serialize, message: &str) -> StepError {
    PermanentError {
        context: json!({"status": word}),
        ..PermanentError::new(message).error_code(code)
    }
    .into()
}

/// A service has not decided yet; its word stands with the failure.
pub(crate) fn undecided(word: impl Serialize, message: &str) -> StepError {
    RetryableError {
        context: json!({"status": word}),
        ..RetryableError::new(message)
    }
    .into()
}
