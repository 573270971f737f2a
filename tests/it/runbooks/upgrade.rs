//! Upgrade and roll back, under load, with the made-up next release.

use super::desk::{Desk, write_script};
use super::runbook::Runbook;
use super::{CALLERS, MORE, OWNERS, check_filled, finish, with_shard_a};
use crate::harness::load::{Load, Outcome};
use gofavorites::domain::next;
use std::fs;

/// Puts the next release beside this one.
fn unpack_next(desk: &Desk) {
    let program = desk.place("releases/0.2.0/gofavorites");
    fs::create_dir_all(program.parent().expect("a directory")).expect("a directory");
    let this = env!("CARGO_BIN_EXE_gofavorites");
    let variable = next::VARIABLE;

    write_script(
        &program,
        &format!("#!/bin/sh\n{variable}=1 exec {this} \"$@\"\n"),
    );
}

/// Goal: no request fails and no write is lost while the workers are replaced by those of the next
/// release, and back.
///
/// Method: the next release's migration is applied by hand, because this program has none of it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: make runbooks"]
async fn runbook_upgrade_and_roll_back() {
    let (mut desk, owners) = with_shard_a().await;
    unpack_next(&desk);
    let load = Load::start(desk.world(), &["a"], CALLERS, false).await;
    load.progress(MORE).await;

    let mut runbook = Runbook::open("Upgrade and roll back", "");
    desk.world().migrate_to_next("a");
    runbook.next(&mut desk).await;
    load.progress(MORE).await;
    runbook.next(&mut desk).await;
    load.progress(MORE).await;
    runbook.next(&mut desk).await;
    runbook.end(OWNERS);

    finish(load, &["a"], &[], &[Outcome::Pending]).await;
    check_filled(&owners, "a").await;
}
