//! The values in D-Bus messages and their encoding (D-Bus Specification, "Marshaling").
//! The messages themselves are in `wire`.

/// A value of one of the types that the calls to systemd need. An array stores the signature of its
/// elements, because it can be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Byte(u8),
    Bool(bool),
    I32(i32),
    U32(u32),
    U64(u64),
    Text(String),
    ObjectPath(String),
    Signature(String),
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    Variant(Box<Value>),
}

impl Value {
    /// Makes a string.
    pub(crate) fn from_text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    /// Wraps a value in a variant, the type of all property values.
    pub(crate) fn wrap_in_variant(value: Value) -> Value {
        Value::Variant(Box::new(value))
    }

    /// Returns the signature of the value's type.
    pub(crate) fn type_signature(&self) -> String {
        let letter = match self {
            Value::Byte(_) => "y",
            Value::Bool(_) => "b",
            Value::I32(_) => "i",
            Value::U32(_) => "u",
            Value::U64(_) => "t",
            Value::Text(_) => "s",
            Value::ObjectPath(_) => "o",
            Value::Signature(_) => "g",
            Value::Array(element, _) => return format!("a{element}"),
            Value::Struct(fields) => {
                let inner: String = fields.iter().map(Value::type_signature).collect();
                return format!("({inner})");
            }
            Value::Variant(_) => "v",
        };
        letter.to_owned()
    }

    /// Appends the little-endian encoding of the value. The start of `out` must be at a multiple of
    /// 8 bytes in the message, because the padding is counted from there.
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Value::Byte(byte) => out.push(*byte),
            Value::Bool(set) => encode_number(out, &u32::from(*set).to_le_bytes()),
            Value::I32(number_) => encode_number(out, &number_.to_le_bytes()),
            Value::U32(number_) => encode_number(out, &number_.to_le_bytes()),
            Value::U64(number_) => encode_number(out, &number_.to_le_bytes()),
            Value::Text(text) | Value::ObjectPath(text) => {
                encode_number(out, &length(text.len()).to_le_bytes());
                out.extend(text.as_bytes());
                out.push(0);
            }
            Value::Signature(text) => encode_signature(out, text),
            Value::Array(element, values) => {
                encode_number(out, &[0; 4]);
                let at = out.len();
                pad_to_multiple(out, alignment(element));
                let start = out.len();
                values.iter().for_each(|value| value.encode_into(out));
                let bytes = length(out.len() - start).to_le_bytes();
                if let Some(place) = out.get_mut(at - 4..at) {
                    place.copy_from_slice(&bytes);
                }
            }
            Value::Struct(fields) => {
                pad_to_multiple(out, 8);
                fields.iter().for_each(|field| field.encode_into(out));
            }
            Value::Variant(value) => {
                encode_signature(out, &value.type_signature());
                value.encode_into(out);
            }
        }
    }
}

/// Appends zeros up to a multiple of `to` bytes.
pub(super) fn pad_to_multiple(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

/// Appends a number, aligned to its size.
fn encode_number(out: &mut Vec<u8>, bytes: &[u8]) {
    pad_to_multiple(out, bytes.len());
    out.extend(bytes);
}

/// Appends a signature. The caller must make sure that `text` has at most 255 bytes.
fn encode_signature(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend(text.as_bytes().iter().take(255));
    out.push(0);
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Returns the alignment, in bytes, of values with this signature.
fn alignment(signature: &str) -> usize {
    match signature.bytes().next() {
        Some(b'y' | b'g' | b'v') => 1,
        Some(b't' | b'(') => 8,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        value.encode_into(&mut out);
        out
    }

    #[test]
    fn values_lie_at_multiples_of_their_size() {
        let value = Value::Struct(vec![Value::Byte(1), Value::U32(2), Value::U64(3)]);
        assert_eq!(value.type_signature(), "(yut)");
        assert_eq!(
            bytes(&value),
            [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(bytes(&Value::Bool(true)), [1, 0, 0, 0]);
        assert_eq!(bytes(&Value::from_text("ab")), *b"\x02\0\0\0ab\0");
        assert_eq!(bytes(&Value::I32(-2)), [0xfe, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn the_length_of_an_array_leaves_out_the_padding_before_it() {
        let pair = Value::Struct(vec![Value::from_text("a"), Value::from_text("b")]);
        let array = Value::Array("(ss)".into(), vec![pair]);
        assert_eq!(array.type_signature(), "a(ss)");
        assert_eq!(
            bytes(&array),
            *b"\x0e\0\0\0\0\0\0\0\x01\0\0\0a\0\0\0\x01\0\0\0b\0"
        );
        let empty = Value::Array("(ss)".into(), Vec::new());
        assert_eq!(bytes(&empty), [0; 8]);
        let empty = Value::Array("u".into(), Vec::new());
        assert_eq!(bytes(&empty), [0; 4]);
    }

    #[test]
    fn a_variant_says_its_type_first() {
        let value = Value::wrap_in_variant(Value::U64(7));
        assert_eq!(value.type_signature(), "v");
        assert_eq!(bytes(&value), *b"\x01t\0\0\0\0\0\0\x07\0\0\0\0\0\0\0");
    }
}
