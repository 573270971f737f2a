//! The screen as text: a function of what is known and what is chosen.

mod area;
mod chart;
mod details;
mod facts;
mod figures;
mod frame;
mod help;
mod scene;
mod screen;
#[cfg(test)]
mod screen_tests;
mod shards;
mod table;
mod theme;
mod workers;

pub(super) use scene::{Place, View};
pub(super) use theme::Theme;
