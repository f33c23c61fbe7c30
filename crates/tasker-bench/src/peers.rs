//! How fast are other engines on the PostgreSQL that Tasker is measured on?
//!
//! Each peer is a program in `peers/` that runs one workload with no-op steps and prints one line
//! of JSON; `peers/README.md` says what each does and what its clock covers. Here they are
//! installed below `target/peers`, at pinned versions, and run one after another, each time on a
//! database of its own. A peer that cannot be installed or run is left out, in one line. No figure
//! stands in the source: all are of this run.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::median;

/// A build from nothing takes two minutes on two cores.
const INSTALL_LIMIT: Duration = Duration::from_mins(20);
/// A measurement takes up to 15 seconds; the peer that takes so long is stuck.
const MEASURE_LIMIT: Duration = Duration::from_mins(2);
const DATABASE: &str = "tasker_bench_peer";

/// The figures of one peer under one workload, medians of the rounds.
#[derive(Debug, Serialize)]
pub(crate) struct PeerFigures {
    peer: &'static str,
    version: String,
    settings: String,
    workload: &'static str,
    steps_per_second: f64,
    /// Of a queue that was full before its workers started.
    #[serde(skip_serializing_if = "Option::is_none")]
    drain_per_second: Option<f64>,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
}

/// What a program prints with `--tasks`.
#[derive(Deserialize)]
struct Throughput {
    version: String,
    settings: String,
    steps_per_second: f64,
    drain_per_second: Option<f64>,
}

/// What a program prints with `--latency`.
#[derive(Deserialize)]
#[expect(
    clippy::struct_field_names,
    reason = "as they are printed, with their unit"
)]
struct Latency {
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
}

struct Peer {
    name: &'static str,
    install: fn(&Folders) -> Result<Program, String>,
    measurements: &'static [Measurement],
}

struct Measurement {
    workload: &'static str,
    /// What the program is given besides the workload.
    arguments: &'static [&'static str],
    /// Of each round; so many that a round takes up to ten seconds on a slow machine.
    tasks: u32,
    latencies: u32,
}

impl Measurement {
    const fn new(workload: &'static str, tasks: u32, latencies: u32) -> Measurement {
        Measurement {
            workload,
            arguments: &[],
            tasks,
            latencies,
        }
    }
}

const PEERS: [Peer; 3] = [
    Peer {
        name: "dbos",
        install: install_dbos,
        measurements: &[
            Measurement::new("single-step", 800, 200),
            Measurement::new("linear-4", 300, 100),
            Measurement::new("diamond-4", 300, 100),
            Measurement::new("fan-100", 12, 10),
        ],
    },
    Peer {
        name: "graphile-worker",
        install: install_graphile_worker,
        measurements: &[
            Measurement {
                arguments: &["--mode", "plain"],
                ..Measurement::new("single-step", 8_000, 500)
            },
            Measurement {
                arguments: &["--mode", "batched"],
                ..Measurement::new("single-step", 60_000, 500)
            },
        ],
    },
    Peer {
        name: "underway",
        install: install_underway,
        measurements: &[
            Measurement::new("single-step", 1_200, 300),
            Measurement::new("linear-4", 400, 100),
        ],
    },
];

/// Measures every peer that can be had on this machine, and prints a row as soon as it is known.
pub(crate) fn run(url: &str, quick: bool) -> Vec<PeerFigures> {
    let mut all = Vec::new();
    match server_settings(url) {
        Ok(settings) => println!("{settings}"),
        Err(why) => {
            eprintln!("no peer is measured: {why}");
            return all;
        }
    }
    print_heading();
    for peer in &PEERS {
        let measured = Folders::of(peer.name).and_then(|folders| {
            let program = (peer.install)(&folders)?;
            for measurement in peer.measurements {
                let figures = measure(peer, &program, measurement, url, quick)?;
                print_row(&figures);
                all.push(figures);
            }
            Ok(())
        });
        if let Err(why) = measured {
            eprintln!("{} is left out: {why}", peer.name);
        }
    }
    all
}

fn print_heading() {
    println!(
        "{:<22} {:<12} {:>10} {:>10} {:>9} {:>9} {:>9}  settings",
        "peer", "workload", "steps/s", "drain", "p50 ms", "p95 ms", "p99 ms"
    );
}

fn print_row(figures: &PeerFigures) {
    let drain =
        (figures.drain_per_second).map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"));
    println!(
        "{:<22} {:<12} {:>10.0} {drain:>10} {:>9.3} {:>9.3} {:>9.3}  {}",
        format!("{} {}", figures.peer, figures.version),
        figures.workload,
        figures.steps_per_second,
        figures.p50_ms,
        figures.p95_ms,
        figures.p99_ms,
        figures.settings,
    );
}

fn measure(
    peer: &Peer,
    program: &Program,
    measurement: &Measurement,
    url: &str,
    quick: bool,
) -> Result<PeerFigures, String> {
    let (rounds, parts) = if quick { (1, 3) } else { (3, 1) };
    let mut throughputs: Vec<Throughput> = Vec::new();
    let mut latencies: Vec<Latency> = Vec::new();
    for _ in 0..rounds {
        throughputs.push(program.run(measurement, "--tasks", measurement.tasks / parts, url)?);
        latencies.push(program.run(
            measurement,
            "--latency",
            measurement.latencies / parts,
            url,
        )?);
    }
    let first = throughputs.first().ok_or("there was no round")?;
    let drains: Option<Vec<f64>> = throughputs.iter().map(|t| t.drain_per_second).collect();
    let of_latencies = |figure: fn(&Latency) -> f64| median(latencies.iter().map(figure).collect());
    Ok(PeerFigures {
        peer: peer.name,
        version: first.version.clone(),
        settings: first.settings.clone(),
        workload: measurement.workload,
        steps_per_second: median(throughputs.iter().map(|t| t.steps_per_second).collect()),
        drain_per_second: drains.map(median),
        p50_ms: of_latencies(|latency| latency.p50_ms),
        p95_ms: of_latencies(|latency| latency.p95_ms),
        p99_ms: of_latencies(|latency| latency.p99_ms),
    })
}

/// An installed peer.
struct Program {
    /// The program, and what comes before the measurement's arguments.
    words: Vec<PathBuf>,
    log: PathBuf,
}

impl Program {
    /// Runs it on a new database, and reads the line that it prints.
    fn run<T: DeserializeOwned>(
        &self,
        measurement: &Measurement,
        kind: &str,
        count: u32,
        url: &str,
    ) -> Result<T, String> {
        let database = Database::create(url)?;
        let mut command = Command::new(&self.words[0]);
        command
            .args(&self.words[1..])
            .args(["--url", &database.url, "--workload", measurement.workload])
            .args([kind, &count.to_string()])
            .args(measurement.arguments)
            // graphile-worker's documentation measures without a line per job.
            .env("NO_LOG_SUCCESS", "1");
        let printed = finish(&mut command, &self.log, MEASURE_LIMIT)?;
        let line = printed.lines().last().unwrap_or_default();
        serde_json::from_str(line)
            .map_err(|error| format!("`{line}` is not a line of figures: {error}"))
    }
}

/// A database that is dropped when this is.
struct Database {
    server: String,
    url: String,
}

impl Database {
    fn create(server: &str) -> Result<Database, String> {
        let database = Database {
            server: server.to_owned(),
            url: peer_url(server).ok_or("the database's URL has no path")?,
        };
        database.drop_if_there()?;
        client("createdb", &["--maintenance-db", server, DATABASE])?;
        Ok(database)
    }

    fn drop_if_there(&self) -> Result<(), String> {
        // Without `--force`: with it, only a superuser may end an autovacuum that is at work, but
        // the server itself ends it, and waits for five seconds until other connections are gone.
        let arguments = ["--if-exists", "--maintenance-db", &self.server, DATABASE];
        client("dropdb", &arguments).map(drop)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Err(why) = self.drop_if_there() {
            eprintln!("{DATABASE} is still there: {why}");
        }
    }
}

/// The same server, the peers' database, and no encryption: some clients would use it unasked.
fn peer_url(server: &str) -> Option<String> {
    let host = server.find("://")? + 3;
    let path = host + server[host..].find('/')? + 1;
    let query = server[path..].split_once('?').map(|(_, query)| query);
    let query = match query {
        Some(query) if query.contains("sslmode=") => query.to_owned(),
        Some(query) => format!("{query}&sslmode=disable"),
        None => "sslmode=disable".to_owned(),
    };
    Some(format!("{}{DATABASE}?{query}", &server[..path]))
}

/// What the figures hold for, in a line.
fn server_settings(url: &str) -> Result<String, String> {
    let shown = [
        "server_version",
        "fsync",
        "synchronous_commit",
        "full_page_writes",
    ]
    .map(|name| {
        let question = format!("SHOW {name}");
        let answer = client(
            "psql",
            &["-X", "-q", "-A", "-t", "-d", url, "-c", &question],
        )?;
        Ok(format!("{name} {answer}"))
    });
    let shown: Result<Vec<String>, String> = shown.into_iter().collect();
    Ok(format!("PostgreSQL: {}", shown?.join(", ")))
}

/// Runs one of PostgreSQL's own programs.
fn client(name: &str, arguments: &[&str]) -> Result<String, String> {
    let folder = std::env::var_os("TASKER_BENCH_POSTGRES_BIN").map(PathBuf::from);
    let program = folder.map_or_else(|| PathBuf::from(name), |folder| folder.join(name));
    let output = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::null())
        .env("PGOPTIONS", "-c client_min_messages=warning")
        .output()
        .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(said
            .lines()
            .next()
            .unwrap_or("it does not say why")
            .to_owned())
    }
}

/// Where a peer's files are, and where it is installed.
struct Folders {
    source: PathBuf,
    installed: PathBuf,
}

impl Folders {
    fn of(peer: &str) -> Result<Folders, String> {
        // Cargo says at run time where the package is now; a built program may have been moved.
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package.ancestors().nth(2).unwrap_or(&package);
        let folders = Folders {
            source: package.join("peers").join(peer),
            installed: root.join("target/peers").join(peer),
        };
        fs::create_dir_all(&folders.installed)
            .map_err(|error| format!("{}: {error}", folders.installed.display()))?;
        Ok(folders)
    }

    fn log(&self) -> PathBuf {
        self.installed.join("log")
    }

    fn run(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(program.as_ref());
        command.args(arguments).current_dir(&self.installed);
        finish(&mut command, &self.log(), INSTALL_LIMIT)
    }

    /// Installs unless this list of pinned versions is installed already.
    fn install(
        &self,
        list: &str,
        install: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), String> {
        let failed = |error: io::Error| format!("{list}: {error}");
        let wanted = fs::read(self.source.join(list)).map_err(failed)?;
        let done = self.installed.join("installed");
        if fs::read(&done).is_ok_and(|installed| installed == wanted) {
            return Ok(());
        }
        // What an installation that fails leaves behind is no longer what the note says.
        fs::write(&done, "").map_err(failed)?;
        install()?;
        fs::write(done, wanted).map_err(failed)
    }
}

fn install_dbos(folders: &Folders) -> Result<Program, String> {
    let list = folders.source.join("requirements.txt");
    folders.install("requirements.txt", || {
        folders.run("python3", &["-m", "venv", "--clear", "environment"])?;
        let pip = [
            "-m",
            "pip",
            "install",
            "--no-deps",
            "--quiet",
            "-r",
            &list.to_string_lossy(),
        ];
        folders.run(folders.installed.join("environment/bin/python"), &pip)?;
        Ok(())
    })?;
    let python = folders.installed.join("environment/bin/python");
    Ok(Program {
        words: vec![python, folders.source.join("bench.py")],
        log: folders.log(),
    })
}

fn install_graphile_worker(folders: &Folders) -> Result<Program, String> {
    // Node looks for packages beside the program.
    for file in ["package.json", "package-lock.json", "bench.mjs"] {
        fs::copy(folders.source.join(file), folders.installed.join(file))
            .map_err(|error| format!("{file}: {error}"))?;
    }
    folders.run("node", &["--version"])?;
    folders.install("package-lock.json", || {
        folders.run(
            "npm",
            &["ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        )?;
        Ok(())
    })?;
    Ok(Program {
        words: vec!["node".into(), folders.installed.join("bench.mjs")],
        log: folders.log(),
    })
}

fn install_underway(folders: &Folders) -> Result<Program, String> {
    // The cargo that runs this program, not another one that comes first in PATH.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = folders.source.join("Cargo.toml");
    let target = folders.installed.join("target");
    let (from, to) = (manifest.to_string_lossy(), target.to_string_lossy());
    let build = ["build", "--release", "--locked", "--quiet"];
    let places = ["--manifest-path", &from, "--target-dir", &to];
    folders.run(cargo, &[build, places].concat())?;
    Ok(Program {
        words: vec![target.join("release/tasker-bench-underway")],
        log: folders.log(),
    })
}

/// Waits for the end of a program and gives what it printed; its complaints go to the log.
fn finish(command: &mut Command, log: &Path, limit: Duration) -> Result<String, String> {
    let name = Path::new(command.get_program()).file_name();
    let name = name.unwrap_or_default().to_string_lossy().into_owned();
    let cannot = |error: io::Error| format!("cannot run {name}: {error}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(log).map_err(cannot)?)
        .spawn()
        .map_err(cannot)?;
    let stdout = child.stdout.take().expect("invariant: it is piped");
    let printed = thread::spawn(move || io::read_to_string(stdout));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(cannot)? {
            break status;
        }
        if started.elapsed() > limit {
            child.kill().and_then(|()| child.wait()).map_err(cannot)?;
            return Err(format!("{name} took more than {} s", limit.as_secs()));
        }
        thread::sleep(Duration::from_millis(20));
    };
    if status.success() {
        let printed = printed.join().expect("invariant: reading does not panic");
        return printed.map_err(cannot);
    }
    let complaints = fs::read_to_string(log).unwrap_or_default();
    let last = complaints.lines().rfind(|line| !line.trim().is_empty());
    let last = last.unwrap_or("it does not say why").trim();
    Err(format!("{name} failed: {last} (more in {})", log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_get_a_database_of_their_own_without_encryption() {
        for (server, expected) in [
            (
                "postgres://a:b@h:1/a",
                "postgres://a:b@h:1/tasker_bench_peer?sslmode=disable",
            ),
            (
                "postgres://h/a?x=/y",
                "postgres://h/tasker_bench_peer?x=/y&sslmode=disable",
            ),
            (
                "postgres://h/?sslmode=require",
                "postgres://h/tasker_bench_peer?sslmode=require",
            ),
        ] {
            assert_eq!(peer_url(server).as_deref(), Some(expected));
        }
        assert_eq!(peer_url("h/a"), None);
        assert_eq!(peer_url("postgres://h"), None);
    }

    #[test]
    fn a_failure_is_told_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let shell = |script: &str, limit| {
            finish(Command::new("sh").args(["-c", script]), &log, limit).unwrap_err()
        };
        let failed = shell(
            "echo one >&2; echo two >&2; echo >&2; exit 3",
            INSTALL_LIMIT,
        );
        assert!(failed.starts_with("sh failed: two (more in "), "{failed}");
        let stuck = shell("exec sleep 1000", Duration::ZERO);
        assert_eq!(stuck, "sh took more than 0 s");
        let none = finish(&mut Command::new("no-such-program"), &log, INSTALL_LIMIT);
        assert!(
            none.unwrap_err()
                .starts_with("cannot run no-such-program: ")
        );
    }
}
