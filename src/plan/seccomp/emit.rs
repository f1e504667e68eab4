//! An assembler for classic BPF. It writes a program backwards, so that the target of a jump is
//! known when the jump is written.
//! `rules` decides what a filter does.

use crate::sys::seccomp::{
    AND, BpfProgram, Instruction, JUMP, JUMP_IF_AT_LEAST, JUMP_IF_EQUAL, JUMP_IF_GREATER, LOAD,
    RETURN,
};

/// Comparisons of the accumulator with a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JumpTest {
    Equal = JUMP_IF_EQUAL as isize,
    Greater = JUMP_IF_GREATER as isize,
    AtLeast = JUMP_IF_AT_LEAST as isize,
}

/// A conditional jump can skip 255 instructions; one is reserved for an unconditional jump that
/// reaches farther.
const MAX_JUMP: usize = 254;

/// A position in the program, counted from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// A program that is being written.
#[derive(Default)]
pub(super) struct Code {
    /// The instructions, last one first.
    reversed: BpfProgram,
    /// The latest `return` instruction for each value.
    returns: Vec<(u32, Label)>,
}

impl Code {
    /// Returns the position of an instruction that returns this value.
    pub(super) fn return_label(&mut self, value: u32) -> Label {
        if let Some((_, label)) = self.returns.iter().find(|(known, _)| *known == value)
            && self.distance_to(*label) < MAX_JUMP
        {
            return *label;
        }
        let label = self.push(RETURN, 0, 0, value);
        self.returns.retain(|(known, _)| *known != value);
        self.returns.push((value, label));
        label
    }

    /// Loads 32 bits at this offset of struct seccomp_data, then continues at `next`.
    pub(super) fn push_load(&mut self, offset: u32, next: Label) -> Label {
        self.push_straight(LOAD, offset, next)
    }

    /// Masks the accumulator, then continues at `next`.
    pub(super) fn push_mask(&mut self, mask: u32, next: Label) -> Label {
        self.push_straight(AND, mask, next)
    }

    /// Compares the accumulator with `operand`, then continues at `yes` or `no`.
    pub(super) fn push_branch(
        &mut self,
        test: JumpTest,
        operand: u32,
        yes: Label,
        no: Label,
    ) -> Label {
        if yes == no {
            return yes;
        }
        let yes = self.bring_into_reach(yes);
        let no = self.bring_into_reach(no);
        // The jump that was added for `no` may have pushed `yes` out of reach.
        let yes = self.bring_into_reach(yes);
        let (yes, no) = (self.distance_to(yes), self.distance_to(no));
        self.push(
            test as u16,
            narrow_distance(yes),
            narrow_distance(no),
            operand,
        )
    }

    /// Returns the number of instructions so far.
    pub(super) fn len(&self) -> usize {
        self.reversed.len()
    }

    /// Returns the program that begins at `start`.
    pub(super) fn into_program(mut self, start: Label) -> BpfProgram {
        self.reversed.truncate(start.0 + 1);
        self.reversed.reverse();
        self.reversed
    }

    fn push_straight(&mut self, code: u16, operand: u32, next: Label) -> Label {
        if self.distance_to(next) > 0 {
            self.push_jump(next);
        }
        self.push(code, 0, 0, operand)
    }

    fn bring_into_reach(&mut self, label: Label) -> Label {
        if self.distance_to(label) < MAX_JUMP {
            label
        } else {
            self.push_jump(label)
        }
    }

    fn push_jump(&mut self, to: Label) -> Label {
        let distance = u32::try_from(self.distance_to(to)).unwrap_or(u32::MAX);
        self.push(JUMP, 0, 0, distance)
    }

    /// Returns the number of instructions that the next instruction must skip to reach `label`.
    fn distance_to(&self, label: Label) -> usize {
        self.reversed.len() - label.0 - 1
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }
}

/// Narrows a distance that is within `MAX_JUMP`.
fn narrow_distance(distance: usize) -> u8 {
    u8::try_from(distance).unwrap_or(u8::MAX)
}
