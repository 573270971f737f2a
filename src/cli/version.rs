//! `gofavorites version`: prints the build of this program, and of the service.

use super::client::Connection;
use super::output::{Output, note, print};
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
            let reply = self.connection.ask(Operation::Version, &json!({})).await;
            if reply.is_err() && self.output.is_text() {
                // A person may ask for it because the service does not answer.
                print(&format_client(&own))?;
            }
            Some(reply?)
        } else {
            note("the service is not asked: no --url, GOFAVORITES_URL or context");
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
            "supports": part("supports"),
        });
        self.output.print(&builds, |_| {
            format_client(&own) + &reply.as_ref().map(format_service).unwrap_or_default()
        })
    }
}

/// Returns the line about this program.
fn format_client(own: &BuildInfo) -> String {
    format!(
        "client   {} {} commit {} built {}\n",
        own.name, own.version, own.commit, own.built_at
    )
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
