//! The fields of a body, taken one by one.

use super::{Refusal, Value};
use crate::domain::{Version, opaque_debug};
use std::collections::BTreeMap;

/// What is left of an object. Each field is taken by name and as what it must be; [`finish`](Self::finish) then refuses
/// the first that nobody asked for. Every fault is 400 `bad_request` with the field's path in `details.field`. An
/// explicit null is a value of the wrong type, not an absent field.
pub struct Fields {
    path: String,
    left: BTreeMap<String, Value>,
}

opaque_debug!(Fields);

impl Fields {
    /// The fields of a whole body.
    ///
    /// # Errors
    /// `bad_request` when it is not an object.
    pub fn of(body: Value) -> Result<Self, Refusal> {
        match body {
            Value::Map(left) => Ok(Self {
                path: String::new(),
                left,
            }),
            other => Err(Refusal::bad_request(format!(
                "the body must be an object, is {}",
                other.describe()
            ))),
        }
    }

    /// A text, if it is there.
    ///
    /// # Errors
    /// `bad_request` when it is something else.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        self.take(name, "a text", |value| match value {
            Value::Text(text) => Ok(text),
            other => Err(other),
        })
    }

    /// A text as it is, if it is one; left where it is.
    pub fn look(&self, name: &str) -> Option<&str> {
        match self.left.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// As [`look`](Self::look), in the object of that name.
    pub fn look_in(&self, object: &str, name: &str) -> Option<&str> {
        match self.left.get(object)? {
            Value::Map(fields) => match fields.get(name)? {
                Value::Text(text) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// `bad_request` when it is missing or something else.
    pub fn require_text(&mut self, name: &str) -> Result<String, Refusal> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    /// True or false, if it is there.
    ///
    /// # Errors
    /// `bad_request` when it is something else.
    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        self.take(name, "a boolean", |value| match value {
            Value::Bool(flag) => Ok(flag),
            other => Err(other),
        })
    }

    /// A version, if it is there; 0 is [`Version::NONE`].
    ///
    /// # Errors
    /// `bad_request` when it is not an integer from 0 to 2^53.
    pub fn version(&mut self, name: &str) -> Result<Option<Version>, Refusal> {
        self.take(name, "an integer from 0 to 2^53", |value| match value {
            Value::Int(number) => u64::try_from(number)
                .ok()
                .and_then(Version::new)
                .ok_or(value),
            other => Err(other),
        })
    }

    /// A count, if it is there.
    ///
    /// # Errors
    /// `bad_request` when it is not an integer from 0 to 2^64 - 1.
    pub fn count(&mut self, name: &str) -> Result<Option<u64>, Refusal> {
        self.take(name, "an integer from 0", |value| match value {
            Value::Int(number) => u64::try_from(number).map_err(|_| value),
            other => Err(other),
        })
    }

    /// The fields of an object, if it is there. Whoever takes them must also [`finish`](Self::finish) them.
    ///
    /// # Errors
    /// `bad_request` when it is something else.
    pub fn map(&mut self, name: &str) -> Result<Option<Self>, Refusal> {
        let path = self.path_of(name);
        self.take(name, "an object", |value| match value {
            Value::Map(left) => Ok(Self { path, left }),
            other => Err(other),
        })
    }

    /// A list that holds only objects, if it is there. Whoever takes them must also [`finish`](Self::finish) each.
    ///
    /// # Errors
    /// `bad_request` when it is something else; for a value that is no object, with `ops[3]` in `details.field`.
    pub fn map_list(&mut self, name: &str) -> Result<Option<Vec<Self>>, Refusal> {
        let path = self.path_of(name);
        let list = self.take(name, "a list", |value| match value {
            Value::List(list) => Ok(list),
            other => Err(other),
        })?;
        let map = |(at, value)| match value {
            Value::Map(left) => Ok(Self {
                path: format!("{path}[{at}]"),
                left,
            }),
            other => Err(wrong(&format!("{path}[{at}]"), "an object", &other)),
        };
        list.map(|list| list.into_iter().enumerate().map(map).collect())
            .transpose()
    }

    /// A field that must be there, named by its path.
    ///
    /// # Errors
    /// `bad_request` when it is missing.
    pub fn require<T>(&self, name: &str, found: Option<T>) -> Result<T, Refusal> {
        found.ok_or_else(|| self.missing(name))
    }

    /// An object that holds only texts, if it is there.
    ///
    /// # Errors
    /// `bad_request` when it is something else; for a value that is not text, with `meta.<key>` in `details.field`.
    pub fn text_map(&mut self, name: &str) -> Result<Option<BTreeMap<String, String>>, Refusal> {
        let Some(Self { path, left }) = self.map(name)? else {
            return Ok(None);
        };
        let text = |(key, value)| match value {
            Value::Text(text) => Ok((key, text)),
            other => Err(wrong(&format!("{path}.{key}"), "a text", &other)),
        };
        left.into_iter()
            .map(text)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// A list that holds only texts, if it is there.
    ///
    /// # Errors
    /// `bad_request` when it is something else; for a value that is not text, with `tags[3]` in `details.field`.
    pub fn text_list(&mut self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        let path = self.path_of(name);
        let list = self.take(name, "a list", |value| match value {
            Value::List(list) => Ok(list),
            other => Err(other),
        })?;
        let text = |(at, value)| match value {
            Value::Text(text) => Ok(text),
            other => Err(wrong(&format!("{path}[{at}]"), "a text", &other)),
        };
        list.map(|list| list.into_iter().enumerate().map(text).collect())
            .transpose()
    }

    /// Ends the taking.
    ///
    /// # Errors
    /// `bad_request` that names the first field left over.
    pub fn finish(self) -> Result<(), Refusal> {
        match self.left.keys().next() {
            Some(name) => Err(Refusal::bad_field(self.path_of(name), "unknown field")),
            None => Ok(()),
        }
    }

    /// The refusal of a request that lacks that field.
    pub fn missing(&self, name: &str) -> Refusal {
        Refusal::bad_field(self.path_of(name), "is missing")
    }

    fn take<T>(
        &mut self,
        name: &str,
        wanted: &str,
        read: impl FnOnce(Value) -> Result<T, Value>,
    ) -> Result<Option<T>, Refusal> {
        let Some(value) = self.left.remove(name) else {
            return Ok(None);
        };
        read(value)
            .map(Some)
            .map_err(|found| wrong(&self.path_of(name), wanted, &found))
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

fn wrong(path: &str, wanted: &str, found: &Value) -> Refusal {
    let found = match found {
        Value::Int(number) => number.to_string(),
        other => other.describe().to_owned(),
    };
    Refusal::bad_field(path, format!("must be {wanted}, is {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{BodyLimits, Code, Encoding, decode};

    fn fields(body: &str) -> Fields {
        let body =
            decode(body.as_bytes(), Encoding::Json, &BodyLimits::default()).expect("well formed");
        Fields::of(body).expect("an object")
    }

    fn told<T>(result: Result<T, Refusal>) -> (String, String) {
        let refusal = result.err().expect("this one is wrong");
        assert_eq!(refusal.code(), Code::BadRequest);
        (
            refusal.details()["field"]
                .as_str()
                .expect("text")
                .to_owned(),
            refusal.message().to_owned(),
        )
    }

    #[test]
    fn each_field_is_taken_as_what_it_is() {
        let mut body = fields(
            r#"{"t": "x", "b": true, "v": 0, "c": 7, "o": {"i": "y"}, "m": {"k": "v"}, "l": ["a"]}"#,
        );
        assert_eq!(body.text("t"), Ok(Some("x".into())));
        assert_eq!(body.flag("b"), Ok(Some(true)));
        assert_eq!(body.version("v"), Ok(Some(Version::NONE)));
        assert_eq!(body.count("c"), Ok(Some(7)));
        let mut inner = body.map("o").expect("an object").expect("there");
        assert_eq!(inner.require_text("i"), Ok("y".into()));
        assert_eq!(inner.finish(), Ok(()));
        assert_eq!(
            body.text_map("m"),
            Ok(Some(BTreeMap::from([("k".into(), "v".into())])))
        );
        assert_eq!(body.text_list("l"), Ok(Some(vec!["a".into()])));
        assert_eq!(body.finish(), Ok(()));
    }

    #[test]
    fn what_is_absent_is_none_unless_it_is_required() {
        let mut body = fields("{}");
        assert_eq!((body.text("x"), body.flag("x")), (Ok(None), Ok(None)));
        assert_eq!((body.version("x"), body.count("x")), (Ok(None), Ok(None)));
        assert!(body.map("x").is_ok_and(|map| map.is_none()));
        assert_eq!(
            (body.text_map("x"), body.text_list("x")),
            (Ok(None), Ok(None))
        );
        assert_eq!(
            told(body.require_text("x")),
            ("x".into(), "x: is missing".into())
        );
    }

    #[test]
    fn a_wrong_type_is_named_with_its_path() {
        let message = |body: &str, take: fn(&mut Fields) -> Option<Refusal>| {
            told::<()>(Err(take(&mut fields(body)).expect("this one is wrong"))).1
        };
        assert_eq!(
            message(r#"{"x": 1}"#, |f| f.text("x").err()),
            "x: must be a text, is 1"
        );
        assert_eq!(
            message(r#"{"x": null}"#, |f| f.text("x").err()),
            "x: must be a text, is null"
        );
        assert_eq!(
            message(r#"{"x": "true"}"#, |f| f.flag("x").err()),
            "x: must be a boolean, is a text"
        );
        assert_eq!(
            message(r#"{"x": []}"#, |f| f.map("x").err()),
            "x: must be an object, is a list"
        );
        assert_eq!(
            message(r#"{"x": -1}"#, |f| f.count("x").err()),
            "x: must be an integer from 0, is -1"
        );
        assert_eq!(
            message(r#"{"x": {}}"#, |f| f.count("x").err()),
            "x: must be an integer from 0, is an object"
        );
        assert_eq!(
            message(r#"{"x": {"k": 1}}"#, |f| f.text_map("x").err()),
            "x.k: must be a text, is 1"
        );
        assert_eq!(
            message(r#"{"x": ["", null]}"#, |f| f.text_list("x").err()),
            "x[1]: must be a text, is null"
        );
        assert_eq!(
            message(r#"{"x": "a"}"#, |f| f.text_list("x").err()),
            "x: must be a list, is a text"
        );
    }

    #[test]
    fn a_version_is_an_integer_up_to_two_to_the_53rd() {
        let version = |body: &str| fields(body).version("x");
        assert_eq!(
            version(r#"{"x": 9007199254740992}"#),
            Ok(Some(Version::MAX))
        );
        for body in [
            r#"{"x": 9007199254740993}"#,
            r#"{"x": -1}"#,
            r#"{"x": 1.0}"#,
            r#"{"x": "1"}"#,
        ] {
            assert!(
                told(version(body))
                    .1
                    .starts_with("x: must be an integer from 0 to 2^53, is ")
            );
        }
    }

    #[test]
    fn what_nobody_asked_for_is_refused_by_name() {
        let mut body = fields(r#"{"data": {"isin": "x", "colour": "red"}}"#);
        let mut data = body.map("data").expect("an object").expect("there");
        assert_eq!(told(data.flag("isin")).0, "data.isin");
        assert_eq!(
            told(data.finish()),
            ("data.colour".into(), "data.colour: unknown field".into())
        );
        assert_eq!(told(fields(r#"{"b": 1, "a": 1}"#).finish()).0, "a");
        let mut ops = fields(r#"{"ops": [{}, {"x": 1}]}"#)
            .map_list("ops")
            .expect("a list")
            .expect("there");
        assert_eq!(told(ops.remove(1).finish()).0, "ops[1].x");
        assert_eq!(
            told(fields(r#"{"ops": [{}, 7]}"#).map_list("ops")).1,
            "ops[1]: must be an object, is 7"
        );
    }

    #[test]
    fn only_an_object_has_fields() {
        let refusal = Fields::of(Value::List(vec![])).expect_err("a list");
        assert_eq!(refusal.message(), "the body must be an object, is a list");
    }
}
