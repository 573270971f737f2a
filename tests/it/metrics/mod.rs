//! Metrics: what `gofavorites metrics` writes is true, and a strict reader accepts it, whatever
//! becomes of workers and of NATS.

mod parser;

use crate::cli::{Outcome, Person};
use crate::harness::{Process, Proxy, World};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parser::{Samples, parse};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long to wait for any change.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait before something is looked at again.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Returns the sum of the samples whose names contain all of these texts.
fn sum(samples: &Samples, texts: &[&str]) -> f64 {
    let numbers = samples
        .iter()
        .filter(|(name, _)| texts.iter().all(|text| name.contains(text)))
        .map(|(_, number)| number);

    numbers.sum()
}

async fn metrics(person: &Person, arguments: &[&str]) -> Samples {
    parse(&person.succeeds(&[&["metrics"], arguments].concat()).await)
}

/// Goal: the numbers are those of the requests that were made, of all workers, and tell nothing about
/// an owner.
///
/// Method: alice writes and reads on two shards. One read and one write are refused.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_was_asked_and_refused() {
    let (world, _a, _b) = World::with_two_shards().await;
    let caller = world.caller("alice-of-the-metrics").await;
    let alice = Person::new(&world, &caller);

    let before = metrics(&alice, &[]).await;
    assert_eq!(sum(&before, &["gofavorites_requests_total"]), 0.0);
    assert_eq!(before["gofavorites_scrape_success"], 1.0);
    for shard in ["a", "b"] {
        let workers = format!("gofavorites_workers{{shard=\"{shard}\"}}");
        assert_eq!(before[&workers], 1.0);
    }

    for (shard, id) in [
        ("a", "first-mark"),
        ("a", "second-mark"),
        ("b", "third-mark"),
    ] {
        caller.put_text(shard, id, "a-text-of-the-owner").await;
    }
    let missing = caller
        .ask("b.get", &json!({"kind": "text", "id": "no-mark"}))
        .await;
    missing.refusal("not_found");
    let wrong = json!({"kind": "text", "id": "first-mark", "data": {"text": "x"}, "if_version": 1});
    caller
        .ask("a.put", &wrong)
        .await
        .refusal("version_conflict");

    let text = alice.succeeds(&["metrics"]).await;
    let after = parse(&text);
    let requests =
        |texts: &[&str]| sum(&after, &[&["gofavorites_requests_total{"], texts].concat());
    assert_eq!(requests(&["operation=\"put\""]), 4.0);
    assert_eq!(requests(&["operation=\"get\"", "shard=\"b\""]), 1.0);
    assert_eq!(requests(&["operation=\"get\"", "shard=\"a\""]), 0.0);
    let times = "gofavorites_request_duration_seconds";
    assert_eq!(sum(&after, &[&format!("{times}_count{{")]), 5.0);
    assert!(sum(&after, &[&format!("{times}_sum{{")]) > 0.0);
    let refusals =
        |texts: &[&str]| sum(&after, &[&["gofavorites_refusals_total{"], texts].concat());
    assert_eq!(refusals(&["operation=\"get\"", "code=\"not_found\""]), 1.0);
    assert_eq!(
        refusals(&["operation=\"put\"", "code=\"version_conflict\""]),
        1.0
    );
    assert_eq!(refusals(&[]), 2.0);
    assert!(sum(&after, &["gofavorites_process_resident_memory_bytes"]) > 1e6);
    assert!(sum(&after, &["gofavorites_bucket_records", "shard=\"a\""]) >= 3.0);

    let owner = world.key_of("alice-of-the-metrics");
    for private in ["alice", "-mark", "a-text", &owner] {
        assert!(!text.contains(private), "{private} is in the metrics");
    }
}

/// Goal: the options choose the workers and the format; the samples are the same in both formats.
#[tokio::test(flavor = "multi_thread")]
async fn options_choose_the_workers_and_the_format() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.worker.id = "one".into();
    let _one = world.worker_with(settings).await;
    let _b = world.worker("b").await;
    let alice = Person::new(&world, &world.caller("alice").await);

    let all = metrics(&alice, &[]).await;
    let of_shard = metrics(&alice, &["--shard", "a"]).await;
    let of_worker = metrics(&alice, &["--worker", "one"]).await;
    assert!(all.keys().any(|name| name.contains("shard=\"b\"")));
    assert!(!of_shard.keys().any(|name| name.contains("shard=\"b\"")));
    assert!(of_shard.keys().eq(of_worker.keys()));

    let text = alice.succeeds(&["metrics", "--format", "prometheus"]).await;
    let (comments, samples): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with('#'));
    let names = samples
        .iter()
        .map(|line| line.rsplit_once(' ').expect("a number").0);
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    assert!(all.keys().eq(names.iter()));
    assert!(comments.contains(&"# TYPE gofavorites_requests_total counter"));
    assert!(comments.contains(&"# TYPE gofavorites_build_info gauge"));
    let are_of_0_0_4 = |line: &&str| line.starts_with("# HELP ") || line.starts_with("# TYPE ");
    assert!(comments.iter().all(are_of_0_0_4), "{comments:?}");
}

/// Goal: a worker that is killed is in the metrics no longer, and without any worker the command
/// fails with a complete text.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_vanishes_from_the_metrics() {
    let world = World::start().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let mut settings = world.settings("a");
    world.init(&settings).await.expect("init");
    let mut start = |id: &str| -> Process {
        settings.worker.id = id.into();
        world.serve(settings.clone())
    };
    let mut one = start("one");
    let mut two = start("two");
    one.is_ready().await;
    two.is_ready().await;

    let workers = "gofavorites_workers{shard=\"a\"}";
    let both = metrics(&alice, &[]).await;
    assert_eq!(both[workers], 2.0);
    assert!(both.keys().any(|name| name.contains("worker=\"two\"")));

    two.signal(Signal::SIGKILL);
    two.ended().await;
    let start = Instant::now();
    let mut left = metrics(&alice, &[]).await;
    while left[workers] > 1.0 && start.elapsed() < CHANGE_TIMEOUT {
        left = metrics(&alice, &[]).await;
    }
    assert_eq!(left[workers], 1.0);
    assert!(!left.keys().any(|name| name.contains("worker=\"two\"")));

    one.signal(Signal::SIGKILL);
    one.ended().await;
    let start = Instant::now();
    let mut outcome = alice.run(alice.connected(&["metrics"])).await;
    while outcome.code == 0 && start.elapsed() < CHANGE_TIMEOUT {
        outcome = alice.run(alice.connected(&["metrics"])).await;
    }
    let Outcome { code, out, err } = outcome;
    assert_eq!(code, 8, "{err}");
    assert!(err.contains("no worker answers"), "{err}");
    let none = parse(&out);
    let names: Vec<&str> = none.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "gofavorites_scrape_success",
            "gofavorites_scrape_time_seconds"
        ]
    );
    assert_eq!(none["gofavorites_scrape_success"], 1.0);
}

/// Reads the file until its samples are as wanted. Every text that is there until then is complete.
async fn until(file: &Path, is_wanted: impl Fn(&Samples) -> bool) -> Samples {
    let start = Instant::now();

    loop {
        if let Ok(text) = fs::read_to_string(file) {
            let samples = parse(&text);
            if is_wanted(&samples) {
                return samples;
            }
        }
        assert!(start.elapsed() < CHANGE_TIMEOUT, "no such text");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Goal: the file is complete at every moment, also while NATS is down, and current again after it.
///
/// Method: the command writes every second, NATS is stopped and started again, and the file is read
/// all the time.
#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_whole_though_nats_is_restarted() {
    let mut world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let directory = world.directory.join("metrics");
    fs::create_dir(&directory).expect("a directory");
    let file = directory.join("gofavorites.prom");
    let arguments = ["metrics", "--every", "1s", "--timeout", "2s", "--to"];
    let mut command = alice.connected(&arguments);
    command.arg(&file).kill_on_drop(true);
    let mut running = command.spawn().expect("it starts");

    let time = |samples: &Samples| samples["gofavorites_scrape_time_seconds"];
    let has_worker = |samples: &Samples| sum(samples, &["gofavorites_workers{"]) == 1.0;
    let first = time(&until(&file, has_worker).await);
    until(&file, |samples| {
        time(samples) > first && has_worker(samples)
    })
    .await;
    let mode = fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o644);

    world.nats.stop().expect("stopped");
    let without = until(&file, |samples| {
        samples["gofavorites_scrape_success"] == 0.0
    })
    .await;
    assert!(
        !without.keys().any(|name| name.contains("shard=")),
        "{without:?}"
    );

    world.nats.restart().await.expect("started");
    let again = until(&file, has_worker).await;
    assert_eq!(again["gofavorites_scrape_success"], 1.0);

    let pid = running.id().expect("it runs").try_into().expect("a pid");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("signalled");
    let status = running.wait().await.expect("it ends");
    assert_eq!(status.code(), Some(0));
    let left: Vec<_> = fs::read_dir(&directory).expect("a directory").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_written_again_over_one_connection() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let file = world.directory.join("again.prom");
    let url = world.nats.url();
    let proxy = Proxy::start(url.trim_start_matches("nats://")).await;
    let mut command = alice.connected(&["metrics", "--every", "1s", "--to"]);
    command
        .env(
            "GOFAVORITES_URL",
            format!("nats://127.0.0.1:{}", proxy.port()),
        )
        .arg(&file)
        .kill_on_drop(true);

    let _running = command.spawn().expect("it starts");
    let mut last = 0.0;
    for _ in 0..3 {
        let samples = until(&file, |samples| {
            samples["gofavorites_scrape_time_seconds"] > last
        });
        last = samples.await["gofavorites_scrape_time_seconds"];
    }

    assert_eq!(proxy.accepted(), 1);
}

/// Goal: metrics show a Postgres that answers and stores nothing.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_show_a_read_only_postgres() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let name = world.database("a");
    for statement in [
        &format!("alter database {name} set default_transaction_read_only = true"),
        "select count(pg_terminate_backend(pid)) from pg_stat_activity \
         where datname = current_database() and pid <> pg_backend_pid()",
    ] {
        world.query("a", statement);
    }
    let read_only = |data: &serde_json::Value| data["postgres"]["writes"]["state"] == "open";
    world
        .wait_for_stats("read-only", CHANGE_TIMEOUT, read_only)
        .await;

    let samples = metrics(&alice, &[]).await;
    let of_writes = [
        "gofavorites_breaker_open{",
        "dependency=\"postgres_writes\"",
    ];
    assert_eq!(sum(&samples, &of_writes), 1.0);
    let opened = [
        "gofavorites_breaker_opened_total",
        "dependency=\"postgres_writes\"",
    ];
    assert!(sum(&samples, &opened) >= 1.0);
}

/// Goal: what is not a regular file is not replaced, and wrong usage writes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_of_metrics_writes_nothing() {
    let world = World::start().await;
    let alice = Person::new(&world, &world.caller("alice").await);
    let file = world.directory.join("metrics.prom");
    let file = file.to_str().expect("UTF-8");

    let error = alice.fails(&["metrics", "--to", "/dev/null"], 2).await;
    assert!(error.contains("/dev/null is not a regular file"), "{error}");
    let device = fs::metadata("/dev/null").expect("it is there");
    assert!(device.file_type().is_char_device());

    alice.fails(&["metrics", "--every", "1s"], 2).await;
    alice
        .fails(&["metrics", "--every", "1ms", "--to", file], 2)
        .await;
    let no_server = alice.command(&["metrics", "--to", file]);
    let Outcome { code, err, .. } = alice.run(no_server).await;
    assert_eq!(code, 2, "{err}");
    assert!(!Path::new(file).exists());
}
