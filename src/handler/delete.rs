//! `delete`: replaces an item by a tombstone, so that versions continue from there.

use super::body::Body;
use super::condition::Conditions;
use super::item_name::ItemName;
use super::quota::Quota;
use super::request::Call;
use super::write::WriteState;
use super::{Failure, Limits, Service, write};
use crate::domain::{Hidden, ItemId, KindName, Timestamp};
use crate::owners::{Draft, OpenedItem, Snapshot};
use crate::seal::{Content, NewContent, NewHidden};
use crate::wire::Fields;

/// `{kind, id, if_version?, if_owner_version?}`
pub(super) struct Delete {
    item: ItemName,
    conditions: Conditions,
}

impl Delete {
    /// Parses the rest of the fields, after the conditions were taken from them.
    pub fn parse(
        conditions: Conditions,
        mut fields: Fields,
        limits: &Limits,
    ) -> Result<Self, Failure> {
        let item = ItemName::take(&mut fields, limits)?;
        fields.finish()?;

        Ok(Self { item, conditions })
    }

    /// The kind and id of the item.
    pub fn item(&self) -> (KindName, Option<ItemId>) {
        self.item.named()
    }

    /// Decides on the owner's state: the item's tombstone, or a refusal. An absent item is
    /// `not_found`, whatever the conditions are.
    pub fn decide(&self, state: &WriteState<'_>, quota: &mut Quota) -> Result<NewContent, Failure> {
        let living = self.item.require(state.snapshot)?;
        self.conditions.check(state.snapshot, Some(&living))?;

        let deletion = NewContent {
            hidden: remains(state, &living)?,
            content: Content::Deleted {
                kind: self.item.kind.clone(),
                id: self.item.id.clone(),
                updated_at: Timestamp::now(),
            },
        };

        quota.remove();
        (*quota, _) = quota.resize_freely(state, std::slice::from_ref(&deletion))?;
        Ok(deletion)
    }
}

/// Returns what the deletion keeps of the item, so that a used code stays used if the item is
/// restored.
fn remains(state: &WriteState<'_>, living: &OpenedItem) -> Result<NewHidden, Failure> {
    let hash = state.secret_hash();
    if let Some(otp) = state.snapshot.otp(living)? {
        return Ok(NewHidden::New(Hidden::OtpRemains(otp.remains(hash))));
    }
    if let Some(codes) = state.snapshot.codes(living)? {
        return Ok(NewHidden::New(Hidden::CodesRemains(codes.remains(hash))));
    }

    // A newer worker knows what has to be kept of it.
    let is_known = living.body.content.kind().known().is_some();
    Ok(if is_known {
        NewHidden::None
    } else {
        NewHidden::Kept
    })
}

/// Answers `{item, owner_version}`. The item is `{kind, id, version, deleted: true, updated_at}`.
pub(super) async fn delete(service: &Service, mut call: Call) -> Result<Body, Failure> {
    let conditions = Conditions::take(&mut call.fields)?;
    let delete = Delete::parse(conditions, call.fields, &service.limits.current())?;

    let intent = delete.item.intent(call.request);
    let decide = |snapshot: &Snapshot| {
        write::decide(service, snapshot, |state| {
            delete
                .decide(state, &mut Quota::of(snapshot))
                .map(Draft::one)
        })
    };
    let outcome = service
        .owners
        .write(call.caller.user(), &intent, call.deadline, decide)
        .await?;

    write::reply(outcome)
}
