//! The whole platform on one machine, for development and tests: the pinned servers with the configurations of `nats/`,
//! a stand-in auth service, and the workers of two shards.
//!
//! Nothing here is for production, and it says so; nothing but `cli` names this room.

pub mod auth_service;
pub mod demo;
mod description;
pub mod fetch;
pub mod nats;
pub mod network;
mod platform;
pub mod ports;
pub mod postgres;
mod postgres_user;
pub mod process;
pub mod restart;
pub mod role;
pub mod secrets;
mod settings;
pub mod tokens;

pub use description::PEOPLE;
pub use network::Topology;
pub use platform::{Platform, PlatformOptions};

use crate::shutdown::told_to_stop;
use std::path::Path;
use std::time::Duration;

/// Starts the platform, says what to type next, and keeps it up until it is told to stop.
pub async fn run(options: PlatformOptions) -> anyhow::Result<()> {
    let (state, program) = (options.state.clone(), options.program.clone());
    println!("GoFavorites on this machine, for DEVELOPMENT: its auth service is a stand-in.\n");
    let stopped = told_to_stop()?;
    tokio::pin!(stopped);
    let mut platform = tokio::select! {
        started = Platform::start(options, |step| println!("   {step}")) => started?,
        signal = &mut stopped => {
            // What was started goes with the unfinished start.
            println!("\n{signal} before it was ready: stopped");
            return Ok(());
        }
    };
    println!("{}", what_next(&program, &state, &platform.nats_url()));
    for (shard, url) in platform.other_leaves() {
        println!("Callers of shard {shard} connect to {url}.");
    }
    let mut told = Vec::new();
    loop {
        tokio::select! {
            signal = &mut stopped => {
                println!("\n{signal}: stopping in order");
                return platform.stop();
            }
            () = tokio::time::sleep(Duration::from_millis(300)) => {
                for ended in platform.newly_ended(&mut told) {
                    println!("{ended}");
                }
                if let Some(again) = restart::look(&mut platform, &state).await? {
                    println!("{again}");
                }
            }
        }
    }
}

fn what_next(program: &Path, state: &Path, url: &str) -> String {
    let (program, state) = (program.display(), state.display());
    format!(
        "
Ready. In another terminal, as alice:

   . {state}/alice.env
   {program} put instrument US0378331005 --type stock --ticker AAPL --tag tech
   {program} list
   {program} get instrument US0378331005 --shard b
   {program} version

or with the nats CLI:

   . {state}/alice.env
   nats --server {url} --user gateway --password \"$GOFAVORITES_PASSWORD\" \\
     req favorites.v1.list '{{}}' -H \"Authorization:Bearer $GOFAVORITES_TOKEN\"

Everything about it is in {state}/dev.json, the logs are in {state}/log. Ctrl-C stops it; what was kept stays."
    )
}
