//! The first writes of owners. Each is a batch, because it has the owner's key, and the server takes much
//! longer to open a batch than to store its records. So those that wait for their turn are published as
//! one batch.
//!
//! An owner's first write expects that there is nothing of the owner yet. So it hardly ever meets another
//! write, and one that fails hardly ever takes others with it.

use super::owner_write::{AppendError, NewRecord, OwnerWrite};
use crate::domain::Version;
use crate::seal::OwnerKey;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

/// The most records that are published together.
const RECORDS_MAX: usize = 256;
/// The most bytes of records that are published together.
const BYTES_MAX: usize = 256 << 10;

/// The first writes that wait.
pub(super) struct FirstWrites {
    queue: Mutex<Queue>,
    /// The permit to publish some. There is one, so that those that come meanwhile are published
    /// together.
    pub turn: Arc<Semaphore>,
}

impl Default for FirstWrites {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }
}

#[derive(Default)]
struct Queue {
    /// The number of the last one that came.
    last: u64,
    waiting: Vec<FirstWrite>,
}

/// A first write that waits, or that is published with others.
pub(super) struct FirstWrite {
    number: u64,
    owner: OwnerKey,
    records: Vec<NewRecord>,
    /// When there is too little time left to begin.
    pub last_begin: Instant,
    /// When the caller's time is up.
    pub deadline: Instant,
    answer: oneshot::Sender<Result<Version, AppendError>>,
}

impl FirstWrite {
    fn bytes(&self) -> usize {
        bytes_of(&self.records)
    }

    /// Answers the caller, who may not wait for it any more.
    pub fn answer(self, written: Result<Version, AppendError>) {
        let _ = self.answer.send(written);
    }

    /// Whether somebody waits for the answer.
    pub fn is_awaited(&self) -> bool {
        !self.answer.is_closed()
    }

    pub fn as_write(&self) -> OwnerWrite<'_> {
        OwnerWrite {
            owner: &self.owner,
            expected: Version::NONE,
            records: &self.records,
        }
    }
}

fn bytes_of(records: &[NewRecord]) -> usize {
    records.iter().map(|record| record.value.len()).sum()
}

/// Whether the write is a first one that may be published with others.
pub(super) fn is_first_write(write: &OwnerWrite<'_>) -> bool {
    write.expected.is_none()
        && write.records.len() <= RECORDS_MAX
        && bytes_of(write.records) <= BYTES_MAX
}

impl FirstWrites {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a write. Returns its number.
    pub fn add(
        &self,
        write: &OwnerWrite<'_>,
        [last_begin, deadline]: [Instant; 2],
        answer: oneshot::Sender<Result<Version, AppendError>>,
    ) -> u64 {
        let mut queue = self.lock();
        queue.last += 1;
        let number = queue.last;
        queue.waiting.push(FirstWrite {
            number,
            owner: *write.owner,
            records: write.records.to_vec(),
            last_begin,
            deadline,
            answer,
        });
        number
    }

    /// Removes a write that waits. Returns whether it still waited.
    pub fn remove(&self, number: u64) -> bool {
        let mut queue = self.lock();
        let count = queue.waiting.len();
        queue.waiting.retain(|write| write.number != number);
        queue.waiting.len() < count
    }

    /// Takes a write that waits, and others that fit: those that came first, of one owner only one, none
    /// that nobody waits for any more, and none whose time is up before `least`. None if it waits no
    /// longer.
    pub fn take(&self, number: u64, least: Instant) -> Vec<FirstWrite> {
        let mut queue = self.lock();
        let Some(at) = queue
            .waiting
            .iter()
            .position(|write| write.number == number)
        else {
            return Vec::new();
        };

        let first = queue.waiting.remove(at);
        let (mut records, mut bytes) = (first.records.len(), first.bytes());
        let mut owners = HashSet::from([first.owner]);
        let mut taken = vec![first];
        queue.waiting.retain(FirstWrite::is_awaited);
        let joins = |write: &mut FirstWrite| {
            let fits = write.deadline >= least
                && records + write.records.len() <= RECORDS_MAX
                && bytes + write.bytes() <= BYTES_MAX
                && owners.insert(write.owner);
            if fits {
                records += write.records.len();
                bytes += write.bytes();
            }
            fits
        };
        taken.extend(queue.waiting.extract_if(.., joins));
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::RecordName;
    use std::time::Duration;

    fn records(count: usize, bytes: usize) -> Vec<NewRecord> {
        let record = NewRecord {
            name: RecordName::Key,
            value: vec![0; bytes].into(),
        };
        vec![record; count]
    }

    fn write(owner: &OwnerKey, records: &[NewRecord], expected: Version) -> bool {
        is_first_write(&OwnerWrite {
            owner,
            expected,
            records,
        })
    }

    /// Adds a write of that owner. Returns its number, and where its answer comes.
    fn add(
        queue: &FirstWrites,
        owner: u8,
        records: &[NewRecord],
        deadline: Instant,
    ) -> (u64, oneshot::Receiver<Result<Version, AppendError>>) {
        let (answer, answered) = oneshot::channel();
        let write = OwnerWrite {
            owner: &OwnerKey::from_bytes([owner; 16]),
            expected: Version::NONE,
            records,
        };
        (queue.add(&write, [deadline; 2], answer), answered)
    }

    fn numbers(taken: &[FirstWrite]) -> Vec<u64> {
        taken.iter().map(|write| write.number).collect()
    }

    #[test]
    fn only_small_first_writes_are_published_together() {
        let owner = OwnerKey::from_bytes([1; 16]);
        let second = Version::new(1).expect("in range");

        assert!(write(&owner, &records(RECORDS_MAX, 1), Version::NONE));
        assert!(!write(&owner, &records(RECORDS_MAX + 1, 1), Version::NONE));
        assert!(!write(&owner, &records(1, BYTES_MAX + 1), Version::NONE));
        assert!(!write(&owner, &records(2, 1), second));
    }

    #[test]
    fn what_fits_is_taken_and_of_one_owner_only_one() {
        let queue = FirstWrites::default();
        let least = Instant::now();
        let early = least - Duration::from_millis(1);
        let small = records(2, 10);
        let writes = [
            add(&queue, 1, &small, least),
            add(&queue, 1, &small, least),
            add(&queue, 2, &records(RECORDS_MAX - 1, 1), least),
            add(&queue, 3, &records(1, BYTES_MAX), least),
            add(&queue, 4, &small, least),
        ];
        drop(add(&queue, 5, &small, least));
        let hurried = add(&queue, 6, &small, early);

        let taken = numbers(&queue.take(2, least));
        assert_eq!(taken, [2, 5], "nobody waits for 6, and 7 has no time");
        assert!(queue.take(2, least).is_empty(), "it is taken");
        assert!(queue.remove(3) && !queue.remove(3));
        assert_eq!(numbers(&queue.take(4, least)), [4], "1 does not fit");
        assert_eq!(numbers(&queue.take(7, least)), [7, 1]);
        drop(hurried);
        drop(writes);
    }
}
