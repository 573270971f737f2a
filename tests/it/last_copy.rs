//! The last copy: what a shard has and the bucket has lost stays on that shard until an operator
//! accepts the loss, however far the bucket has moved on.

use crate::harness::{Caller, Worker, World, purge_record, with_breaker};
use gofavorites::config::Settings;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::shard::VersionPosition;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long the workers may take until they report a state.
const REPORT_TIMEOUT: Duration = Duration::from_secs(30);

const ITEMS: &str = "select count(*) from item";
const LOST: &str = "select count(*) from owner where lost_at is not null";
const HOSTED: &str = "select count(*) from owner where complete_to is not null";

/// Two shards that host alice with two items. Shard b has no worker and no copy of hers any more,
/// and the bucket has lost her second item.
struct Scenario {
    alice: Caller,
    bob: Caller,
    /// How many records of each key the bucket keeps.
    history: i64,
    world: World,
}

impl Scenario {
    async fn start(history: i64) -> (Self, Worker) {
        Self::start_with(history, |_| {}).await
    }

    /// Starts with a change of the settings of shard a.
    async fn start_with(history: i64, change: impl Fn(&mut Settings)) -> (Self, Worker) {
        let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
        let mut of_a = settings(&world, "a", history);
        change(&mut of_a);
        let a = world.worker_with(of_a).await;
        let b = world.worker_with(settings(&world, "b", history)).await;
        let alice = world.caller("alice").await;
        let bob = world.caller("bob").await;
        alice.put_text("a", "one", "x").await;
        bob.put_text("a", "one", "x").await;

        let before = world.records().await;
        let put = alice.put_text("a", "two", "x").await;
        let after = world.records().await;
        let two = after.keys().find(|subject| !before.contains_key(*subject));
        assert_eq!(list(&alice, "b").await.0, 2);
        for shard in ["a", "b"] {
            world.until_projected(shard, &put).await;
        }
        b.stop().await.expect("stopped in order");
        world.query("b", "delete from owner");
        let breaker = world.connect_breaker().await;
        purge_record(&breaker, two.expect("a new record")).await;

        let scenario = Self {
            alice,
            bob,
            history,
            world,
        };
        (scenario, a)
    }

    /// Checks that shard a keeps alice's two items and says so, and serves everybody else.
    async fn check_kept(&self) {
        let Self {
            alice, bob, world, ..
        } = self;
        let put = bob.put_text("b", "two", "x").await;
        world.until_projected("a", &put).await;
        world.until("a", LOST, "1").await;

        assert_eq!(list(alice, "a").await, (2, true));
        alice
            .ask(
                "a.put",
                &json!({"kind": "text", "id": "four", "data": {"text": "x"}}),
            )
            .await
            .refusal("truth_unavailable");
        assert_eq!(list(bob, "a").await, (2, false));
        assert_eq!(world.query("a", ITEMS), "4");

        self.until_degraded().await;
        let (code, printed) = self.run(&["verify", "--repair", "--json"]).await;
        assert_eq!(code, 1);
        assert!(printed.contains("truth_lost"), "{printed}");
        let (code, _) = self.run(&["replay"]).await;
        assert_eq!(code, 1);
        assert_eq!(world.query("a", ITEMS), "4");
    }

    /// Runs the program on shard a. Returns its exit code and what it printed.
    async fn run(&self, arguments: &[&str]) -> (i32, String) {
        let mut program = self.world.program("a", arguments);
        program.env("GOFAVORITES__TRUTH__HISTORY", self.history.to_string());
        let output = program.output().await.expect("it starts");

        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().expect("an exit code"), printed)
    }

    /// Waits until shard a's worker reports the loss.
    async fn until_degraded(&self) {
        let start = Instant::now();
        loop {
            let stats = self.world.stats(2).await;
            let of_a = stats.iter().find(|one| one["data"]["shard"] == "a");
            let data = &of_a.expect("a worker of shard a")["data"];
            if data["truth"]["lost_owners"] == 1 {
                assert_eq!(data["state"], "degraded", "{data}");
                return;
            }

            assert!(start.elapsed() < REPORT_TIMEOUT, "{data}");
        }
    }

    /// Accepts the loss on shard a, and checks that it has what the bucket has.
    async fn accept(&self, a: Worker) {
        let Self { alice, world, .. } = self;
        a.stop().await.expect("stopped in order");

        let (code, _) = self.run(&["replay", "--accept-lost-history"]).await;
        assert_eq!(code, 0);
        let _a = world
            .try_worker(settings(world, "a", self.history))
            .await
            .expect("a worker");

        assert_eq!(list(alice, "a").await, (2, false));
        assert_eq!(world.query("a", LOST), "0");
        assert_eq!(world.query("a", HOSTED), "2");
    }
}

fn settings(world: &World, shard: &str, history: i64) -> Settings {
    let mut settings = world.settings(shard);
    settings.truth.history = history;

    settings
}

/// Returns how many items a shard lists, and whether it says that they are stale.
async fn list(caller: &Caller, shard: &str) -> (usize, bool) {
    let list = caller.done(&format!("{shard}.list"), &json!({})).await;
    let items = list["items"].as_array().expect("a list").len();

    (items, list["stale"] == Value::Bool(true))
}

/// Goal: a shard that serves a copy keeps it, in memory and in Postgres, when the bucket has lost
/// the copy's newest write and another shard has written since.
///
/// Method: shard a has alice in memory and projects. Shard b, without a copy, reads the older state
/// of the bucket and writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_stays_when_the_bucket_has_moved_on_without_it() {
    let (scenario, a) = Scenario::start(16).await;
    let world = &scenario.world;

    let _b = world
        .try_worker(world.settings("b"))
        .await
        .expect("a worker");
    scenario.alice.put_text("b", "three", "x").await;
    assert_eq!(list(&scenario.alice, "a").await, (2, true));

    scenario.check_kept().await;
    scenario.accept(a).await;
}

/// Goal: a shard that loads a copy from Postgres keeps it, although nothing but the content shows
/// that the bucket has lost something.
///
/// Method: the bucket keeps one record of each key. While shard a is down, shard b writes an item
/// twice. The one record that shard a then sees is based on a version that it never had, as if the
/// shard had only missed something.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_missed_versions_stays_if_the_bucket_lacks_its_own() {
    let (scenario, a) = Scenario::start(1).await;
    let world = &scenario.world;
    a.stop().await.expect("stopped in order");

    let _b = world
        .try_worker(settings(world, "b", 1))
        .await
        .expect("a worker");
    scenario.alice.put_text("b", "three", "x").await;
    scenario.alice.put_text("b", "three", "y").await;
    let a = world
        .try_worker(settings(world, "a", 1))
        .await
        .expect("a worker");
    assert_eq!(list(&scenario.alice, "a").await, (2, true));

    scenario.check_kept().await;
    scenario.accept(a).await;
}

/// Goal: a copy that missed versions is kept if the bucket's records are not complete. With what is
/// newer it is the owner's complete set, so it serves, and not as stale.
///
/// Method: shard a is down while alice writes on shard b, which has everything in memory. Then her
/// oldest item is purged. The bucket keeps one record of each key, so shard a has missed a version.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_stays_when_the_bucket_is_not_complete() {
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    let a = world.worker_with(settings(&world, "a", 1)).await;
    let _b = world.worker_with(settings(&world, "b", 1)).await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "one", "x").await;
    let before = world.records().await;
    let put = alice.put_text("a", "two", "x").await;
    let after = world.records().await;
    let two = after.keys().find(|subject| !before.contains_key(*subject));
    world.until_projected("a", &put).await;
    a.stop().await.expect("stopped in order");

    alice.put_text("b", "one", "y").await;
    let last = alice.put_text("b", "one", "z").await;
    let breaker = world.connect_breaker().await;
    purge_record(&breaker, two.expect("a new record")).await;
    let _a = world
        .try_worker(settings(&world, "a", 1))
        .await
        .expect("a worker");
    world.until_projected("a", &last).await;
    world.until("a", LOST, "1").await;

    assert_eq!(world.query("a", ITEMS), "2");
    assert_eq!(list(&alice, "a").await, (2, false));
}

/// Goal: workers that run on give up a copy as soon as an operator has accepted the loss.
///
/// Method: two workers of shard a have alice in memory. Both go on while the loss is accepted. Then
/// enough reads follow that each of the two answers some of them.
#[tokio::test(flavor = "multi_thread")]
async fn running_workers_learn_that_a_loss_was_accepted() {
    let (scenario, _a) = Scenario::start(16).await;
    let Scenario { alice, world, .. } = &scenario;
    let other = world.try_worker(settings(world, "a", 16)).await;
    let _other = other.expect("a worker");
    let _b = world.try_worker(settings(world, "b", 16)).await;
    alice.put_text("b", "three", "x").await;
    for _ in 0..20 {
        assert_eq!(list(alice, "a").await, (2, true));
    }
    world.until("a", LOST, "1").await;

    let (code, _) = scenario.run(&["replay", "--accept-lost-history"]).await;
    assert_eq!(code, 0);

    let start = Instant::now();
    let mut in_a_row = 0;
    while in_a_row < 20 {
        in_a_row = match list(alice, "a").await {
            (2, false) => in_a_row + 1,
            _ => 0,
        };
        assert!(start.elapsed() < REPORT_TIMEOUT, "a worker keeps the copy");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    alice.put_text("a", "four", "x").await;
    assert_eq!(list(alice, "a").await, (3, false));
    assert_eq!(world.query("a", LOST), "0");
}

/// Lets Postgres refuse that a copy is marked as lost.
const REFUSE_MARKS: &str = "create function refuse() returns trigger language plpgsql as \
    $$ begin raise 'refused by the test'; end $$; \
    create trigger refuse before update of lost_at on owner for each row execute function refuse()";

/// Goal: a worker marks a copy as lost also if Postgres fails when a request finds the loss.
///
/// Method: nobody writes after the loss, so nothing but one strong read of alice's shows it. The worker
/// does not follow the bucket: then that read asks for her records.
#[tokio::test(flavor = "multi_thread")]
async fn a_loss_is_marked_although_postgres_failed_at_first() {
    let (scenario, _a) = Scenario::start_with(16, |of_a| of_a.read.follow = false).await;
    let Scenario { alice, world, .. } = &scenario;
    world.query("a", REFUSE_MARKS);

    let strong = json!({"consistency": "strong"});
    let refused = alice.ask("a.list", &strong).await;
    refused.refusal("truth_unavailable");
    assert_eq!(world.query("a", LOST), "0");

    world.query("a", "drop trigger refuse on owner");
    world.until("a", LOST, "1").await;
}

/// Goal: a worker that follows the bucket finds a loss that no message tells of, although it seldom asks
/// for an owner.
///
/// Method: nobody writes after the loss. Alice lists on shard a, which has her in memory. Her list is stale
/// as soon as the worker has asked for her records, which it does once a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_follows_finds_a_loss_within_a_minute_or_two() {
    let (scenario, _a) = Scenario::start(16).await;
    let Scenario { alice, world, .. } = &scenario;

    let end = Instant::now() + Duration::from_secs(120);
    while list(alice, "a").await != (2, true) {
        assert!(Instant::now() < end, "the loss is not noticed");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    world.until("a", LOST, "1").await;
}

/// Goal: what is left of a lost history stays until an operator decides, however old and however
/// much it is.
///
/// Method: three owners have written an item four times, long ago. One's copy has lost history, and
/// one's is in doubt. Postgres then keeps no old versions, and one version of each item.
#[tokio::test(flavor = "multi_thread")]
async fn old_versions_of_a_lost_copy_are_not_deleted() {
    let world = World::start().await;
    let a = world.worker("a").await;
    for user in ["lost", "doubted", "sound"] {
        let caller = world.caller(user).await;
        for number in 0..4 {
            let put = caller.put_text("a", "one", &number.to_string()).await;
            world.until_projected("a", &put).await;
        }
    }
    a.stop().await.expect("stopped in order");
    let [lost, doubted, sound] = ["lost", "doubted", "sound"].map(|user| world.key_of(user));
    for statement in [
        "update item_version set updated_at = now() - interval '100 days'".to_owned(),
        format!(
            "update owner set doubted_version = version where owner_key in ({lost}, {doubted})"
        ),
        format!("update owner set lost_at = now() where owner_key = {lost}"),
    ] {
        world.query("a", &statement);
    }
    let kept = || {
        let count = |key| format!("select count(*) from item_version where owner_key = {key}");
        [&lost, &doubted, &sound].map(|key| world.query("a", &count(key)))
    };
    let store = world.store("a");
    let items = ["lost", "doubted", "sound"]
        .map(|user| world.items_of("a", user))
        .concat();

    store
        .trim_histories(&items, 2, 100)
        .await
        .expect("Postgres");
    assert_eq!(kept(), ["4", "4", "2"]);

    let begin = VersionPosition::default();
    store.end_versions(90, &begin).await.expect("Postgres");
    assert_eq!(kept(), ["4", "4", "1"]);
}
