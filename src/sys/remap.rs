//! Replaces the file from which this process runs with a copy, as if the copy had been executed.
//! The mappings of the binary and /proc/self/exe change. This takes a tenth of the time of an exec.
//! `seal` decides when to do this and with which file.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::process::auxiliary_value;
use super::{Errno, Result, check};

/// A part of the binary in memory, in whole pages.
#[derive(Clone, Copy)]
struct BinarySegment {
    address: usize,
    length: usize,
    offset: libc::off_t,
    protection: libc::c_int,
}

/// struct prctl_mm_map of linux/prctl.h: the addresses of the parts of a process, as the kernel
/// records them.
#[repr(C)]
struct MemoryMap {
    code: [u64; 2],
    data: [u64; 2],
    heap: [u64; 2],
    stack: u64,
    arguments: [u64; 2],
    environment: [u64; 2],
    auxiliary_vector: u64,
    auxiliary_vector_size: u32,
    exe: u32,
}

/// Replaces the file from which this process runs with a copy that is open for reading. If this
/// fails, the process still works, and /proc/self/exe is the old file.
///
/// Fails with EPERM if the caller has neither CAP_CHECKPOINT_RESTORE nor CAP_SYS_ADMIN, and with
/// EINVAL if the kernel lacks CONFIG_CHECKPOINT_RESTORE. Fails with EBUSY if a part of the old file
/// is still mapped, which the kernel checks in `replace_mm_exe_file`.
pub(crate) fn replace_exe(file: BorrowedFd<'_>) -> Result<()> {
    let map = read_memory_map(file)?;
    let (segments, relro) = segments()?;
    for segment in segments {
        if segment.protection & libc::PROT_WRITE == 0 {
            remap_segment(file, segment)?;
        } else {
            copy(segment)?;
        }
    }
    if let Some(relro) = relro {
        protect(relro)?;
    }
    const MM_OPTION: libc::c_int = libc::PR_SET_MM;
    const MM_MAP_OPERATION: libc::c_int = libc::PR_SET_MM_MAP;
    let size = size_of::<MemoryMap>();
    // SAFETY: the kernel reads one MemoryMap and refuses impossible values.
    check(unsafe { libc::prctl(MM_OPTION, MM_MAP_OPERATION, &raw const map, size, 0) }.into())
        .map(drop)
}

/// Reads the current values from proc_pid_stat(5).
fn read_memory_map(file: BorrowedFd<'_>) -> Result<MemoryMap> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let stat = crate::sys::open(c"/proc/self/stat", flags, Mode::empty())?;
    let mut buffer = [0; 2048];
    // The file has 52 numbers of at most 20 digits each, so one read is enough.
    let length = nix::unistd::read(&stat, &mut buffer)?;
    let stat = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
    // The program name, which is field 2, may contain any characters. The other fields follow its
    // last parenthesis.
    let (_, fields) = stat.rsplit_once(") ").ok_or(Errno::EINVAL)?;
    let mut numbers = [0_u64; 50];
    for (number, field) in numbers.iter_mut().zip(fields.split_ascii_whitespace()) {
        *number = field.parse().unwrap_or(0);
    }
    let field = |number: usize| numbers.get(number - 3).copied().unwrap_or(0);
    // SAFETY: sbrk(0) changes nothing; it returns the end of the heap.
    let heap_end = unsafe { libc::sbrk(0) };
    Ok(MemoryMap {
        code: [field(26), field(27)],
        data: [field(45), field(46)],
        heap: [field(47), heap_end as u64],
        stack: field(28),
        arguments: [field(48), field(49)],
        environment: [field(50), field(51)],
        auxiliary_vector: 0,
        auxiliary_vector_size: 0,
        exe: file.as_raw_fd() as u32,
    })
}

/// Returns the loaded segments of this program according to its program headers, and the part that
/// the C library made read-only at start (PT_GNU_RELRO).
fn segments() -> Result<(Vec<BinarySegment>, Option<BinarySegment>)> {
    let headers = auxiliary_value(libc::AT_PHDR) as *const libc::Elf64_Phdr;
    let count = auxiliary_value(libc::AT_PHNUM) as usize;
    if headers.is_null() {
        return Err(Errno::ENOEXEC);
    }
    // SAFETY: the kernel gave address and number of the mapped headers, which never change.
    let headers = unsafe { std::slice::from_raw_parts(headers, count) };
    let itself = headers.iter().find(|header| header.p_type == libc::PT_PHDR);
    let itself = itself.ok_or(Errno::ENOEXEC)?.p_vaddr as usize;
    let base = (headers.as_ptr() as usize).wrapping_sub(itself);
    let page = auxiliary_value(libc::AT_PAGESZ) as usize;
    let pages = |header: &libc::Elf64_Phdr| {
        let begin = base.wrapping_add(header.p_vaddr as usize);
        let address = begin & !(page - 1);
        let end = (begin + header.p_filesz as usize).next_multiple_of(page);
        let flag = |bit, protection| {
            if header.p_flags & bit == 0 {
                0
            } else {
                protection
            }
        };
        BinarySegment {
            address,
            length: end - address,
            offset: (header.p_offset as usize & !(page - 1)) as libc::off_t,
            protection: flag(libc::PF_R, libc::PROT_READ)
                | flag(libc::PF_W, libc::PROT_WRITE)
                | flag(libc::PF_X, libc::PROT_EXEC),
        }
    };
    let loaded = headers
        .iter()
        .filter(|header| header.p_type == libc::PT_LOAD && header.p_filesz > 0);
    let relro = headers
        .iter()
        .find(|header| header.p_type == libc::PT_GNU_RELRO);
    let relro = relro.map(|header| {
        let mut segment = pages(header);
        // The C library protects only whole pages (`_dl_protect_relro`).
        let end = base.wrapping_add((header.p_vaddr + header.p_memsz) as usize) & !(page - 1);
        segment.length = end.saturating_sub(segment.address);
        segment
    });
    Ok((loaded.map(pages).collect(), relro))
}

/// Maps a segment from the file over the old mapping.
fn remap_segment(file: BorrowedFd<'_>, segment: BinarySegment) -> Result<()> {
    // SAFETY: the mapping is replaced in one step by the same bytes at the same address with the
    // same protection.
    let mapped = unsafe {
        libc::mmap(
            segment.address as *mut libc::c_void,
            segment.length,
            segment.protection,
            libc::MAP_PRIVATE | libc::MAP_FIXED,
            file.as_raw_fd(),
            segment.offset,
        )
    };
    if mapped == libc::MAP_FAILED {
        Err(Errno::last())
    } else {
        Ok(())
    }
}

/// Replaces a writable segment, in one step, with anonymous memory with the same content.
fn copy(segment: BinarySegment) -> Result<()> {
    // SAFETY: this is new memory at an address that the kernel chooses.
    let new = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            segment.length,
            segment.protection,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if new == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    let old = segment.address as *mut libc::c_void;
    // SAFETY: both areas are mapped with this length, and the old one is readable. There is one
    // thread. Between copying and moving, only this function writes, and its variables are on the
    // stack; errno is not in the segment.
    unsafe { std::ptr::copy_nonoverlapping(old, new, segment.length) };
    // SAFETY: these are whole pages of the same length with the same content.
    let moved = unsafe {
        libc::mremap(
            new,
            segment.length,
            segment.length,
            libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
            old,
        )
    };
    if moved == libc::MAP_FAILED {
        Err(Errno::last())
    } else {
        Ok(())
    }
}

fn protect(segment: BinarySegment) -> Result<()> {
    let (address, length) = (segment.address as *mut libc::c_void, segment.length);
    // SAFETY: the C library made these pages read-only at start, before they were replaced.
    check(unsafe { libc::mprotect(address, length, libc::PROT_READ) }.into()).map(drop)
}
