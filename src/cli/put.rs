//! `gofavorites put`: stores an item.

use super::client::{Client, Connection};
use super::closed_list::ClosedList;
use super::failed::{CommandError, is_refused_with};
use super::label_changes::LabelChanges;
use super::output::{Output, note};
use super::secret_input::{is_uri, misplaced};
use super::text_input::read_text;
use crate::wire::{Code, Operation};
use anyhow::bail;
use clap::Args;
use serde_json::{Map, Value, json};

/// How often an item that somebody else changes at the same time is changed again.
const TRIES_MAX: usize = 5;

/// Store an item, or change the one that is there: what you do not name stays.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites put instrument US0378331005 --type stock --ticker AAPL --tag tech --meta broker=x
  gofavorites put instrument US0378331005 --name Apple --untag tech
  gofavorites put instrument RTSX:SiZ6 --type future
  gofavorites put text shopping --text 'milk, bread'
  gofavorites put text readme --text @README.md
  gofavorites put instrument US0378331005 --type stock --if-version 42
  gofavorites put otp bank --tag login      keeps the secret; `otp add` puts another one")]
pub(super) struct Put {
    /// The kind; of an otp or codes, put stores only the tags and the metadata
    #[arg(value_parser = ClosedList::kinds())]
    kind: String,
    /// An instrument's ISIN or MIC:TICKER, or a text's name, which the service chooses if you give
    /// none
    id: Option<String>,
    /// Takes what does not belong here, so that no error repeats it
    #[arg(hide = true)]
    misplaced: Vec<String>,
    /// An instrument's type
    #[arg(long = "type", value_parser = ClosedList::types())]
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
    /// The text of a text; - reads it from the standard input, @FILE from a file
    #[arg(long)]
    text: Option<String>,
    #[command(flatten)]
    labels: LabelChanges,
    /// Keep no tag and no metadata of the item that is there, and ask nobody what it has
    #[arg(long)]
    replace: bool,
    /// Only if the item is at this version; 0: only if there is none
    #[arg(long)]
    if_version: Option<u64>,
    /// Only if you are at this owner_version; 0: only if you have nothing yet
    #[arg(long)]
    if_owner_version: Option<u64>,
    /// The request id: a write is executed once, however often it is sent with the same id
    #[arg(long)]
    request_id: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

impl Put {
    pub async fn run(self) -> anyhow::Result<()> {
        self.check_arguments()?;
        let data = self.data()?;
        let Some(id) = self.id_of(data.as_ref()).filter(|_| !self.replace) else {
            let client = self.connection.open().await?;
            let body = self.body(&Value::Null, data)?;
            return self.output.print_kept(&self.write(&client, &body).await?);
        };

        let client = self.connection.open().await?;
        for _ in 1..TRIES_MAX {
            match self.change(&client, &id, data.clone()).await {
                Err(error)
                    if self.if_version.is_none()
                        && is_refused_with(&error, Code::VersionConflict) => {}
                changed => return changed,
            }
        }
        self.change(&client, &id, data).await
    }

    /// Changes the item that is there, or stores a new one. Fails if somebody else changes it
    /// meanwhile.
    async fn change(&self, client: &Client, id: &str, data: Option<Value>) -> anyhow::Result<()> {
        let key = json!({"kind": self.kind, "id": id, "consistency": "strong"});
        let present = match client.ask(Operation::Get, &key).await {
            Err(error) if is_refused_with(&error, Code::NotFound) => {
                json!({"item": {"version": 0}})
            }
            reply => reply?,
        };

        let item = &present["item"];
        let data = data.map(|data| merged(&item["data"], data));
        let mut body = self.body(item, data)?;
        if self.if_version.is_none() && self.if_owner_version.is_none() {
            if has_all(item, &body) {
                note("nothing to change");
                return self.output.print_kept(&present);
            }
            body["if_version"] = item["version"].clone();
        }

        self.output.print_kept(&self.write(client, &body).await?)
    }

    async fn write(&self, client: &Client, body: &Value) -> anyhow::Result<Value> {
        let request_id = self.request_id.as_deref();

        client.write(Operation::Put, body, request_id).await
    }

    fn check_arguments(&self) -> anyhow::Result<()> {
        let has_uri = self.id.as_deref().is_some_and(is_uri);
        let is_secret = has_uri || ["otp", "codes"].contains(&self.kind.as_str());

        match self.misplaced.is_empty() {
            true if !has_uri => Ok(()),
            _ if is_secret => Err(misplaced("a secret").into()),
            _ => bail!(CommandError::usage("give one kind and at most one id")),
        }
    }

    /// The id of the item, if it is known before it is stored.
    fn id_of(&self, data: Option<&Value>) -> Option<String> {
        let pair = |data: &Value| {
            let (mic, ticker) = (data["mic"].as_str()?, data["ticker"].as_str()?);
            Some(format!("{mic}:{ticker}"))
        };

        self.id.clone().or_else(|| pair(data?))
    }

    /// Returns the body of the put that makes this of the item; null stands for none.
    fn body(&self, item: &Value, data: Option<Value>) -> anyhow::Result<Value> {
        let mut body = json!({"kind": self.kind});
        self.labels.fill(item, &mut body)?;
        if let Some(id) = &self.id {
            body["id"] = json!(id);
        }
        if let Some(version) = self.if_version {
            body["if_version"] = json!(version);
        }
        if let Some(version) = self.if_owner_version {
            body["if_owner_version"] = json!(version);
        }
        if let Some(data) = data {
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
        let data: Map<String, Value> = instrument
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), json!(value.as_ref()?))))
            .collect();

        match self.kind.as_str() {
            "text" if !data.is_empty() => {
                bail!(CommandError::usage(
                    "a text has --text, and none of --type, --ticker, --mic, --currency, --name"
                ))
            }
            "text" => {
                let text = self.text.as_deref().map(read_text).transpose()?;
                Ok(text.map(|text| json!({"text": text})))
            }
            "otp" | "codes" if self.text.is_some() || !data.is_empty() => {
                bail!(CommandError::usage(
                    "put secrets with `otp add`, and codes with `codes new`"
                ))
            }
            _ if self.text.is_some() => bail!(CommandError::usage("--text is for the kind text")),
            _ if data.is_empty() => Ok(None),
            _ => self.identify(data).map(Some),
        }
    }

    /// Returns an instrument's data with what identifies it: the ISIN, or market and ticker. An id
    /// with a colon, which no ISIN has, is market and ticker.
    fn identify(&self, mut data: Map<String, Value>) -> anyhow::Result<Value> {
        let Some(id) = &self.id else {
            if data.contains_key("mic") && data.contains_key("ticker") {
                return Ok(data.into());
            }
            bail!(CommandError::usage(
                "name the instrument by its ISIN, by MIC:TICKER, or by --mic and --ticker"
            ));
        };

        if let Some((mic, ticker)) = id.split_once(':') {
            data.entry("mic").or_insert_with(|| json!(mic));
            data.entry("ticker").or_insert_with(|| json!(ticker));
        } else {
            data.insert("isin".into(), json!(id));
        }
        Ok(data.into())
    }
}

/// Returns the data of an item with these fields in it.
fn merged(present: &Value, fields: Value) -> Value {
    let (Value::Object(present), Value::Object(fields)) = (present, &fields) else {
        return fields;
    };

    let mut merged = present.clone();
    merged.extend(fields.clone());
    merged.into()
}

/// Returns whether the item has all that the body of a put names.
fn has_all(item: &Value, body: &Value) -> bool {
    let is_there = |name: &str| body.get(name).is_none_or(|value| item[name] == *value);

    ["data", "tags", "meta"].into_iter().all(is_there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        put: Put,
    }

    fn data(arguments: &[&str]) -> anyhow::Result<Option<Value>> {
        let arguments = [&["command"], arguments].concat();

        Command::parse_from(arguments).put.data()
    }

    #[test]
    fn an_instrument_is_identified_by_its_isin_or_by_market_and_ticker() {
        let isin = [
            "instrument",
            "US0378331005",
            "--type",
            "stock",
            "--mic",
            "XNAS",
        ];
        let pair = ["instrument", "RTSX:SiZ6:x", "--type", "future"];
        let options = [
            "instrument",
            "--type",
            "index",
            "--mic",
            "X",
            "--ticker",
            "Y",
        ];

        for (arguments, expected) in [
            (
                &isin[..],
                json!({"isin": "US0378331005", "type": "stock", "mic": "XNAS"}),
            ),
            (
                &pair[..],
                json!({"mic": "RTSX", "ticker": "SiZ6:x", "type": "future"}),
            ),
            (
                &options[..],
                json!({"mic": "X", "ticker": "Y", "type": "index"}),
            ),
        ] {
            assert_eq!(data(arguments).expect("valid"), Some(expected));
        }

        assert!(data(&["instrument", "--type", "index", "--mic", "X"]).is_err());
    }

    #[test]
    fn without_data_an_item_keeps_what_it_has() {
        for kept in [["instrument", "RTSX:SiZ6"], ["otp", "bank"], ["codes", "x"]] {
            assert_eq!(data(&kept).expect("valid"), None);
        }
    }

    #[test]
    fn no_secret_is_an_argument() {
        for kind in ["otp", "codes"] {
            let error = data(&[kind, "x", "--text", "hush"]).expect_err("refused");

            assert!(!error.to_string().contains("hush"), "{error}");
        }
    }
}
