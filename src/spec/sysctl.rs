//! Keys of linux.sysctl: the file of a key, and the namespace that it needs.
//! The child writes the values.

use std::collections::HashMap;

use oci_spec::runtime::LinuxNamespaceType;

use super::validate::quote_value;
use crate::error::Violation;

/// The keys of an ipc namespace, besides those below fs.mqueue.
const IPC_SYSCTLS: &[&str] = &[
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// Returns the path of a key below /proc/sys. The error describes the problem of the key.
///
/// The first separator decides the syntax, as in sysctl(8). If it is a dot, dots separate names,
/// and a slash stands for a dot in a name (`net.ipv4.conf.eth0/1.forwarding`). If it is a slash,
/// slashes separate names, and dots are literal.
pub(crate) fn path(key: &str) -> Result<String, &'static str> {
    let dotted = key.find(['.', '/']).map(|at| key.get(at..=at) == Some("."));
    let path = match dotted {
        None => return Err("is not a path of names"),
        Some(true) => key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
        Some(false) => key.to_owned(),
    };
    if path.contains(char::is_control) {
        return Err("contains a control character");
    }
    if path.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return Err("contains an empty name, . or ..");
    }
    Ok(path)
}

/// Checks linux.sysctl against the namespaces that the container makes or joins. `named` is the
/// value of domainname, if set.
pub(super) fn check(
    sysctl: &HashMap<String, String>,
    has: impl Fn(LinuxNamespaceType) -> bool,
    named: Option<&str>,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut paths = HashMap::new();
    let mut keys: Vec<_> = sysctl.iter().collect();
    keys.sort();
    for (key, value) in keys {
        let mut refuse = |problem: String| {
            violations.push(Violation::new(
                format!("linux.sysctl[{}]", quote_value(key)),
                problem,
            ));
        };
        // The kernel expects each value in one write, and most of its parsers stop at these
        // characters.
        if value.contains(['\0', '\n']) {
            refuse("the value contains a NUL or a newline".into());
        }
        let path = match path(key) {
            Ok(path) => path,
            Err(problem) => {
                refuse(problem.into());
                continue;
            }
        };
        if let Some(problem) = reason_if_host_sysctl(&path, &has) {
            refuse(problem);
        }
        if path == "kernel/domainname" && named.is_some_and(|name| name != value) {
            refuse("conflicts with the field domainname, which sets it".into());
        }
        if let Some(other) = paths.insert(path, key) {
            refuse(format!("names the same file as {}", quote_value(other)));
        }
    }
    violations
}

/// Returns the reason if a write to a file in /proc/sys would change the host.
fn reason_if_host_sysctl(path: &str, has: impl Fn(LinuxNamespaceType) -> bool) -> Option<String> {
    let (kind, name) = if path.starts_with("net/") {
        (LinuxNamespaceType::Network, "a network")
    } else if path.starts_with("fs/mqueue/") || IPC_SYSCTLS.contains(&path) {
        (LinuxNamespaceType::Ipc, "an ipc")
    } else if path == "kernel/domainname" {
        (LinuxNamespaceType::Uts, "a uts")
    } else if path == "kernel/hostname" {
        return Some("conflicts with the field hostname, which sets it".into());
    } else {
        return Some("is not in a separate kernel namespace".into());
    };
    (!has(kind)).then(|| format!("needs {name} namespace in linux.namespaces"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_separator_decides() {
        for (key, expected) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
            (
                "net.ipv4.conf.eth0/1.forwarding",
                "net/ipv4/conf/eth0.1/forwarding",
            ),
            (
                "net/ipv4/conf/eth0.1/forwarding",
                "net/ipv4/conf/eth0.1/forwarding",
            ),
        ] {
            assert_eq!(path(key).unwrap(), expected);
        }
    }

    #[test]
    fn keys_that_leave_proc_sys_are_refused() {
        for key in [
            "",
            "x",
            "..",
            "net/../kernel/panic",
            "net..x",
            ".net.x",
            "/net/x",
            "net.x.",
            "net/./x",
            "net.x\0",
            "net.x\n",
            "net.//.x",
            "net/x/..",
        ] {
            assert!(path(key).is_err(), "{key:?}");
        }
    }

    fn refused(key: &str, value: &str, own: bool) -> Vec<String> {
        let sysctl = HashMap::from([(key.to_owned(), value.to_owned())]);
        let violations = check(&sysctl, |_| own, None);
        violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_key_needs_the_namespace_it_belongs_to() {
        for (key, namespace) in [
            ("net.core.somaxconn", "a network"),
            ("net/core/somaxconn", "a network"),
            ("kernel.sem", "an ipc"),
            ("kernel/shm_rmid_forced", "an ipc"),
            ("fs.mqueue.msg_max", "an ipc"),
            ("kernel.domainname", "a uts"),
        ] {
            assert!(refused(key, "1", true).is_empty(), "{key}");
            assert_eq!(
                refused(key, "1", false),
                [format!(
                    "config.json: linux.sysctl[\"{key}\"]: needs {namespace} namespace in linux.namespaces"
                )]
            );
        }
    }

    #[test]
    fn a_key_of_the_host_is_refused_whatever_the_namespaces() {
        for key in [
            "kernel.panic",
            "vm.swappiness",
            "fs.file-max",
            "kernel.semx",
            "kernel.core_pattern",
            "netx.y",
            "kernel.hostname",
            "user.max_user_namespaces",
        ] {
            assert_eq!(refused(key, "1", true).len(), 1, "{key}");
        }
    }

    #[test]
    fn a_value_is_one_line() {
        for value in ["1\0", "1\n2", "1\n"] {
            assert_eq!(refused("net.a", value, true).len(), 1, "{value:?}");
        }
        assert!(refused("net.a", "4096 87380\t6291456", true).is_empty());
    }

    #[test]
    fn two_spellings_of_one_file_are_refused() {
        let sysctl = HashMap::from([
            ("net.ipv4.x".to_owned(), "1".to_owned()),
            ("net/ipv4/x".to_owned(), "2".to_owned()),
        ]);
        assert_eq!(
            check(&sysctl, |_| true, None),
            [Violation::new(
                "linux.sysctl[\"net/ipv4/x\"]",
                "names the same file as \"net.ipv4.x\""
            )]
        );
    }
}
