//! Since when a worker lacks something.

use crate::domain::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A reason why the worker is not healthy: the part, and what that means.
pub(super) type Reason = (String, String);

/// Since when each reason of the moment has been there.
#[derive(Clone, Default)]
pub(super) struct Beginnings(Arc<Mutex<HashMap<Reason, Timestamp>>>);

impl Beginnings {
    /// Takes all reasons of this moment, and returns since when each has been there, in their
    /// order. Forgets those that are over. Digits do not tell reasons apart, because they are
    /// figures that change.
    pub fn follow(&self, reasons: &[Reason], now: Timestamp) -> Vec<Timestamp> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<Reason> = reasons.iter().map(without_digits).collect();
        known.retain(|reason, _| keys.contains(reason));

        keys.into_iter()
            .map(|reason| *known.entry(reason).or_insert(now))
            .collect()
    }
}

fn without_digits((part, why): &Reason) -> Reason {
    (
        part.clone(),
        why.chars().filter(|c| !c.is_ascii_digit()).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(why: &str) -> Reason {
        ("truth".to_owned(), why.to_owned())
    }

    #[test]
    fn a_reason_keeps_its_beginning_until_it_is_over() {
        let beginnings = Beginnings::default();
        let at = Timestamp::from_millis;

        let first = beginnings.follow(&[reason("full for 1 s")], at(1_000));
        let both = beginnings.follow(&[reason("slow"), reason("full for 12 s")], at(12_000));
        assert_eq!(first, [at(1_000)]);
        assert_eq!(both, [at(12_000), at(1_000)]);

        beginnings.follow(&[reason("slow")], at(13_000));
        let again = beginnings.follow(&[reason("full for 1 s")], at(14_000));
        assert_eq!(again, [at(14_000)]);
    }
}
