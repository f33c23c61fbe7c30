//! How the steps fail.

use serde_json::json;
use tasker::{PermanentError, RetryableError, StepContext, StepError};

/// Another attempt is of no use.
pub(crate) fn permanent(code: &str, message: impl Into<String>) -> PermanentError {
    PermanentError::new(message).error_code(code)
}

/// Another attempt may succeed. The reason stands with the failure: only permanent failures have
/// a code.
pub(crate) fn retryable(reason: &str, message: impl Into<String>) -> RetryableError {
    RetryableError {
        context: json!({"reason": reason}),
        ..RetryableError::new(message)
    }
}

/// The failure, or its last word if there were as many attempts after the first as there may be.
pub(crate) fn within(retries: Option<u32>, step: &StepContext, error: RetryableError) -> StepError {
    if retries.is_none_or(|retries| step.attempt() <= retries) {
        return error.into();
    }
    let mut last = permanent("EXPRESS_RETRIES_EXHAUSTED", error.message);
    last.context = error.context;
    last.into()
}
