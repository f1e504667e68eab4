//! D-Bus messages: encodes calls, and decodes any bytes that the peer sends.
//! `dbus` decides when to send which message.

use super::value::{Value, align};

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;
const NO_REPLY_EXPECTED: u8 = 1;
const VERSION: u8 = 1;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// The size of the fixed head at the start of every message. The head holds the kind of the message
/// and the lengths of the other parts.
const HEAD: usize = 16;
/// The largest message accepted. systemd's replies have a few hundred bytes.
const LARGEST: usize = 1 << 20;

/// A method call.
pub(super) struct Call<'a> {
    /// `None` if there is no bus between this process and the peer.
    pub(super) destination: Option<&'a str>,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    pub(super) arguments: &'a [Value],
    /// True if nobody waits for the reply.
    pub(super) no_reply: bool,
}

/// Encodes a call.
pub(super) fn call(call: &Call<'_>, serial: u32) -> Vec<u8> {
    let mut body = Vec::new();
    call.arguments
        .iter()
        .for_each(|value| value.encode(&mut body));
    let signature: String = call.arguments.iter().map(Value::signature).collect();
    let field = |code, value| Value::Struct(vec![Value::Byte(code), Value::variant(value)]);
    let mut fields = vec![
        field(PATH, Value::ObjectPath(call.path.into())),
        field(INTERFACE, Value::text(call.interface)),
        field(MEMBER, Value::text(call.member)),
    ];
    fields.extend(
        call.destination
            .map(|name| field(DESTINATION, Value::text(name))),
    );
    if !signature.is_empty() {
        fields.push(field(SIGNATURE, Value::Signature(signature)));
    }
    let flags = if call.no_reply { NO_REPLY_EXPECTED } else { 0 };
    let mut message = vec![b'l', METHOD_CALL, flags, VERSION];
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    message.extend(length.to_le_bytes());
    message.extend(serial.to_le_bytes());
    Value::Array("(yv)".into(), fields).encode(&mut message);
    align(&mut message, 8);
    message.extend(body);
    message
}

/// A message from the peer.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    Return {
        to: u32,
        body: Body,
    },
    Error {
        to: u32,
        name: String,
        body: Body,
    },
    Signal {
        interface: String,
        member: String,
        body: Body,
    },
    /// A method call from the peer. It is ignored, because this client offers no methods.
    Other,
}

/// The arguments of a message, still encoded.
#[derive(Debug, PartialEq)]
pub(crate) struct Body {
    signature: String,
    bytes: Vec<u8>,
    big: bool,
}

/// Returns the size of the message at the start of `bytes`, or `None` if the head is incomplete. An
/// error means that the bytes are not a D-Bus message.
pub(super) fn size(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    let Some(head) = bytes.get(..HEAD) else {
        return Ok(None);
    };
    let big = match head.first() {
        Some(b'l') => false,
        Some(b'B') => true,
        _ => return Err("a message of unknown byte order"),
    };
    if head.get(3) != Some(&VERSION) {
        return Err("a message of another version of the protocol");
    }
    let mut reader = Reader {
        bytes: head,
        at: 4,
        big,
    };
    let body = reader.u32().and_then(|n| usize::try_from(n).ok());
    let _serial = reader.u32();
    let fields = reader.u32().and_then(|n| usize::try_from(n).ok());
    match (body, fields) {
        (Some(body), Some(fields)) if body <= LARGEST && fields <= LARGEST => {
            Ok(Some((HEAD + fields).next_multiple_of(8) + body))
        }
        _ => Err("a message of more than a MiB"),
    }
}

/// Decodes one whole message. Its length must be the one that `size` returned.
pub(super) fn message(bytes: &[u8]) -> Option<Message> {
    let big = bytes.first() == Some(&b'B');
    let kind = *bytes.get(1)?;
    let mut reader = Reader { bytes, at: 4, big };
    let body_length = usize::try_from(reader.u32()?).ok()?;
    reader.u32()?;
    let fields_end = HEAD.checked_add(usize::try_from(reader.u32()?).ok()?)?;
    let (mut interface, mut member, mut name, mut signature) = Default::default();
    let mut to = None;
    reader.bytes = bytes.get(..fields_end)?;
    while reader.at < fields_end {
        reader.align(8);
        let code = reader.byte()?;
        let text: &mut String = match (code, reader.signature()?.as_str()) {
            (REPLY_SERIAL, "u") => {
                to = Some(reader.u32()?);
                continue;
            }
            (SIGNATURE, "g") => {
                signature = reader.signature()?;
                continue;
            }
            (INTERFACE, "s") => &mut interface,
            (MEMBER, "s") => &mut member,
            (ERROR_NAME, "s") => &mut name,
            (_, "s" | "o") => &mut String::new(),
            (_, "u") => {
                reader.u32()?;
                continue;
            }
            _ => return None,
        };
        *text = reader.text()?;
    }
    let start = fields_end.next_multiple_of(8);
    let body = Body {
        signature,
        bytes: bytes.get(start..start.checked_add(body_length)?)?.to_vec(),
        big,
    };
    Some(match kind {
        METHOD_RETURN => Message::Return { to: to?, body },
        ERROR => Message::Error {
            to: to?,
            name,
            body,
        },
        SIGNAL => Message::Signal {
            interface,
            member,
            body,
        },
        _ => Message::Other,
    })
}

impl Body {
    /// Returns the strings and object paths among the arguments, in order. Stops at the first
    /// argument that is not a number, a text, or a variant with a number or a text.
    pub(crate) fn texts(&self) -> Vec<String> {
        let mut reader = Reader {
            bytes: &self.bytes,
            at: 0,
            big: self.big,
        };
        let mut texts = Vec::new();
        for letter in self.signature.bytes() {
            let letter = match letter {
                b'v' => match reader.signature().as_deref().map(str::as_bytes) {
                    Some([letter]) => *letter,
                    _ => break,
                },
                other => other,
            };
            let text = match letter {
                b's' | b'o' => reader.text().map(Some),
                b'u' | b'i' | b'b' => reader.u32().map(|_| None),
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

/// Decodes values from bytes. `None` means that too few bytes are left or that they don't encode
/// such a value.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4);
        let big = self.big;
        let bytes: [u8; 4] = self.take(4)?.try_into().ok()?;
        Some(if big {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.ended(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.byte()?;
        self.ended(length.into())
    }

    /// Reads text of a known length and the NUL after it.
    fn ended(&mut self, length: usize) -> Option<String> {
        let text = self.take(length)?.to_vec();
        (self.byte()? == 0).then_some(())?;
        String::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn ping(arguments: &[Value]) -> Vec<u8> {
        let ping = Call {
            destination: Some("a.b"),
            path: "/p",
            interface: "i.f",
            member: "Ping",
            arguments,
            no_reply: false,
        };
        call(&ping, 9)
    }

    /// Makes a message of the given kind.
    fn sent(kind: u8, fields: Vec<(u8, Value)>, arguments: &[Value]) -> Vec<u8> {
        let mut message = vec![b'l', kind, 0, VERSION];
        let mut body = Vec::new();
        arguments.iter().for_each(|value| value.encode(&mut body));
        message.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        message.extend(1_u32.to_le_bytes());
        let fields = fields
            .into_iter()
            .map(|(code, value)| Value::Struct(vec![Value::Byte(code), Value::variant(value)]));
        Value::Array("(yv)".into(), fields.collect()).encode(&mut message);
        align(&mut message, 8);
        message.extend(body);
        message
    }

    #[test]
    fn a_call_is_laid_out_as_the_specification_says() {
        let bytes = ping(&[Value::text("x")]);
        assert_eq!(bytes[..12], *b"l\x01\x00\x01\x06\0\0\0\x09\0\0\0");
        assert_eq!(bytes.len(), size(&bytes).unwrap().unwrap());
        assert_eq!(bytes.len() % 8, 6);
        assert!(bytes.ends_with(b"\x01\0\0\0x\0"));
        assert_eq!(message(&bytes), Some(Message::Other));
        assert_eq!(size(&bytes[..15]), Ok(None));
    }

    #[test]
    fn an_answer_an_error_and_a_signal_are_told_apart() {
        let signature = || (SIGNATURE, Value::Signature("s".into()));
        let serial = || (REPLY_SERIAL, Value::U32(9));
        let text = [Value::text("t")];
        let answer = message(&sent(METHOD_RETURN, vec![serial(), signature()], &text));
        let Some(Message::Return { to: 9, body }) = answer else {
            unreachable!("{answer:?}")
        };
        assert_eq!(body.texts(), ["t"]);
        let name = (ERROR_NAME, Value::text("e.n"));
        let error = message(&sent(ERROR, vec![serial(), name, signature()], &text));
        assert!(matches!(error, Some(Message::Error { to: 9, name, .. }) if name == "e.n"));
        let fields = vec![
            (PATH, Value::ObjectPath("/p".into())),
            (INTERFACE, Value::text("i")),
            (MEMBER, Value::text("m")),
            (SIGNATURE, Value::Signature("uoss".into())),
        ];
        let values = [
            Value::U32(4),
            Value::ObjectPath("/job/4".into()),
            Value::text("a.scope"),
            Value::text("done"),
        ];
        let signal = message(&sent(SIGNAL, fields, &values));
        let Some(Message::Signal { member, body, .. }) = signal else {
            unreachable!("{signal:?}")
        };
        assert_eq!(member, "m");
        assert_eq!(body.texts(), ["/job/4", "a.scope", "done"]);
    }

    #[test]
    fn whatever_the_bytes_are_nothing_is_read_beyond_them() {
        let fields = vec![
            (REPLY_SERIAL, Value::U32(9)),
            (SIGNATURE, Value::Signature("sv".into())),
        ];
        let values = [Value::text("t"), Value::variant(Value::text("u"))];
        let good = sent(METHOD_RETURN, fields, &values);
        for length in 0..good.len() {
            assert_eq!(message(&good[..length]), None, "{length}");
        }
        for at in 0..good.len() {
            for byte in [0, 1, 4, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = byte;
                if let Ok(Some(size)) = size(&bad)
                    && size <= bad.len()
                    && let Some(Message::Return { body, .. } | Message::Error { body, .. }) =
                        message(&bad)
                {
                    assert!(body.texts().len() <= 2);
                }
            }
        }
    }

    #[test]
    fn a_message_that_claims_to_be_huge_is_refused() {
        let mut bytes = ping(&[]);
        bytes[7] = 0x7f;
        assert!(size(&bytes).is_err());
        assert!(size(&[b'x'; 16]).is_err());
        assert!(size(b"l\x01\0\x02000000000000").is_err());
    }
}
