//! The targets of the fuzzer. None may panic or take long, and each refusal must have a reason.

mod devices;
mod seccomp;

use std::ffi::OsString;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::Violation;
use crate::invocation::{CgroupDriver, RootlessMode};
use crate::plan::host::Host;
use crate::plan::{CreateOptions, InheritedFds, Plan};
use crate::state::record::Record;
use crate::{Random, cli, mutation, protocol, spec};

/// A part of orlop that reads input.
pub(crate) trait Target {
    fn seeds(&self) -> Vec<Vec<u8>>;
    fn mutate(&self, base: Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
        mutation::mutate(base, random.of(corpus).clone().as_slice(), random)
    }
    /// Returns whether the input was accepted. An error is a broken promise.
    fn run(&mut self, input: &[u8]) -> Result<bool, String>;
}

pub(crate) type Make = fn() -> Box<dyn Target>;

pub(crate) const ALL: [(&str, Make); 9] = [
    ("config", || Box::new(Config::new(whole))),
    ("process", || Box::new(Process)),
    ("mounts", || Box::new(Config::new(mounts))),
    ("line", || Box::new(Line)),
    ("keys", || Box::new(Config::new(keys))),
    ("frames", || Box::new(Frames)),
    ("seccomp", || Box::new(seccomp::Profiles::new())),
    ("devices", || Box::new(devices::Devices::new())),
    ("record", || Box::new(Stored)),
];

/// Configurations as engines write them.
const CONFIGS: [&str; 5] = [
    include_str!("../../configs/containerd-1.6.json"),
    include_str!("../../configs/docker-26.1.json"),
    include_str!("../../configs/podman-5.4.json"),
    include_str!("../../../src/spec/tests/kubernetes.json"),
    include_str!("../../../src/spec/tests/template.json"),
];

/// The path of a file of this process, on a file system in memory.
fn file(name: &str) -> PathBuf {
    PathBuf::from(format!("/dev/shm/orlop-fuzz-{}-{name}", std::process::id()))
}

/// Removes what the targets have made.
pub(crate) fn clear_up() {
    for name in ["config", "process"] {
        let _ = fs::remove_file(file(name));
    }
    devices::clear_up();
}

/// Fails if a message is empty. The log puts any other text on one line.
fn a_line(what: &str, text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err(format!("{what} says nothing"));
    }
    Ok(())
}

fn refusals(violations: &[Violation]) -> Result<bool, String> {
    if violations.is_empty() {
        return Err("refused without a reason".to_owned());
    }
    for violation in violations {
        a_line("a violation", &violation.to_string())?;
    }
    Ok(false)
}

/// A config.json that is the input, or that contains it.
struct Config {
    host: Host,
    bundle: PathBuf,
    /// Selects the parts to mutate.
    parts: fn(&Value) -> Value,
    base: Value,
}

fn whole(config: &Value) -> Value {
    config.clone()
}

fn mounts(config: &Value) -> Value {
    json!({"mounts": config["mounts"]})
}

fn keys(config: &Value) -> Value {
    json!({"hostname": "h", "linux": {
        "cgroupsPath": config["linux"]["cgroupsPath"],
        "sysctl": {"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "0", "net.ipv4.conf.eth0/1.forwarding": "1"},
        "maskedPaths": config["linux"]["maskedPaths"],
        "resources": {"unified": {"memory.high": "1", "pids.max": "1"}},
    }, "annotations": config["annotations"]})
}

impl Config {
    fn new(parts: fn(&Value) -> Value) -> Config {
        Config {
            host: Host::read_host().expect("a host that runs containers"),
            bundle: PathBuf::from("/"),
            parts,
            base: serde_json::from_str(CONFIGS[4]).expect("a configuration"),
        }
    }

    /// Inserts the input into the configuration.
    fn filled(&self, input: &[u8]) -> Vec<u8> {
        let Ok(part) = serde_json::from_slice::<Value>(input) else {
            return input.to_vec();
        };
        let mut config = self.base.clone();
        fill(&mut config, part);
        serde_json::to_vec(&config).unwrap_or_default()
    }
}

fn fill(config: &mut Value, part: Value) {
    match (config, part) {
        (Value::Object(config), Value::Object(part)) => {
            for (key, value) in part {
                match config.get_mut(&key) {
                    Some(own) if key == "linux" => fill(own, value),
                    _ => {
                        config.insert(key, value);
                    }
                }
            }
        }
        (config, part) => *config = part,
    }
}

impl Target for Config {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let all = CONFIGS.iter().map(|text| {
            let config = serde_json::from_str(text).expect("a configuration");
            serde_json::to_vec(&(self.parts)(&config)).unwrap_or_default()
        });
        all.collect()
    }

    fn run(&mut self, input: &[u8]) -> Result<bool, String> {
        let path = file("config");
        let text = match (self.parts)(&json!({})) == json!({}) {
            true => input.to_vec(),
            false => self.filled(input),
        };
        fs::write(&path, text).map_err(|error| error.to_string())?;
        let loaded = match spec::load_config(&path) {
            Ok(loaded) => loaded,
            Err(error) => return a_line("an error", &error.to_string()).map(|()| false),
        };
        for warning in &loaded.warnings {
            a_line("a warning", &warning.to_string())?;
        }
        let options = CreateOptions {
            id: "fuzz",
            bundle: &self.bundle,
            cgroup_driver: CgroupDriver::Cgroupfs,
            rootless: RootlessMode::Auto,
            no_pivot: false,
            no_new_keyring: false,
            passed: InheritedFds::default(),
            notify: None,
            runs: true,
        };
        match Plan::for_init(&loaded, &self.host, &options) {
            Ok(_) => Ok(true),
            Err(violations) => refusals(&violations),
        }
    }
}

/// A process.json, as exec reads it.
struct Process;

impl Target for Process {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let process = |text: &&str| {
            let config: Value = serde_json::from_str(text).expect("a configuration");
            serde_json::to_vec(&config["process"]).unwrap_or_default()
        };
        CONFIGS.iter().map(process).collect()
    }

    fn run(&mut self, input: &[u8]) -> Result<bool, String> {
        let path = file("process");
        fs::write(&path, input).map_err(|error| error.to_string())?;
        match spec::load_process(&path) {
            Ok(_) => Ok(true),
            Err(error) => a_line("an error", &error.to_string()).map(|()| false),
        }
    }
}

/// A command line. NUL separates its words.
struct Line;

impl Target for Line {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let lines = [
            "exec --user 1000:1000 --env A=b --cwd / --cap CAP_KILL --additional-gids 5 id true",
            "exec -u root --preserve-fds 3 --tty --detach --process p.json id",
            "--root /x --log-format json --systemd-cgroup create --bundle /b --pid-file p --console-socket s id",
            "kill --all id SIGTERM",
            "kill id RTMIN+1",
            "delete --force --regex a.*",
            "update --cpu-period 1000 --cpuset-cpus 0-3 --memory 10M --pids-limit -1 --blkio-weight 10 id",
            "list --format json --quiet",
            "ps --format table id aux",
            "events --interval 5s --stats id",
            "run --no-pivot --keep --preserve-fds=1 id",
        ];
        let words = |line: &&str| line.replace(' ', "\0").into_bytes();
        lines.iter().map(words).collect()
    }

    fn mutate(&self, base: Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
        let mut words: Vec<Vec<u8>> = base.split(|b| *b == 0).map(<[u8]>::to_vec).collect();
        let other: Vec<Vec<u8>> = random
            .of(corpus)
            .split(|b| *b == 0)
            .map(<[u8]>::to_vec)
            .collect();
        let at = random.below(words.len());
        match random.below(5) {
            0 => words[at] = random.of(&other).clone(),
            1 => words.insert(at, random.of(&other).clone()),
            2 if words.len() > 1 => {
                words.remove(at);
            }
            _ => words[at] = mutation::bytes(words[at].clone(), random),
        }
        words.join(&0)
    }

    fn run(&mut self, input: &[u8]) -> Result<bool, String> {
        let words = input
            .split(|b| *b == 0)
            .map(|word| OsString::from_vec(word.to_vec()));
        let argv = std::iter::once(OsString::from("orlop")).chain(words);
        match cli::parse_argv(argv.collect()) {
            Ok(_) | Err(cli::EarlyExit::Text(_)) => Ok(true),
            Err(cli::EarlyExit::Usage(usage)) => {
                let shown = usage.message.is_empty() || usage.code == 0;
                if shown {
                    return Err(format!("refused without a word: {}", usage.code));
                }
                Ok(false)
            }
        }
    }
}

/// Packets of the link between parent and child.
struct Frames;

impl Target for Frames {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let packet = |kind: u32, number: i32, text: &str| {
            let mut packet = kind.to_ne_bytes().to_vec();
            packet.extend(number.to_ne_bytes());
            packet.extend((text.len() as u32).to_ne_bytes());
            packet.extend(text.as_bytes());
            packet
        };
        let empty = (0..24).map(|kind| packet(kind, 1, ""));
        let failed = (0..24).map(|kind| packet(kind, 12, "mount /x\0fsmount\0why"));
        empty.chain(failed).collect()
    }

    fn mutate(&self, base: Vec<u8>, _: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
        mutation::bytes(base, random)
    }

    fn run(&mut self, input: &[u8]) -> Result<bool, String> {
        let (ours, theirs) = crate::sys::socket::pair().map_err(|errno| errno.to_string())?;
        let sent = nix::sys::socket::send(
            std::os::fd::AsRawFd::as_raw_fd(&theirs),
            input,
            nix::sys::socket::MsgFlags::empty(),
        );
        sent.map_err(|errno| errno.to_string())?;
        match protocol::receive(ours.as_fd()) {
            Ok(Some(protocol::Message::Failed(failure))) => {
                let text = failure.to_string();
                match text.contains('\n') {
                    true => Err(format!("a failure is not a line: {text:?}")),
                    false => Ok(true),
                }
            }
            Ok(message) => Ok(message.is_some()),
            Err(_) => Ok(false),
        }
    }
}

/// The record of a container.
struct Stored;

impl Target for Stored {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let record = json!({"version": 1, "id": "a", "bundle": "/b", "rootfs": "/b/rootfs",
            "created": "2026-01-01T00:00:00.000000000Z", "owner": 0, "annotations": {"a": "b"},
            "pid": 12, "startTime": 345, "bootId": "x", "chroot": false, "ownPids": true,
            "keyring": true, "cgroup": "cgroupfs", "cgroupId": 7, "deviceRules": 1,
            "poststop": [{"path": "/bin/true"}]});
        vec![record.to_string().into_bytes(), b"{}".to_vec()]
    }

    fn run(&mut self, input: &[u8]) -> Result<bool, String> {
        match serde_json::from_slice::<Record>(input) {
            Ok(record) => {
                let state = record.state("running", 1);
                serde_json::to_string(&state).map_err(|error| error.to_string())?;
                Ok(record.check_values().is_ok())
            }
            Err(error) => a_line("an error", &error.to_string()).map(|()| false),
        }
    }
}
