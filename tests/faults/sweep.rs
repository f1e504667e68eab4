//! SIGKILL or an errno at a system call of a command: tests the promises and counts how many held.
//! The everyday run takes a sample with a seed. `ORLOP_TEST_FAULTS=kill` kills at every call, `one`
//! fails every call with one errno, `each` does both, `all` kills and tries all nine errnos. The
//! value may also be a list of `kill` and names of errnos. A long run prints lines of `SO FAR`.
//! `ORLOP_TEST_SEED` repeats a sample. `ORLOP_TEST_FAULT=CONFIGURATION/COMMAND/PROCESS/CALL/FAULT`
//! tries one fault, and a shorter path all faults below it.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

use super::configurations::Subject;
use super::note;
use super::processes::INTERRUPTIBLE;
use super::trace::{Aim, At, Fault, Traced, is_fatal, trace};
use crate::harness::{Container, Output, adopt, kernel};

/// The command that is made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Create,
    Start,
    Run,
    Exec,
    Delete,
}

const VERBS: [Verb; 5] = [
    Verb::Create,
    Verb::Start,
    Verb::Run,
    Verb::Exec,
    Verb::Delete,
];

const ERRNOS: [Errno; 9] = [
    Errno::EINTR,
    Errno::EAGAIN,
    Errno::ENOMEM,
    Errno::EMFILE,
    Errno::ENOSPC,
    Errno::EPERM,
    Errno::EIO,
    Errno::EROFS,
    Errno::ENOSYS,
];

/// The number of faults per command in the everyday run.
const SAMPLE: usize = 10;
/// How long the leftovers of a killed command may take to disappear.
const MOMENT: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Tally {
    tried: usize,
    /// The command had exited before the fault.
    missed: usize,
    /// The command succeeded despite the fault.
    survived: usize,
    /// The command failed without naming the errno: its message named another one or none.
    vague: usize,
    broken: Vec<String>,
}

impl Tally {
    fn held(&self) -> usize {
        self.tried.saturating_sub(self.broken.len())
    }
}

/// The seed of the everyday sample. It is the same each day, so that a change is judged by the
/// points that the one before it held; `ORLOP_TEST_SEED=$(date +%s)` takes others.
const SEED: u64 = 20_261_129;

/// A generator of numbers: xorshift64*.
pub(super) struct Random(u64);

impl Random {
    /// Takes the seed from `ORLOP_TEST_SEED`, or `SEED`, and prints it.
    pub(super) fn new(what: &str) -> Random {
        let seed = match std::env::var("ORLOP_TEST_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => SEED,
        };
        println!("{what}: ORLOP_TEST_SEED={seed}");
        Random(seed | 1)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end
    }
}

#[test]
fn a_fault_at_any_call_of_a_plain_container() {
    sweep("plain");
}

#[test]
fn a_fault_at_any_call_of_a_container_with_a_user_namespace() {
    sweep("user-namespace");
}

#[test]
fn a_fault_at_any_call_of_a_container_with_a_terminal() {
    sweep("terminal");
}

#[test]
fn a_fault_at_any_call_of_a_container_with_six_hooks() {
    sweep("hooks");
}

#[test]
fn a_fault_at_any_call_of_a_container_with_a_seccomp_agent() {
    sweep("agent");
}

#[test]
fn a_fault_at_any_call_of_a_container_of_the_systemd_driver() {
    sweep("systemd");
}

#[test]
fn a_fault_at_any_call_of_a_rootless_container() {
    sweep("rootless");
}

/// The faults to try.
struct Wanted {
    faults: Vec<Fault>,
    all: bool,
    /// Tries one of the errnos at each call, instead of all.
    one: bool,
    only: Option<String>,
}

impl Wanted {
    /// Whether the wanted path and a prefix, which ends in a slash, can agree.
    fn may_begin(&self, prefix: &str) -> bool {
        let only = self.only.as_ref().map(|only| format!("{only}/"));
        only.is_none_or(|only| only.starts_with(prefix) || prefix.starts_with(&only))
    }

    fn includes(&self, name: &str) -> bool {
        let only = self
            .only
            .as_ref()
            .map(|only| format!("{only}/").to_lowercase());
        only.is_none_or(|only| format!("{name}/").to_lowercase().starts_with(&only))
    }

    fn read() -> Wanted {
        let every = || {
            let errnos = ERRNOS.into_iter().map(Fault::Errno);
            [Fault::Kill, Fault::Kill, Fault::Kill]
                .into_iter()
                .chain(errnos)
        };
        let only = std::env::var("ORLOP_TEST_FAULT").ok();
        let one = std::env::var("ORLOP_TEST_FAULTS").is_ok_and(|v| v == "each" || v == "one");
        let (faults, all) = match std::env::var("ORLOP_TEST_FAULTS") {
            Err(_) if only.is_none() => (every().collect(), false),
            Err(_) => (every().skip(2).collect(), true),
            Ok(list) if list == "all" || list == "each" => (every().skip(2).collect(), true),
            Ok(list) if list == "one" => (every().skip(3).collect(), true),
            Ok(list) => {
                let named = |fault: &Fault| list.split(',').any(|name| name == name_of(*fault));
                (every().skip(2).filter(named).collect(), true)
            }
        };
        Wanted {
            faults,
            all,
            one,
            only,
        }
    }
}

fn name_of(fault: Fault) -> String {
    match fault {
        Fault::Kill => "kill".to_owned(),
        Fault::Errno(errno) => format!("{errno:?}"),
    }
}

fn sweep(configuration: &str) {
    let Some(mut subject) = Subject::new(configuration) else {
        return;
    };
    let wanted = Wanted::read();
    let mut random = Random::new(configuration);
    let mut broken = Vec::new();
    for verb in VERBS {
        let prefix = format!("{configuration}/{verb:?}/").to_lowercase();
        if !wanted.may_begin(&prefix) {
            continue;
        }
        let begin = Instant::now();
        let calls = subject.count(verb);
        let mut points: Vec<(Aim, String)> = points(&calls, &wanted, &mut random)
            .into_iter()
            .map(|aim| (aim, name(&prefix, aim)))
            .collect();
        points.retain(|(_, name)| wanted.includes(name));
        let mut tally = Tally::default();
        for (number, (aim, name)) in points.iter().enumerate() {
            if wanted.all && number % 50 == 49 {
                let (tried, held) = (tally.tried, tally.held());
                let all = points.len();
                note(&format!(
                    "SO FAR {prefix} {tried} tried, {held} held, of {all} faults"
                ));
            }
            subject.attempt(verb, *aim, name, &mut tally);
        }
        let counts: Vec<usize> = calls.iter().map(Vec::len).collect();
        let line = format!(
            "FAULTS {prefix} of {counts:?} calls: {} tried, {} held, {} had no effect, {} told by another errno, {} came too late, {} s",
            tally.tried,
            tally.held(),
            tally.survived,
            tally.vague,
            tally.missed,
            begin.elapsed().as_secs()
        );
        note(&line);
        broken.extend(tally.broken);
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Whether a message names an errno or contains its description.
fn tells(said: &str, errno: Errno) -> bool {
    said.contains(&format!("{errno:?}")) || said.contains(&errno.desc().to_lowercase())
}

fn name(prefix: &str, aim: Aim) -> String {
    let at = match aim.at {
        At::Nth(nth) => nth.to_string(),
        At::Of(number, nth) => format!("number {nth} of call {number}"),
    };
    format!("{prefix}{}/{at}/{}", aim.process, name_of(aim.fault))
}

/// Returns every fault at every call, or a sample of them.
fn points(calls: &[Vec<u64>], wanted: &Wanted, random: &mut Random) -> Vec<Aim> {
    let mut all = Vec::new();
    for (process, calls) in calls.iter().enumerate() {
        for (nth, number) in calls.iter().enumerate() {
            let possible = wanted.faults.iter().filter(|f| f.can_happen(*number));
            let mut faults: Vec<Fault> = possible.copied().collect();
            if wanted.one {
                let (kills, errnos): (Vec<Fault>, Vec<Fault>) =
                    faults.into_iter().partition(|fault| *fault == Fault::Kill);
                faults = kills;
                if !errnos.is_empty() {
                    faults.push(errnos[random.below(errnos.len())]);
                }
            }
            all.extend(faults.into_iter().map(|fault| Aim {
                process,
                at: At::Nth(nth),
                fault,
            }));
        }
    }
    if wanted.all || all.len() <= SAMPLE {
        return all;
    }
    (0..SAMPLE).map(|_| all[random.below(all.len())]).collect()
}

impl Subject {
    /// Returns the system calls of a command without a fault.
    fn count(&mut self, verb: Verb) -> Vec<Vec<u64>> {
        self.prepare(verb);
        let traced = self.trace(verb, None);
        traced.output.ok();
        self.clear().unwrap();
        traced.calls
    }

    /// Makes a system call fail once. Returns a line if the command then doesn't do as without.
    fn interrupt(
        &mut self,
        verb: Verb,
        process: usize,
        nth: usize,
        (number, errno): (i64, Errno),
    ) -> Option<String> {
        self.prepare(verb);
        let fault = Fault::Errno(errno);
        let at = At::Of(number, nth);
        let traced = self.trace(verb, Some(Aim { process, at, fault }));
        let (code, said) = (traced.output.code, traced.output.stderr());
        self.clear().unwrap();
        let name = format!("{verb:?}/{process}, number {nth} of call {number}");
        match traced.hit {
            // Later calls of the same kind depend on what waits for what.
            None if nth > 0 => None,
            None => Some(format!("{name} was not made")),
            Some(_) if traced.hung || code != 0 || !said.is_empty() => {
                Some(format!("{name}: {code}: {said}"))
            }
            Some(_) => None,
        }
    }

    /// Brings the container to the state in which a command starts.
    fn prepare(&mut self, verb: Verb) {
        let program = match verb {
            Verb::Run => &["/bin/true"][..],
            _ => &["/bin/sleep", "1000"],
        };
        if self.c.config()["process"]["args"][0] != program[0] {
            self.c.args(program);
        }
        match verb {
            Verb::Create | Verb::Run => {}
            Verb::Start => {
                self.command(Verb::Create).ok();
            }
            Verb::Exec | Verb::Delete => {
                self.command(Verb::Create).ok();
                self.c.start().ok();
            }
        }
    }

    fn arguments(&self, verb: Verb) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        let mut push = |word: &str| words.push(word.to_owned());
        match verb {
            Verb::Create | Verb::Run => {
                push(if verb == Verb::Run { "run" } else { "create" });
                push("--bundle");
                push(self.c.dir().to_str().unwrap());
                push("--pid-file");
                push(self.c.pid_file().to_str().unwrap());
                if verb == Verb::Run && self.has_terminal() {
                    push("--detach");
                }
                self.flags.iter().for_each(|flag| push(flag));
                push(&self.c.id);
            }
            Verb::Start => ["start", &self.c.id].iter().for_each(|word| push(word)),
            Verb::Exec => {
                push("exec");
                if self.has_terminal() {
                    push("--tty");
                    push("--detach");
                }
                self.flags.iter().for_each(|flag| push(flag));
                [&self.c.id, "/bin/true"].iter().for_each(|word| push(word));
            }
            Verb::Delete => ["delete", "--force", &self.c.id]
                .iter()
                .for_each(|word| push(word)),
        }
        words
    }

    fn globals(&self, verb: Verb) -> Vec<&str> {
        match verb {
            Verb::Create | Verb::Run => self.globals.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Runs a command without a fault.
    fn command(&self, verb: Verb) -> Output {
        let mut words = self.globals(verb);
        let arguments = self.arguments(verb);
        words.extend(arguments.iter().map(String::as_str));
        self.c.runtime(&words)
    }

    fn trace(&self, verb: Verb, aim: Option<Aim>) -> Traced {
        let arguments = self.arguments(verb);
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let command: Command = self.c.stopped_command(&self.globals(verb), &words);
        let traced = trace(command, self.c.own_dir(), aim);
        // A pid namespace can't end while it contains a process that nobody has reaped.
        traced
            .pids
            .iter()
            .skip(1)
            .for_each(|pid| adopt(pid.as_raw()));
        traced
    }

    /// Kills the remaining processes and reaps them. Fails if anything is left.
    fn clear(&self) -> Result<(), String> {
        let begin = Instant::now();
        let deleted = self.c.delete(&["--force"]);
        let took = begin.elapsed();
        reap(&self.c);
        self.settle();
        if deleted.code != 0 || deleted.stderr().lines().count() > 0 {
            let said = deleted.stderr();
            return Err(format!("delete --force: code {}: {said}", deleted.code));
        }
        // A long run shares the machine with other work.
        if took > Duration::from_secs(10) && std::env::var_os("ORLOP_TEST_FAULTS").is_none() {
            return Err(format!("delete --force took {took:?}"));
        }
        nothing_left(self)
    }

    fn attempt(&mut self, verb: Verb, aim: Aim, name: &str, tally: &mut Tally) {
        self.prepare(verb);
        let traced = self.trace(verb, Some(aim));
        match traced.hit {
            Some(_) => tally.tried += 1,
            None => tally.missed += 1,
        }
        let mut problems = Vec::new();
        let output = &traced.output;
        let said = output.stderr();
        if traced.hung {
            problems.push("no end in time".to_owned());
        } else if said.contains("panicked") {
            problems.push(format!("a panic: {said}"));
        } else {
            let fatal = traced.hit.is_some_and(is_fatal);
            let judged = match aim.fault {
                Fault::Kill if aim.process == 0 => self.after_death(verb),
                // The command itself still runs and can report the error.
                Fault::Kill => self.after_errno(verb, aim.fault, &traced, true),
                // The create had succeeded: an init that waits for its start ends if a call fails.
                Fault::Errno(_) if aim.process > 0 && self.ended_after_create(verb, output) => {
                    Ok(())
                }
                Fault::Errno(_) => self.after_errno(verb, aim.fault, &traced, fatal),
            };
            problems.extend(judged.err());
            match aim.fault {
                _ if output.code == 0 => tally.survived += 1,
                Fault::Errno(errno) if !fatal && !tells(&said, errno) => {
                    tally.vague += 1;
                    note(&format!("VAGUE {name}: {}", said.trim()));
                }
                _ => {}
            }
        }
        // The promises also include that the container can be deleted and created again.
        problems.extend(self.clear().err());
        if problems.is_empty() && traced.hit.is_some() {
            let again = self.command(Verb::Create);
            if again.code == 0 {
                problems.extend(
                    self.clear()
                        .err()
                        .map(|why| format!("a second time: {why}")),
                );
            } else {
                problems.push(format!("cannot be created again: {}", again.stderr()));
            }
        }
        if !problems.is_empty() {
            let said = said.trim();
            let problems = problems.join("; ");
            let call = traced.hit.map_or(-1, |number| number as i64);
            let code = output.code;
            let line = format!("{name} (call {call}, code {code}, {said:?}): {problems}");
            note(&format!("BROKEN {line}"));
            tally.broken.push(line);
            self.sweep_up();
        }
        for entry in fs::read_dir(self.c.own_dir()).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("std") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Checks that a killed command leaves a container whose state can be queried.
    fn after_death(&self, verb: Verb) -> Result<(), String> {
        let state = self.c.runtime(&["state", &self.c.id]);
        let (out, said) = (state.stdout(), state.stderr());
        match state.code {
            0 => {
                let parsed: Value =
                    serde_json::from_str(&out).map_err(|e| format!("state: {e}: {out}"))?;
                let status = parsed["status"].as_str().unwrap_or_default();
                let known = match verb {
                    Verb::Create | Verb::Run => &["creating", "created", "running", "stopped"][..],
                    Verb::Start => &["created", "running", "stopped"],
                    Verb::Exec => &["running"],
                    Verb::Delete => &["running", "stopped"],
                };
                if known.contains(&status) {
                    Ok(())
                } else {
                    Err(format!("state says {status}"))
                }
            }
            1 if said.contains("does not exist") && said.lines().count() == 1 => match verb {
                Verb::Create | Verb::Run | Verb::Delete => Ok(()),
                Verb::Start | Verb::Exec => Err("the container is gone".to_owned()),
            },
            code => Err(format!("state: code {code}: {out}{said}")),
        }
    }

    /// Checks a command one of whose calls failed. It must either succeed in full, or report the
    /// error in one line and leave nothing.
    fn after_errno(
        &self,
        verb: Verb,
        fault: Fault,
        traced: &Traced,
        may_be_silent: bool,
    ) -> Result<(), String> {
        let (output, ran) = (&traced.output, traced.ran);
        let said = output.stderr();
        if output.code == 0 {
            // Init may have been killed after the command was done.
            return match fault {
                Fault::Kill => self.after_death(verb),
                Fault::Errno(_) => self.after_success(verb),
            };
        }
        let lines = said.lines().filter(|line| !line.contains("level=warning"));
        match lines.count() {
            1 => {}
            0 if may_be_silent => return self.after_death(verb),
            count => return Err(format!("{count} lines")),
        }
        if (128..255).contains(&output.code) && !may_be_silent {
            return Err("ended by a signal".to_owned());
        }
        self.settle();
        match verb {
            // If the program has run, `delete` removes what could not be removed here.
            Verb::Run if ran => self.is_over(),
            Verb::Create | Verb::Run => nothing_left(self),
            // A failing poststart hook stops the container as well.
            Verb::Start if said.contains("poststart hook") => Ok(()),
            Verb::Start | Verb::Exec | Verb::Delete => self.after_death(verb),
        }
    }

    fn after_success(&self, verb: Verb) -> Result<(), String> {
        match verb {
            Verb::Create => {
                self.says("created")?;
                let started = self.c.start();
                if started.code != 0 {
                    return Err(format!("start then fails: {}", started.stderr()));
                }
                self.says("running")
            }
            Verb::Start | Verb::Exec => self.says("running"),
            Verb::Run if self.has_terminal() => Ok(()),
            Verb::Run | Verb::Delete => {
                self.settle();
                nothing_left(self)
            }
        }
    }

    /// True if the command made a container that has stopped since.
    fn ended_after_create(&self, verb: Verb, output: &Output) -> bool {
        matches!(verb, Verb::Create) && output.code == 0 && self.says("stopped").is_ok()
    }

    /// Checks that the container is gone or has stopped.
    fn is_over(&self) -> Result<(), String> {
        let state = self.c.runtime(&["state", &self.c.id]);
        match state.code {
            0 => self.says("stopped"),
            _ if state.stderr().contains("does not exist") => Ok(()),
            _ => Err(format!("state: {}", state.stderr())),
        }
    }

    fn says(&self, status: &str) -> Result<(), String> {
        let state = self.c.runtime(&["state", &self.c.id]);
        if state.code == 0
            && state
                .stdout()
                .contains(&format!("\"status\": \"{status}\""))
        {
            Ok(())
        } else {
            let (out, said) = (state.stdout(), state.stderr());
            Err(format!("state is not {status}: {out}{said}"))
        }
    }

    /// Cleans up, so that one broken promise isn't reported several times.
    fn sweep_up(&self) {
        self.c.sweep();
        let _ = self.c.delete(&["--force"]);
        reap(&self.c);
        self.settle();
        let _ = fs::remove_dir_all(self.c.root());
    }
}

/// Fails if something of the container is still there after a moment.
fn nothing_left(subject: &Subject) -> Result<(), String> {
    let begin = Instant::now();
    loop {
        let leaks = subject.c.leaks();
        if leaks.is_empty() {
            return Ok(());
        }
        if begin.elapsed() > MOMENT {
            return Err(format!("left behind: {}", leaks.join(", ")));
        }
        reap(&subject.c);
        subject.settle();
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Reaps init, if it was reparented to us.
fn reap(c: &Container) {
    let pid = fs::read_to_string(c.pid_file()).unwrap_or_default();
    if let Ok(pid) = pid.parse() {
        let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
    }
}

#[test]
fn an_init_that_cannot_be_looked_at_is_not_taken_for_dead() {
    let Some(mut subject) = Subject::new("plain") else {
        return;
    };
    subject.prepare(Verb::Exec);
    let delete = |aim| {
        let command = subject.c.stopped_command(&[], &["delete", &subject.c.id]);
        trace(command, subject.c.own_dir(), aim)
    };
    let aim = Aim {
        process: 0,
        at: At::Of(nix::libc::SYS_pidfd_open, 0),
        fault: Fault::Errno(Errno::ENOMEM),
    };
    let output = delete(Some(aim)).output;
    output.exits(1).one_line().says("ENOMEM");
    assert_eq!(subject.c.status(), "running");
    subject.clear().unwrap();
}

#[test]
fn a_call_that_is_interrupted_is_made_again() {
    let Some(mut subject) = Subject::new("terminal") else {
        return;
    };
    let mut problems = Vec::new();
    for verb in VERBS {
        for (process, calls) in subject.count(verb).into_iter().enumerate() {
            for (number, errno) in INTERRUPTIBLE {
                // The first of each call in the everyday run, all in a long one.
                let all = calls.iter().filter(|call| **call == number as u64);
                let most = if Wanted::read().all { usize::MAX } else { 1 };
                for nth in 0..all.count().min(most) {
                    problems.extend(subject.interrupt(verb, process, nth, (number, errno)));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn an_init_that_is_killed_at_any_step_fails_create_at_once_with_its_signal() {
    let Some(mut subject) = Subject::new("plain") else {
        return;
    };
    let calls = subject.count(Verb::Create);
    let is_message = |number: &u64| *number == nix::libc::SYS_sendmsg as u64;
    let ready = calls[1].iter().rposition(is_message).unwrap();
    for step in 0..10 {
        let aim = Aim {
            process: 1,
            at: At::Nth(ready * step / 9),
            fault: Fault::Kill,
        };
        let begin = Instant::now();
        let traced = subject.trace(Verb::Create, Some(aim));
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "{:?}",
            begin.elapsed()
        );
        traced.output.exits(1).one_line().says("killed by signal 9");
        nothing_left(&subject).unwrap();
    }
}

#[test]
fn what_fails_behind_the_start_leaves_no_process() {
    let Some(mut subject) = Subject::new("plain") else {
        return;
    };
    for verb in [Verb::Run, Verb::Exec] {
        let aim = Aim {
            process: 0,
            at: At::Of(nix::libc::SYS_signalfd4, 0),
            fault: Fault::Errno(Errno::ENOMEM),
        };
        subject.prepare(verb);
        let sleep = ["/bin/sleep", "1000"];
        let mut words = subject.arguments(verb);
        if verb == Verb::Run {
            subject.c.args(&sleep);
        } else {
            words.truncate(words.len() - 1);
            words.extend(sleep.map(str::to_owned));
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let command = subject.c.stopped_command(&[], &words);
        let output = trace(command, subject.c.own_dir(), Some(aim)).output;
        assert_ne!(output.code, 0);
        output.one_line().says("signalfd: ENOMEM");
        match verb {
            Verb::Run => nothing_left(&subject).unwrap(),
            _ => assert_eq!(kernel::procs(&subject.c.cgroup()).len(), 1),
        }
        subject.clear().unwrap();
    }
}

#[test]
fn an_exec_whose_first_process_is_killed_after_a_birth_ends_all_the_same() {
    let Some(mut subject) = Subject::new("plain") else {
        return;
    };
    let calls = subject.count(Verb::Exec);
    let is_message = |number: &u64| *number == nix::libc::SYS_sendmsg as u64;
    let aim = Aim {
        process: 1,
        at: At::Nth(calls[1].iter().rposition(is_message).unwrap()),
        fault: Fault::Kill,
    };
    subject.prepare(Verb::Exec);
    let traced = subject.trace(Verb::Exec, Some(aim));
    assert!(traced.hit.is_some() && !traced.hung);
    let output = traced.output;
    output.exits(255).one_line().says("killed by signal 9");
    subject.clear().unwrap();
}
