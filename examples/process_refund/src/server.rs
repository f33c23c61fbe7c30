//! As much of HTTP as the example needs.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::company::{Answer, Company, Request};

/// The longest request that is read.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The services, on one address. They end with the process.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    company: Mutex<Company>,
    requests: Mutex<Vec<Request>>,
}

impl Server {
    /// Begins to listen; port 0 means any that is free.
    pub async fn start(port: u16, company: Company) -> io::Result<Server> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let server = Server {
            address: listener.local_addr()?,
            shared: Arc::new(Shared {
                company: Mutex::new(company),
                requests: Mutex::default(),
            }),
        };
        let shared = server.shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, &shared).await {
                        eprintln!("a connection has ended: {error}");
                    }
                });
            }
        });
        Ok(server)
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        let requests = self.shared.requests.lock();
        requests.expect("invariant: nothing panics with it").clone()
    }

    /// What the services know.
    pub fn company(&self) -> MutexGuard<'_, Company> {
        let company = self.shared.company.lock();
        company.expect("invariant: nothing panics with it")
    }
}

impl Shared {
    fn answer(&self, request: Request) -> Option<Answer> {
        let company = self.company.lock();
        let answer = company
            .expect("invariant: nothing panics with it")
            .answer(&request);
        let requests = self.requests.lock();
        let mut requests = requests.expect("invariant: nothing panics with it");
        requests.push(request);
        answer
    }
}

/// Answers the requests of one connection until it is closed.
async fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await? {
        let Some(answer) = shared.answer(request) else {
            return std::future::pending().await;
        };
        let body = answer.body.to_string();
        let head = format!(
            "HTTP/1.1 {} -\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.status,
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await?;
    }
    Ok(())
}

async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut request = Request {
        path: (line.split_whitespace().nth(1).unwrap_or_default()).to_owned(),
        ..Request::default()
    };
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        let name = name.to_ascii_lowercase();
        request.headers.insert(name, value.trim().to_owned());
    }
    let length = request.headers.get("content-length");
    let length = length.map_or(Ok(0), |length| length.parse());
    let length = length.map_err(io::Error::other)?;
    if length > BODY_BYTES_MAX {
        return Err(io::Error::other(format!("{length} bytes are too many")));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    request.body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Ok(Some(request))
}
