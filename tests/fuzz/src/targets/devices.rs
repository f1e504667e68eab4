//! Device rules. The kernel is the oracle twice: its verifier checks the program, and processes in
//! the cgroup may do to device nodes what a plain reading of the rules allows, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{AccessFlags, access};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use serde_json::{Value, json};

use super::{CONFIGS, Target, file, refusals};
use crate::cgroup::{self, Cgroup};
use crate::invocation::CgroupDriver;
use crate::{Random, mutation, spec};

/// The largest major and minor number of a node.
const LARGEST: (u32, u32) = (0xfff, 0xf_ffff);

/// The devices that every container may use: type, major number, minor number (any if absent).
const DEFAULTS: [(char, u32, Option<u32>); 9] = [
    ('c', 1, Some(3)),
    ('c', 1, Some(5)),
    ('c', 1, Some(7)),
    ('c', 1, Some(8)),
    ('c', 1, Some(9)),
    ('c', 5, Some(0)),
    ('c', 5, Some(2)),
    ('c', 10, Some(200)),
    ('c', 136, None),
];

/// The cgroup that contains this process while it runs this target, and its hierarchy.
struct Place {
    mount: &'static str,
    cgroup: PathBuf,
}

fn place() -> Option<Place> {
    let mut mounts = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].into_iter();
    let mount = mounts.find(|mount| Path::new(mount).join("cgroup.procs").exists())?;
    let cgroup = Path::new(mount).join(format!("orlop-fuzz-{}", std::process::id()));
    Some(Place { mount, cgroup })
}

fn nodes() -> PathBuf {
    file("nodes")
}

/// Removes the nodes and the cgroup.
pub(super) fn clear_up() {
    let _ = fs::remove_dir_all(nodes());
    if let Some(place) = place().filter(|place| place.cgroup.exists()) {
        // The parent is the root of the hierarchy, which takes processes beside its children.
        let _ = fs::write(Path::new(place.mount).join("cgroup.procs"), "0");
        let _ = fs::remove_dir(place.cgroup);
    }
}

pub(super) struct Devices {
    cgroup: Cgroup,
    base: Value,
    /// The number of nodes that exist.
    made: usize,
}

impl Devices {
    pub(super) fn new() -> Devices {
        let dir = place().expect("a cgroup v2 hierarchy").cgroup;
        fs::create_dir(&dir).expect("a new cgroup");
        fs::write(dir.join("cgroup.procs"), "0").expect("a cgroup that takes this process");
        fs::create_dir(nodes()).expect("a new directory");
        let cgroup = Cgroup::open(&dir).ok().flatten();
        Devices {
            cgroup: cgroup.expect("a cgroup"),
            base: serde_json::from_str(CONFIGS[4]).expect("a configuration"),
            made: 0,
        }
    }

    /// Returns the path of a node, which is made if it is missing. Every container may make nodes,
    /// so a refusal is an error.
    fn node(&mut self, kind: char, major: u32, minor: u32) -> Result<PathBuf, String> {
        let path = nodes().join(format!("{kind}-{major}-{minor}"));
        let flag = if kind == 'b' {
            SFlag::S_IFBLK
        } else {
            SFlag::S_IFCHR
        };
        let device = makedev(major.into(), minor.into());
        match mknod(&path, flag, Mode::from_bits_truncate(0o666), device) {
            Ok(()) => self.made += 1,
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(format!("mknod {kind} {major}:{minor}: {errno}")),
        }
        Ok(path)
    }

    /// Compares the kernel's decisions with the rules.
    fn compare(&mut self, rules: &[LinuxDeviceCgroup], random: &mut Random) -> Result<(), String> {
        if self.made > 4000 {
            let _ = fs::remove_dir_all(nodes());
            fs::create_dir(nodes()).map_err(|error| error.to_string())?;
            self.made = 0;
        }
        for (major, minor) in numbers(rules, random) {
            for kind in ['b', 'c'] {
                let node = self.node(kind, major, minor)?;
                for letters in ["r", "w", "rw"] {
                    let flags = letters.chars().fold(AccessFlags::empty(), |flags, letter| {
                        flags
                            | if letter == 'r' {
                                AccessFlags::R_OK
                            } else {
                                AccessFlags::W_OK
                            }
                    });
                    let expected = letters
                        .chars()
                        .all(|letter| allowed(rules, kind, major, minor, letter));
                    let answer = access(&node, flags);
                    let got = match answer {
                        Ok(()) => true,
                        Err(Errno::EPERM) => false,
                        Err(errno) => {
                            return Err(format!("access {kind} {major}:{minor}: {errno}"));
                        }
                    };
                    if got != expected {
                        return Err(format!(
                            "{letters} of {kind} {major}:{minor} is {got}, the rules say {expected}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Decides by reading the rules one by one.
fn allowed(rules: &[LinuxDeviceCgroup], kind: char, major: u32, minor: u32, letter: char) -> bool {
    let default = DEFAULTS.iter().any(|(of, first, second)| {
        (*of, *first) == (kind, major) && second.is_none_or(|second| second == minor)
    });
    let mut answer = false;
    for rule in rules {
        let any_or = |number: Option<i64>, given: u32| {
            number.is_none_or(|number| number == -1 || number == i64::from(given))
        };
        let all = matches!(rule.typ(), None | Some(LinuxDeviceType::A));
        let same = match kind {
            'b' => rule.typ() == Some(LinuxDeviceType::B),
            _ => rule.typ() == Some(LinuxDeviceType::C),
        };
        let named = rule
            .access()
            .as_ref()
            .is_some_and(|named| named.contains(letter));
        let matches = same && any_or(rule.major(), major) && any_or(rule.minor(), minor) && named;
        if all || matches {
            answer = rule.allow();
        }
    }
    answer || default
}

/// True if every rule can be a rule.
fn is_valid(rules: &[LinuxDeviceCgroup]) -> bool {
    let number = |number: Option<i64>| {
        number.is_none_or(|number| number >= -1 && number <= i64::from(u32::MAX))
    };
    rules.iter().all(|rule| {
        let kinds = [LinuxDeviceType::A, LinuxDeviceType::B, LinuxDeviceType::C];
        rule.typ().is_none_or(|kind| kinds.contains(&kind))
            && number(rule.major())
            && number(rule.minor())
            && rule
                .access()
                .as_ref()
                .is_some_and(|access| access.contains(['r', 'w', 'm']))
    })
}

/// Returns device numbers around those of some rules and of the defaults.
fn numbers(rules: &[LinuxDeviceCgroup], random: &mut Random) -> Vec<(u32, u32)> {
    let mut all = vec![(0, 1), (1, 3), (5, 1), (136, 7), (10, 200), (8, 0), LARGEST];
    if rules.is_empty() {
        return all;
    }
    for _ in 0..6 {
        let (rule, other) = (random.of(rules), random.of(rules));
        let near = |number: Option<i64>, by: i64, largest: u32| {
            let number = number.unwrap_or(3).saturating_add(by);
            number.clamp(0, largest.into()) as u32
        };
        let by = *random.of(&[0, 0, -1, 1]);
        all.push((
            near(rule.major(), 0, LARGEST.0),
            near(rule.minor(), by, LARGEST.1),
        ));
        all.push((
            near(rule.major(), by, LARGEST.0),
            near(other.minor(), 0, LARGEST.1),
        ));
    }
    // The kernel asks no program about a node of 0:0.
    all.retain(|numbers| *numbers != (0, 0));
    all
}

/// Makes a rule. Only a few numbers are used, so that rules meet.
fn rule(random: &mut Random) -> Value {
    let mut rule = json!({"allow": random.below(2) == 0});
    rule["access"] = json!(random.of(&["r", "w", "m", "rw", "rwm", "wm", "rm"]));
    if let Some(kind) = random.of(&[Some("b"), Some("c"), Some("c"), Some("a"), None]) {
        rule["type"] = json!(kind);
    }
    for field in ["major", "minor"] {
        let number = *random.of(&[
            -1,
            0,
            1,
            3,
            5,
            8,
            10,
            136,
            200,
            0xfff,
            0xf_ffff,
            0xffff_ffff_i64,
        ]);
        if random.below(3) > 0 {
            rule[field] = json!(number);
        }
    }
    rule
}

impl Target for Devices {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let lists = [
            json!([]),
            json!([{"allow": false, "access": "rwm"}]),
            json!([{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"},
                {"allow": false, "type": "b", "major": 8, "access": "m"}]),
            json!([{"allow": true, "access": "rwm"}, {"allow": false, "type": "a", "access": "r"}]),
        ];
        let text = |list: &Value| list.to_string().into_bytes();
        lists.iter().map(text).collect()
    }

    fn mutate(&self, base: Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
        match serde_json::from_slice::<Vec<Value>>(&base) {
            Ok(mut rules) if random.below(3) > 0 => {
                for _ in 0..=random.below(3) {
                    let at = random.below(rules.len() + 1);
                    match random.below(3) {
                        0 if at < rules.len() => drop(rules.remove(at)),
                        1 if at < rules.len() => rules[at] = rule(random),
                        _ => rules.insert(at, rule(random)),
                    }
                }
                Value::from(rules).to_string().into_bytes()
            }
            _ => mutation::mutate(base, random.of(corpus).clone().as_slice(), random),
        }
    }

    fn run(&mut self, input: &[u8]) -> Result<bool, String> {
        let Ok(rules) = serde_json::from_slice::<Value>(input) else {
            return Ok(false);
        };
        self.base["linux"]["resources"] = json!({"devices": rules});
        let path = file("config");
        fs::write(&path, self.base.to_string()).map_err(|error| error.to_string())?;
        let Ok(loaded) = spec::load_config(&path) else {
            return Ok(false);
        };
        let resources = loaded
            .spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.resources().clone());
        let rules = resources.and_then(|resources| resources.devices().clone());
        let rules = rules.unwrap_or_default();
        let driver = CgroupDriver::Cgroupfs;
        let limits = match cgroup::plan_driver(driver, &loaded.spec, "fuzz", "0::/\n") {
            Ok((limits, _)) if is_valid(&rules) => limits,
            Ok(_) => return Err("a rule that cannot be is accepted".to_owned()),
            Err(_) if is_valid(&rules) => return Err("good rules are refused".to_owned()),
            Err(violations) => return refusals(&violations),
        };
        match self.cgroup.replace_devices(limits.devices.as_ref()) {
            Ok(()) => {}
            // The program has more instructions than the kernel accepts.
            Err(error) if rules.len() > 100 && error.to_string().contains("E2BIG") => {
                return Ok(false);
            }
            Err(error) => return Err(format!("the kernel refuses the program: {error}")),
        }
        self.compare(&rules, &mut Random::of_input(input))?;
        Ok(true)
    }
}
