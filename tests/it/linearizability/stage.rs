//! Three shards on servers of their own, whose workers are processes, and the faults that can be
//! injected there.

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

/// Records that the bucket keeps of each key: enough to recognise a write that is repeated.
const HISTORY: i64 = 64;

const STEPDOWN: &str = "$JS.API.STREAM.LEADER.STEPDOWN.KV_favorites";

/// How long a request to step down may take.
const STEPDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// What can be injected. Shards and leaves are counted from 0.
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

/// The topology of the NATS servers.
enum Servers {
    Cluster(Cluster),
    Leaves(Leaves),
}

/// Servers, the workers of three shards, and a Postgres of their own that may be killed.
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
    /// Starts three clustered servers, with a worker at each.
    pub async fn cluster() -> Self {
        let (mut world, cluster) = World::cluster_with(&with_breaker(ACCOUNTS_CONF), HISTORY).await;
        world.urls.insert("b".into(), cluster.others[0].url());
        world.urls.insert("c".into(), cluster.others[1].url());

        Self::new(world, Servers::Cluster(cluster)).await
    }

    /// Starts a hub and two leaves, with a worker at each.
    pub async fn leaves() -> Self {
        let (mut world, leaves) = World::with_leaves().await;
        world.truth.history = HISTORY;
        world.urls.insert("c".into(), leaves.hub.url());

        Self::new(world, Servers::Leaves(leaves)).await
    }

    async fn new(world: World, servers: Servers) -> Self {
        let mut stage = Self {
            postgres: start_postgres(&world).await,
            world,
            clock: Arc::default(),
            servers,
            workers: Vec::new(),
            clients: Vec::new(),
        };

        for shard in SHARDS {
            stage.add_shard(shard).await;
        }

        stage
    }

    /// Creates a shard's database, starts its worker, and connects a client.
    async fn add_shard(&mut self, shard: &str) {
        let mut settings = self.world.settings(shard);

        if shard == "c" && matches!(self.servers, Servers::Leaves(_)) {
            settings.truth.domain = String::new();
        }

        self.postgres.create_database(shard).expect("a database");
        settings.postgres.url = self.postgres.url(shard);
        self.world.prepare(&settings).await.expect("init");

        let mut worker = self.world.serve(settings.clone());
        worker.is_ready().await;
        self.workers.push((settings, worker));

        // A client at a server of the cluster that is paused would only wait.
        let url = if matches!(self.servers, Servers::Cluster(_)) {
            self.world.nats.url()
        } else {
            self.world.url(shard)
        };
        let client = self.world.connect_at(&url, "gateway").await;
        self.clients.push(client);
    }

    /// Injects a fault. Returns the name of the leader that it hit, if it was one for a leader.
    pub async fn inject(&mut self, fault: Fault) -> Option<String> {
        if matches!(fault, Fault::LeaderKilled | Fault::LeaderPaused) {
            return Some(self.hit_leader(fault).await);
        }

        self.clock.has_fault.store(true, Ordering::SeqCst);

        match fault {
            Fault::LeaderKilled | Fault::LeaderPaused => {}
            Fault::LeaderStepsDown => {
                let breaker = self.world.connect_breaker().await;
                for _ in 0..3 {
                    step_down(&breaker).await;
                    sleep(Duration::from_millis(100)).await;
                }
            }
            Fault::HubPaused => {
                let hub = self.leaves_mut().hub.process();
                hub.signal(Signal::SIGSTOP).expect("paused");
            }
            Fault::LeafCut(leaf) => self.leaves_mut().links[leaf].cut(),
            Fault::LeafFrozen(leaf) => self.leaves_mut().links[leaf].freeze(),
            Fault::WorkerKilled(shard) => {
                let (_, worker) = &mut self.workers[shard];
                self.clock.lives[shard].fetch_add(1, Ordering::SeqCst);
                worker.signal(Signal::SIGKILL);
                worker.ended().await;
            }
            Fault::WorkerPaused(shard) => self.workers[shard].1.signal(Signal::SIGSTOP),
            Fault::PostgresKilled => self.postgres.process().kill9().expect("killed"),
        }

        None
    }

    async fn hit_leader(&mut self, fault: Fault) -> String {
        let breaker = self.world.connect_breaker().await;

        // Clients are connected to the first server, so another one must lead.
        while self.world.wait_for_leader(|_| true, 2).await == "n1" {
            step_down(&breaker).await;
        }

        let leader = self.world.wait_for_leader(|name| name != "n1", 2).await;
        let Servers::Cluster(cluster) = &mut self.servers else {
            panic!("a single server has no leader")
        };
        let process = cluster.server(&leader).process();

        self.clock.has_fault.store(true, Ordering::SeqCst);
        if matches!(fault, Fault::LeaderKilled) {
            process.kill9().expect("killed");
        } else {
            process.signal(Signal::SIGSTOP).expect("paused");
        }

        leader
    }

    /// Ends a fault, and waits until all replicas are current again.
    pub async fn heal(&mut self, fault: Fault, leader: Option<String>) {
        match (fault, &mut self.servers) {
            (Fault::LeaderKilled, Servers::Cluster(cluster)) => {
                let server = cluster.server(&leader.expect("a leader"));
                server.restart().await.expect("restarted");
            }
            (Fault::LeaderPaused, Servers::Cluster(cluster)) => {
                let server = cluster.server(&leader.expect("a leader"));
                let process = server.process();
                process.signal(Signal::SIGCONT).expect("continued");
            }
            (Fault::HubPaused, Servers::Leaves(leaves)) => {
                let hub = leaves.hub.process();
                hub.signal(Signal::SIGCONT).expect("continued");
            }
            (Fault::LeafCut(leaf) | Fault::LeafFrozen(leaf), Servers::Leaves(leaves)) => {
                leaves.links[leaf].heal();
            }
            (Fault::WorkerKilled(shard), _) => {
                let (settings, worker) = &mut self.workers[shard];
                *worker = self.world.serve(settings.clone());
                worker.is_ready().await;
                self.clock.lives[shard].fetch_add(1, Ordering::SeqCst);
            }
            (Fault::WorkerPaused(shard), _) => self.workers[shard].1.signal(Signal::SIGCONT),
            (Fault::PostgresKilled, _) => self.postgres.restart().await.expect("restarted"),
            _ => {}
        }

        self.clock.has_fault.store(false, Ordering::SeqCst);

        if matches!(self.servers, Servers::Cluster(_)) {
            self.world.wait_for_leader(|_| true, 2).await;
        }
    }

    fn leaves_mut(&mut self) -> &mut Leaves {
        match &mut self.servers {
            Servers::Leaves(leaves) => leaves,
            Servers::Cluster(_) => panic!("a cluster has no leaves"),
        }
    }
}

/// Tells the leader to step down. The reply may not arrive.
async fn step_down(breaker: &Client) {
    let request = breaker.request(STEPDOWN, "".into());

    let _ = timeout(STEPDOWN_TIMEOUT, request).await;
}

async fn start_postgres(world: &World) -> PostgresServer {
    let options = PostgresOptions {
        bin: world.shared.servers.postgres_bin.clone(),
        data: world.directory.join("postgres"),
        log: world.directory.join("postgres.log"),
        password: world.secrets.postgres.clone(),
        usual_port: None,
        fsync: false,
    };

    PostgresServer::start(options).await.expect("Postgres")
}
