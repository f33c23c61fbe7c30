//! The floor: the same rows, written by plain batched SQL, without an engine.
//!
//! One connection with the store's own schema and settings inserts and updates what the engine
//! must insert and update, in transactions of a few hundred steps. Nothing is decided, read or
//! dispatched: whatever the engine costs beyond this is the engine.

mod sqlite;
pub(crate) mod postgres;

use std::error::Error;
use std::time::Duration;

use crate::place::Place;
use crate::workload::Workload;

/// Steps per transaction: about what the engine groups under load.
const STEPS_PER_TRANSACTION: u32 = 256;

const RESULT: &str = r#"{"step":"s0_0","sum":1,"padding":"0123456789"}"#;

/// Writes the rows of so many tasks; gives the time.
pub(crate) async fn throughput(
    place: &Place,
    workload: Workload,
    tasks: u32,
) -> Result<Duration, Box<dyn Error>> {
    match place {
        Place::Sqlite { path, .. } => Ok(sqlite::throughput(path, workload, tasks)?),
        Place::Postgres(schema) => postgres::throughput(schema, workload, tasks).await,
        Place::Elsewhere(_) => Err("the floor needs a store of its own".into()),
    }
}

/// The times of so many rounds, each of as many one-row durable commits as the workload has
/// levels, and one for its creation.
pub(crate) async fn latency(
    place: &Place,
    workload: Workload,
    rounds: u32,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    match place {
        Place::Sqlite { path, .. } => Ok(sqlite::latency(path, workload, rounds)?),
        Place::Postgres(schema) => postgres::latency(schema, workload, rounds).await,
        Place::Elsewhere(_) => Err("the floor needs a store of its own".into()),
    }
}
