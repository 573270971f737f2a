//! Values of which the client knows all: kinds, types of instrument, and consistencies.

use super::secret_input::is_uri;
use crate::domain::{InstrumentType, Kind};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Command, Error};
use std::ffi::OsStr;

/// Reads one of some names, in upper or lower case, as the lower-case name.
#[derive(Clone)]
pub(super) struct ClosedList(Vec<&'static str>);

impl ClosedList {
    /// The kinds of item.
    pub fn kinds() -> Self {
        Self(Kind::all().map(Kind::as_str).collect())
    }

    /// The types of instrument.
    pub fn types() -> Self {
        Self(InstrumentType::ALL.map(InstrumentType::as_str).to_vec())
    }

    /// The consistencies of a read.
    pub fn consistencies() -> Self {
        Self(vec!["head", "strong", "eventual"])
    }
}

impl TypedValueParser for ClosedList {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, Error> {
        // The parser's own error would repeat the secret that is in the URI.
        if value.to_str().is_some_and(is_uri) {
            let message = "an otpauth:// URI holds a secret, and is no argument: see `otp add`\n";
            return Err(Error::raw(ErrorKind::InvalidValue, message).with_cmd(command));
        }

        PossibleValuesParser::new(self.0.iter().copied()).parse_ref(
            command,
            argument,
            &value.to_ascii_lowercase(),
        )
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<String, String> {
        let kind = Arg::new("kind").value_parser(ClosedList::kinds());
        let matches = Command::new("x")
            .arg(kind)
            .try_get_matches_from(["x", value]);

        matches
            .map(|matches| {
                matches
                    .get_one::<String>("kind")
                    .cloned()
                    .unwrap_or_default()
            })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_is_read_in_upper_or_lower_case() {
        assert_eq!(read("Text").as_deref(), Ok("text"));
    }

    #[test]
    fn a_typing_error_is_answered_with_the_names() {
        let error = read("texts").expect_err("no kind");

        assert!(
            error.contains("possible values: instrument, text"),
            "{error}"
        );
        assert!(error.contains("a similar value exists: 'text'"), "{error}");
    }

    #[test]
    fn a_secret_is_not_repeated() {
        let error = read("otpauth://totp/x?secret=HUSH").expect_err("no kind");

        assert!(
            !error.contains("HUSH") && error.contains("otp add"),
            "{error}"
        );
    }
}
