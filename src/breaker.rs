//! A breaker: keeps requests from waiting, each anew, for something that is known to be away.
//!
//! A call that gets no answer opens it; one that only took too long makes it look. While it is open, no call is made. It
//! looks by itself, again and again, whether the other side answers, and closes as soon as it does: so no request pays for
//! finding that out. It looks as well while calls are under way and none is answered: so what hangs is known long before
//! the calls' time is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

/// Between one look at what is away and the next.
const PAUSE: Duration = Duration::from_millis(100);
/// For how long no answer may come to anybody who waits, before it looks; at most twice as long.
const SILENCE: Duration = Duration::from_millis(250);
/// A call that was given up after less than this tells nothing.
const TOO_SHORT: Duration = Duration::from_millis(100);

/// Whether something answers, as far as is known. A clone is the same breaker.
#[derive(Clone)]
pub struct Breaker {
    shared: Arc<State>,
    _looking: Arc<AbortOnDropHandle<()>>,
}

struct State {
    what: &'static str,
    open: watch::Sender<bool>,
    doubted: Notify,
    opened: AtomicU64,
    /// Calls under way, and calls answered so far.
    waiting: AtomicUsize,
    heard: AtomicU64,
}

/// A call under way. One that is dropped was given up, and counts as a doubt if it had waited.
pub struct Attempt {
    shared: Option<Arc<State>>,
    began: Instant,
}

impl Breaker {
    /// A closed one for `what`, which is named in the log. `look` asks whether it answers; it has to end in a short time.
    pub fn new<L, F>(what: &'static str, look: L) -> Self
    where
        L: Fn() -> F + Send + 'static,
        F: Future<Output = bool> + Send + 'static,
    {
        let shared = Arc::new(State {
            what,
            open: watch::Sender::new(false),
            doubted: Notify::new(),
            opened: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            heard: AtomicU64::new(0),
        });
        let looking = AbortOnDropHandle::new(tokio::spawn(look_when_doubted(shared.clone(), look)));
        Self {
            shared,
            _looking: Arc::new(looking),
        }
    }

    /// Leave for a call; none while it is open.
    pub fn admit(&self) -> Option<Attempt> {
        (!self.is_open()).then(|| {
            self.shared.waiting.fetch_add(1, Ordering::Relaxed);
            Attempt {
                shared: Some(self.shared.clone()),
                began: Instant::now(),
            }
        })
    }

    /// Looks whether it answers: something took too long, or failed, that is no call of its own.
    pub fn doubt(&self) {
        self.shared.doubted.notify_one();
    }

    /// Whether it is known to be away.
    pub fn is_open(&self) -> bool {
        *self.shared.open.borrow()
    }

    /// How often it has opened.
    pub fn opened(&self) -> u64 {
        self.shared.opened.load(Ordering::Relaxed)
    }

    /// Ends when it is closed.
    pub async fn closed(&self) {
        self.is(false).await;
    }

    /// Ends when it is open.
    pub async fn broken(&self) {
        self.is(true).await;
    }

    async fn is(&self, open: bool) {
        // The sender lives as long as `self`.
        let _ = self
            .shared
            .open
            .subscribe()
            .wait_for(|now| *now == open)
            .await;
    }
}

impl Attempt {
    /// It was answered, whatever the answer was.
    pub fn answered(mut self) {
        if let Some(shared) = self.end() {
            shared.heard.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Nothing was asked after all.
    pub fn unused(mut self) {
        self.end();
    }

    /// It took too long, which may be its own fault: whether the other side answers is looked at.
    pub fn doubtful(mut self) {
        if let Some(shared) = self.end() {
            shared.doubted.notify_one();
        }
    }

    /// It was not answered in the time that an answer may take, or cannot have been heard.
    pub fn unanswered(mut self) {
        if let Some(shared) = self.end() {
            shared.set_open(true);
            shared.doubted.notify_one();
        }
    }

    /// It is no longer under way; its breaker, the first time.
    fn end(&mut self) -> Option<Arc<State>> {
        let shared = self.shared.take()?;
        shared.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(shared)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(shared) = self.end().filter(|_| self.began.elapsed() >= TOO_SHORT) {
            shared.doubted.notify_one();
        }
    }
}

impl State {
    fn set_open(&self, open: bool) {
        let changed = self
            .open
            .send_if_modified(|now| std::mem::replace(now, open) != open);
        match (changed, open) {
            (true, true) => {
                self.opened.fetch_add(1, Ordering::Relaxed);
                warn!(
                    "{} is away: nothing waits for it until it answers",
                    self.what
                );
            }
            (true, false) => info!("{} answers again", self.what),
            (false, _) => {}
        }
    }

    /// Ends when calls are under way and none was answered for a while.
    async fn silence(&self) {
        let state = || {
            (
                self.waiting.load(Ordering::Relaxed) > 0,
                self.heard.load(Ordering::Relaxed),
            )
        };
        let mut before = state();
        loop {
            sleep(SILENCE).await;
            let now = state();
            if now.0 && now == before {
                return;
            }
            before = now;
        }
    }
}

async fn look_when_doubted<F: Future<Output = bool>>(shared: Arc<State>, look: impl Fn() -> F) {
    loop {
        tokio::select! {
            () = shared.doubted.notified() => {}
            () = shared.silence() => {}
        }
        while !look().await {
            shared.set_open(true);
            sleep(PAUSE).await;
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
    async fn it_opens_when_nobody_answers_and_closes_by_itself() {
        let answers = Arc::new(AtomicBool::new(false));
        let breaker = breaker(&answers);
        breaker.admit().expect("closed").unanswered();
        assert!(breaker.is_open() && breaker.admit().is_none() && breaker.opened() == 1);
        sleep(Duration::from_secs(1)).await;
        assert!(breaker.is_open());
        answers.store(true, Ordering::SeqCst);
        let began = Instant::now();
        breaker.closed().await;
        assert!(began.elapsed() <= PAUSE && breaker.admit().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_was_given_up_is_a_doubt_and_no_proof() {
        let answers = Arc::new(AtomicBool::new(true));
        let breaker = breaker(&answers);
        let attempt = breaker.admit().expect("closed");
        sleep(TOO_SHORT).await;
        drop(attempt);
        sleep(PAUSE).await;
        assert_eq!(breaker.opened(), 0, "it answers");
        answers.store(false, Ordering::SeqCst);
        drop(breaker.admit().expect("closed"));
        sleep(PAUSE).await;
        assert_eq!(breaker.opened(), 0, "too short to tell anything");
        let attempt = breaker.admit().expect("closed");
        sleep(TOO_SHORT).await;
        drop(attempt);
        breaker.broken().await;
        assert_eq!(breaker.opened(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_took_too_long_is_a_doubt_and_no_proof() {
        let answers = Arc::new(AtomicBool::new(true));
        let breaker = breaker(&answers);
        breaker.admit().expect("closed").doubtful();
        assert!(!breaker.is_open());
        sleep(PAUSE).await;
        assert_eq!(breaker.opened(), 0, "it answers");
        answers.store(false, Ordering::SeqCst);
        breaker.admit().expect("closed").doubtful();
        sleep(PAUSE).await;
        assert!(breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn it_looks_while_nobody_who_waits_is_answered() {
        let answers = Arc::new(AtomicBool::new(true));
        let breaker = breaker(&answers);
        let slow = breaker.admit().expect("closed");
        sleep(SILENCE * 4).await;
        assert_eq!(
            breaker.opened(),
            0,
            "it answers, and this call is only slow"
        );
        answers.store(false, Ordering::SeqCst);
        let began = Instant::now();
        breaker.broken().await;
        assert!(began.elapsed() <= SILENCE * 2, "{:?}", began.elapsed());
        drop(slow);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_of_any_kind_leaves_it_closed() {
        let breaker = breaker(&Arc::new(AtomicBool::new(false)));
        let attempt = breaker.admit().expect("closed");
        sleep(TOO_SHORT).await;
        attempt.answered();
        sleep(PAUSE).await;
        assert!(!breaker.is_open());
    }
}
