//! orlop-config(5): how each part of config.json is treated. Where the code has a table, the page
//! shows that table. For all other cases, this module has rows with a sample each. The tests run
//! the code on the samples.

use std::fmt::Write as _;

use crate::plan::mount_options;
use crate::spec::{self, propagation};

/// What happens to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Treatment {
    /// Another value is used instead, without a warning.
    Corrected,
    /// The value has no effect, and a warning is logged.
    Warned,
    /// The value has no effect.
    Ignored,
    /// The configuration is refused.
    Refused,
}

/// A kind of value that gets a special treatment instead of being applied as it is.
struct Row {
    field: &'static str,
    treatment: Treatment,
    text: &'static str,
    /// A JSON object that the test merges into the configuration that `orlop spec` writes.
    #[cfg_attr(not(test), allow(dead_code, reason = "for the tests of this table"))]
    sample: &'static str,
}

const fn row(
    treatment: Treatment,
    field: &'static str,
    text: &'static str,
    sample: &'static str,
) -> Row {
    Row {
        field,
        treatment,
        text,
        sample,
    }
}

use Treatment::{Corrected, Ignored, Refused, Warned};

const ROWS: &[Row] = &[
    row(
        Corrected,
        "any field",
        "null means absent, except in maps with names of one's own (annotations, sysctl, unified).",
        r#"{"hostname": null}"#,
    ),
    row(
        Corrected,
        "linux.resources",
        "names are accepted in any case, as in runc.",
        r#"{"linux": {"resources": {"PIDS": {"Limit": 5}}}}"#,
    ),
    row(
        Corrected,
        "process.user",
        "is root if it is missing.",
        r#"{"process": {"user": {}}}"#,
    ),
    row(
        Corrected,
        "process.scheduler, process.ioPriority, process.execCPUAffinity, linux.intelRdt, linux.personality, linux.seccomp",
        "an empty object means absent.",
        r#"{"linux": {"seccomp": {}}}"#,
    ),
    row(
        Corrected,
        "linux.namespaces[].path",
        "an empty path means a new namespace.",
        r#"{"linux": {"namespaces": [{"type": "mount", "path": ""}]}}"#,
    ),
    row(
        Corrected,
        "linux.resources.devices[].type",
        "an empty type means all types.",
        r#"{"linux": {"resources": {"devices": [{"allow": false, "type": "", "access": "rwm"}]}}}"#,
    ),
    row(
        Corrected,
        "linux.resources.pids",
        "without a limit means no limit.",
        r#"{"linux": {"resources": {"pids": {}}}}"#,
    ),
    row(
        Corrected,
        "linux.resources.hugepageLimits[].limit",
        "above the kernel's largest number means no limit.",
        r#"{"linux": {"resources": {"hugepageLimits": [{"pageSize": "2MB", "limit": 18446744073709551615}]}}}"#,
    ),
    row(
        Corrected,
        "linux.devices[].fileMode",
        "the file type's bits are left out; the field type has it.",
        r#"{"linux": {"devices": [{"type": "c", "path": "/dev/x", "major": 1, "minor": 3, "fileMode": 8630}]}}"#,
    ),
    row(
        Warned,
        "mounts[].destination",
        "a relative path is taken as relative to the container's root.",
        r#"{"mounts": [{"destination": "tmp", "type": "tmpfs", "source": "tmpfs"}]}"#,
    ),
    row(
        Warned,
        "process.capabilities",
        "unknown names; ambient ones that are not both permitted and inheritable; and those that the kernel does not grant to the caller.",
        r#"{"process": {"capabilities": {"bounding": ["CAP_BREW_COFFEE"]}}}"#,
    ),
    row(
        Warned,
        "linux.personality.flags",
        "no flag is defined.",
        r#"{"linux": {"personality": {"domain": "LINUX", "flags": ["X"]}}}"#,
    ),
    row(
        Warned,
        "linux.resources.memory.kernel, linux.resources.memory.kernelTCP",
        "the kernel has no such limit any more.",
        r#"{"linux": {"resources": {"memory": {"kernel": 1000000}}}}"#,
    ),
    row(
        Warned,
        "linux.resources.devices[].access",
        "letters other than r, w and m.",
        r#"{"linux": {"resources": {"devices": [{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rx"}]}}}"#,
    ),
    row(
        Ignored,
        "process.commandLine",
        "is for Windows.",
        r#"{"process": {"commandLine": "x"}}"#,
    ),
    row(
        Refused,
        "ociVersion",
        "a version before 1.0.0 or another major version than 1.",
        r#"{"ociVersion": "2.0.0"}"#,
    ),
    row(
        Refused,
        "hostname, domainname",
        "without a uts namespace of its own, or longer than 64 bytes.",
        r#"{"hostname": "x", "linux": {"namespaces": [{"type": "mount"}]}}"#,
    ),
    row(
        Refused,
        "linux.sysctl",
        "a sysctl that is not of a namespace of the container's own.",
        r#"{"linux": {"sysctl": {"kernel.panic": "1"}}}"#,
    ),
    row(
        Refused,
        "linux.maskedPaths, linux.readonlyPaths",
        "a relative path, and the root itself.",
        r#"{"linux": {"maskedPaths": ["proc/kcore"]}}"#,
    ),
    row(
        Refused,
        "linux.namespaces",
        "the same type twice.",
        r#"{"linux": {"namespaces": [{"type": "mount"}, {"type": "mount"}]}}"#,
    ),
    row(
        Refused,
        "linux.resources.cpu.realtimeRuntime, linux.resources.cpu.realtimePeriod",
        "exist in cgroup v1 only. Zero is accepted.",
        r#"{"linux": {"resources": {"cpu": {"realtimeRuntime": 5}}}}"#,
    ),
    row(
        Refused,
        "linux.resources.memory.swappiness, linux.resources.memory.disableOOMKiller",
        "exist in cgroup v1 only.",
        r#"{"linux": {"resources": {"memory": {"swappiness": 10}}}}"#,
    ),
    row(
        Refused,
        "linux.resources.network, linux.resources.blockIO.leafWeight",
        "exist in cgroup v1 only.",
        r#"{"linux": {"resources": {"network": {"classID": 5}}}}"#,
    ),
];

/// The headings, each with the treatment of its rows.
const PARTS: [(Treatment, &str); 4] = [
    (Corrected, "Corrected"),
    (Warned, "Ignored with a warning"),
    (Ignored, "Ignored"),
    (Refused, "Refused"),
];

/// Returns the text of the topic.
pub(super) fn text() -> String {
    let mut text = include_str!("config.txt").to_owned();
    for (treatment, heading) in PARTS {
        let _ = writeln!(text, "# {heading}");
        for row in ROWS.iter().filter(|row| row.treatment == treatment) {
            let _ = writeln!(text, "- {} :: {}\n", row.field, row.text);
        }
        match treatment {
            Ignored => {
                let names = spec::FOREIGN_PROPERTIES.join(", ");
                let _ = writeln!(
                    text,
                    "- {names} :: at the top level: other platforms' parts.\n"
                );
            }
            Refused => {
                for (place, fields) in spec::REQUIRED_FIELDS {
                    let fields = fields.join(", ");
                    let _ = writeln!(text, "- {place} :: without {fields}.\n");
                }
            }
            Corrected | Warned => {}
        }
    }
    let _ = writeln!(text, "# Mount options\nThese are applied:\n");
    let options = mount_options::supported().join(", ");
    let _ = writeln!(text, "{options}.\n");
    let words: Vec<&str> = propagation::words().collect();
    let _ = writeln!(
        text,
        "Of these, {} set the propagation. Any other word is data for the file system.",
        words.join(", ")
    );
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::Value;

    use super::*;
    use crate::cgroup::plan_limits;

    fn merge(into: &mut Value, patch: Value) {
        match patch {
            Value::Object(patch) if into.is_object() => {
                let into = into.as_object_mut().unwrap();
                for (key, value) in patch {
                    match into.get_mut(&key) {
                        Some(old) if old.is_object() && value.is_object() => merge(old, value),
                        _ => {
                            into.insert(key, value);
                        }
                    }
                }
            }
            patch => *into = patch,
        }
    }

    /// Returns whether the configuration is refused, and the number of its warnings.
    fn outcome(config: &Value) -> (bool, usize) {
        let name = format!("orlop-config-{:?}", std::thread::current().id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, config.to_string()).unwrap();
        let loaded = spec::load_config(&file);
        std::fs::remove_file(&file).unwrap();
        let Ok(loaded) = loaded else {
            return (true, 0);
        };
        let linux = loaded.spec.linux().as_ref().unwrap();
        match plan_limits(linux.resources().as_ref()) {
            Ok(limits) => (
                !loaded.violations.is_empty(),
                loaded.warnings.len() + limits.warnings.len(),
            ),
            Err(_) => (true, 0),
        }
    }

    #[test]
    fn each_row_says_what_happens_to_its_sample() {
        let base = include_str!("../cmd/spec/template.json");
        let blanks = [
            ("@tty_group@", ""),
            ("@sys@", r#""type": "sysfs", "source": "sysfs""#),
            ("@ids_or_devices@", r#""resources": {}"#),
            ("@network@", ""),
            ("@user@", ""),
        ];
        let base = blanks.iter().fold(base.to_owned(), |base, (blank, with)| {
            base.replace(blank, with)
        });
        let base: Value = serde_json::from_str(&base).unwrap();
        assert_eq!(outcome(&base), (false, 0));
        for row in ROWS {
            let mut config = base.clone();
            merge(&mut config, serde_json::from_str(row.sample).unwrap());
            if let Some(hostname) = config.get_mut("hostname")
                && row.sample.contains("namespaces")
                && !row.sample.contains("hostname")
            {
                *hostname = Value::Null;
            }
            let (refused, warnings) = outcome(&config);
            let said = match row.treatment {
                Corrected | Ignored => (false, 0),
                Warned => (false, 1),
                Refused => (true, 0),
            };
            let found = (refused, if refused { 0 } else { warnings });
            assert_eq!(found, said, "{}: {}", row.field, row.sample);
        }
    }
}
