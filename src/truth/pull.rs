//! Pulling messages with this module's own consumers, limited in messages and in bytes.
//!
//! A server closes a connection that has more than `max_pending` bytes waiting, 64 MiB by default.
//! The client's ordered consumer pulls 500 records at a time, which may be more than that. It also
//! asks for a consumer's state after a lost connection, which no NATS user here may do. So this
//! module creates its consumers and pulls from them itself. A lost message shows as a gap in the
//! consumer's own count. A new consumer, which begins after the last delivered message, then brings
//! it again.

use super::answer_size::Meter;
use super::bucket::Bucket;
use super::consumer::{Consumer, Plan, connects, nanos};
use super::error::TruthError;
use crate::requester::{CallError, Requester};
use async_nats::{Message, Subscriber, jetstream};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

/// The most messages of one pull.
const PULL_MESSAGES_MAX: u64 = 500;
/// How long a pull waits for messages. If the client disappears, the server keeps the pull open
/// this long.
const PULL_TIMEOUT: Duration = Duration::from_secs(3);
/// How often the server reports that there is nothing to deliver.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// How long the server may send nothing at all.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How often a waiting pull checks whether the client has connected again meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Between one attempt to create a consumer and the next.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause after a consumer whose pull was lost before it brought anything. The pause doubles
/// each time: if it is a record that ends the connection, the worker needs the connection for others.
const LOST_PAUSE_MAX: Duration = Duration::from_millis(3_200);
/// How long the first consumer is tried for.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Returns messages in the bucket's order.
pub(super) struct Puller {
    bucket: Bucket,
    context: jetstream::Context,
    plan: Plan,
    /// The newest sequence that was delivered to the caller. What a new consumer sends up to there
    /// is dropped.
    last_delivered: u64,
    /// Messages that are still to come from the consumer, as far as the worker knows.
    pending: u64,
    consumer: Consumer,
    /// How many consumers there were before this one.
    earlier_consumers: u64,
    /// Messages of the consumer that have come.
    received: u64,
    /// The pause after the next consumer that brings nothing.
    lost_pause: Duration,
    pull: Option<Pull>,
    /// The next pull, while it is being requested.
    next_pull: Option<BoxFuture<'static, Result<NextPull, TruthError>>>,
}

/// A pull under way.
struct Pull {
    messages: Subscriber,
    /// Messages that it may still bring.
    left: u64,
    /// Whether it brought any message.
    brought_any: bool,
    /// When the server last sent anything.
    heard_at: Instant,
    /// How fast its messages come.
    meter: Meter,
    /// How many connections the client had made when the pull was requested.
    connects: u64,
}

/// A pull that was requested, with its consumer if that is a new one.
type NextPull = (Option<Consumer>, Pull);

/// What a pull shows next.
enum PullEvent {
    Message(Box<Message>),
    /// There is nothing now, and nothing was lost.
    Idle,
    /// The pull is over. The next one may bring more bytes.
    Over,
    /// The pull ended at a message that is larger than a complete pull may be.
    TooLarge,
    /// Messages were lost, or may have been.
    Lost(&'static str),
}

/// What becomes of a message.
enum Delivery {
    New(Box<jetstream::Message>),
    /// It was delivered before.
    Duplicate,
    /// Another one should have come before it.
    OutOfOrder,
}

impl Bucket {
    /// Begins to pull.
    ///
    /// # Errors
    ///
    /// Fails if the bucket does not answer in time, or refuses for good. A refusal that may pass is
    /// retried for a while.
    pub(super) async fn pull(&self, plan: Plan) -> Result<Puller, TruthError> {
        let until = Instant::now() + START_TIMEOUT;
        let consumer = loop {
            match self.create_consumer(&plan, 0).await {
                Err(TruthError::Unavailable(error))
                    if error != CallError::TimedOut && Instant::now() < until =>
                {
                    sleep(RETRY_PAUSE).await;
                }
                created => break created?,
            }
        };

        Ok(Puller {
            bucket: self.clone(),
            context: self.context(),
            plan,
            last_delivered: 0,
            pending: consumer.pending,
            consumer,
            earlier_consumers: 0,
            received: 0,
            lost_pause: RETRY_PAUSE,
            pull: None,
            next_pull: None,
        })
    }

    /// Requests a pull from a consumer that has `pending` messages to deliver: of as many messages
    /// as fit into `bytes`, or of a single message of any size.
    async fn request_pull(
        &self,
        plan: &Plan,
        consumer: &str,
        pending: u64,
        bytes: Option<u64>,
    ) -> Result<Pull, CallError> {
        let subject = format!("{}.{consumer}", self.api_subject("CONSUMER.MSG.NEXT"));
        // A pull of more messages than there are would keep the consumer until the pull expires.
        let limit = if plan.ends {
            pending.clamp(1, PULL_MESSAGES_MAX)
        } else {
            PULL_MESSAGES_MAX
        };
        let left = if bytes.is_some() { limit } else { 1 };
        let mut request = json!({
            "batch": left,
            "expires": nanos(PULL_TIMEOUT),
            "idle_heartbeat": nanos(HEARTBEAT_INTERVAL),
        });
        if let Some(bytes) = bytes {
            request["max_bytes"] = bytes.into();
        }

        if !self.requester.is_connected() {
            return Err(CallError::NotConnected);
        }
        let client = self.requester.client();
        let heard_at = Instant::now();
        let connects = connects(&self.requester);

        // The pull has a subscription of its own, because messages come with their own subjects.
        // The server also forgets a pull whose subscription is gone.
        let subscribe_and_send = async {
            let inbox = client.new_inbox();
            let messages = client
                .subscribe(inbox.clone())
                .await
                .map_err(|_| CallError::NotConnected)?;
            let sent = client
                .publish_with_reply(subject, inbox, request.to_string().into())
                .await;
            sent.map(|()| messages).map_err(|_| CallError::NotConnected)
        };
        let messages = timeout_at(self.deadline(), subscribe_and_send)
            .await
            .map_err(|_| CallError::TimedOut)??;

        Ok(Pull {
            messages,
            left,
            brought_any: false,
            heard_at,
            meter: Meter::default(),
            connects,
        })
    }

    /// Requests the next pull: from `consumer`, given by its name and its pending messages, or else
    /// from a new consumer. Retries until that succeeds or is refused for good.
    async fn request_next_pull(
        self,
        plan: Plan,
        last_delivered: u64,
        consumer: Option<(String, u64)>,
        bytes: Option<u64>,
    ) -> Result<NextPull, TruthError> {
        if let Some((name, pending)) = consumer
            && let Ok(pull) = self.request_pull(&plan, &name, pending, bytes).await
        {
            return Ok((None, pull));
        }

        loop {
            let attempt = async {
                let consumer = self.create_consumer(&plan, last_delivered).await?;
                let pull = self
                    .request_pull(&plan, &consumer.name, consumer.pending, bytes)
                    .await?;
                Ok((Some(consumer), pull))
            };
            match attempt.await {
                Err(TruthError::Unavailable(error)) => {
                    debug!(%error, "cannot pull from a new consumer, will retry");
                    sleep(RETRY_PAUSE).await;
                }
                result => return result,
            }
        }
    }
}

impl Puller {
    /// How many messages are still to come from this consumer.
    pub(super) fn pending(&self) -> u64 {
        self.pending
    }

    /// How many consumers there were before the present one.
    pub(super) fn earlier_consumers(&self) -> u64 {
        self.earlier_consumers
    }

    /// How many bytes the next pull may bring.
    fn bytes(&self) -> u64 {
        self.bucket.answer_size.bytes()
    }

    /// The newest sequence that was delivered; 0 if none was.
    pub(super) fn last_delivered(&self) -> u64 {
        self.last_delivered
    }

    /// Returns the next message, each once and in order, across lost connections; `None` if there
    /// is none for now and none was lost.
    ///
    /// Waits without a limit, and loses nothing if it is dropped before it is ready.
    pub(super) async fn next(&mut self) -> Result<Option<jetstream::Message>, TruthError> {
        loop {
            let Some(pull) = self.pull.as_mut() else {
                self.await_next_pull().await?;
                continue;
            };

            let (consumer, bytes) = match pull
                .poll(&self.bucket.requester, self.received, self.pending > 0)
                .await?
            {
                PullEvent::Message(message) => match self.deliver(*message)? {
                    Delivery::New(message) => return Ok(Some(*message)),
                    Delivery::Duplicate if self.plan.ends && self.pending == 0 => {
                        return Ok(None);
                    }
                    Delivery::Duplicate => continue,
                    Delivery::OutOfOrder => {
                        debug!(
                            name = self.plan.name,
                            "messages are missing, creating another consumer"
                        );
                        (None, Some(self.bytes()))
                    }
                },
                PullEvent::Idle => {
                    self.lost_pause = RETRY_PAUSE;
                    return Ok(None);
                }
                PullEvent::Over => {
                    self.bucket.answer_size.learn(&pull.meter);
                    (Some(self.consumer.name.clone()), Some(self.bytes()))
                }
                // Alone the message is as large as a message may be, which a server can send at
                // once.
                PullEvent::TooLarge => (Some(self.consumer.name.clone()), None),
                PullEvent::Lost(error) => {
                    debug!(
                        name = self.plan.name,
                        error, "messages may be missing, creating another consumer"
                    );
                    (None, Some(self.bytes()))
                }
            };
            self.begin_next_pull(consumer, bytes);
        }
    }

    /// Begins again with a new consumer, after the last delivered message. The caller does this
    /// when messages that are still to come do not come.
    pub(super) fn restart(&mut self) {
        self.begin_next_pull(None, Some(self.bytes()));
    }

    fn begin_next_pull(&mut self, consumer: Option<String>, bytes: Option<u64>) {
        self.pull = None;
        // After a consumer that brought nothing, the next one is not created at once.
        let mut pause = Duration::ZERO;
        if consumer.is_none() && self.received == 0 {
            pause = self.lost_pause;
            self.lost_pause = LOST_PAUSE_MAX.min(pause * 2);
        }

        let consumer = consumer.map(|name| (name, self.pending));
        let request = self.bucket.clone().request_next_pull(
            self.plan.clone(),
            self.last_delivered,
            consumer,
            bytes,
        );
        self.next_pull = Some(Box::pin(async move {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            request.await
        }));
    }

    /// Waits until the next pull is requested.
    async fn await_next_pull(&mut self) -> Result<(), TruthError> {
        if self.next_pull.is_none() {
            self.begin_next_pull(Some(self.consumer.name.clone()), Some(self.bytes()));
        }
        let Some(next_pull) = self.next_pull.as_mut() else {
            return Ok(());
        };
        let result = next_pull.await;
        self.next_pull = None;

        let (consumer, pull) = result?;
        if let Some(consumer) = consumer {
            self.pending = consumer.pending;
            self.received = 0;
            self.consumer = consumer;
            self.earlier_consumers += 1;
        }
        self.pull = Some(pull);

        Ok(())
    }

    fn deliver(&mut self, message: Message) -> Result<Delivery, TruthError> {
        let message = jetstream::Message {
            message,
            context: self.context.clone(),
        };
        let info = message
            .info()
            .map_err(|_| TruthError::Unreadable("a message without metadata"))?;
        if info.consumer_sequence != self.received + 1 {
            return Ok(Delivery::OutOfOrder);
        }

        self.received = info.consumer_sequence;
        self.lost_pause = RETRY_PAUSE;
        self.pending = info.pending;
        let sequence = info.stream_sequence;
        if sequence <= self.last_delivered {
            return Ok(Delivery::Duplicate);
        }

        self.last_delivered = sequence;
        Ok(Delivery::New(Box::new(message)))
    }
}

impl Pull {
    /// Waits for what comes next. `received` is how many messages of the consumer came before, and
    /// `is_behind` whether more were there to come at that time.
    async fn poll(
        &mut self,
        requester: &Requester,
        received: u64,
        is_behind: bool,
    ) -> Result<PullEvent, TruthError> {
        if self.left == 0 {
            return Ok(PullEvent::Over);
        }

        let begun = Instant::now();
        let message = loop {
            let silent = self.heard_at + SILENCE_MAX;
            let until = silent.min(Instant::now() + POLL_INTERVAL);
            match timeout_at(until, self.messages.next()).await {
                Ok(Some(message)) => break message,
                Ok(None) => return Ok(PullEvent::Lost("the subscription ended")),
                Err(_) if connects(requester) != self.connects => {
                    return Ok(PullEvent::Lost("the client has connected again"));
                }
                Err(_) if Instant::now() >= silent => {
                    return Ok(PullEvent::Lost("the server sends nothing"));
                }
                Err(_) => {}
            }
        };
        self.heard_at = Instant::now();

        Ok(match message.status.map(|status| status.as_u16()) {
            None => {
                self.left -= 1;
                self.brought_any = true;
                if is_behind {
                    self.meter.count(message.length, begun.elapsed());
                } else {
                    // The message came when it was written.
                    self.meter = Meter::default();
                }
                PullEvent::Message(Box::new(message))
            }
            Some(100) if last_sent(&message).is_some_and(|last| last != received) => {
                PullEvent::Lost("the server has sent more than came")
            }
            Some(100) => PullEvent::Idle,
            Some(404 | 408) => PullEvent::Over,
            Some(409) if is_over_max_bytes(&message) && self.brought_any => PullEvent::Over,
            Some(409) if is_over_max_bytes(&message) => PullEvent::TooLarge,
            Some(409 | 503) => PullEvent::Lost("the consumer is gone"),
            Some(status) => {
                let description = message.description.as_deref().unwrap_or_default();
                return Err(TruthError::Refused(format!("{status} {description}")));
            }
        })
    }
}

/// Returns whether a pull ended because its next message would exceed its bytes.
fn is_over_max_bytes(message: &Message) -> bool {
    message
        .description
        .as_deref()
        .is_some_and(|description| description.contains("MaxBytes"))
}

/// The consumer's count of sent messages, which a heartbeat has.
fn last_sent(heartbeat: &Message) -> Option<u64> {
    heartbeat
        .headers
        .as_ref()?
        .get("Nats-Last-Consumer")?
        .as_str()
        .parse()
        .ok()
}
