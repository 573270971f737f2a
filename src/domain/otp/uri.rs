//! The `otpauth://` URI: the "Key URI Format" that authenticator apps exchange, as people really
//! have it.

use super::code::STEAM_DIGITS;
use super::{
    Algorithm, COUNTER_MAX, FIELD, LABEL_BYTES_MAX, Moving, Otp, OtpFacts, OtpSecret,
    PERIOD_DEFAULT_S, PERIOD_MAX_S, SECRET_BYTES_MAX, Secret, base32,
};
use crate::domain::Invalid;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use zeroize::Zeroizing;

/// What is percent-encoded: everything except the unreserved characters (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The parameters of a URI that are read, each at most once.
#[derive(Default)]
struct Parameters {
    secret: Option<Zeroizing<String>>,
    issuer: Option<Zeroizing<String>>,
    algorithm: Option<Zeroizing<String>>,
    digits: Option<Zeroizing<String>>,
    period: Option<Zeroizing<String>>,
    counter: Option<Zeroizing<String>>,
    encoder: Option<Zeroizing<String>>,
}

fn invalid(reason: impl Into<String>) -> Invalid {
    Invalid::new(FIELD, reason)
}

/// Parses a URI.
pub(super) fn parse(text: &str) -> Result<Otp, Invalid> {
    let rest = strip_scheme(text.trim()).ok_or_else(|| {
        invalid("must begin with otpauth://totp/, otpauth://hotp/ or otpauth://steam/")
    })?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (r#type, label) = path.split_once('/').unwrap_or((path, ""));
    let parameters = Parameters::parse(query)?;

    let (issuer, account) = parse_label(label, parameters.issuer.as_ref().map(|text| text.trim()))?;
    let moving = parameters.moving(r#type)?;
    let algorithm = parameters.algorithm(moving)?;
    let digits = parameters.digits(moving)?;

    Ok(Otp {
        facts: OtpFacts {
            moving,
            algorithm,
            digits,
            issuer,
            account,
        },
        hidden: OtpSecret {
            secret: parameters.secret()?,
            accepted_to_s: 0,
        },
    })
}

fn strip_scheme(text: &str) -> Option<&str> {
    const SCHEME: &str = "otpauth://";
    let (scheme, rest) = text.split_at_checked(SCHEME.len())?;

    scheme.eq_ignore_ascii_case(SCHEME).then_some(rest)
}

fn decode(text: &str, part: &str) -> Result<Zeroizing<String>, Invalid> {
    percent_decode_str(text)
        .decode_utf8()
        .map(|text| Zeroizing::new(text.into_owned()))
        .map_err(|_| invalid(format!("the {part} is not UTF-8 after percent-decoding")))
}

/// Parses `issuer:account` or `account`. The issuer of the parameter wins.
fn parse_label(
    label: &str,
    parameter: Option<&str>,
) -> Result<(Option<String>, Option<String>), Invalid> {
    let label = decode(label, "label")?;
    if label.len() > LABEL_BYTES_MAX {
        return Err(too_long("label", LABEL_BYTES_MAX));
    }

    let label = label.trim();
    let parameter = parameter.filter(|issuer| !issuer.is_empty());
    let after_issuer = parameter
        .and_then(|issuer| label.strip_prefix(issuer))
        .and_then(|rest| rest.trim_start().strip_prefix(':'));
    let (issuer, account) = match (after_issuer, label.split_once(':')) {
        (Some(account), _) => ("", account),
        (None, Some(parts)) => parts,
        (None, None) => ("", label),
    };

    let issuer = parameter.unwrap_or(issuer).trim();
    let account = account.trim();
    if issuer.len() + 1 + account.len() > LABEL_BYTES_MAX {
        return Err(too_long("issuer with the account", LABEL_BYTES_MAX));
    }
    if [issuer, account].concat().contains(char::is_control) {
        return Err(invalid("the label or the issuer has a control character"));
    }

    let present = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Ok((present(issuer), present(account)))
}

fn too_long(part: &str, max: usize) -> Invalid {
    invalid(format!("the {part} has more than {max} bytes"))
}

/// Parses a whole number of ASCII digits within these bounds.
fn number(text: &str, part: &str, min: u64, max: u64) -> Result<u64, Invalid> {
    let is_number = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());

    Some(text)
        .filter(|_| is_number)
        .and_then(|text| text.parse().ok())
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| {
            invalid(format!(
                "the {part} must be a whole number from {min} to {max}"
            ))
        })
}

impl Parameters {
    fn parse(query: &str) -> Result<Self, Invalid> {
        let mut parameters = Self::default();

        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name, "name of a parameter")?.to_ascii_lowercase();
            let (name, slot) = match name.as_str() {
                "secret" => ("secret", &mut parameters.secret),
                "issuer" => ("issuer", &mut parameters.issuer),
                "algorithm" => ("algorithm", &mut parameters.algorithm),
                "digits" => ("digits", &mut parameters.digits),
                "period" => ("period", &mut parameters.period),
                "counter" => ("counter", &mut parameters.counter),
                "encoder" => ("encoder", &mut parameters.encoder),
                _ => continue,
            };

            if slot.replace(decode(value, name)?).is_some() {
                return Err(invalid(format!("the parameter {name} is given twice")));
            }
        }

        Ok(parameters)
    }

    fn secret(&self) -> Result<Secret, Invalid> {
        let text = self
            .secret
            .as_ref()
            .ok_or_else(|| invalid("the parameter secret is missing"))?;
        let bytes = base32::decode(text, FIELD)?;

        match bytes.len() {
            0 => Err(invalid("the secret is empty")),
            1..=SECRET_BYTES_MAX => Ok(Secret(bytes.to_vec())),
            _ => Err(too_long("secret", SECRET_BYTES_MAX)),
        }
    }

    fn moving(&self, r#type: &str) -> Result<Moving, Invalid> {
        let is_steam = self
            .encoder
            .as_ref()
            .is_some_and(|encoder| encoder.eq_ignore_ascii_case("steam"));

        match r#type.to_ascii_lowercase().as_str() {
            "steam" => self.steam(),
            "totp" if is_steam => self.steam(),
            "totp" => {
                let period_s = match &self.period {
                    Some(text) => number(text, "period", 1, PERIOD_MAX_S)?,
                    None => PERIOD_DEFAULT_S,
                };
                Ok(Moving::Totp { period_s })
            }
            "hotp" => {
                let counter = match &self.counter {
                    Some(text) => number(text, "counter", 0, COUNTER_MAX)?,
                    None => 0,
                };
                Ok(Moving::Hotp { counter })
            }
            _ => Err(invalid("the type must be totp, hotp or steam")),
        }
    }

    fn steam(&self) -> Result<Moving, Invalid> {
        let is_other = |text: &Option<Zeroizing<String>>, value: u64| {
            let number = text.as_ref().map(|text| text.parse::<u64>());
            number.is_some_and(|number| number != Ok(value))
        };
        if is_other(&self.digits, STEAM_DIGITS.into()) || is_other(&self.period, PERIOD_DEFAULT_S) {
            return Err(invalid("Steam has 5 digits and a period of 30 seconds"));
        }

        Ok(Moving::Steam)
    }

    fn algorithm(&self, moving: Moving) -> Result<Algorithm, Invalid> {
        let algorithm = match &self.algorithm {
            Some(text) => Algorithm::parse(text)
                .ok_or_else(|| invalid("the algorithm must be SHA1, SHA256 or SHA512"))?,
            None => Algorithm::Sha1,
        };

        if moving == Moving::Steam && algorithm != Algorithm::Sha1 {
            return Err(invalid("Steam has the algorithm SHA1"));
        }
        Ok(algorithm)
    }

    fn digits(&self, moving: Moving) -> Result<u32, Invalid> {
        match (&self.digits, moving) {
            (_, Moving::Steam) => Ok(STEAM_DIGITS),
            (None, _) => Ok(6),
            (Some(text), _) => number(text, "digits", 6, 8).map(|digits| digits as u32),
        }
    }
}

/// Writes the URI with every parameter. Parsed, it gives the same value.
pub(super) fn write(otp: &Otp) -> Zeroizing<String> {
    let encode = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
    let facts = &otp.facts;
    let issuer = facts.issuer.as_deref().unwrap_or_default();
    let account = facts.account.as_deref().unwrap_or_default();

    // Without an issuer, a leading colon shows that the rest of the label is the account.
    let label = match (issuer.is_empty(), account.contains(':')) {
        (true, false) => encode(account),
        _ => format!("{}:{}", encode(issuer), encode(account)),
    };
    let issuer = match &facts.issuer {
        Some(issuer) => format!("&issuer={}", encode(issuer)),
        None => String::new(),
    };
    let moving = match facts.moving {
        Moving::Totp { period_s } => format!("&period={period_s}"),
        // An item whose greatest counter was used has none left; a URI names at most the greatest.
        Moving::Hotp { counter } => format!("&counter={}", counter.min(COUNTER_MAX)),
        Moving::Steam => String::new(),
    };

    let r#type = facts.moving.as_str();
    let secret = otp.secret();
    let algorithm = facts.algorithm.as_str();
    let digits = facts.digits;
    Zeroizing::new(format!(
        "otpauth://{type}/{label}?secret={secret}{issuer}&algorithm={algorithm}&digits={digits}\
         {moving}",
        secret = secret.as_str()
    ))
}

#[cfg(test)]
#[path = "uri_tests.rs"]
mod tests;
