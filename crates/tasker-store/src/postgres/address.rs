//! The URL of a PostgreSQL store: what the driver understands, and Tasker's own parameters.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::migrations::KNOWN;
use crate::error::StoreError;

/// Connections of one process, the listening one apart: the engine has at most five calls under
/// way, the rest is for readers.
const CONNECTIONS: usize = 8;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Parameters of the URL that are not the driver's.
const OWN_PARAMETERS: &str =
    "`schema`, `pooler`, `listen`, `connections`, `sslmode`, `sslrootcert`";

/// Where a database is, and how to use it.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) config: Config,
    /// Where Tasker's tables are.
    pub(super) schema: String,
    /// Whether a connection of its own waits for other nodes' rings; off behind a pooler that
    /// gives every transaction another session. Polling goes on in any case.
    pub(super) listen: bool,
    pub(super) connections: usize,
    /// Whether a pooler in transaction mode stands in between: no statement is prepared, and
    /// nobody listens.
    pub(super) pooler: bool,
    verify: bool,
    root_certificates: Option<PathBuf>,
}

impl Address {
    pub(super) fn parse(url: &str) -> Result<Address, StoreError> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut address = Address {
            config: Config::new(),
            schema: "public".to_owned(),
            listen: true,
            connections: CONNECTIONS,
            pooler: false,
            verify: false,
            root_certificates: None,
        };
        let mut ssl_mode = None;
        let mut of_driver = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8();
            let value = value.map_err(|_| bad(format!("`{key}` is not UTF-8")))?;
            match key {
                "schema" => address.schema = checked_schema(&value)?,
                "listen" => address.listen = on_or_off(key, &value)?,
                "pooler" => address.pooler = on_or_off(key, &value)?,
                "connections" => address.connections = at_least_two(key, &value)?,
                "sslrootcert" => address.root_certificates = Some(value.as_ref().into()),
                "sslmode" => ssl_mode = Some(value.into_owned()),
                _ => of_driver.push(pair),
            }
        }
        let of_driver = if of_driver.is_empty() {
            base.to_owned()
        } else {
            format!("{base}?{}", of_driver.join("&"))
        };
        address.config = of_driver.parse().map_err(|error: tokio_postgres::Error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let said = cause.unwrap_or_else(|| error.to_string());
            bad(format!(
                "{said}; beside PostgreSQL's own parameters there are {OWN_PARAMETERS}"
            ))
        })?;
        address.set_ssl_mode(ssl_mode.as_deref())?;
        address.listen &= !address.pooler;
        let config = &mut address.config;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            // Tells in pg_stat_activity which nodes still run an old version.
            let version = env!("CARGO_PKG_VERSION");
            config.application_name(format!("tasker {version} (schema {KNOWN})"));
        }
        if config.get_dbname().is_none() && config.get_user().is_none() {
            return Err(bad("it names no user and no database".to_owned()));
        }
        Ok(address)
    }

    /// As PostgreSQL's own clients read it: `require` encrypts, and checks the certificate only
    /// against a given `sslrootcert`; `verify-full` always checks it.
    fn set_ssl_mode(&mut self, given: Option<&str>) -> Result<(), StoreError> {
        let mode = match given {
            Some("disable") => SslMode::Disable,
            None | Some("prefer") => SslMode::Prefer,
            Some("require" | "verify-ca" | "verify-full") => SslMode::Require,
            Some(other) => {
                let allowed = "disable, prefer, require, verify-ca, verify-full";
                return Err(bad(format!("`sslmode` is `{other}`; it may be {allowed}")));
            }
        };
        self.config.ssl_mode(mode);
        self.verify = matches!(given, Some("verify-ca" | "verify-full"))
            || (given == Some("require") && self.root_certificates.is_some());
        Ok(())
    }

    /// The longest time until a connection is there, or given up. The driver's own limit ends with
    /// the first byte; it counts for each address, and a host often has one of each kind.
    pub(super) fn connect_limit(&self) -> Duration {
        let each = self.config.get_connect_timeout();
        let hosts = self.config.get_hosts().len().max(1);
        let hosts = u32::try_from(hosts).unwrap_or(u32::MAX);
        each.copied()
            .unwrap_or(CONNECT_TIMEOUT)
            .saturating_mul(2)
            .saturating_mul(hosts)
    }

    /// Host, port and database, without user and password.
    pub(super) fn shown(&self) -> String {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            #[cfg(unix)]
            Some(Host::Unix(folder)) => folder.display().to_string(),
            None => "localhost".to_owned(),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        let database = self.config.get_dbname().or(self.config.get_user());
        format!("{host}:{port}/{}", database.unwrap_or_default())
    }

    /// The schema as SQL text names it.
    pub(super) fn quoted_schema(&self) -> String {
        format!("\"{}\"", self.schema.replace('"', "\"\""))
    }

    /// What makes TLS connections as the URL wants them.
    pub(super) fn tls(&self) -> Result<MakeRustlsConnect, StoreError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| bad(format!("TLS cannot be set up: {error}")))?;
        let config = if self.verify {
            builder
                .with_root_certificates(self.roots()?)
                .with_no_client_auth()
        } else {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
                .with_no_client_auth()
        };
        Ok(MakeRustlsConnect::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, StoreError> {
        let mut roots = RootCertStore::empty();
        let Some(file) = &self.root_certificates else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return Ok(roots);
        };
        let cannot = |error: String| bad(format!("`sslrootcert` {}: {error}", file.display()));
        let certificates =
            CertificateDer::pem_file_iter(file).map_err(|error| cannot(error.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| cannot(error.to_string()))?;
            let added = roots.add(certificate);
            added.map_err(|error| cannot(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(cannot("it holds no certificate in PEM form".to_owned()));
        }
        Ok(roots)
    }
}

fn bad(text: String) -> StoreError {
    StoreError::BadUrlPart(text)
}

fn on_or_off(key: &str, value: &str) -> Result<bool, StoreError> {
    match value {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err(bad(format!(
            "`{key}` is `{value}`; it may be `on` or `off`"
        ))),
    }
}

fn at_least_two(key: &str, value: &str) -> Result<usize, StoreError> {
    let number = value
        .parse()
        .ok()
        .filter(|number| (2..=1_000).contains(number));
    number.ok_or_else(|| bad(format!("`{key}` is `{value}`; it may be 2 to 1000")))
}

fn checked_schema(value: &str) -> Result<String, StoreError> {
    // PostgreSQL would cut a longer name off, and two schemas could become one.
    if value.is_empty() || value.len() > 63 || value.contains('\0') {
        return Err(bad(format!(
            "`schema` is `{value}`; it must have 1 to 63 bytes"
        )));
    }
    if value.starts_with("pg_") {
        return Err(bad(format!(
            "`schema` is `{value}`; PostgreSQL keeps `pg_` for itself"
        )));
    }
    Ok(value.to_owned())
}

/// Encryption without a check of who is at the other end: what `sslmode=require` means.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        match Address::parse(url) {
            Ok(_) => panic!("{url} is refused"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn own_parameters_are_taken_out_of_the_url() {
        let url = "postgres://ann:s3cret@db.example:5433/orders?schema=my%20tasks&listen=off\
                   &connections=3&connect_timeout=1&sslmode=require";
        let address = Address::parse(url).unwrap();
        assert_eq!(address.quoted_schema(), "\"my tasks\"");
        assert_eq!(address.shown(), "db.example:5433/orders");
        assert_eq!((address.listen, address.connections), (false, 3));
        assert_eq!(
            address.config.get_connect_timeout(),
            Some(&Duration::from_secs(1))
        );
        assert!(
            !address.verify,
            "like psql: encrypted, nobody's certificate is checked"
        );
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let url = |query: &str| format!("postgres://ann@db/orders?{query}");
        assert_eq!(
            refusal(&url("sslmode=maybe")),
            "in the store's URL: `sslmode` is `maybe`; it may be disable, prefer, require, \
             verify-ca, verify-full"
        );
        assert!(refusal(&url("schemas=x")).contains("unknown option `schemas`"));
        assert!(refusal(&url("schema=pg_x")).contains("PostgreSQL keeps `pg_` for itself"));
        assert!(refusal(&url("connections=1")).contains("it may be 2 to 1000"));
        let address = Address::parse(&url("sslmode=verify-full&sslrootcert=/no/file")).unwrap();
        let error = address.tls().err().unwrap().to_string();
        assert!(error.contains("/no/file"), "{error}");
    }
}
