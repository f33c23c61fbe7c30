//! What happens to everybody at once: the clock jumps, the store is out of reach.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::chance::Chance;
use crate::process::sleep;
use crate::world::World;

/// Makes the clock jump, as often as planned.
pub(crate) async fn jump(world: Arc<World>, mut chance: Chance) {
    for by in world.plan.clock_jumps.clone() {
        sleep(&world.clock, chance.time(&world.plan.people.think)).await;
        world.ledger.count("clock jumps");
        world.ledger.note(|| format!("the clock jumps by {by:?}"));
        world.clock.advance(by);
    }
}

/// Takes the store out of reach, as often as planned.
pub(crate) async fn cut_off(world: Arc<World>, mut chance: Chance) {
    for time in world.plan.outages.clone() {
        sleep(&world.clock, chance.time(&world.plan.people.think)).await;
        let unreachable = &world.database.unreachable;
        world.ledger.count("outages");
        world
            .ledger
            .note(|| format!("the store is out of reach for {time:?}"));
        unreachable.store(true, Ordering::Relaxed);
        sleep(&world.clock, time).await;
        unreachable.store(false, Ordering::Relaxed);
        world.ledger.note(|| "the store is back".to_owned());
    }
}
