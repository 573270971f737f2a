//! A scripted end-to-end demo on servers of its own: it shows a person what the service promises.

use super::connect;
use super::platform::{Platform, PlatformOptions};
use crate::wire::header::AUTHORIZATION;
use crate::wire::{Operation, Subjects};
use anyhow::{Context as _, ensure};
use async_nats::{Client, HeaderMap};
use serde_json::{Value, json};
use std::time::Duration;

/// Runs the demo on a new platform. Fails if a step does not do what it announces.
pub async fn run(options: PlatformOptions) -> anyhow::Result<()> {
    println!("GoFavorites: a scripted demo on servers of its own\n");
    let platform = Platform::start(options, |step| println!("   {step}")).await?;

    let outcome = Demo::new(&platform).await?.run().await;
    platform.stop()?;
    outcome?;

    println!("\nThe demo is complete: every step did what it announced.");
    Ok(())
}

/// Calls the service as a gateway does, and prints each outcome.
struct Demo {
    client: Client,
    alice: String,
    bob: String,
}

impl Demo {
    async fn new(platform: &Platform) -> anyhow::Result<Self> {
        let secrets = platform.secrets();
        let client = connect::options(secrets, "gateway")?.connect(platform.nats_url());
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

    async fn run(&self) -> anyhow::Result<()> {
        let added = self.add_and_list().await?;
        self.change(&added["item"]["version"]).await?;
        self.delete().await?;
        self.isolate_owners().await?;

        self.refuse_invalid_requests().await
    }

    /// Returns the reply to the first `put`.
    async fn add_and_list(&self) -> anyhow::Result<Value> {
        println!("\nAlice, on shard a, adds two instruments.");
        let added = self
            .expect_success("a", Operation::Put, &self.alice, &apple())
            .await?;
        let bund = json!({
            "kind": "instrument",
            "data": {"isin": "DE0001102580", "type": "bond", "name": "Bund 2032"},
        });
        self.expect_success("a", Operation::Put, &self.alice, &bund)
            .await?;

        println!("She moves to shard b, and finds both there.");
        let strong = json!({"consistency": "strong"});
        let list = self
            .expect_success("b", Operation::List, &self.alice, &strong)
            .await?;
        ensure!(
            list["items"]
                .as_array()
                .is_some_and(|items| items.len() == 2),
            "shard b does not list two items"
        );

        Ok(added)
    }

    async fn change(&self, version: &Value) -> anyhow::Result<()> {
        println!("She changes the first, and names the version that she read.");
        let mut change = apple();
        change["tags"] = json!(["tech", "core"]);
        change["if_version"] = version.clone();
        let changed = self
            .expect_success("b", Operation::Put, &self.alice, &change)
            .await?;
        ensure!(
            changed["item"]["tags"] == json!(["core", "tech"]),
            "the reply does not show the change"
        );

        println!("With the old version she is refused; the refusal shows the current item.");
        self.expect_refusal(
            "a",
            Operation::Put,
            &self.alice,
            &change,
            "version_conflict",
        )
        .await
    }

    async fn delete(&self) -> anyhow::Result<()> {
        println!("She deletes the second.");
        let bund = json!({"kind": "instrument", "id": "DE0001102580"});
        self.expect_success("a", Operation::Delete, &self.alice, &bund)
            .await?;

        let strong = with(&bund, "consistency", "strong");
        self.expect_refusal("b", Operation::Get, &self.alice, &strong, "not_found")
            .await
    }

    async fn isolate_owners(&self) -> anyhow::Result<()> {
        println!("Bob sees none of it.");
        let list = self
            .expect_success("a", Operation::List, &self.bob, &json!({}))
            .await?;
        ensure!(list["items"] == json!([]), "Bob's list is not empty");

        Ok(())
    }

    async fn refuse_invalid_requests(&self) -> anyhow::Result<()> {
        println!("An ISIN with a wrong check digit is refused, and so is an invalid token.");
        let wrong =
            json!({"kind": "instrument", "data": {"isin": "US0378331006", "type": "stock"}});
        self.expect_refusal("a", Operation::Put, &self.alice, &wrong, "invalid_item")
            .await?;

        self.expect_refusal(
            "a",
            Operation::List,
            "no-token",
            &json!({}),
            "unauthenticated",
        )
        .await
    }

    /// Makes a request that must succeed, and prints its outcome. Returns the reply.
    async fn expect_success(
        &self,
        shard: &str,
        operation: Operation,
        token: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let reply = self.request(shard, operation, token, body).await?;
        ensure!(
            reply.get("error").is_none(),
            "{} was refused: {}",
            operation.name(),
            reply["error"]["message"]
        );

        let outcome = match reply["items"].as_array() {
            Some(items) => format!("{} items", items.len()),
            None => {
                format!(
                    "{} at version {}",
                    reply["item"]["id"].as_str().unwrap_or_default(),
                    reply["item"]["version"]
                )
            }
        };
        println!("   ✓ {:<6} on {shard}: {outcome}", operation.name());

        Ok(reply)
    }

    /// Makes a request that must be refused with `code`, and prints the refusal.
    async fn expect_refusal(
        &self,
        shard: &str,
        operation: Operation,
        token: &str,
        body: &Value,
        code: &str,
    ) -> anyhow::Result<()> {
        let reply = self.request(shard, operation, token, body).await?;
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

    async fn request(
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

fn apple() -> Value {
    json!({"kind": "instrument", "tags": ["tech"], "meta": {"broker": "x"}, "data": {
        "isin": "US0378331005", "type": "stock", "ticker": "AAPL", "mic": "XNAS",
        "currency": "USD", "name": "Apple Inc."}})
}

fn with(body: &Value, field: &str, value: &str) -> Value {
    let mut body = body.clone();
    body[field] = json!(value);
    body
}
