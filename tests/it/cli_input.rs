//! What a person types: closed lists, options and their order, contexts and texts from files; and the
//! errors about it.

use crate::cli::{Outcome, Person};
use crate::harness::{World, isin, with_user_in};
use crate::shell::{COMPLETE, path};
use futures::StreamExt as _;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

/// Goal: an error names options and arguments, and no request is sent if the client knows better.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_wrong_is_told_in_its_own_words() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let id = isin(1);

    for (arguments, code, told) in [
        (
            &["get", "texts", "a"][..],
            2,
            "a similar value exists: 'text'",
        ),
        (&["list", "--kind", "code"], 2, "'codes'"),
        (&["list", "--consistency", "stron"], 2, "'strong'"),
        (&["put", "instrument", &id, "--type", "stokc"], 2, "'stock'"),
        (&["list", "--timeout", "10x"], 2, "10s, 500ms"),
        (&["put", "instrument", &id], 5, "give --type"),
        (
            &["put", "instrument", &id, "--name", "x"],
            5,
            "--type: is missing",
        ),
        (
            &["put", "text", "a", "--text", "x", "--if-version", "7"],
            4,
            "--if-version is 7",
        ),
        (
            &["put", "text", "a", "--text", "x", "--tag", ""],
            5,
            "--tag: ",
        ),
        (&["list", "--shard", "A"], 2, "--shard: "),
        (
            &["list", "--tls-ca", "/nowhere"],
            2,
            "--tls-ca: there is no file",
        ),
        (&["list", "--tls-required"], 8, "does not offer TLS"),
        (&["list", "--prefix", "a b"], 2, "--prefix: "),
        (&["get", "otpauth://totp/x?secret=HUSH", "a"], 2, "otp add"),
    ] {
        let err = alice.fails(arguments, code).await;

        assert!(err.contains(told), "{arguments:?}: {err}");
        assert!(!err.contains("HUSH"), "{err}");
    }

    alice
        .succeeds(&["--shard", "a", "put", "instrument", &id, "--type", "STOCK"])
        .await;
    let listed = alice
        .json(&["--timeout=5s", "ls", "-k", "instrument", "-n", "1"])
        .await;
    assert_eq!(listed["items"][0]["id"], json!(id));
    alice.succeeds(&["show", "instrument", &id]).await;
    alice.succeeds(&["del", "instrument", &id]).await;
}

/// Goal: what NATS refuses is told at once, as something that a retry does not mend; and a server
/// that is not there is named with the cause and the place that names it.
#[tokio::test(flavor = "multi_thread")]
async fn what_nats_refuses_is_told_at_once() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let start = Instant::now();

    let wrong_password = alice.fails(&["list", "--password", "wrong"], 6).await;
    assert!(
        wrong_password.contains("does not let this user in"),
        "{wrong_password}"
    );
    assert!(
        wrong_password.contains("from GOFAVORITES_URL"),
        "{wrong_password}"
    );
    for read_or_write in [&["get", "text", "a"][..], &["rm", "text", "a"]] {
        let arguments = [read_or_write, &["--prefix", "fav"]].concat();
        let denied = alice.fails(&arguments, 6).await;
        assert!(denied.contains("publish to fav.v1."), "{denied}");
    }
    let nobody = alice
        .fails(&["list", "--url", "nats://127.0.0.1:1"], 8)
        .await;
    assert!(
        nobody.contains("NATS at nats://127.0.0.1:1 (from --url)"),
        "{nobody}"
    );
    assert!(nobody.contains("refused"), "{nobody}");

    // Each would have waited for 10 seconds.
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

/// Goal: a write that may have been stored is not called refused because NATS refuses to send it again.
///
/// Method: somebody receives the write and does not answer. Then the user loses the right to publish,
/// so the client's second attempt is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_sent_once_is_in_doubt() {
    let accounts = with_user_in(ACCOUNTS_CONF, "SERVICE", "breaker");
    let mut world = World::with_accounts(&accounts).await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let listener = world.connect_breaker().await;
    let mut requests = listener
        .subscribe("silent.v1.put")
        .await
        .expect("subscribed");
    listener.flush().await.expect("sent");

    let put = ["put", "text", "a", "--text", "x", "--replace"];
    let mut command = alice.connected(&[&put[..], &["--timeout", "6s"]].concat());
    command
        .env("GOFAVORITES_USER", "breaker")
        .env("GOFAVORITES_PASSWORD", "breaker")
        .env("GOFAVORITES_PREFIX", "silent");
    let running = tokio::spawn(async move { command.output().await.expect("it ends") });
    requests.next().await.expect("the first attempt");
    let user = "{ user: breaker, password: breaker";
    let denied = accounts.replace(
        &format!("{user} }}"),
        &format!("{user}, permissions: {{ publish: {{ deny: [\"silent.>\"] }} }} }}"),
    );
    assert_ne!(denied, accounts);
    world.reload_accounts(&denied).await;

    let ended = running.await.expect("it ends");
    let err = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(9), "{err}");
    assert!(err.contains("--request-id"), "{err}");
}

/// Goal: contexts are added, chosen, shown and removed, in a file that only its user can read, and
/// what is in force is shown with its source.
#[tokio::test(flavor = "multi_thread")]
async fn contexts_are_kept_by_commands() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let file = alice.home.join(".config/gofavorites/contexts.toml");

    let none = alice
        .run(alice.command(&["list", "--context", "home"]))
        .await;
    assert_eq!(none.code, 2, "{}", none.err);
    assert!(
        none.err.contains("there is no context home"),
        "{}",
        none.err
    );

    alice
        .succeeds(&["context", "add", "home", "--shard", "a"])
        .await;
    let mode = fs::metadata(&file).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(&file).expect("readable");
    fs::write(&file, format!("# mine\n{text}")).expect("written");

    // From here on nothing but the file says where the service is.
    let run = async |arguments: &[&str]| alice.run(alice.command(arguments)).await;
    alice
        .succeeds(&[
            "context",
            "add",
            "away",
            "--url",
            "nats://u:hush@127.0.0.1:1",
        ])
        .await;
    assert_eq!(run(&["list"]).await.code, 0, "the first one is the default");
    let listed = run(&["context", "ls"]).await.out;
    assert!(
        listed.contains("*  home") && !listed.contains("hush"),
        "{listed}"
    );
    assert_eq!(run(&["context", "use", "away"]).await.code, 0);
    assert_eq!(run(&["list"]).await.code, 8);
    assert_eq!(run(&["list", "-c", "home"]).await.code, 0);

    let shown = run(&["context", "show", "-c", "home", "--user", "gateway"])
        .await
        .out;
    let row = |name: &str| {
        let line = shown.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("{name}: {shown}")).to_owned()
    };
    assert!(row("user ").ends_with("--user"), "{shown}");
    assert!(row("shard ").ends_with("context home"), "{shown}");
    assert!(row("token ").contains("(hidden)"), "{shown}");

    // A context that is named comes before the environment, and the environment before the default.
    let by_environment = alice.connected(&["list"]);
    assert_eq!(alice.run(by_environment).await.code, 0);
    let named = alice.connected(&["list", "-c", "away"]);
    assert_eq!(alice.run(named).await.code, 8, "it names nobody's server");
    let token = world.directory.join("token");
    fs::write(&token, &alice.token).expect("written");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("set");
    let token_file = ["list", "--token-file", token.to_str().expect("UTF-8")];
    alice.succeeds(&token_file).await;

    let again = alice.fails(&["context", "add", "home"], 2).await;
    assert!(again.contains("--replace"), "{again}");
    assert_eq!(
        run(&["context", "rm", "away"]).await.code,
        2,
        "it is the default"
    );
    assert_eq!(run(&["context", "use", "home"]).await.code, 0);
    assert_eq!(run(&["context", "rm", "away"]).await.code, 0);
    let unknown = run(&["context", "use", "away"]).await;
    assert_eq!(unknown.code, 2);
    assert!(
        unknown.err.contains("contexts.toml has home"),
        "{}",
        unknown.err
    );
    let kept = fs::read_to_string(&file).expect("readable");
    assert!(kept.starts_with("# mine\n") && !kept.contains("away"));
}

/// Goal: texts come from files and pipes as they are, and several items are deleted at once or not
/// at all.
#[tokio::test(flavor = "multi_thread")]
async fn texts_come_from_files_and_items_go_together() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let file = world.directory.join("text");
    fs::write(&file, "milk\nbread\n").expect("written");
    let at_file = format!("@{}", file.display());

    alice
        .succeeds(&["put", "text", "one", "--text", &at_file])
        .await;
    let put = ["put", "text", "two", "--text", "-"];
    let piped = alice.run_with_input(&put, "eggs\n\n").await;
    assert_eq!(piped.code, 0, "{}", piped.err);

    assert_eq!(
        alice.succeeds(&["get", "text", "one", "--raw"]).await,
        "milk\nbread\n"
    );
    assert_eq!(
        alice.succeeds(&["get", "text", "two", "--raw"]).await,
        "eggs\n\n"
    );
    alice
        .fails(&["put", "text", "one", "--text", "@/nowhere"], 2)
        .await;

    let refused = alice.fails(&["rm", "text", "one", "absent"], 3).await;
    assert!(
        refused.contains("absent") && refused.contains("nothing was done"),
        "{refused}"
    );
    let deleted = alice.succeeds(&["rm", "text", "one", "two"]).await;
    assert_eq!(deleted.lines().count(), 2, "{deleted}");
    let left = alice.json(&["list"]).await;
    assert_eq!(left["items"], json!([]));
}

/// Goal: a text is edited as a text; a refused one is opened again with the reason on top; and no
/// draft is left behind.
///
/// Method: the editor is a script that writes down what it was given. It first makes the text too
/// long, and then, when it sees the reason, short.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_edited_as_a_text() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let put = [
        "put", "text", "note", "--text", "milk", "--tag", "todo", "--meta", "a=1",
    ];
    alice.succeeds(&put).await;

    let drafts = world.directory.join("drafts");
    let temporary = world.directory.join("tmp");
    fs::create_dir(&temporary).expect("created");
    let editor = world.directory.join("editor");
    let script = format!(
        "#!/bin/sh\n\
         stat -c %a \"$(dirname \"$1\")\" >>{0}\n\
         cat \"$1\" >>{0}\n\
         touch \"$1.bak\"\n\
         if grep -q '^# gofavorites: ' \"$1\"; then\n\
         echo bread >\"$1\"\n\
         else\n\
         head -c 200000 /dev/zero | tr '\\0' x >\"$1\"\n\
         fi\n",
        drafts.display()
    );
    fs::write(&editor, script).expect("written");
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o700)).expect("set");

    let mut edit = alice.connected(&["edit", "text", "note"]);
    edit.env("EDITOR", &editor).env("TMPDIR", &temporary);
    let Outcome { code, out, err } = alice.run(edit).await;
    assert_eq!(code, 0, "{out}{err}");

    let seen = fs::read_to_string(&drafts).expect("written");
    assert!(
        seen.starts_with("700\nmilk\n700\n# gofavorites: "),
        "{seen}"
    );
    let item = alice.json(&["get", "text", "note"]).await["item"].take();
    assert_eq!(item["data"]["text"], "bread");
    assert_eq!(
        (&item["tags"], &item["meta"]),
        (&json!(["todo"]), &json!({"a": "1"}))
    );
    assert_eq!(fs::read_dir(&temporary).expect("there").count(), 0);
}

/// Goal: what a person wrote is not lost: not if the editor ends with an error after a refusal, not if
/// somebody deletes the item meanwhile; and lines that look like a remark stay.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_loses_nothing() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let own = "# gofavorites: mine\nmilk";
    alice
        .succeeds(&["put", "text", "note", "--text", own])
        .await;
    let program = env!("CARGO_BIN_EXE_gofavorites");
    let edit = async |script: &str| {
        let editor = world.directory.join("editor");
        fs::write(&editor, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&editor, fs::Permissions::from_mode(0o700)).expect("set");
        let mut edit = alice.connected(&["edit", "text", "note"]);
        edit.env("EDITOR", &editor);
        alice.run(edit).await
    };

    assert_eq!(edit("exit 0").await.out, "nothing changed\n");

    // Too long at first; then the editor ends with an error.
    let too_long = "head -c 200000 /dev/zero | tr '\\0' x";
    let script = format!(
        "grep -q refused-once \"$0.seen\" 2>/dev/null && exit 1\necho refused-once >\"$0.seen\"\n{too_long} >\"$1\""
    );
    let ended = edit(&script).await;
    assert_ne!(ended.code, 0);
    let line = ended
        .err
        .lines()
        .find_map(|line| line.strip_prefix("what you wrote is in "));
    let file = line.unwrap_or_else(|| panic!("{}", ended.err));
    assert!(fs::read_to_string(file).expect("kept").contains("xxxx"));

    // The item is deleted while it is open; the second time the draft is changed once more.
    let script = format!(
        "{program} rm text note >/dev/null 2>&1\nsed -i.bak -e 's/milk/bread/;t' -e 's/bread/eggs/' \"$1\""
    );
    let ended = edit(&script).await;
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    assert_eq!(
        alice.succeeds(&["get", "text", "note", "--raw"]).await,
        own.replace("milk", "eggs")
    );
}

/// The completion script, in the home of a person.
const SCRIPT: &str = "completions.bash";

/// Returns what bash proposes for the last of these words.
fn propose(alice: &Person, words: &[&str]) -> String {
    let script = ["--norc", "-c", COMPLETE, "bash", "gofavorites"];
    let command = alice.connected(&[]);
    let mut bash = std::process::Command::new("bash");
    bash.args(script).args(words).env_clear();
    for (name, value) in command.as_std().get_envs() {
        bash.env(name, value.expect("set"));
    }
    bash.env("SCRIPT", alice.home.join(SCRIPT))
        .env("PATH", path());

    let output = bash.output().expect("bash");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let proposed = String::from_utf8(output.stdout).expect("UTF-8");
    proposed.trim().to_owned()
}

/// Goal: a shell proposes the owner's own ids and tags, and the shards; nothing, silently, if the
/// service does not answer; and never a word that a shell would run.
#[tokio::test(flavor = "multi_thread")]
async fn a_shell_proposes_what_there_is() {
    let world = World::start().await;
    let worker = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let script = alice.succeeds(&["completions", "bash"]).await;
    fs::write(alice.home.join(SCRIPT), script).expect("written");
    for id in ["shopping", "shows", "ideas", "sh$(touch x)"] {
        alice
            .succeeds(&["put", "text", id, "--text", "x", "--tag", "todo"])
            .await;
    }

    for (words, proposed) in [
        (&["get", "text", "sh"][..], "shopping shows"),
        (&["--shard", "a", "get", "text", "i"], "ideas"),
        (&["rm", "text", "i"], "ideas"),
        (&["list", "--tag", ""], "todo"),
        (&["put", "instrument", "x", "--type", "st"], "stock"),
        (&["get", "te"], "text"),
        (&["list", "--shard", ""], "a"),
        (&["list", "--output", "y"], "yaml"),
        (&["p"], "put"),
        (&["de"], "dev"),
    ] {
        // The program answers in a short time, or proposes nothing.
        let tries = (0..20).map(|_| propose(&alice, words));
        let found = tries.into_iter().find(|found| found == proposed);
        assert!(found.is_some(), "{words:?}");
    }

    worker.stop().await.expect("stopped in order");
    let start = Instant::now();
    assert_eq!(propose(&alice, &["get", "text", "sh"]), "");
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// Goal: the program's version is shown although the service does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_shown_without_a_service() {
    let world = World::start().await;
    let alice = Person::new(&world, &world.caller("alice").await);

    let away = alice.connected(&["version", "--url", "nats://127.0.0.1:1"]);
    let Outcome { code, out, .. } = alice.run(away).await;
    assert_eq!(code, 8);
    assert!(out.starts_with("client "), "{out}");

    let bare = alice.run(alice.command(&["version"])).await;
    assert_eq!((bare.code, bare.out.lines().count()), (0, 1));
    assert!(bare.err.contains("not asked"), "{}", bare.err);
}
