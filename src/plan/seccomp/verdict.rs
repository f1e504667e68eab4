//! Runs a filter as the kernel does, to predict its verdict about a system call.
//! The rules are in Documentation/networking/filter.rst and in seccomp_check_filter of the kernel.

use crate::sys::seccomp::{
    AND, ARCH_OFFSET, ARGUMENTS_OFFSET, Instruction, JUMP, JUMP_IF_ANY_SET, JUMP_IF_AT_LEAST,
    JUMP_IF_EQUAL, JUMP_IF_GREATER, LOAD, NUMBER_OFFSET, RETURN,
};

/// The data of a call that a filter can read: struct seccomp_data.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeccompData {
    pub(super) number: u32,
    /// The AUDIT_ARCH_* value.
    pub(super) audit: u32,
    pub(super) arguments: [u64; 6],
    pub(super) big_endian: bool,
}

impl SeccompData {
    fn load_word(&self, offset: u32) -> Option<u32> {
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

/// Returns the SECCOMP_RET_* value of a program for a call, or `None` if the kernel would refuse
/// the program. Calls `pass` with the index of each executed instruction.
pub(super) fn run_filter(
    program: &[Instruction],
    call: &SeccompData,
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
                accumulator = call.load_word(operand)?;
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
