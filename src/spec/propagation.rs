//! The words for mount propagation, as mount options and in linux.rootfsPropagation:
//! mount_namespaces(7). Not what follows from them for a mount: `plan` decides that.

use crate::sys::mount::{PRIVATE, SHARED, SLAVE, UNBINDABLE};

/// How a mount propagates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Propagation {
    /// An `MS_` bit.
    pub(crate) kind: u64,
    /// True if the mounts below it propagate in the same way.
    pub(crate) recursive: bool,
}

const WORDS: [(&str, u64, bool); 8] = [
    ("private", PRIVATE, false),
    ("rprivate", PRIVATE, true),
    ("rshared", SHARED, true),
    ("rslave", SLAVE, true),
    ("runbindable", UNBINDABLE, true),
    ("shared", SHARED, false),
    ("slave", SLAVE, false),
    ("unbindable", UNBINDABLE, false),
];

/// What a word means; `None` if it is no word for propagation.
pub(crate) fn parse(word: &str) -> Option<Propagation> {
    let (_, kind, recursive) = *WORDS.iter().find(|(name, _, _)| *name == word)?;
    Some(Propagation { kind, recursive })
}

/// All words.
pub(crate) fn words() -> impl Iterator<Item = &'static str> {
    WORDS.iter().map(|(word, _, _)| *word)
}
