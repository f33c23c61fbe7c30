//! The threads that own SQLite connections, and group commit.
//!
//! Callers hand in closures and await the answer. The writing thread takes all closures that wait,
//! runs them in one transaction and commits once: under load the cost of the disk's flush is
//! shared, without load nobody waits. If one of them fails, the transaction is rolled back and
//! each runs again in a transaction of its own, so that only the failing one fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::connection::Location;
use super::transaction::{Templates, Tx};
use crate::clock::Clock;
use crate::error::StoreError;

/// How long the writing thread looks for a job before it sleeps: with it, the p50 of linear-4 is
/// 13 % lower; an idle thread pays it once.
const SPIN: Duration = Duration::from_micros(50);
/// Jobs that share one transaction at most; bounds how long the first of them waits.
const GROUP_MAX: usize = 256;

const BEGIN: &str = include_str!("../../sql/sqlite/transaction.begin.sql");
const BEGIN_READ: &str = include_str!("../../sql/sqlite/transaction.begin_read.sql");
const COMMIT: &str = include_str!("../../sql/sqlite/transaction.commit.sql");
const ROLLBACK: &str = include_str!("../../sql/sqlite/transaction.rollback.sql");

/// What a thread owns: one connection, opened with the first job if not before.
pub(super) struct Session {
    pub(super) location: Location,
    pub(super) connection: Option<Connection>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) statements: Arc<AtomicU64>,
    pub(super) templates: Templates,
}

impl Session {
    pub(super) fn new(
        location: Location,
        clock: Arc<dyn Clock>,
        statements: Arc<AtomicU64>,
    ) -> Session {
        Session {
            location,
            connection: None,
            clock,
            statements,
            templates: Templates::new(),
        }
    }

    pub(super) fn open_and_migrate(&mut self) -> Result<(), StoreError> {
        let mut connection = self.location.connect()?;
        self.location.migrate(&mut connection)?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Runs one transaction; whatever fails in it undoes all of it.
    fn transaction(
        &mut self,
        begin: &'static str,
        run: impl FnOnce(&mut Tx<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if self.connection.is_none() {
            self.connection = Some(self.location.connect()?);
        }
        let connection = self.connection.as_ref().expect("invariant: opened above");
        let mut tx = Tx {
            connection,
            location: &self.location,
            statements: &self.statements,
            templates: &mut self.templates,
            now: self.clock.now(),
        };
        tx.execute(begin, [])?;
        // The wait for another process's transaction is over; only now does the time count.
        tx.now = self.clock.now();
        // A broken invariant fails the verb that met it; the thread and the other verbs go on.
        let ran = catch_unwind(AssertUnwindSafe(|| run(&mut tx)))
            .unwrap_or_else(|panic| Err(StoreError::Bug(panic_text(panic.as_ref()))));
        let done = ran.and_then(|()| tx.execute(COMMIT, []).map(drop));
        if done.is_err() {
            // What was read within the transaction may have been undone with it.
            tx.templates.clear();
            // SQLite has rolled back by itself after some errors; nothing may stay open.
            if !connection.is_autocommit() {
                tx.execute(ROLLBACK, [])?;
            }
        }
        done
    }
}

/// A closure with a place for its answer.
trait Job: Send {
    /// Runs it, as often as needed; keeps the answer.
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError>;
    /// Sends the answer, now that it is durable, or the reason why it is not.
    fn answer(self: Box<Self>, failure: Option<StoreError>);
}

struct Waiting<T, F> {
    run: F,
    kept: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Waiting<T, F>
where
    T: Send,
    F: FnMut(&mut Tx<'_>) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        self.kept = Some((self.run)(tx)?);
        Ok(())
    }

    fn answer(self: Box<Self>, failure: Option<StoreError>) {
        let answer = match (failure, self.kept) {
            (Some(failure), _) => Err(failure),
            (None, Some(kept)) => Ok(kept),
            (None, None) => Err(StoreError::Closed),
        };
        // A caller that went away has no use for the answer; what was committed stays.
        drop(self.reply.send(answer));
    }
}

/// One or several threads that take jobs from one channel.
///
/// Dropping this waits until they have ended: the last connection to a file that closes in order
/// leaves the whole database in that one file, without a log beside it.
pub(super) struct Thread {
    /// `None` only while being dropped.
    jobs: Option<Sender<Box<dyn Job>>>,
    handles: Vec<JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.jobs = None;
        for handle in self.handles.drain(..) {
            // A thread catches the panics of its jobs; if it panicked itself, it has ended, too.
            let _ = handle.join();
        }
    }
}

impl Thread {
    /// The writing thread: jobs share transactions.
    pub(super) fn writing(name: &str, mut session: Session) -> Result<Thread, StoreError> {
        let (jobs, waiting) = channel::<Box<dyn Job>>();
        let thread = spawn(name, move || {
            while let Some(first) = first(&waiting) {
                let mut group = vec![first];
                group.extend(waiting.try_iter().take(GROUP_MAX - 1));
                commit_group(&mut session, group);
            }
        })?;
        Ok(Thread {
            jobs: Some(jobs),
            handles: vec![thread],
        })
    }

    /// Reading threads: each job reads one moment. Their connections open with the first job.
    pub(super) fn reading(
        name: &str,
        threads: usize,
        session: impl Fn() -> Session,
    ) -> Result<Thread, StoreError> {
        let (jobs, waiting) = channel::<Box<dyn Job>>();
        // Shared by the reading threads: whoever is idle holds the lock while it waits for a job.
        let waiting = Arc::new(Mutex::new(waiting));
        let mut handles = Vec::with_capacity(threads);
        for _ in 0..threads {
            let (waiting, mut session) = (waiting.clone(), session());
            handles.push(spawn(name, move || {
                while let Some(mut job) = next(&waiting) {
                    let done = session.transaction(BEGIN_READ, |tx| job.run(tx));
                    job.answer(done.err());
                }
            })?);
        }
        Ok(Thread {
            jobs: Some(jobs),
            handles,
        })
    }

    /// Hands in a closure and waits for its answer. The closure may run more than once.
    pub(super) fn run<T, F>(
        &self,
        run: F,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Waiting {
            run,
            kept: None,
            reply,
        });
        let sent = self
            .jobs
            .as_ref()
            .is_some_and(|jobs| jobs.send(job).is_ok());
        async move {
            if !sent {
                return Err(StoreError::Closed);
            }
            answer.await.unwrap_or(Err(StoreError::Closed))
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map_err(StoreError::NoThread)
}

/// The next job; looked for awake for a moment, since waking a thread takes a good part of the
/// time of a commit.
fn first(waiting: &Receiver<Box<dyn Job>>) -> Option<Box<dyn Job>> {
    let started = Instant::now();
    while started.elapsed() < SPIN {
        if let Ok(job) = waiting.try_recv() {
            return Some(job);
        }
        std::hint::spin_loop();
    }
    waiting.recv().ok()
}

fn next(waiting: &Mutex<Receiver<Box<dyn Job>>>) -> Option<Box<dyn Job>> {
    waiting
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .recv()
        .ok()
}

fn commit_group(session: &mut Session, mut group: Vec<Box<dyn Job>>) {
    let together =
        session.transaction(BEGIN, |tx| group.iter_mut().try_for_each(|job| job.run(tx)));
    match together {
        Ok(()) => group.into_iter().for_each(|job| job.answer(None)),
        Err(error) if group.len() == 1 => {
            let job = group.pop().expect("invariant: a group of one");
            job.answer(Some(error));
        }
        Err(_) => group
            .into_iter()
            .for_each(|job| commit_group(session, vec![job])),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
        .to_owned()
}
