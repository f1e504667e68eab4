//! A stand-in for systemd on its own bus. It records the runtime's calls and replies as told.
//! The tests with the real systemd are in `systemd`.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// How the stand-in replies to calls.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As systemd would.
    Well,
    /// As systemd would, but each time after this delay.
    Slowly(Duration),
    /// Accepts connections and never replies.
    Never,
    /// The unit exists already; true: until ResetFailedUnit is called.
    Exists(bool),
    /// Replies with an error of this name and text.
    Refusing(&'static str, &'static str),
    /// As systemd would, but the job ends with this result and no scope is made.
    JobEnds(&'static str),
    /// As systemd would, but the process is not moved to the scope.
    WithoutMoving,
}

/// A call: its member (method name) and its arguments.
pub(crate) type Call = (String, Value);

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    manner: Option<Manner>,
    units: Vec<String>,
    /// The owner of the scopes' cgroups; `None` is root.
    user: Option<u32>,
    /// The parent cgroup of the scopes.
    parent: PathBuf,
    /// The number of calls without a reply yet.
    busy: usize,
}

/// The stand-in. It runs until the test's process exits.
pub(crate) struct Systemd {
    /// The value for `$DBUS_SYSTEM_BUS_ADDRESS`.
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
}

impl Systemd {
    /// Listens in a directory. Scopes are made in the cgroup `parent`.
    pub(crate) fn start(dir: &Path, parent: PathBuf, manner: Manner) -> Systemd {
        let path = dir.join("bus");
        let listener = UnixListener::bind(&path).unwrap();
        let state = Arc::new(Mutex::new(State {
            manner: Some(manner),
            parent,
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || {
                    // If the connection closes, stop serving it.
                    let _ = serve(stream.unwrap(), &state);
                });
            }
        });
        Systemd {
            address: format!("unix:path={}", path.display()),
            state,
        }
    }

    /// Acts as this user's systemd instance: the user owns the scopes and may request them.
    pub(crate) fn of_user(&self, user: u32) {
        self.state.lock().unwrap().user = Some(user);
        let path = self.address.trim_start_matches("unix:path=");
        std::os::unix::fs::lchown(path, Some(user), None).unwrap();
    }

    /// Makes scopes in this cgroup from now on.
    pub(crate) fn make_scopes_in(&self, parent: &Path) {
        self.state.lock().unwrap().parent = parent.to_owned();
    }

    /// Forgets scopes without processes, as systemd does by itself.
    pub(crate) fn collect(&self) {
        let mut state = self.state.lock().unwrap();
        let parent = state.parent.clone();
        // A cgroup with processes in it can't be removed.
        state.units.retain(|unit| {
            let cgroup = parent.join(unit);
            cgroup.exists() && fs::remove_dir(cgroup).is_err()
        });
    }

    /// Replies in another manner from now on.
    pub(crate) fn behave(&self, manner: Manner) {
        self.state.lock().unwrap().manner = Some(manner);
    }

    /// The calls to systemd so far, without calls to the bus itself.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state.lock().unwrap().calls.clone()
    }

    /// Whether all calls have had a reply.
    pub(crate) fn idle(&self) -> bool {
        self.state.lock().unwrap().busy == 0
    }

    /// The members of `calls`.
    pub(crate) fn members(&self) -> Vec<String> {
        self.calls().into_iter().map(|(member, _)| member).collect()
    }

    /// The values of a property in the first call with this member.
    pub(crate) fn property(&self, member: &str, name: &str) -> Vec<Value> {
        let calls = self.calls();
        let (_, arguments) = calls.iter().find(|(m, _)| m == member).expect(member);
        let properties = arguments.as_array().unwrap()[2].as_array().unwrap();
        let named = properties.iter().filter(|pair| pair[0] == name);
        named.map(|pair| pair[1].clone()).collect()
    }
}

fn serve(mut stream: UnixStream, state: &Mutex<State>) -> std::io::Result<()> {
    if state.lock().unwrap().manner == Some(Manner::Never) {
        stream.read_to_end(&mut Vec::new())?;
        return Ok(());
    }
    let mut greeting = [0; 29];
    stream.read_exact(&mut greeting)?;
    assert_eq!(&greeting, b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n");
    stream.write_all(b"DATA\r\nOK 0123456789abcdef\r\n")?;
    loop {
        let call = read_message(&mut stream)?;
        if call.destination == "org.freedesktop.DBus" {
            let name = if call.member == "Hello" {
                Some(json!(":1.1"))
            } else {
                None
            };
            stream.write_all(&answer(call.serial, "s", name.as_ref()))?;
            continue;
        }
        assert_eq!(call.destination, "org.freedesktop.systemd1");
        let manner = {
            let mut state = state.lock().unwrap();
            state.busy += 1;
            state
                .calls
                .push((call.member.clone(), call.arguments.clone()));
            state.manner.clone().unwrap()
        };
        if let Manner::Slowly(pause) = manner {
            std::thread::sleep(pause);
        }
        let replies = act(&call, manner, state);
        state.lock().unwrap().busy -= 1;
        for reply in replies {
            stream.write_all(&reply)?;
        }
    }
}

/// Carries out a call and returns the replies.
fn act(call: &Message, manner: Manner, state: &Mutex<State>) -> Vec<Vec<u8>> {
    let refused = |name: &str, text: &str| {
        let name = format!("org.freedesktop.systemd1.{name}");
        vec![error(call.serial, &name, text)]
    };
    let unit = call.arguments[0].as_str().unwrap_or_default().to_owned();
    let job = json!(format!("/org/freedesktop/systemd1/job/{}", call.serial));
    let ended = |result: &str| {
        let removed = json!([1, job, unit, result]);
        vec![
            answer(call.serial, "o", Some(&job)),
            signal("JobRemoved", "uoss", &removed),
        ]
    };
    let cgroup = state.lock().unwrap().parent.join(&unit);
    match (call.member.as_str(), manner) {
        (_, Manner::Refusing(name, text)) => refused(name, text),
        ("StartTransientUnit", Manner::Exists(_)) => {
            refused("UnitExists", "Unit was already loaded.")
        }
        ("StartTransientUnit", Manner::JobEnds(result)) => ended(result),
        ("StartTransientUnit", manner) => {
            state.lock().unwrap().units.push(unit.clone());
            if manner != Manner::WithoutMoving {
                // Like systemd, use the cgroup if it exists already.
                fs::create_dir_all(&cgroup).unwrap();
                let properties = call.arguments[2].as_array().unwrap();
                let pids = properties.iter().find(|pair| pair[0] == "PIDs").unwrap();
                let pid = pids[1][0].to_string();
                if fs::write(cgroup.join("cgroup.procs"), pid).is_err() {
                    fs::remove_dir(&cgroup).unwrap();
                    return refused("BadUnitSetting", "No such process.");
                }
                if let Some(user) = state.lock().unwrap().user {
                    let files = fs::read_dir(&cgroup)
                        .unwrap()
                        .map(|file| file.unwrap().path());
                    for path in files.chain([cgroup.clone()]) {
                        std::os::unix::fs::lchown(path, Some(user), None).unwrap();
                    }
                }
            }
            ended("done")
        }
        ("AttachProcessesToUnit", _) => {
            let below = call.arguments[1].as_str().unwrap().trim_start_matches('/');
            let pid = call.arguments[2][0].to_string();
            fs::write(cgroup.join(below).join("cgroup.procs"), pid).unwrap();
            vec![answer(call.serial, "", None)]
        }
        ("StopUnit", _) => {
            if !state.lock().unwrap().units.contains(&unit) {
                return refused("NoSuchUnit", "Unit not loaded.");
            }
            state.lock().unwrap().units.retain(|known| *known != unit);
            let _ = fs::remove_dir(cgroup);
            ended("done")
        }
        ("ResetFailedUnit", Manner::Exists(true)) => {
            state.lock().unwrap().manner = Some(Manner::Well);
            vec![answer(call.serial, "", None)]
        }
        ("Get", _) => {
            let state = state.lock().unwrap();
            let text = match (&call.arguments[0], &call.arguments[1]) {
                (_, name) if name == "Version" => "257.9-1".to_owned(),
                (interface, _) if interface == "org.freedesktop.systemd1.Manager" => {
                    below_root(&state.parent)
                }
                _ => {
                    let unit = state.units.iter().find(|unit| object(unit) == call.path);
                    unit.map_or(String::new(), |unit| below_root(&state.parent.join(unit)))
                }
            };
            vec![answer(call.serial, "v", Some(&json!(text)))]
        }
        _ => vec![answer(call.serial, "", None)],
    }
}

/// The path of a cgroup relative to the root of the hierarchy.
fn below_root(dir: &Path) -> String {
    let mount = super::kernel::cgroup2_mount().unwrap();
    format!("/{}", dir.strip_prefix(mount).unwrap().display())
}

/// The object path of a unit, escaped as systemd does.
fn object(unit: &str) -> String {
    let escaped = unit.bytes().map(|byte| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("_{byte:02x}"),
    });
    "/org/freedesktop/systemd1/unit/".to_owned() + &escaped.collect::<String>()
}

/// A received message.
#[derive(Default)]
struct Message {
    path: String,
    serial: u32,
    destination: String,
    member: String,
    arguments: Value,
}

fn read_message(stream: &mut UnixStream) -> std::io::Result<Message> {
    let mut bytes = vec![0; 16];
    stream.read_exact(&mut bytes)?;
    assert_eq!((bytes[0], bytes[1], bytes[3]), (b'l', 1, 1));
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (body, serial, fields) = (number(4), number(8), number(12));
    let start = (16 + fields as usize).next_multiple_of(8);
    bytes.resize(start + body as usize, 0);
    stream.read_exact(&mut bytes[16..])?;
    let mut at = 12;
    let header = decode(&bytes, &mut at, "a(yv)").0;
    let field = |code: u32| {
        let found = header
            .as_array()
            .unwrap()
            .iter()
            .find(|field| field[0] == code);
        found
            .map_or("", |field| field[1].as_str().unwrap())
            .to_owned()
    };
    let mut signature = &*field(8);
    let mut arguments = Vec::new();
    at = start;
    while !signature.is_empty() {
        let (value, rest) = decode(&bytes, &mut at, signature);
        arguments.push(value);
        signature = rest;
    }
    assert_eq!(at, bytes.len(), "bytes that no argument has");
    Ok(Message {
        path: field(1),
        serial,
        destination: field(6),
        member: field(3),
        arguments: Value::Array(arguments),
    })
}

/// Decodes a value of the first type of a signature. Returns the rest of the signature as well.
fn decode<'a>(bytes: &[u8], at: &mut usize, signature: &'a str) -> (Value, &'a str) {
    let rest = &signature[1..];
    let align = |at: &mut usize, to: usize| *at = at.next_multiple_of(to);
    let number = |at: &mut usize, size: usize| {
        align(at, size);
        let mut all = [0; 8];
        all[..size].copy_from_slice(&bytes[*at..*at + size]);
        *at += size;
        u64::from_le_bytes(all)
    };
    let text = |at: &mut usize, length: usize| {
        let text = std::str::from_utf8(&bytes[*at..*at + length])
            .unwrap()
            .to_owned();
        assert_eq!(bytes[*at + length], 0);
        *at += length + 1;
        text
    };
    let value = match signature.as_bytes()[0] {
        b'y' => json!(number(at, 1)),
        b'b' => json!(number(at, 4) == 1),
        b'n' | b'q' => json!(number(at, 2)),
        b'i' | b'u' => json!(number(at, 4)),
        b'x' | b't' => json!(number(at, 8)),
        b's' | b'o' => {
            let length = number(at, 4) as usize;
            json!(text(at, length))
        }
        b'g' => {
            let length = number(at, 1) as usize;
            json!(text(at, length))
        }
        b'v' => {
            let length = number(at, 1) as usize;
            let inner = text(at, length);
            let (value, rest) = decode(bytes, at, &inner);
            assert_eq!(rest, "");
            value
        }
        b'a' => {
            let length = number(at, 4) as usize;
            let element = one(rest);
            align(
                at,
                if element.starts_with(['(', 't', 'x']) {
                    8
                } else {
                    1
                },
            );
            let end = *at + length;
            let mut values = Vec::new();
            while *at < end {
                values.push(decode(bytes, at, element).0);
            }
            assert_eq!(*at, end);
            return (Value::Array(values), &rest[element.len()..]);
        }
        b'(' => {
            align(at, 8);
            let mut inner = rest;
            let mut fields = Vec::new();
            while !inner.starts_with(')') {
                let (value, rest) = decode(bytes, at, inner);
                fields.push(value);
                inner = rest;
            }
            return (Value::Array(fields), &inner[1..]);
        }
        other => panic!("type {:?}", char::from(other)),
    };
    (value, rest)
}

/// The first type of a signature.
fn one(signature: &str) -> &str {
    match signature.as_bytes()[0] {
        b'a' => &signature[..1 + one(&signature[1..]).len()],
        b'(' => {
            let mut depth = 0;
            let end = signature.find(|c| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                depth == 0
            });
            &signature[..=end.unwrap()]
        }
        _ => &signature[..1],
    }
}

fn answer(to: u32, signature: &str, value: Option<&Value>) -> Vec<u8> {
    let Some(value) = value else {
        return message(2, &[reply_serial(to)], &[]);
    };
    let mut body = Vec::new();
    if signature == "v" {
        body.extend(b"\x01s\0\0");
    }
    put(&mut body, value);
    message(2, &[reply_serial(to), text_field(8, 'g', signature)], &body)
}

fn error(to: u32, name: &str, text: &str) -> Vec<u8> {
    let mut body = Vec::new();
    put(&mut body, &json!(text));
    let fields = [
        reply_serial(to),
        text_field(4, 's', name),
        text_field(8, 'g', "s"),
    ];
    message(3, &fields, &body)
}

fn signal(member: &str, signature: &str, values: &Value) -> Vec<u8> {
    let mut body = Vec::new();
    values
        .as_array()
        .unwrap()
        .iter()
        .for_each(|value| put(&mut body, value));
    let fields = [
        text_field(1, 'o', "/org/freedesktop/systemd1"),
        text_field(2, 's', "org.freedesktop.systemd1.Manager"),
        text_field(3, 's', member),
        text_field(8, 'g', signature),
    ];
    message(4, &fields, &body)
}

fn message(kind: u8, fields: &[Vec<u8>], body: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    for field in fields {
        header.resize(header.len().next_multiple_of(8), 0);
        header.extend(field);
    }
    let mut message = vec![b'l', kind, 0, 1];
    message.extend((body.len() as u32).to_le_bytes());
    message.extend(1_u32.to_le_bytes());
    message.extend((header.len() as u32).to_le_bytes());
    message.extend(header);
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend(body);
    message
}

fn reply_serial(serial: u32) -> Vec<u8> {
    let mut field = vec![5, 1, b'u', 0];
    field.extend(serial.to_le_bytes());
    field
}

fn text_field(code: u8, kind: char, text: &str) -> Vec<u8> {
    let mut field = vec![code, 1, kind as u8, 0];
    if kind == 'g' {
        field.push(text.len() as u8);
    } else {
        field.extend((text.len() as u32).to_le_bytes());
    }
    field.extend(text.as_bytes());
    field.push(0);
    field
}

/// Encodes a number as u32 and a text as a string.
fn put(body: &mut Vec<u8>, value: &Value) {
    body.resize(body.len().next_multiple_of(4), 0);
    match value {
        Value::String(text) => {
            body.extend((text.len() as u32).to_le_bytes());
            body.extend(text.as_bytes());
            body.push(0);
        }
        number => body.extend((number.as_u64().unwrap() as u32).to_le_bytes()),
    }
}

/// Checks the stand-in's codec against the crate zvariant.
#[cfg(test)]
mod witness {
    use zvariant::serialized::{Context, Data};
    use zvariant::{LE, ObjectPath, Signature, Value, to_bytes};

    use super::*;

    type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Value<'a>)>);

    const CONTEXT: fn() -> Context = || Context::new_dbus(LE, 0);

    #[test]
    fn the_stand_in_reads_what_zvariant_writes() {
        let nothing = Vec::<(&str, Vec<(&str, Value<'_>)>)>::new();
        let properties = vec![
            ("PIDs", Value::from(vec![1_u32, 2])),
            ("Delegate", Value::from(true)),
            ("CPUWeight", Value::from(77_u64)),
            ("Description", Value::from("container x")),
            ("DeviceAllow", Value::from(vec![("/dev/null", "rwm")])),
            ("CPUs", Value::from(vec![3_u8, 255])),
        ];
        let body = to_bytes(CONTEXT(), &("a.scope", "fail", properties, nothing)).unwrap();
        let fields = vec![
            (1, ObjectPath::try_from("/a/b").unwrap().into()),
            (3, Value::from("StartTransientUnit")),
            (6, Value::from("org.freedesktop.systemd1")),
            (8, Signature::try_from("ssa(sv)a(sa(sv))").unwrap().into()),
        ];
        let length = body.bytes().len() as u32;
        let header: Header<'_> = (b'l', 1, 0, 1, length, 5, fields);
        let mut bytes = to_bytes(CONTEXT(), &header).unwrap().bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend(body.bytes());
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&bytes).unwrap();
        let read = read_message(&mut ours).unwrap();
        assert_eq!((read.path.as_str(), read.serial), ("/a/b", 5));
        assert_eq!(read.member, "StartTransientUnit");
        assert_eq!(read.destination, "org.freedesktop.systemd1");
        let properties = json!([
            ["PIDs", [1, 2]],
            ["Delegate", true],
            ["CPUWeight", 77],
            ["Description", "container x"],
            ["DeviceAllow", [["/dev/null", "rwm"]]],
            ["CPUs", [3, 255]],
        ]);
        // zvariant encodes several arguments as one structure, which has the same layout.
        let arguments = json!([["a.scope", "fail", properties, []]]);
        assert_eq!(read.arguments, arguments);
    }

    /// The header of a message, and its body.
    fn parts(bytes: &[u8]) -> (Header<'static>, Vec<u8>) {
        let data = Data::new(bytes.to_vec(), CONTEXT());
        let (header, length): (Header<'_>, usize) = data.deserialize().unwrap();
        let fields = header.6.iter();
        let fields = fields.map(|(code, value)| (*code, value.try_to_owned().unwrap().into()));
        let (kind, body) = (header.1, header.4);
        let header = (
            header.0,
            kind,
            header.2,
            header.3,
            body,
            header.5,
            fields.collect(),
        );
        let start = length.next_multiple_of(8);
        assert_eq!(bytes.len(), start + body as usize);
        (header, bytes[start..].to_vec())
    }

    #[test]
    fn zvariant_reads_what_the_stand_in_writes() {
        let field = |header: &Header<'_>, code: u8| {
            let found = header.6.iter().find(|(known, _)| *known == code);
            found.map(|(_, value)| value.to_string())
        };
        let (header, body) = parts(&answer(7, "v", Some(&json!("/a.scope"))));
        assert_eq!((header.0, header.1, header.3), (b'l', 2, 1));
        assert_eq!(field(&header, 5).as_deref(), Some("uint32 7"));
        let body = Data::new(body, CONTEXT());
        let (value, _): (Value<'_>, usize) = body.deserialize().unwrap();
        assert_eq!(value, Value::from("/a.scope"));

        let (header, body) = parts(&error(8, "a.b.Refused", "no"));
        assert_eq!(header.1, 3);
        assert_eq!(field(&header, 4).as_deref(), Some("\"a.b.Refused\""));
        let body = Data::new(body, CONTEXT());
        assert_eq!(body.deserialize::<&str>().unwrap().0, "no");

        let removed = json!([1, "/job/1", "a.scope", "done"]);
        let (header, body) = parts(&signal("JobRemoved", "uoss", &removed));
        assert_eq!(header.1, 4);
        assert_eq!(field(&header, 3).as_deref(), Some("\"JobRemoved\""));
        let body = Data::new(body, CONTEXT());
        let ((id, job, unit, result), _): ((u32, ObjectPath<'_>, &str, &str), usize) =
            body.deserialize().unwrap();
        assert_eq!(
            (id, job.as_str(), unit, result),
            (1, "/job/1", "a.scope", "done")
        );
    }
}
