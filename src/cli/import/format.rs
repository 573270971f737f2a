//! The formats of files that can be imported, and how each is recognised.

use super::csv;
use clap::ValueEnum;
use serde::de::IgnoredAny;
use std::collections::HashMap;

/// How a PNG file and a JPEG file begin.
const PICTURES: [&[u8]; 2] = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"];

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// `otpauth://` URIs, one on each line
    Otpauth,
    /// The `otpauth-migration://` URIs of Google Authenticator, one on each line
    Google,
    /// A picture, PNG or JPEG, of QR codes that hold such URIs
    Picture,
    /// The JSON export of `2FAuth`
    #[value(name = "2fauth")]
    TwoFauth,
    /// The JSON export of Aegis, without a password
    Aegis,
    /// Instruments, one on each line after a header
    Csv,
    /// The answer of `GetFavorites` of the T-Invest API, in JSON
    TInvest,
}

impl Format {
    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Otpauth => "otpauth",
            Self::Google => "google",
            Self::Picture => "picture",
            Self::TwoFauth => "2fauth",
            Self::Aegis => "aegis",
            Self::Csv => "csv",
            Self::TInvest => "t-invest",
        }
    }

    /// Returns whether a file of this format holds secrets.
    pub fn holds_secrets(self) -> bool {
        !matches!(self, Self::Csv | Self::TInvest)
    }

    /// Returns the format that a file's content looks like.
    pub fn recognise(content: &[u8]) -> Option<Self> {
        if PICTURES.iter().any(|begin| content.starts_with(begin)) {
            return Some(Self::Picture);
        }

        let text = std::str::from_utf8(content).ok()?;
        let text = text.trim_start_matches('\u{feff}').trim_start();
        if text.starts_with('{') {
            return Self::recognise_json(text);
        }

        let first_line = text.lines().next()?.to_ascii_lowercase();
        if first_line.starts_with("otpauth-migration:") {
            Some(Self::Google)
        } else if first_line.starts_with("otpauth:") {
            Some(Self::Otpauth)
        } else {
            csv::is_table(text).then_some(Self::Csv)
        }
    }

    /// Recognises a JSON object by its keys.
    fn recognise_json(text: &str) -> Option<Self> {
        let object: HashMap<String, IgnoredAny> = serde_json::from_str(text).ok()?;
        let has = |keys: &[&str]| keys.iter().all(|key| object.contains_key(*key));

        if has(&["favoriteInstruments"]) {
            Some(Self::TInvest)
        } else if has(&["header", "db"]) {
            Some(Self::Aegis)
        } else {
            has(&["app", "data"]).then_some(Self::TwoFauth)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_recognised_by_its_content() {
        for (content, expected) in [
            (&b"\x89PNG\r\n\x1a\n\0\0"[..], Some(Format::Picture)),
            (b"\xff\xd8\xff\xe0", Some(Format::Picture)),
            (
                b"\xef\xbb\xbf\n OTPAUTH://totp/a?secret=x",
                Some(Format::Otpauth),
            ),
            (b"otpauth-migration://offline?data=x", Some(Format::Google)),
            (
                br#"{"app": "2fauth_v5.1.1", "schema": 1, "data": []}"#,
                Some(Format::TwoFauth),
            ),
            (
                br#"{"version": 1, "header": {}, "db": {}}"#,
                Some(Format::Aegis),
            ),
            (br#"{"favoriteInstruments": []}"#, Some(Format::TInvest)),
            (b"Name;\"ISIN\"\nx;y", Some(Format::Csv)),
            (b"mic,ticker\n", Some(Format::Csv)),
            (b"name,isin\rx,y\r", Some(Format::Csv)),
            (b"sep=|\r\nname|isin\r\nx|y\r\n", Some(Format::Csv)),
            (b"name,price\n", None),
            (br#"{"data": []}"#, None),
            (b"{", None),
            (b"", None),
            (b"\xff", None),
        ] {
            assert_eq!(Format::recognise(content), expected, "{content:?}");
        }
    }

    #[test]
    fn each_format_has_its_name_on_the_command_line() {
        for format in Format::value_variants() {
            let value = format.to_possible_value().expect("a name");

            assert_eq!(value.get_name(), format.as_str());
        }
    }
}
