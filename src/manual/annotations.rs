//! The manual page orlop-annotations(7): the annotations that have an effect.
//! The lists come from the tables of the modules that apply the annotations.

use std::fmt::Write as _;

use crate::annotations::TABLE;
use crate::cgroup::scope_property_names;
use crate::launch::images::CONFIG;

/// Returns the text of the page.
pub(super) fn text() -> String {
    let mut text = include_str!("annotations.txt").to_owned();
    let rows = [
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
    let _ = writeln!(text, "# Annotations of crun\n");
    for row in &TABLE {
        let refused = if row.is_refused { "refused: " } else { "" };
        let (name, value, about) = (row.name, row.value, row.about);
        let _ = writeln!(text, "- {name} :: {value}: {refused}{about}.\n");
    }
    let names: Vec<&str> = scope_property_names().collect();
    let _ = writeln!(text, "# Properties of a scope\n{}.", names.join(", "));
    text
}
