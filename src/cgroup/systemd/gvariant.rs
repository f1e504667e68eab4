//! Parses values in the text format of GVariant: `uint64 5`, `'text'`, `['a', 'b']`, `@as []`.
//! Only the types of unit properties are supported. The caller specifies the expected type.
//!
//! No crate parses this text format: zvariant supports only the binary format of GVariant.

use super::super::dbus::Value;

/// The type words allowed before a value, with their D-Bus signatures.
const TYPE_WORDS: [(&str, &str); 10] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
];

/// Parses one value of the type with this signature: `b`, `y`, `i`, `u`, `t`, `s`, or an array of
/// one of these types. An error describes the problem with the text.
pub(super) fn parse_typed(text: &str, signature: &str) -> Result<Value, String> {
    let mut parser = Parser { rest: text };
    let value = parser.parse_value(signature)?;
    parser.skip_blanks();
    if parser.rest.is_empty() {
        Ok(value)
    } else {
        Err(format!("unexpected {:?} after the value", parser.rest))
    }
}

/// Parses a number of seconds, of any numeric type, and returns it in microseconds.
pub(super) fn seconds_to_microseconds(text: &str) -> Option<u64> {
    let mut parser = Parser { rest: text };
    let said = parser.take_type_annotation();
    let number = parser.rest.trim();
    match (said, parse_integer(number)) {
        (None | Some("d"), None) | (Some("d"), _) => {
            let seconds: f64 = number.parse().ok()?;
            // A double holds whole microseconds exactly for values up to 285 years.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // in range
            (0.0..9e9)
                .contains(&seconds)
                .then_some((seconds * 1e6) as u64)
        }
        (said, Some(seconds)) if fits_type(seconds, said.unwrap_or("t")) => {
            u64::try_from(seconds).ok()?.checked_mul(1_000_000)
        }
        _ => None,
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take_token(&mut self, token: char) -> bool {
        self.skip_blanks();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Removes and returns the longest prefix of the rest whose characters all match `of`.
    fn take_word(&mut self, of: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !of(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// Removes and returns the type before a value, if there is one.
    fn take_type_annotation(&mut self) -> Option<&'a str> {
        if self.take_token('@') {
            return Some(self.take_word(|c| !c.is_whitespace()));
        }
        let before = self.rest;
        let word = self.take_word(|c| c.is_ascii_alphanumeric());
        let known = TYPE_WORDS.iter().find(|(name, _)| *name == word);
        if known.is_none() {
            self.rest = before;
        }
        known.map(|(_, signature)| *signature)
    }

    fn parse_value(&mut self, signature: &str) -> Result<Value, String> {
        match self.take_type_annotation() {
            Some(said) if said != signature => Err(format!(
                "a value of type {said:?} where {signature:?} belongs"
            )),
            _ => self.parse_literal(signature),
        }
    }

    /// Parses a value without a type before it.
    fn parse_literal(&mut self, signature: &str) -> Result<Value, String> {
        self.skip_blanks();
        let element = signature.strip_prefix('a');
        let is_bytes = self.rest.starts_with("b'") || self.rest.starts_with("b\"");
        match (signature, self.rest.chars().next()) {
            (_, None) => Err("a value is missing".into()),
            ("s", Some('\'' | '"')) => self.parse_quoted().map(Value::Text),
            ("ay", _) if is_bytes => {
                self.take_token('b');
                // As in GVariant, the bytes include the NUL that terminates a C string.
                let bytes = self.parse_quoted()?.into_bytes().into_iter().chain([0]);
                Ok(Value::Array("y".into(), bytes.map(Value::Byte).collect()))
            }
            (_, Some('[')) if element.is_some() => self.parse_array(element.unwrap_or_default()),
            _ => {
                let word = self.take_word(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
                parse_scalar(word, signature).ok_or_else(|| {
                    format!(
                        "{:?} is not a value of type {signature:?}",
                        format!("{word}{}", self.rest)
                    )
                })
            }
        }
    }

    fn parse_quoted(&mut self) -> Result<String, String> {
        let mut chars = self.rest.chars();
        let quote = chars.next();
        let mut text = String::new();
        loop {
            match chars.next() {
                None => return Err("a quote is not closed".into()),
                end if end == quote => break,
                Some('\\') => text.push(parse_escape(&mut chars)?),
                Some('\0') => return Err("a NUL".into()),
                Some(c) => text.push(c),
            }
        }
        self.rest = chars.as_str();
        Ok(text)
    }

    fn parse_array(&mut self, element: &str) -> Result<Value, String> {
        self.take_token('[');
        let mut values = Vec::new();
        while !self.take_token(']') {
            if !values.is_empty() && !self.take_token(',') {
                return Err("a comma is missing between elements".into());
            }
            values.push(self.parse_value(element)?);
        }
        Ok(Value::Array(element.into(), values))
    }
}

fn parse_escape(chars: &mut std::str::Chars<'_>) -> Result<char, String> {
    let digits = |chars: &mut std::str::Chars<'_>, count| {
        let digits: String = chars.take(count).collect();
        u32::from_str_radix(&digits, 16)
            .ok()
            .filter(|_| digits.len() == count)
            .and_then(char::from_u32)
            .filter(|c| *c != '\0')
            .ok_or_else(|| format!("\\{digits:?} is no character"))
    };
    match chars.next() {
        Some('n') => Ok('\n'),
        Some('t') => Ok('\t'),
        Some('r') => Ok('\r'),
        Some('u') => digits(chars, 4),
        Some('U') => digits(chars, 8),
        Some(other) => Ok(other),
        None => Err("a backslash at the end".into()),
    }
}

/// Parses a boolean or an integer.
fn parse_scalar(word: &str, signature: &str) -> Option<Value> {
    match (signature, word) {
        ("b", "true") => return Some(Value::Bool(true)),
        ("b", "false") => return Some(Value::Bool(false)),
        _ => {}
    }
    let number = parse_integer(word)?;
    match signature {
        "y" => number.try_into().ok().map(Value::Byte),
        "i" => number.try_into().ok().map(Value::I32),
        "u" => number.try_into().ok().map(Value::U32),
        "t" => number.try_into().ok().map(Value::U64),
        _ => None,
    }
}

/// True if the number is in the range of the integer type.
fn fits_type(number: i128, signature: &str) -> bool {
    match signature {
        "y" => u8::try_from(number).is_ok(),
        "n" => i16::try_from(number).is_ok(),
        "q" => u16::try_from(number).is_ok(),
        "i" => i32::try_from(number).is_ok(),
        "u" => u32::try_from(number).is_ok(),
        "x" => i64::try_from(number).is_ok(),
        "t" => u64::try_from(number).is_ok(),
        _ => false,
    }
}

/// Parses a decimal, hexadecimal (0x) or octal (0) number.
fn parse_integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = match (digits.strip_prefix("0x"), digits.strip_prefix('0')) {
        (Some(digits), _) => i128::from_str_radix(digits, 16),
        (None, Some(digits)) if !digits.is_empty() => i128::from_str_radix(digits, 8),
        _ => digits.parse(),
    };
    value
        .ok()
        .map(|value| if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Value {
        Value::Array(
            "s".into(),
            texts.iter().map(|t| Value::from_text(*t)).collect(),
        )
    }

    #[test]
    fn values_are_read_as_gvariant_writes_them() {
        let bytes = |bytes: &[u8]| {
            Value::Array("y".into(), bytes.iter().copied().map(Value::Byte).collect())
        };
        let table = [
            ("uint64 123456789", Value::U64(123_456_789)),
            ("uint32 0x10", Value::U32(16)),
            ("byte 010", Value::Byte(8)),
            ("int32 -5", Value::I32(-5)),
            ("+7", Value::I32(7)),
            ("7", Value::U64(7)),
            ("@t 7", Value::U64(7)),
            ("true", Value::Bool(true)),
            (" boolean false ", Value::Bool(false)),
            (
                "'inactive-or-failed'",
                Value::from_text("inactive-or-failed"),
            ),
            ("string 'x'", Value::from_text("x")),
            (r#""it's \"x\"\n\u00e9""#, Value::from_text("it's \"x\"\né")),
            (
                "['a.service', 'b.service']",
                texts(&["a.service", "b.service"]),
            ),
            ("@as []", texts(&[])),
            ("[]", texts(&[])),
            ("[byte 1, 2]", bytes(&[1, 2])),
            ("[1, byte 2]", bytes(&[1, 2])),
            ("@ay [0xff]", bytes(&[255])),
            ("b'ab'", bytes(b"ab\0")),
        ];
        for (text, value) in table {
            assert_eq!(
                parse_typed(text, &value.type_signature()),
                Ok(value),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_value_of_the_type_is_refused() {
        for (text, signature) in [
            ("", "t"),
            ("uint64", "t"),
            ("uint64 -1", "t"),
            ("-1", "t"),
            ("byte 256", "y"),
            ("uint64 'x'", "t"),
            ("uint32 5", "t"),
            ("@u 5", "t"),
            ("1.5", "t"),
            ("5", "s"),
            ("'5'", "t"),
            ("'open", "s"),
            ("[1, 'a']", "ay"),
            ("[1, 'a']", "as"),
            ("'a'", "as"),
            ("['a']", "s"),
            ("b'a'", "s"),
            ("foo", "s"),
            ("foo", "b"),
            ("1", "b"),
            ("1 2", "t"),
            ("['a' 'b']", "as"),
            ("['a'", "as"),
            ("@as ['a', 1]", "as"),
            ("{'a': 1}", "s"),
            ("<'a'>", "s"),
            ("--1", "i"),
            ("@t true", "t"),
            ("uint64 uint64 1", "t"),
            ("'a\\", "s"),
            ("99999999999999999999999999999999999999999", "t"),
        ] {
            let value = parse_typed(text, signature);
            assert!(value.is_err(), "{text:?} as {signature}: {value:?}");
        }
        for nested in ["[", "@as ", "string "] {
            assert!(parse_typed(&nested.repeat(100_000), "as").is_err());
        }
    }

    #[test]
    fn seconds_may_be_numbers_of_any_type() {
        for (text, microseconds) in [
            ("3", Some(3_000_000)),
            ("uint32 3", Some(3_000_000)),
            ("@n 3", Some(3_000_000)),
            ("byte 0x10", Some(16_000_000)),
            ("1.5", Some(1_500_000)),
            ("double 2", Some(2_000_000)),
            ("-3", None),
            ("int32 -3", None),
            ("-1.5", None),
            ("byte 256", None),
            ("uint32 1.5", None),
            ("'3'", None),
            ("true", None),
            ("", None),
            ("double 1e300", None),
            ("nan", None),
            ("uint64 18446744073709551615", None),
        ] {
            assert_eq!(
                super::seconds_to_microseconds(text),
                microseconds,
                "{text:?}"
            );
        }
    }
}
