//! One server in one folder: started, given a role and a database, stopped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::access::Access;
use super::account::Account;
use super::programs::Programs;
use super::setup::{STATISTICS, SUPERUSER, Setup, random_name};
use crate::run::answer;

/// The role without privileges, and its database.
const ROLE: &str = "tasker";
const START_LIMIT: Duration = Duration::from_mins(1);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A server that runs. Dropping it stops it.
pub(super) struct Server<'a> {
    programs: &'a Programs,
    account: &'a Account,
    folder: &'a Path,
    setup: Setup,
    /// Hears when the server, as it was started here, has ended.
    ended: Receiver<ExitStatus>,
}

impl<'a> Server<'a> {
    /// Returns when the server accepts connections.
    pub(super) fn start(
        programs: &'a Programs,
        account: &'a Account,
        folder: &'a Path,
        shared_buffers_mb: u32,
    ) -> Result<Server<'a>, String> {
        let setup = Setup::create(programs, account, folder, shared_buffers_mb)?;
        let mut program = account.command(programs.path("postgres"), folder);
        program.arg("-D").arg(&setup.data);
        let server = Server {
            ended: launch(program, account, &log(folder))?,
            programs,
            account,
            folder,
            setup,
        };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&self) -> Result<(), String> {
        let deadline = Instant::now() + START_LIMIT;
        let port = self.setup.port.to_string();
        let mut ask = self.command("pg_isready");
        ask.args(["--host", "127.0.0.1", "--port", &port]);
        while answer(&mut ask).is_err() {
            if let Ok(status) = self.ended.recv_timeout(Duration::from_millis(20)) {
                return Err(format!("it ended, {status}:\n{}", log_end(self.folder)));
            }
            if Instant::now() > deadline {
                let seconds = START_LIMIT.as_secs();
                let log = log_end(self.folder);
                return Err(format!("it is not ready after {seconds} s:\n{log}"));
            }
        }
        Ok(())
    }

    /// Creates the role and its database.
    pub(super) fn prepare(&self) -> Result<Access, String> {
        let password = random_name()?;
        // A database per test must be possible, and nothing else.
        self.execute(&format!(
            "CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{password}'"
        ))?;
        self.execute(&format!("CREATE DATABASE {ROLE} OWNER {ROLE}"))?;
        if self.setup.has_statistics {
            // In the superuser's database; it counts for all, and the role's stays empty.
            self.execute(&format!("CREATE EXTENSION {STATISTICS}"))?;
        }
        let url = |user: &str, password: &str, database: &str| {
            let port = self.setup.port;
            format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}")
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let certificate = self.setup.certificate.as_ref();
        Ok(Access {
            url: url(ROLE, &password, ROLE),
            superuser_url: url(SUPERUSER, &self.setup.superuser_password, SUPERUSER),
            data: text(&self.setup.data),
            authority: certificate.map(|certificate| text(&certificate.authority)),
        })
    }

    /// As superuser, in the superuser's database.
    fn execute(&self, statement: &str) -> Result<(), String> {
        let port = self.setup.port.to_string();
        answer(
            self.command("psql")
                .args(["--no-psqlrc", "--quiet", "--host=127.0.0.1"])
                .args(["--port", &port, "--username", SUPERUSER])
                .args(["--dbname", SUPERUSER, "--command", statement])
                .env("PGPASSWORD", &self.setup.superuser_password),
        )?;
        Ok(())
    }

    fn command(&self, name: &str) -> Command {
        self.account.command(self.programs.path(name), self.folder)
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        match self.stop() {
            // Its lock file is gone; the process follows.
            Ok(()) => drop(self.ended.recv_timeout(STOP_LIMIT)),
            // The folder is removed next, and a server without its lock file ends by itself.
            Err(why) if self.pg_ctl(&["status"]).is_ok() => {
                eprintln!("error: cannot stop PostgreSQL: {why}");
            }
            Err(_) if self.setup.data.join("postmaster.pid").exists() => self.succeed_killed(),
            // A test had stopped it.
            Err(_) => {}
        }
    }
}

impl Server<'_> {
    /// Whichever runs in the folder: a test may have stopped and started it since.
    fn stop(&self) -> Result<(), String> {
        let limit = STOP_LIMIT.as_secs().to_string();
        self.pg_ctl(&["stop", "--mode=immediate", "--timeout", &limit])
    }

    /// A test killed it with `kill -9`, which leaves shared memory on the system. A server that
    /// starts in the same folder removes what its predecessor left, and then its own.
    fn succeed_killed(&self) {
        const TRIALS: u32 = 50;
        let log = log(self.folder).to_string_lossy().into_owned();
        for trial in 1.. {
            match self.pg_ctl(&["start", "--log", &log]) {
                Ok(()) => break,
                // Processes of the killed one notice its death a little later, and until then
                // the memory is in use.
                Err(_) if trial < TRIALS => std::thread::sleep(Duration::from_millis(100)),
                Err(why) => {
                    eprintln!("error: cannot remove a killed PostgreSQL's shared memory: {why}");
                    return;
                }
            }
        }
        if let Err(why) = self.stop() {
            eprintln!("error: cannot stop PostgreSQL: {why}");
        }
    }

    fn pg_ctl(&self, words: &[&str]) -> Result<(), String> {
        let mut pg_ctl = self.command("pg_ctl");
        answer(pg_ctl.args(words).arg("--pgdata").arg(&self.setup.data)).map(drop)
    }
}

/// Starts the server as a child of this process, with its output in the log.
fn launch(
    mut program: Command,
    account: &Account,
    path: &Path,
) -> Result<Receiver<ExitStatus>, String> {
    let failed = |error| format!("cannot write {}: {error}", path.display());
    let log = File::create_new(path).map_err(failed)?;
    account.give(path).map_err(failed)?;
    let mut server = program
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log)
        .spawn()
        .map_err(|error| format!("cannot run `postgres`: {error}"))?;
    let (tell, ended) = channel();
    // Waits all the time, so that a server which a test kills is gone and not a zombie.
    std::thread::spawn(move || {
        if let Ok(status) = server.wait() {
            // The receiver may be gone: then the end is no news.
            let _ = tell.send(status);
        }
    });
    Ok(ended)
}

fn log(folder: &Path) -> PathBuf {
    folder.join("postgres.log")
}

fn log_end(folder: &Path) -> String {
    let log = fs::read(log(folder)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
