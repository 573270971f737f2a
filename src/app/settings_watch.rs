//! Notices when the settings of the process change.

use crate::config::{Reading, SettingsError};
use crate::shutdown::Hangup;
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

/// The time between two readings.
const READ_INTERVAL: Duration = Duration::from_secs(1);
/// How long a reading may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// What was found. If it is an error, the text says what is wrong.
type Found = Result<Reading, String>;

/// Reads the settings every second, and at once on SIGHUP.
pub struct SettingsWatch {
    file: Option<PathBuf>,
    next_reading: Instant,
    hangup: Hangup,
    /// Whether SIGHUP came and was not answered yet.
    asked: bool,
    /// The reading under way.
    reading: Option<JoinHandle<Result<Reading, SettingsError>>>,
    reported: Found,
    /// What the last reading found, if it differs from what was reported.
    candidate: Option<Found>,
}

impl SettingsWatch {
    /// Watches the settings that were read from `file`, which is the first report.
    pub fn new(file: Option<PathBuf>, first: Reading, hangup: Hangup) -> Self {
        Self {
            file,
            next_reading: Instant::now() + READ_INTERVAL,
            hangup,
            asked: false,
            reading: None,
            reported: Ok(first),
            candidate: None,
        }
    }

    /// Waits for a change that two readings in a row agree on, so that a file that is just being
    /// written does not count. On SIGHUP, one reading is enough, and returns also what was reported
    /// before.
    ///
    /// Nothing is lost if the wait is given up.
    pub async fn next(&mut self) -> Found {
        loop {
            if !self.asked {
                tokio::select! {
                    () = self.hangup.received() => self.asked = true,
                    () = sleep_until(self.next_reading) => {}
                }
            }

            let found = self.read().await;
            self.next_reading = Instant::now() + READ_INTERVAL;
            let is_repeated = self.candidate.replace(found.clone()).as_ref() == Some(&found);
            if self.asked || (is_repeated && found != self.reported) {
                self.asked = false;
                self.reported = found.clone();
                return found;
            }
        }
    }

    /// Reads the settings. A file that hangs, for example of a network share, is waited for, and is
    /// an error meanwhile.
    async fn read(&mut self) -> Found {
        let reading = self.reading.get_or_insert_with(|| {
            let file = self.file.clone();
            tokio::task::spawn_blocking(move || Reading::take(file.as_deref()))
        });
        let Ok(read) = timeout(READ_TIMEOUT, reading).await else {
            let seconds = READ_TIMEOUT.as_secs();
            return Err(format!("the files cannot be read within {seconds} s"));
        };

        self.reading = None;
        match read {
            Ok(reading) => reading.map_err(|error| error.to_string()),
            Err(_) => Err("the reading failed".to_owned()),
        }
    }
}
