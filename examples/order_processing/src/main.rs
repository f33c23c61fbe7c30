//! Runs one order: the sample, or the context in the file that is named.

use std::error::Error;

use order_processing::shop::Shop;
use order_processing::task_handler;
use tasker::{TaskRequest, Tasker, yaml};

const SAMPLE: &str = include_str!("../sample.json");

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let context = match std::env::args().nth(1) {
        Some(path) => std::fs::read_to_string(path)?,
        None => SAMPLE.to_owned(),
    };
    let handler = task_handler(yaml::DEFAULT_ENVIRONMENT, &Shop::default())?;
    let tasker = Tasker::builder("sqlite::memory:")
        .register(handler)
        .start()
        .await?;
    let request = TaskRequest::new("process_order")
        .namespace("ecommerce")
        .context(serde_json::from_str(&context)?);
    let task = tasker.executor().execute_sync(request, None).await?;
    for step in task.workflow_steps().await? {
        let (result, error) = (
            step.result.unwrap_or_default(),
            step.error.unwrap_or_default(),
        );
        println!(
            "{} {} ({} attempts) {error}",
            step.name, step.status, step.attempts
        );
        println!("{result:#}");
    }
    println!("{}", task.status());
    tasker.stop().await?;
    Ok(())
}
