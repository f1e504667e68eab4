//! The architectures that a filter can tell apart, and the numbers of their system calls.
//! Not what is done about a call: that is `plan/seccomp`.

mod calls;

use oci_spec::runtime::Arch as Named;

use crate::sys::seccomp::{
    AUDIT_AARCH64, AUDIT_ARM, AUDIT_LOONGARCH64, AUDIT_PPC64LE, AUDIT_RISCV64, AUDIT_S390,
    AUDIT_S390X, AUDIT_X86, AUDIT_X86_64,
};
use calls::{ARM_PRIVATE, CALLS, GROUPS, NO, SLOTS, slot};

/// An architecture as profiles know them: a way in which programs call the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arch {
    pub(crate) named: Named,
    /// AUDIT_ARCH_*, which x32 shares with x86_64.
    pub(crate) audit: u32,
    /// The number that its first system call has.
    pub(crate) base: u32,
    /// Arguments have 64 bits; else only their lower half counts, in the profile as well: so libseccomp, and for x32 too.
    pub(crate) is_64: bool,
    pub(crate) big_endian: bool,
    column: usize,
}

/// Set in the number of a call by x32.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

const fn arch(
    named: Named,
    audit: u32,
    base: u32,
    is_64: bool,
    big_endian: bool,
    column: usize,
) -> Arch {
    Arch {
        named,
        audit,
        base,
        is_64,
        big_endian,
        column,
    }
}

pub(crate) static X86_64: Arch = arch(Named::ScmpArchX86_64, AUDIT_X86_64, 0, true, false, 0);
pub(crate) static X86: Arch = arch(Named::ScmpArchX86, AUDIT_X86, 0, false, false, 1);
pub(crate) static X32: Arch = arch(Named::ScmpArchX32, AUDIT_X86_64, X32_BIT, false, false, 2);
pub(crate) static AARCH64: Arch = arch(Named::ScmpArchAarch64, AUDIT_AARCH64, 0, true, false, 3);
pub(crate) static ARM: Arch = arch(Named::ScmpArchArm, AUDIT_ARM, 0, false, false, 4);
pub(crate) static RISCV64: Arch = arch(Named::ScmpArchRiscv64, AUDIT_RISCV64, 0, true, false, 5);
pub(crate) static PPC64LE: Arch = arch(Named::ScmpArchPpc64le, AUDIT_PPC64LE, 0, true, false, 6);
pub(crate) static S390X: Arch = arch(Named::ScmpArchS390x, AUDIT_S390X, 0, true, true, 7);
pub(crate) static S390: Arch = arch(Named::ScmpArchS390, AUDIT_S390, 0, false, true, 8);
pub(crate) static LOONGARCH64: Arch = arch(
    Named::ScmpArchLoongarch64,
    AUDIT_LOONGARCH64,
    0,
    true,
    false,
    9,
);

/// What programs can be on one machine: its own architecture first, then those that its kernel may run beside it.
pub(crate) type Family = &'static [&'static Arch];

/// The families of all machines that are known.
pub(crate) static FAMILIES: &[Family] = &[
    &[&X86_64, &X86, &X32],
    &[&AARCH64, &ARM],
    &[&RISCV64],
    &[&PPC64LE],
    &[&S390X, &S390],
    &[&LOONGARCH64],
];

/// The family of the machine that this program was built for; `None` if it is none of the known ones.
pub(crate) fn native() -> Option<Family> {
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
    /// The number of a call on this architecture; `None` if it has no such call.
    pub(crate) fn number(&self, call: Call) -> Option<u32> {
        let number = *CALLS.get(call.0)?.1.get(self.column)?;
        match number {
            NO => None,
            ARM_PRIVATE.. => Some(0x0f_0000 + u32::from(number - ARM_PRIVATE)),
            _ => Some(self.base + u32::from(number)),
        }
    }
}

/// A system call that some architecture has; the row of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call(usize);

impl Call {
    /// The call of a name; `None` if no architecture has it.
    pub(crate) fn named(name: &str) -> Option<Call> {
        let mut slot = slot(name.as_bytes());
        loop {
            let row = usize::from(*SLOTS.get(slot)?);
            // A free slot, which has a number that is no row's.
            let (known, _) = CALLS.get(row)?;
            if *known == name {
                return Some(Call(row));
            }
            slot = (slot + 1) % SLOTS.len();
        }
    }

    /// What the profiles and the headers call it.
    pub(crate) fn name(self) -> &'static str {
        CALLS.get(self.0).map_or("", |(name, _)| name)
    }

    /// The call that does this one as well, where an architecture has it, by which first argument.
    pub(crate) fn group(self) -> Option<(Call, u64)> {
        let (group, member) = *GROUPS.get(self.0)?;
        (group != NO).then(|| (Call(usize::from(group)), u64::from(member)))
    }
}

/// The names of all calls.
#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    CALLS.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests;
