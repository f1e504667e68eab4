//! Calls that a filter around the runtime refuses, as old kernels and the profiles of engines do.
#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::Command;

use libc::{c_long, sock_filter};

/// A call that is refused, by its number, and if told only with this first argument.
pub(super) type Refused = (c_long, Option<u32>, i32);

/// Has a command run under a filter that refuses these calls; the first argument counts where one is told.
pub(super) fn refusing(command: &mut Command, calls: &[Refused]) {
    let program = program(calls);
    let set = move || {
        // The test's user is root, but who runs the command need not be.
        nix::sys::prctl::set_no_new_privs()?;
        let filter = libc::sock_fprog {
            len: program.len() as u16,
            filter: program.as_ptr().cast_mut(),
        };
        let mode = libc::SECCOMP_MODE_FILTER as c_long;
        // SAFETY: the kernel copies the program, which lives as long as this closure.
        match unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec only two system calls are made, on memory that was filled before.
    unsafe { command.pre_exec(set) };
}

fn program(calls: &[Refused]) -> Vec<sock_filter> {
    let line = |code: u32, jt: u8, jf: u8, k: u32| sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const ANSWER: u32 = libc::BPF_RET | libc::BPF_K;
    // struct seccomp_data: the number, then the arguments from byte 16 on.
    let mut all = Vec::new();
    for (number, first, errno) in calls {
        let refusal = libc::SECCOMP_RET_ERRNO | *errno as u32;
        all.push(line(LOAD, 0, 0, 0));
        match first {
            None => all.push(line(EQUAL, 0, 1, *number as u32)),
            Some(value) => {
                all.push(line(EQUAL, 0, 3, *number as u32));
                all.push(line(LOAD, 0, 0, 16));
                all.push(line(EQUAL, 0, 1, *value));
            }
        }
        all.push(line(ANSWER, 0, 0, refusal));
    }
    all.push(line(ANSWER, 0, 0, libc::SECCOMP_RET_ALLOW));
    all
}
