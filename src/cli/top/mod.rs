//! `gofavorites top`: all workers and shards on a screen that renews itself.
//!
//! The model takes answers and times and asks nobody; the view is a function of the model and of
//! what the person has chosen; the loop waits for keys, answers and times.

mod columns;
mod controls;
mod history;
mod live;
mod model;
mod once;
mod poll;
mod sample;
mod shard;
mod terminal;
mod times;
mod traffic;
mod view;
mod worker;

use super::client::Connection;
use super::duration::duration;
use super::failed::CommandError;
use super::output::Screen;
use clap::Args;
use live::Live;
use once::print_once;
use poll::Poll;
use std::io::{self, IsTerminal as _};
use std::time::Duration;
use view::{Place, Theme};

/// The width of a screen that is printed to a file or a program, in cells.
const PIPE_CELLS: usize = 200;

/// Watch all workers and shards on a screen that renews itself.
///
/// For operators. The screen shows which workers are healthy, their requests a second, refusals and
/// times, how far projections are behind, and how full the bucket is. Press ? for the keys.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites top --user operator
  gofavorites top --shard a --every 5s
  gofavorites top --once")]
pub(super) struct Top {
    /// How often to ask the workers, from 100ms to 10m
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    every: Duration,
    /// Ask twice, print one screen as plain text, and end
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Top {
    pub async fn run(self) -> anyhow::Result<()> {
        let is_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
        if !self.once && !is_terminal {
            let message = "this needs a terminal. For scripts there are gofavorites health and \
                           gofavorites metrics; --once prints one screen as text";
            return Err(CommandError::usage(message).into());
        }

        let client = self.connection.open().await?;
        let poll = Poll::open(&client, self.connection.requested_shard()).await?;
        let place = Place {
            service: client.service_name().to_owned(),
            servers: client.servers().to_owned(),
        };
        let screen = Screen::new();
        let theme = Theme {
            colour: screen.colour && !self.once,
            utf8: screen.utf8,
        };
        if !self.once {
            return Live::new(poll, place, theme, self.every).run().await;
        }

        let width = screen.width.unwrap_or(PIPE_CELLS);
        let width = u16::try_from(width).unwrap_or(u16::MAX);
        print_once(poll, &place, theme, self.every, (width, client.deadline())).await
    }
}

/// Reads the time between two questions.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    let is_possible = (Duration::from_millis(100)..=Duration::from_secs(600)).contains(&interval);

    is_possible
        .then_some(interval)
        .ok_or_else(|| "must be from 100ms to 10m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_has_limits() {
        assert_eq!(interval("1s"), Ok(Duration::from_secs(1)));
        for wrong in ["99ms", "11m", "0s", "1"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
