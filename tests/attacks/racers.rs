//! The attacker's container: on each CPU a racer repeats one action and counts tries until stopped.
//! The racers are this very test program, mounted into that container.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use super::report;
use crate::harness::Container;

/// The racers' program in a container.
const PROGRAM: &str = "/bin/racers";

/// A container of racers that has a volume at /v.
pub(super) struct Attacker {
    pub(super) c: Container,
    role: &'static str,
}

impl Attacker {
    /// Racers that swap the names a and b in a volume.
    pub(super) fn exchanging(volume: &Path) -> Option<Attacker> {
        Attacker::exchanging_names(volume, "a", "b")
    }

    pub(super) fn exchanging_names(volume: &Path, one: &str, other: &str) -> Option<Attacker> {
        let mut attacker = Attacker::new("exchange")?;
        let path = volume.to_str().unwrap();
        attacker.c.mount("/v", "bind", path, &["rbind"]);
        tell(&mut attacker.c, "ONE", &format!("/v/{one}"));
        tell(&mut attacker.c, "OTHER", &format!("/v/{other}"));
        attacker.start();
        Some(attacker)
    }

    /// A container for racers of a role, which is the name of their test function.
    pub(super) fn new(role: &'static str) -> Option<Attacker> {
        let mut c = Container::new()?;
        equip(&mut c);
        c.args(&line(role));
        Some(Attacker { c, role })
    }

    pub(super) fn start(&mut self) {
        self.c.run_detached().ok();
        self.c.wait_file("/ready");
    }

    /// Stops the racers. Returns how often they succeeded.
    pub(super) fn stop(&self) -> u64 {
        let text = stop(&self.c);
        let mut numbers = text.split_whitespace().map(|n| n.parse::<u64>().unwrap());
        let (tries, successes) = (numbers.next().unwrap(), numbers.next().unwrap());
        assert!(tries > 0, "the racers did not race");
        report(&format!("race:{}", self.role), tries);
        successes
    }
}

/// Mounts the racers' program into a container.
pub(super) fn equip(c: &mut Container) {
    let program = std::env::current_exe().unwrap();
    // Root of a user namespace may be unable to create the mount point.
    File::create(c.rootfs(PROGRAM)).unwrap();
    c.mount(PROGRAM, "bind", program.to_str().unwrap(), &["bind", "ro"]);
}

/// Sets an environment variable of the racers in a container.
pub(super) fn tell(c: &mut Container, key: &str, value: &str) {
    let entry = json!(format!("{key}={value}"));
    c.edit(|j| j["process"]["env"].as_array_mut().unwrap().push(entry));
}

/// The command line of the racers of a role.
pub(super) fn line(role: &str) -> [&str; 5] {
    let name = match role {
        "exchange" => "attacks::racers::exchange",
        "overwrite" => "attacks::program::overwrite",
        "watch" => "attacks::visibility::watch",
        other => other,
    };
    [PROGRAM, "--exact", name, "--ignored", "--nocapture"]
}

/// Tells the racers in a container to stop. Returns their final output.
pub(super) fn stop(c: &Container) -> String {
    fs::write(c.rootfs("/stop"), "").unwrap();
    c.wait_file("/done");
    fs::read_to_string(c.rootfs("/done")).unwrap()
}

/// Runs in the attacker's container: repeats `again` on each CPU until /stop exists. `again`
/// returns whether it succeeded.
pub(super) fn on_each_cpu(again: impl Fn() -> bool + Sync) {
    let (tries, successes) = (AtomicU64::new(0), AtomicU64::new(0));
    let cpus = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        for _ in 0..cpus {
            scope.spawn(|| {
                while !Path::new("/stop").exists() {
                    for _ in 0..64 {
                        successes.fetch_add(u64::from(again()), Ordering::Relaxed);
                    }
                    tries.fetch_add(64, Ordering::Relaxed);
                }
            });
        }
        File::create("/ready").unwrap();
    });
    done(&format!(
        "{} {}",
        tries.into_inner(),
        successes.into_inner()
    ));
}

/// Writes the racers' final output.
pub(super) fn done(text: &str) {
    fs::write("/done.new", text).unwrap();
    fs::rename("/done.new", "/done").unwrap();
}

#[test]
#[ignore = "part of the others"]
fn exchange() {
    let [one, other] = ["ONE", "OTHER"].map(|name| std::env::var_os(name).unwrap());
    on_each_cpu(|| {
        use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
        let flags = RenameFlags::RENAME_EXCHANGE;
        renameat2(AT_FDCWD, &*one, AT_FDCWD, &*other, flags).is_ok()
    });
}
