//! A settings file that changes while a worker runs.

use super::world::{Worker, World};
use gofavorites::app::Reloading;
use gofavorites::config::{Reading, Role, Settings, SettingsSource};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Notify;
use toml::{Table, Value};

/// A settings file, and the worker of this process that reads it.
pub struct LiveSettings {
    /// What the file has.
    pub settings: Settings,
    file: PathBuf,
    asked: Arc<Notify>,
}

impl World {
    /// Starts a worker with these settings, after `init`, and waits until it is ready. It reads
    /// them again from a file.
    pub async fn live_worker(&self, settings: Settings) -> (Worker, LiveSettings) {
        self.init(&settings).await.expect("init");
        let live = LiveSettings::write(&self.directory, settings);

        let reloading = Reloading {
            source: SettingsSource {
                file: Some(live.file.clone()),
            },
            started: Reading::of(live.settings.clone()),
            asked: live.asked.clone(),
        };
        let worker = self
            .try_reloading_worker(live.settings.clone(), Some(reloading))
            .await
            .expect("a worker");

        (worker, live)
    }
}

impl LiveSettings {
    /// Writes the settings into a new file below that directory.
    fn write(directory: &Path, mut settings: Settings) -> Self {
        let name = uuid::Uuid::now_v7().to_string();
        settings.worker.ready_file = directory.join(format!("{name}.ready"));

        let live = Self {
            settings,
            file: directory.join(format!("{name}.toml")),
            asked: Arc::default(),
        };
        live.write_text(&toml_of(&live.settings));

        live
    }

    /// Changes the settings in the file.
    pub fn change(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.write_text(&toml_of(&self.settings));
    }

    /// Replaces the file, by a rename.
    pub fn write_text(&self, text: &str) {
        replace(&self.file, text);
    }

    /// Does what SIGHUP does to a process.
    pub fn ask(&self) {
        self.asked.notify_one();
    }
}

/// Replaces a file in one step.
pub fn replace(file: &Path, text: &str) {
    let unfinished = file.with_extension("unfinished");
    fs::write(&unfinished, text).expect("written");
    fs::rename(&unfinished, file).expect("renamed");
}

/// Returns the text of a settings file, with the secrets.
pub fn toml_of(settings: &Settings) -> String {
    // The printed settings hide the secrets, so they are put back.
    let mut shown: Table = toml::from_str(&settings.shown().expect("TOML")).expect("TOML");
    for (section, field, secret) in [
        ("nats", "url", &settings.nats.url),
        ("postgres", "url", &settings.postgres.url),
        ("keys", "identity", &settings.keys.identity),
        ("keys", "encryption", &settings.keys.encryption),
    ] {
        shown[section][field] = Value::String(secret.clone());
    }
    for role in Role::ALL {
        let password = settings.nats.user(role).password.clone();
        shown["nats"][role.name()]["password"] = Value::String(password);
    }

    toml::to_string(&shown).expect("TOML")
}
