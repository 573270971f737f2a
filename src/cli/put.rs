//! `gofavorites put`: stores an item.

use super::client::Connection;
use super::failed::CommandError;
use super::show::{print, print_json, summary};
use crate::wire::Operation;
use anyhow::bail;
use clap::Args;
use serde_json::{Map, Value, json};

/// Store an item, or replace the one that is there.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites put instrument US0378331005 --type stock --ticker AAPL --tag tech --meta broker=x
  gofavorites put text shopping --text 'milk, bread'
  gofavorites put instrument US0378331005 --type stock --if-version 42")]
pub(super) struct Put {
    #[command(flatten)]
    connection: Connection,
    /// instrument or text
    kind: String,
    /// An instrument's ISIN, or a text's name, which the service chooses if you give none
    id: Option<String>,
    /// An instrument's type: stock, bond, fund, etf, currency, future, option, index, commodity,
    /// crypto, other
    #[arg(long = "type")]
    r#type: Option<String>,
    /// An instrument's ticker
    #[arg(long)]
    ticker: Option<String>,
    /// An instrument's market (ISO 10383)
    #[arg(long)]
    mic: Option<String>,
    /// An instrument's currency (ISO 4217)
    #[arg(long)]
    currency: Option<String>,
    /// An instrument's name
    #[arg(long)]
    name: Option<String>,
    /// The text of a text
    #[arg(long)]
    text: Option<String>,
    /// A tag; may be given several times
    #[arg(long = "tag")]
    tags: Vec<String>,
    /// Metadata as key=value; may be given several times
    #[arg(long)]
    meta: Vec<String>,
    /// Only if the item is at this version; 0: only if there is none
    #[arg(long)]
    if_version: Option<u64>,
    /// Only if you are at this owner_version; 0: only if you have nothing yet
    #[arg(long)]
    if_owner_version: Option<u64>,
    /// The request id: a write is executed once, however often it is sent with the same id
    #[arg(long)]
    request_id: Option<String>,
    /// Print the reply as JSON
    #[arg(long)]
    json: bool,
}

impl Put {
    pub async fn run(self) -> anyhow::Result<()> {
        let body = self.body()?;
        let reply = self
            .connection
            .open()
            .await?
            .write(Operation::Put, &body, self.request_id.as_deref())
            .await?;

        if self.json {
            return print_json(&reply);
        }
        let item = &reply["item"];
        let id = item["id"].as_str().unwrap_or_default();
        print(&format!(
            "kept {} {id} at version {}: {}\n",
            self.kind,
            item["version"],
            summary(item)
        ))
    }

    fn body(&self) -> anyhow::Result<Value> {
        let mut body = json!({"kind": self.kind, "tags": self.tags, "meta": self.meta()?});
        if let Some(id) = &self.id {
            body["id"] = json!(id);
        }
        if let Some(version) = self.if_version {
            body["if_version"] = json!(version);
        }
        if let Some(version) = self.if_owner_version {
            body["if_owner_version"] = json!(version);
        }
        if let Some(data) = self.data()? {
            body["data"] = data;
        }

        Ok(body)
    }

    /// Returns the item's data; `None` leaves the data of the stored item as they are.
    fn data(&self) -> anyhow::Result<Option<Value>> {
        let instrument = [
            ("type", &self.r#type),
            ("ticker", &self.ticker),
            ("mic", &self.mic),
            ("currency", &self.currency),
            ("name", &self.name),
        ];
        let mut data: Map<String, Value> = instrument
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), json!(value.as_ref()?))))
            .collect();

        match self.kind.as_str() {
            "text" if !data.is_empty() => {
                bail!(CommandError::usage(
                    "a text has --text, and none of --type, --ticker, --mic, --currency, --name"
                ))
            }
            "text" => Ok(self.text.as_ref().map(|text| json!({"text": text}))),
            _ if self.text.is_some() => bail!(CommandError::usage("--text is for the kind text")),
            _ if data.is_empty() => Ok(None),
            _ => {
                let isin = self
                    .id
                    .as_ref()
                    .ok_or_else(|| CommandError::usage("name the instrument by its ISIN"))?;
                data.insert("isin".into(), json!(isin));
                Ok(Some(data.into()))
            }
        }
    }

    fn meta(&self) -> anyhow::Result<Map<String, Value>> {
        let pairs = self.meta.iter().map(|pair| {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| CommandError::usage(format!("--meta {pair}: give key=value")))?;
            Ok((key.to_owned(), json!(value)))
        });

        pairs.collect()
    }
}
