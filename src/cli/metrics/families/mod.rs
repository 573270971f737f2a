//! The table of the families. The text is written from it, and `docs/operations.md` shows it.

mod data;
mod dependencies;
mod requests;
mod workers;

use super::family::Family;
use data::DATA;
use dependencies::DEPENDENCIES;
use requests::REQUESTS;
use workers::WORKERS;

/// The labels of what a worker reports.
const WORKER: &[&str] = &["shard", "worker"];

/// Returns all families, in the order of the text.
pub(super) fn families() -> impl Iterator<Item = &'static Family> {
    [WORKERS, REQUESTS, DEPENDENCIES, DATA]
        .into_iter()
        .flatten()
}
