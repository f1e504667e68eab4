//! The namespaces of init with their owners, and the id mappings.

use oci_spec::runtime::Linux;

use super::init::InitProcess;
use super::report::Entry;
use crate::plan::ids::{Mappings, Range};
use crate::sys::ns::LINKS;
use crate::sys::procfs::{Procfs, namespace_at};

/// The device and inode of each kind of namespace, in the order of `LINKS`.
pub(crate) type Identities = [Option<(u64, u64)>; 8];

/// The namespaces of another container.
pub(crate) struct Other {
    pub(crate) id: String,
    pub(crate) namespaces: Identities,
}

/// Reads the identities of a process' namespaces. `process` is the name of a directory in /proc.
pub(crate) fn identities(proc: &Procfs, process: &str) -> Identities {
    LINKS.map(|(kind, _)| proc.namespace(&format!("{process}/ns/{kind}")).ok())
}

/// Compares the entries of linux.namespaces with the namespaces of init.
pub(super) fn entries(
    linux: Option<&Linux>,
    proc: &Procfs,
    init: Option<&InitProcess<'_>>,
    others: &[Other],
) -> Vec<Entry> {
    let (host, caller) = (identities(proc, "1"), identities(proc, "self"));
    let mut entries = Vec::new();
    for (place, (kind, _)) in LINKS.iter().enumerate() {
        let asked = asked(linux, kind);
        let Some(init) = init else {
            entries.push(Entry::of(*kind, asked.shown(), None, false));
            continue;
        };
        let actual = match init.namespace(kind) {
            Ok(actual) => actual,
            Err(errno) => {
                let entry = Entry::of(*kind, asked.shown(), None, false);
                entries.push(entry.note(crate::error::ErrnoText(errno).to_string()));
                continue;
            }
        };
        let at = |identities: &Identities| identities.get(place).copied().flatten();
        let is_hosts = at(&host) == Some(actual);
        let is_callers = at(&caller) == Some(actual);
        let sharing = others
            .iter()
            .filter(|other| at(&other.namespaces) == Some(actual));
        let sharing: Vec<&str> = sharing.take(8).map(|other| other.id.as_str()).collect();
        let owner = match () {
            () if is_hosts => "the host's".to_owned(),
            () if is_callers => "the caller's".to_owned(),
            () if sharing.is_empty() => "its own".to_owned(),
            () => format!("shared with {}", sharing.join(", ")),
        };
        // A new namespace that others have joined is no difference, because `owner` names them.
        let differs = match &asked {
            Asked::New => is_hosts || is_callers,
            Asked::At(path) => namespace_at(path.as_ref()).is_ok_and(|asked| asked != actual),
            Asked::Callers | Asked::Unknown => false,
        };
        let shown = format!("{} {owner}", actual.1);
        let entry = Entry::of(*kind, asked.shown(), Some(shown), differs);
        entries.push(entry);
    }
    entries
}

enum Asked {
    New,
    At(String),
    /// config.json has no entry, so the container shares the namespace of its creator.
    Callers,
    /// config.json can't be read.
    Unknown,
}

impl Asked {
    fn shown(&self) -> Option<String> {
        match self {
            Asked::New => Some("new".into()),
            Asked::At(path) => Some(path.clone()),
            Asked::Callers => Some("the creator's".into()),
            Asked::Unknown => None,
        }
    }
}

fn asked(linux: Option<&Linux>, kind: &str) -> Asked {
    let Some(linux) = linux else {
        return Asked::Unknown;
    };
    let mut list = linux.namespaces().iter().flatten();
    match list.find(|namespace| namespace.typ().to_string() == kind) {
        None => Asked::Callers,
        Some(namespace) => match namespace.path() {
            Some(path) if !path.as_os_str().is_empty() => {
                Asked::At(path.to_string_lossy().into_owned())
            }
            _ => Asked::New,
        },
    }
}

/// Compares linux.uidMappings and gidMappings with the mappings in the kernel.
pub(super) fn mappings(linux: Option<&Linux>, init: Option<&InitProcess<'_>>) -> Vec<Entry> {
    let asked = linux.map(|linux| {
        let uids = linux.uid_mappings().as_deref().unwrap_or_default();
        let gids = linux.gid_mappings().as_deref().unwrap_or_default();
        Mappings::new(uids, gids)
    });
    let lists = [
        ("uid_map", asked.as_ref().map(|asked| &asked.uids)),
        ("gid_map", asked.as_ref().map(|asked| &asked.gids)),
    ];
    let entry = |(file, asked): (&str, Option<&Vec<Range>>)| {
        let asked = asked
            .filter(|ranges| !ranges.is_empty())
            .map(|ranges| line(ranges));
        let actual = init.and_then(|init| init.text(file));
        let actual = actual.and_then(|text| crate::plan::ids::parse(&text));
        Entry::compare(file, asked, actual.map(|ranges| line(&ranges)))
    };
    lists.map(entry).into()
}

/// Formats ranges in one line, sorted by the id in the container: `0 100000 65536, 65536 1 1`.
fn line(ranges: &[Range]) -> String {
    let mut lines: Vec<[String; 3]> = ranges.iter().map(Range::tool_arguments).collect();
    lines.sort_by_key(|[inside, ..]| inside.parse::<u32>().unwrap_or(0));
    lines
        .iter()
        .map(|words| words.join(" "))
        .collect::<Vec<_>>()
        .join(", ")
}
