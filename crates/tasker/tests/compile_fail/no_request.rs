//! A step that starts a task is given what is no request.

use tasker::{StepResult, TaskHandler, subtask};

async fn pay() -> StepResult<String> {
    Ok("take_payment".to_owned())
}

fn main() {
    let mut order = TaskHandler::new("shop", "order", "1.0.0");
    order.add(subtask("pay", pay).returning::<String>());
}
