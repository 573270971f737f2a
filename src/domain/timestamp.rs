//! A moment, as the wire and the records show it.

use serde::{Deserialize, Serialize};
use std::fmt;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment in UTC, in milliseconds since the Unix epoch, within the years 0 to 9999 that RFC 3339 can write.
///
/// For people to read: no decision of the service takes a clock into account. The serde form is the bare number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "i64", into = "i64")]
pub struct Timestamp(i64);

impl Timestamp {
    /// 0000-01-01T00:00:00.000Z.
    pub const MIN: Self = Self(-62_167_219_200_000);
    /// 9999-12-31T23:59:59.999Z.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// The moment by this machine's clock.
    pub fn now() -> Self {
        // The clock's range fits: an i64 of milliseconds reaches far beyond the year 9999.
        Self::from_millis((OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000) as i64)
    }

    /// The moment that many milliseconds after the Unix epoch; one outside the years 0 to 9999 becomes the nearest
    /// inside.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(Self::MIN.0, Self::MAX.0))
    }

    /// Milliseconds since the Unix epoch.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// The moment that many milliseconds before this one.
    #[must_use]
    pub fn earlier_by_ms(self, millis: i64) -> Self {
        Self::from_millis(self.0.saturating_sub(millis))
    }

    /// From RFC 3339; `None` for text of another form. Digits beyond milliseconds are cut.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        Some(Self::from_millis(
            i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok()?,
        ))
    }

    /// RFC 3339 in UTC, always with milliseconds: `2026-11-23T05:00:00.000Z`.
    pub fn to_rfc3339(self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = OffsetDateTime::from_unix_timestamp(self.0.div_euclid(1_000))
            .map_err(|_| fmt::Error)?;
        let (year, month, day) = moment.to_calendar_date();
        let (hour, minute, second) = moment.to_hms();
        let (month, milli) = (u8::from(month), self.0.rem_euclid(1_000));
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"
        )
    }
}

impl From<i64> for Timestamp {
    fn from(millis: i64) -> Self {
        Self::from_millis(millis)
    }
}

impl From<Timestamp> for i64 {
    fn from(at: Timestamp) -> Self {
        at.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read_and_finer_digits_are_cut() {
        let at = Timestamp::parse_rfc3339("2026-11-23T16:55:31.20262487Z").expect("RFC 3339");
        assert_eq!(at.to_rfc3339(), "2026-11-23T16:55:31.202Z");
        assert_eq!(Timestamp::parse_rfc3339(&at.to_rfc3339()), Some(at));
        assert_eq!(Timestamp::parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn known_moments_are_written_with_milliseconds() {
        let written = |millis| Timestamp::from_millis(millis).to_rfc3339();
        assert_eq!(written(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(written(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(written(1_795_410_000_000), "2026-11-23T05:00:00.000Z");
        assert_eq!(written(i64::MIN), "0000-01-01T00:00:00.000Z");
        assert_eq!(written(i64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn now_is_after_this_was_written() {
        assert!(Timestamp::now() > Timestamp::from_millis(1_700_000_000_000));
    }

    #[test]
    fn it_is_stored_as_a_bare_number() {
        let at = Timestamp::from_millis(7);
        assert_eq!(serde_json::to_string(&at).expect("encodable"), "7");
        assert_eq!(
            serde_json::from_str::<Timestamp>("7").expect("written here"),
            at
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_the_same_moment_in_rfc_3339(millis in Timestamp::MIN.0..=Timestamp::MAX.0) {
            let text = Timestamp::from_millis(millis).to_rfc3339();
            prop_assert_eq!(text.len(), "2026-11-23T05:00:00.000Z".len());
            let read = OffsetDateTime::parse(&text, &Rfc3339).expect("RFC 3339");
            prop_assert_eq!(read.unix_timestamp_nanos(), i128::from(millis) * 1_000_000);
        }

        #[test]
        fn written_order_is_the_order_in_time(a: i64, b: i64) {
            let (a, b) = (Timestamp::from_millis(a >> 16), Timestamp::from_millis(b >> 16));
            prop_assert_eq!(a.cmp(&b), a.to_rfc3339().cmp(&b.to_rfc3339()));
        }
    }
}
