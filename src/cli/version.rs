//! `gofavorites version`: this program's build, and the service's.

use super::client::Connection;
use super::show::{print, print_json};
use crate::build::BuildInfo;
use crate::wire::Operation;
use clap::Args;
use serde_json::json;

/// Tell which version this is, and which one answers where a server is named.
#[derive(Args)]
pub(super) struct Version {
    #[command(flatten)]
    connection: Connection,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Version {
    pub async fn run(self) -> anyhow::Result<()> {
        let own = BuildInfo::of_this_program();
        let service = match self.connection.is_given()? {
            true => Some(self.connection.ask(Operation::Version, &json!({})).await?),
            false => None,
        };
        if self.json {
            let client =
                json!({"version": own.version, "commit": own.commit, "built_at": own.built_at});
            let told = |part: &str| service.as_ref().map(|reply| reply[part].clone());
            return print_json(
                &json!({"client": client, "service": told("service"), "shard": told("shard")}),
            );
        }
        let mut lines = format!(
            "client   {} {} commit {} built {}\n",
            own.name, own.version, own.commit, own.built_at
        );
        if let Some(reply) = service {
            let text = |key: &str| {
                reply["service"][key]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            let shard = reply["shard"].as_str().unwrap_or_default();
            let (name, version) = (text("name"), text("version"));
            let (commit, built_at) = (text("commit"), text("built_at"));
            lines += &format!(
                "service  {name} {version} commit {commit} built {built_at} shard {shard}\n"
            );
        }
        print(&lines)
    }
}
