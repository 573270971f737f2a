//! The hub of production: three servers that replicate the bucket, and a leaf for each of the
//! shards `a` and `b`. Each link of a leaf connects to any of the three.

use super::cluster::start_three;
use super::leaves::start_leaf;
use super::serial::shared;
use super::servers::shared_servers;
use super::world::World;
use gofavorites::dev::nats::NatsServer;
use gofavorites::dev::role::{ACCOUNTS_CONF, HUB_DOMAIN, LEAF_ACCOUNTS_CONF, Role};
use gofavorites::dev::secrets::Secrets;
use gofavorites::truth::TruthSettings;

/// The servers other than the leaf of shard `a`, which is the world's own server.
pub struct HubOfThree {
    /// The hub's servers, `hub-1` to `hub-3`.
    pub servers: [NatsServer; 3],
    /// The leaf of shard `b`.
    pub b: NatsServer,
}

impl World {
    /// Starts the hub's servers, two leaves, and the auth service at the leaf of shard `a`, with
    /// the configurations of `nats/`, and creates the bucket. There is no worker yet.
    pub async fn with_a_hub_of_three() -> (Self, HubOfThree) {
        Self::with_a_hub_of_three_and(TruthSettings::default().history).await
    }

    /// Does the same as [`with_a_hub_of_three`](Self::with_a_hub_of_three), with a bucket that keeps
    /// `history` records of each key.
    pub async fn with_a_hub_of_three_and(history: i64) -> (Self, HubOfThree) {
        let permit = shared().await;
        let shared = shared_servers().await;
        let (number, directory) = shared.place();
        let secrets = Secrets::generate().expect("secrets");

        let program = &shared.servers.nats_server;
        let role = |number: usize, ports: &[u16]| Role::HubMember {
            name: format!("hub-{}", number + 1),
            port: ports[number],
            all: ports[..3].to_owned(),
            leaf_port: ports[3 + number],
        };
        let (servers, leaf_ports) =
            start_three(program, &directory, &secrets, ACCOUNTS_CONF, role).await;

        let leaf = async |name: &str| {
            let place = directory.join(name);
            let hub = leaf_ports.to_vec();
            start_leaf(program, &place, &secrets, name, hub, LEAF_ACCOUNTS_CONF).await
        };
        let a = leaf("leaf-a").await;
        let b = leaf("leaf-b").await;

        let place = directory.clone();
        let mut world = Self::of(a, secrets.clone(), shared, place, number, permit);
        world.truth.domain = HUB_DOMAIN.into();
        world.truth.replicas = 3;
        world.truth.history = history;
        world.urls.insert("b".into(), b.url());
        world.wait_for_three_replicas().await;
        world.start_auth().await;

        (world, HubOfThree { servers, b })
    }
}

impl HubOfThree {
    /// Returns the server of that name.
    pub fn server(&mut self, name: &str) -> &mut NatsServer {
        match name {
            "hub-1" => &mut self.servers[0],
            "hub-2" => &mut self.servers[1],
            "hub-3" => &mut self.servers[2],
            other => panic!("{other} is no server of the hub"),
        }
    }
}
