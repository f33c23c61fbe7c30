//! All that the actors of one seed share, and the nodes that run at this moment.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use tasker::store::ManualClock;
use tasker::{Error, Options, Tasker};
use tokio::task::JoinHandle;

use crate::chance::Chance;
use crate::database::{Connection, Database};
use crate::ledger::Ledger;
use crate::plan::{Network, Plan};
use crate::process::Process;
use crate::workflow::{Definition, Stage};

/// All that the actors of one seed share.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) database: Arc<Database>,
    pub(crate) definitions: Vec<Definition>,
    /// The time of trouble is over: nothing fails any more.
    pub(crate) calm: Arc<AtomicBool>,
    nodes: Mutex<Vec<Option<Arc<Running>>>>,
    starts: Mutex<Vec<u32>>,
}

/// A node whose engine has started.
pub(crate) struct Running {
    pub(crate) process: Arc<Process>,
    pub(crate) tasker: Tasker,
    /// The loop of its engine.
    pub(crate) engine: JoinHandle<()>,
}

impl Running {
    /// The death of the process: nothing of it happens any more.
    pub(crate) fn crash(&self) {
        self.process.die();
        self.engine.abort();
    }
}

impl World {
    pub(crate) fn new(
        seed: u64,
        plan: Plan,
        clock: Arc<ManualClock>,
        ledger: Arc<Ledger>,
        database: Arc<Database>,
        definitions: Vec<Definition>,
    ) -> World {
        let nodes = (0..plan.nodes).map(|_| None).collect();
        let starts = Mutex::new(vec![0; plan.nodes]);
        World {
            seed,
            plan,
            clock,
            ledger,
            database,
            definitions,
            calm: Arc::default(),
            nodes: Mutex::new(nodes),
            starts,
        }
    }

    /// A new process of a node.
    pub(crate) fn process(&self, node: usize) -> Arc<Process> {
        let mut starts = lock(&self.starts);
        starts[node] += 1;
        Arc::new(Process::new(node, starts[node], self.clock.clone()))
    }

    /// Starts an engine in a process; `known` are the task handlers of its program.
    pub(crate) async fn start(
        &self,
        process: Arc<Process>,
        known: &[&Definition],
        chance: &mut Chance,
    ) -> Result<Running, Error> {
        let calm = self.calm.load(Ordering::Relaxed);
        let network = if calm {
            Network::CALM
        } else {
            self.plan.network.clone()
        };
        let connection = Connection::new(
            self.database.clone(),
            process.clone(),
            network,
            chance.fork(),
        );
        let stage = Stage {
            seed: self.seed,
            process: process.clone(),
            ledger: self.ledger.clone(),
            handlers: self.plan.handlers.clone(),
            calm: self.calm.clone(),
        };
        let options = Options {
            slots: self.plan.slots,
            lease_seconds: self.plan.lease_seconds,
            step_timeout_seconds: 90,
            shutdown_grace_seconds: chance.number(0..10),
            poll_seconds: self.plan.poll_seconds,
            jitter_seed: Some(chance.number(0..=u64::MAX)),
            ..Options::default()
        };
        let mut builder = Tasker::builder("simulated")
            .store(Arc::new(connection))
            .worker_id(process.worker_id())
            .options(options);
        for definition in known {
            builder = builder.register(definition.handler(&stage));
        }
        let (tasker, run) = builder.start_here().await?;
        let (ledger, name) = (self.ledger.clone(), process.to_string());
        ledger.count("engines started");
        ledger.note(|| format!("{name} has started"));
        let engine = tokio::spawn(async move {
            if let Err(panic) = AssertUnwindSafe(run).catch_unwind().await {
                ledger.problem(format!("{name}: {}", panic_text(panic.as_ref())));
            }
        });
        Ok(Running {
            process,
            tasker,
            engine,
        })
    }

    /// Makes a node known to clients and operators.
    pub(crate) fn put(&self, node: usize, running: Running) -> Arc<Running> {
        let running = Arc::new(running);
        self.nodes()[node] = Some(running.clone());
        running
    }

    /// Makes a node unknown.
    pub(crate) fn take(&self, node: usize) -> Option<Arc<Running>> {
        self.nodes()[node].take()
    }

    /// What runs on a node, if something does.
    pub(crate) fn at(&self, node: usize) -> Option<Arc<Running>> {
        self.nodes()[node].clone()
    }

    /// A node that somebody may turn to, if there is one.
    pub(crate) fn any(&self, chance: &mut Chance) -> Option<Arc<Running>> {
        let nodes = self.nodes();
        let running: Vec<_> = nodes.iter().flatten().collect();
        if running.is_empty() {
            return None;
        }
        Some(running[chance.number(0..running.len())].clone())
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Option<Arc<Running>>>> {
        lock(&self.nodes)
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("no message"))
}
