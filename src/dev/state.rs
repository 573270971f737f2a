//! Where a development platform keeps its state, and whether one runs there.

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Uid;
use serde_json::Value;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The usual name of the directory.
pub const USUAL_NAME: &str = ".dev";
/// The file that every state has.
pub(super) const SECRETS_FILE: &str = "secrets.json";
/// The file that describes a running platform.
pub(super) const DESCRIPTION_FILE: &str = "dev.json";

/// How long the lock of a state is retried: a command that looks whether a platform runs holds it
/// for a moment.
const LOCK_RETRY_PERIOD: Duration = Duration::from_millis(500);

/// Returns the directory of the state: the named one, or else the nearest `.dev` from the current
/// directory upwards, or else a new `.dev` in the current directory.
///
/// # Errors
///
/// The current directory cannot be found.
pub fn locate(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(named) = named.filter(|path| !path.as_os_str().is_empty()) {
        return Ok(std::path::absolute(named)?);
    }

    let here = std::env::current_dir().context("the current directory cannot be found")?;
    let found = nearest(&here, USUAL_NAME, SECRETS_FILE);
    Ok(found.unwrap_or_else(|| here.join(USUAL_NAME)))
}

/// Returns the nearest directory of that name from `here` upwards that has `content`.
///
/// The one in `here` needs no content. One above counts only if it and its content belong to this
/// user: others may write to directories above, such as `/tmp`.
pub(super) fn nearest(here: &Path, name: &str, content: &str) -> Option<PathBuf> {
    let own = here.join(name);
    if own.is_dir() {
        return Some(own);
    }

    let mut above = here.ancestors().skip(1).map(|one| one.join(name));
    above.find(|directory| {
        directory.join(content).exists()
            && check_owner(directory).is_ok()
            && check_owner(&directory.join(content)).is_ok()
    })
}

/// Refuses a file or a directory of another user, or a link that another user made: what is in it is
/// trusted, and programs that it names are run. Root is trusted.
///
/// # Errors
///
/// It belongs to another user, or cannot be found.
pub(super) fn check_owner(path: &Path) -> anyhow::Result<()> {
    let owner = fs::symlink_metadata(path)
        .with_context(|| path.display().to_string())?
        .uid();

    if owner != Uid::effective().as_raw() && owner != 0 {
        bail!(
            "{} belongs to another user: use the platform as that user, or another --state",
            path.display()
        );
    }
    Ok(())
}

/// Returns the file with the secrets of a platform that was started in `state`.
///
/// # Errors
///
/// No platform was ever started there.
pub fn secrets_file(state: &Path) -> anyhow::Result<PathBuf> {
    let file = state.join(SECRETS_FILE);

    match fs::metadata(&file) {
        Ok(_) => Ok(file),
        Err(error) if is_absent(&error) => bail!(no_platform(state)),
        Err(error) => Err(error).context(file.display().to_string()),
    }
}

/// A platform that runs, as its `dev.json` describes it.
#[derive(Debug)]
pub struct RunningPlatform {
    state: PathBuf,
    description: Value,
}

impl RunningPlatform {
    /// Finds the platform that runs on `state`.
    ///
    /// # Errors
    ///
    /// None runs there, or it is not ready.
    pub fn find(state: &Path) -> anyhow::Result<Self> {
        let file = state.join(DESCRIPTION_FILE);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if !is_absent(&error) => {
                return Err(error).context(file.display().to_string());
            }
            Err(_) if is_locked(state)? => {
                bail!(
                    "the platform in {} starts or stops at this moment: try again",
                    state.display()
                )
            }
            Err(_) => bail!(no_platform(state)),
        };
        check_owner(state)?;
        check_owner(&file)?;
        let description = serde_json::from_slice(&text)
            .with_context(|| format!("{} cannot be read", file.display()))?;

        let found = Self {
            state: state.to_owned(),
            description,
        };
        // A platform that was killed leaves its description behind.
        if !found.is_in_containers() && !is_locked(state)? {
            bail!(no_platform(state));
        }

        Ok(found)
    }

    /// Its `dev.json`.
    pub fn description(&self) -> &Value {
        &self.description
    }

    /// The directory of its state.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The URL of its NATS server, or that of the first shard.
    ///
    /// # Errors
    ///
    /// `dev.json` has none.
    pub fn nats_url(&self) -> anyhow::Result<&str> {
        self.description["nats_url"]
            .as_str()
            .context("dev.json names no NATS server")
    }

    /// Refuses a platform in containers: its parts are no processes of `dev`.
    ///
    /// # Errors
    ///
    /// The platform runs in containers.
    pub fn has_processes(&self) -> anyhow::Result<()> {
        if self.is_in_containers() {
            bail!(
                "the platform in {} runs in containers: use `docker compose`",
                self.state.display()
            );
        }

        Ok(())
    }

    fn is_in_containers(&self) -> bool {
        self.description["servers"]["nats"]["pid"].is_null()
    }
}

/// Locks the state of a platform.
pub(super) fn lock_state(state: &Path) -> anyhow::Result<Flock<File>> {
    let file = lock_file(state);
    let mut lock = File::create(&file).with_context(|| file.display().to_string())?;

    let deadline = Instant::now() + LOCK_RETRY_PERIOD;
    loop {
        match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((back, _)) if Instant::now() < deadline => lock = back,
            Err(_) => bail!(
                "another `dev` runs on {}: stop it with `gofavorites dev stop`, or give --state",
                state.display()
            ),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The file that a platform locks as long as it runs.
fn lock_file(state: &Path) -> PathBuf {
    state.join("lock")
}

/// Returns whether a platform runs on that state, or is about to.
///
/// # Errors
///
/// The file of the lock cannot be read.
pub(super) fn is_locked(state: &Path) -> anyhow::Result<bool> {
    let file = lock_file(state);
    let lock = match File::open(&file) {
        Ok(lock) => lock,
        Err(error) if is_absent(&error) => return Ok(false),
        Err(error) => return Err(error).context(file.display().to_string()),
    };

    match Flock::lock(lock, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, error)) => Err(error).context(file.display().to_string()),
    }
}

/// What every command answers that finds no platform.
pub(super) fn no_platform(state: &Path) -> String {
    format!(
        "no platform runs here (in {}): start it with `gofavorites dev`, or name the directory of \
         its state with --state or GOFAVORITES_STATE",
        state.display()
    )
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_directory_of_this_user_is_found() {
        let directory = tempfile::tempdir().expect("a directory");
        let top = directory.path();
        let below = top.join("one/two");
        fs::create_dir_all(&below).expect("made");
        assert_eq!(nearest(&below, ".x", "mark"), None);

        // Above, a directory without the content does not count.
        fs::create_dir(top.join(".x")).expect("made");
        assert_eq!(nearest(&below, ".x", "mark"), None);

        fs::write(top.join(".x/mark"), "").expect("written");
        assert_eq!(nearest(&below, ".x", "mark"), Some(top.join(".x")));

        fs::create_dir(below.join(".x")).expect("made");
        assert_eq!(nearest(&below, ".x", "mark"), Some(below.join(".x")));
    }

    #[test]
    fn a_named_directory_is_taken_as_it_is() {
        let named = locate(Some(Path::new("/no/such"))).expect("a path");

        assert_eq!(named, Path::new("/no/such"));
    }

    #[test]
    fn a_description_without_its_platform_is_no_platform() {
        let state = tempfile::tempdir().expect("a directory");
        let find = || {
            let error = RunningPlatform::find(state.path()).expect_err("none runs");
            error.to_string()
        };
        assert!(find().starts_with("no platform runs here"), "{}", find());

        let description = r#"{"servers": {"nats": {"pid": 1}}}"#;
        fs::write(state.path().join(DESCRIPTION_FILE), description).expect("written");
        assert!(find().starts_with("no platform runs here"), "{}", find());

        let lock = lock_state(state.path()).expect("locked");
        RunningPlatform::find(state.path()).expect("one runs");

        fs::remove_file(state.path().join(DESCRIPTION_FILE)).expect("removed");
        assert!(find().contains("starts or stops"), "{}", find());
        drop(lock);
    }
}
