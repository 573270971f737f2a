//! Lose the hub's site: its three servers with their disks, while the leaves stay.

use super::desk::Desk;
use super::machines::Machines;
use super::runbook::Runbook;
use super::{OWNERS, check_filled, check_read_only, check_stale, fill, start_workers};
use crate::harness::World;
use std::fs;

/// Goal: all that was written up to the backup comes back, and exactly what was written after it is
/// lost. Until the loss is accepted, the shard still shows it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: make runbooks"]
async fn runbook_lose_the_hubs_site() {
    let (world, hub) = World::with_a_hub_of_three().await;
    let urls: Vec<String> = hub.servers.iter().map(|server| server.url()).collect();
    let mut desk = Desk::new(Machines::new(world, "leaf-a"));
    let names = ["hub-1", "hub-2", "hub-3"];
    for (name, server) in names.into_iter().zip(hub.servers) {
        desk.machines.servers.insert(name.into(), server);
    }
    desk.machines.servers.insert("leaf-b".into(), hub.b);
    desk.machines.write_settings("a", &urls.join(","));
    start_workers(&mut desk, "a").await;
    let owners = fill(desk.world(), "a", OWNERS).await;
    desk.back_up().await;
    let late = &owners[0];
    let last = late.put_text("a", "after-the-backup", "x").await;
    desk.world().until_projected("a", &last).await;

    for (number, name) in names.into_iter().enumerate() {
        let server = desk.machines.server(name);
        server.process().kill9().expect("killed");
        let store = format!("n{}/store", number + 1);
        fs::remove_dir_all(desk.world().directory.join(store)).expect("removed");
    }
    check_stale(late).await;
    check_read_only(late).await;

    let mut runbook = Runbook::open("Lose the hub's site", "");
    runbook.next(&mut desk).await;
    desk.until_lost().await;
    check_stale(late).await;
    owners[1].put_text("a", "note-0", "served as before").await;
    runbook.next(&mut desk).await;
    runbook.end(OWNERS);

    check_filled(&owners, "a").await;
    late.put_text("a", "after-the-loss", "x").await;
}
