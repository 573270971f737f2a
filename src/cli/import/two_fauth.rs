//! The JSON export of 2FAuth: entries with fields, or `otpauth://` URIs.

use super::new_item::NewItem;
use super::otp_fields::{OtpFields, label};
use super::parsed::{Parsed, number, parse_entries, parse_json, text};
use crate::domain::{ItemLimits, Otp};
use serde_json::Value;

/// Parses an export.
pub(super) fn parse(file: &str, limits: &ItemLimits) -> Result<Parsed, String> {
    let export = parse_json(file)?;
    let entries = export["data"]
        .as_array()
        .ok_or("the file has no list data: it is no export of 2FAuth")?;

    Ok(parse_entries(entries, |entry| {
        NewItem::otp(parse_entry(entry)?, limits)
    }))
}

fn parse_entry(entry: &Value) -> Result<Otp, String> {
    if let Some(uri) = entry.as_str() {
        return Otp::parse(uri).map_err(|invalid| invalid.reason);
    }

    let issuer = text(entry, "service")?;
    let r#type = match text(entry, "otp_type")? {
        "steamtotp" => "steam",
        other => other,
    };
    OtpFields {
        r#type,
        issuer,
        label: label(issuer, text(entry, "account")?),
        secret: text(entry, "secret")?,
        algorithm: text(entry, "algorithm")?,
        digits: number(entry, "digits")?,
        period: number(entry, "period")?,
        counter: number(entry, "counter")?,
    }
    .parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(file: &str) -> Vec<Result<String, String>> {
        let parsed = parse(file, &ItemLimits::default()).expect("an export");

        let entries = parsed.entries.into_iter();
        entries
            .map(|found| found.item.map(|item| item.describe()))
            .collect()
    }

    #[test]
    fn each_type_of_entry_is_read() {
        let file = r#"{"app": "2fauth_v5.1.1", "schema": 1, "datetime": "2026-01-07T12:16:29Z",
          "data": [
            {"otp_type": "totp", "account": "alice", "service": "Bank", "icon": null,
             "icon_mime": null, "icon_file": null, "secret": "MZXW6YTB", "digits": 6,
             "algorithm": "sha1", "period": 30, "counter": null, "legacy_uri": "otpauth://x"},
            {"otp_type": "hotp", "account": "bob", "service": null, "secret": "MZXW6YTB",
             "digits": 6, "algorithm": "sha512", "period": null, "counter": 3},
            {"otp_type": "steamtotp", "account": "carol", "service": "Steam",
             "secret": "MZXW6YTB", "digits": 5, "algorithm": "sha1", "period": 30},
            "otpauth://totp/dave?secret=MZXW6YTB"]}"#;

        assert_eq!(
            ids(file),
            [
                "otp Bank:alice: Bank alice (totp)",
                "otp bob: bob (hotp)",
                "otp Steam:carol: Steam carol (steam)",
                "otp dave: dave (totp)",
            ]
            .map(|text| Ok(text.to_owned()))
        );
    }

    #[test]
    fn an_entry_that_is_wrong_does_not_hinder_others() {
        let file = r#"{"app": "2fauth_v5", "data": [
            {"otp_type": "totp", "account": "a", "secret": 7},
            {"otp_type": "yandex", "account": "a", "secret": "MZXW6YTB"},
            [],
            {"otp_type": "totp", "account": "a", "secret": "MZXW6YTB"}]}"#;

        let ids = ids(file);

        assert_eq!(ids[0], Err("the field secret is not a text".to_owned()));
        assert_eq!(
            ids[1],
            Err("the type must be totp, hotp or steam".to_owned())
        );
        assert!(ids[2].is_err());
        assert!(ids[3].is_ok());
    }

    #[test]
    fn another_file_is_refused() {
        for file in ["{}", r#"{"data": {}}"#, "[]", "x"] {
            assert!(parse(file, &ItemLimits::default()).is_err(), "{file}");
        }
    }
}
