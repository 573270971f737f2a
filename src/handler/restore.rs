//! `restore`: stores an item again as it was at a version that is still kept.

use super::body::Body;
use super::condition::{Conditions, not_found};
use super::failure::within;
use super::item_name::{ItemName, take_known_kind};
use super::put::NewItem;
use super::quota::Quota;
use super::request::Call;
use super::secret_data::{Parts, codes_parts, otp_parts};
use super::write::WriteState;
use super::{Failure, Limits, Service, write};
use crate::domain::{Data, Hidden, Otp, Version};
use crate::owners::{Draft, OpenedItem, Outcome, Snapshot};
use crate::seal::{NewContent, NewHidden, OwnerKey};
use crate::wire::{Code, Fields, Refusal};
use std::sync::atomic::{AtomicBool, Ordering};

/// How often the kept versions are looked for, if the item is deleted again and again meanwhile.
const TRIES_MAX: usize = 3;

/// `{kind, id, version, if_version?}`
struct Restore {
    item: ItemName,
    version: Version,
    conditions: Conditions,
}

/// The item's kept versions that a restore is made of.
struct Kept {
    /// The version that is restored.
    wanted: Option<OpenedItem>,
    /// The last one before the present deletion, if the item is deleted.
    last: Option<OpenedItem>,
    /// Whether a decision needed a version that was written after these were found.
    is_outdated: AtomicBool,
}

impl Restore {
    fn parse(mut fields: Fields, limits: &Limits) -> Result<Self, Failure> {
        let kind = take_known_kind(&mut fields)?;
        let item = ItemName::take_id(kind, &mut fields, limits)?;
        let version = fields.version("version")?;
        let version = fields.require("version", version)?;
        let conditions = Conditions::item_only(&mut fields)?;
        fields.finish()?;

        Ok(Self {
            item,
            version,
            conditions,
        })
    }

    /// Finds the kept versions.
    async fn find(&self, service: &Service, owner: &OwnerKey) -> Result<Kept, Failure> {
        let owners = &service.owners;
        let ItemName { kind, id } = &self.item;
        let wanted = owners.item_at(owner, kind, id, self.version).await?;

        let current = owners.held(owner).await?.item(kind, id)?;
        let last = match current.filter(|item| item.living().is_none()) {
            Some(deleted) => owners.item_at(owner, kind, id, deleted.previous()).await?,
            None => None,
        };
        Ok(Kept {
            wanted,
            last,
            is_outdated: AtomicBool::new(false),
        })
    }

    /// Decides on the owner's state: the item as it was, like a `put` of it, or a refusal. A
    /// used code stays used.
    fn decide(&self, kept: &Kept, state: &WriteState<'_>) -> Result<NewContent, Failure> {
        let snapshot = state.snapshot;
        let current = snapshot.item(&self.item.kind, &self.item.id)?;
        let living = current.as_deref().filter(|item| item.living().is_some());
        self.conditions.check(snapshot, living)?;

        // An item without a current record is forgotten. It is not restored, even if this shard
        // still has old versions.
        let is_living = living.is_some();
        let (Some(wanted), Some(now)) = (&kept.wanted, &current) else {
            return Err(not_kept(snapshot, is_living).into());
        };
        let item = wanted.living().ok_or_else(|| {
            let message =
                "version: the item was deleted then; restore an earlier one, or delete the item";
            Refusal::new(Code::InvalidItem, message).field("version")
        })?;

        let (data, hidden) = match &item.data {
            Some(Data::Otp(_)) => restored_otp(kept, wanted, now, state)?
                .map(|otp| otp_parts(&otp))
                .ok_or_else(|| not_kept(snapshot, is_living))?,
            Some(Data::Codes(_)) => restored_codes(wanted, now, state)?,
            Some(data) => (data.clone(), NewHidden::None),
            None => return Err(Failure::internal("an item without data")),
        };

        let new = NewItem {
            kind: self.item.kind.clone(),
            id: self.item.id.clone(),
            data: Some(data),
            hidden,
            meta: item.meta.clone(),
            tags: item.tags.clone(),
        };
        new.replace(current.as_deref(), state, &mut Quota::of(snapshot))
    }
}

/// Returns the restored secret. A living item keeps its own. A deleted one goes on where its last
/// life ended, with the secret that it had last; `None` if that is not kept.
fn restored_otp(
    kept: &Kept,
    wanted: &OpenedItem,
    now: &OpenedItem,
    state: &WriteState<'_>,
) -> Result<Option<Otp>, Failure> {
    let snapshot = state.snapshot;
    let Some(wanted) = snapshot.otp(wanted)? else {
        return Ok(None);
    };
    if let Some(present) = snapshot.otp(now)? {
        return Ok(Some(present.relabelled(&wanted)));
    }

    let Some(Hidden::OtpRemains(remains)) = snapshot.hidden(now)? else {
        return Err(Failure::internal("a deletion that keeps nothing"));
    };
    if let Some(resumed) = wanted.resumed(&remains, state.secret_hash()) {
        return Ok(Some(resumed));
    }
    let last = kept.last.as_ref();
    if last.map(|last| last.version) != Some(now.previous()) {
        // The item was deleted since the versions were looked for.
        kept.is_outdated.store(true, Ordering::Relaxed);
        return Ok(None);
    }
    let last = match last {
        Some(last) => snapshot.otp(last)?,
        None => None,
    };
    Ok(last.and_then(|last| last.resumed(&remains, state.secret_hash())))
}

/// Returns the restored list. A living item keeps its own. In that of a deleted one, the codes that
/// were taken in its last life stay taken.
fn restored_codes(
    wanted: &OpenedItem,
    now: &OpenedItem,
    state: &WriteState<'_>,
) -> Result<Parts, Failure> {
    let snapshot = state.snapshot;
    if let Some(Data::Codes(facts)) = now.living().and_then(|item| item.data.as_ref()) {
        return Ok((Data::Codes(*facts), NewHidden::Kept));
    }

    let codes = snapshot.codes(wanted)?;
    let (Some(codes), Some(Hidden::CodesRemains(remains))) = (codes, snapshot.hidden(now)?) else {
        return Err(Failure::internal("a deletion that keeps nothing"));
    };
    let codes = codes.resumed(&remains, state.secret_hash());
    let total = codes.facts().total;
    if total > state.limits.item.codes {
        let message = format!(
            "version: with the codes that were taken before, the list would have {total} codes, and \
             at most {} are allowed; put a new list",
            state.limits.item.codes
        );
        return Err(Refusal::new(Code::InvalidItem, message)
            .field("version")
            .into());
    }
    Ok(codes_parts(codes))
}

/// The refusal if there is nothing to restore.
fn not_kept(snapshot: &Snapshot, is_living: bool) -> Refusal {
    if !is_living {
        return not_found(snapshot);
    }

    let message =
        "the item has no such version, or it is no longer kept: history shows those that are";
    Refusal::new(Code::NotFound, message).with("owner_version", snapshot.version().get())
}

/// Answers `{item, owner_version}`.
pub(super) async fn restore(service: &Service, call: Call) -> Result<Body, Failure> {
    let restore = Restore::parse(call.fields, &service.limits.current())?;
    let intent = restore.item.intent(call.request);

    let mut tries = 0;
    loop {
        let found = restore.find(service, &call.owner);
        let kept = within(call.deadline, found).await??;

        let decide = |snapshot: &Snapshot| {
            write::decide(service, snapshot, |state| {
                restore.decide(&kept, state).map(Draft::one)
            })
        };
        let outcome = service
            .owners
            .write(call.caller.user(), &intent, call.deadline, decide)
            .await?;

        tries += 1;
        let is_refused = matches!(outcome, Outcome::Refused(_));
        let is_outdated = kept.is_outdated.load(Ordering::Relaxed);
        if !(is_refused && is_outdated && tries < TRIES_MAX) {
            return write::reply(outcome);
        }
    }
}
