//! It is not said which list a step runs over.

use tasker::{Item, StepResult, TaskHandler, map};

async fn resize(Item(size): Item<u64>) -> StepResult<u64> {
    Ok(size)
}

fn main() {
    let mut album = TaskHandler::new("photos", "album", "1.0.0");
    album.add(map("resize", resize));
}
