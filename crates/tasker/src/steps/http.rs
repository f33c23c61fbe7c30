//! A step that sends a request.
//!
//! What is sent is written in the definition; the status of the answer says whether the step
//! succeeded, and its body is the result. Neither a slow nor a talkative server can hold a worker
//! up, and nothing of a header, a query or a user's name reaches a failure or a log.

mod status;
mod client;
mod request;
mod answer;
mod send;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use reqwest::Method;
use reqwest::header::HeaderName;
use serde_json::Value;
use tasker_model::json::Json;
use tasker_model::outcome::{Failure, Outcome};

use crate::expression::{Scope, Uses, ValueTemplate, Variables};
use crate::handler::{StepCode, StepContext};

use super::config::Reader;
use super::redact::Secrets;
use super::{ConfigProblem, unreadable};
use request::Prepared;
use status::Statuses;

const KEYS: &[&str] = &[
    "method",
    "url",
    "headers",
    "query",
    "params",
    "body",
    "timeout",
    "follow_redirects",
    "retry_after_max",
    "response_bytes_max",
    "success",
    "retryable",
    "permanent",
    "idempotency_header",
    "result",
];

const METHODS: [Method; 7] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
];

/// The step as it was configured.
struct Http {
    method: Method,
    url: Option<ValueTemplate>,
    headers: Vec<Header>,
    query: Vec<(String, ValueTemplate)>,
    body: Option<ValueTemplate>,
    /// For the whole: connection, redirects, and the last byte of the answer.
    timeout: Duration,
    follow_redirects: usize,
    retry_after_max: Duration,
    response_bytes_max: usize,
    statuses: Statuses,
    idempotency_header: Option<HeaderName>,
    result: Option<ValueTemplate>,
    uses: Uses,
}

struct Header {
    name: HeaderName,
    value: ValueTemplate,
}

/// The handler of a step that sends a request; or everything that is wrong with its configuration.
pub(crate) fn http(config: &Value, variables: Variables) -> Result<StepCode, Vec<ConfigProblem>> {
    let http = Arc::new(Http::read(config, variables)?);
    Ok(Arc::new(move |attempt| {
        let http = http.clone();
        async move { http.perform(attempt).await }.boxed()
    }))
}

impl Http {
    fn read(config: &Value, variables: Variables) -> Result<Http, Vec<ConfigProblem>> {
        let mut config = Reader::new(config, KEYS)?;
        let method = method(&mut config);
        config.required("url");
        if let Some(Value::String(url)) = config.get("url")
            && !url.contains("${{")
            && let Err(problem) = request::absolute(url)
        {
            config.refuse("url", problem);
        }
        let url = config
            .text("url")
            .and_then(|_| config.template("url", variables.with_env()));
        let headers = headers(&mut config, variables);
        let mut query = config.named_templates("query", variables.with_env());
        if config.get("query").is_some() && config.get("params").is_some() {
            config.refuse("params", "is another name of `query`, which is there, too");
        }
        query.extend(config.named_templates("params", variables.with_env()));
        let body = config
            .get("body")
            .and_then(|_| config.template("body", variables.plain()));
        let result = config
            .get("result")
            .and_then(|_| config.template("result", variables.with_response()));
        let half_minute = Duration::from_secs(30);
        let made = Http {
            idempotency_header: idempotency_header(&mut config, &method),
            method,
            url,
            headers,
            query,
            body,
            timeout: config.seconds("timeout", half_minute, Duration::from_hours(24)),
            follow_redirects: config.count("follow_redirects", 5, 20),
            retry_after_max: config.seconds(
                "retry_after_max",
                Duration::from_hours(1),
                Duration::from_hours(24 * 30),
            ),
            response_bytes_max: config.count("response_bytes_max", 1 << 20, 1 << 30),
            statuses: Statuses::read(&mut config),
            result,
            uses: config.uses.clone(),
        };
        config.end(Some(made))
    }

    async fn perform(&self, attempt: StepContext) -> Outcome {
        let mut secrets = Secrets::default();
        match self.result(&attempt, &mut secrets).await {
            Ok(result) => Outcome::Completed { result },
            Err(failure) => Outcome::Failed(*secrets.out_of(failure)),
        }
    }

    /// One attempt, as a list; `secrets` learns what no failure may hold.
    async fn result(
        &self,
        attempt: &StepContext,
        secrets: &mut Secrets,
    ) -> Result<Json, Box<Failure>> {
        let mut scope = Scope::new(attempt, &self.uses).map_err(unreadable)?;
        let prepared = Prepared::new(self, attempt, &scope, secrets)?;
        let answer = send::within_time(self, prepared, attempt, secrets).await?;
        answer.check(self, secrets)?;
        answer.result(self, &mut scope)
    }
}

fn method(config: &mut Reader) -> Method {
    let Some(text) = config.text("method") else {
        return Method::GET;
    };
    let mut known = METHODS.into_iter();
    if let Some(method) = known.find(|known| known.as_str().eq_ignore_ascii_case(&text)) {
        return method;
    }
    let names: Vec<String> = METHODS.iter().map(Method::to_string).collect();
    config.refuse(
        "method",
        format!("expected one of {}, found `{text}`", names.join(", ")),
    );
    Method::GET
}

fn headers(config: &mut Reader, variables: Variables) -> Vec<Header> {
    let mut headers: Vec<Header> = Vec::new();
    for (name, value) in config.named_templates("headers", variables.with_env()) {
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(known) if headers.iter().any(|header| header.name == known) => {
                config.refuse("headers", format!("`{name}` stands there twice"));
            }
            Ok(name) => headers.push(Header { name, value }),
            Err(_) => config.refuse(
                "headers",
                format!("`{name}` cannot be the name of a header"),
            ),
        }
    }
    headers
}

/// Sent with what changes something, unless it is switched off with `null`.
fn idempotency_header(config: &mut Reader, method: &Method) -> Option<HeaderName> {
    let key = "idempotency_header";
    if config.is_null(key) {
        return None;
    }
    let Some(name) = config.text(key) else {
        let default = [Method::POST, Method::PUT, Method::PATCH].contains(method);
        return default.then(|| HeaderName::from_static("idempotency-key"));
    };
    let parsed = HeaderName::from_bytes(name.as_bytes());
    if parsed.is_err() {
        config.refuse(key, format!("`{name}` cannot be the name of a header"));
    }
    parsed.ok()
}

#[cfg(test)]
mod tests;
