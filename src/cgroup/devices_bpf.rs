//! Translates linux.resources.devices to an eBPF program that allows or denies device accesses in a
//! cgroup.
//! `sys::bpf` loads and attaches the program. Device nodes are not handled here.
//!
//! A rule decides about some accesses (read, write, mknod) to the devices that it names. A later
//! rule overrides an earlier one. A rule of type `a` covers all accesses to all devices, so it
//! cancels the rules before it. Without any rule, all accesses are denied.

use std::hash::{Hash, Hasher};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::error::Violation;
use crate::sys::bpf::Instruction;

const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// The kernel's numbers for the device types (`BPF_DEVCG_DEV_`).
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
enum Kind {
    Block = 1,
    Char = 2,
}

/// A rule about some accesses (a bit mask) to some devices. A device number of `None` matches any.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

impl Rule {
    /// True if this rule covers all accesses that `earlier` covers.
    fn covers(&self, earlier: &Rule) -> bool {
        let any_or = |ours: Option<u32>, theirs| ours.is_none() || ours == theirs;
        self.kind == earlier.kind
            && any_or(self.major, earlier.major)
            && any_or(self.minor, earlier.minor)
            && earlier.access & !self.access == 0
    }
}

const fn allow(major: Option<u32>, minor: Option<u32>, kind: Kind, access: u8) -> Rule {
    Rule {
        allow: true,
        kind,
        major,
        minor,
        access,
    }
}

/// The devices that every container may use, as in runc. These rules are added after those of
/// config.json. The runtime itself also needs them when it makes and opens device nodes in the
/// container.
const DEFAULTS: [Rule; 11] = [
    allow(None, None, Kind::Char, MKNOD),
    allow(None, None, Kind::Block, MKNOD),
    allow(Some(1), Some(3), Kind::Char, ALL),    // null
    allow(Some(1), Some(8), Kind::Char, ALL),    // random
    allow(Some(1), Some(7), Kind::Char, ALL),    // full
    allow(Some(5), Some(0), Kind::Char, ALL),    // tty
    allow(Some(1), Some(5), Kind::Char, ALL),    // zero
    allow(Some(1), Some(9), Kind::Char, ALL),    // urandom
    allow(Some(136), None, Kind::Char, ALL),     // pts
    allow(Some(5), Some(2), Kind::Char, ALL),    // ptmx
    allow(Some(10), Some(200), Kind::Char, ALL), // net/tun: VPNs that work with runc need it
];

/// A program that returns 1 (allow) or 0 (EPERM) for each access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(super) instructions: Vec<Instruction>,
    /// A digest of the decisions: programs that make the same decisions have the same digest.
    digest: u64,
    /// The rules, last first. `otherwise` is true if accesses without a rule are allowed.
    rules: Vec<Rule>,
    otherwise: bool,
}

impl Program {
    /// The digest of a program; 0 if there is none.
    pub(crate) fn digest(program: Option<&Program>) -> u64 {
        program.map_or(0, |program| program.digest)
    }

    /// The allowed devices in systemd's syntax: `/dev/char/1:3`, `block-8` (all minor numbers of
    /// 8), `char-*`. The list has at least all devices that the rules allow. `None` if the list
    /// would have to name all devices.
    pub(super) fn allow_list(&self) -> Option<Vec<(String, String)>> {
        if self.otherwise {
            return None;
        }
        let entry = |rule: &Rule| {
            let kind = match rule.kind {
                Kind::Block => "block",
                Kind::Char => "char",
            };
            let device = match (rule.major, rule.minor) {
                (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
                (Some(major), None) => format!("{kind}-{major}"),
                // systemd has no syntax for one minor number of every major number.
                (None, _) => format!("{kind}-*"),
            };
            let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
            let access = letters.iter().filter(|(bit, _)| rule.access & bit != 0);
            (device, access.map(|(_, letter)| letter).collect())
        };
        let allowed = self.rules.iter().rev().filter(|rule| rule.allow);
        Some(allowed.map(entry).collect())
    }
}

/// Plans the program for these rules and the default ones; `None` if all accesses are allowed.
/// Violations name `linux.resources.devices[i]`.
pub(crate) fn plan(rules: &[LinuxDeviceCgroup]) -> Result<Option<Program>, Vec<Violation>> {
    let mut violations = Vec::new();
    let mut otherwise = false;
    let mut planned = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        match read(rule) {
            Ok(Some(rule)) => planned.push(rule),
            Ok(None) => {
                otherwise = rule.allow();
                planned.clear();
            }
            Err((field, problem)) => violations.push(Violation::new(
                format!("linux.resources.devices[{index}].{field}"),
                problem,
            )),
        }
    }
    if !violations.is_empty() {
        return Err(violations);
    }
    planned.extend(DEFAULTS);
    let decisive = decisive(&planned, otherwise);
    Ok((!otherwise || !decisive.is_empty()).then(|| Program {
        instructions: compile(&decisive, otherwise),
        digest: digest(&decisive, otherwise),
        rules: decisive,
        otherwise,
    }))
}

/// The FNV-1a hash. The digest is stored on disk, and std's hashes may change between versions.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn digest(rules: &[Rule], otherwise: bool) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    (rules, otherwise).hash(&mut hasher);
    hasher.finish()
}

/// Returns the rules, last first, without those that have no effect.
fn decisive(rules: &[Rule], otherwise: bool) -> Vec<Rule> {
    let mut kept: Vec<Rule> = Vec::new();
    for rule in rules.iter().rev() {
        if !kept.iter().any(|later| later.covers(rule)) {
            kept.push(*rule);
        }
    }
    while kept.last().is_some_and(|first| first.allow == otherwise) {
        kept.pop();
    }
    kept
}

fn letters(rule: &LinuxDeviceCgroup) -> impl Iterator<Item = char> {
    rule.access().iter().flat_map(|access| access.chars())
}

/// The access that a letter stands for; 0 for an unknown letter.
fn bit(letter: char) -> u8 {
    match letter {
        'r' => READ,
        'w' => WRITE,
        'm' => MKNOD,
        _ => 0,
    }
}

/// Returns the unknown letters in these rules. They are ignored, as in runc and crun.
pub(crate) fn unknown_letters(rules: &[LinuxDeviceCgroup]) -> impl Iterator<Item = Violation> {
    rules.iter().enumerate().flat_map(|(index, rule)| {
        let unknown = letters(rule).filter(|letter| bit(*letter) == 0);
        unknown.map(move |letter| {
            let place = format!("linux.resources.devices[{index}].access");
            Violation::new(
                place,
                format!("{letter:?} is not one of r, w, m, and is ignored"),
            )
        })
    })
}

/// Parses a rule of config.json. `None` is a rule about all accesses to all devices. An error has
/// the name of the field and the problem.
fn read(rule: &LinuxDeviceCgroup) -> Result<Option<Rule>, (&'static str, String)> {
    let access = letters(rule).fold(0, |sum, letter| sum | bit(letter));
    if access == 0 {
        return Err(("access", "no access is named (r, w, m)".into()));
    }
    let major = number(rule.major()).map_err(|problem| ("major", problem))?;
    let minor = number(rule.minor()).map_err(|problem| ("minor", problem))?;
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => return Ok(None),
        Some(LinuxDeviceType::B) => Kind::Block,
        Some(LinuxDeviceType::C) => Kind::Char,
        Some(other @ (LinuxDeviceType::U | LinuxDeviceType::P)) => {
            let name = other.as_str();
            return Err(("type", format!("type {name:?} is not one of a, b, c")));
        }
    };
    Ok(Some(Rule {
        allow: rule.allow(),
        kind,
        major,
        minor,
        access,
    }))
}

/// Parses a device number. An absent number or -1 matches any.
fn number(number: Option<i64>) -> Result<Option<u32>, String> {
    match number {
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number).map(Some).map_err(|_| {
            format!("{number} is not a device number (0 to 4294967295, or -1 for any)")
        }),
    }
}

// Instruction codes of linux/bpf_common.h and linux/bpf.h. The 32-bit ones clear the upper half of
// the register.
const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE: u8 = 0xbc; // BPF_ALU | BPF_MOV | BPF_X
const SET: u8 = 0xb4; // BPF_ALU | BPF_MOV | BPF_K
const AND: u8 = 0x5c; // BPF_ALU | BPF_AND | BPF_X
const AND_VALUE: u8 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const OR: u8 = 0x4c; // BPF_ALU | BPF_OR | BPF_X
const XOR_VALUE: u8 = 0xa4; // BPF_ALU | BPF_XOR | BPF_K
const SHIFT_RIGHT: u8 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
const ADD_64: u8 = 0x07; // BPF_ALU64 | BPF_ADD | BPF_K
const SHIFT_RIGHT_64: u8 = 0x77; // BPF_ALU64 | BPF_RSH | BPF_K
const MULTIPLY: u8 = 0x24; // BPF_ALU | BPF_MUL | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

/// The accesses allowed by the rules so far. At the end, the result.
const ALLOWED: u8 = 0;
/// A pointer to `struct bpf_cgroup_dev_ctx { u32 access_type, major, minor }`, where access_type is
/// access << 16 | type.
const CONTEXT: u8 = 1;
const ASKED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// NOT_BLOCK is zero for a block device, and NOT_CHAR is zero for a character device.
const NOT_BLOCK: u8 = 6;
const NOT_CHAR: u8 = 7;
const DIFFERENCE: u8 = 8;
const PART: u8 = 9;

/// Translates rules, last first, into instructions without jumps. The kernel's verifier follows
/// both paths of each jump. With jumps, the default rules took 0.4 ms instead of 0.05 ms.
fn compile(rules: &[Rule], otherwise: bool) -> Vec<Instruction> {
    let mut program = vec![
        Instruction::new(LOAD_WORD, NOT_BLOCK, CONTEXT, 0, 0),
        Instruction::new(MOVE, ASKED, NOT_BLOCK, 0, 0),
        Instruction::new(SHIFT_RIGHT, ASKED, 0, 0, 16),
        Instruction::new(AND_VALUE, NOT_BLOCK, 0, 0, 0xffff),
        Instruction::new(MOVE, NOT_CHAR, NOT_BLOCK, 0, 0),
        Instruction::new(XOR_VALUE, NOT_BLOCK, 0, 0, Kind::Block as i32),
        Instruction::new(XOR_VALUE, NOT_CHAR, 0, 0, Kind::Char as i32),
        Instruction::new(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        Instruction::new(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        Instruction::new(SET, ALLOWED, 0, 0, if otherwise { -1 } else { 0 }),
    ];
    for rule in rules.iter().rev() {
        apply(&mut program, rule);
    }
    program.extend([
        // First keep the requested accesses that are not allowed. Then set the result to 1 if there
        // are none: only 0 - 1 sets the sign bit.
        Instruction::new(XOR_VALUE, ALLOWED, 0, 0, -1),
        Instruction::new(AND, ALLOWED, ASKED, 0, 0),
        Instruction::new(ADD_64, ALLOWED, 0, 0, -1),
        Instruction::new(SHIFT_RIGHT_64, ALLOWED, 0, 0, 63),
        Instruction::new(EXIT, 0, 0, 0, 0),
    ]);
    program
}

/// Applies a rule if it matches the device: adds its accesses to the allowed ones or removes them.
fn apply(program: &mut Vec<Instruction>, rule: &Rule) {
    let other_kind = match rule.kind {
        Kind::Block => NOT_BLOCK,
        Kind::Char => NOT_CHAR,
    };
    program.push(Instruction::new(MOVE, DIFFERENCE, other_kind, 0, 0));
    for (register, value) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        if let Some(value) = value {
            program.extend([
                Instruction::new(MOVE, PART, register, 0, 0),
                Instruction::new(XOR_VALUE, PART, 0, 0, value.cast_signed()),
                Instruction::new(OR, DIFFERENCE, PART, 0, 0),
            ]);
        }
    }
    program.extend([
        // 1 if nothing differs, else 0: when 1 is subtracted from a 32-bit value, only 0 - 1 sets
        // the sign bit. (An arithmetic shift would give a mask directly, but newer kernels verify
        // both of its possible values separately, as they do for a jump.)
        Instruction::new(ADD_64, DIFFERENCE, 0, 0, -1),
        Instruction::new(SHIFT_RIGHT_64, DIFFERENCE, 0, 0, 63),
        Instruction::new(MULTIPLY, DIFFERENCE, 0, 0, rule.access.into()),
    ]);
    if rule.allow {
        program.push(Instruction::new(OR, ALLOWED, DIFFERENCE, 0, 0));
    } else {
        program.extend([
            Instruction::new(XOR_VALUE, DIFFERENCE, 0, 0, -1),
            Instruction::new(AND, ALLOWED, DIFFERENCE, 0, 0),
        ]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn rules(json: &str) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_str(json).unwrap()
    }

    fn program(json: &str) -> Option<Program> {
        plan(&rules(json)).unwrap()
    }

    /// Runs a program as the kernel does.
    fn run(program: &Program, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        let mut registers = [0_u64; 16];
        for i in &program.instructions {
            let (to, from) = (usize::from(i.to()), registers[usize::from(i.from())]);
            let value = registers[to];
            let immediate = i64::from(i.immediate).cast_unsigned();
            let low = u64::from(u32::MAX);
            registers[to] = match i.code {
                LOAD_WORD => match i.offset {
                    0 => (u64::from(access) << 16) | kind as u64,
                    4 => major.into(),
                    8 => minor.into(),
                    _ => panic!("load from {}", i.offset),
                },
                MOVE => from & low,
                SET => immediate & low,
                AND => value & from & low,
                AND_VALUE => value & immediate & low,
                OR => (value | from) & low,
                XOR_VALUE => (value ^ immediate) & low,
                SHIFT_RIGHT => (value & low) >> immediate,
                ADD_64 => value.wrapping_add(immediate),
                SHIFT_RIGHT_64 => value >> immediate,
                MULTIPLY => value.wrapping_mul(immediate) & low,
                EXIT => break,
                code => panic!("unknown code {code:#x}"),
            }
        }
        assert!(registers[0] <= 1, "{}", registers[0]);
        registers[0] == 1
    }

    /// Applies the rules in the simplest way, for comparison with the program.
    fn allowed(
        rules: &[Rule],
        otherwise: bool,
        kind: Kind,
        (major, minor): (u32, u32),
        bit: u8,
    ) -> bool {
        rules
            .iter()
            .rfind(|r| {
                r.kind == kind
                    && r.major.is_none_or(|n| n == major)
                    && r.minor.is_none_or(|n| n == minor)
                    && r.access & bit != 0
            })
            .map_or(otherwise, |r| r.allow)
    }

    #[test]
    fn without_rules_only_the_defaults_are_allowed() {
        let program = program("[]").unwrap();
        assert!(run(&program, Kind::Char, 1, 3, READ | WRITE));
        assert!(run(&program, Kind::Char, 136, 17, READ | WRITE));
        assert!(run(&program, Kind::Block, 8, 0, MKNOD));
        assert!(!run(&program, Kind::Block, 8, 0, READ));
        assert!(!run(&program, Kind::Char, 8, 0, MKNOD | READ));
        assert!(!run(&program, Kind::Block, 1, 3, READ));
    }

    #[test]
    fn all_allowed_is_no_program() {
        assert_eq!(
            program(r#"[{"allow":false,"access":"rwm"},{"allow":true,"access":"rwm"}]"#),
            None
        );
        assert_eq!(
            program(
                r#"[{"allow":true,"type":"a","access":"rwm"},{"allow":true,"type":"b","major":8,"access":"r"}]"#
            ),
            None
        );
    }

    #[test]
    fn rules_that_decide_alike_have_one_digest() {
        let digest = |json| Program::digest(program(json).as_ref());
        let one = r#"[{"allow":true,"type":"b","major":8,"minor":0,"access":"r"}]"#;
        let same = r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"b","major":8,"minor":0,"access":"r"}]"#;
        let other = r#"[{"allow":true,"type":"b","major":8,"minor":0,"access":"w"}]"#;
        assert_eq!(digest(one), digest(same));
        assert_ne!(digest(one), digest(other));
        assert_ne!(digest(one), digest("[]"));
        assert_eq!(digest(r#"[{"allow":true,"access":"rwm"}]"#), 0);
    }

    #[test]
    fn a_rule_repeated_costs_nothing() {
        let twice = program(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":3,"access":"rw"}]"#,
        );
        assert_eq!(twice, program("[]"));
    }

    #[test]
    fn the_program_says_what_the_rules_say() {
        let cases = [
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"b","major":8,"access":"rw"},{"allow":false,"type":"b","major":8,"minor":1,"access":"w"}]"#,
            r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"c","major":10,"access":"rw"},{"allow":true,"type":"c","major":10,"minor":5,"access":"r"}]"#,
            r#"[{"allow":true,"type":"c","major":-1,"minor":5,"access":"r"},{"allow":false,"type":"c","minor":5,"major":10,"access":"m"}]"#,
            r#"[{"allow":true,"type":"b","major":4294967295,"minor":0,"access":"mrw"}]"#,
        ];
        for json in cases {
            let rules = rules(json);
            let otherwise = rules
                .iter()
                .rfind(|r| r.typ().is_none())
                .is_some_and(LinuxDeviceCgroup::allow);
            let mut plain: Vec<Rule> = rules.iter().filter_map(|r| read(r).unwrap()).collect();
            plain.extend(DEFAULTS);
            let program = plan(&rules).unwrap().unwrap();
            for kind in [Kind::Block, Kind::Char] {
                for major in [0, 1, 5, 8, 10, 136, u32::MAX] {
                    for minor in [0, 1, 3, 5, 200] {
                        for access in 1..=ALL {
                            let expected = [MKNOD, READ, WRITE]
                                .iter()
                                .filter(|bit| access & **bit != 0)
                                .all(|bit| allowed(&plain, otherwise, kind, (major, minor), *bit));
                            assert_eq!(
                                run(&program, kind, major, minor, access),
                                expected,
                                "{json}: {kind:?} {major}:{minor} {access}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn systemd_is_told_at_least_what_is_allowed() {
        let list = |json: &str| program(json).unwrap().allow_list();
        let entry = |(device, access): (&str, &str)| (device.to_owned(), access.to_owned());
        let defaults = list("[]").unwrap();
        for pair in [
            ("char-*", "m"),
            ("block-*", "m"),
            ("/dev/char/1:3", "rwm"),
            ("char-136", "rwm"),
        ] {
            assert!(defaults.contains(&entry(pair)), "{defaults:?}");
        }
        let added = list(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"b","major":8,"access":"rw"},{"allow":false,"type":"b","major":8,"minor":2,"access":"w"},{"allow":true,"type":"c","minor":7,"access":"r"}]"#,
        )
        .unwrap();
        for pair in [("block-8", "rw"), ("char-*", "r")] {
            assert!(added.contains(&entry(pair)), "{added:?}");
        }
        assert!(!added.iter().any(|(device, _)| device == "/dev/block/8:2"));
        assert_eq!(
            list(
                r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"c","major":10,"access":"rw"}]"#
            ),
            None
        );
    }

    #[test]
    fn a_letter_that_is_no_access_is_ignored_and_told() {
        let odd = r#"[{"allow":true,"type":"b","major":8,"access":"rwa"},{"allow":true,"type":"c","major":9,"access":"r"}]"#;
        let even = odd.replace("rwa", "rw");
        assert_eq!(program(odd), program(&even));
        let told = |json| {
            let rules = rules(json);
            let told = unknown_letters(&rules).map(|v| v.to_string());
            told.collect::<Vec<_>>()
        };
        assert_eq!(
            told(odd),
            [
                "config.json: linux.resources.devices[0].access: 'a' is not one of r, w, m, and is ignored"
            ]
        );
        assert_eq!(told(&even), [""; 0]);
    }

    #[test]
    fn bad_values_are_named_by_index_and_field() {
        let bad = r#"[{"allow":true,"type":"c","access":"xa"},{"allow":true,"type":"u","access":"r"},
            {"allow":true,"type":"c","major":-2,"access":"r"},{"allow":true,"type":"c","minor":4294967296,"access":"r"},{"allow":false}]"#;
        let places: Vec<String> = plan(&rules(bad))
            .unwrap_err()
            .into_iter()
            .map(|v| v.origin.config_field().unwrap().to_owned())
            .collect();
        assert_eq!(
            places,
            [
                "linux.resources.devices[0].access",
                "linux.resources.devices[1].type",
                "linux.resources.devices[2].major",
                "linux.resources.devices[3].minor",
                "linux.resources.devices[4].access",
            ]
        );
    }
}
