//! The report of `doctor`: what a host offers, as it is printed and read as JSON.
//! The probes fill it in. Not its layout for people: that is `cmd::doctor`.

use serde::{Deserialize, Serialize};

/// The version of the format. A reader refuses newer versions.
pub(crate) const VERSION: u32 = 1;

/// What a host offers to one caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) version: u32,
    /// The version of orlop that made the report.
    pub(crate) orlop: String,
    /// The release of the kernel, as uname(2) tells it.
    pub(crate) kernel: String,
    /// The machine's architecture, as uname(2) tells it: `x86_64`.
    pub(crate) architecture: String,
    /// The effective user id of the caller, for whom the report holds.
    pub(crate) uid: u32,
    /// True if this caller can run containers: no item that is needed is missing.
    pub(crate) containers: bool,
    pub(crate) items: Vec<Item>,
}

/// One property of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    /// The section and the name of the property, with a dot in between: `cgroup.memory`. Each id
    /// occurs at most once. It is absent where it can't be tried, or has no meaning.
    pub(crate) id: String,
    pub(crate) status: Status,
    /// What was found: a version, a path, a value, an error of the kernel. It may be empty.
    pub(crate) found: String,
    /// What the status means for containers; absent for `Ok`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) means: Option<String>,
    /// The command or the file that changes the status; absent for `Ok`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// True if this caller can't run containers without it.
    pub(crate) needed: bool,
}

/// Whether a property is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Ok,
    /// There for some purposes or some callers.
    Limited,
    Missing,
}

impl Status {
    /// The word for people, as in the JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Limited => "limited",
            Status::Missing => "missing",
        }
    }
}

impl Item {
    /// An item that is there.
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

    /// An item with another status, what that means, and what changes it.
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

    /// Makes the item one that containers need.
    pub(crate) fn needed(mut self, needed: bool) -> Item {
        self.needed = needed;
        self
    }

    /// The section and the name.
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
