//! An item as an entry of a file describes it, or as the service keeps it: the two are compared.

use crate::cli::output::{summary, visible};
use crate::domain::{
    CurrencyCode, Instrument, InstrumentInput, InstrumentName, Isin, ItemId, ItemLimits, Kind,
    Meta, Mic, Otp, Tags, Ticker,
};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The type of a new instrument whose entry names none.
const TYPE_DEFAULT: &str = "other";

/// An item: what is given of it.
#[derive(Clone, PartialEq)]
pub(super) struct NewItem {
    pub id: String,
    pub data: ItemData,
    pub tags: BTreeSet<String>,
    pub meta: BTreeMap<String, String>,
}

/// The data of an item.
#[derive(Clone, PartialEq)]
pub(super) enum ItemData {
    Otp(Box<Otp>),
    /// The fields that are given, in the form in which the service keeps them.
    Instrument(Map<String, Value>),
}

/// The fields of an instrument as a file has them. An empty one counts as left out.
#[derive(Default)]
pub(super) struct InstrumentFields<'a> {
    pub isin: &'a str,
    pub r#type: &'a str,
    pub ticker: &'a str,
    pub mic: &'a str,
    pub currency: &'a str,
    pub name: &'a str,
}

impl NewItem {
    /// Returns the item of a secret. Its id is its issuer and account.
    ///
    /// # Errors
    ///
    /// Fails if it has neither, or if they make no id.
    pub fn otp(otp: Otp, limits: &ItemLimits) -> Result<Self, String> {
        let facts = otp.facts();
        let names: Vec<&str> = [facts.issuer(), facts.account()]
            .into_iter()
            .flatten()
            .collect();
        if names.is_empty() {
            return Err(
                "it names neither an issuer nor an account, so it has no id: store it with \
                 `otp add ID`"
                    .to_owned(),
            );
        }

        let id = names.join(":");
        ItemId::parse(Kind::Otp, &id, limits).map_err(|invalid| invalid.to_string())?;
        Ok(Self::bare(id, ItemData::Otp(Box::new(otp))))
    }

    /// Returns the item of an instrument. Its id is the ISIN, or `MIC:TICKER` without one.
    ///
    /// # Errors
    ///
    /// Fails if a field breaks its rule, or if they identify no instrument.
    pub fn instrument(fields: &InstrumentFields<'_>, limits: &ItemLimits) -> Result<Self, String> {
        let input = InstrumentInput {
            isin: given(fields.isin),
            r#type: given(fields.r#type).unwrap_or(TYPE_DEFAULT),
            ticker: given(fields.ticker),
            mic: given(fields.mic),
            currency: given(fields.currency),
            name: given(fields.name),
        };
        let instrument =
            Instrument::parse(input, limits).map_err(|invalid| match invalid.field.as_str() {
                "" => invalid.reason,
                _ => invalid.to_string(),
            })?;
        let id = instrument.id().ok_or("it has no id")?;

        let r#type = given(fields.r#type).map(|_| instrument.kind().as_str());
        let data: Map<String, Value> = [
            ("isin", instrument.isin().map(Isin::as_str)),
            ("type", r#type),
            ("ticker", instrument.ticker().map(Ticker::as_str)),
            ("mic", instrument.mic().map(Mic::as_str)),
            ("currency", instrument.currency().map(CurrencyCode::as_str)),
            ("name", instrument.name().map(InstrumentName::as_str)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), json!(value?))))
        .collect();

        Ok(Self::bare(
            id.as_str().to_owned(),
            ItemData::Instrument(data),
        ))
    }

    /// Reads an item of a reply. That of an otp has to be revealed.
    pub fn stored(item: &Value) -> Option<Self> {
        let data = &item["data"];
        let data = match item["kind"].as_str()? {
            "otp" => ItemData::Otp(Box::new(Otp::parse(data["uri"].as_str()?).ok()?)),
            "instrument" => ItemData::Instrument(data.as_object()?.clone()),
            _ => return None,
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let meta = item["meta"].as_object()?.iter();

        Some(Self {
            id: text(&item["id"])?,
            data,
            tags: item["tags"].as_array()?.iter().filter_map(text).collect(),
            meta: meta
                .filter_map(|(name, value)| Some((name.clone(), text(value)?)))
                .collect(),
        })
    }

    fn bare(id: String, data: ItemData) -> Self {
        Self {
            id,
            data,
            tags: BTreeSet::new(),
            meta: BTreeMap::new(),
        }
    }

    /// The kind on the wire.
    pub fn kind(&self) -> &'static str {
        match self.data {
            ItemData::Otp(_) => "otp",
            ItemData::Instrument(_) => "instrument",
        }
    }

    /// Checks the tags and the metadata.
    pub fn check_labels(&self, limits: &ItemLimits) -> Result<(), String> {
        Tags::parse(self.tags.clone(), limits).map_err(|invalid| invalid.to_string())?;
        Meta::parse(self.meta.clone(), limits).map_err(|invalid| invalid.to_string())?;

        Ok(())
    }

    /// Returns this item with what `other`, of the same kind, gives: it is the same item if `other`
    /// gives nothing that this one has not.
    pub fn with(&self, other: &Self) -> Self {
        let mut merged = self.clone();
        merged.tags.extend(other.tags.iter().cloned());
        merged.meta.extend(other.meta.clone());

        match (&mut merged.data, &other.data) {
            (ItemData::Otp(own), ItemData::Otp(other)) => {
                **own = own.replaced_by((**other).clone());
            }
            (ItemData::Instrument(own), ItemData::Instrument(other)) => own.extend(other.clone()),
            _ => {}
        }
        merged
    }

    /// Returns the operation of a batch that stores this item if it is at that version.
    pub fn operation(&self, if_version: u64) -> Value {
        let data = match &self.data {
            ItemData::Otp(otp) => json!({"uri": otp.uri().as_str()}),
            ItemData::Instrument(fields) => {
                let mut data = fields.clone();
                data.entry("type").or_insert_with(|| json!(TYPE_DEFAULT));
                data.into()
            }
        };

        json!({
            "op": "put",
            "kind": self.kind(),
            "id": self.id,
            "data": data,
            "meta": self.meta,
            "tags": self.tags,
            "if_version": if_version,
        })
    }

    /// Returns kind and id, and what the item is, without its secret.
    pub fn describe(&self) -> String {
        let data = match &self.data {
            ItemData::Otp(otp) => json!({
                "type": otp.facts().moving().as_str(),
                "issuer": otp.facts().issuer(),
                "account": otp.facts().account(),
            }),
            ItemData::Instrument(fields) => fields.clone().into(),
        };
        let summary = summary(&json!({"kind": self.kind(), "data": data}));

        let line = format!("{} {}: {summary}", self.kind(), visible(&self.id));
        line.trim_end_matches(": ").to_owned()
    }
}

fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> ItemLimits {
        ItemLimits::default()
    }

    fn otp(uri: &str) -> Result<NewItem, String> {
        NewItem::otp(Otp::parse(uri).expect("valid"), &limits())
    }

    fn apple(name: &str) -> NewItem {
        let fields = InstrumentFields {
            isin: "us0378331005",
            name,
            ..InstrumentFields::default()
        };

        NewItem::instrument(&fields, &limits()).expect("valid")
    }

    #[test]
    fn the_id_of_a_secret_is_its_issuer_and_account() {
        let id = |uri: &str| otp(uri).map(|item| item.id);

        assert_eq!(
            id("otpauth://totp/Bank:alice?secret=MZXW6YTB").as_deref(),
            Ok("Bank:alice")
        );
        assert_eq!(
            id("otpauth://totp/alice?secret=MZXW6YTB").as_deref(),
            Ok("alice")
        );
        let without_names = id("otpauth://totp/?secret=MZXW6YTB").expect_err("no id");
        assert!(without_names.contains("otp add ID"), "{without_names}");

        let short = ItemLimits {
            id_bytes: 4,
            ..limits()
        };
        let otp = Otp::parse("otpauth://totp/alice?secret=MZXW6YTB").expect("valid");
        let too_long = NewItem::otp(otp, &short).err().expect("too long");
        assert!(too_long.starts_with("id: must be at most"), "{too_long}");
    }

    #[test]
    fn an_instrument_has_the_fields_that_are_given() {
        let item = apple("Apple Inc.");

        assert_eq!(item.id, "US0378331005");
        let operation = item.operation(0);
        assert_eq!(
            operation["data"],
            json!({"isin": "US0378331005", "type": "other", "name": "Apple Inc."})
        );
        assert_eq!(item.describe(), "instrument US0378331005: Apple Inc.");
        assert_eq!(apple("").describe(), "instrument US0378331005");
    }

    #[test]
    fn a_field_that_is_wrong_is_named_and_no_isin_repeated() {
        let wrong = InstrumentFields {
            isin: "US0378331006",
            ..InstrumentFields::default()
        };
        let nothing = InstrumentFields::default();

        let wrong = NewItem::instrument(&wrong, &limits()).err().expect("wrong");
        let nothing = NewItem::instrument(&nothing, &limits()).err();

        assert!(wrong.starts_with("isin: the check digit"), "{wrong}");
        assert!(!wrong.contains("037833"), "{wrong}");
        assert_eq!(
            nothing.as_deref(),
            Some("an instrument needs its isin, or both mic and ticker")
        );
    }

    #[test]
    fn what_gives_nothing_new_changes_nothing() {
        let stored = NewItem::stored(&json!({
            "kind": "instrument",
            "id": "US0378331005",
            "data": {"isin": "US0378331005", "type": "stock", "name": "Apple Inc."},
            "meta": {"broker": "x"},
            "tags": ["tech"],
        }))
        .expect("an item");

        assert!(stored.with(&apple("")) == stored);
        assert!(stored.with(&apple("Apple Inc.")) == stored);
        let renamed = stored.with(&apple("Apple"));
        assert!(renamed != stored);
        let operation = renamed.operation(7);
        assert_eq!(operation["data"]["type"], "stock");
        assert_eq!(operation["data"]["name"], "Apple");
        assert_eq!(operation["tags"], json!(["tech"]));
        assert_eq!(operation["if_version"], 7);
    }

    #[test]
    fn a_counter_that_has_gone_on_is_no_difference() {
        let hotp = |counter: u64| {
            let uri = format!("otpauth://hotp/a?secret=GEZDGNBVGY3TQOJQ&counter={counter}");
            otp(&uri).expect("valid")
        };
        let other = otp("otpauth://hotp/a?secret=MZXW6YTB&counter=9").expect("valid");

        assert!(hotp(9).with(&hotp(5)) == hotp(9));
        assert!(hotp(5).with(&hotp(9)) != hotp(5));
        assert!(hotp(9).with(&other) != hotp(9));
    }

    #[test]
    fn a_description_has_no_secret() {
        let item = otp("otpauth://totp/Bank:alice?secret=MZXW6YTB").expect("valid");

        assert_eq!(item.describe(), "otp Bank:alice: Bank alice (totp)");
    }
}
