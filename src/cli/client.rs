//! The client of the commands: connects, sends requests, and turns refusals into errors for people.

use super::arguments::CONNECTION;
use super::connection_events::ConnectionEvents;
use super::contexts::{Contexts, Place, default_file, read_private};
use super::denied::Denied;
use super::duration::time_limit;
use super::failed::CommandError;
use super::in_flags::in_flags;
use super::nats_options::{NatsOptions, addresses, path, text};
use super::secret_input::is_uri;
use crate::client::{self, ChangeSet, ClientError, Position, Refused};
use crate::wire::{Code, Operation};
use clap::Args;
use serde_json::Value;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The longest time to connect.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// The service's address and the caller's credentials: from an option, else from the environment,
/// else from a context.
#[derive(Args, Clone)]
#[command(next_help_heading = CONNECTION)]
pub(super) struct Connection {
    #[command(flatten)]
    nats: NatsOptions,
    /// Your access token
    #[arg(
        long,
        hide_short_help = true,
        env = "GOFAVORITES_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// A file that holds your access token
    #[arg(
        long,
        hide_short_help = true,
        env = "GOFAVORITES_TOKEN_FILE",
        value_name = "FILE"
    )]
    token_file: Option<OsString>,
    /// Ask this shard instead of the nearest worker
    #[arg(short, long)]
    shard: Option<String>,
    /// The prefix of the service's subjects [default: favorites]
    #[arg(long, hide_short_help = true, env = "GOFAVORITES_PREFIX")]
    prefix: Option<String>,
    /// The context to take missing values from
    #[arg(short, long, env = "GOFAVORITES_CONTEXT")]
    context: Option<String>,
    /// The file of contexts [default: ~/.config/gofavorites/contexts.toml]
    #[arg(long, hide_short_help = true, env = "GOFAVORITES_CONTEXTS")]
    contexts: Option<OsString>,
    /// How long to wait in all
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time_limit)]
    timeout: Duration,
}

/// A connection to the service.
pub(super) struct Client {
    client: client::Client,
    service: String,
    servers: String,
    denied: Denied,
    timeout: Duration,
    deadline: Instant,
    /// Whether the user writes the fields of requests, so that a refusal should name them.
    is_in_words_of_the_wire: bool,
}

impl Connection {
    /// The context that fills in what is not given.
    fn context(&self) -> anyhow::Result<Place> {
        Ok(self.named_context()?.1)
    }

    /// The context that fills in what is not given, and its name, if there is one.
    pub fn named_context(&self) -> anyhow::Result<(Option<String>, Place)> {
        let contexts = self.contexts()?;
        let name = text(self.context.as_ref());

        let place = contexts.find(name.as_deref())?;
        Ok((name.or(contexts.default), place))
    }

    /// Returns the credentials that are in force with a context, as those of a context.
    pub fn credentials_in_force(&self, context: &Place) -> Place {
        Place::of(self.nats.credentials(context))
    }

    /// Where the file of contexts is.
    pub fn contexts_path(&self) -> anyhow::Result<PathBuf> {
        let path = path(self.contexts.as_ref()).or_else(default_file);

        Ok(path.ok_or_else(|| CommandError::usage("no file of contexts: give --contexts"))?)
    }

    /// The file of contexts.
    pub fn contexts(&self) -> anyhow::Result<Contexts> {
        Contexts::read(path(self.contexts.as_ref()).as_deref())
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

    /// How long the command may wait.
    pub fn time_limit(&self) -> Duration {
        self.timeout
    }

    /// Refuses options that contradict each other.
    pub fn check(&self) -> anyhow::Result<()> {
        let none = Place::default();
        self.token(&none)?;
        let url = self.nats.url(&none).unwrap_or_default();

        self.nats.access(&url, &none).map(drop)
    }

    /// Returns whether an option, the environment or a context names a server.
    pub fn has_server(&self) -> anyhow::Result<bool> {
        Ok(self.nats.url(&self.context()?).is_some())
    }

    /// Connects to the service. The timeout starts here.
    pub async fn open(&self) -> anyhow::Result<Client> {
        self.connect(None).await
    }

    /// Connects to the service, and says when the connection is lost and when it is back.
    pub async fn open_and_tell(&self, events: &ConnectionEvents) -> anyhow::Result<Client> {
        self.connect(Some(events.clone())).await
    }

    async fn connect(&self, events: Option<ConnectionEvents>) -> anyhow::Result<Client> {
        let timeout = self.timeout;
        let deadline = Instant::now() + timeout;
        let context = self.context()?;
        let token = self.token(&context)?;
        let url = self.nats.url(&context).ok_or_else(|| {
            let message = "no server: give --url, set GOFAVORITES_URL, or name a --context";
            CommandError::usage(message)
        })?;
        let access = self.nats.access(&url, &context)?;
        let denied = Denied::new();

        let mut options = access
            .options()
            .name("gofavorites client")
            .event_callback({
                let denied = denied.clone();
                move |event| {
                    denied.note(&event);
                    if let Some(events) = &events {
                        events.take(&event);
                    }
                    std::future::ready(())
                }
            })
            .connection_timeout(CONNECT_TIMEOUT_MAX.min(deadline - Instant::now()));
        if let Some(prefix) = self.nats.inbox_prefix(&context) {
            options = options.custom_inbox_prefix(prefix);
        }
        let nats = options
            .connect(access.servers())
            .await
            .map_err(|error| self.nats.unreachable(&error, &access))?;

        let prefix = text(self.prefix.as_ref()).or(context.prefix);
        let prefix = prefix.as_deref().unwrap_or("favorites");
        let mut client = client::Client::new(nats)?
            .with_prefix(prefix)
            .map_err(|error| CommandError::usage(format!("--prefix: {error}")))?
            .with_denials(denied.subscribe())
            .until(deadline);
        if let Some(shard) = text(self.shard.as_ref()).or(context.shard) {
            client = client
                .on_shard(&shard)
                .map_err(|error| CommandError::usage(format!("--shard: {error}")))?;
        }
        if let Some(token) = token {
            client = client.with_token(token);
        }

        Ok(Client {
            client,
            service: prefix.replace('.', "_"),
            servers: addresses(&access),
            denied,
            timeout,
            deadline,
            is_in_words_of_the_wire: false,
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

impl Client {
    /// Starts the timeout again, for the requests that follow.
    pub fn restart_timeout(&mut self) {
        self.deadline = Instant::now() + self.timeout;
        self.client = self.client.clone().until(self.deadline);
    }

    /// Names the fields of requests in refusals, for what a user writes in the service's own words.
    pub fn in_words_of_the_wire(mut self) -> Self {
        self.is_in_words_of_the_wire = true;
        self
    }

    /// The NATS connection.
    pub fn nats(&self) -> &async_nats::Client {
        self.client.nats()
    }

    /// Returns what spells the subject of an operation.
    pub fn subjects(&self) -> impl Fn(Operation) -> String + Send + Sync + 'static {
        let client = self.client.clone();

        move |operation| client.subject(operation)
    }

    /// Returns what spells the subject of an operation on a shard.
    ///
    /// # Errors
    ///
    /// The shard's id is malformed.
    pub fn subjects_on(
        &self,
        shard: &str,
    ) -> anyhow::Result<impl Fn(Operation) -> String + Send + Sync + 'static> {
        let client = self.client.clone().on_shard(shard);
        let client = client.map_err(|error| CommandError::usage(format!("{shard}: {error}")))?;

        Ok(move |operation| client.subject(operation))
    }

    /// The service's name in discovery.
    pub fn service_name(&self) -> &str {
        &self.service
    }

    /// The servers' addresses, without credentials.
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// Returns the subjects to which NATS does not let the user publish, from now on.
    pub fn denials(&self) -> watch::Receiver<String> {
        self.denied.subscribe()
    }

    /// When the timeout ends.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Sends a request and returns the reply's body. A refusal becomes an error that says what to
    /// mend.
    pub async fn ask(&self, operation: Operation, body: &Value) -> anyhow::Result<Value> {
        let reply = self.client.ask(operation, body).await;

        reply.map_err(|error| self.failed(operation, body, &error).into())
    }

    /// Sends a write under a request id. Repeats it while it is in doubt.
    pub async fn write(
        &self,
        operation: Operation,
        body: &Value,
        request_id: Option<&str>,
    ) -> anyhow::Result<Value> {
        let mut client = self.client.clone();
        if let Some(request_id) = request_id {
            client = client.with_request_id(request_id);
        }

        let reply = client.write(operation, body).await;
        reply.map_err(|error| self.failed(operation, body, &error).into())
    }

    /// Fetches all changes since a position.
    pub async fn fetch_changes(&self, from: &Position) -> anyhow::Result<ChangeSet> {
        let changes = self.client.fetch_changes(from).await;

        changes.map_err(|error| self.failed(Operation::Changes, &Value::Null, &error).into())
    }

    fn failed(&self, operation: Operation, body: &Value, error: &ClientError) -> CommandError {
        let has_no_token = !self.client.has_token() && operation.needs_token();

        match error.refusal() {
            Some(refused) if has_no_token && refused.is(Code::Unauthenticated) => {
                let message = "no token: give --token, set GOFAVORITES_TOKEN, or name a --context";
                CommandError::refused_saying(refused, message)
            }
            Some(refused) if refused.is(Code::NotFound) => {
                let message = match missing(refused, operation, body) {
                    Some(item) => format!("{item}: {}", refused.message),
                    None => refused.message.clone(),
                };
                CommandError::refused_saying(refused, message)
            }
            Some(refused) if !self.is_in_words_of_the_wire && operation != Operation::Batch => {
                CommandError::refused_saying(refused, in_flags(refused, body))
            }
            _ => CommandError::from(error),
        }
    }
}

/// Returns what is not there: what the request is about, or the item after which another is put.
fn missing(refused: &Refused, operation: Operation, body: &Value) -> Option<String> {
    match refused.field() {
        None => asked_for(operation, body),
        Some(field) if field.starts_with("after") => asked_for(operation, &body["after"]),
        Some(_) => None,
    }
}

/// Returns what a request was about: kind and id of an item, or a tag. An id that looks like a
/// secret in the wrong place is not repeated.
fn asked_for(operation: Operation, body: &Value) -> Option<String> {
    if operation == Operation::TagsRename {
        let tag = body["from"].as_str().filter(|tag| !is_uri(tag));
        return tag.map(str::to_owned);
    }

    let of_operation = operation.name().split_once('.').map(|(kind, _)| kind);
    let kind = body["kind"].as_str().or(of_operation)?;
    let id = body["id"].as_str().filter(|id| !is_uri(id))?;
    Some(format!("{kind} {id}"))
}
