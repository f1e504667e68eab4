//! What the kernel would do at a system call: the filter run as the kernel runs it.
//! Rules of the program: Documentation/networking/filter.rst, and seccomp_check_filter in the kernel.

use crate::sys::seccomp::{
    AND, ARCH_OFFSET, ARGUMENTS_OFFSET, Instruction, JUMP, JUMP_IF_ANY_SET, JUMP_IF_AT_LEAST,
    JUMP_IF_EQUAL, JUMP_IF_GREATER, LOAD, NUMBER_OFFSET, RETURN,
};

/// What the kernel shows to a filter: struct seccomp_data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) number: u32,
    /// AUDIT_ARCH_*
    pub(super) audit: u32,
    pub(super) arguments: [u64; 6],
    pub(super) big_endian: bool,
}

impl Shown {
    fn word(&self, offset: u32) -> Option<u32> {
        match offset {
            NUMBER_OFFSET => Some(self.number),
            ARCH_OFFSET => Some(self.audit),
            ARGUMENTS_OFFSET.. if offset.is_multiple_of(4) => {
                let index = (offset - ARGUMENTS_OFFSET) / 8;
                let argument = self.arguments.get(index as usize)?;
                let is_low = offset.is_multiple_of(8) != self.big_endian;
                let half = if is_low { *argument } else { argument >> 32 };
                u32::try_from(half & u64::from(u32::MAX)).ok()
            }
            _ => None,
        }
    }
}

/// The SECCOMP_RET_* value that a program answers a call with; `None` if the kernel would refuse the
/// program. `pass` is told the index of each instruction that is run.
pub(super) fn verdict(
    program: &[Instruction],
    call: &Shown,
    mut pass: impl FnMut(usize),
) -> Option<u32> {
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        pass(at);
        let instruction = program.get(at)?;
        let operand = instruction.k;
        at += 1;
        let holds = match instruction.code {
            LOAD => {
                accumulator = call.word(operand)?;
                continue;
            }
            AND => {
                accumulator &= operand;
                continue;
            }
            JUMP => {
                at += operand as usize;
                continue;
            }
            RETURN => return Some(operand),
            JUMP_IF_EQUAL => accumulator == operand,
            JUMP_IF_GREATER => accumulator > operand,
            JUMP_IF_AT_LEAST => accumulator >= operand,
            JUMP_IF_ANY_SET => accumulator & operand != 0,
            _ => return None,
        };
        let skipped = if holds {
            instruction.jt
        } else {
            instruction.jf
        };
        at += usize::from(skipped);
    }
}
