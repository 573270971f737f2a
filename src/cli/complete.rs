//! What a shell proposes for an argument: the owner's own ids and tags, the shards that answer, and
//! the contexts. The service is asked for a short time only; where it does not answer, nothing is
//! proposed, and nothing is printed.

use super::Cli;
use super::arguments::in_order;
use super::client::Connection;
use super::contexts::Contexts;
use super::precedence;
use super::workers::fetch_statistics;
use crate::wire::Operation;
use clap::builder::Resettable;
use clap::{Arg, ArgMatches, Command, CommandFactory as _, FromArgMatches as _, ValueHint};
use clap_complete::{ArgValueCompleter, CompleteEnv, CompletionCandidate};
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
#[cfg(feature = "dev")]
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::timeout;

/// The variable with which the completion script calls the program; its value is the shell's name.
pub(super) const VARIABLE: &str = "GOFAVORITES_COMPLETE";

/// How long a person who pressed the Tab key waits at most.
const TIME_LIMIT: Duration = Duration::from_millis(700);

/// Proposes completions and ends the process, if a completion script has called it.
pub fn complete() {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    let arguments = std::env::args_os().collect();
    let directory = std::env::current_dir().ok();

    let completed = CompleteEnv::with_factory(|| with_proposals(Cli::command()))
        .var(VARIABLE)
        .try_complete(words_in_order(arguments), directory.as_deref());
    match completed {
        Ok(true) => std::process::exit(0),
        Ok(false) => {}
        Err(error) => error.exit(),
    }
}

/// Returns the arguments with the options of the command line that is typed, which follows `--`,
/// behind the command.
fn words_in_order(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let Some(end) = arguments.iter().position(|word| word == "--") else {
        return arguments;
    };
    let words = arguments.split_off(end + 1);
    let mut program = Cli::command();
    program.build();

    arguments.extend(in_order(&program, words));
    arguments
}

/// Returns the command with what is proposed for its arguments and those of the commands below it.
fn with_proposals(command: Command) -> Command {
    let names_context = ["use", "rm"].contains(&command.get_name());
    #[cfg(feature = "dev")]
    let shows_logs = command.get_name() == "logs";
    let renames_tag = command.get_name() == "rename";
    let propose = |argument: Arg| {
        // What is rarely typed is proposed where nothing else is.
        let is_rare = argument.is_hide_short_help_set();
        let argument = argument.hide(is_rare);
        if is_file(&argument) {
            return argument.value_hint(ValueHint::FilePath);
        }
        let completer = match argument.get_id().as_str() {
            "id" | "ids" => ArgValueCompleter::new(complete_ids),
            "tag" | "tags" | "untag" => ArgValueCompleter::new(complete_tags),
            "from" if renames_tag => ArgValueCompleter::new(complete_tags),
            "shard" => ArgValueCompleter::new(complete_shards),
            "context" => ArgValueCompleter::new(complete_contexts),
            "output" => ArgValueCompleter::new(complete_forms),
            #[cfg(feature = "dev")]
            "names" => ArgValueCompleter::new(complete_parts),
            #[cfg(feature = "dev")]
            "name" if shows_logs => ArgValueCompleter::new(complete_parts),
            "name" if names_context => ArgValueCompleter::new(complete_contexts),
            _ => return argument,
        };
        argument.add(completer)
    };

    // The engine would propose one name of each command, which may be an alias.
    // They are never freed: the process ends after it has proposed.
    let aliases: Vec<&'static str> = command
        .get_all_aliases()
        .map(|alias| &*alias.to_owned().leak())
        .collect();
    command
        .mut_args(propose)
        .visible_alias(Resettable::Reset)
        .aliases(aliases)
        .mut_subcommands(with_proposals)
}

fn is_file(argument: &Arg) -> bool {
    let names = argument.get_value_names().unwrap_or_default();

    ["config", "contexts"].contains(&argument.get_id().as_str())
        || names.iter().any(|name| name.as_str() == "FILE")
}

/// Proposes the ids of the owner's items of the kind that the command line names.
fn complete_ids(current: &OsStr) -> Vec<CompletionCandidate> {
    let line = CommandLine::read();
    let Some(kind) = line.kind() else {
        return Vec::new();
    };

    let reply = line.ask(Operation::List, &json!({"kind": kind, "only": "ids"}));
    proposals(current, names(&reply, "items", "id"))
}

/// Proposes the owner's tags.
fn complete_tags(current: &OsStr) -> Vec<CompletionCandidate> {
    let reply = CommandLine::read().ask(Operation::Tags, &json!({}));

    proposals(current, names(&reply, "tags", "tag"))
}

/// Proposes the shards whose workers answer.
fn complete_shards(current: &OsStr) -> Vec<CompletionCandidate> {
    let connection = CommandLine::read().connection();
    let workers = connection.and_then(|connection| {
        run(async {
            let client = connection.open().await?;
            fetch_statistics(&client, None, None).await
        })
    });

    let shards = workers.into_iter().flatten().filter_map(|worker| {
        let shard = worker["data"]["shard"].as_str()?;
        Some(shard.to_owned())
    });
    proposals(current, shards.collect())
}

/// Proposes the contexts of the file of contexts.
fn complete_contexts(current: &OsStr) -> Vec<CompletionCandidate> {
    let connection = CommandLine::read().connection();
    let contexts = connection.and_then(|connection| connection.contexts().ok());

    proposals(current, contexts.map(Contexts::names).unwrap_or_default())
}

/// Proposes the forms of output.
fn complete_forms(current: &OsStr) -> Vec<CompletionCandidate> {
    let forms = ["json", "yaml", "table", "ids"];

    proposals(current, forms.map(str::to_owned).into())
}

/// Proposes the parts of the development platform that runs.
#[cfg(feature = "dev")]
fn complete_parts(current: &OsStr) -> Vec<CompletionCandidate> {
    use crate::dev::{state, status};
    let line = CommandLine::read();
    let state = line.matches.try_get_one::<PathBuf>("state").ok().flatten();

    let platform = state::locate(state.map(PathBuf::as_path))
        .and_then(|state| state::RunningPlatform::find(&state));
    let parts = platform.and_then(|platform| status::parts(&platform));
    let names = parts.into_iter().flatten().map(|part| part.name);
    proposals(current, names.collect())
}

/// Returns the names that begin like the word that is typed. A name that a shell would not take for
/// one plain word is left out: a person who accepts a proposal must not run what is in it.
fn proposals(current: &OsStr, mut names: Vec<String>) -> Vec<CompletionCandidate> {
    let typed = current.to_string_lossy();
    names.sort_unstable();
    names.dedup();

    names
        .into_iter()
        .filter(|name| name.starts_with(&*typed) && is_plain_word(name))
        .map(CompletionCandidate::new)
        .collect()
}

fn is_plain_word(name: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.:@+,/".contains(c);

    !name.is_empty() && !name.starts_with('-') && name.chars().all(is_plain)
}

/// Returns a field of each entry of a list in a reply.
fn names(reply: &Value, list: &str, field: &str) -> Vec<String> {
    let entries = reply[list].as_array().into_iter().flatten();

    entries
        .filter_map(|entry| Some(entry[field].as_str()?.to_owned()))
        .collect()
}

/// Runs a future for a short time. Without its result, or with an error, there is nothing.
fn run<T>(future: impl Future<Output = anyhow::Result<T>>) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;

    // The time limit has to begin within the runtime.
    let limited = async { timeout(TIME_LIMIT, future).await };
    runtime.block_on(limited).ok()?.ok()
}

/// The command line that is being typed, as far as it can be read.
struct CommandLine {
    /// The names of the command and of those above it.
    path: Vec<String>,
    matches: ArgMatches,
}

impl CommandLine {
    /// Reads the words that the completion script gives, which follow `--`.
    fn read() -> Self {
        let arguments = words_in_order(std::env::args_os().collect()).into_iter();
        let words: Vec<OsString> = arguments.skip_while(|word| word != "--").skip(1).collect();

        Self::of(words)
    }

    fn of(words: Vec<OsString>) -> Self {
        let program = Cli::command().ignore_errors(true);
        let mut matches = precedence::read(&program, &words).unwrap_or_default();

        let mut path = Vec::new();
        while let Some((name, below)) = matches.remove_subcommand() {
            path.push(name);
            matches = below;
        }
        Self { path, matches }
    }

    /// The kind of item that the command is about.
    fn kind(&self) -> Option<String> {
        if let Some(kind @ ("otp" | "codes")) = self.path.first().map(String::as_str) {
            return Some(kind.to_owned());
        }

        self.matches
            .try_get_one::<String>("kind")
            .ok()
            .flatten()
            .cloned()
    }

    fn connection(&self) -> Option<Connection> {
        Connection::from_arg_matches(&self.matches).ok()
    }

    /// Returns the reply to a request; null if there is none.
    fn ask(&self, operation: Operation, body: &Value) -> Value {
        let connection = self.connection();

        connection
            .and_then(|connection| run(async { connection.ask(operation, body).await }))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &str) -> CommandLine {
        CommandLine::of(words.split(' ').map(OsString::from).collect())
    }

    #[test]
    fn the_kind_is_known_while_the_line_is_typed() {
        for (words, kind) in [
            ("gofavorites get text ", Some("text")),
            ("gofavorites get instrument US --wrong", Some("instrument")),
            ("gofavorites otp code ", Some("otp")),
            ("gofavorites codes take x", Some("codes")),
            ("gofavorites get", None),
        ] {
            assert_eq!(line(words).kind().as_deref(), kind, "{words}");
        }
    }

    #[test]
    fn only_plain_words_are_proposed() {
        let names = ["b1", "b2", "b1", "a", "b$(x)", "b c", "-b"].map(str::to_owned);

        let proposed = proposals(OsStr::new("b"), names.to_vec());

        let proposed: Vec<_> = proposed.iter().map(|one| one.get_value()).collect();
        assert_eq!(proposed, ["b1", "b2"]);
    }
}
