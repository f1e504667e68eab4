//! Values as GVariant writes them as text: `uint64 5`, `'text'`, `['a', 'b']`, `@as []`.
//! Of its types those that properties of units have; no dictionaries and no maybe types.

use super::super::dbus::Value;

/// So deep may values lie in one another.
const DEEPEST: usize = 6;

/// Reads one value; the error says what is wrong with the text.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser {
        rest: text,
        depth: 0,
    };
    let value = parser.value(None)?;
    parser.skip_blanks();
    if !parser.rest.is_empty() {
        return Err(format!("{:?} after the value", parser.rest));
    }
    Ok(value)
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.skip_blanks();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// The longest start of what is left that consists of such characters.
    fn word(&mut self, of: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !of(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// A value; of this type, if one is given.
    fn value(&mut self, wanted: Option<&str>) -> Result<Value, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("too deep".into());
        }
        self.skip_blanks();
        let value = match self.rest.chars().next() {
            None => Err("a value is missing".into()),
            Some('@') => {
                self.eat("@");
                let signature = self.word(|c| !c.is_whitespace());
                self.value(Some(signature))
            }
            Some('\'' | '"') => self.quoted().and_then(|text| as_text(text, wanted)),
            Some('[') => self.array(wanted),
            Some('(') => self.tuple(wanted),
            Some('<') => self.variant(),
            Some('b') if self.rest.starts_with("b'") || self.rest.starts_with("b\"") => {
                self.eat("b");
                // As GVariant has it, with the NUL that ends a string of C.
                let bytes = self.quoted()?.into_bytes().into_iter().chain([0]);
                Ok(Value::Array("y".into(), bytes.map(Value::Byte).collect()))
            }
            Some(c) if c.is_ascii_digit() || "+-.".contains(c) => {
                let number = self.word(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
                as_number(number, wanted)
            }
            Some(_) => self.keyword(wanted),
        }?;
        self.depth -= 1;
        match wanted {
            Some(wanted) if wanted != value.signature() => Err(format!(
                "a value of type {:?} where {wanted:?} belongs",
                value.signature()
            )),
            _ => Ok(value),
        }
    }

    fn keyword(&mut self, wanted: Option<&str>) -> Result<Value, String> {
        let word = self.word(|c| c.is_ascii_alphanumeric());
        let signature = match word {
            "true" => return Ok(Value::Bool(true)),
            "false" => return Ok(Value::Bool(false)),
            "boolean" => "b",
            "byte" => "y",
            "int16" => "n",
            "uint16" => "q",
            "int32" => "i",
            "uint32" => "u",
            "int64" => "x",
            "uint64" => "t",
            "double" => "d",
            "string" => "s",
            "objectpath" => "o",
            "signature" => "g",
            "inf" | "nan" => return as_number(word, wanted),
            _ => return Err(format!("{:?} is no value", format!("{word}{}", self.rest))),
        };
        self.value(Some(signature))
    }

    fn quoted(&mut self) -> Result<String, String> {
        let mut chars = self.rest.chars();
        let quote = chars.next();
        let mut text = String::new();
        loop {
            match chars.next() {
                None => return Err("a quote that isn't closed".into()),
                end if end == quote => break,
                Some('\\') => text.push(escaped(&mut chars)?),
                Some('\0') => return Err("a NUL".into()),
                Some(c) => text.push(c),
            }
        }
        self.rest = chars.as_str();
        Ok(text)
    }

    fn array(&mut self, wanted: Option<&str>) -> Result<Value, String> {
        let wanted = wanted.and_then(|signature| signature.strip_prefix('a'));
        self.eat("[");
        let begin = self.rest;
        // The first element with a type of its own decides for those without.
        let mut element = wanted.map(str::to_owned);
        loop {
            let mut values = Vec::new();
            self.rest = begin;
            let mut again = false;
            while !self.eat("]") {
                if !values.is_empty() && !self.eat(",") {
                    return Err("no comma between elements".into());
                }
                self.skip_blanks();
                let typed = self
                    .rest
                    .starts_with(|c: char| c.is_ascii_alphabetic() || c == '@');
                let value = match self.value(None) {
                    Ok(value) if element.as_deref().is_none_or(|s| s == value.signature()) => value,
                    Ok(value) if typed && wanted.is_none() && !again => {
                        element = Some(value.signature());
                        again = true;
                        value
                    }
                    Ok(value) => match convert(&value, element.as_deref().unwrap_or_default()) {
                        Some(value) => value,
                        None => return Err("elements of different types".into()),
                    },
                    Err(problem) => return Err(problem),
                };
                element.get_or_insert_with(|| value.signature());
                values.push(value);
            }
            if !again {
                let element = element.ok_or("an empty array without a type, as in @as []")?;
                return Ok(Value::Array(element, values));
            }
        }
    }

    fn tuple(&mut self, wanted: Option<&str>) -> Result<Value, String> {
        self.eat("(");
        let mut fields = Vec::new();
        while !self.eat(")") {
            if !fields.is_empty() && !self.eat(",") {
                return Err("no comma between fields".into());
            }
            if !fields.is_empty() && self.eat(")") {
                break;
            }
            fields.push(self.value(None)?);
        }
        let value = Value::Struct(fields);
        match wanted {
            Some(wanted) => convert(&value, wanted).ok_or_else(|| "fields of other types".into()),
            None => Ok(value),
        }
    }

    fn variant(&mut self) -> Result<Value, String> {
        self.eat("<");
        let value = self.value(None)?;
        if self.eat(">") {
            Ok(Value::variant(value))
        } else {
            Err("a < that isn't closed".into())
        }
    }
}

fn escaped(chars: &mut std::str::Chars<'_>) -> Result<char, String> {
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

fn as_text(text: String, wanted: Option<&str>) -> Result<Value, String> {
    match wanted {
        None | Some("s") => Ok(Value::Text(text)),
        Some("o") if is_object_path(&text) => Ok(Value::ObjectPath(text)),
        Some("g")
            if text.len() < 256 && text.bytes().all(|b| b"ybnqiuxtdsogva(){}".contains(&b)) =>
        {
            Ok(Value::Signature(text))
        }
        Some(other) => Err(format!("{text:?} is no value of type {other:?}")),
    }
}

fn is_object_path(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    text == "/"
        || text
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(part))
}

/// A number of the type that is wanted: by itself an int32, or with a point or an exponent a double.
fn as_number(text: &str, wanted: Option<&str>) -> Result<Value, String> {
    let hexadecimal = text.trim_start_matches(['+', '-']).starts_with("0x");
    let floating = !hexadecimal && text.contains(['.', 'e', 'E', 'f', 'a']);
    let wanted = wanted.unwrap_or(if floating { "d" } else { "i" });
    let number = || integer(text);
    let value = match wanted {
        "y" => number().and_then(|n| n.try_into().ok()).map(Value::Byte),
        "n" => number().and_then(|n| n.try_into().ok()).map(Value::I16),
        "q" => number().and_then(|n| n.try_into().ok()).map(Value::U16),
        "i" => number().and_then(|n| n.try_into().ok()).map(Value::I32),
        "u" => number().and_then(|n| n.try_into().ok()).map(Value::U32),
        "x" => number().and_then(|n| n.try_into().ok()).map(Value::I64),
        "t" => number().and_then(|n| n.try_into().ok()).map(Value::U64),
        "d" => text.parse().ok().map(Value::Double),
        _ => None,
    };
    value.ok_or_else(|| format!("{text:?} is no number of type {wanted:?}"))
}

/// Decimal, 0x hexadecimal, or octal after a 0.
fn integer(text: &str) -> Option<i128> {
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

/// A number without a type of its own as one of another type, also inside a tuple.
fn convert(value: &Value, wanted: &str) -> Option<Value> {
    match value {
        same if same.signature() == wanted => Some(same.clone()),
        Value::I32(number) => as_number(&number.to_string(), Some(wanted)).ok(),
        Value::Struct(fields) => {
            let mut rest = wanted.strip_prefix('(')?.strip_suffix(')')?;
            let mut converted = Vec::new();
            for field in fields {
                // Fields of one letter, or as they are.
                let own = field.signature();
                let next = if rest.starts_with(&own) {
                    &*own
                } else {
                    rest.get(..1)?
                };
                converted.push(convert(field, next)?);
                rest = rest.get(next.len()..)?;
            }
            rest.is_empty().then_some(Value::Struct(converted))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn texts(texts: &[&str]) -> Value {
        Value::Array("s".into(), texts.iter().map(|t| Value::text(*t)).collect())
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
            ("int16 -5", Value::I16(-5)),
            ("7", Value::I32(7)),
            ("@t 7", Value::U64(7)),
            ("1.5", Value::Double(1.5)),
            ("double 2", Value::Double(2.0)),
            ("true", Value::Bool(true)),
            (" boolean false ", Value::Bool(false)),
            ("'inactive-or-failed'", Value::text("inactive-or-failed")),
            (r#""it's \"x\"\n\u00e9""#, Value::text("it's \"x\"\né")),
            ("objectpath '/a/b_1'", Value::ObjectPath("/a/b_1".into())),
            ("signature 'a(ss)'", Value::Signature("a(ss)".into())),
            (
                "['a.service', 'b.service']",
                texts(&["a.service", "b.service"]),
            ),
            ("@as []", texts(&[])),
            ("[byte 1, 2]", bytes(&[1, 2])),
            ("[1, byte 2]", bytes(&[1, 2])),
            ("@ay [0xff]", bytes(&[255])),
            ("b'ab'", bytes(b"ab\0")),
            ("<uint32 1>", Value::variant(Value::U32(1))),
            (
                "('/dev/sda', uint64 5)",
                Value::Struct(vec![Value::text("/dev/sda"), Value::U64(5)]),
            ),
            (
                "@a(st) [('/dev/sda', 5)]",
                Value::Array(
                    "(st)".into(),
                    vec![Value::Struct(vec![Value::text("/dev/sda"), Value::U64(5)])],
                ),
            ),
        ];
        for (text, value) in table {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in [
            "",
            "uint64",
            "uint64 -1",
            "byte 256",
            "uint64 'x'",
            "'open",
            "[1, 'a']",
            "[]",
            "foo",
            "1 2",
            "['a' 'b']",
            "@as ['a', 1]",
            "{'a': 1}",
            "objectpath 'a'",
            "1.5.5",
            "--1",
            "@u true",
            "<1",
            "(1",
            "'a\\",
            "uint32 99999999999999999999999999999999999999999",
        ] {
            assert!(parse(text).is_err(), "{text:?}: {:?}", parse(text));
        }
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&"<".repeat(100_000)).is_err());
    }
}
