//! Compares the mounts of a container, their flags and their propagation with config.json. Also
//! compares the masked and read-only paths.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use oci_spec::runtime::{Linux, Mount, Spec};

use super::init::{InitProcess, Place};
use super::mountinfo::{MountEntry, parse, top};
use super::report::Entry;
use crate::plan::mount_options::{self, MountOptions};
use crate::spec::paths::clean;
use crate::spec::propagation;
use crate::sys::Errno;
use crate::sys::mount::{
    ATIME_MASK, NOATIME, NODEV, NODIRATIME, NOEXEC, NOSUID, NOSYMFOLLOW, PRIVATE, RDONLY, SHARED,
    SLAVE, UNBINDABLE,
};

/// The maximum number of paths to look at in the container.
const MOST_LOOKS: usize = 512;

/// How long all looks at paths may take together. A file system of the container may answer late.
const LOOKS_TIMEOUT: Duration = Duration::from_secs(10);

/// The flags of a mount and their words in mountinfo.
const FLAGS: [(u64, &str); 7] = [
    (RDONLY, "ro"),
    (NOSUID, "nosuid"),
    (NODEV, "nodev"),
    (NOEXEC, "noexec"),
    (NOATIME, "noatime"),
    (NODIRATIME, "nodiratime"),
    (NOSYMFOLLOW, "nosymfollow"),
];

/// The mounts that init sees.
pub(super) struct View<'a> {
    init: &'a InitProcess<'a>,
    mounts: Vec<MountEntry>,
    /// The ids of the mounts that `mounts add` made.
    added: Vec<u64>,
    looks: Cell<usize>,
    /// True once a look at a path timed out. No other path is looked at after that, because each
    /// would take as long.
    is_stuck: Cell<bool>,
    begun: Instant,
}

impl<'a> View<'a> {
    /// Reads the mounts that init sees.
    pub(super) fn read(init: &'a InitProcess<'a>, added: &[u64]) -> Result<View<'a>, Errno> {
        Ok(View {
            init,
            mounts: parse(&init.read("mountinfo")?),
            added: added.to_vec(),
            looks: Cell::new(0),
            is_stuck: Cell::new(false),
            begun: Instant::now(),
        })
    }

    /// Looks at a path of the container. Refuses after `MOST_LOOKS` paths, after `LOOKS_TIMEOUT`, or
    /// if an earlier path timed out.
    fn place_at(&self, path: &Path) -> Result<Place, Errno> {
        if self.is_stuck.get() || self.begun.elapsed() > LOOKS_TIMEOUT {
            return Err(Errno::ETIMEDOUT);
        }
        if self.looks.replace(self.looks.get() + 1) >= MOST_LOOKS {
            return Err(Errno::E2BIG);
        }
        let place = self.init.look_at(path);
        self.is_stuck.set(place == Err(Errno::ETIMEDOUT));
        place
    }

    /// Returns the mount that a path of the container is on, and what `InitProcess::look_at` found.
    fn look_at(&self, path: &Path) -> Result<(&MountEntry, Place), Errno> {
        let place = self.place_at(path)?;
        let mount = self.mounts.iter().find(|mount| mount.id == place.mount);
        Ok((mount.ok_or(Errno::EXDEV)?, place))
    }

    /// True if `mounts add` made this mount.
    fn is_added(&self, mount: &MountEntry) -> bool {
        if self.added.is_empty() {
            return false;
        }
        let place = self.place_at(Path::new(&mount.point));
        place.is_ok_and(|place| place.mount == mount.id && self.added.contains(&place.lasting_id))
    }

    /// Returns the mount at a destination. Follows symbolic links if no mount has that path.
    fn at(&self, path: &Path) -> Option<&MountEntry> {
        if let Some(found) = top(&self.mounts, &path.to_string_lossy()) {
            return Some(found);
        }
        let (mount, place) = self.look_at(path).ok()?;
        place.is_mount_root.then_some(mount)
    }
}

/// Returns entries for the root, for the mounts of config.json, and for mounts that config.json
/// does not have.
pub(super) fn mounts(spec: Option<&Spec>, view: Option<&View<'_>>) -> Vec<Entry> {
    let mut entries = vec![root(spec, view)];
    let mut known: BTreeSet<u64> = BTreeSet::new();
    let mut recursive: Vec<String> = Vec::new();
    let empty = Vec::new();
    let asked = spec
        .and_then(|spec| spec.mounts().as_ref())
        .unwrap_or(&empty);
    let destinations: Vec<_> = asked
        .iter()
        .map(|mount| clean(mount.destination()))
        .collect();
    for (index, mount) in asked.iter().enumerate() {
        let Some(destination) = destinations.get(index) else {
            continue;
        };
        let is_last = destinations
            .iter()
            .skip(index + 1)
            .all(|later| later != destination);
        let words = mount.options().as_deref().unwrap_or_default();
        let found = view.and_then(|view| view.at(destination));
        if let Some(found) = found {
            known.insert(found.id);
            if words.iter().any(|word| word == "rbind") {
                recursive.push(found.point.clone());
            }
        }
        let entry = one(
            mount,
            &mount_options::parse(words),
            view.is_some(),
            found,
            spec,
        );
        entries.push(if is_last {
            entry
        } else {
            entry.excuse("a later mount is on top of it")
        });
    }
    if let (Some(view), Some(spec)) = (view, spec) {
        entries.extend(strange_mounts(spec, view, &known, &recursive));
    }
    entries
}

/// Returns entries for mounts that config.json does not have. `known` has the ids of the mounts of
/// config.json, and `recursive` the mount points of recursive binds. Looks mounts up in sets,
/// because a container may have 100,000 mounts.
fn strange_mounts(
    spec: &Spec,
    view: &View<'_>,
    known: &BTreeSet<u64>,
    recursive: &[String],
) -> Vec<Entry> {
    let (ours, strange): (Vec<_>, Vec<_>) = view
        .mounts
        .iter()
        .partition(|mount| known.contains(&mount.id) || mount.point == "/");
    let places: BTreeSet<&str> = ours.iter().map(|mount| mount.point.as_str()).collect();
    let mut entries = Vec::new();
    for mount in strange {
        // Skip masked and read-only paths. Also skip a mount that nobody sees, because a mount of
        // config.json at the same path covers it.
        if is_of_paths(spec, &mount.point) || places.contains(mount.point.as_str()) {
            continue;
        }
        let is_below = |above: &String| {
            let rest = mount.point.strip_prefix(above.as_str());
            above == "/" || rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let entry = Entry::of(mount.point.clone(), None, Some(describe(mount)), true);
        entries.push(match () {
            () if recursive.iter().any(is_below) => entry.excuse("below a recursive bind"),
            () if view.is_added(mount) => entry.excuse("added by `mounts add`"),
            () if is_of_runtime(spec, &mount.point) => entry.excuse("made by the runtime"),
            () => entry.note("not in config.json"),
        });
    }
    entries
}

fn describe(mount: &MountEntry) -> String {
    let mut text = format!("{} {} {}", mount.kind, mount.options, mount.propagation());
    if mount.root != "/" {
        text.push_str(&format!(" from {}", mount.root));
    }
    text
}

/// True for masked and read-only paths, for which `paths` makes the entries.
fn is_of_paths(spec: &Spec, point: &str) -> bool {
    let linux = spec.linux().as_ref();
    let lists = [
        linux.and_then(|linux| linux.masked_paths().as_ref()),
        linux.and_then(|linux| linux.readonly_paths().as_ref()),
    ];
    let mut all = lists.into_iter().flatten().flatten();
    all.any(|path| clean(Path::new(path)) == Path::new(point))
}

/// True for mounts of the runtime itself: terminals, device nodes in a user namespace, and the
/// directory of NOTIFY_SOCKET.
fn is_of_runtime(spec: &Spec, point: &str) -> bool {
    const USUAL_MOUNT_POINTS: [&str; 9] = [
        "/dev/console",
        "/dev/full",
        "/dev/null",
        "/dev/ptmx",
        "/dev/random",
        "/dev/tty",
        "/dev/urandom",
        "/dev/zero",
        "/run/notify",
    ];
    let linux = spec.linux().as_ref();
    let devices = linux.and_then(|linux| linux.devices().as_ref());
    let mut devices = devices.into_iter().flatten();
    USUAL_MOUNT_POINTS.contains(&point) || devices.any(|device| device.path() == Path::new(point))
}

fn root(spec: Option<&Spec>, view: Option<&View<'_>>) -> Entry {
    let read_only = spec.map(|spec| {
        let root = spec.root().as_ref();
        root.and_then(|root| root.readonly()).unwrap_or(false)
    });
    let asked = read_only.map(|read_only| if read_only { "ro" } else { "rw" }.to_owned());
    let actual = view.and_then(|view| top(&view.mounts, "/"));
    let differs = match (read_only, actual) {
        (Some(read_only), Some(actual)) => read_only && !actual.is_read_only(),
        _ => false,
    };
    Entry::of("/", asked, actual.map(describe), differs)
}

/// Returns the entry for a mount of config.json. `known` is true if the mounts of init were read.
fn one(
    mount: &Mount,
    options: &MountOptions,
    known: bool,
    found: Option<&MountEntry>,
    spec: Option<&Spec>,
) -> Entry {
    let kind = mount.typ().as_deref().unwrap_or_default();
    let words = mount.options().as_deref().unwrap_or_default();
    let is_bind = kind == "bind" || words.iter().any(|word| word == "bind" || word == "rbind");
    let source = mount
        .source()
        .as_ref()
        .map(|source| source.to_string_lossy().into_owned());
    let mut asked = vec![if is_bind {
        "bind".to_owned()
    } else {
        kind.to_owned()
    }];
    asked.push(words.join(","));
    if is_bind {
        asked.extend(source.map(|source| format!("from {source}")));
    }
    let asked: Vec<String> = asked.into_iter().filter(|word| !word.is_empty()).collect();
    let name = mount.destination().to_string_lossy().into_owned();
    let entry = |differs| Entry::of(name, Some(asked.join(" ")), found.map(describe), differs);
    let Some(found) = found else {
        // No mount was found. With copy-symlink that is no difference, because a symbolic link may
        // have been copied instead.
        let differs = known && !options.links.copied;
        return if differs {
            entry(true).note("not mounted")
        } else {
            entry(false)
        };
    };
    let mut lacks = lacking_flags(options, found);
    let kernels = if kind == "cgroup" { "cgroup2" } else { kind };
    if !is_bind && found.kind != kernels {
        lacks.push(format!("type {kernels}"));
    }
    lacks.extend(lacking_propagation(options, found, spec));
    match lacks.is_empty() {
        true => entry(false),
        false => entry(true).note(format!("without {}", lacks.join(", "))),
    }
}

/// Returns the flags that were asked for and are missing, and those that were to be cleared and are
/// set.
fn lacking_flags(options: &MountOptions, found: &MountEntry) -> Vec<String> {
    let set = options.top.set | options.recursive.set;
    let cleared = (options.top.clear | options.recursive.clear) & !set & !ATIME_MASK;
    let mut lacks = Vec::new();
    for (flag, word) in FLAGS {
        let has = found.has(word) || (flag == RDONLY && found.is_read_only());
        if set & flag != 0 && !has {
            lacks.push(word.to_owned());
        }
        if cleared & flag != 0 && found.has(word) {
            lacks.push(format!("the opposite of {word}"));
        }
    }
    lacks
}

fn lacking_propagation(
    options: &MountOptions,
    found: &MountEntry,
    spec: Option<&Spec>,
) -> Option<String> {
    let asked = match (options.propagation, options.recursive_propagation) {
        (0, recursive) => recursive,
        (top, _) => top,
    };
    let linux = spec.and_then(|spec| spec.linux().as_ref());
    let of_root = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
    let of_root = of_root
        .and_then(propagation::parse)
        .map(|of_root| of_root.kind);
    let (has, word) = match asked {
        SHARED => (found.shared, "shared"),
        PRIVATE => (!found.shared && !found.slave, "private"),
        UNBINDABLE => (found.unbindable, "unbindable"),
        // Don't require a master: without peers of the source, the mount has none.
        SLAVE => (!found.shared, "slave"),
        _ => (!found.shared || of_root == Some(SHARED), "private"),
    };
    (!has).then(|| word.to_owned())
}

/// Returns entries for linux.maskedPaths and linux.readonlyPaths.
pub(super) fn paths(linux: Option<&Linux>, view: Option<&View<'_>>) -> Vec<Entry> {
    let masked = linux.and_then(|linux| linux.masked_paths().as_ref());
    let read_only = linux.and_then(|linux| linux.readonly_paths().as_ref());
    let mut entries = Vec::new();
    for path in masked.into_iter().flatten() {
        entries.push(path_entry(path, "masked", view, |mount, place| {
            let is_empty = mount.kind == "tmpfs" && mount.is_read_only() && mount.root == "/";
            match (place.is_mount_root, place.is_null_device, is_empty) {
                (true, true, _) => (true, "masked by the null device"),
                (true, false, true) => (true, "masked by an empty directory"),
                _ => (false, "visible"),
            }
        }));
    }
    for path in read_only.into_iter().flatten() {
        entries.push(path_entry(
            path,
            "read-only",
            view,
            |mount, _| match mount.is_read_only() {
                true => (true, "read-only"),
                false => (false, "writable"),
            },
        ));
    }
    entries
}

fn path_entry(
    path: &str,
    asked: &str,
    view: Option<&View<'_>>,
    judge: impl Fn(&MountEntry, Place) -> (bool, &'static str),
) -> Entry {
    let entry = |actual: Option<&str>, differs| {
        Entry::of(
            path,
            Some(asked.to_owned()),
            actual.map(str::to_owned),
            differs,
        )
    };
    let Some(view) = view else {
        return entry(None, false);
    };
    match view.look_at(Path::new(path)) {
        Ok((mount, place)) => {
            let (is_so, actual) = judge(mount, place);
            entry(Some(actual), !is_so)
        }
        Err(Errno::ENOENT | Errno::ENOTDIR) => entry(Some("absent"), false),
        Err(Errno::E2BIG) => entry(None, false).note("not looked at: there are too many paths"),
        Err(errno) => entry(None, false).note(crate::error::ErrnoText(errno).to_string()),
    }
}
