//! From a message to its reply: the reply wall first, then a permit, then the operation. Every
//! admitted message gets exactly one reply.

use super::stats::Counters;
use crate::front::{
    Front, HeaderBlock, InvalidSubject, Message, PublishError, RawSubject, Subscription,
};
use crate::handler::{Body, Failure, Request, Service};
use crate::owners::{Account, Cost};
use crate::wire::{
    Code, Encoding, Operation, Ordered, Refusal, ReplyError, ReplyHeaders, ReplyWall,
    RequestHeaders, Scope, Subjects, encode, encoding_asked, error_headers, reply_headers,
};
use futures::FutureExt as _;
use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span, error, info, info_span, warn};
use uuid::Uuid;

/// The longest part of a caller's time that is reserved for the reply to travel back.
const REPLY_TIME_MAX: Duration = Duration::from_millis(100);

/// A worker is busy while more than one in so many of the requests are under way that may be.
const BUSY_SHARE: usize = 8;

/// Takes messages, and answers each one.
pub(super) struct Dispatcher {
    pub service: Service,
    pub counters: Arc<Counters>,
    pub permits: Arc<Semaphore>,
    subjects: Subjects,
    wall: Arc<ReplyWall>,
    front: Front,
}

/// A request whose reply subject is admitted.
struct Incoming {
    /// The operation that its subject names; `None` if there is no such operation.
    operation: Option<Operation>,
    message: Message,
    reply: String,
    arrived: Instant,
}

/// A reply as it is sent.
struct Reply {
    headers: HeaderBlock,
    body: Vec<u8>,
    /// The code, if it is a refusal.
    refused: Option<Code>,
}

/// A reply is larger than the server's `max_payload`.
struct TooLarge;

/// The subscriptions of a worker, each read by a task of its own.
pub(super) struct Subscriptions {
    readers: JoinSet<()>,
    stop: CancellationToken,
}

impl Dispatcher {
    pub fn new(service: Service, subjects: Subjects, wall: Arc<ReplyWall>, front: Front) -> Self {
        let permits = Arc::new(Semaphore::new(service.limits.current().in_flight));
        Self {
            service,
            counters: Arc::default(),
            permits,
            subjects,
            wall,
            front,
        }
    }

    /// Subscribes to every subject of this worker.
    pub fn subscribe(
        self: &Arc<Self>,
        group: &str,
        handlers: &TaskTracker,
    ) -> Result<Subscriptions, InvalidSubject> {
        let mut readers = JoinSet::new();
        let stop = CancellationToken::new();
        for subject in self.subjects.subscriptions() {
            let subscription = self.front.subscribe(&subject, Some(group))?;
            readers.spawn(
                self.clone()
                    .read(subscription, handlers.clone(), stop.clone()),
            );
        }

        Ok(Subscriptions { readers, stop })
    }

    /// Reads one subscription to its end. After `stop`, that is when everything was read that the
    /// server had sent.
    async fn read(
        self: Arc<Self>,
        mut subscription: Subscription,
        handlers: TaskTracker,
        stop: CancellationToken,
    ) {
        let mut is_stopping = false;
        loop {
            let message = tokio::select! {
                message = subscription.next() => message,
                () = stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    subscription.stop();
                    continue;
                }
            };

            let Some(message) = message else { return };
            self.take(message, &handlers).await;
        }
    }

    /// Checks the reply subject, finds the operation, and takes a permit. A task of its own answers
    /// a request that passes.
    async fn take(self: &Arc<Self>, message: Message, handlers: &TaskTracker) {
        let arrived = Instant::now();

        let reply = message.reply.as_ref().map(RawSubject::to_string_lossy);
        if let Err(error) = self.wall.admits(reply.as_deref()) {
            return self.drop_unanswered(error);
        }
        let Some(reply) = reply.map(Cow::into_owned) else {
            return;
        };

        let operation = self
            .subjects
            .operation_of(&message.subject.to_string_lossy());
        let request = Incoming {
            operation,
            message,
            reply,
            arrived,
        };

        let this = self.clone();
        match self.permits.clone().try_acquire_owned() {
            Ok(permit) => {
                handlers.spawn(async move {
                    this.answer(request).await;
                    drop(permit);
                });
            }
            // The reader answers by itself. That needs no task for each message, and a reader that
            // cannot send takes no more messages.
            Err(_) => self.refuse_for_load(&request).await,
        }
    }

    /// Counts a request that gets no answer. The caller chooses the reply subject, so it is input:
    /// an answer sent to `$JS.API.…` would be a command.
    fn drop_unanswered(&self, error: ReplyError) {
        let counter = match error {
            ReplyError::Missing => &self.counters.no_reply_subject,
            _ => &self.counters.hostile_reply_subject,
        };
        let dropped = counter.fetch_add(1, Ordering::Relaxed) + 1;
        if dropped.is_power_of_two() {
            warn!(
                error = error.as_str(),
                dropped, "dropped a request because of its reply subject"
            );
        }
    }

    async fn refuse_for_load(&self, request: &Incoming) {
        self.counters
            .refused_for_load
            .fetch_add(1, Ordering::Relaxed);

        let id = Uuid::now_v7().to_string();
        let refusal = Refusal::new(
            Code::Overloaded,
            "this worker is at its limit of requests: ask again",
        )
        .with("retry_after_ms", 100)
        .with("in_flight", self.service.limits.current().in_flight);

        let headers = request.message.headers.iter().flat_map(HeaderBlock::iter);
        let encoding = encoding_asked(headers);
        let reply = Reply::refused(&refusal, encoding, &id);
        if self.send(&request.reply, reply).await.is_err() {
            warn!("cannot send a reply: the NATS server's max_payload is too small for any");
        }
        info!(
            request_id = %id,
            code = refusal.code().as_str(),
            "request {id} was refused: too many are under way"
        );
    }

    async fn answer(&self, request: Incoming) {
        let Incoming {
            operation,
            message,
            reply,
            arrived,
        } = request;
        let id = Uuid::now_v7().to_string();
        let span = info_span!(
            "request",
            request_id = %id,
            operation = operation.map(Operation::name),
            owner = tracing::field::Empty,
            trace_id = tracing::field::Empty,
        );

        let account = Arc::default();
        let (encoding, answer) = self
            .decide(operation, message, arrived, &span, &account)
            .instrument(span.clone())
            .await;

        if let Err(Failure::Internal(error)) = &answer {
            span.in_scope(|| error!(error = format!("{error:#}"), "a request failed"));
        }
        let (refused, bytes) = self.reply(&reply, operation, answer, encoding, &id).await;
        if let Some(account) = account.get() {
            account.charge(Cost::of_reply(bytes));
        }

        let took = arrived.elapsed();
        if let Some(operation) = operation {
            self.counters.record_request(operation, took, refused);
        }

        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let code = refused.map_or("ok", Code::as_str);
        span.in_scope(|| info!(code, took_us, "a request was answered"));
    }

    /// Returns the answer and its encoding. A panic of the operation is an internal failure of this
    /// request.
    async fn decide(
        &self,
        operation: Option<Operation>,
        message: Message,
        arrived: Instant,
        span: &Span,
        account: &Arc<OnceLock<Account>>,
    ) -> (Encoding, Result<Body, Failure>) {
        // Only servers write a status.
        let readable = message.headers.as_ref().ok();
        let Some(headers) = readable.filter(|headers| headers.status().is_none()) else {
            let refusal = Refusal::bad_request("the headers cannot be read");
            return (Encoding::default(), Err(refusal.into()));
        };

        let limits = self.service.limits.current().headers();
        let headers = match RequestHeaders::parse(headers.iter(), &limits) {
            Ok(headers) => headers,
            Err((encoding, refusal)) => return (encoding, Err(refusal.into())),
        };
        if let Some(trace) = &headers.trace {
            span.record("trace_id", trace.trace_id());
        }

        let encoding = headers.encoding;
        let handled = AssertUnwindSafe(self.operate(operation, headers, message, arrived, account))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(Failure::Internal(anyhow::anyhow!("the operation panicked"))));
        (encoding, handled)
    }

    /// Whether many of the `limit` requests are under way that may be.
    fn is_busy(&self, limit: usize) -> bool {
        limit.saturating_sub(self.permits.available_permits()) > limit / BUSY_SHARE
    }

    async fn operate(
        &self,
        operation: Option<Operation>,
        headers: RequestHeaders,
        message: Message,
        arrived: Instant,
        account: &Arc<OnceLock<Account>>,
    ) -> Result<Body, Failure> {
        let limits = self.service.limits.current();
        let operation = operation.ok_or_else(|| {
            Refusal::bad_request("there is no such operation; see the contract's table")
        })?;

        // The reply has to arrive before the caller's time is up, so the work gets only a part of
        // it.
        let budget = headers
            .timeout_ms
            .unwrap_or(limits.deadline_ms)
            .min(limits.deadline_max_ms);
        let budget = Duration::from_millis(budget);
        let deadline = arrived + budget - (budget / 10).min(REPLY_TIME_MAX);
        if Instant::now() >= deadline {
            let message = "the time for this request was up; nothing was done";
            return Err(Refusal::new(Code::DeadlineExceeded, message).into());
        }

        let length = message.payload.len();
        if length > limits.request_bytes {
            return Err(Refusal::body_too_large(length, limits.request_bytes).into());
        }
        let body = message.payload.clone();
        // The headers have the token, and are not held while the operation waits.
        drop(message);

        // In a box, because the compiler cannot handle a future as deeply nested as a request's.
        let request = Request {
            operation,
            headers,
            body,
            deadline,
            is_busy: self.is_busy(limits.in_flight),
            account: account.clone(),
        };
        Box::pin(self.service.handle(request)).await
    }

    /// Sends the reply, or a smaller one if the server would not take it. Returns the code if it is
    /// a refusal, and the bytes of its body.
    async fn reply(
        &self,
        subject: &str,
        operation: Option<Operation>,
        answer: Result<Body, Failure>,
        encoding: Encoding,
        id: &str,
    ) -> (Option<Code>, usize) {
        let capacity = self.service.limits.reply_capacity();
        let reply = match &answer {
            Ok(body) => Reply::done(body, encoding, id),
            Err(failure) => Reply::refused(&failure.refusal(id), encoding, id),
        };
        let used = reply.body.len();
        let refused = reply.refused;
        if used <= capacity && self.send(subject, reply).await.is_ok() {
            return (refused, used);
        }

        // The connection knows a smaller `max_payload` a moment before the limits in force do.
        let capacity = capacity.min(used.saturating_sub(1));
        let smaller = smaller_answer(answer, operation, id, (used, capacity));
        let reply = Reply::refused(&smaller, encoding, id);
        let refused = reply.refused;
        let used = reply.body.len();
        if self.send(subject, reply).await.is_err() {
            warn!("cannot send a reply: the NATS server's max_payload is too small for any");
        }
        (refused, used)
    }

    /// Sends a reply.
    ///
    /// # Errors
    /// It is larger than the server's `max_payload`.
    async fn send(&self, subject: &str, reply: Reply) -> Result<(), TooLarge> {
        let sent = self.front.publish(subject, &reply.headers, &reply.body);
        match sent.await {
            Ok(()) => self.counters.record_reply(),
            Err(PublishError::TooLong { .. }) => return Err(TooLarge),
            Err(error) => warn!(%error, "cannot send a reply"),
        }

        Ok(())
    }
}

impl Reply {
    fn done(body: &Body, encoding: Encoding, id: &str) -> Self {
        Self {
            headers: header_block(&reply_headers(encoding, id)),
            body: body.encode(encoding),
            refused: None,
        }
    }

    fn refused(refusal: &Refusal, encoding: Encoding, id: &str) -> Self {
        Self {
            headers: header_block(&error_headers(encoding, id, refusal)),
            body: encode(&Ordered(&refusal.body()), encoding),
            refused: Some(refusal.code()),
        }
    }
}

fn header_block(headers: &ReplyHeaders) -> HeaderBlock {
    let mut block = HeaderBlock::new();
    for (name, value) in headers {
        if let Err(error) = block.append(name, value) {
            warn!(%error, name, "a header of a reply cannot be sent");
        }
    }

    block
}

/// What is answered in place of an answer that is too large: it takes `used` bytes, and `limit`
/// fit.
///
/// Pages and writes keep to the limit by themselves. So this is for an item that was stored while
/// the limit was larger, and for a write that was done just before the limit became smaller.
fn smaller_answer(
    answer: Result<Body, Failure>,
    operation: Option<Operation>,
    id: &str,
    (used, limit): (usize, usize),
) -> Refusal {
    match answer {
        Err(failure) => failure.refusal(id).without("item"),
        Ok(_) if operation.and_then(Operation::scope) == Some(Scope::Write) => Refusal::new(
            Code::InDoubt,
            "it may be written, and the reply does not fit the NATS server's max_payload: \
             read the item",
        ),
        Ok(_) => Refusal::new(
            Code::TooLarge,
            format!("the reply takes {used} bytes, and the NATS server takes {limit}"),
        )
        .with("used", used)
        .with("limit", limit),
    }
}

impl Subscriptions {
    /// Waits until a subscription ends that should not, and returns the reason.
    pub async fn ended(&mut self) -> anyhow::Error {
        match self.readers.join_next().await {
            Some(Err(error)) => {
                anyhow::Error::new(error).context("the reader of a subscription failed")
            }
            Some(Ok(())) | None => anyhow::anyhow!("a subscription has ended"),
        }
    }

    /// Takes no more messages, except those that are already on their way.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.readers.join_next().await.is_some() {}
    }
}
