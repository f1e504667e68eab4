//! The addresses of systemd: the system's or the user's instance, at its own socket or on a bus.
//! The connection itself is made in `dbus`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::super::dbus::{Error, PeerAddress, parse_addresses};
use crate::sys::process;

/// systemd's own sockets are tried before the bus, because the bus is an additional process, which
/// may be slow or missing.
const SYSTEM_SOCKET_PATH: &str = "/run/systemd/private";
const SYSTEM_BUS_PATH: &str = "/run/dbus/system_bus_socket";

/// True if this process isn't root on the host. In that case, the user's instance makes the scopes.
pub(super) fn uses_user_instance() -> bool {
    if process::effective_uid() != 0 {
        return true;
    }
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    outer_uid(&map) != Some(0)
}

/// Returns the uid that root of this user namespace has in the parent namespace. Namespaces further
/// out are ignored.
fn outer_uid(map: &str) -> Option<u32> {
    let line = map
        .lines()
        .find(|line| line.split_whitespace().next() == Some("0"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Returns the addresses in the order in which to try them. If the environment names a bus, only
/// this bus is used, as in systemd's own clients.
pub(super) fn peer_addresses(user: bool) -> Result<Vec<PeerAddress>, Error> {
    let variable = if user {
        "DBUS_SESSION_BUS_ADDRESS"
    } else {
        "DBUS_SYSTEM_BUS_ADDRESS"
    };
    // The caller of a set-user-ID program must not choose the peer of this process.
    let trusted = nix::unistd::getuid() == nix::unistd::geteuid();
    let text = |name| std::env::var_os(name).filter(|value| trusted && !value.is_empty());
    if let Some(address) = text(variable) {
        return parse_addresses(&address.to_string_lossy());
    }
    if !user {
        return Ok(socket_then_bus(
            SYSTEM_SOCKET_PATH.into(),
            SYSTEM_BUS_PATH.into(),
        ));
    }
    let runtime = text("XDG_RUNTIME_DIR").map_or_else(own_runtime_directory, PathBuf::from);
    Ok(user_addresses(&runtime))
}

fn own_runtime_directory() -> PathBuf {
    let own = process::effective_uid();
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let uid = if own == 0 {
        outer_uid(&map).unwrap_or(0)
    } else {
        own
    };
    PathBuf::from(format!("/run/user/{uid}"))
}

fn user_addresses(runtime: &Path) -> Vec<PeerAddress> {
    socket_then_bus(
        runtime.join("systemd/private").into(),
        runtime.join("bus").into(),
    )
}

fn socket_then_bus(socket: OsString, bus: OsString) -> Vec<PeerAddress> {
    vec![
        PeerAddress {
            socket,
            direct: true,
        },
        PeerAddress {
            socket: bus,
            direct: false,
        },
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn root_of_a_user_namespace_is_a_user() {
        assert_eq!(outer_uid("         0          0 4294967295\n"), Some(0));
        assert_eq!(outer_uid("0 1000 1\n1 100000 65536\n"), Some(1000));
        assert_eq!(outer_uid(""), None);
    }

    #[test]
    fn systemd_itself_comes_before_the_bus() {
        let places = user_addresses(Path::new("/run/user/7"));
        let shown: Vec<_> = places
            .iter()
            .map(|p| (p.socket.to_str().unwrap(), p.direct))
            .collect();
        assert_eq!(
            shown,
            [
                ("/run/user/7/systemd/private", true),
                ("/run/user/7/bus", false)
            ]
        );
    }
}
