//! A cluster of three NATS servers that replicate the bucket.

use super::serial::shared;
use super::servers::shared_servers;
use super::world::World;
use gofavorites::dev::nats::NatsServer;
use gofavorites::dev::ports::free_port;
use gofavorites::dev::role::Role;
use gofavorites::dev::secrets::Secrets;
use gofavorites::truth::TruthSettings;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the three servers may take to elect a leader.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the start of the servers is repeated.
const START_RETRIES_MAX: usize = 3;

/// The second and the third server; the first one is the world's own.
pub struct Cluster {
    pub others: [NatsServer; 2],
}

impl World {
    /// Starts three servers with those accounts, and creates the bucket on all of them. There is
    /// no worker yet.
    pub async fn cluster(accounts: &str) -> (Self, Cluster) {
        Self::cluster_with(accounts, TruthSettings::default().history).await
    }

    /// Does the same as [`cluster`](Self::cluster), with a bucket that keeps `history` records of
    /// each key.
    pub async fn cluster_with(accounts: &str, history: i64) -> (Self, Cluster) {
        let permit = shared().await;
        let shared = shared_servers().await;
        let (number, directory) = shared.place();
        let secrets = Secrets::generate().expect("secrets");

        let program = &shared.servers.nats_server;
        let role = |number: usize, ports: &[u16]| Role::Member {
            name: format!("n{}", number + 1),
            port: ports[number],
            all: ports[..3].to_owned(),
        };
        let ([first, second, third], _) =
            start_three(program, &directory, &secrets, accounts, role).await;

        let mut world = Self::of(first, secrets, shared, directory, number, permit);
        world.truth.replicas = 3;
        world.truth.history = history;
        world.wait_for_three_replicas().await;
        world.start_auth().await;

        let others = [second, third];
        (world, Cluster { others })
    }

    /// Creates the bucket as soon as all three servers can keep it.
    pub(super) async fn wait_for_three_replicas(&self) {
        let start = Instant::now();

        while let Err(error) = self.init(&self.settings("a")).await {
            assert!(start.elapsed() < ELECTION_TIMEOUT, "{error:#}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }

        self.wait_for_leader(|_| true, 2).await;
    }

    /// Returns the name of the server that leads the bucket, and how many of the other two are
    /// current.
    pub async fn leader(&self) -> Option<(String, usize)> {
        let operator = self.connect("operator").await;
        let request = operator.request(
            format!("{}.STREAM.INFO.KV_favorites", self.api()),
            json!({}).to_string().into(),
        );
        let reply = tokio::time::timeout(Duration::from_secs(1), request)
            .await
            .ok()?
            .ok()?;

        let info: Value = serde_json::from_slice(&reply.payload).ok()?;
        let leader = info["cluster"]["leader"].as_str()?.to_owned();
        let replicas = info["cluster"]["replicas"].as_array()?;
        let current = replicas
            .iter()
            .filter(|replica| replica["current"] == true && replica["offline"] != true)
            .count();

        Some((leader, current))
    }

    /// Waits until a server that `fits` leads and at least `in_step` others are current, and
    /// returns its name.
    pub async fn wait_for_leader(
        &self,
        mut fits: impl FnMut(&str) -> bool,
        in_step: usize,
    ) -> String {
        let start = Instant::now();

        loop {
            if let Some((leader, current)) = self.leader().await
                && fits(&leader)
                && current >= in_step
            {
                return leader;
            }

            assert!(start.elapsed() < ELECTION_TIMEOUT, "no such leader");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Starts three servers, each with the role for its number and the free ports, and returns them
/// with the ports: three for routes, and three more.
pub(super) async fn start_three(
    program: &Path,
    directory: &Path,
    secrets: &Secrets,
    accounts: &str,
    role: impl Fn(usize, &[u16]) -> Role,
) -> ([NatsServer; 3], [u16; 3]) {
    let mut retries = 0;

    loop {
        let ports: Vec<_> = (0..6).map(|_| free_port(None).expect("a port")).collect();
        let start = async |number: usize| {
            let place = directory.join(format!("n{}", number + 1));
            let role = role(number, &ports);
            NatsServer::start_with(program, &place, None, secrets, &role, accounts).await
        };
        let started = async { anyhow::Ok([start(0).await?, start(1).await?, start(2).await?]) };

        // Another process may take a port that was free a moment ago.
        match started.await {
            Ok(servers) => return (servers, [ports[3], ports[4], ports[5]]),
            Err(error) => assert!(retries < START_RETRIES_MAX, "{error:#}"),
        }
        retries += 1;
    }
}

impl Cluster {
    /// Returns the server of that name, which is not the world's own.
    pub fn server(&mut self, name: &str) -> &mut NatsServer {
        match name {
            "n2" => &mut self.others[0],
            "n3" => &mut self.others[1],
            other => panic!("{other} is not among the others"),
        }
    }
}
