//! `gofavorites bench`: loads the service, checks its replies, and measures how fast they come.

#[cfg(feature = "dev")]
pub(super) mod bare;
#[cfg(feature = "dev")]
mod bucket;
mod drive;
mod latencies;
mod load;
mod mix;
mod model;
mod outcome;
mod owners;
mod place;
#[cfg(feature = "dev")]
mod platform;
mod processor;
mod random;
#[cfg(feature = "dev")]
mod raw;
mod reply;
mod road;
mod run;
mod schedule;
mod svg;
mod tally;

use super::client::Connection;
use super::closed_list::ClosedList;
use super::duration::{duration, duration_or_zero};
use super::failed::CommandError;
use super::output::{Output, note, print, warn};
use super::progress::Progress;
use crate::shutdown::shutdown_signal;
use crate::wire::Encoding;
use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use load::Load;
use mix::Mix;
use model::OwnerModel;
use outcome::{Asked, Outcome};
use owners::Owners;
use place::{Place, RawRights, Whose, Wishes};
use road::Road;
use run::{Measured, Plan, Run};
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::process::Command;
use uuid::Uuid;

/// How many callers share a connection, if nobody says how many there are.
const CALLERS_OF_A_CONNECTION: usize = 16;
/// How long a run is if nothing else is said.
const USUAL_DURATION: Duration = Duration::from_secs(10);

/// Load the service, check its replies, and measure how fast they come.
///
/// The owners get items of their own first, and lose them at the end. An owner who has any other item is
/// refused before anything is changed.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites bench --dev
  gofavorites bench --dev --mix get --callers 16 --duration 30s
  gofavorites bench --dev --mix put --rate 500 --svg put.svg
  gofavorites bench --dev --mix list --in-turn --requests 100 --warm-up 0 --fill-shard a --shard b
  gofavorites bench --tokens bench-tokens --owners 50 --rate 200 --json
  gofavorites bench --tokens bench-tokens --owners 50 --clean-up")]
pub(super) struct Bench {
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    load: LoadOptions,
    #[command(flatten)]
    length: Length,
    /// Do not measure what the same servers do without the service
    #[arg(long)]
    no_raw: bool,
    /// Write a picture of the latencies
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Leave the items where they are
    #[arg(long)]
    keep: bool,
    /// Measure nothing, and remove the items that an earlier run has left
    #[arg(long, conflicts_with = "keep")]
    clean_up: bool,
    /// The directory of the development platform's state; by default the nearest .dev
    #[cfg(feature = "dev")]
    #[arg(long, env = "GOFAVORITES_STATE")]
    state: Option<PathBuf>,
    /// The NATS user of the development platform as whom the callers connect
    #[cfg(feature = "dev")]
    #[arg(long = "as", default_value = "gateway", value_parser = ["gateway", "gateway2", "direct"])]
    user_of_platform: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

/// What the load consists of.
#[derive(Args)]
struct LoadOptions {
    /// The operations and how often each: get, list, put, delete, changes, version
    #[arg(long, value_name = "OPERATION=WEIGHT,…", default_value = mix::USUAL)]
    mix: Mix,
    /// How many requests are under way at the same time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    callers: u16,
    /// How many connections the callers share [default: one for 16 callers]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: Option<u16>,
    /// How many owners there are
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    owners: u32,
    /// Ask about the owners in turn, not at random: about none again before all have had their turn
    #[arg(long)]
    in_turn: bool,
    /// The shard on which the owners get their items [default: the one that the load is for]
    #[arg(long, value_name = "SHARD")]
    fill_shard: Option<String>,
    /// Run a command of the shell when the owners have their items, and begin when it has ended
    #[arg(long, value_name = "COMMAND")]
    before_load: Option<String>,
    /// How many items each owner has
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    items: u16,
    /// The bytes of each item's text
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    bytes: u32,
    /// The encoding of requests and replies
    #[arg(long, value_enum, default_value = "json")]
    encoding: EncodingOption,
    /// How fresh what get and list answer has to be [default: what the service does by itself]
    #[arg(long, value_parser = ClosedList::consistencies())]
    consistency: Option<String>,
}

/// How long the run is, and how its requests follow one another.
#[derive(Args)]
struct Length {
    /// How long the load runs [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// How many requests there are; with --duration, whichever ends first
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// Begin so many requests a second, whether the earlier ones are answered or not
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// How long the service is loaded before anything is measured
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration_or_zero)]
    warm_up: Duration,
    /// In how many parts the load runs, with the raw figures in between
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
}

/// The encodings by their names.
#[derive(Clone, Copy, ValueEnum)]
enum EncodingOption {
    Json,
    Cbor,
}

impl EncodingOption {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Cbor => "cbor",
        }
    }

    fn encoding(self) -> Encoding {
        match self {
            Self::Json => Encoding::Json,
            Self::Cbor => Encoding::Cbor,
        }
    }
}

impl LoadOptions {
    fn connections(&self) -> usize {
        let usual = usize::from(self.callers).div_ceil(CALLERS_OF_A_CONNECTION);

        self.connections.map_or(usual, usize::from)
    }

    /// Refuses what the service would not store.
    fn check(&self, limits: owners::Limits) -> Result<(), CommandError> {
        let wanted = [
            ("--items", usize::from(self.items), limits.items),
            ("--bytes", self.bytes as usize, limits.text_bytes),
        ];
        let too_many = wanted.into_iter().find(|(_, value, limit)| value > limit);

        too_many.map_or(Ok(()), |(option, _, limit)| {
            let message = format!("{option}: the service allows {limit}");
            Err(CommandError::usage(message))
        })
    }
}

impl Length {
    fn plan(&self, callers: u16) -> Plan {
        let usual = self.requests.is_none().then_some(USUAL_DURATION);
        let most = self.requests.unwrap_or(u64::MAX).try_into();

        Plan {
            callers: callers.into(),
            rate_per_s: self.rate,
            duration: self.duration.or(usual),
            requests: self.requests,
            warm_up: self.warm_up,
            rounds: usize::from(self.rounds).min(most.unwrap_or(usize::MAX)),
        }
    }
}

/// Reads a number of requests a second.
fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok();

    rate.filter(|rate| (0.01..=1e7).contains(rate))
        .ok_or_else(|| "give a number of requests a second, as in 500".to_owned())
}

impl Bench {
    pub async fn run(self) -> anyhow::Result<()> {
        self.output.refuse_ids()?;
        let stop = stop_on_signal()?;
        let wishes = Wishes {
            owners: self.load.owners as usize,
            connections: self.load.connections(),
            encoding: self.load.encoding.encoding(),
            timeout: self.connection.time_limit(),
            connection: &self.connection,
            fill_shard: self.load.fill_shard.as_deref(),
            #[cfg(feature = "dev")]
            state: self.state.as_deref(),
            #[cfg(feature = "dev")]
            user: &self.user_of_platform,
        };
        let mut place = self.whose.open(wishes).await?;
        if self.clean_up {
            let removed = self.clean_up(&place).await?;
            return print(&format!("removed {removed} items\n"));
        }
        self.load.check(place.limits)?;

        let (models, filled_in) = self.fill(&place).await?;
        let (outcome, place) = match self.prepare(&mut place).await {
            Ok(()) => self.measure(place, models, filled_in, stop).await,
            Err(error) => (Err(error), place),
        };
        let cleaned = match self.keep {
            true => Ok(0),
            false => self.clean_up(&place).await,
        };

        let outcome = outcome?;
        if let Some(file) = &self.svg {
            let picture = svg::picture(&outcome);
            fs::write(file, picture).with_context(|| file.display().to_string())?;
        }
        self.output
            .print(&outcome.to_json(), |screen| outcome.to_text(screen))?;
        if let Err(error) = cleaned {
            warn("the items of the run are still there: run it again with --clean-up");
            return Err(error);
        }
        match outcome.wrong.total() {
            0 => Ok(()),
            wrong => bail!(CommandError::differs(format!("{wrong} replies were wrong"))),
        }
    }

    /// Looks at the owners, and gives them their items. Returns how long the second took.
    async fn fill(&self, place: &Place) -> anyhow::Result<(Vec<OwnerModel>, Duration)> {
        let owners = self.owners_of(place, &place.fill_road);
        let total = place.tokens.len() as u64;
        let mut progress = Progress::new("owners looked at");
        let left = owners.look(|done| progress.step(done, total)).await?;
        progress.end();

        let run = &Uuid::now_v7().simple().to_string()[20..];
        let (items, bytes) = (self.load.items.into(), self.load.bytes as usize);
        let models: Vec<_> = (0..place.tokens.len())
            .map(|owner| OwnerModel::new(run, owner, items, bytes))
            .collect();
        let mut progress = Progress::new("owners filled");
        let begun = Instant::now();
        owners
            .fill(&models, &left, |done| progress.step(done, total))
            .await?;
        progress.end();

        Ok((models, begun.elapsed()))
    }

    /// Runs the command that comes before the load, if one was given. What it prints goes to standard
    /// error.
    async fn prepare(&self, place: &mut Place) -> anyhow::Result<()> {
        let Some(command) = &self.load.before_load else {
            return Ok(());
        };
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).stdin(Stdio::null());
        shell.stdout(std::io::stderr());

        let status = shell.status().await.context("--before-load")?;
        if !status.success() {
            bail!(CommandError::differs(format!(
                "--before-load ended with {status}"
            )));
        }
        // It may have started other processes.
        #[cfg(feature = "dev")]
        let state = self.state.as_deref();
        #[cfg(not(feature = "dev"))]
        let state = None;
        place.processes = self.whose.processes(state)?;
        Ok(())
    }

    /// Measures, and returns the place, whose items are still there.
    async fn measure(
        &self,
        place: Place,
        models: Vec<OwnerModel>,
        filled_in: Duration,
        stop: Arc<AtomicBool>,
    ) -> (anyhow::Result<Outcome>, Place) {
        let Place {
            road,
            fill_road,
            tokens,
            limits,
            processes,
            raw,
        } = place;
        let load = Arc::new(Load {
            road,
            mix: self.load.mix.clone(),
            tokens,
            models,
            turn: self.load.in_turn.then(AtomicUsize::default),
            page: limits.page,
            consistency: self.load.consistency.clone(),
            wrong: load::WrongReplies::default(),
        });

        let measured = self.measure_load(load.clone(), &processes, raw, stop).await;
        let outcome = measured.map(|measured| {
            let wrong = load.wrong.found();
            self.outcome(measured, filled_in, wrong)
        });
        let place = Place {
            road: load.road.clone(),
            fill_road,
            tokens: load.tokens.clone(),
            limits,
            processes,
            raw: Err(String::new()),
        };
        (outcome, place)
    }

    async fn measure_load(
        &self,
        load: Arc<Load>,
        processes: &processor::Processes,
        raw: RawRights,
        stop: Arc<AtomicBool>,
    ) -> anyhow::Result<Measured> {
        let raw = match self.no_raw {
            true => Err("--no-raw was given".to_owned()),
            false => raw,
        };
        #[cfg(feature = "dev")]
        let (raw, left_out) = match raw {
            Ok(connections) => {
                let size = (self.load.owners as usize, self.load.items.into());
                let bytes = self.load.bytes as usize;
                let raw = raw::Raw::start(connections, size, bytes).await?;
                (Some(Arc::new(raw)), None)
            }
            Err(why) => (None, Some(why)),
        };
        #[cfg(not(feature = "dev"))]
        let left_out = raw.err();

        let run = Run {
            plan: self.length.plan(self.load.callers),
            load,
            #[cfg(feature = "dev")]
            raw: raw.clone(),
            processes: processes.clone(),
            stop,
        };
        let mut measured = run.measure().await;
        measured.raw.left_out = left_out;
        #[cfg(feature = "dev")]
        if let Some(raw) = raw {
            let cleaned = raw.clean_up().await;
            if let Err(error) = cleaned {
                warn(&format!(
                    "records of the raw figures are still there: {error}"
                ));
            }
        }
        Ok(measured)
    }

    fn owners_of<'p>(&self, place: &'p Place, road: &'p Road) -> Owners<'p> {
        Owners {
            road,
            tokens: &place.tokens,
            limits: place.limits,
            callers: self.load.callers.into(),
        }
    }

    /// Removes the items of runs from the owners.
    async fn clean_up(&self, place: &Place) -> anyhow::Result<u64> {
        let total = place.tokens.len() as u64;
        let mut progress = Progress::new("owners cleaned up");
        let removed = self
            .owners_of(place, &place.road)
            .clean_up(|done| progress.step(done, total))
            .await;
        progress.end();

        removed
    }

    fn outcome(&self, measured: Measured, filled_in: Duration, wrong: load::Found) -> Outcome {
        let plan = self.length.plan(self.load.callers);

        Outcome {
            asked: Asked {
                mix: self.load.mix.clone(),
                callers: plan.callers,
                connections: self.load.connections(),
                owners: self.load.owners as usize,
                in_turn: self.load.in_turn,
                fill_shard: self.load.fill_shard.clone(),
                before_load: self.load.before_load.clone(),
                items: self.load.items.into(),
                bytes: self.load.bytes as usize,
                encoding: self.load.encoding.name(),
                consistency: self.load.consistency.clone(),
                shard: self.connection.requested_shard().map(str::to_owned),
                rate_per_s: plan.rate_per_s,
                rounds: plan.rounds,
            },
            filled_in,
            tally: measured.tally,
            took: measured.took,
            wrong,
            raw: measured.raw,
            processor: measured.processor,
        }
    }
}

/// Returns what becomes true with a signal to stop: the run then ends early, reports, and cleans up. A
/// second signal ends the program at once.
fn stop_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let signal = shutdown_signal()?;
    let stop = Arc::new(AtomicBool::new(false));

    let stopped = stop.clone();
    tokio::spawn(async move {
        let name = signal.await;
        note(&format!("{name}: the run ends early"));
        stopped.store(true, Ordering::Relaxed);

        if let Ok(second) = shutdown_signal() {
            second.await;
            warn("the items of the run are still there: run it again with --clean-up");
            std::process::exit(1);
        }
    });
    Ok(stop)
}
