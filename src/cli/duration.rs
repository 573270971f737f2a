//! Times on the command line: a number and its unit.

use std::time::Duration;

/// Reads `60s`, `10m` or `2h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, seconds) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3_600),
        _ => return Err("give a number and s, m or h, as in 60s".into()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{number:?} is not a number"))?;

    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

/// Reads a time as [`duration`] does, or `0`.
pub(super) fn duration_or_zero(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }

    duration(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_number_and_a_unit() {
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7_200)));
        assert!(duration("60").is_err() && duration("s").is_err() && duration("").is_err());
    }

    #[test]
    fn zero_needs_no_unit() {
        assert_eq!(duration_or_zero("0"), Ok(Duration::ZERO));
        assert_eq!(duration_or_zero("0s"), Ok(Duration::ZERO));
        assert!(duration("0").is_err());
    }
}
