//! Tests with peers that reply correctly, slowly, with garbage, or not at all.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const SHORT: Duration = Duration::from_millis(300);

/// Starts a peer for one connection and returns its address.
fn peer(serve: impl FnOnce(UnixStream) + Send + 'static) -> Vec<PeerAddress> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("orlop-test-dbus-{}-{number}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    std::thread::spawn(move || serve(listener.accept().unwrap().0));
    vec![PeerAddress {
        socket: format!("@{name}").into(),
        direct: true,
    }]
}

/// Replies to the authentication as sd-bus does.
fn let_in(stream: &mut UnixStream) {
    let mut greeting = [0; 29];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n");
    stream.write_all(b"DATA\r\nOK 0123456789\r\n").unwrap();
}

/// Reads the bytes of one call.
fn read_call(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = vec![0; 16];
    stream.read_exact(&mut bytes).unwrap();
    let size = wire::message_size(&bytes).unwrap().unwrap();
    bytes.resize(size, 0);
    stream.read_exact(&mut bytes[16..]).unwrap();
    bytes
}

fn ask(peers: &[PeerAddress]) -> Result<MessageBody, Error> {
    Connection::open(peers, "a.b", SHORT)?.call("/p", "i.f", "M", &[])
}

/// Waits until the client closes the connection.
fn linger(mut stream: UnixStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn a_peer_that_never_says_anything_is_given_up() {
    let begin = Instant::now();
    let error = ask(&peer(linger)).unwrap_err();
    assert!(matches!(error, Error::Timeout(SHORT)), "{error}");
    let error = ask(&peer(|mut stream| {
        let_in(&mut stream);
        linger(stream);
    }));
    assert!(matches!(error, Err(Error::Timeout(SHORT))));
    assert!(begin.elapsed() < 100 * SHORT);
}

#[test]
fn a_peer_that_says_something_now_and_then_is_given_up_too() {
    let begin = Instant::now();
    let error = ask(&peer(|mut stream| {
        let_in(&mut stream);
        // Repeatedly send a signal without fields.
        while stream
            .write_all(b"l\x04\0\x01\0\0\0\0\x01\0\0\0\0\0\0\0")
            .is_ok()
        {
            std::thread::sleep(SHORT / 10);
        }
    }));
    assert!(matches!(error, Err(Error::Timeout(SHORT))));
    assert!(begin.elapsed() < 100 * SHORT);
}

#[test]
fn a_queue_that_is_full_is_waited_for_no_longer_than_that() {
    let name = format!("orlop-test-dbus-full-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let socket: OsString = format!("@{name}").into();
    let mut queued = Vec::new();
    while let Ok(one) = socket::connect_stream(&socket) {
        queued.push(one);
    }
    let peers = [PeerAddress {
        socket,
        direct: true,
    }];
    let begin = Instant::now();
    assert!(matches!(ask(&peers), Err(Error::Timeout(SHORT))));
    assert!(begin.elapsed() < 100 * SHORT);
}

#[test]
fn rubbish_and_an_end_are_told_as_such() {
    let after_login = |bytes: &'static [u8]| {
        peer(move |mut stream| {
            let_in(&mut stream);
            read_call(&mut stream);
            stream.write_all(bytes).unwrap();
        })
    };
    assert!(matches!(ask(&after_login(b"")), Err(Error::Closed)));
    assert!(matches!(
        ask(&after_login(b"HTTP/1.1 400 Bad Request\r\n")),
        Err(Error::Malformed(_))
    ));
    assert!(matches!(
        ask(&after_login(
            b"l\x02\0\x01\xff\xff\xff\xff\x01\0\0\0\0\0\0\0"
        )),
        Err(Error::Malformed(_))
    ));
    let rejected = ask(&peer(|mut stream| {
        stream.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
        linger(stream);
    }));
    assert!(matches!(rejected, Err(Error::Rejected(_))));
    let endless = ask(&peer(
        |mut stream| {
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        },
    ));
    assert!(matches!(endless, Err(Error::Malformed(_) | Error::Closed)));
}

#[test]
fn without_a_peer_every_place_is_named() {
    let peer = |socket: &str| PeerAddress {
        socket: socket.into(),
        direct: true,
    };
    let error = ask(&[peer("/nowhere/a"), peer("/nowhere/b")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "connect to /nowhere/a: ENOENT (no such file or directory), /nowhere/b: ENOENT (no such file or directory)"
    );
}

#[test]
fn an_address_names_sockets_and_nothing_else() {
    let sockets = |address: &str| -> Vec<String> {
        parse_addresses(address)
            .unwrap()
            .into_iter()
            .map(|peer| peer.socket.into_string().unwrap())
            .collect()
    };
    assert_eq!(sockets("unix:path=/run/bus"), ["/run/bus"]);
    assert_eq!(
        sockets("unix:path=/a%20b,guid=0f;unix:guid=1,abstract=x"),
        ["/a b", "@x"]
    );
    assert_eq!(sockets("tcp:host=h,port=1;unix:path=/b"), ["/b"]);
    for bad in [
        "",
        "unixexec:path=/bin/sh",
        "tcp:host=h",
        "unix:path=/%zz",
        "unix:dir=/tmp",
        "path=/x",
    ] {
        assert!(parse_addresses(bad).is_err(), "{bad}");
    }
}
