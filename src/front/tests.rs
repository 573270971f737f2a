//! The connection to a scripted server, for cases that a real server causes rarely.

use super::*;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// The time limit of each step.
const TEST_TIME_MAX: Duration = Duration::from_secs(10);

/// A server that follows the script of its test.
struct Script {
    listener: TcpListener,
}

/// The server's side of a connection.
struct Peer {
    socket: TcpStream,
    read: String,
}

impl Script {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self { listener }
    }

    fn address(&self) -> String {
        self.listener.local_addr().expect("an address").to_string()
    }

    fn settings(&self) -> FrontSettings {
        FrontSettings {
            servers: vec![self.address()],
            name: "test".into(),
            ..FrontSettings::default()
        }
    }

    /// Accepts the next connection, and sends an INFO with these fields added to the usual ones.
    async fn greet(&self, more: Value) -> Peer {
        let (socket, _) = timeout(TEST_TIME_MAX, self.listener.accept())
            .await
            .expect("in time")
            .expect("a connection");
        let mut info = json!({
            "server_id": "S", "version": "2.15.1", "max_payload": 1_048_576, "headers": true
        });
        if let (Some(info), Value::Object(more)) = (info.as_object_mut(), more) {
            info.extend(more);
        }

        let mut peer = Peer {
            socket,
            read: String::new(),
        };
        peer.send(&format!("INFO {info}\r\n")).await;
        peer
    }

    /// Accepts the next connection up to the PING after its subscriptions. Returns the SUB lines,
    /// too.
    async fn accept(&self) -> (Peer, Vec<String>) {
        self.accept_with(json!({})).await
    }

    async fn accept_with(&self, more: Value) -> (Peer, Vec<String>) {
        let mut peer = self.greet(more).await;
        peer.until("PING\r\n").await;
        peer.send("PONG\r\n").await;

        let subscribed = peer.until("PING\r\n").await;
        let lines = subscribed.lines().filter(|line| line.starts_with("SUB"));
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        lines.sort_unstable();
        (peer, lines)
    }
}

impl Peer {
    async fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes()).await;
    }

    async fn send_bytes(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.expect("sent");
    }

    /// Reads up to `end`, and returns it all.
    async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.read.find(end) {
                let rest = self.read.split_off(at + end.len());
                return std::mem::replace(&mut self.read, rest);
            }

            let mut bytes = [0; 4_096];
            let count = timeout(TEST_TIME_MAX, self.socket.read(&mut bytes))
                .await
                .unwrap_or_else(|_| panic!("no {end:?} in {:?}", self.read))
                .expect("read");
            assert!(count > 0, "the end, and no {end:?} in {:?}", self.read);
            self.read
                .push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }

    /// Waits until the connection is closed.
    async fn closed(&mut self) {
        let mut rest = Vec::new();
        let read = timeout(TEST_TIME_MAX, self.socket.read_to_end(&mut rest)).await;
        let _ = read.expect("in time");
    }
}

/// Connects, and answers the PING after the subscriptions.
async fn connected(script: &Script, settings: FrontSettings) -> (Front, Peer) {
    let (front, (mut peer, _)) = tokio::join!(Front::connect(settings), script.accept());
    peer.send("PONG\r\n").await;
    (front.expect("a connection"), peer)
}

async fn next(subscription: &mut Subscription) -> Option<Message> {
    timeout(TEST_TIME_MAX, subscription.next())
        .await
        .expect("in time")
}

async fn wait_for(front: &Front, is_reached: impl Fn(&FrontState) -> bool) {
    let mut state = front.state();
    let waited = timeout(TEST_TIME_MAX, state.wait_for(|state| is_reached(state))).await;
    waited.expect("in time").expect("a connection");
}

async fn publish(front: &Front, subject: &str, payload: &[u8]) -> Result<(), PublishError> {
    front.publish(subject, &HeaderBlock::new(), payload).await
}

#[tokio::test]
async fn connect_carries_the_login_and_the_options() {
    let script = Script::start().await;
    let mut settings = script.settings();
    settings.login = LoginSource::new(|_| {
        Ok(Login {
            user: Some("u".into()),
            password: Some("p".into()),
            ..Login::default()
        })
    });

    let (front, (_peer, connect)) = tokio::join!(Front::connect(settings), async {
        let mut peer = script.greet(json!({})).await;
        let connect = peer.until("\r\nPING\r\n").await;
        peer.send("+OK\r\nPONG\r\n").await;
        (peer, connect)
    });

    let front = front.expect("a connection");
    assert!(front.is_connected());
    assert_eq!(front.info().max_payload, 1_048_576);
    let connect = connect.replace("CONNECT ", "").replace("\r\nPING\r\n", "");
    let connect: Value = serde_json::from_str(&connect).expect("JSON");
    for (field, value) in [
        ("user", json!("u")),
        ("pass", json!("p")),
        ("name", json!("test")),
        ("protocol", json!(1)),
        ("headers", json!(true)),
        ("verbose", json!(false)),
        ("tls_required", json!(false)),
    ] {
        assert_eq!(connect[field], value, "{field}");
    }
}

#[tokio::test]
async fn messages_arrive_in_pieces_and_with_malformed_headers() {
    let script = Script::start().await;
    let (front, mut peer) = connected(&script, script.settings()).await;
    let mut subscription = front.subscribe("a.>", Some("group")).expect("a subject");
    peer.until("SUB a.> group 1\r\n").await;

    for piece in [
        "MSG a.b 1 r 2\r",
        "\nhi\r\nPI",
        "NG\r\nHMSG a.c 1 4 4\r\n\0\r\r\0\r\n",
    ] {
        peer.send(piece).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    peer.until("PONG\r\n").await;

    let first = next(&mut subscription).await.expect("a message");
    let second = next(&mut subscription).await.expect("a message");
    assert_eq!(first.subject.as_str(), Ok("a.b"));
    assert_eq!(&first.payload[..], b"hi");
    assert_eq!(second.headers, Err(Unreadable));
    assert_eq!(front.state().borrow().connections, 1);
}

#[tokio::test]
async fn a_message_is_published_with_its_headers() {
    let script = Script::start().await;
    let (front, mut peer) = connected(&script, script.settings()).await;
    let mut headers = HeaderBlock::new();
    headers.append("X", "y").expect("valid");

    front.publish("r", &headers, b"!").await.expect("published");
    let invalid = front.publish("r s", &headers, b"").await;

    peer.until("HPUB r 18 19\r\nNATS/1.0\r\nX: y\r\n\r\n!\r\n")
        .await;
    assert_eq!(invalid, Err(PublishError::Subject));
}

#[tokio::test]
async fn a_refused_user_is_a_typed_error() {
    let script = Script::start().await;

    for (text, is_authentication) in [
        ("Authorization Violation", true),
        ("User Authentication Expired", true),
        ("maximum connections exceeded", false),
    ] {
        let (front, ()) = tokio::join!(Front::connect(script.settings()), async {
            let mut peer = script.greet(json!({})).await;
            peer.until("PING\r\n").await;
            peer.send(&format!("-ERR '{text}'\r\n")).await;
        });

        match front.err().expect("an error") {
            FrontError::Authentication { reason, .. } if is_authentication => {
                assert_eq!(reason, text);
            }
            FrontError::Refused { reason, .. } if !is_authentication => assert_eq!(reason, text),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn nothing_is_sent_to_a_server_without_required_tls() {
    let script = Script::start().await;
    let mut required = script.settings();
    required.tls.required = true;
    let mut scheme = script.settings();
    scheme.servers = vec![format!("tls://{}", script.address())];

    for settings in [required, scheme] {
        let (front, mut peer) = tokio::join!(
            Front::connect(settings),
            script.greet(json!({"nonce": "n"}))
        );

        let error = front.err().expect("an error");
        assert!(matches!(error, FrontError::NoTls { .. }), "{error:?}");
        peer.closed().await;
        assert_eq!(peer.read, "", "nothing before TLS");
    }
}

#[tokio::test]
async fn a_silent_server_is_an_error_in_time() {
    let script = Script::start().await;
    let mut settings = script.settings();
    settings.connect_timeout = Duration::from_millis(50);

    let (front, _peer) = tokio::join!(Front::connect(settings), script.listener.accept());

    assert!(matches!(front, Err(FrontError::TimedOut { .. })));
}

#[tokio::test]
async fn another_protocol_is_an_error() {
    let script = Script::start().await;
    let settings = script.settings();

    let (front, ()) = tokio::join!(Front::connect(settings), async {
        let (mut socket, _) = script.listener.accept().await.expect("a connection");
        socket
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .expect("sent");
    });

    assert!(matches!(front, Err(FrontError::Protocol { .. })));
}

#[tokio::test]
async fn it_comes_back_with_its_subscriptions_and_fresh_credentials() {
    let script = Script::start().await;
    let mut settings = script.settings();
    let logins = AtomicU64::new(0);
    settings.login = LoginSource::new(move |_| {
        let count = logins.fetch_add(1, Ordering::Relaxed);
        Ok(Login {
            token: Some(format!("t{count}")),
            ..Login::default()
        })
    });
    let (front, mut peer) = connected(&script, settings).await;
    let mut first = front.subscribe("a", Some("g")).expect("a subject");
    let _second = front.subscribe("b", None).expect("a subject");
    peer.until("SUB b 2\r\n").await;

    // An unknown verb ends the link.
    peer.send("NONSENSE\r\n").await;
    peer.closed().await;
    wait_for(&front, |state| !state.is_connected).await;
    assert_eq!(front.flush().await, Err(Disconnected));
    publish(&front, "r", b"kept").await.expect("published");

    let mut peer = script.greet(json!({})).await;
    let connect = peer.until("PING\r\n").await;
    peer.send("PONG\r\n").await;
    let sent = peer.until("PING\r\n").await;
    peer.send("PONG\r\nMSG a 1 2\r\nhi\r\n").await;
    let message = next(&mut first).await.expect("a message");

    assert!(connect.contains("\"auth_token\":\"t1\""), "{connect}");
    for line in ["PUB r 4\r\nkept\r\n", "SUB a g 1\r\n", "SUB b 2\r\n"] {
        assert!(sent.contains(line), "{line} in {sent}");
    }
    assert_eq!(&message.payload[..], b"hi");
    assert_eq!(front.state().borrow().connections, 2);
    assert!(front.state().borrow().lost.is_some());
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_left() {
    let script = Script::start().await;
    let mut settings = script.settings();
    settings.ping_interval = Duration::from_millis(30);
    let (front, mut peer) = connected(&script, settings).await;

    peer.until("PING\r\n").await;
    peer.until("PING\r\n").await;
    peer.closed().await;
    script.accept().await;

    assert_eq!(
        front.state().borrow().lost.as_deref(),
        Some("the server does not answer")
    );
}

#[tokio::test]
async fn stopping_loses_nothing() {
    let script = Script::start().await;
    let (front, mut peer) = connected(&script, script.settings()).await;
    let mut subscription = front.subscribe("a", Some("g")).expect("a subject");
    peer.until("SUB a g 1\r\n").await;

    subscription.stop();
    peer.until("UNSUB 1\r\nPING\r\n").await;
    peer.send("MSG a 1 1\r\n1\r\nPONG\r\nMSG a 1 1\r\n2\r\n")
        .await;

    for expected in ["1", "2"] {
        let message = next(&mut subscription).await.expect("a message");
        assert_eq!(message.payload, expected);
    }
    assert!(next(&mut subscription).await.is_none());
}

#[tokio::test]
async fn a_dropped_or_stopped_subscription_is_not_made_again() {
    let script = Script::start().await;
    let (front, mut peer) = connected(&script, script.settings()).await;
    let dropped = front.subscribe("a", None).expect("a subject");
    let mut stopped = front.subscribe("b", None).expect("a subject");

    drop(dropped);
    stopped.stop();
    peer.until("UNSUB 1\r\nUNSUB 2\r\nPING\r\n").await;
    drop(peer);
    let (_, subscribed) = script.accept().await;

    assert!(next(&mut stopped).await.is_none());
    assert!(subscribed.is_empty(), "{subscribed:?}");
}

#[tokio::test]
async fn a_denied_subscription_is_tried_on_another_link() {
    let script = Script::start().await;
    let (front, mut peer) = connected(&script, script.settings()).await;
    let mut shared = front.subscribe("a", Some("g")).expect("a subject");
    let _plain = front.subscribe("b", None).expect("a subject");
    peer.until("SUB b 2\r\n").await;

    peer.send("-ERR 'Permissions Violation for Subscription to \"a\" (sid \"1\")'\r\n")
        .await;
    wait_for(&front, |state| state.denied == ["a"]).await;
    assert!(front.is_connected());
    assert!(front.state().borrow().refused.is_some());

    let (mut second, subscribed) = script.accept().await;
    assert_eq!(subscribed, ["SUB a g 1"], "the shared ones first");

    // Only now does the first link end its subscriptions, and only then does the second make those
    // that are not shared.
    second.send("PONG\r\n").await;
    let left = peer.until("PING\r\n").await;
    assert!(left.contains("UNSUB 1\r\n"), "{left}");
    assert!(left.contains("UNSUB 2\r\n"), "{left}");

    peer.send("MSG a 1 1\r\n1\r\nPONG\r\nMSG a 1 1\r\n2\r\n")
        .await;
    second.until("SUB b 2\r\nPING\r\n").await;
    assert_eq!(front.state().borrow().denied, ["a"], "not accepted yet");
    second.send("PONG\r\n").await;
    wait_for(&front, |state| state.denied.is_empty()).await;

    for expected in ["1", "2"] {
        let message = next(&mut shared).await.expect("a message");
        assert_eq!(message.payload, expected);
    }
    peer.closed().await;
    second.send("MSG a 1 1\r\n3\r\n").await;
    let message = next(&mut shared).await.expect("a message");
    assert_eq!(message.payload, "3");
    assert_eq!(front.state().borrow().connections, 2);
}

#[tokio::test]
async fn a_server_that_shuts_down_is_replaced() {
    let first = Script::start().await;
    let second = Script::start().await;
    let (front, mut peer) = connected(&first, first.settings()).await;
    let mut subscription = front.subscribe("a", Some("g")).expect("a subject");
    peer.until("SUB a g 1\r\n").await;
    let urls = [first.address(), second.address()];
    let info = |ldm| json!({"connect_urls": urls, "max_payload": 100, "ldm": ldm});
    peer.send(&format!("INFO {}\r\n", info(false))).await;

    peer.send(&format!("INFO {}\r\n", info(true))).await;

    let (mut other, subscribed) = second.accept_with(info(false)).await;
    assert_eq!(subscribed, ["SUB a g 1"]);
    other.send("PONG\r\n").await;
    peer.until("UNSUB 1\r\nPING\r\n").await;
    peer.send("MSG a 1 3\r\nold\r\nPONG\r\n").await;
    other.send("MSG a 1 3\r\nnew\r\n").await;
    peer.closed().await;

    let mut payloads = Vec::new();
    for _ in 0..2 {
        payloads.push(next(&mut subscription).await.expect("a message").payload);
    }
    payloads.sort();
    assert_eq!(payloads, ["new", "old"]);

    let too_long = PublishError::TooLong {
        length: 101,
        max: 100,
    };
    assert_eq!(publish(&front, "a", &[0; 101]).await, Err(too_long));
}

#[tokio::test]
async fn a_server_that_shuts_down_is_kept_if_there_is_no_other() {
    let script = Script::start().await;
    let mut settings = script.settings();
    settings.ignore_discovered = true;
    let (front, mut peer) = connected(&script, settings).await;

    let info = json!({"connect_urls": ["127.0.0.1:1"], "max_payload": 100, "ldm": true});
    peer.send(&format!("INFO {info}\r\n")).await;
    let (flushed, ()) = tokio::join!(front.flush(), async {
        peer.until("PING\r\n").await;
        peer.send("PONG\r\n").await;
    });

    assert_eq!(flushed, Ok(()));
    assert!(front.info().lame_duck);
    assert!(front.is_connected());
}

#[tokio::test]
async fn closing_sends_everything_and_ends_the_subscriptions() {
    let script = Script::start().await;
    let (front, mut peer) = connected(&script, script.settings()).await;
    let mut subscription = front.subscribe("a", None).expect("a subject");
    let other = front.clone();
    publish(&front, "r", b"last").await.expect("published");

    let (closed, ()) = tokio::join!(front.close(), async {
        let sent = peer.until("PING\r\n").await;
        assert!(sent.contains("PUB r 4\r\nlast\r\n"), "{sent}");
        peer.send("PONG\r\n").await;
    });

    assert_eq!(closed, Ok(()));
    peer.closed().await;
    assert!(next(&mut subscription).await.is_none());
    assert_eq!(publish(&other, "r", b"").await, Err(PublishError::Closed));
    assert_eq!(other.flush().await, Err(Disconnected));
    assert!(!other.is_connected());
}

#[tokio::test]
async fn a_refused_reply_is_counted_and_ends_nothing() {
    let script = Script::start().await;
    let (front, mut peer) = connected(&script, script.settings()).await;

    peer.send("-ERR 'Permissions Violation for Publish to \"x\"'\r\n")
        .await;
    let (flushed, ()) = tokio::join!(front.flush(), async {
        peer.until("PING\r\n").await;
        peer.send("PONG\r\n").await;
    });

    assert_eq!(flushed, Ok(()));
    assert_eq!(front.counters().refused_replies(), 1);
    let state = front.state();
    assert!(state.borrow().denied.is_empty());
    assert!(state.borrow().refused.is_none());
}
