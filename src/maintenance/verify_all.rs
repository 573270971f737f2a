//! Verifying all owners of this shard: comparing each copy with the truth, and repairing it on
//! request.

use super::Operator;
use super::retry::retry_while_unavailable;
use super::verify::{Comparison, Divergence, NEIGHBOURS_MAX, Verifier};
use crate::owners::OwnersError;
use crate::seal::OwnerKey;
use futures::StreamExt as _;
use futures::stream;
use serde::Serialize;
use std::collections::HashSet;

/// The most owners looked up in Postgres at once. They are several rounds of groups: the last groups of a
/// page leave a core idle.
const PAGE_OWNERS_MAX: i64 = 3_200;
/// The most groups compared at the same time. An owner may be heavy, and more would slow down requests.
const CONCURRENT_GROUPS_MAX: usize = 4;
/// How often an owner is compared again while a server is unavailable, before the owner counts as
/// unclear.
const RETRIES_MAX: usize = 6;

/// Whether to repair a copy that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Only report it.
    No,
    /// Rebuild the copy, and compare once more.
    Yes,
}

/// An owner whose copy differs, or cannot be compared.
pub struct Finding {
    /// The owner.
    pub owner: OwnerKey,
    /// How the copy differs, or why it cannot be compared.
    pub what: Result<Divergence, OwnersError>,
    /// Whether the copy was repaired.
    pub repaired: bool,
}

/// The counts of one verification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifySummary {
    /// The owners that were compared.
    pub owners: u64,
    /// The owners whose copy equals the truth.
    pub equal: u64,
    /// The owners whose copy differs.
    pub differ: u64,
    /// The owners whose copy differed and was repaired.
    #[serde(rename = "mended")]
    pub repaired: u64,
    /// The owners that could not be compared, because of an error or because they wrote all the
    /// time.
    pub unclear: u64,
}

/// How far a verification is, after each page of owners.
#[derive(Clone, Copy, Debug)]
pub struct VerifyProgress {
    /// The owners looked at so far, whether this shard hosts them or not.
    pub looked_at: u64,
    /// The version of a key from which the rest begins.
    pub rest_from: u64,
    /// The counts so far.
    pub counts: VerifySummary,
}

impl Operator {
    /// Compares the copy of each owner that this shard hosts with the truth, in the order in which the
    /// owners' keys lie in the bucket, beginning with the version `from`. Calls `on_finding` for each copy
    /// that differs or cannot be compared, and `on_page` after each page of owners.
    pub async fn verify_all(
        &self,
        mut from: u64,
        repair: Repair,
        mut on_finding: impl FnMut(Finding),
        mut on_page: impl FnMut(VerifyProgress),
    ) -> Result<VerifySummary, OwnersError> {
        let verifier = Verifier::new(self.clone());
        let mut counts = VerifySummary::default();
        let mut looked_at = 0;
        let mut after = None;
        // A repair may move an owner to a later place.
        let mut repaired = HashSet::new();
        loop {
            // All known owners, because a damaged copy may not count as hosted.
            let page = self
                .store
                .owners_in_order(from, after.as_ref(), PAGE_OWNERS_MAX)
                .await?;
            let Some(last) = page.last() else {
                return Ok(counts);
            };
            (from, after) = (last.key_version, Some(last.owner));
            looked_at += page.len() as u64;

            let owners = page.iter().map(|place| place.owner);
            let owners: Vec<_> = owners.filter(|owner| !repaired.contains(owner)).collect();
            let groups = owners.chunks(NEIGHBOURS_MAX);
            let groups = groups.map(|group| inspect_some(&verifier, group, repair));
            let groups = groups.collect::<Vec<_>>();
            let mut groups = stream::iter(groups).buffer_unordered(CONCURRENT_GROUPS_MAX);
            while let Some(inspections) = groups.next().await {
                for inspection in inspections {
                    counts.add(&inspection);
                    if let Inspection::Differs(finding) = inspection {
                        repaired.extend(finding.repaired.then_some(finding.owner));
                        on_finding(*finding);
                    }
                }
            }
            on_page(VerifyProgress {
                looked_at,
                // No two keys have one version. Owners without a key are together at 0.
                rest_from: if from == 0 { 0 } else { from + 1 },
                counts,
            });
        }
    }
}

/// The result of inspecting one owner.
enum Inspection {
    Equal,
    NotHosted,
    Busy,
    Differs(Box<Finding>),
}

/// Inspects some owners: all at once, and then alone those that are not equal or may be heavy.
async fn inspect_some(verifier: &Verifier, owners: &[OwnerKey], repair: Repair) -> Vec<Inspection> {
    // If that fails, the inspection of each owner tells why.
    let equal = verifier.equal_among(owners).await.unwrap_or_default();

    let mut inspections = Vec::with_capacity(owners.len());
    for owner in owners {
        inspections.push(if equal.contains(owner) {
            Inspection::Equal
        } else {
            inspect(verifier, *owner, repair).await
        });
    }
    inspections
}

/// Compares one owner's copy with the truth, and repairs it if that is wanted and possible.
async fn inspect(verifier: &Verifier, owner: OwnerKey, repair: Repair) -> Inspection {
    let what = match retry_while_unavailable(RETRIES_MAX, || verifier.compare(&owner)).await {
        Ok(Comparison::Equal) => return Inspection::Equal,
        Ok(Comparison::NotHosted) => return Inspection::NotHosted,
        Ok(Comparison::Busy) => return Inspection::Busy,
        Ok(Comparison::Differ(divergence)) => Ok(*divergence),
        Err(error) => Err(error),
    };

    let is_repairable = what.as_ref().is_ok_and(|divergence| {
        let mut differences = divergence.differences.iter();
        differences.all(|difference| difference.is_of_the_copy())
    });
    if repair == Repair::No || !is_repairable {
        return Inspection::Differs(Box::new(Finding {
            owner,
            what,
            repaired: false,
        }));
    }

    match retry_while_unavailable(RETRIES_MAX, || verifier.repair(&owner)).await {
        Ok(repaired) => Inspection::Differs(Box::new(Finding {
            owner,
            what,
            repaired,
        })),
        Err(error) => Inspection::Differs(Box::new(Finding {
            owner,
            what: Err(error),
            repaired: false,
        })),
    }
}

impl VerifySummary {
    fn add(&mut self, inspection: &Inspection) {
        self.owners += u64::from(!matches!(inspection, Inspection::NotHosted));
        match inspection {
            Inspection::NotHosted => {}
            Inspection::Equal => self.equal += 1,
            Inspection::Busy => self.unclear += 1,
            Inspection::Differs(finding) if finding.what.is_err() => self.unclear += 1,
            Inspection::Differs(finding) => {
                self.differ += 1;
                self.repaired += u64::from(finding.repaired);
            }
        }
    }

    /// Returns whether every copy equals the truth now.
    pub fn all_equal(&self) -> bool {
        self.differ == self.repaired && self.unclear == 0
    }
}
