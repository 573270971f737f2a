//! A caller of the service: connects, asks, and tells a refusal as a person can read it.

use super::contexts::{Contexts, Place};
use super::failed::CommandError;
use crate::wire::header::{AUTHORIZATION, NATS_MSG_ID, REQUEST_TIMEOUT_MS};
use crate::wire::{Operation, RequestKey, Scope, Subjects};
use anyhow::Context as _;
use async_nats::client::RequestErrorKind;
use async_nats::{ConnectOptions, HeaderMap};
use clap::Args;
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The longest time that the service takes for one request, and that one attempt is given.
const LONGEST: Duration = Duration::from_secs(30);
/// What the way there and back may take beside.
const WAY: Duration = Duration::from_millis(300);
/// Between two attempts, unless the service asks for more; and what it may ask for at most.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// What a request's headers take beside the token, in bytes, about.
const HEADERS: usize = 512;

/// Where the service is and who asks: by flag, else from the environment, else from a context.
#[derive(Args, Clone)]
#[command(next_help_heading = "Connection")]
pub(super) struct Connection {
    /// The NATS server, as nats://host:port
    #[arg(long, env = "GOFAVORITES_URL", hide_env_values = true)]
    url: Option<String>,
    /// The NATS user
    #[arg(long, env = "GOFAVORITES_USER", hide_env_values = true)]
    user: Option<String>,
    /// The NATS user's password
    #[arg(long, env = "GOFAVORITES_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// Your access token
    #[arg(long, env = "GOFAVORITES_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Ask this shard rather than the nearest worker
    #[arg(long)]
    shard: Option<String>,
    /// The prefix of the service's subjects [default: favorites]
    #[arg(long, env = "GOFAVORITES_PREFIX")]
    prefix: Option<String>,
    /// The context that fills in what is not given
    #[arg(long, env = "GOFAVORITES_CONTEXT")]
    context: Option<String>,
    /// The file of contexts [default: ~/.config/gofavorites/contexts.toml]
    #[arg(long, env = "GOFAVORITES_CONTEXTS")]
    contexts: Option<PathBuf>,
    /// How long to wait, in seconds
    #[arg(long, default_value = "10", value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
}

/// A connection to the service.
pub(super) struct Client {
    nats: async_nats::Client,
    subjects: Subjects,
    shard: Option<String>,
    token: Option<String>,
    patience: Duration,
    until: Instant,
}

impl Connection {
    /// What is given, the context's filled in.
    fn place(&self) -> anyhow::Result<Place> {
        let context = Contexts::read(self.contexts.as_deref())?.find(self.context.as_deref())?;
        let token = match &self.token {
            Some(token) => Some(token.clone()),
            None => context.token()?,
        };
        if token
            .as_ref()
            .is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            let places = "--token, GOFAVORITES_TOKEN or the context";
            return Err(CommandError::usage(format!(
                "the token of {places} has a line break, a space, or the like"
            ))
            .into());
        }
        Ok(Place {
            url: self.url.clone().or(context.url),
            user: self.user.clone().or(context.user),
            password: self.password.clone().or(context.password),
            token: token.filter(|token| !token.is_empty()),
            token_file: None,
            shard: self.shard.clone().or(context.shard),
            prefix: self.prefix.clone().or(context.prefix),
        })
    }

    /// The shard that is named on the command line.
    pub fn shard_named(&self) -> Option<&str> {
        self.shard.as_deref()
    }

    /// Whether a server is named.
    pub fn is_given(&self) -> anyhow::Result<bool> {
        Ok(self.place()?.url.is_some())
    }

    /// Connects.
    pub async fn open(&self) -> anyhow::Result<Client> {
        let patience = Duration::from_secs(self.timeout);
        let until = Instant::now() + patience;
        let place = self.place()?;
        let url = place
            .url
            .context("no server: give --url, set GOFAVORITES_URL, or name a --context")?;
        let mut options = ConnectOptions::new()
            .name("gofavorites client")
            .connection_timeout(LONGEST.min(left(until)));
        if let Some(user) = place.user {
            options = options.user_and_password(user, place.password.unwrap_or_default());
        }
        let nats = options.connect(&url).await.map_err(|error| {
            // The client's own text may repeat the URL, with a password in it.
            CommandError::away(format!(
                "NATS cannot be reached ({}); look at --url, --user and --password",
                error.kind()
            ))
        })?;
        let prefix = place.prefix.as_deref().unwrap_or("favorites");
        let subjects = Subjects::new(prefix, place.shard.as_deref().unwrap_or("any"))?;
        Ok(Client {
            nats,
            subjects,
            shard: place.shard,
            token: place.token,
            patience,
            until,
        })
    }

    /// Connects, and asks once.
    pub async fn ask(&self, operation: Operation, body: &Value) -> anyhow::Result<Value> {
        self.open().await?.ask(operation, body).await
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

impl Client {
    /// Begins to be patient anew, for what is asked next.
    pub fn wait_anew(&mut self) {
        self.until = Instant::now() + self.patience;
    }

    /// The NATS connection.
    pub fn nats(&self) -> &async_nats::Client {
        &self.nats
    }

    /// The service's name in discovery.
    pub fn service_name(&self) -> String {
        let subject = self.subjects.request(Operation::Version);
        subject
            .split(".v1.")
            .next()
            .unwrap_or_default()
            .replace('.', "_")
    }

    /// When the caller's patience ends.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Asks, and gives the reply's body; a refusal is an error that says what to mend.
    pub async fn ask(&self, operation: Operation, body: &Value) -> anyhow::Result<Value> {
        self.attempt(operation, body, None).await
    }

    /// Writes under a request id, and finds out what became of it where no answer comes: it is asked again, and done once.
    pub async fn write(
        &self,
        operation: Operation,
        body: &Value,
        request_id: Option<&str>,
    ) -> anyhow::Result<Value> {
        let request_id = request_id.map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned);
        if RequestKey::parse(&request_id).is_err() {
            return Err(CommandError::usage(
                "--request-id: give 1 to 128 printable ASCII characters, on one line",
            )
            .into());
        }
        let mut in_doubt = false;
        loop {
            let error = match self.attempt(operation, body, Some(&request_id)).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let failed = error.downcast_ref::<CommandError>();
            in_doubt |= failed.is_some_and(|failed| failed.exit_code() == 9);
            // Once in doubt, it stays so until an answer tells what became of the write.
            if !in_doubt || failed.is_some_and(CommandError::settles) {
                return Err(error);
            }
            let pause = failed
                .and_then(CommandError::retry_after_ms)
                .map_or(PAUSE, Duration::from_millis);
            let pause = pause.clamp(PAUSE, LONGEST_PAUSE);
            if left(self.until) < pause + WAY {
                return Err(CommandError::in_doubt(&request_id).into());
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(
        &self,
        operation: Operation,
        body: &Value,
        request_id: Option<&str>,
    ) -> anyhow::Result<Value> {
        let subject = match &self.shard {
            Some(shard) => self.subjects.request_on_shard(shard, operation),
            None => self.subjects.request(operation),
        };
        let budget = left(self.until).saturating_sub(WAY).clamp(WAY, LONGEST);
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_TIMEOUT_MS, budget.as_millis().to_string());
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(id) = request_id {
            headers.insert(NATS_MSG_ID, id);
        }
        let body = body.to_string();
        let bytes = body.len() + self.token.as_ref().map_or(0, String::len) + HEADERS;
        let limit = self.nats.server_info().max_payload;
        if limit > 0 && bytes > limit {
            return Err(CommandError::too_large(bytes, limit).into());
        }
        let request = async_nats::Request::new()
            .headers(headers)
            .payload(body.into())
            .timeout(Some(budget + WAY));
        let reply = match self.nats.send_request(subject.clone(), request).await {
            Ok(reply) => reply,
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                let hint = "is a worker running, and the shard's name right?";
                return Err(
                    CommandError::away(format!("nobody answers on {subject}: {hint}")).into(),
                );
            }
            Err(_) => {
                return Err(match request_id {
                    Some(id) => CommandError::in_doubt(id),
                    None => CommandError::away(format!("no answer on {subject} in time")),
                }
                .into());
            }
        };
        let reply: Value =
            serde_json::from_slice(&reply.payload).context("the reply is not JSON")?;
        match (reply.get("error"), request_id) {
            (None, _) => Ok(reply),
            (Some(error), Some(id)) if error["code"] == "in_doubt" => {
                Err(CommandError::in_doubt(id).into())
            }
            (Some(error), _) => Err(self.refused(operation, error).into()),
        }
    }

    fn refused(&self, operation: Operation, error: &Value) -> CommandError {
        let mut error = error.clone();
        let needs_token = operation
            .scope()
            .is_some_and(|scope| scope != Scope::Secrets);
        if self.token.is_none() && needs_token && error["code"] == "unauthenticated" {
            error["message"] =
                "no token: give --token, set GOFAVORITES_TOKEN, or name a --context".into();
        }
        CommandError::refused(&error)
    }
}
