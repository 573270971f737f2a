//! Colours and weights, and when they are used.

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use std::ffi::OsString;

/// The headings of tables.
pub(super) const HEADING: Style = Style::new().bold();
/// What is as it should be.
pub(in crate::cli) const GOOD: Style = AnsiColor::Green.on_default();
/// What needs attention.
pub(in crate::cli) const DOUBTFUL: Style = AnsiColor::Yellow.on_default();
/// What is wrong, or gone.
pub(in crate::cli) const BAD: Style = AnsiColor::Red.on_default();
/// The word `error`, as clap paints it.
pub(super) const ERROR: Style = AnsiColor::Red.on_default().bold();
/// The word `warning`.
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default().bold();

/// Takes the choice of `--color` from the arguments, for this program's output and for clap's.
///
/// It looks for the option by itself, because clap's errors are painted too, and come before the
/// arguments are read. A value that clap refuses changes nothing.
pub(in crate::cli) fn choose_colour(arguments: &[OsString]) {
    let mut words = arguments.iter().skip(1).filter_map(|word| word.to_str());

    while let Some(word) = words.next() {
        let value = match word.split_once('=') {
            _ if word == "--" => break,
            _ if word == "--color" => words.next(),
            Some(("--color", value)) => Some(value),
            _ => continue,
        };
        if let Some(choice) = value.and_then(parse) {
            choice.write_global();
        }
    }
}

fn parse(value: &str) -> Option<ColorChoice> {
    match value {
        "auto" => Some(ColorChoice::Auto),
        "always" => Some(ColorChoice::Always),
        "never" => Some(ColorChoice::Never),
        _ => None,
    }
}

/// Returns whether a stream shows colours: `--color` decides, or else `NO_COLOR` and the like, and
/// whether it is a terminal.
pub(super) fn shows_colour(stream: &impl anstream::stream::RawStream) -> bool {
    AutoStream::choice(stream) != ColorChoice::Never
}

/// Returns the text in that style.
pub(super) fn painted(text: &str, style: Style, colour: bool) -> String {
    if !colour || text.is_empty() || style.is_plain() {
        return text.to_owned();
    }

    format!("{style}{text}{style:#}")
}

/// Returns the style of a worker's state.
pub(in crate::cli) fn state_style(state: &str) -> Style {
    match state {
        "healthy" => GOOD,
        "degraded" => DOUBTFUL,
        "unhealthy" => BAD,
        _ => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_there_are_colours_a_text_is_painted() {
        assert_eq!(painted("x", BAD, false), "x");
        assert_eq!(painted("x", BAD, true), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(painted("x", Style::new(), true), "x");
    }

    #[test]
    fn each_state_has_its_colour() {
        let styles = ["healthy", "degraded", "unhealthy", "x"].map(state_style);

        assert_eq!(styles, [GOOD, DOUBTFUL, BAD, Style::new()]);
    }
}
