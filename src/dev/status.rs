//! What runs of a development platform: a line for each process.

use super::process::is_running;
use super::state::RunningPlatform;
use serde_json::{Value, json};

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
    /// Returns the state, in a word.
    pub fn state(&self) -> &'static str {
        if self.runs { "running" } else { "ended" }
    }
}
