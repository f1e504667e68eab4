//! Parent: runs newuidmap(1) and newgidmap(1), with which a user who isn't root maps the ids that
//! /etc/subuid and /etc/subgid grant.
//! `ids` writes mappings that need no tool.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Error;
use crate::origin::config;
use crate::plan::ids::Range;

/// The directories to search after those of PATH, because engines pass hardly any environment.
const DIRECTORIES: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Maps ids of a process with one of the two tools. Runs only tools of the host, never one from a
/// root file system. `place` is the list in config.json.
pub(super) fn map(tool: &str, pid: i32, ranges: &[Range], place: &str) -> Result<(), Error> {
    let refuse = |problem: String| Error::IdMapTool {
        tool: tool.into(),
        origin: config(place.to_owned()),
        problem,
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let file = find(tool, &path).ok_or_else(|| {
        let missing = "it is not installed (Debian: uidmap); without it only the caller's own id can be mapped";
        refuse(missing.into())
    })?;
    let output = Command::new(&file)
        .arg(pid.to_string())
        .args(ranges.iter().flat_map(Range::tool_arguments))
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| refuse(format!("run {}: {error}", file.display())))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().map(str::trim).collect();
    let said = said.join("; ");
    Err(refuse(match said.trim() {
        "" => format!("it ended with {}", output.status),
        said => said.to_owned(),
    }))
}

/// Finds a program in an absolute directory of PATH, or in one of `DIRECTORIES`.
fn find(tool: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .chain(std::env::split_paths(DIRECTORIES))
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(tool))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|stat| stat.is_file() && stat.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_not_looked_for_in_a_relative_directory() {
        assert_eq!(find("sh", "/bin".as_ref()), Some("/bin/sh".into()));
        assert_eq!(find("no-such-tool", "".as_ref()), None);
        // The current directory has a file of that name.
        assert_eq!(find("Cargo.toml", ".::".as_ref()), None);
    }
}
