//! A PostgreSQL server of one test's own, which may stop and restart it.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tasker::store::postgres::PostgresStore;
use tempfile::TempDir;

/// Runs while this value lives.
pub(crate) struct Server {
    programs: PathBuf,
    /// The account of the server's files: PostgreSQL does not run as root.
    owner: (u32, u32),
    folder: TempDir,
    port: u16,
}

impl Server {
    /// A new, empty, migrated database.
    pub(crate) async fn start() -> Server {
        let programs = PathBuf::from(given("TASKER_TEST_POSTGRES_BIN"));
        let other = std::fs::metadata(given("TASKER_TEST_POSTGRES_DATA")).unwrap();
        let owner = (other.uid(), other.gid());
        let folder = tempfile::tempdir().unwrap();
        chown(folder.path(), Some(owner.0), Some(owner.1)).unwrap();
        // Free at this moment; whoever takes it before the server does makes the start fail.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let server = Server {
            programs,
            owner,
            folder,
            port,
        };
        server.run("initdb", &["-A", "trust", "-U", "tasker", "--no-sync"]);
        let socket = server.folder.path().join("data");
        let settings = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\n",
            socket.display()
        );
        let file = server.folder.path().join("data/postgresql.conf");
        let written = std::fs::read_to_string(&file).unwrap() + &settings;
        std::fs::write(&file, written).unwrap();
        server.up();
        PostgresStore::migrate(&server.url()).await.unwrap();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://tasker@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it, and waits until it answers.
    pub(crate) fn up(&self) {
        self.run("pg_ctl", &["start", "-w", "-l", "log"]);
    }

    /// Ends it as a crash would: nothing is written any more, nobody is told.
    pub(crate) fn down(&self) {
        self.run("pg_ctl", &["stop", "-m", "immediate"]);
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let ended = Command::new(self.programs.join(program))
            .args(["-D", "data"])
            .args(arguments)
            .current_dir(self.folder.path())
            .uid(self.owner.0)
            .gid(self.owner.1)
            .stdout(Stdio::null())
            .status();
        assert!(ended.unwrap().success(), "{program} {arguments:?} failed");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that fails while the server is down has nothing to stop.
        if self.folder.path().join("data/postmaster.pid").exists() {
            self.down();
        }
    }
}

fn given(variable: &str) -> String {
    let how = "`cargo xtask test` and `cargo xtask postgres` set it";
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set; {how}"))
}
