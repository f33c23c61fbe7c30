//! Two teams, each with a workflow named `process_refund`, and a call from one to the other.
//!
//! The graphs are `payments.yaml` and `customer_success.yaml`; this crate is the code behind the names in
//! them, [`payments`] and [`customer_success`]. The services that they speak to are made up ([`company`]).

pub mod company;
pub mod server;
mod failure;
pub mod services;
pub mod payments;
pub mod customer_success;

use std::path::Path;

use tasker::yaml::problem::InvalidFile;
use tasker::{StepHandlers, TaskHandler, yaml};

use services::Client;

/// The two definitions, by their paths.
pub const TEMPLATES: [(&str, &str); 2] = [
    ("payments.yaml", include_str!("../payments.yaml")),
    (
        "customer_success.yaml",
        include_str!("../customer_success.yaml"),
    ),
];

/// The code of the steps of both teams. They share the client, and with it its connections.
pub fn step_handlers(client: Client) -> StepHandlers {
    let handlers = StepHandlers::new().state(client);
    customer_success::add_to(payments::add_to(handlers))
}

/// The two task handlers, for an environment.
pub fn task_handlers(environment: &str, client: Client) -> Result<Vec<TaskHandler>, InvalidFile> {
    let code = step_handlers(client);
    let handlers = TEMPLATES.into_iter().map(|(path, text)| {
        let path = Path::new("examples/process_refund").join(path);
        code.bind(&yaml::load_text(&path, text, environment)?)
    });
    handlers.collect()
}
