//! The host's settings that keep users from making user namespaces.
//! They are read only after the kernel has refused something, to explain the refusal.

use crate::sys::process;
use crate::sys::procfs::Procfs;

/// The settings: a file below /proc, the value that forbids user namespaces, and the hint.
const SETTINGS: [(&str, &str, &str); 3] = [
    (
        "sys/kernel/unprivileged_userns_clone",
        "0",
        "sysctl -w kernel.unprivileged_userns_clone=1: this host allows no user namespaces to users",
    ),
    (
        "sys/user/max_user_namespaces",
        "0",
        "sysctl -w user.max_user_namespaces=15000: this host allows no user namespaces",
    ),
    (
        "sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "an AppArmor profile for orlop with `userns,`, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
];

/// Returns the hint about the first setting that restricts the caller. Returns `None` for root.
pub(super) fn restriction() -> Option<&'static str> {
    if process::effective_uid() == 0 {
        return None;
    }
    let proc = Procfs::open().ok()?;
    let forbids = |(file, value, _): &&(&str, &str, &str)| {
        let found = proc.read(file);
        found.is_ok_and(|found| found.trim() == *value)
    };
    SETTINGS.iter().find(forbids).map(|(_, _, hint)| *hint)
}
