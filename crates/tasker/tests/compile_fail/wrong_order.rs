//! Results are taken in another order than `after` names them.

use serde::{Deserialize, Serialize};
use tasker::{Parent, StepResult, TaskHandler, step};

#[derive(Serialize, Deserialize)]
struct Receipt;

#[derive(Serialize, Deserialize)]
struct Parcel;

async fn charge() -> StepResult<Receipt> {
    Ok(Receipt)
}

async fn pack() -> StepResult<Parcel> {
    Ok(Parcel)
}

async fn ship(_: Parent<Parcel>, _: Parent<Receipt>) -> StepResult<()> {
    Ok(())
}

fn main() {
    let mut order = TaskHandler::new("shop", "order", "1.0.0");
    let charge = order.add(step("charge", charge));
    let pack = order.add(step("pack", pack));
    order.add(step("ship", ship).after((&charge, &pack)));
}
