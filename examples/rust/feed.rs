//! Prints what every owner has, and then follows what they change. It reads the bucket itself, with
//! the installation's keys, so it needs no worker.
//!
//! With a platform of `gofavorites dev`:
//!
//! ```sh
//! . .dev/feed.env
//! cargo run --example feed --no-default-features --features feed
//! ```

use gofavorites::client::Content;
use gofavorites::feed::{Event, Feed, Following, Keyring, Start};
use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;

/// What the program needs to know.
pub struct Installation {
    /// The NATS server.
    pub url: String,
    /// The password of the NATS user `feed`.
    pub password: String,
    /// The installation's keys, as the workers' settings have them.
    pub identity: String,
    /// The second one.
    pub encryption: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let position = Path::new("feed-position.json");
    let mut feed = start(
        Installation {
            url: env::var("GOFAVORITES_URL")?,
            password: env::var("GOFAVORITES_PASSWORD")?,
            identity: env::var("GOFAVORITES_IDENTITY_KEY")?,
            encryption: env::var("GOFAVORITES_ENCRYPTION_KEY")?,
        },
        position,
    )
    .await?;

    loop {
        print(&feed.next().await?, position)?;
    }
}

/// Continues from the position in the file, or begins at the beginning if there is none.
pub async fn start(
    installation: Installation,
    position: &Path,
) -> Result<Following, Box<dyn Error>> {
    let nats = async_nats::ConnectOptions::with_user_and_password(
        "feed".to_owned(),
        installation.password,
    )
    .custom_inbox_prefix("_INBOX_feed")
    .connect(installation.url)
    .await?;
    let keyring = Keyring::from_base64(&installation.identity, &installation.encryption)?;

    let start = match fs::read(position) {
        Ok(json) => Start::After(serde_json::from_slice(&json)?),
        Err(_) => Start::Beginning,
    };
    let feed = Feed::open(nats, keyring, "favorites").await?;
    Ok(feed.follow(start).await?)
}

/// Prints an event, and keeps each position. Who the owners are is not printed.
pub fn print(event: &Event, file: &Path) -> Result<(), Box<dyn Error>> {
    match event {
        Event::Change(change) => {
            let what = match change.item.content {
                Content::Deleted => "was deleted",
                _ if change.previous == 0 => "was added",
                _ => "was changed",
            };
            let (owner, item) = (&change.owner, &change.item);
            println!(
                "{} owner {owner}: {} {} {what}",
                item.version, item.kind, item.id
            );
        }
        Event::Resync { owner } => println!("owner {owner}: drop all, and take what follows"),
        Event::Unusable(record) => println!(
            "{} owner {}: unusable: {}",
            record.sequence, record.owner, record.reason
        ),
        Event::Reached { position, behind } => {
            fs::write(file, serde_json::to_vec(position)?)?;
            println!("{} reached, {behind} to come", position.sequence());
        }
    }
    Ok(())
}
