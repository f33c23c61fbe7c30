//! A step that runs over a list takes the result of another step, which its items do not see.

use tasker::{Item, Parent, StepResult, TaskHandler, map, step};

async fn list() -> StepResult<Vec<u64>> {
    Ok(vec![1])
}

async fn format() -> StepResult<String> {
    Ok("png".to_owned())
}

async fn resize(Item(size): Item<u64>, Parent(_): Parent<String>) -> StepResult<u64> {
    Ok(size)
}

fn main() {
    let mut album = TaskHandler::new("photos", "album", "1.0.0");
    let list = album.add(step("list", list));
    let format = album.add(step("format", format));
    album.add(map("resize", resize).over(&list).after(&format));
}
