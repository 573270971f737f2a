//! What commands print on a terminal, and to programs: tables, colours, times, forms, errors.
//!
//! The program itself runs with a pseudo-terminal of 80 columns, or with pipes.

use crate::cli::{Outcome, Person, next_line};
use crate::harness::{OnTerminal, World, isin};
use crate::pages::{blocks, section, text};
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

const UTF8: (&str, &str) = ("LC_ALL", "C.UTF-8");
const WITHOUT_UTF8: (&str, &str) = ("LC_ALL", "C");

/// Runs a command on a terminal to its end.
async fn on_terminal(person: &Person, arguments: &[&str], variable: (&str, &str)) -> String {
    let mut command = person.connected(arguments);
    command.env(variable.0, variable.1);

    OnTerminal::start(command, (24, 80)).end().await
}

/// Returns a text without its colours.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut parts = text.split("\u{1b}[");
    plain += parts.next().unwrap_or_default();
    for part in parts {
        plain += part.split_once('m').map_or(part, |(_, rest)| rest);
    }

    plain
}

/// Returns how many cells a text takes, of the characters that the tests use.
fn cells(text: &str) -> usize {
    let wide = |c: &char| ('\u{3000}'..='\u{ffdc}').contains(c);

    text.chars().count() + text.chars().filter(wide).count()
}

async fn platform_with_items() -> (World, crate::harness::Worker, Person) {
    let world = World::start().await;
    let worker = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let long = "milk, bread, 日本のお茶 and everything else that is needed for a week of cooking";
    let name = ["--name", "漢字 Ünïcödé"];

    let instrument = [
        "put",
        "instrument",
        &isin(1),
        "--type",
        "stock",
        "--tag",
        "tech",
    ];
    alice.succeeds(&[&instrument[..], &name].concat()).await;
    let text = ["put", "text", "long", "--text", long, "--tag", "a,b"];
    alice.succeeds(&[&text[..], &["--tag", "c"]].concat()).await;
    alice
        .succeeds(&["put", "text", "it's here", "--text", "x"])
        .await;

    (world, worker, alice)
}

/// Goal: on a terminal a table fits into its width, with bold headings, numbers to the right and
/// short times; in a pipe nothing is cut, and nothing is coloured.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_fits_a_terminal_and_a_pipe_gets_everything() {
    let (_world, _worker, alice) = platform_with_items().await;

    let shown = on_terminal(&alice, &["list"], UTF8).await;
    assert!(shown.starts_with("\u{1b}[1mKIND\u{1b}[0m"), "{shown:?}");
    let shown = plain(&shown);
    for line in shown.lines() {
        assert!(cells(line) <= 80, "{line}");
    }
    assert!(shown.contains('…'), "{shown}");
    assert!(
        shown.contains(" s ago") || shown.contains("just now"),
        "{shown}"
    );
    assert!(!shown.contains("Z\n"), "{shown}");
    // Each row has its version below the end of the heading.
    let heading = shown.lines().next().expect("a heading");
    let end = cells(heading.split_once("VERSION").expect("the heading").0) + "VERSION".len();
    for line in shown.lines().skip(1) {
        let upto: String = line
            .chars()
            .scan(0, |width, c| {
                *width += cells(&c.to_string());
                (*width <= end).then_some(c)
            })
            .collect();
        assert!(upto.ends_with(|c: char| c.is_ascii_digit()), "{shown}");
    }

    let ascii = on_terminal(&alice, &["list"], WITHOUT_UTF8).await;
    assert!(ascii.contains("...") && !ascii.contains('…'), "{ascii}");

    let piped = alice.succeeds(&["list"]).await;
    assert!(piped.contains("a week of cooking"), "{piped}");
    assert!(piped.contains("\"a,b\",c"), "{piped}");
    assert!(
        !piped.contains('\u{1b}') && !piped.contains(" ago"),
        "{piped}"
    );
    assert!(
        piped.lines().skip(1).all(|line| line.ends_with('Z')),
        "{piped}"
    );

    let got = alice.succeeds(&["get", "text", "long"]).await;
    assert!(got.contains("tags         \"a,b\",c\n"), "{got}");
}

/// Goal: `--color`, `NO_COLOR` and a pipe decide on colours, for our own texts and for clap's.
#[tokio::test(flavor = "multi_thread")]
async fn one_option_decides_on_all_colours() {
    let (_world, _worker, alice) = platform_with_items().await;
    let wrong = ["list", "--nonsense"];
    let missing = ["get", "text", "none"];

    for arguments in [&["list"][..], &wrong, &missing, &["health"]] {
        let never = [arguments, &["--color", "never"]].concat();
        let always = [&["--color=always"], arguments].concat();

        assert!(
            on_terminal(&alice, arguments, UTF8)
                .await
                .contains('\u{1b}')
        );
        let without = on_terminal(&alice, arguments, ("NO_COLOR", "1")).await;
        assert!(!without.contains('\u{1b}'), "{without}");
        let without = on_terminal(&alice, &never, UTF8).await;
        assert!(!without.contains('\u{1b}'), "{without}");
        let piped = alice.run(alice.connected(arguments)).await;
        assert!(!(piped.out + &piped.err).contains('\u{1b}'));
        let piped = alice.run(alice.connected(&always)).await;
        assert!((piped.out + &piped.err).contains('\u{1b}'), "{always:?}");
    }

    // One program: both kinds of errors begin alike.
    for arguments in [&wrong[..], &missing] {
        let Outcome { err, .. } = alice.run(alice.connected(arguments)).await;
        assert!(err.starts_with("error: "), "{err}");
        let shown = on_terminal(&alice, arguments, UTF8).await;
        assert!(
            shown.starts_with("\u{1b}[1m\u{1b}[31merror:\u{1b}[0m "),
            "{shown:?}"
        );
    }
}

/// Goal: programs choose the form of what is printed.
#[tokio::test(flavor = "multi_thread")]
async fn programs_choose_the_form() {
    let (_world, _worker, alice) = platform_with_items().await;
    let instrument = isin(1);

    let ids = alice.succeeds(&["list", "-o", "ids"]).await;
    let expected = format!("instrument {instrument}\ntext long\ntext 'it'\\''s here'\n");
    assert_eq!(ids, expected);
    let template = "template={kind}/{id}: {data.name}|{tags}";
    let lines = alice.succeeds(&["list", "-o", template]).await;
    assert!(lines.starts_with(&format!("instrument/{instrument}: 漢字 Ünïcödé|tech\n")));
    let unknown = alice.fails(&["list", "-o", "template={nope}"], 2).await;
    assert!(unknown.contains("there is no field {nope}"), "{unknown}");
    alice.fails(&["list", "-o", "xml"], 2).await;
    alice.fails(&["list", "--json", "-o", "json"], 2).await;

    let json = alice.json(&["list"]).await;
    let yaml = alice.succeeds(&["list", "--output", "yaml"]).await;
    let read: Value = serde_yaml_ng::from_str(&yaml).expect("YAML");
    assert_eq!(read, json);
    let row = alice
        .succeeds(&["get", "text", "long", "-o", "table"])
        .await;
    assert!(row.starts_with("KIND  ID    WHAT"), "{row}");

    // Fields are in the order of the contract.
    let text = alice.succeeds(&["get", "text", "long", "-o", "json"]).await;
    let at = |field: &str| text.find(&format!("\"{field}\":")).expect("there");
    let fields = [
        "kind",
        "id",
        "data",
        "meta",
        "tags",
        "place",
        "version",
        "created_at",
    ];
    assert!(fields.map(at).is_sorted(), "{text}");

    // The form is refused before anything is written.
    let rename = ["tags", "rename", "tech", "other", "-o", "ids"];
    let refused = alice.fails(&rename, 2).await;
    assert!(refused.contains("prints no items"), "{refused}");
    let tagged = alice
        .succeeds(&["list", "--tag", "tech", "-o", "ids"])
        .await;
    assert_eq!(tagged, format!("instrument {instrument}\n"));
}

/// Goal: the ids that one command prints are the arguments of another one, as docs/client.md has it.
#[tokio::test(flavor = "multi_thread")]
async fn ids_are_arguments_of_other_commands() {
    let (_world, _worker, alice) = platform_with_items().await;
    let document = text("docs/client.md");
    let commands = section(&document, "Output");
    let (_, commands) = blocks(commands)
        .into_iter()
        .find(|(language, _)| language == "sh")
        .expect("commands");
    let commands = commands.replace("gofavorites", env!("CARGO_BIN_EXE_gofavorites"));
    let put = ["put", "text", "it's here", "--tag", "old"];
    alice.succeeds(&put).await;

    let connected = alice.connected(&[]);
    let variables = connected.as_std().get_envs();
    let mut shell = Command::new("sh");
    shell
        .args(["-euc", &commands])
        .env_clear()
        .envs(variables.filter_map(|(name, value)| Some((name, value?))));
    let Outcome { code, out, err } = alice.run(shell).await;

    assert_eq!(code, 0, "{err}");
    assert!(out.contains(&format!("{} 漢字", isin(1))), "{out}");
    assert!(out.contains("deleted text it's here at version "), "{out}");
}

/// Goal: an error names what it is about and its request, and is JSON where the output is.
#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_they_are_about() {
    let (_world, _worker, alice) = platform_with_items().await;
    let put = ["put", "text", "long", "--text", "y", "--if-version", "1"];

    let missing = alice.fails(&["rm", "text", "none"], 3).await;
    let lines: Vec<&str> = missing.lines().collect();
    assert_eq!(
        lines[0],
        "error: not_found (404): text none: there is no such item"
    );
    assert!(lines[1].starts_with("  log id "), "{missing}");
    let conflict = alice.fails(&put, 4).await;
    assert!(
        conflict.contains("\n  now text long is at version "),
        "{conflict}"
    );
    assert!(conflict.contains(": milk, bread"), "{conflict}");

    let error = async |arguments: &[&str], code: i32| {
        let arguments = [arguments, &["-o", "json"]].concat();
        let err = alice.fails(&arguments, code).await;
        let mut error: Value = serde_json::from_str(&err).expect("JSON");
        assert_eq!(error["error"]["exit_code"], code);
        error["error"].take()
    };
    let refused = error(&put, 4).await;
    assert_eq!(refused["code"], "version_conflict");
    assert_eq!(refused["status"], 409);
    assert_eq!(refused["details"]["item"]["id"], "long");
    assert!(refused["log_id"].is_string(), "{refused}");
    let nobody = error(&["list", "--shard", "z"], 8).await;
    assert_eq!(nobody["code"], "unavailable");
    assert_eq!(nobody["details"], json!({}));
    let usage = error(&["put", "text", "long", "--type", "stock"], 2).await;
    assert_eq!(usage["code"], "usage");
}

/// Goal: a list that is not complete says so, and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_goes_on_where_it_ended() {
    let (_world, _worker, alice) = platform_with_items().await;
    let list = ["list", "-o", "ids"];

    let all = alice.run(alice.connected(&list)).await;
    assert_eq!(all.err, "");
    let first = [&list[..], &["--limit", "2"]].concat();
    let first = alice.run(alice.connected(&first)).await;
    let (_, cursor) = first.err.split_once("--cursor ").expect("more");
    let cursor = cursor.split(',').next().expect("a cursor");
    let rest = [&list[..], &["--cursor", cursor]].concat();
    let rest = alice.run(alice.connected(&rest)).await;

    assert_eq!(first.out + &rest.out, all.out);
    assert_eq!(rest.err, "");
    let page = alice.json(&["list", "--limit", "2"]).await;
    assert_eq!(page["next_cursor"], cursor);
    alice.succeeds(&["list", "--all"]).await;
    alice.fails(&["list", "--all", "--limit", "2"], 2).await;
}

/// Goal: the tables for operators have headings, and words where something is not known.
#[tokio::test(flavor = "multi_thread")]
async fn health_shard_and_limits_are_in_words() {
    let (_world, _worker, alice) = platform_with_items().await;

    let health = on_terminal(&alice, &["health"], UTF8).await;
    assert!(health.contains("\u{1b}[32mhealthy\u{1b}[0m"), "{health:?}");
    for heading in ["WORKER", "UPTIME", "PROJECTS", "BUILD"] {
        assert!(health.contains(heading), "{health}");
    }
    let shard = on_terminal(&alice, &["shard"], UTF8).await;
    for text in [health, shard] {
        let text = plain(&text);
        assert!(!text.contains('?'), "{text}");
        assert!(text.lines().all(|line| cells(line) <= 80), "{text}");
    }

    let limits = alice.succeeds(&["limits"]).await;
    let row = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name));
        let words: Vec<&str> = line.expect("a row").split_whitespace().skip(1).collect();
        words.join(" ")
    };
    assert_eq!(row("cache_bytes"), "256 MiB");
    assert_eq!(row("text_bytes"), "65,536 bytes");
    assert_eq!(row("rate_per_s"), "unlimited requests a second");
}

/// Goal: `watch` has columns on a terminal, and says when the connection is lost and when it is
/// back. What changes after that is shown at once.
///
/// Method: the NATS server is killed and started again, once for a terminal and a pipe together.
#[tokio::test(flavor = "multi_thread")]
async fn watch_says_when_the_connection_is_lost_and_back() {
    let (mut world, _worker, alice) = platform_with_items().await;
    let mut terminal = OnTerminal::start(alice.connected(&["watch"]), (24, 80));
    let mut piped = alice
        .connected(&["watch"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let mut notes = BufReader::new(piped.stderr.take().expect("piped")).lines();
    let mut changes = BufReader::new(piped.stdout.take().expect("piped")).lines();
    terminal.wait_for("WHAT");
    assert!(next_line(&mut notes).await.starts_with("watching from"));

    world.nats.process().kill9().expect("killed");
    terminal.wait_for("the connection to NATS is lost");
    assert_eq!(
        next_line(&mut notes).await,
        "warning: the connection to NATS is lost; trying again"
    );
    world.nats.restart().await.expect("started again");
    terminal.wait_for("connected to NATS again");
    while next_line(&mut notes).await != "connected to NATS again" {}

    world.wait_for_worker("a").await;
    alice
        .succeeds(&["put", "text", "later", "--text", "eggs"])
        .await;
    terminal.wait_for("eggs");
    let line = next_line(&mut changes).await;
    assert!(line.contains("  text  later  eggs  "), "{line}");
    let row = terminal.text.lines().last().expect("a row");
    assert!(row.contains("  text        later         eggs"), "{row}");

    piped.kill().await.expect("ended");
}
