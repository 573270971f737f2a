//! `gofavorites dev`: the whole platform on this machine.

use crate::dev::auth_service::RevokedTokens;
use crate::dev::secrets::Secrets;
use crate::dev::{self, PlatformOptions, Topology, auth_service, demo, tokens};
use crate::shutdown::told_to_stop;
use anyhow::Context as _;
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Run the whole platform on this machine, for development.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites dev
  gofavorites dev --fresh
  gofavorites dev --topology leaf
  gofavorites dev token --sub carol --scope 'favorites:read' --ttl 60s
  gofavorites dev restart worker-a-0")]
pub(super) struct Dev {
    #[command(subcommand)]
    part: Option<Part>,
    /// Where the state is kept
    #[arg(long, default_value = ".dev", global = true)]
    state: PathBuf,
    /// Throw away what an earlier run kept
    #[arg(long)]
    fresh: bool,
    /// How the NATS servers hang together: one, or a hub with a leaf for each shard
    #[arg(long, value_enum, default_value = "single")]
    topology: Topology,
}

#[derive(Subcommand)]
enum Part {
    /// Tell the whole demo once, on servers of its own
    Demo,
    /// Get the pinned servers into .servers/, if they are not there
    Servers,
    /// Run the stand-in auth service
    Auth {
        /// The NATS server
        #[arg(long)]
        url: String,
    },
    /// Print an access token
    Token {
        /// For whom
        #[arg(long)]
        sub: String,
        /// Its scopes, separated by spaces
        #[arg(long, default_value = tokens::ALL_SCOPES)]
        scope: String,
        /// How long it is good for: 60s, 10m, 2h
        #[arg(long, default_value = "1h", value_parser = duration)]
        ttl: Duration,
    },
    /// Start a part of the running platform again: worker-a-0, auth, postgres and the like
    Restart {
        /// Which; ended first where it still runs
        name: String,
    },
    /// Take back the tokens that somebody has so far
    #[command(group = clap::ArgGroup::new("whose").required(true).multiple(true))]
    Revoke {
        /// Whose
        #[arg(long, group = "whose")]
        sub: Option<String>,
        /// Of which session
        #[arg(long, group = "whose")]
        sid: Option<String>,
    },
}

impl Dev {
    pub async fn run(self) -> anyhow::Result<()> {
        let secrets = || Secrets::load(&self.state.join("secrets.json"));
        match &self.part {
            None => dev::run(self.platform(&self.state, self.fresh)?).await,
            Some(Part::Demo) => {
                let state =
                    std::env::temp_dir().join(format!("gofavorites-demo-{}", std::process::id()));
                let mut options = self.platform(&state, true)?;
                options.usual_ports = false;
                let told = demo::tell(options).await;
                std::fs::remove_dir_all(&state).context("the demo's state could not be removed")?;
                told
            }
            Some(Part::Servers) => {
                let servers = dev::fetch::servers(Path::new("."), |step| eprintln!("   {step}"))?;
                println!(
                    "{}\n{}",
                    servers.nats_server.display(),
                    servers.postgres_bin.display()
                );
                Ok(())
            }
            Some(Part::Auth { url }) => {
                crate::telemetry::start(&crate::config::LogSettings::default())?;
                let told = told_to_stop()?;
                let stop = async {
                    told.await;
                };
                auth_service::run(url, &secrets()?, Some(self.revoked()), stop).await
            }
            Some(Part::Token { sub, scope, ttl }) => {
                let state = self.state.display();
                anyhow::ensure!(
                    self.state.is_dir(),
                    "no platform keeps its state in {state}: name it with --state"
                );
                println!("{}", tokens::token(&secrets()?, sub, scope, *ttl)?);
                Ok(())
            }
            Some(Part::Restart { name }) => {
                dev::restart::ask(&self.state, name)?;
                println!("{name} runs again");
                Ok(())
            }
            Some(Part::Revoke { sub, sid }) => {
                let revoked = RevokedTokens {
                    sub: sub.clone(),
                    sid: sid.clone(),
                    iat: tokens::unix_now(),
                };
                let said =
                    std::fs::read(self.state.join("dev.json")).context("no platform runs here")?;
                let said: serde_json::Value = serde_json::from_slice(&said)?;
                let url = said["nats_url"]
                    .as_str()
                    .context("dev.json names no server")?;
                auth_service::revoke(url, &secrets()?, &self.revoked(), &revoked).await
            }
        }
    }

    /// Where what was taken back is written down.
    fn revoked(&self) -> PathBuf {
        self.state.join("revoked.jsonl")
    }

    fn platform(&self, state: &Path, fresh: bool) -> anyhow::Result<PlatformOptions> {
        Ok(PlatformOptions {
            home: PathBuf::from("."),
            state: state.to_owned(),
            fresh,
            program: std::env::current_exe().context("this program's own path")?,
            topology: self.topology,
            shards: vec!["a".into(), "b".into()],
            workers: 2,
            usual_ports: true,
            fsync: true,
        })
    }
}

/// A number and its unit: `60s`, `10m`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, seconds) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3_600),
        _ => return Err("give a number and s, m or h, as in 60s".into()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{number:?} is not a number"))?;
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_number_and_a_unit() {
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7_200)));
        assert!(duration("60").is_err() && duration("s").is_err() && duration("").is_err());
    }
}
