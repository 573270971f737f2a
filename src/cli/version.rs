//! `gofavorites version`: this program's build, and the service's.

use super::client::{Connection, print_json};
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
        let service = match self.connection.is_given() {
            true => Some(self.connection.ask(Operation::Version, &json!({})).await?),
            false => None,
        };
        if self.json {
            let client = json!({"version": own.version, "commit": own.commit, "built_at": own.built_at});
            let told = |part: &str| service.as_ref().map(|reply| reply[part].clone());
            print_json(&json!({"client": client, "service": told("service"), "shard": told("shard")}));
            return Ok(());
        }
        println!("client   {} {} commit {} built {}", own.name, own.version, own.commit, own.built_at);
        if let Some(reply) = service {
            let text = |key: &str| reply["service"][key].as_str().unwrap_or_default().to_owned();
            let shard = reply["shard"].as_str().unwrap_or_default();
            let (name, version) = (text("name"), text("version"));
            println!("service  {name} {version} commit {} built {} shard {shard}", text("commit"), text("built_at"));
        }
        Ok(())
    }
}
