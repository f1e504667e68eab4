//! Finds the reason why the kernel can't execute a file: what the file's first bytes require, and
//! which part of that is missing in a root.
//! Nothing is executed. Callers decide which file is the program.
//!
//! The container may have made the file, and may replace it at any time. So paths are resolved in
//! the root, and only a few bytes of regular files are read.

use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::diagnosis::Code;
use crate::sys::procfs::Procfs;
use crate::sys::{Errno, Result, path};

/// The number of bytes at the start of a file that the kernel looks at: BINPRM_BUF_SIZE.
const HEAD: usize = 256;
/// The longest chain of scripts that are interpreters of each other, as in the kernel.
const DEEPEST: usize = 5;
/// The largest number of program headers to read. The kernel takes at most 64 KiB of them.
const MOST_HEADERS: u16 = 128;
/// The longest path of a loader.
const LONGEST_PATH: u64 = 4096;
const PT_INTERP: u32 = 3;

/// Returns runc's message for a program that no directory of PATH has.
pub(crate) fn not_in_path(name: &str) -> String {
    format!("exec: {name:?}: executable file not found in $PATH")
}

/// Returns runc's message for a program that may not be executed.
pub(crate) fn denied(name: &str, errno: Errno) -> String {
    format!("exec: {name:?}: {}", errno.desc().to_lowercase())
}

/// Returns runc's message for a program at a path that can't be reached.
pub(crate) fn unreachable(name: &str, errno: Errno) -> String {
    let reason = errno.desc().to_lowercase();
    format!("exec: {name:?}: stat {name}: {reason}")
}

/// The reason why a file that exists can't be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    Noexec,
    /// The script's interpreter at this path is missing.
    NoInterpreter(String),
    /// Like `NoInterpreter`, but the path ends with a carriage return.
    CarriageReturn(String),
    /// The dynamic loader at this path is missing.
    NoLoader(String),
    /// The file is built for this architecture.
    Architecture(&'static str),
    NotAProgram,
    /// The interpreter at this path has a problem itself.
    OfInterpreter(String, Box<Problem>),
}

impl Problem {
    /// Returns the architecture for which the program is built, if that is the problem.
    pub(crate) fn architecture(&self) -> Option<&'static str> {
        match self {
            Problem::Architecture(name) => Some(name),
            Problem::OfInterpreter(_, problem) => problem.architecture(),
            _ => None,
        }
    }

    /// Returns the code of the problem.
    pub(crate) fn code(&self) -> Code {
        match self {
            Problem::Noexec => Code::ProgramNoexec,
            Problem::NoInterpreter(_) => Code::InterpreterMissing,
            Problem::CarriageReturn(_) => Code::InterpreterLine,
            Problem::NoLoader(_) => Code::LoaderMissing,
            Problem::Architecture(_) => Code::WrongArchitecture,
            Problem::NotAProgram => Code::NotAProgram,
            Problem::OfInterpreter(_, problem) => problem.code(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Noexec => f.write_str("its file system is mounted noexec"),
            Problem::NoInterpreter(name) => write!(
                f,
                "the interpreter {name:?} that its first line names is not in the container"
            ),
            Problem::CarriageReturn(name) => write!(
                f,
                "its first line ends with a carriage return, so its interpreter is {name:?}, which is not in the container"
            ),
            Problem::NoLoader(name) => {
                write!(
                    f,
                    "the loader {name:?} that it needs is not in the container"
                )
            }
            Problem::Architecture(name) => write!(
                f,
                "it is built for {name}, and this machine is {}",
                std::env::consts::ARCH
            ),
            Problem::NotAProgram => {
                f.write_str("it is neither an ELF program nor a script that begins with #!")
            }
            Problem::OfInterpreter(name, problem) => {
                write!(f, "the interpreter {name:?}: {problem}")
            }
        }
    }
}

/// A file that was found by its path.
pub(crate) struct Found {
    fd: OwnedFd,
    stat: FileStat,
}

impl Found {
    /// Fails with EISDIR for a directory. Fails with EACCES if the file isn't regular, or if nobody
    /// may execute it.
    pub(crate) fn check_executable(&self) -> Result<()> {
        if path::is_file_type(&self.stat, SFlag::S_IFDIR) {
            return Err(Errno::EISDIR);
        }
        match self.is_regular() && self.stat.st_mode & 0o111 != 0 {
            true => Ok(()),
            false => Err(Errno::EACCES),
        }
    }

    fn is_regular(&self) -> bool {
        path::is_file_type(&self.stat, SFlag::S_IFREG)
    }
}

/// A root in which programs are looked up.
#[derive(Clone, Copy)]
pub(crate) struct Root<'a> {
    pub(crate) root: BorrowedFd<'a>,
    /// The host's procfs, through which a file that was found is opened for reading. Without it,
    /// the file is opened by its path again, and compared with the file that was found.
    pub(crate) proc: Option<&'a Procfs>,
}

impl Root<'_> {
    /// Finds a file. The path can't lead out of the root.
    pub(crate) fn find(&self, file: &CStr) -> Result<Found> {
        let fd = path::open_in_root(self.root, file, OFlag::O_PATH)?;
        let stat = fstat(&fd)?;
        Ok(Found { fd, stat })
    }

    /// Returns the reason why the file can't be executed, or `None` if no reason is found.
    pub(crate) fn problem(&self, file: &CStr) -> Option<Problem> {
        self.problem_within(file, DEEPEST)
    }

    fn problem_within(&self, file: &CStr, depth: usize) -> Option<Problem> {
        let found = self.find(file).ok().filter(Found::is_regular)?;
        let flags = fstatvfs(&found.fd).map(|stat| stat.flags());
        if flags.is_ok_and(|flags| flags.contains(FsFlags::ST_NOEXEC)) {
            return Some(Problem::Noexec);
        }
        let program = self.open(file, &found).ok()?;
        let mut head = [0; HEAD];
        let length = program.read_at(&mut head, 0).ok()?;
        let head = head.get(..length)?;
        if head.starts_with(b"\x7fELF") {
            return self.problem_of_elf(&program, head);
        }
        match head.strip_prefix(b"#!") {
            Some(line) => self.problem_of_script(line, depth),
            None => Some(Problem::NotAProgram),
        }
    }

    /// Opens a regular file for reading. Other files are refused, because opening them could block
    /// or have side effects.
    fn open(&self, file: &CStr, found: &Found) -> Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let fd = match self.proc {
            Some(proc) => proc.follow(&format!("self/fd/{}", found.fd.as_raw_fd()), flags)?,
            None => path::open_in_root(self.root, file, flags)?,
        };
        let stat = fstat(&fd)?;
        let is_same = (stat.st_dev, stat.st_ino) == (found.stat.st_dev, found.stat.st_ino);
        match is_same && path::is_file_type(&stat, SFlag::S_IFREG) {
            true => Ok(File::from(fd)),
            false => Err(Errno::ESTALE),
        }
    }

    /// Finds the problem of a script. `line` is the text after `#!`.
    fn problem_of_script(&self, line: &[u8], depth: usize) -> Option<Problem> {
        let name = interpreter(line);
        if name.is_empty() {
            return Some(Problem::NotAProgram);
        }
        let text = String::from_utf8_lossy(name).into_owned();
        // A relative path is not examined, because it depends on the working directory.
        let file = CString::new(name).ok().filter(|_| name.starts_with(b"/"))?;
        match self.find(&file) {
            Err(Errno::ENOENT | Errno::ENOTDIR) if text.ends_with('\r') => {
                Some(Problem::CarriageReturn(text))
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) => Some(Problem::NoInterpreter(text)),
            Err(_) => None,
            Ok(_) => {
                let problem = self.problem_within(&file, depth.checked_sub(1)?)?;
                Some(Problem::OfInterpreter(text, Box::new(problem)))
            }
        }
    }

    fn problem_of_elf(&self, program: &File, head: &[u8]) -> Option<Problem> {
        let header = Header::read(head)?;
        let runs_here = runs_here();
        if !runs_here.is_empty() && !runs_here.contains(&header.machine) {
            return Some(Problem::Architecture(machine_name(header.machine)));
        }
        let loader = header.loader(program)?;
        let text = String::from_utf8_lossy(&loader).into_owned();
        let file = CString::new(loader).ok()?;
        match self.find(&file) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => Some(Problem::NoLoader(text)),
            _ => None,
        }
    }
}

/// Returns the interpreter's path in the line of a script. The path ends at a blank, as in the
/// kernel.
fn interpreter(line: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let ends = |byte: &u8| is_blank(byte) || matches!(byte, b'\n' | b'\0');
    let start = line.iter().position(|byte| !is_blank(byte));
    let line = start.and_then(|start| line.get(start..)).unwrap_or(&[]);
    let end = line.iter().position(ends).unwrap_or(line.len());
    line.get(..end).unwrap_or_default()
}

/// The fields of an ELF header that are used here: elf(5).
struct Header {
    machine: u16,
    is_64_bit: bool,
    big_endian: bool,
    /// The offset of the program headers, their size and their number.
    headers: (u64, u16, u16),
}

impl Header {
    fn read(head: &[u8]) -> Option<Header> {
        let is_64_bit = *head.get(4)? == 2;
        let mut header = Header {
            machine: 0,
            is_64_bit,
            big_endian: *head.get(5)? == 2,
            headers: (0, 0, 0),
        };
        header.machine = header.half(head, 18)?;
        header.headers = match is_64_bit {
            true => (
                header.long(head, 32)?,
                header.half(head, 54)?,
                header.half(head, 56)?,
            ),
            false => (
                header.word(head, 28)?.into(),
                header.half(head, 42)?,
                header.half(head, 44)?,
            ),
        };
        Some(header)
    }

    fn half(&self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(match self.big_endian {
            true => u16::from_be_bytes(bytes),
            false => u16::from_le_bytes(bytes),
        })
    }

    fn word(&self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(match self.big_endian {
            true => u32::from_be_bytes(bytes),
            false => u32::from_le_bytes(bytes),
        })
    }

    fn long(&self, bytes: &[u8], at: usize) -> Option<u64> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(match self.big_endian {
            true => u64::from_be_bytes(bytes),
            false => u64::from_le_bytes(bytes),
        })
    }

    /// Returns the path of the dynamic loader, or `None` for a static program.
    fn loader(&self, program: &File) -> Option<Vec<u8>> {
        let (place, size, number) = self.headers;
        for index in 0..number.min(MOST_HEADERS) {
            let mut header = [0; 56];
            let offset = u64::from(index) * u64::from(size);
            let length = program.read_at(&mut header, place.checked_add(offset)?);
            let header = header.get(..length.ok()?)?;
            if self.word(header, 0)? != PT_INTERP {
                continue;
            }
            let (at, length) = match self.is_64_bit {
                true => (self.long(header, 8)?, self.long(header, 32)?),
                false => (self.word(header, 4)?.into(), self.word(header, 16)?.into()),
            };
            let mut path = vec![0; usize::try_from(length.min(LONGEST_PATH)).ok()?];
            let length = program.read_at(&mut path, at).ok()?;
            path.truncate(length);
            let end = path.iter().position(|byte| *byte == 0);
            path.truncate(end.unwrap_or(length));
            return Some(path).filter(|path| path.starts_with(b"/"));
        }
        None
    }
}

/// The machine numbers of elf(5), with their names in uname(2).
const MACHINES: [(u16, &str); 10] = [
    (62, "x86_64"),
    (3, "i386"),
    (183, "aarch64"),
    (40, "arm"),
    (243, "riscv64"),
    (21, "ppc64le"),
    (20, "ppc"),
    (22, "s390x"),
    (258, "loongarch64"),
    (8, "mips"),
];

fn machine_name(machine: u16) -> &'static str {
    let row = MACHINES.iter().find(|(number, _)| *number == machine);
    row.map_or("an unknown machine", |(_, name)| name)
}

/// Returns the machines whose programs this kernel runs. Empty if they are not known.
fn runs_here() -> &'static [u16] {
    match std::env::consts::ARCH {
        "x86_64" => &[62, 3],
        "aarch64" => &[183, 40],
        "riscv64" => &[243],
        "powerpc64" => &[21, 20],
        "s390x" => &[22],
        "loongarch64" => &[258],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::symlink;

    /// Makes a 64-bit program for a machine, with a loader if there is one.
    fn elf(machine: u16, loader: Option<&str>) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32] = 64;
        bytes[54] = 56;
        if let Some(loader) = loader {
            bytes[56] = 1;
            let mut header = [0; 56];
            header[0] = 3;
            header[8] = 120;
            header[32] = u8::try_from(loader.len() + 1).unwrap();
            bytes.extend(header);
            bytes.extend(loader.as_bytes());
            bytes.push(0);
        }
        bytes
    }

    #[test]
    fn what_a_file_lacks_is_named() {
        let dir = std::env::temp_dir().join(format!("orlop-program-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("bin")).unwrap();
        let own = runs_here().first().copied().unwrap();
        let other = if own == 8 { 22 } else { 8 };
        symlink("/bin/static", dir.join("bin/link")).unwrap();
        for (name, bytes) in [
            ("static", elf(own, None)),
            ("dynamic", elf(own, Some("/lib/ld.so"))),
            ("foreign", elf(other, None)),
            ("script", b"#! /bin/link -x\n".to_vec()),
            ("bare", b"#!/bin/none\n".to_vec()),
            ("dos", b"#!/bin/static\r\necho\r\n".to_vec()),
            ("nested", b"#!/bin/bare".to_vec()),
            ("relative", b"#!none\n".to_vec()),
            ("text", b"echo\n".to_vec()),
            ("empty", Vec::new()),
            ("cut", b"\x7fELF\x02".to_vec()),
            ("endless", b"#!/bin/endless\n".to_vec()),
        ] {
            std::fs::write(dir.join("bin").join(name), bytes).unwrap();
        }
        let root = File::open(&dir).unwrap();
        let root = Root {
            root: root.as_fd(),
            proc: None,
        };
        let problem = |name: &str| root.problem(&CString::new(format!("/bin/{name}")).unwrap());
        let none = || Problem::NoInterpreter("/bin/none".into());
        for (name, expected) in [
            ("static", None),
            ("script", None),
            ("relative", None),
            ("cut", None),
            ("endless", None),
            ("missing", None),
            ("dynamic", Some(Problem::NoLoader("/lib/ld.so".into()))),
            ("foreign", Some(Problem::Architecture(machine_name(other)))),
            ("bare", Some(none())),
            ("dos", Some(Problem::CarriageReturn("/bin/static\r".into()))),
            (
                "nested",
                Some(Problem::OfInterpreter("/bin/bare".into(), Box::new(none()))),
            ),
            ("text", Some(Problem::NotAProgram)),
            ("empty", Some(Problem::NotAProgram)),
        ] {
            assert_eq!(problem(name), expected, "{name}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
