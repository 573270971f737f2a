//! `gofavorites version`: prints the build of this program, and of the service.

use super::client::Connection;
use super::output::Output;
use crate::build::BuildInfo;
use crate::wire::Operation;
use clap::Args;
use serde_json::{Value, json};

/// Show the version of this program and, if a server is named, of the worker that answers.
#[derive(Args)]
pub(super) struct Version {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

impl Version {
    pub async fn run(self) -> anyhow::Result<()> {
        self.output.refuse_ids()?;
        let own = BuildInfo::of_this_program();
        let reply = if self.connection.has_server()? {
            Some(self.connection.ask(Operation::Version, &json!({})).await?)
        } else {
            None
        };

        let part = |key: &str| reply.as_ref().map(|reply| reply[key].clone());
        let builds = json!({
            "client": {
                "version": own.version,
                "commit": own.commit,
                "built_at": own.built_at,
            },
            "service": part("service"),
            "shard": part("shard"),
        });
        self.output.print(&builds, |_| {
            let client = format!(
                "client   {} {} commit {} built {}\n",
                own.name, own.version, own.commit, own.built_at
            );
            client + &reply.as_ref().map(format_service).unwrap_or_default()
        })
    }
}

/// Returns the line about the worker that answered.
fn format_service(reply: &Value) -> String {
    let service = &reply["service"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();

    format!(
        "service  {} {} commit {} built {} shard {}\n",
        text(&service["name"]),
        text(&service["version"]),
        text(&service["commit"]),
        text(&service["built_at"]),
        text(&reply["shard"]),
    )
}
