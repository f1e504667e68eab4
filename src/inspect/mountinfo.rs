//! Parses /proc/PID/mountinfo: proc_pid_mountinfo(5). A container may control any part of the text.
//! `mounts` and `paths` evaluate the mounts.

use std::collections::BTreeSet;

/// One mount, with its names unescaped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct MountEntry {
    pub(super) id: u64,
    pub(super) parent: u64,
    /// The path in the file system that is the root of the mount.
    pub(super) root: String,
    pub(super) point: String,
    /// Flags of the mount, like `ro,nosuid`.
    pub(super) options: String,
    pub(super) shared: bool,
    pub(super) slave: bool,
    pub(super) unbindable: bool,
    pub(super) kind: String,
    /// Flags of the file system.
    pub(super) superblock: String,
}

impl MountEntry {
    /// True if the mount has a flag.
    pub(super) fn has(&self, flag: &str) -> bool {
        self.options.split(',').any(|option| option == flag)
    }

    /// True if nothing can be written through the mount.
    pub(super) fn is_read_only(&self) -> bool {
        self.has("ro") || self.superblock.split(',').any(|option| option == "ro")
    }

    /// Returns the propagation in the words of mount(8).
    pub(super) fn propagation(&self) -> &'static str {
        match (self.shared, self.slave, self.unbindable) {
            (true, true, _) => "shared,slave",
            (true, false, _) => "shared",
            (false, true, _) => "slave",
            (false, false, true) => "unbindable",
            (false, false, false) => "private",
        }
    }
}

/// Parses the file. Skips lines that don't have its format.
pub(super) fn parse(bytes: &[u8]) -> Vec<MountEntry> {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut words = line.split(|byte| *byte == b' ');
    let mut entry = MountEntry {
        id: number(words.next()?)?,
        parent: number(words.next()?)?,
        ..MountEntry::default()
    };
    let _device = words.next()?;
    entry.root = unescape(words.next()?);
    entry.point = unescape(words.next()?);
    entry.options = unescape(words.next()?);
    for word in words.by_ref() {
        match word {
            b"-" => break,
            b"unbindable" => entry.unbindable = true,
            word if word.starts_with(b"shared:") => entry.shared = true,
            word if word.starts_with(b"master:") => entry.slave = true,
            _ => {}
        }
    }
    entry.kind = unescape(words.next()?);
    let _source = words.next()?;
    entry.superblock = unescape(words.next().unwrap_or_default());
    Some(entry)
}

fn number(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Replaces octal escapes like `\040` with their characters.
fn unescape(word: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) if byte == b'\\' => {
                bytes.push(code);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns the topmost mount at a path, if the path is a mount point.
pub(super) fn top<'a>(mounts: &'a [MountEntry], path: &str) -> Option<&'a MountEntry> {
    let here: Vec<&MountEntry> = mounts.iter().filter(|mount| mount.point == path).collect();
    let covered: BTreeSet<u64> = here.iter().map(|mount| mount.parent).collect();
    here.iter()
        .rev()
        .find(|mount| !covered.contains(&mount.id))
        .copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_line_is_read_with_its_escapes_and_its_propagation() {
        let text =
            b"36 35 98:0 /mnt1 /a\\040b\\012c rw,noatime master:1 shared:2 - ext3 /dev/x rw\n\
            garbage\n\
            37 36 0:5 / /dev ro - tmpfs tmpfs rw\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].point, "/a b\nc");
        assert_eq!(mounts[0].propagation(), "shared,slave");
        assert_eq!(
            (mounts[0].kind.as_str(), mounts[0].root.as_str()),
            ("ext3", "/mnt1")
        );
        assert!(mounts[0].has("noatime") && !mounts[0].is_read_only());
        assert_eq!(mounts[1].propagation(), "private");
        assert!(mounts[1].is_read_only());
    }

    #[test]
    fn the_top_of_a_stack_is_the_mount_that_none_covers() {
        let text =
            b"9 1 0:1 / /x rw - a s rw\n7 9 0:1 / /x rw - b s rw\n8 7 0:1 / /x rw - c s rw\n";
        assert_eq!(top(&parse(text), "/x").unwrap().kind, "c");
        assert_eq!(top(&parse(text), "/y"), None);
    }
}
