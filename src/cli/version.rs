//! `gofavorites version`: prints the build of this program, and of the service.

use super::client::Connection;
use super::show::{print, print_json};
use crate::build::BuildInfo;
use crate::wire::Operation;
use clap::Args;
use serde_json::{Value, json};

/// Show the version of this program and, if a server is named, of the worker that answers.
#[derive(Args)]
pub(super) struct Version {
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Version {
    pub async fn run(self) -> anyhow::Result<()> {
        let own = BuildInfo::of_this_program();
        let reply = if self.connection.has_server()? {
            let reply = self.connection.ask(Operation::Version, &json!({})).await;
            if reply.is_err() && !self.json {
                // Who asks for the version because the service is away needs at least this one.
                print(&format_client(&own))?;
            }
            Some(reply?)
        } else {
            None
        };

        if self.json {
            let client = json!({
                "version": own.version,
                "commit": own.commit,
                "built_at": own.built_at,
            });
            let part = |key: &str| reply.as_ref().map(|reply| reply[key].clone());
            return print_json(&json!({
                "client": client,
                "service": part("service"),
                "shard": part("shard"),
                "supports": part("supports"),
            }));
        }

        print(&format_client(&own))?;
        match reply {
            Some(reply) => print(&format_service(&reply)),
            None => {
                eprintln!("the service is not asked: no --url, GOFAVORITES_URL or context");
                Ok(())
            }
        }
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
