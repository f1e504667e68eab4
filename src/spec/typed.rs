//! Converts a JSON tree to a Rust type, and names the value that does not fit.
//!
//! The crate serde_path_to_error does the same for any format, but wraps the visitor of every type.
//! This adds 400 KB to the binary.

use std::cell::{OnceCell, RefCell};
use std::fmt;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value, map};

/// A value that does not fit its type.
#[derive(Debug)]
pub(super) struct Misfit {
    /// The path of the value in the tree, such as `mounts[1].options`; empty for the outermost
    /// value.
    pub(super) place: String,
    pub(super) error: Error,
}

/// A property that the type of its object doesn't have.
#[derive(Debug)]
pub(super) struct Unknown {
    /// The path of the object with the property.
    pub(super) place: String,
    pub(super) name: String,
    /// The properties that the object can have.
    pub(super) known: &'static [&'static str],
}

/// Converts the tree. The error names the first value that does not fit.
pub(super) fn from_tree<T: DeserializeOwned>(tree: &Value) -> Result<T, Misfit> {
    converted(tree, None)
}

/// Like `from_tree`, but also records unknown properties in `unknown`.
pub(super) fn from_tree_noting<T: DeserializeOwned>(
    tree: &Value,
    unknown: &RefCell<Vec<Unknown>>,
) -> Result<T, Misfit> {
    converted(tree, Some(unknown))
}

fn converted<T: DeserializeOwned>(
    tree: &Value,
    unknown: Option<&RefCell<Vec<Unknown>>>,
) -> Result<T, Misfit> {
    let failed = OnceCell::new();
    let root = Located {
        value: tree,
        place: Place::Outermost,
        failed: &failed,
        unknown,
    };
    T::deserialize(root).map_err(|error| Misfit {
        place: failed.into_inner().unwrap_or_default(),
        error,
    })
}

/// The path of a value in the tree: a linked list from the value up to the outermost one.
#[derive(Clone, Copy)]
enum Place<'a> {
    Outermost,
    Field(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Outermost => Ok(()),
            Place::Field(Place::Outermost, name) => f.write_str(name),
            Place::Field(parent, name) => write!(f, "{parent}.{name}"),
            Place::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// A value, with its path in the tree.
struct Located<'de, 'a> {
    value: &'de Value,
    place: Place<'a>,
    /// The path of the first error.
    failed: &'a OnceCell<String>,
    unknown: Option<&'a RefCell<Vec<Unknown>>>,
}

impl<'de> Located<'de, '_> {
    /// Records the properties of an object that its type doesn't have, if the caller wants them.
    fn note_unknown(&self, known: &'static [&'static str]) {
        let (Some(unknown), Value::Object(fields)) = (self.unknown, self.value) else {
            return;
        };
        let names = fields.keys().filter(|name| !known.contains(&name.as_str()));
        unknown.borrow_mut().extend(names.map(|name| Unknown {
            place: self.place.to_string(),
            name: name.clone(),
            known,
        }));
    }

    /// Records the path of the value if `result` is the first error. The same error passes the
    /// outer values later.
    fn located<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err() {
            self.failed.get_or_init(|| self.place.to_string());
        }
        result
    }
}

impl<'de> Deserializer<'de> for Located<'de, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let result = match self.value {
            Value::Array(items) => visitor.visit_seq(Items {
                list: &self,
                rest: items.iter().enumerate(),
            }),
            Value::Object(fields) => visitor.visit_map(Fields {
                object: &self,
                rest: fields.iter(),
                field: None,
            }),
            scalar => scalar.deserialize_any(visitor),
        };
        self.located(result)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.located(self.value.deserialize_enum(name, variants, visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.note_unknown(known);
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier
    }
}

/// The items of a list that are not yet read.
struct Items<'de, 'a> {
    list: &'a Located<'de, 'a>,
    rest: std::iter::Enumerate<std::slice::Iter<'de, Value>>,
}

impl<'de> SeqAccess<'de> for Items<'de, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some((index, value)) = self.rest.next() else {
            return Ok(None);
        };
        let item = Located {
            value,
            place: Place::Item(&self.list.place, index),
            failed: self.list.failed,
            unknown: self.list.unknown,
        };
        seed.deserialize(item).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// The fields of an object that are not yet read.
struct Fields<'de, 'a> {
    object: &'a Located<'de, 'a>,
    rest: map::Iter<'de>,
    /// The field whose name was read last.
    field: Option<(&'de str, &'de Value)>,
}

impl<'de> MapAccess<'de> for Fields<'de, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.field = self.rest.next().map(|(name, value)| (name.as_str(), value));
        let Some((name, _)) = self.field else {
            return Ok(None);
        };
        let name = BorrowedStrDeserializer::new(name);
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (name, value) = self.field.take().unwrap_or(("", &Value::Null));
        let field = Located {
            value,
            place: Place::Field(&self.object.place, name),
            failed: self.object.failed,
            unknown: self.object.unknown,
        };
        seed.deserialize(field)
    }
}
