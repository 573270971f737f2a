//! The whole story once, on servers of its own: what the service promises, as a person would want to see it.

use super::platform::{Platform, PlatformOptions};
use crate::wire::header::AUTHORIZATION;
use crate::wire::{Operation, Subjects};
use anyhow::{Context as _, ensure};
use async_nats::{Client, ConnectOptions, HeaderMap};
use serde_json::{Value, json};
use std::time::Duration;

/// Tells the story on a platform as `options` say; fails where it does not go as told.
pub async fn tell(options: PlatformOptions) -> anyhow::Result<()> {
    println!("GoFavorites, the whole story on servers of its own\n");
    let platform = Platform::start(options, |step| println!("   {step}")).await?;
    let told = Demo::new(&platform).await?.tell().await;
    platform.stop()?;
    told?;
    println!("\nThat is the whole story; everything went as told.");
    Ok(())
}

/// Calls the service as a gateway does, and says what happens.
struct Demo {
    client: Client,
    alice: String,
    bob: String,
}

impl Demo {
    async fn new(platform: &Platform) -> anyhow::Result<Self> {
        let secrets = platform.secrets();
        let password = secrets.nats("gateway").to_owned();
        let client = ConnectOptions::with_user_and_password("gateway".into(), password)
            .connect(platform.nats_url());
        let token = |name| {
            super::tokens::token(
                secrets,
                name,
                super::tokens::ALL_SCOPES,
                Duration::from_secs(600),
            )
        };
        Ok(Self {
            client: client.await?,
            alice: token("alice")?,
            bob: token("bob")?,
        })
    }

    async fn tell(&self) -> anyhow::Result<()> {
        println!("\nAlice, on shard a, adds two instruments.");
        let apple = json!({"kind": "instrument", "tags": ["tech"], "meta": {"broker": "x"}, "data": {
            "isin": "US0378331005", "type": "stock", "ticker": "AAPL", "mic": "XNAS", "currency": "USD",
            "name": "Apple Inc."}});
        let first = self.done("a", Operation::Put, &self.alice, &apple).await?;
        let bund = json!({"kind": "instrument", "data": {"isin": "DE0001102580", "type": "bond", "name": "Bund 2032"}});
        self.done("a", Operation::Put, &self.alice, &bund).await?;

        println!("She moves to shard b, and finds both there.");
        let list = self
            .done(
                "b",
                Operation::List,
                &self.alice,
                &json!({"consistency": "strong"}),
            )
            .await?;
        ensure!(
            list["items"]
                .as_array()
                .is_some_and(|items| items.len() == 2),
            "two items are on shard b"
        );

        println!("She changes the first, naming the version that she knows.");
        let version = first["item"]["version"].clone();
        let mut change = apple.clone();
        change["tags"] = json!(["tech", "core"]);
        change["if_version"] = version.clone();
        let changed = self.done("b", Operation::Put, &self.alice, &change).await?;
        ensure!(
            changed["item"]["tags"] == json!(["core", "tech"]),
            "the change is there"
        );

        println!("With the old version she is refused, and told what is there now.");
        self.refused(
            "a",
            Operation::Put,
            &self.alice,
            &change,
            "version_conflict",
        )
        .await?;

        println!("She deletes the second.");
        let gone = json!({"kind": "instrument", "id": "DE0001102580"});
        self.done("a", Operation::Delete, &self.alice, &gone)
            .await?;
        self.refused(
            "b",
            Operation::Get,
            &self.alice,
            &with(&gone, "consistency", "strong"),
            "not_found",
        )
        .await?;

        println!("Bob sees none of it.");
        let list = self
            .done("a", Operation::List, &self.bob, &json!({}))
            .await?;
        ensure!(list["items"] == json!([]), "bob has nothing");

        println!(
            "An ISIN with a wrong check digit is refused, and so is a token that nobody made."
        );
        let wrong =
            json!({"kind": "instrument", "data": {"isin": "US0378331006", "type": "stock"}});
        self.refused("a", Operation::Put, &self.alice, &wrong, "invalid_item")
            .await?;
        self.refused(
            "a",
            Operation::List,
            "no-token",
            &json!({}),
            "unauthenticated",
        )
        .await
    }

    async fn done(
        &self,
        shard: &str,
        operation: Operation,
        token: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let reply = self.ask(shard, operation, token, body).await?;
        ensure!(
            reply.get("error").is_none(),
            "{} was refused: {}",
            operation.name(),
            reply["error"]["message"]
        );
        let what = match reply["items"].as_array() {
            Some(items) => format!("{} items", items.len()),
            None => {
                format!(
                    "{} at version {}",
                    reply["item"]["id"].as_str().unwrap_or_default(),
                    reply["item"]["version"]
                )
            }
        };
        println!("   ✓ {:<6} on {shard}: {what}", operation.name());
        Ok(reply)
    }

    async fn refused(
        &self,
        shard: &str,
        operation: Operation,
        token: &str,
        body: &Value,
        code: &str,
    ) -> anyhow::Result<()> {
        let reply = self.ask(shard, operation, token, body).await?;
        let error = reply
            .get("error")
            .with_context(|| format!("{} was not refused", operation.name()))?;
        ensure!(
            error["code"] == code,
            "refused with {} and not {code}",
            error["code"]
        );
        println!(
            "   ✓ {:<6} on {shard}: {code}: {}",
            operation.name(),
            error["message"].as_str().unwrap_or_default()
        );
        Ok(())
    }

    async fn ask(
        &self,
        shard: &str,
        operation: Operation,
        token: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {token}"));
        let subject = Subjects::new("favorites", shard)?.request_on_shard(shard, operation);
        let reply = self
            .client
            .request_with_headers(subject, headers, body.to_string().into())
            .await?;
        Ok(serde_json::from_slice(&reply.payload)?)
    }
}

fn with(body: &Value, field: &str, value: &str) -> Value {
    let mut body = body.clone();
    body[field] = json!(value);
    body
}
