//! A caller of the service: connects, asks, and tells a refusal as a person can read it.

use crate::wire::header::AUTHORIZATION;
use crate::wire::{Operation, Subjects};
use anyhow::{Context as _, bail};
use async_nats::client::RequestErrorKind;
use async_nats::{ConnectOptions, HeaderMap};
use clap::Args;
use serde_json::Value;
use std::time::Duration;

/// How long to wait for a reply.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the service is and who asks.
#[derive(Args)]
pub(super) struct Connection {
    /// The NATS server, as nats://host:port
    #[arg(long, env = "GOFAVORITES_URL", hide_env_values = true, global = true)]
    url: Option<String>,
    /// The NATS user
    #[arg(long, env = "GOFAVORITES_USER", hide_env_values = true, default_value = "")]
    user: String,
    /// The NATS user's password
    #[arg(long, env = "GOFAVORITES_PASSWORD", hide_env_values = true, default_value = "", hide_default_value = true)]
    password: String,
    /// Your access token
    #[arg(long, env = "GOFAVORITES_TOKEN", hide_env_values = true, default_value = "", hide_default_value = true)]
    token: String,
    /// Ask this shard rather than the nearest worker
    #[arg(long)]
    shard: Option<String>,
    /// The prefix of the service's subjects
    #[arg(long, env = "GOFAVORITES_PREFIX", default_value = "favorites")]
    prefix: String,
}

impl Connection {
    /// Whether a server is named.
    pub fn is_given(&self) -> bool {
        self.url.is_some()
    }

    /// Asks, and gives the reply's body; a refusal is an error that says what to mend.
    pub async fn ask(&self, operation: Operation, body: &Value) -> anyhow::Result<Value> {
        let url = self.url.as_deref().context("no server: give --url, or set GOFAVORITES_URL")?;
        let client = ConnectOptions::new()
            .user_and_password(self.user.clone(), self.password.clone())
            .name("gofavorites client")
            .request_timeout(Some(PATIENCE))
            .connect(url)
            .await
            .context("NATS cannot be reached; look at --url, --user and --password")?;
        let mut headers = HeaderMap::new();
        if !self.token.is_empty() {
            headers.insert(AUTHORIZATION, format!("Bearer {}", self.token));
        }
        let subjects = Subjects::new(&self.prefix, self.shard.as_deref().unwrap_or("any"))?;
        let subject = match &self.shard {
            Some(shard) => subjects.request_on_shard(shard, operation),
            None => subjects.request(operation),
        };
        let asked = client.request_with_headers(subject.clone(), headers, body.to_string().into()).await;
        let reply = match asked {
            Err(fault) if fault.kind() == RequestErrorKind::NoResponders => {
                bail!("nobody answers on {subject}: is a worker running, and the shard's name right?")
            }
            asked => asked.with_context(|| format!("no answer on {subject}"))?,
        };
        let reply: Value = serde_json::from_slice(&reply.payload).context("the reply is not JSON")?;
        match reply.get("error") {
            Some(error) if self.token.is_empty() && error["code"] == "unauthenticated" => {
                bail!("no token: give --token, or set GOFAVORITES_TOKEN")
            }
            Some(error) => bail!("{}", refusal(error)),
            None => Ok(reply),
        }
    }
}

fn refusal(error: &Value) -> String {
    let text = |key: &str| error[key].as_str().unwrap_or_default();
    format!("{} ({}): {}", text("code"), error["status"], text("message"))
}

/// Prints a reply as JSON, for machines.
pub(super) fn print_json(value: &Value) {
    println!("{value:#}");
}

/// One line that tells what an item is.
pub(super) fn summary(item: &Value) -> String {
    let data = &item["data"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match item["kind"].as_str() {
        Some("instrument") => [&data["type"], &data["ticker"], &data["name"]]
            .into_iter()
            .map(text)
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" "),
        Some("text") => {
            let text = text(&data["text"]).replace(char::is_control, " ");
            let cut: String = text.chars().take(40).collect();
            if cut.len() < text.len() { format!("{cut}…") } else { cut }
        }
        _ => String::new(),
    }
}
