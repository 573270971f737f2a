//! `gofavorites import`: the program itself reads the files of other programs, and stores what they
//! hold with real workers.

use crate::cli::{Outcome, Person};
use crate::format_one::with_recorded_bucket;
use crate::harness::samples::{BANK, OTHER_SECRET, RFC_SECRET, otp_uri};
use crate::harness::{World, isin};
use crate::pages::{blocks, section, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

/// A picture of a QR code with the URI of an `otp`.
const PICTURE: &[u8] = include_bytes!("recorded/qr.jpg");

/// Writes a file that only its owner may read, and returns its path.
fn file(person: &Person, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = person.home.join(name);
    fs::write(&path, content).expect("written");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("set");

    path.to_str().expect("UTF-8").to_owned()
}

/// Runs an import, asserts its exit code and that it prints no secret, and returns its output.
async fn import(person: &Person, arguments: &[&str], code: i32) -> String {
    let arguments = [&["import"], arguments].concat();
    let outcome = person.run(person.connected(&arguments)).await;

    assert_eq!(outcome.code, code, "{}{}", outcome.out, outcome.err);
    for secret in [RFC_SECRET, OTHER_SECRET, "secret=", "data="] {
        let printed = outcome.out.clone() + &outcome.err;
        assert!(!printed.contains(secret), "{printed}");
    }
    outcome.out
}

/// Returns the last line of an output.
fn summary(out: &str) -> &str {
    out.lines().last().expect("a line")
}

/// Returns the ids of the items of that kind, in the order of the list.
async fn ids(person: &Person, kind: &str) -> Vec<String> {
    let list = person.json(&["list", "--kind", kind]).await;
    let items = list["items"].as_array().expect("a list").iter();

    items
        .map(|item| item["id"].as_str().expect("an id").to_owned())
        .collect()
}

/// Returns the export of Aegis with one entry.
fn aegis(secret: &str) -> String {
    json!({
        "version": 1,
        "header": {"slots": null, "params": null},
        "db": {"version": 3, "groups": [{"uuid": "g", "name": "Money"}], "entries": [{
            "type": "totp", "uuid": "e", "name": "savings", "issuer": "Aegis Bank", "note": "x",
            "icon": null, "groups": ["g"],
            "info": {"secret": secret, "algo": "SHA1", "digits": 6, "period": 30},
        }]},
    })
    .to_string()
}

/// Returns the part of an export of Google Authenticator with that index of three. It has one
/// entry.
fn google(index: u8) -> String {
    let name = format!("{BANK}:part-{index}");
    let name_field = [&[0x12, name.len() as u8], name.as_bytes()].concat();
    let entry = [&[0x0a, 6][..], b"foobar", &name_field].concat();
    let message = [
        &[0x0a, entry.len() as u8][..],
        &entry,
        &[0x10, 1, 0x18, 3, 0x20, index, 0x28, 9],
    ];
    let data = STANDARD.encode(message.concat()).replace('+', "%2B");

    format!("otpauth-migration://offline?data={data}\n")
}

/// Goal: each format is recognised and imported, and importing it again adds nothing.
#[tokio::test(flavor = "multi_thread")]
async fn each_format_is_imported_once() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let uris = [
        otp_uri("totp", RFC_SECRET, ""),
        otp_uri("hotp", OTHER_SECRET, "&counter=3").replace("account", "other"),
    ];
    let two_fauth = json!({"app": "2fauth_v5.1.1", "schema": 1, "data": [{
        "otp_type": "totp", "account": "savings", "service": "2F Bank", "secret": RFC_SECRET,
        "digits": 8, "algorithm": "sha256", "period": 60, "counter": null,
    }]});
    let t_invest = json!({"favoriteInstruments": [
        {"figi": "F", "ticker": "SBER", "classCode": "TQBR", "isin": "RU0009029540",
         "instrumentType": "share", "name": "Sberbank", "uid": "U"},
        {"ticker": "USD000UTSTOM", "classCode": "CETS", "isin": "", "instrumentType": "currency"},
    ]});
    let csv = format!("isin,type,tags,note\n{},stock,a;b,mine\n", isin(1));

    let files = [
        ("uris.txt", "otpauth", uris.join("\n"), 2),
        (
            "parts.txt",
            "google",
            google(0) + &google(1) + &google(2),
            3,
        ),
        ("2fauth.json", "2fauth", two_fauth.to_string(), 1),
        ("aegis.json", "aegis", aegis(RFC_SECRET), 1),
        ("list.csv", "csv", csv, 1),
        ("favorites.json", "t-invest", t_invest.to_string(), 2),
    ];
    for (name, format, content, count) in files {
        let path = file(&alice, name, content);

        let first = import(&alice, &[&path], 0).await;
        let second = import(&alice, &[&path, "--shard", "b"], 0).await;

        assert!(first.contains(&format!("{path}: {format}, ")), "{first}");
        let expected = format!("{count} added, 0 already there, 0 differ, 0 failed");
        assert_eq!(summary(&first), expected);
        let expected = format!("0 added, {count} already there, 0 differ, 0 failed");
        assert_eq!(summary(&second), expected);
    }

    let bank = |account: &str| format!("{BANK}:{account}");
    let otps = [
        bank("account"),
        bank("other"),
        bank("part-0"),
        bank("part-1"),
        bank("part-2"),
        "2F Bank:savings".to_owned(),
        "Aegis Bank:savings".to_owned(),
    ];
    assert_eq!(ids(&alice, "otp").await, otps);
    let instruments = [isin(1), "RU0009029540".into(), "MISX:USD000UTSTOM".into()];
    assert_eq!(ids(&alice, "instrument").await, instruments);

    let listed = alice.json(&["get", "instrument", &isin(1)]).await;
    assert_eq!(listed["item"]["tags"], json!(["a", "b"]));
    assert_eq!(listed["item"]["meta"], json!({"note": "mine"}));
    let shown = alice
        .json(&["get", "otp", "2F Bank:savings", "--reveal"])
        .await;
    assert_eq!(shown["item"]["data"]["secret"], RFC_SECRET);
    assert_eq!(shown["item"]["data"]["digits"], 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_of_a_code_is_imported() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let picture = file(&alice, "code.jpg", PICTURE);
    let empty = file(&alice, "empty.jpg", &PICTURE[..60]);

    let out = import(&alice, &[&picture, &empty], 1).await;

    assert!(
        out.contains("QR code 1: added otp Bank:alice: Bank alice (totp)\n"),
        "{out}"
    );
    assert!(out.contains("empty.jpg: picture, 1 entry\n  failed: the picture"));
    assert_eq!(
        summary(&out),
        "1 added, 0 already there, 0 differ, 1 failed"
    );
    assert_eq!(ids(&alice, "otp").await, ["Bank:alice"]);
}

/// Goal: an item that differs is left alone, or with `--replace` gets what the entry gives and
/// keeps the rest. A dry run shows the same and writes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_differs_is_replaced_only_when_asked() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let keys = file(&alice, "keys.json", aegis(RFC_SECRET));
    let list = format!("isin,name\n{},New\n", isin(1));
    let list = file(&alice, "list.csv", list);

    let dry = import(&alice, &[&keys, &list, "--dry-run"], 0).await;
    assert!(dry.contains("entry 1: would be added otp Aegis Bank:savings"));
    assert!(summary(&dry).starts_with("nothing was written: 2 added, "));
    assert!(ids(&alice, "otp").await.is_empty());

    import(&alice, &[&keys, &list, "--tag", "here"], 0).await;
    let put = [
        "put",
        "instrument",
        &isin(1),
        "--type",
        "stock",
        "--name",
        "Old",
    ];
    alice
        .succeeds(&[&put[..], &["--replace", "--tag", "own", "--meta", "a=1"]].concat())
        .await;
    let keys = file(&alice, "keys.json", aegis(OTHER_SECRET));

    let left = import(&alice, &[&keys, &list], 0).await;
    assert_eq!(
        summary(&left),
        "0 added, 0 already there, 2 differ, 0 failed"
    );
    let dry = import(&alice, &[&keys, &list, "--replace", "--dry-run"], 0).await;
    assert!(dry.contains("would be replaced otp Aegis Bank:savings"));
    let replaced = import(&alice, &[&keys, &list, "--replace", "--tag", "new"], 0).await;
    assert_eq!(
        summary(&replaced),
        "0 added, 2 replaced, 0 already there, 0 differ, 0 failed"
    );

    let item = &alice.json(&["get", "instrument", &isin(1)]).await["item"];
    assert_eq!(item["data"]["name"], "New");
    assert_eq!(item["data"]["type"], "stock");
    assert_eq!(item["tags"], json!(["new", "own"]));
    assert_eq!(item["meta"], json!({"a": "1"}));
    let shown = alice
        .json(&["get", "otp", "Aegis Bank:savings", "--reveal"])
        .await;
    assert_eq!(shown["item"]["data"]["secret"], OTHER_SECRET);
    assert_eq!(shown["item"]["tags"], json!(["Money", "here", "new"]));
}

/// Goal: what cannot be imported is named, repeated nowhere, and does not hinder the rest.
#[tokio::test(flavor = "multi_thread")]
async fn entries_that_fail_are_named_and_the_rest_is_kept() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let uris = [
        otp_uri("totp", &format!("{RFC_SECRET}1"), ""),
        otp_uri("totp", RFC_SECRET, ""),
        otp_uri("totp", RFC_SECRET, ""),
        otp_uri("totp", OTHER_SECRET, ""),
    ];
    let uris = file(&alice, "uris.txt", uris.join("\n"));
    let list = format!("isin,type\n{},stock\nXS0000000000,stock\n", isin(1));
    let list = file(&alice, "list.csv", list);
    let locked = json!({"version": 1, "header": {"slots": []}, "db": "eA=="}).to_string();
    let locked = file(&alice, "locked.json", locked);
    let parts = file(&alice, "parts.txt", google(0) + &google(2));

    let out = import(&alice, &[&uris, &list, &locked, &parts], 1).await;

    for line in [
        "  line 1: failed: the secret is not Base32 (A to Z, 2 to 7)\n",
        "  line 3: already there otp ",
        "  line 4: failed: an earlier entry has the same id and other content\n",
        "  line 3: failed: isin: the check digit is 0, expected ",
        "locked.json: aegis, 1 entry\n  failed: this export of Aegis is encrypted",
        "  line 1: failed: part 2 of 3 of this export is missing",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert!(!out.contains("XS0000000000"), "{out}");
    assert_eq!(
        summary(&out),
        "4 added, 1 already there, 0 differ, 5 failed"
    );

    let report = import(&alice, &[&uris, &list, "--json"], 1).await;
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["already_there"], 3);
    assert_eq!(report["failed"], 3);
    assert_eq!(report["entries"][0]["place"], "line 1");
    assert_eq!(report["entries"][0]["outcome"], "failed");
    assert_eq!(report["files"][1]["format"], "csv");
}

/// Goal: what cannot be imported at all is refused before anything is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_open_or_unknown_is_refused() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let keys = file(&alice, "keys.json", aegis(RFC_SECRET));
    let unknown = file(&alice, "unknown.txt", "hello");
    let list = file(&alice, "list.csv", format!("isin\n{}\n", isin(1)));
    for path in [&keys, &list] {
        fs::set_permissions(path, Permissions::from_mode(0o644)).expect("set");
    }

    let open = alice.fails(&["import", &list, &keys], 1).await;
    let unknown = alice.fails(&["import", &list, &unknown], 2).await;
    let missing = alice.fails(&["import", &list, "/nowhere"], 1).await;
    let uri = alice
        .fails(&["import", &otp_uri("totp", RFC_SECRET, "")], 2)
        .await;
    let migration = alice.fails(&["import", google(0).trim()], 2).await;

    assert!(open.contains("chmod 600"), "{open}");
    assert!(unknown.contains("--format"), "{unknown}");
    assert!(missing.contains("/nowhere cannot be read"), "{missing}");
    assert!(uri.contains("never as an argument"), "{uri}");
    assert!(!uri.contains(RFC_SECRET), "{uri}");
    assert_eq!(migration, uri);
    assert!(ids(&alice, "instrument").await.is_empty());

    let input = otp_uri("totp", RFC_SECRET, "");
    let Outcome { code, out, err } = alice.run_with_input(&["import", "-"], &input).await;
    assert_eq!(code, 0, "{err}");
    assert!(
        out.starts_with("the standard input: otpauth, 1 entry\n"),
        "{out}"
    );
}

/// Goal: an import of any size keeps to the limits of the service.
/// Method: a batch has few operations, a reply fits only some of the items, requests have a rate,
/// and the quota is less than the file has.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_keeps_to_the_limits() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.limits.batch = 7;
    settings.limits.items = 20;
    settings.limits.request_bytes = 9_000;
    settings.limits.reply_bytes = 12_000;
    settings.limits.item.name_bytes = 5;
    settings.limits.rate_per_s = 20;
    settings.limits.rate_burst = 1;
    let _a = world.worker_with(settings).await;
    let alice = Person::new(&world, &world.caller("alice").await);

    let note = "n".repeat(3_000);
    let rows: String = (1..=20)
        .map(|number| format!("{},name,{note}\n", isin(number)))
        .collect();
    let fits = file(&alice, "fits.csv", format!("isin,name,note\n{rows}"));
    let more = format!(
        "{new},,\n{},longer,\n{},,\n{new},,\n",
        isin(22),
        isin(1),
        new = isin(21)
    );
    let more = file(&alice, "more.csv", format!("isin,name,note\n{more}"));

    let Outcome { code, out, err } = alice.run(alice.connected(&["import", &fits])).await;
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(
        summary(&out),
        "20 added, 0 already there, 0 differ, 0 failed"
    );
    assert!(err.contains("entries compared: 20 of 20\n"), "{err}");
    assert!(err.contains("entries written: 20 of 20\n"), "{err}");
    let again = import(&alice, &[&fits], 0).await;
    assert!(summary(&again).starts_with("0 added, 20 already there"));

    let out = import(&alice, &[&more], 1).await;
    assert!(
        out.contains("line 2: failed: quota_exceeded (429)"),
        "{out}"
    );
    assert!(
        out.contains("line 5: failed: quota_exceeded (429)"),
        "it repeats line 2: {out}"
    );
    assert!(
        out.contains("line 3: failed: name: must be at most 5 bytes"),
        "{out}"
    );
    assert_eq!(
        summary(&out),
        "0 added, 1 already there, 0 differ, 3 failed"
    );
}

/// Goal: what cannot be read is named also if the comparison with what is there fails.
/// Method: the item is there, and the caller may no longer read secrets.
#[tokio::test(flavor = "multi_thread")]
async fn entries_that_fail_are_named_if_the_comparison_fails() {
    let (world, _a, _b) = World::with_two_shards().await;
    let mut alice = Person::new(&world, &world.caller("alice").await);
    let keys = otp_uri("totp", RFC_SECRET, "");
    let uris = format!("{keys}\nhush\n{keys}\n");
    let keys = file(&alice, "keys.txt", keys);
    let uris = file(&alice, "uris.txt", uris);
    import(&alice, &[&keys], 0).await;
    let scopes = "favorites:read favorites:write";
    alice.token = world.token("alice", scopes, Duration::from_secs(60));

    let out = import(&alice, &["--format", "otpauth", &uris], 6).await;

    for line in [
        "  line 1: failed: not stored, because of the error below\n",
        "  line 2: failed: ",
        "  line 3: failed: not stored, because of the error below\n",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert!(!out.contains("hush"), "{out}");
    assert_eq!(
        summary(&out),
        "0 added, 0 already there, 0 differ, 3 failed"
    );
}

/// Goal: an entry for which a whole batch is refused does not hinder the others.
/// Method: the bucket is of format 1, and does not take an instrument without an ISIN.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_the_bucket_does_not_take_fails_alone() {
    let (_, world, _workers) = with_recorded_bucket().await;
    let alice = Person::new(&world, &world.caller("importer").await);
    let list = format!(
        "isin,mic,ticker\n{},,\n,RTSX,SiZ6\n{},,\n",
        isin(1),
        isin(2)
    );
    let list = file(&alice, "list.csv", list);

    let out = import(&alice, &[&list], 1).await;

    assert!(
        out.contains("line 3: failed: bad_request (400): data: "),
        "{out}"
    );
    assert_eq!(
        summary(&out),
        "2 added, 0 already there, 0 differ, 1 failed"
    );
}

/// Writes the files that the commands of the document name.
fn write_files_of_the_document(alice: &Person, section: &str) {
    let (_, csv) = blocks(section)
        .into_iter()
        .find(|(language, _)| language == "csv")
        .expect("a block of CSV");
    let t_invest = json!({"favoriteInstruments": [
        {"ticker": "SiZ6", "classCode": "SPBFUT", "isin": "", "instrumentType": "futures"},
    ]});

    file(alice, "aegis-export.json", aegis(RFC_SECRET));
    // What is in a file counts, not its name.
    file(alice, "google-1.png", PICTURE);
    file(alice, "google-2.png", PICTURE);
    file(alice, "favourites.csv", csv);
    file(alice, "t-invest.json", t_invest.to_string());
}

/// Each command of the document's section is run, except the one that needs another program.
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_document_are_run() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let document = text("docs/client.md");
    let section = section(&document, "Import");
    write_files_of_the_document(&alice, section);

    let mut count = 0;
    for (_, block) in blocks(section)
        .iter()
        .filter(|(language, _)| language == "sh")
    {
        for line in block.lines() {
            let Some(arguments) = line.strip_prefix("gofavorites ") else {
                continue;
            };
            let arguments: Vec<&str> = arguments.split(' ').collect();
            let mut command = alice.connected(&arguments);
            command.current_dir(Path::new(&alice.home));

            let outcome = alice.run(command).await;
            assert_eq!(outcome.code, 0, "{line}: {}{}", outcome.out, outcome.err);
            count += 1;
        }
    }

    assert_eq!(count, 5);
    let instruments = ["US0378331005", "RTSX:SiZ6"];
    assert_eq!(ids(&alice, "instrument").await, instruments);
    assert_eq!(
        ids(&alice, "otp").await,
        ["Aegis Bank:savings", "Bank:alice"]
    );
}
