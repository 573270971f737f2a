//! `batch`: several puts and deletes in one request. Either all of them are done or none, or each
//! one that is not refused.

use super::body::{Body, view};
use super::condition::Conditions;
use super::delete::Delete;
use super::failure::within;
use super::put::Put;
use super::quota::Quota;
use super::request::Call;
use super::write::{FRAME_BYTES, WriteState, view_bytes_max};
use super::{Failure, Limits, Service};
use crate::domain::{ItemId, Kind, KindName, Version};
use crate::owners::{Decision, Draft, Intent, Outcome, RecalledRefusal, Snapshot, WriteFailure};
use crate::seal::{NewContent, StoredRefusal};
use crate::wire::{Code, Fields, Refusal, TraceContext};
use futures::future::join_all;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;
use tokio::sync::Semaphore;

/// The maximum number of questions that a batch has under way at the reference service.
const QUESTIONS_MAX: usize = 8;

/// `{mode, ops, if_owner_version?}`
struct Batch {
    /// Whether one refused operation refuses the batch.
    atomic: bool,
    /// In the order of the request. An operation that breaks a rule of the domain is a refusal.
    ops: Vec<Result<Op, Refusal>>,
    /// The item that each operation names; `None` if the service chooses the id or the operation
    /// does not show it.
    names: Vec<Option<(KindName, ItemId)>>,
    conditions: Conditions,
}

enum Op {
    Put(Box<Put>),
    Delete(Delete),
}

/// Why a batch writes nothing on the state that it was decided on.
enum NoWrite {
    /// The batch is refused.
    All(Refusal),
    /// Each operation is refused. With the refusals by their place, and the owner's version.
    Each(BTreeMap<u16, Value>, Version),
}

impl Op {
    fn parse(mut fields: Fields, limits: &Limits) -> Result<Self, Failure> {
        // Only the batch has a condition on the owner's version, not its operations.
        let conditions = Conditions::item_only;
        match fields.require_text("op")?.as_str() {
            "put" => Put::parse(conditions(&mut fields)?, fields, limits)
                .map(|put| Self::Put(Box::new(put))),
            "delete" => Delete::parse(conditions(&mut fields)?, fields, limits).map(Self::Delete),
            _ => Err(Refusal::bad_field("op", "must be put or delete").into()),
        }
    }

    /// The kind and id of the item. Without an id the service chooses one.
    fn item(&self) -> (KindName, Option<ItemId>) {
        match self {
            Self::Put(put) => put.item(),
            Self::Delete(delete) => delete.item(),
        }
    }

    fn decide(&self, state: &WriteState<'_>, quota: &mut Quota) -> Result<NewContent, Failure> {
        match self {
            Self::Put(put) => put.decide(state, quota),
            Self::Delete(delete) => delete.decide(state, quota),
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
                "a batch has 1 to {} operations, this one has {}",
                limits.batch,
                ops.len()
            );
            return Err(Refusal::bad_field("ops", &message)
                .with("limit", limits.batch)
                .into());
        }

        let names = ops
            .iter()
            .map(|fields| named_item(fields, limits))
            .collect();
        let ops = ops
            .into_iter()
            .enumerate()
            .map(|(at, fields)| match Op::parse(fields, limits) {
                Ok(op) => Ok(Ok(op)),
                Err(Failure::Refused(refusal)) => {
                    let refusal = refusal.below(&op_path(at));
                    let is_about_item = refusal.code() == Code::InvalidItem;
                    if is_about_item {
                        Ok(Err(refusal))
                    } else {
                        Err(Failure::Refused(refusal.with("op", at)))
                    }
                }
                Err(error) => Err(error),
            });

        let batch = Self {
            atomic,
            ops: ops.collect::<Result<_, _>>()?,
            names,
            conditions,
        };
        batch.check_names()?;
        Ok(batch)
    }

    /// Asks the reference service about the instruments of all puts, some at a time.
    async fn confirm(&mut self, service: &Service, trace: Option<&TraceContext>) {
        let permits = &Semaphore::new(QUESTIONS_MAX);
        let mut questions = Vec::new();
        for op in self.ops.iter_mut().flatten() {
            if let Op::Put(put) = op {
                questions.push(async move {
                    let _permit = permits.acquire().await;
                    put.confirm(service, trace).await;
                });
            }
        }

        join_all(questions).await;
    }

    /// Checks that no two operations name the same item.
    fn check_names(&self) -> Result<(), Failure> {
        let mut seen = HashSet::new();
        for (at, name) in self.names.iter().enumerate() {
            if let Some(name) = name
                && !seen.insert(name)
            {
                let refusal =
                    Refusal::bad_field(op_path(at), "another operation names the same item");
                return Err(refusal.with("op", at).into());
            }
        }
        Ok(())
    }

    /// Decides what is written on the owner's state, and which operations are refused.
    fn decide(&self, mut state: WriteState<'_>) -> Result<Decision<NoWrite>, Failure> {
        let snapshot = state.snapshot;
        let limits = state.limits;
        if let Err(conflict) = self.conditions.check(snapshot, None) {
            return Ok(Decision::Refuse(NoWrite::All(conflict)));
        }

        let mut quota = Quota::of(snapshot);
        let mut contents = Vec::new();
        let mut refused = BTreeMap::new();
        let mut used = FRAME_BYTES;
        for (at, op) in (0u16..).zip(&self.ops) {
            state.position = contents.len();
            match self.decide_one(op, at, &state, &mut quota) {
                Ok(new) => {
                    used += view_bytes_max(&new.content);
                    contents.push(new);
                }
                // A refusal that passes by itself is not stored with the write.
                Err(Failure::Refused(refusal))
                    if self.atomic || refusal.code() == Code::ReferenceUnavailable =>
                {
                    let refusal = refusal.with("op", at);
                    return Ok(Decision::Refuse(NoWrite::All(refusal)));
                }
                Err(Failure::Refused(refusal)) => {
                    let refusal = refusal.inner();
                    used += refusal.to_string().len() + FRAME_BYTES;
                    refused.insert(at, refusal);
                }
                Err(failure) => return Err(failure),
            }
        }

        if used > limits.reply_bytes {
            let refusal = Refusal::too_large("ops", used, limits.reply_bytes);
            return Ok(Decision::Refuse(NoWrite::All(refusal)));
        }
        if contents.is_empty() {
            let version = snapshot.version();
            return Ok(Decision::Refuse(NoWrite::Each(refused, version)));
        }

        let refused: BTreeMap<_, _> = refused
            .into_iter()
            .map(|(at, refusal)| (at, to_stored(refusal)))
            .collect();
        let kept = refused.values().map(|refusal| refusal.json.len()).sum();
        if let Err(full) = quota.keep(kept, limits) {
            return Ok(Decision::Refuse(NoWrite::All(full)));
        }
        Ok(Decision::Write(Draft { contents, refused }))
    }

    /// Decides one operation on the owner's state.
    fn decide_one(
        &self,
        op: &Result<Op, Refusal>,
        at: u16,
        state: &WriteState<'_>,
        quota: &mut Quota,
    ) -> Result<NewContent, Failure> {
        let op = op.as_ref().map_err(Refusal::clone)?;
        op.decide(state, quota).map_err(|failure| match failure {
            Failure::Refused(refusal) => refusal.below(&op_path(at)).into(),
            failure => failure,
        })
    }

    /// The written items and the refusals, in the order of the operations.
    ///
    /// Of a write that was done before there may be fewer items: an operator's repair put some of
    /// them back alone.
    fn results(
        &self,
        written: Vec<Value>,
        mut refused: BTreeMap<u16, Value>,
        owner_version: Version,
    ) -> Result<Vec<Value>, Failure> {
        if written.len() + refused.len() < self.ops.len() {
            return Err(WriteFailure::Forgotten(owner_version).into());
        }

        let mut written = written.into_iter();
        let result = |at: u16| match refused.remove(&at) {
            Some(refusal) => Ok(json!({"error": refusal})),
            None => written
                .next()
                .map(|item| json!({"item": item}))
                .ok_or_else(|| anyhow::anyhow!("the write has fewer items than its batch")),
        };

        let results = (0u16..)
            .take(self.ops.len())
            .map(result)
            .collect::<Result<_, anyhow::Error>>();
        results.map_err(Failure::Internal)
    }
}

/// The path of an operation in the request.
fn op_path(at: impl Display) -> String {
    format!("ops[{at}]")
}

/// The item that an operation names, even if the operation is refused for something else.
fn named_item(fields: &Fields, limits: &Limits) -> Option<(KindName, ItemId)> {
    let kind = KindName::parse(fields.peek("kind")?).ok()?;
    let id = match fields.peek("id") {
        Some(id) => id.to_owned(),
        None if kind.known() == Some(Kind::Instrument) => id_in_data(fields)?,
        None => return None,
    };

    let id = ItemId::parse_any(&kind, &id, &limits.item).ok()?;
    Some((kind, id))
}

/// The id that the data of an instrument name: the ISIN, or `MIC:TICKER` without one.
fn id_in_data(fields: &Fields) -> Option<String> {
    let text = |name| fields.peek_in("data", name);

    match text("isin") {
        Some(isin) => Some(isin.to_owned()),
        None => Some(format!("{}:{}", text("mic")?, text("ticker")?)),
    }
}

/// A refusal as it is stored with the write, in a few KB: instead of an item that it shows, only
/// the item's version.
fn to_stored(mut refusal: Value) -> StoredRefusal {
    let shown = refusal["details"]["item"]["version"]
        .as_u64()
        .and_then(Version::new)
        .unwrap_or_default();

    if !shown.is_none()
        && let Some(details) = refusal["details"].as_object_mut()
    {
        details.remove("item");
    }

    StoredRefusal {
        json: refusal.to_string(),
        shown,
    }
}

/// A stored refusal as the caller got it the first time, without its item if that version is no
/// longer kept.
fn from_stored(RecalledRefusal { json, shown }: RecalledRefusal) -> Result<Value, Failure> {
    let mut refusal: Value =
        serde_json::from_str(&json).map_err(|error| Failure::Internal(error.into()))?;
    if let Some(shown) = shown {
        refusal["details"]["item"] = view(&shown).to_value();
    }
    Ok(refusal)
}

/// Answers `{results, owner_version}`.
pub(super) async fn batch(service: &Service, call: Call) -> Result<Body, Failure> {
    let mut batch = Batch::parse(call.fields, &service.limits.current())?;
    let confirmed = batch.confirm(service, call.trace.as_ref());
    within(call.deadline, confirmed).await?;

    let intent = Intent::about(
        batch.ops.iter().flatten().map(Op::item).collect(),
        call.request,
    );
    let decide = |snapshot: &Snapshot| {
        let limits = service.limits.current();
        batch.decide(WriteState::new(service, snapshot, &limits))
    };
    let outcome = service
        .owners
        .write(call.caller.user(), &intent, call.deadline, decide)
        .await?;

    match outcome {
        Outcome::Written(receipt) => {
            let owner_version = receipt.owner_version();
            let written = receipt
                .items
                .iter()
                .map(|item| view(item).to_value())
                .collect();
            let refused = receipt
                .refused
                .into_iter()
                .map(|(at, refusal)| Ok((at, from_stored(refusal)?)))
                .collect::<Result<_, Failure>>()?;

            let results = batch.results(written, refused, owner_version)?;
            let reply = json!({"results": results, "owner_version": owner_version.get()});
            Ok(Body::from(reply).mark_pending(receipt.local))
        }
        Outcome::Refused(NoWrite::All(refusal)) => Err(refusal.into()),
        Outcome::Refused(NoWrite::Each(refused, owner_version)) => {
            let results = batch.results(Vec::new(), refused, owner_version)?;
            Ok(json!({"results": results, "owner_version": owner_version.get()}).into())
        }
        Outcome::Failed(failure) => Err(failure.into()),
    }
}
