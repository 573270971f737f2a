//! The development platform on this machine as the place of a run: it makes users and tokens, and gives
//! all rights.

use super::place::{Place, Wishes, limits};
use super::processor::Processes;
use super::raw::Connections;
use super::road::{Road, Token};
use crate::cli::failed::CommandError;
use crate::client;
use crate::dev::secrets::Secrets;
use crate::dev::state::{self, RunningPlatform, secrets_file};
use crate::dev::{connect, tokens};
use crate::wire::Operation;
use anyhow::Context as _;
use async_nats::Client;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a token is valid: longer than a run.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3_600);

/// A running platform, and its secrets.
struct Platform {
    state: PathBuf,
    secrets: Secrets,
    description: Value,
}

/// Connects to the platform.
pub(super) async fn open(wishes: Wishes<'_>) -> anyhow::Result<Place> {
    let state = state::locate(wishes.state)?;
    let running = RunningPlatform::find(&state)?;
    let platform = Platform {
        secrets: Secrets::load(&secrets_file(&state)?)?,
        description: running.description().clone(),
        state,
    };
    let shard = wishes.connection.requested_shard();
    let url = platform.url(shard)?;
    let clients = platform
        .connect(&url, wishes.user, wishes.connections)
        .await?;

    let service = client::Client::new(clients[0].clone())?;
    let service = on_shard(service, "--shard", shard)?;
    let reply = service.ask(Operation::Limits, &json!({})).await;
    let limits = limits(&reply.map_err(|error| CommandError::from(&error))?);
    let raw = platform.raw_connections(&url, shard, &clients).await?;
    let road = Road {
        clients,
        subject: Arc::new(move |operation| service.subject(operation)),
        encoding: wishes.encoding,
        timeout: wishes.timeout,
    };

    Ok(Place {
        fill_road: match wishes.fill_shard {
            Some(fill) => platform.fill_road(&road, fill, wishes).await?,
            None => road.clone(),
        },
        road,
        tokens: platform.tokens(wishes.owners)?,
        limits,
        processes: processes_of(&platform.description),
        raw: Ok(raw),
    })
}

/// Returns the processes of the platform, which may have changed since it was opened.
pub(super) fn processes(state: Option<&Path>) -> anyhow::Result<Processes> {
    let running = RunningPlatform::find(&state::locate(state)?)?;

    Ok(processes_of(running.description()))
}

/// The process ids of the platform, with the names of the processes.
fn processes_of(description: &Value) -> Processes {
    let processes = description["processes"].as_array();
    let processes = processes.into_iter().flatten().filter_map(|process| {
        let pid = process["pid"].as_u64()?.try_into().ok()?;
        Some((pid, process["name"].as_str()?.to_owned()))
    });

    Processes(processes.collect())
}

fn on_shard(
    client: client::Client,
    option: &str,
    shard: Option<&str>,
) -> Result<client::Client, CommandError> {
    match shard {
        Some(shard) => client
            .on_shard(shard)
            .map_err(|error| CommandError::usage(format!("{option}: {error}"))),
        None => Ok(client),
    }
}

impl Platform {
    /// Returns the description of a shard; of the first one if none is named.
    fn shard(&self, name: Option<&str>) -> anyhow::Result<&Value> {
        let shards = self.description["shards"].as_array();
        let mut shards = shards.into_iter().flatten();
        let is_named = |one: &&Value| name.is_none_or(|name| one["id"] == name);

        shards.find(is_named).ok_or_else(|| {
            let name = name.unwrap_or("of any name");
            CommandError::usage(format!("there is no shard {name}")).into()
        })
    }

    /// Returns the road to another shard than that of the load. At a leaf each shard has a server of
    /// its own.
    async fn fill_road(
        &self,
        road: &Road,
        shard: &str,
        wishes: Wishes<'_>,
    ) -> anyhow::Result<Road> {
        let url = self.url(Some(shard))?;
        let clients = self.connect(&url, wishes.user, wishes.connections).await?;
        let service = client::Client::new(clients[0].clone())?;
        let service = on_shard(service, "--fill-shard", Some(shard))?;
        let subject = Arc::new(move |operation| service.subject(operation));

        Ok(Road {
            clients,
            ..road.with_subject(subject)
        })
    }

    /// Returns where the callers of a shard, or of any, connect.
    fn url(&self, shard: Option<&str>) -> anyhow::Result<String> {
        let url = match shard {
            Some(_) => &self.shard(shard)?["nats_url"],
            None => &self.description["nats_url"],
        };

        Ok(url
            .as_str()
            .context("dev.json names no NATS server")?
            .to_owned())
    }

    /// Connects so many times as a user of `nats/accounts.conf`.
    async fn connect(&self, url: &str, user: &str, count: usize) -> anyhow::Result<Vec<Client>> {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(connect::connect(&self.secrets, user, url, "gofavorites bench").await?);
        }

        Ok(clients)
    }

    async fn raw_connections(
        &self,
        url: &str,
        shard: Option<&str>,
        callers: &[Client],
    ) -> anyhow::Result<Connections> {
        let postgres_url = self.shard(shard)?["postgres_url"].as_str();
        let hub = &self.description["servers"]["hub"];
        let at_the_bucket = hub["nats_url"].as_str().unwrap_or(url);
        let domain = hub["domain"].as_str().unwrap_or_default();
        let maintainer = self.connect(at_the_bucket, "maintain", 1).await?;

        Ok(Connections {
            callers: callers.to_vec(),
            buckets: self.connect(url, "worker", callers.len()).await?,
            maintainer: maintainer.into_iter().next().context("no connection")?,
            state: self.state.clone(),
            url: url.to_owned(),
            postgres_url: postgres_url
                .context("dev.json names no Postgres")?
                .to_owned(),
            domain: domain.to_owned(),
        })
    }

    /// Makes a token for each owner: the users `bench-0`, `bench-1` and so on.
    fn tokens(&self, owners: usize) -> anyhow::Result<Vec<Token>> {
        let token = |owner: usize| {
            let user = format!("bench-{owner}");
            let token = tokens::token(&self.secrets, &user, tokens::ALL_SCOPES, TOKEN_TTL)?;
            Token::new(&token).context("no token")
        };

        (0..owners).map(token).collect()
    }
}
