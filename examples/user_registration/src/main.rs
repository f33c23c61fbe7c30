//! Serves the services: `user-registration [PORT] [PATH:STATUS:TIMES]...`

use std::error::Error;

use user_registration::accounts::{Accounts, Fault};
use user_registration::server::Server;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().map_or(Ok(8780), |port| port.parse())?;
    let mut accounts = Accounts::default();
    for argument in arguments {
        accounts.add_fault(fault(&argument)?);
    }
    let server = Server::start(port, accounts).await?;
    println!("listening on {}, until it is interrupted", server.url());
    std::future::pending().await
}

fn fault(argument: &str) -> Result<Fault, Box<dyn Error>> {
    let parts: Vec<&str> = argument.split(':').collect();
    let [path, status, times] = parts[..] else {
        return Err(format!("`{argument}` is not PATH:STATUS:TIMES, as in /welcome:429:2").into());
    };
    Ok(Fault::new(path, status.parse()?, times.parse()?))
}
