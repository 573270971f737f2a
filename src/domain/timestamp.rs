//! A point in time, as replies and records show it.

use serde::{Deserialize, Serialize};
use std::fmt;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A point in time in UTC, in milliseconds since the Unix epoch.
///
/// It lies within the years 0 to 9999, which RFC 3339 can express. Timestamps are for people to
/// read: no request is decided by a clock. The serde form is the bare number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "i64", into = "i64")]
pub struct Timestamp(i64);

impl Timestamp {
    /// 0000-01-01T00:00:00.000Z.
    pub const MIN: Self = Self(-62_167_219_200_000);
    /// 9999-12-31T23:59:59.999Z.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// Returns the present time by this machine's clock.
    pub fn now() -> Self {
        // The cast cannot overflow: an i64 of milliseconds reaches far beyond the year 9999.
        Self::from_millis((OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000) as i64)
    }

    /// Returns the time this many milliseconds after the Unix epoch.
    ///
    /// A time outside the years 0 to 9999 becomes the nearest one inside.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(Self::MIN.0, Self::MAX.0))
    }

    /// Returns the milliseconds since the Unix epoch.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// Returns the time this many milliseconds earlier.
    #[must_use]
    pub fn earlier_by_ms(self, millis: i64) -> Self {
        Self::from_millis(self.0.saturating_sub(millis))
    }

    /// Parses RFC 3339 and drops digits beyond milliseconds.
    ///
    /// Returns `None` for text of another form.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        let millis = i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok()?;

        Some(Self::from_millis(millis))
    }

    /// Returns RFC 3339 in UTC, always with milliseconds: `2026-11-23T05:00:00.000Z`.
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
        let month = u8::from(month);
        let milli = self.0.rem_euclid(1_000);

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
    fn from(timestamp: Timestamp) -> Self {
        timestamp.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parsing_drops_digits_beyond_milliseconds() {
        let parsed = Timestamp::parse_rfc3339("2026-11-23T16:55:31.20262487Z").expect("RFC 3339");

        assert_eq!(parsed.to_rfc3339(), "2026-11-23T16:55:31.202Z");
        assert_eq!(
            Timestamp::parse_rfc3339("2026-11-23T16:55:31.202Z"),
            Some(parsed)
        );
        assert_eq!(Timestamp::parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn well_known_times_are_written_with_milliseconds() {
        let written = |millis| Timestamp::from_millis(millis).to_rfc3339();

        assert_eq!(written(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(written(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(written(1_795_410_000_000), "2026-11-23T05:00:00.000Z");
        assert_eq!(written(i64::MIN), "0000-01-01T00:00:00.000Z");
        assert_eq!(written(i64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn now_is_later_than_this_test() {
        assert!(Timestamp::now() > Timestamp::from_millis(1_700_000_000_000));
    }

    #[test]
    fn the_stored_form_is_the_bare_number() {
        let timestamp = Timestamp::from_millis(7);

        let stored = serde_json::to_string(&timestamp).expect("encodable");

        assert_eq!(stored, "7");
        assert_eq!(
            serde_json::from_str::<Timestamp>(&stored).expect("written here"),
            timestamp
        );
    }

    proptest! {
        #[test]
        fn the_written_form_is_the_same_time_in_rfc_3339(
            millis in Timestamp::MIN.0..=Timestamp::MAX.0,
        ) {
            let text = Timestamp::from_millis(millis).to_rfc3339();

            let parsed = OffsetDateTime::parse(&text, &Rfc3339).expect("RFC 3339");

            prop_assert_eq!(text.len(), "2026-11-23T05:00:00.000Z".len());
            prop_assert_eq!(parsed.unix_timestamp_nanos(), i128::from(millis) * 1_000_000);
        }

        #[test]
        fn written_forms_sort_by_time(a: i64, b: i64) {
            let a = Timestamp::from_millis(a >> 16);
            let b = Timestamp::from_millis(b >> 16);

            prop_assert_eq!(a.cmp(&b), a.to_rfc3339().cmp(&b.to_rfc3339()));
        }
    }
}
