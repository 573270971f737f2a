//! The command line, as people and scripts use it: the program itself runs against real workers.

use crate::harness::{Caller, Proxy, World, isin, with_user_in};
use crate::maintain::{delete, maintain, settings};
use async_nats::{Client, Message};
use futures::StreamExt as _;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::secrets::Secrets;
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::Command;

/// A user at a terminal.
pub(crate) struct Person {
    url: String,
    password: String,
    pub token: String,
    pub home: PathBuf,
}

/// How a command ended.
pub(crate) struct Outcome {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Person {
    pub fn new(world: &World, caller: &Caller) -> Self {
        Self {
            url: world.nats.url(),
            password: world.secrets.nats("gateway").into(),
            token: caller.token.to_string(),
            home: world.directory.clone(),
        }
    }

    /// Returns the program with these arguments and a minimal environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gofavorites"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", &self.home)
            .env("TMPDIR", &self.home)
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null());

        command
    }

    /// Returns the same with the connection and the token in the environment.
    pub fn connected(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command
            .env("GOFAVORITES_URL", &self.url)
            .env("GOFAVORITES_USER", "gateway")
            .env("GOFAVORITES_PASSWORD", &self.password)
            .env("GOFAVORITES_TOKEN", &self.token);

        command
    }

    /// Runs a command, and asserts that it prints no secret.
    pub async fn run(&self, mut command: Command) -> Outcome {
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().await.expect("it starts");
        let out = String::from_utf8(stdout).expect("UTF-8");
        let err = String::from_utf8(stderr).expect("UTF-8");

        for printed in [&out, &err] {
            assert!(!printed.contains(&self.token), "the token is printed");
            assert!(!printed.contains(&self.password), "a password is printed");
        }

        Outcome {
            code: status.code().expect("an exit code"),
            out,
            err,
        }
    }

    /// Runs a command that must succeed, and returns its standard output.
    pub async fn succeeds(&self, arguments: &[&str]) -> String {
        let Outcome { code, out, err } = self.run(self.connected(arguments)).await;

        assert_eq!(code, 0, "{arguments:?}: {err}");

        out
    }

    /// Runs a command that must end with that exit code, and returns its standard error.
    pub async fn fails(&self, arguments: &[&str], expected: i32) -> String {
        let Outcome { code, out, err } = self.run(self.connected(arguments)).await;

        assert_eq!(code, expected, "{arguments:?}: {out}{err}");

        err
    }

    /// Runs a command that reads this from its standard input.
    pub async fn run_with_input(&self, arguments: &[&str], input: &str) -> Outcome {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(input.as_bytes()).expect("written");
        file.rewind().expect("at the beginning");

        let mut command = self.connected(arguments);
        command.stdin(file);

        self.run(command).await
    }

    /// Runs a command that must succeed, and returns its output with `--json`.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let out = self.succeeds(&[arguments, &["--json"]].concat()).await;

        serde_json::from_str(&out).expect("JSON")
    }
}

/// Writes a file that can be executed.
fn write_program(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, Permissions::from_mode(0o700)).expect("set");
}

/// Returns the next line of a running command.
pub(crate) async fn next_line<R: AsyncBufRead + Unpin>(lines: &mut Lines<R>) -> String {
    lines.next_line().await.expect("read").expect("a line")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_is_stored_shown_listed_edited_and_removed() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let id = isin(1);
    let put = ["put", "instrument", &id, "--type", "stock"];
    let put = [&put[..], &["--tag", "tech", "--meta", "broker=x"]].concat();

    let kept = alice.succeeds(&put).await;
    let expected = format!("kept instrument {id} at version ");
    assert!(kept.starts_with(&expected), "{kept}");

    let get = ["get", "instrument", &id, "--shard", "b"];
    let got = alice.json(&get).await;
    assert_eq!(got["item"]["meta"], json!({"broker": "x"}));
    assert_eq!(got["item"]["tags"], json!(["tech"]));

    for number in 0..7 {
        let id = format!("note-{number}");
        alice
            .succeeds(&["put", "text", &id, "--text", "milk"])
            .await;
    }

    let list = alice.succeeds(&["list"]).await;
    let heading = list.lines().next().expect("a heading");
    assert_eq!(list.lines().count(), 9);
    assert!(heading.starts_with("KIND"), "{list}");

    let texts = ["list", "--kind", "text", "--limit", "3"];
    let texts = alice.json(&texts).await;
    assert_eq!(texts["items"].as_array().map(Vec::len), Some(3));
    assert_eq!(texts["stale"], false);

    // The editor is a program like any other.
    let mut edit = alice.connected(&["edit", "text", "note-1"]);
    edit.env("EDITOR", "sed -i.bak s/milk/bread/");
    let Outcome { code, out, err } = alice.run(edit).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("bread"), "{out}{err}");

    let mut edit = alice.connected(&["edit", "text", "note-1"]);
    edit.env("EDITOR", "true");
    assert_eq!(alice.run(edit).await.out, "nothing changed\n");

    alice.succeeds(&["rm", "text", "note-1"]).await;
    alice.fails(&["get", "text", "note-1"], 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_versions_are_shown() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);

    let limits = alice.succeeds(&["limits"]).await;
    let version = alice.succeeds(&["version"]).await;

    let items = limits.lines().find(|line| line.starts_with("items "));
    assert!(items.is_some_and(|line| line.contains("500")), "{limits}");
    assert!(version.contains("service  gofavorites"), "{version}");
}

/// Returns the file in which an edit was saved, as the command's error names it.
fn saved_edit(err: &str) -> &str {
    err.lines()
        .find_map(|line| line.strip_prefix("what you wrote is in "))
        .expect("named")
}

/// Goal: what a user wrote is saved in a private file if the service refuses it.
///
/// Method: the editor first writes a field that does not exist. Then it changes the item while
/// another command, which the editor runs, changes it too.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_edit_is_not_lost() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let caller = world.caller("alice").await;
    let alice = Person::new(&world, &caller);
    caller.put_text("a", "note", "milk").await;

    let mut edit = alice.connected(&["edit", "text", "note", "--whole"]);
    edit.env("EDITOR", "sed -i.bak s/text/txet/");
    let Outcome { code, err, .. } = alice.run(edit).await;
    assert_eq!(code, 5, "{err}");

    let file = saved_edit(&err);
    let metadata = fs::metadata(file).expect("there");
    let saved = fs::read_to_string(file).expect("readable");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert!(saved.contains("txet"));
    fs::remove_file(file).expect("removed");

    let editor = world.directory.join("editor");
    let program = env!("CARGO_BIN_EXE_gofavorites");
    write_program(
        &editor,
        &format!(
            "#!/bin/sh\n\
             {program} put text note --text eggs >/dev/null\n\
             sed -i.bak s/milk/bread/ \"$1\"\n"
        ),
    );
    let mut edit = alice.connected(&["edit", "text", "note"]);
    edit.env("VISUAL", &editor);
    let Outcome { code, err, .. } = alice.run(edit).await;
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("version_conflict"), "{err}");
    fs::remove_file(saved_edit(&err)).expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_an_exit_code_and_says_what_to_fix() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let caller = world.caller("alice").await;
    let alice = Person::new(&world, &caller);
    let put = caller.put_text("a", "note", "x").await;
    let version = put["item"]["version"].to_string();
    caller.put_text("a", "note", "y").await;

    let none = alice.fails(&["get", "text", "none"], 3).await;
    assert!(none.contains("not_found"), "{none}");

    let put = ["put", "text", "note", "--text", "z"];
    let if_version = [&put[..], &["--if-version", &version]].concat();
    let if_owner_version = [&put[..], &["--if-owner-version", &version]].concat();
    let conflict = alice.fails(&if_version, 4).await;
    assert!(conflict.contains("the item is at version"), "{conflict}");
    alice.fails(&if_owner_version, 4).await;

    let wrong_check_digit = ["put", "instrument", "US0378331006", "--type", "stock"];
    let invalid = alice.fails(&wrong_check_digit, 5).await;
    assert!(invalid.contains("expected 5"), "{invalid}");

    let unknown_type = ["put", "instrument", &isin(1), "--type", "cheese"];
    alice.fails(&unknown_type, 2).await;

    let never_written = ["get", "text", "note", "--min-version", "9000000"];
    alice.fails(&never_written, 5).await;
    alice.fails(&["list", "--min-version", "9000000"], 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_has_its_exit_code() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);

    for wrong in [
        &["put", "text", "note", "--type", "stock"][..],
        &["put", "instrument", "--type", "stock"],
        &["put", "instrument", "x", "--text", "y"],
        &["put", "text", "note", "--text", "x", "--meta", "y"],
        &["put", "text", "note", "--text", "x", "--request-id", "a\nb"],
        &["list", "--token", "a\nb"],
        &["list", "--limit", "0"],
        &["put"],
    ] {
        let err = alice.fails(wrong, 2).await;

        assert!(!err.contains("panicked"), "{wrong:?}: {err}");
    }

    let err = alice.fails(&["list", "--token", "a\nb"], 2).await;
    assert!(err.contains("--token"), "{err}");

    let rm = ["rm", "text", "x", "--request-id", "a\nb"];
    let err = alice.fails(&rm, 2).await;
    assert!(err.contains("--request-id"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_above_the_servers_limit_is_not_sent() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let caller = world.caller("alice").await;
    let alice = Person::new(&world, &caller);
    caller.put_text("a", "note", "x").await;
    let long = "x".repeat(1_100_000);
    let editor = world.directory.join("long");
    write_program(
        &editor,
        &format!("#!/bin/sh\ncat >\"$1\" <<END\n{long}\nEND\n"),
    );

    let mut edit = alice.connected(&["edit", "text", "note"]);
    edit.env("EDITOR", &editor);
    let Outcome { code, err, .. } = alice.run(edit).await;

    assert_eq!(code, 5);
    assert!(err.contains("takes 1048576 at most"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_and_a_missing_worker_have_exit_codes() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);

    alice.fails(&["list", "--token", "nonsense"], 6).await;

    let no_worker = alice.fails(&["list", "--shard", "z"], 8).await;
    assert!(no_worker.contains("is a worker running"), "{no_worker}");

    let no_server = ["list", "--url", "nats://127.0.0.1:1", "--timeout", "1s"];
    alice.fails(&no_server, 8).await;

    let mut without_token = alice.connected(&["list"]);
    without_token.env_remove("GOFAVORITES_TOKEN");
    let Outcome { code, err, .. } = alice.run(without_token).await;
    assert_eq!(code, 6, "{err}");
    assert!(err.contains("give --token"), "{err}");
}

/// Goal: what a `put` does not name stays as it is, also when two change the item at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_keeps_what_it_does_not_name() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let id = isin(1);
    let put = async |arguments: &[&str]| {
        let arguments = [&["put", "instrument", id.as_str()], arguments].concat();
        alice.json(&arguments).await["item"].take()
    };

    put(&[
        "--type", "stock", "--tag", "one", "--meta", "a=1", "--meta", "b=2",
    ])
    .await;
    let named = put(&["--name", "Apple"]).await;
    assert_eq!(named["data"]["type"], "stock");
    assert_eq!(named["data"]["name"], "Apple");
    assert_eq!(named["tags"], json!(["one"]));
    let labelled = put(&["--tag", "two", "--untag", "one", "--unmeta", "a"]).await;
    assert_eq!(labelled["tags"], json!(["two"]));
    assert_eq!(labelled["meta"], json!({"b": "2"}));
    assert_eq!(labelled["data"], named["data"]);

    for nothing in [
        &[][..],
        &["--tag", "two"],
        &["--name", "Apple"],
        &["--untag", "x"],
    ] {
        assert_eq!(put(nothing).await, labelled, "{nothing:?}");
        let arguments = [&["put", "instrument", id.as_str()], nothing].concat();
        let Outcome { err, .. } = alice.run(alice.connected(&arguments)).await;
        assert!(err.contains("nothing to change"), "{err}");
    }
    let refused = ["put", "instrument", &id, "--tag", "x", "--if-version", "1"];
    alice.fails(&refused, 4).await;

    let tags: Vec<String> = (0..4).map(|number| format!("t{number}")).collect();
    let add = async |tag: &str| put(&["--tag", tag]).await;
    futures::future::join_all(tags.iter().map(|tag| add(tag))).await;
    let shown = alice.json(&["get", "instrument", &id]).await;
    assert_eq!(
        shown["item"]["tags"],
        json!(["t0", "t1", "t2", "t3", "two"])
    );

    let replaced = put(&["--type", "stock", "--replace", "--tag", "new"]).await;
    assert_eq!(replaced["tags"], json!(["new"]));
    assert_eq!(
        (&replaced["meta"], &replaced["data"]["name"]),
        (&json!({}), &Value::Null)
    );
}

/// Goal: a text is read as it was written.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_of_several_lines_is_read() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let text = "line one\n\n  line\u{1b}[31m two";
    alice.succeeds(&["put", "text", "st", "--text", text]).await;

    assert_eq!(alice.succeeds(&["get", "text", "st", "--raw"]).await, text);
    let shown = alice.succeeds(&["get", "text", "st"]).await;
    assert!(shown.contains("text         line one\n"), "{shown}");
    assert!(
        shown.contains("             \u{20} line [31m two\n"),
        "{shown}"
    );
    let none = alice.succeeds(&["list", "--tag", "nope"]).await;
    assert_eq!(none, "no items match\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_id_is_the_same_write() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let put = |text| ["put", "text", "once", "--text", text, "--request-id", "r1"];

    let first = alice.json(&put("x")).await;
    let again = alice.json(&put("x")).await;

    assert_eq!(again["item"], first["item"]);
    alice.fails(&put("other"), 4).await;
}

/// A request that the stand-in service received.
struct Attempt {
    request_id: String,
    at: Instant,
}

/// Replies to six puts in the place of the service. The first reply says that the write is in
/// doubt. None of the others says what became of it.
async fn never_settle(client: Client, mut requests: async_nats::Subscriber) -> Vec<Attempt> {
    let codes = [
        "in_doubt",
        "truth_unavailable",
        "auth_unavailable",
        "unauthenticated",
        "rate_limited",
    ];
    let mut attempts: Vec<Attempt> = Vec::new();

    while attempts.len() < 6 {
        let request = requests.next().await.expect("a request");
        let headers = request.headers.expect("headers");
        let error = json!({
            "code": codes[attempts.len() % codes.len()],
            "status": 503,
            "message": "x",
            "details": {"retry_after_ms": 150},
        });

        attempts.push(Attempt {
            request_id: headers.get("Nats-Msg-Id").expect("an id").to_string(),
            at: Instant::now(),
        });
        let body = json!({ "error": error }).to_string();
        client
            .publish(request.reply.expect("a reply"), body.into())
            .await
            .expect("sent");
    }

    attempts
}

/// Goal: the program repeats a write in doubt under one request id, waits as long as the replies
/// say, and ends with the exit code of a write in doubt.
///
/// Method: a stand-in replies to the puts of the command, and never settles the write.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_stays_in_doubt_until_a_reply_settles_it() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let caller = world.caller("alice").await;
    let alice = Person::new(&world, &caller);
    let stand_in = world.connect("front").await;
    let requests = stand_in
        .queue_subscribe("favorites.v1.put", "favorites".into())
        .await
        .expect("subscribed");
    stand_in.flush().await.expect("sent");
    let replying = tokio::spawn(never_settle(stand_in, requests));

    let put = [
        "put",
        "text",
        "note",
        "--text",
        "x",
        "--replace",
        "--timeout",
        "2s",
    ];
    let err = alice.fails(&put, 9).await;

    let attempts = replying.await.expect("no panic");
    assert!(err.contains("--request-id"), "{err}");
    for attempt in &attempts {
        assert!(err.contains(&attempt.request_id), "{err}");
    }

    let waits: Vec<Duration> = attempts
        .windows(2)
        .map(|pair| pair[1].at - pair[0].at)
        .collect();
    assert!(waits[0] >= Duration::from_millis(90), "{waits:?}");
    for wait in &waits[1..] {
        assert!(
            *wait >= Duration::from_millis(140),
            "it waits as long as the reply says: {waits:?}"
        );
    }
}

/// Goal: a context supplies the connection, the shard and the token; a flag overrides it, and a
/// file with a secret must not be readable by others.
///
/// Method: a user writes `contexts.toml` and a token file, and runs commands without a
/// connection in the environment.
#[tokio::test(flavor = "multi_thread")]
async fn a_context_supplies_options_that_are_not_given() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let config = world.directory.join(".config/gofavorites");
    let file = config.join("contexts.toml");
    let token_file = world.directory.join("token");
    let context = format!(
        "default = \"b\"\n\
         [context.b]\nurl = {:?}\nuser = \"gateway\"\npassword = {:?}\nshard = \"b\"\n\
         token_file = {token_file:?}\n",
        alice.url, alice.password,
    );
    fs::create_dir_all(&config).expect("a directory");
    fs::write(&token_file, format!("{}\n", alice.token)).expect("written");
    fs::write(&file, context).expect("written");
    fs::set_permissions(&token_file, Permissions::from_mode(0o600)).expect("set");

    let Outcome { code, err, .. } = alice.run(alice.command(&["list"])).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("chmod 600"), "{err}");

    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("set");
    let version = alice.command(&["version", "--json"]);
    let Outcome { code, out, .. } = alice.run(version).await;
    let version: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(code, 0);
    assert_eq!(version["shard"], "b");

    let on_a = alice.command(&["version", "--json", "--shard", "a"]);
    let version: Value = serde_json::from_str(&alice.run(on_a).await.out).expect("JSON");
    assert_eq!(version["shard"], "a", "a flag overrides the context");

    let list = alice.run(alice.command(&["list"])).await;
    assert_eq!(list.out, "nothing kept yet\n");

    let unknown = alice.command(&["list", "--context", "c"]);
    let Outcome { code, err, .. } = alice.run(unknown).await;
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("there is no context c"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn help_and_completions_work_also_with_a_closed_pipe() {
    let world = World::start().await;
    let user = Person::new(&world, &world.caller("alice").await);

    for command in [
        "put",
        "get",
        "list",
        "rm",
        "edit",
        "limits",
        "version",
        "health",
        "completions",
    ] {
        let Outcome { code, out, .. } = user.run(user.connected(&[command, "--help"])).await;

        assert_eq!(code, 0, "{command}");
        assert!(
            out.contains("Example") || command == "version",
            "{command}: {out}"
        );
    }

    let help = user.run(user.command(&["--help"])).await;
    assert!(help.out.contains("9  in doubt"));

    for shell in ["bash", "zsh", "fish"] {
        let completions = user.run(user.command(&["completions", shell])).await;
        assert!(completions.out.contains("gofavorites"));
    }

    let mut piped = user.command(&["completions", "bash"]);
    let mut child = piped
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let ended = child.wait_with_output().await.expect("it ends");
    let err = String::from_utf8_lossy(&ended.stderr);
    assert!(err.is_empty(), "{err}");
}

/// Goal: `health` tells healthy, degraded and unhealthy workers apart; only unhealthy ones make it
/// fail.
///
/// Method: no worker runs at first. Then one runs whose link to Postgres is cut, and it is stopped.
#[tokio::test(flavor = "multi_thread")]
async fn health_distinguishes_healthy_degraded_and_unhealthy() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.worker.id = "one".into();
    let (start, rest) = settings.postgres.url.split_once('@').expect("a user");
    let (target, database) = rest.split_once('/').expect("a database");
    let link = Proxy::start(target).await;
    settings.postgres.url = format!("{start}@127.0.0.1:{}/{database}", link.port());
    let alice = Person::new(&world, &world.caller("alice").await);

    let unhealthy = alice.fails(&["health"], 8).await;
    assert!(unhealthy.contains("unhealthy"), "{unhealthy}");

    let as_json = alice.connected(&["health", "--json"]);
    let Outcome { code, out, .. } = alice.run(as_json).await;
    let workers: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(code, 8);
    assert_eq!(workers, json!({"workers": []}));

    let worker = world.worker_with(settings).await;
    let healthy = alice.succeeds(&["health", "--worker", "one"]).await;
    let row = healthy.lines().nth(1).expect("a row");
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(row[..3], ["a", "one", "healthy"], "{healthy}");

    link.cut();
    let mut health = String::new();
    for _ in 0..100 {
        health = alice.succeeds(&["health"]).await;
        if health.contains("postgres:") {
            break;
        }
    }
    assert!(
        health.contains("one is degraded: postgres: "),
        "only unhealthy workers make it fail: {health}"
    );
    let health = alice.json(&["health"]).await;
    assert_eq!(health["workers"][0]["data"]["state"], "degraded");

    worker.stop().await.expect("stopped in order");
    alice.fails(&["health", "--worker", "one"], 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn config_shows_effective_settings_and_hides_secrets() {
    let world = World::start().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let path = world.directory.join("worker.toml");
    let file = path.to_str().expect("UTF-8");
    let Secrets {
        identity,
        encryption,
        ..
    } = &world.secrets;
    let verdict_keys = world.secrets.verdict_jwks().expect("a key set");
    let text = format!(
        "[shard]\nid = \"a\"\n\
         [nats.truth]\nuser = \"u\"\npassword = \"hush\"\n\
         [postgres]\nurl = \"postgres://u:hush@h/d\"\n\
         [keys]\nidentity = \"{identity}\"\nencryption = \"{encryption}\"\n\
         [auth]\nissuer = \"i\"\nverdict_keys = {verdict_keys:?}\n"
    );
    fs::write(&path, text).expect("written");

    let mut config = alice.command(&["config", "--config", file]);
    config.env("GOFAVORITES__LIMITS__PAGE", "7");
    let Outcome { code, out, err } = alice.run(config).await;
    assert_eq!(code, 0, "{err}");
    for secret in ["hush", identity, encryption] {
        assert!(!out.contains(secret), "{out}");
    }
    assert!(out.contains("postgres://(hidden)@h/d"), "{out}");
    let has = |setting: &str, place: &str| {
        out.lines()
            .any(|line| line.starts_with(setting) && line.ends_with(&format!("# {place}")))
    };
    assert!(has("id = \"a\"", &format!("{file}:2")), "{out}");
    assert!(has("page = 7", "GOFAVORITES__LIMITS__PAGE"), "{out}");
    assert!(has("page_max = ", "default"), "{out}");
    assert!(out.contains("# A worker can start with these"), "{out}");

    let shown: toml::Value = toml::from_str(&out).expect("TOML");
    let page = shown["limits"]["page"].as_integer();
    assert_eq!(page, Some(7), "the environment overrides the file");
    assert_eq!(shown["keys"]["identity"].as_str(), Some("(hidden)"));

    let mut wrong = alice.command(&["config", "--config", file]);
    wrong.env("GOFAVORITES__LIMITS__PAGE", "0");
    let Outcome { code, out, err } = alice.run(wrong).await;
    assert_eq!(code, 2, "{err}");
    assert!(
        err.contains("limits.page: from 1 to limits.page_max (GOFAVORITES__LIMITS__PAGE)"),
        "{err}"
    );
    assert!(out.contains("[limits]"), "{err}");
    assert!(!out.contains("can start"), "{out}");

    let changed = alice.command(&["config", "--changed", "--config", file]);
    let out = alice.run(changed).await.out;
    assert!(out.starts_with("nats.truth.user = \"u\" "), "{out}");
    assert!(out.contains(&format!(" # {file}:4\n")), "{out}");
    assert!(!out.contains("default"), "{out}");

    let malformed = "keys.identity = \"hush\"\npostgres.url = \"x\"\nauth.verdict_keys = \"k\"\n";
    fs::write(&path, malformed).expect("written");
    let malformed = alice
        .run(alice.command(&["config", "--config", file]))
        .await;
    for part in [
        "keys.identity: has to be 32",
        "postgres.url: has",
        "shard.id: name the shard",
    ] {
        assert!(malformed.err.contains(part), "{}", malformed.err);
    }
    assert!(!malformed.err.contains("hush"), "{}", malformed.err);

    let nothing = alice.run(alice.command(&["verify"])).await;
    assert_eq!(nothing.code, 2);
    assert!(nothing.err.contains("--config"), "{}", nothing.err);
    assert_eq!(nothing.err.lines().count(), 1, "{}", nothing.err);
}

/// Goal: a user sees what changed and the versions of an item, and restores one of them.
///
/// Method: one user puts a text twice, and puts and deletes another text. The commands then read
/// on both shards.
#[tokio::test(flavor = "multi_thread")]
async fn changes_and_history_are_shown_and_versions_restored() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let note = |text| ["put", "text", "note", "--text", text];

    let changes = alice.succeeds(&["changes", "--since", "0"]).await;
    assert_eq!(changes, "nothing changed since 0: you are at version 0\n");

    let first = [&note("milk")[..], &["--tag", "todo"]].concat();
    alice.succeeds(&first).await;
    let first = alice.json(&["get", "text", "note"]).await;
    let first = first["item"]["version"].as_u64().expect("a version");
    let version = first.to_string();
    alice.succeeds(&note("bread")).await;
    alice
        .succeeds(&["put", "text", "other", "--text", "x"])
        .await;
    alice.succeeds(&["rm", "text", "other"]).await;

    let on_b = ["changes", "--since", "0", "--shard", "b"];
    let changes = alice.succeeds(&on_b).await;
    let lines: Vec<&str> = changes.lines().collect();
    assert_eq!(lines.len(), 3, "{changes}");
    assert!(lines[1].contains("bread"), "{changes}");
    assert!(lines[2].contains("deleted"), "{changes}");

    let since_first = alice.json(&["changes", "--since", &version]).await;
    assert_eq!(since_first["items"].as_array().map(Vec::len), Some(2));
    alice.fails(&["changes", "--since", "99999"], 5).await;

    let history = alice.succeeds(&["history", "text", "note"]).await;
    let lines: Vec<&str> = history.lines().collect();
    assert!(lines[1].contains("bread"), "{history}");
    assert!(lines[2].contains("milk"), "{history}");
    assert!(lines[2].contains("todo"), "{history}");

    let newest = ["history", "text", "note", "--limit", "1"];
    let newest = alice.run(alice.connected(&newest)).await;
    assert!(
        newest.err.starts_with("there are older ones: "),
        "{}",
        newest.err
    );

    let restore = |version| ["restore", "text", "note", "--version", version];
    let restored = alice.succeeds(&restore(&version)).await;
    let expected = format!("as at {first}: milk\n");
    assert!(restored.ends_with(&expected), "{restored}");
    alice.fails(&restore("1"), 3).await;
    let if_version = ["--if-version", &version];
    let outdated = [&restore(&version)[..], &if_version].concat();
    alice.fails(&outdated, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_read_from_a_file_or_standard_input() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let ops = [
        json!({"op": "put", "kind": "text", "id": "one", "data": {"text": "milk"}}),
        json!({"op": "delete", "kind": "text", "id": "absent"}),
        json!({"op": "put", "kind": "text", "id": "two", "data": {"text": "bread"}}),
    ];
    let path = world.directory.join("ops.json");
    let file = path.to_str().expect("UTF-8");
    fs::write(file, json!(ops).to_string()).expect("written");

    let atomic = alice.fails(&["batch", file], 3).await;
    assert!(
        atomic.contains("not_found (404): operation 1: "),
        "{atomic}"
    );
    alice.fails(&["get", "text", "one"], 3).await;

    // With --each, every operation that can be done is done. The exit code is that of the first
    // one that fails.
    let lines_file = world.directory.join("ops.jsonl");
    let lines = ops.iter().map(|op| format!("{op}\n")).collect::<String>();
    fs::write(&lines_file, lines).expect("written");
    let mut each = alice.connected(&["batch", "--each", "-"]);
    each.stdin(fs::File::open(&lines_file).expect("opened"));
    let Outcome { code, out, .. } = alice.run(each).await;
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(code, 3, "{out}");
    assert_eq!(lines.len(), 3, "{out}");
    assert!(
        lines[0].starts_with("0: kept text one at version "),
        "{out}"
    );
    assert!(lines[1].starts_with("1: not_found (404)"), "{out}");
    assert!(lines[2].ends_with("bread"), "{out}");

    fs::write(file, "{}\nx").expect("written");
    let malformed = alice.fails(&["batch", file], 2).await;
    assert!(malformed.contains("line 2 is not JSON"), "{malformed}");

    let secret = json!([{"op": "put", "kind": "codes", "id": "x", "data": {"codes": ["hush"]}}]);
    fs::write(file, secret.to_string()).expect("written");
    fs::set_permissions(file, Permissions::from_mode(0o644)).expect("set");
    let readable = alice.fails(&["batch", file], 1).await;
    assert!(readable.contains("chmod 600"), "{readable}");

    let missing = alice.fails(&["batch", "nowhere.json"], 2).await;
    assert!(missing.contains("cannot be read"), "{missing}");
}

/// Goal: `watch` prints each change soon after it happened, whichever shard it was made on.
///
/// Method: a user watches while a caller with the same owner puts texts on two shards in turn.
#[tokio::test(flavor = "multi_thread")]
async fn watch_shows_changes_as_they_happen() {
    let (world, _a, _b) = World::with_two_shards().await;
    let caller = world.caller("alice").await;
    let alice = Person::new(&world, &caller);
    caller.put_text("a", "before", "x").await;

    let mut watch = alice
        .connected(&["watch", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let mut messages = BufReader::new(watch.stderr.take().expect("piped")).lines();
    let mut changes = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let message = next_line(&mut messages).await;
    assert!(message.starts_with("watching from version "), "{message}");

    for number in 0..5 {
        let start = Instant::now();
        let shard = if number % 2 == 0 { "a" } else { "b" };
        let put = caller.put_text(shard, &format!("note-{number}"), "x").await;
        let line = tokio::time::timeout(Duration::from_secs(5), next_line(&mut changes))
            .await
            .expect("in time");

        let item: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(item, put["item"]);
        println!("shown {:?} after the request", start.elapsed());
    }

    watch.kill().await.expect("ended");
}

/// Relays `changes` requests from the prefix `overtaken` to the service. In each of the first walks
/// it deletes an item before the second page, and maintenance forgets the deletion.
async fn relay_changes(world: &World, caller: &Caller, overtaken_walks: usize) {
    let breaker = world.connect_breaker().await;
    let settings = settings(world);
    let mut requests = breaker
        .subscribe("overtaken.v1.changes")
        .await
        .expect("a subscription");
    breaker.flush().await.expect("subscribed");
    let mut overtaken = 0;

    while let Some(request) = requests.next().await {
        let body: Value = serde_json::from_slice(&request.payload).expect("JSON");
        if body["since"] != 0 && overtaken < overtaken_walks {
            delete(caller, "a", &format!("n-{overtaken}")).await;
            maintain(&settings).await;
            overtaken += 1;
        }

        relay(&breaker, request).await;
    }
}

async fn relay(client: &Client, request: Message) {
    let headers = request.headers.expect("headers");
    let reply_subject = request.reply.expect("a reply subject");

    let reply = client
        .request_with_headers("favorites.v1.changes", headers, request.payload)
        .await
        .expect("a reply");
    client
        .publish_with_headers(
            reply_subject,
            reply.headers.unwrap_or_default(),
            reply.payload,
        )
        .await
        .expect("sent");
}

/// Returns the program with its requests going through the relay.
fn through_relay(person: &Person, arguments: &[&str]) -> Command {
    let mut command = person.connected(arguments);
    command
        .env("GOFAVORITES_USER", "breaker")
        .env("GOFAVORITES_PASSWORD", "breaker")
        .env("GOFAVORITES_PREFIX", "overtaken");

    command
}

/// Runs `changes` and `watch` through the relay.
async fn check_through_relay(alice: &Person) {
    let from_zero = through_relay(alice, &["changes", "--since", "0", "--json"]);
    let Outcome { code, out, err } = alice.run(from_zero).await;
    let shown: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code}: {err}"));
    let items = shown["items"].as_array().expect("a list");
    let ids: Vec<&Value> = items.iter().map(|item| &item["id"]).collect();
    assert_eq!(ids.len(), 67);
    assert!(
        !ids.contains(&&json!("n-1")),
        "an item that was forgotten during the walk is not shown"
    );

    // A walk from a later version must be refused, because it may have missed a deletion.
    let since = items[0]["version"].to_string();
    let from_first = through_relay(alice, &["changes", "--since", &since]);
    assert_eq!(alice.run(from_first).await.code, 5);

    let mut watch = through_relay(alice, &["watch"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("started");
    let mut messages = BufReader::new(watch.stderr.take().expect("piped")).lines();
    let message = next_line(&mut messages).await;
    assert!(message.starts_with("watching from version "), "{message}");
    watch.kill().await.expect("ended");
}

/// Goal: a walk from version 0 shows exactly the live items, even if maintenance forgets deletions
/// during the walk. A walk from a later version is refused then.
///
/// Method: an owner has more items than a page holds. A relay between the program and the service
/// deletes an item between two pages of a walk, and runs maintenance.
#[tokio::test(flavor = "multi_thread")]
async fn changes_from_zero_are_complete_despite_maintenance() {
    // The relay is a caller in the workers' own account.
    let accounts = with_user_in(ACCOUNTS_CONF, "SERVICE", "breaker");
    let world = World::with_accounts(&accounts).await;
    let _a = world.worker("a").await;
    let caller = world.caller("alice").await;
    let alice = Person::new(&world, &caller);
    let put = |number| {
        let id = format!("n-{number}");
        json!({"op": "put", "kind": "text", "id": id, "data": {"text": "x"}})
    };
    let ops: Vec<Value> = (0..70).map(put).collect();
    let batch = json!({"mode": "atomic", "ops": ops});
    caller.done("a.batch", &batch).await;
    delete(&caller, "a", "n-60").await;
    maintain(&settings(&world)).await;

    let shown = alice.json(&["changes", "--since", "0"]).await;
    let items = shown["items"].as_array().expect("a list");
    assert_eq!(items.len(), 69, "two pages");

    tokio::select! {
        () = relay_changes(&world, &caller, 2) => panic!("the relay has ended"),
        () = check_through_relay(&alice) => {}
    }
}
