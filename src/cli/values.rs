//! Parsers for the values of flags and positional arguments.
//! Errors don't name the flag, because the caller adds its name and the value.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr as _;

use nix::sys::signal::Signal;

use crate::invocation::{CgroupDriver, Change, NumericUser, OutputFormat, RootlessMode};
use crate::log;

/// glibc's numbers for real-time signals. glibc uses the kernel's first two itself.
const SIGRTMIN: i32 = 34;
const SIGRTMAX: i32 = 64;

/// Alternative names of signals.
const SIGNAL_ALIASES: &[(&str, Signal)] = &[
    ("IOT", Signal::SIGABRT),
    ("CLD", Signal::SIGCHLD),
    ("POLL", Signal::SIGIO),
    ("UNUSED", Signal::SIGSYS),
];

/// Parses a switch in Go's syntax.
pub(super) fn parse_switch(text: &OsStr) -> Option<bool> {
    match text.to_str()? {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Parses a switch or `auto`. Empty text means `auto`.
pub(super) fn parse_rootless(text: &str) -> Result<RootlessMode, String> {
    match (text, parse_switch(text.as_ref())) {
        ("auto" | "", _) => Ok(RootlessMode::Auto),
        (_, Some(true)) => Ok(RootlessMode::Yes),
        (_, Some(false)) => Ok(RootlessMode::No),
        (_, None) => Err("expected true, false or auto".into()),
    }
}

pub(super) fn parse_format(text: &str) -> Result<OutputFormat, String> {
    match text {
        "table" => Ok(OutputFormat::Table),
        "json" => Ok(OutputFormat::Json),
        _ => Err("expected table or json".into()),
    }
}

pub(super) fn change(text: &str) -> Result<Change, String> {
    match text {
        "add" => Ok(Change::Add),
        "remove" => Ok(Change::Remove),
        _ => Err("expected add or remove".into()),
    }
}

/// Parses a log format. Empty text means `text`.
pub(super) fn parse_log_format(text: &str) -> Result<log::Format, String> {
    match text {
        "text" | "" => Ok(log::Format::Text),
        "json" => Ok(log::Format::Json),
        _ => Err("expected text or json".into()),
    }
}

pub(super) fn parse_log_level(text: &str) -> Result<log::Level, String> {
    match text {
        "error" => Ok(log::Level::Error),
        "warning" => Ok(log::Level::Warning),
        "debug" => Ok(log::Level::Debug),
        _ => Err("expected error, warning or debug".into()),
    }
}

/// Parses the name of a cgroup driver. The names are crun's.
pub(super) fn parse_cgroup_driver(text: &str) -> Result<CgroupDriver, String> {
    match text {
        "cgroupfs" => Ok(CgroupDriver::Cgroupfs),
        "disabled" => Ok(CgroupDriver::Disabled),
        "systemd" => Ok(CgroupDriver::Systemd),
        _ => Err("expected cgroupfs, systemd or disabled".into()),
    }
}

/// Parses a signal number (0 to 64) or a signal name. A name may lack SIG, may be in lower case,
/// and may be like `RTMIN+1` or `RTMAX-1`.
pub(super) fn parse_signal(text: &str) -> Result<i32, String> {
    let number = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        let name = text.to_ascii_uppercase();
        let name = name.strip_prefix("SIG").unwrap_or(&name);
        find_signal_number(name)
    };
    number
        .filter(|number| (0..=SIGRTMAX).contains(number))
        .ok_or_else(|| "unknown signal".into())
}

fn find_signal_number(name: &str) -> Option<i32> {
    let from = |start: &str, sign: &str| {
        let rest = name.strip_prefix(start)?;
        match rest.strip_prefix(sign) {
            Some(distance) => i32::try_from(parse_digits(distance)?).ok(),
            None => rest.is_empty().then_some(0),
        }
    };
    let real_time = from("RTMIN", "+")
        .and_then(|distance| SIGRTMIN.checked_add(distance))
        .or_else(|| from("RTMAX", "-").and_then(|distance| SIGRTMAX.checked_sub(distance)));
    if let Some(number) = real_time {
        return (SIGRTMIN..=SIGRTMAX).contains(&number).then_some(number);
    }
    let alias = SIGNAL_ALIASES.iter().find(|(alias, _)| *alias == name);
    alias
        .map(|(_, signal)| *signal)
        .or_else(|| Signal::from_str(&format!("SIG{name}")).ok())
        .map(|signal| signal as i32)
}

/// Parses `UID` or `UID:GID` in decimal digits. A lenient parser once made `-u 1` mean root
/// (CVE-2026-30892).
pub(super) fn parse_user(text: &str) -> Result<NumericUser, String> {
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(self::parse_id(gid)?)),
        None => (text, None),
    };
    Ok(NumericUser {
        uid: self::parse_id(uid)?,
        gid,
    })
}

/// Parses a uid or gid. Refuses the highest number, (uid_t)-1, which means "unchanged" to the
/// kernel.
pub(super) fn parse_id(text: &str) -> Result<u32, String> {
    parse_digits(text)
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| *number != u32::MAX)
        .ok_or_else(|| format!("expected numeric ids from 0 to {}", u32::MAX - 1))
}

/// Parses a number of descriptors after stdio.
pub(super) fn parse_fd_count(text: &str) -> Result<u32, String> {
    let max = i32::MAX.unsigned_abs() - 2;
    parse_digits(text)
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| *number <= max)
        .ok_or_else(|| format!("expected a number from 0 to {max}"))
}

/// Parses decimal digits only. `str::parse` would accept a plus sign.
fn parse_digits(text: &str) -> Option<u64> {
    (text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// Checks that an environment entry has the form `NAME=value`.
pub(super) fn check_env_entry(entry: &OsStr) -> Result<(), String> {
    match entry.as_bytes().iter().position(|byte| *byte == b'=') {
        Some(0) => Err("the name is empty".into()),
        Some(_) => Ok(()),
        None => Err("expected NAME=value".into()),
    }
}

/// Parses the path of a cgroup below the container's own. Returns a relative path without `..`.
pub(super) fn parse_cgroup_path(text: &OsStr) -> Result<PathBuf, String> {
    if text.as_bytes().contains(&b':') {
        return Err("controllers are named in cgroup v1 only, expected a path".into());
    }
    let mut path = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => {
                return Err("bad sub cgroup path: \"..\" leads out of the container".into());
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocation::ContainerId;

    #[test]
    fn users_are_numbers_and_nothing_else() {
        let user_of = |uid, gid| Ok(NumericUser { uid, gid });
        for (text, expected) in [
            ("1", user_of(1, None)),
            ("1:2", user_of(1, Some(2))),
            ("0", user_of(0, None)),
            ("4294967294:0", user_of(4_294_967_294, Some(0))),
        ] {
            assert_eq!(parse_user(text), expected, "{text:?}");
        }
        for text in [
            "",
            ":",
            "1:",
            ":1",
            "-1",
            "+1",
            " 1",
            "1 ",
            "0x1",
            "1e0",
            "4294967295",
            "4294967296",
            "1:2:3",
            "root",
            "1:-1",
            "1:4294967295",
            "18446744073709551617",
            "１",
        ] {
            assert!(parse_user(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, expected) in [
            ("9", 9),
            ("0", 0),
            ("64", 64),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigkill", 9),
            ("Term", 15),
            ("RTMIN", 34),
            ("sigrtmin+1", 35),
            ("RTMIN+30", 64),
            ("SIGRTMAX", 64),
            ("RTMAX-30", 34),
            ("CLD", 17),
            ("SIGPOLL", 29),
            ("WINCH", 28),
        ] {
            assert_eq!(parse_signal(text), Ok(expected), "{text:?}");
        }
        for text in [
            "",
            "-1",
            "65",
            "SIGFOO",
            "9 ",
            " 9",
            "+9",
            "SIG",
            "SIG9",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX+1",
            "RTMAX-31",
            "RTMIN+",
            "SIGSIGKILL",
            "99999999999999999999",
        ] {
            assert!(parse_signal(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn ids_are_safe_file_names() {
        for text in ["a", ".a", "-x", "a..b", "A_+.-9", &"x".repeat(255)] {
            assert_eq!(
                ContainerId::parse(text).map(|id| id.as_str() == text),
                Ok(true)
            );
        }
        for text in [
            "",
            ".",
            "..",
            "a/b",
            "../x",
            "a b",
            "a\n",
            "é",
            "a\0",
            &"x".repeat(256),
            &"x".repeat(1025),
        ] {
            let error = ContainerId::parse(text).err().unwrap_or_default();
            assert!(
                error.contains("invalid container ID format"),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn a_cgroup_stays_below_the_container() {
        for (text, expected) in [("/", ""), ("a/b", "a/b"), ("/a/./b/", "a/b")] {
            assert_eq!(
                parse_cgroup_path(OsStr::new(text)),
                Ok(expected.into()),
                "{text:?}"
            );
        }
        for text in ["..", "a/../..", "cpu:a", ":"] {
            assert!(parse_cgroup_path(OsStr::new(text)).is_err(), "{text:?}");
        }
    }

    #[test]
    fn counts_of_descriptors_are_bounded() {
        assert_eq!(parse_fd_count("3"), Ok(3));
        for text in ["", "-1", "x", "4294967296", "2147483646"] {
            assert!(parse_fd_count(text).is_err(), "{text:?}");
        }
    }
}
