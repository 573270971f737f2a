//! A caller: sends requests as any client would, and checks the form of the replies.

use async_nats::{Client, HeaderMap};
use serde_json::{Value, json};
use std::sync::Arc;

/// A caller of the service.
#[derive(Clone)]
pub struct Caller {
    pub client: Client,
    pub token: Arc<str>,
}

/// A reply, with its body decoded from JSON.
#[derive(Debug)]
pub struct Reply {
    pub headers: HeaderMap,
    pub body: Value,
}

impl Reply {
    /// Returns the text of a header; an empty one if the reply does not have it.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.as_str())
    }

    /// Returns the refusal, and fails if it does not have this code.
    #[track_caller]
    pub fn refusal(&self, code: &str) -> &Value {
        let error = &self.body["error"];

        assert_eq!(error["code"], code, "another reply: {}", self.body);
        assert_eq!(
            self.header("Nats-Service-Error-Code"),
            error["status"].to_string()
        );

        error
    }
}

impl Caller {
    pub fn new(client: Client, token: String) -> Self {
        Self {
            client,
            token: token.into(),
        }
    }

    /// Returns a caller with the same client and another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            client: self.client.clone(),
            token: token.into(),
        }
    }

    /// Returns the headers of this caller's requests.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("Authorization", format!("Bearer {}", self.token));

        headers
    }

    /// Sends a request for `what`: `a.put` goes to shard a, and `put` to the nearest worker.
    pub async fn ask(&self, what: &str, body: &Value) -> Reply {
        self.ask_with(what, self.headers(), body.to_string().into_bytes())
            .await
    }

    /// Sends a request with these headers and bytes.
    pub async fn ask_with(&self, what: &str, headers: HeaderMap, body: Vec<u8>) -> Reply {
        let subject = match what.split_once('.') {
            Some((shard, operation)) => format!("favorites.v1.shard.{shard}.{operation}"),
            None => format!("favorites.v1.{what}"),
        };

        let reply = self
            .client
            .request_with_headers(subject, headers, body.into())
            .await
            .expect("a reply");

        assert!(!reply.payload.is_empty(), "a reply is never empty");
        let body = serde_json::from_slice(&reply.payload).unwrap_or(Value::Null);

        Reply {
            headers: reply.headers.unwrap_or_default(),
            body,
        }
    }

    /// Does the same as [`ask`](Self::ask), with a request id.
    pub async fn ask_once(&self, what: &str, request_id: &str, body: &Value) -> Reply {
        let mut headers = self.headers();
        headers.insert("Nats-Msg-Id", request_id);

        self.ask_with(what, headers, body.to_string().into_bytes())
            .await
    }

    /// Returns the body of the reply, and fails if it is a refusal.
    #[track_caller]
    pub fn done(&self, what: &str, body: &Value) -> impl Future<Output = Value> + use<> {
        let place = std::panic::Location::caller();
        let caller = self.clone();
        let what = what.to_owned();
        let body = body.clone();

        async move {
            let reply = caller.ask(&what, &body).await;

            assert!(
                reply.body.get("error").is_none(),
                "{place}: {what} was refused: {}",
                reply.body
            );
            reply.body
        }
    }

    /// Puts a text, and returns the reply.
    pub async fn put_text(&self, shard: &str, id: &str, text: &str) -> Value {
        let body = json!({"kind": "text", "id": id, "data": {"text": text}});

        self.done(&format!("{shard}.put"), &body).await
    }
}
