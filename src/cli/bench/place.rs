//! Where a run takes its owners and its connections from: the options of every command and a file of
//! tokens, or the development platform on this machine.

use super::owners::Limits;
use super::processor::Processes;
#[cfg(feature = "dev")]
use super::raw::Connections;
use super::road::{Road, Token};
use crate::cli::client::Connection;
use crate::cli::contexts::check_private;
use crate::cli::failed::CommandError;
use crate::wire::{Encoding, Operation};
use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Whose items a run writes.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct Whose {
    /// A file of access tokens, one a line, each of another user without items
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Make users and tokens on the development platform that runs here
    #[cfg(feature = "dev")]
    #[arg(long)]
    dev: bool,
}

/// How a run connects.
#[derive(Clone, Copy)]
pub(super) struct Wishes<'w> {
    pub owners: usize,
    pub connections: usize,
    pub encoding: Encoding,
    pub timeout: Duration,
    pub connection: &'w Connection,
    /// The shard on which the owners get their items; `None`: as the load.
    pub fill_shard: Option<&'w str>,
    /// The directory of the development platform's state, if it is named.
    #[cfg(feature = "dev")]
    pub state: Option<&'w Path>,
    /// The NATS user of the development platform as whom the callers connect.
    #[cfg(feature = "dev")]
    pub user: &'w str,
}

/// All that a run needs of a place.
pub(super) struct Place {
    pub road: Road,
    /// The road on which the owners get their items.
    pub fill_road: Road,
    pub tokens: Vec<Token>,
    pub limits: Limits,
    pub processes: Processes,
    pub raw: RawRights,
}

/// The connections of the raw figures, or why there are none.
#[cfg(feature = "dev")]
pub(super) type RawRights = Result<Connections, String>;
/// Why there are no raw figures.
#[cfg(not(feature = "dev"))]
pub(super) type RawRights = Result<std::convert::Infallible, String>;

impl Whose {
    /// Returns the processes that have a part in the run: those of the development platform, or all that
    /// have such a name.
    pub fn processes(&self, state: Option<&Path>) -> anyhow::Result<Processes> {
        match state {
            #[cfg(feature = "dev")]
            state if self.dev => super::platform::processes(state),
            _ => Ok(Processes::default()),
        }
    }

    /// Connects, and takes the tokens.
    pub async fn open(&self, wishes: Wishes<'_>) -> anyhow::Result<Place> {
        #[cfg(feature = "dev")]
        if self.dev {
            return super::platform::open(wishes).await;
        }

        let file = self.tokens.as_ref().context("no file of tokens")?;
        let tokens = read_tokens(file, wishes.owners)?;
        let first = wishes.connection.open().await?;
        let limits = limits(&first.ask(Operation::Limits, &json!({})).await?);
        let mut clients = vec![first.nats().clone()];
        while clients.len() < wishes.connections {
            clients.push(wishes.connection.open().await?.nats().clone());
        }

        let road = Road {
            clients,
            subject: Arc::new(first.subjects()),
            encoding: wishes.encoding,
            timeout: wishes.timeout,
        };
        let fill_road = match wishes.fill_shard {
            Some(shard) => road.with_subject(Arc::new(first.subjects_on(shard)?)),
            None => road.clone(),
        };

        Ok(Place {
            road,
            fill_road,
            tokens,
            limits,
            processes: Processes::default(),
            raw: Err("they need the rights of a worker, which only --dev has".to_owned()),
        })
    }
}

/// Reads the first tokens of a file. Empty lines, and those that begin with `#`, are passed over.
fn read_tokens(file: &PathBuf, count: usize) -> anyhow::Result<Vec<Token>> {
    let name = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("{name} cannot be read"))?;
    check_private(file)?;

    let mut tokens = Vec::new();
    let lines = (1..).zip(text.lines().map(str::trim));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    for (number, line) in lines.take(count) {
        let token = Token::new(line);
        let wrong = || CommandError::usage(format!("{name}: line {number} is no token"));
        tokens.push(token.ok_or_else(wrong)?);
    }

    if tokens.len() < count {
        let found = tokens.len();
        bail!(CommandError::usage(format!(
            "{name} has {found} tokens: give --owners {found}, or a file with more"
        )));
    }
    Ok(tokens)
}

/// Reads the limits that matter to a run from the reply of the service.
pub(super) fn limits(reply: &Value) -> Limits {
    let limit = |name: &str, usual: usize| {
        let value = reply["limits"][name]["value"].as_u64();
        value
            .map_or(usual, |value| value.try_into().unwrap_or(usual))
            .max(1)
    };

    Limits {
        batch: limit("batch", 100),
        page: limit("page_max", 500),
        items: limit("items", 500),
        text_bytes: limit("text_bytes", 65_536),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), text).expect("written");
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).expect("set");

        file
    }

    fn error(text: &str, mode: u32) -> String {
        let file = file(text, mode);
        let error = read_tokens(&file.path().to_owned(), 2)
            .err()
            .expect("an error");

        error.to_string()
    }

    #[test]
    fn as_many_tokens_as_there_are_owners_are_read() {
        let file = file("# of the bench\na.b\n\nc.d\ne.f\n", 0o600);

        let tokens = read_tokens(&file.path().to_owned(), 2).expect("tokens");

        assert_eq!(tokens.len(), 2);
    }

    #[test]
    fn a_file_with_too_few_or_open_to_others_is_refused_without_its_content() {
        let too_few = error("hush.a\n", 0o600);
        let no_token = error("hush.a\nhush b\n", 0o600);

        assert!(
            too_few.contains("has 1 tokens: give --owners 1"),
            "{too_few}"
        );
        assert!(no_token.contains("line 2 is no token"), "{no_token}");
        let open = error("hush.a\nhush.b\n", 0o644);
        for message in [too_few, no_token, open] {
            assert!(!message.contains("hush"), "{message}");
        }
    }

    #[test]
    fn limits_are_those_of_the_service() {
        let reply = json!({"limits": {"batch": {"value": 7, "unit": "operations"}}});

        let limits = limits(&reply);

        assert_eq!((limits.batch, limits.page), (7, 500));
    }
}
