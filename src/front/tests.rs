//! The connection against a server that follows a script, for what a real one does rarely.

use super::*;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// How long anything may take.
const TEST_TIME_MAX: Duration = Duration::from_secs(10);

/// A server that does what its test says.
struct Script {
    listener: TcpListener,
}

/// A connection to it.
struct Peer {
    socket: TcpStream,
    read: String,
}

impl Script {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self { listener }
    }

    fn place(&self) -> String {
        self.listener.local_addr().expect("an address").to_string()
    }

    fn settings(&self) -> FrontSettings {
        FrontSettings {
            servers: vec![self.place()],
            name: "test".into(),
            ..FrontSettings::default()
        }
    }

    /// The next connection, with an INFO of these fields on top of the usual ones.
    async fn greet(&self, more: Value) -> Peer {
        let (socket, _) = timeout(TEST_TIME_MAX, self.listener.accept())
            .await
            .expect("in time")
            .expect("a connection");
        let mut info = json!({"server_id": "S", "version": "2.15.1", "max_payload": 1_048_576, "headers": true});
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

    /// The next connection, accepted, up to the PING after its subscriptions; and these.
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

    /// What comes up to and with `end`.
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

    /// Ends when the connection is closed.
    async fn closed(&mut self) {
        let mut rest = Vec::new();
        let read = timeout(TEST_TIME_MAX, self.socket.read_to_end(&mut rest)).await;
        let _ = read.expect("in time");
    }
}

/// A connection, the server's side of it, and its first PING answered.
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

async fn wait_for(front: &Front, what: impl Fn(&FrontState) -> bool) {
    let mut state = front.state();
    let waited = timeout(TEST_TIME_MAX, state.wait_for(|state| what(state))).await;
    waited.expect("in time").expect("a connection");
}

#[tokio::test]
async fn it_says_who_it_is_and_takes_messages() {
    let script = Script::start().await;
    let mut settings = script.settings();
    settings.login = LoginSource::new(|_| {
        Ok(Login {
            user: Some("u".into()),
            password: Some("p".into()),
            ..Login::default()
        })
    });
    let (front, connect) = tokio::join!(Front::connect(settings), async {
        let mut peer = script.greet(json!({})).await;
        let connect = peer.until("\r\nPING\r\n").await;
        peer.send("+OK\r\nPONG\r\n").await;
        (peer, connect)
    });
    let (front, (mut peer, connect)) = (front.expect("a connection"), connect);

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
    assert!(front.is_connected());
    assert_eq!(front.info().max_payload, 1_048_576);

    let mut subscription = front.subscribe("a.>", Some("group")).expect("a subject");
    peer.until("SUB a.> group 1\r\n").await;
    // In pieces, and with what no client would send between two messages.
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
    assert_eq!(first.subject.as_str(), Ok("a.b"));
    assert_eq!(&first.payload[..], b"hi");
    let second = next(&mut subscription).await.expect("a message");
    assert_eq!(second.headers, Err(Unreadable));
    assert_eq!(front.counters().unreadable(), 1);

    let mut headers = HeaderBlock::new();
    headers.append("X", "y").expect("valid");
    front.publish("r", &headers, b"!").await.expect("published");
    peer.until("HPUB r 18 19\r\nNATS/1.0\r\nX: y\r\n\r\n!\r\n")
        .await;
    assert!(front.publish("r s", &headers, b"").await.is_err());
    assert_eq!(front.state().borrow().connections, 1);
}

#[tokio::test]
async fn a_user_that_the_server_does_not_know_is_a_typed_error() {
    let script = Script::start().await;
    for (said, is_authentication) in [
        ("Authorization Violation", true),
        ("User Authentication Expired", true),
        ("maximum connections exceeded", false),
    ] {
        let (front, ()) = tokio::join!(Front::connect(script.settings()), async {
            let mut peer = script.greet(json!({})).await;
            peer.until("PING\r\n").await;
            peer.send(&format!("-ERR '{said}'\r\n")).await;
        });

        let error = front.err().expect("an error");
        match error {
            FrontError::Authentication { reason, .. } if is_authentication => {
                assert_eq!(reason, said);
            }
            FrontError::Refused { reason, .. } if !is_authentication => assert_eq!(reason, said),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn tls_or_nothing_is_no_connection_without_tls() {
    let script = Script::start().await;
    let mut required = script.settings();
    required.tls.required = true;
    let mut scheme = script.settings();
    scheme.servers = vec![format!("tls://{}", script.place())];
    for settings in [required, scheme] {
        let (front, mut peer) = tokio::join!(
            Front::connect(settings),
            script.greet(json!({"nonce": "n"}))
        );

        let error = front.err().expect("an error");
        assert!(matches!(error, FrontError::NoTls { .. }), "{error:?}");
        peer.closed().await;
        assert_eq!(peer.read, "", "not a word before TLS");
    }
}

#[tokio::test]
async fn what_is_no_nats_server_is_an_error_and_takes_no_time() {
    let script = Script::start().await;
    let mut settings = script.settings();
    settings.connect_timeout = Duration::from_millis(50);
    let (front, peer) = tokio::join!(Front::connect(settings.clone()), script.listener.accept());
    assert!(matches!(front, Err(FrontError::TimedOut { .. })));
    drop(peer);

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
    let asked = std::sync::atomic::AtomicU64::new(0);
    settings.login = LoginSource::new(move |_| {
        let count = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(Login {
            token: Some(format!("t{count}")),
            ..Login::default()
        })
    });
    let (front, mut peer) = connected(&script, settings).await;
    let mut first = front.subscribe("a", Some("g")).expect("a subject");
    let _second = front.subscribe("b", None).expect("a subject");
    peer.until("SUB b 2\r\n").await;

    // A verb that is none ends the connection.
    peer.send("NONSENSE\r\n").await;
    peer.closed().await;
    wait_for(&front, |state| !state.is_connected).await;
    assert!(front.flush().await.is_err());
    front
        .publish("r", &HeaderBlock::new(), b"kept")
        .await
        .expect("published");

    let mut peer = script.greet(json!({})).await;
    assert!(
        peer.until("PING\r\n")
            .await
            .contains("\"auth_token\":\"t1\"")
    );
    peer.send("PONG\r\n").await;
    let sent = peer.until("PING\r\n").await;
    assert!(sent.contains("PUB r 4\r\nkept\r\n"), "{sent}");
    assert!(
        sent.contains("SUB a g 1\r\n") && sent.contains("SUB b 2\r\n"),
        "{sent}"
    );
    peer.send("PONG\r\nMSG a 1 2\r\nhi\r\n").await;
    assert_eq!(
        &next(&mut first).await.expect("a message").payload[..],
        b"hi"
    );
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

    assert_eq!(
        &next(&mut subscription).await.expect("before").payload[..],
        b"1"
    );
    assert_eq!(
        &next(&mut subscription).await.expect("after").payload[..],
        b"2"
    );
    assert!(next(&mut subscription).await.is_none());
}

#[tokio::test]
async fn a_subscription_that_is_dropped_or_lost_while_it_stops_ends() {
    let script = Script::start().await;
    let (front, mut peer) = connected(&script, script.settings()).await;
    let dropped = front.subscribe("a", None).expect("a subject");
    let mut stopped = front.subscribe("b", None).expect("a subject");
    drop(dropped);
    stopped.stop();
    peer.until("UNSUB 1\r\nUNSUB 2\r\nPING\r\n").await;

    drop(peer);

    assert!(next(&mut stopped).await.is_none());
    let (_, subscribed) = script.accept().await;
    assert!(subscribed.is_empty(), "{subscribed:?}");
}

#[tokio::test]
async fn a_denied_subscription_is_known_and_tried_again_on_another_connection() {
    let script = Script::start().await;
    let (front, mut peer) = connected(&script, script.settings()).await;
    let mut shared = front.subscribe("a", Some("g")).expect("a subject");
    let _plain = front.subscribe("b", None).expect("a subject");
    peer.until("SUB b 2\r\n").await;

    peer.send("-ERR 'Permissions Violation for Subscription to \"a\" (sid \"1\")'\r\n")
        .await;
    wait_for(&front, |state| state.denied == ["a"]).await;
    assert!(front.is_connected() && front.state().borrow().refused.is_some());

    let (mut second, subscribed) = script.accept().await;
    assert_eq!(subscribed, ["SUB a g 1"], "the shared ones first");
    second.send("PONG\r\n").await;
    // Only now does the first connection end its own, and only then does the second ask for the
    // others.
    let left = peer.until("PING\r\n").await;
    assert!(
        left.contains("UNSUB 1\r\n") && left.contains("UNSUB 2\r\n"),
        "{left}"
    );
    peer.send("MSG a 1 1\r\n1\r\nPONG\r\nMSG a 1 1\r\n2\r\n")
        .await;
    second.until("SUB b 2\r\nPING\r\n").await;
    assert_eq!(
        front.state().borrow().denied,
        ["a"],
        "not known to be accepted yet"
    );
    second.send("PONG\r\n").await;
    wait_for(&front, |state| state.denied.is_empty()).await;

    for expected in ["1", "2"] {
        let message = next(&mut shared).await.expect("a message");
        assert_eq!(&message.payload[..], expected.as_bytes());
    }
    peer.closed().await;
    second.send("MSG a 1 1\r\n3\r\n").await;
    assert_eq!(
        &next(&mut shared).await.expect("a message").payload[..],
        b"3"
    );
    assert_eq!(front.state().borrow().connections, 2);
}

#[tokio::test]
async fn a_server_that_is_about_to_end_is_left_for_another() {
    let (first, second) = (Script::start().await, Script::start().await);
    let (front, mut peer) = connected(&first, first.settings()).await;
    let mut subscription = front.subscribe("a", Some("g")).expect("a subject");
    peer.until("SUB a g 1\r\n").await;
    let urls = [first.place(), second.place()];
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
    assert!(
        front
            .publish("a", &HeaderBlock::new(), &[0; 101])
            .await
            .is_err(),
        "the bound is followed"
    );
}

#[tokio::test]
async fn a_server_that_is_about_to_end_is_kept_while_there_is_no_other() {
    let script = Script::start().await;
    let mut settings = script.settings();
    settings.ignore_discovered = true;
    let (front, mut peer) = connected(&script, settings).await;

    let info = json!({"connect_urls": ["127.0.0.1:1"], "max_payload": 100, "ldm": true});
    peer.send(&format!("INFO {info}\r\n")).await;

    let flushed = tokio::join!(front.flush(), async {
        peer.until("PING\r\n").await;
        peer.send("PONG\r\n").await;
    });
    assert_eq!(flushed.0, Ok(()));
    assert!(front.info().lame_duck && front.is_connected());
}

#[tokio::test]
async fn closing_sends_everything_and_ends_the_subscriptions() {
    let script = Script::start().await;
    let (front, mut peer) = connected(&script, script.settings()).await;
    let mut subscription = front.subscribe("a", None).expect("a subject");
    let other = front.clone();
    front
        .publish("r", &HeaderBlock::new(), b"last")
        .await
        .expect("published");

    let (closed, ()) = tokio::join!(front.close(), async {
        let sent = peer.until("PING\r\n").await;
        assert!(sent.contains("PUB r 4\r\nlast\r\n"), "{sent}");
        peer.send("PONG\r\n").await;
    });

    assert_eq!(closed, Ok(()));
    peer.closed().await;
    assert!(next(&mut subscription).await.is_none());
    assert_eq!(
        other.publish("r", &HeaderBlock::new(), b"").await,
        Err(PublishError::Closed)
    );
    assert!(other.flush().await.is_err() && !other.is_connected());
}

#[tokio::test]
async fn what_may_not_be_published_is_counted() {
    let script = Script::start().await;
    let (front, mut peer) = connected(&script, script.settings()).await;

    peer.send("-ERR 'Permissions Violation for Publish to \"x\"'\r\n")
        .await;
    wait_for(&front, |state| state.refused.is_some()).await;

    let flushed = tokio::join!(front.rtt(), async {
        peer.until("PING\r\n").await;
        peer.send("PONG\r\n").await;
    });
    assert!(flushed.0.is_ok());
    assert_eq!(front.counters().publish_denied(), 1);
    assert!(front.state().borrow().denied.is_empty());
}
