//! The report of `inspect`: what config.json asked for beside what is in force.
//! The readers fill it in. Not its layout for people: that is `cmd::inspect`.

use serde::Serialize;

/// A property of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// What config.json asks for; `None` if it says nothing, or can't be read.
    pub(crate) asked: Option<String>,
    /// What the kernel says; `None` if there is nothing, or it can't be read.
    pub(crate) actual: Option<String>,
    /// What else is to say: the use of a limit, why something can't be read or compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    /// True if what is in force is not what was asked for.
    pub(crate) differs: bool,
}

impl Entry {
    /// Compares two texts: they differ if config.json asks for something and the kernel says
    /// another thing.
    pub(crate) fn compare(
        name: impl Into<String>,
        asked: Option<String>,
        actual: Option<String>,
    ) -> Entry {
        let differs = asked.is_some() && actual.is_some() && asked != actual;
        Entry::of(name, asked, actual, differs)
    }

    /// An entry that was compared already.
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

    /// Adds a note.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Entry {
        self.note = Some(note.into());
        self
    }

    /// Takes back a difference that `reason` explains.
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

/// A container as it was asked for, and as it is.
#[derive(Debug, Serialize)]
pub(crate) struct Inspection {
    pub(crate) id: String,
    pub(crate) status: &'static str,
    /// 0 once the container has stopped.
    pub(crate) pid: i32,
    pub(crate) bundle: String,
    /// The configuration that was read now.
    pub(crate) config: String,
    /// Why nothing is compared: config.json can't be read. Else absent.
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
    /// The number of entries that differ.
    pub(crate) fn differences(&self) -> usize {
        let sections = self.sections();
        let entries = sections.iter().flat_map(|(_, entries)| entries.iter());
        entries.filter(|entry| entry.differs).count()
    }

    /// The sections with their names, in the order of printing.
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
