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
        // An initial byte that is reserved.
        b"\xa1\x61a\x1c",
        // A map that ends after a key, and a break outside of any indefinite length.
        b"\xbf\x61a\xff",
        b"\xa1\x61a\xff",
    ];

    for body in bodies {
        cbor_error(body);
    }
    assert_eq!(
        cbor_error(b"\xa0\x00").message(),
        "the body goes on for 1 bytes after its end"
    );
}

/// A list of so many zeros, each of one byte, after a text that makes the body longer.
fn zeros(count: u16, padding: u16) -> Vec<u8> {
    let mut body = b"\xa2\x61p\x79".to_vec();
    body.extend(padding.to_be_bytes());
    body.extend(vec![b'x'; padding.into()]);
    body.extend(b"\x61z\x99");
    body.extend(count.to_be_bytes());
    body.extend(vec![0; count.into()]);

    body
}

#[test]
fn a_body_of_very_many_tiny_values_is_refused() {
    assert!(read(&zeros(60, 0), Encoding::Cbor).is_ok());
    assert!(read(&zeros(1_000, 3_000), Encoding::Cbor).is_ok());

    assert_eq!(
        cbor_error(&zeros(1_000, 0)).message(),
        "the body has too many values for its length"
    );
}

#[test]
fn a_cbor_body_that_ends_too_early_is_refused() {
    let bodies = [
        &b"\xa1"[..],
        b"\xa2\x61a\x01",
        b"\xa1\x61",
        b"\xa1\x61a\x65ab",
        b"\xa1\x61a\x82\x01",
        // Numbers of which bytes are missing.
        b"\xa1\x61a\x19\x01",
        b"\xa1\x61a\xf9\x42",
        b"\xa1\x61a\xfa\x40\x40",
        b"\xa1\x61a\xfb\x40\x08",
        // Indefinite lengths without an end.
        b"\xbf",
        b"\xbf\x61a\x01",
        b"\xbf\x61a",
        b"\xa1\x61a\x9f\x01",
        b"\xa1\x61a\x7f\x61x",
        b"\xa1\x61a\x5f\x41x",
    ];

    for body in bodies {
        assert_eq!(
            cbor_error(body).message(),
            "the body is not CBOR: it ends too early",
            "{body:?}"
        );
    }
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

/// Returns the field `a` of a body in JSON that has it with this number.
fn json_number(number: &str) -> Value {
    let body = format!("{{\"a\": {number}}}");

    only_field(read(body.as_bytes(), Encoding::Json).expect("JSON"))
}

/// Returns the field `a` of a body in CBOR that has it with this number.
fn cbor_number(number: &[u8]) -> Value {
    let body = [&b"\xa1\x61a"[..], number].concat();

    only_field(read(&body, Encoding::Cbor).expect("CBOR"))
}

/// Returns the number as a double in CBOR.
fn double(number: f64) -> Vec<u8> {
    [&[0xfb][..], &number.to_be_bytes()].concat()
}

fn only_field(body: Value) -> Value {
    match body {
        Value::Map(mut fields) => fields.remove("a").expect("the field"),
        _ => panic!("an object"),
    }
}

#[test]
fn a_whole_number_in_json_is_an_integer_however_it_is_written() {
    let table = [
        ("3", 3),
        ("3.0", 3),
        ("3e0", 3),
        ("30e-1", 3),
        ("0.3E+1", 3),
        ("5e9", 5_000_000_000),
        ("-2.0", -2),
        ("0.0", 0),
        ("-0", 0),
        ("-0.0", 0),
        ("0e5", 0),
        ("9007199254740992.0", 1 << 53),
    ];

    for (text, expected) in table {
        let number = json_number(text);
        assert!(number == Value::Int(expected), "{text}");
    }
}

#[test]
fn a_whole_number_in_cbor_is_an_integer_whatever_its_size() {
    let half = b"\xf9\x42\x00";
    let single = b"\xfa\x40\x40\x00\x00";
    let negative_zeros = [&b"\xf9\x80\x00"[..], b"\xfa\x80\x00\x00\x00"];

    assert_eq!(cbor_number(half), Value::Int(3));
    assert_eq!(cbor_number(single), Value::Int(3));
    for zero in negative_zeros {
        assert_eq!(cbor_number(zero), Value::Int(0));
    }

    for (number, expected) in [
        (3.0, 3),
        (5e9, 5_000_000_000),
        (-0.0, 0),
        (-7.0, -7),
        (2_f64.powi(53) + 2.0, (1 << 53) + 2),
        (2_f64.powi(63), 1 << 63),
        (2_f64.powi(64) - 2_f64.powi(11), (1 << 64) - (1 << 11)),
        (-(2_f64.powi(63)), -(1 << 63)),
    ] {
        assert!(
            cbor_number(&double(number)) == Value::Int(expected),
            "{number}"
        );
    }
}

#[test]
fn a_fraction_and_a_number_out_of_range_stay_what_they_are() {
    for text in [
        "0.5",
        "1e-1",
        "-1.5",
        "1e300",
        "18446744073709551616",
        "-1e19",
    ] {
        assert!(matches!(json_number(text), Value::Float(_)), "{text}");
    }

    for number in [
        0.5,
        f64::MIN_POSITIVE,
        2_f64.powi(53) / 3.0,
        2_f64.powi(64),
        -(2_f64.powi(64)),
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
    ] {
        let value = cbor_number(&double(number));
        assert!(matches!(value, Value::Float(_)), "{number}");
    }
}

#[test]
fn how_a_number_is_written_does_not_change_the_canonical_bytes() {
    let in_json = |number: &str| {
        let body = format!("{{\"a\": {number}}}");
        read(body.as_bytes(), Encoding::Json).expect("JSON")
    };
    let in_cbor = |number: &[u8]| {
        let body = [&b"\xa1\x61a"[..], number].concat();
        read(&body, Encoding::Cbor).expect("CBOR")
    };

    let bodies = [
        in_json("3.0"),
        in_json("3e0"),
        in_cbor(b"\x03"),
        in_cbor(b"\xf9\x42\x00"),
        in_cbor(&double(3.0)),
    ];

    for body in bodies {
        assert_eq!(canonical("put", &body), canonical("put", &in_json("3")));
    }
    assert_ne!(
        canonical("put", &in_json("3.5")),
        canonical("put", &in_json("3"))
    );
}

#[test]
fn how_new_an_answer_has_to_be_does_not_count() {
    let plain = read(br#"{"id": "x", "in": {"min_version": 1}}"#, Encoding::Json).expect("JSON");
    let fresh =
        br#"{"min_version": 7, "id": "x", "in": {"min_version": 1}, "consistency": "head"}"#;
    let fresh = read(fresh, Encoding::Json).expect("JSON");
    let other = read(br#"{"id": "x", "in": {"min_version": 2}}"#, Encoding::Json).expect("JSON");

    assert_eq!(canonical("otp.code", &plain), canonical("otp.code", &fresh));
    assert_ne!(canonical("otp.code", &plain), canonical("otp.code", &other));
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
        any::<i32>().prop_map(|value| json!(f64::from(value))),
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
    fn a_double_is_decoded_to_its_own_value(
        number in prop_oneof![
            any::<f64>(),
            any::<i32>().prop_map(f64::from),
            any::<u64>().prop_map(|value| value as f64),
            any::<i64>().prop_map(|value| value as f64),
        ],
    ) {
        match cbor_number(&double(number)) {
            Value::Int(integer) => prop_assert_eq!(integer as f64, number),
            Value::Float(same) => {
                prop_assert_eq!(same.to_bits(), number.to_bits());
                prop_assert!(same.fract() != 0.0 || same.abs() >= 2_f64.powi(63));
            }
            _ => prop_assert!(false, "a number"),
        }
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

/// The first byte says in which encoding the others are.
#[test]
fn fuzz_the_body() {
    bolero::check!().for_each(|input: &[u8]| {
        let Some((first, body)) = input.split_first() else {
            return;
        };
        let encoding = [Encoding::Json, Encoding::Cbor][usize::from(first % 2)];

        match read(body, encoding) {
            Ok(value) => assert!(canonical("put", &value).len() < 16 * input.len() + 64),
            Err(refusal) => assert_eq!(refusal.code(), Code::BadRequest),
        }
    });
}
