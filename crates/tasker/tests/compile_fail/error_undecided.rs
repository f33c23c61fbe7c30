//! An error that does not say whether trying again is of use.

use tasker::{TaskHandler, step};

struct Declined;

async fn charge() -> Result<(), Declined> {
    Err(Declined)
}

fn main() {
    let mut order = TaskHandler::new("shop", "order", "1.0.0");
    order.add(step("charge", charge));
}
