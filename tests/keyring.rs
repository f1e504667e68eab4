//! The session keyring of a container, as its processes see it in /proc/keys.

use std::fs;
use std::process::Command;

use crate::harness::{Container, adopt, skipped};

/// Returns a container that shows /proc/keys, or None if the kernel has no keyrings.
fn with_keys() -> Option<Container> {
    let mut c = Container::new()?;
    if !std::path::Path::new("/proc/keys").exists() {
        skipped("the kernel has no keyrings");
        return None;
    }
    c.edit(|j| {
        let masked = j["linux"]["maskedPaths"].as_array_mut().unwrap();
        masked.retain(|path| path != "/proc/keys");
    });
    Some(c)
}

/// Returns the serial numbers of the keyrings with this name in the text of /proc/keys.
fn named(keys: &str, name: &str) -> Vec<String> {
    let wanted = format!("{name}:");
    let lines = keys.lines().filter(|line| line.contains(&wanted));
    lines
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect()
}

#[test]
fn exec_makes_no_keyring_of_the_hosts_root_for_a_user_namespace() {
    let Some(mut c) = with_keys() else { return };
    c.user_namespace();
    c.run_detached().ok();
    let file = c.scratch().join("exec.pid");
    let flags = ["--detach", "--pid-file", file.to_str().unwrap()];
    c.exec_with(&flags, &["/bin/sleep", "1000"]).ok();
    adopt(fs::read_to_string(file).unwrap().parse().unwrap());
    // In /proc/keys, the host's root sees only its own keys.
    let keys = fs::read_to_string("/proc/keys").unwrap();
    assert_eq!(named(&keys, &format!("_ses.{}", c.id)), [""; 0]);
}

#[test]
fn init_has_a_session_keyring_of_its_own_and_exec_joins_it() {
    let Some(mut c) = with_keys() else { return };
    c.script("cat /proc/keys; sleep 1000");
    c.run_detached().ok();
    let name = format!("_ses.{}", c.id);
    crate::harness::eventually("init has listed its keys", || {
        !c.payload_output().is_empty()
    });
    let of_init = named(&c.payload_output(), &name);
    assert_eq!(of_init.len(), 1);
    assert_eq!(named(&c.exec_output("cat /proc/keys"), &name), of_init);
}

#[test]
fn without_a_new_keyring_the_callers_stays() {
    let Some(mut c) = with_keys() else { return };
    c.script("cat /proc/keys");
    let output = c.make("run", &["--no-new-keyring"]);
    output.ok();
    assert!(named(&output.stdout(), &format!("_ses.{}", c.id)).is_empty());
}

#[test]
fn a_keyring_goes_with_the_container() {
    let Some(mut c) = with_keys() else { return };
    c.run_detached().ok();
    c.delete(&["--force"]).ok();
    c.wait();
    let name = format!("_ses.{}", c.id);
    crate::harness::eventually("the kernel has freed the keyring", || {
        let keys = Command::new("cat").arg("/proc/keys").output().unwrap();
        named(&String::from_utf8_lossy(&keys.stdout), &name).is_empty()
    });
}
