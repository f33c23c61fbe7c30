//! The items of a list are taken as another type.

use serde::{Deserialize, Serialize};
use tasker::{Item, StepResult, TaskHandler, map, step};

#[derive(Serialize, Deserialize)]
struct Image;

#[derive(Serialize, Deserialize)]
struct Video;

async fn list() -> StepResult<Vec<Image>> {
    Ok(vec![Image])
}

async fn resize(Item(_): Item<Video>) -> StepResult<u64> {
    Ok(1)
}

fn main() {
    let mut album = TaskHandler::new("photos", "album", "1.0.0");
    let list = album.add(step("list", list));
    album.add(map("resize", resize).over(&list));
}
