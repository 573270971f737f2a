//! Several sites: a hub with the bucket and the auth service, and a leaf for each of the shards
//! `a` and `b`. The links of the leaves to the hub can be cut and frozen.

use super::proxy::Proxy;
use super::serial::shared;
use super::servers::shared_servers;
use super::world::World;
use gofavorites::dev::nats::NatsServer;
use gofavorites::dev::network::{start_hub, wait_for_the_hub};
use gofavorites::dev::role::{ACCOUNTS_CONF, HUB_DOMAIN, LEAF_ACCOUNTS_CONF, Role};
use gofavorites::dev::secrets::Secrets;
use std::path::Path;

/// The servers other than the leaf of shard `a`, which is the world's own server.
pub struct Leaves {
    pub hub: NatsServer,
    pub b: NatsServer,
    /// From each leaf to the hub.
    pub links: [Proxy; 2],
}

impl World {
    /// Starts a hub and two leaves, each behind a link, with the configurations of `nats/`. There
    /// is no worker yet.
    pub async fn with_leaves() -> (Self, Leaves) {
        Self::with_leaves_and_accounts(ACCOUNTS_CONF, LEAF_ACCOUNTS_CONF).await
    }

    /// Does the same as [`with_leaves`](Self::with_leaves), with other accounts at the hub and at
    /// the leaves.
    pub async fn with_leaves_and_accounts(at_the_hub: &str, at_leaves: &str) -> (Self, Leaves) {
        let permit = shared().await;
        let shared = shared_servers().await;
        let (number, directory) = shared.place();
        let secrets = Secrets::generate().expect("secrets");

        let program = &shared.servers.nats_server;
        let (hub, port) = start_hub(program, &directory.join("hub"), &secrets, at_the_hub)
            .await
            .expect("a hub");
        let links = [
            Proxy::start(&format!("127.0.0.1:{port}")).await,
            Proxy::start(&format!("127.0.0.1:{port}")).await,
        ];

        let leaf = async |name: &str, link: &Proxy| {
            let place = directory.join(name);
            start_leaf(
                program,
                &place,
                &secrets,
                name,
                vec![link.port()],
                at_leaves,
            )
            .await
        };
        let a = leaf("leaf-a", &links[0]).await;
        let b = leaf("leaf-b", &links[1]).await;

        let place = directory.clone();
        let mut world = Self::of(a, secrets.clone(), shared, place, number, permit);
        world.truth.domain = HUB_DOMAIN.into();
        world.urls.insert("b".into(), b.url());
        world.auth_url = Some(hub.url());
        world.start_auth().await;

        (world, Leaves { hub, b, links })
    }
}

/// Starts a leaf of the hub whose servers have those ports for leaves, and waits until the hub
/// answers there.
pub(super) async fn start_leaf(
    program: &Path,
    directory: &Path,
    secrets: &Secrets,
    name: &str,
    hub: Vec<u16>,
    accounts: &str,
) -> NatsServer {
    let role = Role::Leaf {
        name: name.into(),
        hub,
    };
    let leaf = NatsServer::start_with(program, directory, None, secrets, &role, accounts)
        .await
        .expect("a leaf");

    wait_for_the_hub(&leaf.url(), secrets)
        .await
        .expect("a link");
    leaf
}
