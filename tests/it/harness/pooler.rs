//! A pooler of connections to Postgres in transaction mode: all of its clients share one session of
//! Postgres, each for the time of a transaction.

use std::sync::Arc;
use tokio::io::{self, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// The code of a request for TLS in the place of a protocol version.
const SSL_REQUEST: [u8; 4] = [0x04, 0xd2, 0x16, 0x2f];

/// A pooler on its own port. Dropping it takes no more clients.
pub struct Pooler {
    port: u16,
    accepting: JoinHandle<()>,
}

/// The session that all clients share, and how Postgres greeted the first of them.
#[derive(Default)]
struct Session {
    server: Option<TcpStream>,
    greeting: Vec<u8>,
}

impl Pooler {
    /// Starts a pooler in front of `target`, which is `host:port`.
    pub async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let target = target.to_owned();

        let accepting = tokio::spawn(async move {
            let session = Arc::new(Mutex::new(Session::default()));
            while let Ok((client, _)) = listener.accept().await {
                let (session, target) = (session.clone(), target.clone());
                tokio::spawn(async move { serve(client, &target, &session).await });
            }
        });

        Self { port, accepting }
    }

    /// Returns the port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut client: TcpStream, target: &str, session: &Mutex<Session>) -> io::Result<()> {
    let mut startup = read_body(&mut client, Vec::new()).await?;
    if startup[4..] == SSL_REQUEST {
        client.write_all(b"N").await?;
        startup = read_body(&mut client, Vec::new()).await?;
    }

    let mut shared = session.lock().await;
    if shared.server.is_none() {
        *shared = log_in(&mut client, target, &startup).await?;
    } else {
        client.write_all(&shared.greeting).await?;
    }
    drop(shared);

    loop {
        let mut message = read_message(&mut client).await?;
        let mut shared = session.lock().await;
        let Some(server) = &mut shared.server else {
            return Ok(());
        };

        // The client keeps the session until its transaction ends.
        while message[0] != b'X' {
            server.write_all(&message).await?;
            if matches!(message[0], b'Q' | b'S') && answer(server, &mut client).await? == b'I' {
                break;
            }
            message = read_message(&mut client).await?;
        }
        if message[0] == b'X' {
            return Ok(());
        }
    }
}

/// Logs the first client in, and returns its session.
async fn log_in(client: &mut TcpStream, target: &str, startup: &[u8]) -> io::Result<Session> {
    let mut server = TcpStream::connect(target).await?;
    server.write_all(startup).await?;
    let mut greeting = Vec::new();

    loop {
        let message = read_message(&mut server).await?;
        client.write_all(&message).await?;

        // The client responds to each of these but 0, the end, and 12, the last one of SCRAM.
        if message[0] == b'R' && !matches!(message[8], 0 | 12) {
            server.write_all(&read_message(client).await?).await?;
        } else if message[0] != b'R' || message[8] == 0 {
            greeting.extend_from_slice(&message);
        }
        if message[0] == b'Z' {
            let server = Some(server);
            return Ok(Session { server, greeting });
        }
    }
}

/// Forwards the server's messages until it is ready, and returns the state of the transaction.
async fn answer(server: &mut TcpStream, client: &mut TcpStream) -> io::Result<u8> {
    loop {
        let message = read_message(server).await?;
        client.write_all(&message).await?;
        if message[0] == b'Z' {
            return Ok(message[5]);
        }
    }
}

/// Reads a message: its kind, its length and its body.
async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let kind = stream.read_u8().await?;
    read_body(stream, vec![kind]).await
}

/// Reads a length and what it counts, and returns both after `message`.
async fn read_body(stream: &mut TcpStream, mut message: Vec<u8>) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    message.extend_from_slice(&length.to_be_bytes());

    let start = message.len();
    message.resize(start + length as usize - 4, 0);
    stream.read_exact(&mut message[start..]).await?;
    Ok(message)
}
