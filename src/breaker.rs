//! A circuit breaker: while a dependency is known to be unavailable, calls to it fail fast.
//!
//! An unanswered call opens the breaker. A call that only took too long makes it probe whether the
//! dependency answers. While the breaker is open no call is made; it probes by itself until the
//! dependency answers, and then closes. So no request waits in order to find that out. It also
//! probes while calls are under way and none of them is answered, which shows that a dependency
//! hangs long before the calls time out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

/// The pause between two probes of a dependency that does not answer.
const PROBE_PAUSE: Duration = Duration::from_millis(100);
/// How long calls may wait without any answer before the breaker probes; up to twice as long,
/// because it checks once in this time.
const SILENCE_INTERVAL: Duration = Duration::from_millis(250);
/// The shortest wait after which an abandoned call makes the breaker probe: a call that waited less
/// proves nothing.
const ABANDONED_WAIT_MIN: Duration = Duration::from_millis(100);

/// A circuit breaker for one dependency. Clones share its state.
#[derive(Clone)]
pub struct Breaker {
    shared: Arc<State>,
    _probe_task: Arc<AbortOnDropHandle<()>>,
}

struct State {
    /// The dependency's name in the log.
    dependency: &'static str,
    open: watch::Sender<bool>,
    /// Wakes the probe.
    doubted: Notify,
    times_opened: AtomicU64,
    times_closed: AtomicU64,
    calls_in_flight: AtomicUsize,
    calls_answered: AtomicU64,
}

/// A call under way. Dropping it means that the caller gave it up: the breaker probes if the call
/// had waited long enough.
pub struct Attempt {
    shared: Option<Arc<State>>,
    started: Instant,
}

impl Breaker {
    /// Returns a closed breaker for the dependency that the log calls `dependency`. `probe` returns
    /// whether the dependency answers, and must end within a short time.
    pub fn new<P, F>(dependency: &'static str, probe: P) -> Self
    where
        P: Fn() -> F + Send + 'static,
        F: Future<Output = bool> + Send + 'static,
    {
        let shared = Arc::new(State {
            dependency,
            open: watch::Sender::new(false),
            doubted: Notify::new(),
            times_opened: AtomicU64::new(0),
            times_closed: AtomicU64::new(0),
            calls_in_flight: AtomicUsize::new(0),
            calls_answered: AtomicU64::new(0),
        });
        let probe_task = tokio::spawn(probe_when_doubted(shared.clone(), probe));

        Self {
            shared,
            _probe_task: Arc::new(AbortOnDropHandle::new(probe_task)),
        }
    }

    /// Returns an attempt at a call, or `None` while the breaker is open.
    pub fn admit(&self) -> Option<Attempt> {
        (!self.is_open()).then(|| {
            self.shared.calls_in_flight.fetch_add(1, Ordering::Relaxed);

            Attempt {
                shared: Some(self.shared.clone()),
                started: Instant::now(),
            }
        })
    }

    /// Makes the breaker probe: something that has no [`Attempt`] took too long, or failed.
    pub fn doubt(&self) {
        self.shared.doubted.notify_one();
    }

    /// Returns whether the dependency is known to be unavailable.
    pub fn is_open(&self) -> bool {
        *self.shared.open.borrow()
    }

    /// Returns how often the breaker has opened.
    pub fn opened(&self) -> u64 {
        self.shared.times_opened.load(Ordering::Relaxed)
    }

    /// Returns how often the breaker has closed again: how many outages have ended.
    pub fn recovered(&self) -> u64 {
        self.shared.times_closed.load(Ordering::Relaxed)
    }

    /// Waits until the breaker is closed.
    pub async fn closed(&self) {
        self.wait_until_open_is(false).await;
    }

    /// Waits until the breaker is open.
    pub async fn broken(&self) {
        self.wait_until_open_is(true).await;
    }

    async fn wait_until_open_is(&self, expected: bool) {
        // This cannot fail: the sender lives as long as `self`.
        let _ = self
            .shared
            .open
            .subscribe()
            .wait_for(|open| *open == expected)
            .await;
    }
}

impl Attempt {
    /// Records an answer, whatever it was.
    pub fn answered(mut self) {
        if let Some(shared) = self.end() {
            shared.calls_answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records that no call was made after all.
    pub fn unused(mut self) {
        self.end();
    }

    /// Records that the call took too long, which may be the call's own fault: the breaker probes.
    pub fn doubtful(mut self) {
        if let Some(shared) = self.end() {
            shared.doubted.notify_one();
        }
    }

    /// Records that no answer came within the time that an answer may take, or that none could
    /// come. Opens the breaker.
    pub fn unanswered(mut self) {
        if let Some(shared) = self.end() {
            shared.set_open(true);
            shared.doubted.notify_one();
        }
    }

    /// Ends the call. Returns the breaker's state the first time, `None` after that.
    fn end(&mut self) -> Option<Arc<State>> {
        let shared = self.shared.take()?;
        shared.calls_in_flight.fetch_sub(1, Ordering::Relaxed);
        Some(shared)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let waited = self.started.elapsed();
        if let Some(shared) = self.end().filter(|_| waited >= ABANDONED_WAIT_MIN) {
            shared.doubted.notify_one();
        }
    }
}

impl State {
    fn set_open(&self, open: bool) {
        let changed = self
            .open
            .send_if_modified(|now| std::mem::replace(now, open) != open);
        if !changed {
            return;
        }

        if open {
            self.times_opened.fetch_add(1, Ordering::Relaxed);
            warn!(
                "circuit open: {} does not answer, failing fast",
                self.dependency
            );
        } else {
            self.times_closed.fetch_add(1, Ordering::Relaxed);
            info!("circuit closed: {} answers again", self.dependency);
        }
    }

    fn has_calls_in_flight(&self) -> bool {
        self.calls_in_flight.load(Ordering::Relaxed) > 0
    }

    fn calls_answered(&self) -> u64 {
        self.calls_answered.load(Ordering::Relaxed)
    }

    /// Waits until calls are under way and none was answered during a complete interval.
    async fn silence(&self) {
        let mut had_calls = self.has_calls_in_flight();
        let mut answered_before = self.calls_answered();

        loop {
            sleep(SILENCE_INTERVAL).await;
            let has_calls = self.has_calls_in_flight();
            let answered = self.calls_answered();
            if had_calls && has_calls && answered == answered_before {
                return;
            }

            had_calls = has_calls;
            answered_before = answered;
        }
    }
}

/// Waits for a doubt or for silence, then probes until the dependency answers; repeats for ever.
async fn probe_when_doubted<F: Future<Output = bool>>(shared: Arc<State>, probe: impl Fn() -> F) {
    loop {
        tokio::select! {
            () = shared.doubted.notified() => {}
            () = shared.silence() => {}
        }

        while !probe().await {
            shared.set_open(true);
            sleep(PROBE_PAUSE).await;
        }
        shared.set_open(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    fn breaker(answers: &Arc<AtomicBool>) -> Breaker {
        let answers = answers.clone();
        Breaker::new("the test", move || {
            let answers = answers.clone();
            async move { answers.load(Ordering::SeqCst) }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_on_an_unanswered_call_and_closes_by_itself() {
        let answers = Arc::new(AtomicBool::new(false));
        let breaker = breaker(&answers);

        breaker.admit().expect("closed").unanswered();

        assert!(breaker.is_open());
        assert!(breaker.admit().is_none());
        assert_eq!(breaker.opened(), 1);
        sleep(Duration::from_secs(1)).await;
        assert!(breaker.is_open());

        answers.store(true, Ordering::SeqCst);
        let started = Instant::now();
        breaker.closed().await;

        assert!(started.elapsed() <= PROBE_PAUSE);
        assert_eq!(breaker.recovered(), 1);
        assert!(breaker.admit().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_call_causes_a_probe_and_does_not_open_it() {
        let answers = Arc::new(AtomicBool::new(true));
        let breaker = breaker(&answers);

        let attempt = breaker.admit().expect("closed");
        sleep(ABANDONED_WAIT_MIN).await;
        drop(attempt);
        sleep(PROBE_PAUSE).await;
        assert_eq!(breaker.opened(), 0, "the dependency answers");

        answers.store(false, Ordering::SeqCst);
        drop(breaker.admit().expect("closed"));
        sleep(PROBE_PAUSE).await;
        assert_eq!(breaker.opened(), 0, "too short to prove anything");

        let attempt = breaker.admit().expect("closed");
        sleep(ABANDONED_WAIT_MIN).await;
        drop(attempt);
        breaker.broken().await;
        assert_eq!(breaker.opened(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_call_causes_a_probe_and_does_not_open_it() {
        let answers = Arc::new(AtomicBool::new(true));
        let breaker = breaker(&answers);

        breaker.admit().expect("closed").doubtful();
        assert!(!breaker.is_open());
        sleep(PROBE_PAUSE).await;
        assert_eq!(breaker.opened(), 0, "the dependency answers");

        answers.store(false, Ordering::SeqCst);
        breaker.admit().expect("closed").doubtful();
        sleep(PROBE_PAUSE).await;
        assert!(breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn it_probes_while_calls_wait_and_none_is_answered() {
        let answers = Arc::new(AtomicBool::new(true));
        let breaker = breaker(&answers);

        let slow_call = breaker.admit().expect("closed");
        sleep(SILENCE_INTERVAL * 4).await;
        assert_eq!(breaker.opened(), 0, "only this call is slow");

        answers.store(false, Ordering::SeqCst);
        let started = Instant::now();
        breaker.broken().await;
        let took = started.elapsed();
        assert!(took <= SILENCE_INTERVAL * 2, "{took:?}");
        drop(slow_call);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_of_any_kind_leaves_it_closed() {
        let breaker = breaker(&Arc::new(AtomicBool::new(false)));
        let attempt = breaker.admit().expect("closed");

        sleep(ABANDONED_WAIT_MIN).await;
        attempt.answered();
        sleep(PROBE_PAUSE).await;

        assert!(!breaker.is_open());
    }
}
