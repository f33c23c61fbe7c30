//! Sends a request, follows redirects, and reads the answer as far as was agreed on.

use std::error::Error as StdError;
use std::time::Instant;

use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Client, Method, Response, Url};
use tasker_model::outcome::Failure;
use tokio::time::timeout;

use crate::handler::StepContext;
use crate::steps::redact::Secrets;
use crate::steps::{permanent, retryable};

use super::Http;
use super::answer::Answer;
use super::client::client;
use super::request::{Prepared, keep_secret, shown};
use super::status::Meaning;

/// Read of an answer that is a failure or a redirect, in bytes. The rest is not waited for.
const FAILURE_BYTES: usize = 64 * 1024;

/// The answer, or why there is none in time.
pub(super) async fn within_time(
    http: &Http,
    prepared: Prepared,
    attempt: &StepContext,
    secrets: &mut Secrets,
) -> Result<Answer, Box<Failure>> {
    let request = format!("{} {}", prepared.method, shown(&prepared.url));
    let answered = timeout(http.timeout, follow(http, prepared, attempt, secrets)).await;
    answered.unwrap_or_else(|_| {
        let seconds = http.timeout.as_secs_f64();
        let text = format!("{request} was not answered completely within {seconds} s");
        Err(retryable("TIMEOUT", text))
    })
}

/// Sends, and sends again where a redirect leads.
async fn follow(
    http: &Http,
    mut next: Prepared,
    attempt: &StepContext,
    secrets: &mut Secrets,
) -> Result<Answer, Box<Failure>> {
    let client = client().map_err(|problem| {
        retryable(
            "NO_RESOURCES",
            format!("requests cannot be sent: {problem}"),
        )
    })?;
    let mut visited: Vec<(Method, Url)> = Vec::new();
    loop {
        let request = format!("{} {}", next.method, shown(&next.url));
        let started = Instant::now();
        let response = send(&client, &next, &request).await?;
        let status = response.status().as_u16();
        let line = format!(
            "{request}: {status} in {} ms",
            started.elapsed().as_millis()
        );
        attempt.log(secrets.redacted(&line));
        let location = response.headers().get(LOCATION).cloned();
        let redirect = matches!(status, 301 | 302 | 303 | 307 | 308);
        let Some(location) = location.filter(|_| redirect && http.follow_redirects > 0) else {
            return read(http, response, request).await;
        };
        // To the end, or the connection could not be used again.
        drop(collect(response, FAILURE_BYTES).await);
        if visited.len() >= http.follow_redirects {
            let text = format!(
                "{request} redirects once more after {} redirects",
                visited.len()
            );
            return Err(permanent("TOO_MANY_REDIRECTS", text));
        }
        let target = location
            .to_str()
            .ok()
            .and_then(|text| next.url.join(text).ok());
        let Some(target) = target.filter(Url::has_host) else {
            let text = format!("{request} redirects to what is no address");
            return Err(permanent("REDIRECT_INVALID", text));
        };
        keep_secret(&target, secrets);
        visited.push((next.method.clone(), next.url.clone()));
        redirect_to(&mut next, target, status, &request)?;
        if visited
            .iter()
            .any(|(method, url)| *method == next.method && *url == next.url)
        {
            let text = format!(
                "{request} redirects in a circle, back to {}",
                shown(&next.url)
            );
            return Err(permanent("REDIRECT_LOOP", text));
        }
    }
}

/// Turns a request into the one that a redirect asks for.
fn redirect_to(
    request: &mut Prepared,
    target: Url,
    status: u16,
    shown_request: &str,
) -> Result<(), Box<Failure>> {
    if request.url.scheme() == "https" && target.scheme() != "https" {
        let text = format!(
            "{shown_request} redirects from https to {}",
            target.scheme()
        );
        return Err(permanent("REDIRECT_INSECURE", text));
    }
    if !["http", "https"].contains(&target.scheme()) {
        let text = format!("{shown_request} redirects to what is neither http nor https");
        return Err(permanent("REDIRECT_INVALID", text));
    }
    // What was configured was meant for the server that was configured.
    if target.origin() != request.url.origin() {
        for name in std::mem::take(&mut request.own_headers) {
            if name != CONTENT_TYPE {
                request.headers.remove(name);
            }
        }
    }
    let becomes_get = match status {
        301 | 302 => request.method == Method::POST,
        303 => request.method != Method::HEAD,
        _ => false,
    };
    if becomes_get {
        request.method = Method::GET;
        request.body = None;
        request.headers.remove(CONTENT_TYPE);
    }
    request.url = target;
    Ok(())
}

async fn send(client: &Client, next: &Prepared, request: &str) -> Result<Response, Box<Failure>> {
    let mut builder = client
        .request(next.method.clone(), next.url.clone())
        .headers(next.headers.clone());
    if let Some(body) = &next.body {
        builder = builder.body(body.clone());
    }
    let sent = builder.send().await;
    sent.map_err(|error| {
        let error = error.without_url();
        if error.is_builder() {
            let text = format!("{request} cannot be sent: {}", with_causes(&error));
            return permanent("REQUEST_INVALID", text);
        }
        if error.is_connect() {
            let text = format!("{request}: no connection: {}", with_causes(&error));
            return retryable("NO_CONNECTION", text);
        }
        let text = format!("{request} was not answered: {}", with_causes(&error));
        retryable("NO_ANSWER", text)
    })
}

async fn read(http: &Http, response: Response, request: String) -> Result<Answer, Box<Failure>> {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let success = http.statuses.meaning(status) == Meaning::Success;
    let max = if success {
        http.response_bytes_max
    } else {
        FAILURE_BYTES
    };
    // An answer to HEAD announces what it does not send.
    let has_body = success && http.method != Method::HEAD;
    let announced = announced(&headers).filter(|length| has_body && *length > max as u64);
    let (body, cut) = match announced {
        Some(_) => (Vec::new(), Cut::TooLong),
        None => collect(response, max).await,
    };
    match cut {
        Cut::Lost(error) if success => {
            let text = format!("the answer to {request} broke off: {}", with_causes(&error));
            Err(retryable("NO_ANSWER", text))
        }
        Cut::TooLong if success => {
            let text = format!(
                "the answer to {request} is longer than {max} bytes; `response_bytes_max` is the \
                 limit; store large data elsewhere and return a reference to it"
            );
            Err(permanent("RESPONSE_TOO_LARGE", text))
        }
        _ => Ok(Answer {
            request,
            status,
            headers,
            body,
        }),
    }
}

/// Whether, and why, a body is not complete.
enum Cut {
    No,
    TooLong,
    Lost(reqwest::Error),
}

async fn collect(mut response: Response, max: usize) -> (Vec<u8>, Cut) {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => return (body, Cut::No),
            Ok(Some(chunk)) if body.len() + chunk.len() > max => {
                let room = max - body.len();
                body.extend_from_slice(&chunk[..room]);
                return (body, Cut::TooLong);
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Err(error) => return (body, Cut::Lost(error.without_url())),
        }
    }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// An error and what caused it, in one line, without repetitions.
fn with_causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
