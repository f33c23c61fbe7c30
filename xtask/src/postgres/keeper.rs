//! The process that owns a server and its folder, and removes both when its input ends.
//!
//! It does the whole work, from the folder's creation on: whenever the process that asked for the
//! server dies, this one finishes the step that it is in and then cleans up. Nothing has to be
//! taken over, so there is no moment in which nobody is responsible.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::account::Account;
use super::programs::Programs;
use super::server::Server;
use super::setup::random;

/// The command, after `xtask`.
pub(crate) const KEEP: &str = "keep-postgres";

/// What the keeper is to keep.
#[derive(Debug, PartialEq)]
pub(super) struct Order {
    pub(super) programs: PathBuf,
    pub(super) parent: Option<PathBuf>,
    pub(super) shared_buffers_mb: u32,
}

impl Order {
    pub(super) fn to_arguments(&self) -> Result<[String; 3], String> {
        let text = |path: &Path| {
            let text = path.to_str().map(str::to_owned);
            text.ok_or_else(|| format!("`{}` is not a path in UTF-8", path.display()))
        };
        Ok([
            text(&self.programs)?,
            self.parent.as_deref().map_or(Ok(String::new()), text)?,
            self.shared_buffers_mb.to_string(),
        ])
    }

    fn from_arguments(arguments: &[String]) -> Option<Order> {
        let [programs, parent, shared_buffers_mb] = arguments else {
            return None;
        };
        Some(Order {
            programs: programs.into(),
            parent: (!parent.is_empty()).then(|| parent.into()),
            shared_buffers_mb: shared_buffers_mb.parse().ok()?,
        })
    }
}

/// Starts a server, says on stdout how to reach it or why there is none, and keeps it until the
/// end of stdin.
pub(crate) fn keep(arguments: &[String]) -> ExitCode {
    let Some(order) = Order::from_arguments(arguments) else {
        eprintln!("error: `{KEEP}` is for `cargo xtask` itself; use `cargo xtask postgres`");
        return ExitCode::from(2);
    };
    match serve(&order) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a reader there is nobody left to tell.
            let _ = writeln!(io::stdout(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(order: &Order) -> Result<(), String> {
    let programs = Programs::at(&order.programs)?;
    let account = Account::for_server()?;
    let folder = Folder::create(order.parent.as_deref(), &account)?;
    let server = Server::start(&programs, &account, &folder.path, order.shared_buffers_mb)?;
    let access = server.prepare()?;
    let mut stdout = io::stdout();
    let told = stdout
        .write_all(access.to_lines().as_bytes())
        .and_then(|()| stdout.flush());
    if told.is_ok() {
        // An input that cannot be read has ended, too.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
    }
    drop(server);
    drop(folder);
    Ok(())
}

/// A folder of its own for a server. Dropping it removes it.
struct Folder {
    path: PathBuf,
}

impl Folder {
    /// In `parent`, or among the temporary files if the account may not come there.
    fn create(parent: Option<&Path>, account: &Account) -> Result<Folder, String> {
        if let Some(parent) = parent {
            let folder = Folder::create_in(parent, account)?;
            if account.reaches(&folder.path) {
                return Ok(folder);
            }
            eprintln!(
                "the account that runs PostgreSQL may not enter {}: using the temporary folder",
                parent.display()
            );
        }
        let parent = std::env::temp_dir();
        let folder = Folder::create_in(&parent, account)?;
        if account.reaches(&folder.path) {
            return Ok(folder);
        }
        Err(format!(
            "the account that runs PostgreSQL may not enter {}: name in TMPDIR a folder that all \
             users may enter",
            parent.display()
        ))
    }

    fn create_in(parent: &Path, account: &Account) -> Result<Folder, String> {
        // The server's programs run in this folder, where a relative path would lead elsewhere.
        let parent = std::path::absolute(parent)
            .map_err(|error| format!("cannot find {}: {error}", parent.display()))?;
        // Short, for the address of a socket in it has 104 bytes at most.
        let number = u32::from_le_bytes(random()?);
        let path = parent.join(format!("tasker-postgres-{number:08x}"));
        let failed = |error| format!("cannot create {}: {error}", path.display());
        // Not an existing one: it would be somebody else's.
        DirBuilder::new().create(&path).map_err(failed)?;
        let folder = Folder { path: path.clone() };
        // Tests may run as yet another user, who reads the certificate in here. The data are in
        // a folder below that PostgreSQL closes.
        fs::set_permissions(&path, Permissions::from_mode(0o755)).map_err(failed)?;
        account.give(&path).map_err(failed)?;
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // If a test has killed the server's first process, the others end a little later, and may
        // write until then.
        const TRIALS: u32 = 50;
        for trial in 1.. {
            match fs::remove_dir_all(&self.path) {
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.path.exists() => {
                    return;
                }
                Err(_) if trial < TRIALS => std::thread::sleep(Duration::from_millis(100)),
                Err(error) => {
                    eprintln!("error: cannot remove {}: {error}", self.path.display());
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_was_given() {
        for parent in [None, Some("/a b/target".into())] {
            let order = Order {
                programs: "/usr/lib/postgresql/15/bin".into(),
                parent,
                shared_buffers_mb: 512,
            };
            let read = Order::from_arguments(&order.to_arguments().unwrap());
            assert_eq!(read, Some(order));
        }
        assert_eq!(Order::from_arguments(&[]), None);
    }
}
