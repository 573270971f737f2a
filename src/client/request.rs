//! Sends requests, and repeats writes whose outcome is unknown.

use super::error::{ClientError, Refused, parse};
use super::model::Consistency;
use super::seen::Seen;
use crate::domain::Invalid;
use crate::wire::header::{AUTHORIZATION, NATS_MSG_ID, REQUEST_ID, REQUEST_TIMEOUT_MS};
use crate::wire::{Code, Operation, RequestKey, Subjects};
use async_nats::HeaderMap;
use async_nats::client::RequestErrorKind;
use serde_json::Value;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// How long a request may take if the program does not say so.
const TIMEOUT: Duration = Duration::from_secs(10);
/// For how many attempts the time has to be enough: a worker may be killed before it replies.
const ATTEMPTS: u32 = 3;
/// The shortest time for one attempt, if there is as much.
const ATTEMPT_MIN: Duration = Duration::from_secs(2);
/// The longest time that the service accepts for one request, and so the longest for one attempt.
const ATTEMPT_MAX: Duration = Duration::from_secs(30);
/// What the round trip to the service may take in addition.
const ROUND_TRIP_ALLOWANCE: Duration = Duration::from_millis(300);
/// The pause between two attempts, unless the service asks for more.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause that the service may ask for.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Roughly what a request's headers take in addition to the token.
const HEADERS_BYTES: usize = 512;
/// The prefix of the subjects if the program does not say so.
const PREFIX: &str = "favorites";
/// Stands for the shard in the subjects of a client that asks no particular one.
const ANY_SHARD: &str = "any";

/// A client of the service, for one caller. A clone is the same client.
#[derive(Clone)]
pub struct Client {
    nats: async_nats::Client,
    subjects: Subjects,
    prefix: String,
    shard: Option<String>,
    /// Clones share it, until one of them gets another caller's.
    token: Arc<RwLock<Option<String>>>,
    request_id: Option<String>,
    pub(super) consistency: Option<Consistency>,
    limit: Limit,
    denials: Option<watch::Receiver<String>>,
    pub(super) seen: Seen,
}

/// How long requests may take.
#[derive(Clone, Copy)]
enum Limit {
    Each(Duration),
    Until(Instant),
}

impl Client {
    /// Creates a client that sends its requests over this connection, without a token. Only the
    /// operations `version` and `limits` need none.
    ///
    /// # Errors
    /// None with the default prefix; see [`with_prefix`](Self::with_prefix).
    pub fn new(nats: async_nats::Client) -> Result<Self, Invalid> {
        Ok(Self {
            nats,
            subjects: Subjects::new(PREFIX, ANY_SHARD)?,
            prefix: PREFIX.to_owned(),
            shard: None,
            token: Arc::default(),
            request_id: None,
            consistency: None,
            limit: Limit::Each(TIMEOUT),
            denials: None,
            seen: Seen::default(),
        })
    }

    /// Returns a client for the caller with this token. It has seen nothing yet.
    #[must_use]
    pub fn with_token(self, token: impl Into<String>) -> Self {
        let client = Self {
            token: Arc::default(),
            seen: Seen::default(),
            ..self
        };

        client.set_token(token);
        client
    }

    /// Replaces the token by a newer one of the same caller: for this client, for its clones, and
    /// for the [`Changes`](super::Changes) that they follow. What they have seen still counts.
    pub fn set_token(&self, token: impl Into<String>) {
        let token = Some(token.into()).filter(|token| !token.is_empty());

        *self.token.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// Returns a client that uses subjects with this prefix instead of `favorites`.
    ///
    /// # Errors
    /// The prefix is not one or more parts of letters, digits, `_` and `-`.
    pub fn with_prefix(self, prefix: &str) -> Result<Self, Invalid> {
        let shard = self.shard.as_deref().unwrap_or(ANY_SHARD);
        let subjects = Subjects::new(prefix, shard)?;

        Ok(Self {
            subjects,
            prefix: prefix.to_owned(),
            ..self
        })
    }

    /// Returns a client that asks the workers of this shard, instead of the nearest worker of any.
    ///
    /// # Errors
    /// The name is not 1 to 32 lower-case letters, digits and `-`.
    pub fn on_shard(self, shard: &str) -> Result<Self, Invalid> {
        let subjects = Subjects::new(&self.prefix, shard)?;

        Ok(Self {
            subjects,
            shard: Some(shard.to_owned()),
            ..self
        })
    }

    /// Returns a client whose requests may take this long each, repeats included. It is 10 seconds
    /// by default.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self {
            limit: Limit::Each(timeout),
            ..self
        }
    }

    /// Returns a client whose requests end at this moment at the latest.
    #[must_use]
    pub fn until(self, deadline: Instant) -> Self {
        Self {
            limit: Limit::Until(deadline),
            ..self
        }
    }

    /// Returns a client whose writes carry this request id, instead of a new one each. Use it for
    /// one write, and to repeat that write: the service executes it at most once.
    #[must_use]
    pub fn with_request_id(self, request_id: impl Into<String>) -> Self {
        Self {
            request_id: Some(request_id.into()),
            ..self
        }
    }

    /// Returns a client whose reads are this current. By default the service decides, and while the
    /// bucket is out of reach it answers from its copy.
    #[must_use]
    pub fn with_consistency(self, consistency: Consistency) -> Self {
        Self {
            consistency: Some(consistency),
            ..self
        }
    }

    /// Returns a client that ends a request at once if the NATS server does not let the user publish
    /// it. The server says so to the event callback of the connection, which has to send each subject
    /// that is refused. Without this, such a request waits until its time is up.
    #[must_use]
    pub fn with_denials(self, denials: watch::Receiver<String>) -> Self {
        Self {
            denials: Some(denials),
            ..self
        }
    }

    /// The connection to NATS.
    pub fn nats(&self) -> &async_nats::Client {
        &self.nats
    }

    /// Returns whether the client has a token.
    pub fn has_token(&self) -> bool {
        self.token().is_some()
    }

    /// Sends a read with this body, and returns the body of the reply. If no reply comes, the client
    /// sends it again while there is time. If the owner's requests come too fast, it waits as long as
    /// the service says.
    ///
    /// # Errors
    /// The service refused the request, or no reply came in time.
    pub async fn ask(&self, operation: Operation, body: &Value) -> Result<Value, ClientError> {
        self.send(operation, body, None).await
    }

    /// Sends a write with this body under a request id, and returns the body of the reply.
    ///
    /// Once the write is in doubt, the client sends it again under the same id until an answer shows
    /// what became of it. The service executes it at most once. If the owner's requests come too fast,
    /// it waits as long as the service says.
    ///
    /// # Errors
    /// The service refused the write, no worker is there, or the write is still in doubt when the
    /// time is up.
    pub async fn write(&self, operation: Operation, body: &Value) -> Result<Value, ClientError> {
        let new_id = || uuid::Uuid::now_v7().to_string();
        let request_id = self.request_id.clone().unwrap_or_else(new_id);
        if RequestKey::parse(&request_id).is_err() {
            return Err(ClientError::InvalidRequestId);
        }

        self.send(operation, body, Some(request_id)).await
    }

    async fn send(
        &self,
        operation: Operation,
        body: &Value,
        request_id: Option<String>,
    ) -> Result<Value, ClientError> {
        let deadline = self.deadline();
        let mut in_doubt = false;

        loop {
            let attempt = self.attempt(operation, body, request_id.as_deref(), deadline);
            let error = match attempt.await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };

            in_doubt |= matches!(error, ClientError::InDoubt { .. });
            let refused = error.refusal();
            // A write in doubt stays so until an answer shows what became of it.
            let is_open = in_doubt && !refused.is_some_and(Refused::settles_write);
            let too_fast = refused.and_then(Refused::too_fast_for);
            if !is_open && !error.is_late() && too_fast.is_none() {
                return Err(error);
            }

            let pause = refused.and_then(Refused::retry_after);
            let pause = pause
                .unwrap_or(RETRY_PAUSE)
                .clamp(RETRY_PAUSE, RETRY_PAUSE_MAX);
            // An earlier repeat would be refused for the same reason.
            let pause = too_fast.map_or(pause, |wait| wait.max(RETRY_PAUSE));
            if time_left(deadline) < pause + ROUND_TRIP_ALLOWANCE {
                return Err(match request_id {
                    Some(request_id) if in_doubt => ClientError::InDoubt { request_id },
                    _ => error,
                });
            }
            sleep(pause).await;
        }
    }

    /// Returns the subject of an operation.
    pub(crate) fn subject(&self, operation: Operation) -> String {
        match &self.shard {
            Some(shard) => self.subjects.request_on_shard(shard, operation),
            None => self.subjects.request(operation),
        }
    }

    fn token(&self) -> Option<String> {
        self.token
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn deadline(&self) -> Instant {
        match self.limit {
            Limit::Each(timeout) => Instant::now() + timeout,
            Limit::Until(deadline) => deadline,
        }
    }

    async fn attempt(
        &self,
        operation: Operation,
        body: &Value,
        request_id: Option<&str>,
        deadline: Instant,
    ) -> Result<Value, ClientError> {
        let subject = self.subject(operation);
        let left = time_left(deadline).saturating_sub(ROUND_TRIP_ALLOWANCE);
        let budget = (left / ATTEMPTS)
            .clamp(ATTEMPT_MIN, ATTEMPT_MAX)
            .min(left.max(ROUND_TRIP_ALLOWANCE));
        let body = body.to_string();
        let token = self.token();
        self.check_size(&body, token.as_deref())?;

        let request = async_nats::Request::new()
            .headers(headers(budget, token, request_id))
            .payload(body.into())
            .timeout(None);
        // The NATS client's own limit does not cover the time until the request is sent.
        let denied = self.denied(&subject);
        let reply = timeout(
            budget + ROUND_TRIP_ALLOWANCE,
            self.nats.send_request(subject.clone(), request),
        );
        let reply = tokio::select! {
            biased;
            reply = reply => reply,
            () = denied => return Err(ClientError::Denied { subject }),
        };
        let reply = reply
            .map_err(|_| RequestErrorKind::TimedOut)
            .and_then(|reply| reply.map_err(|error| error.kind()))
            .map_err(|kind| unanswered(kind, subject, request_id))?;
        let logged_as = reply.headers.as_ref().and_then(|all| all.get(REQUEST_ID));
        let logged_as = logged_as.map(|id| id.as_str().to_owned());
        let mut reply: Value =
            serde_json::from_slice(&reply.payload).map_err(ClientError::unreadable)?;

        let Some(error) = reply.get_mut("error") else {
            return Ok(reply);
        };
        let refused = Refused {
            request_id: logged_as,
            ..parse(error.take())?
        };
        self.seen.note(refused.details.get("owner_version"));
        match request_id {
            Some(request_id) if refused.is(Code::InDoubt) => Err(ClientError::InDoubt {
                request_id: request_id.to_owned(),
            }),
            _ => Err(ClientError::Refused(refused.into())),
        }
    }

    /// Waits until the NATS server refuses a message to that subject.
    fn denied(&self, subject: &str) -> impl Future<Output = ()> {
        let denials = self.denials.clone().map(|mut denials| {
            // What was refused before this request is not about it.
            denials.mark_unchanged();
            denials
        });

        async move {
            if let Some(mut denials) = denials {
                while denials.changed().await.is_ok() {
                    if *denials.borrow_and_update() == subject {
                        return;
                    }
                }
            }
            std::future::pending().await
        }
    }

    fn check_size(&self, body: &str, token: Option<&str>) -> Result<(), ClientError> {
        let bytes = body.len() + token.map_or(0, str::len) + HEADERS_BYTES;
        let limit = self.nats.server_info().max_payload;
        if limit > 0 && bytes > limit {
            return Err(ClientError::TooLarge { bytes, limit });
        }

        Ok(())
    }
}

fn headers(budget: Duration, token: Option<String>, request_id: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(REQUEST_TIMEOUT_MS, budget.as_millis().to_string());
    if let Some(token) = token {
        headers.insert(AUTHORIZATION, format!("Bearer {token}"));
    }
    if let Some(id) = request_id {
        headers.insert(NATS_MSG_ID, id);
    }

    headers
}

fn time_left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Returns the error for a request without an answer. A write is then in doubt, unless there was
/// nobody to receive it.
fn unanswered(kind: RequestErrorKind, subject: String, request_id: Option<&str>) -> ClientError {
    match (kind, request_id) {
        (RequestErrorKind::NoResponders, _) => ClientError::NoWorker { subject },
        (_, Some(request_id)) => ClientError::InDoubt {
            request_id: request_id.to_owned(),
        },
        (_, None) => ClientError::NoReply { subject },
    }
}
