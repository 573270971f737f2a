//! `codes.add`: more codes at the end of a list.

use super::body::Body;
use super::codes_take::list;
use super::item_name::ItemName;
use super::quota::Quota;
use super::request::Call;
use super::secret_data::{codes_parts, with_data};
use super::write::{self, WriteState};
use super::{Failure, Limits, Service};
use crate::domain::Kind;
use crate::owners::{Draft, Snapshot};
use crate::seal::NewContent;
use crate::wire::Fields;
use zeroize::Zeroizing;

/// `{id, codes}`
struct CodesAdd {
    item: ItemName,
    codes: Zeroizing<Vec<String>>,
}

impl CodesAdd {
    fn parse(mut fields: Fields, limits: &Limits) -> Result<Self, Failure> {
        let item = ItemName::take_id(Kind::Codes, &mut fields, limits)?;
        let codes = fields.text_list("codes")?;
        let codes = Zeroizing::new(fields.require("codes", codes)?);
        fields.finish()?;

        Ok(Self { item, codes })
    }

    /// Decides on the owner's state: the list with these codes at its end.
    fn decide(&self, state: &WriteState<'_>) -> Result<NewContent, Failure> {
        let snapshot = state.snapshot;
        let item = self.item.require(snapshot)?;

        let codes = list(snapshot, &item)?;
        let longer = codes.with(&self.codes, &state.limits.item, state.secret_hash())?;
        let new = with_data(&item, codes_parts(longer))?;
        Quota::of(snapshot).resize(state, std::slice::from_ref(&new))?;
        Ok(new)
    }
}

/// Answers `{item, owner_version}`.
pub(super) async fn codes_add(service: &Service, call: Call) -> Result<Body, Failure> {
    let request = CodesAdd::parse(call.fields, &service.limits.current())?;

    let intent = request.item.intent(call.request);
    let decide = |snapshot: &Snapshot| {
        write::decide(service, snapshot, |state| {
            request.decide(state).map(Draft::one)
        })
    };
    let outcome = service
        .owners
        .write(call.caller.user(), &intent, call.deadline, decide)
        .await?;

    write::reply(outcome)
}
