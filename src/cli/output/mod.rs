//! Output: JSON, YAML, ids and templates for programs; tables and lines for people.
//!
//! What is for people goes by where it is printed: a terminal gets colours, short times and tables
//! that fit; a pipe gets plain tables in which nothing is cut. The standard output has what was
//! asked for, and the standard error stream everything else.

mod format;
mod items;
mod json;
mod notice;
mod screen;
mod style;
mod table;
mod template;
mod text;
mod times;

pub(super) use format::{Output, WrongOutput, asks_for_json};
pub(super) use items::{description, item_table, kept, summary, tags, what};
pub(super) use json::json_line;
pub(super) use notice::{error, note, warn, warn_if_stale};
pub(super) use screen::Screen;
pub(super) use style::{BAD, DOUBTFUL, GOOD, choose_colour, state_style};
pub(super) use table::{Cell, Column, Table, cut, labelled};
pub(super) use text::{count, for_output, output_secret, plain, print, print_json, visible};
pub(super) use times::{ago, bytes, grouped, moment, span};
