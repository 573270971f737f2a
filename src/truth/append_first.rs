//! Publishing the first writes of owners together.

use super::bucket::Bucket;
use super::error::TruthError;
use super::first_writes::FirstWrite;
use super::owner_write::{AppendError, OwnerWrite};
use crate::domain::Version;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, timeout_at};

/// A write is published with others if it has this share of the time of a call left.
const LEAST_SHARE: u32 = 4;

/// The turn to publish first writes, and the permit for a batch.
type Permits = [OwnedSemaphorePermit; 2];

impl Bucket {
    /// Publishes the first write of an owner, perhaps in one batch with those of others.
    pub(super) async fn write_first(
        &self,
        write: &OwnerWrite<'_>,
        last_begin: Instant,
        deadline: Instant,
    ) -> Result<Version, AppendError> {
        let (answer, mut answered) = oneshot::channel();
        let number = self.first_writes.add(write, [last_begin, deadline], answer);
        let permits = tokio::select! {
            biased;
            // Another one has taken it along.
            answer = &mut answered => return answer.unwrap_or(Err(AppendError::InDoubt)),
            permits = self.permits_of_first(last_begin) => permits,
        };

        match permits {
            Ok(permits) => {
                // The answer to one with less time might come too late, when many write at once.
                let now = Instant::now();
                let least = now + (self.deadline() - now) / LEAST_SHARE;
                let taken = self.first_writes.take(number, least);
                if !taken.is_empty() {
                    // A task of its own, because the request that begins it may give up.
                    let this = self.clone();
                    tokio::spawn(async move {
                        this.publish_together(taken, permits).await;
                    });
                }
            }
            Err(error) if self.first_writes.remove(number) => return Err(error),
            Err(_) => {}
        }

        match timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(AppendError::InDoubt),
        }
    }

    /// Returns the permits to publish first writes, at once or by `until`.
    async fn permits_of_first(&self, until: Instant) -> Result<Permits, AppendError> {
        let turn = self.permit(&self.first_writes.turn, until).await?;
        let batch = self.permit(&self.open_batches, until).await?;

        Ok([turn, batch])
    }

    /// Publishes the writes in one batch; or each alone, if nothing of the batch was written and one of
    /// them may be the reason.
    async fn publish_together(&self, mut taken: Vec<FirstWrite>, permits: Permits) {
        let [turn, _batch] = permits;
        loop {
            let ends = taken.iter().map(|write| write.last_begin);
            let deadlines = taken.iter().map(|write| write.deadline);
            let (Some(first_end), Some(deadline)) = (ends.min(), deadlines.max()) else {
                return;
            };
            let writes: Vec<_> = taken.iter().map(FirstWrite::as_write).collect();
            match self.send_until(&writes, first_end, deadline).await {
                Ok(last) => {
                    let versions = versions(&writes, last);
                    for (write, version) in std::iter::zip(taken, versions) {
                        write.answer(Ok(version));
                    }
                    return;
                }
                // The others have time to wait until the server has room.
                Err(AppendError::Busy) => {
                    let is_over = |write: &mut FirstWrite| write.last_begin <= first_end;
                    for write in taken.extract_if(.., is_over) {
                        write.answer(Err(AppendError::Busy));
                    }
                }
                Err(error) => {
                    drop(turn);
                    return self.answer_failed(taken, error).await;
                }
            }
        }
    }

    /// Answers the writes of a batch that has failed. Publishes each alone, if one of them may be the
    /// reason and the bucket answers.
    async fn answer_failed(&self, mut taken: Vec<FirstWrite>, error: AppendError) {
        if taken.len() == 1
            && let Some(write) = taken.pop()
        {
            return write.answer(Err(error));
        }

        let mut failed = of_all(&error);
        for write in taken.into_iter().filter(FirstWrite::is_awaited) {
            if let Some(error) = failed.as_ref().and_then(of_all) {
                write.answer(Err(error));
                continue;
            }
            if Instant::now() >= write.last_begin {
                write.answer(Err(AppendError::Busy));
                continue;
            }

            let alone = [write.as_write()];
            let written = self
                .send_until(&alone, write.last_begin, write.deadline)
                .await;
            if matches!(&written, Err(AppendError::InDoubt)) {
                // Nothing of the others was sent, and the bucket does not answer.
                failed = Some(AppendError::Busy);
            }
            write.answer(written);
        }
    }
}

/// The error of a batch as that of each of its writes; `None` if one of them may be the reason.
fn of_all(error: &AppendError) -> Option<AppendError> {
    match error {
        AppendError::InDoubt => Some(AppendError::InDoubt),
        AppendError::Busy => Some(AppendError::Busy),
        AppendError::Full => Some(AppendError::Full),
        AppendError::NotWritten(TruthError::Unavailable(error)) => {
            Some(AppendError::NotWritten((*error).into()))
        }
        AppendError::Conflict | AppendError::NotWritten(_) => None,
    }
}

/// The version of each write's last record, if that of the last write is `last`: the versions of a batch
/// are consecutive.
fn versions(writes: &[OwnerWrite<'_>], last: Version) -> Vec<Version> {
    let mut after: u64 = writes.iter().map(|write| write.records.len() as u64).sum();

    let version = |write: &OwnerWrite<'_>| {
        after -= write.records.len() as u64;
        Version::new(last.get() - after).unwrap_or(last)
    };
    writes.iter().map(version).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::{OwnerKey, RecordName};
    use crate::truth::NewRecord;

    fn records(count: usize) -> Vec<NewRecord> {
        let record = NewRecord {
            name: RecordName::Key,
            value: vec![0].into(),
        };
        vec![record; count]
    }

    #[test]
    fn each_write_has_the_version_of_its_last_record() {
        let owner = OwnerKey::from_bytes([1; 16]);
        let (two, three) = (records(2), records(3));
        let write = |records| OwnerWrite {
            owner: &owner,
            expected: Version::NONE,
            records,
        };
        let last = Version::new(105).expect("in range");

        let versions = versions(&[write(&two), write(&three), write(&two[..1])], last);

        let numbers: Vec<_> = versions.into_iter().map(Version::get).collect();
        assert_eq!(numbers, [101, 104, 105]);
    }
}
