//! One owner's history as it was seen from outside, and whether it could have been: by the order of one operation after
//! the other for what is promised to be so, and by the guarantees of a session for the rest.

use super::model::{Change, Hints, Op, Owner, Ret, Seen, Told};
use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester, SequentialSpec as _};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long the search for an order may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which worker answered: the shard, and how often its worker was ended before.
pub type Worker = (usize, u64);

/// An operation: what was asked and answered, and the ticks of the clock that all clients share.
#[derive(Clone, Debug)]
pub struct Entry {
    pub client: usize,
    pub op: Op,
    pub told: Told,
    pub began: u64,
    pub ended: u64,
    /// A read by default: it is not promised to be the newest.
    pub by_default: bool,
    /// What it had to hold at least.
    pub min_version: Option<u64>,
    /// Who gave the answer, where that is certain.
    pub worker: Option<Worker>,
    /// Whether a fault lasted while it did.
    pub struck: bool,
}

/// All operations of one owner.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub entries: Vec<Entry>,
}

/// What came of a check.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub operations: usize,
    pub clients: usize,
    pub pending: usize,
    pub struck: usize,
    pub defaults: usize,
    pub took: Duration,
    pub violations: Vec<String>,
}

impl History {
    /// Looks for an order, and at the reads that are outside of it.
    pub async fn check(self) -> Verdict {
        let began = Instant::now();
        let counted = self.counted();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // Deep recursion, and not to be waited for without end.
        let search = move || sender.send(self.violations());
        std::thread::Builder::new()
            .stack_size(256 << 20)
            .spawn(search)
            .expect("a thread");
        let violations = match tokio::time::timeout(PATIENCE, receiver).await {
            Ok(found) => found.expect("no panic"),
            Err(_) => vec!["the search for an order does not end".into()],
        };
        Verdict {
            took: began.elapsed(),
            violations,
            ..counted
        }
    }

    fn counted(&self) -> Verdict {
        let count =
            |which: fn(&Entry) -> bool| self.entries.iter().filter(|entry| which(entry)).count();
        let clients: BTreeSet<usize> = self.entries.iter().map(|entry| entry.client).collect();
        Verdict {
            operations: count(|entry| !entry.by_default),
            clients: clients.len(),
            pending: count(|entry| entry.told == Told::Nothing),
            struck: count(|entry| !entry.by_default && entry.struck),
            defaults: count(|entry| entry.by_default),
            ..Verdict::default()
        }
    }

    fn violations(&self) -> Vec<String> {
        let mut found = self.of_sessions();
        match self.order() {
            None => found.push(format!("there is no order: {}", self.told())),
            Some(order) => found.extend(self.of_states(&order)),
        }
        found
    }

    /// An order in which every answer is right, if there is one.
    fn order(&self) -> Option<Vec<(Op, Ret)>> {
        let entries = self.with_what_was_seen();
        let mut hints = Hints::default();
        let mut by_end: Vec<&Entry> = entries
            .iter()
            .filter(|entry| entry.told != Told::Nothing)
            .collect();
        by_end.sort_by_key(|entry| entry.ended);
        let mut ranks = BTreeMap::new();
        for entry in by_end {
            let Some(owner) = entry.told.owner() else {
                continue;
            };
            if matches!(entry.told, Told::Written { .. }) {
                hints.writes.insert(owner);
                continue;
            }
            let count = hints.reads.entry(owner).or_default();
            ranks.insert(entry.began, *count);
            *count += 1;
        }
        let mut events: Vec<(u64, usize, bool)> = Vec::new();
        for (number, entry) in entries.iter().enumerate() {
            events.push((entry.began, number, true));
            if entry.told != Told::Nothing {
                events.push((entry.ended, number, false));
            }
        }
        events.sort_unstable();
        let mut tester = LinearizabilityTester::new(Owner::new(hints));
        for (_, number, begins) in events {
            let entry = &entries[number];
            // A client goes on after what got no answer, which so needs a thread of its own: the last to be tried.
            let thread = if entry.ended == u64::MAX {
                1_000 + number
            } else {
                entry.client
            };
            if begins {
                tester
                    .on_invoke(thread, entry.op.clone())
                    .expect("a well-formed history");
            } else {
                let rank = ranks.get(&entry.began).copied().unwrap_or_default();
                tester
                    .on_return(
                        thread,
                        Ret {
                            told: entry.told.clone(),
                            rank,
                        },
                    )
                    .expect("a well-formed history");
            }
        }
        tester.serialized_history()
    }

    /// What is promised to be in order; where a text was seen of a write without an answer, with its versions.
    fn with_what_was_seen(&self) -> Vec<Entry> {
        let mut seen = BTreeMap::new();
        for entry in &self.entries {
            match &entry.told {
                Told::Found { version, text, .. }
                | Told::Conflict {
                    item: Some((version, text)),
                    ..
                } => {
                    seen.insert(*text, *version);
                }
                _ => {}
            }
        }
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
            if entry.told != Told::Nothing {
                continue;
            }
            let seen_at = |(at, change): (usize, &Change)| {
                Some(seen.get(&change.text?)?.saturating_sub(at as u64))
            };
            if let Some(first) = changes.iter().enumerate().find_map(seen_at) {
                entry.told = Told::Written {
                    versions: (first..).take(changes.len()).collect(),
                };
            }
        }
        entries
    }

    /// Reads by default tell of a state that was, and of all of it: never of half a batch.
    fn of_states(&self, order: &[(Op, Ret)]) -> Vec<String> {
        let mut owner = Owner::new(Hints::default());
        let mut states = BTreeMap::from([(0, owner.items.clone())]);
        for (op, ret) in order {
            match (&ret.told, op) {
                (Told::Nothing, _) => {
                    owner.invoke(op);
                }
                (told @ Told::Written { versions }, Op::Write { changes, .. }) => {
                    owner.write(changes, versions);
                    states.insert(told.owner().unwrap_or_default(), owner.items.clone());
                }
                _ => {}
            }
        }
        // What was never answered may have made states of its own.
        let open = self.entries.iter().any(|entry| entry.told == Told::Nothing);
        let mut found = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.by_default) {
            let (Op::Get { item }, Some(version)) = (&entry.op, entry.told.owner()) else {
                continue;
            };
            let Some(state) = states.get(&version) else {
                if !open {
                    found.push(format!(
                        "a read tells of what was no state of the owner:{}",
                        entry.line()
                    ));
                }
                continue;
            };
            let there = state.get(item).map(|(version, text)| (*version, *text));
            let right = match (&entry.told, there) {
                (Told::Found { version, text, .. }, Some((Seen::Exactly(at), written))) => {
                    *version == at && *text == written
                }
                (Told::NotFound { .. }, None) => true,
                (_, there) => {
                    open && there.is_none_or(|(version, _)| matches!(version, Seen::AtLeast(_)))
                }
            };
            if !right {
                found.push(format!(
                    "a read tells of an item as it was not then:{}",
                    entry.line()
                ));
            }
        }
        found
    }

    /// One reads one's writes where one asks for it, and a worker never goes back.
    fn of_sessions(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in &self.entries {
            if let (Some(least), Some(owner)) = (entry.min_version, entry.told.owner())
                && owner < least
            {
                found.push(format!(
                    "a read of at least version {least} tells of less:{}",
                    entry.line()
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
            for later in entries
                .iter()
                .filter(|entry| matches!(entry.op, Op::Get { .. }))
            {
                let before = entries.iter().filter(|entry| entry.ended < later.began);
                let newest = before.max_by_key(|entry| entry.told.owner());
                if let Some(newest) =
                    newest.filter(|newest| newest.told.owner() > later.told.owner())
                {
                    found.push(format!(
                        "a worker went back:{}{}",
                        newest.line(),
                        later.line()
                    ));
                }
            }
        }
        found
    }

    /// All of it, a line each, without what was written.
    fn told(&self) -> String {
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
            told,
            began,
            ended,
            worker,
            ..
        } = self;
        let default = if self.by_default { " by default" } else { "" };
        format!("\n  {began}..{ended} client {client} at {worker:?}:{default} {op:?} -> {told:?}")
    }
}
