//! What becomes of a node: started, frozen, crashed, stopped, started again.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tasker::Error;

use crate::chance::Chance;
use crate::process::sleep;
use crate::workflow::Definition;
use crate::world::{Running, World};

/// How long whoever starts a node waits after a failed start.
const START_AGAIN: Range<Duration> = Duration::from_millis(100)..Duration::from_secs(10);
/// How long a stopping engine may be waited for before somebody kills it.
const STOP_PATIENCE: Range<Duration> = Duration::from_millis(10)..Duration::from_secs(100);

/// Something that happens to a node.
#[derive(Debug, Clone, Copy)]
enum Incident {
    Crash,
    Pause,
    Stop,
}

/// Lives the lives of a node, one after the other, until it is told to end.
pub(crate) async fn live(world: Arc<World>, node: usize, mut chance: Chance) {
    loop {
        if start(&world, node, &mut chance).await {
            run(&world, node, &mut chance).await;
        }
        sleep(&world.clock, chance.time(&world.plan.lives.restart_after)).await;
    }
}

async fn start(world: &World, node: usize, chance: &mut Chance) -> bool {
    let process = world.process(node);
    let partial = chance.happens(world.plan.lives.partial);
    let known: Vec<&Definition> = world
        .definitions
        .iter()
        .filter(|_| !partial || chance.happens(0.5))
        .collect();
    match world.start(process, &known, chance).await {
        Ok(running) => {
            world.put(node, running);
            true
        }
        Err(error) => {
            if !is_expected(&error) {
                world.ledger.problem(format!("start: {error}"));
            }
            sleep(&world.clock, chance.time(&START_AGAIN)).await;
            false
        }
    }
}

async fn run(world: &World, node: usize, chance: &mut Chance) {
    loop {
        sleep(&world.clock, chance.time(&world.plan.lives.incident_after)).await;
        match draw(world, chance) {
            Incident::Pause => pause(world, node, chance).await,
            Incident::Crash => {
                if let Some(running) = world.take(node) {
                    world.ledger.count("crashes");
                    world.ledger.note(|| format!("{} crashes", running.process));
                    running.crash();
                }
                return;
            }
            Incident::Stop => {
                if let Some(running) = world.take(node) {
                    world.ledger.count("planned stops");
                    stop(world, running, chance.time(&STOP_PATIENCE)).await;
                }
                return;
            }
        }
    }
}

fn draw(world: &World, chance: &mut Chance) -> Incident {
    let lives = &world.plan.lives;
    let number = chance.number(0..lives.crash + lives.pause + lives.stop);
    if number < lives.crash {
        Incident::Crash
    } else if number < lives.crash + lives.pause {
        Incident::Pause
    } else {
        Incident::Stop
    }
}

/// Freezes a node for up to three leases.
async fn pause(world: &World, node: usize, chance: &mut Chance) {
    let Some(running) = world.at(node) else {
        return;
    };
    let lease = Duration::from_secs(world.plan.lease_seconds);
    let time = chance.time(&(lease / 10..lease * 3));
    world.ledger.count("pauses");
    world
        .ledger
        .note(|| format!("{} freezes for {time:?}", running.process));
    running.process.freeze();
    sleep(&world.clock, time).await;
    running.process.thaw();
    world.ledger.note(|| format!("{} goes on", running.process));
}

/// Stops an engine in order; whoever waits too long kills the process.
///
/// Gives whether the engine ended by itself.
pub(crate) async fn stop(world: &World, mut running: Arc<Running>, patience: Duration) -> bool {
    let process = running.process.clone();
    world.ledger.note(|| format!("{process} stops"));
    // Operators that have turned to this node before get their answers first.
    let running = loop {
        match Arc::try_unwrap(running) {
            Ok(alone) => break alone,
            Err(shared) => running = shared,
        }
        sleep(&world.clock, Duration::from_millis(10)).await;
    };
    let engine = running.engine.abort_handle();
    let stopped = tokio::select! {
        biased;
        stopped = running.tasker.stop() => Some(stopped),
        () = sleep(&world.clock, patience) => None,
    };
    let in_order = match stopped {
        Some(Ok(())) => true,
        Some(Err(error)) => {
            world.ledger.problem(format!("{process}: stop: {error}"));
            false
        }
        None => false,
    };
    world
        .ledger
        .note(|| format!("{process} stopped, in order: {in_order}"));
    process.die();
    engine.abort();
    in_order
}

/// Whether an error is what a store out of reach leads to.
pub(crate) fn is_expected(error: &Error) -> bool {
    match error {
        Error::Store(error) => error.is_transient(),
        Error::Stopped => true,
        _ => false,
    }
}
