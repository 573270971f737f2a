//! Times on the command line: numbers with their units.

use std::time::Duration;

/// What is wrong with a time that cannot be read.
const FORM: &str = "give numbers with ms, s, m, h or d, as in 10s, 500ms, 1h30m or 7d";

/// Reads a time: `500ms`, `10s`, `1h30m`, `7d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let mut sum = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit()).ok_or(FORM)?;
        let (number, more) = rest.split_at(unit_at);
        let next_at = more.find(|c: char| c.is_ascii_digit());
        let (unit, more) = more.split_at(next_at.unwrap_or(more.len()));

        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(FORM.into()),
        };
        let number: u64 = number.parse().map_err(|_| FORM)?;
        sum += Duration::from_millis(number.saturating_mul(milliseconds));
        rest = more;
    }

    if text.is_empty() {
        return Err(FORM.into());
    }
    Ok(sum)
}

/// Reads a time as [`duration`] does, or `0`.
pub(super) fn duration_or_zero(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }

    duration(text)
}

/// Reads a time limit: at least a millisecond, at most 10 minutes. A bare number is seconds, because
/// probes of containers that exist have it.
pub(super) fn time_limit(text: &str) -> Result<Duration, String> {
    let limit = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => duration(text)?,
    };
    if limit.is_zero() || limit > Duration::from_secs(600) {
        return Err("must be from 1ms to 10m".into());
    }

    Ok(limit)
}

/// Reads a number of days: a time of whole days, at most 36,500.
pub(super) fn days(text: &str) -> Result<i32, String> {
    let seconds = duration(text)?.as_secs();
    let days = seconds / 86_400;

    match i32::try_from(days) {
        Ok(days @ 1..=36_500) if seconds.is_multiple_of(86_400) => Ok(days),
        _ => Err("give whole days, as in 90d, from 1 to 36,500".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_numbers_with_units() {
        for (text, milliseconds) in [
            ("60s", 60_000),
            ("500ms", 500),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)));
        }
        for wrong in [
            "60",
            "s",
            "",
            "1x",
            "1 s",
            "-1s",
            "1.5s",
            "99999999999999999999s",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn zero_needs_no_unit() {
        assert_eq!(duration_or_zero("0"), Ok(Duration::ZERO));
        assert_eq!(duration_or_zero("0s"), Ok(Duration::ZERO));
        assert!(duration("0").is_err());
    }

    #[test]
    fn a_time_limit_is_neither_nothing_nor_for_ever() {
        assert_eq!(time_limit("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(time_limit("5"), Ok(Duration::from_secs(5)));
        assert!(time_limit("0s").is_err() && time_limit("11m").is_err());
    }

    #[test]
    fn days_are_whole() {
        assert_eq!(days("90d"), Ok(90));
        assert_eq!(days("48h"), Ok(2));
        assert!(days("36h").is_err() && days("0d").is_err() && days("36501d").is_err());
    }
}
