//! How the steps speak to the services: a client that all of them share, and what may go wrong between.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tasker::handler::Needs;
use tasker::{
    Argument, HandlerError, PermanentError, RetryableError, State, StepContext, StepError,
};

use crate::failure::permanent;

/// The connections to the services. Clones share them.
#[derive(Debug, Clone)]
pub struct Client(reqwest::Client);

impl Client {
    /// An answer may take so long.
    pub fn new(patience: Duration) -> Result<Client, reqwest::Error> {
        // The services are on this machine and speak no TLS; reqwest wants to know about it all the same.
        // Whoever has installed another provider before has decided.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .tls_certs_only([])
            .timeout(patience)
            .retry(reqwest::retry::never());
        Ok(Client(client.build()?))
    }
}

/// The services, as one attempt speaks to them. Step handlers take it as an argument.
#[derive(Debug)]
pub struct Services {
    client: Client,
    url: String,
    idempotency_key: String,
}

/// What the contexts of both teams say about the services.
#[derive(Deserialize)]
struct Address {
    services: String,
}

impl Argument for Services {
    fn declare(needs: &mut Needs) {
        State::<Client>::declare(needs);
    }

    fn take(step: &StepContext) -> Result<Services, StepError> {
        let State(client) = State::take(step)?;
        let Address { services } = step.context()?;
        Ok(Services {
            client,
            url: services,
            idempotency_key: step.idempotency_key(),
        })
    }
}

impl Services {
    /// Asks a service, and reads its answer. A request that is repeated by another attempt of the same step
    /// is recognised by its key.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        correlation_id: Option<&str>,
        body: Value,
    ) -> Result<T, Trouble> {
        let mut request = (self.client.0.post(format!("{}{path}", self.url)))
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", &self.idempotency_key)
            .body(body.to_string());
        if let Some(id) = correlation_id {
            request = request.header("X-Correlation-Id", id);
        }
        let response = request.send().await.map_err(|error| Trouble::of(&error))?;
        let (status, retry_after) = (response.status(), retry_after(&response));
        let text = response.text().await;
        let text = text.map_err(|error| Trouble::of(&error))?;
        if !status.is_success() {
            return Err(Trouble::Status(status, retry_after));
        }
        serde_json::from_str(&text).map_err(|error| Trouble::NotUnderstood(error.to_string()))
    }
}

fn retry_after(response: &Response) -> Option<f64> {
    let header = response.headers().get(RETRY_AFTER)?;
    header.to_str().ok()?.parse().ok()
}

/// What may go wrong between a step and a service, before there is an answer to judge.
#[derive(Debug)]
pub enum Trouble {
    /// Nobody is there.
    NoConnection,
    /// The answer did not come, or not in time.
    NoAnswer,
    /// The answer is none of success; it may say how many seconds to wait.
    Status(StatusCode, Option<f64>),
    /// The answer is a success that says what nobody here knows.
    NotUnderstood(String),
}

impl Trouble {
    fn of(error: &reqwest::Error) -> Trouble {
        // A connection that is not made in time may be made later.
        if error.is_connect() && !error.is_timeout() {
            Trouble::NoConnection
        } else {
            Trouble::NoAnswer
        }
    }
}

/// The codes of statuses are those of steps of the kind `http`.
impl HandlerError for Trouble {
    fn into_step_error(self) -> StepError {
        match self {
            Trouble::NoConnection => RetryableError::new("the service cannot be reached").into(),
            Trouble::NoAnswer => RetryableError::new("the service has not answered in time").into(),
            Trouble::Status(status, retry_after) => of_status(status, retry_after),
            Trouble::NotUnderstood(why) => {
                let message = format!("the service's answer is not understood: {why}");
                permanent("ANSWER_NOT_UNDERSTOOD", message)
            }
        }
    }
}

impl From<Trouble> for StepError {
    fn from(trouble: Trouble) -> StepError {
        trouble.into_step_error()
    }
}

fn of_status(status: StatusCode, retry_after: Option<f64>) -> StepError {
    let message = format!("the service answers {}", status.as_u16());
    let may_change = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    if status.is_server_error() || may_change.contains(&status) {
        let busy = RetryableError::new(message);
        return match retry_after {
            Some(seconds) => busy.retry_after(seconds).into(),
            None => busy.into(),
        };
    }
    let code = format!("HTTP_{}", status.as_u16());
    PermanentError::new(message).error_code(code).into()
}
