//! The table of mount options: the meaning of each word of `mounts[i].options` to the kernel.
//! Other words are options of the file system.

use crate::spec::propagation::{self, Propagation};
use crate::sys::mount::{
    ATIME_MASK, Attributes, NOATIME, NODEV, NODIRATIME, NOEXEC, NOSUID, NOSYMFOLLOW, RDONLY,
    RELATIME, STRICTATIME,
};

/// The effect of a word of `mounts[i].options`.
#[derive(Debug, Clone, Copy)]
enum WordEffect {
    Nothing,
    Set(u64),
    Clear(u64),
    /// Replaces the mode of access times.
    Atime(u64),
    SetRecursively(u64),
    ClearRecursively(u64),
    AtimeRecursively(u64),
    /// An idmapped mount. True if all mounts below it are idmapped too.
    Idmap(bool),
    /// A superblock flag. fsconfig(2) accepts it by name.
    Superblock,
    /// A new tmpfs starts with a copy of the directory that it covers.
    CopyUp,
    /// The handling of a symbolic link at the end of a path.
    Link(fn(&mut LinkHandling)),
    /// The word is known but refused, for this reason.
    Refused(&'static str),
}

use WordEffect::{
    Atime, AtimeRecursively, Clear, ClearRecursively, CopyUp, Idmap, Link, Nothing, Refused, Set,
    SetRecursively, Superblock,
};

/// runc's words, and crun's words for links. `features` lists them all.
const OPTION_TABLE: [(&str, WordEffect); 66] = [
    ("async", Superblock),
    ("atime", Atime(RELATIME)),
    // `spec::validate::bind_recursion` reads these two words.
    ("bind", Nothing),
    ("rbind", Nothing),
    ("copy-symlink", Link(|links| links.copied = true)),
    ("defaults", Nothing),
    ("dest-nofollow", Link(|links| links.target_is_itself = true)),
    ("dev", Clear(NODEV)),
    ("diratime", Clear(NODIRATIME)),
    ("dirsync", Superblock),
    ("exec", Clear(NOEXEC)),
    ("idmap", Idmap(false)),
    // The kernel decides on iversion per file system. fsconfig(2) doesn't know this word.
    ("iversion", Nothing),
    ("lazytime", Superblock),
    // This word sets the kernel's log level for mount errors. fsopen has its own log.
    ("loud", Nothing),
    ("mand", Superblock),
    ("noatime", Atime(NOATIME)),
    ("nodev", Set(NODEV)),
    ("nodiratime", Set(NODIRATIME)),
    ("noexec", Set(NOEXEC)),
    ("noiversion", Nothing),
    ("nolazytime", Superblock),
    ("nomand", Superblock),
    // relatime is the kernel's default anyway.
    ("norelatime", Nothing),
    ("nostrictatime", Atime(RELATIME)),
    ("nosuid", Set(NOSUID)),
    ("nosymfollow", Set(NOSYMFOLLOW)),
    ("ratime", AtimeRecursively(RELATIME)),
    ("rdev", ClearRecursively(NODEV)),
    ("rdiratime", ClearRecursively(NODIRATIME)),
    ("relatime", Atime(RELATIME)),
    (
        "remount",
        Refused("can't be done while a container is made: give the options to the mount itself"),
    ),
    ("rexec", ClearRecursively(NOEXEC)),
    ("ridmap", Idmap(true)),
    ("rnoatime", AtimeRecursively(NOATIME)),
    ("rnodev", SetRecursively(NODEV)),
    ("rnodiratime", SetRecursively(NODIRATIME)),
    ("rnoexec", SetRecursively(NOEXEC)),
    ("rnorelatime", Nothing),
    ("rnostrictatime", AtimeRecursively(RELATIME)),
    ("rnosuid", SetRecursively(NOSUID)),
    ("rnosymfollow", SetRecursively(NOSYMFOLLOW)),
    ("ro", Set(RDONLY)),
    ("rrelatime", AtimeRecursively(RELATIME)),
    ("rro", SetRecursively(RDONLY)),
    ("rrw", ClearRecursively(RDONLY)),
    ("rstrictatime", AtimeRecursively(STRICTATIME)),
    ("rsuid", ClearRecursively(NOSUID)),
    ("rsymfollow", ClearRecursively(NOSYMFOLLOW)),
    ("rw", Clear(RDONLY)),
    ("silent", Nothing),
    ("src-nofollow", Link(|links| links.source_is_itself = true)),
    ("strictatime", Atime(STRICTATIME)),
    ("suid", Clear(NOSUID)),
    ("symfollow", Clear(NOSYMFOLLOW)),
    ("sync", Superblock),
    ("tmpcopyup", CopyUp),
    // Words for mount(8) itself.
    ("auto", Nothing),
    ("noauto", Nothing),
    ("user", Nothing),
    ("nouser", Nothing),
    ("users", Nothing),
    ("owner", Nothing),
    ("group", Nothing),
    ("_netdev", Nothing),
    ("nofail", Nothing),
];

/// The handling of symbolic links at the end of a mount's paths. By default, links are followed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkHandling {
    /// If the source is a link, copy the link to the destination instead of mounting it.
    pub(crate) copied: bool,
    /// If the source is a link, mount the link itself.
    pub(crate) source_is_itself: bool,
    /// If the destination is a link, mount on the link itself.
    pub(crate) target_is_itself: bool,
}

/// The parsed options of one mount.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct MountOptions {
    /// `Some(true)` for ridmap, `Some(false)` for idmap.
    pub(crate) idmap: Option<bool>,
    /// The index of a word idmap=MAPPINGS or ridmap=MAPPINGS, and its mappings.
    pub(crate) mappings: Option<(usize, String)>,
    /// The attributes of the mount itself.
    pub(crate) top: Attributes,
    /// The attributes of the mount and all mounts below it.
    pub(crate) recursive: Attributes,
    /// The propagation of the mount itself, or 0 if not given. `recursive_propagation` is the
    /// propagation of the mount and all mounts below it, or 0.
    pub(crate) propagation: u64,
    pub(crate) recursive_propagation: u64,
    pub(crate) links: LinkHandling,
    /// The index of the word tmpcopyup.
    pub(crate) copy_up: Option<usize>,
    /// Options of the file system: words, and names with values.
    pub(crate) data: Vec<(String, Option<String>)>,
    /// Indices of unknown words, which the file system may know.
    pub(crate) foreign: Vec<usize>,
    /// Indices of refused words, and the reasons.
    pub(crate) refused: Vec<(usize, &'static str)>,
}

/// Parses `mounts[i].options`. If words contradict each other, the last one applies.
pub(crate) fn parse(words: &[String]) -> MountOptions {
    let mut options = MountOptions::default();
    for (index, word) in words.iter().enumerate() {
        match propagation::parse(word) {
            Some(Propagation { kind, recursive }) if recursive => {
                options.recursive_propagation = kind;
                continue;
            }
            Some(Propagation { kind, .. }) => {
                options.propagation = kind;
                continue;
            }
            None => {}
        }
        let effect = OPTION_TABLE
            .iter()
            .find(|(name, _)| name == word)
            .map(|(_, effect)| *effect);
        match effect {
            Some(Nothing) => {}
            Some(Set(bits)) => set(&mut options.top, bits),
            Some(Clear(bits)) => clear(&mut options.top, bits),
            Some(Atime(mode)) => set_atime_mode(&mut options.top, mode),
            Some(SetRecursively(bits)) => set(&mut options.recursive, bits),
            Some(ClearRecursively(bits)) => clear(&mut options.recursive, bits),
            Some(AtimeRecursively(mode)) => set_atime_mode(&mut options.recursive, mode),
            Some(Idmap(recursive)) => options.idmap = Some(recursive),
            Some(Link(set)) => set(&mut options.links),
            Some(CopyUp) => options.copy_up = Some(index),
            Some(Superblock) => options.data.push((word.clone(), None)),
            Some(Refused(why)) => options.refused.push((index, why)),
            None if word.is_empty() => {}
            None if word.starts_with("idmap=") || word.starts_with("ridmap=") => {
                options.idmap = Some(word.starts_with('r'));
                let text = word.split_once('=').map(|(_, text)| text.to_owned());
                options.mappings = text.map(|text| (index, text));
            }
            None => {
                options.foreign.push(index);
                options
                    .data
                    .extend(split_at_commas(word).into_iter().map(split_option));
            }
        }
    }
    options
}

/// Splits a string at commas, as the kernel does for mount(2). Doesn't split inside quotes (in
/// labels) or after a backslash (in overlay paths).
fn split_at_commas(word: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let cuts = |c: char| {
        let cut = c == ',' && !quoted && !escaped;
        quoted ^= c == '"';
        escaped = c == '\\' && !escaped;
        cut
    };
    word.split(cuts).filter(|piece| !piece.is_empty()).collect()
}

/// Splits an option into its name and its value, if it has a value. Removes the quotes around a
/// label.
fn split_option(piece: &str) -> (String, Option<String>) {
    let Some((key, value)) = piece.split_once('=') else {
        return (piece.to_owned(), None);
    };
    let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    let value = inner.filter(|_| key.ends_with("context")).unwrap_or(value);
    (key.to_owned(), Some(value.to_owned()))
}

/// True for cgroup2's flags, which only the first mount of the hierarchy can set.
pub(crate) fn is_cgroup2_flag(word: &str) -> bool {
    matches!(
        word,
        "nsdelegate"
            | "favordynmods"
            | "nofavordynmods"
            | "memory_localevents"
            | "memory_recursiveprot"
            | "memory_hugetlb_accounting"
            | "pids_localevents"
    )
}

/// Returns the accepted words, sorted.
pub(crate) fn supported() -> Vec<&'static str> {
    let mut words: Vec<&str> = OPTION_TABLE
        .iter()
        .filter(|(_, effect)| !matches!(effect, Refused(_)))
        .map(|(word, _)| *word)
        .chain(propagation::words())
        .collect();
    words.sort_unstable();
    words
}

fn set(attributes: &mut Attributes, bits: u64) {
    attributes.set |= bits;
    attributes.clear &= !bits;
}

fn clear(attributes: &mut Attributes, bits: u64) {
    attributes.clear |= bits;
    attributes.set &= !bits;
}

/// Sets the mode of access times. mount_setattr(2) sets a new mode only if the same call clears the
/// whole mask.
fn set_atime_mode(attributes: &mut Attributes, mode: u64) {
    attributes.set = attributes.set & !ATIME_MASK | mode;
    attributes.clear |= ATIME_MASK;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mount::PRIVATE;

    fn read(words: &[&str]) -> MountOptions {
        parse(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn of_contradicting_words_the_last_wins() {
        assert_eq!(
            read(&["ro", "rw"]).top,
            Attributes {
                set: 0,
                clear: RDONLY,
                propagation: 0
            }
        );
        assert_eq!(
            read(&["rw", "ro"]).top,
            Attributes {
                set: RDONLY,
                clear: 0,
                propagation: 0
            }
        );
        assert_eq!(
            read(&["noatime", "strictatime"]).top,
            Attributes {
                set: STRICTATIME,
                clear: ATIME_MASK,
                propagation: 0
            }
        );
    }

    #[test]
    fn other_words_belong_to_the_file_system() {
        let options = read(&["mode=755", "newinstance", "size=64k", "nosuid", "sync", ""]);
        let names: Vec<&str> = options.data.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["mode", "newinstance", "size", "sync"]);
        assert_eq!(options.top.set, NOSUID);
    }

    #[test]
    fn several_options_in_one_string_are_taken_apart_as_by_the_kernel() {
        let data = |word| read(&[word]).data;
        let pair = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
        let expected = [
            pair("size", "1m"),
            pair("mode", "700"),
            ("huge".into(), None),
        ];
        assert_eq!(data("size=1m,mode=700,,huge"), expected);
        let label = "a:b:s0:c1,c2";
        let both = format!("context=\"{label}\",size=1m");
        assert_eq!(data(&both), [pair("context", label), pair("size", "1m")]);
        assert_eq!(
            data("lowerdir=/a\\,b:/c,xino=off"),
            [pair("lowerdir", "/a\\,b:/c"), pair("xino", "off")]
        );
    }

    #[test]
    fn recursive_words_leave_the_top_alone() {
        let options = read(&["rbind", "rro", "rprivate"]);
        assert_eq!((options.recursive.set, options.top.set), (RDONLY, 0));
        assert_eq!(options.recursive_propagation, PRIVATE);
    }

    #[test]
    fn no_word_stands_twice_in_the_table() {
        let words = OPTION_TABLE.iter().map(|(word, _)| *word);
        let mut words: Vec<&str> = words.chain(propagation::words()).collect();
        let all = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), all);
    }
}
