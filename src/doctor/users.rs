//! Probes of user namespaces, and of the ids that the caller may map into them.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sched::CloneFlags;

use super::attempt::attempt;
use super::report::{Item, Status};
use super::{Caller, line, program, reason, tried};
use crate::sys::clone::{CloneArgs, Side, clone3};
use crate::sys::mount::{PRIVATE, set_root_propagation};
use crate::sys::{Errno, exe, process, socket, wait};

/// The files of sysctls that limit user namespaces, with the values that forbid them.
const SYSCTLS: [(&str, &str, &str); 3] = [
    (
        "max_user_namespaces",
        "/proc/sys/user/max_user_namespaces",
        "0",
    ),
    (
        "unprivileged_userns_clone",
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
    ),
    (
        "apparmor_restrict_unprivileged_userns",
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
    ),
];

/// Returns all items about users and user namespaces.
pub(super) fn items(caller: &Caller) -> Vec<Item> {
    let mut items = namespaces(caller);
    for (name, file, forbids) in SYSCTLS {
        items.extend(sysctl(caller, name, file, forbids));
    }
    let ranges = [
        ("user.subuid", "/etc/subuid"),
        ("user.subgid", "/etc/subgid"),
    ];
    let ranges = ranges.map(|(id, file)| (id, file, granted(file, caller.uid)));
    for (id, file, range) in &ranges {
        items.push(subordinate(caller, id, file, range.as_ref()));
    }
    let [(.., uids), (.., gids)] = &ranges;
    for (tool, range) in [("newuidmap", uids), ("newgidmap", gids)] {
        items.push(tool_item(caller, tool, range.as_ref()));
    }
    items
}

/// Probes user namespaces, and the capabilities of a process in a new one.
fn namespaces(caller: &Caller) -> Vec<Item> {
    let made = attempt(CloneFlags::CLONE_NEWUSER, || Ok(()));
    let hint = match made {
        Err(Errno::ENOSPC) => "sysctl user.max_user_namespaces=15000",
        Err(Errno::EINVAL) => "a kernel with CONFIG_USER_NS",
        _ => {
            "sysctl kernel.unprivileged_userns_clone=1; inside another container or a chroot, let \
             its seccomp profile allow it, or leave the chroot"
        }
    };
    let means = if caller.privileged {
        "containers with a user namespace fail"
    } else {
        "users who aren't root can run no containers"
    };
    let works = made.is_ok();
    let mut items = vec![
        tried("user.namespaces", made, Status::Missing, (means, hint)).needed(!caller.privileged),
    ];
    if works {
        let apart = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
        let changed = attempt(apart, || match set_root_propagation(PRIVATE, true) {
            // EINVAL: `/` is not a mount point. The kernel checks the capability before that.
            Ok(()) | Err(Errno::EINVAL) => Ok(()),
            Err(errno) => Err(errno),
        });
        let texts = (
            "a process gets no capabilities in its user namespace, so it can't set up a container",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or write a profile for orlop \
             with the rule `userns,` into /etc/apparmor.d and load it by apparmor_parser -r",
        );
        let item = tried("user.capabilities", changed, Status::Missing, texts);
        items.push(item.needed(!caller.privileged));
    }
    items
}

/// Returns the item of a sysctl, if this kernel has the sysctl.
fn sysctl(caller: &Caller, name: &str, file: &str, forbids: &str) -> Option<Item> {
    let value = line(file)?;
    let id = format!("user.{name}");
    if value != forbids {
        return Some(Item::ok(id, value));
    }
    let other = if forbids == "0" { "1" } else { "0" };
    let other = if name == "max_user_namespaces" {
        "15000"
    } else {
        other
    };
    let sysctl = file.trim_start_matches("/proc/sys/").replace('/', ".");
    let hint = format!("sysctl {sysctl}={other}; keep it in /etc/sysctl.d");
    let means = if caller.privileged && name != "max_user_namespaces" {
        "users who aren't root can run no containers"
    } else {
        "no user namespace can be made, or it is of no use"
    };
    Some(Item::lacking(id, Status::Limited, value, (means, &hint)))
}

/// Returns the first range that a file like /etc/subuid grants to a user: the first id and the
/// size.
fn granted(file: &str, uid: u32) -> Option<(u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let text = std::fs::read_to_string(file).ok()?;
    range_of(&text, &passwd, uid)
}

fn range_of(text: &str, passwd: &str, uid: u32) -> Option<(u32, u32)> {
    let number = uid.to_string();
    let is_users = |line: &&str| line.split(':').nth(2) == Some(&number);
    let entry = passwd.lines().find(is_users);
    let name = entry.and_then(|line| line.split(':').next());
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        if owner != number && Some(owner) != name {
            return None;
        }
        let (first, size) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (size > 0).then_some((first, size))
    })
}

fn subordinate(caller: &Caller, id: &str, file: &str, range: Option<&(u32, u32)>) -> Item {
    match range {
        Some((first, size)) => Item::ok(id, format!("{size} ids from {first}")),
        None if caller.privileged => Item::ok(id, "none, and root needs none"),
        None => {
            let hint = format!(
                "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER, \
                 which writes {file}"
            );
            let means = "a container has one id, root; images with files of other users don't work";
            Item::lacking(id, Status::Limited, "no range", (means, &hint))
        }
    }
}

/// Checks the rights of newuidmap(1) or newgidmap(1). For a user with a range, also checks that the
/// tool maps the range.
fn tool_item(caller: &Caller, tool: &str, range: Option<&(u32, u32)>) -> Item {
    let id = format!("user.{tool}");
    let means = "users who aren't root map no ids but their own";
    let Some(file) = program(tool) else {
        let hint =
            "install it: apt install uidmap (Debian), dnf install shadow-utils-subid (Fedora)";
        return Item::lacking(id, Status::Limited, "not installed", (means, hint));
    };
    let shown = file.display().to_string();
    let Some(rights) = rights(&file) else {
        let capability = if tool == "newuidmap" {
            "cap_setuid"
        } else {
            "cap_setgid"
        };
        let hint = format!("chmod u+s {shown}, or setcap {capability}+ep {shown}");
        let found = format!("{shown}, without rights");
        return Item::lacking(id, Status::Limited, found, (means, &hint));
    };
    let found = format!("{shown}, {rights}");
    match range {
        Some(range) if !caller.privileged => match maps(&file, tool, *range) {
            Ok(()) => Item::ok(id, found),
            Err(problem) => {
                let hint = format!("see {tool}(1); its file system must not be mounted nosuid");
                let found = format!("{found}: {problem}");
                Item::lacking(id, Status::Limited, found, (means, &hint))
            }
        },
        _ => Item::ok(id, found),
    }
}

/// Returns how a program gets more rights than its caller, or `None` if it gets none.
fn rights(file: &Path) -> Option<&'static str> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let stat = std::fs::metadata(file).ok()?;
    if stat.permissions().mode() & 0o4000 != 0 && stat.uid() == 0 {
        return Some("set-user-ID");
    }
    exe::has_file_capabilities(file).then_some("file capabilities")
}

/// Runs the tool to map a range into the user namespace of a new child.
fn maps(file: &Path, tool: &str, (first, size): (u32, u32)) -> Result<(), String> {
    let told = |errno| reason(errno);
    let (ours, childs) = socket::pair().map_err(told)?;
    let args = CloneArgs {
        namespaces: CloneFlags::CLONE_NEWUSER,
        cgroup: None,
        sibling: false,
    };
    let child = match clone3(&args).map_err(told)? {
        Side::Child => {
            drop(ours);
            let _ = socket::receive(childs.as_fd(), &mut [0]);
            process::exit_now(0)
        }
        Side::Parent(child) => child,
    };
    drop(childs);
    let own = match tool {
        "newuidmap" => process::effective_uid(),
        _ => process::effective_gid(),
    };
    let words = [child.pid.cast_unsigned(), 0, own, 1, 1, first, size];
    let output = Command::new(file)
        .args(words.map(|word| word.to_string()))
        .stdin(Stdio::null())
        .output();
    drop(ours);
    let _ = wait::reap(child.pidfd.as_fd());
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(said.lines().next().unwrap_or("it failed").to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_granted_by_name_or_by_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n";
        for (text, expected) in [
            ("ada:100000:65536\n", Some((100_000, 65_536))),
            ("bob:1:2\n1000:5:6\n", Some((5, 6))),
            ("10:5:6\nada2:7:8\n", None),
            ("ada:x:1\nada:3:0\nada:9:9", Some((9, 9))),
        ] {
            assert_eq!(range_of(text, passwd, 1000), expected, "{text:?}");
        }
    }
}
