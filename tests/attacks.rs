//! Known attacks on runtimes, each named after its CVE or advisory. The attacker acts from inside a
//! container or through its image. Nothing outside the root may change, and nothing of the host may
//! be reached. Shared parts are here; each file below has the attacks on one subject. `weakened`
//! shows that the attacks can succeed.

mod cgroups;
mod devices;
mod exec;
mod filter;
mod live_mounts;
mod no_pivot;
mod process;
mod procfs;
mod program;
mod racers;
mod seal;
mod sweep;
mod targets;
mod visibility;
#[cfg(feature = "weakened")]
mod weakened;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::Container;

/// How long racers race: 1.5 s, or as many seconds as `ORLOP_TEST_WATCH` says.
fn time() -> Duration {
    let seconds = std::env::var("ORLOP_TEST_WATCH").ok();
    seconds.map_or(Duration::from_millis(1500), |seconds| {
        Duration::from_secs(seconds.parse().unwrap())
    })
}

/// Repeats an action while the racers race, at least three times. Returns the number of
/// repetitions.
fn meanwhile(mut again: impl FnMut()) -> u64 {
    let end = Instant::now() + time();
    let mut times = 0;
    while Instant::now() < end || times < 3 {
        again();
        times += 1;
    }
    times
}

/// Adds a line to the report that `scripts/attacks` sums up, if that script runs the test.
fn report(kind: &str, tries: u64) {
    let Some(path) = std::env::var_os("ORLOP_TEST_REPORT") else {
        return;
    };
    let thread = std::thread::current();
    let line = format!("{kind} {tries} {}\n", thread.name().unwrap_or("?"));
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path);
    file.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
}

/// A directory outside the rootfs that no attack may touch, with a snapshot of its original state.
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

    fn path(&self) -> &Path {
        &self.dir
    }

    /// The difference from the original state, if any.
    fn difference(&self) -> Option<String> {
        let now = snapshot(&self.dir);
        (now != self.before).then(|| format!("{:?} became {now:?}", self.before))
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
            "{:o} {}:{} {}:{} {}.{} {:?}",
            m.mode(),
            m.uid(),
            m.gid(),
            m.dev(),
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

/// Creates, starts and deletes the container. Create may succeed or fail, as long as nothing is
/// left and nothing hangs.
fn try_out(c: &mut Container) -> i32 {
    let output = c.create();
    if output.code == 0 {
        c.start();
        c.delete(&["--force"]).ok();
    }
    c.assert_nothing_left();
    output.code
}
