//! The questions whether a request was done before, which wait to be asked together.

use crate::seal::{OwnerKey, Record, RequestHash};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The most questions in one statement. If it fails, all of them are without an answer.
const QUESTIONS_MAX: usize = 16;

/// What this shard knows about a request id.
pub enum PriorRequest {
    /// The newest record that the request wrote.
    Found(Box<Record>),
    /// No record up to this stream sequence came from the request: the shard has every version of
    /// the owner's items that the bucket keeps.
    NotUpTo(u64),
    /// This shard does not have enough of the owner's history to tell, or its Postgres does not
    /// answer.
    Unknown,
}

/// The questions that wait.
#[derive(Clone, Default)]
pub(super) struct RequestSearch(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    questions: Vec<Question>,
    /// Whether a task asks them.
    is_asked: bool,
}

pub(super) struct Question {
    pub owner: OwnerKey,
    pub request_id: RequestHash,
    pub answer: oneshot::Sender<PriorRequest>,
}

impl RequestSearch {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a question. Returns whether a task has to be started for it.
    pub fn add(&self, question: Question) -> bool {
        let mut waiting = self.lock();
        waiting.questions.push(question);
        !std::mem::replace(&mut waiting.is_asked, true)
    }

    /// Takes the questions that are asked next: those that came first, unless nobody waits for them
    /// any more. None if there are none; the next question then starts a task.
    pub fn take(&self) -> Vec<Question> {
        let mut waiting = self.lock();
        waiting
            .questions
            .retain(|question| !question.answer.is_closed());
        let count = waiting.questions.len().min(QUESTIONS_MAX);
        let taken: Vec<_> = waiting.questions.drain(..count).collect();
        waiting.is_asked = !taken.is_empty();
        taken
    }

    /// Leaves all questions without an answer, after the task has failed.
    pub fn give_up(&self) {
        *self.lock() = Waiting::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(number: u8) -> (Question, oneshot::Receiver<PriorRequest>) {
        let (answer, answered) = oneshot::channel();
        let question = Question {
            owner: OwnerKey::from_bytes([number; 16]),
            request_id: RequestHash::from_bytes([number; 16]),
            answer,
        };

        (question, answered)
    }

    #[test]
    fn one_task_asks_all_questions_that_wait() {
        let search = RequestSearch::default();
        let mut waiting = Vec::new();
        for number in 0..=QUESTIONS_MAX {
            let (question, answered) = question(number as u8);
            assert_eq!(search.add(question), number == 0);
            waiting.push(answered);
        }
        drop(waiting.remove(1));

        let first = search.take();
        assert_eq!(
            first.len(),
            QUESTIONS_MAX,
            "all but the one that nobody awaits"
        );
        assert_eq!(first[1].owner, OwnerKey::from_bytes([2; 16]));
        let (late, _answered) = question(9);
        assert!(!search.add(late), "the task has not ended");
        assert_eq!(search.take().len(), 1);

        assert!(search.take().is_empty());
        let (next, mut answered) = question(9);
        assert!(search.add(next), "the task has ended");
        search.give_up();
        assert!(answered.try_recv().is_err());
        let (next, _answered) = question(9);
        assert!(search.add(next), "the task has failed");
    }
}
