//! Callers that send the requests of a schedule.

use super::random::Random;
use super::schedule::{Begin, Schedule, counted_from};
use super::tally::{End, Tally};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// What callers send.
pub(super) trait Work: Send + Sync + 'static {
    /// Sends one request of that caller, and returns its operation and how it ended.
    fn request(
        &self,
        caller: usize,
        random: &mut Random,
    ) -> impl Future<Output = (&'static str, End)> + Send;
}

/// What the callers of all rounds share with who watches them.
#[derive(Default)]
pub(super) struct Watch {
    /// How many requests have ended.
    pub done: AtomicU64,
    /// Whether the callers should send no more.
    pub stop: Arc<AtomicBool>,
}

/// One round: who sends how many requests at which times.
pub(super) struct Round {
    pub callers: usize,
    pub schedule: Schedule,
    /// Distinguishes the rounds of a run, so that they do not repeat one another.
    pub seed: u64,
}

/// Sends the requests of a round, and waits until the last one has ended. Returns how long that took.
pub(super) async fn drive<W: Work>(
    work: &Arc<W>,
    round: Round,
    tally: &Arc<Mutex<Tally>>,
    watch: &Arc<Watch>,
) -> Duration {
    let schedule = Arc::new(round.schedule);
    let begun = Instant::now();
    let mut callers = JoinSet::new();

    for caller in 0..round.callers {
        let mut random = Random::new(round.seed.wrapping_mul(1_000_003) + caller as u64);
        let (work, schedule) = (work.clone(), schedule.clone());
        let (tally, watch) = (tally.clone(), watch.clone());
        callers.spawn(async move {
            while !watch.stop.load(Ordering::Relaxed) {
                let free_at = begun.elapsed();
                let Some(begin) = schedule.next(free_at) else {
                    break;
                };
                if let Begin::At(planned) = begin {
                    sleep_until(begun + planned).await;
                }

                let sent_at = begun.elapsed();
                let (operation, end) = work.request(caller, &mut random).await;
                let from = match begin {
                    Begin::Now => sent_at,
                    Begin::At(planned) => counted_from(planned, free_at, sent_at),
                };
                let latency = begun.elapsed().saturating_sub(from);
                let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                tally.record(operation, end, latency);
                watch.done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    while callers.join_next().await.is_some() {}
    begun.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service that answers in a millisecond, and stands still for a second once.
    struct Stalls {
        until: Duration,
        begun: Instant,
    }

    impl Work for Stalls {
        async fn request(&self, _: usize, _: &mut Random) -> (&'static str, End) {
            let at = self.begun.elapsed();
            let stall = Duration::from_millis(500);
            if at >= stall && at < stall + self.until {
                sleep_until(self.begun + stall + self.until).await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            ("get", End::Answered)
        }
    }

    /// Returns what a run of two seconds measures, with a stall of one second.
    async fn measure(rate_per_s: Option<f64>) -> Tally {
        let work = Arc::new(Stalls {
            until: Duration::from_secs(1),
            begun: Instant::now(),
        });
        let round = Round {
            callers: 4,
            schedule: Schedule::new(rate_per_s, Some(Duration::from_secs(2)), None),
            seed: 1,
        };
        let tally = Arc::default();
        drive(&work, round, &tally, &Arc::default()).await;

        let tally = tally.lock().expect("not poisoned");
        tally.clone()
    }

    /// Goal: a stall shows in the quantiles of an open loop. A closed loop hides it, because it sends
    /// nothing meanwhile.
    ///
    /// Method: a service that stands still for a second, on a clock that only the test moves.
    #[tokio::test(start_paused = true)]
    async fn only_an_open_loop_shows_a_stall() {
        let open = measure(Some(500.0)).await.total();
        let closed = measure(None).await.total();

        assert_eq!(open.requests(), 1_000);
        let half = open.latencies.quantile(0.5);
        assert!(half > Duration::from_millis(100), "{half:?}");
        let hidden = closed.latencies.quantile(0.9);
        assert!(hidden < Duration::from_millis(10), "{hidden:?}");
    }
}
