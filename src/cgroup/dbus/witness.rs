//! Checks against the crate zvariant that `value` and `wire` encode and decode the same bytes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use zvariant::serialized::Context;
use zvariant::{Array, Endian, LE, ObjectPath, Signature, StructureBuilder, to_bytes};

use super::value::Value;
use super::wire::{Message, MethodCall, decode_message, encode_call, message_size};

/// Converts a value to zvariant's type.
fn to_zvariant(value: &Value) -> zvariant::Value<'static> {
    match value.clone() {
        Value::Byte(number) => number.into(),
        Value::Bool(set) => set.into(),
        Value::I32(number) => number.into(),
        Value::U32(number) => number.into(),
        Value::U64(number) => number.into(),
        Value::Text(text) => text.into(),
        Value::ObjectPath(path) => ObjectPath::try_from(path).unwrap().into(),
        Value::Signature(text) => Signature::try_from(text.as_str()).unwrap().into(),
        Value::Array(element, values) => {
            let mut array = Array::new(&Signature::try_from(element.as_str()).unwrap());
            values
                .iter()
                .for_each(|value| array.append(to_zvariant(value)).unwrap());
            array.into()
        }
        Value::Struct(fields) => {
            let fields = fields.iter().map(to_zvariant);
            let builder = fields.fold(StructureBuilder::new(), StructureBuilder::append_field);
            builder.build().unwrap().into()
        }
        Value::Variant(value) => zvariant::Value::Value(Box::new(to_zvariant(&value))),
    }
}

fn encode_with_zvariant(endian: Endian, value: &zvariant::Value<'_>) -> Vec<u8> {
    let context = Context::new_dbus(endian, 0);
    to_bytes(context, value).unwrap().bytes().to_vec()
}

/// A generator of numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn number_below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % end
    }

    fn random_text(&mut self) -> String {
        (0..self.number_below(10)).map(|_| 'x').collect()
    }

    /// Returns a value of any type, nested at most `depth` levels deep.
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
    fn random_value(&mut self, depth: u32) -> Value {
        let bits = self.number_below(1 << 40).wrapping_mul(0x9e37_79b9);
        match self.number_below(if depth == 0 { 8 } else { 11 }) {
            0 => Value::Byte(bits as u8),
            1 => Value::Bool(bits & 1 == 0),
            2 => Value::I32(bits as i32),
            3 => Value::U32(bits as u32),
            4 => Value::U64(bits),
            5 => Value::Text(self.random_text()),
            6 => Value::ObjectPath(format!("/a{}", self.random_text())),
            7 => Value::Signature("a(sv)".into()),
            8 => {
                let fields = 1 + self.number_below(4);
                Value::Struct((0..fields).map(|_| self.random_value(depth - 1)).collect())
            }
            9 => {
                let element = self.random_value(depth - 1);
                let length = self.number_below(4) as usize;
                Value::Array(element.type_signature(), vec![element; length])
            }
            _ => Value::wrap_in_variant(self.random_value(depth - 1)),
        }
    }
}

#[test]
fn values_are_laid_out_as_by_zvariant() {
    let mut random = Random(1);
    for _ in 0..3000 {
        let value = random.random_value(4);
        let mut ours = Vec::new();
        Value::wrap_in_variant(value.clone()).encode_into(&mut ours);
        assert_eq!(
            ours,
            encode_with_zvariant(LE, &to_zvariant(&value)),
            "{value:?}"
        );
    }
}

/// Makes a message with zvariant from its kind, its flags, its header fields, and its one argument.
fn zvariant_message(
    endian: Endian,
    kind: u8,
    flags: u8,
    fields: Vec<(u8, zvariant::Value<'_>)>,
    argument: &zvariant::Value<'_>,
) -> Vec<u8> {
    let context = Context::new_dbus(endian, 0);
    // Encode the argument without its signature, which is in the header of the message.
    let body = to_bytes(context, &(argument,)).unwrap();
    let first = if endian == LE { b'l' } else { b'B' };
    let length = u32::try_from(body.bytes().len()).unwrap();
    let head = (first, kind, flags, 1_u8, length, 9_u32, fields);
    let mut message = to_bytes(context, &head).unwrap().bytes().to_vec();
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend(body.bytes());
    message
}

#[test]
fn a_call_is_laid_out_as_by_zvariant() {
    let argument = Value::wrap_in_variant(Value::Array("s".into(), vec![Value::from_text("one")]));
    let ours = MethodCall {
        destination: Some("org.freedesktop.systemd1"),
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member: "StopUnit",
        arguments: std::slice::from_ref(&argument),
        no_reply: true,
    };
    let ours = encode_call(&ours, 9);
    let path = ObjectPath::try_from("/org/freedesktop/systemd1").unwrap();
    let fields = vec![
        (1, path.into()),
        (2, "org.freedesktop.systemd1.Manager".into()),
        (3, "StopUnit".into()),
        (6, "org.freedesktop.systemd1".into()),
        (8, Signature::try_from("v").unwrap().into()),
    ];
    let Value::Variant(inner) = &argument else {
        panic!()
    };
    assert_eq!(
        ours,
        zvariant_message(LE, 1, 1, fields, &to_zvariant(inner))
    );
}

#[test]
fn messages_of_zvariant_are_read_in_either_byte_order() {
    for endian in [Endian::Little, Endian::Big] {
        let body: zvariant::Value<'_> = "/some/cgroup".into();
        let signature = || (8, Signature::try_from("v").unwrap().into());
        let serial = || (5, 7_u32.into());
        let answer = zvariant_message(endian, 2, 1, vec![serial(), signature()], &body);
        assert_eq!(message_size(&answer), Ok(Some(answer.len())));
        match decode_message(&answer) {
            Some(Message::Return { to: 7, body }) => {
                assert_eq!(body.leading_texts(), ["/some/cgroup"])
            }
            other => panic!("{other:?}"),
        }
        let name = (4, "org.freedesktop.systemd1.NoSuchUnit".into());
        let error = zvariant_message(endian, 3, 1, vec![name, serial(), signature()], &body);
        match decode_message(&error) {
            Some(Message::Error { to: 7, name, body }) => {
                assert_eq!(name, "org.freedesktop.systemd1.NoSuchUnit");
                assert_eq!(body.leading_texts(), ["/some/cgroup"]);
            }
            other => panic!("{other:?}"),
        }
        let path = ObjectPath::try_from("/org/freedesktop/systemd1").unwrap();
        let fields = vec![
            (1, path.into()),
            (2, "org.freedesktop.systemd1.Manager".into()),
            (3, "JobRemoved".into()),
            signature(),
        ];
        match decode_message(&zvariant_message(endian, 4, 1, fields, &body)) {
            Some(Message::Signal {
                interface, member, ..
            }) => assert_eq!(
                (interface.as_str(), member.as_str()),
                ("org.freedesktop.systemd1.Manager", "JobRemoved")
            ),
            other => panic!("{other:?}"),
        }
    }
}
