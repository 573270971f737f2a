//! URIs of one-time-password secrets, one on each line or in each QR code.

use super::google;
use super::new_item::NewItem;
use super::parsed::Parsed;
use crate::domain::{ItemLimits, Otp};

/// Parses the lines of a file. Empty ones are skipped.
pub(super) fn parse_lines(file: &str, limits: &ItemLimits) -> Parsed {
    let mut parsed = Parsed::default();
    for (index, line) in file.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() {
            parse(line, format!("line {}", index + 1), limits, &mut parsed);
        }
    }

    parsed
}

/// Adds the entry of a URI, or the entries of one of Google Authenticator.
pub(super) fn parse(uri: &str, place: String, limits: &ItemLimits, parsed: &mut Parsed) {
    if google::is_migration(uri) {
        if let Err(reason) = google::parse(uri, &place, limits, parsed) {
            parsed.push(place, Err(reason));
        }
        return;
    }

    let item = Otp::parse(uri)
        .map_err(|invalid| invalid.reason)
        .and_then(|otp| NewItem::otp(otp, limits));
    parsed.push(place, item);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_an_entry() {
        let file = "otpauth://totp/a?secret=MZXW6YTB\r\n\n  hush\n\
                    otpauth-migration://offline?data=%%\n\
                    OTPAUTH://hotp/b?secret=MZXW6YTB&counter=1";

        let parsed = parse_lines(file, &ItemLimits::default());

        let found: Vec<(&str, bool)> = parsed
            .entries
            .iter()
            .map(|found| (found.place.as_str(), found.item.is_ok()))
            .collect();
        assert_eq!(
            found,
            [
                ("line 1", true),
                ("line 3", false),
                ("line 4", false),
                ("line 5", true)
            ]
        );
        for reason in parsed
            .entries
            .iter()
            .filter_map(|found| found.item.as_ref().err())
        {
            assert!(!reason.contains("hush"), "{reason}");
        }
    }
}
