//! A result is taken, but no `after` names its step.

use serde::{Deserialize, Serialize};
use tasker::{Parent, StepResult, TaskHandler, step};

#[derive(Serialize, Deserialize)]
struct Receipt;

async fn charge() -> StepResult<Receipt> {
    Ok(Receipt)
}

async fn ship(Parent(_): Parent<Receipt>) -> StepResult<()> {
    Ok(())
}

fn main() {
    let mut order = TaskHandler::new("shop", "order", "1.0.0");
    order.add(step("charge", charge));
    order.add(step("ship", ship));
}
