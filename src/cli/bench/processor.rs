//! The processor time of the processes on this machine that have a part in a request, from `/proc`
//! (proc(5)). Other operating systems than Linux report none of it.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// The unit of times in `/proc/<pid>/stat`: USER_HZ, which is 100 a second on every machine that this
/// program is built for.
const TICK_MS: u64 = 10;
/// The name of this process.
const OWN_NAME: &str = "bench";
/// The programs that count where nobody says which processes belong to the service.
const PROGRAMS: [&str; 3] = ["nats-server", "postgres", "gofavorites"];

/// The processes of the service, and their names. If none is named, every process of its programs
/// counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Processes(pub BTreeMap<u32, String>);

/// The processor time of each process, since it started.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample(BTreeMap<String, Duration>);

/// The processor time of each process during a run.
#[derive(Clone, Debug, Default)]
pub(super) struct ProcessorTimes(BTreeMap<String, Duration>);

/// What `/proc/<pid>/stat` says of a process.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    program: String,
    parent: u32,
    /// The time of the process and of its children that have ended.
    time: Duration,
}

impl Processes {
    /// Returns the times now.
    pub fn sample(&self) -> Sample {
        let mut times: BTreeMap<String, Duration> = BTreeMap::new();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        for entry in entries {
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let Some(pid) = pid else {
                continue;
            };
            let text = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            if let Some(stat) = parse(&text)
                && let Some(name) = self.name(pid, &stat)
            {
                *times.entry(name).or_default() += stat.time;
            }
        }

        Sample(times)
    }

    /// Returns under which name the time of a process counts, if it does. A child of a process counts as
    /// that process: Postgres has one for each connection.
    fn name(&self, pid: u32, stat: &Stat) -> Option<String> {
        if pid == std::process::id() {
            return Some(OWN_NAME.to_owned());
        }
        if !self.0.is_empty() {
            let known = self.0.get(&pid).or_else(|| self.0.get(&stat.parent));
            return known.cloned();
        }

        match stat.program.as_str() {
            "postgres" => Some("postgres".to_owned()),
            program if PROGRAMS.contains(&program) => Some(format!("{program} {pid}")),
            _ => None,
        }
    }
}

impl ProcessorTimes {
    /// Adds the time between two samples.
    pub fn add(&mut self, before: &Sample, after: &Sample) {
        for (name, time) in &after.0 {
            let since = before.0.get(name).copied().unwrap_or(*time);
            *self.0.entry(name.clone()).or_default() += time.saturating_sub(since);
        }
    }

    /// Returns the processes that used any, with the time for one of so many requests.
    pub fn per_request(&self, requests: u64) -> Vec<(String, Duration)> {
        let requests = u32::try_from(requests.max(1)).unwrap_or(u32::MAX);
        let used = self.0.iter().filter(|(_, time)| !time.is_zero());

        used.map(|(name, time)| (name.clone(), *time / requests))
            .collect()
    }
}

/// Reads the text of `/proc/<pid>/stat`.
fn parse(stat: &str) -> Option<Stat> {
    // The second field is the program's name in parentheses. It may have spaces, and parentheses.
    let (before, after_name) = stat.rsplit_once(')')?;
    let (_, program) = before.split_once('(')?;

    // The first field after the name is field 3: the state. Then comes the parent.
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter();
    let ticks: u64 = ticks.map(|text| text.parse::<u64>().unwrap_or(0)).sum();

    Some(Stat {
        program: program.to_owned(),
        parent: fields.get(1)?.parse().ok()?,
        time: Duration::from_millis(ticks.checked_mul(TICK_MS)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(program: &str, parent: u32) -> Stat {
        Stat {
            program: program.into(),
            parent,
            time: Duration::ZERO,
        }
    }

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let text = "7 (a) b) S 3 7 7 0 -1 0 0 0 0 0 10 20 3 4 20 0 9 0";

        let found = parse(text).expect("a process");

        let expected = Stat {
            time: Duration::from_millis(370),
            ..stat("a) b", 3)
        };
        assert_eq!(found, expected);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_child_counts_as_the_process_that_is_named() {
        let named = Processes(BTreeMap::from([(u32::MAX, "postgres".to_owned())]));
        let any = Processes::default();

        assert_eq!(
            named.name(1, &stat("postgres", u32::MAX)),
            Some("postgres".into())
        );
        assert_eq!(named.name(1, &stat("nats-server", 2)), None);
        assert_eq!(
            any.name(1, &stat("nats-server", 2)),
            Some("nats-server 1".into())
        );
        assert_eq!(any.name(1, &stat("bash", 2)), None);
        assert_eq!(
            any.name(std::process::id(), &stat("x", 2)),
            Some("bench".into())
        );
    }

    #[test]
    fn the_time_of_a_run_is_shared_by_its_requests() {
        let sample = |ms| {
            Sample(BTreeMap::from([(
                "nats".to_owned(),
                Duration::from_millis(ms),
            )]))
        };
        let mut times = ProcessorTimes::default();
        times.add(&sample(10), &sample(40));
        times.add(&sample(90), &sample(100));

        let per_request = times.per_request(40);

        assert_eq!(per_request, [("nats".to_owned(), Duration::from_millis(1))]);
    }
}
