//! Programs for containers, one test function each: this very test program, mounted into the
//! container. Each holds something that CRIU must bring back, and counts in /count.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::harness::Container;

/// The place of the program in a container.
const PROGRAM: &str = "/bin/inside";

/// Gives the container one of these programs.
pub(super) fn runs(c: &mut Container, name: &str) {
    let program = std::env::current_exe().unwrap();
    File::create(c.rootfs(PROGRAM)).unwrap();
    c.mount(PROGRAM, "bind", program.to_str().unwrap(), &["bind", "ro"]);
    let name = format!("checkpoint::inside::{name}");
    c.args(&[PROGRAM, "--exact", &name, "--ignored", "--nocapture"]);
}

/// Counts for ever. `again` returns the next number.
fn count(mut again: impl FnMut(u64) -> u64) -> ! {
    let mut number = 0;
    loop {
        number = again(number);
        fs::write("/tmp/n", number.to_string()).unwrap();
        fs::rename("/tmp/n", "/count").unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The number that comes back over a connection to a thread of this process, which adds one.
#[test]
#[ignore = "part of the others"]
fn connection() {
    let listener = TcpListener::bind("127.0.0.1:7001").unwrap();
    let mut one = TcpStream::connect("127.0.0.1:7001").unwrap();
    let mut other = listener.accept().unwrap().0;
    std::thread::spawn(move || {
        let mut bytes = [0; 8];
        while other.read_exact(&mut bytes).is_ok() {
            let next = u64::from_ne_bytes(bytes) + 1;
            other.write_all(&next.to_ne_bytes()).unwrap();
        }
    });
    count(|number| {
        let mut bytes = number.to_ne_bytes();
        one.write_all(&bytes).unwrap();
        one.read_exact(&mut bytes).unwrap();
        u64::from_ne_bytes(bytes)
    });
}

/// A connection to the outside. Its end is written to /ended, and is no error.
#[test]
#[ignore = "part of the others"]
fn connection_out() {
    let mut connection = TcpStream::connect("127.0.0.1:7002").unwrap();
    connection.set_nonblocking(true).unwrap();
    count(|number| {
        let ended = match connection.read(&mut [0]) {
            Ok(read) => read == 0,
            Err(e) => e.kind() != std::io::ErrorKind::WouldBlock,
        };
        if ended {
            File::create("/ended").unwrap();
        }
        number + 1
    });
}

/// A listener that accepts nothing.
#[test]
#[ignore = "part of the others"]
fn listener() {
    let _listener = TcpListener::bind("127.0.0.1:7003").unwrap();
    count(|number| number + 1);
}

/// A socket that is connected to the path in /socket, which is sent the numbers.
#[test]
#[ignore = "part of the others"]
fn unix_socket() {
    let socket = UnixDatagram::unbound().unwrap();
    let path = fs::read_to_string("/socket").unwrap();
    socket.connect(path).unwrap();
    count(|number| {
        socket.send(&(number + 1).to_ne_bytes()).unwrap();
        number + 1
    });
}

/// A lock on /locked.
#[test]
#[ignore = "part of the others"]
fn lock() {
    let file = File::create("/locked").unwrap();
    file.lock().unwrap();
    count(|number| number + 1);
}

/// A file with the number, whose name was removed. /other is another name of the file.
#[test]
#[ignore = "part of the others"]
fn removed() {
    let mut file = File::create_new("/gone").unwrap();
    fs::hard_link("/gone", "/other").unwrap();
    fs::remove_file("/gone").unwrap();
    count(|number| {
        file.rewind().unwrap();
        file.write_all(&(number + 1).to_ne_bytes()).unwrap();
        number + 1
    });
}

/// 16 MB of memory that stays as it is, and 4 MB that is always written.
#[test]
#[ignore = "part of the others"]
fn memory() {
    let kept: Vec<u8> = (0..16 << 20).map(|i: u32| (i >> 12) as u8 | 1).collect();
    let mut written = vec![1; 4 << 20];
    count(|number| {
        written.iter_mut().step_by(4096).for_each(|byte| *byte += 1);
        let intact = kept
            .iter()
            .enumerate()
            .step_by(4096)
            .all(|(i, byte)| *byte == (i >> 12) as u8 | 1);
        assert!(intact);
        number + 1
    });
}
