//! TCP connections, and how the network is blocked meanwhile.

use std::net::{TcpListener, TcpStream};

use super::outside::{Outside, there};
use super::*;

/// True if this CRIU can't dump TCP sockets on this kernel. Counts the test as skipped then.
fn no_sockets(output: &Output) -> bool {
    let none = output.code != 0 && output.stderr().contains("Can't get 1:");
    if none {
        skipped(&format!("this CRIU on this kernel: {}", output.stderr()));
    }
    none
}

#[test]
fn a_connection_inside_goes_on_with_tcp_established() {
    let mut c = counter!();
    inside::runs(&mut c, "connection");
    run(&c, &[]);
    let mut last = goes_on(&c, 0);
    let refused = checkpoint(&c, &[]);
    if no_sockets(&refused) {
        return;
    }
    refused.exits(1).says("tcp");
    assert_eq!(c.status(), "running");
    last = goes_on(&c, last);
    for _ in 0..2 {
        checkpointed(&c, &["--tcp-established"]);
        restored(&c, &["--tcp-established"]);
        last = goes_on(&c, last);
    }
}

#[test]
fn a_connection_to_the_outside_is_closed_with_tcp_close() {
    let mut c = counter!();
    let outside = Outside::new();
    let listener = there(outside.path(), || {
        TcpListener::bind("127.0.0.1:7002").unwrap()
    });
    c.join_namespace("network", &outside.path());
    inside::runs(&mut c, "connection_out");
    run(&c, &[]);
    let connection = listener.accept().unwrap();
    let last = goes_on(&c, 0);
    let ended = c.rootfs("/ended");
    assert!(!ended.exists());
    let output = checkpoint(&c, &["--tcp-close"]);
    if no_sockets(&output) {
        return;
    }
    output.ok();
    c.wait();
    assert!(!ended.exists());
    restored(&c, &["--tcp-close"]);
    goes_on(&c, last);
    eventually("the end is noticed", || ended.exists());
    drop(connection);
}

#[test]
fn a_connection_that_nobody_has_accepted_is_left_out_with_tcp_skip_in_flight() {
    let mut c = counter!();
    inside::runs(&mut c, "listener");
    run(&c, &[]);
    let last = goes_on(&c, 0);
    let path = format!("/proc/{}/ns/net", c.pid());
    let connection = there(path, || TcpStream::connect("127.0.0.1:7003").unwrap());
    checkpoint(&c, &[]).exits(1).says("In-flight connection");
    goes_on(&c, last);
    let output = checkpoint(&c, &["--tcp-skip-in-flight"]);
    if no_sockets(&output) {
        return;
    }
    output.ok();
    c.wait();
    restored(&c, &[]);
    goes_on(&c, last);
    drop(connection);
}

#[test]
fn the_network_is_blocked_by_the_chosen_method() {
    let c = counter!();
    // A stand-in for iptables-restore notes that it was called.
    let noted = c.scratch().join("noted");
    let dir = fake_criu(&c, "");
    fs::remove_file(dir.join("criu")).unwrap();
    for name in ["iptables-restore", "ip6tables-restore"] {
        let script = format!(
            "#!/bin/sh\necho called >>{}\ncat >/dev/null\n",
            noted.display()
        );
        fs::write(dir.join(name), script).unwrap();
        fs::set_permissions(dir.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
    run(&c, &[]);
    let mut last = goes_on(&c, 0);
    let path = std::env::var("PATH").unwrap();
    for method in ["iptables", "nftables", "skip"] {
        let (images, work) = (c.scratch().join(method), c.scratch().join("work"));
        let mut command = c.command(&["checkpoint", "--leave-running", "--network-lock", method]);
        command.arg("--image-path").arg(&images);
        command.arg("--work-path").arg(&work).arg(&c.id);
        command.env("PATH", format!("{}:{path}", dir.display()));
        let output = c.finish(command);
        if method == "nftables" && output.code != 0 {
            // Without nftables in the kernel, the error shows that CRIU asked for them.
            output.exits(1).says("criu failed to checkpoint");
            let log = fs::read_to_string(work.join("dump.log")).unwrap();
            assert!(log.contains("nftables"), "{log}");
        } else {
            output.ok();
        }
        assert_eq!(noted.exists(), method == "iptables", "{method}");
        let _ = fs::remove_file(&noted);
        last = goes_on(&c, last);
    }
}
