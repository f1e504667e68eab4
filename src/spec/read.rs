//! Reads a configuration file as text, safely even if its path leads to another kind of file.
//! `json` parses the text.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::{Mode, SFlag, fstat};

use super::Error;
use crate::sys::{self, path, procfs};

/// The largest file that is read, in bytes.
pub(super) const MAX_FILE_BYTES: u64 = 16 << 20;

/// Reads a regular file of at most 16 MiB. `file` is the file's name in messages.
pub(super) fn read_regular_file(file: &str, at: &Path) -> Result<String, Error> {
    read_path(file, at, false)
}

/// Like `read_regular_file`, but also reads a pipe until it is closed: `--process <(jq ...)`.
pub(super) fn read_file_or_pipe(file: &str, at: &Path) -> Result<String, Error> {
    read_path(file, at, true)
}

fn read_path(file: &str, at: &Path, pipes: bool) -> Result<String, Error> {
    // Opening the file must not wait for the writer of a fifo, nor acquire a terminal.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let fd = sys::retry(|| open(at, flags, Mode::empty())).map_err(|errno| Error::Open {
        file: file.into(),
        path: at.into(),
        errno,
    })?;
    let unreadable = |errno| Error::Read {
        file: file.into(),
        path: at.into(),
        errno,
    };
    let stat = fstat(&fd).map_err(unreadable)?;
    if pipes && path::is_file_type(&stat, SFlag::S_IFIFO) {
        // Wait for data, because a writer may not have written yet. A fifo without a writer gives
        // end of file at once.
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::empty())).map_err(unreadable)?;
    } else if !path::is_file_type(&stat, SFlag::S_IFREG) {
        return Err(Error::NotRegular {
            file: file.into(),
            path: at.into(),
        });
    }
    // Limit the bytes that are read, not the file's size. Files in /proc report no size.
    let expected = usize::try_from(stat.st_size).unwrap_or(0) + 1;
    read_all(file, File::from(fd), expected, unreadable)
}

/// Reads the text from stdin, at most 16 MiB.
pub(super) fn read_stdin(file: &str) -> Result<String, Error> {
    read_all(file, std::io::stdin(), 0, |errno| Error::Read {
        file: file.into(),
        path: "/dev/stdin".into(),
        errno,
    })
}

fn read_all(
    file: &str,
    source: impl Read,
    expected: usize,
    unreadable: impl FnOnce(sys::Errno) -> Error,
) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(expected.min(1 << 24));
    source
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(procfs::errno_of(&error)))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::TooLarge { file: file.into() });
    }
    decode_utf8(bytes).map_err(|problem| Error::Syntax {
        file: file.into(),
        problem,
    })
}

fn decode_utf8(bytes: Vec<u8>) -> Result<String, String> {
    let problem = match bytes.as_slice() {
        [] => "is empty".to_owned(),
        [0xef, 0xbb, 0xbf, ..] => "starts with a byte order mark".to_owned(),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => {
            "is not UTF-8 (it looks like UTF-16)".to_owned()
        }
        _ => match String::from_utf8(bytes) {
            Ok(text) => return Ok(text),
            Err(error) => format!(
                "is not UTF-8 (at byte {})",
                error.utf8_error().valid_up_to()
            ),
        },
    };
    Err(problem)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_plain_utf8_is_text() {
        assert_eq!(decode_utf8(b"{}".to_vec()).unwrap(), "{}");
        for (bytes, problem) in [
            (&b""[..], "is empty"),
            (b"\xef\xbb\xbf{}", "starts with a byte order mark"),
            (b"\xff\xfe{\0}\0", "is not UTF-8 (it looks like UTF-16)"),
            (b"{\0}\0", "is not UTF-8 (it looks like UTF-16)"),
            (b"{\"a\":\"\xff\"}", "is not UTF-8 (at byte 6)"),
        ] {
            assert_eq!(decode_utf8(bytes.to_vec()).unwrap_err(), problem);
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let dir = std::env::temp_dir().join(format!("orlop-spec-read-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let fifo = dir.join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR).unwrap();
        let large = dir.join("large");
        File::create(&large)
            .unwrap()
            .set_len(MAX_FILE_BYTES + 1)
            .unwrap();
        let refused = |path: &Path| {
            read_regular_file("config.json", path)
                .unwrap_err()
                .to_string()
        };
        let (shown, missing) = (dir.display(), dir.join("missing"));
        assert_eq!(
            refused(&dir),
            format!("config.json: {shown} is not a regular file")
        );
        assert_eq!(
            refused(&fifo),
            format!("config.json: {shown}/fifo is not a regular file")
        );
        assert_eq!(refused(&large), "config.json: larger than 16 MiB");
        assert_eq!(
            refused(&missing),
            format!("config.json: open {shown}/missing: ENOENT (no such file or directory)")
        );
        assert_eq!(
            refused(&large.join("x")),
            format!("config.json: open {shown}/large/x: ENOTDIR (not a directory)")
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
