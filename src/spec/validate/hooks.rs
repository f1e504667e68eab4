//! Rules of `hooks`. Their programs aren't looked up, because some exist only in the container.

use std::path::Path;

use oci_spec::runtime::{Hook, Spec};

use super::check_absolute;
use super::process::{reason_if_not_passable, reason_if_not_variable};
use crate::error::Findings;

/// Checks all hooks, in the order of a container's lifecycle.
#[allow(deprecated, reason = "prestart is still in use")]
pub(super) fn check(spec: &Spec, found: &mut Findings) {
    let Some(hooks) = spec.hooks() else { return };
    for (kind, list) in [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ] {
        for (index, entry) in list.iter().flatten().enumerate() {
            check_hook(entry, &format!("hooks.{kind}[{index}]"), found);
        }
    }
}

fn check_hook(hook: &Hook, place: &str, found: &mut Findings) {
    let path: &Path = hook.path();
    check_absolute(&format!("{place}.path"), path, found);
    for (index, arg) in hook.args().iter().flatten().enumerate() {
        if let Some(problem) = reason_if_not_passable(arg) {
            found.refuse(format!("{place}.args[{index}]"), problem);
        }
    }
    for (index, variable) in hook.env().iter().flatten().enumerate() {
        if let Some(problem) = reason_if_not_variable(variable) {
            found.refuse(format!("{place}.env[{index}]"), problem);
        }
    }
    if let Some(seconds) = hook.timeout().filter(|seconds| *seconds <= 0) {
        let problem = format!("{seconds} is not a positive number of seconds");
        found.refuse(format!("{place}.timeout"), problem);
    }
}
