//! Creating a [`Bucket`], with the two probes that tell its circuit breakers whether it answers.

use super::api::Ack;
use super::append::OPEN_BATCHES_MAX;
use super::bucket::{Barrier, Bucket};
use super::newest::QUESTION_PAUSE;
use super::settings::{DIRECT_GET, TruthSettings};
use super::shared_answer::SharedAnswer;
use crate::breaker::Breaker;
use crate::requester::Requester;
use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::json;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep};

impl Bucket {
    /// The bucket named in `settings`, over `requester`. `shard` names the key to which this worker
    /// publishes its barriers.
    pub fn new(requester: Requester, settings: TruthSettings, shard: &str) -> Self {
        Self::with_probes(requester, settings, shard, true)
    }

    /// As [`new`](Self::new), for a NATS user that may not publish barriers: a bucket that answers no
    /// reads is not asked whether it accepts writes.
    pub fn without_barriers(requester: Requester, settings: TruthSettings) -> Self {
        Self::with_probes(requester, settings, "none", false)
    }

    fn with_probes(
        requester: Requester,
        settings: TruthSettings,
        shard: &str,
        has_barriers: bool,
    ) -> Self {
        let subject = format!("$KV.{}._b.{shard}", settings.bucket);
        let barrier = Arc::new(Barrier::new(subject.clone()));
        let call = Duration::from_millis(settings.call_ms);

        let writing = Breaker::new("the truth (for writes)", {
            let requester = requester.clone();
            let subject = settings.published(&subject);
            let probe = Probe::new(call);
            move || {
                let answers = answers_publishes(requester.clone(), subject.clone(), call);
                probe.clone().run(answers)
            }
        });
        let reading = Breaker::new("the truth (for reads)", {
            let requester = requester.clone();
            let api = settings.api(DIRECT_GET);
            let writing = writing.clone();
            let probe = Probe::new(call);
            move || {
                let answers = answers_reads(requester.clone(), api.clone(), subject.clone(), call);
                let answers = probe.clone().run(answers);
                let writing = writing.clone();
                async move {
                    let answers = answers.await;
                    // A bucket that answers no reads probably accepts no writes either. The other
                    // probe finds that out before a write has to wait.
                    if !answers && has_barriers {
                        writing.doubt();
                    }
                    answers
                }
            }
        });

        Self {
            requester,
            settings,
            barrier,
            reading,
            writing,
            open_batches: Arc::new(Semaphore::new(OPEN_BATCHES_MAX)),
            first_writes: Arc::default(),
            full: Arc::default(),
            marks: Arc::default(),
            answer_size: Arc::default(),
            newest_sequence: Arc::new(SharedAnswer::new(Some(QUESTION_PAUSE))),
        }
    }
}

/// How long a probe waits for its answer.
///
/// At first only a part of the time that a call has: so a bucket that hangs is found out before
/// calls have waited in vain. Over a slow link an answer comes later than that. It counts when it
/// comes, and the next probes wait longer, and half as long after each that is lost.
#[derive(Clone)]
struct Probe {
    call: Duration,
    limit: Arc<Mutex<Duration>>,
    /// Tells a waiting probe that an earlier one was answered.
    answered: Arc<Notify>,
}

impl Probe {
    fn new(call: Duration) -> Self {
        Self {
            call,
            limit: Arc::new(Mutex::new(call / 4)),
            answered: Arc::default(),
        }
    }

    fn limit(&self) -> MutexGuard<'_, Duration> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the bucket answers `question`, or has meanwhile answered an earlier one.
    async fn run(self, question: impl Future<Output = bool> + Send + 'static) -> bool {
        let (earlier, probe) = (self.answered.clone(), self.clone());
        let limit = *self.limit();
        let mut asked = tokio::spawn(async move {
            let began = Instant::now();
            let answers = question.await;
            if answers {
                *self.limit() = (began.elapsed() * 4).clamp(self.call / 4, self.call);
                self.answered.notify_waiters();
            }

            answers
        });

        tokio::select! {
            answers = &mut asked => answers.unwrap_or(false),
            () = earlier.notified() => true,
            () = sleep(limit) => {
                *probe.limit() = (limit / 2).max(probe.call / 4);
                false
            }
        }
    }
}

/// Returns whether a publish is answered. A refusal counts as an answer, unless it says that the
/// stream is not ready.
async fn answers_publishes(requester: Requester, subject: String, limit: Duration) -> bool {
    let result = requester
        .ask(
            subject,
            HeaderMap::new(),
            Bytes::new(),
            Instant::now() + limit,
        )
        .await;

    let Ok(reply) = result else { return false };
    match serde_json::from_slice::<Ack>(&reply.payload) {
        Ok(Ack {
            error: Some(error), ..
        }) => error.is_full() || !error.is_transient(),
        Ok(_) => true,
        Err(_) => false,
    }
}

/// Returns whether a read is answered, whatever the answer is.
async fn answers_reads(
    requester: Requester,
    api: String,
    subject: String,
    limit: Duration,
) -> bool {
    let query = json!({ "last_by_subj": subject }).to_string().into();

    requester
        .ask(api, HeaderMap::new(), query, Instant::now() + limit)
        .await
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Duration = Duration::from_secs(2);

    /// An answer that takes that long.
    async fn answer_after(delay: Duration) -> bool {
        sleep(delay).await;
        true
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_learns_how_slow_the_link_is() {
        let probe = Probe::new(CALL);
        let late = Duration::from_millis(900);

        let began = Instant::now();
        assert!(!probe.clone().run(answer_after(late)).await);
        assert_eq!(began.elapsed(), CALL / 4);

        // The first one's answer comes 400 ms later.
        let lost = probe.clone().run(std::future::pending());
        assert!(lost.await, "the earlier answer counts");
        assert_eq!(began.elapsed(), late);

        assert!(probe.clone().run(answer_after(late)).await, "it has learnt");
        assert!(probe.clone().run(answer_after(Duration::ZERO)).await);
        assert!(!probe.run(answer_after(late)).await, "the link was fast");
    }
}
