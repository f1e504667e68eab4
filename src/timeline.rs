//! The timeline of a start (`--timeline`): when the parent, the intermediate process and the child
//! began and ended each step.
//! `cmd::timeline` writes the timeline to a file and draws it.
//!
//! The records are in memory that these processes share. A process of the container that can access
//! a process of orlop could change the records, so readers must not trust any number in them.
//! Without a timeline, a step costs one load and one branch.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use crate::sys::shared;

/// The largest number of records. Further steps are only counted.
const RECORDS: usize = 1000;
/// The words of a record: the begin and the end in ns of the monotonic clock, and the label.
const WORDS: usize = 3;
/// The number of words before the records. The first word counts the records.
const HEADER: usize = 1;

static TIMELINE: OnceLock<&'static [AtomicU64]> = OnceLock::new();
/// The side of this process. A cloned process has its own copy.
static SIDE: AtomicU8 = AtomicU8::new(Side::Parent as u8);

/// A process that takes part in a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Side {
    Parent,
    /// The process that enters namespaces that the parent could not leave, and clones the child.
    Intermediate,
    Child,
    /// The process that a child clones to replace itself.
    Born,
}

impl Side {
    /// Returns the name in the timeline file.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Side::Parent => "parent",
            Side::Intermediate => "intermediate",
            Side::Child => "child",
            Side::Born => "process",
        }
    }
}

/// Declares an enumeration with the name of each value in the timeline file. `ALL` lists the values
/// by their numbers.
macro_rules! named {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $value:ident $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name {
            $($(#[$doc])* $value),*
        }

        impl $name {
            const ALL: &[$name] = &[$($name::$value),*];

            /// Returns the name in the timeline file.
            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $($name::$value => $text),*
                }
            }
        }
    };
}

named! {
    /// What a process does in a step or in a part of a step.
    Phase {
        Parse "parse the command line",
        Seal "seal",
        Config "read config.json",
        Plan "plan",
        Record "record",
        Prepare "prepare",
        Cgroup "cgroup",
        Clone "clone",
        Ids "map ids, set up for the child",
        DeviceRules "device rules",
        ParentHooks "hooks of the runtime",
        AwaitReady "wait for the child",
        Place "limits and CPUs by pid",
        Go "let the program run",
        Finish "write record and pid file",
        Connect "connect to the start socket",
        AwaitExec "wait for the program",
        /// The last phase that orlop can observe. It lasts until execve has closed the link.
        Exec "filter and execve",
        Begin "close descriptors",
        AwaitCgroup "wait for the cgroup",
        Join "join namespaces",
        AwaitIds "wait for ids and mounts",
        Keyring "session keyring",
        Furnish "network and host name",
        Rootfs "root file system",
        Mount "mount",
        Devices "devices",
        ChildHooks "hooks of the container",
        Enter "enter the root",
        Terminal "terminal",
        Protect "read-only and masked paths",
        Identity "credentials and program",
        Born "clone the process",
        AwaitGo "wait for the start",
        Seccomp "seccomp",
        Hook "hook",
        /// No phase. Ends the last step before the trace is written.
        End "end",
    }
}

/// A record, with times in ns of the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) side: Side,
    pub(crate) phase: Phase,
    /// The number of the mount or hook.
    pub(crate) index: Option<u32>,
    pub(crate) begin: u64,
    /// 0 if the step or part had not ended.
    pub(crate) end: u64,
    /// True for a step, which ends when the next step of its side begins.
    pub(crate) is_step: bool,
}

/// Starts the timeline of this process. Must be called before the first clone.
pub(crate) fn start_timeline() -> crate::sys::Result<()> {
    let words = shared::words(HEADER + RECORDS * WORDS)?;
    let _ = TIMELINE.set(words);
    Ok(())
}

/// Sets the side of this process.
pub(crate) fn become_side(side: Side) {
    SIDE.store(side as u8, Relaxed);
}

/// Begins a step, which ends the previous step of this side.
pub(crate) fn begin_step(phase: Phase) {
    if let Some(words) = TIMELINE.get() {
        claim_record(words, phase, NO_INDEX, STEP);
    }
}

/// Begins a part of a step, which ends when the result is dropped.
#[must_use]
pub(crate) fn begin_span(phase: Phase, index: usize) -> Span {
    Span(TIMELINE.get().and_then(|words| {
        let index = u16::try_from(index).unwrap_or(NO_INDEX);
        claim_record(words, phase, index, 0)
    }))
}

/// A part of a step. It ends when this value is dropped.
pub(crate) struct Span(Option<&'static AtomicU64>);

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(end) = self.0 {
            end.store(shared::monotonic_ns(), Relaxed);
        }
    }
}

/// Marks a record that has no index.
const NO_INDEX: u16 = u16::MAX;
/// The bit of a label that marks a step.
const STEP: u64 = 1 << 40;

/// Makes a record. Returns the word for its end, or `None` if there is no space for a record.
fn claim_record(
    words: &'static [AtomicU64],
    phase: Phase,
    index: u16,
    mark: u64,
) -> Option<&'static AtomicU64> {
    let at = words.first()?.fetch_add(1, Relaxed);
    let at = HEADER + usize::try_from(at).ok()?.checked_mul(WORDS)?;
    let [begin, end, label] = words.get(at..at.checked_add(WORDS)?)? else {
        return None;
    };
    let side = u64::from(SIDE.load(Relaxed));
    begin.store(shared::monotonic_ns(), Relaxed);
    label.store(
        mark | side << 32 | (phase as u64) << 16 | u64::from(index),
        Relaxed,
    );
    Some(end)
}

/// Returns the records so far, and the number of records for which there was no space. Returns
/// `None` if this start has no timeline.
pub(crate) fn stamps() -> Option<(Vec<Stamp>, usize)> {
    let words = TIMELINE.get()?;
    let (count, records) = words.split_first()?;
    let count = usize::try_from(count.load(Relaxed)).unwrap_or(usize::MAX);
    let records = records.chunks_exact(WORDS).take(count);
    Some((
        records.filter_map(read_record).collect(),
        count.saturating_sub(RECORDS),
    ))
}

/// Reads a record. Returns `None` if the record is incomplete, or was not written by orlop.
fn read_record(record: &[AtomicU64]) -> Option<Stamp> {
    let [begin, end, label] = record else {
        return None;
    };
    let label = label.load(Relaxed);
    let field = |shift: u32| u16::try_from(label >> shift & 0xffff).unwrap_or(NO_INDEX);
    let side = match field(32) & 0xff {
        0 => Side::Parent,
        1 => Side::Intermediate,
        2 => Side::Child,
        3 => Side::Born,
        _ => return None,
    };
    let index = field(0);
    Some(Stamp {
        side,
        phase: *Phase::ALL.get(usize::from(field(16)))?,
        index: (index != NO_INDEX).then_some(index.into()),
        begin: Some(begin.load(Relaxed)).filter(|begin| *begin > 0)?,
        end: end.load(Relaxed),
        is_step: label & STEP != 0,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record(words: [u64; 3]) -> Option<Stamp> {
        read_record(&words.map(AtomicU64::new))
    }

    #[test]
    fn records_that_nobody_of_orlop_wrote_are_left_out() {
        let mount = (Phase::Mount as u64) << 16;
        let stamp = record([5, 7, 2 << 32 | mount | 3]).unwrap();
        assert_eq!((stamp.side, stamp.phase), (Side::Child, Phase::Mount));
        assert_eq!((stamp.index, stamp.is_step), (Some(3), false));
        assert_eq!(record([0, 0, 0]), None);
        assert_eq!(record([5, 7, 4 << 32 | mount]), None);
        assert_eq!(record([5, 7, 0xffff << 16]), None);
        let mut words = Vec::new();
        words.resize_with(HEADER + RECORDS * WORDS, || AtomicU64::new(u64::MAX));
        let words: &'static [AtomicU64] = words.leak();
        assert!(claim_record(words, Phase::Mount, 0, 0).is_none());
    }
}
