use super::*;
use proptest::prelude::*;

const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

fn otp(rest: &str) -> Otp {
    parse(&format!("otpauth://{rest}")).unwrap_or_else(|invalid| panic!("{rest}: {invalid:?}"))
}

fn reason(uri: &str) -> String {
    let invalid = parse(uri)
        .err()
        .unwrap_or_else(|| panic!("accepted: {uri}"));
    assert_eq!(invalid.field, FIELD);

    invalid.reason
}

#[test]
fn a_uri_without_parameters_but_the_secret_has_the_defaults() {
    let otp = otp(&format!("totp/alice?secret={SECRET}"));

    assert_eq!(otp.facts().moving(), Moving::Totp { period_s: 30 });
    assert_eq!(otp.facts().algorithm(), Algorithm::Sha1);
    assert_eq!(otp.facts().digits(), 6);
    assert_eq!(otp.facts().issuer(), None);
    assert_eq!(otp.facts().account(), Some("alice"));
    assert_eq!(*otp.secret(), SECRET);
}

#[test]
fn every_parameter_is_read_in_any_case() {
    let otp = otp(&format!(
        "HOTP/Bank:alice?SECRET={}&Issuer=Bank&algorithm=sha-256&digits=8&counter=9007199254740991&image=x",
        SECRET.to_lowercase()
    ));

    assert_eq!(
        otp.facts().moving(),
        Moving::Hotp {
            counter: COUNTER_MAX
        }
    );
    assert_eq!(otp.facts().algorithm(), Algorithm::Sha256);
    assert_eq!(otp.facts().digits(), 8);
    assert_eq!(otp.facts().issuer(), Some("Bank"));
    assert_eq!(otp.facts().account(), Some("alice"));
}

#[test]
fn steam_is_recognised_in_both_forms() {
    for rest in ["steam/a", "totp/a?encoder=steam"] {
        let mark = if rest.contains('?') { '&' } else { '?' };
        let otp = otp(&format!("{rest}{mark}secret={SECRET}"));

        assert_eq!(otp.facts().moving(), Moving::Steam);
        assert_eq!(otp.facts().digits(), 5);
        assert_eq!(otp.facts().period_s(), Some(30));
    }
}

#[test]
fn a_label_is_parted_into_issuer_and_account() {
    for (label, parameter, issuer, account) in [
        ("alice", "", None, Some("alice")),
        ("", "", None, None),
        ("Bank:alice", "", Some("Bank"), Some("alice")),
        ("Bank%3A%20alice", "", Some("Bank"), Some("alice")),
        ("Bank : alice", "&issuer=Bank", Some("Bank"), Some("alice")),
        ("Old:alice", "&issuer=New", Some("New"), Some("alice")),
        ("A:B:alice", "&issuer=A%3AB", Some("A:B"), Some("alice")),
        ("A:B:alice", "", Some("A"), Some("B:alice")),
        ("a+b", "&issuer=c+d", Some("c+d"), Some("a+b")),
        ("Größe:ä", "", Some("Größe"), Some("ä")),
        ("Bank:", "", Some("Bank"), None),
    ] {
        let otp = otp(&format!("totp/{label}?secret={SECRET}{parameter}"));

        assert_eq!(otp.facts().issuer(), issuer, "{label} {parameter}");
        assert_eq!(otp.facts().account(), account, "{label} {parameter}");
    }
}

#[test]
fn what_is_wrong_is_named_and_not_repeated() {
    let long = "A".repeat(220);
    let cases = [
        ("https://totp/a?secret=MY", "otpauth://"),
        ("otpauth://", "type"),
        ("otpauth://sotp/a?secret=MY", "type"),
        ("otpauth://totp/a", "secret is missing"),
        ("otpauth://totp/a?secret=", "empty"),
        ("otpauth://totp/a?secret=M1", "Base32"),
        ("otpauth://totp/a?secret=MZX", "cut off"),
        (&format!("otpauth://totp/a?secret={long}"), "128 bytes"),
        ("otpauth://totp/a?secret=MY&secret=MY", "twice"),
        ("otpauth://totp/a?secret=MY&Secret=MY", "twice"),
        ("otpauth://totp/a?secret=MY&digits=5", "digits"),
        ("otpauth://totp/a?secret=MY&digits=9", "digits"),
        ("otpauth://totp/a?secret=MY&digits=+6", "digits"),
        ("otpauth://totp/a?secret=MY&period=0", "period"),
        ("otpauth://totp/a?secret=MY&period=86401", "period"),
        (
            "otpauth://hotp/a?secret=MY&counter=9007199254740992",
            "counter",
        ),
        ("otpauth://totp/a?secret=MY&algorithm=MD5", "algorithm"),
        ("otpauth://steam/a?secret=MY&digits=6", "Steam"),
        ("otpauth://steam/a?secret=MY&period=60", "Steam"),
        ("otpauth://totp/%ff?secret=MY", "UTF-8"),
        ("otpauth://totp/a%0Ab?secret=MY", "control"),
        (
            &format!("otpauth://totp/{}?secret=MY", "x".repeat(257)),
            "256 bytes",
        ),
    ];

    for (uri, part) in cases {
        let reason = reason(uri);
        assert!(reason.contains(part), "{uri}: {reason}");
        assert!(!reason.contains(uri), "{reason}");
    }
}

#[test]
fn padding_spaces_and_dashes_of_a_secret_do_not_matter() {
    for secret in [
        "MZXW6YTBOI%3D%3D%3D%3D%3D%3D",
        "mzxw 6ytb oi",
        "mzxw-6ytb-oi",
        "MZXW6YTBOI=",
    ] {
        assert_eq!(
            *otp(&format!("totp/a?secret={secret}")).secret(),
            "MZXW6YTBOI"
        );
    }
}

prop_compose! {
    fn any_otp()(
        moving in prop_oneof![
            (1..=PERIOD_MAX_S).prop_map(|period_s| Moving::Totp { period_s }),
            (0..=COUNTER_MAX).prop_map(|counter| Moving::Hotp { counter }),
            Just(Moving::Steam),
        ],
        secret in prop::collection::vec(any::<u8>(), 1..=SECRET_BYTES_MAX),
        algorithm in prop_oneof![
            Just(Algorithm::Sha1), Just(Algorithm::Sha256), Just(Algorithm::Sha512)
        ],
        digits in 6..=8_u32,
        label in "[a-z:+ %é&=?/]{0,40}",
        issuer in prop::option::of("[a-z:+ %é&=?/]{0,20}"),
    ) -> Otp {
        let is_steam = moving == Moving::Steam;
        let encoded = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
        let (issuer, account) =
            parse_label(&encoded(&label), issuer.as_deref().map(str::trim)).expect("short");
        let facts = OtpFacts {
            moving,
            algorithm: if is_steam { Algorithm::Sha1 } else { algorithm },
            digits: if is_steam { STEAM_DIGITS } else { digits },
            issuer,
            account,
        };
        let hidden = OtpSecret { secret: Secret(secret), accepted_to_s: 0 };
        Otp { facts, hidden }
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_to_the_same(otp in any_otp()) {
        let uri = write(&otp);
        let read = parse(&uri);

        prop_assert!(read.is_ok_and(|read| read == otp), "{}", uri.as_str());
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "(otpauth://)?[a-z/?&=%:. é0-9]{0,60}") {
        let _ = parse(&text);
    }
}

#[test]
fn fuzz_the_uri() {
    bolero::check!().for_each(|input: &[u8]| {
        let Ok(text) = std::str::from_utf8(input) else {
            return;
        };
        let Ok(otp) = parse(text) else {
            return;
        };

        assert_eq!(parse(&otp.uri()).as_ref(), Ok(&otp));
    });
}
