//! The architectures that a filter can distinguish, and the numbers of their system calls.
//! `plan/seccomp` makes the filter.

mod calls;

use oci_spec::runtime::Arch as SpecArch;

use crate::sys::seccomp::{
    AUDIT_AARCH64, AUDIT_ARM, AUDIT_LE, AUDIT_LOONGARCH64, AUDIT_PPC64LE, AUDIT_RISCV64,
    AUDIT_S390, AUDIT_S390X, AUDIT_X86, AUDIT_X86_64,
};
use calls::{ARM_PRIVATE, CALLS, HASH_SLOTS, MULTIPLEXERS, NO, hash_slot};

/// An architecture as profiles define it: one system call interface.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arch {
    pub(crate) named: SpecArch,
    /// The AUDIT_ARCH_* value. x32 and x86_64 share one value.
    pub(crate) audit: u32,
    /// The number of the architecture's first system call.
    pub(crate) base: u32,
    /// True if arguments are compared as 64-bit values. Otherwise, and also on x32, only the lower
    /// 32 bits of an argument and of the profile's value count, as in libseccomp.
    pub(crate) is_64: bool,
    pub(crate) big_endian: bool,
    column: usize,
}

/// The bit that all call numbers of x32 have.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// Makes a 64-bit architecture. The byte order is a part of the AUDIT_ARCH_* value.
const fn arch_of_64_bits(named: SpecArch, audit: u32, column: usize) -> Arch {
    Arch {
        named,
        audit,
        base: 0,
        is_64: true,
        big_endian: audit & AUDIT_LE == 0,
        column,
    }
}

const fn arch_of_32_bits(named: SpecArch, audit: u32, column: usize) -> Arch {
    Arch {
        is_64: false,
        ..arch_of_64_bits(named, audit, column)
    }
}

pub(crate) static X86_64: Arch = arch_of_64_bits(SpecArch::ScmpArchX86_64, AUDIT_X86_64, 0);
pub(crate) static X86: Arch = arch_of_32_bits(SpecArch::ScmpArchX86, AUDIT_X86, 1);
pub(crate) static X32: Arch = Arch {
    base: X32_BIT,
    ..arch_of_32_bits(SpecArch::ScmpArchX32, AUDIT_X86_64, 2)
};
pub(crate) static AARCH64: Arch = arch_of_64_bits(SpecArch::ScmpArchAarch64, AUDIT_AARCH64, 3);
pub(crate) static ARM: Arch = arch_of_32_bits(SpecArch::ScmpArchArm, AUDIT_ARM, 4);
pub(crate) static RISCV64: Arch = arch_of_64_bits(SpecArch::ScmpArchRiscv64, AUDIT_RISCV64, 5);
pub(crate) static PPC64LE: Arch = arch_of_64_bits(SpecArch::ScmpArchPpc64le, AUDIT_PPC64LE, 6);
pub(crate) static S390X: Arch = arch_of_64_bits(SpecArch::ScmpArchS390x, AUDIT_S390X, 7);
pub(crate) static S390: Arch = arch_of_32_bits(SpecArch::ScmpArchS390, AUDIT_S390, 8);
pub(crate) static LOONGARCH64: Arch =
    arch_of_64_bits(SpecArch::ScmpArchLoongarch64, AUDIT_LOONGARCH64, 9);

/// The architectures of one machine: its native one first, then the others whose programs its
/// kernel can run.
pub(crate) type ArchFamily = &'static [&'static Arch];

/// The families of all known machines.
pub(crate) static FAMILIES: &[ArchFamily] = &[
    &[&X86_64, &X86, &X32],
    &[&AARCH64, &ARM],
    &[&RISCV64],
    &[&PPC64LE],
    &[&S390X, &S390],
    &[&LOONGARCH64],
];

/// Returns the family for the architecture of this binary, or `None` if it is unknown.
pub(crate) fn native() -> Option<ArchFamily> {
    let native = if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
        &X86_64
    } else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
        &AARCH64
    } else if cfg!(target_arch = "riscv64") {
        &RISCV64
    } else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
        &PPC64LE
    } else if cfg!(target_arch = "s390x") {
        &S390X
    } else if cfg!(target_arch = "loongarch64") {
        &LOONGARCH64
    } else {
        return None;
    };
    FAMILIES
        .iter()
        .copied()
        .find(|family| family.first() == Some(&native))
}

impl Arch {
    /// Returns the number of a call on this architecture, or `None` if it has no such call.
    pub(crate) fn call_number(&self, call: SystemCall) -> Option<u32> {
        let number = *CALLS.get(call.0)?.1.get(self.column)?;
        match number {
            NO => None,
            ARM_PRIVATE.. => Some(0x0f_0000 + u32::from(number - ARM_PRIVATE)),
            _ => Some(self.base + u32::from(number)),
        }
    }
}

/// A system call that some architecture has, as the index of its row in `CALLS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SystemCall(usize);

impl SystemCall {
    /// Returns the call with this name, or `None` if no architecture has it.
    pub(crate) fn by_name(name: &str) -> Option<SystemCall> {
        let mut slot = hash_slot(name.as_bytes());
        loop {
            let row = usize::from(*HASH_SLOTS.get(slot)?);
            // A free slot contains `NO`, which is not the index of a row.
            let (known, _) = CALLS.get(row)?;
            if *known == name {
                return Some(SystemCall(row));
            }
            slot = (slot + 1) % HASH_SLOTS.len();
        }
    }

    /// Returns the name of the call in profiles and headers.
    pub(crate) fn name(self) -> &'static str {
        CALLS.get(self.0).map_or("", |(name, _)| name)
    }

    /// Returns the multiplexer that also makes this call on some architectures (socketcall or ipc),
    /// and the first argument that selects this call.
    pub(crate) fn multiplexer(self) -> Option<(SystemCall, u64)> {
        let (group, member) = *MULTIPLEXERS.get(self.0)?;
        (group != NO).then(|| (SystemCall(usize::from(group)), u64::from(member)))
    }
}

/// Returns the names of all calls.
#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    CALLS.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests;
