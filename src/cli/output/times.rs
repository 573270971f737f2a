//! Times, spans and sizes, as people read them.

use super::screen::Screen;
use crate::domain::Timestamp;
use serde_json::Value;
use std::time::Duration;

/// Ages above this many days are shown as a date.
const AGE_DAYS_MAX: u64 = 30;

/// Returns when something was: `2 min ago` on a terminal, and elsewhere the time as it came.
pub(in crate::cli) fn moment(time: &str, screen: &Screen) -> String {
    let parsed = Timestamp::parse_rfc3339(time).filter(|_| screen.is_terminal());

    parsed.map_or_else(|| time.to_owned(), |then| ago_at(then, screen.now))
}

/// Returns how long ago that was, in words.
fn ago_at(then: Timestamp, now: Timestamp) -> String {
    let millis = now.millis().saturating_sub(then.millis());
    let age = Duration::from_millis(millis.try_into().unwrap_or_default());

    if age.as_secs() > AGE_DAYS_MAX * 86_400 {
        let date: String = then.to_rfc3339().chars().take(10).collect();
        return date;
    }
    ago(age)
}

/// Returns an age in words: `just now`, `2 min ago`.
pub(in crate::cli) fn ago(age: Duration) -> String {
    if age < Duration::from_secs(1) {
        return "just now".to_owned();
    }

    format!("{} ago", span(age))
}

/// Returns a span of time in its largest unit: `12 s`, `2 min`, `3 h`, `5 d`.
pub(in crate::cli) fn span(span: Duration) -> String {
    match span.as_secs() {
        seconds @ ..60 => format!("{seconds} s"),
        seconds @ ..3_600 => format!("{} min", seconds / 60),
        seconds @ ..86_400 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// Returns a number with a comma between each three digits, or that it is not known.
pub(in crate::cli) fn grouped(value: &Value) -> String {
    let Some(number) = value.as_u64() else {
        return "unknown".to_owned();
    };

    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Returns a number of bytes in the largest unit that keeps it whole, or with one decimal.
pub(in crate::cli) fn bytes(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(size, _)| bytes >= *size);

    match unit {
        None => format!("{bytes} B"),
        Some((size, name)) if bytes.is_multiple_of(size) => format!("{} {name}", bytes / size),
        Some((size, name)) => format!("{:.1} {name}", bytes as f64 / size as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_terminal_gets_ages_and_a_pipe_gets_times() {
        let terminal = Screen::terminal(80);
        for (before_ms, expected) in [
            (-5_000, "just now"),
            (999, "just now"),
            (12_000, "12 s ago"),
            (150_000, "2 min ago"),
            (7_300_000, "2 h ago"),
            (200_000_000, "2 d ago"),
            (40 * 86_400_000, "2026-10-14"),
        ] {
            let time = terminal.now.earlier_by_ms(before_ms).to_rfc3339();

            assert_eq!(moment(&time, &terminal), expected);
            assert_eq!(moment(&time, &Screen::pipe()), time);
        }
        assert_eq!(moment("?", &terminal), "?");
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, expected) in [
            (json!(0), "0"),
            (json!(999), "999"),
            (json!(1000), "1,000"),
            (json!(268_435_456), "268,435,456"),
            (json!(null), "unknown"),
        ] {
            assert_eq!(grouped(&number), expected);
        }
    }

    #[test]
    fn sizes_have_a_unit() {
        for (size, expected) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (8_192, "8 KiB"),
            (268_435_456, "256 MiB"),
            (1_500_000, "1.4 MiB"),
        ] {
            assert_eq!(bytes(size), expected);
        }
    }
}
