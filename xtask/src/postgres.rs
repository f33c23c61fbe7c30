//! A private PostgreSQL for one run of tests or measurements: found or installed, started in a
//! folder of its own, gone afterwards.
//!
//! It is gone however the run ends: success, panic, Ctrl-C, `kill -9`. No handler could promise
//! that, so the server belongs to a second process, the [`keeper`], which waits on a pipe whose
//! other end only a [`Cluster`] holds. The end of that pipe is the end of the cluster.

mod account;
mod certificate;
mod debian;
mod programs;
mod setup;
mod access;
mod server;
mod keeper;

use std::io::{BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

pub(crate) use keeper::{KEEP, keep};

use crate::run::{Variables, watched};
use access::Access;
use keeper::Order;
use programs::Programs;

/// The variables in which tests look for their database begin with this name.
pub(crate) const TEST_VARIABLE: &str = "TASKER_TEST_POSTGRES";

/// What a run asks of its cluster.
pub(crate) struct Settings {
    /// Where its folder shall be made. If the server's account may not go there, or if this is
    /// `None`, it is among the temporary files.
    pub(crate) parent: Option<PathBuf>,
    pub(crate) shared_buffers_mb: u32,
}

impl Settings {
    /// What tests need: little memory, full durability.
    pub(crate) fn for_tests() -> Settings {
        Settings {
            parent: None,
            shared_buffers_mb: 128,
        }
    }
}

/// A running server with an empty database. Dropping it stops the server and removes its folder.
pub(crate) struct Cluster {
    keeper: Child,
    programs: Programs,
    access: Access,
}

impl Cluster {
    /// Returns when the server answers; it may have been installed first.
    pub(crate) fn start(settings: &Settings) -> Result<Cluster, String> {
        let programs = Programs::find_or_install()?;
        let order = Order {
            programs: programs.folder.clone(),
            parent: settings.parent.clone(),
            shared_buffers_mb: settings.shared_buffers_mb,
        };
        let mut keeper = start_keeper(&order)?;
        let mut report = keeper.stdout.take().map(BufReader::new);
        let access = match report.as_mut().map(Access::read) {
            Some(Ok(access)) => access,
            refused => {
                end(&mut keeper);
                let why = refused.and_then(Result::err).unwrap_or_default();
                return Err(format!("cannot start a private PostgreSQL: {why}"));
            }
        };
        let data = Path::new(&access.data);
        let folder = data.parent().unwrap_or(data).display();
        eprintln!("{} runs in {folder}", programs.version);
        Ok(Cluster {
            keeper,
            programs,
            access,
        })
    }

    /// The database of a role without any privileges but `CREATEDB`.
    pub(crate) fn url(&self) -> &str {
        &self.access.url
    }

    /// The way to the cluster as environment variables whose names begin with `name`:
    /// the URL under `name` itself, then `_SUPER` (the superuser's URL), `_DATA` (the data
    /// folder), `_BIN` (the folder of the programs) and, if the server has TLS, `_CA` (the
    /// certificate that vouches for it).
    pub(crate) fn variables(&self, name: &str) -> Variables {
        let programs = self.programs.folder.to_string_lossy();
        let mut values = vec![
            ("", self.url()),
            ("_SUPER", &self.access.superuser_url),
            ("_DATA", &self.access.data),
            ("_BIN", &programs),
        ];
        values.extend(self.access.authority.as_deref().map(|ca| ("_CA", ca)));
        let values = values.into_iter();
        values
            .map(|(suffix, value)| (format!("{name}{suffix}"), value.to_owned()))
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        end(&mut self.keeper);
    }
}

/// Ends the pipe and waits until the keeper has cleaned up; if it could not, it has said so.
fn end(keeper: &mut Child) {
    drop(keeper.stdin.take());
    if let Err(error) = keeper.wait() {
        eprintln!("error: cannot wait for the process that removes PostgreSQL: {error}");
    }
}

fn start_keeper(order: &Order) -> Result<Child, String> {
    let this = std::env::current_exe().map_err(|error| format!("cannot find xtask: {error}"))?;
    Command::new(this)
        .arg(KEEP)
        .args(order.to_arguments()?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Ctrl-C goes to the whole group in front of the terminal; the keeper has work left then.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot start xtask once more: {error}"))
}

/// Whether the caller has a database already, in the variable of this name.
pub(crate) fn is_given(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|url| !url.is_empty())
}

/// `cargo xtask postgres`: a cluster for as long as a command runs, or the caller wants.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let cluster = match Cluster::start(&Settings::for_tests()) {
        Ok(cluster) => cluster,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let variables = cluster.variables(TEST_VARIABLE);
    let Some((program, arguments)) = words.split_first() else {
        for (name, value) in variables {
            println!("export {name}='{}'", value.replace('\'', r"'\''"));
        }
        eprintln!("it is removed at the end of the input, or with Ctrl-C");
        // An input that cannot be read has ended, too.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        return ExitCode::SUCCESS;
    };
    for (name, value) in &variables {
        eprintln!("{name}={value}");
    }
    watched(Command::new(program).args(arguments).envs(variables))
}
