//! Parent: changes the mounts of a container that exists. `child::mounts` makes and removes them in
//! a process of its own. `sources` opens the sources of binds.

use std::os::fd::AsFd;

use nix::sched::CloneFlags;

use super::Error;
use super::ending::{SIGKILL, describe_exit};
use super::exec::{handed_out, namespaces_of};
use super::link::{Link, out_of_order_error};
use super::prepare::map_inside;
use super::sources;
use crate::detached::DetachedMount;
use crate::error::failed;
use crate::plan::rootfs::added::AddedMounts;
use crate::plan::route::Route;
use crate::protocol::{ChildDescriptors, Inherited, Message, OpenNamespace};
use crate::state::Dir;
use crate::sys::clone::{Child, CloneArgs, Side, clone3, pidfd_send_signal, pidfd_wait};
use crate::sys::mount;
use crate::sys::procfs::Procfs;
use crate::sys::wait::reap;

/// The namespaces of a container, opened to be joined. The pid namespace is not among them.
pub(crate) struct Way(Vec<OpenNamespace>);

impl Way {
    /// Opens the namespaces of init, which must be alive. `waits` is true if init waits for
    /// `start`.
    pub(crate) fn open(
        dir: &Dir,
        proc: &Procfs,
        (init, pidfd): (i32, &std::os::fd::OwnedFd),
        waits: bool,
    ) -> Result<Way, Error> {
        let route = Route::for_exec(proc, init, waits)?;
        let mut all = match route.asks_init {
            true => handed_out(dir, proc)?,
            false => namespaces_of(pidfd, route.enters - CloneFlags::CLONE_NEWPID)?,
        };
        all.retain(|namespace| namespace.kinds != CloneFlags::CLONE_NEWPID);
        Ok(Way(all))
    }

    /// Returns the kinds of namespaces that the container doesn't share with the caller, except
    /// pid.
    pub(crate) fn kinds(&self) -> CloneFlags {
        let none = CloneFlags::empty();
        self.0.iter().fold(none, |all, one| all | one.kinds)
    }

    /// True if the container has a mount namespace that isn't the caller's.
    pub(crate) fn has_mounts(&self) -> bool {
        self.kinds().contains(CloneFlags::CLONE_NEWNS)
    }

    /// True if the container has a user namespace that isn't the caller's.
    pub(crate) fn has_user(&self) -> bool {
        self.user().is_some()
    }

    fn user(&self) -> Option<&OpenNamespace> {
        let is_user = |one: &&OpenNamespace| one.kinds.contains(CloneFlags::CLONE_NEWUSER);
        self.0.iter().find(is_user)
    }

    /// Clones the process that changes the mounts.
    fn clone(
        self,
        trees: Vec<DetachedMount>,
        clone_child: impl FnOnce(Inherited),
    ) -> Result<(Child, Link), Error> {
        let (link, other) = Link::make(Error::Failed)?;
        let inherited = Inherited {
            link: other,
            descriptors: ChildDescriptors {
                trees,
                joined: self.0,
                ..ChildDescriptors::default()
            },
        };
        let clone = CloneArgs {
            namespaces: CloneFlags::empty(),
            cgroup: None,
            sibling: false,
        };
        let what = || "clone the process that changes the mounts".to_owned();
        match clone3(&clone).map_err(failed("clone3", what))? {
            Side::Parent(child) => Ok((child, link)),
            Side::Child => {
                clone_child(inherited);
                crate::sys::process::exit_now(1)
            }
        }
    }
}

/// Adds all mounts or none. `record` gets the ids of the mounts. If `record` fails, the mounts are
/// removed again.
pub(crate) fn add(
    way: Way,
    added: &AddedMounts,
    proc: &Procfs,
    record: impl FnOnce(Vec<u64>) -> Result<(), Error>,
    clone_child: impl FnOnce(Inherited),
) -> Result<(), Error> {
    let trees = sources::open(added, proc, way.user())?;
    let (child, link) = way.clone(trees, clone_child)?;
    let speak = || {
        map_inside(&added.mounts, proc, &child, &link)?;
        record(attached(&link)?)?;
        link.send(&Message::Go)
    };
    let done = speak();
    finish(&child, link, done)
}

/// Removes mounts and returns their ids. All mounts are looked up before the first is removed.
pub(crate) fn remove(way: Way, clone_child: impl FnOnce(Inherited)) -> Result<Vec<u64>, Error> {
    let (child, link) = way.clone(Vec::new(), clone_child)?;
    let done = attached(&link);
    finish(&child, link, done)
}

/// Receives mounts until the process that changes the mounts is ready. Returns their ids.
fn attached(link: &Link) -> Result<Vec<u64>, Error> {
    let mut ids = Vec::new();
    loop {
        match link.receive()? {
            Message::Attached(mounted) => {
                let holder = mount::holder(mounted.as_fd());
                let what = || "look at a mount".into();
                ids.push(holder.map_err(failed("statx", what))?.id);
            }
            Message::Ready => return Ok(ids),
            _ => return Err(out_of_order_error()),
        }
    }
}

/// How long the process may take to remove its mounts again, in milliseconds.
const UNDO_TIMEOUT_MS: i32 = 5000;
/// How long a killed process may take to end, in milliseconds.
const KILL_TIMEOUT_MS: i32 = 1000;

/// Closes the link and waits for the process to end. On an error, the process first removes its
/// mounts again. A file system that never answers may hold it up; it is then killed, or left behind
/// if even that does not end it.
fn finish<T>(child: &Child, link: Link, done: Result<T, Error>) -> Result<T, Error> {
    drop(link);
    let what = || "wait for the process that changes the mounts".to_owned();
    let ends =
        |timeout_ms| pidfd_wait(child.pidfd.as_fd(), timeout_ms).map_err(failed("poll", what));
    if done.is_err() && !ends(UNDO_TIMEOUT_MS)? {
        let _ = pidfd_send_signal(child.pidfd.as_fd(), SIGKILL);
        if !ends(KILL_TIMEOUT_MS)? {
            return done;
        }
    }
    let exit = reap(child.pidfd.as_fd()).map_err(failed("waitid", what))?;
    match done {
        Err(Error::Gone) => Err(Error::NoMounts(describe_exit(exit))),
        done => done,
    }
}
