//! What others cannot read: nothing of an owner's data is in the bucket's files, a dump, a subject
//! or a log line.

use crate::harness::{Caller, World, dump, isin};
use async_nats::{Client, ConnectOptions, Message, Subscriber};
use futures::StreamExt as _;
use gofavorites::config::{Role, Settings};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::process::ChildProcess;
use gofavorites::dev::tokens::ALL_SCOPES;
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const USER: &str = "mark-of-a-user-7c1e";
const TEXT: &str = "mark-of-a-text-19ab";
const ITEM: &str = "mark-of-an-item-55f0";
const TAG: &str = "mark-of-a-tag-e2d4";
const META: &str = "mark-of-meta-0b6a";
const NAME: &str = "MARK OF A NAME 3D";
const REQUEST: &str = "mark-of-a-request-88c3";
const ISSUER: &str = "mark-of-an-issuer-2f60";
const ACCOUNT: &str = "mark-of-an-account-93be";
const CODE: &str = "mark-of-a-code-6b12";

/// The bytes of a one-time-password secret, which are a text, and the same in Base32.
const SECRET: &str = "mark-of-a-secret-c7d";
const SECRET_IN_BASE32: &str = "NVQXE2ZNN5TC2YJNONSWG4TFOQWWGN3E";

/// An operation that a caller made up.
const OPERATION: &str = "mark-of-an-operation-41d9";

/// The NATS accounts in which messages of a request travel.
const ACCOUNTS: [&str; 4] = ["TRUTH", "SERVICE", "AUTH", "GATEWAY"];

/// The subjects on which a caller's words have to travel: to the worker, to the auth service, and
/// back.
const REQUEST_PATH: [&str; 5] = [
    "favorites.v1.",
    "auth.v1.verify",
    "_R_.",
    "_INBOX_auth.",
    "_INBOX.",
];

/// How many messages an insider has to receive at least, by the beginning of the subject.
const RECEIVED_MIN: [(&str, usize); 4] = [
    ("$KV.favorites.", 8),
    ("favorites.changed.", 6),
    ("auth.v1.verify", 2),
    ("favorites.v1.", 40),
];

/// Returns the texts that must not be found, in no encoding that a stranger would try.
fn marks(caller: &Caller) -> Vec<String> {
    let parts: Vec<_> = caller.token.split('.').collect();
    let claims = parts[1].to_owned();
    let signature = parts[parts.len() - 1].to_owned();

    [USER, TEXT, ITEM, TAG, META, NAME, REQUEST]
        .into_iter()
        .chain([ISSUER, ACCOUNT, CODE, SECRET, SECRET_IN_BASE32])
        .map(str::to_owned)
        .chain([isin(7_007), claims, signature])
        .collect()
}

/// Returns a mark that is in the bytes, and its form: as it is, in hexadecimal, or in base64 at any
/// offset.
fn found(marks: &[String], bytes: &[u8]) -> Option<String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;

    // All forms are ASCII, so bytes that are not UTF-8 do not matter.
    let haystack = String::from_utf8_lossy(bytes).to_ascii_lowercase();

    for mark in marks {
        let hex: String = mark.bytes().map(|byte| format!("{byte:02x}")).collect();
        let base64 = (0..3).map(|offset| {
            let bytes = [&[0; 3][..offset], mark.as_bytes()].concat();
            let text = STANDARD_NO_PAD.encode(bytes);
            // The first and the last characters also depend on the bytes around the mark.
            text[offset + 1..text.len() - 1].to_owned()
        });

        let mut forms = [mark.clone(), hex].into_iter().chain(base64);
        if let Some(form) = forms.find(|form| haystack.contains(&form.to_ascii_lowercase())) {
            return Some(format!("{mark}, as {form}"));
        }
    }

    None
}

/// Returns all files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();

    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }

    all
}

/// Starts a worker as a process that logs as much as it can.
fn serve(world: &World, settings: &Settings) -> ChildProcess {
    let ready = &settings.worker.ready_file;
    let variables = [
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
        // Everything that the program and its libraries log: TRACE is not compiled in.
        ("LOG__FILTER", "debug"),
    ];

    let users = Role::ALL.map(|role| {
        let user = settings.nats.user(role);
        let section = format!("GOFAVORITES__NATS__{}", role.name().to_uppercase());
        [
            (format!("{section}__USER"), &user.user),
            (format!("{section}__PASSWORD"), &user.password),
        ]
    });

    let mut command = Command::new(env!("CARGO_BIN_EXE_gofavorites"));
    command
        .arg("serve")
        .envs(users.into_iter().flatten())
        .envs(variables.map(|(name, value)| (format!("GOFAVORITES__{name}"), value)));

    let log = world.directory.join("worker.log");
    ChildProcess::spawn("worker", &mut command, &log).expect("a process")
}

async fn wait_until_ready(worker: &mut ChildProcess, settings: &Settings) {
    while !settings.worker.ready_file.exists() {
        assert!(
            worker.ended().is_none(),
            "it ended:\n{}",
            worker.last_lines()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Sends marked data through every operation.
async fn send_requests(caller: &Caller) {
    let instrument = json!({
        "kind": "instrument", "tags": [TAG], "meta": {META: META},
        "data": {"isin": isin(7_007), "type": "stock", "name": NAME},
    });
    let text = json!({"kind": "text", "id": ITEM, "data": {"text": TEXT}, "tags": [TAG]});
    let text_id = json!({"kind": "text", "id": ITEM});
    let instrument_id = json!({"kind": "instrument", "id": isin(7_007)});

    let put = caller.ask_once("a.put", REQUEST, &text).await.body;
    assert!(put["error"].is_null(), "{put}");
    assert!(put["local"].is_null(), "its row is there: {put}");
    caller.done("a.put", &instrument).await;

    let get = caller.done("a.get", &text_id).await;
    assert_eq!(get["item"]["data"]["text"], TEXT);
    let list = json!({"tag": TAG, "consistency": "strong"});
    caller.done("a.list", &list).await;

    caller.done("a.delete", &instrument_id).await;
    caller.done("a.changes", &json!({"since": 0})).await;
    caller.done("a.history", &text_id).await;
    let version = &get["item"]["version"];
    let restore = json!({"kind": "text", "id": ITEM, "version": version});
    caller.done("a.restore", &restore).await;

    send_batches(caller).await;
    send_secrets(caller).await;
    send_orders_and_tags(caller).await;
    caller.done("a.version", &json!({})).await;
    caller.done("a.limits", &json!({})).await;
}

/// Sends marked data in batches, of which two are refused.
async fn send_batches(caller: &Caller) {
    let data = json!({"text": TEXT.repeat(200)});
    let put = json!({"op": "put", "kind": "text", "id": ITEM, "data": data, "tags": [TAG]});
    let delete = json!({"op": "delete", "kind": "instrument", "id": isin(7_007)});
    let each = json!({"mode": "each", "ops": [put, delete]});
    let atomic = json!({"mode": "atomic", "ops": [put, delete]});

    caller.done("a.batch", &each).await;

    let reused = caller.ask_once("a.batch", REQUEST, &atomic).await;
    reused.refusal("request_id_reused");
    let not_found = caller.ask("a.batch", &atomic).await;
    not_found.refusal("not_found");
}

/// Returns a URI with a marked secret.
fn uri(r#type: &str, parameters: &str) -> String {
    format!("otpauth://{type}/{ISSUER}:{ACCOUNT}?secret={SECRET_IN_BASE32}{parameters}")
}

/// Sends marked secrets and codes through every operation on them.
async fn send_secrets(caller: &Caller) {
    let uri = uri("hotp", "&digits=8");
    let otp = json!({"kind": "otp", "id": ITEM, "data": {"uri": uri}, "tags": [TAG]});
    let reveal = json!({"kind": "otp", "id": ITEM, "reveal": true});
    let list = json!({"kind": "codes", "id": ITEM, "data": {"codes": [CODE]}});
    let reveal_list = json!({"kind": "codes", "id": ITEM, "reveal": true});
    let take = json!({"id": ITEM});
    let added = json!({"id": ITEM, "codes": [format!("{CODE}-2")]});

    let first = caller.done("a.put", &otp).await;
    let revealed = caller.done("a.get", &reveal).await;
    assert_eq!(revealed["item"]["data"]["secret"], SECRET_IN_BASE32);
    let code = caller.done("a.otp.code", &take).await;
    let used = json!({"id": ITEM, "code": code["code"]});
    let verified = caller.done("a.otp.verify", &used).await;
    assert_eq!(verified["valid"], false);

    caller.done("a.put", &list).await;
    let taken = caller.ask_once("a.codes.take", CODE, &take).await;
    assert_eq!(taken.body["code"], CODE);
    caller.done("a.codes.add", &added).await;
    let revealed = caller.done("a.get", &reveal_list).await;
    assert_eq!(revealed["item"]["data"]["taken"], json!([CODE]));

    // A deletion keeps what must not be used again.
    for kind in ["otp", "codes"] {
        let item = json!({"kind": kind, "id": ITEM});
        caller.done("a.delete", &item).await;
    }
    let version = &first["item"]["version"];
    let restore = json!({"kind": "otp", "id": ITEM, "version": version});
    caller.done("a.restore", &restore).await;
}

/// Sends marked data through the operations on order and tags, and in questions about many items.
async fn send_orders_and_tags(caller: &Caller) {
    let text = json!({"kind": "text", "id": ITEM});
    let after = json!({"kind": "text", "id": ITEM, "after": {"kind": "otp", "id": ITEM}});
    let missing = json!({"kind": "text", "id": USER});
    let lookup = json!({"items": [text, missing]});
    let new = format!("{TAG}-2");

    caller.done("a.move", &after).await;
    caller.done("a.move", &text).await;
    caller.done("a.lookup", &lookup).await;
    caller.done("a.usage", &json!({})).await;
    caller.done("a.list", &json!({"only": "ids"})).await;

    caller.done("a.tags", &text).await;
    let rename = json!({"from": TAG, "to": new});
    caller.done("a.tags.rename", &rename).await;
    let rename = json!({"from": new, "to": TAG});
    caller.done("a.tags.rename", &rename).await;
}

/// Sends marked data in requests that are refused.
async fn send_bad_requests(caller: &Caller) {
    let text = json!({"kind": "text", "id": ITEM, "data": {"text": TEXT}});
    let other = json!({"kind": "text", "id": USER, "data": {"text": TEXT}});
    let conflict = json!({"kind": "text", "id": ITEM, "data": {"text": TEXT}, "if_version": 0});
    let unknown_field = json!({"kind": "text", "id": ITEM, TEXT: 1});
    let bad_otp = json!({"kind": "otp", "data": {"uri": uri("hotp", "&digits=9")}});
    let bad_codes = json!({"kind": "codes", "data": {"codes": [CODE, CODE]}});
    let bad_rename = json!({"from": format!("{TAG}-none"), "to": TAG});

    let reused = caller.ask_once("a.put", REQUEST, &other).await;
    reused.refusal("request_id_reused");

    let made_up = format!("a.{OPERATION}");
    for (operation, body, code) in [
        ("a.put", conflict, "version_conflict"),
        ("a.put", unknown_field, "bad_request"),
        ("a.put", json!({"kind": TEXT}), "bad_request"),
        ("a.get", json!({"kind": "text", "id": USER}), "not_found"),
        ("a.put", bad_otp, "invalid_item"),
        ("a.put", bad_codes, "invalid_item"),
        ("a.codes.take", json!({"id": USER}), "not_found"),
        ("a.tags.rename", bad_rename, "not_found"),
        (made_up.as_str(), json!({}), "bad_request"),
    ] {
        let reply = caller.ask(operation, &body).await;
        reply.refusal(code);
    }

    // Whether such a code is wrong or refused does not matter here.
    let verify = json!({"id": ITEM, "code": CODE});
    caller.ask("a.otp.verify", &verify).await;

    let mut headers = caller.headers();
    headers.insert("Content-Type", TEXT);
    headers.insert("traceparent", TEXT);
    let bytes = text.to_string().into_bytes();
    let bad_headers = caller.ask_with("a.put", headers, bytes).await;
    bad_headers.refusal("unsupported_encoding");

    let bad_token = caller.with_token(&format!("{}x", caller.token));
    let reply = bad_token.ask("a.list", &json!({})).await;
    reply.refusal("unauthenticated");
}

/// Returns `nats/accounts.conf` with an insider in each of the accounts, who may receive and send
/// everything there, and with a server that logs much.
fn accounts_with_insiders() -> String {
    let mut conf = format!("debug: true\n{ACCOUNTS_CONF}");

    for account in ACCOUNTS {
        let (before, after) = conf
            .split_once(&format!("  {account} {{\n"))
            .expect("an account");
        let insider = format!("users: [\n      {{ user: insider-{account}, password: insider }}\n");
        let after = after.replacen("users: [\n", &insider, 1);

        conf = format!("{before}  {account} {{\n{after}");
    }

    conf
}

/// Connects an insider of an account, and subscribes to everything.
async fn insider(world: &World, account: &str) -> (Client, Subscriber) {
    let user = format!("insider-{account}");
    let insider = ConnectOptions::with_user_and_password(user, "insider".into())
        .connect(world.nats.url())
        .await
        .expect("a connection");

    let mut all = insider.subscribe(">").await.expect("a subscription");
    insider.publish("the.start", "".into()).await.expect("sent");
    let first = all.next().await.expect("a message");
    assert_eq!(first.subject.as_str(), "the.start");

    (insider, all)
}

/// Returns what must not show a mark of a message: its subjects and, unless the message is on the
/// request path, its headers and its body.
fn checked_part(message: &Message) -> Vec<u8> {
    let mut part = format!("{} {:?}\n", message.subject, message.reply).into_bytes();

    let is_on_path = REQUEST_PATH
        .iter()
        .any(|subject| message.subject.starts_with(subject));
    if !is_on_path {
        part.extend(format!("{:?}\n", message.headers).into_bytes());
        part.extend_from_slice(&message.payload);
    }

    part
}

/// Checks that no message of the account shows a mark, except the two that are planted at the end.
/// Returns the subjects of all messages.
async fn check_messages(
    account: &str,
    (insider, mut all): (Client, Subscriber),
    marks: &[String],
) -> Vec<String> {
    let subject_with_mark = format!("planted.{}", marks[0]);
    let body_with_mark = marks[1].clone();
    for (subject, body) in [
        (subject_with_mark, String::new()),
        ("planted".to_owned(), body_with_mark),
        ("the.end".to_owned(), String::new()),
    ] {
        insider.publish(subject, body.into()).await.expect("sent");
    }

    let mut subjects = Vec::new();
    let mut planted = 0;
    while let Some(message) = all.next().await {
        let subject = message.subject.to_string();
        if subject == "the.end" {
            break;
        }

        let mark = found(marks, &checked_part(&message));
        if subject.starts_with("planted") {
            planted += usize::from(mark.is_some());
        } else {
            assert_eq!(mark, None, "in {account} on {subject}");
        }
        subjects.push(subject);
    }

    assert_eq!(planted, 2, "the planted marks are found in {account}");
    subjects
}

/// Checks that a backup of the shard's database shows no mark. It has bytes in hexadecimal.
fn check_dump(world: &World, marks: &[String]) {
    let bin = &world.shared.servers.postgres_bin;
    let url = world.settings("a").postgres.url;
    let plant = format!("create table planted as select repeat('{TEXT}', 1000) as words");

    let rows = world.query("a", "select count(*) from item_version");
    let rows: u64 = rows.parse().expect("a number");
    assert!(rows >= 5, "the rows are there: {rows}");
    assert_eq!(found(marks, &dump(bin, &url)), None);

    world.query("a", &plant);
    let mark = found(marks, &dump(bin, &url));
    assert!(mark.is_some(), "a planted mark is found");
}

/// Checks that neither the server nor the worker logs a mark, although both log much.
fn check_logs(world: &World, settings: &Settings, worker: &ChildProcess, marks: &[String]) {
    let of_server = fs::read(world.directory.join("nats.log")).expect("a log");
    let of_worker = fs::read(worker.log()).expect("a log");
    let secrets = [
        settings.keys.identity.clone(),
        settings.keys.encryption.clone(),
        settings.postgres.url.clone(),
    ];
    let passwords = Role::ALL.map(|role| settings.nats.user(role).password.clone());

    let text = String::from_utf8_lossy(&of_server).into_owned();
    assert!(text.contains("[DBG]"), "the server logs much");
    let text = String::from_utf8_lossy(&of_worker).into_owned();
    assert!(text.contains("was answered"), "the worker logs requests");

    // The client library logs subjects at this level. The service does not log a made-up one.
    for line in text.lines().filter(|line| line.contains(OPERATION)) {
        let is_of_library = line.contains("\"target\":\"async_nats\"");
        assert!(is_of_library, "{line}");
    }

    for mut log in [of_server, of_worker] {
        assert_eq!(found(marks, &log), None);
        assert_eq!(found(&secrets, &log), None, "a secret of the worker");
        assert_eq!(found(&passwords, &log), None, "a password of the worker");

        log.extend_from_slice(marks[0].as_bytes());
        assert!(found(marks, &log).is_some(), "a planted mark is found");
    }
}

/// Checks that the files of the bucket hold no mark.
fn check_store(mut world: World, marks: &[String]) {
    world.nats.stop().expect("stopped");
    let store = world.directory.join("store");
    let planted = store.join("planted");
    let bytes = |path: &Path| fs::read(path).expect("a file");

    let scanned = files(&store);
    let with_records = scanned.iter().filter(|path| {
        bytes(path)
            .windows(14)
            .any(|window| window == b"$KV.favorites.")
    });
    assert!(with_records.count() > 0, "no records in {scanned:?}");
    for path in &scanned {
        let mark = found(marks, &bytes(path));
        assert_eq!(mark, None, "in {}", path.display());
    }

    let with_mark = [&[0xff, 0x00][..], marks[3].as_bytes(), b"\n"].concat();
    fs::write(&planted, with_mark).expect("written");
    let with_marks: Vec<_> = files(&store)
        .into_iter()
        .filter(|path| found(marks, &bytes(path)).is_some())
        .collect();
    assert_eq!(with_marks, [planted], "the planted mark is found");
}

/// Goal: an owner's data can be read only on the way between the caller, the worker and the auth
/// service.
///
/// Method: a caller sends marked data through every operation to a worker that logs all it can.
/// Insiders receive every message of four accounts. Then a dump of Postgres, the logs, the
/// messages and the files of the bucket are searched for the marks. A mark that is planted in each
/// of them shows that the search finds it.
#[tokio::test(flavor = "multi_thread")]
async fn an_owners_data_is_readable_on_the_request_path_only() {
    let world = World::with_accounts(&accounts_with_insiders()).await;
    let mut settings = world.settings("a");
    settings.worker.ready_file = world.directory.join("ready");
    world.init(&settings).await.expect("init");
    let mut insiders = Vec::new();
    for account in ACCOUNTS {
        insiders.push((account, insider(&world, account).await));
    }
    let mut worker = serve(&world, &settings);
    wait_until_ready(&mut worker, &settings).await;
    let token = world.token(USER, ALL_SCOPES, Duration::from_secs(600));
    let caller = Caller::new(world.connect("gateway").await, token);
    let marks = marks(&caller);

    send_requests(&caller).await;
    send_bad_requests(&caller).await;

    check_dump(&world, &marks);

    let status = worker
        .stop(Signal::SIGTERM, Duration::from_secs(10))
        .expect("it ended");
    assert!(status.success(), "{}", worker.last_lines());
    check_logs(&world, &settings, &worker, &marks);

    let mut subjects = Vec::new();
    for (account, insider) in insiders {
        subjects.extend(check_messages(account, insider, &marks).await);
    }
    for (start, min) in RECEIVED_MIN {
        let received = subjects.iter().filter(|subject| subject.starts_with(start));
        let count = received.count();
        assert!(count >= min, "{count} of {start} were received");
    }

    check_store(world, &marks);
}

#[test]
fn a_mark_is_found_in_every_form() {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    let marks = [USER.to_owned()];

    for around in ["", "a", "ab", "abc"] {
        let text = format!("{around}{USER}{around}");
        let hex: String = text.bytes().map(|byte| format!("{byte:02X}")).collect();
        let forms = [
            text.clone(),
            text.to_uppercase(),
            hex,
            STANDARD.encode(&text),
            URL_SAFE_NO_PAD.encode(&text),
        ];

        for form in forms {
            assert!(found(&marks, form.as_bytes()).is_some(), "{form}");
        }
    }

    assert_eq!(found(&marks, b"mark-of-a-user-7c1f"), None);
}
