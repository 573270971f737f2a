use super::*;
use crate::wire::canonical;
use proptest::prelude::*;
use serde_json::json;

fn read(body: &[u8], encoding: Encoding) -> Result<Value, Refusal> {
    decode(body, encoding, &BodyLimits::default())
}

fn json_error(body: &str) -> Refusal {
    let refusal = read(body.as_bytes(), Encoding::Json).expect_err("this one is wrong");
    assert_eq!(refusal.code(), Code::BadRequest);

    refusal
}

fn cbor_error(body: &[u8]) -> Refusal {
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
fn case_and_parameters_of_a_content_type_do_not_matter() {
    let table = [
        (None, Encoding::Json),
        (Some("application/json;charset=utf-8"), Encoding::Json),
        (Some("application/cbor"), Encoding::Cbor),
        (Some("Application/CBOR"), Encoding::Cbor),
        (Some(" application/cbor ; v=1"), Encoding::Cbor),
    ];

    for (text, encoding) in table {
        assert_eq!(Encoding::from_content_type(text), Ok(encoding));
    }
}

#[test]
fn another_content_type_is_refused() {
    for text in ["", "text/plain", "application/jsonx", "json"] {
        let refusal = Encoding::from_content_type(Some(text)).expect_err("unsupported");
        assert_eq!(refusal.code(), Code::UnsupportedEncoding);
        assert_eq!(field(&refusal), Some("Content-Type"));
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
fn a_json_body_that_is_not_one_object_is_refused() {
    let bodies = [
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
    ];

    for body in bodies {
        json_error(body);
    }
    assert_eq!(
        json_error("[]").message(),
        "the body must be an object, is a list"
    );
}

#[test]
fn a_cbor_body_that_is_not_one_object_is_refused() {
    let bodies = [
        &b"\x80"[..],
        b"\xf6",
        b"\xa1",
        b"\xa0\xa0",
        b"\xff",
        b"\xf8\x20",
        b"\xbf\x61a",
    ];

    for body in bodies {
        cbor_error(body);
    }
    assert_eq!(
        cbor_error(b"\xa0\x00").message(),
        "the body goes on for 1 bytes after its end"
    );
}

#[test]
fn text_that_is_not_utf_8_is_refused() {
    assert!(read(b"{\"a\":\"\xff\"}", Encoding::Json).is_err());
    cbor_error(b"\xa1\x61a\x61\xff");
    cbor_error(b"\xa1\x61\xff\x01");
}

#[test]
fn a_duplicate_key_is_refused_with_its_path() {
    let simple = json_error(r#"{"a": 1, "a": 1}"#);
    let nested = json_error(r#"{"data": {"list": [{}, {"x": 1, "x": 2}]}}"#);
    let in_cbor = cbor_error(b"\xa1\x61d\xa2\x61a\x01\x61a\x01");

    assert_eq!(field(&simple), Some("a"));
    assert_eq!(field(&nested), Some("data.list[1].x"));
    assert_eq!(nested.message(), "data.list[1].x: is a duplicate key");
    assert_eq!(field(&in_cbor), Some("d.a"));
}

#[test]
fn the_body_is_the_first_level_of_nesting_in_json() {
    let nested = |levels: usize| {
        let lists = levels - 1;
        format!("{{\"a\":{}{}}}", "[".repeat(lists), "]".repeat(lists))
    };

    let refusal = json_error(&nested(17));

    assert!(read(nested(16).as_bytes(), Encoding::Json).is_ok());
    assert_eq!(
        refusal.message().split(": ").nth(1),
        Some("is nested too deeply, at most 16 levels are allowed")
    );
}

#[test]
fn the_body_is_the_first_level_of_nesting_in_cbor() {
    let nested =
        |levels: usize| [b"\xa1\x61a".to_vec(), vec![0x81; levels - 2], vec![0x80]].concat();

    let refusal = cbor_error(&nested(17));

    assert!(read(&nested(16), Encoding::Cbor).is_ok());
    assert!(field(&refusal).is_some_and(|path| path.starts_with("a[0][0]")));
}

#[test]
fn a_body_of_opening_brackets_does_not_exhaust_the_stack() {
    let openings = [
        &[0x81][..],
        b"\x9f",
        b"\xa1\x61a",
        b"\xbf\x61a",
        b"\xa1",
        b"\xc1",
        b"\xd9\xd9\xf7",
    ];

    for depth in [100, 126, 127, 128, 129, 200_000] {
        json_error(&"[".repeat(depth));
        json_error(&"{\"a\":".repeat(depth));
        for opening in openings {
            cbor_error(&opening.repeat(depth));
        }
    }
    assert_eq!(
        cbor_error(&[0x81; 200]).message(),
        "the body is nested too deeply"
    );
}

#[test]
fn a_length_that_is_only_declared_costs_nothing() {
    for head in [0x5b_u8, 0x7b, 0x9b, 0xbb] {
        let huge = [&[head][..], &[0xff; 8]].concat();
        cbor_error(&huge);
        cbor_error(&[b"\xa1\x61a".to_vec(), huge].concat());
    }
}

#[test]
fn a_value_that_only_cbor_has_is_refused_with_its_path() {
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
        let refusal = cbor_error(body);
        assert_eq!(refusal.message(), message);
        assert_eq!(field(&refusal), Some("a"));
    }
    assert_eq!(
        cbor_error(b"\xc1\xa0").message(),
        "the body must be a JSON value, is a tag"
    );
}

#[test]
fn a_key_that_is_not_text_is_refused() {
    assert_eq!(
        cbor_error(b"\xa1\x01\x01").message(),
        "the body has a key that is not text"
    );
    assert_eq!(
        cbor_error(b"\xa1\x61a\xa1\x41x\x01").message(),
        "a: has a key that is not text"
    );
}

#[test]
fn both_encodings_decode_to_the_same_value() {
    let body = json!({
        "n": null,
        "b": true,
        "i": -1,
        "u": u64::MAX,
        "f": 0.5,
        "t": "é",
        "l": [1, {"x": i64::MIN}],
    });

    let from_json = read(&encode(&body, Encoding::Json), Encoding::Json).expect("written here");
    let from_cbor = read(&encode(&body, Encoding::Cbor), Encoding::Cbor).expect("written here");

    assert_eq!(from_cbor, from_json);
    let Value::Map(map) = from_json else {
        panic!("an object")
    };
    assert_eq!(map["u"], Value::Int(u64::MAX.into()));
    assert_eq!(map["n"], Value::Null);
    assert_eq!(map["f"], Value::Float(0.5));
    assert_eq!(map["t"], Value::Text("é".into()));
}

// Long text and text in pieces take other paths through the CBOR reader.
#[test]
fn long_text_and_text_in_pieces_are_read_from_cbor() {
    let long = "é".repeat(4_000);
    let body = encode(&json!({"t": long}), Encoding::Cbor);
    let object = |text: &str| Value::Map([("t".into(), Value::Text(text.into()))].into());

    let pieces = read(b"\xa1\x61t\x7f\x61a\x61b\xff", Encoding::Cbor);

    assert_eq!(read(&body, Encoding::Cbor), Ok(object(&long)));
    assert_eq!(pieces, Ok(object("ab")));
}

#[test]
fn a_value_that_cannot_be_encoded_is_an_internal_refusal() {
    let not_encodable = BTreeMap::from([((1, 2), 3)]);

    let json = encode(&not_encodable, Encoding::Json);
    let cbor = encode(&not_encodable, Encoding::Cbor);

    let reply: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(reply["error"]["code"], "internal");
    assert!(!cbor.is_empty());
}

/// Generates any JSON object. Fractions are multiples of an eighth, which both encodings hold
/// exactly.
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

/// Returns the value as JSON with the fields of every object in reverse order.
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
        let a = read(&encode(&a, Encoding::Cbor), Encoding::Cbor).expect("written here");
        let b = read(&encode(&b, Encoding::Cbor), Encoding::Cbor).expect("written here");

        prop_assert_eq!(a == b, canonical("put", &a) == canonical("put", &b));
    }

    #[test]
    fn random_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&body, Encoding::Json);
        let _ = read(&body, Encoding::Cbor);
    }

    #[test]
    fn a_damaged_body_never_panics(
        body in object(),
        index in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        for encoding in [Encoding::Json, Encoding::Cbor] {
            let mut bytes = encode(&body, encoding);
            let offset = index.index(bytes.len());
            bytes[offset] = byte;

            let _ = read(&bytes, encoding);
            let _ = read(&bytes[..offset], encoding);
        }
    }
}
