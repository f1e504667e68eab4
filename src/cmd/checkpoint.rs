//! `checkpoint`: writes a container's processes to files. Then removes the container, unless it is
//! to continue running.

use super::{Error, FoundContainer, delete};
use crate::cgroup::Driver;
use crate::invocation::{CgroupDriver, CheckpointArgs, Globals, RootlessMode};
use crate::launch::checkpoint::{self, Subject};
use crate::log::Log;
use crate::plan::host::Host;
use crate::plan::{CreateOptions, InheritedFds, Plan};
use crate::spec;
use crate::state::record::Record;
use crate::state::{self, InitState, Root, Status};

/// Writes a running or paused container to files.
pub(crate) fn checkpoint(globals: &Globals, args: &CheckpointArgs, log: &Log) -> Result<(), Error> {
    let status_fd = checkpoint::status_fd(args)?;
    let root = Root::open(&globals.root)?.ok_or(state::Error::Absent)?;
    let dir = root.container(args.id.as_str())?;
    let lock = dir.lock()?;
    let found = FoundContainer::read_container(&dir)?;
    let status = found.status(&dir);
    let (Status::Running | Status::Paused, Some(record), InitState::Alive { pid, .. }) =
        (status, &found.record, &found.init)
    else {
        return Err(Error::CheckpointOther(status.as_str()));
    };
    // CRIU saves mounts that the container itself made, but not mounts that were added from
    // outside.
    if !record.added_mounts.is_empty() {
        return Err(Error::CheckpointAdded);
    }
    let (plan, host) = plan_again(record)?;
    let cgroup = found.open_cgroup_in(&dir)?;
    let subject = Subject {
        plan: &plan,
        host: &host,
        record,
        dir: &dir,
        pid: *pid,
        cgroup: cgroup.as_ref(),
        paused: status == Status::Paused,
    };
    checkpoint::checkpoint(&subject, args, status_fd, |note| log.debug(note))?;
    if args.leave_running || args.pre_dump {
        return Ok(());
    }
    // Remove the container, as runc does. It can be restored from the files.
    let record = delete::kill_container(&dir)?;
    let log = log.with_warnings();
    delete::destroy_container(&root, &dir, lock, record.as_ref(), &log)
}

/// Plans a running container again from its config.json.
fn plan_again(record: &Record) -> Result<(Plan, Host), Error> {
    let loaded = spec::load_config(&record.config_path())?;
    let host = Host::read_host()?;
    let options = CreateOptions {
        id: &record.id,
        bundle: &record.bundle,
        cgroup_driver: match &record.cgroup {
            Driver::Cgroupfs(_) => CgroupDriver::Cgroupfs,
            Driver::Systemd(_) => CgroupDriver::Systemd,
            Driver::Disabled => CgroupDriver::Disabled,
        },
        rootless: RootlessMode::Auto,
        no_pivot: false,
        no_new_keyring: !record.keyring,
        passed: InheritedFds {
            listen: 0,
            preserve: 0,
        },
        notify: None,
        runs: true,
    };
    let plan = Plan::for_init(&loaded, &host, &options).map_err(spec::Error::Violations)?;
    Ok((plan, host))
}
