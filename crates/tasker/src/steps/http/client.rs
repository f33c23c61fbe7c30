//! The connections of this process.
//!
//! One client serves all steps, so that they share connections. Its connections are tasks of the
//! runtime that opened them; so there is one for each runtime, which is one in nearly every process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Client;
use reqwest::redirect::Policy;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::{Handle, Id};

/// A server that cannot be reached shall not take the whole time of an attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// More runtimes than this are not remembered.
const CLIENTS_MAX: usize = 16;

/// By runtime, the one that was used last at the end.
static CLIENTS: Mutex<Vec<(Id, Client)>> = Mutex::new(Vec::new());

/// The client of the current runtime.
pub(super) fn client() -> Result<Client, String> {
    let runtime = Handle::current().id();
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    let client = match clients.iter().position(|(known, _)| *known == runtime) {
        Some(at) => clients.remove(at).1,
        None => build()?,
    };
    clients.push((runtime, client.clone()));
    if clients.len() > CLIENTS_MAX {
        clients.remove(0);
    }
    Ok(client)
}

fn build() -> Result<Client, String> {
    let mut roots = RootCertStore::empty();
    // Without any, every https request fails with a reason; http still works.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let mut tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Client::builder()
        .tls_backend_preconfigured(tls)
        // Redirects are followed by `send`, which knows what may go to another server.
        .redirect(Policy::none())
        // An attempt is one request: trying again is the engine's part.
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("tasker/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| error.to_string())
}
