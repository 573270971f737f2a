//! The operators' commands wait for an unavailable dependency, as a worker does. `--wait` bounds
//! the wait.

use crate::harness::{Proxy, World};
use std::time::{Duration, Instant};

/// The commands that wait, and the NATS user of each.
const COMMANDS: [(&[&str], &str); 5] = [
    (&["init"], "init"),
    (&["maintain", "--once"], "maintain"),
    (&["verify"], "worker"),
    (&["replay"], "worker"),
    (&["backup", "create", "backups"], "backup"),
];

/// The commands that need no Postgres.
const WITHOUT_POSTGRES: [&str; 2] = ["maintain", "backup"];

/// Returns the command with the settings of shard `a`, which reaches NATS through that proxy and
/// Postgres at that URL.
fn command(
    world: &World,
    (arguments, user): (&[&str], &str),
    nats: &Proxy,
    postgres: &str,
) -> tokio::process::Command {
    let mut command = world.program_as(user, "a", arguments);
    command
        .current_dir(&world.directory)
        .env(
            "GOFAVORITES__NATS__URL",
            format!("nats://127.0.0.1:{}", nats.port()),
        )
        .env("GOFAVORITES__POSTGRES__URL", postgres);

    command
}

/// Returns a proxy to the Postgres of shard `a`, and the URL through the proxy.
async fn postgres(world: &World) -> (Proxy, String) {
    let url = world.settings("a").postgres.url;
    let (start, rest) = url.split_once('@').expect("a user");
    let (target, database) = rest.split_once('/').expect("a database");

    let proxy = Proxy::start(target).await;
    let url = format!("{start}@127.0.0.1:{}/{database}", proxy.port());

    (proxy, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_waits_for_nats_and_postgres() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let nats = Proxy::start(&world.nats.url().replace("nats://", "")).await;
    let (postgres, url) = postgres(&world).await;
    nats.cut();
    postgres.cut();

    let evict = (&["shard", "evict", "--unseen-for", "90d"][..], "worker");
    let mut running = Vec::new();
    for (arguments, user) in COMMANDS.into_iter().chain([evict]) {
        let mut command = command(&world, (arguments, user), &nats, &url);
        running.push((arguments, command.spawn().expect("it starts")));
    }

    for proxy in [&nats, &postgres] {
        tokio::time::sleep(Duration::from_millis(1_500)).await;

        for (arguments, child) in &mut running {
            let needs_postgres = !WITHOUT_POSTGRES.contains(&arguments[0]);
            if needs_postgres || std::ptr::eq(proxy, &nats) {
                let ended = child.try_wait().expect("a status");
                assert!(ended.is_none(), "{arguments:?} does not wait: {ended:?}");
            }
        }

        proxy.heal();
    }

    for (arguments, child) in running {
        let limit = Duration::from_secs(30);
        let output = tokio::time::timeout(limit, child.wait_with_output()).await;
        let output = output.expect("it ends in time").expect("an output");

        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_option_bounds_the_wait() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let nats = Proxy::start(&world.nats.url().replace("nats://", "")).await;
    let (postgres, url) = postgres(&world).await;

    for (nats_is_cut, what) in [(true, "NATS"), (false, "Postgres")] {
        nats.heal();
        postgres.cut();
        if nats_is_cut {
            nats.cut();
        }

        for (arguments, user) in COMMANDS {
            if WITHOUT_POSTGRES.contains(&arguments[0]) && !nats_is_cut {
                continue;
            }

            for (wait, at_least) in [("0", 0), ("2s", 2)] {
                let arguments = [arguments, &["--wait", wait]].concat();
                let start = Instant::now();

                let mut command = command(&world, (&arguments, user), &nats, &url);
                let output = command.output().await.expect("it starts");

                let text = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(8), "{arguments:?}: {text}");
                assert!(text.contains(what), "{arguments:?}: {text}");
                assert!(
                    start.elapsed() >= Duration::from_secs(at_least),
                    "{arguments:?}"
                );
            }
        }
    }
}
