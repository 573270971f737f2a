//! Asks the reference service: one question at a time for an instrument, and none while its answer
//! is cached.

use super::cache::AnswerCache;
use super::{Answer, OnSilence, Question, ReferenceError, ReferenceSettings};
use crate::breaker::Breaker;
use crate::domain::ItemLimits;
use crate::requester::{CallError, Requester};
use crate::wire::TraceContext;
use crate::wire::header::TRACEPARENT;
use async_nats::{HeaderMap, Message};
use futures::FutureExt as _;
use futures::future::{self, BoxFuture, Shared};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::warn;

/// The maximum number of questions under way. A question continues after its caller has given up.
const QUESTIONS_MAX: usize = 1_024;

/// The headers with which the NATS services protocol (ADR-32) marks an error.
const ERROR_HEADERS: [&str; 2] = ["Nats-Service-Error", "Nats-Service-Error-Code"];

/// No answer, because the question's task ended without one.
const NO_ANSWER: ReferenceError = ReferenceError::Unavailable(CallError::TimedOut);

/// The answer to a question under way, shared by all requests about the same instrument.
type PendingAnswer = Shared<BoxFuture<'static, Result<Answer, ReferenceError>>>;

/// Asks the reference service whether instruments exist. Clones share its state.
#[derive(Clone)]
pub struct ReferenceClient(Arc<Inner>);

struct Inner {
    requester: Requester,
    settings: ReferenceSettings,
    /// The limits on what an answer may fill in.
    limits: ItemLimits,
    cache: AnswerCache,
    /// One permit for each question under way.
    permits: Arc<Semaphore>,
    /// The questions under way.
    in_flight: Mutex<HashMap<Question, PendingAnswer>>,
    breaker: Breaker,
    asked: AtomicU64,
    silent: AtomicU64,
    unreadable: AtomicU64,
}

/// The counters of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReferenceCounts {
    /// Answers taken from the cache.
    pub hits: u64,
    /// Questions to the reference service.
    pub asked: u64,
    /// Answers in the cache.
    pub kept: u64,
    /// Instruments about which there was no answer.
    pub silent: u64,
}

impl ReferenceClient {
    /// Returns a client that asks over `requester`; `None` if the settings name no subject.
    /// `limits` are those on the items that answers fill in.
    pub fn new(
        requester: Requester,
        settings: ReferenceSettings,
        limits: ItemLimits,
    ) -> Option<Self> {
        if settings.subject.is_empty() {
            return None;
        }

        let breaker = Breaker::new("the reference service", {
            let requester = requester.clone();
            let subject = settings.subject.clone();
            let limit = limit(&settings);
            move || {
                let probe = probe(requester.clone(), subject.clone(), limit);
                async move { probe.await.is_ok() }
            }
        });
        let found_ttl = Duration::from_secs(settings.found_ttl_s);
        let unknown_ttl = Duration::from_secs(settings.unknown_ttl_s);

        Some(Self(Arc::new(Inner {
            requester,
            limits,
            cache: AnswerCache::new(settings.cache_entries, found_ttl, unknown_ttl),
            permits: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            in_flight: Mutex::default(),
            breaker,
            asked: AtomicU64::default(),
            silent: AtomicU64::default(),
            unreadable: AtomicU64::default(),
            settings,
        })))
    }

    /// The circuit breaker of the reference service.
    pub fn breaker(&self) -> &Breaker {
        &self.0.breaker
    }

    /// What happens to an instrument if the reference service does not answer.
    pub fn on_silence(&self) -> OnSilence {
        self.0.settings.on_silence
    }

    /// Asks once and ignores the answer. If this worker may not ask, the server reports a
    /// permissions violation on the connection.
    ///
    /// # Errors
    ///
    /// Fails if the question was not sent because the connection is down.
    pub async fn knock(&self) -> Result<(), CallError> {
        let requester = self.0.requester.clone();
        let subject = self.0.settings.subject.clone();

        match probe(requester, subject, limit(&self.0.settings)).await {
            Err(CallError::NotConnected) => Err(CallError::NotConnected),
            _ => Ok(()),
        }
    }

    /// Returns the counters.
    pub fn counts(&self) -> ReferenceCounts {
        ReferenceCounts {
            hits: self.0.cache.hits(),
            asked: self.0.asked.load(Ordering::Relaxed),
            kept: self.0.cache.count(),
            silent: self.0.silent.load(Ordering::Relaxed),
        }
    }

    /// Returns the answer to a question: from the cache, or from the reference service.
    ///
    /// # Errors
    ///
    /// There is no answer that can be used.
    pub async fn ask(
        &self,
        question: &Question,
        trace: Option<&TraceContext>,
    ) -> Result<Answer, ReferenceError> {
        if let Some(answer) = self.0.cache.get(question) {
            return Ok(answer);
        }

        let answer = self.ask_once(question, trace).await;
        if answer.is_err() {
            self.0.silent.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// Joins the same question if it is under way, or starts one. The question runs as a task of
    /// its own, so a caller that gives up does not end it for the others.
    fn ask_once(&self, question: &Question, trace: Option<&TraceContext>) -> PendingAnswer {
        let mut in_flight = self.0.lock_in_flight();
        if let Some(pending) = in_flight.get(question) {
            return pending.clone();
        }
        // A question may have ended after the caller read the cache. It stores its answer there
        // before it leaves `in_flight`.
        if let Some(answer) = self.0.cache.get(question) {
            return future::ready(Ok(answer)).boxed().shared();
        }
        let Ok(permit) = self.0.permits.clone().try_acquire_owned() else {
            return future::ready(Err(ReferenceError::Busy)).boxed().shared();
        };

        let inner = self.0.clone();
        let asked = question.clone();
        let trace = trace.map(TraceContext::header);
        let task = tokio::spawn(async move {
            // A panic must not leave the question in `in_flight`, because nobody could ask it
            // again.
            let answer = AssertUnwindSafe(inner.fetch_answer(&asked, trace))
                .catch_unwind()
                .await
                .unwrap_or(Err(NO_ANSWER));
            drop(permit);
            inner.lock_in_flight().remove(&asked);
            answer
        });

        let pending = task
            .map(|ended| ended.unwrap_or(Err(NO_ANSWER)))
            .boxed()
            .shared();
        in_flight.insert(question.clone(), pending.clone());
        pending
    }
}

impl Inner {
    fn lock_in_flight(&self) -> MutexGuard<'_, HashMap<Question, PendingAnswer>> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the reference service, and caches its answer.
    async fn fetch_answer(
        &self,
        question: &Question,
        trace: Option<String>,
    ) -> Result<Answer, ReferenceError> {
        let reply = self.send(question, trace).await?;
        let answer = self.read(&reply).inspect_err(|error| self.warn(*error))?;

        self.cache.insert(question.clone(), &answer);
        Ok(answer)
    }

    /// Sends one question, and returns the reply.
    async fn send(
        &self,
        question: &Question,
        trace: Option<String>,
    ) -> Result<Message, ReferenceError> {
        let attempt = self
            .breaker
            .admit()
            .ok_or(ReferenceError::Unavailable(CallError::KnownUnavailable))?;
        self.asked.fetch_add(1, Ordering::Relaxed);

        let mut headers = HeaderMap::new();
        if let Some(trace) = trace {
            headers.insert(TRACEPARENT, trace);
        }
        let subject = self.settings.subject.clone();
        let body = question.body().to_owned().into();
        let deadline = Instant::now() + limit(&self.settings);
        let reply = self.requester.ask(subject, headers, body, deadline).await;
        match reply {
            Ok(_) => attempt.answered(),
            Err(_) => attempt.unanswered(),
        }

        reply.map_err(ReferenceError::Unavailable)
    }

    fn read(&self, reply: &Message) -> Result<Answer, ReferenceError> {
        let says_error = |headers: &HeaderMap| {
            ERROR_HEADERS
                .into_iter()
                .any(|name| headers.get(name).is_some())
        };
        if reply.status.is_some() || reply.headers.as_ref().is_some_and(says_error) {
            return Err(ReferenceError::Refused);
        }

        Answer::read(&reply.payload, &self.limits)
    }

    /// Logs an answer that cannot be used, ever more seldom.
    fn warn(&self, error: ReferenceError) {
        let unreadable = self.unreadable.fetch_add(1, Ordering::Relaxed) + 1;
        if unreadable.is_power_of_two() {
            warn!(%error, unreadable, "an answer of the reference service is not used");
        }
    }
}

/// The time limit for an answer.
fn limit(settings: &ReferenceSettings) -> Duration {
    Duration::from_millis(settings.timeout_ms)
}

/// Asks about an empty ISIN. Any answer counts as a success.
async fn probe(requester: Requester, subject: String, limit: Duration) -> Result<(), CallError> {
    let question = Question::probe().body().to_owned().into();
    let deadline = Instant::now() + limit;

    requester
        .ask(subject, HeaderMap::new(), question, deadline)
        .await
        .map(drop)
}
