//! `get`: one item.

use super::condition::not_found;
use super::request::{Call, require};
use super::{Failure, Limits, Service};
use crate::domain::{ItemId, Kind, Version};
use crate::owners::{Need, Owners, OwnersFault, Reading};
use crate::seal::OwnerKey;
use crate::wire::{Fields, Refusal, Scope, item_view};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

/// `{kind, id, reveal?, min_version?, consistency?}`
struct Get {
    kind: Kind,
    id: ItemId,
    /// Shows what a kind keeps hidden; the kinds of this version keep nothing hidden.
    reveal: bool,
    freshness: Freshness,
}

impl Get {
    fn parse(mut fields: Fields, service: &Service) -> Result<Self, Failure> {
        let limits: &Limits = &service.limits;
        let kind = Kind::parse(&fields.require_text("kind")?)?;
        let id = fields.require_text("id")?;
        let reveal = fields.flag("reveal")?.unwrap_or_default();
        let freshness = Freshness::take(&mut fields, &service.owners)?;
        fields.finish()?;
        Ok(Self {
            kind,
            id: ItemId::parse(kind, &id, &limits.item)?,
            reveal,
            freshness,
        })
    }
}

/// Answers `{item, owner_version}`.
pub(super) async fn get(service: &Service, call: Call) -> Result<Value, Failure> {
    let get = Get::parse(call.fields, service)?;
    if get.reveal {
        require(&call.caller, Scope::Secrets)?;
    }
    let reading = get
        .freshness
        .read(&service.owners, &call.owner, call.deadline)
        .await?;
    let opened = reading.snapshot.item(get.kind, &get.id)?;
    let item = opened
        .as_ref()
        .and_then(|opened| Some(item_view(opened.living()?, opened.version)));
    match item {
        Some(item) => Ok(mark_stale(
            json!({"item": item, "owner_version": reading.snapshot.version().get()}),
            &reading,
        )),
        None if reading.stale => Err(not_found(&reading.snapshot).with("stale", true).into()),
        None => Err(not_found(&reading.snapshot).into()),
    }
}

/// How fresh a read is asked to be.
pub(super) struct Freshness {
    need: Need,
    min_version: Version,
    /// The field that names it.
    field: &'static str,
}

impl Freshness {
    /// As fresh as a read is that does not ask for more.
    pub fn default_of(owners: &Owners) -> Self {
        Self::at_least(Version::NONE, "min_version", owners)
    }

    /// As fresh by default, and at least of the version that `field` names.
    pub fn at_least(min_version: Version, field: &'static str, owners: &Owners) -> Self {
        Self {
            need: owners.default_need(),
            min_version,
            field,
        }
    }

    /// The same, of everything that was acknowledged anywhere before.
    pub fn confirmed(self) -> Self {
        Self {
            need: Need::Strong,
            ..self
        }
    }

    /// Takes `min_version` and `consistency`.
    pub fn take(fields: &mut Fields, owners: &Owners) -> Result<Self, Refusal> {
        let min_version = fields.version("min_version")?.unwrap_or_default();
        let need = match fields.text("consistency")?.as_deref() {
            None => owners.default_need(),
            Some("eventual") => Need::Eventual,
            Some("head") => Need::Head,
            Some("strong") => Need::Strong,
            Some(_) => {
                return Err(Refusal::bad_field(
                    "consistency",
                    "must be one of head, strong, eventual",
                ));
            }
        };
        Ok(Self {
            need,
            min_version,
            field: "min_version",
        })
    }

    /// The owner, that fresh, before the caller's time is up.
    pub async fn read(
        &self,
        owners: &Owners,
        owner: &OwnerKey,
        deadline: Instant,
    ) -> Result<Reading, Failure> {
        match timeout_at(
            deadline,
            owners.read(owner, self.need, self.min_version, deadline),
        )
        .await
        {
            Ok(Err(OwnersFault::NeverWas { owner_version })) => Err(Refusal::bad_field(
                self.field,
                format!("the owner is at version {owner_version}: a higher one never was"),
            )
            .with("owner_version", owner_version.get())
            .into()),
            Ok(reading) => Ok(reading?),
            Err(_) => Err(super::request::out_of_time().into()),
        }
    }
}

/// Says that the reply could not be checked against the truth, where it is so.
pub(super) fn mark_stale(mut reply: Value, reading: &Reading) -> Value {
    if reading.stale {
        reply["stale"] = Value::Bool(true);
    }
    reply
}
