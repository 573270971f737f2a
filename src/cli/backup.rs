//! `gofavorites backup`: takes, checks and restores backups of the bucket.

use super::CommandSettings;
use super::failed::CommandError;
use super::output::{count, print};
use super::progress::Progress;
use super::wait::{Wait, with_exit_code};
use crate::app::BackupSession;
use crate::maintenance::{Backup, backup_name, list_backups};
use crate::seal::Keyring;
use anyhow::Context as _;
use clap::{Args, Subcommand};
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Take, check and restore backups of the bucket.
#[derive(Args)]
pub(super) struct BackupCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Create(Create),
    Verify(Verify),
    Restore(Restore),
}

/// Take a backup of the bucket while workers run. It takes the settings of a worker, with the NATS
/// user `backup`.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites backup create /var/backups/favorites --config backup.toml
  gofavorites backup create /var/backups/favorites --keep 14 --config backup.toml")]
struct Create {
    /// The directory in which the backup gets a directory of its own, named by bucket and time
    directory: PathBuf,
    /// Then delete the oldest backups of this bucket in the directory, until this many are left, the new one among them
    #[arg(long, value_name = "N")]
    keep: Option<NonZeroUsize>,
    #[command(flatten)]
    settings: CommandSettings,
    #[command(flatten)]
    wait: Wait,
}

/// Check a backup's files, and that it is of a bucket with these keys. Connects to nothing.
#[derive(Args)]
#[command(after_help = "Example:
  gofavorites backup verify /var/backups/favorites/favorites-20261123T175419Z --config backup.toml")]
struct Verify {
    /// The backup's directory
    backup: PathBuf,
    #[command(flatten)]
    settings: CommandSettings,
}

/// Restore the bucket from a backup, and check every owner in it. There must be no bucket. It takes
/// the settings of a worker, with the NATS user `restore`.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites backup restore /var/backups/favorites/favorites-20261123T175419Z --dry-run --config restore.toml
  gofavorites backup restore /var/backups/favorites/favorites-20261123T175419Z --config restore.toml")]
struct Restore {
    /// The backup's directory
    backup: PathBuf,
    /// Only check the backup, and that there is no bucket
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    settings: CommandSettings,
    #[command(flatten)]
    wait: Wait,
}

impl BackupCommand {
    pub async fn run(self) -> anyhow::Result<()> {
        match self.action {
            Action::Create(create) => create.run().await,
            Action::Verify(verify) => verify.run(),
            Action::Restore(restore) => restore.run().await,
        }
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<()> {
        let settings = self.settings.read()?;
        let session = BackupSession::open(&settings, self.wait.limit())
            .await
            .map_err(with_exit_code)?;

        let bucket = &settings.truth.bucket;
        let path = self.directory.join(backup_name(bucket));
        let mut progress = Progress::new("bytes saved");
        let take = session
            .backups
            .take(&path, |done, total| progress.step(done, total));
        let backup = session.within_rights(take).await.map_err(with_exit_code)?;
        progress.end();
        print(&describe(&backup)?)?;

        match self.keep {
            Some(keep) => delete_oldest(&self.directory, bucket, keep, &path),
            None => Ok(()),
        }
    }
}

impl Verify {
    fn run(self) -> anyhow::Result<()> {
        let settings = self.settings.read()?;
        let backup = check_backup(&self.backup, &settings)?;

        print(&describe(&backup)?)
    }
}

impl Restore {
    async fn run(self) -> anyhow::Result<()> {
        let settings = self.settings.read()?;
        let backup = check_backup(&self.backup, &settings)?;
        let session = BackupSession::open(&settings, self.wait.limit())
            .await
            .map_err(with_exit_code)?;
        let backups = &session.backups;

        if self.dry_run {
            session
                .within_rights(backups.check_absent())
                .await
                .map_err(with_exit_code)?;
            print(&describe(&backup)?)?;
            return print("it can be restored\n");
        }

        let mut progress = Progress::new("bytes restored");
        let restore = backups.restore(&backup, |done, total| progress.step(done, total));
        session
            .within_rights(restore)
            .await
            .map_err(with_exit_code)?;
        progress.end();

        let mut progress = Progress::new("records checked");
        let audit = backups.audit(|done, total| progress.step(done, total));
        let audit = session.within_rights(audit).await.map_err(with_exit_code)?;
        progress.end();

        print(&describe(&backup)?)?;
        print(&format!(
            "restored: {}, {} of them with records that cannot be used\n",
            count(audit.owners, "owner"),
            audit.broken
        ))?;
        if audit.broken > 0 {
            let message = "some owners' records cannot be used; the log names them";
            return Err(CommandError::differs(message.to_owned()).into());
        }
        Ok(())
    }
}

/// Reads a backup, and checks its archive, and that it is of a bucket with these keys and settings.
fn check_backup(path: &Path, settings: &crate::config::Settings) -> anyhow::Result<Backup> {
    settings.check()?;
    let keyring = Keyring::from_base64(&settings.keys.identity, &settings.keys.encryption)?;
    let backup = Backup::open(path)?;
    backup.check_bucket(&settings.truth, keyring.fingerprints())?;

    let mut progress = Progress::new("bytes checked");
    backup.check_archive(|done, total| progress.step(done, total))?;
    progress.end();
    Ok(backup)
}

fn describe(backup: &Backup) -> anyhow::Result<String> {
    let stored = &backup.stored;
    let taken = backup.taken_at().unwrap_or("at an unknown time");
    let mut text = format!(
        "{}: taken {taken}, {} records up to {}, {} bytes\n",
        backup.path.display(),
        stored.messages(),
        stored.last_sequence(),
        backup.archive_bytes()?,
    );

    if !backup.is_complete() {
        text += "it may lack records that were overwritten while it was taken, so shards will treat \
                 a restore of it as a loss of history\n";
    }
    Ok(text)
}

/// Deletes the oldest backups of the bucket until `keep` are left, the one just `taken` among them.
fn delete_oldest(
    directory: &Path,
    bucket: &str,
    keep: NonZeroUsize,
    taken: &Path,
) -> anyhow::Result<()> {
    let mut others = list_backups(directory, bucket)?;
    others.retain(|path| path != taken);
    let surplus = (others.len() + 1).saturating_sub(keep.get());

    for path in others.iter().take(surplus) {
        fs::remove_dir_all(path).with_context(|| format!("cannot delete {}", path.display()))?;
        print(&format!("deleted {}\n", path.display()))?;
    }
    Ok(())
}
