//! Backups of the bucket, as directories.
//!
//! A backup has the two files that the `nats` program writes too, so each of the two programs can
//! restore what the other one has saved:
//!
//! - `stream.tar.s2`: the stream as the server packs it. The records in it are sealed.
//! - `backup.json`: the stream's settings and state, and under `gofavorites` when the bucket was
//!   created, whether all current records are there, and the archive's size and SHA-256. It is
//!   written last, so a directory without it is no finished backup.

use super::audit::{AuditSummary, audit};
use super::retry::{retry_while, retry_while_unavailable};
use crate::domain::Timestamp;
use crate::owners::OwnersError;
use crate::seal::{Fingerprints, Keyring, Sha256};
use crate::truth::{Bucket, CHUNK_BYTES, SetupError, Stored, TruthError, TruthSettings};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const ARCHIVE: &str = "stream.tar.s2";
/// How later versions of the `nats` program name it.
const ARCHIVE_OF_NATS: &str = "stream.arc.s2";
const DESCRIPTION: &str = "backup.json";
/// How the description is called until it is complete.
const UNFINISHED: &str = "backup.json.unfinished";
/// How often a backup is taken while writers are too fast for it. The last one is kept in any case.
const TRIES_MAX: usize = 3;
/// How often a bucket that was just restored is looked for again, every half a second.
const ELECTION_RETRIES_MAX: usize = 60;

/// Why a backup cannot be taken, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// What the operating system says.
        error: io::Error,
    },
    /// The directory has no finished backup.
    #[error("{0} is no finished backup: it has no {DESCRIPTION}")]
    Incomplete(String),
    /// The description cannot be read.
    #[error("{0} is no description of a backup")]
    Unreadable(String),
    /// The archive is not the one that was written.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The archive.
        path: String,
        /// What differs.
        what: &'static str,
    },
    /// The restored bucket does not have what was saved.
    #[error(
        "the server has {restored} of the {saved} records that were restored: let an administrator \
         of the NATS server delete the stream, and restore again"
    )]
    Lacking {
        /// The records of the bucket.
        restored: u64,
        /// The records of the backup.
        saved: u64,
    },
    /// There is a bucket already.
    #[error(
        "the bucket {0} exists, or a part of it that an interrupted restore has left, and a \
         restore never replaces one: an administrator of the NATS server has to delete its stream \
         first, see docs/operations.md"
    )]
    Exists(String),
    /// The bucket cannot be used, or does not fit the settings.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

impl From<TruthError> for BackupError {
    fn from(error: TruthError) -> Self {
        Self::Setup(error.into())
    }
}

/// The description of a backup, as its file has it. The `nats` program reads `config` and `state`.
#[derive(Deserialize, Serialize)]
struct Description {
    config: Value,
    state: Value,
    gofavorites: Option<Details>,
}

/// What this program adds to the description.
#[derive(Deserialize, Serialize)]
struct Details {
    /// When the bucket was created, in the server's words.
    created: String,
    /// When the backup was finished.
    taken_at: String,
    /// Whether it has every record that was current when it began. If not, some keys were written
    /// to so often meanwhile that their earlier records were dropped.
    complete: bool,
    /// The archive's size, in bytes.
    archive_bytes: u64,
    /// The archive's SHA-256, in hexadecimal.
    archive_sha256: String,
}

/// A finished backup.
pub struct Backup {
    /// Its directory.
    pub path: PathBuf,
    /// The bucket as it is in the backup.
    pub stored: Stored,
    details: Option<Details>,
}

/// Takes and restores backups of one bucket.
pub struct Backups {
    keyring: Keyring,
    bucket: Bucket,
}

impl Backups {
    /// Creates the tool for the bucket, whose records the keys open.
    pub fn new(keyring: Keyring, bucket: Bucket) -> Self {
        Self { keyring, bucket }
    }

    /// Takes a backup of the bucket into a new directory. Calls `on_progress` with the bytes
    /// received, and with about how many there are. Leaves nothing behind if it fails.
    pub async fn take(
        &self,
        path: &Path,
        mut on_progress: impl FnMut(u64, u64),
    ) -> Result<Backup, BackupError> {
        self.bucket.check(self.keyring.fingerprints()).await?;
        create_directory(path)?;
        let unfinished = Unfinished(path);

        let mut backup = self.try_take(path, &mut on_progress).await?;
        for _ in 1..TRIES_MAX {
            if backup.is_complete() {
                break;
            }
            backup = self.try_take(path, &mut on_progress).await?;
        }

        let backup = backup.finish()?;
        std::mem::forget(unfinished);
        Ok(backup)
    }

    /// Saves the stream, and finds out whether the result is complete. Writes no description.
    async fn try_take(
        &self,
        path: &Path,
        on_progress: &mut impl FnMut(u64, u64),
    ) -> Result<Backup, BackupError> {
        let mut snapshot = self.bucket.snapshot().await?;
        let total = snapshot.stored.bytes();
        let mut archive = Archive::create(&path.join(ARCHIVE))?;
        while let Some(chunk) = snapshot.next_chunk().await? {
            archive.append(&chunk)?;
            on_progress(archive.bytes, total.max(archive.bytes));
        }

        let stored = snapshot.stored;
        let complete = self.bucket.is_complete(stored.last_sequence()).await?;
        let details = archive.finish(&stored, complete)?;
        on_progress(details.archive_bytes, details.archive_bytes);

        Ok(Backup {
            path: path.to_owned(),
            stored,
            details: Some(details),
        })
    }

    /// Fails if there is a bucket.
    pub async fn check_absent(&self) -> Result<(), BackupError> {
        if self.bucket.exists().await? {
            return Err(BackupError::Exists(self.bucket.name().to_owned()));
        }

        Ok(())
    }

    /// Restores the bucket from a backup that was checked. Calls `on_progress` with the bytes sent,
    /// and with how many there are.
    pub async fn restore(
        &self,
        backup: &Backup,
        mut on_progress: impl FnMut(u64, u64),
    ) -> Result<(), BackupError> {
        self.check_absent().await?;
        let restore = self
            .bucket
            .restore(&backup.stored, backup.is_complete())
            .await?;

        let mut archive = backup.open_archive()?;
        let total = backup.archive_bytes()?;
        let mut sent = 0;
        while let Some(chunk) = archive.next_chunk()? {
            sent += chunk.len() as u64;
            restore.send(chunk).await?;
            on_progress(sent, total);
        }
        restore.finish().await?;

        // The replicas of a cluster elect a leader first.
        let check = || self.bucket.check(self.keyring.fingerprints());
        retry_while_unavailable(ELECTION_RETRIES_MAX, check).await?;

        let is_lacking = |error: &BackupError| matches!(error, BackupError::Lacking { .. });
        retry_while(ELECTION_RETRIES_MAX, is_lacking, || {
            self.check_restored(backup)
        })
        .await
    }

    /// Checks that the bucket has what the backup has. A leader that was elected before it got the
    /// records answers as if the bucket had none.
    async fn check_restored(&self, backup: &Backup) -> Result<(), BackupError> {
        let restored = self.bucket.stored().await?;
        let saved = &backup.stored;

        // A backup that is not complete may lack the record that was the newest.
        let is_there = if backup.is_complete() {
            restored.last_sequence() >= saved.last_sequence()
        } else {
            restored.messages() > 0 || saved.messages() == 0
        };
        if is_there {
            return Ok(());
        }
        Err(BackupError::Lacking {
            restored: restored.messages(),
            saved: saved.messages(),
        })
    }

    /// Reads every owner of the bucket, and checks that all records are there and can be opened.
    /// Calls `on_progress` with about how many records it has passed, and how many there are.
    pub async fn audit(
        &self,
        on_progress: impl FnMut(u64, u64),
    ) -> Result<AuditSummary, OwnersError> {
        audit(&self.keyring, &self.bucket, on_progress).await
    }
}

impl Backup {
    /// Reads the description of a backup.
    pub fn open(path: &Path) -> Result<Self, BackupError> {
        let file = path.join(DESCRIPTION);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BackupError::Incomplete(path.display().to_string()));
            }
            Err(error) => return Err(file_error(&file, error)),
        };
        let description: Description = serde_json::from_slice(&text)
            .map_err(|_| BackupError::Unreadable(file.display().to_string()))?;

        let created = description.gofavorites.as_ref();
        let created = created.map(|details| details.created.clone());
        Ok(Self {
            path: path.to_owned(),
            stored: Stored {
                created: created.unwrap_or_default(),
                config: description.config,
                state: description.state,
            },
            details: description.gofavorites,
        })
    }

    /// Checks that the backup is of a bucket with these settings and keys.
    pub fn check_bucket(
        &self,
        settings: &TruthSettings,
        fingerprints: &Fingerprints,
    ) -> Result<(), BackupError> {
        Ok(settings.check_config(&self.stored.config, fingerprints)?)
    }

    /// Returns whether the backup has every record that was current when it began. Of a backup that
    /// another program took, nobody knows.
    pub fn is_complete(&self) -> bool {
        self.details
            .as_ref()
            .is_some_and(|details| details.complete)
    }

    /// Returns when the backup was finished; `None` if another program took it.
    pub fn taken_at(&self) -> Option<&str> {
        Some(&self.details.as_ref()?.taken_at)
    }

    /// The archive, by the name that it has.
    fn archive(&self) -> PathBuf {
        let other = self.path.join(ARCHIVE_OF_NATS);

        if other.exists() {
            other
        } else {
            self.path.join(ARCHIVE)
        }
    }

    /// Returns the size of the archive, in bytes.
    pub fn archive_bytes(&self) -> Result<u64, BackupError> {
        let file = self.archive();
        let metadata = fs::metadata(&file).map_err(|error| file_error(&file, error))?;

        Ok(metadata.len())
    }

    /// Checks the archive's size and checksum. Calls `on_progress` with the bytes read, and with how
    /// many there are. A backup that another program took has no checksum, and passes.
    pub fn check_archive(&self, mut on_progress: impl FnMut(u64, u64)) -> Result<(), BackupError> {
        let mut archive = self.open_archive()?;
        let Some(details) = &self.details else {
            return Ok(());
        };
        let damaged = |what| BackupError::Damaged {
            path: self.archive().display().to_string(),
            what,
        };
        if self.archive_bytes()? != details.archive_bytes {
            return Err(damaged("its size is not the one in the description"));
        }

        let mut hash = Sha256::new();
        let mut read = 0;
        while let Some(chunk) = archive.next_chunk()? {
            hash.update(&chunk);
            read += chunk.len() as u64;
            on_progress(read, details.archive_bytes);
        }
        if hash.finish_hex() != details.archive_sha256 {
            return Err(damaged("its SHA-256 is not the one in the description"));
        }
        Ok(())
    }

    fn open_archive(&self) -> Result<ArchiveReader, BackupError> {
        let path = self.archive();
        let file = File::open(&path).map_err(|error| file_error(&path, error))?;

        Ok(ArchiveReader { file, path })
    }

    /// Checks the archive that was written, then writes the description. It appears complete or not
    /// at all, after all else is on the disk.
    fn finish(self) -> Result<Self, BackupError> {
        self.check_archive(|_, _| {})?;
        let unfinished = self.path.join(UNFINISHED);
        let description = serde_json::json!({
            "config": self.stored.config,
            "state": self.stored.state,
            "gofavorites": self.details,
        });

        let write = || {
            let mut file = create_file(&unfinished)?;
            serde_json::to_writer_pretty(&mut file, &description)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&unfinished, self.path.join(DESCRIPTION))?;
            File::open(&self.path)?.sync_all()?;
            match self.path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
                _ => Ok(()),
            }
        };
        write().map_err(|error| file_error(&unfinished, error))?;
        Ok(self)
    }
}

/// Returns the finished backups of a bucket in a directory, which have the bucket's name and a time
/// for a name, the oldest first.
pub fn list_backups(directory: &Path, bucket: &str) -> Result<Vec<PathBuf>, BackupError> {
    let entries = fs::read_dir(directory).map_err(|error| file_error(directory, error))?;
    let mut backups = Vec::new();

    for entry in entries {
        let path = entry.map_err(|error| file_error(directory, error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let time = name
            .strip_prefix(bucket)
            .and_then(|rest| rest.strip_prefix('-'));
        if time.is_some_and(is_compact_time) && path.join(DESCRIPTION).is_file() {
            backups.push(path);
        }
    }

    backups.sort();
    Ok(backups)
}

/// Returns the name of a backup that is taken now: the bucket's name, and the time in the basic
/// format of ISO 8601, as in `favorites-20261123T175419Z`.
pub fn backup_name(bucket: &str) -> String {
    let now = Timestamp::now().to_string();
    let (seconds, _) = now.split_once('.').unwrap_or((&now, ""));
    let time: String = seconds
        .chars()
        .filter(|c| !matches!(c, '-' | ':'))
        .collect();

    format!("{bucket}-{time}Z")
}

/// Returns whether the text has the form `20261123T175419Z`.
fn is_compact_time(text: &str) -> bool {
    let is_right = |(at, byte): (usize, u8)| match at {
        8 => byte == b'T',
        15 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    };

    text.len() == 16 && text.bytes().enumerate().all(is_right)
}

/// The directory of a backup that is being taken. Removed if the backup fails, or is given up.
struct Unfinished<'a>(&'a Path);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        // What cannot be removed has no description, so it is no finished backup.
        let _ = fs::remove_dir_all(self.0);
    }
}

/// An archive that is being written.
struct Archive {
    file: File,
    path: PathBuf,
    hash: Sha256,
    bytes: u64,
}

impl Archive {
    /// Creates the archive in place of the one of an earlier try.
    fn create(path: &Path) -> Result<Self, BackupError> {
        if path.exists() {
            fs::remove_file(path).map_err(|error| file_error(path, error))?;
        }
        let file = create_file(path).map_err(|error| file_error(path, error))?;

        Ok(Self {
            file,
            path: path.to_owned(),
            hash: Sha256::new(),
            bytes: 0,
        })
    }

    fn append(&mut self, chunk: &[u8]) -> Result<(), BackupError> {
        self.file
            .write_all(chunk)
            .map_err(|error| file_error(&self.path, error))?;
        self.hash.update(chunk);
        self.bytes += chunk.len() as u64;

        Ok(())
    }

    fn finish(self, stored: &Stored, complete: bool) -> Result<Details, BackupError> {
        self.file
            .sync_all()
            .map_err(|error| file_error(&self.path, error))?;

        Ok(Details {
            created: stored.created.clone(),
            taken_at: Timestamp::now().to_string(),
            complete,
            archive_bytes: self.bytes,
            archive_sha256: self.hash.finish_hex(),
        })
    }
}

/// An archive that is being read.
struct ArchiveReader {
    file: File,
    path: PathBuf,
}

impl ArchiveReader {
    /// Returns the next chunk; `None` at the end.
    fn next_chunk(&mut self) -> Result<Option<Bytes>, BackupError> {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let limit = CHUNK_BYTES as u64;
        Read::by_ref(&mut self.file)
            .take(limit)
            .read_to_end(&mut chunk)
            .map_err(|error| file_error(&self.path, error))?;

        Ok((!chunk.is_empty()).then(|| chunk.into()))
    }
}

/// Creates a directory that only this user can read. It may exist if it is empty.
fn create_directory(path: &Path) -> Result<(), BackupError> {
    let create = || {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)?;

        if fs::read_dir(path)?.next().is_some() {
            return Err(io::Error::other("the directory is not empty"));
        }
        Ok(())
    };

    create().map_err(|error| file_error(path, error))
}

/// Creates a file that only this user can read.
fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn file_error(path: &Path, error: io::Error) -> BackupError {
    BackupError::File {
        path: path.display().to_string(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_named_by_bucket_and_time() {
        let name = backup_name("favorites");

        let time = name.strip_prefix("favorites-").expect("the bucket");
        assert!(is_compact_time(time), "{name}");
        for other in [
            "eu-20261123T175419Z",
            "20261123T175419",
            "before-upgrade1",
            "",
        ] {
            assert!(!is_compact_time(other), "{other}");
        }
    }
}
