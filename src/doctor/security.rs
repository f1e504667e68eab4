//! Probes of seccomp and of the security modules.

use nix::sched::CloneFlags;

use super::attempt::attempt;
use super::report::{Item, Status};
use super::{line, tried};
use crate::lsm::HOST_MODULES;
use crate::plan::seccomp;
use crate::sys::Errno;
use crate::sys::process::set_no_new_privs;
use crate::sys::seccomp::{
    FILTER_FLAG_NEW_LISTENER, Instruction, RETURN, SECCOMP_RET_ALLOW, set_filter,
};

/// All items about seccomp and security modules.
pub(super) fn items() -> Vec<Item> {
    let mut items = filters();
    items.extend(modules());
    items
}

/// Installs a filter that allows all system calls, in a child process.
fn install(flags: u32) -> Result<(), Errno> {
    let allow_all = [Instruction {
        code: RETURN,
        jt: 0,
        jf: 0,
        k: SECCOMP_RET_ALLOW,
    }];
    attempt(CloneFlags::empty(), || {
        set_no_new_privs()?;
        set_filter(&allow_all, flags).map(drop)
    })
}

fn filters() -> Vec<Item> {
    let texts = (
        "containers with linux.seccomp are refused",
        "a kernel with CONFIG_SECCOMP_FILTER",
    );
    let mut items = vec![tried("seccomp.filter", install(0), Status::Missing, texts)];
    // EBUSY means that a filter of the caller has a listener. The kernel allows only one.
    let notify = match install(FILTER_FLAG_NEW_LISTENER) {
        Err(Errno::EBUSY) => Item::lacking(
            "seccomp.notify",
            Status::Limited,
            "a filter of the caller has a listener",
            (
                "SCMP_ACT_NOTIFY is refused",
                "call orlop outside of that container",
            ),
        ),
        result => tried(
            "seccomp.notify",
            result,
            Status::Missing,
            ("SCMP_ACT_NOTIFY is refused", "use Linux 5.0 or newer"),
        ),
    };
    items.push(notify);
    const ACTIONS: &str = "/proc/sys/kernel/seccomp/actions_avail";
    items.push(match line(ACTIONS) {
        Some(actions) => Item::ok("seccomp.actions", actions),
        None => Item::lacking(
            "seccomp.actions",
            Status::Limited,
            "unknown",
            (
                "profiles with newer actions may fail",
                "mount a full procfs: /proc/sys/kernel/seccomp/actions_avail can't be read",
            ),
        ),
    });
    let known = seccomp::FLAGS.map(|(flag, _)| flag.to_string());
    let has: Vec<String> = seccomp::supported_flags().map(|f| f.to_string()).collect();
    let lacks: Vec<&String> = known.iter().filter(|flag| !has.contains(flag)).collect();
    items.push(if lacks.is_empty() {
        Item::ok("seccomp.flags", has.join(" "))
    } else {
        let lacks: Vec<&str> = lacks.into_iter().map(String::as_str).collect();
        Item::lacking(
            "seccomp.flags",
            Status::Limited,
            has.join(" "),
            (
                &format!("profiles with {} are refused", lacks.join(", ")),
                "use a newer kernel",
            ),
        )
    });
    items
}

fn modules() -> Vec<Item> {
    const LIST: &str = "/sys/kernel/security/lsm";
    let list = match line(LIST) {
        Some(list) => Item::ok("lsm.list", list),
        None => Item::lacking(
            "lsm.list",
            Status::Limited,
            "unknown",
            (
                "only AppArmor and SELinux are looked for, by their own files",
                "mount -t securityfs none /sys/kernel/security",
            ),
        ),
    };
    let mut items = vec![list];
    let apparmor = if (HOST_MODULES.apparmor)() {
        Ok(())
    } else {
        Err(Errno::ENOENT)
    };
    let mut apparmor = tried(
        "lsm.apparmor",
        apparmor,
        Status::Missing,
        (
            "process.apparmorProfile is refused, but for unconfined",
            "boot with apparmor=1 lsm=...,apparmor (cat /sys/kernel/security/lsm)",
        ),
    );
    let selinux = if (HOST_MODULES.selinux)() {
        Ok(())
    } else {
        Err(Errno::ENOENT)
    };
    let mut selinux = tried(
        "lsm.selinux",
        selinux,
        Status::Missing,
        (
            "process.selinuxLabel is refused, linux.mountLabel is ignored",
            "boot with selinux=1 lsm=...,selinux and install a policy",
        ),
    );
    if selinux.status == Status::Ok {
        let enforces = line("/sys/fs/selinux/enforce").as_deref() == Some("1");
        selinux.found = if enforces { "enforcing" } else { "permissive" }.into();
    } else {
        selinux.found = "off".into();
    }
    apparmor.found = match (apparmor.status, line("/proc/self/attr/apparmor/current")) {
        (Status::Ok, Some(own)) => format!("this process: {own}"),
        (Status::Ok, None) => "on".into(),
        _ => "off".into(),
    };
    items.push(apparmor);
    items.push(selinux);
    items
}
