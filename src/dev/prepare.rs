//! Prepares the containers of `docker-compose.yml`: their certificates, passwords and keys, and the
//! files with which a person on the host uses them.
//!
//! Each service has a directory of its own, a volume, and sees no other. The secrets are generated
//! once. Everything else is derived from them and from the options, so that a second run changes
//! nothing.

use super::description::{PlatformDescription, Shard};
use super::network::Topology;
use super::platform::database_name;
use super::role::{ACCOUNTS_CONF, HUB_DOMAIN, LEAF_ACCOUNTS_CONF};
use super::secrets::{Secrets, write_private};
use super::settings::SettingsFor;
use super::state::lock_state;
use anyhow::{Context as _, bail};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The host name of the hub.
const HUB: &str = "hub";
/// The port of the hub for leaves.
const LEAFNODE_PORT: u16 = 7422;
/// The port of every Postgres server within the containers' networks.
const POSTGRES_PORT: u16 = 5432;
/// The user of the shards' databases, `POSTGRES_USER` in `docker-compose.yml`.
const POSTGRES_USER: &str = "gofavorites";
/// Where a NATS server's container has its directory.
const NATS_DIRECTORY: &str = "/run/nats";

/// What the containers are, and where they are reached from the host.
#[derive(Clone, Debug)]
pub struct PrepareOptions {
    /// The directory with a directory for each service.
    pub out: PathBuf,
    /// The directory for a person on the host.
    pub state: PathBuf,
    /// The same directory, as the host names it.
    pub state_on_host: PathBuf,
    /// The hub's port on the host.
    pub hub_port: u16,
    /// The shards.
    pub shards: Vec<PublishedShard>,
    /// The parameters of `postgres.url`.
    pub postgres_parameters: String,
    /// The user and group of this program's containers.
    pub user: u32,
}

/// A shard, and the ports of its servers on the host: `a:4222:5432`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedShard {
    /// The shard's id.
    pub id: String,
    /// The port of its NATS server.
    pub nats_port: u16,
    /// The port of its Postgres server.
    pub postgres_port: u16,
}

impl FromStr for PublishedShard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let port = |text: &str| {
            text.parse()
                .map_err(|_| format!("{text} is no port of the host"))
        };

        let [id, nats_port, postgres_port] = parts[..] else {
            return Err("expected id:nats-port:postgres-port, such as a:4222:5432".into());
        };
        Ok(Self {
            id: id.into(),
            nats_port: port(nats_port)?,
            postgres_port: port(postgres_port)?,
        })
    }
}

impl PublishedShard {
    /// The host name of its NATS server.
    fn leaf(&self) -> String {
        format!("leaf-{}", self.id)
    }

    /// The host name of its Postgres server.
    fn postgres(&self) -> String {
        format!("postgres-{}", self.id)
    }

    fn nats_url_on_host(&self) -> String {
        format!("nats://127.0.0.1:{}", self.nats_port)
    }
}

/// Writes everything that is not there yet.
///
/// # Errors
///
/// The directory for a person on the host holds the secrets of another platform, or is in use.
pub fn prepare(options: &PrepareOptions) -> anyhow::Result<()> {
    let secrets = load_secrets(options)?;

    for server in servers(options) {
        write_server(options, &secrets, &server)?;
    }
    for shard in &options.shards {
        write_shard(options, &secrets, shard)?;
    }
    write_maintain(options, &secrets)?;
    write_auth_keys(options, &secrets)?;

    write_state(options, &secrets)
}

/// Reads the secrets from a directory that no other container sees, or generates them.
fn load_secrets(options: &PrepareOptions) -> anyhow::Result<Secrets> {
    let directory = options.out.join("secrets");
    let file = directory.join("secrets.json");

    if !file.exists() {
        fs::create_dir_all(&directory)?;
        let secrets = Secrets::generate_for(&servers(options))?;
        write_private(&file, &serde_json::to_string_pretty(&secrets)?)?;
    }

    Secrets::load(&file)
}

/// The host names of the NATS servers.
fn servers(options: &PrepareOptions) -> Vec<String> {
    let leaves = options.shards.iter().map(PublishedShard::leaf);

    [HUB.to_owned()].into_iter().chain(leaves).collect()
}

/// A service's directory.
struct ServiceDirectory {
    path: PathBuf,
    owner: u32,
}

impl ServiceDirectory {
    fn create(options: &PrepareOptions, name: &str, owner: u32) -> anyhow::Result<Self> {
        let path = options.out.join(name);
        fs::create_dir_all(&path)?;
        give(&path, owner, owner, 0o755)?;

        Ok(Self { path, owner })
    }

    /// Writes a file that only the service's user may read.
    fn write_secret(&self, name: &str, text: &str) -> anyhow::Result<()> {
        self.write(name, text, 0o600)
    }

    /// Writes a file that every user of the container may read.
    fn write_public(&self, name: &str, text: &str) -> anyhow::Result<()> {
        self.write(name, text, 0o644)
    }

    /// Leaves a file that is right as it is: a running service may read it at this moment.
    fn write(&self, name: &str, text: &str, mode: u32) -> anyhow::Result<()> {
        let file = self.path.join(name);
        if fs::read_to_string(&file).is_ok_and(|present| present == text) {
            return Ok(());
        }

        let draft = self.path.join(format!("{name}.draft"));
        write_private(&draft, text)?;
        give(&draft, self.owner, self.owner, mode)?;

        fs::rename(&draft, &file).with_context(|| format!("{} cannot be written", file.display()))
    }
}

/// Sets the owner, unless it is right, and the mode of a file or directory.
fn give(path: &Path, user: u32, group: u32, mode: u32) -> anyhow::Result<()> {
    let metadata = fs::metadata(path)?;
    if (metadata.uid(), metadata.gid()) != (user, group) {
        chown(path, Some(user), Some(group))
            .with_context(|| format!("{} cannot be given to user {user}", path.display()))?;
    }

    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

/// Writes the files of a NATS server: its certificate, and the variables of its configuration for a
/// shell.
fn write_server(options: &PrepareOptions, secrets: &Secrets, server: &str) -> anyhow::Result<()> {
    let certificates = &secrets.certificates;
    let certificate = certificates.hosts.get(server).with_context(|| {
        format!("there is no certificate for {server}: remove the volumes, to start over")
    })?;

    let directory = ServiceDirectory::create(options, server, own_user(options))?;
    directory.write_public("ca.pem", &certificates.authority)?;
    directory.write_public("cert.pem", &certificate.cert)?;
    directory.write_secret("key.pem", &certificate.key)?;
    directory.write_secret("variables", &variables(secrets, server))
}

/// The user of the containers that take this program's own user: root in a container.
fn own_user(options: &PrepareOptions) -> u32 {
    fs::metadata(options.out.join("secrets")).map_or(0, |metadata| metadata.uid())
}

/// Returns the variables of a server's configuration, one for each line. The server parses their
/// values like text of its configuration, so they are quoted for it and for the shell.
fn variables(secrets: &Secrets, server: &str) -> String {
    let file = |name: &str| format!("\"{NATS_DIRECTORY}/{name}\"");
    let link = |user: &str| {
        format!(
            "[\"tls://{user}:{}@{HUB}:{LEAFNODE_PORT}\"]",
            secrets.nats(user)
        )
    };

    let (accounts, mut all) = if server == HUB {
        let listen = format!("\"0.0.0.0:{LEAFNODE_PORT}\"");
        (ACCOUNTS_CONF, vec![("LEAF_LISTEN", listen)])
    } else {
        let links = vec![
            ("LEAF_NAME", server.to_owned()),
            ("HUB_TRUTH", link("leaf")),
            ("HUB_SERVICE", link("leaf_service")),
            ("HUB_AUTH", link("leaf_auth")),
        ];
        (LEAF_ACCOUNTS_CONF, links)
    };
    all.extend([
        ("TLS_CA", file("ca.pem")),
        ("TLS_CERT", file("cert.pem")),
        ("TLS_KEY", file("key.pem")),
    ]);

    let passwords = secrets
        .nats_variables()
        .filter(|(name, _)| accounts.contains(&format!("${name},")))
        .map(|(name, value)| format!("{name}='{value}'\n"));
    let others = all
        .iter()
        .map(|(name, value)| format!("{name}='{value}'\n"));

    others.chain(passwords).collect()
}

/// Writes the files of a shard's Postgres, of its workers and of its `init`.
fn write_shard(
    options: &PrepareOptions,
    secrets: &Secrets,
    shard: &PublishedShard,
) -> anyhow::Result<()> {
    // Its server reads the file as a user of its own.
    let postgres = ServiceDirectory::create(options, &shard.postgres(), own_user(options))?;
    postgres.write_public("password", &secrets.postgres)?;

    let url = postgres_url(options, secrets, shard, (&shard.postgres(), POSTGRES_PORT));
    let programs = [
        ("worker", &["worker", "front", "auth", "operator"][..]),
        ("init", &["init"][..]),
    ];
    for (program, users) in programs {
        let name = format!("{program}-{}", shard.id);
        let directory = write_program(options, secrets, &name, users)?;
        directory.write_secret("postgres.url", &url)?;
    }

    Ok(())
}

fn write_maintain(options: &PrepareOptions, secrets: &Secrets) -> anyhow::Result<()> {
    write_program(options, secrets, "maintain", &["maintain"]).map(|_| ())
}

/// Writes what every container of this program has: the passwords of its NATS users, the keys, and
/// the authority that signed the NATS servers' certificates.
fn write_program(
    options: &PrepareOptions,
    secrets: &Secrets,
    name: &str,
    users: &[&str],
) -> anyhow::Result<ServiceDirectory> {
    let directory = ServiceDirectory::create(options, name, options.user)?;

    for user in users {
        directory.write_secret(&format!("{user}.password"), secrets.nats(user))?;
    }
    directory.write_secret("identity.key", &secrets.identity)?;
    directory.write_secret("encryption.key", &secrets.encryption)?;
    directory.write_public("ca.pem", &secrets.certificates.authority)?;

    Ok(directory)
}

/// Writes the public keys of the stand-in auth service.
fn write_auth_keys(options: &PrepareOptions, secrets: &Secrets) -> anyhow::Result<()> {
    let directory = ServiceDirectory::create(options, "auth-keys", options.user)?;

    directory.write_public("verdict-keys.json", &secrets.verdict_jwks()?)?;
    directory.write_public("token-keys.json", &secrets.token_jwks()?)
}

/// Returns the URL of a shard's database on that server.
fn postgres_url(
    options: &PrepareOptions,
    secrets: &Secrets,
    shard: &PublishedShard,
    (host, port): (&str, u16),
) -> String {
    let database = database_name(&shard.id);
    let password = &secrets.postgres;
    let parameters = match options.postgres_parameters.as_str() {
        "" => String::new(),
        parameters => format!("?{parameters}"),
    };

    format!("postgres://{POSTGRES_USER}:{password}@{host}:{port}/{database}{parameters}")
}

/// Writes what a person on the host needs, and gives it to the user whose directory it is.
fn write_state(options: &PrepareOptions, secrets: &Secrets) -> anyhow::Result<()> {
    let state = &options.state;
    let _lock = lock_state(state)?;
    let file = state.join("secrets.json");
    let text = serde_json::to_string_pretty(secrets)?;

    match fs::read_to_string(&file) {
        Ok(present) if present == text => {}
        Ok(_) => bail!(
            "{} holds the secrets of another platform: name another directory",
            options.state_on_host.display()
        ),
        Err(_) => write_private(&file, &text)?,
    }
    fs::write(state.join("ca.pem"), &secrets.certificates.authority)?;
    write_settings_files(options, secrets)?;
    describe(options, secrets).write_once(state, secrets)?;

    let owner = fs::metadata(state)?;
    for entry in fs::read_dir(state)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let mode = entry.metadata()?.permissions().mode();
            give(&entry.path(), owner.uid(), owner.gid(), mode)?;
        }
    }

    Ok(())
}

/// Writes the settings for commands that run on the host.
fn write_settings_files(options: &PrepareOptions, secrets: &Secrets) -> anyhow::Result<()> {
    let ca_file = options.state_on_host.join("ca.pem");
    let write = |name: &str, shard: &PublishedShard, nats: (&str, &str, &str)| {
        let (user, nats_url, domain) = nats;
        let address = ("127.0.0.1", shard.postgres_port);
        let settings = SettingsFor {
            shard: &shard.id,
            user,
            worker_id: "",
            ready_file: Path::new(""),
            nats_url,
            ca_file: &ca_file,
            domain,
            postgres_url: &postgres_url(options, secrets, shard, address),
            reference_subject: "",
        };
        let file = options.state.join(format!("{name}.toml"));
        write_private(&file, &settings.to_toml(secrets)?)
    };

    for shard in &options.shards {
        let name = format!("worker-{}-0", shard.id);
        write(
            &name,
            shard,
            ("worker", &shard.nats_url_on_host(), HUB_DOMAIN),
        )?;
    }

    let shard = options.shards.first().context("no shard")?;
    write(
        "maintain",
        shard,
        ("maintain", &hub_url_on_host(options), ""),
    )
}

fn hub_url_on_host(options: &PrepareOptions) -> String {
    format!("nats://127.0.0.1:{}", options.hub_port)
}

fn describe<'a>(options: &'a PrepareOptions, secrets: &Secrets) -> PlatformDescription<'a> {
    let shards = options.shards.iter().map(|shard| Shard {
        id: &shard.id,
        postgres_url: postgres_url(options, secrets, shard, ("127.0.0.1", shard.postgres_port)),
        nats_url: shard.nats_url_on_host(),
        nats: (format!("leaf-{}", shard.id), None),
        workers: (0..2)
            .map(|number| (format!("worker-{}-{number}", shard.id), None))
            .collect(),
    });
    let shards: Vec<Shard<'_>> = shards.collect();

    PlatformDescription {
        topology: Topology::Leaf,
        pid: None,
        ca_file: Some(options.state_on_host.join("ca.pem")),
        nats_url: shards
            .first()
            .map(|shard| shard.nats_url.clone())
            .unwrap_or_default(),
        nats: None,
        hub: Some((hub_url_on_host(options), None)),
        postgres: None,
        postgres_files: None,
        auth: None,
        reference: None,
        maintain: None,
        shards,
        processes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn options(directory: &Path) -> PrepareOptions {
        let state = directory.join("state");
        fs::create_dir_all(&state).expect("a directory");
        let user = fs::metadata(&state).expect("there").uid();

        PrepareOptions {
            out: directory.join("out"),
            state,
            state_on_host: ".dev".into(),
            hub_port: 3,
            shards: vec!["a:1:2".parse().expect("a shard")],
            postgres_parameters: "sslmode=disable".into(),
            user,
        }
    }

    /// Returns the files below a directory with their texts, except the empty lock.
    fn files(directory: &Path) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();

        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                found.extend(files(&path));
            } else {
                let text = fs::read_to_string(&path).expect("a text");
                found.insert(path, text);
            }
        }

        found
    }

    #[test]
    fn a_second_run_changes_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let options = options(directory.path());

        prepare(&options).expect("prepared");
        let first = files(directory.path());
        prepare(&options).expect("prepared again");
        let second = files(directory.path());

        assert!(first.len() > 30, "only {} files", first.len());
        assert!(first == second, "a file is another");
    }

    #[test]
    fn each_service_has_its_own_secrets_only() {
        let directory = tempfile::tempdir().expect("a directory");
        let options = options(directory.path());

        prepare(&options).expect("prepared");

        let secrets = load_secrets(&options).expect("secrets");
        for (file, text) in files(&options.out) {
            let is_among = |services: &[&str]| {
                let service = file.parent().and_then(Path::file_name).expect("a service");
                services.iter().any(|one| service == *one)
            };
            let has = |secret: &str| text.contains(secret);

            assert!(!has(&secrets.postgres) || !is_among(&["hub", "leaf-a", "maintain"]));
            assert!(!has(secrets.nats("init")) || !is_among(&["worker-a", "maintain"]));
            assert!(!has(&secrets.encryption) || !is_among(&["hub", "leaf-a", "postgres-a"]));
            if is_among(&["auth-keys"]) {
                assert!(!has("\"d\""), "a private key");
            }
        }
    }

    #[test]
    fn the_secrets_of_another_platform_are_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let options = options(directory.path());
        let file = options.state.join("secrets.json");
        Secrets::load(&file).expect("another platform's");
        let before = fs::read_to_string(&file).expect("there");

        let error = prepare(&options).expect_err("another platform's");

        assert!(error.to_string().contains(".dev"), "{error}");
        assert_eq!(fs::read_to_string(&file).expect("there"), before);
    }

    #[test]
    fn each_variable_of_a_configuration_has_a_value() {
        let secrets = Secrets::generate().expect("secrets");
        let hub = include_str!("../../nats/hub.conf");
        let leaf = include_str!("../../nats/leaf.conf");
        let tls = include_str!("../../nats/tls.conf");

        for (server, texts) in [
            (HUB, [hub, tls, ACCOUNTS_CONF]),
            ("leaf-a", [leaf, tls, LEAF_ACCOUNTS_CONF]),
        ] {
            let variables = variables(&secrets, server);

            let code = texts.into_iter().flat_map(str::lines);
            let code = code.filter_map(|line| line.split('#').next());
            for named in code.flat_map(|line| line.split(": $").skip(1)) {
                let name = named.split([',', ' ', '}']).next().unwrap_or_default();
                let is_there = variables
                    .lines()
                    .any(|line| line.starts_with(&format!("{name}='")));
                assert!(is_there, "{server} names {name}");
            }
        }
    }

    #[test]
    fn a_shard_is_an_id_and_two_ports() {
        let shard: PublishedShard = "a:4222:5432".parse().expect("a shard");

        assert_eq!((shard.nats_port, shard.postgres_port), (4222, 5432));
        assert!("a:4222".parse::<PublishedShard>().is_err());
        assert!("a:4222:x".parse::<PublishedShard>().is_err());
    }
}
