//! The report of `inspect`: what config.json asks for, and what is in force.
//! The other modules of `inspect` fill in the report. `cmd::inspect` lays it out for people.

use serde::Serialize;

/// A property of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// What config.json asks for. `None` if it asks for nothing, or can't be read.
    pub(crate) asked: Option<String>,
    /// What the kernel reports. `None` if it reports nothing, or can't be asked.
    pub(crate) actual: Option<String>,
    /// A remark, such as the usage of a limit, or why something can't be read or compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    /// True if what is in force is not what config.json asks for.
    pub(crate) differs: bool,
}

impl Entry {
    /// Makes an entry from two texts. They differ if both exist and are not equal.
    pub(crate) fn compare(
        name: impl Into<String>,
        asked: Option<String>,
        actual: Option<String>,
    ) -> Entry {
        let differs = asked.is_some() && actual.is_some() && asked != actual;
        Entry::of(name, asked, actual, differs)
    }

    /// Makes an entry whose values the caller has compared.
    pub(crate) fn of(
        name: impl Into<String>,
        asked: Option<String>,
        actual: Option<String>,
        differs: bool,
    ) -> Entry {
        Entry {
            name: name.into(),
            asked,
            actual,
            note: None,
            differs,
        }
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Entry {
        self.note = Some(note.into());
        self
    }

    /// Clears a difference that `reason` explains, and adds the reason as a note.
    pub(crate) fn excuse(self, reason: &str) -> Entry {
        if !self.differs {
            return self;
        }
        Entry {
            differs: false,
            ..self.note(reason)
        }
    }
}

/// The properties of a container, as config.json asks for them and as they are in force.
#[derive(Debug, Serialize)]
pub(crate) struct Inspection {
    pub(crate) id: String,
    pub(crate) status: &'static str,
    /// 0 once the container has stopped.
    pub(crate) pid: i32,
    pub(crate) bundle: String,
    /// The path of the configuration, which was read for this report.
    pub(crate) config: String,
    /// Why config.json can't be read. Then nothing is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unreadable: Option<String>,
    /// True if any entry differs.
    pub(crate) differs: bool,
    pub(crate) namespaces: Vec<Entry>,
    pub(crate) ids: Vec<Entry>,
    pub(crate) capabilities: Vec<Entry>,
    pub(crate) confinement: Vec<Entry>,
    pub(crate) limits: Vec<Entry>,
    pub(crate) devices: Vec<Entry>,
    pub(crate) mounts: Vec<Entry>,
    pub(crate) paths: Vec<Entry>,
    pub(crate) rlimits: Vec<Entry>,
    pub(crate) hooks: Vec<Entry>,
}

impl Inspection {
    /// Returns the number of entries that differ.
    pub(crate) fn differences(&self) -> usize {
        let sections = self.sections();
        let entries = sections.iter().flat_map(|(_, entries)| entries.iter());
        entries.filter(|entry| entry.differs).count()
    }

    /// Returns the sections with their names, in the order of printing.
    pub(crate) fn sections(&self) -> [(&'static str, &[Entry]); 10] {
        [
            ("namespaces", &self.namespaces),
            ("ids", &self.ids),
            ("capabilities", &self.capabilities),
            ("confinement", &self.confinement),
            ("limits", &self.limits),
            ("devices", &self.devices),
            ("mounts", &self.mounts),
            ("paths", &self.paths),
            ("rlimits", &self.rlimits),
            ("hooks", &self.hooks),
        ]
    }
}
