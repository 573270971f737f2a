//! The answers that are cached, those about unknown instruments too.

use super::{Answer, Question};
use quick_cache::sync::Cache;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub(super) struct AnswerCache {
    /// How long the answer about a known instrument is cached; zero caches none.
    found_ttl: Duration,
    /// How long it is cached that an instrument is unknown; zero caches none.
    unknown_ttl: Duration,
    /// Each answer, and the end of its time in the cache.
    answers: Cache<Question, (Answer, Instant)>,
    hits: AtomicU64,
}

impl AnswerCache {
    /// Returns an empty cache for at most `entries` answers.
    pub(super) fn new(entries: usize, found_ttl: Duration, unknown_ttl: Duration) -> Self {
        Self {
            found_ttl,
            unknown_ttl,
            answers: Cache::new(entries),
            hits: AtomicU64::default(),
        }
    }

    /// Returns the cached answer, unless its time is over.
    pub(super) fn get(&self, question: &Question) -> Option<Answer> {
        let (answer, until) = self.answers.get(question)?;
        if Instant::now() < until {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Some(answer);
        }

        self.answers.remove(question);
        None
    }

    /// Caches an answer for the time that its kind has.
    pub(super) fn insert(&self, question: Question, answer: &Answer) {
        let ttl = match answer {
            Answer::Found(_) => self.found_ttl,
            Answer::Unknown => self.unknown_ttl,
        };

        let until = Instant::now().checked_add(ttl);
        if let Some(until) = until.filter(|_| !ttl.is_zero()) {
            self.answers.insert(question, (answer.clone(), until));
        }
    }

    /// The number of cached answers.
    pub(super) fn count(&self) -> u64 {
        self.answers.len() as u64
    }

    /// The number of hits so far.
    pub(super) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Listing;

    const LONG: Duration = Duration::from_secs(3_600);
    const SHORT: Duration = Duration::from_millis(20);

    fn found() -> Answer {
        Answer::Found(Listing::default())
    }

    #[test]
    fn both_kinds_of_answers_are_cached_each_for_its_time() {
        let cache = AnswerCache::new(10, LONG, SHORT);
        let question = Question::probe();
        assert!(cache.get(&question).is_none());

        cache.insert(question.clone(), &found());
        std::thread::sleep(SHORT * 2);
        assert!(cache.get(&question) == Some(found()));

        cache.insert(question.clone(), &Answer::Unknown);
        assert!(cache.get(&question) == Some(Answer::Unknown));
        std::thread::sleep(SHORT * 2);
        assert!(cache.get(&question).is_none(), "its time is over");

        assert_eq!(cache.hits(), 2);
        assert_eq!(cache.count(), 0);
    }

    #[test]
    fn without_time_nothing_is_cached() {
        let cache = AnswerCache::new(10, Duration::ZERO, Duration::ZERO);

        for answer in [found(), Answer::Unknown] {
            cache.insert(Question::probe(), &answer);
            assert!(cache.get(&Question::probe()).is_none());
        }
    }
}
