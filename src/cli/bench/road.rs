//! How the requests of a run reach the service.
//!
//! They are plain requests of the NATS client, so that nothing else is measured. Only the headers are
//! those of any caller.

use super::reply::{Reply, body};
use super::tally::End;
use crate::wire::header::{AUTHORIZATION, CONTENT_TYPE, NATS_MSG_ID, REQUEST_TIMEOUT_MS};
use crate::wire::{Encoding, Operation};
use async_nats::client::RequestErrorKind;
use async_nats::{Client, HeaderMap, HeaderValue, Request};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// No worker is there.
pub(super) const NO_WORKER: &str = "no_worker";
/// The reply did not come in time.
pub(super) const NO_REPLY: &str = "no_reply";
/// The reply cannot be read.
pub(super) const UNREADABLE: &str = "unreadable";

/// Spells the subject of an operation.
pub(super) type Subject = Arc<dyn Fn(Operation) -> String + Send + Sync>;

/// The connections to the service, and what all requests have in common.
#[derive(Clone)]
pub(super) struct Road {
    /// At least one.
    pub clients: Vec<Client>,
    pub subject: Subject,
    pub encoding: Encoding,
    pub timeout: Duration,
}

/// A caller's token, as the header has it. It is never shown.
#[derive(Clone)]
pub(super) struct Token(HeaderValue);

impl Token {
    /// Takes a token; `None` if it is empty, or has a character that no token has.
    pub fn new(token: &str) -> Option<Self> {
        let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());

        is_token.then(|| Self(format!("Bearer {token}").as_str().into()))
    }
}

impl Road {
    /// Returns the same connections with other subjects.
    pub fn with_subject(&self, subject: Subject) -> Self {
        Self {
            subject,
            ..self.clone()
        }
    }

    /// Sends a request over the connection of that caller.
    ///
    /// # Errors
    ///
    /// How it ended, if it was not done.
    pub async fn ask(
        &self,
        caller: usize,
        token: &Token,
        operation: Operation,
        request: &Value,
    ) -> Result<Reply, (End, String)> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, token.0.clone());
        headers.insert(CONTENT_TYPE, self.encoding.content_type());
        headers.insert(REQUEST_TIMEOUT_MS, self.timeout.as_millis().to_string());
        let writes = matches!(
            operation,
            Operation::Put | Operation::Delete | Operation::Batch
        );
        if writes {
            headers.insert(NATS_MSG_ID, Uuid::now_v7().to_string());
        }
        let request = Request::new()
            .headers(headers)
            .payload(body(request, self.encoding).into())
            .timeout(Some(self.timeout));

        let client = &self.clients[caller % self.clients.len()];
        let reply = client
            .send_request((self.subject)(operation), request)
            .await
            .map_err(|error| match error.kind() {
                RequestErrorKind::NoResponders => unanswered(NO_WORKER),
                _ => unanswered(NO_REPLY),
            })?;
        let mut reply =
            Reply::read(&reply.payload, self.encoding).ok_or_else(|| unanswered(UNREADABLE))?;
        match reply.error.take() {
            Some(error) => Err((End::Refused(error.code), error.message)),
            None => Ok(reply),
        }
    }
}

fn unanswered(cause: &'static str) -> (End, String) {
    (End::Unanswered(cause), String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_token_is_taken_for_one() {
        assert!(Token::new("abc.def_-").is_some());
        for wrong in ["", "a b", "a\nb", "ä"] {
            assert!(Token::new(wrong).is_none(), "{wrong}");
        }
    }
}
