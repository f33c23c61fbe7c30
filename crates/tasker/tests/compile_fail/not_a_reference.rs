//! A name stands where a reference is needed.

use tasker::{StepResult, TaskHandler, step};

async fn ship() -> StepResult<()> {
    Ok(())
}

fn main() {
    let mut order = TaskHandler::new("shop", "order", "1.0.0");
    order.add(step("ship", ship).after("charge"));
}
