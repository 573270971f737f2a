//! The subscriptions of a connection. The registry routes each message to its subscription.

use super::encoder;
use super::protocol::Message;
use super::server_error::DeniedSubscription;
use super::state::FrontCounters;
use bytes::BytesMut;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

/// The time without messages after which a subscription has ended. It is longer than a server takes
/// to send a message that it had matched before the UNSUB.
pub(super) const QUIET_TIME: Duration = Duration::from_millis(100);
/// The longest wait for the last messages of a subscription.
const QUIET_TIME_MAX: Duration = Duration::from_secs(2);

/// A subscription, from the side of the connection.
#[derive(Clone)]
pub(super) struct Route {
    pub subject: String,
    pub queue_group: Option<String>,
    pub queue: Queue,
    pub is_denied: bool,
    pub ending: Option<Ending>,
}

/// The sending end of a subscription's queue.
#[derive(Clone)]
pub(super) struct Queue {
    pub sender: mpsc::Sender<Message>,
    /// The number of bytes that wait in it.
    pub waiting_bytes: Arc<AtomicUsize>,
    pub bytes_max: usize,
}

/// How far a subscription has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// UNSUB is sent, and the server has not processed it yet.
    Requested,
    /// The server has processed the UNSUB. It may still send a message that it had matched before,
    /// so the subscription ends after a time without messages.
    Quiet { until: Instant, latest: Instant },
}

/// The subscriptions of a connection, by their ids.
#[derive(Clone)]
pub(super) struct Registry {
    routes: HashMap<u64, Route>,
    counters: Arc<FrontCounters>,
}

impl Registry {
    pub fn new(counters: Arc<FrontCounters>) -> Self {
        Self {
            routes: HashMap::new(),
            counters,
        }
    }

    pub fn insert(&mut self, sid: u64, route: Route) {
        self.routes.insert(sid, route);
    }

    pub fn remove(&mut self, sid: u64) -> Option<Route> {
        self.routes.remove(&sid)
    }

    /// Delivers a message to its subscription. It never waits: when the queue is full, the message
    /// is dropped.
    pub fn deliver(&mut self, message: Message) {
        let Some(route) = self.routes.get_mut(&message.sid) else {
            return;
        };
        if let Some(Ending::Quiet { until, latest }) = &mut route.ending {
            *until = (Instant::now() + QUIET_TIME).min(*latest);
        }

        if !route.queue.push(message) {
            let dropped = self.counters.count_dropped();
            if dropped.is_power_of_two() {
                warn!(
                    subject = route.subject,
                    dropped, "the queue of a subscription is full, dropping messages"
                );
            }
        }
    }

    /// Writes the commands that make the selected subscriptions. They count as allowed until the
    /// server denies them again.
    pub fn subscribe(&mut self, out: &mut BytesMut, is_selected: impl Fn(&Route) -> bool) {
        for (sid, route) in &mut self.routes {
            if is_selected(route) && route.ending.is_none() {
                route.is_denied = false;
                let group = route.queue_group.as_deref();
                encoder::subscribe(out, &route.subject, group, *sid);
            }
        }
    }

    /// Writes the commands that end all subscriptions.
    pub fn unsubscribe_all(&self, out: &mut BytesMut) {
        for sid in self.routes.keys() {
            encoder::unsubscribe(out, *sid);
        }
    }

    /// Records that the server denies a subscription.
    pub fn deny(&mut self, denied: &DeniedSubscription) {
        for (sid, route) in &mut self.routes {
            let is_denied = match denied.sid {
                Some(denied) => *sid == denied,
                None => route.subject == denied.subject && route.queue_group == denied.queue_group,
            };
            route.is_denied |= is_denied;
        }
    }

    /// Returns the denied subjects, in order.
    pub fn denied(&self) -> Vec<String> {
        let denied = self.routes.values().filter(|route| route.is_denied);
        let mut subjects: Vec<String> = denied.map(|route| route.subject.clone()).collect();

        subjects.sort_unstable();
        subjects.dedup();
        subjects
    }

    /// Begins to end a subscription. Returns `false` if there is none, or if its end has begun.
    pub fn stop(&mut self, sid: u64) -> bool {
        match self.routes.get_mut(&sid) {
            Some(route) if route.ending.is_none() => {
                route.ending = Some(Ending::Requested);
                true
            }
            _ => false,
        }
    }

    /// Records that the server has processed the UNSUB of a subscription.
    pub fn stopped(&mut self, sid: u64) {
        let now = Instant::now();

        if let Some(route) = self.routes.get_mut(&sid) {
            route.ending = Some(Ending::Quiet {
                until: now + QUIET_TIME,
                latest: now + QUIET_TIME_MAX,
            });
        }
    }

    /// Returns the earliest time at which a subscription may have ended.
    pub fn next_end(&self) -> Option<Instant> {
        let ends = self.routes.values().filter_map(|route| match route.ending {
            Some(Ending::Quiet { until, .. }) => Some(until),
            _ => None,
        });

        ends.min()
    }

    /// Removes the subscriptions that have ended.
    pub fn remove_ended(&mut self) {
        let now = Instant::now();

        self.routes.retain(
            |_, route| !matches!(route.ending, Some(Ending::Quiet { until, .. }) if until <= now),
        );
    }

    /// Removes the subscriptions whose end has begun, because their link has ended.
    pub fn remove_ending(&mut self) {
        self.routes.retain(|_, route| route.ending.is_none());
    }
}

impl Queue {
    /// Queues a message. Returns `false` if the queue is full.
    fn push(&self, message: Message) -> bool {
        let length = message.length;
        let waiting = self.waiting_bytes.fetch_add(length, Ordering::Relaxed);

        let is_queued = waiting.saturating_add(length) <= self.bytes_max
            && self.sender.try_send(message).is_ok();
        if !is_queued {
            self.waiting_bytes.fetch_sub(length, Ordering::Relaxed);
        }
        is_queued
    }
}

#[cfg(test)]
mod tests {
    use super::super::headers::HeaderBlock;
    use super::super::protocol::RawSubject;
    use super::*;
    use bytes::Bytes;

    fn message(sid: u64, length: usize) -> Message {
        Message {
            sid,
            subject: RawSubject::new(Bytes::from_static(b"a")),
            reply: None,
            headers: Ok(HeaderBlock::new()),
            payload: Bytes::new(),
            length,
        }
    }

    fn registry(
        subject: &str,
        queue_group: Option<&str>,
    ) -> (Registry, mpsc::Receiver<Message>, Arc<FrontCounters>) {
        let counters = Arc::new(FrontCounters::default());
        let (sender, receiver) = mpsc::channel(2);
        let mut registry = Registry::new(counters.clone());
        let route = Route {
            subject: subject.into(),
            queue_group: queue_group.map(Into::into),
            queue: Queue {
                sender,
                waiting_bytes: Arc::default(),
                bytes_max: 10,
            },
            is_denied: false,
            ending: None,
        };
        registry.insert(1, route);

        (registry, receiver, counters)
    }

    #[test]
    fn the_newest_message_is_dropped_when_the_queue_is_full() {
        let (mut registry, mut receiver, counters) = registry("a", None);

        registry.deliver(message(1, 8));
        registry.deliver(message(1, 3));
        assert_eq!(counters.dropped(), 1, "too many bytes");

        registry.deliver(message(1, 2));
        registry.deliver(message(1, 0));
        assert_eq!(counters.dropped(), 2, "too many messages");

        registry.deliver(message(9, 0));
        assert_eq!(counters.dropped(), 2, "an unknown subscription");

        assert_eq!(receiver.try_recv().expect("one").length, 8);
        assert_eq!(receiver.try_recv().expect("one").length, 2);
        assert!(receiver.try_recv().is_err());
    }

    #[test]
    fn a_denial_concerns_its_subscription_only() {
        let (mut registry, _receiver, _) = registry("a", Some("g"));
        let mut denied = DeniedSubscription {
            subject: "a".into(),
            queue_group: None,
            sid: None,
        };

        registry.deny(&denied);
        assert!(registry.denied().is_empty(), "another subscription");

        denied.queue_group = Some("g".into());
        registry.deny(&denied);
        assert_eq!(registry.denied(), ["a"]);

        let mut out = BytesMut::new();
        registry.subscribe(&mut out, |_| true);
        assert_eq!(&out[..], b"SUB a g 1\r\n");
        assert!(registry.denied().is_empty(), "requested again");

        denied.queue_group = None;
        denied.sid = Some(1);
        registry.deny(&denied);
        assert_eq!(registry.denied(), ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscription_ends_after_a_time_without_messages() {
        let (mut registry, mut receiver, _) = registry("a", None);
        assert!(registry.stop(1));
        assert!(!registry.stop(1), "again");
        assert!(!registry.stop(2), "an unknown subscription");
        assert_eq!(registry.next_end(), None);

        registry.stopped(1);
        tokio::time::advance(QUIET_TIME / 2).await;
        registry.deliver(message(1, 1));
        let end = registry.next_end().expect("an end");
        assert_eq!(end, Instant::now() + QUIET_TIME, "a message postpones it");

        tokio::time::advance(QUIET_TIME).await;
        registry.remove_ended();
        assert!(receiver.recv().await.is_some());
        assert!(receiver.recv().await.is_none());
    }
}
