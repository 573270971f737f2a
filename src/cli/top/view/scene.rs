//! What is drawn.

use super::theme::Theme;
use crate::cli::top::controls::Controls;
use crate::cli::top::model::Model;
use crate::domain::Timestamp;
use std::time::Duration;

/// Which service is looked at.
#[derive(Clone, Debug, Default)]
pub(in crate::cli::top) struct Place {
    pub service: String,
    /// The servers' addresses, without credentials.
    pub servers: String,
}

/// What is drawn, and when.
#[derive(Clone, Copy)]
pub(in crate::cli::top) struct View<'v> {
    pub model: &'v Model,
    pub controls: &'v Controls,
    pub place: &'v Place,
    /// The time since the program started.
    pub now: Duration,
    /// The time of day.
    pub clock: Timestamp,
    pub theme: Theme,
}
