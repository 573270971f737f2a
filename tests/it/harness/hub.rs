//! A remote bucket: a hub that holds it, and a leaf to which all callers, workers and the auth
//! service connect.
//!
//! A worker's requests to the bucket pass the leaf's link to the hub. The link can be cut and frozen
//! while callers, workers and the auth service still reach one another. Both servers have the
//! configurations of `nats/`.

use super::leaves::start_leaf;
use super::proxy::Proxy;
use super::serial::shared;
use super::servers::shared_servers;
use super::world::World;
use gofavorites::dev::nats::NatsServer;
use gofavorites::dev::network::start_hub;
use gofavorites::dev::role::{ACCOUNTS_CONF, HUB_DOMAIN, LEAF_ACCOUNTS_CONF};
use gofavorites::dev::secrets::Secrets;
use nix::sys::signal::Signal;
use std::time::Duration;

/// The hub, and the link to it.
pub struct Hub {
    pub server: NatsServer,
    pub link: Proxy,
}

impl Hub {
    /// Pauses the hub: connections stay, and nothing is answered.
    pub fn pause(&mut self) {
        let process = self.server.process();
        process.signal(Signal::SIGSTOP).expect("paused");
    }

    /// Resumes the hub. It then handles what was sent to it meanwhile.
    pub fn resume(&mut self) {
        let process = self.server.process();
        process.signal(Signal::SIGCONT).expect("resumed");
    }
}

impl World {
    /// Starts a leaf, its hub behind a link, and the stand-in auth service at the leaf.
    pub async fn behind_a_hub() -> (Self, Hub) {
        let permit = shared().await;
        let shared = shared_servers().await;
        let (number, directory) = shared.place();
        let secrets = Secrets::generate().expect("secrets");

        let program = &shared.servers.nats_server;
        let hub = start_hub(program, &directory.join("hub"), &secrets, ACCOUNTS_CONF).await;
        let (server, port) = hub.expect("a hub");
        let link = Proxy::start(&format!("127.0.0.1:{port}")).await;

        let ports = vec![link.port()];
        let leaf = start_leaf(
            program,
            &directory,
            &secrets,
            "leaf",
            ports,
            LEAF_ACCOUNTS_CONF,
        )
        .await;

        let mut world = Self::of(leaf, secrets, shared, directory, number, permit);
        world.truth.domain = HUB_DOMAIN.into();
        world.start_auth().await;

        (world, Hub { server, link })
    }

    /// Waits until the hub's JetStream answers at the leaf.
    pub async fn wait_for_the_truth(&self) {
        let operator = self.connect("operator").await;
        let subject = format!("{}.INFO", self.api());

        for _ in 0..500 {
            if operator.request(subject.clone(), "".into()).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }

        panic!("the leaf does not reach the hub");
    }
}
