//! The route of a process into its container's namespaces: which process enters or makes each one,
//! and which process makes the clone. Init and exec processes both have a route.
//! `namespaces` decides which namespaces the container has.

use std::fmt;

use nix::sched::CloneFlags;

use super::host::Host;
use super::namespaces::{Namespaces, UserNamespace};
use crate::error::{Failed, failed};
use crate::sys::ns::{CLONE_NEWTIME, LINKS};
use crate::sys::procfs::Procfs;
use crate::sys::{Errno, process};

/// The steps into the namespaces, in the order of the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) cloner: CloningProcess,
    /// Existing namespaces that the cloner enters.
    pub(crate) enters: CloneFlags,
    /// True if `enters` is unknown because the kernel hides the namespaces. Init hands out the
    /// namespaces at its start socket.
    pub(crate) asks_init: bool,
    /// New namespaces that the cloner makes before the clone.
    pub(crate) makes: CloneFlags,
    /// New namespaces that the clone makes.
    pub(crate) clones: CloneFlags,
    /// Existing namespaces that the process joins after the clone.
    pub(crate) joins: CloneFlags,
    /// New namespaces that the process makes after the clone.
    pub(crate) unshares: CloneFlags,
}

/// The process that clones the container's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloningProcess {
    /// The parent. After entering namespaces for the clone, it returns to its own.
    Parent,
    /// An intermediate process between parent and child, which exits after the clone. It is needed
    /// because the kernel lets no process leave a user namespace again, and because only a process
    /// inside a user namespace can make namespaces that this user namespace owns.
    Intermediate,
    /// The child. It stays in the parent's pid namespace, completes the setup, and clones the
    /// process last (`child::exec`). This is because processes in an existing pid namespace see the
    /// new process from its birth.
    Child,
}

/// The reason why there is no route into a running container.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The kernel hides the namespaces of a process that isn't dumpable from a caller who isn't
    /// root.
    #[error("the container's namespaces are hidden from the caller")]
    Hidden,
    #[error("container not running")]
    Ended,
    #[error(transparent)]
    Failed(#[from] Failed),
}

impl Route {
    /// Returns the route of a container's init. `moved` is true if init is moved into its cgroup
    /// after the clone.
    pub(crate) fn for_init(namespaces: &Namespaces, host: &Host, moved: bool) -> Route {
        // Root of a new user namespace can't enter the other existing namespaces by itself, so the
        // cloner enters them for it.
        let leaves_own =
            namespaces.time.is_some() || namespaces.user.is_some() && !namespaces.joined.is_empty();
        // If the caller is in a user namespace, its other namespaces may belong to the host, where
        // the caller isn't root. The caller then can't return to them, so it must not leave them
        // even briefly.
        let no_return = leaves_own && !namespaces.unprivileged && host.is_in_user_namespace();
        Route::route_into_new(namespaces, no_return, moved)
    }

    fn route_into_new(namespaces: &Namespaces, no_return: bool, moved: bool) -> Route {
        let none = CloneFlags::empty();
        let when = |condition: bool, kinds: CloneFlags| if condition { kinds } else { none };
        let existing = namespaces
            .joined
            .iter()
            .fold(none, |all, one| all | one.kind);
        let time = when(namespaces.time.is_some(), CLONE_NEWTIME);
        let existing_user = matches!(namespaces.user, Some(UserNamespace::Joined(..)));
        let user = when(existing_user, CloneFlags::CLONE_NEWUSER);
        if namespaces.is_born_last() {
            return Route {
                cloner: CloningProcess::Child,
                enters: existing | user,
                asks_init: false,
                makes: namespaces.new | time,
                clones: none,
                joins: none,
                unshares: none,
            };
        }
        let enters = when(namespaces.user.is_some(), existing | user);
        let new_user = matches!(namespaces.user, Some(UserNamespace::New(_)));
        // A time namespace is made by the parent of its first process. This parent needs the rights
        // to make it, so it makes the user namespace first. The mappings of the user namespace are
        // written while only the intermediate process is in it.
        let makes_user = new_user && namespaces.unprivileged && namespaces.time.is_some();
        // From another cgroup namespace, the parent couldn't clone into the cgroup if namespaces
        // are delegation boundaries (nsdelegate, cgroups(7)).
        let enters_cgroups = enters.contains(CloneFlags::CLONE_NEWCGROUP);
        let makes = when(makes_user, CloneFlags::CLONE_NEWUSER) | time;
        // A cgroup namespace is rooted at the cgroup of the process that makes it.
        let unshares = when(moved, namespaces.new & CloneFlags::CLONE_NEWCGROUP);
        Route {
            cloner: if existing_user || makes_user || no_return || enters_cgroups {
                CloningProcess::Intermediate
            } else {
                CloningProcess::Parent
            },
            enters,
            asks_init: false,
            makes,
            clones: namespaces.new - makes - unshares,
            joins: existing - enters,
            unshares,
        }
    }

    /// Returns the route of an additional process into the container of `init`. `waits` is true if
    /// init waits at its start socket and can be asked for its namespaces.
    pub(crate) fn for_exec(proc: &Procfs, init: i32, waits: bool) -> Result<Route, Error> {
        let (enters, asks_init) = match unshared_kinds(proc, init) {
            Err(Error::Hidden) if waits => (CloneFlags::empty(), true),
            kinds => (kinds?, false),
        };
        Ok(Route {
            cloner: CloningProcess::Child,
            enters,
            asks_init,
            makes: CloneFlags::empty(),
            clones: CloneFlags::empty(),
            joins: CloneFlags::empty(),
            unshares: CloneFlags::empty(),
        })
    }

    /// True if the container's user namespace isn't the caller's.
    pub(crate) fn changes_user(&self) -> bool {
        // Init hands out its namespaces only to a caller in another user namespace.
        self.asks_init
            || (self.enters | self.makes | self.clones).contains(CloneFlags::CLONE_NEWUSER)
    }

    /// True if the intermediate process makes the new user namespace, false if the clone or the
    /// child does.
    pub(crate) fn user_is_made_by_intermediate(&self) -> bool {
        self.cloner == CloningProcess::Intermediate
            && self.makes.contains(CloneFlags::CLONE_NEWUSER)
    }
}

/// Returns the kinds of namespaces that a process doesn't share with this process. The kernel may
/// refuse to join a namespace that the two share.
fn unshared_kinds(proc: &Procfs, pid: i32) -> Result<CloneFlags, Error> {
    let mut kinds = CloneFlags::empty();
    for (name, kind) in LINKS {
        let what = |of: &str| format!("look at /proc/{of}/ns/{name}");
        let own = proc.namespace(&format!("self/ns/{name}"));
        let own = own.map_err(failed("stat", || what("self")))?;
        let other = proc.namespace(&format!("{pid}/ns/{name}"));
        let other = other.map_err(|errno| match errno {
            Errno::EACCES if process::effective_uid() != 0 => Error::Hidden,
            // The process was alive a moment ago. Engines would interpret ENOENT as a missing
            // program.
            Errno::ENOENT | Errno::ESRCH => Error::Ended,
            errno => failed("stat", || what(&pid.to_string()))(errno).into(),
        })?;
        if other != own {
            kinds |= kind;
        }
    }
    Ok(kinds)
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.cloner {
            CloningProcess::Parent => "the parent",
            CloningProcess::Intermediate => "an intermediate process",
            CloningProcess::Child => "the child",
        })?;
        if self.asks_init {
            f.write_str(" enters what init hands out,")?;
        }
        for (verb, kinds) in [("enters", self.enters), ("makes", self.makes)] {
            if !kinds.is_empty() {
                write!(f, " {verb} {},", kind_names(kinds))?;
            }
        }
        f.write_str(" clones the process")?;
        if !self.clones.is_empty() {
            write!(f, " into new {}", kind_names(self.clones))?;
        }
        for (verb, kinds) in [("joins", self.joins), ("makes", self.unshares)] {
            if !kinds.is_empty() {
                write!(f, "; the process {verb} {}", kind_names(kinds))?;
            }
        }
        Ok(())
    }
}

/// Returns the names in /proc/PID/ns, in the order of `LINKS`.
fn kind_names(kinds: CloneFlags) -> String {
    let named = LINKS.iter().filter(|(_, kind)| kinds.contains(*kind));
    let names: Vec<&str> = named.map(|(name, _)| *name).collect();
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::ids::Mappings;
    use super::super::namespaces::{JoinedNamespace, TimeOffsets};
    use super::*;

    const PID: CloneFlags = CloneFlags::CLONE_NEWPID;
    const USER: CloneFlags = CloneFlags::CLONE_NEWUSER;
    const CGROUP: CloneFlags = CloneFlags::CLONE_NEWCGROUP;

    fn at(kind: CloneFlags) -> JoinedNamespace {
        let path = "/x".into();
        JoinedNamespace {
            kind,
            path,
            index: 0,
        }
    }

    fn new_user() -> Option<UserNamespace> {
        Some(UserNamespace::New(Mappings::new(&[], &[])))
    }

    /// Returns a set of namespaces with a new pid namespace and those in `joined` to join. If
    /// `user` is a new user namespace, the set has that one too.
    fn namespaces(user: Option<UserNamespace>, joined: &[CloneFlags]) -> Namespaces {
        let own = match user {
            Some(UserNamespace::New(_)) => USER,
            _ => CloneFlags::empty(),
        };
        Namespaces {
            new: PID | own,
            joined: joined.iter().copied().map(at).collect(),
            user,
            time: None,
            unprivileged: false,
        }
    }

    fn with_time(user: Option<UserNamespace>, unprivileged: bool) -> Namespaces {
        Namespaces {
            time: Some(TimeOffsets(String::new())),
            unprivileged,
            ..namespaces(user, &[])
        }
    }

    fn route(namespaces: &Namespaces) -> Route {
        Route::route_into_new(namespaces, false, false)
    }

    #[test]
    fn the_parent_clones_unless_there_is_no_way_back() {
        let joined_user = || Some(UserNamespace::Joined(at(USER), None));
        let net = CloneFlags::CLONE_NEWNET;
        let all = [
            (
                namespaces(None, &[]),
                "the parent clones the process into new pid",
            ),
            (
                namespaces(None, &[net]),
                "the parent clones the process into new pid; the process joins net",
            ),
            (
                namespaces(new_user(), &[]),
                "the parent clones the process into new user pid",
            ),
            (
                namespaces(new_user(), &[net]),
                "the parent enters net, clones the process into new user pid",
            ),
            (
                namespaces(new_user(), &[CGROUP]),
                "an intermediate process enters cgroup, clones the process into new user pid",
            ),
            (
                namespaces(joined_user(), &[net]),
                "an intermediate process enters user net, clones the process into new pid",
            ),
            (
                with_time(None, false),
                "the parent makes time, clones the process into new pid",
            ),
            (
                with_time(new_user(), false),
                "the parent makes time, clones the process into new user pid",
            ),
            (
                with_time(new_user(), true),
                "an intermediate process makes user time, clones the process into new pid",
            ),
        ];
        for (namespaces, expected) in all {
            assert_eq!(route(&namespaces).to_string(), expected, "{namespaces:?}");
        }
    }

    #[test]
    fn a_caller_who_could_not_return_needs_an_intermediate_process() {
        let route = Route::route_into_new(&with_time(new_user(), false), true, false);
        assert_eq!(
            route.to_string(),
            "an intermediate process makes time, clones the process into new user pid"
        );
        assert!(!route.user_is_made_by_intermediate());
    }

    #[test]
    fn into_a_pid_namespace_that_exists_the_child_clones() {
        let mut namespaces = namespaces(new_user(), &[PID, CGROUP]);
        namespaces.new = USER;
        assert_eq!(
            route(&namespaces).to_string(),
            "the child enters cgroup pid, makes user, clones the process"
        );
    }

    #[test]
    fn a_process_that_is_moved_makes_its_cgroup_namespace_afterwards() {
        let mut namespaces = namespaces(None, &[]);
        namespaces.new |= CGROUP;
        let moved = Route::route_into_new(&namespaces, false, true);
        assert_eq!(
            moved.to_string(),
            "the parent clones the process into new pid; the process makes cgroup"
        );
    }
}
