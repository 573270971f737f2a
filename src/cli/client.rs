//! A client of the service: connects, sends requests, and turns refusals into errors for people.

use super::contexts::{Contexts, Place, read_private};
use super::failed::CommandError;
use super::nats_options::{NatsOptions, path, text};
use crate::wire::header::{AUTHORIZATION, NATS_MSG_ID, REQUEST_TIMEOUT_MS};
use crate::wire::{Operation, RequestKey, Subjects};
use anyhow::Context as _;
use async_nats::HeaderMap;
use async_nats::client::RequestErrorKind;
use clap::Args;
use serde_json::Value;
use std::ffi::OsString;
use std::time::{Duration, Instant};

/// The longest time that the service accepts for one request, and so the longest for one attempt.
const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// What the round trip to the service may take in addition.
const ROUND_TRIP_ALLOWANCE: Duration = Duration::from_millis(300);
/// The pause between two attempts, unless the service asks for more.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause that the service may ask for.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Roughly what a request's headers take in addition to the token.
const HEADERS_BYTES: usize = 512;

/// The service's address and the caller's credentials: from an option, else from the environment,
/// else from a context.
#[derive(Args, Clone)]
#[command(next_help_heading = "Connection")]
pub(super) struct Connection {
    #[command(flatten)]
    nats: NatsOptions,
    /// Your access token
    #[arg(long, env = "GOFAVORITES_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file that holds your access token
    #[arg(long, env = "GOFAVORITES_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<OsString>,
    /// Ask this shard instead of the nearest worker
    #[arg(long)]
    shard: Option<String>,
    /// The prefix of the service's subjects [default: favorites]
    #[arg(long, env = "GOFAVORITES_PREFIX")]
    prefix: Option<String>,
    /// The context to take missing values from
    #[arg(long, env = "GOFAVORITES_CONTEXT")]
    context: Option<String>,
    /// The file of contexts [default: ~/.config/gofavorites/contexts.toml]
    #[arg(long, env = "GOFAVORITES_CONTEXTS")]
    contexts: Option<OsString>,
    /// How long to wait in all, in seconds
    #[arg(long, default_value = "10", value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
}

/// A connection to the service.
pub(super) struct Client {
    nats: async_nats::Client,
    subjects: Subjects,
    shard: Option<String>,
    token: Option<String>,
    timeout: Duration,
    deadline: Instant,
}

impl Connection {
    /// The context that fills in what is not given.
    fn context(&self) -> anyhow::Result<Place> {
        let file = path(self.contexts.as_ref());
        let name = text(self.context.as_ref());

        Contexts::read(file.as_deref())?.find(name.as_deref())
    }

    /// The access token, if an option, the environment or the context gives one.
    fn token(&self, context: &Place) -> anyhow::Result<Option<String>> {
        let file = path(self.token_file.as_ref());
        let token = match (text(self.token.as_ref()), file) {
            (Some(_), Some(_)) => {
                let error = "give one of --token and --token-file (in the environment: \
                             GOFAVORITES_TOKEN and GOFAVORITES_TOKEN_FILE)";
                return Err(CommandError::usage(error).into());
            }
            (Some(token), None) => Some(token),
            (None, Some(file)) => Some(read_private(&file)?),
            (None, None) => context.token()?,
        };

        if token
            .as_ref()
            .is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            let places = "--token, --token-file, GOFAVORITES_TOKEN or the context";
            return Err(CommandError::usage(format!(
                "the token of {places} has a line break, a space, or the like"
            ))
            .into());
        }

        Ok(token.filter(|token| !token.is_empty()))
    }

    /// The shard that the command line names.
    pub fn requested_shard(&self) -> Option<&str> {
        self.shard.as_deref()
    }

    /// Returns whether an option, the environment or a context names a server.
    pub fn has_server(&self) -> anyhow::Result<bool> {
        Ok(self.nats.url(&self.context()?).is_some())
    }

    /// Connects to the service. The timeout starts here.
    pub async fn open(&self) -> anyhow::Result<Client> {
        let timeout = Duration::from_secs(self.timeout);
        let deadline = Instant::now() + timeout;
        let context = self.context()?;
        let token = self.token(&context)?;
        let url = self
            .nats
            .url(&context)
            .context("no server: give --url, set GOFAVORITES_URL, or name a --context")?;
        let access = self.nats.access(&url, &context)?;

        let mut options = access
            .options()
            .name("gofavorites client")
            .connection_timeout(REQUEST_TIMEOUT_MAX.min(time_left(deadline)));
        if let Some(prefix) = self.nats.inbox_prefix(&context) {
            options = options.custom_inbox_prefix(prefix);
        }
        let nats = options
            .connect(access.servers())
            .await
            .map_err(|error| unreachable(&error))?;

        let prefix = text(self.prefix.as_ref()).or(context.prefix);
        let prefix = prefix.as_deref().unwrap_or("favorites");
        let shard = self.shard.clone().or(context.shard);
        let subjects = Subjects::new(prefix, shard.as_deref().unwrap_or("any"))?;

        Ok(Client {
            nats,
            subjects,
            shard,
            token,
            timeout,
            deadline,
        })
    }

    /// Connects, sends one request, and returns the reply's body.
    pub async fn ask(&self, operation: Operation, body: &Value) -> anyhow::Result<Value> {
        self.open().await?.ask(operation, body).await
    }

    /// Connects, sends one write under a request id, and returns the reply's body.
    pub async fn write(
        &self,
        operation: Operation,
        body: &Value,
        request_id: Option<&str>,
    ) -> anyhow::Result<Value> {
        self.open().await?.write(operation, body, request_id).await
    }
}

/// Returns the error for a connection that could not be made. The causes are about files and
/// certificates; no URL with a password is among them, because the client never gets one.
fn unreachable(error: &async_nats::ConnectError) -> CommandError {
    let mut causes = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        causes += &format!(": {error}");
        cause = error.source();
    }

    CommandError::unavailable(format!(
        "NATS cannot be reached ({}{causes}); check --url, the user's credentials and --tls-ca",
        error.kind()
    ))
}

fn time_left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

impl Client {
    /// Starts the timeout again, for the requests that follow.
    pub fn restart_timeout(&mut self) {
        self.deadline = Instant::now() + self.timeout;
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

    /// When the timeout ends.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Sends a request and returns the reply's body. A refusal becomes an error that says what to
    /// mend.
    pub async fn ask(&self, operation: Operation, body: &Value) -> anyhow::Result<Value> {
        self.attempt(operation, body, None).await
    }

    /// Sends a write under a request id.
    ///
    /// Once the write is in doubt, sends it again under the same id until an answer shows what
    /// became of it. The service executes it at most once.
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
            // A write in doubt stays so until an answer shows what became of it.
            if !in_doubt || failed.is_some_and(CommandError::settles_write) {
                return Err(error);
            }

            let pause = failed
                .and_then(CommandError::retry_after_ms)
                .map_or(RETRY_PAUSE, Duration::from_millis);
            let pause = pause.clamp(RETRY_PAUSE, RETRY_PAUSE_MAX);
            if time_left(self.deadline) < pause + ROUND_TRIP_ALLOWANCE {
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
        let budget = time_left(self.deadline)
            .saturating_sub(ROUND_TRIP_ALLOWANCE)
            .clamp(ROUND_TRIP_ALLOWANCE, REQUEST_TIMEOUT_MAX);
        let headers = self.headers(budget, request_id);
        let body = body.to_string();
        self.check_size(&body)?;

        let request = async_nats::Request::new()
            .headers(headers)
            .payload(body.into())
            .timeout(Some(budget + ROUND_TRIP_ALLOWANCE));
        let reply = self
            .nats
            .send_request(subject.clone(), request)
            .await
            .map_err(|error| unanswered(error.kind(), &subject, request_id))?;
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

    fn headers(&self, budget: Duration, request_id: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_TIMEOUT_MS, budget.as_millis().to_string());
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(id) = request_id {
            headers.insert(NATS_MSG_ID, id);
        }

        headers
    }

    /// Refuses a request that is larger than the NATS server accepts.
    fn check_size(&self, body: &str) -> Result<(), CommandError> {
        let bytes = body.len() + self.token.as_ref().map_or(0, String::len) + HEADERS_BYTES;
        let limit = self.nats.server_info().max_payload;
        if limit > 0 && bytes > limit {
            return Err(CommandError::too_large(bytes, limit));
        }

        Ok(())
    }

    fn refused(&self, operation: Operation, error: &Value) -> CommandError {
        let mut error = error.clone();
        let has_no_token = self.token.is_none() && operation.needs_token();
        if has_no_token && error["code"] == "unauthenticated" {
            error["message"] =
                "no token: give --token, set GOFAVORITES_TOKEN, or name a --context".into();
        }

        CommandError::refused(&error)
    }
}

/// Returns the error for a request without an answer. A write is then in doubt, unless there was
/// nobody to receive it.
fn unanswered(kind: RequestErrorKind, subject: &str, request_id: Option<&str>) -> CommandError {
    if kind == RequestErrorKind::NoResponders {
        let hint = "is a worker running, and the shard's name right?";
        return CommandError::unavailable(format!("nobody answers on {subject}: {hint}"));
    }

    match request_id {
        Some(id) => CommandError::in_doubt(id),
        None => CommandError::unavailable(format!("no answer on {subject} in time")),
    }
}
