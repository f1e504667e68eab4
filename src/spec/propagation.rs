//! The words for mount propagation (mount_namespaces(7)), in mount options and in
//! linux.rootfsPropagation.
//! `plan` decides how they affect a mount.

use crate::sys::mount::{PRIVATE, SHARED, SLAVE, UNBINDABLE};

/// The propagation of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Propagation {
    /// An `MS_` bit.
    pub(crate) kind: u64,
    /// True if the mounts below the mount propagate in the same way.
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

/// Returns the meaning of a word, or `None` if the word isn't about propagation.
pub(crate) fn parse(word: &str) -> Option<Propagation> {
    let (_, kind, recursive) = *WORDS.iter().find(|(name, _, _)| *name == word)?;
    Some(Propagation { kind, recursive })
}

/// Returns all words.
pub(crate) fn words() -> impl Iterator<Item = &'static str> {
    WORDS.iter().map(|(word, _, _)| *word)
}
