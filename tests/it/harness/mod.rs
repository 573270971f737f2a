//! What a test needs: its own servers, workers in this process, and callers that speak NATS.
//!
//! Each test has a NATS server with the accounts of `nats/`, a stand-in auth service, and one
//! database for each shard. One Postgres server serves all tests of a run, and ends with the run.

mod by_hand;
mod caller;
mod certificates;
mod cluster;
mod hub;
mod hub_of_three;
mod jwt;
mod leaves;
pub mod load;
mod pooler;
mod process;
mod proxy;
mod pseudo_terminal;
mod recorded;
mod reference;
pub mod samples;
mod seeded_numbers;
mod sent;
mod serial;
mod servers;
mod shard;
mod verifier;
mod world;
mod writers;

pub use by_hand::ByHand;
pub use caller::{Caller, Reply};
pub use certificates::{Authority, Certificate};
pub use cluster::Cluster;
pub use jwt::Operator;
pub use leaves::Leaves;
pub use pooler::Pooler;
pub use process::{Process, replace};
pub use proxy::Proxy;
pub use pseudo_terminal::OnTerminal;
pub use recorded::{Recorded, RecordedOwner};
pub use reference::ReferenceService;
pub use seeded_numbers::SeededNumbers;
pub use sent::Sent;
pub use serial::{exclusive, shared};
pub use servers::{dump, dump_all, kept_directory, restore, start_platform};
pub use verifier::Verifier;
pub use world::{Worker, World, is_record, with_breaker, with_user_in};
pub use writers::Writers;

use async_nats::{Client, Subscriber};
use futures::StreamExt as _;
use std::fs;
use std::path::Path;

/// How much of something a test does: `usual` in `make test`, `thorough` in `make nightly`, which
/// sets `THOROUGH`.
pub fn extent(usual: usize, thorough: usize) -> usize {
    if std::env::var_os("THOROUGH").is_some() {
        thorough
    } else {
        usual
    }
}

/// Subscribes as a user who may also send to its own inbox. Returns once the server has processed
/// the subscription: a flush would only have sent it.
pub async fn subscribe(client: &Client, subject: &'static str) -> Subscriber {
    let messages = client.subscribe(subject).await.expect("a subscription");

    let inbox = client.new_inbox();
    let mut own = client.subscribe(inbox.clone()).await.expect("an inbox");
    client.publish(inbox, "".into()).await.expect("sent");
    own.next().await.expect("what was sent");

    messages
}

/// Removes the one record of a subject from the bucket, as a user of [`with_breaker`].
pub async fn purge_record(breaker: &Client, subject: &str) {
    let filter = serde_json::json!({ "filter": subject }).to_string();
    let reply = breaker
        .request("$JS.API.STREAM.PURGE.KV_favorites", filter.into())
        .await
        .expect("a reply");

    let reply = String::from_utf8_lossy(&reply.payload);
    assert!(reply.contains("\"purged\":1"), "{reply}");
}

/// Copies a directory with everything in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");

    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());

        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// Returns a well-formed ISIN for each number, with the right check digit.
pub fn isin(number: usize) -> String {
    let base = format!("XS{number:09}");
    let digits: String = base
        .chars()
        .map(|c| c.to_digit(36).expect("alphanumeric").to_string())
        .collect();

    let sum: u32 = digits
        .chars()
        .rev()
        .enumerate()
        .map(|(index, c)| {
            let weight = if index % 2 == 0 { 2 } else { 1 };
            let digit = c.to_digit(10).expect("a digit") * weight;

            digit / 10 + digit % 10
        })
        .sum();
    let check_digit = (10 - sum % 10) % 10;

    format!("{base}{check_digit}")
}
