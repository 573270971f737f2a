use super::*;
use crate::wire::Code;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn map(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    pairs
        .iter()
        .for_each(|(name, value)| headers.append(*name, *value));
    headers
}

fn parse(pairs: &[(&str, &str)]) -> Result<RequestHeaders, (Encoding, Refusal)> {
    RequestHeaders::parse(Some(&map(pairs)), &HeaderLimits::default())
}

fn error(pairs: &[(&str, &str)]) -> (Encoding, Code, Option<String>) {
    let (encoding, refusal) = match parse(pairs) {
        Err(error) => error,
        Ok(headers) => (
            headers.encoding,
            headers
                .token
                .expect("there")
                .expect_err("this one is wrong"),
        ),
    };
    let field = refusal
        .details()
        .get("field")
        .and_then(|field| field.as_str())
        .map(str::to_owned);
    (encoding, refusal.code(), field)
}

#[test]
fn without_headers_a_request_is_json_and_nobodys() {
    for headers in [None, Some(&HeaderMap::new())] {
        let headers =
            RequestHeaders::parse(headers, &HeaderLimits::default()).expect("nothing is required");
        assert_eq!(
            (headers.encoding, headers.timeout_ms),
            (Encoding::Json, None)
        );
        assert!(headers.token.is_none() && headers.request_id.is_none() && headers.trace.is_none());
    }
}

#[test]
fn every_header_is_found_whatever_its_case() {
    let spellings: [fn(&str) -> String; 3] = [str::to_owned, str::to_lowercase, str::to_uppercase];
    for spelling in spellings {
        let pairs = [
            (spelling(AUTHORIZATION), "bEARER  a.b-c"),
            (spelling(CONTENT_TYPE), "application/cbor"),
            (spelling(NATS_MSG_ID), "my write ~1"),
            (spelling(REQUEST_TIMEOUT_MS), "1500"),
            (spelling(TRACEPARENT), TRACE),
        ];
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        let headers = parse(&pairs).expect("well formed");
        assert_eq!(
            (&headers.token, headers.encoding),
            (&Some(Ok("a.b-c".to_owned())), Encoding::Cbor)
        );
        assert_eq!(
            headers.request_id.as_ref().map(RequestKey::as_str),
            Some("my write ~1")
        );
        assert_eq!(headers.timeout_ms, Some(1_500));
        assert_eq!(
            headers.trace.as_ref().map(TraceContext::header).as_deref(),
            Some(TRACE)
        );
        assert_eq!(
            format!("{headers:?} {:?}", headers.request_id),
            "RequestHeaders Some(RequestKey)"
        );
    }
}

#[test]
fn a_doubled_header_is_refused_also_under_two_spellings() {
    for name in [AUTHORIZATION, NATS_MSG_ID, REQUEST_TIMEOUT_MS] {
        let value = if name == AUTHORIZATION {
            "Bearer x"
        } else {
            "1"
        };
        for second in [name.to_owned(), name.to_lowercase()] {
            let told = error(&[
                (CONTENT_TYPE, "application/cbor"),
                (name, value),
                (&second, value),
            ]);
            assert_eq!(
                told,
                (Encoding::Cbor, Code::BadRequest, Some(name.to_owned()))
            );
        }
    }
    let told = error(&[
        (CONTENT_TYPE, "application/cbor"),
        ("content-type", "application/cbor"),
    ]);
    assert_eq!(
        told,
        (
            Encoding::Json,
            Code::BadRequest,
            Some(CONTENT_TYPE.to_owned())
        )
    );
}

#[test]
fn an_unknown_encoding_is_answered_in_json() {
    let told = error(&[(CONTENT_TYPE, "text/plain"), (REQUEST_TIMEOUT_MS, "x")]);
    assert_eq!(
        told,
        (
            Encoding::Json,
            Code::UnsupportedEncoding,
            Some(CONTENT_TYPE.to_owned())
        )
    );
}

#[test]
fn only_a_bearer_token_of_bounded_length_is_taken() {
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Basic abc",
        "abc",
        "Bearer a b",
        "Bearer é",
        "Bearer\tabc",
    ] {
        assert_eq!(
            error(&[(AUTHORIZATION, value)]),
            (Encoding::Json, Code::Unauthenticated, None),
            "{value}"
        );
    }
    let token = |bytes: usize| format!("Bearer {}", "x".repeat(bytes));
    assert!(parse(&[(AUTHORIZATION, &token(8_192))]).is_ok());
    let headers =
        parse(&[(AUTHORIZATION, "Basic abc")]).expect("an operation without a token does not mind");
    assert!(headers.token.is_some_and(|token| token.is_err()));
    let told = error(&[(AUTHORIZATION, &token(8_193))]);
    assert_eq!(
        told,
        (
            Encoding::Json,
            Code::TooLarge,
            Some(AUTHORIZATION.to_owned())
        )
    );
}

#[test]
fn a_request_id_is_short_and_printable() {
    assert!(parse(&[(NATS_MSG_ID, &"x".repeat(128))]).is_ok());
    for value in ["", "é", "a\tb", "\u{7f}", &"x".repeat(129)] {
        assert_eq!(
            error(&[(NATS_MSG_ID, value)]).2.as_deref(),
            Some(NATS_MSG_ID),
            "{value}"
        );
    }
}

#[test]
fn a_timeout_is_a_whole_number() {
    assert_eq!(
        parse(&[(REQUEST_TIMEOUT_MS, "0")])
            .expect("well formed")
            .timeout_ms,
        Some(0)
    );
    for value in ["", "-1", "+1", "1.5", "5s", "99999999999999999999"] {
        let told = error(&[(REQUEST_TIMEOUT_MS, value)]);
        assert_eq!(
            told,
            (
                Encoding::Json,
                Code::BadRequest,
                Some(REQUEST_TIMEOUT_MS.to_owned())
            ),
            "{value}"
        );
    }
}

#[test]
fn a_malformed_or_doubled_trace_is_ignored() {
    assert!(
        parse(&[(TRACEPARENT, "00-nonsense")])
            .expect("well formed")
            .trace
            .is_none()
    );
    assert!(
        parse(&[(TRACEPARENT, TRACE), ("Traceparent", TRACE)])
            .expect("well formed")
            .trace
            .is_none()
    );
}

#[test]
fn the_limit_has_a_name_and_the_value_of_the_contract() {
    let limits: HeaderLimits = serde_json::from_str("{}").expect("all have defaults");
    assert_eq!(limits, HeaderLimits { token_bytes: 8_192 });
    assert!(serde_json::from_str::<HeaderLimits>(r#"{"token": 1}"#).is_err());
}
