//! Behind a pooler in transaction mode: one of the test's own, and `PgBouncer` where it is installed.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::json;
use tasker_model::name::Queue;
use tasker_model::task::TaskState;
use tasker_store::record::WorkerRecord;
use tasker_store::store::{Expired, Order, Page, TaskFilter};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;

use super::place::{Place, Server};
use super::wire::{Pooler, Seen};
use crate::fixture::{Fixture, LEASE_MS, succeed};

/// Every kind of call: alone on a session, in a transaction of several statements, and at once.
async fn every_verb(f: &Fixture, round: usize) {
    let name = format!("chain_{round}");
    let chain = f.define(&name, &[("a", &[]), ("b", &["a"])]).await;
    let worker = f.worker(&[&chain]);
    let register = f.store.register_worker(WorkerRecord {
        worker_id: worker.id,
        host: "host".to_owned(),
        pid: 1,
        handlers: vec![name],
        started_at: Timestamp::now(),
        seen_at: Timestamp::now(),
        attempts: 0,
    });
    register.await.unwrap();
    let tasks = join_all((0..8).map(|_| f.start(&chain))).await;
    let first = f.claim(&worker, 8).await.claimed;
    assert_eq!(first.len(), 8);
    let leases = first.iter().map(|claimed| claimed.lease).collect();
    let lost = f
        .store
        .heartbeat(worker.id, leases, LEASE_MS)
        .await
        .unwrap();
    assert_eq!(lost, []);
    // Orders are transactions of several statements each, on several connections at once.
    let orders = tasks[..4]
        .iter()
        .map(|task| f.order(*task, Order::CancelTask));
    for state in join_all(orders).await {
        assert_eq!(state.unwrap(), TaskState::Cancelled);
    }
    let running = |claimed: &&_| !tasks[..4].contains(&task_of(claimed));
    let second = join_all(first.iter().filter(running).map(async |claimed| {
        let result = succeed(&json!(round));
        f.settle_and_claim(&worker, claimed, result, 1)
            .await
            .claimed
    }));
    for claimed in second.await.iter().flatten() {
        f.settle(&worker, claimed, succeed(&json!(true))).await;
    }
    for task in &tasks[4..] {
        assert_eq!(f.state(*task).await, TaskState::Complete);
        assert_eq!(f.detail(*task).await.steps.len(), 2);
    }
    let queue = Queue::from(&chain.template.source().namespace);
    f.store
        .set_queue_limit(queue.clone(), Some(3))
        .await
        .unwrap();
    assert_eq!(f.store.queues().await.unwrap().len(), 1);
    f.store.set_queue_limit(queue, None).await.unwrap();
    let workers = f.store.workers(Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(workers.len(), round + 1);
    let page = Page {
        limit: 4,
        before: None,
    };
    let found = f.store.tasks(TaskFilter::default(), page).await.unwrap();
    assert_eq!(found.len(), 4);
    let expired = Expired {
        states: vec![TaskState::Complete],
        finished_before: Timestamp::UNIX_EPOCH,
        namespace: None,
    };
    let deleted = f.store.delete_finished(expired, None, 10).await.unwrap();
    assert_eq!(deleted.tasks, 0, "nothing is that old");
    f.audit().await;
}

fn task_of(claimed: &tasker_store::store::ClaimedStep) -> tasker_model::id::TaskId {
    claimed.lease.step.task_id
}

/// The server of the tests as it is reached through a port of this machine.
fn through(port: u16) -> Server {
    Server {
        host: "127.0.0.1".to_owned(),
        port,
        ..Server::for_tests()
    }
}

async fn wait_for(seen: &mut watch::Receiver<Seen>, what: fn(&Seen) -> bool) -> Seen {
    let seen = timeout(Duration::from_mins(1), seen.wait_for(what)).await;
    *seen.expect("it is seen in time").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler_nothing_is_kept_in_a_session() {
    let server = Server::for_tests();
    let pooler = Pooler::before(&server).await;
    let place = Place::migrated(&server, "").await;
    // By the database's clock: with a test's, nobody would listen in any case.
    let url = place.by(&through(pooler.port), "pooler=on");
    let f = place.open_by_its_clock(&url).await;
    for round in 0..3 {
        every_verb(&f, round).await;
    }
    let seen = *pooler.seen.borrow();
    assert!(seen.transactions > 100, "{seen:?}");
    assert_eq!(
        (seen.prepared, seen.lost, seen.listens),
        (0, 0, 0),
        "{seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_was_not_announced_is_noticed() {
    let server = Server::for_tests();
    let mut pooler = Pooler::before(&server).await;
    let place = Place::migrated(&server, "").await;
    let url = place.by(&through(pooler.port), "");
    let f = place.open_by_its_clock(&url).await;
    every_verb(&f, 0).await;
    // It had to, and it did try to listen: so the pooler would have shown it to the other test.
    let before = wait_for(&mut pooler.seen, |seen| seen.lost > 0 && seen.listens > 0).await;
    assert!(before.prepared > 0, "{before:?}");
    every_verb(&f, 1).await;
    every_verb(&f, 2).await;
    let after = *pooler.seen.borrow();
    assert_eq!(
        after.prepared, before.prepared,
        "no more after the first loss"
    );
    assert_eq!(after.lost, before.lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_can_be_migrated_through_a_pooler() {
    let server = Server::for_tests();
    let pooler = Pooler::before(&server).await;
    let place = Place::fresh(&server, "");
    let url = place.by(&through(pooler.port), "pooler=on");
    let four = (0..4).map(|_| tasker_store::postgres::PostgresStore::migrate(&url));
    for versions in join_all(four).await {
        assert!(versions.unwrap().1 > 0);
    }
    every_verb(&place.open(&url).await, 0).await;
}

/// The pooler that most people use, in transaction mode and without its help for prepared
/// statements, which older ones do not have.
struct PgBouncer {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl PgBouncer {
    fn path() -> Option<PathBuf> {
        let folders = env::var_os("PATH")?;
        let mut programs = env::split_paths(&folders).map(|folder| folder.join("pgbouncer"));
        programs.find(|program| program.is_file())
    }

    fn start(program: &PathBuf, server: &Server) -> PgBouncer {
        let folder = tempfile::tempdir().unwrap();
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = unused.local_addr().unwrap().port();
        drop(unused);
        let file = folder.path().join("pgbouncer.ini");
        let helps = knows_prepared_statements(program);
        fs::write(&file, configuration(server, port, helps)).unwrap();
        let mut command = Command::new(program);
        command
            .arg(&file)
            .stderr(Stdio::piped())
            .stdout(Stdio::null());
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::uid(&fs::metadata(folder.path()).unwrap()) == 0 {
            become_nobody(&mut command, folder.path());
        }
        let mut process = command.spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut told = String::new();
        let up = log.by_ref().map_while(Result::ok).any(|line| {
            told += &(line.clone() + "\n");
            line.contains("process up")
        });
        assert!(up, "PgBouncer has ended:\n{told}");
        // It must not wait for somebody to read.
        std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
        PgBouncer {
            process,
            port,
            _folder: folder,
        }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // Either may fail only if it has ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Whether it can help with prepared statements, as from 1.21 on, and must be told not to.
fn knows_prepared_statements(program: &PathBuf) -> bool {
    let told = Command::new(program).arg("--version").output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let version = told.trim_start_matches("PgBouncer ");
    let mut numbers = version.split('.').map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        panic!("{told}");
    };
    (major, minor) >= (1, 21)
}

fn configuration(server: &Server, port: u16, helps: bool) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    format!(
        "[databases]
{database} = host={host} port={server_port} dbname={name} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
{no_help}ignore_startup_parameters = extra_float_digits
",
        no_help = if helps {
            "max_prepared_statements = 0\n"
        } else {
            ""
        },
        database = server.database,
        host = server.host,
        server_port = server.port,
        name = quoted(&server.database),
        user = quoted(&server.user),
        password = quoted(&server.password),
    )
}

/// `PgBouncer` does not run as root.
#[cfg(unix)]
fn become_nobody(command: &mut Command, folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;

    const NOBODY: u32 = 65_534;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    command.uid(NOBODY).gid(NOBODY);
}

#[tokio::test]
async fn pgbouncer_is_a_pooler_like_ours() {
    let Some(program) = PgBouncer::path() else {
        println!("not run with PgBouncer: it is not installed");
        return;
    };
    let server = Server::for_tests();
    let bouncer = Arc::new(PgBouncer::start(&program, &server));
    for parameters in ["pooler=on", ""] {
        let place = Place::migrated(&server, "").await;
        let url = place.by(&through(bouncer.port), parameters);
        let f = place.open_by_its_clock(&url).await;
        for round in 0..3 {
            every_verb(&f, round).await;
        }
    }
}
