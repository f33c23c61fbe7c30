//! What one attempt sends.

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde_json::Value;
use tasker_model::outcome::Failure;

use crate::expression::Scope;
use crate::handler::StepContext;
use crate::steps::redact::Secrets;
use crate::steps::{permanent, valueless};

use super::Http;

/// Shown of an address in a message, in bytes.
const SHOWN_BYTES: usize = 300;

/// A request with all that this attempt puts into it.
pub(super) struct Prepared {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    /// The names of the headers that were configured: not for another server.
    pub(super) own_headers: Vec<HeaderName>,
    pub(super) body: Option<Vec<u8>>,
}

impl Prepared {
    pub(super) fn new(
        http: &Http,
        attempt: &StepContext,
        scope: &Scope,
        secrets: &mut Secrets,
    ) -> Result<Prepared, Box<Failure>> {
        scope.secrets().for_each(|secret| secrets.add(secret));
        let url = url(http, scope, secrets)?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(name) = &http.idempotency_header {
            let key = attempt.idempotency_key();
            let key = HeaderValue::try_from(key).expect("invariant: a UUID and a number");
            headers.insert(name.clone(), key);
        }
        let mut own_headers = Vec::new();
        for header in &http.headers {
            let key = format!("headers/{}", header.name);
            let value = header.value.evaluate(scope);
            let text = match value.map_err(|error| valueless(&key, &error))? {
                Value::Null => continue,
                Value::String(text) => text,
                other => other.to_string(),
            };
            if is_secret(&header.name) || !header.value.uses().env.is_empty() {
                secrets.add(&text);
            }
            let value = HeaderValue::from_str(&text).map_err(|_| {
                let text = format!(
                    "`{key}`: its value cannot be sent: it holds a line break or \
                                    another character that headers do not have"
                );
                permanent("REQUEST_INVALID", text)
            })?;
            own_headers.push(header.name.clone());
            headers.insert(header.name.clone(), value);
        }
        let body = body(http, scope, &mut headers)?;
        Ok(Prepared {
            method: http.method.clone(),
            url,
            headers,
            own_headers,
            body,
        })
    }
}

/// Headers whose values are secrets, wherever they come from.
fn is_secret(name: &HeaderName) -> bool {
    let name = name.as_str();
    [
        "authorization",
        "cookie",
        "token",
        "secret",
        "password",
        "api-key",
        "apikey",
    ]
    .iter()
    .any(|word| name.contains(word))
}

/// An absolute address of the web; the problem does not hold it.
pub(super) fn absolute(text: &str) -> Result<Url, String> {
    if text.trim().is_empty() {
        return Err("the address is empty".to_owned());
    }
    let url = Url::parse(text.trim())
        .map_err(|error| format!("not an absolute address such as https://host/path: {error}"))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(format!("`{}` is not http or https", url.scheme()));
    }
    match url.host_str() {
        None | Some("") => Err("the address has no host".to_owned()),
        Some(_) => Ok(url),
    }
}

fn url(http: &Http, scope: &Scope, secrets: &mut Secrets) -> Result<Url, Box<Failure>> {
    let template = http
        .url
        .as_ref()
        .expect("invariant: checked when it was read");
    let text = template
        .evaluate_text(scope)
        .map_err(|error| valueless("url", &error))?;
    let mut url = absolute(&text)
        .map_err(|problem| permanent("REQUEST_INVALID", format!("`url`: {problem}")))?;
    for (name, value) in &http.query {
        let value = value.evaluate(scope);
        let value = value.map_err(|error| valueless(&format!("query/{name}"), &error))?;
        let values = match value {
            Value::Array(values) => values,
            Value::Null => continue,
            value => vec![value],
        };
        let mut pairs = url.query_pairs_mut();
        for value in values {
            let text = match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
            pairs.append_pair(name, &text);
        }
    }
    keep_secret(&url, secrets);
    Ok(url)
}

/// What of an address may not be shown.
pub(super) fn keep_secret(url: &Url, secrets: &mut Secrets) {
    for (_, value) in url.query_pairs() {
        secrets.add(&value);
    }
    for pair in url.query().unwrap_or_default().split('&') {
        secrets.add(pair.split_once('=').map_or(pair, |(_, value)| value));
    }
    secrets.add(url.username());
    secrets.add(url.password().unwrap_or_default());
}

/// An address without a user's name, query and fragment.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Both fail only for addresses without a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let mut text = String::from(url);
    if text.len() > SHOWN_BYTES {
        text.truncate(text.floor_char_boundary(SHOWN_BYTES));
        text.push('…');
    }
    text
}

/// JSON, unless the header says otherwise and the body is a text.
fn body(
    http: &Http,
    scope: &Scope,
    headers: &mut HeaderMap,
) -> Result<Option<Vec<u8>>, Box<Failure>> {
    let Some(template) = &http.body else {
        return Ok(None);
    };
    let value = template
        .evaluate(scope)
        .map_err(|error| valueless("body", &error))?;
    let json = match headers.get(CONTENT_TYPE) {
        None => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            true
        }
        Some(own) => own.to_str().is_ok_and(|own| own.contains("json")),
    };
    Ok(Some(match value {
        Value::String(text) if !json => text.into_bytes(),
        value => value.to_string().into_bytes(),
    }))
}
