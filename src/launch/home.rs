//! The cgroup of a container that is being brought up: who makes it when, and how it goes again if the rest fails.
//! Not what is in it: that is `cgroup`.

use std::os::fd::BorrowedFd;

use super::{DEADLINE, Error, Request};
use crate::cgroup::{Cgroup, Place};

/// Where the container's processes live.
pub(super) enum Home {
    /// In a cgroup that was made for them.
    Made(Cgroup),
    /// Where the caller is.
    Shared,
}

impl Home {
    /// Makes what has to be there before the first process is.
    pub(super) fn prepare(request: &Request<'_>) -> Result<Home, Error> {
        match request.place {
            Place::Path(below) => {
                let cgroup = Cgroup::create(&request.host.hierarchy, below, request.limits)?;
                let home = Home::Made(cgroup);
                match request.dir.own_cgroup() {
                    Ok(()) => Ok(home),
                    Err(error) => {
                        home.undo();
                        Err(error.into())
                    }
                }
            }
            Place::Nowhere => Ok(Home::Shared),
        }
    }

    /// The cgroup, once it is there.
    pub(super) fn cgroup(&self) -> Option<&Cgroup> {
        match self {
            Home::Made(cgroup) => Some(cgroup),
            Home::Shared => None,
        }
    }

    /// What the first process is cloned into; `None`: the caller's own.
    pub(super) fn for_clone(&self) -> Option<BorrowedFd<'_>> {
        self.cgroup().map(Cgroup::dir)
    }

    /// Ends what is in it and takes it away. An error on the way is not told: there is one already.
    pub(super) fn undo(self) {
        if let Some(cgroup) = self.cgroup() {
            let _ = cgroup.kill();
            let _ = cgroup.delete(DEADLINE);
        }
    }
}
