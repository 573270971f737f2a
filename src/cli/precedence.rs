//! Which values of the environment count. An option comes first, then the context that an option
//! names, then the environment, then the default context. Credentials that replace each other count
//! as one value.

use super::arguments::CONNECTION;
use super::client::Connection;
use super::contexts::CREDENTIALS;
use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, Error, FromArgMatches as _};
use std::collections::BTreeSet;
use std::ffi::OsString;

/// Reads the arguments, without what the environment gives and something else replaces.
pub(super) fn read(program: &Command, arguments: &[OsString]) -> Result<ArgMatches, Error> {
    let matches = program.clone().try_get_matches_from(arguments)?;

    let replaced = replaced(named_command(&matches));
    if replaced.is_empty() {
        return Ok(matches);
    }
    without_variables(program.clone(), &replaced).try_get_matches_from(arguments)
}

/// Returns the arguments of the command that is run.
pub(super) fn named_command(matches: &ArgMatches) -> &ArgMatches {
    let mut command = matches;
    while let Some((_, named)) = command.subcommand() {
        command = named;
    }

    command
}

/// Returns the options whose variables do not count.
fn replaced(matches: &ArgMatches) -> BTreeSet<String> {
    // Only a command with a connection has this option. Without debug assertions the answer to the
    // question for an unknown option is `false`, and no error.
    let Ok(has_context) = matches.try_contains_id("context") else {
        return BTreeSet::new();
    };

    let is_option = matches.value_source("context") == Some(ValueSource::CommandLine);
    let connection = (has_context && is_option)
        .then(|| Connection::from_arg_matches(matches).ok())
        .flatten();
    // What is wrong with the context is told when it is used.
    let context = connection.and_then(|connection| connection.named_context().ok());
    let fields = context.map(|(_, place)| place.values().into_keys().collect());
    options_of(matches, &fields.unwrap_or_default())
}

/// Returns the options whose variables do not count beside these fields of a context, and beside the
/// options that are given.
fn options_of(matches: &ArgMatches, context: &BTreeSet<String>) -> BTreeSet<String> {
    let mut replaced = context.clone();
    let given = |name: &str| matches.value_source(name) == Some(ValueSource::CommandLine);
    for name in ["token", "token_file", "url"]
        .into_iter()
        .chain(CREDENTIALS)
    {
        if !given(name) && !context.contains(name) {
            continue;
        }
        let has_user = || {
            let urls = matches.get_raw(name).into_iter().flatten();
            urls.into_iter()
                .any(|url| url.to_string_lossy().contains('@'))
        };

        let others: &[&str] = match name {
            "token" => &["token_file"],
            "token_file" => &["token"],
            "url" if !given(name) || !has_user() => &[],
            // User and password may come one from each.
            "user" => &CREDENTIALS[3..],
            "password" => &CREDENTIALS[2..],
            "password_file" => &["password", "nats_token_file", "nkey_file", "creds"],
            _ => &CREDENTIALS,
        };
        replaced.extend(others.iter().map(|other| (*other).to_owned()));
    }

    replaced
}

fn without_variables(command: Command, options: &BTreeSet<String>) -> Command {
    command
        .mut_args(|argument| {
            let is_replaced = argument.get_help_heading() == Some(CONNECTION)
                && options.contains(argument.get_id().as_str());
            if is_replaced {
                argument.env(Resettable::Reset)
            } else {
                argument
            }
        })
        .mut_subcommands(|command| without_variables(command, options))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Args as _;

    fn replaced_by(arguments: &str, context: &[&str]) -> Vec<String> {
        let program = Connection::augment_args(Command::new("x"));
        let words = std::iter::once("x").chain(arguments.split_whitespace());
        let matches = program.get_matches_from(words);
        let context = context.iter().map(|field| (*field).to_owned()).collect();

        options_of(&matches, &context).into_iter().collect()
    }

    #[test]
    fn what_is_given_replaces_its_like() {
        let credentials = [
            "creds",
            "nats_token_file",
            "nkey_file",
            "password",
            "password_file",
            "user",
        ];

        for (arguments, context, replaced) in [
            ("", &[][..], &[][..]),
            ("--token-file x", &[], &["token"]),
            ("--user x", &[], &["creds", "nats_token_file", "nkey_file"]),
            ("--creds x", &[], &credentials[..]),
            ("--url nats://u:p@x", &[], &credentials[..]),
            ("--url nats://x", &[], &[]),
            (
                "",
                &["shard", "token_file", "url"],
                &["shard", "token", "token_file", "url"],
            ),
        ] {
            assert_eq!(
                replaced_by(arguments, context),
                replaced,
                "{arguments} {context:?}"
            );
        }
    }
}
