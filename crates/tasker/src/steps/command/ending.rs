//! Ends programs, with everything that they have started.
//!
//! A program runs in a process group of its own. To end it is to ask the group with SIGTERM and,
//! if anything of it is left after a grace period, to kill it. The attempt that wanted it may be
//! gone by then, and so may its runtime: a thread of its own sees to it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Condvar, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::Child;

/// How often groups that were asked to end are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A program that runs. Dropping this ends the program and all that it has started.
pub(super) struct Group {
    leader: Option<Child>,
    id: Option<Pid>,
    grace: Duration,
}

impl Group {
    /// Takes over a program that was started in a group of its own.
    pub(super) fn new(leader: Child, grace: Duration) -> Group {
        let id = leader.id().and_then(|id| i32::try_from(id).ok());
        Group {
            leader: Some(leader),
            id: id.and_then(Pid::from_raw),
            grace,
        }
    }

    /// The program itself.
    pub(super) fn leader(&mut self) -> &mut Child {
        self.leader
            .as_mut()
            .expect("invariant: only `end` takes the leader")
    }

    /// Asks what is left of the group to end, and sees to it. Gives whether anything was left.
    ///
    /// Once the program has been waited for, its number keeps naming this group as long as anything
    /// lives in it. If nothing does, the number could name another one only after all numbers have
    /// been given out once since.
    pub(super) fn end(&mut self) -> bool {
        let Some(id) = self.id.take() else {
            return false;
        };
        let left = kill_process_group(id, Signal::TERM).is_ok();
        let leader = self.leader.take();
        if left {
            hand_over(Ending {
                leader,
                id,
                kill_at: Instant::now() + self.grace,
                _counted: Counted::one(),
            });
        }
        left
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// A group that was asked to end.
struct Ending {
    /// Until it is waited for, its number stays taken, and there is a dead process in the table.
    leader: Option<Child>,
    id: Pid,
    kill_at: Instant,
    _counted: Counted,
}

impl Ending {
    /// Whether nothing is left of it.
    fn is_over(&mut self, now: Instant) -> bool {
        if let Some(leader) = &mut self.leader {
            match leader.try_wait() {
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => self.leader = None,
            }
        }
        if self.leader.is_none() && test_kill_process_group(self.id).is_err() {
            return true;
        }
        if now >= self.kill_at {
            // Whatever cannot be killed now is asked for again at the next look.
            let _ = kill_process_group(self.id, Signal::KILL);
        }
        false
    }
}

/// How many groups were asked to end and have not yet.
static LEFT: Mutex<usize> = Mutex::new(0);
static ONE_LESS: Condvar = Condvar::new();

/// Waits until nothing is left of all programs that were asked to end, and gives whether that is so
/// in time. For the end of a process: a program that ignores SIGTERM outlives it otherwise.
pub(crate) fn all_ended(within: Duration) -> bool {
    let left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = ONE_LESS.wait_timeout_while(left, within, |left| *left > 0);
    *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
}

/// Counts a group until it is dropped.
struct Counted;

impl Counted {
    fn one() -> Counted {
        *LEFT.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        *LEFT.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ONE_LESS.notify_all();
    }
}

/// The way to the thread, which is started with the first group. Behind a lock, so that a thread
/// that could not be started is tried again.
static WATCH: LazyLock<Mutex<Option<Sender<Ending>>>> = LazyLock::new(Mutex::default);

fn hand_over(ending: Ending) {
    let mut watch = WATCH.lock().unwrap_or_else(PoisonError::into_inner);
    let ending = match watch.as_ref() {
        None => ending,
        Some(sender) => match sender.send(ending) {
            Ok(()) => return,
            Err(unsent) => unsent.0,
        },
    };
    let (sender, receiver) = channel();
    let id = ending.id;
    let started = std::thread::Builder::new()
        .name("tasker-programs".to_owned())
        .spawn(move || watch_over(&receiver));
    match started {
        Ok(_) if sender.send(ending).is_ok() => *watch = Some(sender),
        // Without a thread there is no grace.
        _ => drop(kill_process_group(id, Signal::KILL)),
    }
}

fn watch_over(receiver: &Receiver<Ending>) {
    let mut endings: Vec<Ending> = Vec::new();
    loop {
        let handed = if endings.is_empty() {
            receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            receiver.recv_timeout(LOOK_EVERY)
        };
        match handed {
            Ok(ending) => endings.push(ending),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) if endings.is_empty() => return,
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK_EVERY),
        }
        let now = Instant::now();
        endings.retain_mut(|ending| !ending.is_over(now));
    }
}
