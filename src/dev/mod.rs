//! The whole platform on one machine, for development and tests.
//!
//! It consists of the pinned servers with the configurations of `nats/`, a stand-in auth service, a
//! stand-in reference service if it is wanted, and the workers of two shards. Nothing here is for
//! production, and its output says so. Only the module `cli` uses this module.

pub mod auth_service;
mod banner;
pub mod certificates;
pub mod connect;
pub mod demo;
mod description;
pub mod fetch;
pub mod fill;
mod fill_owner;
pub mod logs;
pub mod nats;
pub mod network;
mod platform;
pub mod ports;
pub mod postgres;
mod postgres_user;
mod prepare;
pub mod process;
pub mod psql;
pub mod reference_service;
pub mod restart;
pub mod role;
pub mod secrets;
mod settings;
pub mod state;
pub mod status;
pub mod stop;
pub mod tokens;

pub use description::{OPERATOR, PEOPLE, quoted, variables};
pub use network::Topology;
pub use platform::{Platform, PlatformOptions};
pub use prepare::{PrepareOptions, PublishedShard, prepare};

use crate::shutdown::shutdown_signal;
use state::RunningPlatform;
use std::time::Duration;

/// How often the platform checks for ended processes and for requests to restart one.
const POLL_INTERVAL: Duration = Duration::from_millis(300);

/// Starts the platform, prints what to type next, and keeps it running until SIGTERM or SIGINT.
pub async fn run(options: PlatformOptions) -> anyhow::Result<()> {
    let state = options.state.clone();
    let program = options.program.clone();
    println!("GoFavorites on this machine, for DEVELOPMENT: its auth service is a stand-in.\n");

    let shutdown = shutdown_signal()?;
    tokio::pin!(shutdown);
    let mut platform = tokio::select! {
        started = Platform::start(options, |step| println!("   {step}")) => started?,
        signal = &mut shutdown => {
            // Dropping the unfinished start ends the processes that it started.
            println!("\n{signal} before it was ready: stopped");
            return Ok(());
        }
    };

    let running = RunningPlatform::find(&state)?;
    println!(
        "{}",
        banner::banner(&program, &state, running.description())
    );

    let mut reported = Vec::new();
    loop {
        tokio::select! {
            signal = &mut shutdown => {
                println!("\n{signal}: stopping");
                return platform.stop();
            }
            () = tokio::time::sleep(POLL_INTERVAL) => {
                for ended in platform.newly_ended(&mut reported) {
                    println!("{ended}");
                }
                if let Some(outcome) = restart::poll(&mut platform, &state).await? {
                    println!("{outcome}");
                }
            }
        }
    }
}
