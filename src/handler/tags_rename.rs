//! `tags.rename`: renames a tag on all items that have it, or removes it from them. This is one
//! atomic write.

use super::body::Body;
use super::quota::Quota;
use super::request::Call;
use super::write::{self, WriteState};
use super::{Failure, Limits, Service};
use crate::domain::{Item, Tags, Timestamp};
use crate::owners::{Cost, Draft, Intent, Snapshot};
use crate::seal::{Content, NewContent, NewHidden};
use crate::wire::{Code, Fields, Refusal};
use serde_json::json;
use std::collections::BTreeMap;

/// `{from, to?}`
struct Rename {
    from: String,
    /// `None` removes the tag.
    to: Option<String>,
}

impl Rename {
    fn parse(mut fields: Fields, limits: &Limits) -> Result<Self, Failure> {
        let from = fields.require_text("from")?;
        let to = fields.text("to")?;
        fields.finish()?;

        Tags::parse_one(&from, "from", &limits.item)?;
        if let Some(to) = &to {
            Tags::parse_one(to, "to", &limits.item)?;
        }
        if to.as_ref() == Some(&from) {
            let message = "to: is the same as from; leave it out to remove the tag";
            return Err(Refusal::new(Code::InvalidItem, message).field("to").into());
        }
        Ok(Self { from, to })
    }

    /// Decides on the owner's state: every item that has the tag, with the new one.
    fn decide(&self, state: &WriteState<'_>) -> Result<Draft, Failure> {
        let snapshot = state.snapshot;
        let now = Timestamp::now();
        let mut contents = Vec::new();
        let tagged = snapshot.items()?.filter_map(|item| item.living());
        for item in tagged.filter(|item| item.tags.contains(&self.from)) {
            let content = Content::Living(Item {
                tags: item.tags.renamed(&self.from, self.to.as_deref()),
                updated_at: now,
                ..item.clone()
            });
            write::must_fit(&content, state.limits)?;
            contents.push(NewContent {
                content,
                hidden: NewHidden::Kept,
            });
        }

        if contents.is_empty() {
            return Err(Refusal::new(Code::NotFound, "no item has this tag")
                .with("owner_version", snapshot.version().get())
                .into());
        }
        Quota::of(snapshot).resize(state, &contents)?;
        Ok(Draft {
            contents,
            refused: BTreeMap::new(),
        })
    }
}

/// Answers `{items, owner_version}`, where `items` is how many had the tag.
pub(super) async fn tags_rename(service: &Service, call: Call) -> Result<Body, Failure> {
    let rename = Rename::parse(call.fields, &service.limits.current())?;

    let intent = Intent {
        items: Vec::new(),
        request: call.request,
        any_item: true,
        is_urgent: false,
    };
    let decide =
        |snapshot: &Snapshot| write::decide(service, snapshot, |state| rename.decide(state));
    let outcome = service
        .owners
        .write(call.caller.user(), &intent, call.deadline, decide)
        .await?;

    let receipt = write::written(outcome)?;
    let items = receipt.items.len();
    call.account.charge(Cost::of_operations(items));
    let reply = json!({"items": items, "owner_version": receipt.owner_version().get()});
    Ok(Body::from(reply).mark_pending(receipt.local))
}
