use super::*;
use crate::wire::Code;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn parse(pairs: &[(&str, &str)]) -> Result<RequestHeaders, (Encoding, Refusal)> {
    RequestHeaders::parse(pairs.iter().copied(), &HeaderLimits::default())
}

/// Asserts that the headers are refused in this encoding with this code and `details.field`. The
/// refusal may also be that of the token.
#[track_caller]
fn assert_refused(pairs: &[(&str, &str)], encoding: Encoding, code: Code, field: Option<&str>) {
    let (found_encoding, refusal) = match parse(pairs) {
        Err(error) => error,
        Ok(headers) => {
            let token = headers.token.expect("present");
            (headers.encoding, token.expect_err("this one is wrong"))
        }
    };

    let found_field = refusal
        .details()
        .get("field")
        .and_then(|field| field.as_str());
    assert_eq!(found_encoding, encoding, "{pairs:?}");
    assert_eq!(refusal.code(), code, "{pairs:?}");
    assert_eq!(found_field, field, "{pairs:?}");
}

#[test]
fn a_request_without_headers_is_json_and_has_no_token() {
    let headers = parse(&[]).expect("nothing is required");

    assert_eq!(headers.encoding, Encoding::Json);
    assert!(headers.timeout_ms.is_none());
    assert!(headers.token.is_none());
    assert!(headers.request_id.is_none());
    assert!(headers.trace.is_none());
}

#[test]
fn every_header_is_found_in_any_case() {
    let spellings: [fn(&str) -> String; 3] = [str::to_owned, str::to_lowercase, str::to_uppercase];

    for spelling in spellings {
        let headers = parse(&[
            (&spelling(AUTHORIZATION), "bEARER  a.b-c"),
            (&spelling(CONTENT_TYPE), "application/cbor"),
            (&spelling(NATS_MSG_ID), "my write ~1"),
            (&spelling(REQUEST_TIMEOUT_MS), "1500"),
            (&spelling(TRACEPARENT), TRACE),
        ]);

        let headers = headers.expect("well formed");
        let request_id = headers.request_id.as_ref().map(RequestKey::as_str);
        let trace = headers.trace.as_ref().map(TraceContext::header);
        assert_eq!(headers.token, Some(Ok("a.b-c".to_owned())));
        assert_eq!(headers.encoding, Encoding::Cbor);
        assert_eq!(request_id, Some("my write ~1"));
        assert_eq!(headers.timeout_ms, Some(1_500));
        assert_eq!(trace.as_deref(), Some(TRACE));
    }
}

#[test]
fn debug_prints_only_the_names_of_the_types() {
    let headers = parse(&[(NATS_MSG_ID, "my write ~1")]).expect("well formed");

    assert_eq!(
        format!("{headers:?} {:?}", headers.request_id),
        "RequestHeaders Some(RequestKey)"
    );
}

#[test]
fn a_doubled_header_is_refused_even_in_two_spellings() {
    let headers = [
        (AUTHORIZATION, "Bearer x"),
        (NATS_MSG_ID, "1"),
        (REQUEST_TIMEOUT_MS, "1"),
    ];

    for (name, value) in headers {
        for second in [name.to_owned(), name.to_lowercase()] {
            let pairs = [
                (CONTENT_TYPE, "application/cbor"),
                (name, value),
                (second.as_str(), value),
            ];
            assert_refused(&pairs, Encoding::Cbor, Code::BadRequest, Some(name));
        }
    }
}

#[test]
fn a_doubled_content_type_is_refused_in_json() {
    let pairs = [
        (CONTENT_TYPE, "application/cbor"),
        ("content-type", "application/cbor"),
    ];

    assert_refused(&pairs, Encoding::Json, Code::BadRequest, Some(CONTENT_TYPE));
}

#[test]
fn an_unknown_encoding_is_refused_in_json() {
    let pairs = [(CONTENT_TYPE, "text/plain"), (REQUEST_TIMEOUT_MS, "x")];

    assert_refused(
        &pairs,
        Encoding::Json,
        Code::UnsupportedEncoding,
        Some(CONTENT_TYPE),
    );
}

#[test]
fn only_a_bearer_token_is_accepted() {
    let malformed = [
        "",
        "Bearer",
        "Bearer ",
        "Basic abc",
        "abc",
        "Bearer a b",
        "Bearer é",
        "Bearer\tabc",
    ];

    for value in malformed {
        let pairs = [(AUTHORIZATION, value)];
        assert_refused(&pairs, Encoding::Json, Code::Unauthenticated, None);
    }
}

#[test]
fn a_wrong_token_does_not_refuse_the_other_headers() {
    let headers = parse(&[(AUTHORIZATION, "Basic abc")]).expect("the refusal is in the token");

    assert!(headers.token.is_some_and(|token| token.is_err()));
}

#[test]
fn the_length_of_a_token_is_bounded() {
    let longest = format!("Bearer {}", "x".repeat(8_192));
    let too_long = format!("Bearer {}", "x".repeat(8_193));

    let headers = parse(&[(AUTHORIZATION, &longest)]).expect("well formed");

    assert!(headers.token.is_some_and(|token| token.is_ok()));
    assert_refused(
        &[(AUTHORIZATION, &too_long)],
        Encoding::Json,
        Code::TooLarge,
        Some(AUTHORIZATION),
    );
}

#[test]
fn a_request_id_is_short_and_printable() {
    let longest = "x".repeat(128);
    let too_long = "x".repeat(129);

    assert!(parse(&[(NATS_MSG_ID, &longest)]).is_ok());
    for value in ["", "é", "a\tb", "\u{7f}", &too_long] {
        let pairs = [(NATS_MSG_ID, value)];
        assert_refused(&pairs, Encoding::Json, Code::BadRequest, Some(NATS_MSG_ID));
    }
}

#[test]
fn a_timeout_is_a_whole_number() {
    let headers = parse(&[(REQUEST_TIMEOUT_MS, "0")]).expect("well formed");

    assert_eq!(headers.timeout_ms, Some(0));
    for value in ["", "-1", "+1", "1.5", "5s", "99999999999999999999"] {
        assert_refused(
            &[(REQUEST_TIMEOUT_MS, value)],
            Encoding::Json,
            Code::BadRequest,
            Some(REQUEST_TIMEOUT_MS),
        );
    }
}

#[test]
fn a_malformed_or_doubled_trace_is_ignored() {
    let malformed = parse(&[(TRACEPARENT, "00-nonsense")]).expect("well formed");
    let doubled = parse(&[(TRACEPARENT, TRACE), ("Traceparent", TRACE)]).expect("well formed");

    assert!(malformed.trace.is_none());
    assert!(doubled.trace.is_none());
}

#[test]
fn the_limit_has_the_name_and_the_value_of_the_contract() {
    let limits: HeaderLimits = serde_json::from_str("{}").expect("all have defaults");

    assert_eq!(limits, HeaderLimits { token_bytes: 8_192 });
    assert!(serde_json::from_str::<HeaderLimits>(r#"{"token": 1}"#).is_err());
}

/// Each line is a header: a name, a colon, and a value.
#[test]
fn fuzz_the_headers() {
    bolero::check!().for_each(|input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        let pairs: Vec<_> = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .collect();

        match parse(&pairs) {
            Ok(headers) => {
                let id = headers.request_id.as_ref().map_or("", RequestKey::as_str);
                assert!(id.len() <= RequestKey::LENGTH_MAX);
            }
            Err((_, refusal)) => assert!(refusal.code().status() < 500),
        }
    });
}
