//! Asking the auth service: at most once at a time for one token, and not again while its verdict is fresh.

use super::Principal;
use super::keys::{Demands, KeyFault, KeySet};
use super::revocation::{Marks, Revocation, Standing};
use super::verdict::{self, Terms, Verdict, VerdictFault};
use crate::breaker::Breaker;
use crate::exchange::{CallFault, Exchange};
use crate::seal::sha256;
use crate::wire::TraceContext;
use crate::wire::header::TRACEPARENT;
use async_nats::{HeaderMap, SubscribeError};
use futures::future::{self, BoxFuture, Shared};
use futures::{FutureExt as _, StreamExt as _};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, watch};
use tracing::{info, warn};

/// How callers are verified.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// The subject on which the auth service is asked.
    pub verify_subject: String,
    /// The subject on which it tells what it takes back.
    pub revoked_subject: String,
    /// Who signs verdicts: their `iss`.
    pub issuer: String,
    /// For whom verdicts are: their `aud`.
    pub audience: String,
    /// The public keys of verdicts: the text of a JWK set (RFC 7517).
    pub verdict_keys: String,
    /// The public keys of callers' tokens, as a JWK set, where those are JWTs: a token that they do not fit is refused
    /// without asking. Empty: every token is asked about.
    pub token_keys: String,
    /// The allowed signature algorithms, of EdDSA, ES256 and RS256.
    pub algorithms: Vec<String>,
    /// How long a verdict is kept, in milliseconds; 0 keeps none.
    pub cache_ttl_ms: u64,
    /// How many verdicts are kept at most.
    pub cache_entries: usize,
    /// How old a verdict may be when it arrives, in milliseconds.
    pub verdict_max_age_ms: u64,
    /// How far clocks may differ, in milliseconds.
    pub leeway_ms: u64,
    /// How long to wait for the auth service, in milliseconds.
    pub timeout_ms: u64,
    /// How many questions to it may be under way: one goes on after its caller has given up.
    pub in_flight: usize,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            verify_subject: "auth.v1.verify".into(),
            revoked_subject: "auth.v1.revoked".into(),
            issuer: String::new(),
            audience: "gofavorites".into(),
            verdict_keys: String::new(),
            token_keys: String::new(),
            algorithms: vec!["EdDSA".into(), "ES256".into(), "RS256".into()],
            cache_ttl_ms: 30_000,
            cache_entries: 100_000,
            verdict_max_age_ms: 30_000,
            leeway_ms: 5_000,
            timeout_ms: 2_000,
            in_flight: 1_024,
        }
    }
}

/// Why a caller is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthFault {
    /// The token is not good.
    #[error("the token is bad, expired or revoked")]
    Unauthenticated,
    /// The auth service gave no answer in time.
    #[error("the auth service does not answer: {0}")]
    Unavailable(CallFault),
    /// As many questions are under way as may be.
    #[error("too many questions to the auth service are under way")]
    Busy,
    /// The auth service's answer is not to be believed.
    #[error("the auth service's verdict is unsigned, stale, or not about this token and for this service")]
    Unbelievable,
}

/// How often is asked where what is heard meanwhile could change the verdict.
const TRIES: usize = 3;

/// How long a token stays refused that the auth service calls inactive, so that a flood of it costs a round trip now and
/// then, and not each. Short, since the service may come to know the token: it is asked anew after that.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// How many such tokens are known at most.
const REFUSED_MOST: usize = 10_000;

type Hash = [u8; 32];
type Asking = Shared<BoxFuture<'static, Result<Principal, AuthFault>>>;

/// Verifies callers' tokens.
#[derive(Clone)]
pub struct Authenticator(Arc<Inner>);

struct Inner {
    exchange: Exchange,
    settings: AuthSettings,
    terms: Terms,
    verdict_keys: KeySet,
    token_keys: Option<KeySet>,
    cache: Cache<Hash, (Principal, Instant)>,
    /// Tokens called inactive a moment ago, and until when they are not asked about again.
    refused: Cache<Hash, Instant>,
    /// A permit for each question under way.
    places: Arc<Semaphore>,
    asking: Mutex<HashMap<Hash, Asking>>,
    marks: Marks,
    breaker: Breaker,
    hits: AtomicU64,
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
    /// Reads the keys; asks over `exchange`.
    pub fn new(exchange: Exchange, settings: AuthSettings) -> Result<Self, KeyFault> {
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
        let (cache, refused) = (Cache::new(settings.cache_entries), Cache::new(REFUSED_MOST));
        let places = Arc::new(Semaphore::new(settings.in_flight));
        let marks = Marks::new(Duration::from_secs(terms.max_age_s + terms.leeway_s));
        let breaker = Breaker::new("the auth service", {
            let (exchange, subject) = (exchange.clone(), settings.verify_subject.clone());
            let limit = Duration::from_millis(settings.timeout_ms / 4);
            move || answers(exchange.clone(), subject.clone(), limit)
        });
        let count = AtomicU64::default;
        Ok(Self(Arc::new(Inner {
            exchange,
            settings,
            terms,
            verdict_keys,
            token_keys,
            cache,
            refused,
            places,
            asking: Mutex::default(),
            marks,
            breaker,
            hits: count(),
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
        let _ = answers(self.0.exchange.clone(), self.0.settings.verify_subject.clone(), limit).await;
    }

    /// What was counted so far.
    pub fn counts(&self) -> AuthCounts {
        AuthCounts {
            hits: self.0.hits.load(Ordering::Relaxed),
            asked: self.0.asked.load(Ordering::Relaxed),
            kept: self.0.cache.len() as u64,
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
        let mut heard = self.0.exchange.client().subscribe(subject).await?;
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
    pub async fn verify(&self, token: &str, trace: Option<&TraceContext>) -> Result<Principal, AuthFault> {
        let hash = sha256(token.as_bytes());
        if let Some(principal) = self.0.kept(&hash) {
            return Ok(principal);
        }
        if self.0.was_refused(&hash) || !self.0.may_be_good(token) {
            return Err(AuthFault::Unauthenticated);
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
        if let Some(principal) = self.0.kept(&hash) {
            return future::ready(Ok(principal)).boxed().shared();
        }
        let Ok(place) = self.0.places.clone().try_acquire_owned() else {
            return future::ready(Err(AuthFault::Busy)).boxed().shared();
        };
        let (inner, token) = (self.0.clone(), token.to_owned());
        let trace = trace.map(TraceContext::header);
        let question = tokio::spawn(async move {
            let answer = inner.settle(hash, &token, trace).await;
            drop(place);
            inner.asking.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash);
            answer
        });
        let shared =
            question.map(|ended| ended.unwrap_or(Err(AuthFault::Unavailable(CallFault::TimedOut)))).boxed().shared();
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
        self.token_keys.as_ref().is_none_or(|keys| keys.verify::<serde_json::Value>(token, &demands).is_some())
    }

    /// Asks until the verdict is one that nothing heard meanwhile can change, and keeps it.
    async fn settle(&self, hash: Hash, token: &str, trace: Option<String>) -> Result<Principal, AuthFault> {
        for _ in 0..TRIES {
            let asked = Instant::now();
            let asked_about = self.ask(token, trace.clone()).await;
            if let Err(AuthFault::Unauthenticated) = asked_about {
                self.refuse(hash);
            }
            let Verdict { principal, issued_at } = asked_about?;
            match self.marks.standing(&principal, asked, issued_at) {
                Standing::Revoked => return Err(AuthFault::Unauthenticated),
                Standing::AskAgain => continue,
                Standing::Good => {}
            }
            self.keep(hash, &principal);
            // One that was heard since then has looked for it in the cache before it was there.
            match self.marks.standing(&principal, asked, issued_at) {
                Standing::Good => return Ok(principal),
                Standing::AskAgain | Standing::Revoked => _ = self.cache.remove(&hash),
            }
        }
        Err(AuthFault::Unavailable(CallFault::TimedOut))
    }

    /// Takes every verdict out of the cache that a revocation is about.
    fn revoke(&self, message: &[u8]) {
        let revocation = std::str::from_utf8(message).ok().and_then(|text| {
            let Terms { issuer, audience, leeway_s, .. } = &self.terms;
            Revocation::read(&self.verdict_keys, issuer, audience, *leeway_s, text, unix_now())
        });
        let Some(revocation) = revocation else {
            let forged = self.forged.fetch_add(1, Ordering::Relaxed) + 1;
            if forged.is_power_of_two() {
                warn!(forged, "a message on the revocation subject is not signed by the auth service, or says nothing");
            }
            return;
        };
        self.marks.add(revocation.clone());
        self.cache.retain(|_, (principal, _)| !revocation.is_about(principal));
        self.revocations.fetch_add(1, Ordering::Relaxed);
        info!("a revocation was heard");
    }

    /// Something may have been missed.
    fn forget_all(&self) {
        self.marks.missed();
        self.cache.clear();
    }

    async fn ask(&self, token: &str, trace: Option<String>) -> Result<Verdict, AuthFault> {
        let attempt = self.breaker.admit().ok_or(AuthFault::Unavailable(CallFault::KnownAway))?;
        self.asked.fetch_add(1, Ordering::Relaxed);
        let deadline = tokio::time::Instant::now() + Duration::from_millis(self.settings.timeout_ms);
        let mut headers = HeaderMap::new();
        if let Some(trace) = trace {
            headers.insert(TRACEPARENT, trace);
        }
        let body = serde_json::json!({ "token": token }).to_string();
        let subject = self.settings.verify_subject.clone();
        let asked = self.exchange.ask(subject, headers, body.into(), deadline).await;
        match asked {
            Ok(_) => attempt.answered(),
            Err(_) => attempt.unanswered(),
        }
        let answer = asked.map_err(AuthFault::Unavailable)?;
        let answer = std::str::from_utf8(&answer.payload).map_err(|_| AuthFault::Unbelievable)?;
        verdict::read(&self.verdict_keys, &self.terms, answer, token, unix_now()).map_err(|fault| match fault {
            VerdictFault::Inactive => AuthFault::Unauthenticated,
            VerdictFault::Unbelievable => AuthFault::Unbelievable,
        })
    }

    /// The verdict that is still good for this token.
    fn kept(&self, hash: &Hash) -> Option<Principal> {
        let (principal, until) = self.cache.get(hash)?;
        if Instant::now() < until && principal.expires_at().is_none_or(|exp| unix_now() < exp) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Some(principal);
        }
        self.cache.remove(hash);
        None
    }

    /// Whether the auth service called this token inactive a moment ago.
    fn was_refused(&self, hash: &Hash) -> bool {
        let Some(until) = self.refused.get(hash) else { return false };
        if Instant::now() < until {
            return true;
        }
        self.refused.remove(hash);
        false
    }

    fn refuse(&self, hash: Hash) {
        let life = REFUSED_FOR.min(Duration::from_millis(self.settings.cache_ttl_ms));
        self.refused.insert(hash, Instant::now() + life);
    }

    fn keep(&self, hash: Hash, principal: &Principal) {
        self.refused.remove(&hash);
        if self.settings.cache_ttl_ms > 0 {
            let until = Instant::now() + Duration::from_millis(self.settings.cache_ttl_ms);
            self.cache.insert(hash, (principal.clone(), until));
        }
    }
}

/// Whether a question is answered, whatever the answer is: about a token that nobody has.
async fn answers(exchange: Exchange, subject: String, limit: Duration) -> bool {
    let question = serde_json::json!({ "token": "" }).to_string().into();
    exchange.ask(subject, HeaderMap::new(), question, tokio::time::Instant::now() + limit).await.is_ok()
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
