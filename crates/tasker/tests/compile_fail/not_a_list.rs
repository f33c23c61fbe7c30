//! A step runs over what is no list.

use serde::{Deserialize, Serialize};
use tasker::{Item, StepResult, TaskHandler, map, step};

#[derive(Serialize, Deserialize)]
struct Image;

#[derive(Serialize, Deserialize)]
struct Album {
    images: Vec<Image>,
}

async fn album() -> StepResult<Album> {
    Ok(Album { images: vec![] })
}

async fn resize(Item(_): Item<Image>) -> StepResult<u64> {
    Ok(1)
}

fn main() {
    let mut photos = TaskHandler::new("photos", "album", "1.0.0");
    let album = photos.add(step("album", album));
    photos.add(map("resize", resize).over(&album));
}
