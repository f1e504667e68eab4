//! Probes programs: systemd, CRIU, and the binary of orlop itself.

use std::process::{Command, Stdio};
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;

use super::attempt::in_child;
use super::report::{Item, Status};
use super::{Caller, line, program, reason};
use crate::cgroup::reach_systemd;
use crate::criu::Criu;
use crate::seal::{self, Form};

/// The longest time that copying the binary into memory may take, in milliseconds.
const PATIENCE_OF_SEAL_MS: i32 = 60_000;
/// The longest wait for an answer of systemd. A systemd that isn't hung answers within this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Probes the instances of systemd: the system's, and the user's if the caller isn't root.
pub(super) fn systemd(caller: &Caller) -> Vec<Item> {
    let is_root = caller.uid == 0;
    let mut items = Vec::new();
    for (id, user) in [("systemd.system", false), ("systemd.user", true)] {
        if user && is_root {
            continue;
        }
        let texts = if user {
            (
                "--systemd-cgroup doesn't work",
                "log in by systemd: apt install libpam-systemd, loginctl enable-linger USER, and \
                 set XDG_RUNTIME_DIR=/run/user/UID",
            )
        } else if is_root {
            (
                "--systemd-cgroup doesn't work",
                "boot with systemd, and start its bus: systemctl start dbus",
            )
        } else {
            (
                "the containers of root can't use --systemd-cgroup",
                "boot with systemd; without root's containers, nothing is needed",
            )
        };
        items.push(match reach_systemd(user, PATIENCE) {
            Ok(version) => Item::ok(id, format!("version {version}")),
            Err(error) => Item::lacking(id, Status::Limited, error.to_string(), texts),
        });
    }
    items
}

/// Checks how the binary is protected from writes by containers.
pub(super) fn seal() -> Vec<Item> {
    const FAILED: i32 = 255;
    let code = || {
        let form = seal::form().ok();
        let place = form.and_then(|form| Form::ALL.iter().position(|other| *other == form));
        place
            .and_then(|place| i32::try_from(place).ok())
            .unwrap_or(FAILED)
    };
    let form = in_child(CloneFlags::empty(), PATIENCE_OF_SEAL_MS, code);
    let form = form.map(|code| {
        let place = usize::try_from(code).unwrap_or(usize::MAX);
        Form::ALL.get(place).copied()
    });
    let item = match form {
        Ok(Some(form)) => Item::ok("seal.binary", describe(form)),
        other => {
            let found = other
                .err()
                .map_or_else(|| "neither can be made".into(), reason);
            let texts = (
                "no container is made: it could overwrite the program",
                "allow memfd_create(2): sysctl vm.memfd_noexec=1, or put orlop on a read-only file \
                 system",
            );
            Item::lacking("seal.binary", Status::Missing, found, texts)
        }
    };
    let mut items = vec![item.needed(true)];
    items.extend(memfd_noexec());
    items
}

fn describe(form: Form) -> &'static str {
    match form {
        Form::Sealed => "it is a sealed copy in memory",
        Form::Dissolved => "it is on a detached mount",
        Form::ReadOnly => "its file system is read-only",
        Form::Verity => "its content is protected by fs-verity",
        Form::Mapped => "a read-only mount of it is mapped, without an exec",
        Form::View => "a read-only mount of it is executed",
        Form::Copy => "a sealed copy in memory is executed",
    }
}

/// Checks whether executable memfds are allowed. The sysctl exists since Linux 6.3.
fn memfd_noexec() -> Option<Item> {
    let value = line("/proc/sys/vm/memfd_noexec")?;
    if value != "2" {
        return Some(Item::ok("seal.memfd_noexec", value));
    }
    let texts = (
        "users who aren't root run no containers, unless orlop is on a read-only file system",
        "sysctl vm.memfd_noexec=1",
    );
    Some(Item::lacking(
        "seal.memfd_noexec",
        Status::Limited,
        value,
        texts,
    ))
}

/// Checks that CRIU is present, new enough, and supported by this kernel.
pub(super) fn criu() -> Vec<Item> {
    const INSTALL: &str = "apt install criu (Debian), dnf install criu (Fedora); 3.16 or newer";
    let means = "checkpoint and restore don't work";
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty());
    let found = match &null {
        Ok(null) => Criu::find(std::os::fd::AsFd::as_fd(null)).map_err(|error| error.to_string()),
        Err(errno) => Err(reason(*errno)),
    };
    let version = match found {
        Ok(criu) => criu.version().to_string(),
        Err(error) => {
            let texts = (means, INSTALL);
            return vec![Item::lacking("criu.program", Status::Limited, error, texts)];
        }
    };
    let mut items = vec![Item::ok("criu.program", format!("version {version}"))];
    let Some(file) = program("criu") else {
        return items;
    };
    let check = Command::new(&file)
        .arg("check")
        .env_clear()
        .stdin(Stdio::null())
        .output();
    items.push(match check {
        Ok(output) if output.status.success() => Item::ok("criu.check", ""),
        Ok(output) => {
            let said = [output.stderr, output.stdout].concat();
            let said = String::from_utf8_lossy(&said);
            let error = said
                .lines()
                .find(|line| line.contains("Error"))
                .or(said.lines().last());
            let error = error.unwrap_or("it failed").trim().to_owned();
            let texts = (
                means,
                "criu check; run as root, with a kernel that has what it names",
            );
            Item::lacking("criu.check", Status::Limited, error, texts)
        }
        Err(error) => {
            let texts = (means, INSTALL);
            Item::lacking("criu.check", Status::Limited, error.to_string(), texts)
        }
    });
    items
}
