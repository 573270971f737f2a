//! Asks the auth service about tokens: one question at a time for a token, and none while its
//! verdict is cached.

use super::claims::{Demands, JwtError};
use super::key_source::{KeySource, Reload};
use super::keys::KeySetError;
use super::revocation::{Revocation, RevocationLog, Standing};
use super::verdict::{self, Terms, Verdict, VerdictError};
use super::verdict_cache::{Hash, VerdictCache, unix_now};
use super::{AuthSettings, Principal};
use crate::breaker::Breaker;
use crate::requester::{CallError, Requester};
use crate::seal::sha256;
use crate::wire::TraceContext;
use crate::wire::header::TRACEPARENT;
use async_nats::{HeaderMap, SubscribeError, Subscriber};
use futures::future::{self, BoxFuture, Shared};
use futures::{FutureExt as _, StreamExt as _};
use std::collections::HashMap;
use std::iter;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};
use tracing::{error, info, warn};

/// Why a caller is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The token is not valid.
    #[error("the token is bad, expired or revoked")]
    Unauthenticated,
    /// The auth service gave no answer in time.
    #[error("the auth service does not answer: {0}")]
    Unavailable(CallError),
    /// The maximum number of questions is under way.
    #[error("too many questions to the auth service are under way")]
    Busy,
    /// The auth service's answer cannot be trusted.
    #[error(
        "the auth service's verdict is unsigned, stale, about another token, or for another service"
    )]
    Unbelievable,
}

/// How often the worker asks about a token, if a revocation that arrives in the meantime could
/// change the verdict.
const ASK_ATTEMPTS_MAX: usize = 3;

/// How often the files of keys are read again.
const KEY_RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// The pause between two looks for an auth service that was not there at the start.
const MISSING_PAUSE: Duration = Duration::from_secs(2);

/// The pause between two attempts to subscribe to revocations again after the client ended.
const SUBSCRIBE_PAUSE: Duration = Duration::from_millis(50);

/// The answer to a question under way, shared by all requests with the same token.
type PendingAnswer = Shared<BoxFuture<'static, Result<Principal, AuthError>>>;

/// Verifies callers' tokens.
#[derive(Clone)]
pub struct Authenticator(Arc<Inner>);

struct Inner {
    requester: Requester,
    settings: AuthSettings,
    terms: Terms,
    verdict_keys: KeySource,
    token_keys: Option<KeySource>,
    verdict_cache: VerdictCache,
    /// One permit for each question under way.
    permits: Arc<Semaphore>,
    /// The questions under way.
    in_flight: Mutex<HashMap<Hash, PendingAnswer>>,
    revocation_log: RevocationLog,
    breaker: Breaker,
    /// Whether nothing listened at the first question, and no service has answered since.
    is_missing: AtomicBool,
    asked: AtomicU64,
    revocations: AtomicU64,
    forged_revocations: AtomicU64,
    key_reloads: AtomicU64,
}

/// The counters of an authenticator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthCounts {
    /// Verdicts taken from the cache.
    pub hits: u64,
    /// Questions to the auth service.
    pub asked: u64,
    /// Verdicts in the cache.
    pub kept: u64,
    /// Revocations received.
    pub revocations: u64,
    /// Messages on the revocation subject that were not valid revocations.
    pub forged_revocations: u64,
    /// How often the keys of a changed file were put in force.
    pub key_reloads: u64,
}

impl Authenticator {
    /// Returns an authenticator that asks over `requester`.
    ///
    /// # Errors
    ///
    /// Fails if the keys or `algorithms` of the settings cannot be used.
    pub fn new(requester: Requester, settings: AuthSettings) -> Result<Self, KeySetError> {
        let verdict_keys = verdict_keys(&settings)?;
        let token_keys = token_keys(&settings)?;

        let terms = Terms {
            issuer: settings.issuer.clone(),
            token_issuers: settings.token_issuers.clone(),
            audience: settings.audience.clone(),
            max_age_s: settings.verdict_max_age_ms.div_ceil(1_000),
            leeway_s: settings.leeway_ms.div_ceil(1_000),
        };
        let revocation_life = Duration::from_secs(terms.max_age_s + terms.leeway_s);
        let cache_ttl = Duration::from_millis(settings.cache_ttl_ms);

        let breaker = Breaker::new("the auth service", {
            let requester = requester.clone();
            let subject = settings.verify_subject.clone();
            let limit = probe_limit(&settings);
            move || {
                let probe = probe(requester.clone(), subject.clone(), limit);
                async move { probe.await.is_ok() }
            }
        });

        Ok(Self(Arc::new(Inner {
            requester,
            terms,
            verdict_keys,
            token_keys,
            verdict_cache: VerdictCache::new(settings.cache_entries, cache_ttl),
            permits: Arc::new(Semaphore::new(settings.in_flight)),
            in_flight: Mutex::default(),
            revocation_log: RevocationLog::new(revocation_life),
            breaker,
            is_missing: AtomicBool::default(),
            asked: AtomicU64::default(),
            revocations: AtomicU64::default(),
            forged_revocations: AtomicU64::default(),
            key_reloads: AtomicU64::default(),
            settings,
        })))
    }

    /// The circuit breaker of the auth service.
    pub fn breaker(&self) -> &Breaker {
        &self.0.breaker
    }

    /// Asks once, and remembers if nothing listens. If this worker may not ask, the server reports a
    /// permissions violation on the connection.
    ///
    /// # Errors
    ///
    /// Fails if the question was not sent because the connection is down.
    pub async fn knock(&self) -> Result<(), CallError> {
        match self.ask_about_nobody().await {
            Err(CallError::NotConnected) => Err(CallError::NotConnected),
            Err(CallError::NoResponders) => {
                self.0.is_missing.store(true, Ordering::Relaxed);
                warn!("nothing answers on the subject of the auth service");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Returns whether no auth service has been there since the start, or none answers now, as far
    /// as this worker knows.
    pub fn is_silent(&self) -> bool {
        self.0.breaker.is_open() || self.0.is_missing.load(Ordering::Relaxed)
    }

    /// Asks now and then whether an auth service has come, while there was none at the start. Never
    /// returns.
    pub async fn watch_for_service(self) {
        loop {
            tokio::time::sleep(MISSING_PAUSE).await;
            if self.0.is_missing.load(Ordering::Relaxed) && self.is_answering().await {
                self.0.is_missing.store(false, Ordering::Relaxed);
                info!("the auth service answers");
            }
        }
    }

    /// Asks one question, and returns whether the auth service answers.
    pub async fn is_answering(&self) -> bool {
        self.ask_about_nobody().await.is_ok()
    }

    async fn ask_about_nobody(&self) -> Result<(), CallError> {
        let requester = self.0.requester.clone();
        let subject = self.0.settings.verify_subject.clone();

        probe(requester, subject, probe_limit(&self.0.settings)).await
    }

    /// Returns the counters.
    pub fn counts(&self) -> AuthCounts {
        AuthCounts {
            hits: self.0.verdict_cache.hits(),
            asked: self.0.asked.load(Ordering::Relaxed),
            kept: self.0.verdict_cache.count(),
            revocations: self.0.revocations.load(Ordering::Relaxed),
            forged_revocations: self.0.forged_revocations.load(Ordering::Relaxed),
            key_reloads: self.0.key_reloads.load(Ordering::Relaxed),
        }
    }

    /// Returns why a file of keys is unusable now, or `None` if all are usable. The keys that were
    /// read from the file before stay in force.
    pub fn key_error(&self) -> Option<String> {
        self.0.key_sources().find_map(KeySource::error)
    }

    /// Reads the files of keys at regular intervals, and puts their keys in force when they change.
    /// Never returns.
    pub async fn reload_keys(self) {
        loop {
            tokio::time::sleep(KEY_RELOAD_INTERVAL).await;

            // On a thread that may block, because a file may be on a slow network.
            let inner = self.0.clone();
            let reloaded = tokio::task::spawn_blocking(move || inner.reload_keys()).await;
            if let Err(error) = reloaded {
                error!(%error, "cannot read the files of keys again");
            }
        }
    }

    /// Subscribes to revocations. The returned future handles them while it runs.
    ///
    /// `gaps` counts the moments in which a revocation may have been missed; each of them empties
    /// the verdict cache.
    pub async fn hear_revocations(
        &self,
        mut gaps: watch::Receiver<u64>,
    ) -> Result<impl Future<Output = ()> + Send + use<>, SubscribeError> {
        let inner = self.0.clone();
        let mut messages = inner.subscribe_to_revocations().await?;
        gaps.mark_unchanged();

        Ok(async move {
            loop {
                tokio::select! {
                    biased;
                    gap = gaps.changed() => match gap {
                        Ok(()) => inner.forget_all(),
                        Err(_) => return,
                    },
                    message = messages.next() => match message {
                        Some(message) => inner.revoke(&message.payload),
                        None => {
                            inner.forget_all();
                            messages = inner.subscribe_again().await;
                        }
                    },
                }
            }
        })
    }

    /// Returns the caller that `token` identifies: from the cache, or from the auth service.
    pub async fn verify(
        &self,
        token: &str,
        trace: Option<&TraceContext>,
    ) -> Result<Principal, AuthError> {
        let hash = sha256(token.as_bytes());
        if let Some(principal) = self.0.verdict_cache.get(&hash) {
            return Ok(principal);
        }
        if self.0.verdict_cache.is_refused(&hash) || !self.0.passes_local_check(token) {
            return Err(AuthError::Unauthenticated);
        }

        self.ask_once(hash, token, trace).await
    }

    /// Joins the question about this token that is under way, or starts one. The question runs as a
    /// task of its own, so a caller that gives up does not end it for the others.
    fn ask_once(&self, hash: Hash, token: &str, trace: Option<&TraceContext>) -> PendingAnswer {
        let mut in_flight = self.0.lock_in_flight();
        if let Some(pending) = in_flight.get(&hash) {
            return pending.clone();
        }
        // A question may have ended after the caller read the cache. It stores its verdict there
        // before it leaves `in_flight`.
        if let Some(principal) = self.0.verdict_cache.get(&hash) {
            return future::ready(Ok(principal)).boxed().shared();
        }
        let Ok(permit) = self.0.permits.clone().try_acquire_owned() else {
            return future::ready(Err(AuthError::Busy)).boxed().shared();
        };

        let inner = self.0.clone();
        let token = token.to_owned();
        let trace = trace.map(TraceContext::header);
        let question = tokio::spawn(async move {
            // A panic must not leave the question in `in_flight`, because nobody could ask about
            // this token again.
            let answer = AssertUnwindSafe(inner.fetch_verdict(hash, &token, trace))
                .catch_unwind()
                .await
                .unwrap_or(Err(AuthError::Unavailable(CallError::TimedOut)));
            drop(permit);
            inner.lock_in_flight().remove(&hash);
            answer
        });

        let pending = question
            .map(|ended| ended.unwrap_or(Err(AuthError::Unavailable(CallError::TimedOut))))
            .boxed()
            .shared();
        in_flight.insert(hash, pending.clone());
        pending
    }
}

impl Inner {
    fn lock_in_flight(&self) -> std::sync::MutexGuard<'_, HashMap<Hash, PendingAnswer>> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the token passes the check with `token_keys`, so that garbage costs no round
    /// trip. True if there are no such keys.
    fn passes_local_check(&self, token: &str) -> bool {
        let demands = Demands {
            issuer: None,
            audience: None,
            typ: None,
            expires: true,
            leeway_s: self.settings.leeway_ms.div_ceil(1_000),
        };

        self.token_keys
            .as_ref()
            .is_none_or(|keys| keys.current().verify(token, &demands, unix_now()).is_ok())
    }

    fn key_sources(&self) -> impl Iterator<Item = &KeySource> {
        iter::once(&self.verdict_keys).chain(&self.token_keys)
    }

    /// Reads each file of keys again.
    fn reload_keys(&self) {
        for source in self.key_sources() {
            let setting = source.setting();
            match source.reload() {
                Reload::Unchanged => {}
                Reload::Replaced { keys, removed } => {
                    if removed {
                        // The removed key may have signed any of the cached verdicts.
                        self.forget_all();
                    }

                    self.key_reloads.fetch_add(1, Ordering::Relaxed);
                    info!(
                        keys,
                        "the keys of auth.{setting} have changed and are in force"
                    );
                }
                Reload::Failed(error) => {
                    error!(
                        error,
                        "auth.{setting} cannot be used: its former keys stay in force"
                    );
                }
            }
        }
    }

    /// Asks until no revocation that arrived in the meantime can change the verdict, and caches the
    /// verdict.
    async fn fetch_verdict(
        &self,
        hash: Hash,
        token: &str,
        trace: Option<String>,
    ) -> Result<Principal, AuthError> {
        for _ in 0..ASK_ATTEMPTS_MAX {
            let asked_at = Instant::now();
            let answer = self.ask(token, trace.clone()).await;
            if let Err(AuthError::Unauthenticated) = answer {
                self.verdict_cache.refuse(hash);
            }
            let Verdict {
                principal,
                issued_at,
            } = answer?;

            let standing = || {
                self.revocation_log
                    .standing(&principal, asked_at, issued_at)
            };
            match standing() {
                Standing::Revoked => return Err(AuthError::Unauthenticated),
                Standing::AskAgain => continue,
                Standing::Good => {}
            }

            self.verdict_cache.insert(hash, &principal);
            // A revocation may have arrived since the first check. It searched the cache before the
            // verdict was there.
            match standing() {
                Standing::Good => return Ok(principal),
                Standing::AskAgain | Standing::Revoked => self.verdict_cache.remove(&hash),
            }
        }

        Err(AuthError::Unavailable(CallError::TimedOut))
    }

    /// Handles a message on the revocation subject: removes every verdict that it revokes from the
    /// cache.
    fn revoke(&self, message: &[u8]) {
        let revocation = match self.read_revocation(message) {
            Ok(revocation) => revocation,
            Err(error) => {
                let forged = self.forged_revocations.fetch_add(1, Ordering::Relaxed) + 1;
                if forged.is_power_of_two() {
                    warn!(
                        %error,
                        forged, "ignored a message on the revocation subject"
                    );
                }
                return;
            }
        };

        self.revocation_log.add(revocation.clone());
        self.verdict_cache
            .remove_if(|principal| revocation.is_about(principal));
        self.revocations.fetch_add(1, Ordering::Relaxed);
        info!("received a revocation");
    }

    fn read_revocation(&self, message: &[u8]) -> Result<Revocation, JwtError> {
        let text = std::str::from_utf8(message).map_err(|_| JwtError::Malformed)?;

        Revocation::read(
            &self.verdict_keys.current(),
            &self.terms.issuer,
            &self.terms.audience,
            self.terms.leeway_s,
            text,
            unix_now(),
        )
    }

    /// Subscribes to revocations.
    async fn subscribe_to_revocations(&self) -> Result<Subscriber, SubscribeError> {
        // No queue group, because every worker needs every revocation.
        let subject = self.settings.revoked_subject.clone();
        self.requester.client().subscribe(subject).await
    }

    /// Subscribes to revocations again, as soon as the client that ended is replaced.
    async fn subscribe_again(&self) -> Subscriber {
        loop {
            tokio::time::sleep(SUBSCRIBE_PAUSE).await;
            if !self.requester.is_connected() {
                continue;
            }

            if let Ok(messages) = self.subscribe_to_revocations().await {
                // A cached verdict may have been revoked before this subscription began.
                self.forget_all();
                return messages;
            }
        }
    }

    /// Drops every cached verdict, because a revocation may have been missed.
    fn forget_all(&self) {
        self.revocation_log.add_gap();
        self.verdict_cache.clear();
    }

    /// Sends one question to the auth service and checks its answer.
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
        let reply = self
            .requester
            .ask(subject, headers, body.into(), deadline)
            .await;
        match reply {
            Ok(_) => {
                self.is_missing.store(false, Ordering::Relaxed);
                attempt.answered();
            }
            Err(_) => attempt.unanswered(),
        }

        let reply = reply.map_err(AuthError::Unavailable)?;
        self.read_verdict(&reply.payload, token)
            .map_err(|error| match error {
                VerdictError::Inactive => AuthError::Unauthenticated,
                VerdictError::Unbelievable(error) => {
                    warn!(%error, "refused a verdict of the auth service");
                    AuthError::Unbelievable
                }
            })
    }

    fn read_verdict(&self, answer: &[u8], token: &str) -> Result<Verdict, VerdictError> {
        let answer = std::str::from_utf8(answer).map_err(|_| JwtError::Malformed)?;
        let keys = self.verdict_keys.current();

        verdict::read(&keys, &self.terms, answer, token, unix_now())
    }
}

impl AuthSettings {
    /// Returns what is wrong with the keys, if they cannot be used. Reads their files.
    pub fn key_problems(&self) -> Vec<String> {
        let verdict_keys = verdict_keys(self).err();
        let token_keys = token_keys(self).err();

        [verdict_keys, token_keys]
            .into_iter()
            .flatten()
            .map(|error| error.to_string())
            .collect()
    }
}

fn verdict_keys(settings: &AuthSettings) -> Result<KeySource, KeySetError> {
    let algorithms = &settings.algorithms;
    if settings.verdict_keys.is_empty() {
        KeySource::file("verdict_keys_file", &settings.verdict_keys_file, algorithms)
    } else {
        KeySource::inline("verdict_keys", &settings.verdict_keys, algorithms)
    }
}

/// Returns the keys of callers' tokens, if the settings name any.
fn token_keys(settings: &AuthSettings) -> Result<Option<KeySource>, KeySetError> {
    let algorithms = &settings.algorithms;
    if !settings.token_keys.is_empty() {
        KeySource::inline("token_keys", &settings.token_keys, algorithms).map(Some)
    } else if !settings.token_keys_file.as_os_str().is_empty() {
        KeySource::file("token_keys_file", &settings.token_keys_file, algorithms).map(Some)
    } else {
        Ok(None)
    }
}

/// The time limit for the answer to a probe.
fn probe_limit(settings: &AuthSettings) -> Duration {
    Duration::from_millis(settings.timeout_ms / 4)
}

/// Asks about the empty token. Any answer counts as a success.
async fn probe(requester: Requester, subject: String, limit: Duration) -> Result<(), CallError> {
    let question = serde_json::json!({ "token": "" }).to_string().into();
    let deadline = tokio::time::Instant::now() + limit;

    requester
        .ask(subject, HeaderMap::new(), question, deadline)
        .await
        .map(drop)
}
