//! An assembler for classic BPF that writes a program from its end: what comes next is known when a jump to it is written.
//! Not what a filter decides: that is `rules`.

use crate::sys::seccomp::{
    AND, BpfProgram, Instruction, JUMP, JUMP_IF_AT_LEAST, JUMP_IF_EQUAL, JUMP_IF_GREATER, LOAD,
    RETURN,
};

/// Comparisons of the accumulator with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Equal = JUMP_IF_EQUAL as isize,
    Greater = JUMP_IF_GREATER as isize,
    AtLeast = JUMP_IF_AT_LEAST as isize,
}

/// A conditional jump skips at most so many instructions; one is kept for the jump that reaches farther.
const REACH: usize = 254;

/// A place in the program, counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// A program in the making.
#[derive(Default)]
pub(super) struct Code {
    /// Last instruction first.
    reversed: BpfProgram,
    /// The latest `return` of each value.
    returns: Vec<(u32, Label)>,
}

impl Code {
    /// The place where the program ends with this answer to the kernel.
    pub(super) fn answer(&mut self, value: u32) -> Label {
        if let Some((_, label)) = self.returns.iter().find(|(known, _)| *known == value)
            && self.distance(*label) < REACH
        {
            return *label;
        }
        let label = self.push(RETURN, 0, 0, value);
        self.returns.retain(|(known, _)| *known != value);
        self.returns.push((value, label));
        label
    }

    /// Loads 32 bits of what the kernel tells about the call, at this offset in bytes, and goes on at `next`.
    pub(super) fn load(&mut self, offset: u32, next: Label) -> Label {
        self.straight(LOAD, offset, next)
    }

    /// Clears all bits of the accumulator that the mask hasn't set, and goes on at `next`.
    pub(super) fn mask(&mut self, mask: u32, next: Label) -> Label {
        self.straight(AND, mask, next)
    }

    /// Goes on at `yes` or at `no`, by comparing the accumulator with a number.
    pub(super) fn branch(&mut self, test: Test, operand: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let yes = self.in_reach(yes);
        let no = self.in_reach(no);
        // The jump for `no` may just have pushed `yes` out of reach.
        let yes = self.in_reach(yes);
        let (yes, no) = (self.distance(yes), self.distance(no));
        self.push(test as u16, narrow(yes), narrow(no), operand)
    }

    /// How many instructions there are so far.
    pub(super) fn len(&self) -> usize {
        self.reversed.len()
    }

    /// The program, which starts at `start`.
    pub(super) fn finish(mut self, start: Label) -> BpfProgram {
        self.reversed.truncate(start.0 + 1);
        self.reversed.reverse();
        self.reversed
    }

    fn straight(&mut self, code: u16, operand: u32, next: Label) -> Label {
        if self.distance(next) > 0 {
            self.jump(next);
        }
        self.push(code, 0, 0, operand)
    }

    fn in_reach(&mut self, label: Label) -> Label {
        if self.distance(label) < REACH {
            label
        } else {
            self.jump(label)
        }
    }

    fn jump(&mut self, to: Label) -> Label {
        let distance = u32::try_from(self.distance(to)).unwrap_or(u32::MAX);
        self.push(JUMP, 0, 0, distance)
    }

    /// What the next instruction has to skip to get there.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - label.0 - 1
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }
}

/// A distance that is in reach.
fn narrow(distance: usize) -> u8 {
    u8::try_from(distance).unwrap_or(u8::MAX)
}
