//! The writes of a repair. Each is an ordinary write of at most one item, based on the set that is
//! brought back: so readers, the projection and repeated requests take it as any other write.

use crate::domain::{Codes, Data, Hidden, Otp, Timestamp, Version};
use crate::seal::{
    AssumedSet, Body, Content, Format, Keyring, Links, OwnerKey, OwnerKeys, Part, Record,
    RecordName, RequestHash, SealError, SetCheck, Tail, carried_over,
};
use crate::truth::NewRecord;
use uuid::Uuid;

/// One record to write.
#[derive(Clone)]
pub(super) enum Piece {
    /// The owner's key, as this record has it.
    Key(Record),
    /// The owner's floor, at that version.
    Floor(Version),
    /// An item or its deletion, as this record has it.
    Item(Record),
    /// The deletion of this living item.
    Deletion(Record),
}

/// Who writes, and for whom.
pub(super) struct Writer<'w> {
    pub keyring: &'w Keyring,
    pub owner: OwnerKey,
    pub keys: &'w OwnerKeys,
    /// The shard that the records of deletions name.
    pub shard: &'w str,
    /// The format that the bucket permits.
    pub format: Format,
}

impl Piece {
    /// The name of the record.
    pub fn name(&self) -> RecordName {
        match self {
            Self::Key(_) => RecordName::Key,
            Self::Floor(_) => RecordName::Floor,
            Self::Item(record) | Self::Deletion(record) => record.name,
        }
    }

    fn floor(&self) -> Option<Version> {
        match self {
            Self::Floor(floor) => Some(*floor),
            Self::Key(_) | Self::Item(_) | Self::Deletion(_) => None,
        }
    }
}

/// What the records of one write share.
struct Base<'s> {
    set: &'s AssumedSet,
    format: Format,
    before: SetCheck,
}

impl Base<'_> {
    fn links(
        &self,
        name: &RecordName,
        request: Option<(RequestHash, RequestHash)>,
        deleted: bool,
    ) -> Links {
        let current = self.set.get(name).map(|record| record.version);

        Links {
            format: self.format,
            prev: self.set.version(),
            item_prev: current.unwrap_or_default(),
            before: self.before,
            request,
            deleted,
        }
    }
}

impl Writer<'_> {
    /// Seals one write on top of the set.
    pub fn seal(&self, set: &AssumedSet, pieces: &[Piece]) -> Result<Vec<NewRecord>, SealError> {
        let format = self.format.max(set.newest_format());
        let floor = pieces.iter().find_map(Piece::floor);
        let base = Base {
            set,
            format,
            before: set.check(self.keyring, format, floor),
        };
        let count = u16::try_from(pieces.len()).map_err(|_| SealError::Malformed)?;

        pieces
            .iter()
            .map(|piece| {
                let value = self.seal_piece(&base, piece, count)?;
                Ok(NewRecord {
                    name: piece.name(),
                    value: value.into(),
                })
            })
            .collect()
    }

    fn seal_piece(&self, base: &Base<'_>, piece: &Piece, count: u16) -> Result<Vec<u8>, SealError> {
        let owner = &self.owner;
        let name = piece.name();

        match piece {
            Piece::Key(record) => {
                let user = OwnerKeys::unwrap_user(self.keyring, owner, record)?;
                let links = base.links(&name, None, false);
                Ok(self.keys.wrap(self.keyring, owner, &user, &links))
            }
            Piece::Floor(floor) => {
                let links = base.links(&name, None, false);
                Ok(self.keys.seal_floor(owner, &links, *floor))
            }
            Piece::Item(record) => {
                let envelope = &record.envelope;
                let links = base.links(&name, envelope.request, envelope.deleted);
                let plain = carried_over(self.keys, owner, record, count, base.format)?;
                Ok(self.keys.seal(owner, name, &links, plain))
            }
            Piece::Deletion(record) => {
                let links = base.links(&name, None, true);
                let plain = self.deletion(record, count, base.format)?;
                Ok(self.keys.seal(owner, name, &links, plain))
            }
        }
    }

    /// Returns the content of the deletion of this item. As any deletion, it keeps what must not go
    /// back.
    fn deletion(&self, record: &Record, count: u16, format: Format) -> Result<Vec<u8>, SealError> {
        let (owner, keys) = (&self.owner, self.keys);
        let body = Body::open(keys, owner, record)?;
        let tail = Body::open_tail(keys, owner, record)?;
        let is_known = body.content.kind().known().is_some();
        let remains = self.remains(record, &body)?;

        let deletion = Body {
            operation: Uuid::now_v7(),
            shard: self.shard.to_owned(),
            born: body.born,
            born_request: body.born_request,
            part: Part {
                records: Some(count),
                ..Part::WHOLE
            },
            content: Content::Deleted {
                kind: body.content.kind().clone(),
                id: body.content.id().clone(),
                updated_at: Timestamp::now(),
            },
        };
        let tail = match (&remains, &tail) {
            (Some(remains), _) => Tail::Hidden(remains),
            (None, Some(bytes)) if !is_known => Tail::Kept(bytes),
            (None, _) => Tail::Shown,
        };
        deletion.encode(format, &tail)
    }

    /// Returns what the deletion keeps of the item.
    fn remains(&self, record: &Record, body: &Body) -> Result<Option<Hidden>, SealError> {
        let Content::Living(item) = &body.content else {
            return Ok(None);
        };
        let hash = |secret: &str| self.keys.secret_hash(secret);
        let hidden = || Body::open_hidden(self.keys, &self.owner, record);

        match &item.data {
            Some(Data::Otp(facts)) => match hidden()? {
                Some(Hidden::Otp(secret)) => {
                    let otp = Otp::new(facts.clone(), secret);
                    Ok(Some(Hidden::OtpRemains(otp.remains(hash))))
                }
                _ => Err(SealError::Malformed),
            },
            Some(Data::Codes(_)) => match hidden()? {
                Some(Hidden::Codes(codes)) => {
                    Ok(Some(Hidden::CodesRemains(Codes::remains(&codes, hash))))
                }
                _ => Err(SealError::Malformed),
            },
            _ => Ok(None),
        }
    }
}

/// Returns the records of a write as the bucket stores them if the last one has the version `last`.
pub(super) fn stored(records: &[NewRecord], last: Version) -> Result<Vec<Record>, SealError> {
    let first = (last.get() + 1).saturating_sub(records.len() as u64);

    std::iter::zip(first.., records)
        .map(|(version, record)| {
            let version = Version::new(version).ok_or(SealError::Malformed)?;
            Record::parse(record.name, version, Timestamp::now(), record.value.clone())
        })
        .collect()
}
