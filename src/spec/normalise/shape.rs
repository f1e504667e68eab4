//! A deserializer that walks the types of oci-spec and records their fields and the fields' forms.
#![allow(clippy::unwrap_used)]
use std::cell::RefCell;
use std::collections::BTreeSet;

use serde::de::value::Error;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

/// The fields of a type, identified by their paths in the type's JSON. In a path, `[]` stands for
/// the items of a list, and `*` for the keys of a map.
#[derive(Default)]
pub(super) struct Shape {
    pub(super) objects: BTreeSet<String>,
    /// Lists of objects.
    pub(super) lists: BTreeSet<String>,
    pub(super) maps: BTreeSet<String>,
    pub(super) fields: BTreeSet<String>,
}

#[derive(Clone)]
struct Probe<'a> {
    place: String,
    shape: &'a RefCell<Shape>,
}

/// Returns the shape of a type.
pub(super) fn shape_of<T: for<'de> serde::Deserialize<'de>>() -> Shape {
    let shape = RefCell::default();
    let probe = Probe {
        place: String::new(),
        shape: &shape,
    };
    T::deserialize(probe).map(drop).unwrap();
    shape.into_inner()
}

impl Probe<'_> {
    fn probe_field(&self, name: &str) -> Self {
        let place = match self.place.as_str() {
            "" => name.to_owned(),
            place => format!("{place}.{name}"),
        };
        Probe {
            place,
            shape: self.shape,
        }
    }

    fn probe_item(&self) -> Self {
        Probe {
            place: format!("{}[]", self.place),
            shape: self.shape,
        }
    }
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str("SCMP_ACT_ALLOW")
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut shape = self.shape.borrow_mut();
        match self.place.strip_suffix("[]") {
            Some(list) => shape.lists.insert(list.to_owned()),
            None => shape.objects.insert(self.place.clone()),
        };
        for field in fields {
            shape.fields.insert(self.probe_field(field).place);
        }
        drop(shape);
        visitor.visit_map(FieldAccess {
            probe: self,
            fields: fields.iter(),
            field: "",
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.shape.borrow_mut().maps.insert(self.place.clone());
        visitor.visit_map(FieldAccess {
            probe: self,
            fields: ["*"].iter(),
            field: "",
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(ItemAccess(Some(self.probe_item())))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(Variant(variants.first().unwrap()))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(true)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(1)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        // Valid values for the fields that have a parser of their own.
        let value = match self.place.split('.').nth(1) {
            Some("capabilities") => "CAP_KILL",
            Some("execCPUAffinity") => "0",
            _ => "x",
        };
        visitor.visit_str(value)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(1)
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(1)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(1)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(1)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(1)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(1)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(1)
    }

    forward_to_deserialize_any! {
        f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple tuple_struct
        identifier ignored_any i128 u128
    }
}

struct FieldAccess<'a> {
    probe: Probe<'a>,
    fields: std::slice::Iter<'a, &'static str>,
    field: &'static str,
}

impl<'de> MapAccess<'de> for FieldAccess<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(field) = self.fields.next() else {
            return Ok(None);
        };
        self.field = field;
        seed.deserialize((*field).into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.probe.probe_field(self.field))
    }
}

struct ItemAccess<'a>(Option<Probe<'a>>);

impl<'de> SeqAccess<'de> for ItemAccess<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.0.take().map(|item| seed.deserialize(item)).transpose()
    }
}

struct Variant(&'static str);

impl<'de> EnumAccess<'de> for Variant {
    type Error = Error;
    type Variant = Variant;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Variant), Error> {
        let name: Result<V::Value, Error> = seed.deserialize(self.0.into_deserializer());
        Ok((name?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Error> {
        unreachable!()
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        unreachable!()
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        unreachable!()
    }
}
