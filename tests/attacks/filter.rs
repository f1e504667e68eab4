//! A filter around the runtime that refuses system calls, as old kernels and engines' profiles do.
#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::Command;

use libc::{c_long, sock_filter};
use serde_json::json;

use super::{Canary, report};

/// A refused call: its number, the first argument (`None` refuses any), and the errno.
pub(super) type Refused = (c_long, Option<u32>, i32);

/// Makes a command run under a filter that refuses these calls.
pub(super) fn refusing(command: &mut Command, calls: &[Refused]) {
    let program = program(calls);
    let set = move || {
        // The test's user is root, but the command's user need not be.
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
    // SAFETY: between fork and exec only two system calls run, on memory that was filled before.
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

/// Calls that the runtime uses to stay inside the root, or to keep the container away from the
/// host.
const CALLS: &[(&str, c_long)] = &[
    ("openat2", libc::SYS_openat2),
    ("open_tree", libc::SYS_open_tree),
    ("move_mount", libc::SYS_move_mount),
    ("fsopen", libc::SYS_fsopen),
    ("fsconfig", libc::SYS_fsconfig),
    ("fsmount", libc::SYS_fsmount),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("pivot_root", libc::SYS_pivot_root),
    ("umount2", libc::SYS_umount2),
    ("clone3", libc::SYS_clone3),
    ("setns", libc::SYS_setns),
    ("close_range", libc::SYS_close_range),
    ("pidfd_open", libc::SYS_pidfd_open),
    ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
    ("prctl", libc::SYS_prctl),
    ("capset", libc::SYS_capset),
    ("setresuid", libc::SYS_setresuid),
    ("setgroups", libc::SYS_setgroups),
    ("execveat", libc::SYS_execveat),
    ("memfd_create", libc::SYS_memfd_create),
    ("statx", libc::SYS_statx),
    ("fstatfs", libc::SYS_fstatfs),
    ("getcwd", libc::SYS_getcwd),
    ("keyctl", libc::SYS_keyctl),
    ("fchmodat2", 452),
    ("statmount", 457),
];

/// If a filter around the runtime refuses one of these calls, the container stays as safe as
/// without the filter, or the runtime fails and names the call.
#[test]
fn a_call_that_is_refused_is_done_without_or_named_and_nothing_is_less_safe() {
    let mut wrong = Vec::new();
    for errno in [libc::ENOSYS, libc::EPERM] {
        for (name, number) in CALLS {
            let mut c = container!();
            let canary = Canary::of(&c);
            std::os::unix::fs::symlink(canary.path(), c.rootfs("/target")).unwrap();
            std::os::unix::fs::symlink(canary.path(), c.rootfs("/proc/link")).unwrap();
            c.mount("/target/below", "tmpfs", "tmpfs", &[]);
            c.edit(|j| {
                j["process"]["cwd"] = json!("/target/work");
                j["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "0"});
            });
            let inside = "grep -c ' /target\\| /proc ' /proc/self/mountinfo; ls /proc/self/fd | wc -l; \
                grep CapEff /proc/self/status; ls -d /proc/kcore/.. >/dev/null; pwd -P";
            c.script(inside);
            let plain = c.run();
            let bundle = c.dir().to_str().unwrap().to_owned();
            let mut command = c.command(&["run", "--bundle", &bundle, &c.id]);
            refusing(&mut command, &[(*number, None, errno)]);
            let output = c.finish(command);
            report("exposed", 1);
            report("filtered", 1);
            let stderr = output.stderr();
            // For these calls the error may name the step that failed instead.
            let names: &[&str] = match *name {
                "openat2" => &["openat2", "read /proc/self/cgroup"],
                "mount_setattr" => &["mount_setattr", "open the root file system"],
                name => &[name],
            };
            if let Some(changed) = canary.difference() {
                wrong.push(format!("{name} {errno}: {changed}"));
            } else if output.code == 0 && output.stdout() != plain.stdout() {
                wrong.push(format!(
                    "{name} {errno}: {} became {}",
                    plain.stdout(),
                    output.stdout()
                ));
            } else if output.code != 0 && !names.iter().any(|name| stderr.contains(name)) {
                wrong.push(format!("{name} {errno}: {} {stderr}", output.code));
            }
            for leak in c.lasting_leaks() {
                wrong.push(format!("{name} {errno}: left {leak}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
