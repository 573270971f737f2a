//! The workers' connection for callers, on a real server: its promises to a worker, and its
//! resistance to malformed bytes from other clients.

use crate::harness::{ByHand, World};
use futures::StreamExt as _;
use gofavorites::front::{
    Front, FrontSettings, FrontState, HeaderBlock, Login, LoginSource, Message, Subscription,
    Unreadable,
};
use std::time::Duration;
use tokio::time::timeout;

/// The time limit of each step.
const TEST_TIME_MAX: Duration = Duration::from_secs(20);

/// One account without permissions, so that the bytes of any client arrive as they were sent.
const OPEN_ACCOUNT: &str = "
accounts { SERVICE { users: [
  { user: worker, password: $WORKER_PASSWORD }
  { user: gateway, password: $GATEWAY_PASSWORD }
] } }
";

/// The same account, in which the worker may subscribe and publish little.
const NARROW_ACCOUNT: &str = "
accounts { SERVICE { users: [
  { user: worker, password: $WORKER_PASSWORD, permissions: {
    subscribe: [\"a\", \"b g\"], publish: [\"_INBOX.>\"] } }
  { user: gateway, password: $GATEWAY_PASSWORD }
] } }
";

fn settings(world: &World) -> FrontSettings {
    let password = world.secrets.nats("worker").to_owned();

    FrontSettings {
        servers: vec![world.nats.url()],
        name: "front".into(),
        login: LoginSource::new(move |_| {
            Ok(Login {
                user: Some("worker".into()),
                password: Some(password.clone()),
                ..Login::default()
            })
        }),
        ..FrontSettings::default()
    }
}

async fn connect(world: &World) -> Front {
    Front::connect(settings(world)).await.expect("a connection")
}

async fn subscribe(front: &Front, subject: &str, group: Option<&str>) -> Subscription {
    let subscription = front.subscribe(subject, group).expect("a subject");

    flush(front).await;
    subscription
}

async fn flush(front: &Front) {
    timeout(TEST_TIME_MAX, front.flush())
        .await
        .expect("in time")
        .expect("a connection");
}

async fn next(subscription: &mut Subscription) -> Message {
    timeout(TEST_TIME_MAX, subscription.next())
        .await
        .expect("in time")
        .expect("a message")
}

async fn wait_for(front: &Front, is_reached: impl Fn(&FrontState) -> bool) {
    let mut state = front.state();

    timeout(TEST_TIME_MAX, state.wait_for(|state| is_reached(state)))
        .await
        .expect("in time")
        .expect("a connection");
}

/// The only header of a message.
fn header(headers: &HeaderBlock) -> Option<(&str, &str)> {
    headers.iter().next()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_requests_and_replies_arrive_in_order() {
    let world = World::without_auth(OPEN_ACCOUNT).await;
    let front = connect(&world).await;
    let mut requests = subscribe(&front, "work.>", Some("workers")).await;
    let client = world.connect("gateway").await;
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.expect("subscribed");

    let answering = tokio::spawn(async move {
        for number in 0..10_000 {
            let request = next(&mut requests).await;
            let number = number.to_string();
            let headers = request.headers.expect("readable");
            assert_eq!(header(&headers), Some(("Number", number.as_str())));
            assert_eq!(request.payload, number);

            let reply = request.reply.expect("a reply subject");
            let reply = reply.as_str().expect("text");
            front
                .publish(reply, &headers, &request.payload)
                .await
                .expect("published");
        }
        front
    });

    for number in 0..10_000 {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Number", number.to_string());
        let subject = format!("work.{}", number % 7);
        client
            .publish_with_reply_and_headers(
                subject,
                inbox.clone(),
                headers,
                number.to_string().into(),
            )
            .await
            .expect("sent");
    }

    for number in 0..10_000 {
        let reply = timeout(TEST_TIME_MAX, replies.next())
            .await
            .expect("in time");
        let reply = reply.expect("a reply");
        assert_eq!(reply.payload, number.to_string());
        let headers = reply.headers.expect("headers");
        assert_eq!(
            headers.get("Number").map(|value| value.as_str()),
            Some(number.to_string().as_str())
        );
    }

    let front = answering.await.expect("answered");
    assert_eq!(front.counters().dropped(), 0);
    front.close().await.expect("closed in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_end_nothing() {
    let world = World::without_auth(OPEN_ACCOUNT).await;
    let front = connect(&world).await;
    let mut messages = subscribe(&front, "work.>", Some("workers")).await;
    let mut stranger = ByHand::connect(&world, "gateway").await;

    for headers in [
        &b"NATS/1.0\r\nX: a\rb\r\n\r\n"[..],
        b"\0\r\r\xff",
        b"\r\n\r\n",
    ] {
        stranger.publish(b"work.a", b"r", headers, b"body").await;

        let message = next(&mut messages).await;
        assert_eq!(message.headers, Err(Unreadable));
        assert_eq!(&message.payload[..], b"body");
    }

    stranger
        .publish(
            b"work.\xff\x0b",
            b"r.\xc2\xa0\xfe",
            b"NATS/1.0\r\nA: b\r\n\r\n",
            b"",
        )
        .await;

    let message = next(&mut messages).await;
    assert_eq!(message.subject.as_str(), Err(Unreadable));
    assert_eq!(message.subject.to_string_lossy(), "work.\u{fffd}\u{b}");
    assert_eq!(message.reply.expect("one").as_str(), Err(Unreadable));
    let headers = message.headers.expect("readable");
    assert_eq!(header(&headers), Some(("A", "b")));
    assert_eq!(front.state().borrow().connections, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_under_load_loses_nothing() {
    let world = World::without_auth(OPEN_ACCOUNT).await;

    for _ in 0..10 {
        // One member of the queue group stops: the other receives what the first did not.
        let first = connect(&world).await;
        let second = connect(&world).await;
        let mut stopping = subscribe(&first, "work", Some("workers")).await;
        let mut staying = subscribe(&second, "work", Some("workers")).await;
        let client = world.connect("gateway").await;

        let publishing = tokio::spawn(async move {
            for number in 0..20_000 {
                client
                    .publish("work", number.to_string().into())
                    .await
                    .expect("sent");
            }
            client.flush().await.expect("flushed");
        });

        let stopped = tokio::spawn(async move {
            let mut count = 0;
            while count < 2_000 {
                next(&mut stopping).await;
                count += 1;
            }

            stopping.stop();
            while timeout(TEST_TIME_MAX, stopping.next())
                .await
                .expect("in time")
                .is_some()
            {
                count += 1;
            }
            count
        });
        publishing.await.expect("published");
        let before = stopped.await.expect("stopped");
        let mut rest = 0;
        while let Ok(Some(_)) = timeout(Duration::from_millis(300), staying.next()).await {
            rest += 1;
        }

        assert_eq!(before + rest, 20_000, "{before} and {rest}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_is_connected_to_again() {
    let mut world = World::without_auth(OPEN_ACCOUNT).await;
    let front = connect(&world).await;
    let mut messages = subscribe(&front, "work", Some("workers")).await;

    for connections in 2..4 {
        world.nats.stop().expect("stopped");
        wait_for(&front, |state| !state.is_connected).await;
        world.nats.restart().await.expect("a server");
        wait_for(&front, |state| state.is_connected).await;
        flush(&front).await;

        let client = world.connect("gateway").await;
        client.publish("work", "again".into()).await.expect("sent");
        assert_eq!(next(&mut messages).await.payload, "again");
        assert_eq!(front.state().borrow().connections, connections);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_permission_shows_and_heals_once_it_is_back() {
    let mut world = World::without_auth(OPEN_ACCOUNT).await;
    let front = connect(&world).await;
    let mut wide = subscribe(&front, "c", Some("g")).await;
    let mut kept = subscribe(&front, "a", None).await;
    assert!(front.state().borrow().denied.is_empty());

    world.reload_accounts(NARROW_ACCOUNT).await;
    wait_for(&front, |state| state.denied == ["c"]).await;

    front
        .publish("elsewhere", &HeaderBlock::new(), b"")
        .await
        .expect("queued");
    flush(&front).await;
    assert_eq!(front.counters().refused_replies(), 1);

    world.reload_accounts(OPEN_ACCOUNT).await;
    wait_for(&front, |state| state.denied.is_empty()).await;

    let client = world.connect("gateway").await;
    for (subject, messages) in [("c", &mut wide), ("a", &mut kept)] {
        client.publish(subject, "again".into()).await.expect("sent");

        assert_eq!(next(messages).await.payload, "again");
        let more = timeout(Duration::from_millis(200), messages.next()).await;
        assert!(more.is_err(), "once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_subscription_shows_after_a_flush() {
    let world = World::without_auth(NARROW_ACCOUNT).await;
    let front = connect(&world).await;

    let _denied = subscribe(&front, "b", None).await;
    assert_eq!(front.state().borrow().denied, ["b"]);

    let _allowed = subscribe(&front, "b", Some("g")).await;
    assert_eq!(front.state().borrow().denied, ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_read_as_the_published_client_reads_them() {
    let world = World::without_auth(OPEN_ACCOUNT).await;
    let front = connect(&world).await;
    let mut ours = subscribe(&front, "work.>", None).await;
    let client = world.connect("worker").await;
    let mut theirs = client.subscribe("work.>").await.expect("subscribed");
    client.flush().await.expect("flushed");
    let mut stranger = ByHand::connect(&world, "gateway").await;

    let bodies = [&b""[..], b"x", b"a\r\nMSG work 1 2\r\n", &[0xff; 70_000]];
    let blocks = [
        &b"NATS/1.0\r\n\r\n"[..],
        b"NATS/1.0\r\nA: b\r\n\r\n",
        b"NATS/1.0\r\nA: b\r\nA:  c \r\na: d\r\n\r\n",
        b"NATS/1.0\r\nA: b\r\n c\r\n\td\r\nE:\r\n f\r\n\r\n",
        b"NATS/1.0\r\nA: b\r\n\r\nB: c:d\r\n\r\n",
        b"NATS/1.0\nA:b\n\n",
        "NATS/1.0\r\nA: \u{a0}é\0 \r\n\r\n".as_bytes(),
        b"NATS/1.0 503\r\n\r\n",
        b"NATS/1.0 404 No Messages\r\nA: b\r\n\r\n",
    ];
    let mut sent = 0;
    for body in bodies {
        for block in blocks {
            stranger
                .publish(b"work.a.b", b"some.inbox", block, body)
                .await;
            sent += 1;
        }

        let line = format!("PUB work.x\t \tsome.inbox {}\r\n", body.len());
        stranger
            .send(&[line.as_bytes(), body, b"\r\n"].concat())
            .await;
        let line = format!("PUB work.y {}\r\n", body.len());
        stranger
            .send(&[line.as_bytes(), body, b"\r\n"].concat())
            .await;
        sent += 2;
    }

    for number in 0..sent {
        let one = next(&mut ours).await;
        let other = timeout(TEST_TIME_MAX, theirs.next())
            .await
            .expect("in time");
        assert_same(number, one, other.expect("a message"));
    }
}

fn assert_same(number: usize, ours: Message, theirs: async_nats::Message) {
    let case = format!("message {number}");
    assert_eq!(ours.subject.as_str(), Ok(theirs.subject.as_str()), "{case}");
    let reply = ours
        .reply
        .as_ref()
        .map(|reply| reply.as_str().expect("text"));
    assert_eq!(reply, theirs.reply.as_deref(), "{case}");
    assert_eq!(ours.payload, theirs.payload, "{case}");
    assert_eq!(ours.length, theirs.length, "{case}");

    let headers = ours.headers.expect("readable");
    assert_eq!(
        headers.status(),
        theirs.status.map(|status| status.as_u16()),
        "{case}"
    );

    let map = theirs.headers.unwrap_or_default();
    let mut theirs: Vec<(String, String)> = Vec::new();
    for (name, values) in map.iter() {
        let name = AsRef::<str>::as_ref(name);
        theirs.extend(
            values
                .iter()
                .map(|value| (name.to_owned(), value.as_str().to_owned())),
        );
    }

    let mut ours: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();

    // The client does not keep the order of names; both keep the order of the values of one name.
    ours.sort_by(|(one, _), (other, _)| one.cmp(other));
    theirs.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert_eq!(ours, theirs, "{case}");
}
