//! A future that cannot move between threads.

use std::rc::Rc;

use tasker::{StepResult, TaskHandler, step};

async fn charge() -> StepResult<()> {
    let shared = Rc::new(1);
    std::future::ready(()).await;
    drop(shared);
    Ok(())
}

fn main() {
    let mut order = TaskHandler::new("shop", "order", "1.0.0");
    order.add(step("charge", charge));
}
