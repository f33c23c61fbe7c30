//! What came back, and what becomes of it.

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tasker_model::json::Json;
use tasker_model::outcome::Failure;

use crate::expression::Scope;
use crate::steps::redact::Secrets;
use crate::steps::{permanent, retryable, valueless, with_context};

use super::Http;
use super::status::{Meaning, retry_after};

/// Kept of the body of a failure, in bytes.
const EXCERPT_BYTES: usize = 1024;

/// A complete answer.
pub(super) struct Answer {
    /// Method and address, for messages.
    pub(super) request: String,
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The failure, if the status means one.
    pub(super) fn check(&self, http: &Http, secrets: &Secrets) -> Result<(), Box<Failure>> {
        let (status, request) = (self.status, &self.request);
        let code = format!("HTTP_{status}");
        let failure = match http.statuses.meaning(status) {
            Meaning::Success => return Ok(()),
            Meaning::Permanent => permanent(&code, format!("{request} was answered with {status}")),
            Meaning::Retryable => {
                let text = format!("{request} was answered with {status}");
                let mut failure = retryable(&code, text);
                let header = self.headers.get(RETRY_AFTER).and_then(|h| h.to_str().ok());
                let seconds = header.and_then(|header| retry_after(header, Timestamp::now()));
                let max = http.retry_after_max.as_secs();
                failure.retry_after_ms = seconds.map(|seconds| seconds.min(max) * 1_000);
                failure
            }
        };
        let failure = with_context(failure, "status", status);
        // Redacted before it is cut: a part of a secret would not be recognised any more.
        let text = secrets.redacted(&String::from_utf8_lossy(&self.body));
        Err(match excerpt(&text) {
            "" => failure,
            excerpt => with_context(failure, "body", excerpt),
        })
    }

    /// The step's result.
    pub(super) fn result(&self, http: &Http, scope: &mut Scope) -> Result<Json, Box<Failure>> {
        let Some(template) = &http.result else {
            return self.body();
        };
        let body: Value = self.body()?.read().map_err(|error| {
            let text = format!("the answer to {} is no JSON: {error}", self.request);
            permanent("RESULT_NOT_JSON", text)
        })?;
        let response = json!({
            "status": self.status,
            "headers": headers(&self.headers),
            "body": body,
        });
        scope.set("response", response);
        let value = template
            .evaluate(scope)
            .map_err(|error| valueless("result", &error))?;
        Ok(Json::of(&value).expect("invariant: a JSON value can be written"))
    }

    /// The body as JSON, unchanged; as a text, if it is none and does not claim to be; `null` if
    /// there is none.
    fn body(&self) -> Result<Json, Box<Failure>> {
        let as_json =
            |value: &Value| Json::of(value).expect("invariant: a JSON value can be written");
        let text = std::str::from_utf8(&self.body).map_err(|error| {
            let (request, at) = (&self.request, error.valid_up_to());
            let text = format!("the answer to {request} is not UTF-8: byte {at} is wrong");
            permanent("RESULT_NOT_JSON", text)
        })?;
        if text.trim().is_empty() {
            return Ok(as_json(&Value::Null));
        }
        let checked: Result<&RawValue, _> = serde_json::from_str(text.trim());
        match checked.and_then(Json::of) {
            Ok(json) => Ok(json),
            Err(error) if self.claims_json() => {
                let request = &self.request;
                let text =
                    format!("the answer to {request} says that it is JSON, and is not: {error}");
                Err(permanent("RESULT_NOT_JSON", text))
            }
            Err(_) => Ok(as_json(&Value::from(text))),
        }
    }

    fn claims_json(&self) -> bool {
        let kind = self
            .headers
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        kind.is_some_and(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/json") || kind.ends_with("+json")
        })
    }
}

fn excerpt(text: &str) -> &str {
    let text = text.trim();
    &text[..text.floor_char_boundary(EXCERPT_BYTES)]
}

/// By lower-case names; several of one name are joined as HTTP does.
fn headers(headers: &HeaderMap) -> Value {
    let mut members = Map::new();
    for name in headers.keys() {
        let values = headers.get_all(name).iter();
        let values: Vec<_> = values
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        members.insert(name.to_string(), values.join(", ").into());
    }
    Value::Object(members)
}
