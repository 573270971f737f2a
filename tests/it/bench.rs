//! `gofavorites bench` against real workers: what it counts, what its quantiles show, which replies it
//! finds wrong, and whose items it leaves alone.

use crate::cli::{Outcome, Person};
use crate::harness::{Caller, Worker, World, kept_directory, shared, start_platform};
use crate::pages::{section, text};
use async_nats::ConnectOptions;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::process::Command;
use tokio::task::JoinHandle;

/// The usual requests of a short run.
const SHORT: [&str; 6] = ["--items", "3", "--callers", "4", "--warm-up", "0"];

/// A world with one worker, and owners whose tokens are in a file.
struct Stage {
    world: World,
    worker: Worker,
    person: Person,
    owners: Vec<Caller>,
    tokens: String,
}

impl Stage {
    async fn start(owners: usize) -> Self {
        let world = World::start().await;
        let worker = world.worker("a").await;

        Self::with_worker(world, worker, owners).await
    }

    async fn with_worker(world: World, worker: Worker, count: usize) -> Self {
        let mut owners = Vec::new();
        for number in 0..count {
            owners.push(world.caller(&format!("bench-owner-{number}")).await);
        }
        let file = world.directory.join("bench-tokens");
        let lines: Vec<&str> = owners.iter().map(|owner| &*owner.token).collect();
        fs::write(&file, lines.join("\n")).expect("written");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("set");

        Self {
            person: Person::new(&world, &owners[0]),
            tokens: file.to_str().expect("UTF-8").to_owned(),
            world,
            worker,
            owners,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let count = self.owners.len().to_string();
        let whose = ["bench", "--tokens", &self.tokens, "--owners", &count];

        self.person.connected(&[&whose, arguments].concat())
    }

    /// Runs the command, and asserts that it prints no token.
    async fn run(&self, arguments: &[&str]) -> Outcome {
        let outcome = self.person.run(self.command(arguments)).await;

        for owner in &self.owners {
            let printed = [&outcome.out, &outcome.err];
            assert!(printed.iter().all(|text| !text.contains(&*owner.token)));
        }
        outcome
    }

    /// Runs the command, which must find nothing wrong, and returns its JSON.
    async fn measure(&self, arguments: &[&str]) -> Value {
        let Outcome { code, out, err } = self.run(&[arguments, &["--json"]].concat()).await;

        assert_eq!(code, 0, "{out}{err}");
        serde_json::from_str(&out).expect("JSON")
    }

    /// Starts the command, and waits until `count` requests have been answered since.
    async fn start_run(&self, arguments: &[&str], count: u64) -> JoinHandle<(i32, Value, String)> {
        let before = self.worker.counters.answered();
        let mut command = self.command(&[arguments, &["--json"]].concat());
        let running = tokio::spawn(async move {
            let output = command.output().await.expect("it runs");
            let json = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            (output.status.code().unwrap_or(-1), json, error)
        });

        let start = Instant::now();
        while self.worker.counters.answered() < before + count {
            assert!(start.elapsed() < Duration::from_secs(20), "it does not run");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running
    }

    /// Returns how many requests of an operation the worker has counted.
    async fn counted(&self, operation: &str) -> u64 {
        let stats = self.world.stats(1).await;
        let endpoints = stats[0]["endpoints"].as_array().expect("endpoints");
        let endpoint = endpoints.iter().find(|one| one["name"] == operation);

        endpoint.expect("an endpoint")["num_requests"]
            .as_u64()
            .expect("a number")
    }

    async fn items_of(&self, owner: usize) -> Vec<Value> {
        let list = self.owners[owner].done("a.list", &json!({})).await;

        list["items"].as_array().expect("items").clone()
    }
}

/// Goal: a run counts neither more nor less than it does.
///
/// Method: the worker's own statistics are compared with what the run says, for each operation.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_has_as_many_requests_as_the_service_counts() {
    let stage = Stage::start(3).await;

    let json = stage
        .measure(&[&SHORT[..], &["--requests", "300"]].concat())
        .await;

    assert_eq!(json["requests"], 300);
    assert_eq!(json["wrong"], json!({}));
    for operation in ["get", "put", "delete", "changes"] {
        let requests = json["operations"][operation]["requests"].as_u64();
        let counted = stage.counted(operation).await;
        assert_eq!(requests.unwrap_or_default(), counted, "{operation}: {json}");
    }
    // Each owner was looked at before the run and after it.
    let lists = json["operations"]["list"]["requests"].as_u64();
    assert_eq!(lists.expect("lists") + 6, stage.counted("list").await);
    let why = json["raw_left_out"].as_str().expect("a reason");
    assert!(why.contains("--dev") && json["raw"].is_null(), "{why}");
}

/// Goal: a run can measure the first request of each owner on a shard that has never seen them.
///
/// Method: the owners get their items on one shard, a command runs, and then the other shard is asked
/// about each owner once. The workers count their requests.
#[tokio::test(flavor = "multi_thread")]
async fn owners_can_get_their_items_on_another_shard_and_have_their_turn() {
    let stage = Stage::start(3).await;
    let other = stage.world.worker("b").await;
    let marker = stage.world.directory.join("between");
    let command = format!("echo between; touch {}", marker.display());
    let (before, options) = (
        stage.worker.counters.answered(),
        ["--before-load", &command],
    );

    let arguments = ["--mix", "list", "--in-turn", "--requests", "3"];
    let places = ["--fill-shard", "a", "--shard", "b"];
    let json = stage
        .measure(&[&SHORT[..], &arguments, &places, &options].concat())
        .await;

    assert_eq!(json["answered"], 3);
    assert!(marker.exists());
    let bench = &json["bench"];
    assert_eq!(
        (&bench["in_turn"], &bench["filled_on_shard"]),
        (&json!(true), &json!("a"))
    );
    // Here each owner was looked at, and got the items in one batch.
    assert_eq!(stage.worker.counters.answered() - before, 6);
    // There they had one request each, and lost the items again; and the limits were asked for.
    assert_eq!(other.counters.answered(), 3 + 6 + 1);

    let failing = [&SHORT[..], &["--requests", "3", "--before-load", "exit 4"]].concat();
    let Outcome { code, err, .. } = stage.run(&failing).await;
    assert_eq!(code, 1, "{err}");
    assert!(
        err.contains("--before-load ended with exit status: 4"),
        "{err}"
    );
    assert_eq!(stage.items_of(1).await, [] as [Value; 0], "cleaned up");
}

/// Goal: what a run leaves, it or the next run takes away.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_cleans_up_unless_it_is_told_to_keep_its_items() {
    let stage = Stage::start(2).await;
    let arguments = [&SHORT[..], &["--requests", "40"]].concat();
    let kept = [&arguments[..], &["--keep"]].concat();
    let in_cbor = [&arguments[..], &["--encoding", "cbor", "--mix", "get,put"]].concat();

    stage.measure(&kept).await;
    assert!(!stage.items_of(1).await.is_empty());
    stage.measure(&kept).await;
    assert!(!stage.items_of(1).await.is_empty());
    let Outcome { code, out, .. } = stage.run(&["--clean-up"]).await;
    assert_eq!(code, 0);
    assert!(out.starts_with("removed "), "{out}");
    assert_eq!(stage.items_of(1).await, [] as [Value; 0]);

    stage.measure(&in_cbor).await;
    assert_eq!(stage.items_of(0).await, [] as [Value; 0]);
}

/// Goal: nothing that a run did not make is ever changed.
///
/// Method: the second owner has a note of their own. Not even the first owner gets an item.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_with_other_items_is_refused_and_left_alone() {
    let stage = Stage::start(2).await;
    let note = stage.owners[1].put_text("a", "note", "milk").await;

    let Outcome { code, err, .. } = stage.run(&SHORT).await;
    let cleaned = stage.run(&["--clean-up"]).await;

    assert_eq!(code, 2, "{err}");
    let expected = "the owner of token 2 has 1 items that no bench has made: nothing was changed";
    assert!(err.contains(expected), "{err}");
    assert_eq!(cleaned.out, "removed 0 items\n");
    assert_eq!(stage.items_of(1).await, [note["item"].clone()]);
    let first = stage.owners[0].done("a.list", &json!({})).await;
    assert_eq!(first, json!({"items": [], "owner_version": 0}));
}

/// Goal: a reply that is not what the run wrote is reported as an error of the run.
///
/// Method: while a run reads, another program of the same owner replaces one item and deletes another.
#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_another_program_changes_is_found() {
    let stage = Stage::start(1).await;
    let reads = ["--mix", "get,list,changes", "--duration", "3s"];
    let running = stage.start_run(&[&SHORT[..], &reads].concat(), 20).await;

    let owner = &stage.owners[0];
    owner.put_text("a", "gofavorites-bench-0", "milk").await;
    let deletion = json!({"kind": "text", "id": "gofavorites-bench-1"});
    owner.done("a.delete", &deletion).await;
    let (code, json, error) = running.await.expect("no panic");

    assert_eq!(code, 1, "{json}{error}");
    assert!(error.contains("replies were wrong"), "{error}");
    for wrong in ["foreign_item", "missing_item"] {
        assert!(json["wrong"][wrong].as_u64() > Some(0), "{json}");
    }
    assert!(!json["wrong_examples"].to_string().contains("milk"));
    // What the other program wrote is not the run's to remove.
    let left = stage.items_of(0).await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0]["data"]["text"], "milk");
}

/// Goal: refusals are no errors of a run, and are counted by their codes.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_counted_by_code() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.limits.rate_per_s = 20;
    settings.limits.rate_burst = 40;
    let worker = world.worker_with(settings).await;
    let stage = Stage::with_worker(world, worker, 1).await;

    let arguments = [&SHORT[..], &["--requests", "200", "--mix", "get"]].concat();
    let json = stage.measure(&arguments).await;

    let refused = json["refused"]["rate_limited"].as_u64().expect("refusals");
    assert!(refused > 50, "{json}");
    assert_eq!(json["answered"].as_u64(), Some(200 - refused));
    assert_eq!(
        json["latency_us"]["p50"].as_u64().map(|us| us > 0),
        Some(true)
    );
}

/// Goal: the quantiles of an open loop show that the service stood still for a second. Those of a
/// closed loop hide it.
///
/// Method: the NATS server is paused for a second in the middle of a run of three.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_loop_shows_a_stall_that_a_closed_loop_hides() {
    let mut stage = Stage::start(2).await;
    let usual = ["--mix", "get", "--duration", "3s", "--rounds", "1"];
    let usual = [&SHORT[..], &usual].concat();

    let mut p90_ms = Vec::new();
    for more in [&["--rate", "100"][..], &[]] {
        let running = stage.start_run(&[&usual, more].concat(), 60).await;
        let server = stage.world.nats.process();
        server.signal(Signal::SIGSTOP).expect("paused");
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.signal(Signal::SIGCONT).expect("resumed");

        let (code, json, error) = running.await.expect("no panic");
        assert_eq!(code, 0, "{json}{error}");
        let micros = |name: &str| json["latency_us"][name].as_u64().expect("a latency");
        assert!(micros("max") > 800_000, "{json}");
        p90_ms.push(micros("p90") / 1_000);
    }

    assert!(p90_ms[0] > 400, "an open loop: {p90_ms:?}");
    assert!(p90_ms[1] < 400, "a closed loop: {p90_ms:?}");
}

/// Goal: on a development platform a run has the raw figures, the processor times and a picture, leaves
/// nothing in the bucket, and its JSON has the fields that the documents name.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_on_a_development_platform_has_everything() {
    let _permit = shared().await;
    let directory = kept_directory();
    let platform = start_platform(&directory, &["a"]).await;
    let state = directory.join("dev");
    let picture = directory.join("picture.svg");

    let output = Command::new(env!("CARGO_BIN_EXE_gofavorites"))
        .args([
            "bench",
            "--dev",
            "--json",
            "--owners",
            "4",
            "--duration",
            "2s",
        ])
        .args(["--rounds", "2", "--shard", "a", "--consistency", "strong"])
        .args(["--mix", "get=6,list=2,put=2,delete=1,version=1", "--state"])
        .arg(&state)
        .arg("--svg")
        .arg(&picture)
        .args(SHORT)
        .env_clear()
        .output()
        .await
        .expect("it runs");

    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for figure in ["echo", "head", "compare_and_set", "bare_get", "bare_put"] {
        assert!(
            json["raw"][figure]["answered"].as_u64() > Some(0),
            "{figure}: {json}"
        );
        assert_eq!(json["raw"][figure]["unanswered"], json!({}), "{figure}");
    }
    let version = &json["operations"]["version"];
    assert!(version["answered"].as_u64() > Some(0), "{version}");
    assert_eq!(json["bench"]["consistency"], "strong");
    assert!(json["owners_filled"]["per_second"].as_f64() > Some(0.0));
    let share = json["share_of_limit"].as_f64().expect("a share");
    assert!(share > 0.0 && json["limit_per_second"].as_f64() > Some(0.0));
    let processes = json["processor"].to_string();
    assert!(processes.contains("worker-a-0") && processes.contains("\"bench\""));
    assert_documented(&json);
    let picture = fs::read_to_string(&picture).expect("a picture");
    assert!(picture.contains("<polyline") && picture.contains("of a bare worker"));
    assert_nothing_is_left(&platform.nats_url(), &state).await;
    drop(platform);
}

/// Asserts that the fields are those of the table in the documents.
fn assert_documented(json: &Value) {
    let document = text("docs/operations.md");
    let section = section(&document, "Measure the speed");
    let (_, table) = section
        .split_once("| field of the JSON |")
        .expect("a table");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let documented: BTreeSet<&str> = rows.flat_map(|row| row.split('`').nth(1)).collect();

    let fields = json.as_object().expect("an object").keys();
    let fields: BTreeSet<&str> = fields.map(String::as_str).collect();
    assert_eq!(fields, documented);
}

/// Asserts that the bucket has no record of the raw figures.
async fn assert_nothing_is_left(url: &str, state: &Path) {
    let description = fs::read(state.join("dev.json")).expect("dev.json");
    let description: Value = serde_json::from_slice(&description).expect("JSON");
    let user = &description["users"]["operator"];
    let part = |name: &str| user[name].as_str().expect("a text").to_owned();
    let operator = ConnectOptions::with_user_and_password(part("user"), part("password"))
        .connect(url)
        .await
        .expect("a connection");

    let request = json!({"subjects_filter": "$KV.favorites.>"}).to_string();
    let subject = "$JS.API.STREAM.INFO.KV_favorites";
    let info = operator.request(subject, request.into()).await;
    let info: Value = serde_json::from_slice(&info.expect("a reply").payload).expect("JSON");

    let subjects = info["state"]["subjects"].as_object().expect("subjects");
    assert!(subjects.len() > 4, "{info}");
    let left = subjects.keys().find(|subject| subject.contains("_bench"));
    assert_eq!(left, None);
}
