//! Many writers of few owners, which write to the bucket itself, and the checks of what the bucket
//! then holds.
//!
//! Half of the writes are single records and half are batches. Each write is based on the state
//! that its writer knows.

use super::world::World;
use gofavorites::domain::Version;
use gofavorites::requester::Requester;
use gofavorites::seal::{
    Format, ItemKey, Keyring, Links, OwnerKey, OwnerKeys, OwnerSet, Record, RecordName, random,
};
use gofavorites::truth::{AppendError, Bucket, Follower, NewRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

const OWNERS: u8 = 4;

/// So many that no key is written often enough for the bucket to drop one of its records.
const OWNER_ITEMS: u8 = 240;

/// How long an append may take.
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait before the bucket is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// How long the servers may take until the bucket can be followed.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a reader of the bucket may have to begin again.
const FOLLOW_RETRIES_MAX: usize = 10;

/// One acknowledged write: the owner, the version of its last record, and its records.
type Acknowledged = (OwnerKey, u64, Vec<NewRecord>);

/// The records of the bucket, by owner, oldest first.
type RecordsByOwner = BTreeMap<OwnerKey, Vec<Record>>;

/// What the writers did.
#[derive(Default)]
pub struct WritersReport {
    pub acknowledged: Vec<Acknowledged>,
    pub batches: usize,
    pub conflicts: usize,
    /// Writes without an answer.
    pub in_doubt: usize,
    /// Writes without an answer that had been executed.
    pub landed: usize,
    pub unavailable: usize,
    /// How often a writer read an owner whose newest write lacked some of its records.
    pub torn: usize,
}

/// Running writers.
pub struct Writers {
    written: Arc<AtomicUsize>,
    wanted: usize,
    running: Vec<JoinHandle<WritersReport>>,
}

struct Writer {
    bucket: Bucket,
    keyring: Arc<Keyring>,
    keys: Arc<Vec<OwnerKeys>>,
    /// The state of each owner, as this writer knows it.
    sets: Vec<OwnerSet>,
    report: WritersReport,
}

impl Writers {
    /// Starts `count` writers, which connect to those servers in turn. They stop when they have
    /// executed `wanted` writes together.
    pub async fn start(world: &World, urls: &[String], count: usize, wanted: usize) -> Self {
        let keyring = Arc::new(keyring(world));
        let keys: Vec<_> = (0..OWNERS).map(|_| keyring.new_owner_keys()).collect();
        let keys = Arc::new(keys);
        let written = Arc::new(AtomicUsize::new(0));

        let mut running = Vec::new();
        for url in urls.iter().cycle().take(count) {
            let client = world.connect_at(url, "worker").await;
            let requester = Requester::start(client).await.expect("an inbox");

            let writer = Writer {
                bucket: Bucket::new(requester, world.truth.clone(), "a"),
                keyring: keyring.clone(),
                keys: keys.clone(),
                sets: (0..OWNERS)
                    .map(|number| OwnerSet::empty(owner(number)))
                    .collect(),
                report: WritersReport::default(),
            };
            running.push(tokio::spawn(writer.write(written.clone(), wanted)));
        }

        Self {
            written,
            wanted,
            running,
        }
    }

    /// Returns whether all wanted writes are executed.
    pub fn are_done(&self) -> bool {
        self.written.load(Ordering::SeqCst) >= self.wanted
    }

    /// Waits until `more` further writes are executed, or all, for five seconds at most.
    pub async fn progress(&self, more: usize) {
        let until = (self.written.load(Ordering::SeqCst) + more).min(self.wanted);

        for _ in 0..1_000 {
            if self.written.load(Ordering::SeqCst) >= until {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until all writers have ended, and returns what they did together.
    pub async fn finish(self) -> WritersReport {
        let mut all = WritersReport::default();

        for writer in self.running {
            let report = writer.await.expect("no panic");
            all.acknowledged.extend(report.acknowledged);
            all.batches += report.batches;
            all.conflicts += report.conflicts;
            all.in_doubt += report.in_doubt;
            all.landed += report.landed;
            all.unavailable += report.unavailable;
            all.torn += report.torn;
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

/// Returns a random number below `limit`.
fn pick(limit: u8) -> u8 {
    let [byte] = random::<1>();
    byte % limit
}

impl Writer {
    async fn write(mut self, written: Arc<AtomicUsize>, wanted: usize) -> WritersReport {
        while written.load(Ordering::SeqCst) < wanted {
            let number = usize::from(pick(OWNERS));
            // Half of the writes are batches of two to four records.
            let count = if pick(2) == 0 { 1 } else { 2 + pick(3) };
            let items: BTreeSet<u8> = (0..count).map(|_| pick(OWNER_ITEMS)).collect();

            while !self.try_write(number, &items).await {}
            written.fetch_add(1, Ordering::SeqCst);
        }

        self.report
    }

    /// Writes once, based on the state that this writer knows. Returns whether the write was
    /// executed.
    async fn try_write(&mut self, number: usize, items: &BTreeSet<u8>) -> bool {
        let owner = owner(number as u8);
        let expected = self.sets[number].version();
        let records = self.compose(number, items);
        let deadline = Instant::now() + APPEND_TIMEOUT;

        let result = self
            .bucket
            .append(&owner, expected, &records, deadline)
            .await;

        match result {
            Ok(version) => self.acknowledge(number, version, records),
            Err(AppendError::Conflict) => {
                self.report.conflicts += 1;
                self.catch_up(number).await;
                return false;
            }
            Err(AppendError::InDoubt) => {
                self.report.in_doubt += 1;
                let Some(version) = self.settle(number, expected, &records).await else {
                    return false;
                };
                self.report.landed += 1;
                self.acknowledge(number, version, records);
            }
            Err(AppendError::NotWritten(_) | AppendError::Busy) => {
                self.report.unavailable += 1;
                sleep(RETRY_PAUSE).await;
                return false;
            }
            Err(AppendError::Full) => panic!("the bucket is full"),
        }

        true
    }

    fn compose(&self, number: usize, items: &BTreeSet<u8>) -> Vec<NewRecord> {
        let set = &self.sets[number];
        let mut left = items.len() as u8;

        let compose_one = |item: &u8| {
            left -= 1;
            let name = RecordName::Item(ItemKey::from_bytes([*item; 16]));
            let links = Links {
                format: Format::Two,
                prev: set.version(),
                item_prev: set
                    .get(&name)
                    .map(|record| record.version)
                    .unwrap_or_default(),
                before: set.check(&self.keyring, Format::Two),
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

        items.iter().map(compose_one).collect()
    }

    fn acknowledge(&mut self, number: usize, version: Version, records: Vec<NewRecord>) {
        self.report.batches += usize::from(records.len() > 1);
        self.report
            .acknowledged
            .push((owner(number as u8), version.get(), records));
    }

    /// Reads what other writers wrote.
    async fn catch_up(&mut self, number: usize) {
        let owner = owner(number as u8);
        let version = self.sets[number].version();
        let Ok(delta) = self.bucket.since(&owner, version).await else {
            return sleep(RETRY_PAUSE).await;
        };

        let set = self.sets[number]
            .apply(&self.keyring, delta.records)
            .expect("an unbroken chain");

        if self.newest_write_is_complete(number, &set) {
            self.sets[number] = set;
        } else {
            self.report.torn += 1;
        }
    }

    /// Returns whether the newest write has all its records. Like a worker, a writer does not use
    /// it otherwise.
    fn newest_write_is_complete(&self, number: usize, set: &OwnerSet) -> bool {
        let write = set.newest_write();
        let Some(last) = write.last() else {
            return true;
        };

        let place = self.keys[number]
            .open(&owner(number as u8), last)
            .expect("sealed by a writer");

        place[..] == [write.len() as u8, 0]
    }

    /// Settles a write in doubt. Returns the version at which it landed; `None` once it is sure
    /// that it never will.
    async fn settle(
        &mut self,
        number: usize,
        expected: Version,
        records: &[NewRecord],
    ) -> Option<Version> {
        let owner = owner(number as u8);
        let last = records.last().expect("a record");

        loop {
            // At most one of the two appends can land, and neither once the owner has another
            // version.
            let deadline = Instant::now() + APPEND_TIMEOUT;
            let result = self
                .bucket
                .append(&owner, expected, records, deadline)
                .await;
            match result {
                Ok(version) => return Some(version),
                Err(AppendError::Conflict) => {}
                Err(_) => {
                    sleep(RETRY_PAUSE).await;
                    continue;
                }
            }

            let confirmed = self.bucket.since_confirmed(&owner, expected).await;
            let history = self
                .bucket
                .history(&owner, &last.name, expected, Version::NONE)
                .await;
            if let (Ok(_), Ok(history)) = (confirmed, history) {
                return history
                    .iter()
                    .find(|record| record.value == last.value)
                    .map(|record| record.version);
            }
        }
    }
}

impl WritersReport {
    /// Returns how many records were acknowledged.
    pub fn records(&self) -> usize {
        self.acknowledged
            .iter()
            .map(|(_, _, records)| records.len())
            .sum()
    }

    /// Reads the complete bucket, and returns how many records it has. Every owner's chain has to
    /// be unbroken from the first record on, and the bucket has to hold exactly what was
    /// acknowledged.
    pub async fn check_all(&self, world: &World) -> usize {
        let found = read_all(world).await;

        let keyring = keyring(world);
        for (owner, records) in &found {
            check_chain(&keyring, *owner, records);
        }
        self.check_order(&found);
        self.check_values(&found);

        found.values().map(Vec::len).sum()
    }

    /// Checks that each acknowledged write is based on the one before it, so no two are based on
    /// the same state.
    fn check_order(&self, found: &RecordsByOwner) {
        let mut ends: BTreeMap<OwnerKey, BTreeMap<u64, u64>> = BTreeMap::new();
        for (owner, last, records) in &self.acknowledged {
            ends.entry(*owner)
                .or_default()
                .insert(*last, records.len() as u64);
        }

        for (owner, ends) in ends {
            let mut before = 0;

            for (last, count) in ends {
                let versions = last + 1 - count..=last;
                let write = found[&owner]
                    .iter()
                    .filter(|record| versions.contains(&record.version.get()));

                for record in write {
                    let prev = record.envelope.prev.get();
                    assert_eq!(prev, before, "the write before {last}");
                }

                before = last;
            }
        }
    }

    /// Checks that each acknowledged record is in the bucket once, and that no other record is.
    fn check_values(&self, found: &RecordsByOwner) {
        let mut stored = BTreeMap::<(OwnerKey, u64), &Record>::new();
        for (owner, records) in found {
            for record in records {
                stored.insert((*owner, record.version.get()), record);
            }
        }

        for (owner, last, records) in &self.acknowledged {
            let first = last + 1 - records.len() as u64;

            for (version, written) in (first..).zip(records) {
                let record = stored
                    .remove(&(*owner, version))
                    .expect("an acknowledged record is in the bucket, once");

                assert!(record.name == written.name, "the name at {version}");
                assert!(record.value == written.value, "the value at {version}");
            }
        }

        let surplus = stored.len();
        assert_eq!(surplus, 0, "records that were not acknowledged");
    }
}

/// Follows the bucket from that sequence on, as soon as its servers can.
async fn follow(bucket: &Bucket, from: u64) -> Follower {
    let start = Instant::now();

    loop {
        match bucket.follow(from).await {
            Ok(follower) => return follower,
            Err(error) => assert!(start.elapsed() < FOLLOW_TIMEOUT, "{error}"),
        }
    }
}

/// Reads every record of the bucket, as the projection does.
async fn read_all(world: &World) -> RecordsByOwner {
    let client = world.connect("worker").await;
    let requester = Requester::start(client).await.expect("an inbox");
    let bucket = Bucket::new(requester, world.truth.clone(), "a");
    let newest = bucket.position().await.expect("a position").newest;

    let mut follower = follow(&bucket, 0).await;
    let mut found = RecordsByOwner::new();
    let mut at = 0;
    let mut retries = 0;
    while at < newest {
        // If the server skipped a message, the reader begins again, as the projection does.
        let Ok(entries) = follower.next_batch(1_000).await else {
            retries += 1;
            assert!(
                retries < FOLLOW_RETRIES_MAX,
                "the bucket cannot be followed"
            );
            follower = follow(&bucket, at).await;
            continue;
        };

        for entry in entries {
            at = entry.sequence;
            if let Some((owner, record)) = entry.record {
                found.entry(owner).or_default().push(record);
            }
        }
    }

    println!("followed to {at}, begun again {retries} times");
    found
}

/// Checks that each write names the version and the digest of the state that the writes before it
/// make.
fn check_chain(keyring: &Keyring, owner: OwnerKey, records: &[Record]) {
    let mut set = OwnerSet::empty(owner);

    for write in records.chunk_by(|one, next| one.envelope.prev == next.envelope.prev) {
        for record in write {
            let envelope = &record.envelope;
            assert_eq!(envelope.prev, set.version(), "the write before it");
            let before = set.check(keyring, envelope.format);
            assert_eq!(envelope.before, before, "the set it is based on");
        }

        set = set
            .apply(keyring, write.to_vec())
            .expect("an unbroken chain");
    }
}
