//! How fresh a read is asked to be, and what a reply says about it.

use super::Failure;
use super::failure::out_of_time;
use crate::domain::Version;
use crate::owners::{Consistency, Owners, OwnersError, Reading};
use crate::seal::OwnerKey;
use crate::wire::{Fields, Refusal};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

/// How fresh a read is asked to be.
pub(super) struct Freshness {
    need: Consistency,
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
            need: Consistency::Strong,
            ..self
        }
    }

    /// Takes `min_version` and `consistency`.
    pub fn take(fields: &mut Fields, owners: &Owners) -> Result<Self, Refusal> {
        let min_version = fields.version("min_version")?.unwrap_or_default();
        let need = match fields.text("consistency")?.as_deref() {
            None => owners.default_need(),
            Some("eventual") => Consistency::Eventual,
            Some("head") => Consistency::Head,
            Some("strong") => Consistency::Strong,
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
            Ok(Err(OwnersError::NeverWas { owner_version })) => Err(Refusal::bad_field(
                self.field,
                format!("the owner is at version {owner_version}: a higher one never was"),
            )
            .with("owner_version", owner_version.get())
            .into()),
            Ok(reading) => Ok(reading?),
            Err(_) => Err(out_of_time().into()),
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
