//! `gofavorites dev`: one command starts all of it, and what it kept is found again.

use crate::harness::{Caller, exclusive, kept_directory, shared};
use async_nats::ConnectOptions;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_gofavorites");

/// A running `gofavorites dev`.
struct Dev {
    process: Child,
    state: PathBuf,
}

impl Dev {
    /// Starts it, and waits until it has written `dev.json`.
    fn start(state: &Path, arguments: &[&str]) -> Self {
        let description = state.join("dev.json");
        let _ = std::fs::remove_file(&description);
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
        wait_until("dev.json", || {
            assert!(
                dev.process.try_wait().expect("a status").is_none(),
                "dev ended before it was ready"
            );
            description.exists()
        });
        dev
    }

    fn description(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.state.join("dev.json")).expect("dev.json"))
            .expect("JSON")
    }

    /// Ctrl-C; it has to end in order.
    fn stop(mut self) {
        signal(u64::from(self.process.id()), Signal::SIGINT);
        assert!(self.process.wait().expect("ended").success());
    }

    async fn caller(&self, user: &str, person: &str) -> Caller {
        let url = self.description()["nats_url"]
            .as_str()
            .expect("a url")
            .to_owned();
        self.caller_at(&url, user, person).await
    }

    async fn caller_at(&self, url: &str, user: &str, person: &str) -> Caller {
        let all = self.description();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let user = &all["users"][user];
        let client =
            ConnectOptions::with_user_and_password(text(&user["user"]), text(&user["password"]))
                .request_timeout(Some(Duration::from_secs(3)))
                .connect(url)
                .await
                .expect("a connection");
        Caller::new(client, text(&all["tokens"][person]))
    }

    /// All processes that `dev.json` names.
    fn pids(&self) -> Vec<u64> {
        let all = self.description();
        let servers = ["nats", "postgres", "auth"].map(|name| all["servers"][name]["pid"].clone());
        let shards = all["shards"].as_array().expect("shards").clone();
        let workers = shards
            .iter()
            .flat_map(|shard| shard["workers"].as_array().expect("workers").clone());
        let pids = servers
            .into_iter()
            .chain(workers.map(|worker| worker["pid"].clone()));
        pids.map(|pid| pid.as_u64().expect("a pid")).collect()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(pid: u64, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), signal).expect("sent");
}

fn alive(pid: u64) -> bool {
    let ps = Command::new("ps")
        .args(["-o", "stat=", "-p", &pid.to_string()])
        .output()
        .expect("ps");
    ps.status.success() && !String::from_utf8_lossy(&ps.stdout).starts_with('Z')
}

fn token(state: &Path, arguments: &[&str]) -> String {
    let output = Command::new(PROGRAM)
        .args(["dev", "token", "--state"])
        .arg(state)
        .args(arguments)
        .output();
    String::from_utf8(output.expect("ran").stdout)
        .expect("a text")
        .trim()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_is_found_again_after_ctrl_c_and_after_kill_9_and_gone_when_fresh() {
    let _permit = shared().await;
    let state = kept_directory().join("dev");
    let dev = Dev::start(&state, &[]);
    let all = dev.description();
    assert_eq!(
        all["auth"],
        json!({"verify_subject": "auth.v1.verify", "revoked_subject": "auth.v1.revoked"})
    );
    for user in ["gateway", "gateway2", "auth", "operator"] {
        assert!(all["users"][user]["password"].is_string(), "{user}");
    }
    assert_eq!(all["shards"].as_array().map(Vec::len), Some(2));
    assert!(
        all["shards"][0]["postgres_url"]
            .as_str()
            .expect("a url")
            .starts_with("postgres://")
    );
    assert_eq!(
        dev.pids().len(),
        7,
        "three servers and four workers, each a process of its own"
    );
    dev.caller("gateway", "alice")
        .await
        .put_text("a", "note", "x")
        .await;
    assert_eq!(
        dev.caller("gateway2", "bob")
            .await
            .done("b.list", &json!({}))
            .await["items"],
        json!([])
    );
    let pids = dev.pids();
    dev.stop();
    assert!(!pids.into_iter().any(alive), "all have ended with it");

    let dev = Dev::start(&state, &[]);
    let get = json!({"kind": "text", "id": "note"});
    dev.caller("gateway", "alice")
        .await
        .done("b.get", &get)
        .await;
    let pids = dev.pids();
    signal(u64::from(dev.process.id()), Signal::SIGKILL);
    drop(dev);
    let again = Dev::start(&state, &[]);
    assert!(
        !pids.into_iter().any(alive),
        "nothing of the killed run is left"
    );
    again
        .caller("gateway", "alice")
        .await
        .done("a.get", &get)
        .await;
    again.stop();

    let fresh = Dev::start(&state, &["--fresh"]);
    fresh
        .caller("gateway", "alice")
        .await
        .ask("a.get", &get)
        .await
        .refusal("not_found");
    fresh.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_with_leaves_is_one_command_too() {
    let state = kept_directory().join("dev");
    let leaf = ["--topology", "leaf"];
    let dev = Dev::start(&state, &leaf);
    let all = dev.description();
    let url = |shard: usize| {
        all["shards"][shard]["nats_url"]
            .as_str()
            .expect("a url")
            .to_owned()
    };
    assert_eq!(
        (&all["topology"], all["nats_url"].as_str()),
        (&json!("leaf"), Some(url(0).as_str()))
    );
    assert_ne!(url(0), url(1));
    let (here, there) = (
        dev.caller("gateway", "alice").await,
        dev.caller_at(&url(1), "gateway2", "alice").await,
    );
    let put = here.put_text("a", "note", "x").await;
    let get = json!({"kind": "text", "id": "note"});
    assert_eq!(there.done("get", &get).await["item"], put["item"]);
    assert_eq!(
        there.done("version", &json!({})).await["shard"],
        "b",
        "the worker that is near"
    );
    dev.caller("gateway", "bob")
        .await
        .put_text("b", "note", "kept")
        .await;
    // What is taken back at the auth service is heard at every leaf.
    let revoked = Command::new(PROGRAM)
        .args(["dev", "revoke", "--sub", "alice", "--state"])
        .arg(&state)
        .status();
    assert!(revoked.expect("ran").success());
    wait_until("a revocation is heard", || {
        let log = |worker: &str| {
            std::fs::read_to_string(state.join(format!("log/worker-{worker}.log"))).expect("a log")
        };
        ["a-0", "a-1", "b-0", "b-1"]
            .into_iter()
            .all(|worker| log(worker).contains("revo"))
    });
    let pids: Vec<u64> = dev.pids().into_iter().chain(leaf_pids(&all)).collect();
    signal(u64::from(dev.process.id()), Signal::SIGKILL);
    drop(dev);
    wait_until("everything has ended", || !pids.iter().copied().any(alive));
    let again = Dev::start(&state, &leaf);
    let kept = again
        .caller("gateway", "bob")
        .await
        .done("a.get", &get)
        .await;
    assert_eq!(kept["item"]["data"]["text"], "kept");
    again.stop();
    // Alone, it is another platform, and what that one keeps is its own.
    let alone = Dev::start(&state, &[]);
    assert_eq!(alone.description()["topology"], "single");
    assert!(alone.description()["servers"]["hub"].is_null());
    alone
        .caller("gateway", "bob")
        .await
        .ask("a.get", &get)
        .await
        .refusal("not_found");
    alone.stop();
}

/// The processes that only this topology has.
fn leaf_pids(all: &Value) -> Vec<u64> {
    let hub = [
        &all["servers"]["hub"]["pid"],
        &all["shards"][1]["nats"]["pid"],
    ];
    hub.into_iter()
        .map(|pid| pid.as_u64().expect("a pid"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_killed_is_started_again_when_that_is_asked_for() {
    let _permit = shared().await;
    let state = kept_directory().join("dev");
    let dev = Dev::start(&state, &[]);
    let alice = dev.caller("gateway", "alice").await;
    alice.put_text("a", "note", "x").await;
    let pid = |all: &Value, name: &str| match name {
        "worker-a-0" => all["shards"][0]["workers"][0]["pid"]
            .as_u64()
            .expect("a pid"),
        name => all["servers"][name]["pid"].as_u64().expect("a pid"),
    };
    for name in ["worker-a-0", "auth", "postgres", "nats"] {
        let before = pid(&dev.description(), name);
        signal(before, Signal::SIGKILL);
        let again = Command::new(PROGRAM)
            .args(["dev", "restart", name, "--state"])
            .arg(&state)
            .output()
            .expect("ran");
        assert!(
            again.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&again.stderr)
        );
        let after = pid(&dev.description(), name);
        assert!(after != before && alive(after), "{name} runs anew");
    }
    let known = Command::new(PROGRAM)
        .args(["dev", "restart", "nobody", "--state"])
        .arg(&state)
        .output()
        .expect("ran");
    let told = String::from_utf8_lossy(&known.stderr).into_owned();
    assert!(
        !known.status.success() && told.contains("worker-b-1"),
        "{told}"
    );
    let mut kept = Value::Null;
    for _ in 0..200 {
        let asked = alice
            .client
            .request_with_headers("favorites.v1.shard.a.list", alice.headers(), "{}".into())
            .await;
        kept = asked
            .map(|reply| serde_json::from_slice(&reply.payload).expect("JSON"))
            .unwrap_or_default();
        if kept["items"].is_array() && kept["stale"].is_null() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(kept["items"][0]["id"], "note", "{kept}");
    dev.stop();
}

/// Which worker of shard `a` projects, by its log: of two, the one that said so last.
fn projecting(state: &Path) -> usize {
    let log = |worker: usize| {
        std::fs::read_to_string(state.join(format!("log/worker-a-{worker}.log"))).expect("a log")
    };
    let projects = |worker: usize| log(worker).contains("this worker projects");
    assert!(
        projects(0) != projects(1),
        "one worker of the shard projects"
    );
    usize::from(projects(1))
}

/// How long it takes until a write is answered with its row in shard `a`'s Postgres. What is sent to a worker that is
/// not there has no reply.
async fn time_until_projected(alice: &Caller) -> Duration {
    let since = Instant::now();
    for number in 1.. {
        let body =
            json!({"kind": "text", "id": format!("n{number}"), "data": {"text": "x"}}).to_string();
        let subject = "favorites.v1.shard.a.put";
        let asked = alice
            .client
            .request_with_headers(subject, alice.headers(), body.into());
        let Ok(Ok(reply)) = tokio::time::timeout(Duration::from_millis(700), asked).await else {
            continue;
        };
        let reply: Value = serde_json::from_slice(&reply.payload).expect("JSON");
        if reply["item"]["version"].is_u64() && reply.get("local").is_none() {
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "nobody projects");
    }
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_stays_dead_and_another_takes_the_projection_over_within_two_seconds() {
    let _permit = exclusive().await;
    let state = kept_directory().join("dev");
    let dev = Dev::start(&state, &[]);
    let alice = dev.caller("gateway", "alice").await;
    alice.put_text("a", "note-0", "x").await;
    let pid = dev.description()["shards"][0]["workers"][projecting(&state)]["pid"]
        .as_u64()
        .expect("a pid");
    signal(pid, Signal::SIGKILL);
    let took = time_until_projected(&alice).await;
    println!(
        "the projection was taken over {} ms after kill -9",
        took.as_millis()
    );
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(!alive(pid), "a killed worker is not started again");
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_worker_loses_the_projection_to_another() {
    let _permit = exclusive().await;
    let state = kept_directory().join("dev");
    let dev = Dev::start(&state, &[]);
    let alice = dev.caller("gateway", "alice").await;
    alice.put_text("a", "note-0", "x").await;
    let pid = dev.description()["shards"][0]["workers"][projecting(&state)]["pid"]
        .as_u64()
        .expect("a pid");
    signal(pid, Signal::SIGSTOP);
    let took = time_until_projected(&alice).await;
    signal(pid, Signal::SIGCONT);
    println!(
        "the projection was taken over {} ms after a pause began",
        took.as_millis()
    );
    assert!(took < Duration::from_secs(8), "{took:?}");
    // Back again, it finds that it is no longer the one.
    for number in 0..20 {
        alice.put_text("a", &format!("after-{number}"), "x").await;
    }
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_as_long_and_for_as_much_as_it_was_made_for() {
    let _permit = shared().await;
    let state = kept_directory().join("dev");
    let dev = Dev::start(&state, &[]);
    let alice = dev.caller("gateway", "alice").await;
    let reader = alice.with_token(&token(
        &state,
        &[
            "--sub",
            "carol",
            "--scope",
            "favorites:read",
            "--ttl",
            "60s",
        ],
    ));
    reader.done("a.list", &json!({})).await;
    reader
        .ask("a.put", &json!({"kind": "text", "data": {"text": "x"}}))
        .await
        .refusal("forbidden");
    let short = alice.with_token(&token(&state, &["--sub", "carol", "--ttl", "1s"]));
    let until = Instant::now() + Duration::from_secs(10);
    while short.ask("a.list", &json!({})).await.body["error"]["code"] != "unauthenticated" {
        assert!(Instant::now() < until, "an expired token is still good");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    dev.stop();
}

/// What a command of the client gives.
fn cli(state: &Path, arguments: &[&str]) -> Output {
    let script = format!(". {}/alice.env; exec {PROGRAM} \"$@\"", state.display());
    Command::new("sh")
        .args(["-c", &script, "sh"])
        .args(arguments)
        .output()
        .expect("ran")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_shows_what_is_kept_and_tells_a_refusal() {
    let _permit = shared().await;
    let state = kept_directory().join("dev");
    let dev = Dev::start(&state, &[]);
    let done = |arguments: &[&str]| {
        let output = cli(&state, arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("a text")
    };
    let refused = |arguments: &[&str]| {
        let output = cli(&state, arguments);
        assert!(
            output.status.code().is_some_and(|code| code != 0),
            "{arguments:?}"
        );
        String::from_utf8(output.stderr).expect("a text")
    };
    assert!(done(&["list"]).contains("nothing kept yet"));
    let apple = [
        "put",
        "instrument",
        "US0378331005",
        "--type",
        "stock",
        "--ticker",
        "AAPL",
    ];
    assert!(
        done(
            &[
                &apple[..],
                &[
                    "--tag",
                    "tech",
                    "--meta",
                    "broker=x",
                    "--name",
                    "Apple Inc."
                ]
            ]
            .concat()
        )
        .contains("kept")
    );
    assert!(done(&["put", "text", "shopping", "--text", "milk"]).contains("shopping"));
    let list = done(&["list", "--shard", "b", "--consistency", "strong"]);
    assert!(
        list.contains("US0378331005")
            && list.contains("stock AAPL Apple Inc.")
            && list.contains("milk"),
        "{list}"
    );
    let json: Value =
        serde_json::from_str(&done(&["list", "--json", "--tag", "tech"])).expect("JSON");
    assert_eq!(json["items"].as_array().map(Vec::len), Some(1));
    let got = done(&["get", "instrument", "US0378331005"]);
    assert!(got.contains("meta broker") && got.contains("AAPL"), "{got}");
    assert!(
        done(&[
            "get",
            "text",
            "shopping",
            "--json",
            "--consistency",
            "strong"
        ])
        .contains("\"milk\"")
    );
    assert!(refused(&[&apple[..], &["--if-version", "1"]].concat()).contains("version_conflict"));
    assert!(
        refused(&["put", "instrument", "US0378331006", "--type", "stock"]).contains("expected 5")
    );
    assert!(refused(&["put", "text", "x", "--type", "stock"]).contains("--text"));
    assert!(refused(&["put", "text", "x", "--text", "y", "--meta", "z"]).contains("key=value"));
    assert!(refused(&["get", "text", "none"]).contains("not_found"));
    assert!(refused(&["list", "--token", ""]).contains("GOFAVORITES_TOKEN"));
    assert!(refused(&["list", "--shard", "nowhere"]).contains("nobody answers"));
    assert!(done(&["rm", "text", "shopping", "--json"]).contains("\"deleted\": true"));
    assert!(done(&["rm", "instrument", "us0378331005"]).contains("deleted"));
    let version = done(&["version"]);
    assert!(
        version.starts_with("client ") && version.contains("service  gofavorites"),
        "{version}"
    );
    let version: Value = serde_json::from_str(&done(&["version", "--json"])).expect("JSON");
    assert_eq!(version["client"]["commit"], version["service"]["commit"]);
    let own = Command::new(PROGRAM)
        .arg("version")
        .env_remove("GOFAVORITES_URL")
        .output()
        .expect("ran");
    assert_eq!(
        String::from_utf8_lossy(&own.stdout).lines().count(),
        1,
        "without a server, its own only"
    );
    dev.stop();
}

#[tokio::test]
async fn the_whole_story_goes_as_told() {
    let _permit = shared().await;
    let told = Command::new(PROGRAM)
        .args(["dev", "demo"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let told = told.expect("ran");
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(
        told.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&told.stderr)
    );
    assert_eq!(text.matches('✓').count(), 10, "{text}");
}
