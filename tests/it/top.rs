//! The live screen: the program itself runs on a pseudo-terminal, and a terminal emulator reads what
//! a person sees.

use crate::cli::Person;
use crate::harness::load::Load;
use crate::harness::{OnTerminal, Process, Worker, World, with_user_in};
use futures::StreamExt as _;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::process::Command;
use vt100::{Color, Screen};

const SMALL: (u16, u16) = (24, 80);
const WIDE: (u16, u16) = (50, 200);
const RED: Color = Color::Idx(1);

/// A world with a worker in this process, of shard `a`, and one as a process, `doomed` of shard `b`.
struct Watched {
    world: World,
    _worker: Worker,
    doomed: Process,
    operator: Person,
}

impl Watched {
    async fn start() -> Self {
        Self::start_in(World::start().await).await
    }

    async fn start_in(world: World) -> Self {
        let mut settings = world.settings("a");
        settings.worker.id = "steady".into();
        let worker = world.worker_with(settings).await;

        let mut settings = world.settings("b");
        settings.worker.id = "doomed".into();
        world.init(&settings).await.expect("init");
        let mut doomed = world.serve(settings);
        doomed.is_ready().await;

        let operator = Person::new(&world, &world.caller("alice").await);
        Self {
            world,
            _worker: worker,
            doomed,
            operator,
        }
    }

    /// The command as an operator on a terminal with UTF-8 starts it.
    fn top(&self, arguments: &[&str]) -> Command {
        let mut command = self.operator.connected(&[&["top"], arguments].concat());
        command.env("LC_ALL", "C.UTF-8");

        command
    }
}

/// The rows of the screen.
fn rows(screen: &Screen) -> Vec<String> {
    let (_, columns) = screen.size();

    screen.rows(0, columns.get()).collect()
}

/// The row and the column where this text is for the first time.
fn place(screen: &Screen, text: &str) -> Option<(u16, u16)> {
    (0..).zip(rows(screen)).find_map(|(row, line)| {
        let (before, _) = line.split_once(text)?;
        Some((row, before.chars().count().try_into().ok()?))
    })
}

/// The row of a worker or a shard.
fn row_of(screen: &Screen, name: &str) -> Option<String> {
    let rows = rows(screen).into_iter();
    let mut rows = rows.filter(|row| row.split_whitespace().any(|word| word == name));

    rows.find(|row| !row.contains('─'))
}

/// Returns whether a row has a number of requests a second that is above zero.
fn has_rate(screen: &Screen, name: &str) -> bool {
    let heading = rows(screen)
        .into_iter()
        .find(|row| row.contains("WORKER ") && row.contains("REQ/S"));
    let end = heading.and_then(|heading| {
        let (before, _) = heading.split_once("REQ/S")?;
        Some(before.chars().count() + "REQ/S".len())
    });
    let rate = row_of(screen, name).zip(end).map(|(row, end)| {
        let upto: String = row.chars().take(end).collect();
        upto.split_whitespace()
            .last()
            .unwrap_or_default()
            .to_owned()
    });

    rate.is_some_and(|rate| rate.starts_with(|c: char| ('1'..='9').contains(&c)))
}

fn colour_at(screen: &Screen, text: &str) -> Option<Color> {
    let (row, column) = place(screen, text)?;

    Some(screen.cell(row, column)?.fgcolor())
}

/// Waits until the program has ended, and asserts that the terminal is as it was.
async fn left_as_it_was(mut terminal: OnTerminal) {
    let (status, screen) = terminal.ended().await;

    assert!(status.success(), "{status:?}");
    assert!(!screen.alternate_screen() && !screen.hide_cursor());
    assert!(terminal.is_as_a_shell_wants_it());
}

/// Goal: an operator with a small terminal sees load, and a worker that dies.
///
/// Method: load runs on shard `a`, and the worker of shard `b` is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_is_seen_to_be_gone() {
    let watched = Watched::start().await;
    let mut terminal = OnTerminal::start(watched.top(&["--every", "250ms"]), SMALL);
    terminal.wait_until("two workers", |screen| {
        place(screen, "2 workers  2 healthy").is_some()
    });
    assert!(!terminal.is_as_a_shell_wants_it());

    let load = Load::start(&watched.world, &["a"], 4, false).await;
    let parts = ["put", "get", "requests/s", "bucket", "[1 overview]"];
    let screen = terminal.wait_until("a rate of each operation", |screen| {
        has_rate(screen, "steady") && parts.iter().all(|part| place(screen, part).is_some())
    });
    assert!(screen.alternate_screen() && screen.hide_cursor());
    load.stop().await.is_clean();

    watched.doomed.signal(Signal::SIGKILL);
    let screen = terminal.wait_until("gone", |screen| {
        row_of(screen, "doomed").is_some_and(|row| row.contains("gone"))
    });
    assert_eq!(colour_at(screen, "doomed"), Some(RED));
    assert_eq!(colour_at(screen, "1 gone"), Some(RED));

    terminal.press("q");
    left_as_it_was(terminal).await;
}

/// Goal: keys select, sort, filter, change the page and pause.
#[tokio::test(flavor = "multi_thread")]
async fn keys_change_what_is_on_the_screen() {
    let watched = Watched::start().await;
    let mut terminal = OnTerminal::start(watched.top(&["--every", "250ms"]), SMALL);
    let is_there = |text: &'static str| move |screen: &Screen| place(screen, text).is_some();
    terminal.wait_until("both workers", is_there("2 healthy"));

    terminal.press("jjj");
    terminal.wait_until("the selected worker", is_there("─ steady of shard a ─"));
    terminal.wait_until("its mark", is_there("▸ steady"));
    terminal.press("2ss");
    terminal.wait_until("the order", is_there("SHARD▴"));
    terminal.press("r");
    terminal.wait_until("the other order", |screen| {
        place(screen, "doomed") < place(screen, "steady")
    });
    terminal.press("/stea\r");
    terminal.wait_until("the filter", |screen| {
        place(screen, "filter: stea").is_some() && place(screen, "doomed").is_none()
    });
    terminal.press("\u{1b}");
    terminal.wait_until("all workers", is_there("doomed"));
    terminal.press("?");
    terminal.wait_until("the keys", is_there("reverse the order"));
    terminal.press("?3p");
    terminal.wait_until("the details", is_there("[3 details]"));
    terminal.wait_until("the pause", is_there("paused"));
    terminal.press("p+");
    terminal.wait_until("the interval", is_there("every 500 ms"));

    terminal.press("\u{3}");
    left_as_it_was(terminal).await;
}

/// Goal: a large terminal without colours has every column, a change of its size is followed, and
/// SIGTERM leaves the terminal as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_screen_without_colours_has_every_column() {
    let watched = Watched::start().await;
    let mut command = watched.top(&["--every", "250ms"]);
    command.env("NO_COLOR", "1");
    let mut terminal = OnTerminal::start(command, WIDE);

    let parts = [
        "2 healthy",
        "HOSTED",
        "HITS",
        "IN FLIGHT",
        "CPU",
        "MEMORY",
        "FILES",
        "PROJECTS",
        "BUILD",
    ];
    let screen = terminal.wait_until("every column", |screen| {
        parts.iter().all(|part| place(screen, part).is_some())
    });
    let (height, width) = WIDE;
    let cells = (0..height).flat_map(|row| (0..width).map(move |column| (row, column)));
    for (row, column) in cells {
        let cell = screen.cell(row, column).expect("a cell");
        assert_eq!(
            (cell.fgcolor(), cell.bgcolor()),
            (Color::Default, Color::Default)
        );
    }

    terminal.resize(SMALL.0, SMALL.1);
    terminal.wait_until("the small screen", |screen| {
        let last = rows(screen).pop().unwrap_or_default();
        last.contains("[1 overview]") && place(screen, "BUILD").is_none()
    });

    terminal.signal(Signal::SIGTERM);
    left_as_it_was(terminal).await;
}

/// Goal: while NATS is unavailable the screen says so, and it continues when NATS is back.
#[tokio::test(flavor = "multi_thread")]
async fn the_screen_survives_the_loss_of_nats() {
    let mut watched = Watched::start().await;
    let mut terminal = OnTerminal::start(watched.top(&["--color", "never"]), SMALL);
    terminal.wait_until("both workers", |screen| {
        place(screen, "2 healthy").is_some()
    });

    watched.world.nats.process().kill9().expect("killed");
    let screen = terminal.wait_until("the loss", |screen| place(screen, "NATS is lost").is_some());
    assert!(place(screen, "steady").is_some(), "{}", screen.contents());
    watched.world.nats.restart().await.expect("started again");
    terminal.wait_until("an answer after the loss", |screen| {
        let is_back = place(screen, "NATS is lost").is_none();
        is_back && place(screen, "2 healthy").is_some() && place(screen, "just now").is_some()
    });

    terminal.press("q");
    left_as_it_was(terminal).await;
}

/// Goal: without a terminal the command says what scripts use, and `--once` prints one screen.
#[tokio::test(flavor = "multi_thread")]
async fn a_script_gets_one_screen_as_text() {
    let watched = Watched::start().await;
    let operator = &watched.operator;

    let refused = operator.fails(&["top"], 2).await;
    for command in ["health", "metrics", "--once"] {
        assert!(refused.contains(command), "{refused}");
    }
    operator.fails(&["top", "--every", "1ms"], 2).await;

    let text = operator
        .run(watched.top(&["--once", "--every", "100ms"]))
        .await
        .out;
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
    for part in ["2 workers  2 healthy", "steady", "doomed", "BUILD"] {
        assert!(text.contains(part), "{text}");
    }
    let row = text
        .lines()
        .find(|line| line.contains("steady"))
        .expect("a row");
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[..5], ["steady", "a", "healthy", "0", "0"], "{text}");

    let one = operator
        .succeeds(&["top", "--once", "--every", "100ms", "--shard", "b"])
        .await;
    assert!(one.contains("doomed") && !one.contains("steady"), "{one}");
    let none = ["top", "--once", "--shard", "z", "--timeout", "1s"];
    let error = operator.fails(&none, 8).await;
    assert!(error.contains("no worker answers"), "{error}");
}

/// Goal: a worker that nobody knows cannot write to an operator's terminal.
///
/// Method: a stranger answers for a worker, with control characters in everything that it says.
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_answer_cannot_control_the_terminal() {
    let accounts = with_user_in(ACCOUNTS_CONF, "SERVICE", "stranger");
    let watched = Watched::start_in(World::with_accounts(&accounts).await).await;
    let hostile = "evil\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}";
    let refusals = json!({ hostile: 1 });
    let answer = json!({
        "id": hostile,
        "version": hostile,
        "endpoints": [{"name": hostile, "num_requests": 1, "data": {"refusals": refusals}}],
        "data": {"shard": hostile, "state": hostile, "reasons": [{"part": hostile, "why": hostile}]},
    });
    let stranger = watched.world.connect_added("stranger").await;
    let mut questions = stranger
        .subscribe("$SRV.STATS.favorites")
        .await
        .expect("subscribed");
    stranger.flush().await.expect("flushed");
    let answers = tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let reply = question.reply.expect("a reply subject");
            let answer = answer.to_string().into();
            stranger.publish(reply, answer).await.expect("answered");
        }
    });

    let mut terminal = OnTerminal::start(watched.top(&[]), WIDE);
    terminal.wait_until("the answer", |screen| {
        let escaped = "evil ]0;owned  [2J\\u{202e}";
        place(screen, escaped).is_some() && place(screen, "steady").is_some()
    });
    terminal.press("q");
    let printed = terminal.end().await;

    assert!(!printed.contains("\u{1b}]") && !printed.contains('\u{7}'));
    assert!(!printed.contains('\u{202e}'));
    answers.abort();
}
