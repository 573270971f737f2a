//! What a feed knows of each owner: the keys, whether the owner's records in the bucket are
//! complete, and which of them were shown.

use super::event::{Change, Event, Unusable};
use crate::client::Item;
use crate::domain::Version;
use crate::seal::{
    Body, Broken, Content, Keyring, OwnerKey, OwnerKeys, OwnerSet, Record, RecordName, SealError,
    UserId,
};
use crate::truth::{Bucket, TruthError};
use crate::wire::ItemView;
use quick_cache::unsync::Cache;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// The most owners whose keys are kept, at about 2 KB each.
const OPEN_OWNERS_MAX: usize = 10_000;
/// How often an owner's records are read again: a replica may lack some that the others have already.
const TRIES_MAX: u32 = 10;
/// The pause after the first of these; it doubles, so that all of them take 2.6 s.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// What a feed knows of all owners.
pub(super) struct Ledger {
    bucket: Bucket,
    keyring: Keyring,
    /// The version up to which the program has everything; `None` if the feed began at a moment.
    start: Option<u64>,
    shown: HashMap<OwnerKey, Shown>,
    owners: Cache<OwnerKey, Arc<Owner>>,
}

/// An owner's newest record that was shown.
#[derive(Clone, Copy)]
struct Shown {
    version: Version,
    /// The owner's version before the write of that record.
    prev: Version,
}

/// An owner's records, as they were read from the bucket.
struct Owner {
    /// The version of the newest of them. What is not newer needs no further check.
    checked_to: Version,
    /// What opens them, or why they cannot be used.
    opener: Result<Opener, String>,
}

/// An owner's complete records, and what opens them; or why they cannot be used.
type Checked = Result<(OwnerSet, Opener), String>;

struct Opener {
    keys: OwnerKeys,
    user: UserId,
}

impl Ledger {
    pub(super) fn new(bucket: Bucket, keyring: Keyring, start: Option<u64>) -> Self {
        Self {
            bucket,
            keyring,
            start,
            shown: HashMap::new(),
            owners: Cache::new(OPEN_OWNERS_MAX),
        }
    }

    /// Returns what a record of that owner shows. Changes nothing if it is dropped before it is
    /// ready.
    ///
    /// A record that is not based on the last one shown makes the ledger read everything that the
    /// owner has. While the feed shows the past, records between the two may be superseded; after
    /// that, it is the only sign of a record that did not come.
    pub(super) async fn read(
        &mut self,
        owner: &OwnerKey,
        record: &Record,
    ) -> Result<Vec<Event>, TruthError> {
        let shown = self.shown.get(owner).copied();
        let prev = record.envelope.prev;
        let continues = shown.is_some_and(|shown| prev == shown.version || prev == shown.prev);

        let mut events = Vec::new();
        let known = self.owners.get(owner).cloned();
        let known = known.filter(|known| continues || record.version <= known.checked_to);
        let known = match known {
            Some(known) => known,
            None => {
                let (checked_to, set) = self.load(owner, record.version).await?;
                let opener = match set {
                    Ok((set, opener)) => {
                        let version = shown.map(|shown| shown.version.get()).or(self.start);
                        events = missed(&set, &opener, version, record.version);
                        Ok(opener)
                    }
                    Err(reason) => Err(reason),
                };
                let known = Arc::new(Owner { checked_to, opener });
                self.owners.insert(*owner, known.clone());
                known
            }
        };

        match &known.opener {
            Ok(opener) => events.extend(show(opener, owner, record)),
            Err(reason) => events.push(unusable(owner, record.version.get(), reason)),
        }
        let version = record.version;
        self.shown.insert(*owner, Shown { version, prev });
        Ok(events)
    }

    /// Reads everything that the owner has, in a state that has come to `least`, and checks that it
    /// is complete. Returns up to where that was checked, and the result.
    async fn load(
        &self,
        owner: &OwnerKey,
        least: Version,
    ) -> Result<(Version, Checked), TruthError> {
        let mut pause = FIRST_PAUSE;
        let mut checked_to = least;
        let mut tries = 0;

        loop {
            let reason = match self.bucket.since(owner, Version::NONE).await {
                Ok(delta) => match delta.up_to.filter(|up_to| *up_to >= least) {
                    Some(up_to) => {
                        checked_to = up_to;
                        match self.complete(owner, delta.records) {
                            Ok(complete) => return Ok((up_to, Ok(complete))),
                            Err(reason) => reason,
                        }
                    }
                    None => "the bucket has no records of this owner".to_owned(),
                },
                Err(error @ TruthError::Unreadable(_)) => error.to_string(),
                Err(error) => return Err(error),
            };

            tries += 1;
            if tries == TRIES_MAX {
                return Ok((checked_to, Err(reason)));
            }
            sleep(pause).await;
            pause *= 2;
        }
    }

    /// Returns the set of these records, and what opens it, if it is complete; otherwise why it is
    /// not.
    fn complete(&self, owner: &OwnerKey, records: Vec<Record>) -> Checked {
        let set = OwnerSet::empty(*owner)
            .apply(&self.keyring, records)
            .map_err(|broken| broken.to_string())?;

        let opener = self.opener(&set).map_err(|error| error.to_string())?;
        if !set.newest_write_is_whole(Some(&opener.keys)) {
            return Err(Broken::Torn.to_string());
        }
        if let Some(floor) = set.get(&RecordName::Floor) {
            let checked = opener.keys.check_floor(owner, floor);
            checked.map_err(|error| error.to_string())?;
        }
        Ok((set, opener))
    }

    fn opener(&self, set: &OwnerSet) -> Result<Opener, SealError> {
        let record = set.get(&RecordName::Key).ok_or(SealError::ForeignKey)?;
        let (keyring, owner) = (&self.keyring, set.owner());

        Ok(Opener {
            keys: OwnerKeys::unwrap_record(keyring, owner, record)?,
            user: OwnerKeys::unwrap_user(keyring, owner, record)?,
        })
    }
}

/// Returns what the program has missed of an owner before the record at `next`, if everything up to
/// `shown` was shown.
fn missed(set: &OwnerSet, opener: &Opener, shown: Option<u64>, next: Version) -> Vec<Event> {
    let Some(shown) = shown else {
        return Vec::new();
    };
    let owner = set.owner();
    // Items that were shown may have been deleted since, and the deletions purged.
    let is_forgotten = shown > 0 && set.floor().get() > shown;
    let after = if is_forgotten { 0 } else { shown };

    let mut missed: Vec<_> = set
        .records()
        .filter(|record| record.version.get() > after && record.version < next)
        .collect();
    missed.sort_unstable_by_key(|record| record.version);

    let resync = is_forgotten.then(|| Event::Resync {
        owner: owner.to_string(),
    });
    let shown = missed
        .into_iter()
        .filter_map(|record| show(opener, owner, record));
    resync.into_iter().chain(shown).collect()
}

/// Returns what a record shows; `None` if it is no item's.
fn show(opener: &Opener, owner: &OwnerKey, record: &Record) -> Option<Event> {
    if !matches!(record.name, RecordName::Item(_)) {
        return None;
    }

    Some(match open(opener, owner, record) {
        Ok(change) => Event::Change(Box::new(change)),
        Err(error) => unusable(owner, record.version.get(), &error.to_string()),
    })
}

fn open(opener: &Opener, owner: &OwnerKey, record: &Record) -> Result<Change, SealError> {
    let body = Body::open(&opener.keys, owner, record)?;
    let view = match &body.content {
        Content::Living(item) => ItemView::living(item, record.version),
        Content::Deleted {
            kind,
            id,
            updated_at,
        } => ItemView::deleted(kind, id, record.version, *updated_at),
    };

    Ok(Change {
        owner: owner.to_string(),
        user: opener.user.clone(),
        item: serde_json::from_value::<Item>(view.to_value()).map_err(|_| SealError::Malformed)?,
        previous: record.envelope.item_prev.get(),
        stored_at: record.at,
        shard: body.shard,
    })
}

/// Returns the event that this owner's record cannot be used.
pub(super) fn unusable(owner: &OwnerKey, sequence: u64, reason: &str) -> Event {
    Event::Unusable(Unusable {
        owner: owner.to_string(),
        sequence,
        reason: reason.to_owned(),
    })
}
