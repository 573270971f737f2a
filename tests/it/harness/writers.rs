//! Many writers of few owners, who write to the bucket itself, single and in batches, each write upon a known state; and
//! what has to be true of the bucket afterwards.

use super::world::World;
use gofavorites::domain::Version;
use gofavorites::requester::Requester;
use gofavorites::seal::{
    ItemKey, Keyring, Links, OwnerKey, OwnerKeys, OwnerSet, Record, RecordName, random,
};
use gofavorites::truth::{AppendError, Bucket, NewRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

const OWNERS: u8 = 4;
/// Enough that no key is written so often that the bucket forgets one of its records.
const ITEMS: u8 = 240;

/// One acknowledged write: the owner, the version of its last record, and its records' values.
type Acknowledged = (OwnerKey, u64, Vec<NewRecord>);

/// What a writer did.
#[derive(Default)]
pub struct Done {
    pub acknowledged: Vec<Acknowledged>,
    pub batches: usize,
    pub conflicts: usize,
    /// Without an answer, and how many of those had been done.
    pub in_doubt: usize,
    pub landed: usize,
    pub unavailable: usize,
    /// Looks at an owner whose newest write was not there with all its records.
    pub torn: usize,
}

/// Running writers.
pub struct Writers {
    written: Arc<AtomicUsize>,
    wanted: usize,
    running: Vec<JoinHandle<Done>>,
}

struct Writer {
    bucket: Bucket,
    keyring: Arc<Keyring>,
    keys: Arc<Vec<OwnerKeys>>,
    sets: Vec<OwnerSet>,
    done: Done,
}

impl Writers {
    /// `count` writers, connected to those servers in turn, who stop when they have made so many writes together.
    pub async fn start(world: &World, urls: &[String], count: usize, wanted: usize) -> Self {
        let keyring = Arc::new(keyring(world));
        let keys = Arc::new(
            (0..OWNERS)
                .map(|_| keyring.new_owner_keys())
                .collect::<Vec<_>>(),
        );
        let (written, mut running) = (Arc::new(AtomicUsize::new(0)), Vec::new());
        for url in urls.iter().cycle().take(count) {
            let requester = Requester::start(world.connect_at(url, "worker").await)
                .await
                .expect("an inbox");
            let bucket = Bucket::new(requester, world.truth.clone(), "a");
            let sets = (0..OWNERS)
                .map(|number| OwnerSet::empty(owner(number)))
                .collect();
            let (keyring, keys) = (keyring.clone(), keys.clone());
            let writer = Writer {
                bucket,
                keyring,
                keys,
                sets,
                done: Done::default(),
            };
            running.push(tokio::spawn(writer.write(written.clone(), wanted)));
        }
        Self {
            written,
            wanted,
            running,
        }
    }

    pub fn are_done(&self) -> bool {
        self.written.load(Ordering::SeqCst) >= self.wanted
    }

    /// Waits until so many more writes are made, or all; not longer than a while.
    pub async fn progress(&self, more: usize) {
        let until = (self.written.load(Ordering::SeqCst) + more).min(self.wanted);
        for _ in 0..1_000 {
            if self.written.load(Ordering::SeqCst) >= until {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// What they did, together.
    pub async fn finish(self) -> Done {
        let mut all = Done::default();
        for writer in self.running {
            let done = writer.await.expect("no panic");
            all.acknowledged.extend(done.acknowledged);
            all.batches += done.batches;
            all.conflicts += done.conflicts;
            all.in_doubt += done.in_doubt;
            all.landed += done.landed;
            all.unavailable += done.unavailable;
            all.torn += done.torn;
        }
        all
    }
}

fn keyring(world: &World) -> Keyring {
    Keyring::from_base64(&world.secrets.identity, &world.secrets.encryption).expect("keys")
}

fn owner(number: u8) -> OwnerKey {
    OwnerKey::from_bytes([number + 1; 16])
}

fn pick(most: u8) -> u8 {
    let [byte] = random::<1>();
    byte % most
}

impl Writer {
    async fn write(mut self, written: Arc<AtomicUsize>, wanted: usize) -> Done {
        while written.load(Ordering::SeqCst) < wanted {
            let number = usize::from(pick(OWNERS));
            // Half of the writes are batches, of two to four.
            let count = if pick(2) == 0 { 1 } else { 2 + pick(3) };
            let items: BTreeSet<u8> = (0..count).map(|_| pick(ITEMS)).collect();
            while !self.once(number, &items).await {}
            written.fetch_add(1, Ordering::SeqCst);
        }
        self.done
    }

    /// Writes upon the state that it knows; whether that was done.
    async fn once(&mut self, number: usize, items: &BTreeSet<u8>) -> bool {
        let (owner, expected) = (owner(number as u8), self.sets[number].version());
        let records = self.compose(number, items);
        let deadline = Instant::now() + Duration::from_secs(5);
        match self
            .bucket
            .append(&owner, expected, &records, deadline)
            .await
        {
            Ok(version) => self.acknowledged(number, version, records),
            Err(AppendError::Conflict) => {
                self.done.conflicts += 1;
                self.catch_up(number).await;
                return false;
            }
            Err(AppendError::InDoubt) => {
                self.done.in_doubt += 1;
                let Some(version) = self.landed(number, expected, &records).await else {
                    return false;
                };
                self.done.landed += 1;
                self.acknowledged(number, version, records);
            }
            Err(AppendError::NotWritten(_)) => {
                self.done.unavailable += 1;
                sleep(Duration::from_millis(20)).await;
                return false;
            }
            Err(AppendError::Full) => panic!("the bucket is full"),
        }
        true
    }

    fn compose(&self, number: usize, items: &BTreeSet<u8>) -> Vec<NewRecord> {
        let set = &self.sets[number];
        let mut left = items.len() as u8;
        let one = |item: &u8| {
            left -= 1;
            let name = RecordName::Item(ItemKey::from_bytes([*item; 16]));
            let links = Links {
                prev: set.version(),
                item_prev: set
                    .get(&name)
                    .map(|record| record.version)
                    .unwrap_or_default(),
                before: set.digest(),
                request: None,
                deleted: false,
            };
            let place = vec![items.len() as u8, left];
            let value = self.keys[number].seal(&owner(number as u8), name, &links, place);
            NewRecord {
                name,
                value: value.into(),
            }
        };
        items.iter().map(one).collect()
    }

    fn acknowledged(&mut self, number: usize, version: Version, records: Vec<NewRecord>) {
        self.done.batches += usize::from(records.len() > 1);
        self.done
            .acknowledged
            .push((owner(number as u8), version.get(), records));
    }

    /// Learns what others wrote.
    async fn catch_up(&mut self, number: usize) {
        let (owner, known) = (owner(number as u8), self.sets[number].version());
        let Ok(delta) = self.bucket.since(&owner, known).await else {
            return sleep(Duration::from_millis(20)).await;
        };
        let set = self.sets[number]
            .apply(&self.keyring, delta.records)
            .expect("an unbroken chain");
        if self.newest_is_whole(number, &set) {
            self.sets[number] = set;
        } else {
            self.done.torn += 1;
        }
    }

    /// As a worker does: the newest write is believed only with all its records.
    fn newest_is_whole(&self, number: usize, set: &OwnerSet) -> bool {
        let write = set.newest_write();
        let Some(last) = write.last() else {
            return true;
        };
        let place = self.keys[number]
            .open(&owner(number as u8), last)
            .expect("sealed by one of these");
        place[..] == [write.len() as u8, 0]
    }

    /// The version at which a write in doubt landed; `None` once it never can.
    async fn landed(
        &mut self,
        number: usize,
        expected: Version,
        records: &[NewRecord],
    ) -> Option<Version> {
        let owner = owner(number as u8);
        let last = records.last().expect("a record");
        loop {
            let deadline = Instant::now() + Duration::from_secs(5);
            // Of the two at most one can land; and as soon as the owner is at another version, neither.
            match self
                .bucket
                .append(&owner, expected, records, deadline)
                .await
            {
                Ok(version) => return Some(version),
                Err(AppendError::Conflict) => {}
                Err(_) => {
                    sleep(Duration::from_millis(20)).await;
                    continue;
                }
            }
            let confirmed = self.bucket.since_confirmed(&owner, expected).await;
            let kept = self
                .bucket
                .history(&owner, &last.name, expected, Version::NONE)
                .await;
            if let (Ok(_), Ok(kept)) = (confirmed, kept) {
                return kept
                    .iter()
                    .find(|record| record.value == last.value)
                    .map(|record| record.version);
            }
        }
    }
}

impl Done {
    /// How many records were acknowledged.
    pub fn records(&self) -> usize {
        self.acknowledged
            .iter()
            .map(|(_, _, records)| records.len())
            .sum()
    }

    /// Reads the whole bucket: every owner's chain has to be unbroken from the first record on, and what is there has to
    /// be what was acknowledged, neither more nor less. Says how many records there are.
    pub async fn check_all(&self, world: &World) -> usize {
        let requester = Requester::start(world.connect("worker").await)
            .await
            .expect("an inbox");
        let bucket = Bucket::new(requester, world.truth.clone(), "a");
        let newest = bucket.position().await.expect("a position").newest;
        let mut follower = bucket.follow(0).await.expect("a follower");
        let (mut found, mut at, mut passed_over) = (BTreeMap::<OwnerKey, Vec<Record>>::new(), 0, 0);
        while at < newest {
            // As the projection does, where the server passed over a message.
            let Ok(entries) = follower.next_batch(1_000).await else {
                passed_over += 1;
                assert!(passed_over < 10, "the bucket cannot be followed");
                follower = bucket.follow(at).await.expect("a follower");
                continue;
            };
            for entry in entries {
                at = entry.sequence;
                if let Some((owner, record)) = entry.record {
                    found.entry(owner).or_default().push(record);
                }
            }
        }
        println!("followed to {at}, begun again {passed_over} times");
        let (keyring, count) = (keyring(world), found.values().map(Vec::len).sum());
        for (owner, records) in &found {
            is_an_unbroken_chain(&keyring, *owner, records);
        }
        self.is_one_chain(&found);
        let mut stored: BTreeMap<(OwnerKey, u64), &Record> = BTreeMap::new();
        for (owner, records) in &found {
            stored.extend(
                records
                    .iter()
                    .map(|record| ((*owner, record.version.get()), record)),
            );
        }
        for (owner, last, records) in &self.acknowledged {
            let first = last + 1 - records.len() as u64;
            for (version, written) in (first..).zip(records) {
                let kept = stored
                    .remove(&(*owner, version))
                    .expect("an acknowledged record is in the bucket, once");
                assert!(
                    kept.name == written.name && kept.value == written.value,
                    "what was acknowledged at {version}"
                );
            }
        }
        assert!(
            stored.is_empty(),
            "{} records are in the bucket that nobody was told of",
            stored.len()
        );
        count
    }
}

impl Done {
    /// Each acknowledged write stands upon the one before it: no two upon the same.
    fn is_one_chain(&self, found: &BTreeMap<OwnerKey, Vec<Record>>) {
        let mut ends: BTreeMap<OwnerKey, BTreeMap<u64, u64>> = BTreeMap::new();
        for (owner, last, records) in &self.acknowledged {
            ends.entry(*owner)
                .or_default()
                .insert(*last, records.len() as u64);
        }
        for (owner, ends) in ends {
            let mut before = 0;
            for (last, count) in ends {
                let of_it = found[&owner]
                    .iter()
                    .filter(|record| (last + 1 - count..=last).contains(&record.version.get()));
                for record in of_it {
                    assert_eq!(
                        record.envelope.prev.get(),
                        before,
                        "the write before {last}"
                    );
                }
                before = last;
            }
        }
    }
}

/// Each write names the version and the digest of the state that the writes before it make.
fn is_an_unbroken_chain(keyring: &Keyring, owner: OwnerKey, records: &[Record]) {
    let mut set = OwnerSet::empty(owner);
    for write in records.chunk_by(|one, next| one.envelope.prev == next.envelope.prev) {
        for record in write {
            assert_eq!(record.envelope.prev, set.version(), "the write before it");
            assert_eq!(
                record.envelope.before,
                set.digest(),
                "the set that it was made upon"
            );
        }
        set = set
            .apply(keyring, write.to_vec())
            .expect("an unbroken chain");
    }
}
