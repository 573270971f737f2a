//! What became of the settings that were read again, for health and statistics.

use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What became of the settings that were read again.
#[derive(Debug, Default)]
pub(super) struct ReloadStatus {
    reloads: AtomicU64,
    failed: AtomicU64,
    current: Mutex<Current>,
}

#[derive(Debug, Default)]
struct Current {
    /// Why the settings cannot be used now.
    error: Option<String>,
    /// Why some of them are not in force yet.
    late: Option<String>,
    /// The settings that differ from those of the start, and need a restart.
    restart_needed: Vec<String>,
}

impl ReloadStatus {
    /// Counts settings that were put in force.
    pub fn count_reload(&self) {
        self.reloads.fetch_add(1, Ordering::Relaxed);
    }

    /// Records that the settings can be used. Returns whether they could not be used before.
    pub fn succeed(&self) -> bool {
        self.current().error.take().is_some()
    }

    /// Records why the settings cannot be used. Returns whether that is new.
    pub fn fail(&self, error: &str) -> bool {
        let mut current = self.current();
        let is_new = replace(&mut current.error, Some(error));
        if is_new {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }

        is_new
    }

    /// Records why some settings are not in force yet. Returns whether that is new.
    pub fn set_late(&self, error: Option<&str>) -> bool {
        replace(&mut self.current().late, error)
    }

    /// Records which settings need a restart. Returns whether they are others than before.
    pub fn set_restart_needed(&self, names: &[String]) -> bool {
        let mut current = self.current();
        if current.restart_needed == names {
            return false;
        }

        current.restart_needed = names.to_vec();
        true
    }

    /// Returns why settings of the file are not in force.
    pub fn problems(&self) -> Vec<String> {
        let current = self.current();
        let error = current
            .error
            .as_ref()
            .map(|error| format!("the former settings are in force: {error}"));
        let late = current
            .late
            .as_ref()
            .map(|error| format!("changed settings are not in force yet: {error}"));

        error.into_iter().chain(late).collect()
    }

    /// Returns this part of the statistics.
    pub fn to_json(&self) -> Value {
        json!({
            "reloads": self.reloads.load(Ordering::Relaxed),
            "failed": self.failed.load(Ordering::Relaxed),
            "restart_needed": self.current().restart_needed,
        })
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Replaces a text. Returns whether it is another.
fn replace(current: &mut Option<String>, new: Option<&str>) -> bool {
    let is_other = current.as_deref() != new;
    if is_other {
        *current = new.map(str::to_owned);
    }

    is_other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_counts_once_until_it_is_another_or_over() {
        let status = ReloadStatus::default();

        assert!(status.fail("one"));
        assert!(!status.fail("one"));
        assert!(status.fail("two"));
        assert_eq!(status.problems().len(), 1);

        assert!(status.succeed());
        assert!(!status.succeed());
        assert!(status.problems().is_empty());
        assert_eq!(status.to_json()["failed"], 2);
    }

    #[test]
    fn the_settings_that_need_a_restart_are_reported_when_they_change() {
        let status = ReloadStatus::default();
        let names = ["worker.id".to_owned()];

        assert!(!status.set_restart_needed(&[]));
        assert!(status.set_restart_needed(&names));
        assert!(!status.set_restart_needed(&names));
        assert_eq!(status.to_json()["restart_needed"], json!(["worker.id"]));
        assert!(status.set_restart_needed(&[]));
    }
}
