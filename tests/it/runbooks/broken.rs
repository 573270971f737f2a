//! A broken owner: single records of one owner are missing in the bucket.

use super::desk::Desk;
use super::runbook::Runbook;
use super::{ITEMS, OWNERS, add_shard_b, check_filled, with_shard_a};
use crate::harness::Caller;
use gofavorites::dev::secrets::write_private;
use serde_json::{Value, json};

/// The user whose record is lost, and the number of this owner.
const BROKEN: (&str, usize) = ("owner-1", 1);

/// Deletes the owner's oldest item from the bucket, as an administrator may, and gives the operator
/// the user's token.
async fn lose_a_record(desk: &Desk, caller: &Caller) {
    let owner = desk.world().owner(BROKEN.0);
    let all = format!("$KV.favorites.{owner}.>");
    let of_owner = json!({"subjects_filter": all});
    let info = desk.machines.api("INFO", "KV_favorites", &of_owner).await;
    let subjects = info["state"]["subjects"].as_object().expect("subjects");

    let mut oldest: Option<(u64, &String)> = None;
    for subject in subjects.keys().filter(|subject| !subject.ends_with(".key")) {
        let last = json!({"last_by_subj": subject});
        let stored = desk.machines.api("MSG.GET", "KV_favorites", &last).await;
        let sequence = stored["message"]["seq"].as_u64().expect("a sequence");
        if oldest.is_none_or(|(found, _)| sequence < found) {
            oldest = Some((sequence, subject));
        }
    }
    let (_, subject) = oldest.expect("an item");
    let purge = json!({"filter": subject});
    let purged = desk.machines.api("PURGE", "KV_favorites", &purge).await;
    assert_eq!(purged["purged"], 1, "{purged}");

    let token = desk.place("etc/user.token");
    write_private(&token, &caller.token).expect("written");
}

/// Returns the ids and texts of an owner's items, in their order.
async fn contents(caller: &Caller, shard: &str) -> Vec<[Value; 2]> {
    let list = caller.done(&format!("{shard}.list"), &json!({})).await;
    let items = list["items"].as_array().expect("items");

    items
        .iter()
        .map(|item| [item["id"].clone(), item["data"]["text"].clone()])
        .collect()
}

/// Goal: a shard with a copy mends the owner, and loses nothing. Without that, another shard answers
/// `internal`, and nothing else helps.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: make runbooks"]
async fn runbook_a_broken_owner_with_a_copy() {
    let (mut desk, owners) = with_shard_a().await;
    let broken = &owners[BROKEN.1];
    let before = contents(broken, "a").await;
    lose_a_record(&desk, broken).await;
    let url = desk.world().nats.url();
    add_shard_b(&mut desk, &url).await;
    desk.turn_to("a");

    let on_b = broken.ask("b.list", &json!({})).await;
    on_b.refusal("internal");
    let (healthy, printed) = desk.run("gofavorites health").await;
    assert!(healthy && !printed.contains("degraded"), "{printed}");
    for command in ["verify --repair", "replay", "replay --accept-lost-history"] {
        let command = format!("gofavorites {command} --config \"$ETC/shard-a.toml\"");
        let (helped, printed) = desk.run(&command).await;
        assert!(!helped, "{command}: {printed}");
        assert_eq!(contents(broken, "a").await, before, "{command}");
    }
    let mut runbook = Runbook::open("A broken owner", "A shard has a copy");
    runbook.next(&mut desk).await;
    runbook.end(ITEMS);

    assert_eq!(contents(broken, "a").await, before);
    assert_eq!(contents(broken, "b").await, before);
    check_filled(&owners, "b").await;
}

/// Goal: without a copy the owner keeps what is left, and the others lose nothing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: make runbooks"]
async fn runbook_a_broken_owner_without_a_copy() {
    let (mut desk, owners) = with_shard_a().await;
    let broken = &owners[BROKEN.1];
    let before = contents(broken, "a").await;
    lose_a_record(&desk, broken).await;
    let evict = format!(
        "delete from owner where owner_key = {}",
        desk.world().key_of(BROKEN.0)
    );
    desk.world().query("a", &evict);
    for number in 1..=2 {
        let unit = format!("gofavorites-worker@{number}");
        let restart = format!("ssh shard-a systemctl restart {unit}; answers shard-a-{number}");
        let (restarted, printed) = desk.run(&restart).await;
        assert!(restarted, "{printed}");
    }

    let mut runbook = Runbook::open("A broken owner", "No shard has a copy");
    runbook.next(&mut desk).await;
    runbook.end(OWNERS);

    let left = contents(broken, "a").await;
    assert_eq!(left.len(), before.len() - 1);
    assert!(left.iter().all(|item| before.contains(item)));
    broken.put_text("a", "a-new-beginning", "x").await;
    let others: Vec<Caller> = [&owners[..BROKEN.1], &owners[BROKEN.1 + 1..]].concat();
    check_filled(&others, "a").await;
}
