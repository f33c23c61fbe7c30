//! What one seed has in store: how many nodes, how bad the network, how impatient the people.
//!
//! Each seed has a character of its own, so that some are calm enough to get far, and others meet
//! the same fault again and again.

use std::ops::Range;
use std::time::Duration;

use crate::chance::Chance;

/// The character of a seed.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) slots: usize,
    pub(crate) lease_seconds: u64,
    pub(crate) poll_seconds: u64,
    pub(crate) notice: Notice,
    pub(crate) network: Network,
    pub(crate) lives: Lives,
    pub(crate) people: People,
    pub(crate) handlers: Handlers,
    /// The time of trouble lasts at least so long.
    pub(crate) trouble: Duration,
    /// How far each jump of the clock goes.
    pub(crate) clock_jumps: Vec<Duration>,
    /// How long the store is out of reach for everybody, each time.
    pub(crate) outages: Vec<Duration>,
}

/// How a node learns of what others have committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// It asks from time to time.
    Poll,
    /// It sees that something changed, as with SQLite.
    Mark,
    /// It is told, as with PostgreSQL.
    Bell,
}

/// What happens to calls of the store.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    /// Time for one way.
    pub(crate) latency: Range<Duration>,
    /// Share of calls for which there is no connection.
    pub(crate) unconnected: f64,
    /// Share of calls that are lost on their way, or whose transaction is undone.
    pub(crate) lost: f64,
    /// Share of calls that are carried out and whose answer is lost.
    pub(crate) answer_lost: f64,
    /// Share of calls that take seconds.
    pub(crate) slow: f64,
}

impl Network {
    /// After the time of trouble: everything arrives.
    pub(crate) const CALM: Network = Network {
        latency: Duration::from_micros(100)..Duration::from_millis(2),
        unconnected: 0.0,
        lost: 0.0,
        answer_lost: 0.0,
        slow: 0.0,
    };
}

/// How nodes fare.
#[derive(Debug, Clone)]
pub(crate) struct Lives {
    /// Time between two incidents of a node.
    pub(crate) incident_after: Range<Duration>,
    /// How often an incident is a crash, a pause, or a planned stop: weights.
    pub(crate) crash: u32,
    pub(crate) pause: u32,
    pub(crate) stop: u32,
    /// Time until somebody starts a node again.
    pub(crate) restart_after: Range<Duration>,
    /// Share of starts with only a part of the task handlers, as during a deployment.
    pub(crate) partial: f64,
}

/// What clients and operators do.
#[derive(Debug, Clone)]
pub(crate) struct People {
    pub(crate) clients: usize,
    pub(crate) requests_each: usize,
    pub(crate) orders: usize,
    /// Time between two actions of the same person.
    pub(crate) think: Range<Duration>,
}

/// How step handlers fare.
#[derive(Debug, Clone)]
pub(crate) struct Handlers {
    /// How long an attempt takes.
    pub(crate) duration: Range<Duration>,
    pub(crate) fails: f64,
    pub(crate) fails_for_good: f64,
    pub(crate) panics: f64,
    pub(crate) hangs: f64,
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Plan {
    /// Draws the character of a seed.
    pub(crate) fn draw(chance: &mut Chance) -> Plan {
        let lease_seconds = chance.one_of(&[1, 3, 10, 30]);
        let jumps = chance.one_of(&[0, 0, 1, 3]);
        let outages = chance.one_of(&[0, 0, 1, 2]);
        Plan {
            nodes: chance.number(2..=3),
            slots: chance.one_of(&[1, 2, 4, 16]),
            lease_seconds,
            poll_seconds: chance.one_of(&[1, 10]),
            notice: chance.one_of(&[Notice::Poll, Notice::Mark, Notice::Bell]),
            network: network(chance),
            lives: lives(chance, lease_seconds),
            people: People {
                clients: chance.number(1..=3),
                requests_each: chance.number(1..=8),
                orders: chance.one_of(&[0, 10, 40]),
                think: ms(1)..chance.one_of(&[ms(100), seconds(5), seconds(60)]),
            },
            handlers: handlers(chance, lease_seconds),
            trouble: chance.time(&(seconds(1)..seconds(600))),
            clock_jumps: (0..jumps)
                .map(|_| chance.time(&(seconds(1)..seconds(10_000))))
                .collect(),
            outages: (0..outages)
                .map(|_| chance.time(&(ms(100)..seconds(100))))
                .collect(),
        }
    }
}

fn network(chance: &mut Chance) -> Network {
    let trouble = chance.one_of(&[0.0, 0.01, 0.05, 0.2]);
    let share = |chance: &mut Chance| trouble * chance.one_of(&[0.0, 0.5, 1.0]);
    let (fastest, slowest) = chance.one_of(&[(20, 200), (200, 5_000), (2_000, 200_000)]);
    Network {
        latency: Duration::from_micros(fastest)..Duration::from_micros(slowest),
        unconnected: share(chance),
        lost: share(chance),
        answer_lost: share(chance),
        slow: share(chance) / 4.0,
    }
}

fn lives(chance: &mut Chance, lease_seconds: u64) -> Lives {
    let longest = chance.one_of(&[seconds(2), seconds(30), seconds(600)]);
    Lives {
        incident_after: ms(1)..longest,
        crash: chance.number(0..4),
        pause: chance.number(0..4),
        stop: chance.number(1..4),
        restart_after: ms(1)..seconds(2 * lease_seconds),
        partial: chance.one_of(&[0.0, 0.3]),
    }
}

fn handlers(chance: &mut Chance, lease_seconds: u64) -> Handlers {
    let trouble = chance.one_of(&[0.0, 0.1, 0.5]);
    let share = |chance: &mut Chance| trouble * chance.one_of(&[0.0, 0.3, 1.0]);
    Handlers {
        duration: ms(1)..chance.one_of(&[ms(20), seconds(2), seconds(2 * lease_seconds)]),
        fails: share(chance),
        fails_for_good: share(chance) / 4.0,
        panics: share(chance) / 4.0,
        hangs: share(chance) / 4.0,
    }
}
