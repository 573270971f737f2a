//! A runbook of the page, played block by block.

use super::desk::{Desk, PAGE, SETUP};
use crate::pages::{Step, blocks, section, steps, text};
use std::collections::VecDeque;
use std::time::Instant;

/// The runbooks that are played: each section of the page that has commands, and its parts. A part
/// without a name is the section itself.
const PLAYED: [(&str, &str); 13] = [
    ("Upgrade and roll back", ""),
    ("Add a shard", ""),
    ("Lose a shard", "Its workers"),
    ("Lose a shard", "Its Postgres"),
    ("Lose a shard", "Its site"),
    ("Lose the hub's site", ""),
    ("Rotate the auth service's keys", ""),
    ("A full bucket", "The server's limit"),
    ("A full bucket", "The account's limit"),
    ("A full bucket", "The stream's limit"),
    ("A broken owner", "A shard has a copy"),
    ("A broken owner", "No shard has a copy"),
    ("A restored backup", ""),
];

/// A section of the page that is being played.
pub struct Runbook {
    heading: &'static str,
    part: &'static str,
    blocks: VecDeque<(String, String)>,
    begun: Instant,
    /// What the last block of commands printed.
    printed: String,
}

impl Runbook {
    /// Opens a runbook of the page: a section, or one part of it. The clock runs from here.
    pub fn open(heading: &'static str, part: &'static str) -> Self {
        assert!(PLAYED.contains(&(heading, part)), "{heading}: {part}");
        let page = text(PAGE);
        let all = section(&page, heading);

        Self {
            heading,
            part,
            blocks: blocks(part_of(all, part)).into(),
            begun: Instant::now(),
            printed: String::new(),
        }
    }

    /// Plays the next block of commands, and compares what the page shows after it with what came.
    pub async fn next(&mut self, desk: &mut Desk) {
        let (language, block) = self.blocks.pop_front().expect("one more block");
        assert_eq!(language, "sh", "{}: {block}", self.heading);

        self.printed.clear();
        for Step { command, refused } in steps(&block) {
            let begun = Instant::now();
            let (succeeded, printed) = desk.run(&command).await;
            println!(
                "  {:6.2} s  {command}\n{printed}",
                begun.elapsed().as_secs_f64()
            );

            assert_eq!(succeeded, refused.is_none(), "{command}: {printed}");
            let expected = refused.unwrap_or_default();
            assert!(printed.contains(&expected), "{command}: {printed}");
            self.printed.push_str(&printed);
        }

        while let Some((_, shown)) = self.blocks.pop_front_if(|(language, _)| language == "text") {
            self.compare(&shown);
        }
    }

    /// Checks that each line that the page shows was printed; `…` stands for any text.
    fn compare(&self, shown: &str) {
        for line in shown.lines() {
            let parts: Vec<&str> = line.split('…').map(str::trim).collect();
            let is_printed = |printed: &str| {
                let printed = words(printed);
                let mut rest = printed.as_str();
                parts
                    .iter()
                    .all(|part| match rest.split_once(&words(part)) {
                        Some((_, after)) => {
                            rest = after;
                            true
                        }
                        None => false,
                    })
            };

            let found = self.printed.lines().any(is_printed);
            assert!(found, "{line}\nis not in\n{}", self.printed);
        }
    }

    /// Prints how long the runbook took. All of its blocks have to be played.
    pub fn end(self, owners: usize) {
        let left: Vec<_> = self.blocks.iter().collect();
        assert!(left.is_empty(), "{}: {left:?}", self.heading);
        let took = self.begun.elapsed().as_secs_f64();
        let cores = std::thread::available_parallelism().expect("a number");

        let Self { heading, part, .. } = self;
        let part = if part.is_empty() {
            String::new()
        } else {
            format!(", {part}")
        };
        println!("runbook: {heading}{part}: {took:.1} s ({cores} cores, {owners} owners)");
    }
}

/// Returns the part of a section that has this heading; for an empty one, what comes before the first
/// part.
fn part_of<'a>(section: &'a str, heading: &str) -> &'a str {
    let from = match heading {
        "" => section,
        _ => {
            let heading = format!("\n### {heading}\n");
            section
                .split_once(&heading)
                .expect("a part of that heading")
                .1
        }
    };

    from.split("\n### ").next().expect("one part at least")
}

#[test]
fn each_block_of_commands_of_the_runbooks_is_played() {
    let page = text(PAGE);
    let is_shell = |(language, _): &(String, String)| language == "sh";
    let count = |text: &str| blocks(text).iter().filter(|block| is_shell(block)).count();

    let played: usize = PLAYED
        .iter()
        .map(|(heading, part)| count(part_of(section(&page, heading), part)))
        .sum();

    assert_eq!(played + count(section(&page, SETUP)), count(&page));
}

#[test]
fn what_all_workers_must_show_is_not_true_of_none() {
    let page = text(PAGE);

    let conditions: Vec<&str> = page
        .lines()
        .filter(|line| line.contains("jq -e") && line.contains("all("))
        .collect();

    assert!(!conditions.is_empty());
    for condition in conditions {
        assert!(condition.contains("length > 0 and all("), "{condition}");
    }
}

/// Returns the words of a line with one space between them.
fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
