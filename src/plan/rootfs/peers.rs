//! Mount propagation: which mounts are peers or slaves of others.
//! `source` plans the sources of mounts.

use super::MountSource;
use crate::plan::mount_options::MountOptions;
use crate::sys::mount::{Attributes, PRIVATE, SHARED, SLAVE, UNBINDABLE};

/// Returns the attributes of the mount itself, and those of the mount and all mounts below it. The
/// third value is `Some` if the mount starts its own peer group, and true if the mounts below it do
/// so too.
///
/// A cloned tree is a peer of its source (kernel: copy_tree), so mounts made inside it would
/// propagate back to the host. Therefore a bind mount is a slave of its source unless its entry
/// says otherwise. It is a peer of its source only if the entry says shared and rootfsPropagation
/// doesn't override this.
pub(super) fn propagation_attributes(
    read: &MountOptions,
    source: &MountSource,
    keeps_peers: bool,
) -> (Attributes, Attributes, Option<bool>) {
    let (mut top, mut recursive) = (read.top, read.recursive);
    if !source.is_bind() {
        recursive.propagation = read.recursive_propagation;
        top.propagation = read.propagation;
        return (top, recursive, None);
    }
    let shared = match (read.propagation, read.recursive_propagation) {
        (_, SHARED) => Some(true),
        (SHARED, _) => Some(false),
        _ => None,
    };
    recursive.propagation = match read.recursive_propagation {
        _ if shared.is_some() && keeps_peers => 0,
        PRIVATE => PRIVATE,
        UNBINDABLE => UNBINDABLE,
        _ => SLAVE,
    };
    if matches!(read.propagation, PRIVATE | UNBINDABLE) {
        top.propagation = read.propagation;
    }
    (top, recursive, shared.filter(|_| !keeps_peers))
}

/// True if the options make a mount a peer or a slave of others.
pub(super) fn has_peers(options: &MountOptions) -> bool {
    [options.propagation, options.recursive_propagation]
        .iter()
        .any(|kind| matches!(*kind, SHARED | SLAVE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::mount_options;

    fn propagation(words: &[&str], keeps_peers: bool) -> (u64, u64, Option<bool>) {
        let read = mount_options::parse(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        let source = MountSource::Bind {
            path: "/x".into(),
            recursive: true,
        };
        let (top, recursive, own_peers) = propagation_attributes(&read, &source, keeps_peers);
        (top.propagation, recursive.propagation, own_peers)
    }

    #[test]
    fn a_bind_never_carries_mounts_back_unless_its_entry_says_so() {
        assert_eq!(propagation(&["rbind"], false), (0, SLAVE, None));
        assert_eq!(
            propagation(&["rbind", "rprivate"], false),
            (0, PRIVATE, None)
        );
        assert_eq!(
            propagation(&["bind", "private"], false),
            (PRIVATE, SLAVE, None)
        );
        assert_eq!(propagation(&["rbind", "rslave"], true), (0, SLAVE, None));
        assert_eq!(
            propagation(&["rbind", "rshared"], false),
            (0, SLAVE, Some(true))
        );
        assert_eq!(propagation(&["rbind", "rshared"], true), (0, 0, None));
    }
}
