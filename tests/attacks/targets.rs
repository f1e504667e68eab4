//! Where mounts go, and what an image or a volume puts in the way.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::{Canary, racing, try_out};

#[test]
fn cve_2019_18837_hostile_things_in_place_of_mount_targets_change_nothing_outside() {
    let mut c = container!();
    let canary = Canary::of(&c);
    let absolute = canary.dir.to_str().unwrap().to_owned();
    c.mount("/target/below", "tmpfs", "tmpfs", &[]);
    c.mount(
        "/file",
        "bind",
        &format!("{absolute}/file"),
        &["bind", "ro"],
    );
    c.edit(|j| {
        j["process"]["cwd"] = json!("/target/work");
        j["linux"]["maskedPaths"] = json!(["/target", "/file"]);
    });
    for (link, file_link) in [
        (absolute.clone(), format!("{absolute}/new")),
        (
            "../../../../../../../..".to_owned(),
            "../../scratch/canary/new".to_owned(),
        ),
        ("target".to_owned(), "file".to_owned()),
        ("/missing/one".to_owned(), "/missing/two".to_owned()),
    ] {
        for (name, to) in [("target", &link), ("file", &file_link)] {
            let path = c.rootfs(name);
            let _ = fs::remove_dir_all(&path);
            let _ = fs::remove_file(&path);
            symlink(to, &path).unwrap();
        }
        try_out(&mut c);
        canary.assert_unchanged(&link);
    }
    for name in ["target", "file"] {
        fs::remove_file(c.rootfs(name)).unwrap();
        nix::unistd::mkfifo(&c.rootfs(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    try_out(&mut c);
    canary.assert_unchanged("fifo");
}

// CVE-2021-30465, CVE-2024-45310, in small
#[test]
fn cve_2021_30465_a_racing_symlink_in_a_shared_volume_brings_no_mount_outside() {
    let mut c = container!();
    let canary = Canary::of(&c);
    let volume = c.scratch().join("volume");
    fs::create_dir_all(volume.join("a")).unwrap();
    symlink(&canary.dir, volume.join("b")).unwrap();
    c.mount("/v", "bind", volume.to_str().unwrap(), &["rbind"]);
    c.mount("/v/a/sub", "tmpfs", "tmpfs", &[]);
    c.mount("/v/a/made", "tmpfs", "tmpfs", &[]);
    c.args(&["/bin/true"]);
    racing(&volume.join("a"), &volume.join("b"), || {
        for _ in 0..40 {
            c.make("run", &[]);
        }
    });
    canary.assert_unchanged("race");
    c.assert_nothing_left();
}
