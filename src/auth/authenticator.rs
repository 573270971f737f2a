//! Asking the auth service: at most once at a time for one token, and not while its verdict is known.

use super::keys::{Demands, KeySet, KeySetError};
use super::revocation::{Revocation, RevocationLog, Standing};
use super::verdict::{self, Terms, Verdict, VerdictError};
use super::verdict_cache::{Hash, VerdictCache, unix_now};
use super::{AuthSettings, Principal};
use crate::breaker::Breaker;
use crate::requester::{CallError, Requester};
use crate::seal::sha256;
use crate::wire::TraceContext;
use crate::wire::header::TRACEPARENT;
use async_nats::{HeaderMap, SubscribeError};
use futures::future::{self, BoxFuture, Shared};
use futures::{FutureExt as _, StreamExt as _};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};
use tracing::{info, warn};

/// Why a caller is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The token is not good.
    #[error("the token is bad, expired or revoked")]
    Unauthenticated,
    /// The auth service gave no answer in time.
    #[error("the auth service does not answer: {0}")]
    Unavailable(CallError),
    /// As many questions are under way as may be.
    #[error("too many questions to the auth service are under way")]
    Busy,
    /// The auth service's answer is not to be believed.
    #[error(
        "the auth service's verdict is unsigned, stale, or not about this token and for this service"
    )]
    Unbelievable,
}

/// How often is asked where what is heard meanwhile could change the verdict.
const TRIES: usize = 3;

type Asking = Shared<BoxFuture<'static, Result<Principal, AuthError>>>;

/// Verifies callers' tokens.
#[derive(Clone)]
pub struct Authenticator(Arc<Inner>);

struct Inner {
    requester: Requester,
    settings: AuthSettings,
    terms: Terms,
    verdict_keys: KeySet,
    token_keys: Option<KeySet>,
    known: VerdictCache,
    /// A permit for each question under way.
    places: Arc<Semaphore>,
    asking: Mutex<HashMap<Hash, Asking>>,
    marks: RevocationLog,
    breaker: Breaker,
    asked: AtomicU64,
    revocations: AtomicU64,
    forged: AtomicU64,
}

/// What an authenticator has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthCounts {
    /// Verdicts taken from the cache.
    pub hits: u64,
    /// Questions to the auth service.
    pub asked: u64,
    /// Verdicts kept.
    pub kept: u64,
    /// Revocations heard.
    pub revocations: u64,
    /// Messages on the revocation subject that were no revocations.
    pub forged_revocations: u64,
}

impl Authenticator {
    /// Reads the keys; asks over `requester`.
    pub fn new(requester: Requester, settings: AuthSettings) -> Result<Self, KeySetError> {
        let keys = |name, text: &str| KeySet::parse(name, text, &settings.algorithms);
        let token_keys = match settings.token_keys.is_empty() {
            true => None,
            false => Some(keys("token_keys", &settings.token_keys)?),
        };
        let terms = Terms {
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
            max_age_s: settings.verdict_max_age_ms.div_ceil(1_000),
            leeway_s: settings.leeway_ms.div_ceil(1_000),
        };
        let verdict_keys = keys("verdict_keys", &settings.verdict_keys)?;
        let known = VerdictCache::new(
            settings.cache_entries,
            Duration::from_millis(settings.cache_ttl_ms),
        );
        let places = Arc::new(Semaphore::new(settings.in_flight));
        let marks = RevocationLog::new(Duration::from_secs(terms.max_age_s + terms.leeway_s));
        let breaker = Breaker::new("the auth service", {
            let (requester, subject) = (requester.clone(), settings.verify_subject.clone());
            let limit = Duration::from_millis(settings.timeout_ms / 4);
            move || answers(requester.clone(), subject.clone(), limit)
        });
        let count = AtomicU64::default;
        Ok(Self(Arc::new(Inner {
            requester,
            settings,
            terms,
            verdict_keys,
            token_keys,
            known,
            places,
            asking: Mutex::default(),
            marks,
            breaker,
            asked: count(),
            revocations: count(),
            forged: count(),
        })))
    }

    /// What tells whether the auth service answers.
    pub fn breaker(&self) -> &Breaker {
        &self.0.breaker
    }

    /// Asks once, whatever the answer is: where this worker may not ask, the server says so.
    pub async fn knock(&self) {
        let limit = Duration::from_millis(self.0.settings.timeout_ms / 4);
        let _ = answers(
            self.0.requester.clone(),
            self.0.settings.verify_subject.clone(),
            limit,
        )
        .await;
    }

    /// What was counted so far.
    pub fn counts(&self) -> AuthCounts {
        AuthCounts {
            hits: self.0.known.hits(),
            asked: self.0.asked.load(Ordering::Relaxed),
            kept: self.0.known.count(),
            revocations: self.0.revocations.load(Ordering::Relaxed),
            forged_revocations: self.0.forged.load(Ordering::Relaxed),
        }
    }

    /// Subscribes to what the auth service takes back. Gives the subscription's id, and what hears it while it runs; `gaps`
    /// counts the moments in which something of it may have been missed: then nothing that was kept is believed any more.
    pub async fn hear(
        &self,
        mut gaps: watch::Receiver<u64>,
    ) -> Result<(u64, impl Future<Output = ()> + Send + use<>), SubscribeError> {
        // In no queue group: every worker has to hear it.
        let subject = self.0.settings.revoked_subject.clone();
        let mut heard = self.0.requester.client().subscribe(subject).await?;
        let (inner, subscription) = (self.0.clone(), heard.sid());
        gaps.mark_unchanged();
        let hearing = async move {
            loop {
                tokio::select! {
                    biased;
                    missed = gaps.changed() => match missed {
                        Ok(()) => inner.forget_all(),
                        Err(_) => return,
                    },
                    message = heard.next() => match message {
                        Some(message) => inner.revoke(&message.payload),
                        None => return,
                    },
                }
            }
        };
        Ok((subscription, hearing))
    }

    /// Who the bearer of `token` is.
    pub async fn verify(
        &self,
        token: &str,
        trace: Option<&TraceContext>,
    ) -> Result<Principal, AuthError> {
        let hash = sha256(token.as_bytes());
        if let Some(principal) = self.0.known.kept(&hash) {
            return Ok(principal);
        }
        if self.0.known.was_refused(&hash) || !self.0.may_be_good(token) {
            return Err(AuthError::Unauthenticated);
        }
        self.ask_once(hash, token, trace).await
    }

    /// Joins the question about this token that is under way, or begins it. It runs on its own, so a caller who gives
    /// up does not end it for the others.
    fn ask_once(&self, hash: Hash, token: &str, trace: Option<&TraceContext>) -> Asking {
        let mut asking = self.0.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = asking.get(&hash) {
            return under_way.clone();
        }
        // One that ended since the cache was looked at has left its verdict there before it was no longer under way.
        if let Some(principal) = self.0.known.kept(&hash) {
            return future::ready(Ok(principal)).boxed().shared();
        }
        let Ok(place) = self.0.places.clone().try_acquire_owned() else {
            return future::ready(Err(AuthError::Busy)).boxed().shared();
        };
        let (inner, token) = (self.0.clone(), token.to_owned());
        let trace = trace.map(TraceContext::header);
        let question = tokio::spawn(async move {
            let answer = inner.settle(hash, &token, trace).await;
            drop(place);
            inner
                .asking
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&hash);
            answer
        });
        let shared = question
            .map(|ended| ended.unwrap_or(Err(AuthError::Unavailable(CallError::TimedOut))))
            .boxed()
            .shared();
        asking.insert(hash, shared.clone());
        shared
    }
}

impl Inner {
    /// Whether the token stands a local check, so that garbage costs no round trip.
    fn may_be_good(&self, token: &str) -> bool {
        let demands = Demands {
            issuer: None,
            audience: None,
            typ: None,
            expires: true,
            leeway_s: self.settings.leeway_ms.div_ceil(1_000),
        };
        self.token_keys
            .as_ref()
            .is_none_or(|keys| keys.verify::<serde_json::Value>(token, &demands).is_some())
    }

    /// Asks until the verdict is one that nothing heard meanwhile can change, and keeps it.
    async fn settle(
        &self,
        hash: Hash,
        token: &str,
        trace: Option<String>,
    ) -> Result<Principal, AuthError> {
        for _ in 0..TRIES {
            let asked = Instant::now();
            let asked_about = self.ask(token, trace.clone()).await;
            if let Err(AuthError::Unauthenticated) = asked_about {
                self.known.refuse(hash);
            }
            let Verdict {
                principal,
                issued_at,
            } = asked_about?;
            match self.marks.standing(&principal, asked, issued_at) {
                Standing::Revoked => return Err(AuthError::Unauthenticated),
                Standing::AskAgain => continue,
                Standing::Good => {}
            }
            self.known.keep(hash, &principal);
            // One that was heard since then has looked for it in the cache before it was there.
            match self.marks.standing(&principal, asked, issued_at) {
                Standing::Good => return Ok(principal),
                Standing::AskAgain | Standing::Revoked => self.known.forget(&hash),
            }
        }
        Err(AuthError::Unavailable(CallError::TimedOut))
    }

    /// Takes every verdict out of the cache that a revocation is about.
    fn revoke(&self, message: &[u8]) {
        let revocation = std::str::from_utf8(message).ok().and_then(|text| {
            let Terms {
                issuer,
                audience,
                leeway_s,
                ..
            } = &self.terms;
            Revocation::read(
                &self.verdict_keys,
                issuer,
                audience,
                *leeway_s,
                text,
                unix_now(),
            )
        });
        let Some(revocation) = revocation else {
            let forged = self.forged.fetch_add(1, Ordering::Relaxed) + 1;
            if forged.is_power_of_two() {
                warn!(
                    forged,
                    "a message on the revocation subject is not signed by the auth service, or says nothing"
                );
            }
            return;
        };
        self.marks.add(revocation.clone());
        self.known
            .forget_those(|principal| revocation.is_about(principal));
        self.revocations.fetch_add(1, Ordering::Relaxed);
        info!("a revocation was heard");
    }

    /// Something may have been missed.
    fn forget_all(&self) {
        self.marks.missed();
        self.known.forget_all();
    }

    async fn ask(&self, token: &str, trace: Option<String>) -> Result<Verdict, AuthError> {
        let attempt = self
            .breaker
            .admit()
            .ok_or(AuthError::Unavailable(CallError::KnownUnavailable))?;
        self.asked.fetch_add(1, Ordering::Relaxed);
        let deadline =
            tokio::time::Instant::now() + Duration::from_millis(self.settings.timeout_ms);
        let mut headers = HeaderMap::new();
        if let Some(trace) = trace {
            headers.insert(TRACEPARENT, trace);
        }
        let body = serde_json::json!({ "token": token }).to_string();
        let subject = self.settings.verify_subject.clone();
        let asked = self
            .requester
            .ask(subject, headers, body.into(), deadline)
            .await;
        match asked {
            Ok(_) => attempt.answered(),
            Err(_) => attempt.unanswered(),
        }
        let answer = asked.map_err(AuthError::Unavailable)?;
        let answer = std::str::from_utf8(&answer.payload).map_err(|_| AuthError::Unbelievable)?;
        verdict::read(&self.verdict_keys, &self.terms, answer, token, unix_now()).map_err(|error| {
            match error {
                VerdictError::Inactive => AuthError::Unauthenticated,
                VerdictError::Unbelievable => AuthError::Unbelievable,
            }
        })
    }
}

/// Whether a question is answered, whatever the answer is: about a token that nobody has.
async fn answers(requester: Requester, subject: String, limit: Duration) -> bool {
    let question = serde_json::json!({ "token": "" }).to_string().into();
    requester
        .ask(
            subject,
            HeaderMap::new(),
            question,
            tokio::time::Instant::now() + limit,
        )
        .await
        .is_ok()
}
