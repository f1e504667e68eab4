//! Compares the settings in force in a container, read back from the kernel, with those that its
//! config.json asks for.
//! Nothing is changed. The container may control everything that is read here.

mod init;
mod limits;
mod mountinfo;
mod mounts;
mod namespaces;
mod process;
pub(crate) mod report;

use std::os::fd::AsFd as _;

use oci_spec::runtime::{Hook, Spec};

use crate::hooks::HookKind;
use crate::spec;
use crate::state::{Dir, Error, FoundContainer, InitState, Root, Status};
use init::InitProcess;
use mounts::View;
use namespaces::Other;
use report::{Entry, Inspection};

/// The largest number of other containers whose namespaces are compared.
const MOST_OTHERS: usize = 1000;

/// Inspects a container. `root` also has the other containers.
pub(crate) fn inspect(root: &Root, dir: &Dir, id: &str) -> Result<Inspection, Error> {
    let found = FoundContainer::read_container(dir)?;
    let status = found.status(dir);
    let record = found.record.as_ref();
    let config = record.map(crate::state::record::Record::config_path);
    let loaded = config.as_deref().map(spec::load_config);
    let (spec, unreadable) = match loaded {
        Some(Ok(loaded)) => (Some(loaded.spec), None),
        Some(Err(error)) => (None, Some(error.to_string())),
        None => (None, Some("create has not written a record".to_owned())),
    };
    let init = match &found.init {
        InitState::Alive { pid, pidfd } => {
            Some(InitProcess::open(found.proc(), *pid, pidfd.as_fd())?)
        }
        InitState::Gone => None,
    };
    let others = if init.is_some() {
        others(root, id)
    } else {
        Vec::new()
    };
    let shown = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let mut inspection = Inspection {
        id: id.to_owned(),
        status: status.as_str(),
        pid: init.as_ref().map_or(0, |init| init.pid),
        bundle: record.map_or_else(String::new, |record| shown(&record.bundle)),
        config: config.as_deref().map_or_else(String::new, shown),
        unreadable,
        differs: false,
        namespaces: Vec::new(),
        ids: Vec::new(),
        capabilities: Vec::new(),
        confinement: Vec::new(),
        limits: Vec::new(),
        devices: Vec::new(),
        mounts: Vec::new(),
        paths: Vec::new(),
        rlimits: Vec::new(),
        hooks: Vec::new(),
    };
    let container = Container {
        found: &found,
        spec: spec.as_ref(),
        init: init.as_ref(),
        waits: matches!(status, Status::Creating) || dir.waits_for_start(),
    };
    container.read_process(&mut inspection, &others);
    container.read_cgroup(&mut inspection, dir)?;
    container.read_mounts(&mut inspection);
    inspection.hooks = hooks(spec.as_ref(), status, dir);
    if let Some(init) = &init {
        init.check()?;
    }
    inspection.differs = inspection.differences() > 0;
    Ok(inspection)
}

/// Returns the effective user id of init in the container, or `None` once init is gone.
pub(crate) fn user_of(found: &FoundContainer) -> Option<String> {
    let InitState::Alive { pid, pidfd } = &found.init else {
        return None;
    };
    let init = InitProcess::open(found.proc(), *pid, pidfd.as_fd()).ok()?;
    process::user(&process::Status::of(Some(&init)), &init)
}

struct Container<'a> {
    found: &'a FoundContainer,
    spec: Option<&'a Spec>,
    init: Option<&'a InitProcess<'a>>,
    /// True while init waits for `start` and has not yet executed the container's program.
    waits: bool,
}

impl Container<'_> {
    fn read_process(&self, inspection: &mut Inspection, others: &[Other]) {
        let Container {
            spec, init, waits, ..
        } = *self;
        let proc = self.found.proc();
        let linux = spec.and_then(|spec| spec.linux().as_ref());
        let asked = spec.and_then(|spec| spec.process().as_ref());
        let status = process::Status::of(init);
        inspection.namespaces = namespaces::entries(linux, proc, init, others);
        inspection.ids = process::ids(asked, &status, init);
        inspection.ids.extend(namespaces::mappings(linux, init));
        inspection.capabilities = process::capabilities(asked, &status, waits);
        inspection.confinement = process::confinement(spec, &status, init, (proc, waits));
        inspection.rlimits = process::rlimits(asked, init);
    }

    fn read_cgroup(&self, inspection: &mut Inspection, dir: &Dir) -> Result<(), Error> {
        let linux = self.spec.and_then(|spec| spec.linux().as_ref());
        let planned = limits::planned(linux);
        // A stopped container has no limits in force.
        let cgroup = match self.init {
            Some(_) => self.found.open_cgroup_in(dir)?,
            None => None,
        };
        let cgroup = cgroup.as_ref();
        let digest = self.found.record.as_ref().map(|record| record.device_rules);
        inspection.limits = limits::entries(linux, &planned, cgroup, self.init);
        inspection.devices = limits::devices(linux.is_some(), &planned, digest, cgroup);
        Ok(())
    }

    fn read_mounts(&self, inspection: &mut Inspection) {
        let linux = self.spec.and_then(|spec| spec.linux().as_ref());
        let record = self.found.record.as_ref();
        let added = record.map_or(&[][..], |record| &record.added_mounts);
        let view = self.init.map(|init| View::read(init, added));
        let (view, problem) = match view {
            Some(Ok(view)) => (Some(view), None),
            Some(Err(errno)) => (None, Some(crate::error::ErrnoText(errno).to_string())),
            None => (None, None),
        };
        // A container without a mount namespace of its own has a chroot, and its mounts aren't
        // listed.
        let chroot = self
            .found
            .record
            .as_ref()
            .is_some_and(|record| record.chroot);
        let view = view.filter(|_| !chroot);
        inspection.mounts = mounts::mounts(self.spec, view.as_ref());
        inspection.paths = mounts::paths(linux, view.as_ref());
        let note = match (chroot, problem) {
            (true, _) => Some("the container has a chroot: the kernel lists no mounts".to_owned()),
            (false, problem) => problem,
        };
        if let (Some(note), Some(first)) = (note, inspection.mounts.first_mut()) {
            first.note = Some(note);
        }
    }
}

/// Reads the namespaces of the other containers in the same state root. Leaves out containers that
/// can't be read.
fn others(root: &Root, id: &str) -> Vec<Other> {
    let ids = root.ids().unwrap_or_default();
    let mut others = Vec::new();
    for other in ids
        .into_iter()
        .filter(|other| other != id)
        .take(MOST_OTHERS)
    {
        let Ok(dir) = root.container(&other) else {
            continue;
        };
        let Ok(found) = FoundContainer::read_container(&dir) else {
            continue;
        };
        if let InitState::Alive { pid, .. } = &found.init {
            others.push(Other {
                id: other,
                namespaces: namespaces::identities(found.proc(), &pid.to_string()),
            });
        }
    }
    others
}

/// Lists the hooks with whether they have run, as far as the container's state shows this.
fn hooks(spec: Option<&Spec>, status: Status, dir: &Dir) -> Vec<Entry> {
    let Some(hooks) = spec.and_then(|spec| spec.hooks().as_ref()) else {
        return Vec::new();
    };
    let created = !matches!(status, Status::Creating);
    let started = created && !dir.waits_for_start();
    let mut entries = Vec::new();
    for kind in HookKind::ALL {
        let (list, has_run) = match kind {
            HookKind::Prestart => (hooks.prestart(), created),
            HookKind::CreateRuntime => (hooks.create_runtime(), created),
            HookKind::CreateContainer => (hooks.create_container(), created),
            HookKind::StartContainer => (hooks.start_container(), started),
            HookKind::Poststart => (hooks.poststart(), started),
            HookKind::Poststop => (hooks.poststop(), false),
        };
        for (index, hook) in list.iter().flatten().enumerate() {
            let actual = if has_run {
                "has run"
            } else {
                "has not run yet"
            };
            let name = format!("{}[{index}]", kind.as_str());
            entries.push(Entry::of(
                name,
                Some(command(hook)),
                Some(actual.into()),
                false,
            ));
        }
    }
    entries
}

/// Returns the program of a hook with its arguments, without `args[0]`, which is only a name.
fn command(hook: &Hook) -> String {
    let mut text = hook.path().to_string_lossy().into_owned();
    for argument in hook.args().iter().flatten().skip(1) {
        text.push(' ');
        text.push_str(argument);
    }
    match hook.timeout() {
        Some(seconds) => format!("{text}, within {seconds} s"),
        None => text,
    }
}
