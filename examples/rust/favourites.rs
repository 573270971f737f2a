//! A first program with the client: keeps an instrument, a one-time-password secret and a list of
//! one-time codes, and follows the changes until it has seen what it wrote.
//!
//! With a platform of `gofavorites dev`, as alice:
//!
//! ```sh
//! . .dev/alice.env
//! cargo run --example favourites --no-default-features --features client
//! ```

use gofavorites::client::{Change, Client, Content, Filter, Instrument, ItemName, Position, Put};
use std::env;
use std::error::Error;

/// What the program needs to know.
pub struct Caller {
    /// The NATS server.
    pub url: String,
    /// The NATS user of this service.
    pub user: String,
    /// That user's password.
    pub password: String,
    /// The access token of the person.
    pub token: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    run(Caller {
        url: env::var("GOFAVORITES_URL")?,
        user: env::var("GOFAVORITES_USER")?,
        password: env::var("GOFAVORITES_PASSWORD")?,
        token: env::var("GOFAVORITES_TOKEN")?,
    })
    .await
}

/// Keeps a few things, prints what there is, and deletes the instrument again.
pub async fn run(caller: Caller) -> Result<(), Box<dyn Error>> {
    let options = async_nats::ConnectOptions::with_user_and_password(caller.user, caller.password);
    let nats = options.connect(caller.url).await?;
    let client = Client::new(nats)?.with_token(caller.token);

    let apple = Instrument {
        isin: Some("US0378331005".to_owned()),
        r#type: "stock".to_owned(),
        ticker: Some("AAPL".to_owned()),
        ..Instrument::default()
    };
    let written = client
        .put(&Put::instrument(&apple).tag("tech").meta("broker", "any"))
        .await?;
    println!(
        "kept {} at version {}",
        written.item.id, written.item.version
    );

    let uri = "otpauth://totp/Bank:alice?secret=JBSWY3DPEHPK3PXP&issuer=Bank";
    client.put(&Put::otp(uri).id("bank")).await?;
    let code = client.otp_code("bank").await?;
    println!(
        "a code, valid for {} s",
        code.valid_for_s.unwrap_or_default()
    );

    let list = client.put(&Put::codes(&["4417-2093", "8605-3316"])).await?;
    let list = ItemName::new("codes", list.item.id);
    let taken = client.codes_take(&list.id).await?;
    println!("took a code, {} left", taken.remaining);

    for item in client.list(&Filter::default()).await?.value {
        println!("{} {}", item.kind, item.id);
    }

    let apple = ItemName::new("instrument", "US0378331005");
    client.delete(&apple, None).await?;
    let deleted = client.delete(&list, None).await?;
    let mut changes = client.changes(Position::default());
    loop {
        match changes.next().await? {
            Change::Item(item) if item.content == Content::Deleted => {
                println!("{} {} is deleted", item.kind, item.id);
            }
            Change::Item(item) => println!("{} {} has changed", item.kind, item.id),
            Change::Resync => println!("compare everything that you hold"),
            Change::CaughtUp(position) if position.version >= deleted.owner_version => {
                println!("everything up to version {} was seen", position.version);
                return Ok(());
            }
            Change::CaughtUp(_) => {}
        }
    }
}
