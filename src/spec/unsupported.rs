//! The one table of known properties that aren't done yet: asked for with an effect, they are refused by name, never ignored.
//! Not unknown properties, which the specification wants ignored.

use std::os::fd::AsFd;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use serde_json::Value;

use super::validate::quoted;
use crate::error::Violation;
use crate::sys::path;

/// Section and property.
const FIELDS: &[(&str, &str)] = &[
    ("process", "apparmorProfile"),
    ("process", "selinuxLabel"),
    ("linux", "netDevices"),
    ("linux", "intelRdt"),
];

/// SELINUX_MAGIC of linux/magic.h.
const SELINUX_MAGIC: i64 = 0xf97c_ff8c;

/// Finds what a tree asks for and isn't done; `selinux` is asked only if there is a mount label.
pub(super) fn find(
    tree: &Value,
    selinux: impl FnOnce() -> bool,
    warnings: &mut Vec<String>,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut refuse = |place: String| violations.push(Violation::new(place, "not supported yet"));
    for (section, field) in FIELDS {
        let value = tree.get(*section).and_then(|section| section.get(*field));
        if value.is_some_and(has_effect) {
            refuse(format!("{section}.{field}"));
        }
    }
    let linux = tree.get("linux");
    if let Some(Value::String(label)) = linux.and_then(|linux| linux.get("mountLabel"))
        && !label.is_empty()
    {
        if selinux() {
            refuse("linux.mountLabel".into());
        } else {
            warnings.push(format!(
                "linux.mountLabel: {} is ignored: SELinux is off",
                quoted(label)
            ));
        }
    }
    violations
}

/// True unless the value says nothing, as engines write it: `""`, `[]`, `{}`, null.
fn has_effect(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

/// True if SELinux is on: its file system is there, whatever the mode.
pub(super) fn selinux_is_on() -> bool {
    open(
        Path::new("/sys/fs/selinux"),
        OFlag::O_PATH | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .is_ok_and(|dir| path::filesystem(dir.as_fd()) == Ok(SELINUX_MAGIC))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(tree: &Value) -> Vec<String> {
        let violations = find(tree, || true, &mut Vec::new());
        violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_property_of_the_table_is_refused_by_name() {
        for (section, field) in FIELDS {
            for value in [json!("x"), json!(["x"]), json!({"x": 1})] {
                assert_eq!(
                    refused(&json!({ *section: { *field: value } })),
                    [format!("config.json: {section}.{field}: not supported yet")]
                );
            }
        }
    }

    #[test]
    fn empty_values_are_no_request() {
        for (section, field) in FIELDS {
            for value in [json!(""), json!([]), json!({}), json!(null)] {
                assert!(refused(&json!({ *section: { *field: value } })).is_empty());
            }
        }
        let tree =
            json!({"hooks": {}, "mounts": [{"uidMappings": []}], "linux": {"mountLabel": ""}});
        assert!(refused(&tree).is_empty());
    }

    #[test]
    fn a_mount_label_is_refused_only_where_selinux_is_on() {
        let tree = json!({"linux": {"mountLabel": "u:r:t"}});
        assert_eq!(
            refused(&tree),
            ["config.json: linux.mountLabel: not supported yet"]
        );
        let mut warnings = Vec::new();
        assert_eq!(find(&tree, || false, &mut warnings), []);
        assert_eq!(
            warnings,
            ["linux.mountLabel: \"u:r:t\" is ignored: SELinux is off"]
        );
    }
}
