//! The NATS servers of a development platform: one, or a hub with a leaf for each shard.

use super::connect;
use super::nats::NatsServer;
use super::ports::free_port;
use super::process::ChildProcess;
use super::role::{ACCOUNTS_CONF, HUB_DOMAIN, Role};
use super::secrets::Secrets;
use anyhow::{Context as _, bail};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the hub may take to answer a question through a leaf.
const LINK_TRY_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a leaf may take to reach the hub.
const LINK_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a hub is started again, on another port, if its start fails.
const HUB_RETRIES_MAX: u32 = 3;

/// How the NATS servers of a platform are connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Topology {
    /// One server for all shards.
    #[default]
    Single,
    /// A hub that holds the bucket, and a leaf for each shard.
    Leaf,
}

impl Topology {
    /// The name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Leaf => "leaf",
        }
    }

    /// Says which servers are started for those shards.
    pub(super) fn start_step(self, shards: &[String]) -> String {
        match self {
            Self::Single => "starting nats-server".to_owned(),
            Self::Leaf => format!(
                "starting nats-server as the hub, and as a leaf for each of the shards {}",
                shards.join(", ")
            ),
        }
    }
}

/// Running NATS servers.
#[derive(Debug)]
pub struct Network {
    hub: Option<NatsServer>,
    /// The leaf of each shard, or the only server.
    servers: Vec<NatsServer>,
}

impl Network {
    /// Starts the servers of those shards, which keep their state below `directory`. `usual` is the
    /// preferred port of the first. With `has_tls` clients have to use TLS.
    pub async fn start(
        program: &Path,
        directory: &Path,
        topology: Topology,
        shards: &[String],
        usual: Option<u16>,
        (secrets, has_tls): (&Secrets, bool),
    ) -> anyhow::Result<Self> {
        let start = async |directory: &Path, usual: Option<u16>, role: &Role| {
            let accounts = with_tls(role.accounts().1, has_tls);
            NatsServer::start_with(program, directory, usual, secrets, role, &accounts).await
        };

        if topology == Topology::Single {
            let server = start(&directory.join("nats"), usual, &Role::Single).await?;
            return Ok(Self {
                hub: None,
                servers: vec![server],
            });
        }

        let accounts = with_tls(ACCOUNTS_CONF, has_tls);
        let (hub, port) = start_hub(program, &directory.join("hub"), secrets, &accounts).await?;

        let mut servers = Vec::new();
        for (number, shard) in (0..).zip(shards) {
            let role = Role::Leaf {
                name: format!("leaf-{shard}"),
                hub: vec![port],
            };
            let usual = usual.map(|port| port + number);
            servers.push(start(&leaf_directory(directory, shard), usual, &role).await?);
        }
        for server in &servers {
            wait_for_the_hub(&server.url(), secrets).await?;
        }

        Ok(Self {
            hub: Some(hub),
            servers,
        })
    }

    /// The URL for a shard's workers and callers; shards are counted from 0.
    pub fn url(&self, shard: usize) -> String {
        self.servers
            .get(shard)
            .or_else(|| self.servers.first())
            .map(NatsServer::url)
            .unwrap_or_default()
    }

    /// The URL for the auth service.
    pub fn auth_url(&self) -> String {
        self.hub
            .as_ref()
            .map_or_else(|| self.url(0), NatsServer::url)
    }

    /// The JetStream domain of the bucket, as `truth.domain` names it.
    pub fn domain(&self) -> &'static str {
        if self.hub.is_some() { HUB_DOMAIN } else { "" }
    }

    /// The hub, if there is one.
    pub fn hub(&mut self) -> Option<&mut NatsServer> {
        self.hub.as_mut()
    }

    /// The server of a shard; shards are counted from 0.
    pub fn server(&mut self, shard: usize) -> &mut NatsServer {
        let shard = if shard < self.servers.len() { shard } else { 0 };
        &mut self.servers[shard]
    }

    /// The processes of all servers.
    pub fn processes(&mut self) -> impl Iterator<Item = &mut ChildProcess> {
        self.hub
            .iter_mut()
            .chain(&mut self.servers)
            .map(NatsServer::process)
    }

    /// Returns the server whose process has that name.
    pub fn named(&mut self, name: &str) -> Option<&mut NatsServer> {
        let mut all = self.hub.iter_mut().chain(&mut self.servers);
        all.find_map(|server| (server.process().name() == name).then_some(server))
    }

    /// Stops the servers gracefully, the hub last.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.servers
            .iter_mut()
            .chain(&mut self.hub)
            .try_for_each(NatsServer::stop)
    }
}

/// Returns the text of a file of accounts, with TLS for clients on request.
fn with_tls(accounts: &str, has_tls: bool) -> String {
    let include = if has_tls {
        "\ninclude \"tls.conf\"\n"
    } else {
        ""
    };
    format!("{accounts}{include}")
}

/// The directory of a leaf's state.
fn leaf_directory(directory: &Path, shard: &str) -> std::path::PathBuf {
    directory.join(format!("leaf-{shard}"))
}

/// Starts a hub, and returns it with the port for leaves. Another process may take a free port
/// first; then another port is tried.
pub async fn start_hub(
    program: &Path,
    directory: &Path,
    secrets: &Secrets,
    accounts: &str,
) -> anyhow::Result<(NatsServer, u16)> {
    let mut retries = 0;

    loop {
        let port = free_port(None)?;

        match NatsServer::start_with(
            program,
            directory,
            None,
            secrets,
            &Role::Hub { port },
            accounts,
        )
        .await
        {
            Ok(hub) => return Ok((hub, port)),
            Err(error) if retries == HUB_RETRIES_MAX => return Err(error),
            Err(_) => retries += 1,
        }
    }
}

/// Waits until the hub's JetStream answers through a leaf.
pub async fn wait_for_the_hub(leaf: &str, secrets: &Secrets) -> anyhow::Result<()> {
    // A cluster that has just started takes some seconds to elect a leader, and what it is asked
    // before that is never answered.
    let options = connect::options(secrets, "operator")?.request_timeout(Some(LINK_TRY_TIMEOUT));
    let client = options.connect(leaf).await;
    let client = client.context("cannot connect to a leaf that listens")?;

    let deadline = Instant::now() + LINK_TIMEOUT;
    while client
        .request(format!("$JS.{HUB_DOMAIN}.API.INFO"), "".into())
        .await
        .is_err()
    {
        if Instant::now() > deadline {
            bail!("a leaf does not reach the hub");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    Ok(())
}
