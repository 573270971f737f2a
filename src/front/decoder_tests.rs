use super::super::encoder;
use super::super::headers::Unreadable;
use super::super::protocol::ServerInfo;
use super::*;
use proptest::prelude::*;

/// The server's `max_payload` in these tests, in bytes.
const MAX_PAYLOAD: usize = 1_024;

/// Decodes bytes that arrive in these pieces.
fn decode_all<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<ServerOp>, ProtocolError> {
    let mut decoder = Decoder::new(MAX_PAYLOAD);
    let mut ops = Vec::new();

    for piece in pieces {
        decoder.read_buffer().extend_from_slice(piece);
        while let Some(op) = decoder.decode()? {
            ops.push(op);
        }
    }

    Ok(ops)
}

fn decode_one(bytes: &[u8]) -> ServerOp {
    let mut ops = decode_all([bytes]).expect("the protocol's");

    assert_eq!(ops.len(), 1, "{}", bytes.escape_ascii());
    ops.remove(0)
}

fn message(bytes: &[u8]) -> Message {
    match decode_one(bytes) {
        ServerOp::Message(message) => *message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_verb_is_read() {
    let info = ServerInfo {
        version: "2.15.1".into(),
        max_payload: 5,
        connect_urls: vec!["a:1".into()],
        lame_duck: true,
        ..ServerInfo::default()
    };
    let info_line = b"INFO {\"version\":\"2.15.1\",\"max_payload\":5,\"ldm\":true,\
        \"connect_urls\":[\"a:1\"],\"new\":[]} \r\n";

    for (line, expected) in [
        (&b"PING\r\n"[..], ServerOp::Ping),
        (b"PONG\r\n", ServerOp::Pong),
        (b"+OK\r\n", ServerOp::Ok),
        (
            b"-ERR 'Authorization Violation'\r\n",
            ServerOp::Error("Authorization Violation".into()),
        ),
        (info_line, ServerOp::Info(Box::new(info))),
    ] {
        assert_eq!(decode_one(line), expected);
    }
}

#[test]
fn a_message_is_read_with_and_without_reply_and_headers() {
    let mut headers = HeaderBlock::new();
    headers.append("A", "b").expect("valid");

    let plain = message(b"MSG a.b 7 3\r\nx\r\n\r\n");
    let with_reply = message(b"MSG a 7 r.s 0\r\n\r\n");
    let with_both = message(b"HMSG a 7 r 19 20\r\nNATS/1.0\r\nA:  b\r\n\r\nx\r\n");
    let with_headers = message(b"HMSG a 7 12 12\r\nNATS/1.0\r\n\r\n\r\n");

    assert_eq!(plain.sid, 7);
    assert_eq!(plain.subject.as_str(), Ok("a.b"));
    assert_eq!(plain.reply, None);
    assert_eq!(&plain.payload[..], b"x\r\n");
    assert_eq!(plain.headers, Ok(HeaderBlock::new()));
    assert_eq!(plain.length, 6);

    let reply = with_reply.reply.expect("a reply subject");
    assert_eq!(reply.as_str(), Ok("r.s"));

    assert_eq!(with_both.headers, Ok(headers));
    assert_eq!(&with_both.payload[..], b"x");

    assert_eq!(with_headers.reply, None);
    assert!(with_headers.payload.is_empty());
}

#[test]
fn what_another_client_wrote_ends_nothing() {
    let headers = message(b"HMSG a 7 r 4 6\r\n\xff\0\r\nhi\r\n");
    let subject = message(b"MSG a.\xff\x0b\xc2\xa0 7 r.\xfe 2\r\nhi\r\n");

    assert_eq!(headers.headers, Err(Unreadable));
    assert_eq!(&headers.payload[..], b"hi");
    assert_eq!(headers.reply.expect("a reply subject").as_str(), Ok("r"));

    assert_eq!(subject.subject.as_str(), Err(Unreadable));
    assert_eq!(subject.subject.to_string_lossy(), "a.\u{fffd}\u{b}\u{a0}");
    assert_eq!(subject.reply.expect("one").as_str(), Err(Unreadable));
}

#[test]
fn a_message_beyond_the_bound_is_skipped() {
    let length = MAX_PAYLOAD + ADDED_BYTES_MAX + 1;
    let mut bytes = format!("MSG a 7 {length}\r\n").into_bytes();
    bytes.resize(bytes.len() + length, b'x');
    bytes.extend_from_slice(b"\r\nPING\r\n");

    let mut decoder = Decoder::new(MAX_PAYLOAD);
    let mut ops = Vec::new();
    for piece in bytes.chunks(1_000) {
        decoder.read_buffer().extend_from_slice(piece);
        while let Some(op) = decoder.decode().expect("the protocol's") {
            ops.push(op);
        }
        assert!(decoder.buffer.len() <= 1_000, "nothing of it is kept");
    }

    assert_eq!(ops, [ServerOp::TooLong { length }, ServerOp::Ping]);
    assert!(decoder.is_empty());
}

#[test]
fn what_a_server_never_sends_is_an_error() {
    for bytes in [
        &b"HELLO\r\n"[..],
        b"\r\n",
        b"ping\r\n",
        b"MSG\r\n",
        b"MSG a 7\r\n",
        b"MSG a 7 r x 2\r\n",
        b"MSG a 7 r 2 x\r\n",
        b"MSG a x 2\r\n",
        b"MSG a 7 -2\r\n",
        b"MSG a 7 +2\r\n",
        b"MSG a 7 9999999999\r\n",
        b"MSG a 7 2\r\nabc\r\n",
        b"HMSG a 7 2\r\n",
        b"HMSG a 7 r 5 2\r\n",
        b"HMSG a 7 r 5 6 7\r\n",
        b"INFO nothing\r\n",
        &[b'x'; LINE_BYTES_MAX + 2],
    ] {
        let decoded = decode_all([bytes]);
        let case = bytes[..bytes.len().min(64)].escape_ascii();
        assert!(decoded.is_err(), "{case}: {decoded:?}");
    }
}

#[test]
fn an_info_may_be_longer_than_other_lines() {
    let version = "x".repeat(LINE_BYTES_MAX * 2);
    let line = format!("INFO {{\"version\":\"{version}\"}}\r\n");

    let op = decode_one(line.as_bytes());

    assert!(matches!(op, ServerOp::Info(info) if info.version == version));
}

/// The bytes of one thing that a server may send.
fn any_op() -> impl Strategy<Value = Vec<u8>> {
    let subject = "[a-z.\u{e9}\u{b}]{1,20}";
    let body = prop::collection::vec(any::<u8>(), 0..60);
    let headers = prop::collection::vec(any::<u8>(), 1..60);

    prop_oneof![
        Just(b"PING\r\n".to_vec()),
        Just(b"PONG\r\n".to_vec()),
        Just(b"+OK\r\n".to_vec()),
        Just(b"-ERR 'Slow Consumer'\r\n".to_vec()),
        Just(b"INFO {\"max_payload\":1048576}\r\n".to_vec()),
        (subject, 1..9_u64, body.clone()).prop_map(|(subject, sid, body)| {
            let line = format!("MSG {subject} {sid} {}\r\n", body.len());
            [line.as_bytes(), &body, b"\r\n"].concat()
        }),
        (subject, subject, headers, body).prop_map(|(subject, reply, headers, body)| {
            let head = headers.len();
            let all = head + body.len();
            let line = format!("HMSG {subject} 1 {reply} {head} {all}\r\n");
            [line.as_bytes(), &headers, &body, b"\r\n"].concat()
        }),
    ]
}

/// Cuts bytes at these places, each counted from the start again once it is past the end.
fn cut<'a>(bytes: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places
        .iter()
        .map(|place| place % (bytes.len() + 1))
        .collect();
    places.push(bytes.len());
    places.sort_unstable();

    let mut before = 0;
    places
        .into_iter()
        .map(|place| &bytes[std::mem::replace(&mut before, place)..place])
        .collect()
}

/// Arbitrary bytes, most of which begin like the protocol's.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        any_op(),
        prop::collection::vec(any::<u8>(), 0..40),
        "(H?MSG|INFO|PING|-ERR)( [a-z0-9]{0,10}){0,6}\r\n".prop_map(String::into_bytes),
    ];

    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn assert_bounded(bytes: &[u8], places: &[usize]) {
    let mut decoder = Decoder::new(MAX_PAYLOAD);

    for piece in cut(bytes, places) {
        decoder.read_buffer().extend_from_slice(piece);
        while let Ok(Some(_)) = decoder.decode() {}
        assert!(decoder.buffer.capacity() <= 2 * INFO_BYTES_MAX);
    }
}

proptest! {
    #[test]
    fn any_cuts_give_the_same_messages(
        ops in prop::collection::vec(any_op(), 0..12),
        places in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let bytes = ops.concat();

        let at_once = decode_all([&bytes[..]]).expect("the protocol's");
        let in_pieces = decode_all(cut(&bytes, &places)).expect("the protocol's");
        let byte_by_byte = decode_all(bytes.chunks(1)).expect("the protocol's");

        prop_assert_eq!(at_once.len(), ops.len());
        prop_assert_eq!(&at_once, &in_pieces);
        prop_assert_eq!(&at_once, &byte_by_byte);
    }

    #[test]
    fn arbitrary_bytes_neither_panic_nor_take_memory(
        bytes in any_bytes(),
        places in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        assert_bounded(&bytes, &places);
    }

    #[test]
    fn what_is_published_arrives_as_it_was(
        subject in "[a-z.]{1,20}",
        value in "[!-~]{0,30}",
        payload in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut headers = HeaderBlock::new();
        headers.append("A-Header", &value).expect("valid");
        let mut sent = BytesMut::new();
        encoder::publish(&mut sent, &subject, &headers, &payload);
        encoder::publish(&mut sent, &subject, &HeaderBlock::new(), &payload);

        // A server adds the id of the subscription, and passes the rest on.
        let mut sent = sent.freeze();
        let mut bytes = Vec::new();
        for (from, to) in [("HPUB ", "HMSG "), ("PUB ", "MSG ")] {
            let line = format!("{from}{subject} ");
            prop_assert!(sent.starts_with(line.as_bytes()));
            sent.advance(line.len());
            let end = line_end(&sent);
            let length: usize = std::str::from_utf8(&sent[..end]).expect("text")
                .rsplit(' ').next().and_then(|length| length.parse().ok()).expect("a length");
            bytes.extend_from_slice(format!("{to}{subject} 3 ").as_bytes());
            bytes.extend_from_slice(&sent.split_to(end + 2 + length + 2));
        }

        let ops = decode_all([&bytes[..]]).expect("the protocol's");

        let [ServerOp::Message(first), ServerOp::Message(second)] = &ops[..] else {
            panic!("{ops:?}");
        };
        prop_assert_eq!(first.headers.as_ref(), Ok(&headers));
        prop_assert_eq!(second.headers.as_ref(), Ok(&HeaderBlock::new()));
        for message in [first, second] {
            prop_assert_eq!(&message.payload[..], &payload[..]);
            prop_assert_eq!(message.subject.as_str(), Ok(&subject[..]));
        }
    }
}

fn line_end(bytes: &[u8]) -> usize {
    bytes
        .windows(2)
        .position(|pair| pair == b"\r\n")
        .expect("an end of line")
}

/// The first bytes say where the others are cut.
#[test]
fn fuzz_the_decoder() {
    bolero::check!().for_each(|input: &[u8]| {
        let (cuts, bytes) = input.split_at(input.len().min(4));
        let places: Vec<_> = cuts.iter().map(|cut| usize::from(*cut)).collect();

        assert_bounded(bytes, &places);
    });
}
