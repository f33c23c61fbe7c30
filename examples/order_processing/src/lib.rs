//! A checkout in five steps, each of which may fail in its own way.
//!
//! `order_processing.yaml` defines the task, and this crate is the code behind the names in it.
//! The shop around it is made up ([`shop`]); the input chooses what fails.

pub mod money;
pub mod order;
pub mod shop;
mod failure;
pub mod validate_cart;
pub mod process_payment;
pub mod update_inventory;
pub mod create_order;
pub mod send_confirmation;

use std::path::Path;

use tasker::yaml::problem::InvalidFile;
use tasker::{StepContext, StepHandlers, TaskHandler, yaml};

use create_order::create_order;
use process_payment::process_payment;
use send_confirmation::send_confirmation;
use shop::Shop;
use update_inventory::update_inventory;
use validate_cart::validate_cart;

/// The definition.
pub const TEMPLATE: &str = include_str!("../order_processing.yaml");

/// The code of the steps, with a shop of its own.
pub fn step_handlers() -> StepHandlers {
    step_handlers_of(&Shop::default())
}

/// The code of the steps.
pub fn step_handlers_of(shop: &Shop) -> StepHandlers {
    StepHandlers::new()
        .add("OrderProcessing::ValidateCart", with(shop, validate_cart))
        .add(
            "OrderProcessing::ProcessPayment",
            with(shop, process_payment),
        )
        .add(
            "OrderProcessing::UpdateInventory",
            with(shop, update_inventory),
        )
        .add("OrderProcessing::CreateOrder", with(shop, create_order))
        .add(
            "OrderProcessing::SendConfirmation",
            with(shop, send_confirmation),
        )
}

/// The definition for an environment, with its code.
pub fn task_handler(environment: &str, shop: &Shop) -> Result<TaskHandler, InvalidFile> {
    let path = Path::new("examples/order_processing/order_processing.yaml");
    let file = yaml::load_text(path, TEMPLATE, environment)?;
    step_handlers_of(shop).bind(&file)
}

/// A handler that knows its shop.
fn with<R>(
    shop: &Shop,
    handler: impl Fn(StepContext, Shop) -> R + Send + Sync + 'static,
) -> impl Fn(StepContext) -> R + Send + Sync + 'static {
    let shop = shop.clone();
    move |step| handler(step, shop.clone())
}
