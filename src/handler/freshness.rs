//! The consistency of a read: what the caller asks for, and how a reply shows a stale answer.

use super::Failure;
use super::failure::within;
use crate::domain::Version;
use crate::owners::{Consistency, Owners, OwnersError, Reading};
use crate::seal::OwnerKey;
use crate::wire::{Fields, Refusal};
use tokio::time::Instant;

/// How fresh a read has to be.
pub(super) struct Freshness {
    consistency: Consistency,
    /// The lowest version of the owner that the caller accepts.
    min_version: Version,
    /// The request's field that holds `min_version`.
    field: &'static str,
}

impl Freshness {
    /// The consistency that the settings name for reads that do not ask for another.
    pub fn default_of(owners: &Owners) -> Self {
        Self::at_least(Version::NONE, "min_version", owners)
    }

    /// The default consistency, with at least the version that `field` holds.
    pub fn at_least(min_version: Version, field: &'static str, owners: &Owners) -> Self {
        Self {
            consistency: owners.default_consistency(),
            min_version,
            field,
        }
    }

    /// The same with strong consistency: the read sees every write acknowledged before it began.
    pub fn confirmed(self) -> Self {
        Self {
            consistency: Consistency::Strong,
            ..self
        }
    }

    /// Takes `min_version` and `consistency`.
    pub fn take(fields: &mut Fields, owners: &Owners) -> Result<Self, Refusal> {
        let min_version = fields.version("min_version")?.unwrap_or_default();
        let consistency = match fields.text("consistency")?.as_deref() {
            None => owners.default_consistency(),
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
            consistency,
            min_version,
            field: "min_version",
        })
    }

    /// Reads the owner.
    ///
    /// # Errors
    /// `bad_request` if the owner has never had `min_version`, `deadline_exceeded` if the caller's
    /// time is up.
    pub async fn read(
        &self,
        owners: &Owners,
        owner: &OwnerKey,
        deadline: Instant,
    ) -> Result<Reading, Failure> {
        let reading = owners.read(owner, self.consistency, self.min_version, deadline);

        match within(deadline, reading).await? {
            Err(OwnersError::NeverWas { owner_version }) => Err(Refusal::bad_field(
                self.field,
                format!("the owner is at version {owner_version}, which is lower"),
            )
            .with("owner_version", owner_version.get())
            .into()),
            reading => Ok(reading?),
        }
    }

    /// Does the same as [`read`](Self::read) for an operation that looks at all items: they are open
    /// then.
    pub async fn read_all(
        &self,
        owners: &Owners,
        owner: &OwnerKey,
        deadline: Instant,
    ) -> Result<Reading, Failure> {
        let reading = self.read(owners, owner, deadline).await?;
        within(deadline, owners.open(&reading.snapshot)).await?;
        Ok(reading)
    }
}
