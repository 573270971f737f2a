//! Reads of a worker that follows the bucket: it asks how far the bucket has come, and seldom what is newer
//! of one owner.

use crate::harness::{Caller, Sent, World, with_breaker};
use async_nats::Message;
use futures::future::join_all;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use serde_json::json;

const OWNERS: usize = 8;
const ROUNDS: usize = 25;

/// Whether a question to the bucket names an owner. The others name a barrier.
fn names_an_owner(question: &Message) -> bool {
    let text = String::from_utf8_lossy(&question.payload);
    text.contains("_by_subj") || text.contains(".>")
}

/// Writes the note of each owner on shard a, and reads it on shard b. Returns how many questions named an
/// owner.
async fn questions_for_owners(world: &World, consistency: &str) -> usize {
    let name = |number| format!("{consistency}-{number}");
    let owners = join_all((0..OWNERS).map(async |number| world.caller(&name(number)).await)).await;
    let get = json!({"kind": "text", "id": "note", "consistency": consistency});
    let write_and_read = async |owner: &Caller, text: &str| {
        let put = owner.put_text("a", "note", text).await;
        let got = owner.done("b.get", &get).await;
        assert_eq!(got["item"], put["item"], "{consistency}: {text}");
    };

    join_all(owners.iter().map(|owner| write_and_read(owner, "first"))).await;
    let questions = Sent::to(world, "$JS.API.DIRECT.GET.>").await;
    for round in 0..ROUNDS {
        let text = format!("round {round}");
        join_all(owners.iter().map(|owner| write_and_read(owner, &text))).await;
    }

    questions.count(names_an_owner).await
}

/// Goal: a read shows what another shard wrote just before, and does not ask the bucket for its owner.
///
/// Method: eight owners write on one shard and read on the other, 25 times. On one server, a `head` read
/// has what was acknowledged before, as a `strong` read has. Without following, each read asks for its
/// owner. A worker that is slow at following may ask for some.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_a_worker_that_follows_asks_for_no_owner() {
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    let _workers = (world.worker("a").await, world.worker("b").await);

    for consistency in ["head", "strong"] {
        let questions = questions_for_owners(&world, consistency).await;

        let reads = OWNERS * ROUNDS;
        assert!(
            questions < reads / 4,
            "{consistency}: {questions} for {reads} reads"
        );
    }
}
