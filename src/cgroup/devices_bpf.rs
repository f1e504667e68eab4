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
use crate::sys::bpf::EbpfInstruction;

const ACCESS_MKNOD: u8 = 1;
const ACCESS_READ: u8 = 2;
const ACCESS_WRITE: u8 = 4;
const ACCESS_ALL: u8 = ACCESS_MKNOD | ACCESS_READ | ACCESS_WRITE;

/// The kernel's numbers for the device types (`BPF_DEVCG_DEV_`).
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
enum DeviceKind {
    Block = 1,
    Char = 2,
}

/// A rule about some accesses (a bit mask) to some devices. A device number of `None` matches any.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
struct DeviceRule {
    allow: bool,
    kind: DeviceKind,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

impl DeviceRule {
    /// True if this rule covers all accesses that `earlier` covers.
    fn covers_rule(&self, earlier: &DeviceRule) -> bool {
        let any_or = |ours: Option<u32>, theirs| ours.is_none() || ours == theirs;
        self.kind == earlier.kind
            && any_or(self.major, earlier.major)
            && any_or(self.minor, earlier.minor)
            && earlier.access & !self.access == 0
    }
}

const fn allow_rule(
    major: Option<u32>,
    minor: Option<u32>,
    kind: DeviceKind,
    access: u8,
) -> DeviceRule {
    DeviceRule {
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
const DEFAULT_RULES: [DeviceRule; 11] = [
    allow_rule(None, None, DeviceKind::Char, ACCESS_MKNOD),
    allow_rule(None, None, DeviceKind::Block, ACCESS_MKNOD),
    allow_rule(Some(1), Some(3), DeviceKind::Char, ACCESS_ALL), // null
    allow_rule(Some(1), Some(8), DeviceKind::Char, ACCESS_ALL), // random
    allow_rule(Some(1), Some(7), DeviceKind::Char, ACCESS_ALL), // full
    allow_rule(Some(5), Some(0), DeviceKind::Char, ACCESS_ALL), // tty
    allow_rule(Some(1), Some(5), DeviceKind::Char, ACCESS_ALL), // zero
    allow_rule(Some(1), Some(9), DeviceKind::Char, ACCESS_ALL), // urandom
    allow_rule(Some(136), None, DeviceKind::Char, ACCESS_ALL),  // pts
    allow_rule(Some(5), Some(2), DeviceKind::Char, ACCESS_ALL), // ptmx
    // net/tun: VPNs that work with runc need it.
    allow_rule(Some(10), Some(200), DeviceKind::Char, ACCESS_ALL),
];

/// A program that returns 1 (allow) or 0 (EPERM) for each access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceProgram {
    pub(super) instructions: Vec<EbpfInstruction>,
    /// A hash of the decisions. Programs that make the same decisions have the same digest.
    digest: u64,
    /// The rules, last first. An access that no rule covers is allowed if `otherwise` is true.
    rules: Vec<DeviceRule>,
    otherwise: bool,
}

impl DeviceProgram {
    /// Returns the digest of a program, or 0 if there is none.
    pub(crate) fn digest_of(program: Option<&DeviceProgram>) -> u64 {
        program.map_or(0, |program| program.digest)
    }

    /// Returns the allowed devices in systemd's syntax: `/dev/char/1:3`, `block-8` (major number 8,
    /// any minor number), `char-*`. The list covers at least all devices that the rules allow.
    /// Returns `None` if the list would have to name all devices.
    pub(crate) fn systemd_allow_list(&self) -> Option<Vec<(String, String)>> {
        if self.otherwise {
            return None;
        }
        let entry = |rule: &DeviceRule| {
            let kind = match rule.kind {
                DeviceKind::Block => "block",
                DeviceKind::Char => "char",
            };
            let device = match (rule.major, rule.minor) {
                (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
                (Some(major), None) => format!("{kind}-{major}"),
                // systemd has no syntax for one minor number of every major number.
                (None, _) => format!("{kind}-*"),
            };
            let letters = [(ACCESS_READ, 'r'), (ACCESS_WRITE, 'w'), (ACCESS_MKNOD, 'm')];
            let access = letters.iter().filter(|(bit, _)| rule.access & bit != 0);
            (device, access.map(|(_, letter)| letter).collect())
        };
        let allowed = self.rules.iter().rev().filter(|rule| rule.allow);
        Some(allowed.map(entry).collect())
    }
}

/// Plans the program for these rules and the default rules. Returns `None` if all accesses are
/// allowed. Violations name `linux.resources.devices[i]`.
pub(crate) fn plan_program(
    rules: &[LinuxDeviceCgroup],
) -> Result<Option<DeviceProgram>, Vec<Violation>> {
    let mut violations = Vec::new();
    let mut otherwise = false;
    let mut planned = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        match parse_rule(rule) {
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
    planned.extend(DEFAULT_RULES);
    let decisive = effective_rules(&planned, otherwise);
    Ok((!otherwise || !decisive.is_empty()).then(|| DeviceProgram {
        instructions: compile_rules(&decisive, otherwise),
        digest: hash_rules(&decisive, otherwise),
        rules: decisive,
        otherwise,
    }))
}

/// The FNV-1a hash. std's hash isn't used, because the digest is stored on disk and std's hash may
/// change between versions.
struct FnvHasher(u64);

impl Hasher for FnvHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn hash_rules(rules: &[DeviceRule], otherwise: bool) -> u64 {
    let mut hasher = FnvHasher(0xcbf2_9ce4_8422_2325);
    (rules, otherwise).hash(&mut hasher);
    hasher.finish()
}

/// Returns the rules, last first, without those that have no effect.
fn effective_rules(rules: &[DeviceRule], otherwise: bool) -> Vec<DeviceRule> {
    let mut kept: Vec<DeviceRule> = Vec::new();
    for rule in rules.iter().rev() {
        if !kept.iter().any(|later| later.covers_rule(rule)) {
            kept.push(*rule);
        }
    }
    while kept.last().is_some_and(|first| first.allow == otherwise) {
        kept.pop();
    }
    kept
}

fn access_letters(rule: &LinuxDeviceCgroup) -> impl Iterator<Item = char> {
    rule.access().iter().flat_map(|access| access.chars())
}

/// Returns the bit of the access that a letter stands for, or 0 for an unknown letter.
fn access_bit(letter: char) -> u8 {
    match letter {
        'r' => ACCESS_READ,
        'w' => ACCESS_WRITE,
        'm' => ACCESS_MKNOD,
        _ => 0,
    }
}

/// Returns the unknown letters in these rules. They are ignored, as in runc and crun.
pub(crate) fn unknown_access_letters(
    rules: &[LinuxDeviceCgroup],
) -> impl Iterator<Item = Violation> {
    rules.iter().enumerate().flat_map(|(index, rule)| {
        let unknown = access_letters(rule).filter(|letter| access_bit(*letter) == 0);
        unknown.map(move |letter| {
            let place = format!("linux.resources.devices[{index}].access");
            Violation::ignored(
                place,
                format!("{letter:?} is not one of r, w, m, and is ignored"),
            )
        })
    })
}

/// Parses a rule of config.json. Returns `None` for a rule of type `a`, which covers all accesses
/// to all devices. An error consists of the field's name and the problem.
fn parse_rule(rule: &LinuxDeviceCgroup) -> Result<Option<DeviceRule>, (&'static str, String)> {
    let access = access_letters(rule).fold(0, |sum, letter| sum | access_bit(letter));
    if access == 0 {
        return Err(("access", "no access is named (r, w, m)".into()));
    }
    let major = parse_device_number(rule.major()).map_err(|problem| ("major", problem))?;
    let minor = parse_device_number(rule.minor()).map_err(|problem| ("minor", problem))?;
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => return Ok(None),
        Some(LinuxDeviceType::B) => DeviceKind::Block,
        Some(LinuxDeviceType::C) => DeviceKind::Char,
        Some(other @ (LinuxDeviceType::U | LinuxDeviceType::P)) => {
            let name = other.as_str();
            return Err(("type", format!("type {name:?} is not one of a, b, c")));
        }
    };
    Ok(Some(DeviceRule {
        allow: rule.allow(),
        kind,
        major,
        minor,
        access,
    }))
}

/// Parses a device number. Returns `None`, which matches any number, if the number is absent or -1.
fn parse_device_number(number: Option<i64>) -> Result<Option<u32>, String> {
    match number {
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number).map(Some).map_err(|_| {
            format!("{number} is not a device number (0 to 4294967295, or -1 for any)")
        }),
    }
}

// Instruction codes of linux/bpf_common.h and linux/bpf.h. The 32-bit instructions clear the upper
// half of the register.
const OP_LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const OP_MOVE: u8 = 0xbc; // BPF_ALU | BPF_MOV | BPF_X
const OP_SET: u8 = 0xb4; // BPF_ALU | BPF_MOV | BPF_K
const OP_AND: u8 = 0x5c; // BPF_ALU | BPF_AND | BPF_X
const OP_AND_VALUE: u8 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const OP_OR: u8 = 0x4c; // BPF_ALU | BPF_OR | BPF_X
const OP_XOR_VALUE: u8 = 0xa4; // BPF_ALU | BPF_XOR | BPF_K
const OP_SHIFT_RIGHT: u8 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
const OP_ADD_64: u8 = 0x07; // BPF_ALU64 | BPF_ADD | BPF_K
const OP_SHIFT_RIGHT_64: u8 = 0x77; // BPF_ALU64 | BPF_RSH | BPF_K
const OP_MULTIPLY: u8 = 0x24; // BPF_ALU | BPF_MUL | BPF_K
const OP_EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

/// Holds the accesses that the rules so far allow, and in the end the result of the program.
const REG_ALLOWED: u8 = 0;
/// A pointer to `struct bpf_cgroup_dev_ctx { u32 access_type, major, minor }`, where access_type is
/// access << 16 | type.
const REG_CONTEXT: u8 = 1;
const REG_REQUESTED: u8 = 3;
const REG_MAJOR: u8 = 4;
const REG_MINOR: u8 = 5;
/// NOT_BLOCK is zero for a block device, and NOT_CHAR is zero for a character device.
const REG_NOT_BLOCK: u8 = 6;
const REG_NOT_CHAR: u8 = 7;
const REG_DIFFERENCE: u8 = 8;
const REG_SCRATCH: u8 = 9;

/// Translates rules, last first, into instructions without jumps. The kernel's verifier follows
/// both paths of each jump. With jumps, the default rules took 0.4 ms instead of 0.05 ms.
fn compile_rules(rules: &[DeviceRule], otherwise: bool) -> Vec<EbpfInstruction> {
    let mut program = vec![
        EbpfInstruction::new(OP_LOAD_WORD, REG_NOT_BLOCK, REG_CONTEXT, 0, 0),
        EbpfInstruction::new(OP_MOVE, REG_REQUESTED, REG_NOT_BLOCK, 0, 0),
        EbpfInstruction::new(OP_SHIFT_RIGHT, REG_REQUESTED, 0, 0, 16),
        EbpfInstruction::new(OP_AND_VALUE, REG_NOT_BLOCK, 0, 0, 0xffff),
        EbpfInstruction::new(OP_MOVE, REG_NOT_CHAR, REG_NOT_BLOCK, 0, 0),
        EbpfInstruction::new(OP_XOR_VALUE, REG_NOT_BLOCK, 0, 0, DeviceKind::Block as i32),
        EbpfInstruction::new(OP_XOR_VALUE, REG_NOT_CHAR, 0, 0, DeviceKind::Char as i32),
        EbpfInstruction::new(OP_LOAD_WORD, REG_MAJOR, REG_CONTEXT, 4, 0),
        EbpfInstruction::new(OP_LOAD_WORD, REG_MINOR, REG_CONTEXT, 8, 0),
        EbpfInstruction::new(OP_SET, REG_ALLOWED, 0, 0, if otherwise { -1 } else { 0 }),
    ];
    for rule in rules.iter().rev() {
        emit_rule(&mut program, rule);
    }
    program.extend([
        // Keep the requested accesses that are not allowed. Then set the result to 1 if there are
        // none, else to 0. Subtracting 1 sets the sign bit only if the value is 0.
        EbpfInstruction::new(OP_XOR_VALUE, REG_ALLOWED, 0, 0, -1),
        EbpfInstruction::new(OP_AND, REG_ALLOWED, REG_REQUESTED, 0, 0),
        EbpfInstruction::new(OP_ADD_64, REG_ALLOWED, 0, 0, -1),
        EbpfInstruction::new(OP_SHIFT_RIGHT_64, REG_ALLOWED, 0, 0, 63),
        EbpfInstruction::new(OP_EXIT, 0, 0, 0, 0),
    ]);
    program
}

/// Emits the instructions for a rule. If the rule matches the device, they add the rule's accesses
/// to the allowed accesses, or remove them.
fn emit_rule(program: &mut Vec<EbpfInstruction>, rule: &DeviceRule) {
    let other_kind = match rule.kind {
        DeviceKind::Block => REG_NOT_BLOCK,
        DeviceKind::Char => REG_NOT_CHAR,
    };
    program.push(EbpfInstruction::new(
        OP_MOVE,
        REG_DIFFERENCE,
        other_kind,
        0,
        0,
    ));
    for (register, value) in [(REG_MAJOR, rule.major), (REG_MINOR, rule.minor)] {
        if let Some(value) = value {
            program.extend([
                EbpfInstruction::new(OP_MOVE, REG_SCRATCH, register, 0, 0),
                EbpfInstruction::new(OP_XOR_VALUE, REG_SCRATCH, 0, 0, value.cast_signed()),
                EbpfInstruction::new(OP_OR, REG_DIFFERENCE, REG_SCRATCH, 0, 0),
            ]);
        }
    }
    program.extend([
        // Set the register to 1 if nothing differs, else to 0. Subtracting 1 from a 32-bit value
        // sets the sign bit only if the value is 0. An arithmetic shift would give a mask directly,
        // but newer kernels verify both of its possible values separately, as they do for a jump.
        EbpfInstruction::new(OP_ADD_64, REG_DIFFERENCE, 0, 0, -1),
        EbpfInstruction::new(OP_SHIFT_RIGHT_64, REG_DIFFERENCE, 0, 0, 63),
        EbpfInstruction::new(OP_MULTIPLY, REG_DIFFERENCE, 0, 0, rule.access.into()),
    ]);
    if rule.allow {
        program.push(EbpfInstruction::new(
            OP_OR,
            REG_ALLOWED,
            REG_DIFFERENCE,
            0,
            0,
        ));
    } else {
        program.extend([
            EbpfInstruction::new(OP_XOR_VALUE, REG_DIFFERENCE, 0, 0, -1),
            EbpfInstruction::new(OP_AND, REG_ALLOWED, REG_DIFFERENCE, 0, 0),
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

    fn program(json: &str) -> Option<DeviceProgram> {
        plan_program(&rules(json)).unwrap()
    }

    /// Runs a program as the kernel does.
    fn run(program: &DeviceProgram, kind: DeviceKind, major: u32, minor: u32, access: u8) -> bool {
        let mut registers = [0_u64; 16];
        for i in &program.instructions {
            let (to, from) = (usize::from(i.to()), registers[usize::from(i.from())]);
            let value = registers[to];
            let immediate = i64::from(i.immediate).cast_unsigned();
            let low = u64::from(u32::MAX);
            registers[to] = match i.code {
                OP_LOAD_WORD => match i.offset {
                    0 => (u64::from(access) << 16) | kind as u64,
                    4 => major.into(),
                    8 => minor.into(),
                    _ => panic!("load from {}", i.offset),
                },
                OP_MOVE => from & low,
                OP_SET => immediate & low,
                OP_AND => value & from & low,
                OP_AND_VALUE => value & immediate & low,
                OP_OR => (value | from) & low,
                OP_XOR_VALUE => (value ^ immediate) & low,
                OP_SHIFT_RIGHT => (value & low) >> immediate,
                OP_ADD_64 => value.wrapping_add(immediate),
                OP_SHIFT_RIGHT_64 => value >> immediate,
                OP_MULTIPLY => value.wrapping_mul(immediate) & low,
                OP_EXIT => break,
                code => panic!("unknown code {code:#x}"),
            }
        }
        assert!(registers[0] <= 1, "{}", registers[0]);
        registers[0] == 1
    }

    /// Applies the rules in the simplest way, for comparison with the program.
    fn allowed(
        rules: &[DeviceRule],
        otherwise: bool,
        kind: DeviceKind,
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
        assert!(run(
            &program,
            DeviceKind::Char,
            1,
            3,
            ACCESS_READ | ACCESS_WRITE
        ));
        assert!(run(
            &program,
            DeviceKind::Char,
            136,
            17,
            ACCESS_READ | ACCESS_WRITE
        ));
        assert!(run(&program, DeviceKind::Block, 8, 0, ACCESS_MKNOD));
        assert!(!run(&program, DeviceKind::Block, 8, 0, ACCESS_READ));
        assert!(!run(
            &program,
            DeviceKind::Char,
            8,
            0,
            ACCESS_MKNOD | ACCESS_READ
        ));
        assert!(!run(&program, DeviceKind::Block, 1, 3, ACCESS_READ));
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
        let digest = |json| DeviceProgram::digest_of(program(json).as_ref());
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
            let mut plain: Vec<DeviceRule> = rules
                .iter()
                .filter_map(|r| parse_rule(r).unwrap())
                .collect();
            plain.extend(DEFAULT_RULES);
            let program = plan_program(&rules).unwrap().unwrap();
            for kind in [DeviceKind::Block, DeviceKind::Char] {
                for major in [0, 1, 5, 8, 10, 136, u32::MAX] {
                    for minor in [0, 1, 3, 5, 200] {
                        for access in 1..=ACCESS_ALL {
                            let expected = [ACCESS_MKNOD, ACCESS_READ, ACCESS_WRITE]
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
        let list = |json: &str| program(json).unwrap().systemd_allow_list();
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
            let told = unknown_access_letters(&rules).map(|v| v.to_string());
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
        let places: Vec<String> = plan_program(&rules(bad))
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
