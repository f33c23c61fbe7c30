//! The whole engine under virtual time, from a seed, with everything that can go wrong.
//!
//! Two or three nodes share a store. Clients ask for tasks and repeat requests that were not
//! answered; operators cancel, retry, resolve and skip; steps run over lists, start tasks of others and are undone; handlers fail, panic, hang and take
//! their time. Meanwhile connections break before, during and after a commit, answers take
//! minutes, the store is out of reach, nodes crash, freeze until their leases are over and go on,
//! are stopped and started again with a part of their handlers, and the clock jumps by hours.
//! When the people have done what they wanted, all trouble ends, every node is replaced, and time
//! runs until every task is final.
//!
//! Real is all that ships: the engine with its loop, and the store with its SQL. Simulated are
//! the clock, the network between the two, and the processes.
//!
//! # What is a failure
//!
//! - Any invariant of `ARCHITECTURE.md` that `tasker_store::audit` finds broken (I1 to I6).
//! - A task that is not final in the end, or an engine that does not stop when told to (I7).
//! - A request that was acknowledged and is not there, that created two tasks under one
//!   idempotency key, or a batch that was created in part (I8).
//! - A step whose counts or result are not those of its sub-tasks, or that is complete after more failures than
//!   may be; a failure that is not undone, twice, or where nothing may be; something left open or undone (I9).
//! - An attempt that ran without a claim, twice, or beyond its limit; an outcome that was recorded
//!   and did not happen; a result other than the one of the recorded attempt; a child that read
//!   something else; a lease taken away before its end; a retry before its time.
//! - A panic of the engine, an error of the store that is not a refusal, a call again and again.
//!
//! # What is none
//!
//! - A step that is executed again after its worker crashed: at least once is the promise.
//! - A request without a key that created several tasks, if it was sent several times.
//! - Time: nothing here says how long anything takes.
//!
//! # What stays the same
//!
//! Everything happens on one thread: engines, handlers and people are tasks of one runtime, each
//! of which draws its decisions from the seed. The clock moves only when none of them can go on.
//! A call of the store is waited for on that thread. Ids of tasks are random, but they grow, so
//! that their order is the same. With SQLite, two runs of one seed have the same history, to the
//! letter. A PostgreSQL server chooses by itself among steps that are due at the same microsecond.

mod chance;
mod plan;
mod ledger;
mod process;
mod database;
mod workflow;
mod world;
mod lives;
mod people;
mod weather;
mod verdict;
mod place;
mod play;
mod batch;

pub use batch::{Batch, run_all};
pub use ledger::Counts;
pub use place::Place;
pub use play::{Failure, Report, run};
