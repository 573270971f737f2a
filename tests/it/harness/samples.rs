//! One-time passwords and lists of codes as tests send them. What must stay hidden in them contains
//! a mark for which `suite_scan.rs` searches everything that servers store and log.

use super::caller::Caller;
use gofavorites::dev::tokens::unix_now;
use serde_json::{Value, json};
use std::ops::Range;

/// The secret of RFC 4226, appendix D, in Base32.
pub const RFC_SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

/// The first codes of that secret, by counter (RFC 4226, appendix D).
pub const RFC_CODES: [&str; 10] = [
    "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871",
    "520489",
];

/// Another secret, in Base32.
pub const OTHER_SECRET: &str = "MFXG65DIMVZC243FMNZGK5BNNBSXEZJR";

/// The bytes of that other secret, which are a text.
pub const OTHER_SECRET_BYTES: &str = "another-secret-here1";

/// The issuer that every URI names, and with which its label begins.
pub const BANK: &str = "a-bank-of-the-suite";

/// The beginning of every code of a list.
pub const CODE_MARK: &str = "one-time-code-of-the-suite-";

/// Returns a URI of that type, with further parameters, which begin with `&`.
pub fn otp_uri(r#type: &str, secret: &str, parameters: &str) -> String {
    format!("otpauth://{type}/{BANK}:account?secret={secret}{parameters}")
}

/// Returns the body of a `put` of that URI.
pub fn put_otp(id: &str, uri: &str) -> Value {
    json!({"kind": "otp", "id": id, "data": {"uri": uri}})
}

/// Returns the code with that number.
pub fn code(number: usize) -> String {
    format!("{CODE_MARK}{number:03}")
}

/// Returns the codes with these numbers.
pub fn codes(numbers: Range<usize>) -> Vec<String> {
    numbers.map(code).collect()
}

/// Returns the body of a `put` of a list with these codes.
pub fn put_codes(id: &str, codes: &[String]) -> Value {
    json!({"kind": "codes", "id": id, "data": {"codes": codes}})
}

/// Returns a period, in seconds, whose present step began at least three hours ago and lasts for
/// three more hours.
pub fn steady_period() -> u64 {
    let now = unix_now();
    let is_steady = |period: &u64| (period / 3..period * 2 / 3).contains(&(now % period));

    (40_000..=86_400).find(is_steady).expect("one of them")
}

/// Returns the code of eight digits of that counter. It is also the TOTP code of the step with that
/// number. The caller should be nobody else in the test, because this writes an item.
pub async fn code_of_counter(caller: &Caller, secret: &str, counter: u64) -> String {
    let uri = otp_uri("hotp", secret, &format!("&digits=8&counter={counter}"));
    let put = json!({"kind": "otp", "data": {"uri": uri}});

    let put = caller.done("a.put", &put).await;
    let id = &put["item"]["id"];
    let reply = caller.done("a.otp.code", &json!({"id": id})).await;

    assert_eq!(reply["counter"], counter);
    reply["code"].as_str().expect("a code").to_owned()
}
