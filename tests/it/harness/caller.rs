//! A caller: sends requests as any client would, and looks at the replies.

use async_nats::{Client, HeaderMap};
use serde_json::{Value, json};
use std::sync::Arc;

/// Somebody who calls the service.
#[derive(Clone)]
pub struct Caller {
    pub client: Client,
    pub token: Arc<str>,
}

/// A reply, its body decoded from JSON.
#[derive(Debug)]
pub struct Reply {
    pub headers: HeaderMap,
    pub body: Value,
}

impl Reply {
    /// A header's text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.as_str())
    }

    /// The refusal, which has to have that code.
    #[track_caller]
    pub fn refusal(&self, code: &str) -> &Value {
        let error = &self.body["error"];
        assert_eq!(error["code"], code, "not refused so, but: {}", self.body);
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

    /// The same client with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            client: self.client.clone(),
            token: token.into(),
        }
    }

    /// The headers of a request of this caller's.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("Authorization", format!("Bearer {}", self.token));
        headers
    }

    /// Asks on `<shard>.<operation>` or, without a dot, the nearest worker; `a.put`, `put`.
    pub async fn ask(&self, what: &str, body: &Value) -> Reply {
        self.ask_with(what, self.headers(), body.to_string().into_bytes())
            .await
    }

    /// Asks with these headers and bytes.
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

    /// As [`ask`](Self::ask), with a request id.
    pub async fn ask_once(&self, what: &str, request_id: &str, body: &Value) -> Reply {
        let mut headers = self.headers();
        headers.insert("Nats-Msg-Id", request_id);
        self.ask_with(what, headers, body.to_string().into_bytes())
            .await
    }

    /// The body of a reply that has to be no refusal.
    #[track_caller]
    pub fn done(&self, what: &str, body: &Value) -> impl Future<Output = Value> + use<> {
        let place = std::panic::Location::caller();
        let (caller, what, body) = (self.clone(), what.to_owned(), body.clone());
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

    /// Keeps a text, and gives the reply.
    pub async fn put_text(&self, shard: &str, id: &str, text: &str) -> Value {
        self.done(
            &format!("{shard}.put"),
            &json!({"kind": "text", "id": id, "data": {"text": text}}),
        )
        .await
    }
}
