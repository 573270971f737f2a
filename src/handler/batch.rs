//! `batch`: several puts and deletes in one go; either all of them, or each that can be done.

use super::condition::Conditions;
use super::delete::Delete;
use super::put::{Put, Room};
use super::request::Call;
use super::write::{FRAME_BYTES, longest, pending, unless_written, view};
use super::{Failure, Limits, Service};
use crate::domain::{ItemId, Kind, Version};
use crate::owners::{Change, Draft, Intent, Snapshot, Told, Written};
use crate::seal::{Content, Refused};
use crate::wire::{Code, Fields, Refusal};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;

/// `{mode, ops, if_owner_version?}`
struct Batch {
    /// Whether one refusal refuses all.
    atomic: bool,
    /// In the order of the request; one that breaks a rule of the domain is its refusal.
    ops: Vec<Result<Op, Refusal>>,
    /// The item that each names; none where the service chooses its id, or it cannot be told.
    names: Vec<Option<(Kind, ItemId)>>,
    conditions: Conditions,
}

enum Op {
    Put(Put),
    Delete(Delete),
}

/// Why a batch writes nothing, on the state that it was decided on.
enum Nothing {
    /// It is refused as a whole.
    Refused(Refusal),
    /// Each of its operations is refused.
    Each(BTreeMap<u16, Value>, Version),
}

impl Op {
    fn parse(mut fields: Fields, limits: &Limits) -> Result<Self, Failure> {
        // The owner's condition is the whole batch's.
        let conditions = Conditions::item_only;
        match fields.require_text("op")?.as_str() {
            "put" => Put::parse(conditions(&mut fields)?, fields, limits).map(Self::Put),
            "delete" => Delete::parse(conditions(&mut fields)?, fields, limits).map(Self::Delete),
            _ => Err(Refusal::bad_field("op", "must be put or delete").into()),
        }
    }

    /// Its item; no id lets the service choose one.
    fn item(&self) -> (Kind, Option<ItemId>) {
        match self {
            Self::Put(put) => put.item(),
            Self::Delete(delete) => delete.item(),
        }
    }

    fn decide(
        &self,
        snapshot: &Snapshot,
        room: &mut Room,
        limits: &Limits,
    ) -> Result<Result<Content, Refusal>, Failure> {
        match self {
            Self::Put(put) => put.decide(snapshot, room, limits),
            Self::Delete(delete) => delete.decide(snapshot, room),
        }
    }
}

impl Batch {
    fn parse(mut fields: Fields, limits: &Limits) -> Result<Self, Failure> {
        let atomic = match fields.require_text("mode")?.as_str() {
            "atomic" => true,
            "each" => false,
            _ => return Err(Refusal::bad_field("mode", "must be atomic or each").into()),
        };
        let ops = fields.map_list("ops")?;
        let ops = fields.require("ops", ops)?;
        let conditions = Conditions::owner_only(&mut fields)?;
        fields.finish()?;
        if !(1..=limits.batch).contains(&ops.len()) {
            let message = format!(
                "a batch has 1 to {} operations, this one {}",
                limits.batch,
                ops.len()
            );
            return Err(Refusal::bad_field("ops", &message)
                .with("limit", limits.batch)
                .into());
        }
        let names = ops.iter().map(|fields| named(fields, limits)).collect();
        let ops = ops
            .into_iter()
            .enumerate()
            .map(|(at, fields)| match Op::parse(fields, limits) {
                Ok(op) => Ok(Ok(op)),
                Err(Failure::Refused(refusal)) => {
                    let refusal = refusal.below(&place(at));
                    let of_the_item = refusal.code() == Code::InvalidItem;
                    if of_the_item {
                        Ok(Err(refusal))
                    } else {
                        Err(Failure::Refused(refusal.with("op", at)))
                    }
                }
                Err(fault) => Err(fault),
            });
        let batch = Self {
            atomic,
            ops: ops.collect::<Result<_, _>>()?,
            names,
            conditions,
        };
        batch.names_no_item_twice().map(|()| batch)
    }

    fn names_no_item_twice(&self) -> Result<(), Failure> {
        let mut seen = HashSet::new();
        for (at, name) in self.names.iter().enumerate() {
            if let Some(name) = name
                && !seen.insert(name)
            {
                let refusal = Refusal::bad_field(place(at), "a batch names no item twice");
                return Err(refusal.with("op", at).into());
            }
        }
        Ok(())
    }

    /// What is to be written on that state, and what is refused beside.
    fn decide(&self, snapshot: &Snapshot, limits: &Limits) -> Result<Change<Nothing>, Failure> {
        if let Err(conflict) = self.conditions.check(snapshot, None) {
            return Ok(Err(Nothing::Refused(conflict)));
        }
        let (mut room, mut contents, mut refused) =
            (Room::of(snapshot), Vec::new(), BTreeMap::new());
        let mut used = FRAME_BYTES;
        for (at, op) in (0u16..).zip(&self.ops) {
            let decided = match op {
                Ok(op) => op
                    .decide(snapshot, &mut room, limits)?
                    .map_err(|refusal| refusal.below(&place(at))),
                Err(refusal) => Err(refusal.clone()),
            };
            match decided {
                Ok(content) => {
                    used += longest(&content);
                    contents.push(content);
                }
                Err(refusal) if self.atomic => {
                    return Ok(Err(Nothing::Refused(refusal.with("op", at))));
                }
                Err(refusal) => {
                    let told = refusal.inner();
                    used += told.to_string().len() + FRAME_BYTES;
                    refused.insert(at, told);
                }
            }
        }
        if used > limits.reply_bytes {
            return Ok(Err(Nothing::Refused(Refusal::too_large(
                "ops",
                used,
                limits.reply_bytes,
            ))));
        }
        if contents.is_empty() {
            return Ok(Err(Nothing::Each(refused, snapshot.version())));
        }
        Ok(Ok(Draft {
            contents,
            refused: refused
                .into_iter()
                .map(|(at, told)| (at, kept(told)))
                .collect(),
        }))
    }

    /// In the order of the operations: what was written, and what was refused.
    fn results(
        &self,
        written: Vec<Value>,
        mut refused: BTreeMap<u16, Value>,
    ) -> Result<Vec<Value>, Failure> {
        let mut written = written.into_iter();
        let result = |at: u16| match refused.remove(&at) {
            Some(told) => Ok(json!({"error": told})),
            None => written
                .next()
                .map(|item| json!({"item": item}))
                .ok_or_else(|| anyhow::anyhow!("an item too few")),
        };
        let results = (0u16..)
            .take(self.ops.len())
            .map(result)
            .collect::<Result<_, anyhow::Error>>();
        results.map_err(Failure::Internal)
    }
}

/// Where an operation stands in the request.
fn place(at: impl Display) -> String {
    format!("ops[{at}]")
}

/// The item that an operation names, whatever else is wrong with it.
fn named(fields: &Fields, limits: &Limits) -> Option<(Kind, ItemId)> {
    let kind = Kind::parse(fields.look("kind")?).ok()?;
    let isin = || {
        if kind == Kind::Instrument {
            fields.look_in("data", "isin")
        } else {
            None
        }
    };
    let id = fields.look("id").or_else(isin)?;
    Some((kind, ItemId::parse(kind, id, &limits.item).ok()?))
}

/// A refusal as it is kept with the write, in a few KB: of an item that it shows, the version.
fn kept(mut told: Value) -> Refused {
    let shown = told["details"]["item"]["version"]
        .as_u64()
        .and_then(Version::new)
        .unwrap_or_default();
    if !shown.is_none()
        && let Some(details) = told["details"].as_object_mut()
    {
        details.remove("item");
    }
    Refused {
        told: told.to_string(),
        shown,
    }
}

/// A refusal that was kept, as it was told; without its item where that version is kept no more.
fn retold(Told { told, shown }: Told) -> Result<Value, Failure> {
    let mut told: Value =
        serde_json::from_str(&told).map_err(|fault| Failure::Internal(fault.into()))?;
    if let Some(shown) = shown {
        told["details"]["item"] = view(&shown);
    }
    Ok(told)
}

/// Answers `{results, owner_version}`.
pub(super) async fn batch(service: &Service, call: Call) -> Result<Value, Failure> {
    let batch = Batch::parse(call.fields, &service.limits)?;
    let items = batch.ops.iter().flatten().map(Op::item).collect();
    let intent = Intent {
        items,
        request: call.request,
    };
    let decide = |snapshot: &Snapshot| batch.decide(snapshot, &service.limits);
    let outcome = service
        .owners
        .write(call.caller.user(), &intent, call.deadline, decide)
        .await?;
    let nothing = |nothing| match nothing {
        Nothing::Refused(refusal) => Err(refusal.into()),
        Nothing::Each(refused, owner_version) => Ok(
            json!({"results": batch.results(Vec::new(), refused)?, "owner_version": owner_version.get()}),
        ),
    };
    let written = |written: Written| {
        let owner_version = written.owner_version().get();
        let local = written.local;
        let refused = written
            .refused
            .into_iter()
            .map(|(at, told)| Ok::<_, Failure>((at, retold(told)?)));
        let results = batch.results(
            written.items.iter().map(view).collect(),
            refused.collect::<Result<_, _>>()?,
        )?;
        Ok(pending(
            json!({"results": results, "owner_version": owner_version}),
            local,
        ))
    };
    unless_written(outcome, nothing, written)
}
