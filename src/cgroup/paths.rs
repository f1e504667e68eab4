//! Converts linux.cgroupsPath to a path below the cgroup2 mount, for the cgroupfs driver. Reads and
//! writes no files.
//! The systemd driver interprets linux.cgroupsPath differently (`systemd::names`).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::error::Violation;

const CGROUPS_PATH_FIELD: &str = "linux.cgroupsPath";

/// Returns the path of the container's cgroup below the cgroup2 mount, without a leading slash.
///
/// An absolute path stays as it is. A relative path starts at the *parent* of the caller's own
/// cgroup. Without a path, the container's id is used as a relative path. A path can't start at the
/// caller's own cgroup, because that cgroup has processes and so can't enable controllers for a
/// child. `own` is the text of /proc/self/cgroup, and is used only for a relative path.
pub(crate) fn plan_path(
    cgroups_path: Option<&Path>,
    id: &str,
    own: &str,
) -> Result<PathBuf, Violation> {
    let path = cgroups_path.filter(|path| !path.as_os_str().is_empty());
    if let Some(path) = path {
        check_characters(path)?;
    }
    match path {
        Some(path) if path.is_absolute() => normalise_path(path),
        relative => {
            let own = own
                .lines()
                .find_map(|line| line.strip_prefix("0::"))
                .ok_or_else(|| {
                    path_violation("is not absolute, and this process is in no cgroup of version 2")
                })?;
            let base = Path::new(own).parent().unwrap_or(Path::new("/"));
            normalise_path(&base.join(relative.unwrap_or(Path::new(id)))).map_err(|mut v| {
                if own.contains("..") {
                    v.problem = format!(
                        "is not absolute, and this process' own cgroup {own} lies outside its cgroup namespace"
                    );
                }
                v
            })
        }
    }
}

fn path_violation(problem: impl Into<String>) -> Violation {
    Violation::new(CGROUPS_PATH_FIELD, problem)
}

fn check_characters(path: &Path) -> Result<(), Violation> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.contains(&0) || bytes.contains(&b'\n') {
        return Err(path_violation(format!(
            "{path:?} contains a NUL or a line break"
        )));
    }
    Ok(())
}

/// Normalises the path: removes leading, duplicate and trailing slashes.
fn normalise_path(path: &Path) -> Result<PathBuf, Violation> {
    let mut below = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) if name.len() > 255 => {
                return Err(path_violation("a component is longer than 255 bytes"));
            }
            Component::Normal(name) => below.push(name),
            Component::ParentDir => {
                return Err(path_violation(format!("{path:?} contains \"..\"")));
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if below.as_os_str() == OsStr::new("") {
        return Err(path_violation("is the root cgroup"));
    }
    Ok(below)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OWN: &str = "9:name=systemd:/\n1:cpu:/\n0::/user.slice/session-1.scope\n";

    fn plan(path: &str, own: &str) -> Result<PathBuf, Violation> {
        plan_path(Some(Path::new(path)), "box", own)
    }

    #[test]
    fn a_path_goes_where_runc_puts_it() {
        let good = [
            ("/a/b", OWN, "a/b"),
            ("/a//b/", "", "a/b"),
            ("/a/./b", "", "a/b"),
            ("a/b", OWN, "user.slice/a/b"),
            ("a", "0::/\n", "a"),
            ("a", "0::/top\n", "a"),
            ("", OWN, "user.slice/box"),
            ("/system.slice:x", "", "system.slice:x"),
            ("/a:b:c", "", "a:b:c"),
            // buildkit uses such paths when dockerd has the systemd driver, but it calls the
            // runtime without the flag for that driver.
            (
                "system.slice:docker:box",
                OWN,
                "user.slice/system.slice:docker:box",
            ),
        ];
        for (path, own, planned) in good {
            assert_eq!(plan(path, own).unwrap(), Path::new(planned), "{path:?}");
        }
        assert_eq!(
            plan_path(None, "box", OWN).unwrap(),
            Path::new("user.slice/box")
        );
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_refused() {
        let bad = [
            ("/", OWN, "root"),
            ("//.", OWN, "root"),
            ("/a/../b", OWN, "\"..\""),
            ("../b", OWN, "\"..\""),
            ("a\0b", OWN, "NUL"),
            ("/a\nb", OWN, "line break"),
            ("a", "1:cpu:/\n", "no cgroup of version 2"),
            ("a", "0::/../x\n", "outside"),
        ];
        for (path, own, problem) in bad {
            let violation = plan(path, own).unwrap_err();
            assert_eq!(violation.origin, crate::origin::config("linux.cgroupsPath"));
            assert!(violation.problem.contains(problem), "{path:?}: {violation}");
        }
        assert!(plan(&format!("/{}", "x".repeat(256)), OWN).is_err());
    }
}
