//! Going through all owners of this shard: comparing each with the truth, or bringing each anew.

use super::replay::trying;
use super::verify::{Compared, Differing, Verifier};
use super::{Owners, OwnersFault};
use crate::seal::OwnerKey;
use futures::StreamExt as _;
use futures::stream;
use serde::Serialize;

/// Owners looked up in Postgres in one go.
const PAGE: i64 = 500;
/// Owners looked at side by side: more would press those who are served, and each may be heavy.
const SIDE_BY_SIDE: usize = 4;
/// How often an owner is looked at again while something is away: what is only slow is not unclear.
const AGAIN: usize = 6;

/// What a survey is to do about a copy that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mend {
    /// Nothing.
    No,
    /// Bring the owner anew, and compare once more.
    Yes,
}

/// An owner whose copy differs, or cannot be compared.
pub struct Found {
    /// Whose.
    pub owner: OwnerKey,
    /// How it differs; or why that cannot be told.
    pub what: Result<Differing, OwnersFault>,
    /// Whether it was mended.
    pub mended: bool,
}

/// What a survey counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Owners compared.
    pub owners: u64,
    /// Those whose copy is the truth's.
    pub equal: u64,
    /// Those whose copy differs.
    pub differ: u64,
    /// Those of them that were mended.
    pub mended: u64,
    /// Those who could not be compared, because of a fault, or because they wrote all the time.
    pub unclear: u64,
}

impl Owners {
    /// How the bucket's history is to what this shard's projection knows of it: fails where it went back.
    pub async fn check_history(&self) -> Result<(), OwnersFault> {
        let reached = self.0.store.reached(self.bucket_name()).await?;
        self.compare(reached.as_ref()).await.map(drop)
    }

    /// Compares each owner whom this shard hosts with the truth; `tell` hears of each that differs, `step` of each page.
    pub async fn survey(
        &self,
        mend: Mend,
        mut tell: impl FnMut(Found),
        mut step: impl FnMut(u64),
    ) -> Result<Counts, OwnersFault> {
        let verifier = Verifier::new(self.clone());
        let (mut counts, mut after) = (Counts::default(), None);
        loop {
            // All that are known, for a copy may be so damaged that it hardly counts as one.
            let page = self.0.store.known_owners(after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(counts);
            };
            after = Some(*last);
            let looks = page
                .iter()
                .map(|owner| look(&verifier, *owner, mend))
                .collect::<Vec<_>>();
            let mut looks = stream::iter(looks).buffer_unordered(SIDE_BY_SIDE);
            while let Some(looked) = looks.next().await {
                counts.add(&looked);
                if let Looked::Found(found) = looked {
                    tell(*found);
                }
            }
            step(counts.owners);
        }
    }
}

/// What came of looking at one owner.
enum Looked {
    Equal,
    Gone,
    Busy,
    Found(Box<Found>),
}

async fn look(verifier: &Verifier, owner: OwnerKey, mend: Mend) -> Looked {
    let what = match trying(AGAIN, || verifier.compare(&owner)).await {
        Ok(Compared::Equal) => return Looked::Equal,
        Ok(Compared::NotHosted) => return Looked::Gone,
        Ok(Compared::Busy) => return Looked::Busy,
        Ok(Compared::Differ(how)) => Ok(*how),
        Err(fault) => Err(fault),
    };
    let of_the_copy = what
        .as_ref()
        .is_ok_and(|how| how.differences.iter().all(|one| one.is_of_the_copy()));
    if mend == Mend::No || !of_the_copy {
        return Looked::Found(Box::new(Found {
            owner,
            what,
            mended: false,
        }));
    }
    match trying(AGAIN, || verifier.mend(&owner)).await {
        Ok(mended) => Looked::Found(Box::new(Found {
            owner,
            what,
            mended,
        })),
        Err(fault) => Looked::Found(Box::new(Found {
            owner,
            what: Err(fault),
            mended: false,
        })),
    }
}

impl Counts {
    fn add(&mut self, looked: &Looked) {
        self.owners += u64::from(!matches!(looked, Looked::Gone));
        match looked {
            Looked::Gone => {}
            Looked::Equal => self.equal += 1,
            Looked::Busy => self.unclear += 1,
            Looked::Found(found) if found.what.is_err() => self.unclear += 1,
            Looked::Found(found) => {
                self.differ += 1;
                self.mended += u64::from(found.mended);
            }
        }
    }

    /// Whether every copy is the truth's now.
    pub fn all_equal(&self) -> bool {
        self.differ == self.mended && self.unclear == 0
    }
}
