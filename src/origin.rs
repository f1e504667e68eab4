//! Where a value was given: in config.json, in another file, or on the command line.
//! Every message that names the origin of a value gets its text from here.

use std::borrow::Cow;
use std::fmt;

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A field of config.json, with names joined by dots and indices in brackets.
    Config(Cow<'static, str>),
    /// A field of a file that the command line names, or of standard input.
    File(Box<FileField>),
    /// A flag of the command line.
    Flag(Cow<'static, str>),
    /// A field of config.json, and a flag that adds to it.
    Both(Box<[Origin; 2]>),
}

/// A field of a file that is not config.json.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileField {
    /// The path as it was given, or `stdin`.
    file: String,
    field: String,
}

/// Makes the origin of a value in config.json.
pub(crate) fn config(field: impl Into<Cow<'static, str>>) -> Origin {
    Origin::Config(field.into())
}

/// Makes the origin of a value on the command line.
pub(crate) fn flag(name: impl Into<Cow<'static, str>>) -> Origin {
    Origin::Flag(name.into())
}

impl Origin {
    /// Makes the origin of a value in a file that the command line names, or in `stdin`.
    pub(crate) fn file(file: impl Into<String>, field: impl Into<String>) -> Origin {
        Origin::File(Box::new(FileField {
            file: file.into(),
            field: field.into(),
        }))
    }

    /// Returns the origin as a field of `file`, which has the format of one part of config.json.
    /// `prefix` is the path of that part, and is removed from the field.
    pub(crate) fn in_file(&self, file: &str, prefix: &str) -> Origin {
        match self {
            Origin::Config(field) => {
                Origin::file(file, field.strip_prefix(prefix).unwrap_or(field))
            }
            other => other.clone(),
        }
    }

    /// Returns the field, if the origin is a field of config.json.
    pub(crate) fn config_field(&self) -> Option<&str> {
        match self {
            Origin::Config(field) => Some(field),
            _ => None,
        }
    }

    /// Returns the origin as a JSON pointer (RFC 6901) into config.json, like `/mounts/3/source`.
    pub(crate) fn pointer(&self) -> Option<String> {
        match self {
            Origin::Config(field) => Some(pointer(field)),
            Origin::Both(both) => both.iter().find_map(Origin::pointer),
            Origin::File(_) | Origin::Flag(_) => None,
        }
    }

    /// Describes the operation that the value requires, with the origin:
    /// `mount /dev/mqueue (config.json: mounts[3])`.
    pub(crate) fn asks_to(&self, what: impl fmt::Display) -> String {
        format!("{what} ({self})")
    }
}

/// Finds the config.json field in a text that `Origin::asks_to` made. The child reports a failed
/// operation in this form.
pub(crate) fn field_in(asked: &str) -> Option<&str> {
    let (_, rest) = asked.rsplit_once("(config.json: ")?;
    // A key in brackets may contain a parenthesis. No other part of a field does.
    let end = match rest.rfind("\"])") {
        Some(key) => key + 2,
        None => rest.find(')')?,
    };
    rest.get(..end)
}

/// Converts `linux.namespaces[2].type` to `/linux/namespaces/2/type`. If `field` names two fields,
/// converts the first. For a key that a message cut off, returns the object that contains the key.
fn pointer(field: &str) -> String {
    let mut pointer = String::new();
    let mut rest = field;
    while !rest.is_empty() {
        if let Some(quoted) = rest
            .strip_prefix('[')
            .filter(|inner| inner.starts_with('"'))
        {
            let Some((key, after)) = quoted.split_once("\"]") else {
                break;
            };
            let Ok(key) = serde_json::from_str::<String>(&format!("{key}\"")) else {
                break;
            };
            pointer.push('/');
            pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            rest = after;
            continue;
        }
        let start = rest.trim_start_matches(['.', '[']);
        let end = start.find(['.', '[', ']', ',']).unwrap_or(start.len());
        let (name, after) = start.split_at(end);
        pointer.push('/');
        pointer.push_str(name);
        rest = after.trim_start_matches(']');
        if rest.starts_with(',') {
            break;
        }
    }
    pointer
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Config(field) => write!(f, "config.json: {field}"),
            Origin::File(at) => write!(f, "{}: {}", at.file, at.field),
            Origin::Flag(flag) => f.write_str(flag),
            Origin::Both(both) => {
                let [first, second] = &**both;
                write!(f, "{first} and {second}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_a_pointer_and_is_found_in_the_text_of_its_operation() {
        for (field, expected) in [
            ("ociVersion", "/ociVersion"),
            ("linux.namespaces[2].type", "/linux/namespaces/2/type"),
            (
                "linux.sysctl[\"net/ipv4.x~\"]",
                "/linux/sysctl/net~1ipv4.x~0",
            ),
            ("linux.sysctl[\"a)(\"]", "/linux/sysctl/a)("),
            ("linux.sysctl[\"cut off\"...]", "/linux/sysctl"),
            ("linux.uidMappings, linux.gidMappings", "/linux/uidMappings"),
        ] {
            let origin = config(field);
            assert_eq!(origin.pointer().as_deref(), Some(expected));
            if !field.contains("...") {
                let text = origin.asks_to("mount /a (config.json: b)");
                assert_eq!(field_in(&text), Some(field), "{text}");
            }
        }
        assert_eq!(field_in("set (process.rlimits[0])"), None);
        assert_eq!(flag("--cwd").pointer(), None);
    }

    #[test]
    fn an_origin_reads_as_the_caller_knows_it() {
        let file = Origin::file("stdin", "pids.limit");
        for (origin, expected) in [
            (config("mounts[3].type"), "config.json: mounts[3].type"),
            (file, "stdin: pids.limit"),
            (flag("--cwd"), "--cwd"),
        ] {
            assert_eq!(origin.to_string(), expected);
        }
        assert_eq!(
            config("hostname").asks_to("set the host name"),
            "set the host name (config.json: hostname)"
        );
    }
}
