//! A bucket that goes back to a backup.

use super::runbook::Runbook;
use super::{OWNERS, check_filled, check_read_only, check_stale, with_shard_a};

/// Goal: exactly what was written after the backup is lost. Until the loss is accepted, the shard
/// still shows it, and the other owners are served as before.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: make runbooks"]
async fn runbook_restore_a_backup() {
    let (mut desk, owners) = with_shard_a().await;
    desk.back_up().await;
    let late = &owners[0];
    let last = late.put_text("a", "after-the-backup", "x").await;
    desk.world().until_projected("a", &last).await;

    let mut runbook = Runbook::open("A restored backup", "");
    runbook.next(&mut desk).await;
    desk.until_lost().await;
    check_stale(late).await;
    check_read_only(late).await;
    owners[1].put_text("a", "note-0", "served as before").await;
    runbook.next(&mut desk).await;
    runbook.end(OWNERS);

    check_filled(&owners, "a").await;
    late.put_text("a", "after-the-loss", "x").await;
}
