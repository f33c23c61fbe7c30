//! A result that can be written and not read.

use serde::Serialize;
use tasker::{Parent, StepResult, TaskHandler, step};

#[derive(Serialize)]
struct Receipt;

async fn charge() -> StepResult<Receipt> {
    Ok(Receipt)
}

async fn ship(_: Parent<Receipt>) -> StepResult<()> {
    Ok(())
}

fn main() {
    let mut order = TaskHandler::new("shop", "order", "1.0.0");
    let charge = order.add(step("charge", charge));
    order.add(step("ship", ship).after(&charge));
}
