//! An item is taken, and the step runs over no list.

use tasker::{Item, StepResult, TaskHandler, step};

async fn resize(Item(size): Item<u64>) -> StepResult<u64> {
    Ok(size)
}

fn main() {
    let mut album = TaskHandler::new("photos", "album", "1.0.0");
    album.add(step("resize", resize));
}
