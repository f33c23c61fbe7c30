//! The task's input is taken without `Context`.

use serde::Deserialize;
use tasker::{StepResult, TaskHandler, step};

#[derive(Deserialize)]
struct Order;

async fn charge(_: Order) -> StepResult<()> {
    Ok(())
}

fn main() {
    let mut order = TaskHandler::new("shop", "order", "1.0.0");
    order.add(step("charge", charge));
}
