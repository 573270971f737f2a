//! Figures, as people read them.

use super::theme::Theme;
use crate::cli::output::grouped;
use serde_json::Value;

/// Returns a number of things a second.
pub(super) fn rate(per_s: Option<f64>, theme: Theme) -> String {
    match per_s {
        None => theme.unknown().to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(rate) if rate < 0.1 => "<0.1".to_owned(),
        Some(rate) if rate < 9.95 => format!("{rate:.1}"),
        Some(rate) => grouped(&Value::from(rate.round() as u64)),
    }
}

/// Returns a time of some microseconds.
pub(super) fn micros(us: Option<u64>, theme: Theme) -> String {
    let Some(us) = us else {
        return theme.unknown().to_owned();
    };

    match us {
        0..1_000 => format!("{us} {}", theme.micro()),
        1_000..9_950 => format!("{:.1} ms", us as f64 / 1e3),
        9_950..999_500 => format!("{:.0} ms", us as f64 / 1e3),
        999_500..9_950_000 => format!("{:.1} s", us as f64 / 1e6),
        _ => format!("{:.0} s", us as f64 / 1e6),
    }
}

/// Returns a number of things.
pub(super) fn number(number: Option<u64>, theme: Theme) -> String {
    number.map_or_else(
        || theme.unknown().to_owned(),
        |number| grouped(&Value::from(number)),
    )
}

/// Returns a size.
pub(super) fn size(size: Option<u64>, theme: Theme) -> String {
    size.map_or_else(|| theme.unknown().to_owned(), short_bytes)
}

/// Returns a share of 1 in percent.
pub(super) fn percent(share: Option<f64>, theme: Theme) -> String {
    share.map_or_else(
        || theme.unknown().to_owned(),
        |share| format!("{:.0}%", share * 100.0),
    )
}

/// Returns how much there is of how much there may be.
pub(super) fn fill(used: Option<u64>, max: Option<u64>, theme: Theme) -> String {
    match (used, max) {
        (Some(used), Some(max)) => format!("{} of {}", short_bytes(used), short_bytes(max)),
        _ => size(used, theme),
    }
}

/// Returns a number of bytes in its unit, with a decimal only where it tells something.
fn short_bytes(size: u64) -> String {
    let units = [
        (1_u64 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ];
    let Some((unit, name)) = units.into_iter().find(|(unit, _)| size >= *unit) else {
        return format!("{size} B");
    };

    let amount = size as f64 / unit as f64;
    if amount >= 10.0 || size.is_multiple_of(unit) {
        format!("{amount:.0} {name}")
    } else {
        format!("{amount:.1} {name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEME: Theme = Theme {
        colour: false,
        utf8: true,
    };

    #[test]
    fn rates_are_short() {
        for (per_s, expected) in [
            (None, "–"),
            (Some(0.0), "0"),
            (Some(0.04), "<0.1"),
            (Some(0.5), "0.5"),
            (Some(9.94), "9.9"),
            (Some(9.99), "10"),
            (Some(12_345.6), "12,346"),
        ] {
            assert_eq!(rate(per_s, THEME), expected);
        }
    }

    #[test]
    fn times_have_their_unit() {
        let ascii = Theme {
            utf8: false,
            ..THEME
        };
        for (us, expected) in [
            (None, "–"),
            (Some(0), "0 µs"),
            (Some(999), "999 µs"),
            (Some(1_250), "1.2 ms"),
            (Some(12_499), "12 ms"),
            (Some(999_499), "999 ms"),
            (Some(1_500_000), "1.5 s"),
            (Some(60_000_000), "60 s"),
        ] {
            assert_eq!(micros(us, THEME), expected);
        }
        assert_eq!(micros(Some(5), ascii), "5 us");
        assert_eq!(micros(None, ascii), "-");
    }

    #[test]
    fn sizes_and_shares_are_short() {
        assert_eq!(
            fill(Some(1_500_000), Some(4 << 30), THEME),
            "1.4 MiB of 4 GiB"
        );
        assert_eq!(fill(Some(5 << 20), None, THEME), "5 MiB");
        assert_eq!(fill(None, Some(1), THEME), "–");
        assert_eq!(size(Some(123 << 20), THEME), "123 MiB");
        assert_eq!(size(Some(100), THEME), "100 B");
        assert_eq!(percent(Some(0.756), THEME), "76%");
        assert_eq!(number(Some(1_234), THEME), "1,234");
    }
}
