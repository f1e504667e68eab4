//! Parent: writes --pid-file atomically. The file has the pid in decimal without a newline, as
//! go-runc and other clients expect.

use std::io::Write;
use std::path::Path;

use super::Error;
use crate::error::failed;
use crate::sys::Errno;
use crate::sys::procfs::errno_of;

/// Writes the pid to a temporary file in the same directory, and renames the file. Does nothing if
/// no file is given.
pub(super) fn write(file: Option<&Path>, pid: i32) -> Result<(), Error> {
    let Some(file) = file else { return Ok(()) };
    let what = || format!("write the pid file {} (--pid-file)", file.display());
    // A rename would replace /dev/full or another device by a file.
    if std::fs::symlink_metadata(file)
        .is_ok_and(|old| !(old.is_file() || old.is_symlink() || old.is_dir()))
    {
        return Err(failed("rename", what)(Errno::EEXIST).into());
    }
    let mut name = std::ffi::OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    let new = file.with_file_name(name);
    // A killed predecessor may have left a temporary file.
    let _ = std::fs::remove_file(&new);
    let written =
        std::fs::File::create_new(&new).and_then(|mut f| f.write_all(pid.to_string().as_bytes()));
    written.map_err(|e| failed("write", what)(errno_of(&e)))?;
    std::fs::rename(&new, file).map_err(|e| {
        let _ = std::fs::remove_file(&new);
        failed("rename", what)(errno_of(&e)).into()
    })
}
