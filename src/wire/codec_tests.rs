use super::*;
use crate::wire::canonical;
use proptest::prelude::*;
use serde_json::json;

fn read(body: &[u8], encoding: Encoding) -> Result<Value, Refusal> {
    decode(body, encoding, &BodyLimits::default())
}

fn json_fault(body: &str) -> Refusal {
    let refusal = read(body.as_bytes(), Encoding::Json).expect_err("this one is wrong");
    assert_eq!(refusal.code(), Code::BadRequest);
    refusal
}

fn cbor_fault(body: &[u8]) -> Refusal {
    let refusal = read(body, Encoding::Cbor).expect_err("this one is wrong");
    assert_eq!(refusal.code(), Code::BadRequest);
    refusal
}

fn field(refusal: &Refusal) -> Option<&str> {
    refusal
        .details()
        .get("field")
        .and_then(|field| field.as_str())
}

#[test]
fn a_content_type_is_read_loosely() {
    for text in [
        "application/cbor",
        "Application/CBOR",
        " application/cbor ; v=1",
    ] {
        assert_eq!(Encoding::from_content_type(Some(text)), Ok(Encoding::Cbor));
    }
    assert_eq!(Encoding::from_content_type(None), Ok(Encoding::Json));
    assert_eq!(
        Encoding::from_content_type(Some("application/json;charset=utf-8")),
        Ok(Encoding::Json)
    );
    for text in ["", "text/plain", "application/jsonx", "json"] {
        let refusal = Encoding::from_content_type(Some(text)).expect_err("not ours");
        assert_eq!(
            (refusal.code(), field(&refusal)),
            (Code::UnsupportedEncoding, Some("Content-Type"))
        );
    }
}

#[test]
fn an_empty_body_is_an_empty_object() {
    for encoding in [Encoding::Json, Encoding::Cbor] {
        assert_eq!(read(b"", encoding), Ok(Value::Map(BTreeMap::new())));
    }
    assert_eq!(read(b" {} ", Encoding::Json), read(b"\xa0", Encoding::Cbor));
}

#[test]
fn what_is_not_one_object_is_refused() {
    for body in [
        "[]",
        "1",
        "null",
        "\"x\"",
        "{",
        "{}{}",
        "{} x",
        " ",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":1e999}",
    ] {
        json_fault(body);
    }
    assert_eq!(
        json_fault("[]").message(),
        "the body must be an object, is a list"
    );
    for body in [
        &b"\x80"[..],
        b"\xf6",
        b"\xa1",
        b"\xa0\xa0",
        b"\xff",
        b"\xf8\x20",
        b"\xbf\x61a",
    ] {
        cbor_fault(body);
    }
    assert_eq!(
        cbor_fault(b"\xa0\x00").message(),
        "the body goes on for 1 bytes after its end"
    );
}

#[test]
fn text_that_is_not_utf_8_is_refused() {
    assert!(read(b"{\"a\":\"\xff\"}", Encoding::Json).is_err());
    cbor_fault(b"\xa1\x61a\x61\xff");
    cbor_fault(b"\xa1\x61\xff\x01");
}

#[test]
fn a_doubled_key_is_refused_with_its_path() {
    assert_eq!(field(&json_fault(r#"{"a": 1, "a": 1}"#)), Some("a"));
    let nested = json_fault(r#"{"data": {"list": [{}, {"x": 1, "x": 2}]}}"#);
    assert_eq!(
        (field(&nested), nested.message()),
        (Some("data.list[1].x"), "data.list[1].x: is there twice")
    );
    assert_eq!(
        field(&cbor_fault(b"\xa1\x61d\xa2\x61a\x01\x61a\x01")),
        Some("d.a")
    );
}

#[test]
fn nesting_is_counted_from_the_body_itself() {
    let nested = |levels: usize| {
        format!(
            "{{\"a\":{}{}}}",
            "[".repeat(levels - 1),
            "]".repeat(levels - 1)
        )
    };
    assert!(read(nested(16).as_bytes(), Encoding::Json).is_ok());
    assert_eq!(
        json_fault(&nested(17)).message().split(": ").nth(1),
        Some("is nested too deeply, at most 16 levels are taken")
    );
    let cbor = |levels: usize| [b"\xa1\x61a".to_vec(), vec![0x81; levels - 2], vec![0x80]].concat();
    assert!(read(&cbor(16), Encoding::Cbor).is_ok());
    assert!(field(&cbor_fault(&cbor(17))).is_some_and(|path| path.starts_with("a[0][0]")));
}

#[test]
fn a_body_made_of_nothing_but_brackets_does_not_exhaust_the_stack() {
    for depth in [100, 126, 127, 128, 129, 200_000] {
        json_fault(&"[".repeat(depth));
        json_fault(&"{\"a\":".repeat(depth));
        for opening in [
            &[0x81][..],
            b"\x9f",
            b"\xa1\x61a",
            b"\xbf\x61a",
            b"\xa1",
            b"\xc1",
            b"\xd9\xd9\xf7",
        ] {
            cbor_fault(&opening.repeat(depth));
        }
    }
    assert_eq!(
        cbor_fault(&[0x81; 200]).message(),
        "the body is nested too deeply"
    );
}

#[test]
fn a_length_that_was_only_declared_costs_nothing() {
    for head in [0x5b_u8, 0x7b, 0x9b, 0xbb] {
        let huge = [&[head][..], &[0xff; 8]].concat();
        cbor_fault(&huge);
        cbor_fault(&[b"\xa1\x61a".to_vec(), huge].concat());
    }
}

#[test]
fn what_only_cbor_can_say_is_refused_with_its_path() {
    let table: [(&[u8], &str); 6] = [
        (
            b"\xa1\x61a\x41x",
            "a: must be a JSON value, is a byte string",
        ),
        (
            b"\xa1\x61a\x5f\x41x\xff",
            "a: must be a JSON value, is a byte string",
        ),
        (b"\xa1\x61a\xc1\x01", "a: must be a JSON value, is a tag"),
        (
            b"\xa1\x61a\xc2\x41\x01",
            "a: must be a JSON value, is a big integer",
        ),
        (
            b"\xa1\x61a\xc3\x41\x01",
            "a: must be a JSON value, is a big integer",
        ),
        (
            b"\xa1\x61a\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
            "a: must be a JSON value, is a big integer",
        ),
    ];
    for (body, message) in table {
        let refusal = cbor_fault(body);
        assert_eq!((refusal.message(), field(&refusal)), (message, Some("a")));
    }
    assert_eq!(
        cbor_fault(b"\xa1\x01\x01").message(),
        "the body has a key that is not text"
    );
    assert_eq!(
        cbor_fault(b"\xa1\x61a\xa1\x41x\x01").message(),
        "a: has a key that is not text"
    );
    assert_eq!(
        cbor_fault(b"\xc1\xa0").message(),
        "the body must be a JSON value, is a tag"
    );
}

#[test]
fn both_encodings_say_the_same() {
    let body = json!({"n": null, "b": true, "i": -1, "u": u64::MAX, "f": 0.5, "t": "é", "l": [1, {"x": i64::MIN}]});
    let value = read(&encode(&body, Encoding::Json), Encoding::Json).expect("written here");
    assert_eq!(
        read(&encode(&body, Encoding::Cbor), Encoding::Cbor),
        Ok(value.clone())
    );
    let Value::Map(map) = value else {
        panic!("an object")
    };
    assert_eq!(
        (&map["u"], &map["n"]),
        (&Value::Int(u64::MAX.into()), &Value::Null)
    );
    assert_eq!(
        (&map["f"], &map["t"]),
        (&Value::Float(0.5), &Value::Text("é".into()))
    );
    // Long text takes another way through the CBOR reader, and so does text in pieces.
    let long = "é".repeat(4_000);
    let body = encode(&json!({"t": long}), Encoding::Cbor);
    assert_eq!(
        read(&body, Encoding::Cbor),
        Ok(Value::Map([("t".into(), Value::Text(long))].into()))
    );
    let pieces = read(b"\xa1\x61t\x7f\x61a\x61b\xff", Encoding::Cbor);
    assert_eq!(
        pieces,
        Ok(Value::Map([("t".into(), Value::Text("ab".into()))].into()))
    );
}

#[test]
fn what_cannot_be_encoded_becomes_an_internal_refusal() {
    let odd = BTreeMap::from([((1, 2), 3)]);
    let reply: serde_json::Value =
        serde_json::from_slice(&encode(&odd, Encoding::Json)).expect("JSON");
    assert_eq!(reply["error"]["code"], "internal");
    assert!(!encode(&odd, Encoding::Cbor).is_empty());
}

/// Any object that JSON can say. Fractions are quarters, which both encodings hold exactly.
fn object() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        any::<u64>().prop_map(|value| json!(value)),
        any::<i32>().prop_map(|value| json!(f64::from(value) / 4.0 + 0.125)),
        ".{0,8}".prop_map(|value| json!(value)),
    ];
    let inner = leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|list| json!(list)),
            prop::collection::btree_map(".{0,4}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    });
    prop::collection::btree_map(".{0,4}", inner, 0..4).prop_map(|map| json!(map))
}

/// The same object as JSON with the fields of every object in reverse order.
fn reversed(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Object(map) => {
            let fields = map
                .iter()
                .rev()
                .map(|(key, value)| format!("{}:{}", json!(key), reversed(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(" , "))
        }
        serde_json::Value::Array(list) => format!(
            "[{}]",
            list.iter().map(reversed).collect::<Vec<_>>().join(",")
        ),
        other => other.to_string(),
    }
}

proptest! {
    #[test]
    fn encoding_and_order_do_not_matter(body in object()) {
        let first = read(&encode(&body, Encoding::Json), Encoding::Json).expect("written here");
        let others = [
            read(&encode(&body, Encoding::Cbor), Encoding::Cbor).expect("written here"),
            read(reversed(&body).as_bytes(), Encoding::Json).expect("written here"),
        ];
        for other in others {
            prop_assert_eq!(canonical("put", &first), canonical("put", &other));
            prop_assert_eq!(&first, &other);
        }
    }

    #[test]
    fn different_bodies_have_different_canonical_bytes(a in object(), b in object()) {
        let [a, b] = [a, b].map(|body| read(&encode(&body, Encoding::Cbor), Encoding::Cbor).expect("written here"));
        prop_assert_eq!(a == b, canonical("put", &a) == canonical("put", &b));
    }

    #[test]
    fn random_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&body, Encoding::Json);
        let _ = read(&body, Encoding::Cbor);
    }

    #[test]
    fn a_damaged_body_never_panics(body in object(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for encoding in [Encoding::Json, Encoding::Cbor] {
            let mut bytes = encode(&body, encoding);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = read(&bytes, encoding);
            let _ = read(&bytes[..at], encoding);
        }
    }
}
