//! TLS to Postgres: `sslmode` and `sslrootcert` in `postgres.url` have the documented effect.
//!
//! The Postgres server of the tests has no TLS, so the tests put a proxy in front of it. Like a
//! connection pooler, the proxy accepts the client's request for TLS, and forwards what it decrypts
//! in clear.

use crate::harness::{Authority, Certificate, World};
use gofavorites::app;
use gofavorites::config::Settings;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

/// The message with which a client asks for TLS: its length and a code (PostgreSQL's protocol,
/// SSLRequest).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A Postgres with TLS. Dropping it stops it.
struct TlsPostgres {
    port: u16,
    /// How many connections use TLS.
    connections: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl TlsPostgres {
    async fn start(target: &str, certificate: &Certificate) -> Self {
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let chain = CertificateDer::from_pem_file(&certificate.cert).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(&certificate.key).expect("a key");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .expect("a pair");
        let acceptor = TlsAcceptor::from(Arc::new(config));

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let connections = Arc::new(AtomicUsize::new(0));
        let accepting = tokio::spawn({
            let target = target.to_owned();
            let connections = connections.clone();

            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let acceptor = acceptor.clone();
                    let connections = connections.clone();
                    tokio::spawn(serve(client, acceptor, target.clone(), connections));
                }
            }
        });

        Self {
            port,
            connections,
            accepting,
        }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for TlsPostgres {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    mut client: TcpStream,
    acceptor: TlsAcceptor,
    target: String,
    connections: Arc<AtomicUsize>,
) {
    let mut first = [0; SSL_REQUEST.len()];
    let read = client.read_exact(&mut first).await;
    if read.is_err() || first != SSL_REQUEST || client.write_all(b"S").await.is_err() {
        return;
    }

    // A client that does not trust the certificate ends the handshake.
    let Ok(mut client) = acceptor.accept(client).await else {
        return;
    };
    connections.fetch_add(1, Ordering::SeqCst);

    let mut server = TcpStream::connect(target).await.expect("Postgres");
    // Either side may end the connection.
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

/// Returns the settings of a worker whose Postgres is at `port`, with these parameters in the URL.
fn settings_at(world: &World, port: u16, parameters: &str) -> Settings {
    let mut settings = world.settings("a");
    let (user, rest) = settings.postgres.url.split_once('@').expect("a user");
    let (_, database) = rest.split_once('/').expect("a database");
    settings.postgres.url = format!("{user}@127.0.0.1:{port}/{database}?{parameters}");

    settings
}

/// Returns the address of the world's Postgres.
fn target(world: &World) -> String {
    let url = world.settings("a").postgres.url;
    let (_, rest) = url.split_once('@').expect("a user");
    let (target, _) = rest.split_once('/').expect("a database");

    target.to_owned()
}

/// Tries once to reach Postgres, and returns the error with its causes.
async fn refusal(settings: &Settings) -> String {
    let limit = app::WaitLimit::from_now(std::time::Duration::ZERO);
    let error = app::open_postgres(settings, limit)
        .await
        .err()
        .expect("not accepted");

    format!("{error:#}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_uses_tls_and_checks_the_certificate() {
    let world = World::start().await;
    let authority = Authority::new(&world.directory, "postgres-ca");
    let postgres = TlsPostgres::start(&target(&world), &authority.sign("postgres")).await;
    let ca = authority.file();
    let trusting = format!("sslmode=verify-full&sslrootcert={}", ca.display());
    let settings = settings_at(&world, postgres.port, &trusting);

    let worker = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    let put = alice.put_text("a", "note", "x").await;
    let id = json!({"kind": "text", "id": "note"});
    let got = alice.done("a.get", &id).await;

    assert_eq!(got["item"], put["item"]);
    assert!(postgres.connections() > 0, "TLS is used");
    worker.stop().await.expect("stopped in order");

    let other = Authority::new(&world.directory, "other-ca");
    let distrusting = format!("sslmode=verify-ca&sslrootcert={}", other.file().display());
    let error = refusal(&settings_at(&world, postgres.port, &distrusting)).await;
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_without_tls_is_refused_where_tls_is_required() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let target = target(&world);
    let port = target.rsplit(':').next().expect("a port");
    let port = port.parse().expect("a number");

    let error = refusal(&settings_at(&world, port, "sslmode=require")).await;

    assert!(error.to_lowercase().contains("tls"), "{error}");
}
