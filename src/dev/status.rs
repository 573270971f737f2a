//! What runs of a development platform: a line for each process.

use super::process::is_running;
use super::state::RunningPlatform;
use serde_json::{Value, json};

/// The headings of the table.
const HEADINGS: [&str; 4] = ["NAME", "PID", "STATE", "ADDRESS"];

/// A process of a platform.
#[derive(Debug)]
pub struct PartStatus {
    /// The name, as `dev restart` and `dev logs` take it.
    pub name: String,
    /// The process id.
    pub pid: u32,
    /// Whether the process runs; if not, it ended by itself.
    pub runs: bool,
    /// Where clients connect, for a server.
    pub address: Option<String>,
    /// The file of its output.
    pub log: String,
}

/// Returns the processes of a platform, in the order in which it started them.
///
/// # Errors
///
/// The platform runs in containers.
pub fn parts(platform: &RunningPlatform) -> anyhow::Result<Vec<PartStatus>> {
    platform.has_processes()?;
    let processes = platform.description()["processes"].as_array();
    let part = |process: &Value| {
        let pid = process["pid"].as_u64().and_then(|pid| pid.try_into().ok());
        let pid = pid.unwrap_or_default();
        let text = |field: &str| process[field].as_str().map(str::to_owned);

        PartStatus {
            name: text("name").unwrap_or_default(),
            pid,
            runs: is_running(pid),
            address: text("address"),
            log: text("log").unwrap_or_default(),
        }
    };

    Ok(processes.into_iter().flatten().map(part).collect())
}

/// Formats processes for a person.
pub fn table(parts: &[PartStatus]) -> String {
    let heading = HEADINGS.map(str::to_owned);
    let rows = parts.iter().map(|part| {
        [
            part.name.clone(),
            part.pid.to_string(),
            part.state().to_owned(),
            part.address.clone().unwrap_or_default(),
        ]
    });
    let rows: Vec<[String; 4]> = std::iter::once(heading).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 4] = std::array::from_fn(width);

    let mut out = String::new();
    for [name, pid, state, address] in &rows {
        let line = format!(
            "{name:<0$}  {pid:>1$}  {state:<2$}  {address}",
            widths[0], widths[1], widths[2]
        );
        out.push_str(line.trim_end());
        out.push('\n');
    }

    out
}

/// Describes a platform and its processes for programs.
pub fn to_json(platform: &RunningPlatform, parts: &[PartStatus]) -> Value {
    let description = platform.description();
    let parts: Vec<Value> = parts
        .iter()
        .map(|part| {
            json!({
                "name": part.name, "pid": part.pid, "state": part.state(),
                "address": part.address, "log": part.log,
            })
        })
        .collect();

    json!({
        "state": platform.state(), "pid": description["pid"],
        "topology": description["topology"], "processes": parts,
    })
}

impl PartStatus {
    fn state(&self) -> &'static str {
        if self.runs { "running" } else { "ended" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_process() {
        let part = |name: &str, pid, runs, address: Option<&str>| PartStatus {
            name: name.into(),
            pid,
            runs,
            address: address.map(str::to_owned),
            log: "/log".into(),
        };

        let table = table(&[
            part("nats", 7, true, Some("nats://127.0.0.1:4222")),
            part("worker-a-0", 1234, false, None),
        ]);

        assert_eq!(
            table,
            "NAME         PID  STATE    ADDRESS\n\
             nats           7  running  nats://127.0.0.1:4222\n\
             worker-a-0  1234  ended\n"
        );
    }
}
