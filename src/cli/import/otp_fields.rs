//! The fields of a one-time-password secret, as the exports of apps have them.

use crate::domain::Otp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt::Write as _;
use zeroize::Zeroizing;

/// The fields of a secret. They become a URI, so that one parser decides what is valid.
#[derive(Default)]
pub(super) struct OtpFields<'a> {
    /// `totp`, `hotp` or `steam`.
    pub r#type: &'a str,
    pub issuer: &'a str,
    /// `account`, or `issuer:account`.
    pub label: String,
    /// In Base32.
    pub secret: &'a str,
    /// Empty for the default.
    pub algorithm: &'a str,
    pub digits: Option<u64>,
    pub period: Option<u64>,
    pub counter: Option<u64>,
}

impl OtpFields<'_> {
    /// Parses the fields. The reason of a refusal names the field and never repeats it.
    pub fn parse(&self) -> Result<Otp, String> {
        let encode =
            |text: &str| Zeroizing::new(utf8_percent_encode(text, NON_ALPHANUMERIC).to_string());
        let mut uri = Zeroizing::new(format!(
            "otpauth://{}/{}?secret={}",
            *encode(self.r#type),
            *encode(&self.label),
            *encode(self.secret)
        ));

        for (name, value) in [("issuer", self.issuer), ("algorithm", self.algorithm)] {
            if !value.is_empty() {
                // Writing to a text does not fail.
                let _ = write!(uri, "&{name}={}", *encode(value));
            }
        }
        let is = |name: &str| self.r#type.eq_ignore_ascii_case(name);
        for (name, value) in [
            ("digits", self.digits),
            ("period", self.period.filter(|_| !is("hotp"))),
            ("counter", self.counter.filter(|_| is("hotp"))),
        ] {
            if let Some(value) = value {
                let _ = write!(uri, "&{name}={value}");
            }
        }

        Otp::parse(&uri).map_err(|invalid| invalid.reason)
    }
}

/// Returns the label of an issuer and an account that are apart.
pub(super) fn label(issuer: &str, account: &str) -> String {
    // Without an issuer, a leading colon shows that the rest is the account.
    if issuer.is_empty() && !account.contains(':') {
        return account.to_owned();
    }

    format!("{issuer}:{account}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_of_the_secret() {
        let fields = OtpFields {
            r#type: "totp",
            issuer: "A & B",
            label: label("A & B", "x:y"),
            secret: "mzxw 6ytb",
            algorithm: "sha256",
            digits: Some(8),
            period: Some(60),
            counter: Some(7),
        };

        let otp = fields.parse().expect("valid");

        assert_eq!(otp.facts().issuer(), Some("A & B"));
        assert_eq!(otp.facts().account(), Some("x:y"));
        assert_eq!(otp.facts().digits(), 8);
        assert_eq!(otp.facts().period_s(), Some(60));
        assert_eq!(otp.facts().algorithm().as_str(), "SHA256");
        assert_eq!(*otp.secret(), "MZXW6YTB");
    }

    #[test]
    fn an_account_keeps_its_colon() {
        let fields = OtpFields {
            r#type: "hotp",
            label: label("", "x:y"),
            secret: "MZXW6YTB",
            counter: Some(7),
            ..OtpFields::default()
        };

        let otp = fields.parse().expect("valid");

        assert_eq!(otp.facts().issuer(), None);
        assert_eq!(otp.facts().account(), Some("x:y"));
        assert_eq!(otp.facts().counter(), Some(7));
    }

    #[test]
    fn what_is_wrong_is_not_repeated() {
        let fields = OtpFields {
            r#type: "totp",
            secret: "HUSH0189",
            ..OtpFields::default()
        };

        let reason = fields.parse().expect_err("not Base32");

        assert_eq!(reason, "the secret is not Base32 (A to Z, 2 to 7)");
    }
}
