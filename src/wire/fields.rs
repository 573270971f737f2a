//! Takes the fields of a body one by one.

use super::{Refusal, Value};
use crate::domain::{Version, opaque_debug};
use std::collections::BTreeMap;

/// The fields of an object that have not been taken yet.
///
/// An operation takes each of its fields by name and type; [`finish`](Self::finish) then refuses
/// the first field that is left. Every error is 400 `bad_request` with the field's path in
/// `details.field`. An explicit null is a value of the wrong type, not an absent field.
pub struct Fields {
    path: String,
    remaining: BTreeMap<String, Value>,
}

opaque_debug!(Fields);

impl Fields {
    /// Returns the fields of a body.
    ///
    /// # Errors
    /// `bad_request` if the body is not an object.
    pub fn of(body: Value) -> Result<Self, Refusal> {
        match body {
            Value::Map(remaining) => Ok(Self {
                path: String::new(),
                remaining,
            }),
            other => Err(Refusal::bad_request(format!(
                "the body must be an object, is {}",
                other.describe()
            ))),
        }
    }

    /// Takes a text, if the field is present.
    ///
    /// # Errors
    /// `bad_request` if the field has another type.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        self.take(name, "a text", |value| match value {
            Value::Text(text) => Ok(text),
            other => Err(other),
        })
    }

    /// Returns a text without taking it; `None` if the field is absent or has another type.
    pub fn peek(&self, name: &str) -> Option<&str> {
        match self.remaining.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns whether the field is present.
    pub fn has(&self, name: &str) -> bool {
        self.remaining.contains_key(name)
    }

    /// Returns whether the field is the number 0, without taking it.
    pub fn is_zero(&self, name: &str) -> bool {
        matches!(self.remaining.get(name), Some(Value::Int(0)))
    }

    /// Returns a text in the object of this name, as [`peek`](Self::peek) does.
    pub fn peek_in(&self, object: &str, name: &str) -> Option<&str> {
        match self.remaining.get(object)? {
            Value::Map(fields) => match fields.get(name)? {
                Value::Text(text) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// Takes a text that must be present.
    ///
    /// # Errors
    /// `bad_request` if the field is missing or has another type.
    pub fn require_text(&mut self, name: &str) -> Result<String, Refusal> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    /// Takes a boolean, if the field is present.
    ///
    /// # Errors
    /// `bad_request` if the field has another type.
    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        self.take(name, "a boolean", |value| match value {
            Value::Bool(flag) => Ok(flag),
            other => Err(other),
        })
    }

    /// Takes a version, if the field is present; 0 is [`Version::NONE`].
    ///
    /// # Errors
    /// `bad_request` if the value is not an integer from 0 to 2^53.
    pub fn version(&mut self, name: &str) -> Result<Option<Version>, Refusal> {
        self.take(name, "an integer from 0 to 2^53", |value| match value {
            Value::Int(number) => u64::try_from(number)
                .ok()
                .and_then(Version::new)
                .ok_or(value),
            other => Err(other),
        })
    }

    /// Takes a count, if the field is present.
    ///
    /// # Errors
    /// `bad_request` if the value is not an integer from 0 to 2^64 - 1.
    pub fn count(&mut self, name: &str) -> Result<Option<u64>, Refusal> {
        self.take(name, "an integer from 0", |value| match value {
            Value::Int(number) => u64::try_from(number).map_err(|_| value),
            other => Err(other),
        })
    }

    /// Takes the fields of an object, if the field is present.
    ///
    /// The code that takes them must also [`finish`](Self::finish) them.
    ///
    /// # Errors
    /// `bad_request` if the field has another type.
    pub fn map(&mut self, name: &str) -> Result<Option<Self>, Refusal> {
        let path = self.path_of(name);

        self.take(name, "an object", |value| match value {
            Value::Map(remaining) => Ok(Self { path, remaining }),
            other => Err(other),
        })
    }

    /// Takes a list of objects, if the field is present.
    ///
    /// The code that takes them must also [`finish`](Self::finish) each of them.
    ///
    /// # Errors
    /// `bad_request` if the field has another type. For an element that is not an object,
    /// `details.field` is a path such as `ops[3]`.
    pub fn map_list(&mut self, name: &str) -> Result<Option<Vec<Self>>, Refusal> {
        let path = self.path_of(name);
        let list = self.take(name, "a list", |value| match value {
            Value::List(list) => Ok(list),
            other => Err(other),
        })?;

        let map = |(index, value)| match value {
            Value::Map(remaining) => Ok(Self {
                path: format!("{path}[{index}]"),
                remaining,
            }),
            other => Err(wrong_type(&format!("{path}[{index}]"), "an object", &other)),
        };

        list.map(|list| list.into_iter().enumerate().map(map).collect())
            .transpose()
    }

    /// Returns the value of a field that must be present.
    ///
    /// # Errors
    /// `bad_request` if it is missing.
    pub fn require<T>(&self, name: &str, found: Option<T>) -> Result<T, Refusal> {
        found.ok_or_else(|| self.missing(name))
    }

    /// Takes an object of texts, if the field is present.
    ///
    /// # Errors
    /// `bad_request` if the field has another type. For a value that is not text, `details.field`
    /// is a path such as `meta.<key>`.
    pub fn text_map(&mut self, name: &str) -> Result<Option<BTreeMap<String, String>>, Refusal> {
        let Some(Self { path, remaining }) = self.map(name)? else {
            return Ok(None);
        };

        let text = |(key, value)| match value {
            Value::Text(text) => Ok((key, text)),
            other => Err(wrong_type(&format!("{path}.{key}"), "a text", &other)),
        };

        remaining
            .into_iter()
            .map(text)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Takes a list of texts, if the field is present.
    ///
    /// # Errors
    /// `bad_request` if the field has another type. For an element that is not text,
    /// `details.field` is a path such as `tags[3]`.
    pub fn text_list(&mut self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        let path = self.path_of(name);
        let list = self.take(name, "a list", |value| match value {
            Value::List(list) => Ok(list),
            other => Err(other),
        })?;

        let text = |(index, value)| match value {
            Value::Text(text) => Ok(text),
            other => Err(wrong_type(&format!("{path}[{index}]"), "a text", &other)),
        };

        list.map(|list| list.into_iter().enumerate().map(text).collect())
            .transpose()
    }

    /// Checks that no field is left.
    ///
    /// # Errors
    /// `bad_request` that names the first field that is left.
    pub fn finish(self) -> Result<(), Refusal> {
        match self.remaining.keys().next() {
            Some(name) => Err(Refusal::bad_field(self.path_of(name), "unknown field")),
            None => Ok(()),
        }
    }

    /// Returns the refusal of a request that lacks this field.
    pub fn missing(&self, name: &str) -> Refusal {
        Refusal::bad_field(self.path_of(name), "is missing")
    }

    fn take<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(Value) -> Result<T, Value>,
    ) -> Result<Option<T>, Refusal> {
        let Some(value) = self.remaining.remove(name) else {
            return Ok(None);
        };

        read(value)
            .map(Some)
            .map_err(|found| wrong_type(&self.path_of(name), expected, &found))
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

fn wrong_type(path: &str, expected: &str, found: &Value) -> Refusal {
    // In the place of a text, a number may be a code that nobody else may see.
    let found = match found {
        Value::Int(number) if expected.starts_with("an integer") => number.to_string(),
        other => other.describe().to_owned(),
    };

    Refusal::bad_field(path, format!("must be {expected}, is {found}"))
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

    #[track_caller]
    fn assert_refused<T>(result: Result<T, Refusal>, field: &str, message: &str) {
        let refusal = result.err().expect("this one is wrong");

        assert_eq!(refusal.code(), Code::BadRequest);
        assert_eq!(refusal.details()["field"], field);
        assert_eq!(refusal.message(), message);
    }

    #[test]
    fn each_field_is_taken_by_its_type() {
        let mut body = fields(r#"{"t": "x", "b": true, "v": 0, "c": 7}"#);

        assert_eq!(body.text("t"), Ok(Some("x".into())));
        assert_eq!(body.flag("b"), Ok(Some(true)));
        assert_eq!(body.version("v"), Ok(Some(Version::NONE)));
        assert_eq!(body.count("c"), Ok(Some(7)));
        assert_eq!(body.finish(), Ok(()));
    }

    #[test]
    fn objects_and_lists_are_taken_by_the_type_of_their_values() {
        let mut body = fields(r#"{"o": {"i": "y"}, "m": {"k": "v"}, "l": ["a"]}"#);

        let mut inner = body.map("o").expect("an object").expect("present");

        let expected = BTreeMap::from([("k".into(), "v".into())]);
        assert_eq!(inner.require_text("i"), Ok("y".into()));
        assert_eq!(inner.finish(), Ok(()));
        assert_eq!(body.text_map("m"), Ok(Some(expected)));
        assert_eq!(body.text_list("l"), Ok(Some(vec!["a".into()])));
        assert_eq!(body.finish(), Ok(()));
    }

    #[test]
    fn an_absent_field_is_none_unless_it_is_required() {
        let mut body = fields("{}");

        assert_eq!(body.text("x"), Ok(None));
        assert_eq!(body.flag("x"), Ok(None));
        assert_eq!(body.version("x"), Ok(None));
        assert_eq!(body.count("x"), Ok(None));
        assert!(body.map("x").is_ok_and(|map| map.is_none()));
        assert_eq!(body.text_map("x"), Ok(None));
        assert_eq!(body.text_list("x"), Ok(None));
        assert_refused(body.require_text("x"), "x", "x: is missing");
    }

    #[test]
    fn a_wrong_type_is_named() {
        type Take = fn(&mut Fields) -> Option<Refusal>;
        let table: [(&str, Take, &str); 7] = [
            (
                r#"{"x": 1}"#,
                |f| f.text("x").err(),
                "x: must be a text, is a number",
            ),
            (
                r#"{"x": null}"#,
                |f| f.text("x").err(),
                "x: must be a text, is null",
            ),
            (
                r#"{"x": "true"}"#,
                |f| f.flag("x").err(),
                "x: must be a boolean, is a text",
            ),
            (
                r#"{"x": []}"#,
                |f| f.map("x").err(),
                "x: must be an object, is a list",
            ),
            (
                r#"{"x": -1}"#,
                |f| f.count("x").err(),
                "x: must be an integer from 0, is -1",
            ),
            (
                r#"{"x": {}}"#,
                |f| f.count("x").err(),
                "x: must be an integer from 0, is an object",
            ),
            (
                r#"{"x": "a"}"#,
                |f| f.text_list("x").err(),
                "x: must be a list, is a text",
            ),
        ];

        for (body, take, message) in table {
            let refusal = take(&mut fields(body)).expect("this one is wrong");
            assert_refused::<()>(Err(refusal), "x", message);
        }
    }

    #[test]
    fn a_wrong_type_of_an_element_is_named_with_its_path() {
        let in_map = fields(r#"{"x": {"k": 1}}"#).text_map("x");
        let in_list = fields(r#"{"x": ["", null]}"#).text_list("x");
        let in_map_list = fields(r#"{"ops": [{}, 7]}"#).map_list("ops");

        assert_refused(in_map, "x.k", "x.k: must be a text, is a number");
        assert_refused(in_list, "x[1]", "x[1]: must be a text, is null");
        assert_refused(
            in_map_list,
            "ops[1]",
            "ops[1]: must be an object, is a number",
        );
    }

    #[test]
    fn a_version_is_an_integer_up_to_two_to_the_53rd() {
        let version = |body: &str| fields(body).version("x");
        let wrong = [
            (r#"{"x": 9007199254740993}"#, "9007199254740993"),
            (r#"{"x": -1}"#, "-1"),
            (r#"{"x": -1.0}"#, "-1"),
            (r#"{"x": 1.5}"#, "a number"),
            (r#"{"x": 1e-1}"#, "a number"),
            (r#"{"x": 1e300}"#, "a number"),
            (r#"{"x": "1"}"#, "a text"),
        ];

        assert_eq!(
            version(r#"{"x": 9007199254740992}"#),
            Ok(Some(Version::MAX))
        );
        for (body, found) in wrong {
            let message = format!("x: must be an integer from 0 to 2^53, is {found}");
            assert_refused(version(body), "x", &message);
        }
    }

    #[test]
    fn a_version_and_a_count_may_be_written_as_any_number() {
        for text in ["3", "3.0", "3e0", "30e-1", "0.3e1"] {
            let body = || fields(&format!(r#"{{"x": {text}}}"#));

            assert_eq!(body().version("x"), Ok(Version::new(3)), "{text}");
            assert_eq!(body().count("x"), Ok(Some(3)), "{text}");
        }
        for text in ["0", "-0", "0.0", "-0.0", "0e5"] {
            let version = fields(&format!(r#"{{"x": {text}}}"#)).version("x");
            assert_eq!(version, Ok(Some(Version::NONE)), "{text}");
        }
    }

    #[test]
    fn a_field_that_is_left_is_refused_by_its_path() {
        let mut body = fields(r#"{"data": {"isin": "x", "colour": "red"}}"#);
        let mut data = body.map("data").expect("an object").expect("present");
        let ops = fields(r#"{"ops": [{}, {"x": 1}]}"#).map_list("ops");
        let mut ops = ops.expect("a list").expect("present");

        let wrong_type = data.flag("isin");

        assert_refused(
            wrong_type,
            "data.isin",
            "data.isin: must be a boolean, is a text",
        );
        assert_refused(data.finish(), "data.colour", "data.colour: unknown field");
        assert_refused(
            ops.remove(1).finish(),
            "ops[1].x",
            "ops[1].x: unknown field",
        );
    }

    #[test]
    fn the_first_of_several_unknown_fields_is_refused() {
        let body = fields(r#"{"b": 1, "a": 1}"#);

        assert_refused(body.finish(), "a", "a: unknown field");
    }

    #[test]
    fn only_an_object_has_fields() {
        let refusal = Fields::of(Value::List(vec![])).expect_err("a list");

        assert_eq!(refusal.message(), "the body must be an object, is a list");
    }
}
