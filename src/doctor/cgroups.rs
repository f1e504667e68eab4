//! Probes cgroup v2: the mount, the controllers that the caller's containers can use, and a test
//! cgroup that is made, used and removed.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::unistd::UnlinkatFlags;

use super::attempt::{PATIENCE_MS, in_cgroup};
use super::report::{Item, Status};
use super::{Caller, line, tried};
use crate::cgroup::{Hierarchy, try_device_program};
use crate::sys::Errno;

/// The controllers that config.json has limits for, with the fields that need them.
const CONTROLLERS: [(&str, &str); 7] = [
    ("cpu", "linux.resources.cpu"),
    ("cpuset", "linux.resources.cpu.cpus and mems"),
    ("hugetlb", "linux.resources.hugepageLimits"),
    ("io", "linux.resources.blockIO"),
    ("memory", "linux.resources.memory"),
    ("pids", "linux.resources.pids"),
    ("rdma", "linux.resources.rdma"),
];

const DELEGATE: &str = "log in by systemd (loginctl enable-linger USER), and call orlop from \
     `systemd-run --user --scope -p Delegate=yes`";

/// The location of the cgroups of this caller's containers.
struct Place {
    /// The root of the mount.
    mount: PathBuf,
    hybrid: bool,
    /// The parent of the caller's own cgroup.
    parent: PathBuf,
}

/// Returns all items about cgroups.
pub(super) fn items(caller: &Caller) -> Vec<Item> {
    let hierarchy = match Hierarchy::probe() {
        Ok(hierarchy) => hierarchy,
        Err(error) => {
            let texts = (
                "no container can be made: cgroup v1 alone is not supported",
                "mount -t cgroup2 none /sys/fs/cgroup, or boot with cgroup_no_v1=all",
            );
            let missing = Item::lacking(
                "cgroup.hierarchy",
                Status::Missing,
                error.to_string(),
                texts,
            );
            return vec![missing.needed(true)];
        }
    };
    let mut items = vec![mount(&hierarchy).needed(true)];
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let Some(own) = own.filter(|own| !own.starts_with("..")) else {
        let texts = (
            "only an absolute linux.cgroupsPath has a meaning",
            "call orlop from a process whose cgroup is below the mount (cat /proc/self/cgroup)",
        );
        let found = "this process has no cgroup below the mount";
        items.push(Item::lacking("cgroup.own", Status::Limited, found, texts));
        return items;
    };
    let below = Path::new(own).parent().unwrap_or(Path::new(""));
    let place = Place {
        parent: hierarchy.mount.join(below),
        mount: hierarchy.mount,
        hybrid: hierarchy.hybrid,
    };
    let shown = place.parent.display().to_string();
    items.push(Item::ok("cgroup.parent", shown.trim_end_matches('/')));
    let made = trial(caller, &place, &mut items);
    for (name, fields) in CONTROLLERS {
        items.push(controller(caller, &place, made, (name, fields)));
    }
    items
}

fn mount(hierarchy: &Hierarchy) -> Item {
    const ID: &str = "cgroup.hierarchy";
    let found = hierarchy.mount.display().to_string();
    if !hierarchy.hybrid {
        return Item::ok(ID, found);
    }
    let texts = (
        "limits whose controllers are mounted as cgroup v1 are refused",
        "boot with systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all",
    );
    Item::lacking(
        ID,
        Status::Limited,
        format!("{found}, beside cgroup v1"),
        texts,
    )
}

/// Makes a cgroup, starts a process in it, and removes the cgroup. Returns whether that worked.
fn trial(caller: &Caller, place: &Place, items: &mut Vec<Item>) -> bool {
    let path = place
        .parent
        .join(format!("orlop-doctor-{}", std::process::id()));
    let made = nix::unistd::mkdir(&path, Mode::from_bits_retain(0o755));
    let is_made = made.is_ok();
    let cgroup = made.and_then(|()| {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        open(&path, flags, Mode::empty())
    });
    let entered = cgroup.and_then(|cgroup| {
        let entered = in_cgroup(Some(cgroup.as_fd()), CloneFlags::empty(), PATIENCE_MS, || 0);
        if entered.is_ok() {
            items.extend(files(&path));
        }
        items.push(device_rules(
            caller,
            try_device_program(Some(cgroup.as_fd())),
        ));
        entered.map(drop)
    });
    if is_made {
        let _ = nix::unistd::unlinkat(AT_FDCWD, &path, UnlinkatFlags::RemoveDir);
    }
    let texts = if caller.privileged {
        (
            "containers have no cgroup unless systemd makes it: no limits, no pause",
            "mount the cgroup v2 hierarchy writable; or --systemd-cgroup",
        )
    } else {
        (
            "a container without limits has no cgroup, one with limits is refused",
            DELEGATE,
        )
    };
    let works = entered.is_ok();
    items.push(tried("cgroup.make", entered, Status::Limited, texts));
    works
}

/// Checks the files that each cgroup has if the kernel is new enough.
fn files(cgroup: &Path) -> Vec<Item> {
    let files = [
        (
            "kill",
            "the processes of a container can't be killed at once",
        ),
        ("freeze", "a container can't be paused"),
    ];
    let item = |(name, means): (&str, &str)| {
        let exists = cgroup.join(format!("cgroup.{name}")).exists();
        let result = if exists { Ok(()) } else { Err(Errno::ENOENT) };
        let texts = (means, "use Linux 5.14 or newer");
        tried(&format!("cgroup.{name}"), result, Status::Missing, texts)
    };
    files.into_iter().map(item).collect()
}

fn device_rules(caller: &Caller, result: Result<(), Errno>) -> Item {
    let texts = if caller.privileged {
        (
            "linux.resources.devices can't be applied, so containers with a cgroup fail",
            "a kernel with CONFIG_CGROUP_BPF, and CAP_BPF or CAP_SYS_ADMIN for orlop",
        )
    } else {
        (
            "linux.resources.devices is ignored; the kernel's own rights protect devices",
            "run as root: the kernel lets no user load device rules",
        )
    };
    let status = if caller.privileged {
        Status::Missing
    } else {
        Status::Limited
    };
    tried("cgroup.device-rules", result, status, texts)
}

/// Checks whether the caller's containers can use a controller.
fn controller(caller: &Caller, place: &Place, made: bool, (name, fields): (&str, &str)) -> Item {
    let id = format!("cgroup.{name}");
    let has = |cgroup: &Path, file: &str| {
        line(cgroup.join(file)).is_some_and(|names| names.split(' ').any(|other| other == name))
    };
    let means = format!("limits of {fields} are refused");
    let lacking =
        |status, found: &str, hint: &str| Item::lacking(id.clone(), status, found, (&means, hint));
    if has(&place.mount, "cgroup.controllers") {
        let enabled = has(&place.parent, "cgroup.subtree_control");
        let can_enable = made && (caller.privileged || has(&place.parent, "cgroup.controllers"));
        return match () {
            () if enabled && made => Item::ok(id, ""),
            () if can_enable => Item::ok(id, "will be enabled"),
            () if !made => lacking(Status::Limited, "no cgroup can be made", "see cgroup.make"),
            () => lacking(
                Status::Missing,
                "not delegated to this user",
                &format!(
                    "write [Service] Delegate=cpu cpuset io memory pids into \
                     /etc/systemd/system/user@.service.d/delegate.conf, for {name}; \
                     systemctl daemon-reload; log in again"
                ),
            ),
        };
    }
    let v1 = if name == "io" { "blkio" } else { name };
    let list = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let row = list.lines().find(|row| row.split('\t').next() == Some(v1));
    let is_on = row.is_some_and(|row| row.split('\t').nth(3) == Some("1"));
    match row {
        Some(_) if place.hybrid && is_on => lacking(
            Status::Missing,
            "mounted as cgroup v1",
            &format!("boot with cgroup_no_v1={v1}, or umount its cgroup v1 mount"),
        ),
        Some(_) if !is_on => lacking(
            Status::Missing,
            "disabled at boot",
            &format!("remove cgroup_disable={name} from the kernel's command line"),
        ),
        _ => lacking(
            Status::Missing,
            "not in cgroup.controllers of the mount",
            &format!("a kernel with the {name} controller; in a container, delegate it"),
        ),
    }
}
