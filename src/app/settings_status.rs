//! Whether the settings that a process was given are in force.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a worker with changed settings may start until that is reported.
const START_MAX: Duration = Duration::from_secs(10);

/// Whether the settings are in force, for the health of whichever worker serves.
#[derive(Clone, Default)]
pub struct SettingsStatus(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    reloads: u64,
    pending: Option<Pending>,
}

/// Why the settings are not in force.
enum Pending {
    /// A worker with them has been starting since then.
    Starting(Instant),
    /// They cannot be used.
    Refused(String),
}

impl SettingsStatus {
    /// How often changed settings have come into force.
    pub fn reloads(&self) -> u64 {
        self.state().reloads
    }

    /// Returns why the settings are not in force, if there is something to report.
    pub fn reason(&self) -> Option<String> {
        match &self.state().pending {
            Some(Pending::Refused(why)) => Some(format!("the former settings are in force: {why}")),
            Some(Pending::Starting(since)) if since.elapsed() >= START_MAX => Some(format!(
                "the former settings are in force: a worker with the changed ones is not ready \
                 after {} s, the log says what it waits for",
                since.elapsed().as_secs()
            )),
            _ => None,
        }
    }

    /// Notes that a worker with changed settings starts.
    pub(super) fn starting(&self) {
        self.state().pending = Some(Pending::Starting(Instant::now()));
    }

    /// Notes why the settings cannot be used.
    pub(super) fn refused(&self, why: &str) {
        self.state().pending = Some(Pending::Refused(why.to_owned()));
    }

    /// Returns whether that is what was noted last.
    pub(super) fn is_refused_because(&self, why: &str) -> bool {
        matches!(&self.state().pending, Some(Pending::Refused(noted)) if noted == why)
    }

    /// Notes that changed settings are in force.
    pub(super) fn reloaded(&self) {
        self.state().reloads += 1;
        self.as_before();
    }

    /// Notes that the settings are those in force.
    pub(super) fn as_before(&self) {
        self.state().pending = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
