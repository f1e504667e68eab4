//! The log services that crun's --log can name: `journald:IDENTIFIER`, `syslog:IDENTIFIER`.
//! The parent module decides what is logged.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::Level;

const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";
const SYSLOG_SOCKET: &str = "/dev/log";
/// The facility of user programs, from syslog(3).
const FACILITY_USER: u8 = 1 << 3;

/// Returns the service's socket and a record for it. Returns `None` if --log names a file.
pub(super) fn service_entry(log: &str, level: Level, msg: &str) -> Option<(&'static Path, String)> {
    // The levels of syslog(3).
    let priority = match level {
        Level::Error => 3,
        Level::Warning => 4,
        Level::Debug => 7,
    };
    // A newline in the identifier could forge fields of the journal. The message has none, because
    // the caller has put it on one line.
    let plain = |id: &str| id.replace(char::is_control, " ");
    if let Some(id) = log.strip_prefix("journald:") {
        let id = plain(id);
        let fields = format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER={id}\nMESSAGE={msg}\n");
        return Some((Path::new(JOURNAL_SOCKET), fields));
    }
    let id = plain(log.strip_prefix("syslog:")?);
    let line = format!("<{}>{id}: {msg}", FACILITY_USER | priority);
    Some((Path::new(SYSLOG_SOCKET), line))
}

/// Sends a record. A record that can't be sent at once is lost.
pub(super) fn send_entry(socket: &Path, text: &str) {
    if let Ok(ours) = UnixDatagram::unbound()
        && ours.set_nonblocking(true).is_ok()
    {
        let _ = ours.send_to(text.as_bytes(), socket);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn records_are_as_the_services_read_them() {
        let (socket, text) = service_entry("journald:box\nX=1", Level::Error, "no").unwrap();
        assert_eq!(socket, Path::new(JOURNAL_SOCKET));
        assert_eq!(text, "PRIORITY=3\nSYSLOG_IDENTIFIER=box X=1\nMESSAGE=no\n");
        let (socket, text) = service_entry("syslog:box", Level::Warning, "no").unwrap();
        assert_eq!(socket, Path::new(SYSLOG_SOCKET));
        assert_eq!(text, "<12>box: no");
        for file in ["file:x", "/x/journald:", "log"] {
            assert_eq!(service_entry(file, Level::Error, "no"), None);
        }
    }

    #[test]
    fn a_record_arrives_in_one_datagram() {
        let dir = std::env::temp_dir().join(format!("orlop-service-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let socket = dir.join("socket");
        send_entry(&socket, "nobody listens");
        let theirs = UnixDatagram::bind(&socket).unwrap();
        send_entry(&socket, "MESSAGE=no\n");
        let mut buffer = [0; 64];
        let length = theirs.recv(&mut buffer).unwrap();
        assert_eq!(buffer.get(..length), Some(b"MESSAGE=no\n".as_slice()));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
