//! The program that decides: by architecture, by a binary search of the number, then by arguments.
//! Not what is decided: that is `rules`.

use super::emit::{Code, Label, Test};
use super::rules::{Answer, Condition, Decision, FOREIGN, Op, Profile, Ranges};
use crate::plan::seccomp_arch::Arch;
use crate::sys::seccomp::{Instruction, LONGEST};

/// Offsets in the kernel's struct seccomp_data.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The program of a profile; `Err` has its length if the kernel doesn't take programs of it.
pub(super) fn assemble(
    profile: &Profile,
    ranges: &[(&Arch, Ranges)],
) -> Result<Vec<Instruction>, usize> {
    let mut code = Code::default();
    let mut start = code.answer(FOREIGN);
    // The machine's own architecture, which is the first, is asked for first.
    for (arch, ranges) in ranges.iter().rev() {
        let mut writer = Writer {
            code,
            default: profile.default,
            big_endian: arch.big_endian,
            checks: Vec::new(),
        };
        let Some(tree) = writer.tree(ranges) else {
            return Err(writer.code.len());
        };
        code = writer.code;
        let numbers = code.load(NUMBER, tree);
        start = code.branch(Test::Equal, arch.audit, numbers, start);
        if code.len() > 16 * LONGEST {
            return Err(code.len());
        }
    }
    let start = code.load(ARCH, start);
    let program = code.finish(start);
    if program.len() > LONGEST {
        Err(program.len())
    } else {
        Ok(program)
    }
}

struct Writer<'a> {
    code: Code,
    default: Answer,
    big_endian: bool,
    /// What was written for a decision; calls often share theirs.
    checks: Vec<(&'a Decision, Label)>,
}

impl<'a> Writer<'a> {
    /// Finds the range of the number in the accumulator. `None`: it grew beyond all bounds.
    fn tree(&mut self, ranges: &'a [(u32, Decision)]) -> Option<Label> {
        if self.code.len() > 16 * LONGEST {
            return None;
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        match (low, high) {
            (_, [(first, _), ..]) if !low.is_empty() => {
                let high = self.tree(high)?;
                let low = self.tree(low)?;
                Some(self.code.branch(Test::AtLeast, *first, high, low))
            }
            (_, [(_, decision), ..]) => Some(self.decision(decision)),
            _ => None,
        }
    }

    fn decision(&mut self, decision: &'a Decision) -> Label {
        let (is_64, rules) = match decision {
            Decision::Always(answer) => return self.code.answer(*answer),
            Decision::First { is_64, rules } => (*is_64, rules),
        };
        if let Some((_, label)) = self.checks.iter().find(|(known, _)| *known == decision) {
            return *label;
        }
        let mut next = self.code.answer(self.default);
        for (answer, conditions) in rules.iter().rev() {
            let mut yes = self.code.answer(*answer);
            for condition in conditions.iter().rev() {
                yes = self.condition(condition, is_64, yes, next);
            }
            next = yes;
        }
        self.checks.push((decision, next));
        next
    }

    /// Goes on at `yes` if a condition holds, else at `no`.
    fn condition(&mut self, condition: &Condition, is_64: bool, yes: Label, no: Label) -> Label {
        let Condition {
            argument,
            op,
            value,
        } = *condition;
        // Orders by what they are not.
        let (op, yes, no) = match op {
            Op::NotEqual => (Op::Equal, no, yes),
            Op::Less => (Op::AtLeast, no, yes),
            Op::AtMost => (Op::Greater, no, yes),
            other => (other, yes, no),
        };
        let (mask, test) = match op {
            Op::Masked(mask) => (mask, Test::Equal),
            Op::AtLeast => (u64::MAX, Test::AtLeast),
            Op::Greater => (u64::MAX, Test::Greater),
            Op::Equal | Op::NotEqual | Op::Less | Op::AtMost => (u64::MAX, Test::Equal),
        };
        let at = ARGUMENTS + 8 * argument;
        let (low_at, high_at) = if self.big_endian {
            (at + 4, at)
        } else {
            (at, at + 4)
        };
        let ((mask_high, mask_low), (high, low)) = (halves(mask), halves(value));
        let lower = self.code.branch(test, low, yes, no);
        let lower = self.masked(low_at, mask_low, lower);
        if !is_64 || (mask_high, high) == (0, 0) {
            return lower;
        }
        let equal = self.code.branch(Test::Equal, high, lower, no);
        let upper = match test {
            Test::Equal => equal,
            Test::AtLeast | Test::Greater => self.code.branch(Test::Greater, high, yes, equal),
        };
        self.masked(high_at, mask_high, upper)
    }

    fn masked(&mut self, offset: u32, mask: u32, next: Label) -> Label {
        let next = if mask == u32::MAX {
            next
        } else {
            self.code.mask(mask, next)
        };
        self.code.load(offset, next)
    }
}

/// The upper and the lower half.
fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    (
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    )
}
