//! The log of a worker: whatever its reader does, the worker goes on.

use crate::harness::{Process, World};
use gofavorites::config::Settings;
#[cfg(target_os = "linux")]
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Write as _};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;

/// The bytes that a pipe of these tests takes before its writer has to wait.
const PIPE_BYTES: usize = 4_096;

/// How long the buffer of a worker may take to become full.
const FILL_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes a small pipe.
fn pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    // Elsewhere the size of a pipe cannot be set, and it takes longer until it is full.
    #[cfg(target_os = "linux")]
    {
        let bytes = PIPE_BYTES.try_into().expect("a small number");
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(bytes)).expect("a small pipe");
    }

    (reader, writer)
}

/// Returns settings with a log of all levels.
fn talkative(world: &World) -> Settings {
    let mut settings = world.settings("a");
    settings.log.filter = "debug".into();

    settings
}

/// Starts a worker that logs all levels into a pipe. Nobody reads it yet.
async fn start() -> (World, Process, PipeReader) {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let (reader, writer) = pipe();
    let mut worker = world.serve_with_log(talkative(&world), writer);
    worker.is_ready().await;

    (world, worker, reader)
}

/// Asks until more is logged than the worker keeps for its reader.
async fn ask_until_lines_are_dropped(world: &World) {
    let mut askers = JoinSet::new();
    for _ in 0..16 {
        let alice = world.caller("alice").await;
        askers.spawn(async move {
            loop {
                alice.done("a.list", &json!({})).await;
            }
        });
    }

    let drops = |data: &Value| data["log"]["dropped"].as_u64() > Some(0);
    world.wait_for_stats("dropped", FILL_TIMEOUT, drops).await;
}

/// Reads a log to its end, on a thread.
fn read(log: PipeReader) -> UnboundedReceiver<Value> {
    let (sender, lines) = unbounded_channel();

    std::thread::spawn(move || {
        for line in BufReader::new(log).lines() {
            let line = line.expect("a text");
            let line = serde_json::from_str(&line).expect("a complete line");
            sender.send(line).expect("a test");
        }
    });

    lines
}

/// Goal: a worker goes on while nobody reads its log, and stops in order and in time.
///
/// Method: its standard error stream is a pipe that nobody reads, and that is soon full.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_goes_on_while_nobody_reads_its_log() {
    let (world, mut worker, _unread) = start().await;
    let alice = world.caller("alice").await;

    for _ in 0..200 {
        alice.done("a.version", &json!({})).await;
    }

    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.ended().await.code(), Some(0));
}

/// Goal: lines that do not fit are dropped and counted. When the reader is back, the log says how
/// many there were, goes on with complete lines, and has the last one too.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_lines_are_counted_and_reported() {
    let (world, mut worker, unread) = start().await;
    ask_until_lines_are_dropped(&world).await;

    let mut lines = read(unread);
    let dropped = loop {
        let line = lines.recv().await.expect("the worker runs");
        let message = line["message"].as_str().unwrap_or_default();
        if message.starts_with("lines of the log were dropped") {
            break line["dropped"].as_u64();
        }
    };
    assert!(dropped > Some(0));

    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.ended().await.code(), Some(0));
    let mut is_complete = false;
    while let Some(line) = lines.recv().await {
        is_complete |= line["message"] == "stopped";
    }
    assert!(is_complete, "the last lines are missing");
}

/// Goal: a worker goes on when the reader of its log has gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_goes_on_without_a_reader_of_its_log() {
    let (world, mut worker, unread) = start().await;

    drop(unread);
    world.caller("alice").await.done("a.list", &json!({})).await;
    let drops = |data: &Value| data["log"]["dropped"].as_u64() > Some(0);
    world.wait_for_stats("dropped", FILL_TIMEOUT, drops).await;

    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.ended().await.code(), Some(0));
}

/// Goal: a worker that cannot start ends with its exit code, though nobody reads why.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_start_waits_for_no_reader() {
    let world = World::start().await;
    let (_unread, mut writer) = pipe();
    writer.write_all(&[b' '; PIPE_BYTES]).expect("it fits");
    let mut settings = talkative(&world);
    settings.limits.page = 0;

    let mut worker = world.serve_with_log(settings, writer);

    assert_eq!(worker.ended().await.code(), Some(2));
}

/// Goal: no level of the log shows a caller's name, token or data.
#[tokio::test(flavor = "multi_thread")]
async fn no_level_shows_what_a_caller_sends() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let mut worker = world.serve(talkative(&world));
    worker.is_ready().await;
    let alice = world.caller("alice").await;

    alice.put_text("a", "an-id-to-hide", "a-text-to-hide").await;
    alice.done("a.list", &json!({})).await;
    worker.says("\"operation\":\"list\"").await;

    let log = worker.log();
    for target in ["sqlx", "async_nats", "gofavorites"] {
        assert!(log.contains(&format!("\"target\":\"{target}")), "{target}");
    }
    for hidden in ["alice", "an-id-to-hide", "a-text-to-hide", &alice.token] {
        assert!(!log.contains(hidden), "the log shows what it must not");
    }
}
