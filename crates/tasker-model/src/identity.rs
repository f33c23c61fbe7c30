//! What makes two requests the same (spec 01 §3.2, intended behaviour).
//!
//! Unlike the original, the identity document includes namespace and version, ignores the order
//! of keys, and looks back one sliding minute instead of at the calendar minute (spec 00 N-M5).

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::json::canonical;
use crate::request::CheckedRequest;
use crate::template::hex;

/// Requests with the same identity within this many seconds are the same.
pub const WINDOW_SECONDS: i64 = 60;

/// A user's own identity: from the checked request to a text, `None` for no de-duplication.
pub type CustomIdentity = Arc<dyn Fn(&CheckedRequest) -> Option<String> + Send + Sync>;

/// How requests are told apart.
#[derive(Clone, Default)]
pub enum IdentityStrategy {
    /// Every request is a task of its own.
    #[default]
    Default,
    /// Equal requests within a minute are refused.
    Hash,
    /// The user's own rule; equal texts are refused for as long as the task is kept.
    Custom(CustomIdentity),
}

impl fmt::Debug for IdentityStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IdentityStrategy::Default => "default",
            IdentityStrategy::Hash => "hash",
            IdentityStrategy::Custom(_) => "custom",
        })
    }
}

/// What a store compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The identity as text; lower-case hex SHA-256 for the `hash` strategy.
    pub key: String,
    /// Only tasks requested after this time count as the same; `None` means all of them.
    pub since: Option<Timestamp>,
}

impl IdentityStrategy {
    /// The identity of a request that was made at `requested_at`.
    pub fn of(&self, checked: &CheckedRequest, requested_at: Timestamp) -> Option<Identity> {
        match self {
            IdentityStrategy::Default => None,
            IdentityStrategy::Hash => {
                let window = jiff::SignedDuration::from_secs(WINDOW_SECONDS);
                let since = requested_at.checked_sub(window).unwrap_or(Timestamp::MIN);
                Some(Identity {
                    key: hash(checked),
                    since: Some(since),
                })
            }
            IdentityStrategy::Custom(rule) => {
                rule(checked).map(|key| Identity { key, since: None })
            }
        }
    }
}

fn hash(checked: &CheckedRequest) -> String {
    let source = checked.template.source();
    let request = &checked.request;
    let document = json!({
        "namespace": source.namespace,
        "name": source.name,
        "version": source.version,
        "initiator": request.initiator,
        "source_system": request.source_system,
        "context": request.context,
        "reason": request.reason,
        "bypass_steps": request.bypass_steps,
    });
    hex(&Sha256::digest(canonical(&document)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::TaskRequest;
    use crate::template::{TaskTemplate, TemplateSource};

    fn checked(namespace: &str, version: &str, context: &str) -> CheckedRequest {
        let source: TemplateSource = serde_json::from_value(json!({
            "namespace": namespace, "name": "order", "version": version,
            "steps": [{"name": "a", "handler": "a"}]
        }))
        .unwrap();
        TaskRequest::new("order")
            .context(serde_json::from_str(context).unwrap())
            .check(&TaskTemplate::new(source).unwrap(), 10_000)
            .unwrap()
    }

    #[test]
    fn the_hash_is_canonical_and_knows_namespace_and_version() {
        let one = hash(&checked("shop", "1.0.0", r#"{"a":1,"b":2}"#));
        assert_eq!(one.len(), 64);
        assert!(
            one.bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        );
        assert_eq!(one, hash(&checked("shop", "1.0.0", r#"{"b":2,"a":1}"#)));
        assert_ne!(one, hash(&checked("depot", "1.0.0", r#"{"a":1,"b":2}"#)));
        assert_ne!(one, hash(&checked("shop", "1.0.1", r#"{"a":1,"b":2}"#)));
        assert_ne!(one, hash(&checked("shop", "1.0.0", r#"{"a":1,"b":3}"#)));
    }

    #[test]
    fn strategies_differ_in_what_they_compare() {
        let request = checked("shop", "1.0.0", r#"{"a":1}"#);
        let now = Timestamp::from_second(1_000_000).unwrap();
        assert_eq!(IdentityStrategy::Default.of(&request, now), None);
        let hashed = IdentityStrategy::Hash.of(&request, now).unwrap();
        assert_eq!(hashed.since, Some(Timestamp::from_second(999_940).unwrap()));
        let by_number: CustomIdentity =
            Arc::new(|checked| Some(format!("order-{}", checked.request.context["a"])));
        let custom = IdentityStrategy::Custom(by_number)
            .of(&request, now)
            .unwrap();
        assert_eq!((custom.key.as_str(), custom.since), ("order-1", None));
    }
}
