//! Connections as production has them: TLS, every kind of credentials, files that change, and
//! secrets in files.

use crate::harness::{Authority, Certificate, Operator, Proxy, Worker, World};
use futures::StreamExt as _;
use gofavorites::config::{NatsUserSettings, Settings};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use nkeys::KeyPair;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// Returns the settings of shard `a`. Each connection logs in as that user, and has its default
/// inboxes.
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

/// Writes a file with a secret into the world's directory, and returns its path.
fn secret(world: &World, name: &str, text: &str) -> PathBuf {
    let path = world.directory.join(name);
    write_secret(&path, text);

    path
}

/// Creates the database and the bucket, without the harness's own connections.
async fn init(world: &World, settings: &Settings) {
    let database = world.database("a");
    world
        .shared
        .postgres
        .create_database(&database)
        .expect("a database");

    gofavorites::app::init(settings, None, gofavorites::app::WaitLimit::FOREVER)
        .await
        .expect("init");
}

/// Creates the bucket and starts a worker, without the harness's own connections.
async fn start(world: &World, settings: &Settings) -> Worker {
    init(world, settings).await;

    world.try_worker(settings.clone()).await.expect("a worker")
}

/// Runs `gofavorites version` with these arguments, and returns its exit code and what it printed.
async fn version(arguments: &[impl AsRef<OsStr>]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_gofavorites"))
        .args(["version", "--json", "--timeout", "5s"])
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

/// Waits until a worker answers the command. Panics if none answers in time.
async fn until_answered(arguments: &[impl AsRef<OsStr>]) {
    for _ in 0..40 {
        let (code, text) = version(arguments).await;
        if code == 0 && text.contains("shard") {
            return;
        }

        tokio::time::sleep(Duration::from_millis(250)).await;
    }

    panic!("no worker answers: {:?}", version(arguments).await);
}

/// Cuts the proxy's connections, heals it, and gives the worker time to connect again.
async fn interrupt(proxy: &Proxy) {
    proxy.cut();
    tokio::time::sleep(Duration::from_millis(300)).await;

    proxy.heal();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_credentials_file_is_used_at_the_next_login() {
    let operator = Operator::new();
    let world = World::without_auth(&operator.configuration()).await;
    let file = secret(&world, "worker.creds", &operator.credentials());
    let user = NatsUserSettings {
        creds_file: file.clone(),
        ..NatsUserSettings::default()
    };
    let mut settings = settings_with(&world, &user);
    let proxy = Proxy::start(&world.nats.url().replace("nats://", "")).await;
    settings.nats.url = format!("nats://127.0.0.1:{}", proxy.port());
    let _worker = start(&world, &settings).await;
    let url = world.nats.url();
    let creds = secret(&world, "client.creds", &operator.credentials());
    let client = ["--url", &url, "--creds", creds.to_str().expect("a path")];
    until_answered(&client).await;

    // The file of another operator is refused from the next connection on.
    write_secret(&file, &Operator::new().credentials());
    interrupt(&proxy).await;
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
    assert_eq!(code, 6, "{text}");
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

/// A platform whose NATS server uses TLS and requires certificates of clients, with a proxy between
/// the worker and the server.
struct TlsPlatform {
    proxy: Proxy,
    world: World,
    /// The server's address without the proxy.
    address: String,
    authority: Authority,
    client: Certificate,
}

impl TlsPlatform {
    async fn start(directory: &Path) -> Self {
        let authority = Authority::new(directory, "ca");
        let server = authority.sign("server");
        let client = authority.sign("client");
        let accounts = format!(
            "{ACCOUNTS_CONF}\n\
             tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}\n",
            server.cert,
            server.key,
            authority.file()
        );

        let world = World::without_auth(&accounts).await;
        let url = world.settings("a").nats.url;
        let address = url.replace("tls://", "").replace("nats://", "");
        let proxy = Proxy::start(&address).await;

        Self {
            proxy,
            world,
            address,
            authority,
            client,
        }
    }

    /// Returns the settings of a worker that connects through the proxy.
    fn settings(&self) -> Settings {
        let mut settings = self.world.settings("a");
        settings.nats.url = format!("nats://127.0.0.1:{}", self.proxy.port());
        settings.nats.tls.required = true;
        settings.nats.tls.ca_file = self.authority.file();
        settings.nats.tls.cert_file = self.client.cert.clone();
        settings.nats.tls.key_file = self.client.key.clone();

        settings
    }

    async fn start_worker(&self) -> Worker {
        let mut settings = self.settings();
        self.world.connect_all_as(&mut settings, "init");
        init(&self.world, &settings).await;

        let worker = self.world.try_worker(self.settings()).await;
        worker.expect("a worker")
    }

    /// Returns the arguments of a command that connects without the proxy, and has these files.
    fn arguments(&self, ca: Option<&Path>, client: Option<&Certificate>) -> Vec<OsString> {
        let password = self.world.secrets.nats("gateway");
        let password_file = secret(&self.world, "gateway", password);
        let mut arguments: Vec<OsString> = vec![
            "--url".into(),
            format!("nats://{}", self.address).into(),
            "--user".into(),
            "gateway".into(),
            "--password-file".into(),
            password_file.into(),
        ];

        if let Some(ca) = ca {
            arguments.push("--tls-ca".into());
            arguments.push(ca.into());
        }
        if let Some(client) = client {
            arguments.push("--tls-cert".into());
            arguments.push(client.cert.clone().into());
            arguments.push("--tls-key".into());
            arguments.push(client.key.clone().into());
        }

        arguments
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tls_both_sides_have_to_show_their_certificates() {
    let directory = tempfile::tempdir().expect("a directory");
    let platform = TlsPlatform::start(directory.path()).await;
    let ca = platform.authority.file();
    let other = Authority::new(directory.path(), "other");
    let client = Some(&platform.client);
    let _worker = platform.start_worker().await;

    let mut complete = platform.arguments(Some(&ca), client);
    complete.push("--tls-required".into());
    until_answered(&complete).await;

    let without_authority = platform.arguments(None, client);
    let with_other_authority = platform.arguments(Some(&other.file()), client);
    let without_certificate = platform.arguments(Some(&ca), None);
    for arguments in [without_authority, with_other_authority, without_certificate] {
        let (code, text) = version(&arguments).await;
        assert_eq!(code, 8, "{arguments:?}: {text}");
    }

    let mut settings = platform.settings();
    settings.nats.tls.ca_file = other.file();
    let refused = platform.world.try_worker(settings).await.err();
    let error = format!("{:#}", refused.expect("refused"));
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_authorities_is_read_again_at_each_connection() {
    let directory = tempfile::tempdir().expect("a directory");
    let platform = TlsPlatform::start(directory.path()).await;
    let ca = platform.authority.file();
    let good = fs::read(&ca).expect("readable");
    let client_ca = directory.path().join("client-ca.pem");
    fs::write(&client_ca, &good).expect("written");
    let _worker = platform.start_worker().await;
    let mut arguments = platform.arguments(Some(&client_ca), Some(&platform.client));
    arguments.push("--tls-required".into());
    until_answered(&arguments).await;

    let other = Authority::new(directory.path(), "other");
    fs::copy(other.file(), &ca).expect("copied");
    interrupt(&platform.proxy).await;
    let (code, text) = version(&arguments).await;
    assert_eq!(code, 8, "{text}");
    assert!(text.contains("nobody answers"), "{text}");

    fs::write(&ca, &good).expect("written");
    until_answered(&arguments).await;
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

/// Goal: a worker continues at another server of the cluster, except with `nats.ignore_discovered`.
///
/// Method: the settings of two workers name one of three servers. Only one of the workers may use
/// the other servers that this server announces. Then this server stops.
#[tokio::test(flavor = "multi_thread")]
async fn discovered_servers_are_used_unless_they_are_ignored() {
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
        operator
            .publish_with_reply("$SRV.PING.favorites", inbox, "".into())
            .await
            .expect("sent");

        let mut shards = Vec::new();
        let limit = Duration::from_secs(1);
        while let Ok(Some(reply)) = tokio::time::timeout(limit, replies.next()).await {
            if reply.status.is_none() {
                let reply: Value = serde_json::from_slice(&reply.payload).expect("JSON");
                let shard = reply["metadata"]["shard"].as_str().expect("a shard");
                shards.push(shard.to_owned());
            }
        }

        shards
    };

    let start = Instant::now();
    while shards().await != ["a"] {
        assert!(start.elapsed() < Duration::from_secs(30), "it is not found");
    }

    // The other worker gets the same time again to come back.
    tokio::time::sleep(start.elapsed()).await;
    assert_eq!(shards().await, ["a"]);
    following.crash().await;
    ignoring.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_may_hold_secrets_and_empty_variables_are_ignored() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let settings = world.settings("a");

    let file = |name: &str, text: &str| secret(&world, name, &format!("{text}\n"));
    let files = [
        (
            "NATS__TRUTH__PASSWORD",
            file("nats", &settings.nats.truth.password),
        ),
        (
            "POSTGRES__URL",
            file("postgres-url", &settings.postgres.url),
        ),
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
    assert!(!refused.status.success(), "{text}");
    assert!(text.contains("keys.identity_file"), "{text}");
}
