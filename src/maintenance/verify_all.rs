//! Going through all owners of this shard: comparing each with the truth, or bringing each anew.

use super::Operator;
use super::retry::retry_while_unavailable;
use super::verify::{Comparison, Divergence, Verifier};
use crate::owners::OwnersError;
use crate::seal::OwnerKey;
use futures::StreamExt as _;
use futures::stream;
use serde::Serialize;

/// Owners looked up in Postgres in one go.
const PAGE: i64 = 500;
/// Owners looked at side by side: more would press those who are served, and each may be heavy.
const SIDE_BY_SIDE: usize = 4;
/// How often an owner is looked at again while something is away: what is only slow is not unclear.
const RETRIES_MAX: usize = 6;

/// What a survey is to do about a copy that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Nothing.
    No,
    /// Bring the owner anew, and compare once more.
    Yes,
}

/// An owner whose copy differs, or cannot be compared.
pub struct Finding {
    /// Whose.
    pub owner: OwnerKey,
    /// How it differs; or why that cannot be told.
    pub what: Result<Divergence, OwnersError>,
    /// Whether it was mended.
    pub repaired: bool,
}

/// What a survey counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifySummary {
    /// Owners compared.
    pub owners: u64,
    /// Those whose copy is the truth's.
    pub equal: u64,
    /// Those whose copy differs.
    pub differ: u64,
    /// Those of them that were mended.
    pub repaired: u64,
    /// Those who could not be compared, because of a fault, or because they wrote all the time.
    pub unclear: u64,
}

impl Operator {
    /// Compares each owner whom this shard hosts with the truth; `tell` hears of each that differs, `step` of each page.
    pub async fn verify_all(
        &self,
        repair: Repair,
        mut tell: impl FnMut(Finding),
        mut step: impl FnMut(u64),
    ) -> Result<VerifySummary, OwnersError> {
        let verifier = Verifier::new(self.clone());
        let (mut counts, mut after) = (VerifySummary::default(), None);
        loop {
            // All that are known, for a copy may be so damaged that it hardly counts as one.
            let page = self.store.known_owners(after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(counts);
            };
            after = Some(*last);
            let looks = page
                .iter()
                .map(|owner| inspect(&verifier, *owner, repair))
                .collect::<Vec<_>>();
            let mut looks = stream::iter(looks).buffer_unordered(SIDE_BY_SIDE);
            while let Some(looked) = looks.next().await {
                counts.add(&looked);
                if let Inspection::Differs(found) = looked {
                    tell(*found);
                }
            }
            step(counts.owners);
        }
    }
}

/// What came of looking at one owner.
enum Inspection {
    Equal,
    Gone,
    Busy,
    Differs(Box<Finding>),
}

async fn inspect(verifier: &Verifier, owner: OwnerKey, repair: Repair) -> Inspection {
    let what = match retry_while_unavailable(RETRIES_MAX, || verifier.compare(&owner)).await {
        Ok(Comparison::Equal) => return Inspection::Equal,
        Ok(Comparison::NotHosted) => return Inspection::Gone,
        Ok(Comparison::Busy) => return Inspection::Busy,
        Ok(Comparison::Differ(how)) => Ok(*how),
        Err(error) => Err(error),
    };
    let of_the_copy = what
        .as_ref()
        .is_ok_and(|how| how.differences.iter().all(|one| one.is_of_the_copy()));
    if repair == Repair::No || !of_the_copy {
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
    fn add(&mut self, looked: &Inspection) {
        self.owners += u64::from(!matches!(looked, Inspection::Gone));
        match looked {
            Inspection::Gone => {}
            Inspection::Equal => self.equal += 1,
            Inspection::Busy => self.unclear += 1,
            Inspection::Differs(found) if found.what.is_err() => self.unclear += 1,
            Inspection::Differs(found) => {
                self.differ += 1;
                self.repaired += u64::from(found.repaired);
            }
        }
    }

    /// Whether every copy is the truth's now.
    pub fn all_equal(&self) -> bool {
        self.differ == self.repaired && self.unclear == 0
    }
}
