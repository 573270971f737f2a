//! A Postgres that is slow: the projection takes smaller steps, and nobody takes it for stuck.

use crate::harness::World;

/// How many items the projection has to catch up with: far more than fit into one step.
const ITEMS: usize = 120;

/// Makes each row of an item that is stored take 50 ms, so that all of them take more than the five
/// seconds of a statement.
const SLOW_ROWS: &str = "create function slow() returns trigger language plpgsql as \
                         $$ begin perform pg_sleep(0.05); return new; end $$; \
                         create trigger slow before insert on item \
                         for each row execute function slow()";

/// Goal: a Postgres that cannot store a batch in time gets smaller ones, and no worker ends the
/// session of another one that is at work.
///
/// Method: a shard falls behind by more than it can store in one step. Then two of its workers
/// start, whose patience is much shorter than a step.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_postgres_catches_up_in_smaller_steps() {
    let world = World::start().await;
    let worker = world.worker("a").await;
    let _other = world.worker("b").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "first", "x").await;
    world.until("a", "select count(*) from item", "1").await;
    worker.stop().await.expect("stopped in order");

    for number in 1..ITEMS {
        alice.put_text("b", &format!("note-{number}"), "x").await;
    }
    world.query("a", SLOW_ROWS);
    let mut settings = world.settings("a");
    settings.projection.stuck_ms = 500;
    let _first = world.try_worker(settings.clone()).await.expect("a worker");
    let _second = world.try_worker(settings).await.expect("a worker");

    let rows = ITEMS.to_string();
    world.until("a", "select count(*) from item", &rows).await;

    world.query("a", "drop trigger slow on item");
    alice.put_text("a", "last", "x").await;
    let rows = (ITEMS + 1).to_string();
    world.until("a", "select count(*) from item", &rows).await;
}
