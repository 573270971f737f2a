//! The command line: one file a subcommand.

mod arguments;
mod backup;
mod batch;
mod bench;
mod changes;
mod client;
mod closed_list;
mod codes;
mod complete;
mod completions;
mod config;
mod connection_events;
mod context;
mod context_file;
mod contexts;
mod contract;
mod denied;
#[cfg(feature = "dev")]
mod dev;
mod draft;
mod duration;
mod edit;
mod error_report;
mod failed;
mod freshness;
mod get;
mod health;
#[cfg(all(test, feature = "dev", feature = "qr"))]
mod help_snapshot;
mod history;
mod import;
mod in_flags;
mod init;
mod item_name;
mod label_changes;
mod labels;
mod limits;
mod list;
mod lookup;
mod maintain;
mod man;
mod metrics;
mod move_item;
mod nats_options;
mod otp;
mod output;
mod owner;
mod precedence;
mod progress;
mod put;
mod repair;
mod repair_report;
mod replay;
mod rm;
mod secret_input;
mod secret_put;
mod serve;
mod shard;
mod tags;
mod text_input;
mod top;
mod usage;
mod verify;
mod version;
mod wait;
mod workers;

pub use complete::complete;

use crate::app::SettingsWatch;
use crate::config::{Reading, Sources};
use crate::shutdown::Hangup;
use anyhow::Context as _;
use arguments::{in_order, with_plain_usage};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use precedence::named_command;
use std::ffi::OsString;
use std::path::PathBuf;

/// Favourites over NATS: the worker, and a client for it.
#[derive(Parser)]
#[command(name = "gofavorites", version, about, max_term_width = 110, after_help = failed::EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// When to print colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(
        long = "color",
        global = true,
        value_name = "WHEN",
        default_value = "auto"
    )]
    colour: clap::ColorChoice,
    /// Whether errors are printed as JSON too.
    #[arg(skip)]
    json_errors: bool,
}

#[derive(Subcommand)]
#[expect(
    clippy::large_enum_variant,
    reason = "a process has one command, for all its life"
)]
enum Command {
    /// Store an item, or change the one that is there
    #[command(visible_alias = "add", alias = "set")]
    Put(put::Put),
    /// Show one item
    #[command(visible_alias = "show")]
    Get(get::Get),
    /// List your items in your order
    #[command(visible_alias = "ls")]
    List(list::List),
    /// Show which of some ids are among your items
    Lookup(lookup::Lookup),
    /// Delete an item
    #[command(visible_alias = "del", aliases = ["delete", "remove"])]
    Rm(rm::Rm),
    /// Move an item in the list
    #[command(visible_alias = "mv")]
    Move(move_item::MoveItem),
    /// List your tags; rename or remove one on all items
    Tags(tags::Tags),
    /// Store one-time-password secrets, print their codes, and check codes
    Otp(otp::Otp),
    /// Store lists of one-time codes, and take codes from them
    Codes(codes::Codes),
    /// List what changed since a version
    Changes(changes::Changes),
    /// Print changes as they happen
    Watch(changes::Watch),
    /// List an item's versions
    History(history::History),
    /// Restore an item as it was at an earlier version
    Restore(history::Restore),
    /// Do several puts and deletes in one request
    Batch(batch::Batch),
    /// Import secrets and instruments from files of other programs
    Import(import::Import),
    /// Edit an item in your editor
    Edit(edit::Edit),
    /// Show how much of the limits you use
    Usage(usage::Usage),
    /// Show the limits of the service
    Limits(limits::Limits),
    /// Show the version of this program and of the service
    Version(version::Version),
    /// Show whether workers answer, and what is wrong with them
    Health(health::Health),
    /// Print metrics of all workers, for Prometheus and programs like it
    Metrics(metrics::Metrics),
    /// Name places and users, and show what is in force
    #[command(visible_alias = "ctx")]
    Context(context::Context),
    /// Print a script that completes this program's commands
    Completions(completions::Completions),
    /// Write the manual pages
    Man(man::ManualPages),
    /// Print the wire contract as an AsyncAPI document
    Contract(contract::Contract),
    /// Run a worker
    Serve(Settings),
    /// Show the settings in force, where they come from, and whether a worker can start with them
    Config(config::Config),
    /// Create the bucket and migrate the shard's Postgres to this version's schema
    Init(init::Init),
    /// Show each shard; evict owners who have not been seen for long
    Shard(shard::Shard),
    /// Watch all workers and shards on a screen that renews itself
    Top(top::Top),
    /// Load the service, check its replies, and measure how fast they come
    Bench(bench::Bench),
    /// Show under which name a user's records are stored, and how the owner is
    Owner(owner::Owner),
    /// Compare a shard's Postgres with the bucket, and repair it
    Verify(verify::Verify),
    /// Repair an owner in the bucket, from the shards' copies
    Repair(repair::Repair),
    /// Rebuild a shard's Postgres from the bucket
    Replay(replay::Replay),
    /// Purge old deletions; runs beside the workers
    Maintain(maintain::Maintain),
    /// Take, check and restore backups of the bucket
    Backup(backup::BackupCommand),
    /// Run the complete platform on this machine, for development
    #[cfg(feature = "dev")]
    Dev(dev::Dev),
}

/// Where a worker's settings come from: defaults, then this file, then `GOFAVORITES__SECTION__FIELD`.
#[derive(clap::Args)]
struct Settings {
    /// A TOML file of settings
    #[arg(long, env = "GOFAVORITES_CONFIG")]
    config: Option<OsString>,
}

impl Settings {
    fn file(&self) -> Option<PathBuf> {
        nats_options::path(self.config.as_ref())
    }

    /// Reads the settings without a check, and where their values come from.
    fn load_unchecked(&self) -> anyhow::Result<(crate::config::Settings, Sources)> {
        crate::config::Settings::read_with_sources(self.file().as_deref())
            .map_err(|error| wait::with_exit_code(error.into()))
    }

    /// Reads the settings, and checks them.
    fn load(&self) -> anyhow::Result<crate::config::Settings> {
        let (settings, sources) = self.load_unchecked()?;
        settings
            .check_with_sources(&sources)
            .map_err(|error| wait::with_exit_code(error.into()))?;

        Ok(settings)
    }

    /// Reads the settings of a program that takes up their changes while it runs.
    fn watch(&self) -> anyhow::Result<(Reading, SettingsWatch)> {
        let hangup = Hangup::listen().context("cannot listen for signals")?;
        self.load()?;
        let first = Reading::take(self.file().as_deref())?;
        crate::telemetry::start(&first.settings.log)?;

        let watch = SettingsWatch::new(self.file(), first.clone(), hangup);
        Ok((first, watch))
    }
}

/// The settings of a command that ends by itself, and how much it logs.
#[derive(clap::Args)]
struct CommandSettings {
    #[command(flatten)]
    settings: Settings,
    /// Log what log.filter names, not only warnings and errors
    #[arg(short, long)]
    verbose: bool,
}

impl CommandSettings {
    fn read(&self) -> anyhow::Result<crate::config::Settings> {
        let settings = self.settings.load()?;
        crate::telemetry::start_command(&settings.log, self.verbose)?;
        Ok(settings)
    }
}

impl Cli {
    /// Reads the arguments of this process. Ends it if they are wrong, or ask for help.
    pub fn read() -> Self {
        let mut program = Self::command();
        program.build();
        let arguments = in_order(&program, std::env::args_os().collect());
        output::choose_colour(&arguments);

        let matches = precedence::read(&Self::command(), &arguments);
        let cli = matches.and_then(|matches| {
            let cli = Self::from_arg_matches(&matches)?;
            Ok(Self {
                json_errors: output::asks_for_json(named_command(&matches)),
                ..cli
            })
        });
        cli.unwrap_or_else(|error| with_plain_usage(error, &program, &arguments).exit())
    }

    /// Runs the command that the arguments name, and says on the standard error stream why it
    /// failed. Returns the exit code.
    pub async fn run_and_report(self) -> u8 {
        let as_json = self.json_errors;

        match self.run().await {
            Ok(()) => 0,
            Err(error) => {
                error_report::print(&error, as_json);
                error_report::exit_code(&error)
            }
        }
    }

    async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Put(put) => put.run().await,
            Command::Get(get) => get.run().await,
            Command::List(list) => list.run().await,
            Command::Lookup(lookup) => lookup.run().await,
            Command::Rm(rm) => rm.run().await,
            Command::Move(item) => item.run().await,
            Command::Tags(tags) => tags.run().await,
            Command::Otp(otp) => otp.run().await,
            Command::Codes(codes) => codes.run().await,
            Command::Changes(changes) => changes.run().await,
            Command::Watch(watch) => watch.run().await,
            Command::History(history) => history.run().await,
            Command::Restore(restore) => restore.run().await,
            Command::Batch(batch) => batch.run().await,
            Command::Import(import) => import.run().await,
            Command::Edit(edit) => edit.run().await,
            Command::Usage(usage) => usage.run().await,
            Command::Limits(limits) => limits.run().await,
            Command::Health(health) => health.run().await,
            Command::Metrics(metrics) => metrics.run().await,
            Command::Context(context) => context.run(),
            Command::Completions(completions) => completions.run(),
            Command::Man(pages) => pages.run(),
            Command::Contract(contract) => contract.run(),
            Command::Version(version) => version.run().await,
            Command::Serve(settings) => serve::run(settings).await,
            Command::Config(config) => config.run(),
            Command::Init(init) => init.run().await,
            Command::Shard(shard) => shard.run().await,
            Command::Top(top) => top.run().await,
            Command::Bench(bench) => bench.run().await,
            Command::Owner(owner) => owner.run().await,
            Command::Verify(verify) => verify.run().await,
            Command::Repair(repair) => repair.run().await,
            Command::Replay(replay) => replay.run().await,
            Command::Maintain(maintain) => maintain.run().await,
            Command::Backup(backup) => backup.run().await,
            #[cfg(feature = "dev")]
            Command::Dev(dev) => dev.run().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_and_their_arguments_are_well_formed() {
        Cli::command().debug_assert();
    }
}
