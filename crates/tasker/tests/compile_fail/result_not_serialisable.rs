//! A result that cannot be stored.

use tasker::{StepResult, TaskHandler, step};

struct Receipt;

async fn charge() -> StepResult<Receipt> {
    Ok(Receipt)
}

fn main() {
    let mut order = TaskHandler::new("shop", "order", "1.0.0");
    order.add(step("charge", charge));
}
