//! What a test needs: servers of its own, workers in this process, and callers who speak the wire.
//!
//! Each test has a NATS server with the accounts of `nats/`, a stand-in auth service, and a database a shard; one
//! Postgres server serves all tests of a run, and ends with it.

mod by_hand;
mod caller;
mod cluster;
mod hub;
mod leaves;
pub mod load;
mod process;
mod proxy;
mod serial;
mod servers;
mod shard;
mod verifier;
mod world;
mod writers;

pub use by_hand::ByHand;
pub use caller::{Caller, Reply};
pub use cluster::Cluster;
pub use leaves::Leaves;
pub use process::Process;

pub use proxy::Proxy;
pub use serial::{exclusive, shared};
pub use servers::{dump, dump_all, kept_directory};
pub use verifier::Verifier;
pub use world::{Worker, World, with_breaker};
pub use writers::Writers;

use std::fs;
use std::path::Path;

/// Copies a directory, whatever is in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("copied")),
        }
    }
}

/// A well-formed ISIN for each number: the check digit is right.
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
        .map(|(i, c)| {
            let digit = c.to_digit(10).expect("a digit") * if i % 2 == 0 { 2 } else { 1 };
            digit / 10 + digit % 10
        })
        .sum();
    format!("{base}{}", (10 - sum % 10) % 10)
}
