//! Three NATS servers that keep the bucket together.

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

/// How long the three may take to agree on who leads.
const PATIENCE: Duration = Duration::from_secs(30);

/// The second and the third server; the first one is the world's own.
pub struct Cluster {
    pub others: [NatsServer; 2],
}

impl World {
    /// Three servers with those accounts, and the bucket on all of them; no worker yet.
    pub async fn cluster(accounts: &str) -> (Self, Cluster) {
        Self::cluster_with(accounts, TruthSettings::default().history).await
    }

    /// As [`cluster`](Self::cluster), with a bucket that keeps so many records of each key.
    pub async fn cluster_with(accounts: &str, history: i64) -> (Self, Cluster) {
        let permit = shared().await;
        let shared = shared_servers().await;
        let (number, directory) = shared.place();
        let secrets = Secrets::generate().expect("secrets");
        let mut tries = 0;
        let [first, second, third] = loop {
            // Somebody else may be quicker to take a free port.
            match three(&shared.servers.nats_server, &directory, &secrets, accounts).await {
                Ok(three) => break three,
                Err(error) => assert!(tries < 3, "{error:#}"),
            }
            tries += 1;
        };
        let mut world = Self::of(first, secrets, shared, directory, number, permit);
        (world.truth.replicas, world.truth.history) = (3, history);
        world.wait_for_three_replicas().await;
        world.start_auth().await;
        (
            world,
            Cluster {
                others: [second, third],
            },
        )
    }

    /// Makes the bucket as soon as there are three who can keep it.
    async fn wait_for_three_replicas(&self) {
        let since = Instant::now();
        while let Err(error) = self.init(&self.settings("a")).await {
            assert!(since.elapsed() < PATIENCE, "{error:#}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.wait_for_leader(|_| true, 2).await;
    }

    /// The name of the server that leads the bucket, and how many of the other two are in step with it.
    pub async fn leader(&self) -> Option<(String, usize)> {
        let operator = self.connect("operator").await;
        let asked = operator.request(
            "$JS.API.STREAM.INFO.KV_favorites",
            json!({}).to_string().into(),
        );
        let answer = tokio::time::timeout(Duration::from_secs(1), asked)
            .await
            .ok()?
            .ok()?;
        let told: Value = serde_json::from_slice(&answer.payload).ok()?;
        let replicas = told["cluster"]["replicas"].as_array()?;
        let current = replicas
            .iter()
            .filter(|one| one["current"] == true && one["offline"] != true);
        Some((
            told["cluster"]["leader"].as_str()?.to_owned(),
            current.count(),
        ))
    }

    /// Ends when a fitting one leads, with so many others in step; gives its name.
    pub async fn wait_for_leader(
        &self,
        mut fits: impl FnMut(&str) -> bool,
        in_step: usize,
    ) -> String {
        let since = Instant::now();
        loop {
            if let Some((leader, current)) = self.leader().await
                && fits(&leader)
                && current >= in_step
            {
                return leader;
            }
            assert!(since.elapsed() < PATIENCE, "no such leader");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn three(
    program: &Path,
    directory: &Path,
    secrets: &Secrets,
    accounts: &str,
) -> anyhow::Result<[NatsServer; 3]> {
    let ports = (0..3)
        .map(|_| free_port(None))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let start = async |number: usize| {
        let name = format!("n{}", number + 1);
        let place = directory.join(&name);
        let role = Role::Member {
            name,
            port: ports[number],
            all: ports.clone(),
        };
        NatsServer::start_with(program, &place, None, secrets, &role, accounts).await
    };
    Ok([start(0).await?, start(1).await?, start(2).await?])
}

impl Cluster {
    /// The server of that name, which is not the world's own.
    pub fn server(&mut self, name: &str) -> &mut NatsServer {
        match name {
            "n2" => &mut self.others[0],
            "n3" => &mut self.others[1],
            other => panic!("{other} is not among the others"),
        }
    }
}
