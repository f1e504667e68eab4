//! What the kernel would do at a system call: the filter run as the kernel runs it.
//! Rules of the program: Documentation/networking/filter.rst, and seccomp_check_filter in the kernel.

use crate::sys::seccomp::Instruction;

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
            0 => Some(self.number),
            4 => Some(self.audit),
            16..64 if offset.is_multiple_of(4) => {
                let argument = self.arguments.get((offset as usize - 16) / 8)?;
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
        let operand = instruction.operand;
        at += 1;
        let holds = match instruction.code {
            0x20 => {
                accumulator = call.word(operand)?;
                continue;
            }
            0x54 => {
                accumulator &= operand;
                continue;
            }
            0x05 => {
                at += operand as usize;
                continue;
            }
            0x06 => return Some(operand),
            0x15 => accumulator == operand,
            0x25 => accumulator > operand,
            0x35 => accumulator >= operand,
            0x45 => accumulator & operand != 0,
            _ => return None,
        };
        let skipped = if holds {
            instruction.yes
        } else {
            instruction.no
        };
        at += usize::from(skipped);
    }
}
