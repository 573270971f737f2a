//! Verifying one owner: comparing the owner's rows in this shard's Postgres with the truth, while
//! both change.
//!
//! A row that is merely not projected yet is no difference. The tool waits for the projection, and
//! compares an owner again if the owner has written in the meantime. It reports differences by
//! kind, with counts and without content.

use super::Operator;
use crate::domain::Version;
use crate::owners::{Loss, OwnersError, Snapshot};
use crate::seal::{OwnerKey, OwnerSet, Record, RecordName};
use crate::shard::{OwnerRows, Projected};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long to wait for the projection.
const PROJECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an owner is compared that writes all the time.
const COMPARE_TRIES_MAX: usize = 20;
/// How many owners are hosted or compared at once. They are neighbours in the bucket.
pub(super) const NEIGHBOURS_MAX: usize = 200;

/// One way in which a copy differs from the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Difference {
    /// The truth has records without a row.
    MissingRows {
        /// The number of missing rows.
        count: usize,
    },
    /// There are rows without a record in the truth.
    SurplusRows {
        /// The number of surplus rows.
        count: usize,
    },
    /// Rows have an older version than the truth.
    OlderRows {
        /// The number of older rows.
        count: usize,
    },
    /// Rows have a newer version than the truth.
    NewerRows {
        /// The number of newer rows.
        count: usize,
    },
    /// Rows have the right version and another content.
    AlteredRows {
        /// The number of altered rows.
        count: usize,
    },
    /// The version of a row is missing among the kept versions (`item_version`), or has another
    /// content there.
    MissingVersions {
        /// The number of rows with such a version.
        count: usize,
    },
    /// The owner's key is missing, older, or another one.
    Key,
    /// The owner's floor is missing, older, or another one.
    Floor,
    /// Records that this version of the service does not know are missing, older or different.
    Others,
    /// The owner's version differs.
    Version {
        /// The version in the owner's row.
        here: u64,
        /// The version in the truth.
        truth: u64,
    },
    /// The projection has not reached the owner's version in the truth.
    NotProjected {
        /// Where the projection stands.
        cursor: u64,
        /// The owner's version in the truth.
        truth: u64,
    },
    /// The records in the truth are not complete: some are missing, forged or rolled back.
    TruthNotWhole,
    /// The copy is complete and the truth lacks something of it: it has lost what it acknowledged.
    TruthLost {
        /// The owner's version here.
        here: u64,
        /// The owner's version in the truth.
        truth: u64,
    },
}

impl Difference {
    /// Returns whether the copy is at fault, so that a rebuild repairs it.
    pub fn is_of_the_copy(&self) -> bool {
        !matches!(
            self,
            Self::NotProjected { .. } | Self::TruthNotWhole | Self::TruthLost { .. }
        )
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingRows { count } => write!(f, "missing rows: {count}"),
            Self::SurplusRows { count } => write!(f, "surplus rows: {count}"),
            Self::OlderRows { count } => write!(f, "older rows: {count}"),
            Self::NewerRows { count } => write!(f, "newer rows than in the truth: {count}"),
            Self::AlteredRows { count } => write!(f, "altered rows: {count}"),
            Self::MissingVersions { count } => {
                write!(f, "rows whose version is not kept, or altered: {count}")
            }
            Self::Key => write!(f, "the owner's key differs"),
            Self::Floor => write!(f, "the owner's floor differs"),
            Self::Others => write!(f, "records of a newer version of the service differ"),
            Self::Version { here, truth } => write!(
                f,
                "the owner's version is {here} here, and {truth} in the truth"
            ),
            Self::NotProjected { cursor, truth } => {
                write!(
                    f,
                    "the projection is at {cursor}, the truth at {truth}: is a worker running?"
                )
            }
            Self::TruthNotWhole => write!(f, "the owner's records in the truth are not complete"),
            Self::TruthLost { here, truth } => write!(
                f,
                "the truth has lost history: at {truth} it lacks what it had at {here}"
            ),
        }
    }
}

/// A summary of an owner's copy, or of what the truth has of the owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopySummary {
    /// The owner's version.
    pub version: u64,
    /// The number of records.
    pub records: usize,
    /// The digest of the set; `None` if the set is not complete.
    pub digest: Option<String>,
}

/// The result of comparing an owner's copy with the truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The copy and the truth are the same.
    Equal,
    /// The shard does not host the owner, or no longer does.
    NotHosted,
    /// The owner wrote all the time.
    Busy,
    /// The copy and the truth differ.
    Differ(Box<Divergence>),
}

/// How a copy differs from the truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The differences.
    pub differences: Vec<Difference>,
    /// A summary of the copy.
    pub here: CopySummary,
    /// A summary of the truth; `None` if its records are not complete.
    pub truth: Option<CopySummary>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let differences: Vec<_> = self.differences.iter().map(ToString::to_string).collect();

        f.write_str(&differences.join(", "))
    }
}

/// Compares owners' copies with the truth.
pub struct Verifier {
    operator: Operator,
    /// Whether the projection did not arrive in time when it was last waited for.
    projection_stalled: AtomicBool,
}

impl Verifier {
    /// Creates a verifier of the shard's owners.
    pub fn new(operator: Operator) -> Self {
        Self {
            operator,
            projection_stalled: AtomicBool::new(false),
        }
    }

    /// Compares the owner's rows in this shard's Postgres with the truth.
    pub async fn compare(&self, owner: &OwnerKey) -> Result<Comparison, OwnersError> {
        let store = &self.operator.store;
        for _ in 0..COMPARE_TRIES_MAX {
            let truth = match self.operator.owners.fetch_complete(owner).await {
                Ok(fetched) => fetched.snapshot,
                Err(OwnersError::Broken { .. }) => match store.find_rows(owner).await? {
                    None => return Ok(Comparison::NotHosted),
                    Some(rows) => {
                        return Ok(Comparison::Differ(Box::new(Divergence {
                            differences: vec![Difference::TruthNotWhole],
                            here: self.summary_of_rows(owner, &rows),
                            truth: None,
                        })));
                    }
                },
                Err(error) => return Err(error),
            };

            let projected = self.wait_for_projection(truth.version()).await;
            let Some(rows) = store.find_rows(owner).await? else {
                return Ok(Comparison::NotHosted);
            };
            let differences = differences(&rows, &truth);
            if differences.is_empty() {
                return Ok(Comparison::Equal);
            }
            if self.has_changed(owner, truth.version()).await? {
                continue;
            }

            let here = self.summary_of_rows(owner, &rows);
            let copy = self.set_of_rows(owner, &rows);
            let differences = self
                .explanation(copy.as_ref(), &truth, projected)
                .await
                .map_or(differences, |difference| vec![difference]);
            return Ok(Comparison::Differ(Box::new(Divergence {
                differences,
                here,
                truth: Some(summary_of_set(truth.set())),
            })));
        }

        Ok(Comparison::Busy)
    }

    /// Returns those of the owners whose rows equal the truth, and are not in doubt. The others have to
    /// be compared alone.
    pub(super) async fn equal_among(
        &self,
        owners: &[OwnerKey],
    ) -> Result<HashSet<OwnerKey>, OwnersError> {
        let mut equal = HashSet::new();
        let mut waiting = vec![owners];
        while let Some(fetched) = self.operator.owners.fetch_some(&mut waiting).await? {
            let versions = fetched.iter().map(|one| one.snapshot.version());
            self.wait_for_projection(versions.max().unwrap_or_default())
                .await;

            let keys: Vec<_> = fetched.iter().map(|one| *one.snapshot.owner()).collect();
            let rows = self.operator.store.find_rows_of(&keys).await?;
            equal.extend(fetched.iter().filter_map(|one| {
                let owner = one.snapshot.owner();
                let rows = rows.get(owner)?;
                let is_equal = !rows.is_in_doubt && differences(rows, &one.snapshot).is_empty();
                is_equal.then_some(*owner)
            }));
        }

        Ok(equal)
    }

    /// Returns the one difference that explains all others of a complete copy, if there is one.
    async fn explanation(
        &self,
        copy: Option<&OwnerSet>,
        truth: &Snapshot,
        projected: Projected,
    ) -> Option<Difference> {
        let copy = copy?;
        let is_lost = self.operator.owners.is_lost(copy, truth.set()).await;
        let here = copy.version().get();
        let truth = truth.version().get();

        if is_lost {
            Some(Difference::TruthLost { here, truth })
        } else if projected == Projected::Pending {
            let cursor = self.operator.owners.cursor().sequence();
            Some(Difference::NotProjected { cursor, truth })
        } else {
            None
        }
    }

    /// Rebuilds the owner's copy. Returns whether the copy equals the truth then.
    pub(super) async fn repair(&self, owner: &OwnerKey) -> Result<bool, OwnersError> {
        self.operator.owners.rebuild(owner, Loss::Refuse).await?;
        Ok(self.compare(owner).await? == Comparison::Equal)
    }

    /// Returns whether the truth has a newer version of the owner by now.
    async fn has_changed(&self, owner: &OwnerKey, version: Version) -> Result<bool, OwnersError> {
        let newer = self
            .operator
            .bucket
            .since_confirmed(owner, version)
            .await?
            .records;
        Ok(newer.iter().any(|record| record.version > version))
    }

    /// Waits for the projection. Does not wait if the projection did not arrive in time before.
    async fn wait_for_projection(&self, version: Version) -> Projected {
        let limit = if self.projection_stalled.load(Ordering::Relaxed) {
            Duration::ZERO
        } else {
            PROJECTION_TIMEOUT
        };

        let projected = self
            .operator
            .owners
            .cursor()
            .wait_for(version.get(), limit)
            .await;

        self.projection_stalled
            .store(projected == Projected::Pending, Ordering::Relaxed);
        projected
    }

    /// Returns the set of the rows, if it is complete.
    fn set_of_rows(&self, owner: &OwnerKey, rows: &OwnerRows) -> Option<OwnerSet> {
        let set = OwnerSet::empty(*owner)
            .apply(&self.operator.keyring, rows.records()?)
            .ok()?;

        (set.version().get() == rows.version).then_some(set)
    }

    fn summary_of_rows(&self, owner: &OwnerKey, rows: &OwnerRows) -> CopySummary {
        let set = self.set_of_rows(owner, rows);
        let records = rows.items.len()
            + rows.others.len()
            + usize::from(rows.key.is_some())
            + usize::from(rows.floor.is_some());

        CopySummary {
            version: rows.version,
            records,
            digest: set.map(|set| digest(&set)),
        }
    }
}

fn summary_of_set(set: &OwnerSet) -> CopySummary {
    CopySummary {
        version: set.version().get(),
        records: set.records().count(),
        digest: Some(digest(set)),
    }
}

fn digest(set: &OwnerSet) -> String {
    format!("{:?}", set.digest())
}

/// Returns the differences between the rows and the truth.
fn differences(rows: &OwnerRows, truth: &Snapshot) -> Vec<Difference> {
    let mut found = differences_of_owner(rows, truth.set());
    found.extend(differences_of_items(rows, truth.set()));

    let here = rows.version;
    let truth = truth.version().get();
    if here != truth {
        found.push(Difference::Version { here, truth });
    }
    found
}

/// Returns the differences of the owner's key and floor, and of records that this version does not
/// know.
fn differences_of_owner(rows: &OwnerRows, set: &OwnerSet) -> Vec<Difference> {
    let mut found = Vec::new();
    for (name, row, difference) in [
        (RecordName::Key, &rows.key, Difference::Key),
        (RecordName::Floor, &rows.floor, Difference::Floor),
    ] {
        let record = set
            .get(&name)
            .map(|record| (record.version.get(), &record.value[..]));
        if record != row.as_ref().map(|(version, value)| (*version, &value[..])) {
            found.push(difference);
        }
    }

    let is_unknown = |record: &&Record| matches!(record.name, RecordName::Unknown(_));
    let here = rows.others.iter();
    let here = here.map(|(name, version, value)| (*name, *version, &value[..]));
    let truth = set.records().filter(is_unknown);
    let truth = truth.map(|record| (record.name, record.version.get(), &record.value[..]));
    if here.collect::<BTreeSet<_>>() != truth.collect::<BTreeSet<_>>() {
        found.push(Difference::Others);
    }
    found
}

/// Returns the differences of the items, counted by kind.
fn differences_of_items(rows: &OwnerRows, set: &OwnerSet) -> Vec<Difference> {
    let mut items: BTreeMap<_, &Record> = BTreeMap::new();
    for record in set.records() {
        if let RecordName::Item(item) = record.name {
            items.insert(item, record);
        }
    }

    let (mut surplus, mut older, mut newer, mut altered, mut versions) = (0, 0, 0, 0, 0);
    for row in &rows.items {
        versions += usize::from(!row.is_kept_as_version);
        let Some(record) = items.remove(&row.item) else {
            surplus += 1;
            continue;
        };
        let version = record.version.get();
        older += usize::from(row.version < version);
        newer += usize::from(row.version > version);
        altered += usize::from(row.version == version && !row.matches(record));
    }

    let missing = items.len();
    let counted = [
        (missing, Difference::MissingRows { count: missing }),
        (surplus, Difference::SurplusRows { count: surplus }),
        (older, Difference::OlderRows { count: older }),
        (newer, Difference::NewerRows { count: newer }),
        (altered, Difference::AlteredRows { count: altered }),
        (versions, Difference::MissingVersions { count: versions }),
    ];
    counted
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(_, difference)| difference)
        .collect()
}
