//! `gofavorites dev`: one command starts the complete platform, and what it has stored survives.

use crate::harness::{Caller, exclusive, kept_directory, shared};
use async_nats::ConnectOptions;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_gofavorites");

/// How long anything may take that starts or stops processes.
const PLATFORM_TIMEOUT: Duration = Duration::from_secs(60);

/// Far from the three seconds (`projection.stuck_ms`) after which a worker takes the projection over.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(20);

/// The pause between two writes.
const WRITE_INTERVAL: Duration = Duration::from_millis(100);

/// How long a request may take. A request to a worker that was killed or paused gets no reply.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(700);

/// A running `gofavorites dev`.
struct Dev {
    process: Child,
    state: PathBuf,
}

impl Dev {
    /// Starts the platform, and waits until it has written `dev.json`.
    fn start(state: &Path, arguments: &[&str]) -> Self {
        let description = state.join("dev.json");
        let _ = fs::remove_file(&description);

        let process = Command::new(PROGRAM)
            .args(["dev", "--state"])
            .arg(state)
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdout(Stdio::null())
            .spawn()
            .expect("started");
        let mut dev = Self {
            process,
            state: state.to_owned(),
        };

        wait_until("dev.json exists", || {
            let ended = dev.process.try_wait().expect("a status");
            assert!(ended.is_none(), "dev ended before it was ready");
            description.exists()
        });

        dev
    }

    /// Returns `dev.json`.
    fn description(&self) -> Value {
        let text = fs::read(self.state.join("dev.json")).expect("dev.json");

        serde_json::from_slice(&text).expect("JSON")
    }

    /// Stops the platform with Ctrl-C, and asserts that it ends in order.
    fn stop(mut self) {
        signal(u64::from(self.process.id()), Signal::SIGINT);

        assert!(self.process.wait().expect("ended").success());
    }

    /// Kills the platform's own process.
    fn kill(self) {
        signal(u64::from(self.process.id()), Signal::SIGKILL);
    }

    /// Returns a caller who is connected as that user of NATS, with the token of that person.
    async fn caller(&self, user: &str, person: &str) -> Caller {
        let url = text(&self.description()["nats_url"]);

        self.caller_at(&url, user, person).await
    }

    /// As [`caller`](Self::caller), connected to another server.
    async fn caller_at(&self, url: &str, user: &str, person: &str) -> Caller {
        let all = self.description();
        let user = &all["users"][user];
        let token = text(&all["tokens"][person]);

        let client =
            ConnectOptions::with_user_and_password(text(&user["user"]), text(&user["password"]))
                .request_timeout(Some(Duration::from_secs(3)))
                .connect(url)
                .await
                .expect("a connection");

        Caller::new(client, token)
    }

    /// Returns the processes that `dev.json` names.
    fn pids(&self) -> Vec<u64> {
        let all = self.description();
        let shards = all["shards"].as_array().expect("shards").iter();

        let servers = ["nats", "postgres", "auth"].map(|name| pid(&all["servers"][name]));
        let workers = shards
            .flat_map(|shard| shard["workers"].as_array().expect("workers"))
            .map(pid);

        servers.into_iter().chain(workers).collect()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn pid(process: &Value) -> u64 {
    process["pid"].as_u64().expect("a pid")
}

#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PLATFORM_TIMEOUT;

    while !done() {
        assert!(Instant::now() < end, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(pid: u64, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));

    kill(pid, signal).expect("sent");
}

/// Returns whether the process runs. A zombie does not.
fn is_alive(pid: u64) -> bool {
    let ps = Command::new("ps")
        .args(["-o", "stat=", "-p", &pid.to_string()])
        .output()
        .expect("ps");

    ps.status.success() && !String::from_utf8_lossy(&ps.stdout).starts_with('Z')
}

/// Returns an access token from `dev token`.
fn token(state: &Path, arguments: &[&str]) -> String {
    let output = Command::new(PROGRAM)
        .args(["dev", "token", "--state"])
        .arg(state)
        .args(arguments)
        .output()
        .expect("ran");

    let token = String::from_utf8(output.stdout).expect("a text");
    token.trim().to_owned()
}

/// Asserts that `dev.json` has what a developer needs to connect.
fn assert_description_is_complete(dev: &Dev) {
    let all = dev.description();

    assert_eq!(
        all["auth"],
        json!({"verify_subject": "auth.v1.verify", "revoked_subject": "auth.v1.revoked"})
    );

    for user in ["gateway", "gateway2", "direct", "auth", "operator"] {
        assert!(all["users"][user]["password"].is_string(), "{user}");
    }

    assert_eq!(all["shards"].as_array().map(Vec::len), Some(2));
    let postgres_url = text(&all["shards"][0]["postgres_url"]);
    assert!(postgres_url.starts_with("postgres://"), "{postgres_url}");
    assert_eq!(
        dev.pids().len(),
        7,
        "three servers and four workers, each a process of its own"
    );
}

/// Goal: the platform keeps what it has stored after Ctrl-C and after `kill -9`, ends all of its
/// processes, and starts empty with `--fresh`.
///
/// Method: alice puts a text and bob lists. The platform is stopped, killed and started again;
/// each time alice reads the text, on either shard.
#[tokio::test(flavor = "multi_thread")]
async fn a_platform_keeps_its_state_until_it_is_started_fresh() {
    let _permit = shared().await;
    let state = kept_directory().join("dev");
    let get = json!({"kind": "text", "id": "note"});

    let dev = Dev::start(&state, &[]);
    assert_description_is_complete(&dev);
    let alice = dev.caller("gateway", "alice").await;
    alice.put_text("a", "note", "x").await;
    let bob = dev.caller("gateway2", "bob").await;
    let list = bob.done("b.list", &json!({})).await;
    assert_eq!(list["items"], json!([]));

    let pids = dev.pids();
    dev.stop();
    assert!(!pids.into_iter().any(is_alive), "all have ended with it");

    let dev = Dev::start(&state, &[]);
    let alice = dev.caller("gateway", "alice").await;
    alice.done("b.get", &get).await;

    let pids = dev.pids();
    dev.kill();
    let dev = Dev::start(&state, &[]);
    assert!(
        !pids.into_iter().any(is_alive),
        "no process of the killed run is left"
    );
    let alice = dev.caller("gateway", "alice").await;
    alice.done("a.get", &get).await;
    dev.stop();

    let dev = Dev::start(&state, &["--fresh"]);
    let alice = dev.caller("gateway", "alice").await;
    let reply = alice.ask("a.get", &get).await;
    reply.refusal("not_found");
    dev.stop();
}

/// Revokes alice's tokens at the auth service, and waits until every worker has received that.
fn revoke_alice(state: &Path) {
    let revoke = Command::new(PROGRAM)
        .args(["dev", "revoke", "--sub", "alice", "--state"])
        .arg(state)
        .status()
        .expect("ran");
    assert!(revoke.success());

    let has_received = |worker: &str| {
        let log = state.join(format!("log/worker-{worker}.log"));
        fs::read_to_string(log)
            .expect("a log")
            .contains("received a revocation")
    };
    wait_until("every worker receives the revocation", || {
        ["a-0", "a-1", "b-0", "b-1"].into_iter().all(has_received)
    });
}

/// Goal: `--topology leaf` starts a hub and two leaves, whose workers share the bucket, and keeps
/// their state apart from that of a single server.
///
/// Method: alice writes at one leaf and reads at the other, and bob's item is on both shards. The
/// platform is killed and started again, and at last started as a single server.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_with_leaves_is_one_command_too() {
    let _permit = shared().await;
    let state = kept_directory().join("dev");
    let leaf = ["--topology", "leaf"];
    let get = json!({"kind": "text", "id": "note"});

    let dev = Dev::start(&state, &leaf);
    let all = dev.description();
    let url_of_a = text(&all["shards"][0]["nats_url"]);
    let url_of_b = text(&all["shards"][1]["nats_url"]);
    assert_eq!(all["topology"], "leaf");
    assert_eq!(all["nats_url"], url_of_a);
    assert_ne!(url_of_a, url_of_b);

    let at_a = dev.caller("gateway", "alice").await;
    let at_b = dev.caller_at(&url_of_b, "gateway2", "alice").await;
    let put = at_a.put_text("a", "note", "x").await;
    let got = at_b.done("get", &get).await;
    let version = at_b.done("version", &json!({})).await;
    assert_eq!(got["item"], put["item"]);
    assert_eq!(version["shard"], "b", "the nearest worker");

    let bob = dev.caller("gateway", "bob").await;
    bob.put_text("b", "note", "kept").await;
    revoke_alice(&state);

    let pids: Vec<u64> = dev.pids().into_iter().chain(leaf_pids(&all)).collect();
    dev.kill();
    wait_until("every process has ended", || {
        !pids.iter().copied().any(is_alive)
    });

    let dev = Dev::start(&state, &leaf);
    let bob = dev.caller("gateway", "bob").await;
    let kept = bob.done("a.get", &get).await;
    assert_eq!(kept["item"]["data"]["text"], "kept");
    dev.stop();

    let single = Dev::start(&state, &[]);
    let all = single.description();
    assert_eq!(all["topology"], "single");
    assert!(all["servers"]["hub"].is_null());
    let bob = single.caller("gateway", "bob").await;
    let reply = bob.ask("a.get", &get).await;
    reply.refusal("not_found");
    single.stop();
}

/// Returns the processes that only the topology with leaves has.
fn leaf_pids(all: &Value) -> [u64; 2] {
    let hub = pid(&all["servers"]["hub"]);
    let second_leaf = pid(&all["shards"][1]["nats"]);

    [hub, second_leaf]
}

/// Runs `dev restart`.
fn restart(state: &Path, name: &str) -> Output {
    Command::new(PROGRAM)
        .args(["dev", "restart", name, "--state"])
        .arg(state)
        .output()
        .expect("ran")
}

/// Lists on shard a until a reply is complete and current, at most 200 times.
async fn list_until_current(alice: &Caller) -> Value {
    let mut list = Value::Null;

    for _ in 0..200 {
        let reply = alice
            .client
            .request_with_headers("favorites.v1.shard.a.list", alice.headers(), "{}".into())
            .await;
        list = reply
            .map(|reply| serde_json::from_slice(&reply.payload).expect("JSON"))
            .unwrap_or_default();
        if list["items"].is_array() && list["stale"].is_null() {
            break;
        }

        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    list
}

/// Goal: `dev restart` starts a part again that was killed, and an unknown name is refused with the
/// names that exist.
///
/// Method: a worker and each server are killed and restarted in turn. Afterwards a caller's item is
/// listed.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_part_is_restarted_on_request() {
    let _permit = shared().await;
    let state = kept_directory().join("dev");
    let dev = Dev::start(&state, &[]);
    let alice = dev.caller("gateway", "alice").await;
    alice.put_text("a", "note", "x").await;
    let pid_of = |name: &str| {
        let all = dev.description();
        match name {
            "worker-a-0" => pid(&all["shards"][0]["workers"][0]),
            name => pid(&all["servers"][name]),
        }
    };

    for name in ["worker-a-0", "auth", "postgres", "nats"] {
        let before = pid_of(name);
        signal(before, Signal::SIGKILL);
        let output = restart(&state, name);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {err}");

        let after = pid_of(name);
        assert_ne!(after, before, "{name}");
        assert!(is_alive(after), "{name} runs again");
    }

    let unknown = restart(&state, "nobody");
    let err = String::from_utf8_lossy(&unknown.stderr);
    assert!(!unknown.status.success(), "{err}");
    assert!(err.contains("worker-b-1"), "{err}");

    let list = list_until_current(&alice).await;
    assert_eq!(list["items"][0]["id"], "note", "{list}");
    dev.stop();
}

/// Returns the process of the worker of shard a that projects, by the workers' logs.
fn pid_of_projecting_worker(dev: &Dev) -> u64 {
    let projects = |worker: usize| {
        let log = dev.state.join(format!("log/worker-a-{worker}.log"));
        fs::read_to_string(log)
            .expect("a log")
            .contains("this worker projects")
    };
    let first = projects(0);
    let second = projects(1);

    assert_ne!(first, second, "one worker of the shard projects");

    pid(&dev.description()["shards"][0]["workers"][usize::from(second)])
}

/// Returns how long it takes until a write is acknowledged with its row in shard a's Postgres.
///
/// The writes do not wait for one another: half of them reach a worker that does not answer.
async fn time_until_projected(alice: &Caller) -> Duration {
    let since = Instant::now();
    let mut ticks = tokio::time::interval(WRITE_INTERVAL);
    let mut writes = FuturesUnordered::new();
    let mut count = 0;

    loop {
        tokio::select! {
            _ = ticks.tick() => {
                count += 1;
                writes.push(is_projected(alice, format!("n{count}")));
            }
            Some(true) = writes.next() => return since.elapsed(),
        }

        assert!(since.elapsed() < PLATFORM_TIMEOUT, "no worker projects");
    }
}

/// Writes an item, and returns whether the write is acknowledged with its row.
async fn is_projected(alice: &Caller, id: String) -> bool {
    let body = json!({"kind": "text", "id": id, "data": {"text": "x"}});
    let request = alice.client.request_with_headers(
        "favorites.v1.shard.a.put",
        alice.headers(),
        body.to_string().into(),
    );
    let Ok(Ok(reply)) = tokio::time::timeout(REQUEST_TIMEOUT, request).await else {
        return false;
    };

    let reply: Value = serde_json::from_slice(&reply.payload).expect("JSON");
    reply["item"]["version"].is_u64() && reply.get("local").is_none()
}

/// Goal: two seconds after the projecting worker was killed, the shard's other worker projects. The
/// platform does not restart the killed one.
///
/// Method: the worker that projects gets `kill -9`, and a caller writes until a write is projected.
#[tokio::test(flavor = "multi_thread")]
async fn another_worker_projects_within_two_seconds_of_a_kill() {
    let _permit = exclusive().await;
    let state = kept_directory().join("dev");
    let dev = Dev::start(&state, &[]);
    let alice = dev.caller("gateway", "alice").await;
    alice.put_text("a", "note-0", "x").await;
    let pid = pid_of_projecting_worker(&dev);

    signal(pid, Signal::SIGKILL);
    let took = time_until_projected(&alice).await;

    println!("another worker projected {took:?} after kill -9");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(!is_alive(pid), "a killed worker is not restarted");
    dev.stop();
}

/// Goal: the other worker projects while the projecting one is paused, and the paused one does not
/// disturb it afterwards.
///
/// Method: the worker that projects is paused, and a caller writes until a write is projected. Then
/// the worker continues, and the caller writes through both.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_worker_loses_the_projection_to_another() {
    let _permit = exclusive().await;
    let state = kept_directory().join("dev");
    let dev = Dev::start(&state, &[]);
    let alice = dev.caller("gateway", "alice").await;
    alice.put_text("a", "note-0", "x").await;
    let pid = pid_of_projecting_worker(&dev);

    signal(pid, Signal::SIGSTOP);
    let took = time_until_projected(&alice).await;
    signal(pid, Signal::SIGCONT);

    println!("another worker projected {took:?} after the pause began");
    assert!(took < TAKEOVER_TIMEOUT, "{took:?}");

    // The worker that continues must find that it no longer projects.
    for number in 0..20 {
        alice.put_text("a", &format!("after-{number}"), "x").await;
    }

    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_valid_for_its_scope_and_its_time() {
    let _permit = shared().await;
    let state = kept_directory().join("dev");
    let dev = Dev::start(&state, &[]);
    let alice = dev.caller("gateway", "alice").await;
    let put = json!({"kind": "text", "data": {"text": "x"}});
    let scope = ["--scope", "favorites:read", "--ttl", "60s"];
    let reader = token(&state, &[&["--sub", "carol"][..], &scope].concat());
    let reader = alice.with_token(&reader);

    reader.done("a.list", &json!({})).await;
    let reply = reader.ask("a.put", &put).await;
    reply.refusal("forbidden");

    let short = token(&state, &["--sub", "carol", "--ttl", "1s"]);
    let short = alice.with_token(&short);
    let end = Instant::now() + Duration::from_secs(10);
    while short.ask("a.list", &json!({})).await.body["error"]["code"] != "unauthenticated" {
        assert!(Instant::now() < end, "an expired token is still valid");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    dev.stop();
}

/// The program as a client, with the environment that the platform wrote for alice.
struct Cli {
    state: PathBuf,
}

impl Cli {
    fn run(&self, arguments: &[&str]) -> Output {
        let environment = self.state.join("alice.env");
        let script = format!(". {}; exec {PROGRAM} \"$@\"", environment.display());

        Command::new("sh")
            .args(["-c", &script, "sh"])
            .args(arguments)
            .output()
            .expect("ran")
    }

    /// Runs a command that must succeed, and returns its standard output.
    fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);

        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {err}");

        String::from_utf8(output.stdout).expect("a text")
    }

    /// Runs a command that must fail, and returns its standard error.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);

        let has_failed = output.status.code().is_some_and(|code| code != 0);
        assert!(has_failed, "{arguments:?}");

        String::from_utf8(output.stderr).expect("a text")
    }

    #[track_caller]
    fn assert_prints(&self, arguments: &[&str], expected: &str) {
        let out = self.succeeds(arguments);

        assert!(out.contains(expected), "{arguments:?}: {out}");
    }

    #[track_caller]
    fn assert_explains(&self, arguments: &[&str], expected: &str) {
        let err = self.fails(arguments);

        assert!(err.contains(expected), "{arguments:?}: {err}");
    }
}

const PUT_APPLE: [&str; 7] = [
    "put",
    "instrument",
    "US0378331005",
    "--type",
    "stock",
    "--ticker",
    "AAPL",
];

/// Puts an instrument and a text, and shows both.
fn put_and_show(cli: &Cli) {
    let details = [
        "--tag",
        "tech",
        "--meta",
        "broker=x",
        "--name",
        "Apple Inc.",
    ];
    let put_apple = [&PUT_APPLE[..], &details].concat();

    cli.assert_prints(&["list"], "nothing kept yet");
    cli.assert_prints(&put_apple, "kept");
    cli.assert_prints(&["put", "text", "shopping", "--text", "milk"], "shopping");

    let list = cli.succeeds(&["list", "--shard", "b", "--consistency", "strong"]);
    assert!(list.contains("US0378331005"), "{list}");
    assert!(list.contains("stock AAPL Apple Inc."), "{list}");
    assert!(list.contains("milk"), "{list}");

    let tagged = cli.succeeds(&["list", "--json", "--tag", "tech"]);
    let tagged: Value = serde_json::from_str(&tagged).expect("JSON");
    assert_eq!(tagged["items"].as_array().map(Vec::len), Some(1));

    let apple = cli.succeeds(&["get", "instrument", "US0378331005"]);
    assert!(apple.contains("meta broker"), "{apple}");
    assert!(apple.contains("AAPL"), "{apple}");

    let get = ["get", "text", "shopping", "--json"];
    let strong = [&get[..], &["--consistency", "strong"]].concat();
    cli.assert_prints(&strong, "\"milk\"");
}

fn refusals_are_explained(cli: &Cli) {
    let outdated = [&PUT_APPLE[..], &["--if-version", "1"]].concat();
    let wrong_check_digit = ["put", "instrument", "US0378331006", "--type", "stock"];
    let not_a_pair = ["put", "text", "x", "--text", "y", "--meta", "z"];

    cli.assert_explains(&outdated, "version_conflict");
    cli.assert_explains(&wrong_check_digit, "expected 5");
    cli.assert_explains(&["put", "text", "x", "--type", "stock"], "--text");
    cli.assert_explains(&not_a_pair, "key=value");
    cli.assert_explains(&["get", "text", "none"], "not_found");
    cli.assert_explains(&["list", "--token", ""], "GOFAVORITES_TOKEN");
    cli.assert_explains(&["list", "--shard", "nowhere"], "nobody answers");
}

fn versions_are_shown(cli: &Cli) {
    let version = cli.succeeds(&["version"]);
    assert!(version.starts_with("client "), "{version}");
    assert!(version.contains("service  gofavorites"), "{version}");

    let version = cli.succeeds(&["version", "--json"]);
    let version: Value = serde_json::from_str(&version).expect("JSON");
    assert_eq!(version["client"]["commit"], version["service"]["commit"]);

    let without_server = Command::new(PROGRAM)
        .arg("version")
        .env_remove("GOFAVORITES_URL")
        .output()
        .expect("ran");
    let out = String::from_utf8_lossy(&without_server.stdout);
    assert_eq!(out.lines().count(), 1, "only the program's own: {out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_shows_items_and_explains_refusals() {
    let _permit = shared().await;
    let state = kept_directory().join("dev");
    let dev = Dev::start(&state, &[]);
    let cli = Cli { state };

    put_and_show(&cli);
    refusals_are_explained(&cli);
    let rm_text = ["rm", "text", "shopping", "--json"];
    cli.assert_prints(&rm_text, "\"deleted\": true");
    cli.assert_prints(&["rm", "instrument", "us0378331005"], "deleted");
    versions_are_shown(&cli);

    dev.stop();
}

/// Goal: with `--reference` the workers refuse instruments that the stand-in does not know, and fill
/// in what it knows, as the tour says. Without it no reference service runs.
///
/// Method: the tour's command, an unknown instrument, and a restart of the service.
#[tokio::test(flavor = "multi_thread")]
async fn a_stand_in_reference_service_is_one_option() {
    let _permit = shared().await;
    let state = kept_directory().join("dev");
    let put_microsoft = ["put", "instrument", "US5949181045", "--type", "stock"];
    let tour = crate::pages::text("docs/tour.md");
    assert!(tour.contains(&put_microsoft.join(" ")));

    let dev = Dev::start(&state, &["--reference"]);
    let cli = Cli {
        state: state.clone(),
    };
    let all = dev.description();
    assert_eq!(all["reference"]["subject"], "reference.v1.instrument");
    assert!(all["users"]["reference"]["password"].is_string());

    cli.assert_prints(&put_microsoft, "stock MSFT Microsoft Corporation");
    let unknown = ["put", "instrument", "US0378331013", "--type", "stock"];
    cli.assert_explains(&unknown, "unknown_instrument");

    let before = pid(&all["servers"]["reference"]);
    let output = restart(&state, "reference");
    assert!(output.status.success(), "{output:?}");
    let after = pid(&dev.description()["servers"]["reference"]);
    assert_ne!(after, before);
    assert!(is_alive(after), "it runs again");
    dev.stop();
    assert!(!is_alive(after), "it ends with the platform");

    let dev = Dev::start(&state, &[]);
    let all = dev.description();
    assert!(all["reference"].is_null(), "off by default");
    assert!(all["servers"]["reference"].is_null());
    dev.stop();
}

#[tokio::test]
async fn the_demo_runs_to_its_end() {
    let _permit = shared().await;

    let demo = Command::new(PROGRAM)
        .args(["dev", "demo"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("ran");

    let out = String::from_utf8_lossy(&demo.stdout);
    let err = String::from_utf8_lossy(&demo.stderr);
    assert!(demo.status.success(), "{out}\n{err}");
    assert_eq!(out.matches('✓').count(), 10, "{out}");
}
