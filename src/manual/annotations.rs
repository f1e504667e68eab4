//! orlop-annotations(7): the annotations that have an effect, from the tables of those who read
//! them.

use std::fmt::Write as _;

use crate::cgroup::scope_property_names;
use crate::launch::images::CONFIG;
use crate::plan::process::KEEP_GROUPS;

/// The text of the topic.
pub(super) fn text() -> String {
    let mut text = include_str!("annotations.txt").to_owned();
    let rows = [
        (
            KEEP_GROUPS,
            "If it is 1, the process keeps the groups of orlop's caller. A user needs this to reach files by such a group.",
        ),
        (
            CONFIG,
            "A file with options of CRIU, for `checkpoint` and `restore`. It wins over the command line. If it is empty, no file is read.",
        ),
        (
            "org.systemd.property.NAME",
            "A property of the container's scope, with the systemd driver. The value is in the text format of GVariant. A time may be given in seconds by the name that ends in Sec. Only the properties below are accepted.",
        ),
    ];
    for (name, meaning) in rows {
        let _ = writeln!(text, "- {name} :: {meaning}\n");
    }
    let names: Vec<&str> = scope_property_names().collect();
    let _ = writeln!(text, "# Properties of a scope\n{}.", names.join(", "));
    text
}
