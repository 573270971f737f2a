//! What is known about what is selected, in sentences.

use super::figures::{fill, number, percent, size};
use super::theme::Theme;
use super::workers::{build, uptime};
use crate::cli::output::{ago, count, span};
use crate::cli::top::model::{Model, Subject};
use crate::cli::top::sample::Reason;
use crate::cli::top::shard::{Severity, Summary};
use crate::cli::top::worker::Worker;
use crate::domain::Timestamp;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use std::time::Duration;
use unicode_width::UnicodeWidthStr as _;

/// The name of what is selected.
pub(super) fn name(subject: &Subject) -> String {
    match subject {
        Subject::All => "all workers".to_owned(),
        Subject::Shard(shard) => format!("shard {shard}"),
        Subject::Worker(key) => format!("{} of shard {}", key.id, key.shard),
    }
}

/// The state of what is selected.
pub(super) fn state(model: &Model, subject: &Subject, now: Duration) -> (String, Severity) {
    if let Subject::Worker(key) = subject {
        let state = model.worker(key).map_or("unknown", Worker::state);
        return (state.to_owned(), Severity::of_state(state));
    }

    model.summary(subject, now).state()
}

/// Returns why the workers are not healthy, in full, in lines of that width.
pub(super) fn reasons(
    model: &Model,
    subject: &Subject,
    now: Duration,
    width: usize,
    theme: Theme,
) -> Vec<Line<'static>> {
    let is_one = matches!(subject, Subject::Worker(_));
    let mut lines = Vec::new();

    for worker in model.workers_of(subject) {
        let style = theme.severity(Severity::of_state(worker.state()));
        let who = match is_one {
            true => String::new(),
            false => format!("{} ", worker.sample.id),
        };
        let mut say = |text: String| {
            let wrapped = wrap(text.split_whitespace(), " ", width);
            lines.extend(wrapped.into_iter().map(|line| Line::styled(line, style)));
        };

        if worker.is_gone() {
            let silence = now.saturating_sub(worker.answered_at);
            say(format!(
                "{who}is gone: its last answer came {}",
                ago(silence)
            ));
            continue;
        }
        for Reason { part, why, since } in &worker.sample.reasons {
            let since = since.map_or_else(String::new, |since| {
                format!(" (since {})", since.to_rfc3339())
            });
            say(format!("{who}is {}: {part}: {why}{since}", worker.state()));
        }
    }
    lines
}

/// Returns what else is known, in quiet lines of that width.
pub(super) fn facts(
    model: &Model,
    subject: &Subject,
    (now, clock): (Duration, Timestamp),
    width: usize,
    theme: Theme,
) -> Vec<Line<'static>> {
    let facts = match subject {
        Subject::Worker(key) => match model.worker(key) {
            Some(worker) => of_worker(worker, clock, theme),
            None => Vec::new(),
        },
        _ => of_summary(&model.summary(subject, now), theme),
    };

    let between = theme.between();
    let lines = wrap(facts.iter().map(String::as_str), between, width);
    lines
        .into_iter()
        .map(|line| Line::from(Span::styled(line, Style::new())))
        .collect()
}

fn of_worker(worker: &Worker, clock: Timestamp, theme: Theme) -> Vec<String> {
    let sample = &worker.sample;
    let cpu = worker.rates.as_ref().and_then(|rates| rates.cpu);
    let up = uptime(sample, clock).map_or_else(|| theme.unknown().to_owned(), span);
    let projects = match sample.projects {
        Some(true) => "projects",
        Some(false) => "does not project",
        None => "projection unknown",
    };

    vec![
        format!("up {up}"),
        format!("build {}", build(sample)),
        projects.to_owned(),
        format!("{} in flight", number(sample.in_flight, theme)),
        format!("cpu {}", percent(cpu, theme)),
        format!("memory {}", size(sample.process.memory_bytes, theme)),
        format!("{} open files", number(sample.process.open_files, theme)),
        format!("cache {}", size(sample.cache.bytes, theme)),
    ]
}

fn of_summary(summary: &Summary, theme: Theme) -> Vec<String> {
    let newest = summary.newest_age;
    let newest = newest.map_or_else(|| theme.unknown().to_owned(), ago);
    let mut facts = vec![
        format!("{} hosted", number(summary.hosted, theme)),
        format!(
            "bucket {}, {} records, newest {newest}",
            fill(summary.bucket_bytes, summary.bucket_bytes_max, theme),
            number(summary.records, theme)
        ),
        format!(
            "cache {}, {} owners, {} hits",
            size(summary.cache_bytes, theme),
            number(summary.cache_owners, theme),
            percent(summary.hit_rate, theme)
        ),
    ];

    if summary.unreached > 0 {
        let workers = count(summary.unreached, "worker");
        facts.push(format!("{workers} without the bucket"));
    }
    facts
}

/// Returns pieces in lines, with that between them, each line of at most that width. A piece that is
/// wider than a line is broken.
fn wrap<'p>(pieces: impl Iterator<Item = &'p str>, between: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines: Vec<String> = Vec::new();

    for piece in pieces {
        let fits = |line: &&mut String| line.width() + between.width() + piece.width() <= width;
        if let Some(line) = lines.last_mut().filter(fits) {
            *line += between;
            *line += piece;
            continue;
        }

        let mut line = String::new();
        for c in piece.chars() {
            if line.width() + c.to_string().width() > width && !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            line.push(c);
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_broken_and_nothing_is_lost() {
        let words = ["one", "two", "seventeen-letters", "x"];

        assert_eq!(
            wrap(words.into_iter(), " ", 8),
            ["one two", "seventee", "n-letter", "s x"]
        );
        assert_eq!(wrap(["漢字漢"].into_iter(), " ", 4), ["漢字", "漢"]);
        assert!(wrap(std::iter::empty(), " ", 4).is_empty());
        assert_eq!(wrap(["ab"].into_iter(), " ", 0), ["a", "b"]);
    }
}
