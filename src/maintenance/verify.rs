//! Comparing this shard's Postgres with the truth, owner by owner, while both go on.
//!
//! A row that is merely not projected yet is no difference: the projection is waited for, and an owner who writes
//! meanwhile is looked at again. What remains is told by kind, with counts and without content.

use super::Operator;
use crate::domain::Version;
use crate::owners::{Loss, OwnersError, Snapshot};
use crate::seal::{OwnerKey, OwnerSet, Record, RecordName};
use crate::shard::{OwnerRows, Projected};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long the projection is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often an owner is looked at who writes all the time.
const TRIES: usize = 20;

/// One way in which a copy differs from the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Difference {
    /// Records that have no row.
    MissingRows {
        /// How many.
        count: usize,
    },
    /// Rows of which the truth has no record.
    SurplusRows {
        /// How many.
        count: usize,
    },
    /// Rows of an older version than the truth's.
    OlderRows {
        /// How many.
        count: usize,
    },
    /// Rows of a version that the truth has not.
    NewerRows {
        /// How many.
        count: usize,
    },
    /// Rows of the right version that say something else.
    AlteredRows {
        /// How many.
        count: usize,
    },
    /// Rows whose version is not among those that passed by, or otherwise.
    MissingVersions {
        /// How many.
        count: usize,
    },
    /// The owner's key is missing, older, or another.
    Key,
    /// The owner's floor is missing, older, or another.
    Floor,
    /// The owner's version is another.
    Version {
        /// As the owner's row tells it.
        here: u64,
        /// As it is.
        truth: u64,
    },
    /// The projection does not come as far as the truth.
    NotProjected {
        /// Where the projection stands.
        cursor: u64,
        /// The owner's version in the truth.
        truth: u64,
    },
    /// Records are missing in the truth, forged or rolled back.
    TruthNotWhole,
    /// The copy is whole, and the truth has less: it has lost what it acknowledged.
    TruthLost {
        /// The owner's version here.
        here: u64,
        /// The owner's version in the truth.
        truth: u64,
    },
}

impl Difference {
    /// Whether bringing the owner anew mends it; otherwise the fault is not in the copy.
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
            Self::SurplusRows { count } => write!(f, "rows too many: {count}"),
            Self::OlderRows { count } => write!(f, "older rows: {count}"),
            Self::NewerRows { count } => write!(f, "rows of versions that never were: {count}"),
            Self::AlteredRows { count } => write!(f, "altered rows: {count}"),
            Self::MissingVersions { count } => {
                write!(f, "rows whose version is not kept, or altered: {count}")
            }
            Self::Key => write!(f, "the owner's key differs"),
            Self::Floor => write!(f, "the owner's floor differs"),
            Self::Version { here, truth } => write!(
                f,
                "the owner's version is {here} here, and {truth} in the truth"
            ),
            Self::NotProjected { cursor, truth } => {
                write!(
                    f,
                    "the projection stands at {cursor}, and the truth is at {truth}: is a worker running?"
                )
            }
            Self::TruthNotWhole => write!(f, "the truth is not whole: records are missing there"),
            Self::TruthLost { here, truth } => write!(
                f,
                "the truth has lost history: it is at {truth}, was at {here}"
            ),
        }
    }
}

/// A copy, or the truth, in three numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopySummary {
    /// The owner's version.
    pub version: u64,
    /// How many records there are.
    pub records: usize,
    /// The digest of the whole set; none where it is not whole.
    pub digest: Option<String>,
}

/// What came of comparing an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// They are the same.
    Equal,
    /// The shard does not host the owner, or not any more.
    NotHosted,
    /// The owner wrote all the time.
    Busy,
    /// They differ.
    Differ(Box<Divergence>),
}

/// A copy that differs from the truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// In which ways.
    pub differences: Vec<Difference>,
    /// The copy.
    pub here: CopySummary,
    /// The truth; none where it is not whole.
    pub truth: Option<CopySummary>,
}

/// Compares owners, and remembers whether the projection is worth waiting for.
pub struct Verifier {
    operator: Operator,
    stands_still: AtomicBool,
}

impl Verifier {
    /// For these owners.
    pub fn new(operator: Operator) -> Self {
        Self {
            operator,
            stands_still: AtomicBool::new(false),
        }
    }

    /// Compares what this shard's Postgres has of the owner with what the truth has.
    pub async fn compare(&self, owner: &OwnerKey) -> Result<Comparison, OwnersError> {
        let store = &self.operator.store;
        for _ in 0..TRIES {
            let truth = match self.operator.owners.fetch_complete(owner).await {
                Ok(fetched) => fetched.snapshot,
                Err(OwnersError::Broken { .. }) => match store.rows_of(owner).await? {
                    None => return Ok(Comparison::NotHosted),
                    Some(rows) => {
                        let (here, differences) =
                            (self.side(owner, &rows), vec![Difference::TruthNotWhole]);
                        return Ok(Comparison::Differ(Box::new(Divergence {
                            differences,
                            here,
                            truth: None,
                        })));
                    }
                },
                Err(error) => return Err(error),
            };
            let passed = self.wait_for(truth.version()).await;
            let Some(rows) = store.rows_of(owner).await? else {
                return Ok(Comparison::NotHosted);
            };
            let mut differences = differences(&rows, &truth);
            if differences.is_empty() {
                return Ok(Comparison::Equal);
            }
            if self.has_changed(owner, truth.version()).await? {
                continue;
            }
            let here = self.side(owner, &rows);
            let (version, truths) = (rows.version, truth.version().get());
            if here.digest.is_some() && version > truths {
                differences = vec![Difference::TruthLost {
                    here: version,
                    truth: truths,
                }];
            } else if passed == Projected::Pending && here.digest.is_some() {
                let cursor = self.operator.owners.cursor().sequence();
                differences = vec![Difference::NotProjected {
                    cursor,
                    truth: truths,
                }];
            }
            let truth = Some(side_of(truth.set()));
            return Ok(Comparison::Differ(Box::new(Divergence {
                differences,
                here,
                truth,
            })));
        }
        Ok(Comparison::Busy)
    }

    /// Brings the owner anew. Says whether the copy is the truth's then.
    pub(super) async fn repair(&self, owner: &OwnerKey) -> Result<bool, OwnersError> {
        self.operator.owners.rebuild(owner, Loss::Refuse).await?;
        Ok(self.compare(owner).await? == Comparison::Equal)
    }

    /// Whether the truth has something newer of the owner by now.
    async fn has_changed(&self, owner: &OwnerKey, version: Version) -> Result<bool, OwnersError> {
        let newer = self
            .operator
            .bucket
            .since_confirmed(owner, version)
            .await?
            .records;
        Ok(newer.iter().any(|record| record.version > version))
    }

    /// Waits for the projection; not again once it stood still.
    async fn wait_for(&self, version: Version) -> Projected {
        let patience = if self.stands_still.load(Ordering::Relaxed) {
            Duration::ZERO
        } else {
            PATIENCE
        };
        let passed = self
            .operator
            .owners
            .cursor()
            .wait_for(version.get(), patience)
            .await;
        self.stands_still
            .store(passed == Projected::Pending, Ordering::Relaxed);
        passed
    }

    fn side(&self, owner: &OwnerKey, rows: &OwnerRows) -> CopySummary {
        let set = rows.records().and_then(|records| {
            let set = OwnerSet::empty(*owner)
                .apply(&self.operator.keyring, records)
                .ok()?;
            (set.version().get() == rows.version).then_some(set)
        });
        let records =
            rows.items.len() + usize::from(rows.key.is_some()) + usize::from(rows.floor.is_some());
        CopySummary {
            version: rows.version,
            records,
            digest: set.map(|set| digest(&set)),
        }
    }
}

fn side_of(set: &OwnerSet) -> CopySummary {
    CopySummary {
        version: set.version().get(),
        records: set.records().count(),
        digest: Some(digest(set)),
    }
}

fn digest(set: &OwnerSet) -> String {
    format!("{:?}", set.digest())
}

/// In which ways the rows differ from the truth.
fn differences(rows: &OwnerRows, truth: &Snapshot) -> Vec<Difference> {
    let mut found = Vec::new();
    let set = truth.set();
    let beside = [
        (RecordName::Key, &rows.key, Difference::Key),
        (RecordName::Floor, &rows.floor, Difference::Floor),
    ];
    for (name, row, difference) in beside {
        let record = set
            .get(&name)
            .map(|record| (record.version.get(), &record.value[..]));
        if record != row.as_ref().map(|(version, value)| (*version, &value[..])) {
            found.push(difference);
        }
    }
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
    let counted = [
        (items.len(), Difference::MissingRows { count: items.len() }),
        (surplus, Difference::SurplusRows { count: surplus }),
        (older, Difference::OlderRows { count: older }),
        (newer, Difference::NewerRows { count: newer }),
        (altered, Difference::AlteredRows { count: altered }),
        (versions, Difference::MissingVersions { count: versions }),
    ];
    found.extend(
        counted
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(_, difference)| difference),
    );
    let (here, truth) = (rows.version, truth.version().get());
    if here != truth {
        found.push(Difference::Version { here, truth });
    }
    found
}
