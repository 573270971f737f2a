//! Reads the settings again while the program runs, and puts in force what can change meanwhile.
//!
//! It compares what the files contain, and not their times: a platform swaps a symbolic link, an
//! editor renames a file. A change counts when two readings in a row agree on it, so that a file is
//! not taken up while it is being written. SIGHUP makes it count at once.

use super::reload_status::ReloadStatus;
use crate::auth::Keys;
use crate::config::{Changes, Reading, Settings, SettingsSource, Uptake};
use crate::telemetry;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{error, info, warn};

/// How often the settings are read again.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Lets a running program read its settings again.
pub struct Reloading {
    /// Where they are.
    pub source: SettingsSource,
    /// The settings with which the program starts.
    pub started: Reading,
    /// Notified when they have to be read at once.
    pub asked: Arc<Notify>,
}

/// Settings that were read again, and checked.
pub(super) struct NewSettings<'a> {
    pub settings: &'a Settings,
    /// The settings that were taken up before.
    pub former: &'a Settings,
    /// What differs from them.
    pub changes: &'a Changes,
}

/// The program whose settings change.
pub(super) trait Target: Send {
    /// Returns whether the program uses a setting.
    fn uses(&self, name: &str, uptake: Uptake) -> bool;

    /// Returns whether a setting that it uses counts only after a restart, with the value that it
    /// has in `settings`.
    fn needs_restart(&self, uptake: Uptake, settings: &Settings) -> bool;

    /// Returns what is wrong with the settings, in addition to what they show by themselves.
    fn problems(&self, new: &NewSettings<'_>) -> Vec<String>;

    /// Puts in force what has changed, except what needs a restart. `keys` are those of the auth
    /// service, if they have changed.
    fn apply(&mut self, new: &NewSettings<'_>, keys: Option<Keys>);

    /// Does what could not be done at once. Returns why it cannot be done now.
    fn catch_up(&mut self) -> impl Future<Output = Option<String>> + Send;
}

/// Reads the settings again and again.
pub(super) struct Reloader<T> {
    source: SettingsSource,
    asked: Arc<Notify>,
    /// The settings with which the program was started. Those that need a restart are in force as
    /// they are here.
    started: Reading,
    /// The settings that were taken up last.
    taken: Reading,
    /// What was read last.
    last: Option<Result<Reading, Vec<String>>>,
    target: T,
    status: Arc<ReloadStatus>,
}

impl<T: Target> Reloader<T> {
    pub fn new(reloading: Reloading, target: T, status: Arc<ReloadStatus>) -> Self {
        let Reloading {
            source,
            started,
            asked,
        } = reloading;

        Self {
            source,
            asked,
            taken: started.clone(),
            started,
            last: None,
            target,
            status,
        }
    }

    /// Never returns.
    pub async fn run(mut self) {
        loop {
            let asked = tokio::select! {
                () = self.asked.notified() => true,
                () = sleep(POLL_INTERVAL) => false,
            };
            if asked {
                info!("reading the settings again");
            }

            self.step(asked).await;
            self.catch_up().await;
        }
    }

    /// Reads the settings once, and puts changes in force. If it was `asked`, it does not wait for
    /// a second reading.
    async fn step(&mut self, asked: bool) {
        let source = self.source.clone();
        // On a thread that may block, because a file may be on a slow network.
        let read = match spawn_blocking(move || source.read()).await {
            Ok(read) => read.map_err(|error| error.problems()),
            Err(error) => Err(vec![error.to_string()]),
        };

        let is_settled = asked || self.last.as_ref().is_some_and(|last| is_same(last, &read));
        self.last = Some(read.clone());
        if !is_settled {
            return;
        }

        let outcome = match read {
            Ok(reading) => self.take_up(reading, asked).await,
            Err(problems) => Err(problems),
        };
        match outcome {
            Ok(()) => {
                if self.status.succeed() {
                    info!("the settings can be used again");
                }
            }
            Err(problems) => self.refuse(&problems, asked),
        }
    }

    /// Puts in force what has changed.
    ///
    /// # Errors
    /// What is wrong with the settings. Nothing has changed then.
    async fn take_up(&mut self, reading: Reading, asked: bool) -> Result<(), Vec<String>> {
        let changes = self.taken.changes_to(&reading);
        if changes.is_empty() {
            if asked {
                info!("the settings are as before");
            }
            return Ok(());
        }

        let new = NewSettings {
            settings: &reading.settings,
            former: &self.taken.settings,
            changes: &changes,
        };
        let keys = read_keys(&new).await;
        let mut problems = self.target.problems(&new);
        problems.extend(keys.as_ref().err().cloned());
        if let Err(error) = telemetry::check_filter(&reading.settings.log.filter) {
            problems.push(error.to_string());
        }

        match keys {
            Ok(keys) if problems.is_empty() => {
                self.put_in_force(reading, &changes, keys);
                Ok(())
            }
            _ => Err(problems),
        }
    }

    /// Puts settings in force that have no problems, and reports what has changed.
    fn put_in_force(&mut self, reading: Reading, changes: &Changes, keys: Option<Keys>) {
        let settings = &reading.settings;
        let new = NewSettings {
            settings,
            former: &self.taken.settings,
            changes,
        };
        if changes.concern(Uptake::LogFilter)
            && let Err(error) = telemetry::set_filter(&settings.log.filter)
        {
            error!(%error, "cannot change what is logged");
        }
        self.target.apply(&new, keys);

        let target = &self.target;
        let waits = |name: &str, uptake| {
            target.uses(name, uptake) && target.needs_restart(uptake, settings)
        };
        let is_taken_up = |name: &str, uptake| {
            target.uses(name, uptake) && !target.needs_restart(uptake, settings)
        };
        let reloaded = changes.names(is_taken_up);
        let waiting = self.started.changes_to(&reading).names(waits);
        self.taken = reading;

        if !reloaded.is_empty() {
            self.status.count_reload();
            info!("settings reloaded: {}", reloaded.join(", "));
        }
        if self.status.set_restart_needed(&waiting) && !waiting.is_empty() {
            let names = waiting.join(", ");
            warn!("settings changed that need a restart: {names}");
        }
    }

    /// Reports settings that cannot be used, each time that the reasons are others.
    fn refuse(&self, problems: &[String], asked: bool) {
        let problems = problems.join("; ");

        if self.status.fail(&problems) || asked {
            error!("the settings cannot be used, the former ones stay in force: {problems}");
        }
    }

    async fn catch_up(&mut self) {
        let error = self.target.catch_up().await;

        if self.status.set_late(error.as_deref())
            && let Some(error) = error
        {
            warn!("changed settings are not in force yet, will retry: {error}");
        }
    }
}

/// Reads the keys of the auth service, if they have changed.
async fn read_keys(new: &NewSettings<'_>) -> Result<Option<Keys>, String> {
    if !new.changes.concern(Uptake::AuthKeys) {
        return Ok(None);
    }

    let settings = new.settings.auth.clone();
    match spawn_blocking(move || Keys::new(&settings)).await {
        Ok(keys) => keys.map(Some).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Returns whether two readings came to the same.
fn is_same(one: &Result<Reading, Vec<String>>, other: &Result<Reading, Vec<String>>) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => one.changes_to(other).is_empty(),
        (Err(one), Err(other)) => one == other,
        _ => false,
    }
}
