//! The command line for secrets, and for order, tags and look-ups: the program itself runs against
//! real workers.

use crate::cli::{Outcome, Person, next_line};
use crate::harness::{World, isin};
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// The secret of RFC 4226, appendix D.
const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
/// The first codes of that secret as a HOTP secret.
const HOTP_CODES: [&str; 2] = ["755224", "287082"];

/// Returns the URI of that secret.
fn uri(method: &str, parameters: &str) -> String {
    format!("otpauth://{method}/Bank:savings?secret={SECRET}&issuer=Bank{parameters}")
}

/// Runs a command that reads this input and must succeed, and returns its standard output.
async fn succeeds_with(person: &Person, arguments: &[&str], input: &str) -> String {
    let Outcome { code, out, err } = person.run_with_input(arguments, input).await;

    assert_eq!(code, 0, "{arguments:?}: {err}");

    out
}

/// Runs each command, and asserts that it succeeds and prints none of these secrets.
async fn print_none_of(person: &Person, secrets: &[&str], commands: &[&[&str]]) {
    for arguments in commands {
        for json in [None, Some("--json")] {
            let arguments: Vec<&str> = arguments.iter().copied().chain(json).collect();
            let Outcome { code, out, err } = person.run(person.connected(&arguments)).await;

            assert_eq!(code, 0, "{arguments:?}: {err}");
            for secret in secrets {
                assert!(!out.contains(secret), "{arguments:?}");
                assert!(!err.contains(secret), "{arguments:?}");
            }
        }
    }
}

/// Returns another code of the same length.
fn wrong_code(code: &str) -> String {
    code.chars()
        .map(|c| if c == '0' { '1' } else { '0' })
        .collect()
}

/// Writes a file that only its owner may read, and returns its path.
fn private_file(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("set");

    path.to_str().expect("UTF-8").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_stored_read_and_shown_only_where_asked() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);

    let add = ["otp", "add", "bank", "--tag", "login"];
    let kept = succeeds_with(&alice, &add, &format!("  {}\n\n", uri("totp", ""))).await;
    assert!(
        kept.starts_with("kept otp bank at version ") && kept.ends_with(": Bank savings (totp)\n"),
        "{kept}"
    );

    let again = alice.run_with_input(&add, &uri("totp", "")).await;
    assert_eq!(again.code, 4, "{}", again.err);
    assert!(again.err.contains("--replace"), "{}", again.err);
    let replace = [&add[..], &["--replace"]].concat();
    succeeds_with(&alice, &replace, &uri("totp", "")).await;

    // Without data the secret stays.
    let put = ["put", "otp", "bank", "--tag", "home", "--meta", "shown=1"];
    let kept = alice.succeeds(&put).await;
    assert!(kept.ends_with(": Bank savings (totp)\n"), "{kept}");

    let commands = [
        &["get", "otp", "bank", "--shard", "b"][..],
        &["list"],
        &["history", "otp", "bank"],
        &["changes", "--since", "0"],
        &["lookup", "otp", "bank"],
    ];
    print_none_of(&alice, &[SECRET], &commands).await;

    let shown = alice.json(&["get", "otp", "bank", "--reveal"]).await;
    assert_eq!(shown["item"]["data"]["secret"], SECRET);
    assert_eq!(shown["item"]["tags"], json!(["home", "login"]));
    let shown = alice
        .succeeds(&["get", "otp", "bank", "--reveal", "--shard", "b"])
        .await;
    assert!(shown.contains(SECRET), "the secret is asked for");

    alice.succeeds(&["rm", "otp", "bank"]).await;
    alice.fails(&["otp", "code", "bank"], 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_printed_and_accepted_once() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    succeeds_with(&alice, &["otp", "add", "bank"], &uri("totp", "")).await;

    let printed = alice.run(alice.connected(&["otp", "code", "bank"])).await;
    let code = printed.out.trim_end();
    assert_eq!(printed.code, 0, "{}", printed.err);
    assert!(code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit()));
    assert!(printed.err.starts_with("valid for "), "{}", printed.err);

    let verify = ["otp", "verify", "bank"];
    let wrong = alice.run_with_input(&verify, &wrong_code(code)).await;
    assert_eq!((wrong.code, wrong.out.as_str()), (1, "wrong\n"));

    let in_groups = format!("{} {}\n", &code[..3], &code[3..]);
    let valid = succeeds_with(&alice, &verify, &in_groups).await;
    assert_eq!(valid, "valid\n");

    let on_b = [&verify[..], &["--shard", "b"]].concat();
    let again = alice.run_with_input(&on_b, code).await;
    assert_eq!((again.code, again.out.as_str()), (1, "already used\n"));

    let as_json = [&verify[..], &["--json"]].concat();
    let again = alice.run_with_input(&as_json, code).await;
    let reply: Value = serde_json::from_str(&again.out).expect("JSON");
    assert_eq!(again.code, 1);
    assert_eq!(reply["reason"], "already_used");

    let missing = alice.run_with_input(&["otp", "verify", "none"], code).await;
    assert_eq!(missing.code, 3, "{}", missing.err);
}

/// Goal: each counter's code is printed once, unless the same request id asks for it again;
/// `--watch` uses no counter up.
#[tokio::test(flavor = "multi_thread")]
async fn a_counters_code_is_printed_once() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let hotp = uri("hotp", "&counter=0");
    succeeds_with(&alice, &["otp", "add", "token"], &hotp).await;

    let once = ["otp", "code", "token", "--request-id", "once"];
    for shard in ["a", "b"] {
        let on_shard = [&once[..], &["--shard", shard]].concat();
        let printed = alice.run(alice.connected(&on_shard)).await;

        assert_eq!(printed.out, format!("{}\n", HOTP_CODES[0]));
        assert_eq!(printed.err, "the code of counter 0\n");
    }

    let watch = alice.fails(&["otp", "code", "token", "--watch"], 2).await;
    assert!(watch.contains("follow a counter"), "{watch}");

    let next = alice.json(&["otp", "code", "token"]).await;
    assert_eq!(next["code"], HOTP_CODES[1]);
    assert_eq!(next["counter"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_code_is_a_new_line_each_time_it_changes() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let every_second = uri("totp", "&period=1");
    succeeds_with(&alice, &["otp", "add", "bank"], &every_second).await;

    for json in [None, Some("--json")] {
        let arguments = ["otp", "code", "bank", "--watch"];
        let arguments: Vec<&str> = arguments.into_iter().chain(json).collect();
        let mut watch = alice
            .connected(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut codes = BufReader::new(watch.stdout.take().expect("piped")).lines();

        let mut lines = Vec::new();
        for _ in 0..3 {
            let line = tokio::time::timeout(Duration::from_secs(10), next_line(&mut codes));
            lines.push(line.await.expect("in time"));
        }
        lines.dedup();
        assert_eq!(lines.len(), 3, "each is new");

        watch.kill().await.expect("ended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_are_taken_one_by_one_until_none_is_left() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let all = ["first-of-all", "second-of-all", "third-of-all"];

    let file = private_file(&alice.home, "codes", "first-of-all\r\n\n  second-of-all \n");
    let new = ["codes", "new", "recovery", "--file", &file];
    let kept = alice.succeeds(&new).await;
    assert!(kept.ends_with(": 2 of 2 left\n"), "{kept}");

    let take = ["codes", "take", "recovery", "--request-id", "once"];
    for shard in ["a", "b"] {
        let on_shard = [&take[..], &["--shard", shard]].concat();
        let taken = alice.run(alice.connected(&on_shard)).await;

        assert_eq!(taken.out, "first-of-all\n", "{}", taken.err);
        assert_eq!(taken.err, "1 left\n");
    }

    let add = ["codes", "add", "recovery"];
    let kept = succeeds_with(&alice, &add, "third-of-all\n").await;
    assert!(kept.ends_with(": 2 of 3 left\n"), "{kept}");
    let again = alice.run_with_input(&add, all[0]).await;
    assert_eq!(again.code, 5, "{}", again.err);
    assert!(!again.err.contains(all[0]), "{}", again.err);

    let commands = [
        &["get", "codes", "recovery"][..],
        &["list"],
        &["history", "codes", "recovery"],
        &["changes", "--since", "0"],
    ];
    print_none_of(&alice, &all, &commands).await;

    let take = ["codes", "take", "recovery"];
    let second = alice.json(&take).await;
    assert_eq!(second["code"], all[1]);
    assert_eq!(second["remaining"], 1);
    assert_eq!(alice.succeeds(&take).await, "third-of-all\n");
    let none = alice.fails(&take, 3).await;
    assert!(
        none.contains("recovery: every code of the list was taken"),
        "{none}"
    );

    let shown = ["get", "codes", "recovery", "--reveal"];
    let shown = alice.json(&shown).await;
    assert_eq!(shown["item"]["data"]["taken"], json!(all));
}

/// Goal: a secret on the command line is wrong usage, and no error repeats it.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_accepted_as_an_argument() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let uri = uri("totp", "");

    for (arguments, secret) in [
        (&["otp", "add", &uri][..], SECRET),
        (&["otp", "add", "bank", &uri][..], SECRET),
        (&["otp", "verify", "bank", "755224"][..], "755224"),
        (&["codes", "new", "recovery", "hush-hush"][..], "hush-hush"),
        (&["codes", "add", "recovery", "hush-hush"][..], "hush-hush"),
    ] {
        let err = alice.fails(arguments, 2).await;

        assert!(err.contains("never as an argument"), "{err}");
        assert!(!err.contains(secret), "the secret is repeated");
    }

    for (arguments, input) in [
        (["otp", "add", "bank"], ""),
        (["otp", "verify", "bank"], "755224\n755224\n"),
        (["codes", "new", "recovery"], "\n \n"),
    ] {
        let Outcome { code, err, .. } = alice.run_with_input(&arguments, input).await;

        assert_eq!(code, 2, "{arguments:?}: {err}");
        assert!(err.contains("the input"), "{err}");
    }

    let file = private_file(&alice.home, "uri", &uri);
    fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("set");
    let add = ["otp", "add", "bank", "--file", &file];
    let err = alice.fails(&add, 1).await;
    assert!(err.contains("chmod 600"), "{err}");

    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("set");
    alice.succeeds(&add).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_need_their_scope_and_a_refused_uri_is_not_repeated() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let caller = world.caller("alice").await;
    let alice = Person::new(&world, &caller);
    succeeds_with(&alice, &["otp", "add", "bank"], &uri("totp", "")).await;

    let few = "favorites:read favorites:write";
    let token = world.token("alice", few, Duration::from_secs(600));
    let limited = Person::new(&world, &caller.with_token(&token));
    for arguments in [
        &["get", "otp", "bank", "--reveal"][..],
        &["otp", "code", "bank"],
        &["codes", "take", "recovery"],
    ] {
        let err = limited.fails(arguments, 6).await;
        assert!(err.contains("favorites:secrets"), "{err}");
    }

    let malformed = uri("totp", "&digits=99");
    let add = ["otp", "add", "other"];
    let Outcome { code, err, .. } = alice.run_with_input(&add, &malformed).await;
    assert_eq!(code, 5, "{err}");
    assert!(!err.contains(SECRET), "the URI is repeated");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_a_secret_opens_metadata_and_tags_only() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let add = ["otp", "add", "bank", "--tag", "login"];
    succeeds_with(&alice, &add, &uri("totp", "")).await;

    let mut edit = alice.connected(&["edit", "otp", "bank"]);
    edit.env(
        "EDITOR",
        "! grep -q data \"$1\" && sed -i.bak s/login/home/",
    );
    let Outcome { code, out, err } = alice.run(edit).await;
    assert_eq!(code, 0, "{out}{err}");

    let shown = alice.json(&["get", "otp", "bank", "--reveal"]).await;
    assert_eq!(shown["item"]["tags"], json!(["home"]));
    assert_eq!(shown["item"]["data"]["secret"], SECRET);
}

/// Returns the ids that `list` prints with these options, in their order.
async fn listed(person: &Person, options: &[&str]) -> Vec<String> {
    let list = person.json(&[&["list"], options].concat()).await;

    list["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| item["id"].as_str().expect("an id").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn items_are_moved_and_looked_up() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    for id in ["one", "two", "three"] {
        alice.succeeds(&["put", "text", id, "--text", "milk"]).await;
    }

    let first = alice.succeeds(&["move", "text", "three"]).await;
    assert!(
        first.starts_with("moved text three to the first place, at version "),
        "{first}"
    );
    assert_eq!(listed(&alice, &[]).await, ["three", "one", "two"]);

    let after = ["move", "text", "one", "--after", "text", "two"];
    let moved = alice.succeeds(&after).await;
    let absent = ["move", "text", "one", "--after", "text", "absent"];
    let refused = alice.fails(&absent, 3).await;
    assert!(refused.contains("text absent: "), "{refused}");
    assert!(
        moved.starts_with("moved text one after text two"),
        "{moved}"
    );
    let on_b = listed(&alice, &["--shard", "b"]).await;
    assert_eq!(on_b, ["three", "two", "one"]);

    alice.fails(&["move", "text", "none"], 3).await;
    let itself = ["move", "text", "one", "--after", "text", "one"];
    alice.fails(&itself, 5).await;
    let stale = ["move", "text", "one", "--if-version", "1"];
    alice.fails(&stale, 4).await;

    let ids = alice.succeeds(&["list", "--only-ids"]).await;
    assert!(ids.starts_with("KIND"), "{ids}");
    assert!(ids.contains("PLACE") && !ids.contains("milk"), "{ids}");

    let found = alice.succeeds(&["lookup", "text", "two", "none"]).await;
    assert_eq!(found, "yes  two  milk\nno   none\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_listed_renamed_and_removed() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    assert_eq!(alice.succeeds(&["tags"]).await, "no tags yet\n");

    for (id, tag) in [("one", "todo"), ("two", "todo"), ("three", "home")] {
        let put = ["put", "text", id, "--text", "milk", "--tag", tag];
        alice.succeeds(&put).await;
    }
    alice
        .succeeds(&["put", "text", "bare", "--text", "milk"])
        .await;

    let tags = alice.succeeds(&["tags"]).await;
    assert_eq!(tags, "TAG   ITEMS\nhome      1\ntodo      2\n");
    let of_item = alice.succeeds(&["tags", "text", "one"]).await;
    assert_eq!(
        of_item,
        "TAG   ITEMS  HAS IT\nhome      1  no\ntodo      2  yes\n"
    );
    alice.fails(&["tags", "text", "none"], 3).await;
    alice.fails(&["tags", "text"], 2).await;

    let renamed = alice.succeeds(&["tags", "rename", "todo", "home"]).await;
    assert_eq!(renamed, "renamed todo to home on 2 items\n");
    alice.fails(&["tags", "rename", "todo", "home"], 3).await;
    alice.fails(&["tags", "rename", "home", "home"], 5).await;

    let untagged = listed(&alice, &["--untagged", "--shard", "b"]).await;
    assert_eq!(untagged, ["bare"]);
    alice
        .fails(&["list", "--untagged", "--tag", "home"], 2)
        .await;

    let removed = alice.succeeds(&["tags", "remove", "home"]).await;
    assert_eq!(removed, "removed home from 3 items\n");
    assert_eq!(listed(&alice, &["--untagged"]).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instrument_without_an_isin_is_named_by_market_and_ticker() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);

    let by_id = ["put", "instrument", "RTSX:SiZ6", "--type", "future"];
    let kept = alice.succeeds(&by_id).await;
    assert!(kept.starts_with("kept instrument RTSX:SiZ6 at"), "{kept}");

    let by_options = ["put", "instrument", "--type", "index", "--mic", "XNAS"];
    let by_options = [&by_options[..], &["--ticker", "NDX"]].concat();
    let kept = alice.succeeds(&by_options).await;
    assert!(kept.starts_with("kept instrument XNAS:NDX at"), "{kept}");

    let ticker_alone = ["put", "instrument", "--type", "index", "--ticker", "NDX"];
    let err = alice.fails(&ticker_alone, 2).await;
    assert!(err.contains("MIC:TICKER"), "{err}");

    let lookup = ["lookup", "instrument", "RTSX:SiZ6", &isin(1)];
    let found = alice.succeeds(&lookup).await;
    let missing = format!("no   {}\n", isin(1));
    assert!(found.starts_with("yes  RTSX:SiZ6  future SiZ6"), "{found}");
    assert!(found.ends_with(&missing), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_is_shown_and_changes_continue_in_their_epoch() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);
    alice
        .succeeds(&["put", "text", "one", "--text", "milk"])
        .await;

    let usage = alice.succeeds(&["usage"]).await;
    let starts: Vec<&str> = usage
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(starts, ["WHAT", "items", "keys", "bytes"], "{usage}");
    let usage = alice.json(&["usage"]).await;
    assert_eq!(usage["items"]["used"], 1);

    let changes = alice.connected(&["changes", "--since", "0"]);
    let Outcome { code, err, .. } = alice.run(changes).await;
    let options = err
        .trim_end()
        .strip_prefix("continue with ")
        .expect("how to continue");
    let options: Vec<&str> = options.split(' ').collect();
    assert_eq!(code, 0);
    assert!(options.contains(&"--epoch"), "{err}");

    let later = alice.succeeds(&[&["changes"], &options[..]].concat()).await;
    assert!(later.starts_with("nothing changed since "), "{later}");

    let elsewhere = ["--epoch", "another-history"];
    let elsewhere = [&["changes"], &options[..2], &elsewhere].concat();
    let err = alice.fails(&elsewhere, 5).await;
    assert!(err.contains("resync_required"), "{err}");
    let watch = ["watch", "--epoch", "another-history"];
    alice.fails(&watch, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_help_of_each_command_has_examples() {
    let world = World::start().await;
    let alice = Person::new(&world, &world.caller("alice").await);

    for command in [
        &["otp"][..],
        &["otp", "add"],
        &["otp", "code"],
        &["otp", "verify"],
        &["codes"],
        &["codes", "new"],
        &["codes", "add"],
        &["codes", "take"],
        &["move"],
        &["tags"],
        &["tags", "rename"],
        &["tags", "remove"],
        &["lookup"],
        &["usage"],
    ] {
        let help = alice.succeeds(&[command, &["--help"]].concat()).await;

        assert!(help.contains("Example"), "{command:?}: {help}");
        assert!(!help.contains("misplaced"), "{command:?}: {help}");
        assert!(!help.contains("MISPLACED"), "{command:?}: {help}");
    }
}
