//! `gofavorites dev`: the complete platform on this machine.

mod fill;
mod inspect;
mod tokens;

use super::bench::bare;
use crate::dev::secrets::Secrets;
use crate::dev::state;
use crate::dev::{
    self, PlatformOptions, PrepareOptions, PublishedShard, Topology, auth_service, demo,
    reference_service,
};
use crate::shutdown::shutdown_signal;
use anyhow::Context as _;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};

/// The most shards, and the most workers of each. All of them share one Postgres and its connections.
const SHARDS_MAX: i64 = 4;
const WORKERS_MAX: i64 = 4;

/// Run the complete platform on this machine, for development.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites dev
  gofavorites dev --fresh
  gofavorites dev --topology leaf
  gofavorites dev --tls
  gofavorites dev --reference
  gofavorites dev --fresh --shards 1 --workers 3
  gofavorites dev status
  gofavorites dev logs worker-a-0 --follow
  gofavorites dev psql a -- --command 'select count(*) from owner'
  eval \"$(gofavorites dev env carol)\"
  gofavorites dev token --sub carol --scope 'favorites:read' --ttl 60s
  gofavorites dev restart worker-a-0
  gofavorites dev stop")]
pub(super) struct Dev {
    #[command(subcommand)]
    part: Option<Part>,
    /// The directory of the state; by default the nearest .dev, from here upwards
    #[arg(long, env = "GOFAVORITES_STATE", global = true)]
    state: Option<PathBuf>,
    /// Delete the data of earlier runs first
    #[arg(long)]
    fresh: bool,
    /// The topology of the NATS servers: one, or a hub with a leaf for each shard
    #[arg(long, value_enum, default_value = "single")]
    topology: Topology,
    /// Let clients of the NATS servers use TLS, with certificates made for this platform
    #[arg(long)]
    tls: bool,
    /// Run a stand-in reference service too, so that workers check whether instruments exist
    #[arg(long)]
    reference: bool,
    /// How many shards there are: a, b, and so on
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=SHARDS_MAX))]
    shards: u8,
    /// How many workers each shard has
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=WORKERS_MAX))]
    workers: u8,
}

#[derive(Subcommand)]
enum Part {
    /// Run a scripted end-to-end demo on temporary servers
    Demo,
    /// Fetch the pinned servers if they are missing, and print where they are
    Servers,
    /// Run the stand-in auth service
    Auth {
        /// The NATS server
        #[arg(long)]
        url: String,
    },
    /// Run a bare worker for `gofavorites bench`, which starts it
    #[command(hide = true)]
    BareWorker,
    /// Run the stand-in reference service
    Reference {
        /// The NATS server
        #[arg(long)]
        url: String,
    },
    /// Make the certificates, passwords and keys of docker-compose.yml, once
    Prepare(Prepare),
    /// Print an access token
    Token(tokens::Token),
    /// Revoke the tokens that a user or a session has so far
    Revoke(tokens::Revoke),
    /// Print the shell variables of a person, or of the operator
    Env(tokens::Env),
    /// Show what runs: name, process id, state and address
    Status(inspect::Status),
    /// Print the output of a part, or the last lines of each
    Logs(inspect::Logs),
    /// Open a shard's database with psql
    Psql(inspect::Psql),
    /// Write many owners with items into the bucket, to measure at a size
    Fill(fill::Fill),
    /// Restart parts of the running platform: worker-a-0, auth, postgres, …
    Restart {
        /// The parts; worker-a stands for all workers of shard a. One that runs is killed first
        #[arg(required = true, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
        names: Vec<String>,
    },
    /// Stop the running platform; its data stays
    Stop,
}

/// What the containers are, and where they are reached from the host.
#[derive(Args)]
struct Prepare {
    /// The directory with a directory for each service
    #[arg(long)]
    out: PathBuf,
    /// The directory of the state, as the host names it
    #[arg(long, default_value = ".dev")]
    state_on_host: PathBuf,
    /// The hub's port on the host
    #[arg(long)]
    hub_port: u16,
    /// A shard, with the ports of its NATS server and of its Postgres on the host: a:4222:5432
    #[arg(long = "shard", value_name = "ID:PORT:PORT", required = true)]
    shards: Vec<PublishedShard>,
    /// The parameters of the shards' postgres.url: sslmode=disable
    #[arg(long, default_value = "")]
    postgres_parameters: String,
    /// The user and group id of the workers' containers
    #[arg(long, default_value_t = 10_001)]
    user: u32,
}

impl Prepare {
    fn run(&self, state: &Path) -> anyhow::Result<()> {
        dev::prepare(&PrepareOptions {
            out: self.out.clone(),
            state: state.to_owned(),
            state_on_host: self.state_on_host.clone(),
            hub_port: self.hub_port,
            shards: self.shards.clone(),
            postgres_parameters: self.postgres_parameters.clone(),
            user: self.user,
        })
    }
}

impl Dev {
    pub async fn run(self) -> anyhow::Result<()> {
        let state = if self.fresh && self.state.is_none() {
            // What is thrown away is here, or is named.
            std::path::absolute(state::USUAL_NAME)?
        } else {
            state::locate(self.state.as_deref())?
        };

        if let Some(Part::Fill(fill)) = self.part {
            return fill.run(&state).await;
        }
        match &self.part {
            None => dev::run(self.platform(&state, self.fresh)?).await,
            Some(Part::Demo) => self.run_demo().await,
            Some(Part::Servers) => fetch_servers(),
            Some(Part::Auth { url }) => {
                let stop = start_service()?;
                let secrets = Secrets::load(&state::secrets_file(&state)?)?;
                auth_service::run(url, &secrets, Some(tokens::revoked_file(&state)), stop).await
            }
            Some(Part::BareWorker) => bare::run(&state).await,
            Some(Part::Reference { url }) => {
                let stop = start_service()?;
                let secrets = Secrets::load(&state::secrets_file(&state)?)?;
                reference_service::run(url, &secrets, stop).await
            }
            Some(Part::Prepare(options)) => options.run(&state),
            Some(Part::Token(token)) => token.run(&state),
            Some(Part::Revoke(revoke)) => revoke.run(&state).await,
            Some(Part::Env(env)) => env.run(&state),
            Some(Part::Status(status)) => status.run(&state),
            Some(Part::Logs(logs)) => logs.run(&state),
            Some(Part::Psql(psql)) => psql.run(&state),
            // Above.
            Some(Part::Fill(_)) => Ok(()),
            Some(Part::Restart { names }) => {
                dev::restart::ask(&state, names, |name| println!("{name} runs again"))
            }
            Some(Part::Stop) => {
                dev::stop::stop(&state::RunningPlatform::find(&state)?)?;
                println!("stopped; the data stays in {}", state.display());
                Ok(())
            }
        }
    }

    async fn run_demo(&self) -> anyhow::Result<()> {
        let directory = format!("gofavorites-demo-{}", std::process::id());
        let state = std::env::temp_dir().join(directory);
        let options = PlatformOptions {
            shards: vec!["a".into(), "b".into()],
            usual_ports: false,
            ..self.platform(&state, true)?
        };

        let ended = demo::run(options).await;

        let removed = std::fs::remove_dir_all(&state);
        ended.and(removed.context("the demo's state could not be removed"))
    }

    fn platform(&self, state: &Path, fresh: bool) -> anyhow::Result<PlatformOptions> {
        Ok(PlatformOptions {
            home: PathBuf::from("."),
            state: state.to_owned(),
            fresh,
            program: std::env::current_exe().context("this program's own path")?,
            topology: self.topology,
            tls: self.tls,
            reference: self.reference,
            shards: ('a'..).take(self.shards.into()).map(String::from).collect(),
            workers: self.workers.into(),
            usual_ports: true,
            fsync: true,
        })
    }
}

/// Starts the log of a stand-in service. The returned future ends with the signal to stop.
fn start_service() -> anyhow::Result<impl Future<Output = ()>> {
    crate::telemetry::start(&crate::config::LogSettings::default())?;
    let signal = shutdown_signal()?;

    Ok(async move {
        signal.await;
    })
}

fn fetch_servers() -> anyhow::Result<()> {
    let servers = dev::fetch::servers(Path::new("."), |step| eprintln!("   {step}"))?;
    println!("{}", servers.nats_server.display());
    println!("{}", servers.postgres_bin.display());
    Ok(())
}
