//! A step runs over a list and looks at no item.

use tasker::{StepResult, TaskHandler, map, step};

async fn list() -> StepResult<Vec<u64>> {
    Ok(vec![1])
}

async fn ping() -> StepResult<u64> {
    Ok(1)
}

fn main() {
    let mut pings = TaskHandler::new("net", "pings", "1.0.0");
    let list = pings.add(step("list", list));
    pings.add(map("ping", ping).over(&list));
}
