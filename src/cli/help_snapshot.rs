//! The help of all commands in one file, so that a change of it is read like any other change.

use super::Cli;
use super::arguments::CONNECTION;
use clap::{Command, CommandFactory as _};
use std::fs;
use std::path::Path;

/// The program.
const PROGRAM: &str = "gofavorites";

/// Set in the environment, it makes the test write the file again.
const UPDATE: &str = "UPDATE_HELP";

/// Adds the help of a command and of those below it.
fn add(command: &Command, path: &str, out: &mut String) {
    // What is in the environment of the test does not belong in the file.
    let has_connection = command.get_name() == "list";
    let mut alone = command
        .clone()
        .mut_args(|argument| {
            // These are the same everywhere: one command shows them.
            let is_connection = argument.get_help_heading() == Some(CONNECTION);
            let is_colour = argument.get_id() == "colour";
            let is_shown = is_connection && has_connection || is_colour && path == PROGRAM;
            argument
                .hide_env_values(true)
                .hide((is_connection || is_colour) && !is_shown)
        })
        .term_width(100)
        .bin_name(path);
    let help = alone.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    *out += &format!("=== {path}\n\n{}\n\n", lines.join("\n"));

    let below = command.get_subcommands();
    for command in below.filter(|command| command.get_name() != "help") {
        add(command, &format!("{path} {}", command.get_name()), out);
    }
}

#[test]
fn the_help_of_all_commands_is_as_the_file_has_it() {
    let mut program = Cli::command();
    program.build();
    let mut help = String::new();
    add(&program, PROGRAM, &mut help);
    let help = help.trim_end().to_owned() + "\n";

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help.txt");
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&file, &help).expect("written");
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();

    let lines = help.lines().zip(kept.lines());
    let differs = lines.clone().find(|(new, old)| new != old);
    assert!(
        help == kept,
        "{UPDATE}=1 cargo test --lib help_snapshot writes tests/help.txt again. First difference: \
         {differs:?}"
    );
}
