//! The description of a process, given in config.json and, for exec, also in a file or in flags.
//! Each value has its origin. `process` makes the plan from the values.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use oci_spec::runtime::{PosixRlimit, Process};

use super::caps;
use crate::error::Findings;
use crate::invocation::ProcessFlags;
use crate::origin::{Origin, config, flag};

/// A value and its origin.
pub(crate) struct WithOrigin<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

/// The part of an exec's description that isn't in config.json.
pub(crate) enum ExecDescription<'a> {
    /// A complete description in a file, in the format of `process` in config.json.
    File {
        /// The file's name for messages.
        file: String,
        process: Box<Process>,
        /// True to allocate a terminal even if the file doesn't ask for one.
        tty: bool,
    },
    Flags(&'a ProcessFlags),
}

/// The description of a process.
pub(super) struct ProcessDescription<'a> {
    /// `None` if config.json has no process.
    configured: Option<&'a Process>,
    /// `None` for a container's init.
    request: Option<&'a ExecDescription<'a>>,
    /// The number of sockets announced in $LISTEN_FDS.
    pub(super) listen_fds: u32,
    /// The directory in the container with the socket for sd_notify(3), if there is one.
    pub(super) notify: Option<&'static str>,
}

/// The working directory if config.json has no process.
const ROOT_DIRECTORY: &str = "/";

impl<'a> ProcessDescription<'a> {
    /// Describes a container's init.
    pub(super) fn for_init(configured: Option<&'a Process>) -> ProcessDescription<'a> {
        ProcessDescription {
            configured,
            request: None,
            listen_fds: 0,
            notify: None,
        }
    }

    /// Describes an exec process.
    pub(super) fn for_exec(
        configured: Option<&'a Process>,
        request: &'a ExecDescription<'a>,
    ) -> ProcessDescription<'a> {
        ProcessDescription {
            configured,
            request: Some(request),
            listen_fds: 0,
            notify: None,
        }
    }

    fn file_process(&self) -> Option<(&'a str, &'a Process)> {
        match self.request {
            Some(ExecDescription::File { file, process, .. }) => Some((file, process)),
            _ => None,
        }
    }

    fn exec_flags(&self) -> Option<&'a ProcessFlags> {
        match self.request {
            Some(ExecDescription::Flags(line)) => Some(line),
            _ => None,
        }
    }

    /// Returns the process that holds the required fields: the file's process if there is a file,
    /// otherwise config.json's.
    fn required_fields_source(&self) -> Option<&'a Process> {
        self.file_process()
            .map(|(_, process)| process)
            .or(self.configured)
    }

    /// Returns the origin of a field of `required_fields_source`.
    fn field_origin(&self, name: &'static str) -> Origin {
        match self.file_process() {
            Some((file, _)) => Origin::file(file, name),
            None => config(name),
        }
    }

    /// Returns a field that a file may leave out. In that case config.json's value applies.
    fn optional_field<T>(
        &self,
        name: &'static str,
        get: impl Fn(&'a Process) -> Option<T>,
    ) -> WithOrigin<Option<T>> {
        if let Some((file, process)) = self.file_process()
            && let Some(value) = get(process)
        {
            return WithOrigin {
                value: Some(value),
                origin: Origin::file(file, name),
            };
        }
        WithOrigin {
            value: self.configured.and_then(get),
            origin: config(name),
        }
    }

    /// Returns a field that a flag can set. Without the flag, works like `optional_field`.
    fn flag_or_field<T>(
        &self,
        (name, value): (&'static str, Option<T>),
        field: &'static str,
        get: impl Fn(&'a Process) -> Option<T>,
    ) -> WithOrigin<Option<T>> {
        match value {
            Some(value) => WithOrigin {
                value: Some(value),
                origin: flag(name),
            },
            None => self.optional_field(field, get),
        }
    }

    /// Returns the value of a field that a file may leave out.
    pub(super) fn optional_value<T>(&self, get: impl Fn(&'a Process) -> Option<T>) -> Option<T> {
        self.optional_field("process", get).value
    }

    /// Returns the arguments, or `None` if there is no program.
    pub(super) fn args(&self) -> Option<Vec<&'a [u8]>> {
        match self.exec_flags() {
            Some(line) => Some(as_bytes(&line.args).collect()),
            None => {
                let args = self.required_fields_source()?.args().as_ref()?;
                Some(args.iter().map(String::as_bytes).collect())
            }
        }
    }

    /// Returns the environment. The entries from flags come last.
    pub(super) fn env(&self) -> Vec<&'a [u8]> {
        let configured = self
            .required_fields_source()
            .and_then(|process| process.env().as_ref());
        let configured = configured.into_iter().flatten().map(String::as_bytes);
        let added = self.exec_flags().map(|line| as_bytes(&line.env));
        configured.chain(added.into_iter().flatten()).collect()
    }

    pub(super) fn cwd(&self) -> WithOrigin<&'a Path> {
        let by_flag = self.exec_flags().and_then(|line| line.cwd.as_deref());
        match by_flag {
            Some(value) => WithOrigin {
                value,
                origin: flag("--cwd"),
            },
            None => WithOrigin {
                value: self
                    .required_fields_source()
                    .map_or(Path::new(ROOT_DIRECTORY), |process| process.cwd()),
                origin: self.field_origin("process.cwd"),
            },
        }
    }

    pub(super) fn uid(&self) -> WithOrigin<u32> {
        match self.exec_flags().and_then(|line| line.user) {
            Some(user) => WithOrigin {
                value: user.uid,
                origin: flag("--user"),
            },
            None => WithOrigin {
                value: self
                    .required_fields_source()
                    .map_or(0, |process| process.user().uid()),
                origin: self.field_origin("process.user.uid"),
            },
        }
    }

    pub(super) fn gid(&self) -> WithOrigin<u32> {
        match self.exec_flags().and_then(|line| line.user?.gid) {
            Some(value) => WithOrigin {
                value,
                origin: flag("--user"),
            },
            None => WithOrigin {
                value: self
                    .required_fields_source()
                    .map_or(0, |process| process.user().gid()),
                origin: self.field_origin("process.user.gid"),
            },
        }
    }

    /// Returns the supplementary groups.
    pub(super) fn groups(&self) -> WithOrigin<Vec<u32>> {
        const FIELD: &str = "process.user.additionalGids";
        let configured = self.required_fields_source();
        let configured = configured.and_then(|process| process.user().additional_gids().as_ref());
        let mut value = configured.cloned().unwrap_or_default();
        let added = self
            .exec_flags()
            .map_or(&[][..], |line| &line.additional_gids);
        value.extend(added);
        let origin = if added.is_empty() {
            self.field_origin(FIELD)
        } else {
            Origin::Both(Box::new([config(FIELD), flag("--additional-gids")]))
        };
        WithOrigin { value, origin }
    }

    /// Returns the capabilities. --cap adds to the sets that the process can use, never to the
    /// inheritable set (CVE-2022-29162, CVE-2022-27650). If config.json makes a capability
    /// inheritable, --cap makes it ambient too, as in runc.
    pub(super) fn caps(&self, findings: &mut Findings) -> caps::CapabilitySets {
        let configured = self.optional_value(|process| process.capabilities().as_ref());
        let mut sets = caps::plan(configured);
        for name in self.exec_flags().map_or(&[][..], |line| &line.caps) {
            let Some(bit) = caps::bit(name) else {
                // An unknown capability in config.json also causes only a warning.
                findings.warn_at(
                    flag("--cap"),
                    format!("unknown capability {name:?}, ignored"),
                );
                continue;
            };
            sets.bounding |= bit;
            sets.effective |= bit;
            sets.permitted |= bit;
            sets.ambient |= bit & sets.inheritable;
        }
        sets
    }

    pub(super) fn no_new_privs(&self) -> bool {
        let by_flag = self.exec_flags().and_then(|line| line.no_new_privs);
        by_flag
            .or_else(|| self.optional_value(Process::no_new_privileges))
            .unwrap_or(false)
    }

    pub(super) fn rlimits(&self) -> WithOrigin<&'a [PosixRlimit]> {
        let limits = |process: &'a Process| {
            let limits = process.rlimits().as_deref()?;
            (!limits.is_empty()).then_some(limits)
        };
        let WithOrigin { value, origin } = self.optional_field("process.rlimits", limits);
        WithOrigin {
            value: value.unwrap_or_default(),
            origin,
        }
    }

    pub(super) fn apparmor(&self) -> WithOrigin<Option<&'a str>> {
        let by_flag = self.exec_flags().and_then(|line| line.apparmor.as_deref());
        self.flag_or_field(
            ("--apparmor", by_flag),
            "process.apparmorProfile",
            |process| non_empty_label(process.apparmor_profile()),
        )
    }

    pub(super) fn selinux(&self) -> WithOrigin<Option<&'a str>> {
        let by_flag = self
            .exec_flags()
            .and_then(|line| line.process_label.as_deref());
        self.flag_or_field(
            ("--process-label", by_flag),
            "process.selinuxLabel",
            |process| non_empty_label(process.selinux_label()),
        )
    }

    /// True if the process gets a terminal. If flags describe an exec, only --tty asks for a
    /// terminal, as in runc.
    pub(super) fn terminal(&self) -> bool {
        let in_file = self
            .required_fields_source()
            .and_then(Process::terminal)
            .unwrap_or(false);
        match self.request {
            None => in_file,
            Some(ExecDescription::File { tty, .. }) => *tty || in_file,
            Some(ExecDescription::Flags(line)) => line.tty,
        }
    }

    /// Returns the height and width of the terminal.
    pub(super) fn console_size(&self) -> Option<(u64, u64)> {
        if self.exec_flags().is_some() {
            return None;
        }
        let size = self.required_fields_source()?.console_size()?;
        Some((size.height(), size.width()))
    }
}

/// Returns the label. An empty label means no label.
fn non_empty_label(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

fn as_bytes(words: &[OsString]) -> impl Iterator<Item = &[u8]> {
    words.iter().map(|word| word.as_bytes())
}
