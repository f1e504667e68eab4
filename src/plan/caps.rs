//! Capabilities as bit masks: bit n is capability n of linux/capability.h.
//! Applying them is the child's.

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

/// The five sets of a process.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sets {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
    pub(crate) ambient: u64,
}

/// The masks of process.capabilities; absent sets are empty.
pub(crate) fn plan(capabilities: Option<&LinuxCapabilities>) -> Sets {
    let Some(capabilities) = capabilities else {
        return Sets::default();
    };
    Sets {
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

/// The names of all capabilities, in the order of their numbers.
pub(crate) fn names() -> Vec<String> {
    let mut all: Vec<caps::Capability> = caps::all().into_iter().collect();
    all.sort_unstable_by_key(caps::Capability::index);
    all.iter().map(ToString::to_string).collect()
}

/// The capability of a name, with or without `CAP_`, in any case.
pub(crate) fn parse(name: &str) -> Option<Capability> {
    let name = name.to_ascii_uppercase();
    name.strip_prefix("CAP_").unwrap_or(&name).parse().ok()
}

/// The bit of a capability's name, with or without `CAP_`, in any case; `None` if it isn't known.
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
    use super::*;

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
