//! How far a running step has come.

use serde::{Deserialize, Serialize};

/// How far a running step has come, as its handler says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepProgress {
    /// How much is done, in whatever the handler counts.
    pub done: u64,
    /// How much there is, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// What it is doing, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl std::fmt::Display for StepProgress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.total {
            Some(total) => write!(f, "{} of {total}", self.done)?,
            None => write!(f, "{}", self.done)?,
        }
        if self.message.is_empty() {
            return Ok(());
        }
        write!(f, ", {}", self.message)
    }
}
