//! Everything that a server has before it starts: its data folder, port, password and certificate.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::account::Account;
use super::certificate::{self, Certificate};
use super::programs::Programs;
use crate::run::answer;

pub(super) const SUPERUSER: &str = "postgres";
pub(super) const STATISTICS: &str = "pg_stat_statements";
const MAX_CONNECTIONS: u32 = 200;
/// A socket's address has 104 bytes on macOS, 108 on Linux.
const SOCKET_FOLDER_BYTES_MAX: usize = 104 - "/.s.PGSQL.65535 ".len();

/// A server that is ready to be started.
pub(super) struct Setup {
    pub(super) data: PathBuf,
    pub(super) port: u16,
    pub(super) superuser_password: String,
    pub(super) certificate: Option<Certificate>,
    /// Whether [`STATISTICS`] can be had.
    pub(super) has_statistics: bool,
}

impl Setup {
    pub(super) fn create(
        programs: &Programs,
        account: &Account,
        folder: &Path,
        shared_buffers_mb: u32,
    ) -> Result<Setup, String> {
        let data = folder.join("data");
        let superuser_password = random_name()?;
        initialise(programs, account, folder, &data, &superuser_password)?;
        let certificate = if speaks_tls(programs, account, folder, &data)? {
            certificate::create(folder, account)?
        } else {
            None
        };
        let setup = Setup {
            data,
            port: free_port()?,
            superuser_password,
            certificate,
            has_statistics: programs.library(STATISTICS).is_some(),
        };
        OpenOptions::new()
            .append(true)
            .open(setup.data.join("postgresql.conf"))
            .and_then(|mut file| {
                file.write_all(setup.configuration(folder, shared_buffers_mb).as_bytes())
            })
            .map_err(|error| format!("cannot write postgresql.conf: {error}"))?;
        Ok(setup)
    }

    /// All in the file and nothing in arguments, so that a test may restart the server as it was.
    fn configuration(&self, folder: &Path, shared_buffers_mb: u32) -> String {
        let mut lines = format!(
            "
# For one run of `cargo xtask`.
cluster_name = 'tasker-xtask'
listen_addresses = '127.0.0.1'
port = {}
unix_socket_directories = {}
max_connections = {MAX_CONNECTIONS}
shared_buffers = {shared_buffers_mb}MB
# What is acknowledged is durable: tests and figures are about that.
fsync = on
synchronous_commit = on
full_page_writes = on
",
            self.port,
            socket_folders(folder),
        );
        if self.has_statistics {
            lines += &format!("shared_preload_libraries = '{STATISTICS}'\n");
        }
        if let Some(Certificate { server, key, .. }) = &self.certificate {
            let [server, key] = [server, key].map(quoted);
            lines += &format!("ssl = on\nssl_cert_file = {server}\nssl_key_file = {key}\n");
        }
        lines
    }
}

fn initialise(
    programs: &Programs,
    account: &Account,
    folder: &Path,
    data: &Path,
    password: &str,
) -> Result<(), String> {
    let file = folder.join("password");
    let failed = |error| format!("cannot write {}: {error}", file.display());
    // Its content comes after its mode.
    File::create_new(&file).map_err(failed)?;
    fs::set_permissions(&file, Permissions::from_mode(0o600)).map_err(failed)?;
    fs::write(&file, password).map_err(failed)?;
    account.give(&file).map_err(failed)?;
    let initdb = |locale: &str| {
        answer(
            account
                .command(programs.path("initdb"), folder)
                // The folder does not outlive this run, so it need not outlive a power failure.
                .args(["--no-sync", "--encoding=UTF8", "--auth=scram-sha-256"])
                .arg(format!("--username={SUPERUSER}"))
                .arg(format!("--locale={locale}"))
                .arg(format!("--pwfile={}", file.display()))
                .arg(format!("--pgdata={}", data.display())),
        )
    };
    match initdb("C.UTF-8") {
        // macOS and old systems do not have it. Names sort the same in both.
        Err(why) if why.contains("locale") => initdb("C"),
        done => done,
    }?;
    fs::remove_file(&file).map_err(failed)
}

/// Whether the server was built with a library for TLS. It can say so before it starts.
fn speaks_tls(
    programs: &Programs,
    account: &Account,
    folder: &Path,
    data: &Path,
) -> Result<bool, String> {
    let mut ask = account.command(programs.path("postgres"), folder);
    ask.args(["-C", "ssl_library", "-D"]).arg(data);
    Ok(!answer(&mut ask)?.is_empty())
}

/// As a value of `postgresql.conf`: where the socket is, if a socket's address has room for it.
fn socket_folders(folder: &Path) -> String {
    if folder.as_os_str().len() <= SOCKET_FOLDER_BYTES_MAX {
        // A list of folders, each in quotation marks of its own.
        let folder = folder.display().to_string().replace('"', "\"\"");
        quoted(format!("\"{folder}\""))
    } else {
        quoted("")
    }
}

/// As a value of `postgresql.conf`.
fn quoted(value: impl AsRef<Path>) -> String {
    let value = value.as_ref().display().to_string();
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// A port that nobody listens on, by chance, so that two runs at once choose two.
fn free_port() -> Result<u16, String> {
    // Below the ports that systems give to outgoing connections (Linux from 32,768, macOS from
    // 49,152): a server that a test restarts must find its port still free.
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    let start = u16::from_le_bytes(random()?) % COUNT;
    (0..COUNT)
        .map(|n| FIRST + (start + n) % COUNT)
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .ok_or_else(|| format!("no free port from {FIRST} to {}", FIRST + COUNT - 1))
}

/// A text that nobody can guess, of letters and digits alone.
pub(super) fn random_name() -> Result<String, String> {
    Ok(format!("{:032x}", u128::from_le_bytes(random()?)))
}

pub(super) fn random<const BYTES: usize>() -> Result<[u8; BYTES], String> {
    let mut bytes = [0; BYTES];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| format!("cannot read random bytes: {error}"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_configuration_file() {
        assert_eq!(quoted("it's a \\"), r"'it''s a \\'");
        let deep = PathBuf::from("/deep".repeat(30));
        assert_eq!(socket_folders(&deep), "''");
        assert_eq!(socket_folders(Path::new("/a b")), "'\"/a b\"'");
    }
}
