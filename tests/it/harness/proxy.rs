//! A link between two processes that can be cut, frozen and slowed down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// The state of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// Bytes pass, each direction with that delay, and at most so many a second.
    Open { delay: Duration, rate: u64 },
    /// Connections stay, and nothing passes until the link is open again.
    Frozen,
    /// Connections are closed, and new ones are closed at once.
    Cut,
}

const OPEN: Link = Link::Open {
    delay: Duration::ZERO,
    rate: u64::MAX,
};

/// How much a slow link takes at once. What does not fit waits with its sender.
const SLOW_BYTES: usize = 4 * 1_024;

/// A proxy on its own port.
pub struct Proxy {
    address: SocketAddr,
    link: watch::Sender<Link>,
    accepted: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

/// Which bytes the proxy replaces, for each direction.
#[derive(Clone, Default)]
struct Rewriting {
    to_client: Option<Replacement>,
    to_server: Option<Replacement>,
}

/// The bytes to replace, and the new ones, of the same length.
type Replacement = Arc<(Vec<u8>, Vec<u8>)>;

impl Proxy {
    /// Starts an open link to `target`, which is `host:port`.
    pub async fn start(target: &str) -> Self {
        Self::with(target, Rewriting::default()).await
    }

    /// Starts an open link that replaces `from` with `to`, of the same length, in what the server
    /// sends.
    pub async fn rewriting(target: &str, from: &str, to: &str) -> Self {
        let rewriting = Rewriting {
            to_client: replacement(from, to),
            to_server: None,
        };

        Self::with(target, rewriting).await
    }

    /// Starts an open link that replaces `from` with `to`, of the same length, in what the client
    /// sends.
    pub async fn rewriting_requests(target: &str, from: &str, to: &str) -> Self {
        let rewriting = Rewriting {
            to_client: None,
            to_server: replacement(from, to),
        };

        Self::with(target, rewriting).await
    }

    async fn with(target: &str, rewriting: Rewriting) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");

        let (link, state) = watch::channel(OPEN);
        let accepted = Arc::<AtomicUsize>::default();
        let target = target.to_owned();
        let accepting = tokio::spawn(accept(listener, target, state, rewriting, accepted.clone()));

        Self {
            address,
            link,
            accepted,
            accepting,
        }
    }

    /// Returns the port to connect to.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns how many connections were made to it.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Closes every connection, and each new one at once.
    pub fn cut(&self) {
        self.link.send_replace(Link::Cut);
    }

    /// Keeps every connection open, and lets nothing pass.
    pub fn freeze(&self) {
        self.link.send_replace(Link::Frozen);
    }

    /// Delays everything by that time, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.slow_down(delay, u64::MAX);
    }

    /// Delays everything by that time, and lets so many bytes a second pass, in each direction of
    /// each connection.
    pub fn slow_down(&self, delay: Duration, rate: u64) {
        self.link.send_replace(Link::Open { delay, rate });
    }

    /// Lets everything pass again, without delay.
    pub fn heal(&self) {
        self.link.send_replace(OPEN);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: String,
    link: watch::Receiver<Link>,
    rewriting: Rewriting,
    accepted: Arc<AtomicUsize>,
) {
    let mut connections = JoinSet::new();

    loop {
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        accepted.fetch_add(1, Ordering::Relaxed);

        connections.spawn(serve(
            client,
            target.clone(),
            link.clone(),
            rewriting.clone(),
        ));

        while connections.try_join_next().is_some() {}
    }
}

async fn serve(
    client: TcpStream,
    target: String,
    mut link: watch::Receiver<Link>,
    rewriting: Rewriting,
) {
    let state = link
        .wait_for(|link| *link != Link::Frozen)
        .await
        .map(|link| *link)
        .unwrap_or(Link::Cut);
    if state == Link::Cut {
        return;
    }

    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };

    // A request must not wait until there is more to send.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);

    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = link.clone();

    tokio::select! {
        () = carry(from_client, to_server, link.clone(), rewriting.to_server) => {}
        () = carry(from_server, to_client, link.clone(), rewriting.to_client) => {}
        _ = cut.wait_for(|link| *link == Link::Cut) => {}
    }
}

/// Carries the bytes of one direction: reads them at once, and writes them when they are due.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut link: watch::Receiver<Link>,
    replacing: Option<Replacement>,
) {
    let (sender, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(1_024);
    let delays = link.clone();

    let reading = async move {
        let mut buffer = vec![0; 64 * 1_024];

        loop {
            let (delay, rate) = match *delays.borrow() {
                Link::Open { delay, rate } => (delay, rate),
                Link::Frozen | Link::Cut => (Duration::ZERO, u64::MAX),
            };
            let limit = if rate == u64::MAX {
                buffer.len()
            } else {
                SLOW_BYTES
            };
            let Ok(count @ 1..) = from.read(&mut buffer[..limit]).await else {
                return;
            };

            if rate < u64::MAX {
                tokio::time::sleep(Duration::from_secs_f64(count as f64 / rate as f64)).await;
            }
            let bytes = rewrite(buffer[..count].to_vec(), replacing.as_deref());
            if sender.send((Instant::now() + delay, bytes)).await.is_err() {
                return;
            }
        }
    };

    let writing = async move {
        while let Some((at, bytes)) = due.recv().await {
            sleep_until(at).await;

            if link.wait_for(|link| *link != Link::Frozen).await.is_err()
                || to.write_all(&bytes).await.is_err()
            {
                return;
            }
        }
    };

    tokio::join!(reading, writing);
}

fn replacement(from: &str, to: &str) -> Option<Replacement> {
    assert_eq!(from.len(), to.len());

    Some(Arc::new((from.into(), to.into())))
}

/// Replaces every occurrence that is complete in one read.
fn rewrite(mut bytes: Vec<u8>, replacing: Option<&(Vec<u8>, Vec<u8>)>) -> Vec<u8> {
    let Some((from, to)) = replacing else {
        return bytes;
    };

    let mut done = 0;
    while let Some(at) = bytes[done..]
        .windows(from.len())
        .position(|window| window == from)
    {
        bytes[done + at..][..to.len()].copy_from_slice(to);
        done += at + to.len();
    }

    bytes
}
