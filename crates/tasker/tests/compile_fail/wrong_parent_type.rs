//! A result is taken as another type.

use serde::{Deserialize, Serialize};
use tasker::{Parent, StepResult, TaskHandler, step};

#[derive(Serialize, Deserialize)]
struct Receipt;

#[derive(Serialize, Deserialize)]
struct Parcel;

async fn charge() -> StepResult<Receipt> {
    Ok(Receipt)
}

async fn ship(Parent(_): Parent<Parcel>) -> StepResult<()> {
    Ok(())
}

fn main() {
    let mut order = TaskHandler::new("shop", "order", "1.0.0");
    let charge = order.add(step("charge", charge));
    order.add(step("ship", ship).after(&charge));
}
