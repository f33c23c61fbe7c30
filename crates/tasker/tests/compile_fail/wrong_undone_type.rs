//! What undoes a step takes its result as another type.

use serde::{Deserialize, Serialize};
use tasker::{StepResult, TaskHandler, Undone, step};

#[derive(Serialize, Deserialize)]
struct Receipt;

#[derive(Serialize, Deserialize)]
struct Parcel;

async fn charge() -> StepResult<Receipt> {
    Ok(Receipt)
}

async fn refund(Undone(_): Undone<Parcel>) -> StepResult<()> {
    Ok(())
}

fn main() {
    let mut order = TaskHandler::new("shop", "order", "1.0.0");
    order.add(step("charge", charge).undo(refund));
}
