//! `gofavorites dev token`, `revoke` and `env`: the people of a development platform.

use crate::cli::duration::duration;
use crate::dev::auth_service::{self, RevokedTokens};
use crate::dev::secrets::Secrets;
use crate::dev::state::{RunningPlatform, locate, secrets_file};
use crate::dev::{self, quoted, tokens};
use clap::Args;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::OffsetDateTime;

/// Print an access token.
#[derive(Args)]
pub(super) struct Token {
    /// The user id that it names
    #[arg(long, value_parser = name)]
    sub: String,
    /// Its scopes, separated by spaces
    #[arg(long, default_value = tokens::ALL_SCOPES, value_parser = scope)]
    scope: String,
    /// How long it is valid: 60s, 10m, 2h
    #[arg(long, default_value = "1h", value_parser = lifetime)]
    ttl: Duration,
}

impl Token {
    pub fn run(&self, state: &Path) -> anyhow::Result<()> {
        let secrets = Secrets::load(&secrets_file(state)?)?;
        let token = tokens::token(&secrets, &self.sub, &self.scope, self.ttl)?;

        println!("{token}");
        // Elsewhere a program or a variable takes the token.
        if std::io::stdout().is_terminal() {
            eprintln!("{}", self.explanation());
        }
        Ok(())
    }

    fn explanation(&self) -> String {
        format!(
            "This is a token of {} with {}, valid for {} s. To use it: \
             export GOFAVORITES_TOKEN=TOKEN",
            self.sub,
            self.scope,
            self.ttl.as_secs()
        )
    }
}

/// Revoke the tokens that a user or a session has so far.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("whose").required(true).multiple(true))]
pub(super) struct Revoke {
    /// The user id
    #[arg(long, group = "whose", value_parser = name)]
    sub: Option<String>,
    /// The session id
    #[arg(long, group = "whose", value_parser = name)]
    sid: Option<String>,
}

impl Revoke {
    pub async fn run(&self, state: &Path) -> anyhow::Result<()> {
        let platform = RunningPlatform::find(state)?;
        let secrets = Secrets::load(&secrets_file(state)?)?;

        let revoked = RevokedTokens {
            sub: self.sub.clone(),
            sid: self.sid.clone(),
            iat: tokens::unix_now(),
        };
        let file = revoked_file(state);
        auth_service::revoke(platform.nats_url()?, &secrets, &file, &revoked).await?;

        // A token of the same second counts as revoked: one that is made from now on must not.
        while tokens::unix_now() <= revoked.iat {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("{}", self.outcome(revoked.iat, &this_command(state)?));
        Ok(())
    }

    /// Says what was revoked, and how to get a new token with `command`.
    fn outcome(&self, issued_until: u64, command: &str) -> String {
        let whose = match (&self.sub, &self.sid) {
            (Some(sub), Some(sid)) => format!("the tokens of {sub} in the session {sid}"),
            (None, Some(sid)) => format!("the tokens of the session {sid}"),
            (sub, None) => format!("the tokens of {}", sub.as_deref().unwrap_or_default()),
        };
        let sub = self.sub.as_deref().unwrap_or("NAME");

        format!(
            "revoked {whose} that were issued until {}\n\
             a new one: export GOFAVORITES_TOKEN=$({command} token --sub {})",
            clock(issued_until),
            quoted(sub)
        )
    }
}

/// Print the shell variables of a person, or of the operator.
#[derive(Args)]
#[command(after_help = "Example:
  eval \"$(gofavorites dev env carol)\"")]
pub(super) struct Env {
    /// The user id, which need not be known yet; or operator
    #[arg(value_name = "PERSON", value_parser = name)]
    person: String,
}

impl Env {
    pub fn run(&self, state: &Path) -> anyhow::Result<()> {
        let platform = RunningPlatform::find(state)?;
        let secrets = Secrets::load(&secrets_file(state)?)?;

        print!("{}", dev::variables(&platform, &secrets, &self.person)?);
        Ok(())
    }
}

/// The file in which the stand-in auth service keeps what it has revoked.
pub(super) fn revoked_file(state: &Path) -> PathBuf {
    state.join("revoked.jsonl")
}

/// Reads a user id or a session id.
fn name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        return Err("must be a name: one or more characters, none of them a control".into());
    }

    Ok(text.to_owned())
}

/// Reads scopes.
fn scope(text: &str) -> Result<String, String> {
    let known: Vec<&str> = tokens::ALL_SCOPES.split(' ').collect();
    let given: Vec<&str> = text.split_whitespace().collect();

    if given.is_empty() || given.iter().any(|scope| !known.contains(scope)) {
        return Err(format!("give one or more of: {}", known.join(", ")));
    }

    Ok(given.join(" "))
}

/// Reads how long a token is valid.
fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = duration(text)?;
    if lifetime < Duration::from_secs(1) || lifetime > tokens::TTL_MAX {
        return Err("must be from 1 second to 10 years".into());
    }

    Ok(lifetime)
}

/// Returns the time of day in UTC of a number of seconds since the Unix epoch.
fn clock(seconds: u64) -> String {
    let moment = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);

    let (hour, minute, second) = moment.to_hms();
    format!("{hour:02}:{minute:02}:{second:02} UTC")
}

/// Returns `dev` as it was called, with the state if it would not be found without.
fn this_command(state: &Path) -> anyhow::Result<String> {
    let program = std::env::args().next().unwrap_or_default();
    let mut command = format!("{} dev", quoted(&program));
    if locate(None)? != state {
        command += &format!(" --state {}", quoted(&state.display().to_string()));
    }

    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(name("").is_err() && name("  ").is_err() && name("a\nb").is_err());
        assert!(scope("").is_err() && scope("fav").is_err());
        assert!(scope("favorites:read fav").is_err());
        assert!(lifetime("0s").is_err() && lifetime("99999999h").is_err());

        assert_eq!(name("carol"), Ok("carol".to_owned()));
        let two = scope(" favorites:read  favorites:write ");
        assert_eq!(two, Ok("favorites:read favorites:write".to_owned()));
        assert_eq!(lifetime("1s"), Ok(Duration::from_secs(1)));
    }

    #[test]
    fn a_revocation_says_what_it_did_and_how_to_get_a_new_token() {
        let revoke = Revoke {
            sub: Some("o'neil".into()),
            sid: None,
        };

        let outcome = revoke.outcome(1_700_000_000, "bin/gofavorites dev");

        assert_eq!(
            outcome,
            "revoked the tokens of o'neil that were issued until 22:13:20 UTC\n\
             a new one: export GOFAVORITES_TOKEN=$(bin/gofavorites dev token --sub 'o'\\''neil')"
        );
    }

    #[test]
    fn a_token_is_explained() {
        let token = Token {
            sub: "carol".into(),
            scope: "favorites:read".into(),
            ttl: Duration::from_secs(60),
        };

        let text = token.explanation();

        assert!(
            text.contains("carol with favorites:read, valid for 60 s"),
            "{text}"
        );
    }
}
