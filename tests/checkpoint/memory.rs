//! Memory that is written elsewhere, earlier or later than the rest.

use std::io::PipeReader;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::harness::adopt;

/// A container whose memory is known. Returns None and counts the test as skipped if CRIU or the
/// kernel lacks the feature.
fn remembering(feature: &str) -> Option<Container> {
    let mut c = counter()?;
    if !feature.is_empty() {
        let check = ["check", "--feature", feature];
        let check = Command::new("criu").args(check).output().unwrap();
        if !check.status.success() {
            let why = String::from_utf8_lossy(&check.stderr).into_owned();
            skipped(&format!("criu check --feature {feature}: {}", why.trim()));
            return None;
        }
    }
    inside::runs(&mut c, "memory");
    Some(c)
}

/// Starts a command with a pipe as descriptor 9. Waits until it has written a zero byte there.
fn start_with_status(command: &Command) -> (std::process::Child, PipeReader) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "exec \"$@\" 9>&1 >/dev/null 2>&1", "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    let set = command.get_envs();
    shell.envs(set.filter_map(|(key, value)| Some((key, value?))));
    shell.stdin(Stdio::null()).stdout(writer);
    let child = shell.spawn().unwrap();
    drop(shell);
    let mut byte = [1];
    reader.read_exact(&mut byte).unwrap();
    assert_eq!(byte, [0]);
    (child, reader)
}

/// A port that is free now.
fn port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn criu(words: &[&str], port: u16) -> Command {
    let mut command = Command::new("criu");
    command.args(words).args(["--address", "127.0.0.1"]);
    command.args(["--port", &port.to_string()]);
    command
}

/// The bytes on disk of the files with memory.
fn size(directory: &str) -> u64 {
    let files = fs::read_dir(directory).unwrap().map(|file| file.unwrap());
    let pages = files.filter(|file| file.file_name().to_str().unwrap().starts_with("pages-"));
    pages
        .map(|file| file.metadata().unwrap().blocks() * 512)
        .sum()
}

#[test]
fn memory_moves_when_it_is_used_with_lazy_pages() {
    let Some(mut c) = remembering("uffd-noncoop") else {
        return;
    };
    let all = kernel::status(std::process::id() as i32, "CapEff");
    if u64::from_str_radix(&all, 16).unwrap() & 1 << 24 == 0 {
        return skipped("CRIU can't enlarge its pipes without CAP_SYS_RESOURCE");
    }
    run(&c, &[]);
    let first = c.pid();
    let last = goes_on(&c, 0);
    let (images, port) = (images(&c), port());
    let server = format!("127.0.0.1:{port}");
    let mut dump = c.command(&["checkpoint", "--lazy-pages", "--status-fd", "9"]);
    dump.args(["--page-server", &server, "--image-path", &images, &c.id]);
    let (mut dump, _status) = start_with_status(&dump);
    // The memory isn't in the files.
    assert!(size(&images) < 8 << 20);
    assert_eq!(c.status(), "running");
    let mut daemon = criu(&["lazy-pages", "--page-server", "-D", &images], port);
    daemon.stdout(Stdio::null()).stderr(Stdio::null());
    let mut daemon = daemon.spawn().unwrap();
    let socket = Path::new(&images).join("lazy-pages.socket");
    eventually("the daemon listens", || socket.exists());
    // The first container is there until its last page is gone.
    let path = format!("{}/other", c.parent_cgroup_path());
    c.edit(|j| j["linux"]["cgroupsPath"] = json!(path));
    let pid_file = c.scratch().join("pid");
    let mut all = vec![
        "restore",
        "--detach",
        "--lazy-pages",
        "--image-path",
        &images,
    ];
    all.extend([
        "--work-path",
        &images,
        "--bundle",
        c.dir().to_str().unwrap(),
    ]);
    all.extend(["--pid-file", pid_file.to_str().unwrap(), "other"]);
    c.runtime(&all).ok();
    adopt(fs::read_to_string(&pid_file).unwrap().parse().unwrap());
    assert!(wait_for(&mut daemon).success());
    assert!(wait_for(&mut dump).success());
    assert_eq!(c.wait(), 128 + 9);
    assert!(!kernel::alive(first));
    goes_on(&c, last);
    c.runtime(&["delete", "--force", "other"]).ok();
}

#[test]
fn memory_goes_to_a_page_server() {
    let Some(c) = remembering("") else { return };
    run(&c, &[]);
    let last = goes_on(&c, 0);
    let elsewhere = c.scratch().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let port = port();
    let directory = elsewhere.to_str().unwrap();
    let words = ["page-server", "-D", directory, "--status-fd", "9"];
    let (mut server, _status) = start_with_status(&criu(&words, port));
    checkpointed(&c, &["--page-server", &format!("127.0.0.1:{port}")]);
    assert!(wait_for(&mut server).success());
    assert!(size(directory) > 16 << 20);
    let images = PathBuf::from(images(&c));
    assert_eq!(size(images.to_str().unwrap()), 0);
    for file in fs::read_dir(&elsewhere).unwrap() {
        let file = file.unwrap();
        if file
            .path()
            .extension()
            .is_some_and(|extension| extension == "img")
        {
            fs::copy(file.path(), images.join(file.file_name())).unwrap();
        }
    }
    restored(&c, &[]);
    goes_on(&c, last);
}

#[test]
fn a_later_dump_has_what_was_written_since_and_auto_dedup_frees_that_in_the_earlier() {
    let Some(c) = remembering("mem_dirty_track") else {
        return;
    };
    run(&c, &[]);
    let last = goes_on(&c, 0);
    let first = c.scratch().join("first");
    let first = first.to_str().unwrap();
    c.runtime(&["checkpoint", "--pre-dump", "--image-path", first, &c.id])
        .ok();
    let before = size(first);
    assert!(before > 16 << 20, "{before}");
    let last = goes_on(&c, last);
    checkpointed(&c, &["--parent-path", "../first", "--auto-dedup"]);
    let (earlier, later) = (size(first), size(&images(&c)));
    // The 16 MB that stay as they are aren't in the later dump.
    assert!(later + (12 << 20) < before, "{later} of {before}");
    // The 4 MB that are written all the time are in the later dump.
    assert!(earlier + (3 << 20) < before, "{earlier} of {before}");
    restored(&c, &["--auto-dedup"]);
    goes_on(&c, last);
    // What was restored is freed in both.
    assert!(size(first) < earlier);
}
