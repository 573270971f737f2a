//! What others cannot read: nothing of an owner's stands in a file of the truth, a dump, a subject or a log line.

use crate::harness::{Caller, World, dump, isin};
use async_nats::{Client, ConnectOptions, Message, Subscriber};
use futures::StreamExt as _;
use gofavorites::config::Settings;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::process::ChildProcess;
use gofavorites::dev::tokens::ALL_SCOPES;
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const USER: &str = "mark-of-a-user-7c1e";
const TEXT: &str = "mark-of-a-text-19ab";
const ITEM: &str = "mark-of-an-item-55f0";
const TAG: &str = "mark-of-a-tag-e2d4";
const META: &str = "mark-of-meta-0b6a";
const NAME: &str = "MARK OF A NAME 3D";
const REQUEST: &str = "mark-of-a-request-88c3";
/// What a caller made up as the name of an operation.
const OPERATION: &str = "mark-of-an-operation-41d9";

/// In no encoding that a stranger would try may one of these be found.
fn marks(caller: &Caller) -> Vec<String> {
    let claims = caller.token.split('.').nth(1).expect("claims").to_owned();
    let signature = caller
        .token
        .rsplit('.')
        .next()
        .expect("a signature")
        .to_owned();
    let plain = [USER, TEXT, ITEM, TAG, META, NAME, REQUEST].map(str::to_owned);
    plain
        .into_iter()
        .chain([isin(7_007), claims, signature])
        .collect()
}

/// Where one of the marks stands in the bytes: as it is, in hexadecimal, or in base64 at any offset.
fn found(marks: &[String], bytes: &[u8]) -> Option<String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    // The forms are ASCII, so what is no text in between does not matter.
    let haystack = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    for mark in marks {
        let hex: String = mark.bytes().map(|byte| format!("{byte:02x}")).collect();
        let base64 = (0..3).map(|offset| {
            let text = STANDARD_NO_PAD.encode([&[0; 3][..offset], mark.as_bytes()].concat());
            // Without the first and the last characters, which hold bits of what stands around the mark.
            text[offset + 1..text.len() - 1].to_owned()
        });
        let mut forms = [mark.clone(), hex].into_iter().chain(base64);
        if let Some(form) = forms.find(|form| haystack.contains(&form.to_ascii_lowercase())) {
            return Some(format!("{mark}, as {form}"));
        }
    }
    None
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path))
        } else {
            all.push(path)
        }
    }
    all
}

/// A worker as a process of its own, which logs all it can, and its log.
fn serve(world: &World, settings: &Settings) -> ChildProcess {
    let ready = &settings.worker.ready_file;
    let mut command = Command::new(env!("CARGO_BIN_EXE_gofavorites"));
    let set = [
        ("NATS__URL", settings.nats.url.as_str()),
        ("SHARD__ID", &settings.shard.id),
        ("POSTGRES__URL", &settings.postgres.url),
        ("KEYS__IDENTITY", &settings.keys.identity),
        ("KEYS__ENCRYPTION", &settings.keys.encryption),
        ("AUTH__ISSUER", &settings.auth.issuer),
        ("AUTH__AUDIENCE", &settings.auth.audience),
        ("AUTH__VERDICT_KEYS", &settings.auth.verdict_keys),
        ("AUTH__TOKEN_KEYS", &settings.auth.token_keys),
        ("WORKER__READY_FILE", ready.to_str().expect("a path")),
        // All that the program and its libraries have to say; nothing of TRACE is compiled in.
        ("LOG__FILTER", "trace"),
    ];
    let users = ["FRONT", "AUTH", "TRUTH"].map(|role| {
        let user = &settings.nats.truth;
        [
            (format!("GOFAVORITES__NATS__{role}__USER"), &user.user),
            (
                format!("GOFAVORITES__NATS__{role}__PASSWORD"),
                &user.password,
            ),
            (
                format!("GOFAVORITES__NATS__{role}__INBOX_PREFIX"),
                &user.inbox_prefix,
            ),
        ]
    });
    command
        .arg("serve")
        .envs(users.into_iter().flatten())
        .envs(set.map(|(name, value)| (format!("GOFAVORITES__{name}"), value)));
    ChildProcess::spawn("worker", &mut command, &world.directory.join("worker.log"))
        .expect("a process")
}

async fn until_ready(worker: &mut ChildProcess, settings: &Settings) {
    while !settings.worker.ready_file.exists() {
        assert!(
            worker.ended().is_none(),
            "it ended:\n{}",
            worker.last_lines()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Marked data goes in and out by every operation.
async fn work(caller: &Caller) {
    let instrument = json!({"kind": "instrument", "tags": [TAG], "meta": {META: META}, "data": {
        "isin": isin(7_007), "type": "stock", "name": NAME}});
    let text = json!({"kind": "text", "id": ITEM, "data": {"text": TEXT}, "tags": [TAG]});
    let id = json!({"kind": "text", "id": ITEM});
    let put = caller.ask_once("a.put", REQUEST, &text).await;
    assert!(put.body["error"].is_null(), "{}", put.body);
    assert_eq!(put.body["local"], json!(null), "its row is there");
    caller.done("a.put", &instrument).await;
    let got = caller.done("a.get", &id).await;
    assert_eq!(got["item"]["data"]["text"], TEXT);
    caller
        .done("a.list", &json!({"tag": TAG, "consistency": "strong"}))
        .await;
    caller
        .done(
            "a.delete",
            &json!({"kind": "instrument", "id": isin(7_007)}),
        )
        .await;
    caller.done("a.changes", &json!({"since": 0})).await;
    caller.done("a.history", &id).await;
    let version = &got["item"]["version"];
    caller
        .done(
            "a.restore",
            &json!({"kind": "text", "id": ITEM, "version": version}),
        )
        .await;
    let put = json!({"op": "put", "kind": "text", "id": ITEM, "data": {"text": TEXT.repeat(200)}, "tags": [TAG]});
    let delete = json!({"op": "delete", "kind": "instrument", "id": isin(7_007)});
    caller
        .done("a.batch", &json!({"mode": "each", "ops": [put, delete]}))
        .await;
    caller.done("a.version", &json!({})).await;
    caller.done("a.limits", &json!({})).await;
    caller
        .ask_once(
            "a.batch",
            REQUEST,
            &json!({"mode": "atomic", "ops": [put, delete]}),
        )
        .await
        .refusal("request_id_reused");
    caller
        .ask("a.batch", &json!({"mode": "atomic", "ops": [put, delete]}))
        .await
        .refusal("not_found");
}

/// And is refused.
async fn bad_work(caller: &Caller) {
    let text = json!({"kind": "text", "id": ITEM, "data": {"text": TEXT}});
    caller
        .ask_once(
            "a.put",
            REQUEST,
            &json!({"kind": "text", "id": USER, "data": {"text": TEXT}}),
        )
        .await
        .refusal("request_id_reused");
    let conflict = json!({"kind": "text", "id": ITEM, "data": {"text": TEXT}, "if_version": 0});
    caller
        .ask("a.put", &conflict)
        .await
        .refusal("version_conflict");
    caller
        .ask("a.put", &json!({"kind": "text", "id": ITEM, TEXT: 1}))
        .await
        .refusal("bad_request");
    caller
        .ask("a.put", &json!({"kind": TEXT}))
        .await
        .refusal("invalid_item");
    caller
        .ask("a.get", &json!({"kind": "text", "id": USER}))
        .await
        .refusal("not_found");
    caller
        .ask(&format!("a.{OPERATION}"), &json!({}))
        .await
        .refusal("bad_request");
    let mut odd = caller.headers();
    odd.insert("Content-Type", TEXT);
    odd.insert("traceparent", TEXT);
    caller
        .ask_with("a.put", odd, text.to_string().into_bytes())
        .await
        .refusal("unsupported_encoding");
    let bad = format!("{}x", caller.token);
    caller
        .with_token(&bad)
        .ask("a.list", &json!({}))
        .await
        .refusal("unauthenticated");
}

/// The accounts of NATS in which anything of a request goes about.
const ACCOUNTS: [&str; 3] = ["TRUTH", "AUTH", "GATEWAY"];

/// `nats/accounts.conf`, with somebody in each of them who may hear and say anything; and a server that tells much.
fn with_insiders() -> String {
    ACCOUNTS.iter().fold(
        format!("debug: true\n{ACCOUNTS_CONF}"),
        |accounts, account| {
            let (before, after) = accounts
                .split_once(&format!("  {account} {{\n"))
                .expect("an account");
            let insider =
                format!("users: [\n      {{ user: insider-{account}, password: insider }}\n");
            format!(
                "{before}  {account} {{\n{}",
                after.replacen("users: [\n", &insider, 1)
            )
        },
    )
}

/// Somebody inside an account, and all that is heard there from now on.
async fn insider(world: &World, account: &str) -> (Client, Subscriber) {
    let insider =
        ConnectOptions::with_user_and_password(format!("insider-{account}"), "insider".into());
    let insider = insider
        .connect(world.nats.url())
        .await
        .expect("a connection");
    let mut all = insider.subscribe(">").await.expect("a subscription");
    insider.publish("the.start", "".into()).await.expect("sent");
    assert_eq!(
        all.next().await.expect("heard").subject.as_str(),
        "the.start"
    );
    (insider, all)
}

/// On these the caller's words travel, to the worker, to the auth service and back.
const ROAD: [&str; 5] = [
    "favorites.v1.",
    "auth.v1.verify",
    "_R_.",
    "_INBOX_worker.",
    "_INBOX.",
];

/// What a message shows to whoever may listen: its subjects, and beside the road its headers and its body.
fn shown(message: &Message) -> Vec<u8> {
    let subjects = format!("{} {:?}\n", message.subject, message.reply).into_bytes();
    match ROAD.iter().any(|road| message.subject.starts_with(road)) {
        true => subjects,
        false => [
            &subjects[..],
            format!("{:?}\n", message.headers).as_bytes(),
            &message.payload,
        ]
        .concat(),
    }
}

/// Nothing that was heard in the account shows a mark, but for what is planted at the end. All subjects of it.
async fn nothing_heard_shows_a_mark(
    account: &str,
    (insider, mut all): (Client, Subscriber),
    marks: &[String],
) -> Vec<String> {
    insider
        .publish(format!("planted.{}", marks[0]), "".into())
        .await
        .expect("sent");
    insider
        .publish("planted", marks[1].clone().into())
        .await
        .expect("sent");
    insider.publish("the.end", "".into()).await.expect("sent");
    let (mut subjects, mut planted) = (Vec::new(), 0);
    while let Some(message) = all
        .next()
        .await
        .filter(|message| message.subject.as_str() != "the.end")
    {
        let seen = found(marks, &shown(&message));
        match message.subject.starts_with("planted") {
            true => planted += usize::from(seen.is_some()),
            false => assert_eq!(seen, None, "in {account} on {}", message.subject),
        }
        subjects.push(message.subject.to_string());
    }
    assert_eq!(planted, 2, "a mark would be seen in {account}");
    subjects
}

/// A backup of the shard's database shows none either. Its bytes are in hexadecimal.
fn no_dump_shows_a_mark(world: &World, marks: &[String]) {
    let rows = world
        .query("a", "select count(*) from item_version")
        .parse::<u64>()
        .expect("a number");
    assert!(rows >= 5, "the rows are there: {rows}");
    let (bin, url) = (
        &world.shared.servers.postgres_bin,
        world.settings("a").postgres.url,
    );
    assert_eq!(found(marks, &dump(bin, &url)), None);
    world.query(
        "a",
        &format!("create table planted as select repeat('{TEXT}', 1000) as words"),
    );
    assert!(
        found(marks, &dump(bin, &url)).is_some(),
        "a planted one is found"
    );
}

/// Neither the server nor the worker tells of one, however much they are told to say.
fn no_log_shows_a_mark(
    world: &World,
    settings: &Settings,
    worker: &ChildProcess,
    marks: &[String],
) {
    let server = fs::read(world.directory.join("nats.log")).expect("a log");
    assert!(
        String::from_utf8_lossy(&server).contains("[DBG]"),
        "the server tells much"
    );
    let worker = fs::read(worker.log()).expect("a log");
    assert!(
        String::from_utf8_lossy(&worker).contains("was answered"),
        "the log tells of requests"
    );
    let keys = [
        &settings.keys.identity,
        &settings.keys.encryption,
        &settings.nats.truth.password,
        &settings.postgres.url,
    ];
    for mut log in [server, worker.clone()] {
        assert_eq!(found(marks, &log), None);
        assert_eq!(
            found(&keys.map(Clone::clone), &log),
            None,
            "a secret of the worker's"
        );
        log.extend_from_slice(marks[0].as_bytes());
        assert!(found(marks, &log).is_some(), "a planted one is found");
    }
    // The client library shows subjects at this level; the service itself does not repeat what is none of its own.
    let log = String::from_utf8_lossy(&worker);
    let repeated = log
        .lines()
        .find(|line| line.contains(OPERATION) && !line.contains("\"target\":\"async_nats\""));
    assert_eq!(repeated, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_owners_can_be_read_beside_the_road() {
    let world = World::with_accounts(&with_insiders()).await;
    let mut settings = world.settings("a");
    settings.worker.ready_file = world.directory.join("ready");
    world.init(&settings).await.expect("init");
    let mut insiders = Vec::new();
    for account in ACCOUNTS {
        insiders.push((account, insider(&world, account).await));
    }
    let mut worker = serve(&world, &settings);
    until_ready(&mut worker, &settings).await;
    let caller = Caller::new(
        world.connect("gateway").await,
        world.token(USER, ALL_SCOPES, Duration::from_secs(600)),
    );
    let marks = marks(&caller);
    work(&caller).await;
    bad_work(&caller).await;
    no_dump_shows_a_mark(&world, &marks);
    let status = worker
        .stop(Signal::SIGTERM, Duration::from_secs(10))
        .expect("it ended");
    assert!(status.success(), "{}", worker.last_lines());
    no_log_shows_a_mark(&world, &settings, &worker, &marks);
    let mut heard = Vec::new();
    for (account, insider) in insiders {
        heard.extend(nothing_heard_shows_a_mark(account, insider, &marks).await);
    }
    for (what, least) in [
        ("$KV.favorites.", 8),
        ("favorites.changed.", 6),
        ("auth.v1.verify", 2),
        ("favorites.v1.", 40),
    ] {
        let count = heard
            .iter()
            .filter(|subject| subject.starts_with(what))
            .count();
        assert!(count >= least, "{count} of {what} were heard");
    }
    the_store_holds_no_mark(world, &marks);
}

fn the_store_holds_no_mark(mut world: World, marks: &[String]) {
    world.nats.stop().expect("stopped");
    let store = world.directory.join("store");
    let scanned = files(&store);
    let bytes = |path: &Path| fs::read(path).expect("a file");
    let records = scanned.iter().filter(|path| {
        bytes(path)
            .windows(14)
            .any(|window| window == b"$KV.favorites.")
    });
    assert!(
        records.count() > 0,
        "the records are among the {} files",
        scanned.len()
    );
    for path in &scanned {
        assert_eq!(found(marks, &bytes(path)), None, "in {}", path.display());
    }
    // The scan sees a mark that is there.
    fs::write(
        store.join("planted"),
        [&[0xff, 0x00][..], marks[3].as_bytes(), b"\n"].concat(),
    )
    .expect("written");
    let seen: Vec<_> = files(&store)
        .into_iter()
        .filter(|path| found(marks, &bytes(path)).is_some())
        .collect();
    assert_eq!(seen, [store.join("planted")]);
}

#[test]
fn a_mark_is_found_in_every_form() {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    let marks = [USER.to_owned()];
    for around in ["", "a", "ab", "abc"] {
        let text = format!("{around}{USER}{around}");
        let hex: String = text.bytes().map(|byte| format!("{byte:02X}")).collect();
        for form in [
            text.clone(),
            text.to_uppercase(),
            hex,
            STANDARD.encode(&text),
            URL_SAFE_NO_PAD.encode(&text),
        ] {
            assert!(found(&marks, form.as_bytes()).is_some(), "{form}");
        }
    }
    assert_eq!(found(&marks, b"mark-of-a-user-7c1f"), None);
}
