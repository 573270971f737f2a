//! One question for all who wait: callers that need an answer to a question that began after they came
//! share it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

/// The answers to one question, each of which is a stream sequence.
pub(super) struct SharedAnswer {
    /// How many questions were begun.
    begun: AtomicU64,
    /// Held by the caller that asks.
    asking: Mutex<()>,
    /// The answer to the latest question that has one.
    answered: watch::Sender<Answered>,
    /// After how long the next question begins while one has no answer yet; `None`: not before.
    overlap: Option<Duration>,
}

#[derive(Clone, Copy, Default)]
struct Answered {
    /// The question's number, from 1.
    number: u64,
    sequence: u64,
}

impl SharedAnswer {
    pub(super) fn new(overlap: Option<Duration>) -> Self {
        Self {
            begun: AtomicU64::new(0),
            asking: Mutex::default(),
            answered: watch::Sender::default(),
            overlap,
        }
    }

    /// Returns the answer to a question that began after this call. One of the callers that wait asks it.
    pub(super) async fn get<E>(&self, ask: impl Future<Output = Result<u64, E>>) -> Result<u64, E> {
        let begun_before = self.begun.load(Ordering::SeqCst);
        let mut answered = self.answered.subscribe();
        let mut turn = tokio::select! {
            biased;
            Ok(answered) = answered.wait_for(|answered| answered.number > begun_before) => {
                return Ok(answered.sequence);
            }
            turn = self.asking.lock() => Some(turn),
        };

        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let mut ask = std::pin::pin!(ask);
        let early = match self.overlap {
            None => Some(ask.as_mut().await),
            Some(overlap) => timeout(overlap, &mut ask).await.ok(),
        };
        let sequence = match early {
            Some(answer) => answer,
            None => {
                turn.take();
                ask.await
            }
        }?;

        self.answered.send_if_modified(|answered| {
            let is_newer = answered.number < number;
            if is_newer {
                *answered = Answered { number, sequence };
            }
            is_newer
        });
        Ok(sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;
    use tokio::time::{Instant, sleep};

    const ROUND_TRIP: Duration = Duration::from_millis(100);

    /// Asks something whose answers are 1, 2, 3 and so on.
    async fn ask(asked: &AtomicU64) -> Result<u64, &'static str> {
        let answer = asked.fetch_add(1, Ordering::SeqCst) + 1;
        sleep(ROUND_TRIP).await;
        Ok(answer)
    }

    #[tokio::test(start_paused = true)]
    async fn callers_share_the_next_question_and_never_one_that_began_before() {
        let shared = SharedAnswer::new(None);
        let asked = AtomicU64::new(0);

        let first = shared.get(ask(&asked));
        let later = async {
            sleep(ROUND_TRIP / 2).await;
            join_all((0..50).map(|_| shared.get(ask(&asked)))).await
        };
        let (first, later) = tokio::join!(first, later);

        assert_eq!(first.ok(), Some(1));
        assert!(later.into_iter().all(|answer| answer.ok() == Some(2)));
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_does_not_delay_the_next_question() {
        let shared = SharedAnswer::new(Some(ROUND_TRIP / 10));
        let asked = AtomicU64::new(0);
        let begun = Instant::now();

        let first = shared.get(ask(&asked));
        let later = async {
            sleep(ROUND_TRIP / 2).await;
            shared.get(ask(&asked)).await
        };
        let (_, later) = tokio::join!(first, later);

        assert_eq!(later.ok(), Some(2));
        assert_eq!(begun.elapsed(), ROUND_TRIP / 2 + ROUND_TRIP);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_caller_that_gave_up_or_failed_another_asks() {
        let shared = SharedAnswer::new(None);
        let asked = AtomicU64::new(0);

        let given_up = timeout(ROUND_TRIP / 2, shared.get(ask(&asked)));
        let failing = shared.get(async { Err("refused") });
        let patient = shared.get(ask(&asked));
        let (given_up, failed, patient) = tokio::join!(given_up, failing, patient);

        assert!(given_up.is_err());
        assert_eq!(failed, Err("refused"));
        assert_eq!(patient.ok(), Some(2));
    }
}
