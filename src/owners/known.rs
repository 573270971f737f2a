//! What an answer of the bucket shows of an owner, and for how much it stands.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The moment of a question to the bucket, or of a write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) at: Instant,
    /// How often this worker had begun to follow the bucket at that moment. What was known before the last
    /// time counts no longer: the bucket may be another one, with other records at the same sequences.
    pub(super) generation: u64,
}

/// That the bucket has a version of an owner, and nothing newer up to a stream sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// When the bucket was asked for that owner.
    pub(super) asked: Asked,
    /// The sequence.
    pub(super) to: u64,
}

/// The latest that is known.
#[derive(Default)]
pub(super) struct LatestKnown(Mutex<Option<Known>>);

impl Clone for LatestKnown {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.get()))
    }
}

impl LatestKnown {
    pub(super) fn get(&self) -> Option<Known> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, new: Known) {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *latest = match *latest {
            Some(old) if old.asked.generation > new.asked.generation => Some(old),
            Some(old) if old.asked.generation == new.asked.generation => Some(Known {
                asked: Asked {
                    at: old.asked.at.max(new.asked.at),
                    ..new.asked
                },
                to: old.to.max(new.to),
            }),
            _ => Some(new),
        };
    }
}
