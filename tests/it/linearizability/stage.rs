//! Three shards on servers of their own, whose workers are processes, and what can happen to them.

use super::clients::{Clock, SHARDS};
use crate::harness::{Cluster, Leaves, Process, World, with_breaker};
use async_nats::Client;
use gofavorites::config::Settings;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::postgres::{PostgresOptions, PostgresServer};
use nix::sys::signal::Signal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Records of each key: enough that a write that is asked again is still known.
const HISTORY: i64 = 64;
const STEPDOWN: &str = "$JS.API.STREAM.LEADER.STEPDOWN.KV_favorites";

/// What can happen. A shard is counted from 0.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    LeaderKilled,
    LeaderPaused,
    LeaderStepsDown,
    HubPaused,
    LeafCut(usize),
    LeafFrozen(usize),
    WorkerKilled(usize),
    WorkerPaused(usize),
    PostgresKilled,
}

/// In what the servers hang together.
enum Servers {
    Cluster(Cluster),
    Leaves(Leaves),
}

/// Servers, the workers of three shards, and a Postgres that may be killed.
pub struct Stage {
    pub world: World,
    pub clock: Arc<Clock>,
    servers: Servers,
    workers: Vec<(Settings, Process)>,
    postgres: PostgresServer,
    /// A connection to each of the servers.
    pub clients: Vec<Client>,
}

impl Stage {
    /// Three clustered servers, a worker at each.
    pub async fn cluster() -> Self {
        let (mut world, cluster) = World::cluster_with(&with_breaker(ACCOUNTS_CONF), HISTORY).await;
        world.urls.insert("b".into(), cluster.others[0].url());
        world.urls.insert("c".into(), cluster.others[1].url());
        Self::of(world, Servers::Cluster(cluster)).await
    }

    /// A hub and two leaves, a worker at each.
    pub async fn leaves() -> Self {
        let (mut world, leaves) = World::with_leaves().await;
        world.truth.history = HISTORY;
        world.urls.insert("c".into(), leaves.hub.url());
        Self::of(world, Servers::Leaves(leaves)).await
    }

    async fn of(world: World, servers: Servers) -> Self {
        let postgres = PostgresServer::start(PostgresOptions {
            bin: world.shared.servers.postgres_bin.clone(),
            data: world.directory.join("postgres"),
            log: world.directory.join("postgres.log"),
            password: world.secrets.postgres.clone(),
            usual_port: None,
            fsync: false,
        });
        let postgres = postgres.await.expect("Postgres");
        let (mut workers, mut clients) = (Vec::new(), Vec::new());
        for shard in SHARDS {
            let mut settings = world.settings(shard);
            if shard == "c" && matches!(servers, Servers::Leaves(_)) {
                settings.truth.domain = String::new();
            }
            postgres.create_database(shard).expect("a database");
            settings.postgres.url = postgres.url(shard);
            world.prepare(&settings).await.expect("init");
            let mut worker = world.serve(settings.clone());
            worker.is_ready().await;
            workers.push((settings, worker));
            // Whoever is connected to a server that is paused would only wait.
            let url = if matches!(servers, Servers::Cluster(_)) {
                world.nats.url()
            } else {
                world.url(shard)
            };
            clients.push(world.connect_at(&url, "gateway").await);
        }
        Self {
            world,
            clock: Arc::default(),
            servers,
            workers,
            postgres,
            clients,
        }
    }

    /// Makes it happen; gives the name of the leader that it struck.
    pub async fn strike(&mut self, error: Fault) -> Option<String> {
        if matches!(error, Fault::LeaderKilled | Fault::LeaderPaused) {
            return Some(self.strike_leader(error).await);
        }
        self.clock.struck.store(true, Ordering::SeqCst);
        match error {
            Fault::LeaderStepsDown => {
                let breaker = self.world.connect_breaker().await;
                for _ in 0..3 {
                    let _ =
                        timeout(Duration::from_secs(1), breaker.request(STEPDOWN, "".into())).await;
                    sleep(Duration::from_millis(100)).await;
                }
            }
            Fault::HubPaused => {
                self.leaves_do(|all| all.hub.process().signal(Signal::SIGSTOP).expect("paused"))
            }
            Fault::LeafCut(leaf) => self.leaves_do(|all| all.links[leaf].cut()),
            Fault::LeafFrozen(leaf) => self.leaves_do(|all| all.links[leaf].freeze()),
            Fault::WorkerKilled(shard) => {
                self.clock.lives[shard].fetch_add(1, Ordering::SeqCst);
                self.workers[shard].1.signal(Signal::SIGKILL);
                self.workers[shard].1.ended().await;
            }
            Fault::WorkerPaused(shard) => self.workers[shard].1.signal(Signal::SIGSTOP),
            Fault::PostgresKilled => self.postgres.process().kill9().expect("killed"),
            Fault::LeaderKilled | Fault::LeaderPaused => {}
        }
        None
    }

    async fn strike_leader(&mut self, error: Fault) -> String {
        let breaker = self.world.connect_breaker().await;
        // Callers are at the first server, so another has to lead.
        while self.world.wait_for_leader(|_| true, 2).await == "n1" {
            let _ = timeout(Duration::from_secs(1), breaker.request(STEPDOWN, "".into())).await;
        }
        let leader = self.world.wait_for_leader(|name| name != "n1", 2).await;
        let Servers::Cluster(cluster) = &mut self.servers else {
            panic!("nobody leads a server alone")
        };
        self.clock.struck.store(true, Ordering::SeqCst);
        let process = cluster.server(&leader).process();
        match error {
            Fault::LeaderKilled => process.kill9().expect("killed"),
            _ => process.signal(Signal::SIGSTOP).expect("paused"),
        }
        leader
    }

    /// Undoes it, and waits until all are in step again.
    pub async fn heal(&mut self, error: Fault, leader: Option<String>) {
        match (error, &mut self.servers) {
            (Fault::LeaderKilled, Servers::Cluster(cluster)) => {
                cluster
                    .server(&leader.expect("a leader"))
                    .restart()
                    .await
                    .expect("started again");
            }
            (Fault::LeaderPaused, Servers::Cluster(cluster)) => {
                let paused = cluster.server(&leader.expect("a leader")).process();
                paused.signal(Signal::SIGCONT).expect("continued");
            }
            (Fault::HubPaused, Servers::Leaves(all)) => {
                all.hub
                    .process()
                    .signal(Signal::SIGCONT)
                    .expect("continued");
            }
            (Fault::LeafCut(leaf) | Fault::LeafFrozen(leaf), Servers::Leaves(all)) => {
                all.links[leaf].heal()
            }
            (Fault::WorkerKilled(shard), _) => {
                let settings = self.workers[shard].0.clone();
                let mut worker = self.world.serve(settings);
                worker.is_ready().await;
                self.workers[shard].1 = worker;
                self.clock.lives[shard].fetch_add(1, Ordering::SeqCst);
            }
            (Fault::WorkerPaused(shard), _) => self.workers[shard].1.signal(Signal::SIGCONT),
            (Fault::PostgresKilled, _) => self.postgres.restart().await.expect("started again"),
            _ => {}
        }
        self.clock.struck.store(false, Ordering::SeqCst);
        if matches!(self.servers, Servers::Cluster(_)) {
            self.world.wait_for_leader(|_| true, 2).await;
        }
    }

    fn leaves_do(&mut self, act: impl FnOnce(&mut Leaves)) {
        match &mut self.servers {
            Servers::Leaves(leaves) => act(leaves),
            Servers::Cluster(_) => panic!("there is no leaf"),
        }
    }
}
