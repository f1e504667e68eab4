//! The surroundings of a test run: runtime, shared directory, shared cgroup, skipping of tests.
//! The resources of a single container are in `container`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::kernel;

/// The number of existing containers of this run. The last one removes the shared directories.
static LIVING: Mutex<usize> = Mutex::new(0);
static NUMBER: AtomicUsize = AtomicUsize::new(0);
/// Processes that the runtime started for a test and that are now children of this process.
static ADOPTED: Mutex<Vec<i32>> = Mutex::new(Vec::new());
static REAPER: Once = Once::new();

/// The runtime under test: the path or name in `ORLOP_TEST_RUNTIME`, else the binary that cargo
/// just built.
pub(crate) fn runtime() -> PathBuf {
    std::env::var_os("ORLOP_TEST_RUNTIME")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_orlop")), PathBuf::from)
}

/// The runtime at a path that any user can reach: the original, or a copy.
pub(crate) fn public_runtime() -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    static COPY: Mutex<Option<PathBuf>> = Mutex::new(None);
    let file = runtime();
    let open = |dir: &Path| fs::metadata(dir).is_ok_and(|stat| stat.permissions().mode() & 1 != 0);
    if !file.is_absolute() || file.ancestors().all(open) {
        return file;
    }
    let mut copy = COPY.lock().unwrap_or_else(|p| p.into_inner());
    let place = run_dir().join("runtime");
    if copy.is_none() || !place.exists() {
        install(&fs::read(&file).unwrap(), &place);
        *copy = Some(place.clone());
    }
    place
}

/// The directory of this run. Every file of every test is below it.
pub(crate) fn run_dir() -> PathBuf {
    // If /tmp is systemd's tmpfs, it is nodev: no device in a rootfs below it could be opened.
    let temporary = std::env::temp_dir();
    let parent = match kernel::mount_of(&temporary) {
        Some(mount) if mount.has("nodev") => PathBuf::from("/var/tmp"),
        _ => temporary,
    };
    parent.join(format!("orlop-test-{}", std::process::id()))
}

/// The cgroup of this run, as a path relative to the root of the v2 hierarchy.
pub(crate) fn run_cgroup() -> String {
    format!("/orlop-test-{}", std::process::id())
}

/// The directory that a cgroup path names in the host's v2 hierarchy.
pub(crate) fn cgroup_dir(path: &str) -> PathBuf {
    kernel::cgroup2_mount()
        .expect("a cgroup v2 hierarchy")
        .join(path.trim_start_matches('/'))
}

/// Returns a number that no other container of this run has.
pub(crate) fn next_number() -> usize {
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// The reason why no container can run here; `None` if one can.
fn obstacle() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    let Some(mount) = kernel::cgroup2_mount() else {
        return Some("no cgroup v2 hierarchy is mounted".to_owned());
    };
    let dir = mount.join(run_cgroup().trim_start_matches('/'));
    match fs::create_dir(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            Some(format!("mkdir {}: {e}", dir.display()))
        }
        _ => None,
    }
}

/// Enters the run. If no container can run here, returns false and counts the test as skipped.
pub(crate) fn enter() -> bool {
    let mut living = LIVING.lock().unwrap_or_else(|p| p.into_inner());
    if let Some(why) = obstacle() {
        skipped(&why);
        return false;
    }
    if *living == 0 {
        // Detached containers are reparented to us, so that a test can wait for their exit status.
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        make_template(&run_dir().join("template"));
    }
    *living += 1;
    true
}

/// Reaps a process, as an engine would. While a zombie is left in a pid namespace, the namespace's
/// init can't exit.
pub(crate) fn adopt(pid: i32) {
    ADOPTED.lock().unwrap_or_else(|p| p.into_inner()).push(pid);
    REAPER.call_once(|| {
        std::thread::spawn(|| {
            loop {
                let mut adopted = ADOPTED.lock().unwrap_or_else(|p| p.into_inner());
                adopted.retain(|pid| {
                    let wait = waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG));
                    matches!(wait, Ok(WaitStatus::StillAlive))
                });
                drop(adopted);
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
    });
}

/// Leaves the run. The last container removes all shared directories.
pub(crate) fn leave() {
    let mut living = LIVING.lock().unwrap_or_else(|p| p.into_inner());
    *living -= 1;
    if *living == 0 {
        let _ = fs::remove_dir_all(run_dir());
        let _ = fs::remove_dir(cgroup_dir(&run_cgroup()));
    }
}

fn make_template(dir: &Path) {
    let source = std::env::var_os("ORLOP_TEST_BUSYBOX")
        .map_or_else(|| PathBuf::from("/bin/busybox"), PathBuf::from);
    let program = fs::read(&source).unwrap_or_else(|e| {
        panic!(
            "{}: {e}: install Debian's package busybox-static",
            source.display()
        )
    });
    assert!(
        !program.windows(9).any(|w| w == b"/ld-linux"),
        "{} is not static: install Debian's package busybox-static",
        source.display()
    );
    fs::create_dir_all(dir).unwrap();
    install(&program, &dir.join("busybox"));
}

/// Writes a program in another process. A descriptor of this process that is open for writing would
/// live on for a moment in each process that another test forks. Until that process closes the
/// descriptor, the program can't be executed (ETXTBSY, "text file busy").
#[track_caller]
pub(crate) fn install(program: &[u8], path: &Path) {
    let script = "cat >\"$0\" && chmod 755 \"$0\"";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(path).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(program).unwrap();
    assert!(child.wait().unwrap().success(), "{}", path.display());
}

/// Counts the running test as skipped: writes one line to stderr, past the capture of the test
/// runner. `scripts/test` counts and lists these lines.
pub(crate) fn skipped(why: &str) {
    let thread = std::thread::current();
    let line = format!("SKIPPED {}: {why}\n", thread.name().unwrap_or("?"));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Whether strace can be run. Counts the running test as skipped if not.
pub(crate) fn has_strace() -> bool {
    let mut command = std::process::Command::new("strace");
    let is_there = command.arg("-V").output().is_ok();
    if !is_there {
        skipped("no strace here");
    }
    is_there
}
