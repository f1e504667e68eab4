//! Load: many containers in parallel and in sequence, many objects, races of commands on one id.
//! The everyday run does a little of it, `ORLOP_TEST_LOAD=long` does all. `ORLOP_TEST_CYCLES` is
//! the length of the soak.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use super::note;
use crate::harness::{Container, adopt, kernel, wait_for};

fn is_long() -> bool {
    std::env::var_os("ORLOP_TEST_LOAD").is_some_and(|value| value == "long")
}

/// Returns the number for the everyday run or for the long run.
fn either(everyday: usize, long: usize) -> usize {
    if is_long() { long } else { everyday }
}

/// The number of containers that are created in parallel.
const BATCH: usize = 8;

#[test]
fn lifecycles_in_parallel_batches_all_succeed_and_leave_nothing() {
    let c = container!();
    let count = either(80, 500);
    for slot in 0..BATCH {
        let mut config = c.config().clone();
        config["linux"]["cgroupsPath"] = json!(format!("{}/{slot}", c.parent_cgroup_path()));
        let file = c.dir().join(format!("{slot}.json"));
        fs::write(file, serde_json::to_vec(&config).unwrap()).unwrap();
    }
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for slot in 0..BATCH {
            let c = &c;
            scope.spawn(move || {
                for number in (slot..count).step_by(BATCH) {
                    lifecycle(c, slot, &format!("load-{number}"));
                }
            });
        }
    });
    c.assert_nothing_left();
    let seconds = begin.elapsed().as_secs();
    note(&format!(
        "LOAD {count} lifecycles in batches of {BATCH}: {seconds} s"
    ));
}

fn lifecycle(c: &Container, slot: usize, id: &str) {
    let pid_file = c.scratch().join(format!("{slot}.pid"));
    let mut create = c.command(&["create", "--config", &format!("{slot}.json"), "--bundle"]);
    create.arg(c.dir()).arg("--pid-file").arg(&pid_file).arg(id);
    c.finish(create).ok();
    c.runtime(&["start", id]).ok();
    c.runtime(&["exec", id, "/bin/true"]).ok();
    adopt(fs::read_to_string(&pid_file).unwrap().parse().unwrap());
    c.runtime(&["delete", "--force", id]).ok();
}

#[test]
fn ten_thousand_state_directories_are_listed_and_slow_down_nothing() {
    const COUNT: usize = 10_000;
    let mut c = container!();
    let cycle = |c: &mut Container| {
        let begin = Instant::now();
        c.create().ok();
        let took = begin.elapsed();
        adopt(c.pid());
        c.delete(&["--force"]).ok();
        took
    };
    let best = |c: &mut Container| (0..5).map(|_| cycle(c)).min().unwrap();
    let alone = best(&mut c);
    c.create().ok();
    adopt(c.pid());
    let record = c.root().join(&c.id).join("state.json");
    let record = fs::read_to_string(record).unwrap();
    c.delete(&["--force"]).ok();
    let name = |number: usize| format!("other-{number}");
    for number in 0..COUNT {
        let dir = c.root().join(name(number));
        fs::create_dir(&dir).unwrap();
        let own = record.replace(&format!("\"{}\"", c.id), &format!("\"{}\"", name(number)));
        fs::write(dir.join("state.json"), own).unwrap();
    }
    let among = best(&mut c);
    let list = || {
        let list = c.command(&["list", "--format", "json"]);
        // Limits descriptors to the number that a shell usually allows.
        let mut limited = Command::new("/bin/sh");
        limited.args(["-c", "ulimit -n 1024; exec \"$@\"", "sh"]);
        limited.arg(list.get_program()).args(list.get_args());
        let begin = Instant::now();
        let listed = c.finish(limited);
        (begin.elapsed(), listed.ok().stdout())
    };
    // On a busy machine only the shortest of a few times counts.
    let lists = [list(), list(), list()];
    let took = lists.iter().map(|(took, _)| *took).min().unwrap();
    let (_, listed) = &lists[0];
    let states: Vec<Value> = serde_json::from_str(listed).unwrap();
    for number in 0..COUNT {
        fs::remove_dir_all(c.root().join(name(number))).unwrap();
    }
    assert_eq!(states.len(), COUNT);
    note(&format!(
        "LOAD {COUNT} state directories: list {took:?}, create {among:?} instead of {alone:?}"
    ));
    // The limit allows for a machine under load.
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(among < alone * 2 + Duration::from_millis(50));
}

#[test]
fn mounts_take_time_by_their_number_and_not_by_its_square() {
    let mut c = container!();
    c.args(&["/bin/true"]);
    let dir = c.scratch().join("source");
    fs::create_dir(&dir).unwrap();
    let most = either(1600, 10_000);
    for number in 0..most {
        fs::create_dir_all(c.rootfs(&format!("/m/{number}"))).unwrap();
    }
    let own = c.config_mounts().clone();
    let mut run = |count: usize| {
        let bind = |number| {
            json!({"destination": format!("/m/{number}"), "type": "bind", "source": dir,
                "options": ["bind", "ro"]})
        };
        c.edit(|j| {
            let mut mounts = own.clone();
            mounts.extend((0..count).map(bind));
            j["mounts"] = json!(mounts);
        });
        let begin = Instant::now();
        c.run().ok();
        begin.elapsed()
    };
    let (few, many) = (run(most / 4), run(most));
    note(&format!(
        "LOAD {} mounts: {few:?}, {most} mounts: {many:?}",
        most / 4
    ));
    // Four times as many mounts. Quadratic code would take sixteen times as long.
    assert!(many < few * 9 + Duration::from_millis(200));
}

#[test]
fn a_host_with_ten_thousand_mounts_costs_no_more_than_the_kernels_copy_of_them() {
    let mut c = container!();
    c.args(&["/bin/true"]);
    let count = either(3000, 10_000);
    let dir = c.scratch();
    let measure = |c: &Container| {
        let best = |make: &dyn Fn() -> Command| {
            let one = || {
                let begin = Instant::now();
                assert!(make().status().unwrap().success());
                begin.elapsed()
            };
            (0..5).map(|_| one()).min().unwrap()
        };
        let run = best(&|| {
            let mut command = c.command(&["run", "--bundle"]);
            command.arg(c.dir()).arg(&c.id);
            command
        });
        let copy = best(&|| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "unchanged", "/bin/true"]);
            command
        });
        (run, copy)
    };
    let (run, copy) = measure(&c);
    // A thread may have a mount namespace of its own.
    let (run_among, copy_among) = std::thread::scope(|scope| {
        let on_thread = || {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
            for number in 0..count {
                let target = dir.join(number.to_string());
                fs::create_dir(&target).unwrap();
                let bind = MsFlags::MS_BIND;
                mount(Some("/bin"), &target, None::<&str>, bind, None::<&str>).unwrap();
            }
            measure(&c)
        };
        scope.spawn(on_thread).join().unwrap()
    });
    note(&format!(
        "LOAD {count} mounts of the host: run {run_among:?} instead of {run:?}, the kernel's copy {copy_among:?} instead of {copy:?}"
    ));
    let (extra, kernels) = (
        run_among.saturating_sub(run),
        copy_among.saturating_sub(copy),
    );
    assert!(extra < kernels * 4 + Duration::from_millis(100));
}

/// The state of the container when two commands start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Nothing,
    Created,
    Running,
}

const CREATE: &[&str] = &["create"];
const START: &[&str] = &["start"];
const KILL: &[&str] = &["kill", "ID", "KILL"];
const EXEC: &[&str] = &["exec", "ID", "/bin/true"];
const PAUSE: &[&str] = &["pause"];
const RESUME: &[&str] = &["resume"];
const UPDATE: &[&str] = &["update", "--pids-limit", "100"];
const DELETE: &[&str] = &["delete", "--force"];
const STATE: &[&str] = &["state"];

/// The container's state, two commands, and how many of them succeed if that is certain.
type Race = (
    From,
    &'static [&'static str],
    &'static [&'static str],
    Option<usize>,
);

const RACES: &[Race] = &[
    (From::Nothing, CREATE, CREATE, Some(1)),
    (From::Nothing, CREATE, DELETE, None),
    (From::Nothing, CREATE, STATE, None),
    (From::Created, START, START, Some(1)),
    (From::Created, START, DELETE, None),
    (From::Created, START, KILL, None),
    (From::Created, START, EXEC, None),
    (From::Running, DELETE, DELETE, Some(2)),
    (From::Running, DELETE, KILL, None),
    (From::Running, DELETE, PAUSE, None),
    (From::Running, DELETE, EXEC, None),
    (From::Running, DELETE, UPDATE, None),
    (From::Running, DELETE, STATE, None),
    (From::Running, DELETE, RESUME, None),
    (From::Running, PAUSE, RESUME, None),
    (From::Running, PAUSE, EXEC, None),
    (From::Running, EXEC, EXEC, Some(2)),
    (From::Running, EXEC, KILL, None),
];

/// The error messages of a command that lost a race.
const LOST: &[&str] = &[
    "already exists",
    "already running",
    "does not exist",
    "container not running",
    "cannot start a container that has stopped",
    "cannot exec in a stopped container",
    "cannot exec in a container that is being created",
    "container not paused",
    "paused",
    "stopped",
    "before it could run the program",
    "by another meanwhile",
    FROZEN,
];

/// The end of the message of an exec whose process is frozen before its program runs.
const FROZEN: &str = "has been frozen for 10 s";

#[test]
fn of_two_commands_at_once_each_wins_or_says_in_a_line_why_not() {
    let mut c = container!();
    let rounds = either(3, 1000);
    let mut wins: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    let controllers = kernel::cgroup_value(&kernel::cgroup2_mount().unwrap(), "cgroup.controllers");
    let has_pids = controllers.split_whitespace().any(|name| name == "pids");
    for (from, first, second, winners) in RACES {
        if !has_pids && [first, second].contains(&&UPDATE) {
            continue;
        }
        for _ in 0..rounds {
            match from {
                From::Nothing => {}
                From::Created => {
                    c.create().ok();
                }
                From::Running => {
                    c.run_detached().ok();
                }
            }
            let begin = Instant::now();
            let both = [first, second].map(|words| spawn(&c, words));
            let codes = both.map(|(mut child, file)| {
                let code = wait_for(&mut child).code().unwrap();
                (code, fs::read_to_string(file).unwrap())
            });
            let won = codes.iter().filter(|(code, _)| *code == 0).count();
            let what = format!("{} and {}", first[0], second[0]);
            // A command that waits in vain takes 10 s. Only an exec whose process a pause has
            // frozen may do so.
            let took = begin.elapsed();
            let froze = codes.iter().any(|(_, said)| said.contains(FROZEN));
            let is_in_time = took < Duration::from_secs(9) || (froze && second[0] == "exec");
            assert!(is_in_time, "{what}: {took:?}: {codes:?}");
            wins.entry(what.clone()).or_default()[won] += 1;
            for (code, said) in &codes {
                let known = LOST.iter().any(|words| said.contains(words));
                let is_told = said.lines().count() == 1 && known;
                // The process of an exec died with the container: its exit code, and no error.
                let is_killed = what.contains("exec") && *code == 137 && said.is_empty();
                assert!(*code == 0 || is_told || is_killed, "{what}: {code}: {said}");
            }
            if let Some(winners) = winners {
                assert_eq!(won, *winners, "{what}: {codes:?}");
            }
            if c.pid_file().exists() {
                adopt(c.pid());
            }
            c.delete(&["--force"]).ok();
            c.assert_nothing_left();
            let _ = fs::remove_file(c.pid_file());
            tidy(&c);
        }
    }
    for (what, [none, one, two]) in wins {
        note(&format!(
            "LOAD {what} at once: {rounds} rounds: {two} both, {one} one, {none} neither"
        ));
    }
}

/// Starts a command with its standard error in a file.
fn spawn(c: &Container, words: &[&str]) -> (std::process::Child, std::path::PathBuf) {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let file = c.scratch().join(format!("race.{number}"));
    let mut all: Vec<&str> = Vec::new();
    let bundle = c.dir().to_str().unwrap();
    all.extend(
        words
            .iter()
            .map(|word| if *word == "ID" { &c.id } else { *word }),
    );
    let pid_file = c.pid_file();
    if words == CREATE {
        all.extend(["--bundle", bundle, "--pid-file", pid_file.to_str().unwrap()]);
    }
    if !words.contains(&"ID") {
        all.push(&c.id);
    }
    let mut command = c.command(&all);
    command.stdout(Stdio::null());
    command.stderr(fs::File::create(&file).unwrap());
    (command.spawn().unwrap(), file)
}

/// Removes the output files of commands.
fn tidy(c: &Container) {
    for dir in [c.own_dir().to_owned(), c.scratch()] {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("std") || name.starts_with("race.") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

#[test]
fn a_soak_of_lifecycles_lets_nothing_grow() {
    let mut c = container!();
    c.id = format!("soak-{}", std::process::id());
    let path = c.cgroup_path();
    c.edit(|j| j["linux"]["cgroupsPath"] = json!(path));
    let count = match std::env::var("ORLOP_TEST_CYCLES") {
        Ok(count) => count.parse().unwrap(),
        Err(_) => either(60, 20_000),
    };
    // First let the caches of the kernel and of the harness fill up.
    (0..20).for_each(|_| cycle(&mut c));
    let own = OwnObjects::count(&c);
    let machine = MachineObjects::count();
    let begin = Instant::now();
    for number in 1..=count {
        cycle(&mut c);
        if number % 1000 == 0 {
            assert_no_more_than(&own, &c);
            let seconds = begin.elapsed().as_secs();
            let grown = MachineObjects::count().since(&machine);
            note(&format!(
                "SO FAR {number} cycles, {seconds} s: own as before; machine: {grown}"
            ));
        }
    }
    let each = begin.elapsed() / count as u32;
    c.assert_nothing_left();
    assert_no_more_than(&own, &c);
    let mut grown = MachineObjects::count().since(&machine);
    let began = Instant::now();
    while is_long() && !grown.above(count).is_empty() && began.elapsed() < MOMENT {
        std::thread::sleep(Duration::from_millis(500));
        grown = MachineObjects::count().since(&machine);
    }
    note(&format!(
        "LOAD {count} cycles of create, start, exec and delete, {} ms each: own files, mounts, \
         cgroups, dying cgroups and keys as before; machine: {grown}",
        each.as_millis(),
    ));
    // In the everyday run, other tests make and end containers at the same time.
    let above = grown.above(count);
    assert!(!is_long() || above.is_empty(), "{above:?}");
}

#[test]
fn the_soak_sees_each_object_that_a_container_leaves() {
    let mut c = container!();
    c.id = format!("seen-{}", std::process::id());
    let path = c.cgroup_path();
    c.edit(|j| j["linux"]["cgroupsPath"] = json!(path));
    let before = OwnObjects::count(&c);
    c.create().ok();
    adopt(c.pid());
    let mount_point = c.scratch().join("mount");
    fs::create_dir(&mount_point).unwrap();
    let bind = MsFlags::MS_BIND;
    mount(Some("/bin"), &mount_point, None::<&str>, bind, None::<&str>).unwrap();
    let with = OwnObjects::count(&c);
    nix::mount::umount2(&mount_point, nix::mount::MntFlags::MNT_DETACH).unwrap();
    assert!(with.files > before.files, "{with:?}");
    assert_eq!(with.mounts, before.mounts + 1);
    assert_eq!(with.cgroups, before.cgroups + 1);
    assert_eq!(with.keys, before.keys + 1);
    // An open directory keeps a cgroup from going when it is removed.
    let dir = fs::File::open(c.cgroup()).unwrap();
    c.delete(&["--force"]).ok();
    let removed = OwnObjects::count(&c);
    assert_eq!(removed.cgroups, before.cgroups);
    assert_eq!(removed.dying_cgroups, before.dying_cgroups + 1);
    drop(dir);
}

/// How long the kernel may take to clean up in the background.
const MOMENT: Duration = Duration::from_secs(30);

/// Fails unless the container has no more objects than before, after a while: the kernel frees
/// cgroups and keys in the background. Some of those before may be gone by now.
#[track_caller]
fn assert_no_more_than(before: &OwnObjects, c: &Container) {
    let begin = Instant::now();
    loop {
        let now = OwnObjects::count(c);
        let is_more = now.files > before.files
            || now.mounts > before.mounts
            || now.cgroups > before.cgroups
            || now.dying_cgroups > before.dying_cgroups
            || now.keys > before.keys;
        if !is_more {
            return;
        }
        assert!(begin.elapsed() < MOMENT, "{now:?} after {before:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn cycle(c: &mut Container) {
    c.create().ok();
    c.start().ok();
    c.exec(&["/bin/true"]).ok();
    adopt(c.pid());
    c.delete(&["--force"]).ok();
    tidy(c);
}

/// The number of objects that can only be the container's, by their names and places.
#[derive(Debug, PartialEq, Eq)]
struct OwnObjects {
    files: usize,
    mounts: usize,
    cgroups: usize,
    dying_cgroups: usize,
    keys: usize,
}

impl OwnObjects {
    fn count(c: &Container) -> OwnObjects {
        let mut files = 0;
        let mut todo = vec![c.own_dir().to_owned()];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(dir).unwrap().flatten() {
                files += 1;
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    todo.push(entry.path());
                }
            }
        }
        let named = |text: &str, name: &str| text.lines().filter(|l| l.contains(name)).count();
        let stat = fs::read_to_string(c.cgroup().parent().unwrap().join("cgroup.stat")).unwrap();
        let number = |key: &str| {
            let value = stat.lines().find_map(|line| line.strip_prefix(key));
            value.unwrap().trim().parse().unwrap()
        };
        OwnObjects {
            files,
            mounts: named(&kernel::host_mountinfo(), c.own_dir().to_str().unwrap()),
            cgroups: number("nr_descendants "),
            dying_cgroups: number("nr_dying_descendants "),
            keys: named(&fs::read_to_string("/proc/keys").unwrap_or_default(), &c.id),
        }
    }
}

/// The machine's objects of the kinds that make up a container, and the memory that they take.
/// Other processes have such objects too, but neither files nor page caches count.
struct MachineObjects(BTreeMap<String, i64>);

/// The kernel's caches of objects that are not made for files.
const CACHES: [&str; 12] = [
    "task_struct",
    "pid",
    "mm_struct",
    "nsproxy",
    "net_namespace",
    "pid_namespace",
    "user_namespace",
    "uts_namespace",
    "mqueue_inode_cache",
    "mnt_cache",
    "mem_cgroup",
    "key_jar",
];

impl MachineObjects {
    fn count() -> MachineObjects {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let mut all = BTreeMap::new();
        for line in read("/proc/slabinfo").lines() {
            let mut words = line.split_whitespace();
            let (Some(name), Some(number)) = (words.next(), words.next()) else {
                continue;
            };
            if let (true, Ok(number)) = (CACHES.contains(&name), number.parse()) {
                all.insert(name.to_owned(), number);
            }
        }
        for line in read("/proc/meminfo").lines() {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default().trim_end_matches(':');
            if ["Percpu", "VmallocUsed", "KernelStack"].contains(&name) {
                let number = words.next().and_then(|word| word.parse().ok());
                all.insert(format!("{name} KiB"), number.unwrap_or(0));
            }
        }
        let keys = read("/proc/key-users");
        // A line has the user, the number of references, and the number of keys before a slash.
        let keys = keys.lines().filter_map(|line| {
            let (number, _) = line.split_whitespace().nth(2)?.split_once('/')?;
            number.parse::<i64>().ok()
        });
        all.insert("keys".to_owned(), keys.sum());
        MachineObjects(all)
    }

    fn since(mut self, before: &MachineObjects) -> MachineObjects {
        for (name, number) in &mut self.0 {
            *number -= before.0.get(name).copied().unwrap_or(0);
        }
        self
    }

    /// What has grown by more than other processes explain. An object that only every fiftieth
    /// cycle leaves shows in a long run, and so does half a KiB from each.
    fn above(&self, cycles: usize) -> Vec<String> {
        let cycles = i64::try_from(cycles).unwrap();
        let allowed = |name: &str| match name.ends_with(" KiB") {
            true => 20_000 + cycles / 2,
            false => 500 + cycles / 50,
        };
        let grown = self
            .0
            .iter()
            .filter(|(name, number)| **number > allowed(name));
        grown
            .map(|(name, number)| format!("{name} {number:+}"))
            .collect()
    }
}

impl std::fmt::Display for MachineObjects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = self
            .0
            .iter()
            .map(|(name, number)| format!("{name} {number:+}"));
        f.write_str(&all.collect::<Vec<_>>().join(", "))
    }
}
