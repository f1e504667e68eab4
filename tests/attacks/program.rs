//! The runtime's own program, which no container may write (CVE-2019-5736), and racers that try to.
//! The ways to keep it from being written are in `seal`.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};

use serde_json::json;

use super::racers::{Attacker, on_each_cpu, tell};
use super::{meanwhile, report};
use crate::harness::{Container, install, wait_for};

/// A copy of the runtime that may be overwritten, and its original state.
pub(super) struct Copy {
    pub(super) path: PathBuf,
    pub(super) before: (Vec<u8>, u64, u64, i64),
}

impl Copy {
    pub(super) fn of(c: &Container) -> Copy {
        let path = c.scratch().join("orlop");
        install(
            &fs::read(which(&crate::harness::runtime_path())).unwrap(),
            &path,
        );
        let before = Copy::look(&path);
        Copy { path, before }
    }

    pub(super) fn look(path: &Path) -> (Vec<u8>, u64, u64, i64) {
        let stat = fs::metadata(path).unwrap();
        (
            fs::read(path).unwrap(),
            stat.dev(),
            stat.ino(),
            stat.ctime_nsec(),
        )
    }

    /// Whether the file was written at all, judged by its metadata only.
    fn is_touched(&self) -> bool {
        let stat = fs::metadata(&self.path).unwrap();
        (stat.ino(), stat.ctime_nsec()) != (self.before.2, self.before.3)
    }

    #[track_caller]
    pub(super) fn assert_unchanged(&self) {
        let after = Copy::look(&self.path);
        assert!(
            after == self.before,
            "the program of the runtime was changed"
        );
    }

    /// Runs the copy until it exits, if it can still be executed. The result doesn't matter: the
    /// container may do anything with the runtime as its own program.
    fn start(&self, c: &Container, args: &[&str]) {
        let mut command = self.command(c, args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        if let Ok(mut child) = command.spawn() {
            wait_for(&mut child);
        }
    }

    #[track_caller]
    fn run(&self, c: &Container, args: &[&str]) {
        self.start(c, args);
        assert!(!self.is_touched(), "the program of the runtime was changed");
    }

    /// A command that runs the copy with these arguments, set up like the container's commands.
    pub(super) fn command(&self, c: &Container, args: &[&str]) -> Command {
        let like = c.command(args);
        let mut command = Command::new(&self.path);
        command.args(like.get_args()).stdin(Stdio::null());
        for (key, value) in like.get_envs() {
            command.env(key, value.unwrap());
        }
        command
    }
}

fn which(name: &Path) -> PathBuf {
    if name.components().count() > 1 {
        return name.to_owned();
    }
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path)
        .map(|d| d.join(name))
        .find(|p| p.exists())
        .unwrap()
}

/// Racers with these capabilities, which overwrite the program of any process that runs from
/// `copy`.
fn overwriting(copy: &Copy, capabilities: &[&str]) -> Option<Attacker> {
    let mut attacker = Attacker::new("overwrite")?;
    let c = &mut attacker.c;
    c.capabilities(&["bounding", "permitted", "effective"], capabilities);
    c.edit(|j| j["linux"]["resources"] = json!({}));
    tell(c, "INODE", &copy.before.2.to_string());
    Some(attacker)
}

const ALL: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
];

/// Runs in the attacker's container. Each try returns whether something was written.
#[test]
#[ignore = "part of the others"]
fn overwrite() {
    let inode: u64 = std::env::var("INODE").unwrap().parse().unwrap();
    let next = AtomicI32::new(0);
    on_each_cpu(|| {
        // Try a window of pids that moves along with the last one assigned.
        let last = super::visibility::last_pid();
        let at = next.fetch_add(1, Ordering::Relaxed) % 6 - 2;
        let pid = last + at;
        let path = format!("/proc/{pid}/exe");
        let mut options = fs::OpenOptions::new();
        options.read(true).custom_flags(nix::libc::O_PATH);
        let Ok(file) = options.open(&path) else {
            return false;
        };
        let is_meant = file.metadata().is_ok_and(|stat| stat.ino() == inode);
        is_meant && write(&file)
    });
}

/// Tries each way to write a file that was opened through a process, while that process runs and
/// for a moment longer.
fn write(file: &File) -> bool {
    use nix::mount::{MsFlags, mount};
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    for round in 0..400 {
        if round % 100 == 0 {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
            let none = None::<&str>;
            if mount(none, path.as_str(), none, flags, none).is_ok() {
                return true;
            }
        }
        let opened = fs::OpenOptions::new().write(true).open(&path);
        match opened {
            Ok(mut opened) => {
                if std::io::Write::write(&mut opened, b"overwritten").is_ok() {
                    return true;
                }
            }
            // "Text file busy": the file can be written once the last process that runs it is gone.
            Err(error) if error.raw_os_error() == Some(nix::libc::ETXTBSY) => {
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
            Err(_) => {}
        }
    }
    false
}

/// Adds programs that make a container execute the runtime itself.
fn bring_scripts(c: &Container) {
    install(b"#!/proc/self/exe --version\n", &c.rootfs("/bin/script"));
    std::os::unix::fs::symlink("/proc/self/exe", c.rootfs("/bin/linked")).unwrap();
}

/// In the second and third the program is the runtime itself. In the last the interpreter is.
const PROGRAMS: [&[&str]; 4] = [
    &["/bin/true"],
    &["/bin/linked", "--version"],
    &["/proc/self/exe", "--version"],
    &["/bin/script"],
];

#[test]
fn cve_2019_5736_racers_cannot_write_the_program_of_an_exec() {
    let host = container!();
    let copy = Copy::of(&host);
    let Some(mut attacker) = overwriting(&copy, ALL) else {
        return;
    };
    bring_scripts(&attacker.c);
    attacker.start();
    let c = &attacker.c;
    let mut programs = PROGRAMS.iter().cycle();
    let tries = meanwhile(|| {
        let args = [&["exec", &c.id], *programs.next().unwrap()].concat();
        copy.run(c, &args);
    });
    report("exposed", tries);
    assert_eq!(attacker.stop(), 0, "something was written");
    copy.assert_unchanged();
}

/// Like the test above, for the first process of a container, which the racers of its pod can see.
#[test]
fn cve_2019_5736_racers_cannot_write_the_program_of_a_run() {
    let mut c = container!();
    let copy = Copy::of(&c);
    let Some(mut attacker) = overwriting(&copy, ALL) else {
        return;
    };
    attacker.start();
    bring_scripts(&c);
    c.join_namespace("pid", &format!("/proc/{}/ns/pid", attacker.c.pid()));
    let mut programs = PROGRAMS.iter().cycle();
    let bundle = c.dir().to_str().unwrap().to_owned();
    let tries = meanwhile(|| {
        c.args(programs.next().unwrap());
        copy.run(&c, &["run", "--bundle", &bundle, &c.id]);
    });
    report("exposed", tries);
    assert_eq!(attacker.stop(), 0, "something was written");
    copy.assert_unchanged();
}

/// In the host's pid namespace a container sees the runtime from the start, before it is sealed.
/// The container may not access the runtime unless it has CAP_SYS_PTRACE there. With that
/// capability it controls the host anyway, so that case shows that the racers can win.
#[test]
fn cve_2019_5736_in_the_hosts_pid_namespace_the_program_is_out_of_reach() {
    for (may_trace, capabilities) in [(false, &["CAP_KILL", "CAP_SETUID"][..]), (true, ALL)] {
        let host = container!();
        let copy = Copy::of(&host);
        let Some(mut attacker) = overwriting(&copy, capabilities) else {
            return;
        };
        attacker.c.without_namespace("pid");
        attacker.start();
        let c = &attacker.c;
        let tries = meanwhile(|| {
            // An overwritten copy can't be executed.
            if !may_trace || !copy.is_touched() {
                copy.start(c, &["exec", &c.id, "/bin/true"]);
            }
        });
        let successes = attacker.stop();
        if may_trace {
            report("won", successes.min(1));
            continue;
        }
        report("exposed", tries);
        assert_eq!(successes, 0, "something was written");
        copy.assert_unchanged();
    }
}
