//! The queue of published messages that wait to be written.
//!
//! It is bounded: publishers wait while it is full. It outlives a link: messages of which the lost
//! link had written no byte are sent on the next one. So a message is sent once or, if its link is
//! lost, perhaps not at all. It is never sent twice.

use super::encoder;
use super::error::PublishError;
use super::headers::HeaderBlock;
use bytes::{Buf as _, BytesMut};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tracing::warn;

/// The size from which on publishers wait, in bytes.
const OUTBOX_BYTES_MAX: usize = 1 << 20;

/// The queue of published messages that wait to be written.
#[derive(Default)]
pub(super) struct Outbox {
    messages: Mutex<Messages>,
    filled: Notify,
    drained: Notify,
    max_payload: AtomicUsize,
    closed: AtomicBool,
}

/// Encoded messages, and the position where each ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Messages {
    bytes: BytesMut,
    ends: VecDeque<usize>,
}

/// What a link is writing: messages, then commands that concern this link alone.
#[derive(Default)]
pub(super) struct Chunk {
    bytes: BytesMut,
    /// The number of bytes that were written.
    written: usize,
    messages_len: usize,
    ends: VecDeque<usize>,
}

impl Outbox {
    /// Queues a message. Waits while the queue is full.
    pub async fn publish(
        &self,
        subject: &str,
        headers: &HeaderBlock,
        payload: &[u8],
    ) -> Result<(), PublishError> {
        if !encoder::is_subject(subject) {
            return Err(PublishError::Subject);
        }

        let length = encoder::publish_len(headers, payload);
        let max = self.max_payload.load(Ordering::Relaxed);
        if length > max {
            return Err(PublishError::TooLong { length, max });
        }

        loop {
            let mut drained = std::pin::pin!(self.drained.notified());
            drained.as_mut().enable();

            if self.closed.load(Ordering::Acquire) {
                return Err(PublishError::Closed);
            }
            if self.try_publish(subject, headers, payload) {
                return Ok(());
            }
            drained.await;
        }
    }

    fn try_publish(&self, subject: &str, headers: &HeaderBlock, payload: &[u8]) -> bool {
        let mut messages = self.lock();
        if messages.bytes.len() >= OUTBOX_BYTES_MAX {
            return false;
        }

        encoder::publish(&mut messages.bytes, subject, headers, payload);
        let end = messages.bytes.len();
        messages.ends.push_back(end);
        drop(messages);

        self.filled.notify_one();
        true
    }

    /// Waits until there may be something to write.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Takes everything out, and appends the commands of one link.
    pub fn take(&self, control: &mut BytesMut) -> Chunk {
        let mut messages = self.lock();
        let taken = Messages {
            bytes: messages.bytes.split(),
            ends: std::mem::take(&mut messages.ends),
        };
        drop(messages);

        if !taken.bytes.is_empty() {
            self.drained.notify_waiters();
        }
        let mut chunk = Chunk {
            messages_len: taken.bytes.len(),
            bytes: taken.bytes,
            written: 0,
            ends: taken.ends,
        };
        if chunk.bytes.is_empty() {
            chunk.bytes = control.split();
        } else {
            chunk.bytes.extend_from_slice(&control.split());
        }
        chunk
    }

    /// Puts messages back, before those that were queued since.
    pub fn put_back(&self, mut before: Messages) {
        let mut messages = self.lock();

        let shift = before.bytes.len();
        before.bytes.extend_from_slice(&messages.bytes);
        before
            .ends
            .extend(messages.ends.iter().map(|end| end + shift));
        *messages = before;
        messages.drop_longer_than(self.max_payload.load(Ordering::Relaxed));
    }

    /// Applies the server's `max_payload`.
    pub fn set_max_payload(&self, max_payload: usize) {
        let before = self.max_payload.swap(max_payload, Ordering::Relaxed);
        if max_payload < before {
            self.lock().drop_longer_than(max_payload);
        }
    }

    /// Refuses all further messages.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.drained.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Messages> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Messages {
    /// Drops the messages that the server would not take: it would end the connection over one.
    fn drop_longer_than(&mut self, max_payload: usize) {
        let mut start = 0;
        let mut kept = Self::default();

        for end in &self.ends {
            let message = &self.bytes[start..*end];
            if encoder::payload_len(message) <= max_payload {
                kept.bytes.extend_from_slice(message);
                kept.ends.push_back(kept.bytes.len());
            } else {
                warn!("dropped a reply that is longer than the new server's max_payload");
            }
            start = *end;
        }

        if kept.ends.len() < self.ends.len() {
            *self = kept;
        }
    }
}

impl Chunk {
    /// Returns whether all of it is written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the bytes that are left to write.
    pub fn rest(&self) -> &[u8] {
        &self.bytes
    }

    /// Records that the next `count` bytes are written.
    pub fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.written += count;
    }

    /// Returns the messages of which no byte was written.
    pub fn into_unsent(mut self) -> Messages {
        while self.ends.front().is_some_and(|end| *end < self.written) {
            self.ends.pop_front();
        }

        let start = match self.written {
            0 => 0,
            // The message that ends here was written in part, or completely.
            _ => self.ends.pop_front().unwrap_or(self.messages_len),
        };
        if start >= self.messages_len || start < self.written {
            return Messages::default();
        }

        self.bytes.truncate(self.messages_len - self.written);
        self.bytes.advance(start - self.written);
        self.ends.iter_mut().for_each(|end| *end -= start);

        Messages {
            bytes: self.bytes,
            ends: self.ends,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use proptest::prelude::*;

    fn outbox() -> Outbox {
        let outbox = Outbox::default();
        outbox.set_max_payload(OUTBOX_BYTES_MAX);
        outbox
    }

    fn publish(outbox: &Outbox, payload: &[u8]) -> Option<Result<(), PublishError>> {
        outbox
            .publish("a", &HeaderBlock::new(), payload)
            .now_or_never()
    }

    #[test]
    fn messages_come_before_commands() {
        let outbox = outbox();
        assert_eq!(publish(&outbox, b"x"), Some(Ok(())));
        let mut control = BytesMut::from(&b"PING\r\n"[..]);

        let chunk = outbox.take(&mut control);

        assert_eq!(chunk.rest(), b"PUB a 1\r\nx\r\nPING\r\n");
        assert!(control.is_empty());
        assert!(outbox.take(&mut control).is_empty());
    }

    #[test]
    fn what_would_end_the_connection_is_not_sent() {
        let outbox = outbox();
        outbox.set_max_payload(2);
        let headers = HeaderBlock::new();

        let too_long = publish(&outbox, b"xyz");
        let two_subjects = outbox.publish("a b", &headers, b"").now_or_never();

        assert_eq!(
            too_long,
            Some(Err(PublishError::TooLong { length: 3, max: 2 }))
        );
        assert_eq!(two_subjects, Some(Err(PublishError::Subject)));
    }

    #[test]
    fn what_a_new_server_would_not_take_is_dropped() {
        let outbox = outbox();
        let mut headers = HeaderBlock::new();
        headers.append("a", "b").expect("a header");
        for payload in [&b"long"[..], b"x"] {
            assert_eq!(publish(&outbox, payload), Some(Ok(())));
        }
        outbox
            .publish("h", &headers, b"y")
            .now_or_never()
            .expect("room")
            .expect("queued");

        outbox.set_max_payload(3);

        let mut before = Outbox::default().take(&mut BytesMut::new()).into_unsent();
        encoder::publish(&mut before.bytes, "b", &HeaderBlock::new(), b"long");
        before.ends.push_back(before.bytes.len());
        outbox.put_back(before);
        let chunk = outbox.take(&mut BytesMut::new());
        assert_eq!(chunk.rest(), b"PUB a 1\r\nx\r\n");
    }

    #[tokio::test]
    async fn publishers_wait_while_it_is_full() {
        let outbox = outbox();
        let payload = vec![b'x'; OUTBOX_BYTES_MAX];
        assert_eq!(publish(&outbox, &payload), Some(Ok(())));
        let headers = HeaderBlock::new();

        let mut waiting = std::pin::pin!(outbox.publish("a", &headers, b"y"));
        assert!(waiting.as_mut().now_or_never().is_none());

        outbox.take(&mut BytesMut::new());
        assert_eq!(waiting.await, Ok(()));
    }

    #[tokio::test]
    async fn closing_ends_the_wait() {
        let outbox = outbox();
        let payload = vec![b'x'; OUTBOX_BYTES_MAX];
        assert_eq!(publish(&outbox, &payload), Some(Ok(())));
        let headers = HeaderBlock::new();

        let mut waiting = std::pin::pin!(outbox.publish("a", &headers, b"y"));
        assert!(waiting.as_mut().now_or_never().is_none());

        outbox.close();
        assert_eq!(waiting.await, Err(PublishError::Closed));
    }

    proptest! {
        /// Wherever a link is lost, the next one begins with a message of which nothing was sent.
        #[test]
        fn a_message_is_never_sent_twice_nor_cut(
            payloads in prop::collection::vec("[a-z]{0,9}", 0..6),
            later in prop::collection::vec("[a-z]{0,9}", 0..3),
            place in any::<prop::sample::Index>(),
        ) {
            let outbox = outbox();
            let encode = |payload: &String| {
                let mut bytes = BytesMut::new();
                encoder::publish(&mut bytes, "a", &HeaderBlock::new(), payload.as_bytes());
                bytes
            };

            for payload in &payloads {
                prop_assert_eq!(publish(&outbox, payload.as_bytes()), Some(Ok(())));
            }
            let mut chunk = outbox.take(&mut BytesMut::from(&b"PING\r\n"[..]));
            for payload in &later {
                prop_assert_eq!(publish(&outbox, payload.as_bytes()), Some(Ok(())));
            }
            let written = place.index(chunk.rest().len() + 1);

            chunk.advance(written);
            outbox.put_back(chunk.into_unsent());

            let mut begun = 0;
            let unsent = payloads.iter().skip_while(|payload| {
                let is_begun = begun < written;
                begun += encode(payload).len();
                is_begun
            });
            let expected: Vec<u8> = unsent.chain(&later).flat_map(encode).collect();
            let again = outbox.take(&mut BytesMut::new());

            prop_assert_eq!(again.rest(), &expected[..]);
            prop_assert_eq!(again.ends.back().copied().unwrap_or(0), expected.len());
        }
    }
}
