//! What a test puts between a store and its server: a [`Pooler`] that shares sessions, and a [`Tap`]
//! that listens.
//!
//! Both live on the test's own runtime and end with it. That must have threads of its own: the end
//! of a schema holds the test's thread up, and may wait for what is under way here.

use std::sync::Arc;

use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, copy_bidirectional, duplex,
};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Mutex, mpsc, watch};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};

use super::place::Server;

/// Sessions of a [`Pooler`]: as long as one is free, a client never gets the same twice in a row.
const SESSIONS: usize = 3;
/// The code of a client that asks for TLS before it says who it is.
const TLS_REQUEST: u32 = 80_877_103;

/// Cuts what is read into the protocol's messages.
struct Messages<R> {
    from: R,
    bytes: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Messages<R> {
    fn of(from: R) -> Messages<R> {
        Messages {
            from,
            bytes: Vec::new(),
        }
    }

    /// The next message with its tag and length; `None` at the end. May be given up and called
    /// again: nothing is lost.
    async fn next(&mut self) -> Option<Vec<u8>> {
        self.cut(1).await
    }

    /// The first message of a client, which has no tag.
    async fn startup(&mut self) -> Option<Vec<u8>> {
        self.cut(0).await
    }

    async fn cut(&mut self, tag: usize) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = self.bytes.get(tag..tag + 4) {
                let length = u32::from_be_bytes(length.try_into().unwrap()) as usize + tag;
                if self.bytes.len() >= length {
                    return Some(self.bytes.drain(..length).collect());
                }
            }
            self.bytes.reserve(16 * 1_024);
            // An error is an end, too.
            if self.from.read_buf(&mut self.bytes).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}

async fn listener() -> (TcpListener, u16) {
    assert_eq!(
        Handle::current().runtime_flavor(),
        RuntimeFlavor::MultiThread
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn contains(message: &[u8], text: &str) -> bool {
    let text = text.as_bytes();
    message.windows(text.len()).any(|window| window == text)
}

/// What went through a pooler.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) transactions: usize,
    /// Statements that a client prepared under a name.
    pub(super) prepared: usize,
    /// Answers that such a statement is not known to this session.
    pub(super) lost: usize,
    pub(super) listens: usize,
}

impl Seen {
    fn asked(&mut self, message: &[u8]) {
        // `P` prepares a statement; its name comes first, and ends with a zero.
        self.prepared += usize::from(message[0] == b'P' && message[5] != 0);
        let has_text = matches!(message[0], b'P' | b'Q');
        self.listens += usize::from(has_text && contains(message, "LISTEN "));
    }

    fn answered(&mut self, message: &[u8]) {
        self.lost += usize::from(message[0] == b'E' && contains(message, "C26000\0"));
    }
}

/// A pooler in transaction mode, as far as a store can tell: it gives each transaction one of its
/// sessions, and knows nothing of what a client has prepared.
pub(super) struct Pooler {
    pub(super) port: u16,
    pub(super) seen: watch::Receiver<Seen>,
}

/// The sessions that nobody uses.
struct Sessions {
    put: mpsc::Sender<Messages<TcpStream>>,
    free: Mutex<mpsc::Receiver<Messages<TcpStream>>>,
}

impl Pooler {
    pub(super) async fn before(server: &Server) -> Pooler {
        let (put, free) = mpsc::channel(SESSIONS);
        for _ in 0..SESSIONS {
            let session = Messages::of(session(server).await);
            assert!(put.send(session).await.is_ok());
        }
        let free = Mutex::new(free);
        let sessions = Arc::new(Sessions { put, free });
        let (listener, port) = listener().await;
        let (tell, seen) = watch::channel(Seen::default());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, sessions.clone(), tell.clone()));
            }
        });
        Pooler { port, seen }
    }
}

/// A session of the pooler's own. The driver logs in and is then cut off from the socket.
async fn session(server: &Server) -> TcpStream {
    let mut socket = TcpStream::connect((server.host.as_str(), server.port))
        .await
        .unwrap();
    socket.set_nodelay(true).unwrap();
    let mut config = Config::new();
    config.user(&server.user).password(&server.password);
    config.dbname(&server.database).ssl_mode(SslMode::Disable);
    let (near, mut far) = duplex(16 * 1_024);
    tokio::select! {
        login = config.connect_raw(near, NoTls) => drop(login.unwrap()),
        _ = copy_bidirectional(&mut far, &mut socket) => panic!("the server has hung up"),
    }
    socket
}

/// One client, to its end.
async fn serve(client: TcpStream, sessions: Arc<Sessions>, tell: watch::Sender<Seen>) {
    client.set_nodelay(true).unwrap();
    let (read, mut write) = client.into_split();
    let mut asked = Messages::of(read);
    while let Some(startup) = asked.startup().await {
        if startup[4..8] != TLS_REQUEST.to_be_bytes() {
            break;
        }
        if write.write_all(b"N").await.is_err() {
            return;
        }
    }
    // Welcome; a key for cancelling that is none; ready, and not in a transaction.
    let welcome = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\0\0\0\0\0Z\0\0\0\x05I";
    if write.write_all(welcome).await.is_err() {
        return;
    }
    while let Some(first) = asked.next().await {
        if first[0] == b'X' {
            return;
        }
        let session = sessions.free.lock().await.recv().await;
        let mut session = session.expect("the sender is kept beside the receiver");
        let transaction = transact(first, &mut asked, &mut write, &mut session, &tell);
        if transaction.await.is_none() {
            // The session was left in the middle, and ends; there are enough for a test.
            return;
        }
        tell.send_modify(|seen| seen.transactions += 1);
        assert!(sessions.put.send(session).await.is_ok());
    }
}

/// One transaction: until the session is ready for the next, and every question is answered.
async fn transact(
    first: Vec<u8>,
    asked: &mut Messages<OwnedReadHalf>,
    write: &mut (impl AsyncWrite + Unpin),
    session: &mut Messages<TcpStream>,
    tell: &watch::Sender<Seen>,
) -> Option<()> {
    let mut state = Transaction::default();
    tell.send_modify(|seen| seen.asked(&first));
    state.asked(&first);
    session.from.write_all(&first).await.ok()?;
    while !state.is_over() {
        tokio::select! {
            message = asked.next() => {
                let message = message.filter(|message| message[0] != b'X')?;
                tell.send_modify(|seen| seen.asked(&message));
                state.asked(&message);
                session.from.write_all(&message).await.ok()?;
            }
            answer = session.next() => {
                let answer = answer?;
                tell.send_modify(|seen| seen.answered(&answer));
                state.answered(&answer);
                write.write_all(&answer).await.ok()?;
            }
        }
    }
    Some(())
}

/// Where a session stands in a transaction.
#[derive(Default)]
struct Transaction {
    /// Questions that end with an answer `Z`.
    unanswered: u32,
    /// The driver sends the next question before the last one is answered: a part of it has come.
    is_half_asked: bool,
    is_open: bool,
}

impl Transaction {
    fn asked(&mut self, message: &[u8]) {
        let is_whole = matches!(message[0], b'Q' | b'S');
        self.unanswered += u32::from(is_whole);
        self.is_half_asked = !is_whole;
    }

    fn answered(&mut self, message: &[u8]) {
        if message[0] == b'Z' {
            self.unanswered -= 1;
            self.is_open = message[5] != b'I';
        }
    }

    fn is_over(&self) -> bool {
        self.unanswered == 0 && !self.is_half_asked && !self.is_open
    }
}

/// A notice of the server: what it says, and where in a function it was said.
pub(super) struct Notice {
    pub(super) text: String,
    pub(super) context: String,
}

/// Passes everything on, and gives the test the server's notices: those of an answer are there
/// before the answer is.
pub(super) struct Tap {
    pub(super) port: u16,
    pub(super) notices: mpsc::UnboundedReceiver<Notice>,
}

impl Tap {
    pub(super) async fn before(server: &Server) -> Tap {
        let (listener, port) = listener().await;
        let (tell, notices) = mpsc::unbounded_channel();
        let (host, server_port) = (server.host.clone(), server.port);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let session = TcpStream::connect((host.as_str(), server_port)).await;
                tokio::spawn(overhear(client, session.unwrap(), tell.clone()));
            }
        });
        Tap { port, notices }
    }
}

async fn overhear(client: TcpStream, session: TcpStream, tell: mpsc::UnboundedSender<Notice>) {
    for socket in [&client, &session] {
        socket.set_nodelay(true).unwrap();
    }
    let (mut ask, mut answer) = client.into_split();
    let (answers, mut questions) = session.into_split();
    tokio::spawn(async move {
        // Whoever hangs up ends the other direction, too.
        drop(copy(&mut ask, &mut questions).await);
    });
    let mut answers = Messages::of(answers);
    while let Some(message) = answers.next().await {
        if message[0] == b'N' {
            // Fields with a letter in front and a zero behind; the text, and where it comes from.
            let field = |letter: u8| {
                let mut fields = message[5..].split(|byte| *byte == 0);
                let found = fields.find_map(|field| field.strip_prefix(&[letter]));
                String::from_utf8_lossy(found.unwrap_or_default()).into_owned()
            };
            // The test may be over.
            drop(tell.send(Notice {
                text: field(b'M'),
                context: field(b'W'),
            }));
        }
        if answer.write_all(&message).await.is_err() {
            return;
        }
    }
}
