//! Converts linux.cgroupsPath (`slice:prefix:name`) to a slice and the name of a scope in it, for
//! the systemd driver.
//! This module sends no requests to systemd.

use std::path::{Path, PathBuf};

use crate::diagnosis::Code;
use crate::error::Violation;

const CGROUPS_PATH_FIELD: &str = "linux.cgroupsPath";
/// systemd's UNIT_NAME_MAX without the terminating NUL.
const MAX_UNIT_NAME_BYTES: usize = 255;

/// The systemd names that linux.cgroupsPath specifies.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ScopeNames {
    pub(super) slice: String,
    pub(super) unit: String,
    /// The last part of the path, for the description of the scope.
    pub(super) container: String,
}

/// Parses linux.cgroupsPath. If the path is missing or empty, derives the names from the
/// container's id.
pub(super) fn plan_names(
    cgroups_path: Option<&Path>,
    id: &str,
    user: bool,
) -> Result<ScopeNames, Violation> {
    let default = if user { "user.slice" } else { "system.slice" };
    let path = cgroups_path.filter(|path| !path.as_os_str().is_empty());
    let Some(path) = path else {
        // `+` is the only character that is valid in an id but not in the name of a unit.
        let unit = format!("orlop-{}.scope", id.replace('+', "\\x2b"));
        return Ok(ScopeNames {
            slice: default.into(),
            unit: check_unit_name(unit)?,
            container: id.into(),
        });
    };
    let wrong_form = || {
        path_violation(format!(
            "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
        ))
        .coded(Code::SystemdCgroupPath)
    };
    let text = path.to_str().ok_or_else(wrong_form)?;
    let parts: Vec<&str> = text.split(':').collect();
    let [slice, prefix, name] = parts.as_slice() else {
        return Err(wrong_form());
    };
    if name.ends_with(".slice") {
        return Err(path_violation(format!(
            "{name:?} is a slice, and only a scope can hold the processes of a container"
        )));
    }
    let slice = match *slice {
        "" => default.into(),
        "-" => "-.slice".into(),
        other => check_slice_name(other)?,
    };
    Ok(ScopeNames {
        slice,
        unit: check_unit_name(format!("{prefix}-{name}.scope"))?,
        container: (*name).into(),
    })
}

/// Returns the path of a slice's cgroup, relative to systemd's root cgroup: `a.slice/a-b.slice` for
/// `a-b.slice`.
pub(super) fn slice_cgroup_path(slice: &str) -> PathBuf {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    let ends = stem.match_indices('-').map(|(at, _)| at);
    ends.chain([stem.len()])
        .filter_map(|end| stem.get(..end))
        .filter(|stem| !stem.is_empty() && *stem != "-")
        .map(|stem| format!("{stem}.slice"))
        .collect()
}

/// Returns the object path of a unit on the bus. Characters other than letters and digits are
/// escaped, and so is a digit at the start.
pub(super) fn unit_object_path(unit: &str) -> String {
    let mut object = "/org/freedesktop/systemd1/unit/".to_owned();
    for (at, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit() {
            object.push(char::from(byte));
        } else {
            object += &format!("_{byte:02x}");
        }
    }
    object
}

fn path_violation(problem: String) -> Violation {
    Violation::new(CGROUPS_PATH_FIELD, problem)
}

/// Checks a name as systemd's unit_name_is_valid does.
fn check_unit_name(unit: String) -> Result<String, Violation> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if unit.len() > MAX_UNIT_NAME_BYTES || !unit.chars().all(allowed) || unit.starts_with('@') {
        return Err(path_violation(format!(
            "{unit:?} can't be the name of a systemd unit (at most {MAX_UNIT_NAME_BYTES} of letters, digits and :-_.\\@)"
        )));
    }
    Ok(unit)
}

/// Checks the name of a slice. Dashes in the name separate its levels (a-b.slice is in a.slice), so
/// no part between dashes may be empty.
fn check_slice_name(slice: &str) -> Result<String, Violation> {
    let invalid = || path_violation(format!("invalid slice name: {slice:?}"));
    let stem = slice.strip_suffix(".slice").ok_or_else(invalid)?;
    if stem != "-" && stem.split('-').any(str::is_empty) {
        return Err(invalid());
    }
    check_unit_name(slice.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(path: &str) -> Result<(String, String, String), Violation> {
        let names = plan_names(Some(Path::new(path)), "box", false)?;
        Ok((names.slice, names.unit, names.container))
    }

    #[test]
    fn a_slice_is_in_those_that_its_dashes_name() {
        for (slice, path) in [
            ("-.slice", ""),
            ("a.slice", "a.slice"),
            ("a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice"),
        ] {
            assert_eq!(slice_cgroup_path(slice), Path::new(path));
        }
    }

    #[test]
    fn a_unit_is_an_object_of_letters_and_digits() {
        for (unit, object) in [
            ("cri-0ab.scope", "cri_2d0ab_2escope"),
            ("1-a\\x2bb.scope", "_31_2da_5cx2bb_2escope"),
        ] {
            let expected = format!("/org/freedesktop/systemd1/unit/{object}");
            assert_eq!(super::unit_object_path(unit), expected);
        }
    }

    #[test]
    fn a_path_names_a_slice_and_a_scope_as_in_runc() {
        let table = [
            (
                "system.slice:docker:1234",
                "system.slice",
                "docker-1234.scope",
                "1234",
            ),
            (":cri:x", "system.slice", "cri-x.scope", "x"),
            (
                "kubepods-burstable-pod1_2.slice:cri-containerd:ab",
                "kubepods-burstable-pod1_2.slice",
                "cri-containerd-ab.scope",
                "ab",
            ),
            ("-:p:n", "-.slice", "p-n.scope", "n"),
            ("-.slice:p:n", "-.slice", "p-n.scope", "n"),
            ("a.slice::n", "a.slice", "-n.scope", "n"),
            ("", "system.slice", "orlop-box.scope", "box"),
        ];
        for (path, slice, unit, container) in table {
            let expected = (slice.into(), unit.into(), container.into());
            assert_eq!(names(path).unwrap(), expected, "{path:?}");
        }
        let names = plan_names(None, "a+b", true).unwrap();
        assert_eq!(
            (&*names.slice, &*names.unit),
            ("user.slice", "orlop-a\\x2bb.scope")
        );
    }

    #[test]
    fn a_path_of_another_form_is_refused_in_runcs_words() {
        for path in ["/a/b", "a", "a:b", "a.slice:b:c:d"] {
            let expected = format!(
                "config.json: linux.cgroupsPath: expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"{path}\" instead"
            );
            assert_eq!(names(path).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn names_that_systemd_does_not_take_are_refused() {
        let long = format!("a.slice:b:{}", "c".repeat(250));
        for (path, problem) in [
            ("a:b:c", "invalid slice name: \"a\""),
            ("a--b.slice:b:c", "invalid slice name"),
            ("-a.slice:b:c", "invalid slice name"),
            (".slice:b:c", "invalid slice name"),
            ("a/b.slice:b:c", "can't be the name"),
            ("a.slice:b:c d", "can't be the name"),
            ("a.slice:b:../c", "can't be the name"),
            ("a.slice:b:c\n", "can't be the name"),
            ("a.slice:b:c.slice", "is a slice"),
            (&long, "can't be the name"),
        ] {
            let error = names(path).unwrap_err().to_string();
            assert!(error.contains(problem), "{path}: {error}");
        }
    }
}
