//! The loop: what has come in, what the store answers, what time it is.
//!
//! One thread runs it, apart from all handlers. It sends batches to the store and goes on while
//! they commit: what ends meanwhile is the next batch, which is group commit without waiting for
//! anything. It holds nothing that is not in the store, except which attempts run here.

mod create;
mod claim;
mod complete;
mod heartbeat;
pub(crate) mod aftermath;
mod progress;
mod recover;
mod spin;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tasker_model::event::Fact;
use tasker_model::id::{StepKey, TaskId, WorkerId};
use tasker_model::name::StepName;
use tasker_model::outcome::{Outcome, Settlement, settle};
use tasker_model::task::TaskState;
use tasker_model::template::TaskTemplate;
use tasker_store::record::{TemplateId, WorkerRecord};
use tasker_store::store::{
    ClaimedStep, Completion, Created, Lease, NewTask, Progress, Recorded, Runnable,
};
use tasker_store::{Clock, Store, StoreError};
use tokio::sync::{mpsc, oneshot};

use crate::error::Error;
use crate::events::Publisher;
use crate::execute::{Attempt, Attempts, Ended, timed_out, until};
use crate::handler::progress::Reporter;
use crate::options::Options;
use crate::registry::Registry;
use crate::subtasks::{Notice, Subtasks};
use aftermath::{Aftermaths, SeenTo};
use progress::Notes;
use recover::Holdings;
use spin::Spin;

/// Transactions of outcomes that are under way at once: while one commits, the next is built.
const COMMITS_AT_ONCE: usize = 2;
/// Outcomes that are worth a second transaction beside the first: layers of 100 steps took 1.57
/// times the time per step of small tasks without this bound.
const SECOND_COMMIT_MIN: usize = 128;
/// Tasks that one transaction creates at most.
const CREATE_BATCH_MAX: usize = 1_000;
/// How often a store that shows changes of other processes is looked at.
const LOOK_EVERY: SignedDuration = SignedDuration::from_millis(50);
/// The first and the longest pause after the store has failed.
const STORE_PAUSE_MIN: SignedDuration = SignedDuration::from_millis(50);
const STORE_PAUSE_MAX: SignedDuration = SignedDuration::from_secs(1);
/// How long a stopping worker waits for handlers that it has told to stop.
const STOP_WAIT: SignedDuration = SignedDuration::from_secs(1);

/// What the loop is told.
pub(crate) enum Message {
    /// Create tasks.
    Create(Creation),
    /// Say when a task is final.
    Watch(TaskId, oneshot::Sender<TaskState>),
    /// A handler has ended.
    Ended(Ended),
    /// A handler says how far it has come: the attempt of a step.
    Progressed(StepKey, u32),
    /// Something may be due.
    Look,
    /// A person may have taken leases away.
    CheckLeases,
    /// Finish or hand back, then end.
    Stop(Duration),
}

/// Tasks to create together, and who waits for that.
pub(crate) struct Creation {
    pub(crate) tasks: Vec<NewTask>,
    /// Told when the first task is final.
    pub(crate) watch: Option<oneshot::Sender<TaskState>>,
    pub(crate) reply: oneshot::Sender<Result<Vec<Created>, Error>>,
}

/// An outcome on its way to the store.
#[derive(Clone)]
struct Outgoing {
    completion: Completion,
    step: StepName,
}

/// What the store answered.
enum Reply {
    Created(
        Vec<Creation>,
        usize,
        Result<(Vec<Created>, Progress), StoreError>,
    ),
    Completed(
        Vec<Outgoing>,
        usize,
        Result<(Vec<Recorded>, Progress), StoreError>,
    ),
    Claimed(usize, Result<Progress, StoreError>),
    Held(Result<Vec<ClaimedStep>, StoreError>),
    Beaten(Result<Beat, StoreError>),
    Noted(Result<(), StoreError>),
    SeenTo(Result<SeenTo, StoreError>),
}

/// Calls to the store that have not been answered.
#[derive(Default)]
struct UnderWay {
    replies: FuturesUnordered<BoxFuture<'static, Reply>>,
    commits: usize,
    creating: bool,
    claiming: bool,
    beating: bool,
}

impl UnderWay {
    fn push(&mut self, call: impl Future<Output = Reply> + Send + 'static) {
        self.replies.push(Box::pin(call));
    }
}

/// What a heartbeat brings back.
struct Beat {
    lost: Vec<Lease>,
    new_templates: Vec<(TemplateId, TaskTemplate)>,
}

/// Where a worker that has been told to stop is.
#[derive(Clone, Copy)]
enum Stopping {
    No,
    /// Running attempts may finish until then.
    Finishing(Timestamp),
    /// They have been told to stop; those that have not by then are left behind.
    HandingBack(Timestamp),
}

/// What thread the loop runs on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thread {
    /// Its own.
    Own,
    /// The one of the handlers: whoever looks there without sleeping holds up what it looks for.
    Shared,
}

/// What a worker is made of.
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    /// What this worker runs.
    pub(crate) registry: Registry,
    /// What requests mean.
    pub(crate) finder: Arc<Registry>,
    pub(crate) options: Options,
    pub(crate) publisher: Publisher,
    pub(crate) record: WorkerRecord,
    pub(crate) templates: Vec<(TemplateId, TaskTemplate)>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) thread: Thread,
}

/// The loop's state.
pub(crate) struct Worker {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    registry: Registry,
    options: Options,
    publisher: Publisher,
    record: WorkerRecord,
    runnable: Arc<[Runnable]>,
    last_template: Option<TemplateId>,
    inbox: mpsc::UnboundedReceiver<Message>,
    own: mpsc::WeakUnboundedSender<Message>,
    attempts: Attempts,
    chance: StdRng,
    /// Slots that neither an attempt nor a claim under way has taken.
    free: usize,
    ended: VecDeque<Outgoing>,
    creations: VecDeque<Creation>,
    watching: HashMap<TaskId, Vec<oneshot::Sender<TaskState>>>,
    under_way: UnderWay,
    /// Something due may be waiting in the store for a free slot.
    backlog: bool,
    holdings: Holdings,
    /// Leases that were found lost while the question of what is held was under way.
    lost_meanwhile: Vec<Lease>,
    notes: Notes,
    aftermaths: Aftermaths,
    next_claim: Timestamp,
    next_look: Timestamp,
    next_beat: Timestamp,
    seen_mark: Option<u64>,
    pause: StorePause,
    /// After a batch was refused: one at a time, so that only the refused one is given up.
    one_by_one: usize,
    stopping: Stopping,
    thread: Thread,
    spin: Spin,
    /// Whether everybody who could send a message is gone.
    alone: bool,
    /// Whether the store's input and output happen on this thread.
    drives_store: bool,
}

impl Worker {
    pub(crate) fn new(
        parts: Parts,
        inbox: mpsc::UnboundedReceiver<Message>,
        own: mpsc::WeakUnboundedSender<Message>,
    ) -> Worker {
        let Parts {
            store,
            registry,
            finder,
            options,
            publisher,
            record,
            templates,
            runtime,
            thread,
        } = parts;
        let clock = store.clock();
        let now = clock.now();
        let chance = match options.jitter_seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => StdRng::from_rng(&mut rand::rng()),
        };
        let subtasks = Subtasks {
            store: store.clone(),
            clock: clock.clone(),
            registry: finder,
            publisher: publisher.clone(),
            notify: notify(own.clone()),
            worker: record.worker_id,
            context_bytes_max: options.context_bytes_max,
            result_bytes_max: options.result_bytes_max,
        };
        let mut worker = Worker {
            attempts: Attempts::new(runtime, subtasks),
            free: options.slots,
            runnable: Arc::new([]),
            last_template: None,
            store,
            clock,
            registry,
            options,
            publisher,
            record,
            inbox,
            own,
            chance,
            ended: VecDeque::new(),
            creations: VecDeque::new(),
            watching: HashMap::new(),
            under_way: UnderWay::default(),
            backlog: true,
            holdings: Holdings::Known,
            lost_meanwhile: Vec::new(),
            notes: Notes::default(),
            aftermaths: Aftermaths::default(),
            next_claim: now,
            next_look: now,
            next_beat: now,
            seen_mark: None,
            pause: StorePause::default(),
            one_by_one: 0,
            stopping: Stopping::No,
            alone: false,
            drives_store: false,
            thread,
            spin: Spin::default(),
        };
        worker.adopt(templates);
        worker
    }

    /// Runs until told to stop, or until nobody is left who could tell.
    pub(crate) async fn run(mut self) {
        if let Some(local) = self.store.local() {
            self.store = local;
            self.drives_store = true;
        }
        let mut rung = self.store.rung();
        loop {
            self.tick();
            if self.is_finished() {
                return;
            }
            if self.spin().await {
                continue;
            }
            let next = self.next_time();
            tokio::select! {
                biased;
                Some(reply) = self.under_way.replies.next(), if !self.under_way.replies.is_empty() => {
                    self.on_reply(reply);
                }
                message = self.inbox.recv(), if !self.alone => {
                    match message {
                        Some(message) => self.on_messages(message),
                        None => self.be_alone(),
                    }
                }
                () = &mut rung, if self.wants_claims() => {
                    self.backlog = true;
                    rung = self.store.rung();
                }
                () = self.clock.sleep_until(next) => {}
            }
        }
    }

    /// Does whatever is due at this moment; never waits.
    fn tick(&mut self) {
        let now = self.clock.now();
        debug_assert!(
            self.free + self.attempts.len() <= self.options.slots,
            "a slot counts once"
        );
        debug_assert!(
            self.under_way.commits <= COMMITS_AT_ONCE,
            "commits are bounded"
        );
        self.end_late_attempts(now);
        self.hand_back_when_grace_ends(now);
        self.look_at_mark(now);
        if now < self.pause.until {
            return;
        }
        // Before the claim: a process that was paused renews its leases before it looks for
        // those that have run out.
        self.send_heartbeat(now);
        if self.is_unsure() {
            return self.send_held();
        }
        self.send_notes(now);
        self.see_to_aftermaths(now);
        self.send_outcomes();
        self.send_creations();
        self.send_claim(now);
    }

    fn next_time(&self) -> Timestamp {
        let now = self.clock.now();
        let mut next = self.next_beat.min(self.next_claim);
        next = self.notes.next().map_or(next, |note| next.min(note));
        next = self.aftermaths.next().map_or(next, |look| next.min(look));
        if self.seen_mark.is_some() && self.wants_claims() {
            next = next.min(self.next_look);
        }
        // While the store is paused only the pause's end and the attempts' deadlines matter, and
        // while a call is under way its answer comes first.
        next = next.max(self.pause.until);
        if next <= now {
            next = until(now, Duration::from_secs(1));
        }
        next = next.min(self.attempts.next_deadline().unwrap_or(Timestamp::MAX));
        match self.stopping {
            Stopping::Finishing(end) | Stopping::HandingBack(end) if end > now => next.min(end),
            // What has passed is done; a time in the past would wake the loop again and again
            // while it waits for the store.
            _ => next,
        }
    }

    fn wants_claims(&self) -> bool {
        self.free > 0 && matches!(self.stopping, Stopping::No) && self.options.slots > 0
    }

    fn on_messages(&mut self, first: Message) {
        self.on_message(first);
        // Take in all that waits, so that it becomes one batch; bounded, so that replies get in.
        for _ in 0..self.options.commit_batch_max {
            match self.inbox.try_recv() {
                Ok(message) => self.on_message(message),
                Err(_) => return,
            }
        }
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Create(creation) if !matches!(self.stopping, Stopping::No) => {
                // Whoever asked may have gone away.
                let _ = creation.reply.send(Err(Error::Stopped));
            }
            Message::Create(creation) => self.creations.push_back(creation),
            Message::Watch(task_id, reply) => self.watch(task_id, reply),
            Message::Ended(ended) => {
                if let Some(attempt) = self.attempts.take(ended.step, ended.attempt) {
                    self.settle(&attempt, ended.outcome);
                }
            }
            Message::Progressed(step, attempt) => self.on_progress(step, attempt),
            Message::Look => self.backlog = true,
            Message::CheckLeases => {
                self.next_beat = Timestamp::MIN;
                self.aftermaths.expect();
            }
            Message::Stop(grace) => self.stop(grace),
        }
    }

    fn watch(&mut self, task_id: TaskId, reply: oneshot::Sender<TaskState>) {
        let watchers = self.watching.entry(task_id).or_default();
        // Those that gave up waiting need not be kept.
        watchers.retain(|watcher| !watcher.is_closed());
        watchers.push(reply);
    }

    fn stop(&mut self, grace: Duration) {
        if matches!(self.stopping, Stopping::No) {
            self.stopping = Stopping::Finishing(until(self.clock.now(), grace));
        }
    }

    /// Nobody is left who could tell anything, and no attempt runs.
    fn be_alone(&mut self) {
        self.alone = true;
        self.stop(Duration::ZERO);
    }

    fn start(&mut self, claimed: ClaimedStep) {
        if !matches!(self.stopping, Stopping::No) {
            return self.refuse(&claimed);
        }
        let step = claimed.lease.step;
        let definition = claimed.template.step(step.position);
        let (at, attempt) = (self.clock.now(), claimed.lease.attempt);
        if self.attempts.running(step) >= Some(attempt) {
            // The answer was under way for so long that the lease ran out, and this worker has
            // claimed the step again.
            self.free += 1;
            return;
        }
        self.publisher.publish(at, step.task_id, || {
            let step = definition.name.clone();
            Fact::StepStarted { step, attempt }
        });
        let until = until(at, self.timeout(definition.timeout_ms));
        let code = self
            .registry
            .code(claimed.template.hash(), step.position)
            .cloned();
        let (Some(code), Some(own)) = (code, self.own.upgrade()) else {
            return self.refuse(&claimed);
        };
        let teller = self.own.clone();
        let reporter = Reporter::new(move || {
            if let Some(own) = teller.upgrade() {
                // Fails only after the loop has ended; then nobody looks.
                let _ = own.send(Message::Progressed(step, attempt));
            }
        });
        let replaced = self
            .attempts
            .start(claimed, code, until, reporter, move |ended| {
                // Fails only after the loop has ended; then the lease runs out.
                let _ = own.send(Message::Ended(ended));
            });
        self.free += usize::from(replaced);
    }

    /// Gives back what was claimed while the order to stop was on its way.
    fn refuse(&mut self, claimed: &ClaimedStep) {
        self.free += 1;
        self.hand_back(claimed);
    }

    fn hand_back(&mut self, claimed: &ClaimedStep) {
        let completion = Completion {
            lease: claimed.lease,
            settlement: Settlement::HandBack,
            log: None,
            annotations: Vec::new(),
            context: None,
        };
        let step = claimed
            .template
            .step(claimed.lease.step.position)
            .name
            .clone();
        self.ended.push_back(Outgoing { completion, step });
    }

    fn timeout(&self, timeout_ms: Option<u64>) -> Duration {
        let default = Duration::from_secs(self.options.step_timeout_seconds);
        timeout_ms.map_or(default, Duration::from_millis)
    }

    fn end_late_attempts(&mut self, now: Timestamp) {
        while let Some(attempt) = self.attempts.take_late(now) {
            attempt.stop();
            let position = attempt.claimed.lease.step.position;
            let timeout = self.timeout(attempt.claimed.template.step(position).timeout_ms);
            self.settle(&attempt, timed_out(timeout));
        }
    }

    /// Decides what an outcome means, and queues it for the store.
    fn settle(&mut self, attempt: &Attempt, outcome: Outcome) {
        let ClaimedStep {
            lease,
            attempt_limit,
            template,
            context,
            ..
        } = &attempt.claimed;
        let definition = template.step(lease.step.position);
        let chance = self.chance.random::<f64>();
        let settlement = settle(
            outcome,
            lease.attempt,
            *attempt_limit,
            &definition.retry,
            chance,
        );
        let completion = Completion {
            lease: *lease,
            settlement,
            log: attempt.log(),
            annotations: attempt.annotations(),
            context: Some(context.clone()),
        };
        self.ended.push_back(Outgoing {
            completion,
            step: definition.name.clone(),
        });
        self.free += 1;
    }

    fn hand_back_when_grace_ends(&mut self, now: Timestamp) {
        match self.stopping {
            Stopping::Finishing(end) if end <= now => {
                self.attempts.stop_all();
                let end = now.checked_add(STOP_WAIT).unwrap_or(Timestamp::MAX);
                self.stopping = Stopping::HandingBack(end);
            }
            Stopping::HandingBack(end) if end <= now && !self.attempts.is_empty() => {
                let left = self.attempts.len();
                tracing::warn!(
                    left,
                    "handlers that block are left behind; their leases run out"
                );
                for lease in self.attempts.leases() {
                    self.attempts.take(lease.step, lease.attempt);
                }
            }
            _ => {}
        }
    }

    fn is_finished(&self) -> bool {
        !matches!(self.stopping, Stopping::No)
            && !self.is_unsure()
            && self.attempts.is_empty()
            && self.ended.is_empty()
            && self.creations.is_empty()
            && self.under_way.replies.is_empty()
    }

    fn on_reply(&mut self, reply: Reply) {
        match reply {
            Reply::Created(batch, slots, answer) => {
                self.under_way.creating = false;
                self.on_created(batch, slots, answer);
            }
            Reply::Completed(batch, slots, answer) => {
                self.under_way.commits -= 1;
                self.on_completed(batch, slots, answer);
            }
            Reply::Claimed(slots, answer) => {
                self.under_way.claiming = false;
                self.on_claimed(slots, answer);
            }
            Reply::Held(answer) => {
                self.on_held(answer);
            }
            Reply::Beaten(answer) => {
                self.under_way.beating = false;
                self.on_beaten(answer);
            }
            Reply::Noted(answer) => self.on_noted(answer),
            Reply::SeenTo(answer) => self.on_seen_to(answer),
        }
    }
}

/// The pause after the store has failed: longer with every failure in a row.
struct StorePause {
    /// Nothing is sent before.
    until: Timestamp,
    next: SignedDuration,
}

impl Default for StorePause {
    fn default() -> StorePause {
        StorePause {
            until: Timestamp::MIN,
            next: STORE_PAUSE_MIN,
        }
    }
}

impl StorePause {
    fn begin(&mut self, now: Timestamp, error: &StoreError) {
        if now >= self.until {
            let pause_ms = self.next.as_millis();
            tracing::warn!(%error, pause_ms, "the store failed; trying again after a pause");
        }
        self.until = now.checked_add(self.next).unwrap_or(Timestamp::MAX);
        self.next = (self.next * 2).min(STORE_PAUSE_MAX);
    }

    fn end(&mut self) {
        self.next = STORE_PAUSE_MIN;
    }
}

/// What tells the loop about sub-tasks. Once it has ended, nobody needs to be told.
fn notify(own: mpsc::WeakUnboundedSender<Message>) -> Box<dyn Fn(Notice) + Send + Sync> {
    Box::new(move |notice| {
        if let Some(own) = own.upgrade() {
            let _ = own.send(match notice {
                Notice::Due => Message::Look,
                Notice::Cancelled => Message::CheckLeases,
            });
        }
    })
}

/// A worker's name for itself, random at every start.
pub(crate) fn random_worker_id() -> WorkerId {
    WorkerId::from_uuid(uuid::Uuid::now_v7())
}
