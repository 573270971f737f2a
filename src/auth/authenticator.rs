//! Asking the auth service: at most once at a time for one token, and not again while its verdict is fresh.

use super::Principal;
use super::keys::{Demands, KeyFault, KeySet};
use super::verdict::{self, Terms, VerdictFault};
use crate::exchange::{CallFault, Exchange};
use crate::seal::sha256;
use crate::wire::TraceContext;
use crate::wire::header::TRACEPARENT;
use async_nats::HeaderMap;
use futures::FutureExt as _;
use futures::future::{self, BoxFuture, Shared};
use quick_cache::sync::Cache;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How callers are verified.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// The subject on which the auth service is asked.
    pub verify_subject: String,
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
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            verify_subject: "auth.v1.verify".into(),
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
    /// The auth service's answer is not to be believed.
    #[error("the auth service's verdict is unsigned, stale, or not about this token and for this service")]
    Unbelievable,
}

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
    asking: Mutex<HashMap<Hash, Asking>>,
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
        let cache = Cache::new(settings.cache_entries);
        let asking = Mutex::default();
        Ok(Self(Arc::new(Inner { exchange, settings, terms, verdict_keys, token_keys, cache, asking })))
    }

    /// Who the bearer of `token` is.
    pub async fn verify(&self, token: &str, trace: Option<&TraceContext>) -> Result<Principal, AuthFault> {
        let hash = sha256(token.as_bytes());
        if let Some(principal) = self.0.kept(&hash) {
            return Ok(principal);
        }
        if !self.0.may_be_good(token) {
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
        let (inner, token) = (self.0.clone(), token.to_owned());
        let trace = trace.map(TraceContext::header);
        let question = tokio::spawn(async move {
            let answer = inner.ask(&token, trace).await;
            if let Ok(principal) = &answer {
                inner.keep(hash, principal);
            }
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

    async fn ask(&self, token: &str, trace: Option<String>) -> Result<Principal, AuthFault> {
        let deadline = tokio::time::Instant::now() + Duration::from_millis(self.settings.timeout_ms);
        let mut headers = HeaderMap::new();
        if let Some(trace) = trace {
            headers.insert(TRACEPARENT, trace);
        }
        let body = serde_json::json!({ "token": token }).to_string();
        let subject = self.settings.verify_subject.clone();
        let answer =
            self.exchange.ask(subject, headers, body.into(), deadline).await.map_err(AuthFault::Unavailable)?;
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
            return Some(principal);
        }
        self.cache.remove(hash);
        None
    }

    fn keep(&self, hash: Hash, principal: &Principal) {
        if self.settings.cache_ttl_ms > 0 {
            let until = Instant::now() + Duration::from_millis(self.settings.cache_ttl_ms);
            self.cache.insert(hash, (principal.clone(), until));
        }
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
