//! Pulling the bucket's messages with consumers of our own, bounded in messages and in bytes.
//!
//! A server ends a connection for which more than its `max_pending` waits, 64 MiB by default; and 500 records, which is
//! what the client's ordered consumer asks for at a time, may be more. That one besides asks for a consumer's state
//! after a lost connection, which no user here may. So consumers are made and pulled here. What got lost on the way shows
//! in the consumer's own count, and comes again with a new consumer that begins after what was given.

use super::bucket::{Bucket, TruthError};
use super::consumer::{Consumer, Plan, nanos};
use crate::requester::{CallError, Requester};
use async_nats::{Message, Subscriber, jetstream};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

/// Messages of one pull at most.
const MESSAGES: u64 = 500;
/// Bytes of one pull at most. What else goes to the connection shares the server's 64 MiB with it.
const BYTES: u64 = 4 << 20;
/// How long a pull waits for messages: as long as this the server thinks it wanted after its caller is gone.
const EXPIRES: Duration = Duration::from_secs(3);
/// How often the server says that there is nothing.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long it may say nothing at all.
const SILENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether the connection was made anew meanwhile.
const LOOK: Duration = Duration::from_millis(250);
/// Between one try to make a consumer and the next.
const AGAIN: Duration = Duration::from_millis(200);
/// How long the first one is tried for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Messages in the bucket's order.
pub(super) struct Puller {
    bucket: Bucket,
    context: jetstream::Context,
    plan: Plan,
    /// The newest sequence that was given: what a new consumer gives before it is passed over.
    given: u64,
    /// Messages that are to come from the consumer, as far as is known.
    pending: u64,
    consumer: Consumer,
    /// Messages of the consumer that came here.
    counted: u64,
    pull: Option<Pull>,
    /// The next pull, while it is being asked for.
    coming: Option<BoxFuture<'static, Result<PendingPull, TruthError>>>,
}

/// A pull under way.
struct Pull {
    messages: Subscriber,
    /// Messages that it may still give, and whether it gave any.
    left: u64,
    gave: bool,
    /// When the server was heard last.
    heard: Instant,
    /// Connections that had been made when it was asked for.
    connects: u64,
}

/// A pull that is asked for, with the consumer if that is a new one.
type PendingPull = (Option<Consumer>, Pull);

/// What a look at a pull shows.
enum PullEvent {
    Message(Box<Message>),
    /// There is nothing now, and nothing was missed.
    Nothing,
    /// It is over; the next one may be of more bytes.
    Over,
    /// It ended at a message that is larger than a whole pull may be.
    TooLarge,
    /// Something was missed, or may have been.
    Missed(&'static str),
}

impl Bucket {
    /// Begins to pull. Fails where the bucket does not answer; a refusal that may pass is waited out for a while.
    pub(super) async fn pull(&self, plan: Plan) -> Result<Puller, TruthError> {
        let until = Instant::now() + PATIENCE;
        let consumer = loop {
            match self.make_consumer(&plan, 0).await {
                Err(TruthError::Unavailable(error))
                    if error != CallError::TimedOut && Instant::now() < until =>
                {
                    sleep(AGAIN).await;
                }
                made => break made?,
            }
        };
        let (bucket, context, pending) = (self.clone(), self.context(), consumer.pending);
        Ok(Puller {
            bucket,
            context,
            plan,
            given: 0,
            pending,
            consumer,
            counted: 0,
            pull: None,
            coming: None,
        })
    }

    /// Pulls from a consumer from which `pending` messages are to come: as many as BYTES allow, or a single one.
    async fn ask_for(
        &self,
        plan: &Plan,
        consumer: &str,
        pending: u64,
        bytes: Option<u64>,
    ) -> Result<Pull, CallError> {
        let subject = format!("{}.{consumer}", self.api_subject("CONSUMER.MSG.NEXT"));
        // A pull of more than there is would keep the consumer until it expires.
        let most = if plan.ends() {
            pending.clamp(1, MESSAGES)
        } else {
            MESSAGES
        };
        let left = if bytes.is_some() { most } else { 1 };
        let mut wanted =
            json!({ "batch": left, "expires": nanos(EXPIRES), "idle_heartbeat": nanos(HEARTBEAT) });
        if let Some(bytes) = bytes {
            wanted["max_bytes"] = bytes.into();
        }
        if !self.requester.is_connected() {
            return Err(CallError::NotConnected);
        }
        let (client, heard, connects) = (
            self.requester.client(),
            Instant::now(),
            connects(&self.requester),
        );
        // A subscription of its own, for the messages come with their subjects; and the server forgets a pull without one.
        let asking = async {
            let inbox = client.new_inbox();
            let messages = client
                .subscribe(inbox.clone())
                .await
                .map_err(|_| CallError::NotConnected)?;
            let sent = client
                .publish_with_reply(subject, inbox, wanted.to_string().into())
                .await;
            sent.map(|()| messages).map_err(|_| CallError::NotConnected)
        };
        let messages = timeout_at(self.deadline(), asking)
            .await
            .map_err(|_| CallError::TimedOut)??;
        Ok(Pull {
            messages,
            left,
            gave: false,
            heard,
            connects,
        })
    }

    /// Asks for more: of that consumer, or of a new one. Tries until it is done, unless it is refused for good.
    async fn ask_on(
        self,
        plan: Plan,
        given: u64,
        on: Option<(String, u64)>,
        bytes: Option<u64>,
    ) -> Result<PendingPull, TruthError> {
        if let Some((name, pending)) = on
            && let Ok(pull) = self.ask_for(&plan, &name, pending, bytes).await
        {
            return Ok((None, pull));
        }
        loop {
            let made = async {
                let consumer = self.make_consumer(&plan, given).await?;
                let pull = self
                    .ask_for(&plan, &consumer.name, consumer.pending, bytes)
                    .await?;
                Ok((Some(consumer), pull))
            };
            match made.await {
                Err(TruthError::Unavailable(error)) => {
                    debug!(%error, "no consumer yet");
                    sleep(AGAIN).await;
                }
                ended => return ended,
            }
        }
    }
}

impl Puller {
    /// How many messages are to come from this consumer.
    pub(super) fn pending(&self) -> u64 {
        self.pending
    }

    /// The newest sequence that was given.
    pub(super) fn given(&self) -> u64 {
        self.given
    }

    /// The next message, each once and in order, through lost connections; `None` when there is none for now and none was
    /// missed. Waits as long as it takes, and loses nothing when it is dropped before it is ready.
    pub(super) async fn next(&mut self) -> Result<Option<jetstream::Message>, TruthError> {
        loop {
            let Some(pull) = self.pull.as_mut() else {
                self.come().await?;
                continue;
            };
            let (on, bytes) = match pull.look(&self.bucket.requester, self.counted).await? {
                PullEvent::Message(message) => match self.take(*message)? {
                    Delivery::Given(message) => return Ok(Some(*message)),
                    Delivery::Known if self.plan.ends() && self.pending == 0 => return Ok(None),
                    Delivery::Known => continue,
                    Delivery::OutOfOrder => {
                        debug!(
                            name = self.plan.name,
                            "messages are missing: another consumer"
                        );
                        (None, Some(BYTES))
                    }
                },
                PullEvent::Nothing => return Ok(None),
                PullEvent::Over => (Some(self.consumer.name.clone()), Some(BYTES)),
                // Alone it is as large as a message may be, which is no more than the server sends at once.
                PullEvent::TooLarge => (Some(self.consumer.name.clone()), None),
                PullEvent::Missed(why) => {
                    debug!(why, name = self.plan.name, "another consumer");
                    (None, Some(BYTES))
                }
            };
            self.ask(on, bytes);
        }
    }

    /// Begins once more, after what was given: where what was to come does not.
    pub(super) fn begin_again(&mut self) {
        self.ask(None, Some(BYTES));
    }

    fn ask(&mut self, on: Option<String>, bytes: Option<u64>) {
        self.pull = None;
        // A consumer that gave nothing is not followed by the next in the same moment.
        let pause = if on.is_none() && self.counted == 0 {
            AGAIN
        } else {
            Duration::ZERO
        };
        let on = on.map(|name| (name, self.pending));
        let coming = self
            .bucket
            .clone()
            .ask_on(self.plan.clone(), self.given, on, bytes);
        self.coming = Some(Box::pin(async move {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            coming.await
        }));
    }

    /// Waits for the next pull.
    async fn come(&mut self) -> Result<(), TruthError> {
        if self.coming.is_none() {
            self.ask(Some(self.consumer.name.clone()), Some(BYTES));
        }
        let Some(coming) = self.coming.as_mut() else {
            return Ok(());
        };
        let came = coming.await;
        self.coming = None;
        let (consumer, pull) = came?;
        if let Some(consumer) = consumer {
            (self.pending, self.counted) = (consumer.pending, 0);
            self.consumer = consumer;
        }
        self.pull = Some(pull);
        Ok(())
    }

    fn take(&mut self, message: Message) -> Result<Delivery, TruthError> {
        let message = jetstream::Message {
            message,
            context: self.context.clone(),
        };
        let info = message
            .info()
            .map_err(|_| TruthError::Unreadable("a message without its place"))?;
        if info.consumer_sequence != self.counted + 1 {
            return Ok(Delivery::OutOfOrder);
        }
        (self.counted, self.pending) = (info.consumer_sequence, info.pending);
        let sequence = info.stream_sequence;
        if sequence <= self.given {
            return Ok(Delivery::Known);
        }
        self.given = sequence;
        Ok(Delivery::Given(Box::new(message)))
    }
}

/// What becomes of a message.
enum Delivery {
    Given(Box<jetstream::Message>),
    /// It was given before.
    Known,
    /// Another was to come before it.
    OutOfOrder,
}

impl Pull {
    /// What comes next, where `counted` messages of the consumer came before.
    async fn look(&mut self, requester: &Requester, counted: u64) -> Result<PullEvent, TruthError> {
        if self.left == 0 {
            return Ok(PullEvent::Over);
        }
        let message = loop {
            let silent = self.heard + SILENCE;
            let until = silent.min(Instant::now() + LOOK);
            match timeout_at(until, self.messages.next()).await {
                Ok(Some(message)) => break message,
                Ok(None) => return Ok(PullEvent::Missed("the subscription ended")),
                Err(_) if connects(requester) != self.connects => {
                    return Ok(PullEvent::Missed("another connection"));
                }
                Err(_) if Instant::now() >= silent => return Ok(PullEvent::Missed("silence")),
                Err(_) => {}
            }
        };
        self.heard = Instant::now();
        Ok(match message.status.map(|status| status.as_u16()) {
            None => {
                (self.left, self.gave) = (self.left - 1, true);
                PullEvent::Message(Box::new(message))
            }
            Some(100) if last_of(&message).is_some_and(|last| last != counted) => {
                PullEvent::Missed("its count")
            }
            Some(100) => PullEvent::Nothing,
            Some(404 | 408) => PullEvent::Over,
            Some(409)
                if message
                    .description
                    .as_deref()
                    .is_some_and(|why| why.contains("MaxBytes")) =>
            {
                if self.gave {
                    PullEvent::Over
                } else {
                    PullEvent::TooLarge
                }
            }
            Some(409 | 503) => PullEvent::Missed("it is gone"),
            Some(status) => {
                let description = message.description.as_deref().unwrap_or_default();
                return Err(TruthError::Refused(format!("{status} {description}")));
            }
        })
    }
}

/// The number of the consumer's last message, as the server tells it where there is nothing.
fn last_of(heartbeat: &Message) -> Option<u64> {
    heartbeat
        .headers
        .as_ref()?
        .get("Nats-Last-Consumer")?
        .as_str()
        .parse()
        .ok()
}

fn connects(requester: &Requester) -> u64 {
    requester
        .client()
        .statistics()
        .connects
        .load(Ordering::Relaxed)
}
