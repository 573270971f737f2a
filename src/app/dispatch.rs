//! From a message to its reply: the wall first, then a permit, then the operation; always exactly one reply.

use super::stats::Counters;
use crate::handler::{Failure, Request, Service};
use crate::wire::{
    Asked, BodyLimits, Code, Encoding, HeaderLimits, Refusal, ReplyFault, ReplyWall,
    RequestHeaders, Subjects, decode, encode, encoding_asked, error_headers, reply_headers,
};
use async_nats::{Client, HeaderMap, Message, Subject, Subscriber, UnsubscribeError};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use serde_json::Value;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span, error, info, info_span, warn};
use uuid::Uuid;

/// What is kept at most of a caller's time for the reply's way back.
const ON_ITS_WAY_BACK: Duration = Duration::from_millis(100);
/// How long the server may take to end a subscription.
const UNSUBSCRIBED: Duration = Duration::from_secs(2);
/// Longer than the server takes to hand over a message that it has matched.
const QUIET: Duration = Duration::from_millis(100);
/// A number of messages that the server cannot read, since it takes nine digits at most.
const NO_NUMBER: u64 = u64::MAX;
/// Nobody listens there, so the server itself answers.
const NOBODY: &str = "_INBOX.nobody";

/// Takes messages and sees to it that each is answered.
pub(super) struct Dispatcher {
    pub service: Service,
    pub counters: Arc<Counters>,
    pub permits: Arc<Semaphore>,
    subjects: Subjects,
    wall: Arc<ReplyWall>,
    client: Client,
}

/// The subscriptions of a worker, each read by a task of its own.
pub(super) struct Subscriptions {
    readers: JoinSet<()>,
    stop: CancellationToken,
}

impl Dispatcher {
    pub fn new(service: Service, subjects: Subjects, wall: Arc<ReplyWall>, client: Client) -> Self {
        let permits = Arc::new(Semaphore::new(service.limits.in_flight));
        Self {
            service,
            counters: Arc::default(),
            permits,
            subjects,
            wall,
            client,
        }
    }

    /// Subscribes to every subject of this worker.
    pub async fn subscribe(
        self: &Arc<Self>,
        group: &str,
        handlers: &TaskTracker,
    ) -> anyhow::Result<Subscriptions> {
        let (mut readers, stop) = (JoinSet::new(), CancellationToken::new());
        for subject in self.subjects.subscriptions() {
            let subscriber = self
                .client
                .queue_subscribe(subject, group.to_owned())
                .await?;
            readers.spawn(
                self.clone()
                    .read(subscriber, handlers.clone(), stop.clone()),
            );
        }
        Ok(Subscriptions { readers, stop })
    }

    /// Reads one subscription to its end; once told to stop, unsubscribes and reads what the server had sent before.
    async fn read(
        self: Arc<Self>,
        mut subscriber: Subscriber,
        handlers: TaskTracker,
        stop: CancellationToken,
    ) {
        loop {
            let message = tokio::select! {
                message = subscriber.next() => message,
                () = stop.cancelled() => break,
            };
            let Some(message) = message else { return };
            self.take(message, &handlers).await;
        }
        if let Err(fault) = self.read_out(&mut subscriber, &handlers).await {
            warn!(%fault, "a subscription could not be ended in order");
        }
    }

    /// Ends a subscription and reads what was sent before.
    ///
    /// The client's own `drain` forgets the subscription before the server has ended it, and loses what comes in
    /// between. Told a number that it cannot read, the server ends it at once, while the client, which can, goes on
    /// reading. What the server answers later than that comes after the subscription's messages, but for one that it was
    /// just about to hand over: so the end is a quiet moment after it.
    async fn read_out(
        self: &Arc<Self>,
        subscriber: &mut Subscriber,
        handlers: &TaskTracker,
    ) -> Result<(), UnsubscribeError> {
        subscriber.unsubscribe_after(NO_NUMBER).await?;
        // Whatever the answer is. Without one the connection is down, and nothing more comes.
        let _ = timeout(UNSUBSCRIBED, self.client.request(NOBODY, Bytes::new())).await;
        while let Ok(Some(message)) = timeout(QUIET, subscriber.next()).await {
            self.take(message, handlers).await;
        }
        subscriber.unsubscribe().await
    }

    /// The wall and the permit; what passes is answered by a task of its own.
    async fn take(self: &Arc<Self>, message: Message, handlers: &TaskTracker) {
        let arrived = Instant::now();
        let reply = match self.wall.admits(message.reply.as_deref()) {
            Ok(()) => message.reply.clone(),
            Err(fault) => return self.drop_unanswered(fault),
        };
        let Some(reply) = reply else { return };
        let this = self.clone();
        match self.permits.clone().try_acquire_owned() {
            Ok(permit) => {
                handlers.spawn(async move {
                    this.answer(message, reply, arrived).await;
                    drop(permit);
                });
            }
            // By the reader itself: it takes no task each, and a reader that cannot send takes no more messages.
            Err(_) => self.refuse_for_load(&message, &reply).await,
        }
    }

    /// A reply subject is the caller's to choose, so it is input: an answer to `$JS.API.…` would be a command.
    fn drop_unanswered(&self, fault: ReplyFault) {
        let counter = match fault {
            ReplyFault::Missing => &self.counters.no_reply_subject,
            _ => &self.counters.hostile_reply_subject,
        };
        let dropped = counter.fetch_add(1, Ordering::Relaxed) + 1;
        if dropped.is_power_of_two() {
            warn!(
                reason = fault.as_str(),
                dropped, "a request was dropped for its reply subject"
            );
        }
    }

    async fn refuse_for_load(&self, message: &Message, reply: &Subject) {
        self.counters
            .refused_for_load
            .fetch_add(1, Ordering::Relaxed);
        let refusal = Refusal::new(Code::Overloaded, "this worker has all it can do: ask again")
            .with("retry_after_ms", 100)
            .with("in_flight", self.service.limits.in_flight);
        let id = Uuid::now_v7().to_string();
        let encoding = encoding_asked(message.headers.as_ref());
        let headers = error_headers(encoding, &id, &refusal);
        self.send(reply, headers, encode(&refusal.body(), encoding).into())
            .await;
        info!(request_id = %id, code = refusal.code().as_str(), "request {id} was refused at the door");
    }

    async fn answer(&self, message: Message, reply: Subject, arrived: Instant) {
        let id = Uuid::now_v7().to_string();
        let span = info_span!(
            "request", request_id = %id, operation = tracing::field::Empty, owner = tracing::field::Empty,
            trace_id = tracing::field::Empty
        );
        let asked = self
            .subjects
            .operation_of(&message.subject)
            .and_then(|asked| match asked {
                Asked::Known(operation) => Some(operation),
                Asked::Unknown(_) => None,
            });
        let (encoding, answer) = self
            .decide(message, arrived, &span)
            .instrument(span.clone())
            .await;
        let mut refused = None;
        let (headers, body) = span.in_scope(|| match answer {
            Ok(body) => (reply_headers(encoding, &id), encode(&body, encoding)),
            Err(failure) => {
                let refusal = failure.refusal(&id);
                refused = Some(refusal.code());
                if let Failure::Internal(cause) = &failure {
                    error!(cause = format!("{cause:#}"), "request {id} failed");
                }
                (
                    error_headers(encoding, &id, &refusal),
                    encode(&refusal.body(), encoding),
                )
            }
        });
        self.send(&reply, headers, body.into()).await;
        let took = arrived.elapsed();
        if let Some(operation) = asked {
            self.counters.note(operation, took, refused);
        }
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let code = refused.map_or("ok", Code::as_str);
        span.in_scope(|| info!(code, took_us, "request {id} was answered"));
    }

    /// The answer, and the encoding that it is in. A panic of the operation is an internal failure of this request.
    async fn decide(
        &self,
        message: Message,
        arrived: Instant,
        span: &Span,
    ) -> (Encoding, Result<Value, Failure>) {
        // A status is what servers write. Here it means that the client could not read the header block.
        if message.status.is_some() {
            return (
                Encoding::default(),
                Err(Refusal::bad_request("the headers cannot be read").into()),
            );
        }
        let limits = HeaderLimits {
            token_bytes: self.service.limits.token_bytes,
        };
        let headers = match RequestHeaders::parse(message.headers.as_ref(), &limits) {
            Ok(headers) => headers,
            Err((encoding, refusal)) => return (encoding, Err(refusal.into())),
        };
        if let Some(trace) = &headers.trace {
            span.record("trace_id", trace.trace_id());
        }
        let encoding = headers.encoding;
        let handled = AssertUnwindSafe(self.operate(headers, message, arrived, span))
            .catch_unwind()
            .await;
        (
            encoding,
            handled.unwrap_or_else(|_| {
                Err(Failure::Internal(anyhow::anyhow!("the operation panicked")))
            }),
        )
    }

    async fn operate(
        &self,
        headers: RequestHeaders,
        message: Message,
        arrived: Instant,
        span: &Span,
    ) -> Result<Value, Failure> {
        let limits = &self.service.limits;
        let Some(Asked::Known(operation)) = self.subjects.operation_of(&message.subject) else {
            return Err(Refusal::bad_request(
                "there is no such operation; see the contract's table",
            )
            .into());
        };
        span.record("operation", operation.name());
        let budget = headers
            .timeout_ms
            .unwrap_or(limits.deadline_ms)
            .min(limits.deadline_max_ms);
        // The reply has to arrive before the caller's time is up, so not all of it is for the work.
        let budget = Duration::from_millis(budget);
        let deadline = arrived + budget - (budget / 10).min(ON_ITS_WAY_BACK);
        if Instant::now() >= deadline {
            return Err(Refusal::new(
                Code::DeadlineExceeded,
                "the time for this request was up; nothing was done",
            )
            .into());
        }
        if message.payload.len() > limits.request_bytes {
            return Err(
                Refusal::body_too_large(message.payload.len(), limits.request_bytes).into(),
            );
        }
        let body = decode(
            &message.payload,
            headers.encoding,
            &BodyLimits {
                nesting: limits.nesting,
            },
        )?;
        // In a box: the road of a request is so deep that the compiler gives up on it in one piece.
        Box::pin(self.service.handle(Request {
            operation,
            headers,
            body,
            deadline,
        }))
        .await
    }

    async fn send(&self, reply: &Subject, headers: HeaderMap, body: Bytes) {
        match self
            .client
            .publish_with_headers(reply.clone(), headers, body)
            .await
        {
            Ok(()) => self.counters.sent(),
            Err(fault) => warn!(%fault, "a reply could not be sent"),
        }
    }
}

impl Subscriptions {
    /// Ends, with the reason, when a subscription ends that was not told to.
    pub async fn ended(&mut self) -> anyhow::Error {
        match self.readers.join_next().await {
            Some(Err(fault)) => {
                anyhow::Error::new(fault).context("the reader of a subscription failed")
            }
            Some(Ok(())) | None => anyhow::anyhow!("a subscription has ended"),
        }
    }

    /// Takes no more messages, and ends when those that were under way have been taken.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.readers.join_next().await.is_some() {}
    }
}
