use super::*;
use proptest::prelude::*;

fn read(block: &str) -> Vec<(String, String)> {
    let headers = HeaderBlock::parse(block.as_bytes()).expect("a readable block");

    headers
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn blocks_are_read_as_the_published_client_reads_them() {
    for (block, expected) in [
        ("NATS/1.0\r\n\r\n", &[][..]),
        ("NATS/1.0", &[]),
        ("NATS/1.0\n\n\nA:b", &[("A", "b")]),
        (
            "NATS/1.0\r\nA: b\r\nA:  c \r\n\r\n",
            &[("A", "b"), ("A", "c")],
        ),
        (
            "NATS/1.0\r\nA: b\r\n\r\nB: c\r\n\r\n",
            &[("A", "b"), ("B", "c")],
        ),
        ("NATS/1.0\r\nA: b\r\n c\r\n\td \r\n\r\n", &[("A", "b c\td")]),
        // Only the first line of a value loses the white space before it.
        ("NATS/1.0\r\nA:\r\n c\r\n\r\n", &[("A", " c")]),
        ("NATS/1.0\r\nA: b\r\n\u{a0}c\r\n\r\n", &[("A", "b\u{a0}c")]),
        ("NATS/1.0\r\nA: b\r\r\n\r\n", &[("A", "b")]),
        ("NATS/1.0\r\nA: b\r\n \r\n\r\n", &[("A", "b")]),
        ("NATS/1.0\r\n: b\r\n\r\n", &[("", "b")]),
        ("NATS/1.0\r\nA: b:c: d\r\n\r\n", &[("A", "b:c: d")]),
        ("NATS/1.0\r\nA:\r\n\r\n", &[("A", "")]),
        ("NATS/1.0\r\nA: é\0\r\n\r\n", &[("A", "é\0")]),
    ] {
        assert_eq!(read(block), pairs(expected), "{}", block.escape_debug());
    }
}

#[test]
fn what_the_published_client_cannot_read_is_unreadable() {
    for block in [
        &b""[..],
        b"\r\n\r\n",
        b"\0\r\r\xff",
        b"NATS/2.0\r\n\r\n",
        b"nats/1.0\r\n\r\n",
        b" NATS/1.0\r\n\r\n",
        b"NATS/1.0\r\nX: a\rb\r\n\r\n",
        b"NATS/1.0\r\nX: a\r\n \rb\r\n\r\n",
        b"NATS/1.0\r\nX: \xff\xfe\r\n\r\n",
        b"NATS/1.0\r\n\xff: x\r\n\r\n",
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"NATS/1.0\r\na name: x\r\n\r\n",
        b"NATS/1.0\r\n X: y\r\n\r\n",
        b"NATS/1.0\r\nX: y\r\n\r\n z: a\r\n\r\n",
        b"NATS/1.0\r\n\r\r\n\r\n",
        b"NATS/1.0 99999\r\n\r\n",
        b"NATS/1.0 099\r\n\r\n",
        b"NATS/1.0 5\xc2\xb2 \r\n\r\n",
        b"NATS/1.0 +12\r\n\r\n",
        b"NATS/1.0\tx y\r\n\r\n",
    ] {
        let case = block.escape_ascii();
        assert_eq!(HeaderBlock::parse(block), Err(Unreadable), "{case}");
    }
}

#[test]
fn a_status_is_read_with_or_without_a_description() {
    for (line, status) in [
        ("NATS/1.0 503", 503),
        ("NATS/1.0503", 503),
        ("NATS/1.0  404   No Messages ", 404),
        ("NATS/1.0 100 Idle Heartbeat", 100),
    ] {
        let headers = HeaderBlock::parse(line.as_bytes()).expect("a readable block");

        assert_eq!(headers.status(), Some(status), "{line}");
        assert!(headers.is_empty(), "{line}");
    }
}

#[test]
fn a_header_that_would_break_the_block_is_refused() {
    let mut headers = HeaderBlock::new();

    for (name, value) in [
        ("A", "b\rc"),
        ("A", "b\nc"),
        ("", "b"),
        ("A:", "b"),
        ("A b", "c"),
        ("é", "c"),
    ] {
        assert_eq!(headers.append(name, value), Err(InvalidHeader), "{name}");
    }

    assert!(headers.is_empty());
}

#[test]
fn a_block_shows_nothing_in_a_log() {
    let mut headers = HeaderBlock::new();
    headers
        .append("Authorization", "Bearer secret")
        .expect("valid");

    assert_eq!(format!("{headers:?}"), "HeaderBlock");
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        expected in prop::collection::vec(("[!-9;-~]{1,20}", "([!-~]([ -~é]{0,20}[!-~])?)?"), 0..8),
    ) {
        let mut headers = HeaderBlock::new();
        for (name, value) in &expected {
            headers.append(name, value).expect("valid");
        }

        let mut block = BytesMut::new();
        headers.write(&mut block);

        prop_assert_eq!(block.len(), headers.wire_len());
        prop_assert_eq!(HeaderBlock::parse(&block), Ok(headers));
    }

    #[test]
    fn any_bytes_are_read_or_unreadable(block in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = HeaderBlock::parse(&block);
    }

    #[test]
    fn anything_after_the_version_is_read_or_unreadable(rest in "[\\r\\n a:\\t\u{a0}é]{0,40}") {
        let block = format!("NATS/1.0\r\n{rest}");

        if let Ok(headers) = HeaderBlock::parse(block.as_bytes()) {
            for (name, value) in headers.iter() {
                prop_assert!(is_name(name) && !value.contains(['\r', '\n']));
            }
        }
    }
}

#[test]
fn a_block_has_a_bounded_number_of_headers() {
    let block = |count: usize| format!("NATS/1.0\r\n{}\r\n", "a:\r\n".repeat(count));

    assert!(HeaderBlock::parse(block(FIELDS_MAX).as_bytes()).is_ok());
    assert!(HeaderBlock::parse(block(FIELDS_MAX + 1).as_bytes()).is_err());
}

/// The bytes are what follows the version of the header block.
#[test]
fn fuzz_the_header_block() {
    bolero::check!().for_each(|rest: &[u8]| {
        let block = [b"NATS/1.0", rest].concat();
        let Ok(headers) = HeaderBlock::parse(&block) else {
            return;
        };
        let bytes: usize = headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        assert!(bytes <= rest.len());
    });
}
