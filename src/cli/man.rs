//! `gofavorites man`: manual pages, made of the same definitions as `--help`.
//!
//! The pages depend on the program alone. They name environment variables and never what those hold.

use super::Cli;
use super::failed::EXIT_CODES;
use super::output::print;
use anyhow::Context as _;
use clap::{Arg, Args, Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// The section of the manual: commands that users run.
const SECTION: &str = "1";

/// Write the manual pages: one for the program, and one for each command.
///
/// Without a directory, print the program's own page.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites man ~/.local/share/man/man1
  gofavorites man | man -l -")]
pub(super) struct ManualPages {
    /// The directory for the pages; it is created if it does not exist
    directory: Option<PathBuf>,
}

impl ManualPages {
    pub fn run(&self) -> anyhow::Result<()> {
        let program = program();
        let Some(directory) = &self.directory else {
            return print(&render(&program, &[])?);
        };

        fs::create_dir_all(directory)
            .with_context(|| format!("{} cannot be created", directory.display()))?;
        for (name, page) in render_all(&program, &[])? {
            let file = directory.join(format!("{name}.{SECTION}"));
            fs::write(&file, page)
                .with_context(|| format!("{} cannot be written", file.display()))?;
        }

        Ok(())
    }
}

/// Returns the program's commands with all that clap adds.
fn program() -> Command {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();

    program
}

/// Returns the pages of a command and of the commands below it, by name. The commands above it come
/// from the program down.
fn render_all(command: &Command, above: &[&Command]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut pages = BTreeMap::from([(page_name(command), render(command, above)?)]);

    let path = [above, &[command]].concat();
    for below in visible_commands(command) {
        pages.extend(render_all(below, &path)?);
    }

    Ok(pages)
}

/// Returns the page of a command.
fn render(command: &Command, above: &[&Command]) -> anyhow::Result<String> {
    // Its help ends with examples or exit codes, which have sections of their own here.
    let described = command.clone().after_help(None::<&str>);
    let mut page = Vec::new();
    Man::new(described)
        .section(SECTION)
        .source(concat!("gofavorites ", env!("CARGO_PKG_VERSION")))
        .manual("GoFavorites")
        .render(&mut page)?;

    let mut rest = Roff::new();
    add_exit_status(&mut rest);
    add_environment(&mut rest, command);
    add_files(&mut rest, command);
    if !above.is_empty() {
        add_examples(&mut rest, command);
    }
    add_see_also(&mut rest, command, above);

    Ok(escape_ascii(&(String::from_utf8(page)? + &rest.render())))
}

/// Returns a page with the names of the characters that groff shows as accents or quotes otherwise:
/// paths and commands are there to be copied.
fn escape_ascii(page: &str) -> String {
    page.replace('~', r"\(ti")
        .replace('`', r"\(ga")
        .replace('^', r"\(ha")
}

fn page_name(command: &Command) -> String {
    let name = command.get_display_name();

    name.unwrap_or_else(|| command.get_name()).to_owned()
}

fn visible_commands(command: &Command) -> impl Iterator<Item = &Command> {
    command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
}

/// Returns the arguments of a command and of all commands below it.
fn all_arguments(command: &Command) -> Vec<&Arg> {
    let below = visible_commands(command).flat_map(all_arguments);

    command.get_arguments().chain(below).collect()
}

fn has_option(command: &Command, option: &str) -> bool {
    let mut options = all_arguments(command).into_iter().filter_map(Arg::get_long);

    options.any(|long| long == option)
}

/// Adds a term with its explanation.
fn add_term(roff: &mut Roff, term: &str, explanation: &str) {
    roff.control("TP", [])
        .text([bold(term)])
        .text([roman(explanation)]);
}

fn add_exit_status(roff: &mut Roff) {
    roff.control("SH", ["EXIT STATUS"]);

    for line in EXIT_CODES.lines() {
        if let Some((code, meaning)) = line.trim().split_once("  ") {
            add_term(roff, code, meaning);
        }
    }
}

/// Adds the variables that a command reads.
fn add_environment(roff: &mut Roff, command: &Command) {
    let mut variables: BTreeMap<String, String> = all_arguments(command)
        .into_iter()
        .filter_map(|argument| {
            let variable = argument.get_env()?.to_string_lossy().into_owned();
            let meaning = format!("Taken if --{} is not given.", argument.get_long()?);
            Some((variable, meaning))
        })
        .collect();

    let mut add = |variable: &str, meaning: &str| {
        variables.insert(variable.to_owned(), meaning.to_owned());
    };
    if has_option(command, "config") {
        let meaning = "The setting section.field of a worker, with two underscores between the \
                       parts. It overrides the file of settings.";
        add("GOFAVORITES__SECTION__FIELD", meaning);
    }
    if has_option(command, "contexts") {
        let meaning = "The directory of the file of contexts, instead of ~/.config.";
        add("XDG_CONFIG_HOME", meaning);
    }
    if ["gofavorites", "gofavorites-edit"].contains(&page_name(command).as_str()) {
        add("VISUAL", "The editor that edit runs.");
        add(
            "EDITOR",
            "The editor that edit runs if VISUAL is not set; by default vi.",
        );
    }

    if variables.is_empty() {
        return;
    }
    roff.control("SH", ["ENVIRONMENT"]);
    for (variable, meaning) in &variables {
        add_term(roff, variable, meaning);
    }
}

/// Adds the files that a command reads.
fn add_files(roff: &mut Roff, command: &Command) {
    let contexts = has_option(command, "contexts");
    let settings = has_option(command, "config");
    if !contexts && !settings {
        return;
    }

    roff.control("SH", ["FILES"]);
    if contexts {
        let meaning = "Contexts: named addresses and credentials. If it holds a secret, only its \
                       owner may be able to read it.";
        add_term(roff, "~/.config/gofavorites/contexts.toml", meaning);
    }
    if settings {
        let meaning = "The settings of a worker, in TOML, which --config names.";
        add_term(roff, "FILE", meaning);
    }
}

/// Adds what stands below the options in `--help`. Its indented lines are shown as they are.
fn add_examples(roff: &mut Roff, command: &Command) {
    let Some(text) = command.get_after_help() else {
        return;
    };
    let text = text.to_string();
    let lines = text.lines().filter(|line| !is_examples_heading(line));
    let mut verbatim = false;

    roff.control("SH", ["EXAMPLES"]);
    for line in lines {
        let indented = line.starts_with("  ");
        if indented != verbatim {
            roff.control(if indented { "nf" } else { "fi" }, []);
            verbatim = indented;
        }

        match line.trim_end() {
            "" => roff.control("PP", []),
            text => roff.text([roman(text)]),
        };
    }
    if verbatim {
        roff.control("fi", []);
    }
}

fn is_examples_heading(line: &str) -> bool {
    ["Example:", "Examples:"].contains(&line)
}

/// Adds the pages of the commands above and below, or where the program's documents are.
fn add_see_also(roff: &mut Roff, command: &Command, above: &[&Command]) {
    roff.control("SH", ["SEE ALSO"]);

    if above.is_empty() {
        let text = "The documents of a release: docs/client.md for users of the client, \
                    docs/operations.md and docs/settings.md for operators, docs/contract.md for \
                    callers that are programs.";
        roff.text([roman(text)]);
        return;
    }

    let pages: Vec<String> = above
        .iter()
        .copied()
        .chain(visible_commands(command))
        .map(|command| format!("{}({SECTION})", page_name(command)))
        .collect();
    roff.text([roman(pages.join(", "))]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_with_all_sections() {
        let pages = render_all(&program(), &[]).expect("pages");

        for name in ["gofavorites", "gofavorites-put", "gofavorites-otp-code"] {
            assert!(pages.contains_key(name), "{name}");
        }
        for (name, page) in &pages {
            for section in ["NAME", "SYNOPSIS", "\"EXIT STATUS\"", "\"SEE ALSO\""] {
                let heading = format!(".SH {section}\n");
                assert!(page.contains(&heading), "{name}: {section}\n{page}");
            }
        }
    }

    #[test]
    fn the_programs_page_has_all_its_variables() {
        let page = render(&program(), &[]).expect("a page");

        let variables = page.matches(r"\fBGOFAVORITES_").count();

        assert_eq!(variables, 20, "{page}");
    }

    #[test]
    fn commands_in_examples_keep_their_lines() {
        let program = program();
        let edit = program.find_subcommand("edit").expect("the command");

        let page = render(edit, &[&program]).expect("a page");

        let example = ".nf\n  gofavorites edit instrument US0378331005\n  EDITOR=nano ";
        assert!(page.contains(example), "{page}");
    }
}
