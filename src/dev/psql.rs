//! The command that opens a shard's database.

use super::state::RunningPlatform;
use anyhow::Context as _;
use serde_json::Value;
use std::ffi::OsString;
use std::process::Command;

/// Returns the connection URL of a shard's database, or of the first shard's.
///
/// # Errors
///
/// There is no such shard.
pub fn url(platform: &RunningPlatform, shard: Option<&str>) -> anyhow::Result<String> {
    let shards = platform.description()["shards"].as_array();
    let shards: Vec<&Value> = shards.into_iter().flatten().collect();
    let ids: Vec<&str> = shards.iter().filter_map(|one| one["id"].as_str()).collect();
    let found = shards
        .iter()
        .find(|one| shard.is_none_or(|shard| one["id"] == shard))
        .with_context(|| {
            format!(
                "there is no shard {}; the shards are: {}",
                shard.unwrap_or_default(),
                ids.join(", ")
            )
        })?;

    let url = found["postgres_url"].as_str();
    Ok(url
        .context("dev.json has no address of Postgres")?
        .to_owned())
}

/// Returns the command that runs `psql`: the pinned one, or that of the machine where the platform
/// runs in containers. The password is not in its command line.
///
/// # Errors
///
/// There is no such shard.
pub fn command(
    platform: &RunningPlatform,
    shard: Option<&str>,
    arguments: &[OsString],
) -> anyhow::Result<Command> {
    let url = url(platform, shard)?;
    let pinned = platform.description()["servers"]["postgres"]["psql"].as_str();
    let (public, password) = without_password(&url).context("dev.json has another address")?;

    let mut command = Command::new(pinned.unwrap_or("psql"));
    command
        .arg(public)
        .args(arguments)
        .env("PGPASSWORD", password);
    Ok(command)
}

/// Splits `postgres://user:password@host` into the URL without the password, and the password.
fn without_password(url: &str) -> Option<(String, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let (access, host) = rest.split_once('@')?;
    let (user, password) = access.split_once(':')?;

    Some((format!("{scheme}://{user}@{host}"), password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_taken_out_of_the_url() {
        let split = without_password("postgres://me:secret@127.0.0.1:5432/shard_a?x=y");

        let public = "postgres://me@127.0.0.1:5432/shard_a?x=y".to_owned();
        assert_eq!(split, Some((public, "secret")));
        assert_eq!(without_password("postgres://me@127.0.0.1/x"), None);
    }
}
