//! Connections as production has them: TLS, every kind of credentials, files that change, and secrets
//! in files.

use crate::harness::{Authority, Certificate, Operator, Proxy, World};
use futures::StreamExt as _;
use gofavorites::config::{NatsUserSettings, Settings};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use nkeys::KeyPair;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// The settings of shard `a`, where each connection logs in as that user, with its default inboxes.
fn settings_with(world: &World, user: &NatsUserSettings) -> Settings {
    let mut settings = world.settings("a");
    settings.nats.url = settings.nats.url.replace("tls://", "nats://");
    let defaults = Settings::default().nats;

    let nats = &mut settings.nats;
    for (section, default) in [
        (&mut nats.front, &defaults.front),
        (&mut nats.auth, &defaults.auth),
        (&mut nats.truth, &defaults.truth),
    ] {
        *section = NatsUserSettings {
            inbox_prefix: default.inbox_prefix.clone(),
            ..user.clone()
        };
    }

    settings
}

/// Writes a file that only its user may read.
fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("set");
}

/// A file of the world with a secret.
fn secret(world: &World, name: &str, text: &str) -> PathBuf {
    let path = world.directory.join(name);
    write_secret(&path, text);
    path
}

/// Creates the bucket and starts a worker, without the harness's own connections.
async fn start(world: &World, settings: &Settings) -> crate::harness::Worker {
    let database = world.database("a");
    world
        .shared
        .postgres
        .create_database(&database)
        .expect("a database");
    gofavorites::app::init(settings, gofavorites::app::WaitLimit::FOREVER)
        .await
        .expect("init");

    world.try_worker(settings.clone()).await.expect("a worker")
}

/// Runs `gofavorites version` with these arguments, and returns its exit code and what it printed.
async fn version(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_gofavorites"))
        .args(["version", "--json", "--timeout", "5"])
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .await
        .expect("it starts");

    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("UTF-8");
    (output.status.code().expect("an exit code"), text)
}

/// Waits until a worker answers the command, or fails.
async fn until_answered(arguments: &[&str]) {
    for _ in 0..40 {
        let (code, text) = version(arguments).await;
        if code == 0 && text.contains("shard") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("no worker answers: {:?}", version(arguments).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_and_a_command_log_in_with_credentials_files_that_may_change() {
    let operator = Operator::new();
    let world = World::without_auth(&operator.configuration()).await;
    let good = operator.credentials();
    let file = secret(&world, "worker.creds", &good);
    let user = NatsUserSettings {
        creds_file: file.clone(),
        ..NatsUserSettings::default()
    };
    let mut settings = settings_with(&world, &user);
    let proxy = Proxy::start(&world.nats.url().replace("nats://", "")).await;
    settings.nats.url = format!("nats://127.0.0.1:{}", proxy.port());
    let _worker = start(&world, &settings).await;
    let (url, creds) = (
        world.nats.url(),
        secret(&world, "client.creds", &operator.credentials()),
    );
    let client = ["--url", &url, "--creds", creds.to_str().expect("a path")];
    until_answered(&client).await;

    // The file of another operator is refused from the next connection on.
    write_secret(&file, &Operator::new().credentials());
    proxy.cut();
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.heal();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let (code, text) = version(&client).await;
    assert_eq!(code, 8, "{text}");
    assert!(text.contains("nobody answers"), "{text}");

    write_secret(&file, &operator.credentials());
    until_answered(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nkey_and_a_user_in_the_url_are_used() {
    let key = KeyPair::new_user();
    let accounts = format!(
        "accounts {{ ALL {{ jetstream: enabled, users: [\n\
         {{ nkey: {} }}, {{ user: \"wor@ker\", password: \"p,w:%\" }}\n] }} }}\n",
        key.public_key()
    );
    let world = World::without_auth(&accounts).await;
    let seed = secret(&world, "seed", &key.seed().expect("a seed"));
    let user = NatsUserSettings {
        nkey_seed_file: seed.clone(),
        ..NatsUserSettings::default()
    };
    let worker = start(&world, &settings_with(&world, &user)).await;
    let url = world.nats.url();
    let in_url = url.replace("nats://", "nats://wor%40ker:p%2Cw%3A%25@");
    until_answered(&["--url", &url, "--nkey-file", seed.to_str().expect("a path")]).await;
    until_answered(&["--url", &in_url]).await;
    worker.stop().await.expect("stopped");

    let mut settings = settings_with(&world, &NatsUserSettings::default());
    settings.nats.url = in_url.clone();
    let _worker = world.try_worker(settings).await.expect("a worker");

    until_answered(&["--url", &in_url]).await;
    let several = format!("nats://127.0.0.1:1,{in_url}");
    until_answered(&["--url", &several]).await;
    let (code, text) = version(&["--url", &in_url.replace("%25", "x")]).await;
    assert_eq!(code, 8, "{text}");
    assert!(!text.contains("p%2Cw") && !text.contains("p,w"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_used() {
    let world = World::without_auth("authorization { token: \"s3cr/et\" }\n").await;
    let token = secret(&world, "token", "s3cr/et\n");
    let user = NatsUserSettings {
        token_file: token.clone(),
        ..NatsUserSettings::default()
    };
    let _worker = start(&world, &settings_with(&world, &user)).await;

    let url = world.nats.url();
    let file = token.to_str().expect("a path");
    until_answered(&["--url", &url, "--nats-token-file", file]).await;
    until_answered(&["--url", &url.replace("nats://", "nats://s3cr%2Fet@")]).await;
}

/// The accounts of `nats/`, with TLS and certificates of clients required.
fn with_tls(authority: &Authority, server: &Certificate) -> String {
    format!(
        "{ACCOUNTS_CONF}\ntls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}\n",
        server.cert,
        server.key,
        authority.file()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tls_both_sides_show_certificates_and_the_files_may_change() {
    let directory = tempfile::tempdir().expect("a directory");
    let authority = Authority::new(directory.path(), "ca");
    let other = Authority::new(directory.path(), "other");
    let (server, client) = (authority.sign("server"), authority.sign("client"));
    let world = World::without_auth(&with_tls(&authority, &server)).await;
    let mut settings = world.settings("a");
    let address = settings
        .nats
        .url
        .replace("tls://", "")
        .replace("nats://", "");
    let proxy = Proxy::start(&address).await;
    settings.nats.url = format!("nats://127.0.0.1:{}", proxy.port());
    settings.nats.tls.required = true;
    settings.nats.tls.ca_file = authority.file();
    settings.nats.tls.cert_file = client.cert.clone();
    settings.nats.tls.key_file = client.key.clone();

    let mut init = settings.clone();
    world.connect_all_as(&mut init, "init");
    world
        .shared
        .postgres
        .create_database(&world.database("a"))
        .expect("a database");
    gofavorites::app::init(&init, gofavorites::app::WaitLimit::FOREVER)
        .await
        .expect("init");
    let _worker = world.try_worker(settings.clone()).await.expect("a worker");

    let password = secret(&world, "gateway", world.secrets.nats("gateway"));
    let url = format!("nats://{address}");
    let path = |path: &Path| path.to_str().expect("a path").to_owned();
    let (ca, cert, key) = (
        path(&authority.file()),
        path(&client.cert),
        path(&client.key),
    );
    let user = [
        "--url",
        &url,
        "--user",
        "gateway",
        "--password-file",
        &path(&password),
    ]
    .map(str::to_owned);
    let command = |more: &[&str]| -> Vec<String> {
        let more = more.iter().map(|one| (*one).to_owned());
        user.iter().cloned().chain(more).collect()
    };
    fn refs(command: &[String]) -> Vec<&str> {
        command.iter().map(String::as_str).collect()
    }
    let full = command(&[
        "--tls-required",
        "--tls-ca",
        &ca,
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
    ]);
    until_answered(&refs(&full)).await;

    // Without the authority, or without a certificate, nobody gets in.
    for partial in [
        command(&["--tls-cert", &cert, "--tls-key", &key]),
        command(&[
            "--tls-ca",
            &path(&other.file()),
            "--tls-cert",
            &cert,
            "--tls-key",
            &key,
        ]),
        command(&["--tls-ca", &ca]),
    ] {
        let (code, text) = version(&refs(&partial)).await;
        assert_eq!(code, 8, "{partial:?}: {text}");
    }
    let mut distrustful = settings.clone();
    distrustful.nats.tls.ca_file = other.file();
    let refused = world.try_worker(distrustful).await.err().expect("refused");
    assert!(
        format!("{refused:#}").contains("certificate"),
        "{refused:#}"
    );

    // The authority's file is read again at each connection.
    let good = fs::read(authority.file()).expect("readable");
    fs::copy(other.file(), authority.file()).expect("copied");
    proxy.cut();
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.heal();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    fs::write(directory.path().join("client-ca.pem"), &good).expect("written");
    let ca = path(&directory.path().join("client-ca.pem"));
    let full = command(&[
        "--tls-required",
        "--tls-ca",
        &ca,
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
    ]);
    let (code, text) = version(&refs(&full)).await;
    assert_eq!(code, 8, "{text}");
    assert!(text.contains("nobody answers"), "{text}");
    fs::write(authority.file(), &good).expect("written");
    until_answered(&refs(&full)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    world.init(&world.settings("a")).await.expect("init");
    let mut settings = world.settings("a");
    settings.nats.tls.required = true;

    let limit = Duration::from_secs(10);
    let refused = tokio::time::timeout(limit, world.try_worker(settings)).await;

    let refused = refused.expect("it does not wait").err().expect("refused");
    assert!(format!("{refused:#}").contains("nats.tls"), "{refused:#}");
    let password = secret(&world, "gateway", world.secrets.nats("gateway"));
    let file = password.to_str().expect("a path");
    let url = world.nats.url();
    let user = ["--url", &url, "--user", "gateway", "--password-file", file];
    let (code, text) = version(&[&user[..], &["--tls-required"]].concat()).await;
    assert_eq!(code, 8, "{text}");
}

/// Goal: a worker goes on at another server of the cluster, except with `nats.ignore_discovered`.
///
/// Method: two workers know one of three servers by its address. Only one of them may use what the
/// server says about the others. Then that server stops.
#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_not_named_are_used_unless_they_are_to_be_ignored() {
    let (mut world, cluster) = World::cluster(ACCOUNTS_CONF).await;
    let following = world.worker("a").await;
    let mut settings = world.settings("b");
    settings.nats.ignore_discovered = true;
    let ignoring = world.worker_with(settings).await;
    assert_eq!(world.stats(2).await.len(), 2);

    world.nats.stop().expect("stopped");
    let operator = world.connect_at(&cluster.others[0].url(), "operator").await;
    let shards = async || {
        let inbox = operator.new_inbox();
        let mut replies = operator.subscribe(inbox.clone()).await.expect("subscribed");
        let asked = operator.publish_with_reply("$SRV.PING.favorites", inbox, "".into());
        asked.await.expect("sent");

        let mut shards = Vec::new();
        let limit = Duration::from_secs(1);
        while let Ok(Some(reply)) = tokio::time::timeout(limit, replies.next()).await {
            if reply.status.is_none() {
                let reply: Value = serde_json::from_slice(&reply.payload).expect("JSON");
                shards.push(
                    reply["metadata"]["shard"]
                        .as_str()
                        .expect("a shard")
                        .to_owned(),
                );
            }
        }
        shards
    };
    let start = Instant::now();
    while shards().await != ["a"] {
        assert!(start.elapsed() < Duration::from_secs(30), "it is not found");
    }

    // Both get the time in which the first one came back, once more.
    tokio::time::sleep(start.elapsed()).await;
    assert_eq!(shards().await, ["a"]);
    following.crash().await;
    ignoring.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_stand_in_files_and_empty_variables_are_not_given() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let settings = world.settings("a");
    let file = |name: &str, text: &str| secret(&world, name, &format!("{text}\n"));
    let files = [
        (
            "NATS__TRUTH__PASSWORD",
            file("nats", &settings.nats.truth.password),
        ),
        ("POSTGRES__URL", file("postgres", &settings.postgres.url)),
        ("KEYS__IDENTITY", file("identity", &settings.keys.identity)),
        (
            "KEYS__ENCRYPTION",
            file("encryption", &settings.keys.encryption),
        ),
    ];
    let program = |arguments: &[&str]| {
        let mut command = world.program("a", arguments);
        command
            .env_remove("GOFAVORITES_CONFIG")
            .env("GOFAVORITES__NATS__URL", &settings.nats.url)
            .env("GOFAVORITES__NATS__TRUTH__USER", "worker")
            .env("GOFAVORITES__SHARD__ID", "a")
            .env("GOFAVORITES__AUTH__ISSUER", &settings.auth.issuer)
            .env(
                "GOFAVORITES__AUTH__VERDICT_KEYS",
                &settings.auth.verdict_keys,
            )
            .env("GOFAVORITES__NATS__TRUTH__TOKEN", "")
            .env("GOFAVORITES__WORKER__REPLY_PREFIXES", "");
        for (name, file) in &files {
            command.env(format!("GOFAVORITES__{name}_FILE"), file);
        }
        command
    };

    let shown = program(&["config"]).output().await.expect("it starts");
    let text = String::from_utf8(shown.stdout).expect("UTF-8");
    assert!(shown.status.success(), "{text}");
    for (_, file) in &files {
        assert!(text.contains(&file.display().to_string()), "{text}");
    }
    for secret in [&settings.keys.identity, &settings.nats.truth.password] {
        assert!(!text.contains(secret), "a secret is printed");
    }

    let verified = program(&["verify"]).output().await.expect("it starts");
    let text = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success(), "{text}");

    let mut twice = program(&["verify"]);
    twice.env("GOFAVORITES__KEYS__IDENTITY", &settings.keys.identity);
    let refused = twice.output().await.expect("it starts");
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && text.contains("keys.identity_file"),
        "{text}"
    );
}
