//! Finds the cgroup hierarchies for CRIU, which looks for each by its name in a directory.
//! Without such a directory, CRIU mounts the hierarchies itself. Then the mount options of cgroup
//! v2 would be lost on the host as well, because the file system is the same.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::Subject;
use crate::error::failed;
use crate::launch::Error;
use crate::origin::flag;
use crate::sys::path;
use crate::sys::procfs::errno_of;

/// The name by which CRIU looks for cgroup v2.
const UNIFIED: &str = "unified";

/// Returns the mount point of each hierarchy, with the name by which CRIU looks for it.
pub(super) fn hierarchies(subject: &Subject<'_>) -> Result<Vec<(String, PathBuf)>, Error> {
    let proc = &subject.host.proc;
    let name = format!("{}/cgroup", subject.pid);
    let what = || format!("read /proc/{name}");
    let cgroups = proc.read(&name).map_err(failed("read", what))?;
    let v2 = &subject.host.hierarchy.mount;
    // Only a host with cgroup v1 has more than one line.
    if cgroups.lines().count() == 1 {
        return Ok(vec![(UNIFIED.into(), v2.clone())]);
    }
    let name = path::c_path(format!("{}/mountinfo", std::process::id()).as_ref());
    let file = name.and_then(|name| proc.file(&name, OFlag::O_RDONLY));
    let what = || "read /proc/self/mountinfo".to_owned();
    let mut mounts = Vec::new();
    file.map_err(failed("open", what))?
        .read_to_end(&mut mounts)
        .map_err(|e| failed("read", what)(errno_of(&e)))?;
    let mounts = String::from_utf8_lossy(&mounts);
    let entry = |line: &str| {
        let controllers = line.split(':').nth(1).unwrap_or_default();
        if controllers.is_empty() {
            return Ok((UNIFIED.into(), v2.clone()));
        }
        let mount = mounts.lines().find_map(|line| v1_mount(line, controllers));
        let name = controllers.strip_prefix("name=").unwrap_or(controllers);
        let what = || format!("write cgroups of the hierarchy {name} of v1, which isn't mounted");
        let mount = mount.ok_or_else(|| Error::NoCheckpoint(what(), flag(NEEDED_FLAG)))?;
        Ok((name.to_owned(), mount))
    };
    cgroups.lines().map(entry).collect()
}

/// The setting that asks CRIU to handle cgroups. With `ignore`, CRIU leaves them out.
const NEEDED_FLAG: &str = "--manage-cgroups-mode other than ignore";

/// Returns the mount point in a line of mountinfo, if the mount shows a whole v1 hierarchy.
/// `controllers` identifies the hierarchy in /proc/PID/cgroup.
fn v1_mount(line: &str, controllers: &str) -> Option<PathBuf> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let (root, target) = {
        let mut fields = mount.split(' ').skip(3);
        (fields.next()?, fields.next()?)
    };
    let mut fields = filesystem.split(' ');
    let (kind, options) = (fields.next()?, fields.nth(1)?);
    let has = |controller: &str| options.split(',').any(|option| option == controller);
    let shows = kind == "cgroup" && root == "/" && controllers.split(',').all(has);
    (shows && !target.contains('\\')).then(|| Path::new(target).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_v1_hierarchy_is_found_by_its_controllers() {
        let line =
            "32 25 0:28 / /sys/fs/cgroup/cpu rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct";
        let found = Some(PathBuf::from("/sys/fs/cgroup/cpu"));
        assert_eq!(v1_mount(line, "cpu,cpuacct"), found);
        assert_eq!(v1_mount(line, "cpu,memory"), None);
        let named = "33 25 0:29 / /sys/fs/cgroup/x rw - cgroup none rw,xattr,name=x";
        assert_eq!(
            v1_mount(named, "name=x"),
            Some(PathBuf::from("/sys/fs/cgroup/x"))
        );
        let part = "33 25 0:29 /a /x rw - cgroup none rw,name=x";
        assert_eq!(v1_mount(part, "name=x"), None);
        let v2 = "34 25 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup rw,nsdelegate";
        assert_eq!(v1_mount(v2, "nsdelegate"), None);
    }
}
