//! The checker itself: histories that were made by hand, right and wrong.

use super::history::{Entry, History};
use super::model::{Change, Op, Told};
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use std::collections::BTreeMap;
use std::time::Duration;

const CLIENTS: usize = 10;
const OPERATIONS: usize = 90;

/// A service without fault: each operation is done at a moment between its beginning and its end.
struct Service {
    random: TestRng,
    version: u64,
    items: BTreeMap<u8, (u64, u32)>,
    text: u32,
}

impl Service {
    fn new(seed: u8) -> Self {
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
        Self {
            random,
            version: 0,
            items: BTreeMap::new(),
            text: 0,
        }
    }

    fn pick(&mut self, most: u32) -> u32 {
        self.random.next_u32() % most
    }

    fn operation(&mut self) -> Op {
        if self.pick(3) == 0 {
            return Op::Get {
                item: self.pick(4) as u8,
            };
        }
        let (first, count) = (self.pick(4) as u8, 1 + self.pick(3) as u8);
        let mut changes = Vec::new();
        for item in (0..count).map(|more| (first + more) % 4) {
            self.text += 1;
            let text = (self.pick(6) > 0).then_some(self.text);
            let known = self.items.get(&item).map_or(0, |(version, _)| *version);
            let if_version = (self.pick(2) == 0).then_some(known);
            changes.push(Change {
                item,
                text,
                if_version,
            });
        }
        Op::Write {
            changes,
            if_owner_version: None,
        }
    }

    fn done(&mut self, op: &Op) -> Told {
        let owner = self.version;
        let changes = match op {
            Op::Get { item } => {
                return match self.items.get(item) {
                    Some((version, text)) => Told::Found {
                        owner,
                        version: *version,
                        text: *text,
                    },
                    None => Told::NotFound { owner, at: 0 },
                };
            }
            Op::Write { changes, .. } => changes,
        };
        for (at, change) in changes.iter().enumerate() {
            let item = self.items.get(&change.item).copied();
            if change.text.is_none() && item.is_none() {
                return Told::NotFound { owner, at };
            }
            if change
                .if_version
                .is_some_and(|wanted| wanted != item.map_or(0, |(version, _)| version))
            {
                return Told::Conflict {
                    owner,
                    at: Some(at),
                    item,
                };
            }
        }
        let first = self.version + 1 + u64::from(self.pick(5));
        for (version, change) in (first..).zip(changes) {
            match change.text {
                Some(text) => self.items.insert(change.item, (version, text)),
                None => self.items.remove(&change.item),
            };
            self.version = version;
        }
        Told::Written {
            versions: (first..).take(changes.len()).collect(),
        }
    }
}

/// What the clients of a service without fault see, of whom some get no answer to a write.
fn history(seed: u8, unanswered: usize) -> History {
    let mut service = Service::new(seed);
    let (mut entries, mut under_way) = (
        Vec::new(),
        BTreeMap::<usize, (u64, Op, Option<Told>)>::new(),
    );
    let (mut tick, mut left) = (0, unanswered);
    while entries.len() < OPERATIONS || !under_way.is_empty() {
        tick += 1;
        let client = service.pick(CLIENTS as u32) as usize;
        match under_way.remove(&client) {
            None if entries.len() < OPERATIONS => {
                under_way.insert(client, (tick, service.operation(), None));
            }
            None => {}
            Some((began, op, None)) => {
                let told = service.done(&op);
                under_way.insert(client, (began, op, Some(told)));
            }
            Some((began, op, Some(told))) => {
                let lost = left > 0 && matches!(told, Told::Written { .. }) && service.pick(6) == 0;
                left -= usize::from(lost);
                let (told, ended) = if lost {
                    (Told::Nothing, u64::MAX)
                } else {
                    (told, tick)
                };
                let (by_default, min_version, worker, struck) = (false, None, None, true);
                entries.push(Entry {
                    client,
                    op,
                    told,
                    began,
                    ended,
                    by_default,
                    min_version,
                    worker,
                    struck,
                });
            }
        }
    }
    History { entries }
}

/// Changes the history at the first place from its middle on that takes it; whether there is one.
fn spoil(history: &mut History, which: impl FnMut(&mut Entry) -> bool) -> bool {
    let middle = history.entries.len() / 2;
    history.entries[middle..].iter_mut().any(which)
}

async fn violations(history: History) -> usize {
    let verdict = history.check().await;
    assert!(verdict.took < Duration::from_secs(20), "{:?}", verdict.took);
    verdict.violations.len()
}

#[tokio::test]
async fn what_a_service_without_fault_tells_has_an_order_also_where_answers_are_lost() {
    let mut longest = Duration::ZERO;
    for seed in 0..40 {
        let verdict = history(seed, usize::from(seed % 5)).check().await;
        assert_eq!(verdict.violations, Vec::<String>::new(), "seed {seed}");
        assert_eq!(verdict.clients, CLIENTS);
        longest = longest.max(verdict.took);
    }
    println!("the longest of 40 checks took {longest:?}");
}

/// Each of these is found in every history, with answers missing or not.
#[tokio::test]
async fn what_cannot_have_been_is_found() {
    for seed in 0..12 {
        let made = || history(seed, usize::from(seed % 3));
        let mut old = made();
        assert!(spoil(&mut old, |entry| match &mut entry.told {
            Told::Found { owner, .. } if *owner > 40 => {
                *owner -= 30;
                true
            }
            _ => false,
        }));
        assert!(violations(old).await > 0, "seed {seed}: a stale read");
        let mut lost = made();
        assert!(spoil(&mut lost, |entry| {
            match (&mut entry.op, &entry.told) {
                (Op::Write { changes, .. }, Told::Written { .. }) => {
                    changes.iter_mut().any(|change| {
                        let upon = change.if_version.filter(|version| *version > 0);
                        change.if_version = upon.map(|version| version - 1).or(change.if_version);
                        upon.is_some()
                    })
                }
                _ => false,
            }
        }));
        assert!(violations(lost).await > 0, "seed {seed}: a lost update");
        let mut refused = made();
        assert!(spoil(&mut refused, |entry| match entry.told {
            Told::Found { owner, .. } => {
                entry.told = Told::NotFound { owner, at: 0 };
                true
            }
            _ => false,
        }));
        assert!(
            violations(refused).await > 0,
            "seed {seed}: a wrong refusal"
        );
    }
}
