//! The checker itself, with histories of a simulated service: right ones, and ones with a planted
//! violation.

use super::history::{Entry, History};
use super::model::{Answer, Change, LIST, Op};
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use std::collections::BTreeMap;
use std::time::Duration;

const CLIENTS: usize = 10;
const OPERATIONS: usize = 90;

/// A correct service: it executes each operation at one moment between the operation's begin and
/// end.
struct Service {
    random: TestRng,
    version: u64,
    items: BTreeMap<u8, (u64, u32)>,
    text: u32,
}

impl Service {
    fn new(seed: u8) -> Self {
        Self {
            random: TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]),
            version: 0,
            items: BTreeMap::new(),
            text: 0,
        }
    }

    /// Returns a random number below the limit.
    fn pick(&mut self, limit: u32) -> u32 {
        self.random.next_u32() % limit
    }

    /// Returns a random operation.
    fn operation(&mut self) -> Op {
        if self.version == 0 {
            return Op::Write {
                changes: vec![Change {
                    item: LIST,
                    text: Some(0),
                    if_version: Some(0),
                }],
                if_owner_version: None,
            };
        }

        match self.pick(6) {
            0 | 1 => {
                let item = self.pick(5) as u8;
                return Op::Get { item };
            }
            2 => return Op::Take,
            _ => {}
        }

        let first = self.pick(4) as u8;
        let count = 1 + self.pick(3) as u8;
        let items = (0..count).map(|more| (first + more) % 4);

        Op::Write {
            changes: items.map(|item| self.change(item)).collect(),
            if_owner_version: None,
        }
    }

    fn change(&mut self, item: u8) -> Change {
        self.text += 1;
        let text = (self.pick(6) > 0).then_some(self.text);
        let version = self.items.get(&item).map_or(0, |(version, _)| *version);
        let if_version = (self.pick(2) == 0).then_some(version);

        Change {
            item,
            text,
            if_version,
        }
    }

    /// Executes an operation.
    fn execute(&mut self, op: &Op) -> Answer {
        match op {
            Op::Get { item } => self.get(*item),
            Op::Take => self.take(),
            Op::Write { changes, .. } => match self.refusal(changes) {
                Some(refusal) => refusal,
                None => self.write(changes),
            },
        }
    }

    fn get(&self, item: u8) -> Answer {
        let owner = self.version;

        match self.items.get(&item).copied() {
            Some((version, text)) => Answer::Found {
                owner,
                version,
                text,
            },
            None => Answer::NotFound { owner, index: 0 },
        }
    }

    fn take(&mut self) -> Answer {
        let next = self.version + 1 + u64::from(self.pick(5));
        let owner = self.version;
        let Some((version, taken)) = self.items.get_mut(&LIST) else {
            return Answer::NotFound { owner, index: 0 };
        };

        let code = *taken;
        (*version, *taken) = (next, code + 1);
        self.version = next;

        Answer::Taken {
            version: next,
            code,
        }
    }

    /// Returns the refusal of the first change that cannot be executed.
    fn refusal(&self, changes: &[Change]) -> Option<Answer> {
        let owner = self.version;

        for (index, change) in changes.iter().enumerate() {
            let item = self.items.get(&change.item).copied();
            if change.text.is_none() && item.is_none() {
                return Some(Answer::NotFound { owner, index });
            }

            let version = item.map_or(0, |(version, _)| version);
            if change.if_version.is_some_and(|wanted| wanted != version) {
                return Some(Answer::Conflict {
                    owner,
                    index: Some(index),
                    item,
                });
            }
        }

        None
    }

    fn write(&mut self, changes: &[Change]) -> Answer {
        let first = self.version + 1 + u64::from(self.pick(5));

        for (version, change) in (first..).zip(changes) {
            match change.text {
                Some(text) => self.items.insert(change.item, (version, text)),
                None => self.items.remove(&change.item),
            };
            self.version = version;
        }

        Answer::Written {
            versions: (first..).take(changes.len()).collect(),
        }
    }
}

/// An operation of a client that has not ended.
struct Pending {
    began: u64,
    op: Op,
    /// `None` until the service has executed it.
    answer: Option<Answer>,
}

impl Pending {
    /// Ends the operation; without an answer if that is lost.
    fn end(self, client: usize, answer: Answer, tick: u64, is_lost: bool) -> Entry {
        Entry {
            client,
            op: self.op,
            answer: if is_lost { Answer::Missing } else { answer },
            began: self.began,
            ended: if is_lost { u64::MAX } else { tick },
            by_default: false,
            min_version: None,
            worker: None,
            during_fault: true,
        }
    }
}

/// Returns what the clients of a correct service see. So many of their writes, at most, get no
/// answer.
fn history(seed: u8, unanswered_max: usize) -> History {
    let mut service = Service::new(seed);
    let mut entries = Vec::new();
    let mut pending = BTreeMap::<usize, Pending>::new();
    let mut unanswered_left = unanswered_max;
    let mut tick = 0;

    while entries.len() < OPERATIONS || !pending.is_empty() {
        tick += 1;
        let client = service.pick(CLIENTS as u32) as usize;

        let Some(mut operation) = pending.remove(&client) else {
            if entries.len() < OPERATIONS {
                let operation = Pending {
                    began: tick,
                    op: service.operation(),
                    answer: None,
                };
                pending.insert(client, operation);
            }
            continue;
        };

        let Some(answer) = operation.answer.take() else {
            operation.answer = Some(service.execute(&operation.op));
            pending.insert(client, operation);
            continue;
        };

        let is_lost = unanswered_left > 0 && answer.is_write() && service.pick(6) == 0;
        unanswered_left -= usize::from(is_lost);
        entries.push(operation.end(client, answer, tick, is_lost));
    }

    History { entries }
}

/// Changes the first entry, from the middle on, that the function can change. Asserts that there is
/// one.
#[track_caller]
fn spoil(history: &mut History, change: impl FnMut(&mut Entry) -> bool) {
    let middle = history.entries.len() / 2;

    assert!(history.entries[middle..].iter_mut().any(change));
}

/// Makes a read return an older owner's version.
fn return_old_version(entry: &mut Entry) -> bool {
    match &mut entry.answer {
        Answer::Found { owner, .. } if *owner > 40 => {
            *owner -= 30;
            true
        }
        _ => false,
    }
}

/// Makes a write succeed although its condition names an older version.
fn ignore_condition(entry: &mut Entry) -> bool {
    let Op::Write { changes, .. } = &mut entry.op else {
        return false;
    };
    if !matches!(entry.answer, Answer::Written { .. }) {
        return false;
    }

    for change in changes {
        if let Some(version) = change.if_version.filter(|version| *version > 0) {
            change.if_version = Some(version - 1);
            return true;
        }
    }

    false
}

/// Makes a read miss an item.
fn miss_item(entry: &mut Entry) -> bool {
    if let Answer::Found { owner, .. } = entry.answer {
        entry.answer = Answer::NotFound { owner, index: 0 };
        return true;
    }

    false
}

/// Makes a code be given out that was given out before.
fn give_code_twice(entry: &mut Entry) -> bool {
    match &mut entry.answer {
        Answer::Taken { code, .. } if *code > 0 => {
            *code -= 1;
            true
        }
        _ => false,
    }
}

async fn count_violations(history: History) -> usize {
    let verdict = history.check().await;

    assert!(verdict.took < Duration::from_secs(20), "{:?}", verdict.took);

    verdict.violations.len()
}

/// Goal: the checker finds an order for every history of a correct service, also if answers are
/// lost.
///
/// Method: forty histories from different seeds, with up to four lost answers each.
#[tokio::test]
async fn a_correct_services_histories_are_linearizable() {
    let mut longest = Duration::ZERO;

    for seed in 0..40 {
        let verdict = history(seed, usize::from(seed % 5)).check().await;

        assert_eq!(verdict.violations, Vec::<String>::new(), "seed {seed}");
        assert_eq!(verdict.clients, CLIENTS);
        longest = longest.max(verdict.took);
    }

    println!("the longest of 40 checks took {longest:?}");
}

/// Goal: the checker detects each kind of violation in every history, with lost answers or without.
///
/// Method: one entry of a correct history is changed: to a stale read, a lost update, a wrong
/// refusal or a code that was given out before.
#[tokio::test]
async fn each_kind_of_violation_is_detected() {
    for seed in 0..12 {
        let correct = || history(seed, usize::from(seed % 3));

        let mut stale = correct();
        spoil(&mut stale, return_old_version);
        assert!(count_violations(stale).await > 0, "seed {seed}: stale read");

        let mut lost_update = correct();
        spoil(&mut lost_update, ignore_condition);
        assert!(
            count_violations(lost_update).await > 0,
            "seed {seed}: lost update"
        );

        let mut wrong_refusal = correct();
        spoil(&mut wrong_refusal, miss_item);
        assert!(
            count_violations(wrong_refusal).await > 0,
            "seed {seed}: wrong refusal"
        );

        let mut double = correct();
        spoil(&mut double, give_code_twice);
        assert!(count_violations(double).await > 0, "seed {seed}: code");
    }
}
