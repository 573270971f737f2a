//! The screen at the sizes that people have, with and without colours.

use super::scene::{Place, View};
use super::theme::Theme;
use crate::cli::top::columns::ColumnId;
use crate::cli::top::controls::{Controls, Order, Page, Shown};
use crate::cli::top::model::{Model, Subject};
use crate::cli::top::sample::Sample;
use crate::cli::top::worker::Key;
use crate::domain::Timestamp;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};
use serde_json::{Value, json};
use std::time::Duration;

const COLOURS: Theme = Theme {
    colour: true,
    utf8: true,
};
const PLAIN: Theme = Theme {
    colour: false,
    utf8: true,
};
const LONG_ID: &str = "worker-6f9619ff8b86d011b42d00cf4fc964ff";
const LONG_REASON: &str = "the bucket has not answered a single read for the last forty-two seconds, \
                           although the connection to the NATS server is there all the time";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn answer(shard: &str, id: &str, state: &str, requests: u64) -> Value {
    let reasons = match state {
        "healthy" => json!([]),
        _ => json!([{"part": "truth", "why": LONG_REASON, "since": "2026-01-01T00:00:07.000Z"}]),
    };
    let endpoint = |name: &str, requests: u64| {
        json!({
            "name": name,
            "num_requests": requests,
            "data": {
                "refusals": {"not_found": requests / 10},
                "buckets_us": [[1_000, requests / 2], [4_000, requests]],
            },
        })
    };

    json!({
        "id": id,
        "version": "0.1.0",
        "metadata": {"commit": "4eb9a774a562"},
        "started": "2026-01-01T00:00:00Z",
        "endpoints": [endpoint("put", requests), endpoint("tags-rename", 0), endpoint("get", requests)],
        "data": {
            "shard": shard,
            "state": state,
            "reasons": reasons,
            "requests": {"in_flight": 3},
            "projection": {"here": id == "w1", "sequence": 1_000},
            "postgres": {"hosted": 1_234},
            "cache": {"owners": 9, "bytes": 5 << 20, "hits": 90, "misses": 10},
            "truth": {
                "newest": 1_007, "newest_age_ms": 2_000, "records": 4_321,
                "bytes": 3_u64 << 29, "bytes_max": 4_u64 << 30, "history": "whole",
                "reads": {"state": "closed"}, "writes": {"state": "closed"},
            },
            "process": {"cpu_ms": requests, "memory_bytes": 48 << 20, "open_files": 31},
        },
    })
}

/// Four workers of two shards, of which one is gone.
fn model() -> Model {
    let mut model = Model::default();
    let workers = [
        ("a", "w1", "healthy", 100),
        ("a", "w2", "degraded", 250),
        ("b", LONG_ID, "unhealthy", 10),
        ("b", "silent", "healthy", 10),
    ];

    for at in 1..=6 {
        for (shard, id, state, requests) in workers {
            if id != "silent" || at == 1 {
                let sample = Sample::read(&answer(shard, id, state, requests * at));
                model.take(sample.expect("a worker"), at, seconds(at));
            }
        }
        model.ask(seconds(at));
        model.record(seconds(at));
    }
    model
}

/// A screen, and what is on it.
struct Drawn {
    lines: Vec<String>,
    buffer: Buffer,
    shown: Shown,
}

impl Drawn {
    fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// The colours and weights of the first place with this text.
    fn style(&self, text: &str) -> (Color, Modifier) {
        let (y, line) = (0..)
            .zip(&self.lines)
            .find(|(_, line)| line.contains(text))
            .unwrap_or_else(|| panic!("no {text} in\n{}", self.text()));
        let (before, _) = line.split_once(text).expect("it is there");
        let x = u16::try_from(before.chars().count()).expect("narrow");

        let cell = &self.buffer[(x, y)];
        (cell.fg, cell.modifier)
    }
}

/// A worker of shard `a`.
fn key(id: &str) -> Key {
    Key {
        shard: "a".to_owned(),
        id: id.to_owned(),
    }
}

fn controls() -> Controls {
    Controls::new(seconds(1))
}

fn draw(model: &Model, controls: &Controls, (width, height): (u16, u16), theme: Theme) -> Drawn {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    let place = Place {
        service: "favorites".to_owned(),
        servers: "nats://nats.example.com:4222".to_owned(),
    };
    let view = View {
        model,
        controls,
        place: &place,
        now: seconds(6),
        clock: Timestamp::parse_rfc3339("2026-01-01T02:00:06Z").expect("a time"),
        theme,
    };

    let mut shown = Shown::default();
    let drawn = terminal.draw(|frame| shown = view.draw(frame.buffer_mut()));
    drawn.expect("drawn");
    let buffer = terminal.backend().buffer().clone();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect();
    Drawn {
        lines: (0..height).map(line).collect(),
        buffer,
        shown,
    }
}

#[test]
fn a_small_screen_has_what_matters_most() {
    let controls = Controls {
        selected: Subject::Worker(key("w1")),
        ..controls()
    };

    let text = draw(&model(), &controls, (80, 24), PLAIN).text();

    for part in [
        " favorites  nats://nats.example.com:4222",
        "3 workers  1 healthy  1 degraded  1 unhealthy  1 gone",
        "every 1 s ",
        "answered just now ",
        "1.5 GiB of 4 GiB",
        "worker-6f",
        "▸ w1 ",
        "─ w1 of shard a ─",
        "[1 overview] 2 workers",
        "requests/s",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    for heading in [
        "WORKER",
        "SHARD",
        "STATE",
        "REQ/S",
        "P99",
        "LAG",
        "UPTIME",
        "OPERATION",
    ] {
        assert!(text.contains(heading), "no {heading} in\n{text}");
    }
    assert!(text.contains('…') && !text.contains("BUILD"), "{text}");
    assert!(!text.contains("tags.rename"), "{text}");
}

#[test]
fn a_wide_screen_has_everything() {
    let text = draw(&model(), &controls(), (200, 50), PLAIN).text();

    for part in [
        LONG_ID,
        "BUILD",
        "PROJECTS",
        "FILES",
        "MEMORY",
        "48 MiB",
        "0.1.0 4eb9a77",
        "2 h",
        "CACHE",
        "HOSTED",
        "2,468",
        "P90",
        "4,321 records",
        "max ",
        "90%",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    // All of 720 requests a second, by operation and by code.
    assert!(text.contains("720") && text.contains("360"), "{text}");
}

#[test]
fn states_have_their_colours() {
    for size in [(80, 24), (200, 50)] {
        let drawn = draw(&model(), &controls(), size, COLOURS);

        assert_eq!(drawn.style("worker-6f").0, Color::Red);
        assert_eq!(drawn.style("silent").0, Color::Red);
        assert_eq!(drawn.style("w2").0, Color::Yellow);
        assert_eq!(drawn.style("w1").0, Color::Reset);
        assert_eq!(drawn.style("1 healthy").0, Color::Green);
    }
}

#[test]
fn without_colours_words_and_marks_say_the_same() {
    let subject = Subject::Shard("b".to_owned());
    let controls = Controls {
        selected: subject.clone(),
        ..controls()
    };

    for size in [(80, 24), (200, 50)] {
        let drawn = draw(&model(), &controls, size, PLAIN);

        let is_plain =
            |cell: &ratatui::buffer::Cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset);
        assert!(drawn.buffer.content.iter().all(is_plain));
        assert!(drawn.shown.rows.contains(&subject));
        assert!(drawn.text().contains("▸ b "), "{}", drawn.text());
        assert!(drawn.style("▸ b").1.contains(Modifier::BOLD));
        for state in ["degraded", "unhealthy", "gone"] {
            assert!(drawn.text().contains(state), "{}", drawn.text());
        }
    }
}

#[test]
fn where_there_is_only_ascii_nothing_else_is_written() {
    let ascii = Theme {
        colour: true,
        utf8: false,
    };
    for page in Page::ALL.map(|(page, _)| page) {
        for size in [(80, 24), (200, 50)] {
            let controls = Controls { page, ..controls() };

            let text = draw(&model(), &controls, size, ascii).text();

            assert!(text.is_ascii(), "{text}");
        }
    }
}

#[test]
fn the_reasons_of_what_is_selected_are_in_full() {
    for selected in [
        Subject::Worker(key("w2")),
        Subject::Shard("a".to_owned()),
        Subject::All,
    ] {
        let controls = Controls {
            page: Page::Details,
            selected,
            ..controls()
        };

        let text = draw(&model(), &controls, (80, 24), PLAIN).text();

        let words: Vec<&str> = text.split_whitespace().collect();
        let reason = format!("{LONG_REASON} (since 2026-01-01T00:00:07.000Z)");
        let reason: Vec<&str> = reason.split_whitespace().collect();
        let is_there = words.windows(reason.len()).any(|part| part == reason);
        assert!(is_there && text.contains("is degraded: truth:"), "{text}");
    }
}

#[test]
fn workers_are_filtered_and_sorted() {
    let mut controls = Controls {
        page: Page::Workers,
        workers: Order {
            column: Some(ColumnId::Requests),
            is_reversed: true,
        },
        ..controls()
    };
    let ids = |controls: &Controls| -> Vec<String> {
        let drawn = draw(&model(), controls, (80, 24), PLAIN);
        let rows = drawn.shown.rows.iter().map(|row| match row {
            Subject::Worker(key) => key.id.clone(),
            other => panic!("{other:?}"),
        });
        rows.collect()
    };

    assert_eq!(ids(&controls), ["w2", "w1", LONG_ID, "silent"]);
    for (filter, expected) in [
        ("GONE", &["silent"][..]),
        ("a degr", &["w2"]),
        ("w1", &["w1"]),
        ("nothing", &[]),
    ] {
        controls.filter = filter.to_owned();
        assert_eq!(ids(&controls), expected, "{filter}");
    }
    let drawn = draw(&model(), &controls, (80, 24), PLAIN);
    assert!(drawn.text().contains("filter: nothing"), "{}", drawn.text());
}

#[test]
fn the_screen_says_when_it_does_not_renew_itself() {
    let mut model = model();
    let mut controls = controls();
    controls.is_paused = true;
    let drawn = draw(&model, &controls, (80, 24), COLOURS);
    assert_eq!(drawn.style("paused").0, Color::Yellow);

    model.lose(seconds(2));
    let drawn = draw(&model, &controls, (80, 24), COLOURS);
    assert_eq!(
        drawn.style("NATS is lost for 4 s, trying again").0,
        Color::Red
    );

    let nobody = draw(&Model::default(), &controls, (80, 24), PLAIN).text();
    assert!(
        nobody.contains("0 workers") && nobody.contains("no answer yet"),
        "{nobody}"
    );
}

#[test]
fn the_keys_are_shown() {
    let mut controls = controls();
    controls.shows_help = true;
    let text = draw(&model(), &controls, (80, 24), PLAIN).text();
    assert!(
        text.contains("reverse the order") && text.contains("Ctrl-Z"),
        "{text}"
    );

    controls = Controls {
        is_typing: true,
        filter: "sha".to_owned(),
        ..controls
    };
    let text = draw(&model(), &controls, (80, 24), PLAIN).text();
    assert!(
        text.contains("filter: sha▏") && text.contains("Esc clear"),
        "{text}"
    );
}

#[test]
fn no_size_is_too_small() {
    let model = model();
    for page in Page::ALL.map(|(page, _)| page) {
        for shows_help in [false, true] {
            let controls = Controls {
                page,
                shows_help,
                ..controls()
            };
            for width in [1, 2, 3, 5, 9, 20, 47, 60] {
                for height in [1, 2, 3, 4, 5, 7, 10, 14] {
                    let drawn = draw(&model, &controls, (width, height), COLOURS);

                    assert_eq!(drawn.lines.len(), usize::from(height));
                }
            }
        }
    }
}

#[test]
fn many_shards_and_workers_leave_room_for_the_rest() {
    let mut model = Model::default();
    for number in 0..90 {
        let shard = format!("s{:02}", number / 3);
        let sample = Sample::read(&answer(&shard, &format!("w{number}"), "healthy", 5));
        model.take(sample.expect("a worker"), 1, seconds(1));
    }
    let controls = Controls {
        selected: Subject::Shard("s29".to_owned()),
        ..controls()
    };

    let text = draw(&model, &controls, (80, 24), PLAIN).text();

    for part in ["▸ s29", "WORKER", "OPERATION", "─ shard s29 ─", " of 31"] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
}

#[test]
fn one_screen_as_text_has_all_rows() {
    let place = Place::default();
    let model = model();
    let view = View {
        model: &model,
        controls: &controls(),
        place: &place,
        now: seconds(6),
        clock: Timestamp::from_millis(0),
        theme: PLAIN,
    };

    let text = view.text(200);

    assert!(
        text.contains(LONG_ID) && text.contains("not_found"),
        "{text}"
    );
    assert!(text.ends_with('\n') && !text.ends_with("\n\n"));
    assert!(text.lines().all(|line| !line.ends_with(' ')), "{text}");
    assert!(!text.contains("overview"), "{text}");
}
