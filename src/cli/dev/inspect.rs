//! `gofavorites dev status`, `logs` and `psql`: a running platform as its developer sees it.

use crate::cli::output::{BAD, Cell, Column, GOOD, Output, Table};
use crate::dev::state::RunningPlatform;
use crate::dev::status::PartStatus;
use crate::dev::{logs, psql, status};
use anyhow::Context as _;
use clap::Args;
use std::ffi::OsString;
use std::io::{ErrorKind, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

/// Show what runs: name, process id, state and address.
#[derive(Args)]
pub(super) struct Status {
    #[command(flatten)]
    output: Output,
}

impl Status {
    pub fn run(&self, state: &Path) -> anyhow::Result<()> {
        self.output.refuse_ids()?;
        let platform = RunningPlatform::find(state)?;
        let parts = status::parts(&platform)?;

        let described = status::to_json(&platform, &parts);
        self.output
            .print(&described, |screen| table(&parts).format(screen))
    }
}

/// Returns the table of the processes.
fn table(parts: &[PartStatus]) -> Table {
    let columns = [
        Column::words("NAME"),
        Column::numbers("PID"),
        Column::words("STATE"),
        Column::words("ADDRESS"),
    ];
    let rows = parts.iter().map(|part| {
        let style = if part.runs { GOOD } else { BAD };
        vec![
            part.name.as_str().into(),
            part.pid.to_string().into(),
            Cell::styled(part.state(), style),
            part.address.as_deref().unwrap_or_default().into(),
        ]
    });

    Table::new(columns).with_rows(rows)
}

/// Print the output of a part, or the last lines of each.
#[derive(Args)]
pub(super) struct Logs {
    /// The part: worker-a-0, auth, postgres, …
    name: Option<String>,
    /// Print further lines as they come, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Only that many of the last lines; by default all of a named part, and 10 of each other
    #[arg(long, short = 'n')]
    lines: Option<usize>,
}

impl Logs {
    pub fn run(&self, state: &Path) -> anyhow::Result<()> {
        let options = logs::LogOptions {
            name: self.name.clone(),
            lines: self.lines,
            follow: self.follow,
        };

        let mut out = std::io::stdout().lock();
        let printed = logs::print(state, &options, &mut out);
        let flushed = out.flush();

        match printed.and(flushed.map_err(Into::into)) {
            Err(error) if is_closed(&error) => Ok(()),
            outcome => outcome,
        }
    }
}

/// Open a shard's database with psql.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites dev psql
  gofavorites dev psql b -- --command 'select count(*) from owner'")]
pub(super) struct Psql {
    /// The shard; by default the first one
    shard: Option<String>,
    /// Print the connection URL, with its password, and do not connect
    #[arg(long)]
    url: bool,
    /// What psql gets, after --
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

impl Psql {
    pub fn run(&self, state: &Path) -> anyhow::Result<()> {
        let platform = RunningPlatform::find(state)?;
        let shard = self.shard.as_deref();
        if self.url {
            println!("{}", psql::url(&platform, shard)?);
            return Ok(());
        }

        // This returns only if psql cannot be started.
        let error = psql::command(&platform, shard, &self.arguments)?.exec();
        Err(error).context("psql cannot be started; --url prints what another client needs")
    }
}

/// Returns whether the reader of the output has gone away, as `head` does.
fn is_closed(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
