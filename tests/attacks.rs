//! Known attacks on runtimes, each named after its CVE or advisory: the attacker's step is made from inside a container, or by its
//! image. What lies outside the root must not change, and nothing of the host may be reached.
//! What the attacks have in common is here; each file below has those on one thing.

mod devices;
mod no_pivot;
mod process;
mod procfs;
mod program;
mod targets;
mod visibility;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::harness::Container;

/// A directory outside the rootfs that an attack must not touch, and what it looked like.
struct Canary {
    dir: PathBuf,
    before: BTreeMap<PathBuf, String>,
}

impl Canary {
    fn of(c: &Container) -> Self {
        let dir = c.scratch().join("canary");
        fs::create_dir_all(dir.join("sub")).unwrap();
        for name in ["ptmx", "null", "console", "file"] {
            fs::write(dir.join(name), format!("{name} of the host")).unwrap();
        }
        let before = snapshot(&dir);
        Self { dir, before }
    }

    #[track_caller]
    fn assert_unchanged(&self, what: &str) {
        assert_eq!(snapshot(&self.dir), self.before, "{what}");
    }
}

fn snapshot(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let m = fs::symlink_metadata(entry.path()).unwrap();
        let content = fs::read(entry.path()).unwrap_or_default();
        let facts = format!(
            "{:o} {}:{} {} {}.{} {:?}",
            m.mode(),
            m.uid(),
            m.gid(),
            m.ino(),
            m.mtime(),
            m.mtime_nsec(),
            content
        );
        all.insert(entry.path(), facts);
        if m.is_dir() {
            all.extend(snapshot(&entry.path()));
        }
    }
    all
}

/// Creates, starts and deletes; either outcome is right as long as nothing is left and nothing hangs.
fn try_out(c: &mut Container) -> i32 {
    let output = c.create();
    if output.code == 0 {
        c.start();
        c.delete(&["--force"]).ok();
    }
    c.assert_nothing_left();
    output.code
}

/// Exchanges two names without pause, from each CPU, while `attempts` are made.
fn racing(a: &Path, b: &Path, attempts: impl FnOnce()) {
    let stop = std::sync::atomic::AtomicBool::new(false);
    let cpus = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        for _ in 0..cpus {
            scope.spawn(|| {
                use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE);
                }
            });
        }
        attempts();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
