//! The arguments of the process, before clap reads them, and clap's errors about them.

use clap::Command;
use clap::error::{ContextKind, ContextValue};
use std::ffi::OsString;

/// The heading of the options that may stand before the command.
pub(super) const CONNECTION: &str = "Connection";

/// Options that most commands have and that may stand before the command too.
const COMMON: [&str; 3] = ["json", "output", "color"];

/// Returns the arguments with the options that stand before the command put after it: they belong to
/// the command, and clap looks for them there.
pub(super) fn in_order(program: &Command, mut arguments: Vec<OsString>) -> Vec<OsString> {
    let Some(command_at) = command_at(program, &arguments) else {
        return arguments;
    };

    let below = find_commands(program, &arguments[command_at..]).1;
    arguments[1..command_at + below].rotate_left(command_at - 1);
    arguments
}

/// Returns where the command is, if only options that may stand before it do.
fn command_at(program: &Command, arguments: &[OsString]) -> Option<usize> {
    let mut at = 1;
    while let Some(argument) = arguments.get(at) {
        let Some(option) = argument.to_str().filter(|text| text.starts_with('-')) else {
            return Some(at);
        };

        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let takes_value = takes_value(program, name)?;
        at += if takes_value && value.is_none() { 2 } else { 1 };
    }

    None
}

/// Returns whether an option takes a value, if it may stand before the command.
fn takes_value(program: &Command, name: &str) -> Option<bool> {
    let options = program.find_subcommand("list")?.get_arguments();
    let mut options = options.filter(|option| {
        option.get_help_heading() == Some(CONNECTION)
            || option.get_long().is_some_and(|long| COMMON.contains(&long))
    });

    let option = options.find(|option| {
        let long = option.get_long().map(|long| format!("--{long}"));
        let short = option.get_short().map(|short| format!("-{short}"));
        [long, short].into_iter().flatten().any(|own| own == name)
    })?;
    Some(option.get_action().takes_values())
}

/// Returns the command that the first of these arguments name.
pub(super) fn find_command<'a>(program: &'a Command, arguments: &[OsString]) -> &'a Command {
    find_commands(program, arguments).0
}

/// Returns the command that the first of these arguments name, and how many of them do.
fn find_commands<'a>(program: &'a Command, arguments: &[OsString]) -> (&'a Command, usize) {
    let mut command = program;
    for (count, argument) in arguments.iter().enumerate() {
        match command.find_subcommand(argument) {
            Some(named) => command = named,
            None => return (command, count),
        }
    }

    (command, arguments.len())
}

/// Returns the error with the usage of the command that the arguments name. The usage that it had
/// lists each option that is given, those from the environment too, as if all of them were needed.
pub(super) fn with_plain_usage(
    mut error: clap::Error,
    program: &Command,
    arguments: &[OsString],
) -> clap::Error {
    let command = find_command(program, arguments.get(1..).unwrap_or_default());

    if error.get(ContextKind::Usage).is_some() {
        let usage = command.clone().render_usage();
        error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::{CommandFactory as _, Parser as _};

    fn program() -> Command {
        let mut program = Cli::command();
        program.build();

        program
    }

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn options_before_the_command_belong_to_it() {
        for (given, in_order_) in [
            ("x --shard b list", "x list --shard b"),
            (
                "x --json --shard=b otp code bank",
                "x otp code --json --shard=b bank",
            ),
            ("x list --shard b", "x list --shard b"),
            ("x --version", "x --version"),
            ("x --limit 3 list", "x --limit 3 list"),
            ("x --shard", "x --shard"),
        ] {
            assert_eq!(in_order(&program(), words(given)), words(in_order_));
        }
    }

    #[test]
    fn a_wrong_usage_shows_what_is_needed() {
        let arguments = words("gofavorites put --url nats://x --token x");
        let error = Cli::try_parse_from(&arguments).err().expect("no kind");

        let shown = with_plain_usage(error, &program(), &arguments).to_string();

        let usage = "Usage: gofavorites put [OPTIONS] <KIND> [ID]\n";
        assert!(shown.contains(usage), "{shown}");
    }
}
