//! `gofavorites context`: shows and changes the contexts, and shows what is in force.

use super::Cli;
use super::arguments::{find_command, in_order};
use super::client::Connection;
use super::context_file::ContextFile;
use super::contexts::{CREDENTIALS, FIELDS, Place, is_path, is_secret, without_user};
use super::failed::CommandError;
use super::output::{Column, Output, Table, note, print, visible};
use super::precedence::{self, named_command};
use anyhow::bail;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, Subcommand};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Name places and users, so that you need not type them: list the contexts, choose one, add and
/// remove some, and show what is in force.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites context add home --url nats://nats.example.com:4222 --user gateway \\
    --password-file ~/.favorites-password --token-file ~/.favorites-token
  gofavorites context use home
  gofavorites context show")]
pub(super) struct Context {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the contexts
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Use a context where none is named
    Use(Named),
    /// Show each value that is in force, and where it comes from
    Show(Ls),
    /// Add a context, with the options that are given and those of the environment
    Add(Add),
    /// Remove a context
    #[command(visible_alias = "del")]
    Rm(Named),
}

/// Shows something of the contexts.
#[derive(Args)]
struct Ls {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

/// Changes the file about one context.
#[derive(Args)]
struct Named {
    /// The context
    name: String,
    #[command(flatten)]
    connection: Connection,
}

/// Adds a context. The first one is used where none is named.
#[derive(Args)]
struct Add {
    /// The new context's name
    name: String,
    /// Replace a context of that name
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    connection: Connection,
}

/// A value that the caller gave, and where.
struct Given {
    value: String,
    source: String,
}

impl Context {
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Ls(ls) => ls.list(),
            Command::Show(show) => show.show_in_force(),
            Command::Use(named) => {
                let mut file = ContextFile::open(&named.connection)?;
                file.set_default(&named.name)?;
                file.save()?;
                tell_variables();
                let name = visible(&named.name);
                print(&format!("the default context is now {name}\n"))
            }
            Command::Add(add) => add.run(),
            Command::Rm(named) => {
                let mut file = ContextFile::open(&named.connection)?;
                file.remove(&named.name)?;
                file.save()?;
                print(&format!("removed {}\n", visible(&named.name)))
            }
        }
    }
}

impl Add {
    fn run(self) -> anyhow::Result<()> {
        let given = given();
        if !given.contains_key("url") {
            bail!(CommandError::usage(
                "a context needs a server: give --url, or set GOFAVORITES_URL"
            ));
        }

        self.connection.check()?;

        let mut file = ContextFile::open(&self.connection)?;
        let values = given.iter().map(|(name, given)| {
            // A path counts from here, and not from where the context is used.
            let value = match is_path(name) {
                true => std::path::absolute(&given.value)?.display().to_string(),
                false => given.value.clone(),
            };
            Ok((*name, value))
        });
        let values = values.collect::<anyhow::Result<Vec<_>>>()?;
        file.add(&self.name, &values, self.replace)?;
        file.save()?;

        let name = visible(&self.name);
        print(&format!("added {name} to {}\n", file.path().display()))
    }
}

/// Says which variables of the environment come before the default context.
fn tell_variables() {
    let given = given();
    let variables = given.values().map(|given| given.source.as_str());
    let variables: Vec<&str> = variables
        .filter(|source| source.starts_with("GOFAVORITES_"))
        .collect();

    if !variables.is_empty() {
        note(&format!(
            "the environment comes before it: {}; --context NAME comes before both",
            variables.join(", ")
        ));
    }
}

/// Returns what options and the environment of this process give.
fn given() -> BTreeMap<&'static str, Given> {
    let mut program = Cli::command();
    program.build();
    let arguments = in_order(&program, std::env::args_os().collect());
    let command = find_command(&program, arguments.get(1..).unwrap_or_default());
    // They could be read when the process started.
    let Ok(all) = precedence::read(&Cli::command(), &arguments) else {
        return BTreeMap::new();
    };
    let matches = named_command(&all);

    FIELDS
        .into_iter()
        .filter_map(|name| Some((name, given_as(command, matches, name)?)))
        .collect()
}

fn given_as(command: &clap::Command, matches: &ArgMatches, name: &str) -> Option<Given> {
    let value = matches
        .get_raw(name)?
        .next()?
        .to_string_lossy()
        .into_owned();
    if value.is_empty() {
        return None;
    }

    let source = match matches.value_source(name)? {
        ValueSource::CommandLine => format!("--{}", name.replace('_', "-")),
        ValueSource::EnvVariable => {
            let option = command
                .get_arguments()
                .find(|option| option.get_id() == name)?;
            option.get_env()?.to_string_lossy().into_owned()
        }
        _ => return None,
    };
    Some(Given { value, source })
}

impl Ls {
    fn list(&self) -> anyhow::Result<()> {
        self.output.refuse_ids()?;
        let contexts = self.connection.contexts()?;

        let entry = |(name, place): (&String, &Place)| {
            json!({
                "name": name,
                "default": contexts.default.as_ref() == Some(name),
                "url": place.url.as_deref().map(without_user),
                "user": place.user,
                "shard": place.shard,
            })
        };
        let entries: Vec<Value> = contexts.all.iter().map(entry).collect();

        self.output.print(&json!({"contexts": entries}), |screen| {
            if entries.is_empty() {
                let none = "no contexts yet: `gofavorites context add NAME --url URL` adds one\n";
                return none.to_owned();
            }
            let columns = ["", "NAME", "URL", "USER", "SHARD"].map(Column::words);
            let rows = entries.iter().map(|entry| {
                let mark = if entry["default"] == true { "*" } else { "" };
                let texts = ["name", "url", "user", "shard"]
                    .map(|field| visible(entry[field].as_str().unwrap_or_default()).into());
                std::iter::once(mark.into()).chain(texts).collect()
            });
            Table::new(columns).with_rows(rows).format(screen)
        })
    }

    fn show_in_force(&self) -> anyhow::Result<()> {
        self.output.refuse_ids()?;
        let (name, place) = self.connection.named_context()?;
        let credentials = self.connection.credentials_in_force(&place);
        let mut given = given();
        let has_token = given.contains_key("token") || given.contains_key("token_file");
        let in_context = place.values();

        let values = FIELDS.into_iter().filter_map(|field| {
            let (value, source) = match given.remove(field) {
                Some(given) => (given.value, given.source),
                None if !is_in_force(field, &credentials, has_token) => return None,
                None => {
                    let context = name.as_deref().unwrap_or_default();
                    (in_context.get(field)?.clone(), format!("context {context}"))
                }
            };
            let shown = match field {
                _ if is_secret(field) => "(hidden)".to_owned(),
                "url" => without_user(&value),
                _ => value,
            };
            Some(json!({"what": field, "value": shown, "from": source}))
        });
        let values: Vec<Value> = values.collect();

        self.output.print(&json!({"values": values}), |screen| {
            if values.is_empty() {
                let none =
                    "nothing is in force: give --url, set GOFAVORITES_URL, or add a context\n";
                return none.to_owned();
            }
            let columns = ["WHAT", "VALUE", "FROM"].map(Column::words);
            let rows = values.iter().map(|value| {
                let texts = ["what", "value", "from"];
                texts
                    .map(|field| visible(value[field].as_str().unwrap_or_default()).into())
                    .into()
            });
            Table::new(columns).with_rows(rows).format(screen)
        })
    }
}

/// Returns whether the context's value of a field counts: credentials and tokens that are given
/// otherwise replace those of the context.
fn is_in_force(field: &str, credentials: &Place, has_token: bool) -> bool {
    match field {
        "token" | "token_file" => !has_token,
        _ if CREDENTIALS.contains(&field) => credentials.values().contains_key(field),
        _ => true,
    }
}
