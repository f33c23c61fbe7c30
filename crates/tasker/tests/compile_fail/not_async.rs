//! A function that is not async.

use tasker::{StepResult, TaskHandler, step};

fn charge() -> StepResult<()> {
    Ok(())
}

fn main() {
    let mut order = TaskHandler::new("shop", "order", "1.0.0");
    order.add(step("charge", charge));
}
