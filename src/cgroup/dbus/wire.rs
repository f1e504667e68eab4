//! D-Bus messages: encodes calls, and decodes any bytes that the peer sends.
//! `dbus` decides when to send which message.

use super::value::{Value, pad_to_multiple};

const TYPE_METHOD_CALL: u8 = 1;
const TYPE_METHOD_RETURN: u8 = 2;
const TYPE_ERROR: u8 = 3;
const TYPE_SIGNAL: u8 = 4;
const FLAG_NO_REPLY_EXPECTED: u8 = 1;
const PROTOCOL_VERSION: u8 = 1;

const FIELD_PATH: u8 = 1;
const FIELD_INTERFACE: u8 = 2;
const FIELD_MEMBER: u8 = 3;
const FIELD_ERROR_NAME: u8 = 4;
const FIELD_REPLY_SERIAL: u8 = 5;
const FIELD_DESTINATION: u8 = 6;
const FIELD_SIGNATURE: u8 = 8;

/// The size of the fixed head at the start of every message. The head holds the kind of the message
/// and the lengths of the other parts.
const FIXED_HEADER_BYTES: usize = 16;
/// The largest message accepted. systemd's replies have a few hundred bytes.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// A method call.
pub(super) struct MethodCall<'a> {
    /// The bus name of the peer. `None` if this process is connected to the peer without a bus.
    pub(super) destination: Option<&'a str>,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    pub(super) arguments: &'a [Value],
    /// True if nobody waits for the reply.
    pub(super) no_reply: bool,
}

/// Encodes a call.
pub(super) fn encode_call(call: &MethodCall<'_>, serial: u32) -> Vec<u8> {
    let mut body = Vec::new();
    call.arguments
        .iter()
        .for_each(|value| value.encode_into(&mut body));
    let signature: String = call.arguments.iter().map(Value::type_signature).collect();
    let field = |code, value| Value::Struct(vec![Value::Byte(code), Value::wrap_in_variant(value)]);
    let mut fields = vec![
        field(FIELD_PATH, Value::ObjectPath(call.path.into())),
        field(FIELD_INTERFACE, Value::from_text(call.interface)),
        field(FIELD_MEMBER, Value::from_text(call.member)),
    ];
    fields.extend(
        call.destination
            .map(|name| field(FIELD_DESTINATION, Value::from_text(name))),
    );
    if !signature.is_empty() {
        fields.push(field(FIELD_SIGNATURE, Value::Signature(signature)));
    }
    let flags = if call.no_reply {
        FLAG_NO_REPLY_EXPECTED
    } else {
        0
    };
    let mut message = vec![b'l', TYPE_METHOD_CALL, flags, PROTOCOL_VERSION];
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    message.extend(length.to_le_bytes());
    message.extend(serial.to_le_bytes());
    Value::Array("(yv)".into(), fields).encode_into(&mut message);
    pad_to_multiple(&mut message, 8);
    message.extend(body);
    message
}

/// A message from the peer.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    Return {
        to: u32,
        body: MessageBody,
    },
    Error {
        to: u32,
        name: String,
        body: MessageBody,
    },
    Signal {
        interface: String,
        member: String,
        body: MessageBody,
    },
    /// A method call from the peer. It is ignored, because this client offers no methods.
    Other,
}

/// The arguments of a message, still encoded.
#[derive(Debug, PartialEq)]
pub(crate) struct MessageBody {
    signature: String,
    bytes: Vec<u8>,
    big: bool,
}

/// Returns the size of the message at the start of `bytes`, or `None` if the head is incomplete. An
/// error means that the bytes are not a D-Bus message, or that the message is too large.
pub(super) fn message_size(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    let Some(head) = bytes.get(..FIXED_HEADER_BYTES) else {
        return Ok(None);
    };
    let big = match head.first() {
        Some(b'l') => false,
        Some(b'B') => true,
        _ => return Err("a message of unknown byte order"),
    };
    if head.get(3) != Some(&PROTOCOL_VERSION) {
        return Err("a message of another version of the protocol");
    }
    let mut reader = ValueReader {
        bytes: head,
        at: 4,
        big,
    };
    let body = reader.read_u32().and_then(|n| usize::try_from(n).ok());
    let _serial = reader.read_u32();
    let fields = reader.read_u32().and_then(|n| usize::try_from(n).ok());
    match (body, fields) {
        (Some(body), Some(fields)) if body <= MAX_MESSAGE_BYTES && fields <= MAX_MESSAGE_BYTES => {
            Ok(Some(
                (FIXED_HEADER_BYTES + fields).next_multiple_of(8) + body,
            ))
        }
        _ => Err("a message of more than a MiB"),
    }
}

/// Decodes one whole message. `bytes` must have the length that `message_size` returned.
pub(super) fn decode_message(bytes: &[u8]) -> Option<Message> {
    let big = bytes.first() == Some(&b'B');
    let kind = *bytes.get(1)?;
    let mut reader = ValueReader { bytes, at: 4, big };
    let body_length = usize::try_from(reader.read_u32()?).ok()?;
    reader.read_u32()?;
    let fields_end = FIXED_HEADER_BYTES.checked_add(usize::try_from(reader.read_u32()?).ok()?)?;
    let (mut interface, mut member, mut name, mut signature) = Default::default();
    let mut to = None;
    reader.bytes = bytes.get(..fields_end)?;
    while reader.at < fields_end {
        reader.skip_padding(8);
        let code = reader.read_byte()?;
        let text: &mut String = match (code, reader.read_signature()?.as_str()) {
            (FIELD_REPLY_SERIAL, "u") => {
                to = Some(reader.read_u32()?);
                continue;
            }
            (FIELD_SIGNATURE, "g") => {
                signature = reader.read_signature()?;
                continue;
            }
            (FIELD_INTERFACE, "s") => &mut interface,
            (FIELD_MEMBER, "s") => &mut member,
            (FIELD_ERROR_NAME, "s") => &mut name,
            (_, "s" | "o") => &mut String::new(),
            (_, "u") => {
                reader.read_u32()?;
                continue;
            }
            _ => return None,
        };
        *text = reader.read_text()?;
    }
    let start = fields_end.next_multiple_of(8);
    let body = MessageBody {
        signature,
        bytes: bytes.get(start..start.checked_add(body_length)?)?.to_vec(),
        big,
    };
    Some(match kind {
        TYPE_METHOD_RETURN => Message::Return { to: to?, body },
        TYPE_ERROR => Message::Error {
            to: to?,
            name,
            body,
        },
        TYPE_SIGNAL => Message::Signal {
            interface,
            member,
            body,
        },
        _ => Message::Other,
    })
}

impl MessageBody {
    /// Returns the strings and object paths among the arguments, in order. Stops at the first
    /// argument that is neither a 32-bit number nor a text, and that is no variant of these either.
    pub(crate) fn leading_texts(&self) -> Vec<String> {
        let mut reader = ValueReader {
            bytes: &self.bytes,
            at: 0,
            big: self.big,
        };
        let mut texts = Vec::new();
        for letter in self.signature.bytes() {
            let letter = match letter {
                b'v' => match reader.read_signature().as_deref().map(str::as_bytes) {
                    Some([letter]) => *letter,
                    _ => break,
                },
                other => other,
            };
            let text = match letter {
                b's' | b'o' => reader.read_text().map(Some),
                b'u' | b'i' | b'b' => reader.read_u32().map(|_| None),
                _ => None,
            };
            match text {
                Some(text) => texts.extend(text),
                None => break,
            }
        }
        texts
    }
}

/// Decodes values from bytes. The methods return `None` if too few bytes are left, or if the bytes
/// don't encode a value of that type.
struct ValueReader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl ValueReader<'_> {
    fn skip_padding(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take_bytes(&mut self, length: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn read_byte(&mut self) -> Option<u8> {
        self.take_bytes(1)?.first().copied()
    }

    fn read_u32(&mut self) -> Option<u32> {
        self.skip_padding(4);
        let big = self.big;
        let bytes: [u8; 4] = self.take_bytes(4)?.try_into().ok()?;
        Some(if big {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    fn read_text(&mut self) -> Option<String> {
        let length = usize::try_from(self.read_u32()?).ok()?;
        self.read_terminated(length)
    }

    fn read_signature(&mut self) -> Option<String> {
        let length = self.read_byte()?;
        self.read_terminated(length.into())
    }

    /// Reads text of a known length and the NUL after it.
    fn read_terminated(&mut self, length: usize) -> Option<String> {
        let text = self.take_bytes(length)?.to_vec();
        (self.read_byte()? == 0).then_some(())?;
        String::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn ping(arguments: &[Value]) -> Vec<u8> {
        let ping = MethodCall {
            destination: Some("a.b"),
            path: "/p",
            interface: "i.f",
            member: "Ping",
            arguments,
            no_reply: false,
        };
        encode_call(&ping, 9)
    }

    /// Makes a message of the given kind.
    fn sent(kind: u8, fields: Vec<(u8, Value)>, arguments: &[Value]) -> Vec<u8> {
        let mut message = vec![b'l', kind, 0, PROTOCOL_VERSION];
        let mut body = Vec::new();
        arguments
            .iter()
            .for_each(|value| value.encode_into(&mut body));
        message.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        message.extend(1_u32.to_le_bytes());
        let fields = fields.into_iter().map(|(code, value)| {
            Value::Struct(vec![Value::Byte(code), Value::wrap_in_variant(value)])
        });
        Value::Array("(yv)".into(), fields.collect()).encode_into(&mut message);
        pad_to_multiple(&mut message, 8);
        message.extend(body);
        message
    }

    #[test]
    fn a_call_is_laid_out_as_the_specification_says() {
        let bytes = ping(&[Value::from_text("x")]);
        assert_eq!(bytes[..12], *b"l\x01\x00\x01\x06\0\0\0\x09\0\0\0");
        assert_eq!(bytes.len(), message_size(&bytes).unwrap().unwrap());
        assert_eq!(bytes.len() % 8, 6);
        assert!(bytes.ends_with(b"\x01\0\0\0x\0"));
        assert_eq!(decode_message(&bytes), Some(Message::Other));
        assert_eq!(message_size(&bytes[..15]), Ok(None));
    }

    #[test]
    fn an_answer_an_error_and_a_signal_are_told_apart() {
        let signature = || (FIELD_SIGNATURE, Value::Signature("s".into()));
        let serial = || (FIELD_REPLY_SERIAL, Value::U32(9));
        let text = [Value::from_text("t")];
        let answer = decode_message(&sent(
            TYPE_METHOD_RETURN,
            vec![serial(), signature()],
            &text,
        ));
        let Some(Message::Return { to: 9, body }) = answer else {
            unreachable!("{answer:?}")
        };
        assert_eq!(body.leading_texts(), ["t"]);
        let name = (FIELD_ERROR_NAME, Value::from_text("e.n"));
        let error = decode_message(&sent(TYPE_ERROR, vec![serial(), name, signature()], &text));
        assert!(matches!(error, Some(Message::Error { to: 9, name, .. }) if name == "e.n"));
        let fields = vec![
            (FIELD_PATH, Value::ObjectPath("/p".into())),
            (FIELD_INTERFACE, Value::from_text("i")),
            (FIELD_MEMBER, Value::from_text("m")),
            (FIELD_SIGNATURE, Value::Signature("uoss".into())),
        ];
        let values = [
            Value::U32(4),
            Value::ObjectPath("/job/4".into()),
            Value::from_text("a.scope"),
            Value::from_text("done"),
        ];
        let signal = decode_message(&sent(TYPE_SIGNAL, fields, &values));
        let Some(Message::Signal { member, body, .. }) = signal else {
            unreachable!("{signal:?}")
        };
        assert_eq!(member, "m");
        assert_eq!(body.leading_texts(), ["/job/4", "a.scope", "done"]);
    }

    #[test]
    fn whatever_the_bytes_are_nothing_is_read_beyond_them() {
        let fields = vec![
            (FIELD_REPLY_SERIAL, Value::U32(9)),
            (FIELD_SIGNATURE, Value::Signature("sv".into())),
        ];
        let values = [
            Value::from_text("t"),
            Value::wrap_in_variant(Value::from_text("u")),
        ];
        let good = sent(TYPE_METHOD_RETURN, fields, &values);
        for length in 0..good.len() {
            assert_eq!(decode_message(&good[..length]), None, "{length}");
        }
        for at in 0..good.len() {
            for byte in [0, 1, 4, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = byte;
                if let Ok(Some(size)) = message_size(&bad)
                    && size <= bad.len()
                    && let Some(Message::Return { body, .. } | Message::Error { body, .. }) =
                        decode_message(&bad)
                {
                    assert!(body.leading_texts().len() <= 2);
                }
            }
        }
    }

    #[test]
    fn a_message_that_claims_to_be_huge_is_refused() {
        let mut bytes = ping(&[]);
        bytes[7] = 0x7f;
        assert!(message_size(&bytes).is_err());
        assert!(message_size(&[b'x'; 16]).is_err());
        assert!(message_size(b"l\x01\0\x02000000000000").is_err());
    }
}
