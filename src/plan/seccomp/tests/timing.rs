//! Measures the time to make and install a filter, and compares it with that of libseccomp.
//! `scripts/bench-seccomp` runs this test. As in a runtime, each process installs one filter.
//! Processes of orlop and of libseccomp take turns.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::libseccomp::{as_numbers, oracle};
use super::*;

/// The environment variable that names the engine whose filter a process of this test installs.
const ENGINE: &str = "ORLOP_BENCH_ENGINE";
const ROUNDS: usize = 60;

#[test]
#[ignore = "for scripts/bench-seccomp"]
fn one_filter_is_made_and_set() {
    let engine = std::env::var(ENGINE).unwrap();
    let mut engines = engines().into_iter();
    let (_, profile) = engines.find(|(name, _)| *name == engine).unwrap();
    let begin = Instant::now();
    let filter = plan(&profile).unwrap();
    let planned = begin.elapsed();
    // The filter applies only to this thread, which ends here.
    crate::sys::seccomp::set_filter(&filter.program, filter.flags).unwrap();
    let all = begin.elapsed();
    let length = filter.program.len();
    let line = format!("{} {} {length}\n", all.as_nanos(), planned.as_nanos());
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Plans a profile with this number of entries three times. Returns the shortest CPU time of this
/// thread.
fn time_to_plan(entries: usize, name: impl Fn(usize) -> String) -> Duration {
    let entry = |index| json!({"names": [name(index)], "action": "SCMP_ACT_ERRNO"});
    let entries: Vec<Value> = (0..entries).map(entry).collect();
    let profile = profile(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": entries}));
    let cpu_time = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let times = (0..3).map(|_| {
        let begin = cpu_time();
        plan(&profile).unwrap();
        cpu_time() - begin
    });
    times.min().unwrap()
}

#[test]
fn the_time_grows_with_the_rules_whether_their_calls_are_known_or_not() {
    for name in ["kill", "no_such_call"] {
        let name_of = |index: usize| match name {
            "kill" => name.to_owned(),
            _ => format!("{name}_{index}"),
        };
        let (few, many) = (time_to_plan(10_000, name_of), time_to_plan(80_000, name_of));
        // There are eight times as many rules; a quadratic algorithm would take 64 times as long.
        assert!(many < 20 * few, "{name}: {few:?} and {many:?}");
    }
}

#[test]
fn calls_that_are_unknown_take_about_the_time_of_known_ones() {
    let known = time_to_plan(50_000, |_| "kill".to_owned());
    let unknown = time_to_plan(50_000, |index| format!("no_such_call_{index}"));
    assert!(
        unknown < 2 * known,
        "{unknown:?}, and {known:?} for known ones"
    );
}

fn ours(engine: &str) -> [u64; 3] {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["one_filter_is_made_and_set", "--ignored"])
        .env(ENGINE, engine)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let numbers: Vec<u64> = text
        .split_whitespace()
        .map(|n| n.parse().unwrap())
        .collect();
    numbers.try_into().unwrap()
}

fn theirs(oracle: &std::path::Path, text: &str) -> u64 {
    let mut child = Command::new(oracle)
        .arg("time")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim().parse().unwrap()
}

fn median<T: Copy + PartialOrd>(mut all: Vec<T>) -> T {
    all.sort_by(|a, b| a.partial_cmp(b).unwrap());
    all[all.len() / 2]
}

#[test]
#[ignore = "for scripts/bench-seccomp"]
fn filters_are_made_and_set_in_a_fifth_of_libseccomps_time() {
    let oracle = oracle("timing").unwrap();
    for (engine, profile) in engines() {
        let text = as_numbers(&profile);
        let (mut ratios, mut all, mut planned, mut other) = (vec![], vec![], vec![], vec![]);
        let mut length = 0;
        for round in 0..ROUNDS {
            let (first, second);
            if round % 2 == 0 {
                first = ours(engine);
                second = theirs(&oracle, &text);
            } else {
                second = theirs(&oracle, &text);
                first = ours(engine);
            }
            let [mine, mine_planned, instructions] = first;
            ratios.push(mine as f64 / second as f64);
            all.push(mine);
            planned.push(mine_planned);
            other.push(second);
            length = instructions;
        }
        let ratio = median(ratios);
        let [all, planned, other] =
            [all, planned, other].map(|times| Duration::from_nanos(median(times)));
        let line = format!(
            "{engine}: {ratio:.3} of libseccomp's time: {all:?}, of it {planned:?} for {length} instructions, against {other:?}\n"
        );
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        assert!(ratio <= 0.2, "{line}");
    }
    std::fs::remove_file(oracle).unwrap();
}
