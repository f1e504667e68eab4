//! The last error in a CRIU log, for the error message that names the log.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The number of bytes that are read from the end of a log.
const TAIL_BYTES: u64 = 256 << 10;
/// The number of characters that are quoted from a line.
const MAX_QUOTE_CHARS: usize = 400;

/// Returns `; its last error in LOG: LINE`, or else the path of the log.
pub(super) fn quote_last_error(log: &Path) -> String {
    match read_last_error(log) {
        Some(line) => format!("; its last error in {}: {line}", log.display()),
        None => format!("; its log is {}", log.display()),
    }
}

fn read_last_error(log: &Path) -> Option<String> {
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(log)
        .ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() {
        return None;
    }
    let begin = metadata.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(begin)).ok()?;
    let mut text = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut text).ok()?;
    find_error(&String::from_utf8_lossy(&text))
}

/// Texts in the errors that CRIU logs after the decisive error. Those errors report only that the
/// whole operation failed, or how its processes exited.
const CONSEQUENTIAL_ERRORS: [&str; 7] = [
    " FAILED.",
    " failed with -1",
    "exited, status=",
    "killed by signal",
    "cgroupd:",
    "Unable to open fd=",
    "Can't setup RLIMIT_NOFILE",
];

/// Returns the last error line that gives a reason, or else the last error line.
fn find_error(text: &str) -> Option<String> {
    let errors = || text.lines().rev().filter(|line| line.contains("Error ("));
    let says_why = |line: &&str| {
        !CONSEQUENTIAL_ERRORS
            .iter()
            .any(|words| line.contains(words))
    };
    let line = errors().find(says_why).or_else(|| errors().next())?;
    Some(line.trim().chars().take(MAX_QUOTE_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_that_says_why_is_quoted() {
        let log = "(00.01) one\n(00.02) Error (criu/a.c:1): first\n(00.03) Error (criu/b.c:2): second\n\
                   (00.04) Error (criu/util.c:656): exited, status=1\n(00.05) Error (criu/cr-dump.c:2111): Dumping FAILED.\n";
        let quoted = find_error(log);
        assert_eq!(
            quoted.as_deref(),
            Some("(00.03) Error (criu/b.c:2): second")
        );
        let only = "(00.05) Error (criu/cr-dump.c:2111): Dumping FAILED.\n";
        assert_eq!(find_error(only).as_deref(), Some(only.trim()));
        assert_eq!(find_error("(00.01) all is well\n"), None);
    }
}
