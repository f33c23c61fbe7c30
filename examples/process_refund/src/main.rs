//! Runs one refund, beside the services: `process-refund [NAMESPACE.NAME] [@CONTEXT] [PATH:ANSWER[:TIMES]]...`

use std::error::Error;
use std::time::Duration;

use process_refund::company::Company;
use process_refund::server::Server;
use process_refund::services::Client;
use process_refund::task_handlers;
use tasker::{Builder, Task, TaskRequest, Tasker, yaml};

/// Where the services listen: what the templates say unless the context says otherwise.
const PORT: u16 = 8781;
/// How long an answer of a service may take.
const PATIENCE: Duration = Duration::from_secs(10);
const TICKET: &str = include_str!("../ticket.json");
const PAYMENT: &str = include_str!("../payment.json");

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut wanted = "customer_success.process_refund".to_owned();
    let mut context = None;
    let mut company = Company::default();
    for argument in std::env::args().skip(1) {
        if argument.starts_with('/') {
            company.add_fault(argument.parse()?);
        } else if let Some(path) = argument.strip_prefix('@') {
            context = Some(std::fs::read_to_string(path)?);
        } else {
            wanted = argument;
        }
    }
    let (namespace, name) = wanted.split_once('.').ok_or("NAMESPACE.NAME is wanted")?;
    let sample = if namespace == "payments" {
        PAYMENT
    } else {
        TICKET
    };
    let context = serde_json::from_str(context.as_deref().unwrap_or(sample))?;
    let server = Server::start(PORT, company).await?;
    let url = std::env::var("TASKER_STORE").unwrap_or_else(|_| "sqlite:tasker.db".to_owned());
    let handlers = task_handlers(yaml::DEFAULT_ENVIRONMENT, Client::new(PATIENCE)?)?;
    let builder = (handlers.into_iter()).fold(Tasker::builder(url), Builder::register);
    let tasker = builder.start().await?;
    let request = TaskRequest::new(name).namespace(namespace).context(context);
    let task = tasker.executor().execute_sync(request, None).await?;
    for request in server.requests() {
        println!("asked {}", request.path);
    }
    print_steps(&task).await?;
    tasker.stop().await?;
    Ok(())
}

async fn print_steps(task: &Task) -> Result<(), Box<dyn Error>> {
    println!("task {} {}", task.id(), task.status());
    for step in task.workflow_steps().await? {
        let said = match (step.result, step.error) {
            (Some(result), _) => result.to_string(),
            (None, error) => error.unwrap_or_default(),
        };
        println!("{} {} {said}", step.name, step.status);
    }
    Ok(())
}
