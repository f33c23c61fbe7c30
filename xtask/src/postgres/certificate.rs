//! A certificate for `localhost`, so that tests can connect with TLS and verify whom they reach.
//!
//! There are two: an authority and, signed by it, the server's. A single one that signs itself
//! would do for OpenSSL, but other libraries refuse an authority that is also a server.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::account::Account;
use crate::run::answer;

/// `OpenSSL` would read the system's file otherwise, which differs and may be missing.
const CONFIGURATION: &str = "\
[req]
prompt = no
distinguished_name = name
[name]
CN = localhost
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature,keyEncipherment
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost,IP:127.0.0.1
";

/// In `openssl`'s words, one command per line.
const COMMANDS: [&str; 3] = [
    "req -x509 -config openssl.cnf -extensions authority -subj /CN=tasker-xtask -days 3650 \
     -newkey rsa:2048 -nodes -keyout authority.key -out authority.crt",
    "req -new -config openssl.cnf -newkey rsa:2048 -nodes -keyout server.key -out server.csr",
    "x509 -req -in server.csr -CA authority.crt -CAkey authority.key -set_serial 2 -days 3650 \
     -extfile openssl.cnf -extensions server -out server.crt",
];

pub(super) struct Certificate {
    /// Whoever trusts this one trusts the server.
    pub(super) authority: PathBuf,
    pub(super) server: PathBuf,
    pub(super) key: PathBuf,
}

/// `None` without `openssl`: then the server has no TLS.
pub(super) fn create(folder: &Path, account: &Account) -> Result<Option<Certificate>, String> {
    match Command::new("openssl").arg("version").output() {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("no `openssl`: PostgreSQL runs without TLS, and tests of TLS cannot run");
            return Ok(None);
        }
        Err(error) => return Err(format!("cannot run `openssl`: {error}")),
    }
    let certificate = Certificate {
        authority: folder.join("authority.crt"),
        server: folder.join("server.crt"),
        key: folder.join("server.key"),
    };
    let failed = |error| format!("cannot make a certificate in {}: {error}", folder.display());
    fs::write(folder.join("openssl.cnf"), CONFIGURATION).map_err(failed)?;
    for words in COMMANDS {
        answer(
            account
                .command("openssl", folder)
                .args(words.split_whitespace()),
        )?;
    }
    // PostgreSQL refuses a key that others may read.
    fs::set_permissions(&certificate.key, Permissions::from_mode(0o600)).map_err(failed)?;
    fs::remove_file(folder.join("authority.key")).map_err(failed)?;
    Ok(Some(certificate))
}
