//! What is said on the standard error stream.

use super::style::{ERROR, WARNING, painted, shows_colour};
use crate::telemetry::print_line;
use anstyle::Style;
use serde_json::Value;
use std::io;

/// Says why the command failed, in the form of clap's errors.
pub(in crate::cli) fn error(text: &str) {
    labelled("error:", ERROR, text);
}

/// Says what a person should know, though the command goes on.
pub(in crate::cli) fn warn(text: &str) {
    labelled("warning:", WARNING, text);
}

/// Says something more about what was printed.
pub(in crate::cli) fn note(text: &str) {
    print_line(text);
}

/// Warns if the service could not check whether a reply is current. The warning goes to the
/// standard error stream, so that JSON output stays JSON.
pub(in crate::cli) fn warn_if_stale(reply: &Value) {
    if reply["stale"] == true {
        warn("stale: the bucket could not be asked, so there may be newer data");
    }
}

fn labelled(label: &str, style: Style, text: &str) {
    let label = painted(label, style, shows_colour(&io::stderr()));

    print_line(&format!("{label} {text}"));
}
