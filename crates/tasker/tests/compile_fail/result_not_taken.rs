//! A result that nobody takes.

use serde::{Deserialize, Serialize};
use tasker::{StepResult, TaskHandler, step};

#[derive(Serialize, Deserialize)]
struct Receipt;

async fn charge() -> StepResult<Receipt> {
    Ok(Receipt)
}

async fn ship() -> StepResult<()> {
    Ok(())
}

fn main() {
    let mut order = TaskHandler::new("shop", "order", "1.0.0");
    let charge = order.add(step("charge", charge));
    order.add(step("ship", ship).after(&charge));
}
