//! The report of `doctor`: what a host offers. It can be written and read as JSON.
//! `cmd::doctor` lays it out as text.

use serde::{Deserialize, Serialize};

/// The version of the format. A reader refuses newer versions.
pub(crate) const VERSION: u32 = 1;

/// What a host offers to one caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) version: u32,
    /// The version of orlop that made the report.
    pub(crate) orlop: String,
    /// The release of the kernel, from uname(2).
    pub(crate) kernel: String,
    /// The architecture of the machine, from uname(2), like `x86_64`.
    pub(crate) architecture: String,
    /// The effective user id of the caller, for whom the report holds.
    pub(crate) uid: u32,
    /// True if this caller can run containers, because no needed item is missing.
    pub(crate) containers: bool,
    pub(crate) items: Vec<Item>,
}

/// One property of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    /// The section and the name of the property, with a dot in between: `cgroup.memory`. Each id
    /// occurs at most once. A property that can't be tried or has no meaning on a host has no item.
    pub(crate) id: String,
    pub(crate) status: Status,
    /// What was found: a version, a path, a value, or an error of the kernel. May be empty.
    pub(crate) found: String,
    /// What the status means for containers; absent for `Ok`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) means: Option<String>,
    /// The command or the file that changes the status; absent for `Ok`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// True if this caller can't run containers without the property.
    pub(crate) needed: bool,
}

/// Whether a property is available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Ok,
    /// Available only for some purposes or some callers.
    Limited,
    Missing,
}

impl Status {
    /// Returns the word for the status, which is the same in the text and in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Limited => "limited",
            Status::Missing => "missing",
        }
    }
}

impl Item {
    /// Makes an item for an available property.
    pub(crate) fn ok(id: impl Into<String>, found: impl Into<String>) -> Item {
        Item {
            id: id.into(),
            status: Status::Ok,
            found: found.into(),
            means: None,
            hint: None,
            needed: false,
        }
    }

    /// Makes an item with another status, with its meaning and what changes it.
    pub(crate) fn lacking(
        id: impl Into<String>,
        status: Status,
        found: impl Into<String>,
        (means, hint): (&str, &str),
    ) -> Item {
        Item {
            status,
            means: Some(means.into()),
            hint: Some(hint.into()),
            ..Item::ok(id, found)
        }
    }

    /// Sets whether containers need the property.
    pub(crate) fn needed(mut self, needed: bool) -> Item {
        self.needed = needed;
        self
    }

    /// Returns the section and the name.
    pub(crate) fn names(&self) -> (&str, &str) {
        self.id.split_once('.').unwrap_or(("", &self.id))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report = Report {
            version: VERSION,
            orlop: "0.1.0".into(),
            kernel: "6.1.0".into(),
            architecture: "x86_64".into(),
            uid: 0,
            containers: true,
            items: vec![
                Item::ok("kernel.openat2", "").needed(true),
                Item::lacking("lsm.apparmor", Status::Missing, "off", ("a", "b")),
            ],
        };
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        assert_eq!(report.items.last().unwrap().names(), ("lsm", "apparmor"));
    }
}
