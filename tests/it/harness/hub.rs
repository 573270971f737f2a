//! A truth that is far away: a hub that holds the bucket, and a leaf without JetStream at which everybody is connected.
//!
//! What a worker asks of the bucket passes the leaf's link to the hub, which can be cut and frozen while callers, workers
//! and the auth service still reach one another.

use super::proxy::Proxy;
use super::servers::shared;
use super::turn::beside;
use super::world::World;
use gofavorites::dev::nats::{ACCOUNTS_CONF, NatsServer};
use gofavorites::dev::role::Role;
use gofavorites::dev::secrets::Secrets;
use std::time::Duration;

/// The hub, and the link to it.
pub struct Hub {
    pub server: NatsServer,
    pub link: Proxy,
}

/// A port that nobody has now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

impl World {
    /// A leaf, its hub behind a link, and the stand-in auth service at the leaf.
    pub async fn behind_a_hub() -> (Self, Hub) {
        let turn = beside().await;
        let shared = shared().await;
        let (number, directory) = shared.place();
        let secrets = Secrets::generate().expect("secrets");
        let program = &shared.servers.nats_server;
        let port = free_port();
        let listen = format!(
            "server_name: hub\njetstream {{ domain: hub }}\nleafnodes {{ listen: \"127.0.0.1:{port}\", no_advertise: true, authorization {{ user: leaf, password: leaf, \
             account: TRUTH }} }}\n{ACCOUNTS_CONF}"
        );
        let server = NatsServer::start_with(program, &directory.join("hub"), None, &secrets, &Role::Single, &listen)
            .await
            .expect("a hub");
        let link = Proxy::start(&format!("127.0.0.1:{port}")).await;
        // The leaf knows the hub's JetStream by its domain only; what everybody calls it is mapped there.
        let mapped = r#"    mappings: { "$JS.API.>": "$JS.hub.API.>", "$KV.>": "$JS.hub.API.$KV.>" }"#;
        // Who may what is asked after that.
        let rights = ACCOUNTS_CONF.replace("\"$JS.API.", "\"$JS.hub.API.").replace("\"$KV.", "\"$JS.hub.API.$KV.");
        let accounts = rights.replace("    jetstream: enabled", mapped);
        assert_ne!(accounts, ACCOUNTS_CONF);
        let remote = format!(
            "server_name: leaf\njetstream: disabled\nleafnodes {{ reconnect: \"100ms\", remotes: [ {{ url: \
             \"nats://leaf:leaf@127.0.0.1:{}\", account: TRUTH }} ] }}\n{accounts}",
            link.port()
        );
        let leaf =
            NatsServer::start_with(program, &directory, None, &secrets, &Role::Single, &remote).await.expect("a leaf");
        let mut world = Self::of(leaf, secrets, shared, directory, number, turn);
        world.start_auth().await;
        world.wait_for_the_truth().await;
        (world, Hub { server, link })
    }

    /// Ends when JetStream answers through whatever is between.
    pub async fn wait_for_the_truth(&self) {
        let operator = self.connect("operator").await;
        for _ in 0..500 {
            if operator.request("$JS.API.INFO", "".into()).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the hub is not reached");
    }
}
