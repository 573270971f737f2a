//! One owner's history as clients saw it, and whether it is possible. Writes and strong reads must
//! have a linear order. Default reads must keep the guarantees of sessions.

use super::model::{Answer, Change, Hints, LIST, Op, Owner, Ret, VersionBound};
use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester, SequentialSpec as _};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long the search for an order may take.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(30);

/// The stack of the search, which is deeply recursive.
const SEARCH_STACK_BYTES: usize = 256 << 20;

/// The violation of a history without a linear order.
pub const NO_ORDER: &str = "there is no order";

/// A worker: its shard, and how often that shard's worker was killed or started before.
pub type Worker = (usize, u64);

/// An operation and its answer, with the ticks of the clock that all clients share.
#[derive(Clone, Debug)]
pub struct Entry {
    pub client: usize,
    pub op: Op,
    pub answer: Answer,
    pub began: u64,
    pub ended: u64,
    /// Whether it is a read with the default consistency, which may return an older state.
    pub by_default: bool,
    /// The owner's version that the answer had to take into account at least.
    pub min_version: Option<u64>,
    /// The worker that answered, if that is certain.
    pub worker: Option<Worker>,
    /// Whether a fault lasted during the operation.
    pub during_fault: bool,
}

/// All operations of one owner.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub entries: Vec<Entry>,
}

/// The result of a check.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Operations that must have a linear order.
    pub operations: usize,
    pub clients: usize,
    /// Operations without an answer.
    pub pending: usize,
    pub during_fault: usize,
    pub default_reads: usize,
    pub took: Duration,
    pub violations: Vec<String>,
}

impl History {
    /// Searches for a linear order, and checks the default reads.
    pub async fn check(self) -> Verdict {
        let start = Instant::now();
        let counts = self.count();
        let (sender, receiver) = tokio::sync::oneshot::channel();

        std::thread::Builder::new()
            .stack_size(SEARCH_STACK_BYTES)
            .spawn(move || sender.send(self.violations()))
            .expect("a thread");

        let violations = match tokio::time::timeout(SEARCH_TIMEOUT, receiver).await {
            Ok(violations) => violations.expect("no panic"),
            Err(_) => vec!["the search for an order does not end".into()],
        };

        Verdict {
            took: start.elapsed(),
            violations,
            ..counts
        }
    }

    fn count(&self) -> Verdict {
        let clients: BTreeSet<usize> = self.entries.iter().map(|entry| entry.client).collect();
        let count = |predicate: fn(&Entry) -> bool| {
            let counted = self.entries.iter().filter(|entry| predicate(entry));
            counted.count()
        };

        Verdict {
            operations: count(|entry| !entry.by_default),
            clients: clients.len(),
            pending: count(|entry| entry.answer == Answer::Missing),
            during_fault: count(|entry| !entry.by_default && entry.during_fault),
            default_reads: count(|entry| entry.by_default),
            ..Verdict::default()
        }
    }

    fn violations(&self) -> Vec<String> {
        let mut violations = self.violations_of_sessions();

        match self.find_order() {
            None => violations.push(format!("{NO_ORDER}: {}", self.listing())),
            Some(order) => violations.extend(self.violations_of_states(&order)),
        }

        violations
    }

    /// Returns an order in which every answer is right, if there is one.
    fn find_order(&self) -> Option<Vec<(Op, Ret)>> {
        let entries = self.linear_entries();
        let (hints, ranks) = hints(&entries);
        let mut tester = LinearizabilityTester::new(Owner::new(hints));

        for event in events(&entries) {
            let entry = &entries[event.entry];
            // A client goes on after an operation without an answer. So that operation needs a
            // thread of its own: one of the last that are tried.
            let thread = if entry.ended == u64::MAX {
                1_000 + event.entry
            } else {
                entry.client
            };

            if event.is_begin {
                tester
                    .on_invoke(thread, entry.op.clone())
                    .expect("a well-formed history");
            } else {
                let ret = Ret {
                    answer: entry.answer.clone(),
                    rank: ranks.get(&entry.began).copied().unwrap_or_default(),
                };
                tester
                    .on_return(thread, ret)
                    .expect("a well-formed history");
            }
        }

        tester.serialized_history()
    }

    /// Returns the operations that must have a linear order. A write without an answer gets its
    /// versions if another client has seen one of its texts.
    fn linear_entries(&self) -> Vec<Entry> {
        let versions_by_text = self.versions_by_text();
        let mut entries: Vec<Entry> = self
            .entries
            .iter()
            .filter(|entry| !entry.by_default)
            .cloned()
            .collect();

        for entry in &mut entries {
            let Op::Write { changes, .. } = &entry.op else {
                continue;
            };
            if entry.answer != Answer::Missing {
                continue;
            }

            let first_version = |(index, change): (usize, &Change)| {
                let text = change.text.filter(|_| change.item != LIST)?;
                let version = versions_by_text.get(&text)?;
                Some(version.saturating_sub(index as u64))
            };

            if let Some(first) = changes.iter().enumerate().find_map(first_version) {
                entry.answer = Answer::Written {
                    versions: (first..).take(changes.len()).collect(),
                };
            }
        }

        entries
    }

    /// Returns the version of each text that an answer shows, lists of codes aside.
    fn versions_by_text(&self) -> BTreeMap<u32, u64> {
        let shown = |entry: &Entry| match &entry.answer {
            _ if entry.op.is_about_list() => None,
            Answer::Found { version, text, .. } => Some((*text, *version)),
            Answer::Conflict { item, .. } => item.map(|(version, text)| (text, version)),
            _ => None,
        };

        self.entries.iter().filter_map(shown).collect()
    }

    /// Returns the default reads that do not show a state that existed, and all of it: never half
    /// of a batch.
    fn violations_of_states(&self, order: &[(Op, Ret)]) -> Vec<String> {
        let states = states(order);
        // A write without an answer may have made a state that is not known exactly.
        let has_open = self
            .entries
            .iter()
            .any(|entry| entry.answer == Answer::Missing);
        let mut violations = Vec::new();

        for entry in self.entries.iter().filter(|entry| entry.by_default) {
            let Op::Get { item } = &entry.op else {
                continue;
            };
            let Some(owner_version) = entry.answer.owner() else {
                continue;
            };

            let Some(state) = states.get(&owner_version) else {
                if !has_open {
                    let line = entry.line();
                    violations.push(format!("a read shows a state that never existed:{line}"));
                }
                continue;
            };

            let is_right = match (&entry.answer, state.get(item).copied()) {
                (
                    Answer::Found { version, text, .. },
                    Some((VersionBound::Exactly(item_version), item_text)),
                ) => *version == item_version && *text == item_text,
                (Answer::NotFound { .. }, None) => true,
                (_, None) => has_open,
                (_, Some((version, _))) => has_open && matches!(version, VersionBound::AtLeast(_)),
            };
            if !is_right {
                let line = entry.line();
                violations.push(format!("a read shows an item as it was not then:{line}"));
            }
        }

        violations
    }

    /// Returns the answers older than the client asked for, and those in which a worker went back.
    fn violations_of_sessions(&self) -> Vec<String> {
        let mut violations = Vec::new();

        for entry in &self.entries {
            if let (Some(min_version), Some(owner_version)) =
                (entry.min_version, entry.answer.owner())
                && owner_version < min_version
            {
                let line = entry.line();
                violations.push(format!(
                    "a read of at least version {min_version} shows less:{line}"
                ));
            }
        }

        let mut by_worker: BTreeMap<Worker, Vec<&Entry>> = BTreeMap::new();
        for entry in &self.entries {
            if let Some(worker) = entry.worker {
                by_worker.entry(worker).or_default().push(entry);
            }
        }

        for entries in by_worker.values() {
            let reads = entries
                .iter()
                .filter(|entry| matches!(entry.op, Op::Get { .. }));

            for read in reads {
                let before = entries.iter().filter(|entry| entry.ended < read.began);
                let newest = before.max_by_key(|entry| entry.answer.owner());
                if let Some(newest) = newest
                    && newest.answer.owner() > read.answer.owner()
                {
                    let before = newest.line();
                    let after = read.line();
                    violations.push(format!("a worker went back:{before}{after}"));
                }
            }
        }

        violations
    }

    /// Returns a line for each operation, without the texts that were written.
    fn listing(&self) -> String {
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by_key(|entry| entry.began);

        entries.into_iter().map(Entry::line).collect()
    }
}

impl Entry {
    fn line(&self) -> String {
        let Self {
            client,
            op,
            answer,
            began,
            ended,
            worker,
            ..
        } = self;
        let default = if self.by_default { " by default" } else { "" };

        format!("\n  {began}..{ended} client {client} at {worker:?}:{default} {op:?} -> {answer:?}")
    }
}

/// Returns the hints for the search, and the rank of each answer that changed nothing, by the tick
/// at which its operation began.
fn hints(entries: &[Entry]) -> (Hints, BTreeMap<u64, usize>) {
    let mut hints = Hints::default();
    let mut ranks = BTreeMap::new();
    let mut answered: Vec<&Entry> = entries
        .iter()
        .filter(|entry| entry.answer != Answer::Missing)
        .collect();
    answered.sort_by_key(|entry| entry.ended);

    for entry in answered {
        let Some(owner_version) = entry.answer.owner() else {
            continue;
        };

        if entry.answer.is_write() {
            hints.writes.insert(owner_version);
            continue;
        }

        let count = hints.reads.entry(owner_version).or_default();
        ranks.insert(entry.began, *count);
        *count += 1;
    }

    (hints, ranks)
}

/// The begin or the end of an operation. The order of the fields sorts events by time.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    tick: u64,
    /// The index of the entry.
    entry: usize,
    is_begin: bool,
}

/// Returns the events of these operations in the order of time.
fn events(entries: &[Entry]) -> Vec<Event> {
    let mut events = Vec::new();

    for (index, entry) in entries.iter().enumerate() {
        events.push(Event {
            tick: entry.began,
            entry: index,
            is_begin: true,
        });
        if entry.answer != Answer::Missing {
            events.push(Event {
                tick: entry.ended,
                entry: index,
                is_begin: false,
            });
        }
    }

    events.sort_unstable();

    events
}

/// Returns the items after each acknowledged write in this order, by the owner's version.
fn states(order: &[(Op, Ret)]) -> BTreeMap<u64, BTreeMap<u8, (VersionBound, u32)>> {
    let mut owner = Owner::new(Hints::default());
    let mut states = BTreeMap::from([(0, owner.items.clone())]);

    for (op, ret) in order {
        match (&ret.answer, op) {
            (Answer::Missing, _) => {
                owner.invoke(op);
            }
            (Answer::Written { versions }, Op::Write { changes, .. }) => {
                owner.write(changes, versions);

                let version = ret.answer.owner().unwrap_or_default();
                states.insert(version, owner.items.clone());
            }
            (Answer::Taken { version, .. }, _) => {
                owner.give_out_code(VersionBound::Exactly(*version));
                states.insert(*version, owner.items.clone());
            }
            _ => {}
        }
    }

    states
}
