//! Capabilities as bit masks: bit n is capability n of linux/capability.h.
//! The child applies the masks.

use oci_spec::runtime::{Capabilities, LinuxCapabilities};

use crate::error::{Failed, failed};
use crate::sys::Errno;
use crate::sys::procfs::Procfs;

/// The five sets of a process.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CapabilitySets {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
    pub(crate) ambient: u64,
}

/// The capabilities that a process can give to its child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AvailableCapabilities {
    pub(crate) bounding: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
}

impl AvailableCapabilities {
    /// The capabilities of a user namespace's first process, and of each process that joins the
    /// namespace.
    pub(crate) const ALL: AvailableCapabilities = AvailableCapabilities {
        bounding: u64::MAX,
        permitted: u64::MAX,
        inheritable: 0,
    };

    /// Reads this process's capabilities from its status file: proc_pid_status(5).
    pub(crate) fn probe(proc: &Procfs) -> Result<AvailableCapabilities, Failed> {
        let what = || "read this process's capabilities".to_owned();
        let status = proc.read(&format!("{}/status", std::process::id()));
        let status = status.map_err(failed("read", what))?;
        let set = |field: &str| {
            let hex = status.lines().find_map(|line| line.strip_prefix(field));
            let set = hex.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
            set.ok_or(Errno::EBADMSG).map_err(failed("read", what))
        };
        Ok(AvailableCapabilities {
            bounding: set("CapBnd:")?,
            permitted: set("CapPrm:")?,
            inheritable: set("CapInh:")?,
        })
    }
}

impl CapabilitySets {
    /// Returns the sets that the kernel grants to a child of a process with `available`:
    /// capabilities(7). Also returns a warning that names the capabilities that aren't granted.
    /// config.md requires a warning here, not an error.
    pub(crate) fn restrict_to(
        self,
        available: AvailableCapabilities,
    ) -> (CapabilitySets, Option<String>) {
        let bounding = self.bounding & available.bounding;
        let permitted = self.permitted & available.permitted;
        // The new bounding set already applies when the inheritable set is set.
        let inheritable =
            self.inheritable & (available.inheritable | available.permitted & bounding);
        let granted = CapabilitySets {
            bounding,
            permitted,
            effective: self.effective & permitted,
            inheritable,
            ambient: self.ambient & permitted & inheritable,
        };
        let missing = [
            ("bounding", self.bounding & !granted.bounding),
            ("effective", self.effective & !granted.effective),
            ("permitted", self.permitted & !granted.permitted),
            ("inheritable", self.inheritable & !granted.inheritable),
            ("ambient", self.ambient & !granted.ambient),
        ];
        let of_all = missing.iter().fold(0, |all, (_, set)| all | set);
        let sets = missing.iter().filter(|(_, set)| *set != 0);
        let sets: Vec<&str> = sets.map(|(name, _)| *name).collect();
        let warning = format!(
            "{} ignored in {}, where the kernel does not grant it",
            names_in_mask(of_all).join(", "),
            sets.join(", ")
        );
        (granted, (of_all != 0).then_some(warning))
    }
}

/// Returns the masks for process.capabilities. The mask of an absent set is empty.
pub(crate) fn plan(capabilities: Option<&LinuxCapabilities>) -> CapabilitySets {
    let Some(capabilities) = capabilities else {
        return CapabilitySets::default();
    };
    CapabilitySets {
        bounding: mask(capabilities.bounding().as_ref()),
        effective: mask(capabilities.effective().as_ref()),
        permitted: mask(capabilities.permitted().as_ref()),
        inheritable: mask(capabilities.inheritable().as_ref()),
        ambient: mask(capabilities.ambient().as_ref()),
    }
}

fn mask(set: Option<&Capabilities>) -> u64 {
    set.into_iter()
        .flatten()
        .filter_map(|capability| bit(&capability.to_string()))
        .fold(0, |mask, bit| mask | bit)
}

/// Returns the names of all capabilities, in the order of their numbers.
pub(crate) fn names() -> Vec<String> {
    names_in_mask(u64::MAX)
}

pub(crate) fn names_in_mask(set: u64) -> Vec<String> {
    let mut all: Vec<caps::Capability> = caps::all().into_iter().collect();
    all.sort_unstable_by_key(caps::Capability::index);
    all.iter()
        .filter(|capability| set & capability.bitmask() != 0)
        .map(ToString::to_string)
        .collect()
}

/// Returns the bit of a named capability, or `None` if the name is unknown. The name can be in any
/// case, with or without `CAP_`.
pub(crate) fn bit(name: &str) -> Option<u64> {
    let name = name.to_ascii_uppercase();
    let name = if name.starts_with("CAP_") {
        name
    } else {
        format!("CAP_{name}")
    };
    let capability: caps::Capability = name.parse().ok()?;
    Some(capability.bitmask())
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Capability;

    use super::*;

    #[test]
    fn what_the_kernel_does_not_grant_is_left_out_and_named() {
        let (chown, kill, admin) = (1, 1 << 5, 1 << 21);
        let sets = |all: u64| CapabilitySets {
            bounding: all,
            effective: all,
            permitted: all,
            inheritable: all,
            ambient: all,
        };
        let caller = AvailableCapabilities {
            bounding: chown | kill,
            permitted: chown | kill,
            inheritable: 0,
        };
        assert_eq!(
            sets(chown | kill).restrict_to(caller),
            (sets(chown | kill), None)
        );
        assert_eq!(
            sets(u64::MAX >> 23).restrict_to(AvailableCapabilities::ALL),
            (sets(u64::MAX >> 23), None)
        );
        let (granted, warning) = sets(chown | admin).restrict_to(caller);
        assert_eq!(granted, sets(chown));
        assert_eq!(
            warning.as_deref(),
            Some(
                "CAP_SYS_ADMIN ignored in bounding, effective, permitted, inheritable, ambient, where the kernel does not grant it"
            )
        );
        // Inconsistent sets.
        let (granted, warning) = CapabilitySets {
            bounding: chown,
            effective: kill,
            inheritable: chown | kill,
            ..CapabilitySets::default()
        }
        .restrict_to(caller);
        assert_eq!((granted.effective, granted.inheritable), (0, chown));
        assert!(warning.is_some());
    }

    #[test]
    fn every_capability_of_the_spec_has_a_bit() {
        assert_eq!(bit("CAP_CHOWN"), Some(1));
        assert_eq!(bit("checkpoint_restore"), Some(1 << 40));
        assert_eq!(bit("CAP_NONE"), None);
        let set: Capabilities = [
            Capability::AuditWrite,
            Capability::Kill,
            Capability::NetBindService,
        ]
        .into_iter()
        .collect();
        assert_eq!(mask(Some(&set)), 1 << 29 | 1 << 5 | 1 << 10);
    }
}
