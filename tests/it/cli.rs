//! The command line as people and scripts use it: the program itself, run against real workers.

use crate::harness::{Caller, Proxy, World, isin, with_breaker};
use crate::maintain::{delete, maintain, settings};
use futures::StreamExt as _;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;

/// Somebody at a terminal.
struct Person {
    url: String,
    password: String,
    token: String,
    home: std::path::PathBuf,
}

impl Person {
    fn new(world: &World, caller: &Caller) -> Self {
        Self {
            url: world.nats.url(),
            password: world.secrets.nats("gateway").into(),
            token: caller.token.to_string(),
            home: world.directory.clone(),
        }
    }

    /// The program with these arguments, and nothing in its environment but what is given.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gofavorites"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", &self.home)
            .env("PATH", "/usr/bin:/bin");
        command.stdin(Stdio::null());
        command
    }

    fn connected(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command
            .env("GOFAVORITES_URL", &self.url)
            .env("GOFAVORITES_USER", "gateway");
        command
            .env("GOFAVORITES_PASSWORD", &self.password)
            .env("GOFAVORITES_TOKEN", &self.token);
        command
    }

    /// Runs it, and looks that nothing secret is printed.
    async fn run(&self, mut command: Command) -> (i32, String, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().await.expect("it starts");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let (out, err) = (text(stdout), text(stderr));
        for said in [&out, &err] {
            assert!(
                !said.contains(&self.token) && !said.contains(&self.password),
                "a secret is printed"
            );
        }
        (status.code().expect("an exit code"), out, err)
    }

    async fn does(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.run(self.connected(arguments)).await;
        assert_eq!(code, 0, "{arguments:?}: {err}");
        out
    }

    async fn fails(&self, arguments: &[&str], expected: i32) -> String {
        let (code, out, err) = self.run(self.connected(arguments)).await;
        assert_eq!(code, expected, "{arguments:?}: {out}{err}");
        err
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.does(&[arguments, &["--json"]].concat()).await).expect("JSON")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_is_kept_shown_listed_edited_and_removed() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let id = isin(1);
    let kept = alice
        .does(&[
            "put",
            "instrument",
            &id,
            "--type",
            "stock",
            "--tag",
            "tech",
            "--meta",
            "broker=x",
        ])
        .await;
    assert!(
        kept.starts_with(&format!("kept instrument {id} at version ")),
        "{kept}"
    );
    let got = alice
        .json(&["get", "instrument", &id, "--shard", "b"])
        .await;
    assert_eq!(
        (&got["item"]["meta"], &got["item"]["tags"]),
        (&json!({"broker": "x"}), &json!(["tech"]))
    );
    for number in 0..7 {
        alice
            .does(&["put", "text", &format!("note-{number}"), "--text", "milk"])
            .await;
    }
    let listed = alice.does(&["list"]).await;
    assert_eq!(
        (
            listed.lines().count(),
            listed
                .lines()
                .next()
                .expect("a heading")
                .starts_with("KIND")
        ),
        (9, true)
    );
    let some = alice
        .json(&["list", "--kind", "text", "--limit", "3"])
        .await;
    assert_eq!(
        (some["items"].as_array().map(Vec::len), &some["stale"]),
        (Some(3), &json!(false))
    );
    // An editor that is a program like any other.
    let mut edit = alice.connected(&["edit", "text", "note-1"]);
    edit.env("EDITOR", "sed -i.bak s/milk/bread/");
    let (code, out, err) = alice.run(edit).await;
    assert!(code == 0 && out.contains("bread"), "{out}{err}");
    let mut nothing = alice.connected(&["edit", "text", "note-1"]);
    nothing.env("EDITOR", "true");
    assert_eq!(alice.run(nothing).await.1, "nothing changed\n");
    alice.does(&["rm", "text", "note-1"]).await;
    alice.fails(&["get", "text", "note-1"], 3).await;
    let limits = alice.does(&["limits"]).await;
    assert!(
        limits
            .lines()
            .any(|line| line.starts_with("items ") && line.contains("500")),
        "{limits}"
    );
    assert!(
        alice
            .does(&["version"])
            .await
            .contains("service  gofavorites")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_edited_and_refused_is_not_lost() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let caller = world.caller("alice").await;
    let alice = Person::new(&world, &caller);
    caller.put_text("a", "note", "milk").await;
    let mut edit = alice.connected(&["edit", "text", "note"]);
    edit.env("EDITOR", "sed -i.bak s/text/txet/");
    let (code, _, err) = alice.run(edit).await;
    assert_eq!(code, 5, "{err}");
    let file = err
        .lines()
        .find_map(|line| line.strip_prefix("what you wrote is in "))
        .expect("named");
    let kept = std::fs::metadata(file).expect("there");
    assert_eq!(kept.permissions().mode() & 0o777, 0o600);
    assert!(
        std::fs::read_to_string(file)
            .expect("readable")
            .contains("txet")
    );
    std::fs::remove_file(file).expect("removed");
    // Somebody else was quicker.
    let other = world.directory.join("editor");
    let program = env!("CARGO_BIN_EXE_gofavorites");
    let script = format!(
        "#!/bin/sh\n{program} put text note --text eggs >/dev/null\nsed -i.bak s/milk/bread/ \"$1\"\n"
    );
    std::fs::write(&other, script).expect("written");
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o700)).expect("set");
    let mut edit = alice.connected(&["edit", "text", "note"]);
    edit.env("VISUAL", &other);
    let (code, _, err) = alice.run(edit).await;
    assert!(
        code == 4 && err.contains("version_conflict") && err.contains("what you wrote is in"),
        "{err}"
    );
    let file = err
        .lines()
        .find_map(|line| line.strip_prefix("what you wrote is in "))
        .expect("named");
    std::fs::remove_file(file).expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_has_its_exit_code_and_says_what_to_mend() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let caller = world.caller("alice").await;
    let alice = Person::new(&world, &caller);
    let version = caller.put_text("a", "note", "x").await["item"]["version"].to_string();
    caller.put_text("a", "note", "y").await;
    assert!(
        alice
            .fails(&["get", "text", "none"], 3)
            .await
            .contains("not_found")
    );
    let conflict = alice
        .fails(
            &[
                "put",
                "text",
                "note",
                "--text",
                "z",
                "--if-version",
                &version,
            ],
            4,
        )
        .await;
    assert!(conflict.contains("the item is at version"), "{conflict}");
    let invalid = alice
        .fails(&["put", "instrument", "US0378331006", "--type", "stock"], 5)
        .await;
    assert!(invalid.contains("expected 5"), "{invalid}");
    alice
        .fails(&["put", "instrument", &isin(1), "--type", "cheese"], 5)
        .await;
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
        let told = alice.fails(wrong, 2).await;
        assert!(!told.contains("panicked"), "{wrong:?}: {told}");
    }
    assert!(
        alice
            .fails(&["list", "--token", "a\nb"], 2)
            .await
            .contains("--token")
    );
    assert!(
        alice
            .fails(&["rm", "text", "x", "--request-id", "a\nb"], 2)
            .await
            .contains("--request-id")
    );
    alice
        .fails(
            &[
                "put",
                "text",
                "note",
                "--text",
                "z",
                "--if-owner-version",
                &version,
            ],
            4,
        )
        .await;
    alice
        .fails(&["get", "text", "note", "--min-version", "9000000"], 5)
        .await;
    alice.fails(&["list", "--min-version", "9000000"], 5).await;
    let long = "x".repeat(1_100_000);
    let file = world.directory.join("long");
    std::fs::write(
        &file,
        format!("#!/bin/sh\ncat >\"$1\" <<END\n{{\"data\": {{\"text\": \"{long}\"}}}}\nEND\n"),
    )
    .expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700)).expect("set");
    let mut edit = alice.connected(&["edit", "text", "note"]);
    edit.env("EDITOR", &file);
    let (code, _, err) = alice.run(edit).await;
    assert!(code == 5 && err.contains("takes 1048576 at most"), "{code}");
    alice.fails(&["list", "--token", "nonsense"], 6).await;
    let nobody = alice.fails(&["list", "--shard", "z"], 8).await;
    assert!(nobody.contains("is a worker running"), "{nobody}");
    alice
        .fails(
            &["list", "--url", "nats://127.0.0.1:1", "--timeout", "1"],
            8,
        )
        .await;
    let mut tokenless = alice.connected(&["list"]);
    tokenless.env_remove("GOFAVORITES_TOKEN");
    let (code, _, err) = alice.run(tokenless).await;
    assert!(code == 6 && err.contains("give --token"), "{err}");
    // The same request id again is the same write.
    let once = alice
        .json(&["put", "text", "once", "--text", "x", "--request-id", "r1"])
        .await;
    assert_eq!(
        alice
            .json(&["put", "text", "once", "--text", "x", "--request-id", "r1"])
            .await["item"],
        once["item"]
    );
    alice
        .fails(
            &[
                "put",
                "text",
                "once",
                "--text",
                "other",
                "--request-id",
                "r1",
            ],
            4,
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_in_doubt_stays_so_until_an_answer_settles_it() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let caller = world.caller("alice").await;
    let alice = Person::new(&world, &caller);
    // Whoever answers here: the first attempt is in doubt, and what comes after tells nothing of it.
    let stand_in = world.connect("worker").await;
    let mut requests = stand_in
        .queue_subscribe("favorites.v1.put", "favorites".into())
        .await
        .expect("subscribed");
    stand_in.flush().await.expect("sent");
    let answering = tokio::spawn(async move {
        let mut asked = Vec::new();
        while let Some(request) = requests.next().await {
            let codes = [
                "in_doubt",
                "truth_unavailable",
                "auth_unavailable",
                "unauthenticated",
                "rate_limited",
            ];
            let code = codes[asked.len() % codes.len()];
            let id = request
                .headers
                .expect("headers")
                .get("Nats-Msg-Id")
                .expect("an id")
                .to_string();
            asked.push((id, tokio::time::Instant::now()));
            let error = json!({"code": code, "status": 503, "message": "x", "details": {"retry_after_ms": 150}});
            let body = json!({ "error": error }).to_string();
            stand_in
                .publish(request.reply.expect("a reply"), body.into())
                .await
                .expect("sent");
            if asked.len() >= 6 {
                break;
            }
        }
        asked
    });
    let told = alice
        .fails(&["put", "text", "note", "--text", "x", "--timeout", "2"], 9)
        .await;
    let asked = answering.await.expect("no panic");
    assert!(
        told.contains("--request-id") && asked.iter().all(|(id, _)| told.contains(id)),
        "{told}"
    );
    let waited: Vec<Duration> = asked.windows(2).map(|two| two[1].1 - two[0].1).collect();
    let long = |(number, waited): (usize, &Duration)| {
        *waited >= Duration::from_millis(if number == 0 { 90 } else { 140 })
    };
    assert!(
        waited.iter().enumerate().all(long),
        "it waits as it is told to: {waited:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_fills_in_what_is_not_given() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let config = world.directory.join(".config/gofavorites");
    std::fs::create_dir_all(&config).expect("a directory");
    std::fs::write(world.directory.join("token"), format!("{}\n", alice.token)).expect("written");
    let text = format!(
        "default = \"b\"\n[context.b]\nurl = {:?}\nuser = \"gateway\"\npassword = {:?}\nshard = \"b\"\ntoken_file = {:?}\n",
        alice.url,
        alice.password,
        world.directory.join("token")
    );
    let file = config.join("contexts.toml");
    std::fs::write(&file, text).expect("written");
    let only_ours = || std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(world.directory.join("token"), only_ours()).expect("set");
    let (code, _, err) = alice.run(alice.command(&["list"])).await;
    assert!(code == 1 && err.contains("chmod 600"), "{err}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("set");
    let (code, out, _) = alice.run(alice.command(&["version", "--json"])).await;
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &told["shard"]), (0, &json!("b")));
    let (_, out, _) = alice
        .run(alice.command(&["version", "--json", "--shard", "a"]))
        .await;
    assert_eq!(
        serde_json::from_str::<Value>(&out).expect("JSON")["shard"],
        "a",
        "a flag counts more"
    );
    assert_eq!(
        alice.run(alice.command(&["list"])).await.1,
        "nothing kept yet\n"
    );
    let (code, _, err) = alice.run(alice.command(&["list", "--context", "c"])).await;
    assert!(code == 1 && err.contains("there is no context c"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn help_completions_and_a_closed_pipe_are_in_order() {
    let world = World::start().await;
    let nobody = Person::new(&world, &world.caller("alice").await);
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
        let (code, out, _) = nobody.run(nobody.connected(&[command, "--help"])).await;
        assert_eq!(code, 0, "{command}");
        assert!(
            out.contains("Example") || command == "version",
            "{command}: {out}"
        );
    }
    assert!(
        nobody
            .run(nobody.command(&["--help"]))
            .await
            .1
            .contains("9  in doubt")
    );
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            nobody
                .run(nobody.command(&["completions", shell]))
                .await
                .1
                .contains("gofavorites")
        );
    }
    let mut piped = nobody.command(&["completions", "bash"]);
    let mut child = piped
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let ended = child.wait_with_output().await.expect("it ends");
    assert!(
        ended.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_healthy_degraded_and_unhealthy_apart() {
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
    let (code, out, _) = alice.run(alice.connected(&["health", "--json"])).await;
    assert_eq!(
        (code, serde_json::from_str::<Value>(&out).expect("JSON")),
        (8, json!({"workers": []}))
    );
    let worker = world.worker_with(settings).await;
    let healthy = alice.does(&["health", "--worker", "one"]).await;
    assert!(healthy.starts_with("a one healthy lag "), "{healthy}");
    link.cut();
    let mut told = String::new();
    for _ in 0..100 {
        told = alice.does(&["health"]).await;
        if told.contains("postgres:") {
            break;
        }
    }
    assert!(
        told.starts_with("a one degraded"),
        "only unhealthy fails: {told}"
    );
    assert_eq!(
        alice.json(&["health"]).await["workers"][0]["data"]["state"],
        "degraded"
    );
    worker.stop().await.expect("stopped in order");
    alice.fails(&["health", "--worker", "one"], 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn config_shows_what_is_in_force_and_hides_secrets() {
    let world = World::start().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let file = world.directory.join("worker.toml");
    let text = "[shard]\nid = \"a\"\n[nats.truth]\nuser = \"u\"\npassword = \"hush\"\n[postgres]\nurl = \"postgres://u:hush@h/d\"\n\
                [keys]\nidentity = \"hush\"\nencryption = \"hush\"\n[auth]\nissuer = \"i\"\nverdict_keys = \"k\"\n";
    std::fs::write(&file, text).expect("written");
    let file = file.to_str().expect("UTF-8");
    let mut command = alice.command(&["config", "--config", file]);
    command.env("GOFAVORITES__LIMITS__PAGE", "7");
    let (code, out, err) = alice.run(command).await;
    assert_eq!(code, 0, "{err}");
    assert!(
        !out.contains("hush") && out.contains("postgres://(hidden)@h/d"),
        "{out}"
    );
    let shown: toml::Value = toml::from_str(&out).expect("TOML");
    assert_eq!(
        shown["limits"]["page"].as_integer(),
        Some(7),
        "the environment counts more"
    );
    assert_eq!(shown["keys"]["identity"].as_str(), Some("(hidden)"));
    let mut wrong = alice.command(&["config", "--config", file]);
    wrong.env("GOFAVORITES__LIMITS__PAGE", "0");
    let (code, out, err) = alice.run(wrong).await;
    assert!(
        code == 1 && err.contains("limits.page") && out.contains("[limits]"),
        "{err}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_and_what_was_is_shown_and_put_back() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    assert_eq!(
        alice.does(&["changes", "--since", "0"]).await,
        "nothing changed since 0: you are at version 0\n"
    );
    alice
        .does(&["put", "text", "note", "--text", "milk", "--tag", "todo"])
        .await;
    let first = alice.json(&["get", "text", "note"]).await["item"]["version"]
        .as_u64()
        .expect("a version");
    alice
        .does(&["put", "text", "note", "--text", "bread"])
        .await;
    alice.does(&["put", "text", "other", "--text", "x"]).await;
    alice.does(&["rm", "text", "other"]).await;
    let changes = alice
        .does(&["changes", "--since", "0", "--shard", "b"])
        .await;
    let lines: Vec<&str> = changes.lines().collect();
    assert!(
        lines.len() == 3 && lines[1].contains("bread") && lines[2].contains("deleted"),
        "{changes}"
    );
    let told = alice
        .json(&["changes", "--since", &first.to_string()])
        .await;
    assert_eq!(told["items"].as_array().map(Vec::len), Some(2));
    alice.fails(&["changes", "--since", "99999"], 5).await;
    let history = alice.does(&["history", "text", "note"]).await;
    assert!(
        history
            .lines()
            .nth(1)
            .is_some_and(|line| line.contains("bread")),
        "{history}"
    );
    assert!(
        history
            .lines()
            .nth(2)
            .is_some_and(|line| line.contains("milk") && line.contains("todo")),
        "{history}"
    );
    assert!(
        alice
            .does(&["history", "text", "note", "--limit", "1"])
            .await
            .contains("there are older ones")
    );
    let back = alice
        .does(&["restore", "text", "note", "--version", &first.to_string()])
        .await;
    assert!(back.ends_with(&format!("as at {first}: milk\n")), "{back}");
    alice
        .fails(&["restore", "text", "note", "--version", "1"], 3)
        .await;
    alice
        .fails(
            &[
                "restore",
                "text",
                "note",
                "--version",
                &first.to_string(),
                "--if-version",
                &first.to_string(),
            ],
            4,
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_read_from_a_file_or_from_the_standard_input() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let ops = [
        json!({"op": "put", "kind": "text", "id": "one", "data": {"text": "milk"}}),
        json!({"op": "delete", "kind": "text", "id": "absent"}),
        json!({"op": "put", "kind": "text", "id": "two", "data": {"text": "bread"}}),
    ];
    let file = world.directory.join("ops.json");
    std::fs::write(&file, json!(ops).to_string()).expect("written");
    let file = file.to_str().expect("UTF-8");
    assert!(
        alice
            .fails(&["batch", file], 3)
            .await
            .contains("not_found (404)")
    );
    alice.fails(&["get", "text", "one"], 3).await;
    // Each that can be done is done, and the exit code tells of the first that cannot.
    let mut each = alice.connected(&["batch", "--each", "-"]);
    let lines = ops.iter().map(|op| format!("{op}\n")).collect::<String>();
    std::fs::write(world.directory.join("ops.jsonl"), lines).expect("written");
    each.stdin(std::fs::File::open(world.directory.join("ops.jsonl")).expect("opened"));
    let (code, out, _) = alice.run(each).await;
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((code, lines.len()), (3, 3));
    assert!(
        lines[0].starts_with("0: kept text one at version "),
        "{out}"
    );
    assert!(
        lines[1].starts_with("1: not_found (404)") && lines[2].ends_with("bread"),
        "{out}"
    );
    std::fs::write(file, "{}\nx").expect("written");
    assert!(
        alice
            .fails(&["batch", file], 1)
            .await
            .contains("line 2 is not JSON")
    );
    assert!(
        alice
            .fails(&["batch", "nowhere.json"], 1)
            .await
            .contains("cannot be read")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_shown_as_they_happen() {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let (world, _a, _b) = World::with_two_shards().await;
    let caller = world.caller("alice").await;
    let alice = Person::new(&world, &caller);
    caller.put_text("a", "before", "x").await;
    let mut watch = alice.connected(&["watch", "--json"]);
    let mut watching = watch
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let mut said = BufReader::new(watching.stderr.take().expect("piped")).lines();
    let told = said.next_line().await.expect("read").expect("a line");
    assert!(told.starts_with("watching from version "), "{told}");
    let mut shown = BufReader::new(watching.stdout.take().expect("piped")).lines();
    for number in 0..5 {
        let began = std::time::Instant::now();
        let shard = if number % 2 == 0 { "a" } else { "b" };
        let put = caller.put_text(shard, &format!("note-{number}"), "x").await;
        let line = tokio::time::timeout(std::time::Duration::from_secs(5), shown.next_line())
            .await
            .expect("in time");
        let line: Value =
            serde_json::from_str(&line.expect("read").expect("a line")).expect("JSON");
        assert_eq!(line, put["item"]);
        println!("shown {:?} after it was asked for", began.elapsed());
    }
    watching.kill().await.expect("ended");
}

/// Passes `changes` on to the service, as long as the program asks for it below `overtaken`. Between two pages of the
/// first walks an item is deleted, and forgotten.
async fn overtake(world: &World, caller: &Caller, walks: usize) {
    let breaker = world.connect_breaker().await;
    let mut asked = breaker
        .subscribe("overtaken.v1.changes")
        .await
        .expect("a subscription");
    breaker.flush().await.expect("subscribed");
    let (mut overtaken, settings) = (0, settings(world));
    while let Some(request) = asked.next().await {
        let body: Value = serde_json::from_slice(&request.payload).expect("JSON");
        if body["since"] != 0 && overtaken < walks {
            delete(caller, "a", &format!("n-{overtaken}")).await;
            maintain(&settings).await;
            overtaken += 1;
        }
        let headers = request.headers.expect("headers");
        let reply = breaker
            .request_with_headers("favorites.v1.changes", headers, request.payload)
            .await;
        let reply = reply.expect("a reply");
        let to = request.reply.expect("a reply subject");
        breaker
            .publish_with_headers(to, reply.headers.unwrap_or_default(), reply.payload)
            .await
            .expect("sent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_there_is_is_shown_whatever_is_forgotten_meanwhile() {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    let _a = world.worker("a").await;
    let caller = world.caller("alice").await;
    let alice = Person::new(&world, &caller);
    let put = |number| json!({"op": "put", "kind": "text", "id": format!("n-{number}"), "data": {"text": "x"}});
    let ops: Vec<Value> = (0..70).map(put).collect();
    caller
        .done("a.batch", &json!({"mode": "atomic", "ops": ops}))
        .await;
    delete(&caller, "a", "n-60").await;
    maintain(&settings(&world)).await;
    let shown = alice.json(&["changes", "--since", "0"]).await;
    assert_eq!(
        shown["items"].as_array().expect("a list").len(),
        69,
        "two pages"
    );
    let overtaking = overtake(&world, &caller, 2);
    let looking = async {
        let through = |arguments: &[&str]| {
            let mut command = alice.connected(arguments);
            command
                .env("GOFAVORITES_USER", "breaker")
                .env("GOFAVORITES_PASSWORD", "breaker");
            command.env("GOFAVORITES_PREFIX", "overtaken");
            command
        };
        let (code, out, err) = alice
            .run(through(&["changes", "--since", "0", "--json"]))
            .await;
        let shown: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code}: {err}"));
        let ids: Vec<&Value> = shown["items"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|item| &item["id"])
            .collect();
        assert_eq!(
            (ids.len(), ids.contains(&&json!("n-1"))),
            (67, false),
            "what was overtaken is not held"
        );
        // Who goes on from a version has to be told that something may be missed.
        let since = shown["items"][0]["version"].to_string();
        assert_eq!(
            alice.run(through(&["changes", "--since", &since])).await.0,
            5
        );
        let mut watch = through(&["watch"]);
        let mut watch = watch
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("started");
        let mut said = BufReader::new(watch.stderr.take().expect("piped")).lines();
        let told = said.next_line().await.expect("read").expect("a line");
        assert!(told.starts_with("watching from version "), "{told}");
        watch.kill().await.expect("ended");
    };
    tokio::select! {
        () = overtaking => panic!("it goes on for ever"),
        () = looking => {}
    }
}
