//! The operators' commands wait for what is unavailable, as a worker does, and `--wait` bounds it.

use crate::harness::{Proxy, World};
use std::time::{Duration, Instant};

/// The commands that wait, and the NATS user of each.
const COMMANDS: [(&[&str], &str); 4] = [
    (&["init"], "init"),
    (&["maintain", "--once"], "maintain"),
    (&["verify"], "worker"),
    (&["replay"], "worker"),
];

/// The command with the settings of shard `a`, reaching NATS and Postgres over these URLs.
fn command(
    world: &World,
    (arguments, user): (&[&str], &str),
    nats: &Proxy,
    postgres: &str,
) -> tokio::process::Command {
    let mut command = world.program("a", arguments);
    command
        .env(
            "GOFAVORITES__NATS__URL",
            format!("nats://127.0.0.1:{}", nats.port()),
        )
        .env("GOFAVORITES__NATS__TRUTH__USER", user)
        .env(
            "GOFAVORITES__NATS__TRUTH__PASSWORD",
            world.secrets.nats(user),
        )
        .env(
            "GOFAVORITES__NATS__TRUTH__INBOX_PREFIX",
            format!("_INBOX_{user}"),
        )
        .env("GOFAVORITES__POSTGRES__URL", postgres);
    command
}

/// A proxy to the Postgres of shard `a`, and the URL through it.
async fn postgres(world: &World) -> (Proxy, String) {
    let url = world.settings("a").postgres.url;
    let (start, rest) = url.split_once('@').expect("a user");
    let (target, database) = rest.split_once('/').expect("a database");
    let proxy = Proxy::start(target).await;
    let url = format!("{start}@127.0.0.1:{}/{database}", proxy.port());
    (proxy, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_waits_until_nats_and_postgres_are_there() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let nats = Proxy::start(&world.nats.url().replace("nats://", "")).await;
    let (postgres, url) = postgres(&world).await;
    nats.cut();
    postgres.cut();

    let mut running = Vec::new();
    for one in COMMANDS {
        running.push((
            one.0,
            command(&world, one, &nats, &url)
                .spawn()
                .expect("it starts"),
        ));
    }
    let evict = (&["shard", "evict", "--days", "90"][..], "worker");
    running.push((
        evict.0,
        command(&world, evict, &nats, &url)
            .spawn()
            .expect("it starts"),
    ));

    for heal in [&nats, &postgres] {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        for (arguments, child) in &mut running {
            let needs_postgres = arguments[0] != "maintain";
            if needs_postgres || std::ptr::eq(heal, &nats) {
                let ended = child.try_wait().expect("a status");
                assert!(ended.is_none(), "{arguments:?} does not wait: {ended:?}");
            }
        }
        heal.heal();
    }

    for (arguments, child) in running {
        let limit = Duration::from_secs(30);
        let output = tokio::time::timeout(limit, child.wait_with_output()).await;
        let output = output.expect("both are there").expect("an end");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_is_bounded() {
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
            if arguments[0] == "maintain" && !nats_is_cut {
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
