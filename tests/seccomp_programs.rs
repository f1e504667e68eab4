//! Filters on all kinds of programs of x86_64: 64-bit, 32-bit and x32 calls, and traced programs.
//! The programs are generated here: an ELF header and a few instructions each.
#![cfg(target_arch = "x86_64")]
#![allow(unsafe_code)]

use nix::libc;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::{Container, eventually, kernel, skipped};

/// Where the programs are loaded.
const BASE: u32 = 0x10000;

/// Returns a 64-bit program with these instructions.
fn elf64(code: &[u8]) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (header, segment) = (64_u64, 56_u64);
    let start = header + segment;
    let size = start + code.len() as u64;
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]); // an executable for x86_64
    for word in [u64::from(BASE) + start, header, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]); // a segment to load, readable and executable
    for word in [0, u64::from(BASE), u64::from(BASE), size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

/// Returns a 32-bit program (i386) with these instructions.
fn elf32(code: &[u8]) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (header, segment) = (52_u32, 32_u32);
    let start = header + segment;
    let size = start + u32::try_from(code.len()).unwrap();
    file.extend([2, 0, 3, 0, 1, 0, 0, 0]);
    for word in [BASE + start, header, 0, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    for word in [1, 0, BASE, BASE, size, size, 5, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

/// Returns a 32-bit program that makes one call with int 0x80 and exits with its errno.
fn call32(number: u32, first: u32, second: u32) -> Vec<u8> {
    let mut code = Vec::new();
    for (register, value) in [(0xb8, number), (0xbb, first), (0xb9, second)] {
        code.push(register); // mov to eax, ebx or ecx
        code.extend(value.to_le_bytes());
    }
    // int 0x80; neg eax; mov ebx, eax; mov eax, 1 (exit); int 0x80
    code.extend([
        0xcd, 0x80, 0xf7, 0xd8, 0x89, 0xc3, 0xb8, 1, 0, 0, 0, 0xcd, 0x80,
    ]);
    elf32(&code)
}

/// Returns a 64-bit program that makes one call, possibly an x32 call, and exits with its errno.
fn call64(number: u32, first: u32) -> Vec<u8> {
    let mut code = vec![0xb8]; // mov eax
    code.extend(number.to_le_bytes());
    code.push(0xbf); // mov edi
    code.extend(first.to_le_bytes());
    // xor esi, esi; syscall; neg eax; mov edi, eax; mov eax, 60 (exit); syscall
    code.extend([
        0x31, 0xf6, 0x0f, 0x05, 0xf7, 0xd8, 0x89, 0xc7, 0xb8, 60, 0, 0, 0, 0x0f, 0x05,
    ]);
    elf64(&code)
}

/// Installs a program in the root and makes the container run it.
fn program(c: &mut Container, name: &str, file: Vec<u8>) {
    crate::harness::install(&file, &c.rootfs(&format!("bin/{name}")));
    c.args(&[&format!("/bin/{name}")]);
}

fn profile(c: &mut Container, archs: &[&str], default: &str, syscalls: Value) {
    let profile = json!({"defaultAction": default, "architectures": archs, "syscalls": syscalls});
    c.edit(|j| j["linux"]["seccomp"] = profile);
}

/// Returns whether this kernel runs 32-bit programs.
fn runs_32_bit(c: &mut Container) -> bool {
    c.edit(|j| {
        j["linux"].as_object_mut().unwrap().remove("seccomp");
    });
    // getuid32 returns 0.
    program(c, "probe", call32(199, 0, 0));
    c.run().code == 0
}

const SIGSYS: i32 = 128 + 31;
const ALL: &[&str] = &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];

#[test]
fn calls_of_32_bit_programs_are_judged_by_their_own_numbers() {
    let mut c = container!();
    if !runs_32_bit(&mut c) {
        skipped("this kernel runs no 32-bit programs");
        return;
    }
    let rules = json!([
        {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77},
        // In socketcall(2), the first argument selects the call.
        {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 55},
        {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 66, "args": [{"index": 1, "value": 0, "op": "SCMP_CMP_EQ"}]},
    ]);
    // On i386 mkdir is 39, which is getpid on x86_64. kill is 37. EFAULT is 14, EINVAL is 22.
    for (archs, file, code) in [
        (ALL, call32(39, 0, 0), 77),
        (ALL, call32(359, 0, 0), 55),
        (ALL, call32(102, 1, 0), 55),
        (ALL, call32(102, 2, 0), 14),
        (ALL, call32(37, 1, 0), 66),
        (ALL, call32(37, 1, 1000), 22),
        (&["SCMP_ARCH_X86_64"][..], call32(39, 0, 0), SIGSYS),
        (&[][..], call32(199, 0, 0), SIGSYS),
    ] {
        profile(&mut c, archs, "SCMP_ACT_ALLOW", rules.clone());
        program(&mut c, "i386", file);
        c.run().exits(code);
    }
    c.script("sleep 1000");
    c.run_detached().ok();
    c.exec(&["/bin/i386"]).exits(SIGSYS);
}

#[test]
fn calls_newer_than_the_profile_do_not_exist_for_any_program() {
    let mut c = container!();
    let names = [
        "execve",
        "exit",
        "exit_group",
        "capset",
        "getuid",
        "getuid32",
    ];
    let rules = json!([{"names": names, "action": "SCMP_ACT_ALLOW"}]);
    // The newest of these calls is getuid32 (199) for i386, exit_group (231) for x86_64, and
    // execve (520) for x32.
    let mut cases = vec![
        (call64(102, 0), 0),
        (call64(230, 0), 1),
        (call64(232, 0), 38),
        (call64(600, 0), 38),
        (call64(0x4000_0000 + 519, 0), 1),
        (call64(0x4000_0000 + 521, 0), 38),
    ];
    if runs_32_bit(&mut c) {
        cases.extend([
            (call32(199, 0, 0), 0),
            (call32(251, 0, 0), 1),
            (call32(253, 0, 0), 38),
            (call32(500, 0, 0), 38),
        ]);
    }
    for (file, code) in cases {
        profile(&mut c, ALL, "SCMP_ACT_ERRNO", rules.clone());
        program(&mut c, "one-call", file);
        c.run().exits(code);
    }
}

#[test]
fn x32_calls_are_judged_by_their_own_numbers() {
    let mut c = container!();
    let rules = json!([{"names": ["ioctl", "getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]);
    // ioctl is 16 for x86_64 and 514 for x32. getpid is 39 for both.
    for (archs, number, code) in [
        (ALL, 0x4000_0000 + 514, 77),
        (ALL, 0x4000_0000 + 39, 77),
        (ALL, 16, 77),
        (&["SCMP_ARCH_X86_64"][..], 0x4000_0000 + 514, SIGSYS),
        (&["SCMP_ARCH_X86_64"][..], 16, 77),
    ] {
        profile(&mut c, archs, "SCMP_ACT_ALLOW", rules.clone());
        program(&mut c, "x32", call64(number, 0));
        c.run().exits(code);
    }
}

#[test]
fn a_traced_call_does_not_exist_without_a_tracer() {
    let mut c = container!();
    let rules = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_TRACE", "errnoRet": 7}]);
    profile(&mut c, &[], "SCMP_ACT_ALLOW", rules);
    c.script("mkdir /tmp/x");
    let output = c.run();
    output.exits(1).says("Function not implemented");
}

#[test]
fn a_tracer_is_told_of_traced_calls_with_the_errno_of_the_rule() {
    let mut c = container!();
    let rules = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_TRACE", "errnoRet": 7}]);
    profile(&mut c, &[], "SCMP_ACT_ALLOW", rules);
    c.script("until [ -e /tmp/go ]; do usleep 10000; done; exec mkdir /tmp/x");
    c.run_detached().ok();
    let pid = c.pid();
    let options = libc::PTRACE_O_TRACESECCOMP;
    // SAFETY: the call reads no pointers.
    let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, options) };
    assert_eq!(seized, 0, "{}", std::io::Error::last_os_error());
    std::fs::write(c.rootfs("tmp/go"), "").unwrap();
    let mut message: libc::c_ulong = 0;
    loop {
        let Some(status) = wait_traced(pid) else {
            panic!("no call was traced");
        };
        match status {
            WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_SECCOMP) => break,
            WaitStatus::Stopped(_, signal) => resume(pid, signal as i32),
            WaitStatus::PtraceEvent(..) => resume(pid, 0),
            other => panic!("{other:?}"),
        }
    }
    // SAFETY: the kernel writes one long to `message`.
    let got = unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, pid, 0, &raw mut message) };
    assert_eq!((got, message), (0, 7));
    assert!(!c.rootfs("tmp/x").exists());
    // SAFETY: the call reads no pointers.
    let detached = unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0, 0) };
    assert_eq!(detached, 0);
    eventually("the traced call is done", || c.rootfs("tmp/x").exists());
    assert_eq!(c.wait(), 0);
}

fn wait_traced(pid: i32) -> Option<WaitStatus> {
    let mut status = None;
    eventually("the tracee stops", || {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
        match waitpid(Pid::from_raw(pid), Some(flags)) {
            Ok(WaitStatus::StillAlive) => false,
            other => {
                status = other.ok();
                true
            }
        }
    });
    status
}

fn resume(pid: i32, signal: i32) {
    // SAFETY: the call reads no pointers.
    let resumed = unsafe { libc::ptrace(libc::PTRACE_CONT, pid, 0, signal) };
    assert_eq!(resumed, 0);
}

#[test]
fn kill_thread_ends_only_the_thread_that_called() {
    let mut c = container!();
    let rules = json!([{"names": ["getppid"], "action": "SCMP_ACT_KILL_THREAD"}]);
    profile(&mut c, &[], "SCMP_ACT_ALLOW", rules);
    // The program starts a second thread (clone of vm, fs, files, sighand, thread, sysvsem), which
    // calls getppid, 110. Meanwhile the first thread waits in nanosleep for a tenth of a second.
    // Then the first thread exits with 3.
    let mut code = vec![0x48, 0x81, 0xec, 0, 0x10, 0, 0]; // sub rsp, 4096
    code.extend([0xb8, 56, 0, 0, 0, 0xbf]); // mov eax, 56 (clone); mov edi, flags
    code.extend(0x0005_0f00_u32.to_le_bytes());
    code.extend([0x48, 0x89, 0xe6, 0x31, 0xd2, 0x4d, 0x31, 0xd2, 0x0f, 0x05]); // mov rsi, rsp; xor edx, edx; xor r10, r10; syscall
    code.extend([0x85, 0xc0, 0x75, 7]); // test eax, eax; jnz past the code of the thread
    code.extend([0xb8, 110, 0, 0, 0, 0x0f, 0x05]); // mov eax, 110; syscall
    code.extend([0x48, 0xc7, 0x04, 0x24, 0, 0, 0, 0]); // mov qword [rsp], 0
    code.extend([0x48, 0xc7, 0x44, 0x24, 8, 0, 0xe1, 0xf5, 0x05]); // mov qword [rsp + 8], 100000000
    code.extend([0x48, 0x89, 0xe7, 0x31, 0xf6, 0xb8, 35, 0, 0, 0, 0x0f, 0x05]); // nanosleep(rsp, 0)
    code.extend([0xbf, 3, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05]); // exit_group(3)
    program(&mut c, "threads", elf64(&code));
    c.run().exits(3);
    let rules = json!([{"names": ["getppid"], "action": "SCMP_ACT_KILL_PROCESS"}]);
    profile(&mut c, &[], "SCMP_ACT_ALLOW", rules);
    c.run().exits(SIGSYS);
}

#[test]
fn exec_of_programs_keeps_the_filter_and_forks_share_it() {
    let mut c = container!();
    let rules =
        json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30}]);
    profile(&mut c, &[], "SCMP_ACT_ALLOW", rules);
    let printed =
        c.output_of("(sh -c 'exec sh -c \"mkdir /tmp/x; grep Seccomp /proc/self/status\"') 2>&1");
    assert!(printed.contains("Read-only file system"), "{printed}");
    let count = kernel::status_field(&printed, "Seccomp_filters");
    assert_eq!(count.trim(), "1", "{printed}");
}
