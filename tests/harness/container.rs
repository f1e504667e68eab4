//! A container of a test: bundle, state root, commands. On drop it checks for leftovers.
//! The kernel's records are in `kernel`.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

use super::command::{self, Output, eventually};
use super::{Bundle, kernel, place};

/// How long a killed process may take to leave /proc.
const MOMENT: Duration = Duration::from_secs(5);

/// One container. It has the methods of its bundle as well, through Deref.
pub(crate) struct Container {
    /// The id that the shorthand methods use.
    pub(crate) id: String,
    bundle: Bundle,
    dir: PathBuf,
    cgroup: String,
    cookie: String,
    env: Vec<(String, String)>,
    payload: Option<Output>,
    /// The user who runs the commands; `None` is the test's own user.
    user: Option<u32>,
}

impl Deref for Container {
    type Target = Bundle;
    fn deref(&self) -> &Bundle {
        &self.bundle
    }
}

impl DerefMut for Container {
    fn deref_mut(&mut self) -> &mut Bundle {
        &mut self.bundle
    }
}

impl Container {
    /// Makes a bundle and an id, but creates nothing yet. Returns `None` and counts the test as
    /// skipped if the machine can run no container.
    pub(crate) fn new() -> Option<Self> {
        if !place::enter() {
            return None;
        }
        let number = place::next_number();
        let id = format!("test-{number}");
        let dir = place::run_dir().join(number.to_string());
        fs::create_dir(&dir).unwrap();
        let cgroup = format!("{}/{number}", place::run_cgroup());
        fs::create_dir(place::cgroup_dir(&cgroup)).unwrap();
        let cookie = format!("ORLOP_TEST_COOKIE={}-{number}", std::process::id());
        let bundle = Bundle::make(
            dir.join("bundle"),
            &place::run_dir().join("template"),
            &format!("{cgroup}/{id}"),
            &cookie,
        );
        Some(Self {
            id,
            bundle,
            dir,
            cgroup,
            cookie,
            env: Vec::new(),
            payload: None,
            user: None,
        })
    }

    /// A directory for the test's own files, outside the bundle and the state root.
    pub(crate) fn scratch(&self) -> PathBuf {
        let dir = self.dir.join("scratch");
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// The parent directory of all directories of the container.
    pub(crate) fn own_dir(&self) -> &Path {
        &self.dir
    }

    /// The state root, passed to every command as --root.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The path of the pid file that the shorthand methods write.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.dir.join("pid")
    }

    /// The directory on the host of the container's cgroup.
    pub(crate) fn cgroup(&self) -> PathBuf {
        place::cgroup_dir(&self.cgroup_path())
    }

    /// linux.cgroupsPath.
    pub(crate) fn cgroup_path(&self) -> String {
        format!("{}/{}", self.cgroup, self.id)
    }

    /// The parent of the container's cgroup, created by the harness.
    pub(crate) fn parent_cgroup_path(&self) -> &str {
        &self.cgroup
    }

    /// A command of the runtime, not yet run, with the global flags and these arguments. Its stdin
    /// is /dev/null.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        command.arg("--root").arg(self.root()).args(args);
        self.dress(&mut command);
        command
    }

    /// A command of the runtime with these global flags and arguments. Its process stops itself
    /// before it executes the runtime.
    pub(crate) fn stopped_command(&self, globals: &[&str], args: &[&str]) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]);
        command.arg(self.program()).arg("--root").arg(self.root());
        command.args(globals).args(args);
        self.dress(&mut command);
        command
    }

    /// A command of the runtime with exactly these arguments.
    pub(crate) fn bare_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        command.args(args);
        self.dress(&mut command);
        command
    }

    fn dress(&self, command: &mut Command) {
        let (key, value) = self.cookie.split_once('=').unwrap();
        command.env(key, value).stdin(Stdio::null());
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        if let Some(user) = self.user {
            // Drops supplementary groups, as the standard library does when a user is set.
            command.gid(user).uid(user);
        }
    }

    /// Sets an environment variable for every command.
    pub(crate) fn set_env(&mut self, key: &str, value: &str) {
        self.env.push((key.to_owned(), value.to_owned()));
    }

    /// The runtime's program, at a path that the commands' user can reach.
    pub(crate) fn program(&self) -> PathBuf {
        match self.user {
            Some(_) => place::public_runtime(),
            None => place::runtime(),
        }
    }

    /// Gives the bundle and its directories to a user other than root, who runs all later commands.
    /// This user has no rights over cgroups.
    pub(crate) fn give_to(&mut self, user: u32) {
        // Other containers of the run share the programs.
        let keep = self.bundle.rootfs("/bin/busybox");
        let mut todo = vec![self.dir.clone()];
        while let Some(path) = todo.pop() {
            if path != keep {
                std::os::unix::fs::lchown(&path, Some(user), Some(user)).unwrap();
            }
            if path.is_dir() && !path.is_symlink() {
                todo.extend(
                    fs::read_dir(&path)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                );
            }
        }
        self.user = Some(user);
    }

    /// Runs a command until it exits.
    #[track_caller]
    pub(crate) fn finish(&self, command: Command) -> Output {
        command::finish(command, &self.dir)
    }

    /// Runs the runtime with these arguments.
    #[track_caller]
    pub(crate) fn runtime(&self, args: &[&str]) -> Output {
        self.finish(self.command(args))
    }

    /// Runs `create`. The command's output includes the payload's.
    #[track_caller]
    pub(crate) fn create(&mut self) -> Output {
        let output = self.make("create", &[]);
        self.payload = Some(output.clone());
        output
    }

    /// Runs `create` or `run` with more flags.
    #[track_caller]
    pub(crate) fn make(&self, verb: &str, flags: &[&str]) -> Output {
        let mut command = self.command(&[verb, "--bundle"]);
        command.arg(self.bundle.dir());
        command.arg("--pid-file").arg(self.pid_file());
        command.args(flags).arg(&self.id);
        self.finish(command)
    }

    /// Runs `start`.
    #[track_caller]
    pub(crate) fn start(&self) -> Output {
        self.runtime(&["start", &self.id])
    }

    /// Runs `run` in the foreground.
    #[track_caller]
    pub(crate) fn run(&self) -> Output {
        self.make("run", &[])
    }

    /// Runs `run --detach`. The command's output includes the payload's.
    #[track_caller]
    pub(crate) fn run_detached(&mut self) -> Output {
        let output = self.make("run", &["--detach"]);
        self.payload = Some(output.clone());
        output
    }

    /// Runs a shell script in the foreground, checks that it succeeds, and returns its output.
    #[track_caller]
    pub(crate) fn output_of(&mut self, script: &str) -> String {
        self.script(script);
        let output = self.run();
        output.ok();
        output.stdout()
    }

    /// The output so far of a created or detached payload.
    pub(crate) fn payload_output(&self) -> String {
        self.payload.as_ref().expect("a created container").stdout()
    }

    /// Runs `exec` with a command line.
    #[track_caller]
    pub(crate) fn exec(&self, args: &[&str]) -> Output {
        self.exec_with(&[], args)
    }

    /// Runs `exec` with a command line, with flags before the id.
    #[track_caller]
    pub(crate) fn exec_with(&self, flags: &[&str], args: &[&str]) -> Output {
        let mut all = vec!["exec"];
        all.extend(flags);
        all.push(&self.id);
        all.extend(args);
        self.runtime(&all)
    }

    /// Runs `exec` with a shell script that must succeed, and returns its output.
    #[track_caller]
    pub(crate) fn exec_output(&self, script: &str) -> String {
        let output = self.exec(&["/bin/sh", "-c", script]);
        output.ok();
        output.stdout()
    }

    /// Runs `kill` with a signal.
    #[track_caller]
    pub(crate) fn kill(&self, signal: &str) -> Output {
        self.runtime(&["kill", &self.id, signal])
    }

    /// Runs `delete` with flags.
    #[track_caller]
    pub(crate) fn delete(&self, flags: &[&str]) -> Output {
        let mut all = vec!["delete"];
        all.extend(flags);
        all.push(&self.id);
        self.runtime(&all)
    }

    /// The output of `state`. It must be JSON, with nothing else on either stream.
    #[track_caller]
    pub(crate) fn state(&self) -> Value {
        let output = self.runtime(&["state", &self.id]);
        output.ok();
        assert_eq!(output.stderr(), "");
        serde_json::from_str(&output.stdout()).unwrap()
    }

    /// The status in `state`.
    #[track_caller]
    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// The pid in the pid file.
    #[track_caller]
    pub(crate) fn pid(&self) -> i32 {
        let text = fs::read_to_string(self.pid_file()).expect("a pid file");
        text.parse().unwrap_or_else(|_| panic!("pid file {text:?}"))
    }

    /// Reaps init, which was reparented to the test. Returns its exit code, or 128 plus the signal.
    #[track_caller]
    pub(crate) fn wait(&self) -> i32 {
        let pid = Pid::from_raw(self.pid());
        let mut code = None;
        eventually("init exits", || {
            code = match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => Some(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => Some(128 + signal as i32),
                Ok(_) => None,
                Err(e) => {
                    panic!("waitpid {pid}: {e}: init isn't a child of the caller's subreaper")
                }
            };
            code.is_some()
        });
        code.unwrap()
    }

    /// Waits until init is dead, reaped or not.
    #[track_caller]
    pub(crate) fn wait_dead(&self) {
        let pid = self.pid();
        eventually("init dies", || !kernel::alive(pid));
    }

    /// Waits until the payload has made a file in the rootfs.
    #[track_caller]
    pub(crate) fn wait_file(&self, path: &str) {
        let path = self.rootfs(path);
        eventually(&format!("{} appears", path.display()), || path.exists());
    }

    /// The names in the state root.
    pub(crate) fn root_entries(&self) -> Vec<String> {
        fs::read_dir(self.root())
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            // crun keeps a directory of its own there, for masked paths.
            .filter(|name| name != ".empty-directory")
            .collect()
    }

    /// The leftovers of the container, one line each.
    pub(crate) fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        for (pid, line) in kernel::processes_with_environment(&self.cookie) {
            leaks.push(format!("process {pid}: {line}"));
        }
        for dir in kernel::cgroups_below(&place::cgroup_dir(&self.cgroup)) {
            leaks.push(format!(
                "cgroup {}: processes {:?}",
                dir.display(),
                kernel::procs(&dir)
            ));
        }
        let own = self.dir.to_str().unwrap();
        for line in kernel::host_mountinfo().lines() {
            if names(line, own) {
                leaks.push(format!("mount {line}"));
            }
        }
        for name in self.root_entries() {
            leaks.push(format!("state {name}"));
        }
        leaks
    }

    /// The leftovers after a short wait. A killed process may need a moment to leave /proc.
    pub(crate) fn lasting_leaks(&self) -> Vec<String> {
        let begin = Instant::now();
        loop {
            let leaks = self.leaks();
            if leaks.is_empty() || begin.elapsed() > MOMENT {
                return leaks;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Fails the test if anything of the container is left, for instance after a failed create.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        let leaks = self.lasting_leaks();
        assert!(leaks.is_empty(), "left behind:\n{}", leaks.join("\n"));
    }

    /// Kills and removes the runtime's leftovers, so that one failure does not cause others.
    pub(crate) fn sweep(&self) {
        for dir in kernel::cgroups_below(&place::cgroup_dir(&self.cgroup)) {
            let _ = fs::write(dir.join("cgroup.freeze"), "0");
            let _ = fs::write(dir.join("cgroup.kill"), "1");
            for _ in 0..100 {
                if fs::remove_dir(&dir).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        for (pid, _) in kernel::processes_with_environment(&self.cookie) {
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        }
        for mount in kernel::parse_mountinfo(&kernel::host_mountinfo())
            .iter()
            .rev()
        {
            if names(&mount.line, self.dir.to_str().unwrap()) {
                let _ =
                    nix::mount::umount2(Path::new(&mount.target), nix::mount::MntFlags::MNT_DETACH);
            }
        }
    }
}

/// Whether a line of mountinfo names a directory or a path below it.
fn names(line: &str, dir: &str) -> bool {
    line.split(' ').any(|field| {
        field
            .strip_prefix(dir)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

impl Drop for Container {
    fn drop(&mut self) {
        let mut problems = Vec::new();
        let mut ids = self.root_entries();
        if !ids.contains(&self.id) {
            ids.push(self.id.clone());
        }
        for id in ids {
            let command = self.command(&["delete", "--force", &id]);
            match command::try_finish(command, &self.dir) {
                Ok(output) if output.code == 0 => {}
                Ok(output) => problems.push(format!(
                    "delete --force {id}: exit code {}: {}",
                    output.code,
                    output.stderr()
                )),
                Err(message) => problems.push(message),
            }
        }
        let pid = fs::read_to_string(self.pid_file()).unwrap_or_default();
        if let Ok(pid) = pid.parse() {
            let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
        }
        let leaks = self.lasting_leaks();
        if !leaks.is_empty() {
            problems.push(format!("left behind:\n{}", leaks.join("\n")));
            self.sweep();
        }
        let _ = fs::remove_dir(place::cgroup_dir(&self.cgroup));
        let _ = fs::remove_dir_all(&self.dir);
        place::leave();
        if !problems.is_empty() && !std::thread::panicking() {
            panic!("{}", problems.join("\n"));
        }
    }
}
