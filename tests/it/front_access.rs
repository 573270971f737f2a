//! Who the front is to a real server: each credential, operator mode, and TLS both ways.

use crate::front::{OPEN_ACCOUNT, flush, next, settings, subscribe, wait_for};
use crate::harness::World;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gofavorites::front::{Credential, Credentials, Front, FrontError, FrontSettings, HeaderBlock};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The seed of the nkey above, which the documentation of NATS shows.
const NKEY_SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";

#[tokio::test(flavor = "multi_thread")]
async fn it_connects_with_each_credential_and_with_no_other() {
    let world = World::without_auth(OPEN_ACCOUNT).await;
    let place = world.nats.url().replace("nats://", "");
    let password = world.secrets.nats("worker");

    let by = |credential: Credential| FrontSettings {
        credentials: Credentials::fixed(credential),
        ..settings(&world)
    };
    let in_url = FrontSettings {
        servers: vec![format!("nats://work%65r:{password}@{place}")],
        credentials: Credentials::default(),
        ..settings(&world)
    };
    for settings in [in_url, by(Credential::Nkey(NKEY_SEED.into()))] {
        let front = Front::connect(settings).await.expect("a connection");
        flush(&front).await;
    }

    let wrong = Credential::Password {
        user: "worker".into(),
        password: "wrong".into(),
    };
    for credential in [Credential::None, wrong, Credential::Token("x".into())] {
        let error = Front::connect(by(credential))
            .await
            .err()
            .expect("an error");
        assert!(
            matches!(error, FrontError::Authentication { .. }),
            "{error}"
        );
        assert!(!error.is_temporary());
    }
}

/// Runs openssl, which makes certificates.
fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(directory)
        .output()
        .expect("openssl");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {errors}");
}

/// A certificate authority, a server's certificate and a client's.
fn make_certificates() -> PathBuf {
    let directory = crate::harness::kept_directory();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout";
    for authority in ["ca", "other"] {
        openssl(
            &directory,
            &format!(
                "req -x509 {key} {authority}.key -out {authority}.pem -days 2 -subj /CN={authority}"
            ),
        );
    }
    fs::write(directory.join("san"), "subjectAltName=DNS:localhost\n").expect("written");
    for name in ["server", "client"] {
        openssl(
            &directory,
            &format!("req {key} {name}.key -out {name}.csr -subj /CN={name}"),
        );
        openssl(
            &directory,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile san"
            ),
        );
    }
    directory
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_checked_both_ways_and_its_files_are_read_again() {
    let directory = make_certificates();
    let file = |name: &str| directory.join(name);
    let tls = format!(
        "{OPEN_ACCOUNT}\ntls {{ cert_file: {0}/server.pem, key_file: {0}/server.key, ca_file: {0}/ca.pem, verify: true }}\n",
        directory.display()
    );
    let mut world = World::without_auth(&tls).await;
    let port = world
        .nats
        .url()
        .rsplit(':')
        .next()
        .expect("a port")
        .to_owned();
    fs::copy(file("ca.pem"), file("trusted.pem")).expect("copied");
    let mut good = settings(&world);
    good.servers = vec![format!("nats://localhost:{port}")];
    good.tls.ca_file = Some(file("trusted.pem"));
    good.tls.certificate_file = Some(file("client.pem"));
    good.tls.key_file = Some(file("client.key"));

    let front = Front::connect(good.clone()).await.expect("a connection");
    let mut messages = subscribe(&front, "work", None).await;

    let mut untrusted = good.clone();
    untrusted.tls.ca_file = Some(file("other.pem"));
    let mut wrong_name = good.clone();
    wrong_name.servers = vec![format!("tls://127.0.0.1:{port}")];
    for settings in [untrusted, wrong_name] {
        let error = Front::connect(settings).await.err().expect("an error");
        assert!(matches!(error, FrontError::Tls { .. }), "{error:?}");
    }
    let mut anonymous = good.clone();
    anonymous.tls.certificate_file = None;
    anonymous.tls.key_file = None;
    assert!(Front::connect(anonymous).await.is_err());

    // A file that is wrong while the server starts again, and right later.
    fs::copy(file("other.pem"), file("trusted.pem")).expect("copied");
    world.nats.stop().expect("stopped");
    world.nats.restart().await.expect("a server");
    wait_for(&front, |state| {
        state.lost.as_ref().is_some_and(|lost| lost.contains("TLS"))
    })
    .await;
    fs::copy(file("ca.pem"), file("trusted.pem")).expect("copied");
    wait_for(&front, |state| state.is_connected).await;
    flush(&front).await;
    front
        .publish("work", &HeaderBlock::new(), b"to itself")
        .await
        .expect("published");
    assert_eq!(next(&mut messages).await.payload, "to itself");
}

/// A NATS key of operator mode.
struct Nkey {
    prefix: u8,
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

impl Nkey {
    const OPERATOR: u8 = 14 << 3;
    const ACCOUNT: u8 = 0;
    const USER: u8 = 20 << 3;

    fn new(prefix: u8, number: u8) -> Self {
        let seed = [number; 32];
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("a key");
        Self { prefix, seed, pair }
    }

    fn public(&self) -> String {
        checked(&[&[self.prefix][..], self.pair.public_key().as_ref()].concat())
    }

    fn seed(&self) -> String {
        let prefixes = [18 << 3 | self.prefix >> 5, (self.prefix & 31) << 3];
        checked(&[&prefixes[..], &self.seed].concat())
    }

    /// A JWT in which this key says `nats` of another.
    fn jwt(&self, subject: &Self, nats: &Value) -> String {
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = encode(json!({"typ": "JWT", "alg": "ed25519-nkey"}));
        let claims = encode(json!({
            "jti": "x", "iat": 1_700_000_000, "name": "x",
            "iss": self.public(), "sub": subject.public(), "nats": nats,
        }));
        let signed = format!("{header}.{claims}");
        let signature = self.pair.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// Base32 of bytes and their check sum.
fn checked(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(0, |sum: u16, byte| {
        (0..8).fold(sum ^ u16::from(*byte) << 8, |sum, _| match sum & 0x8000 {
            0 => sum << 1,
            _ => sum << 1 ^ 0x1021,
        })
    });
    let bytes = [bytes, &sum.to_le_bytes()].concat();
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    let index = |start: usize| (start..start + 5).fold(0, |index, at| index << 1 | bit(at));
    (0..bytes.len() * 8)
        .step_by(5)
        .map(|start| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[usize::from(index(start))]))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credentials_file_is_enough_in_operator_mode() {
    let operator = Nkey::new(Nkey::OPERATOR, 1);
    let (account, system) = (Nkey::new(Nkey::ACCOUNT, 2), Nkey::new(Nkey::ACCOUNT, 3));
    let (user, stranger) = (Nkey::new(Nkey::USER, 4), Nkey::new(Nkey::USER, 5));
    let limits = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1});
    let of_account = json!({"type": "account", "version": 2, "limits": limits});
    let of_operator = json!({"type": "operator", "version": 2, "system_account": system.public()});
    let of_user = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
    let accounts = format!(
        "operator: \"{}\"\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n {}: \"{}\"\n {}: \"{}\"\n}}\n",
        operator.jwt(&operator, &of_operator),
        system.public(),
        account.public(),
        operator.jwt(&account, &of_account),
        system.public(),
        operator.jwt(&system, &of_account),
    );
    let world = World::without_auth(&accounts).await;
    let file = world.directory.join("front.creds");
    let write = |key: &Nkey| {
        let jwt = account.jwt(&user, &of_user);
        let seed = key.seed();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        fs::write(&file, text).expect("written");
    };
    let source = file.clone();
    let settings = FrontSettings {
        credentials: Credentials::from_source(move || {
            Ok(Credential::Creds(fs::read_to_string(&source)?))
        }),
        ..settings(&world)
    };

    write(&stranger);
    let error = Front::connect(settings.clone()).await.err();
    let error = error.expect("another's signature");
    assert!(
        matches!(error, FrontError::Authentication { .. }),
        "{error}"
    );

    write(&user);
    let front = Front::connect(settings).await.expect("a connection");
    let mut messages = subscribe(&front, "work", None).await;
    front
        .publish("work", &HeaderBlock::new(), b"to itself")
        .await
        .expect("published");
    assert_eq!(next(&mut messages).await.payload, "to itself");
}
