//! Parses JSON text to a tree, and refuses duplicate keys in an object.
//! Other modules interpret the tree.
//!
//! serde_json keeps the last value of a duplicate key, and has no option to refuse it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

/// Parses one JSON value with nothing after it. Errors name the line and column.
///
/// Refuses a duplicate key, because two programs may use different values of it. A policy could
/// check one value while the container runs with the other.
pub(super) fn parse(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str::<UniqueKeys>(text).map(|tree| tree.0)
}

struct UniqueKeys(Value);

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<UniqueKeys, D::Error> {
        deserializer
            .deserialize_any(UniqueKeysVisitor)
            .map(UniqueKeys)
    }
}

struct UniqueKeysVisitor;

impl<'de> Visitor<'de> for UniqueKeysVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(UniqueKeys(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            match map.entry(key) {
                Entry::Vacant(place) => {
                    place.insert(members.next_value::<UniqueKeys>()?.0);
                }
                Entry::Occupied(place) => {
                    return Err(A::Error::custom(format!("duplicate key {:?}", place.key())));
                }
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_tree_is_what_the_library_itself_reads() {
        let text = r#"{"a":[1,-2,1.5,18446744073709551615,"x\u0041",true,null,{}],"b":{"c":""}}"#;
        assert_eq!(
            parse(text).unwrap(),
            serde_json::from_str::<Value>(text).unwrap()
        );
    }

    #[test]
    fn what_is_no_json_is_refused_with_line_and_column() {
        for (text, problem) in [
            ("{", "EOF while parsing an object at line 1 column 1"),
            ("{}\n{}", "trailing characters at line 2 column 1"),
            ("{} x", "trailing characters at line 1 column 4"),
            ("{\"a\":\n1e400}", "number out of range at line 2 column 5"),
            (
                "{\"a\":1,\n \"a\":2}",
                "duplicate key \"a\" at line 2 column 4",
            ),
            ("{\"a\":1,}", "trailing comma at line 1 column 8"),
            ("{'a':1}", "key must be a string at line 1 column 2"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), problem);
        }
        let deep = "[".repeat(10_000);
        assert!(
            parse(&deep)
                .unwrap_err()
                .to_string()
                .starts_with("recursion limit exceeded")
        );
    }
}
