//! Feeds mutated input to orlop's parsers: configurations, processes, mount options, command lines,
//! keys, frames, seccomp profiles, device rules and records. `fuzz TARGET SECONDS [SEED]` runs one
//! target, or `all`. A crash prints its input and fails.
//!
//! If compiled with `-C instrument-coverage --cfg counted`, the fuzzer keeps input that reaches new
//! code and mutates it further. `scripts/fuzz` builds either way. The runtime has no library, so
//! its source is compiled into this program.
#![allow(dead_code, unused_imports, unused_macros)]

mod coverage;
mod mutation;
mod targets;

// The modules of the runtime. They are at the root of this crate, as in their own.
include!(concat!(env!("OUT_DIR"), "/modules.rs"));

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The time limit for one input, even on a busy machine.
const LONGEST: Duration = Duration::from_secs(5);

/// The current input.
static INPUT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// A generator of numbers: xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end.max(1)
    }

    pub(crate) fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [target, seconds, rest @ ..] = words.as_slice() else {
        eprintln!("fuzz TARGET|all SECONDS [SEED]");
        std::process::exit(2);
    };
    let seconds: u64 = seconds.parse().expect("a number of seconds");
    let clock = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.expect("a clock").as_nanos() as u64
    };
    let seed = rest
        .first()
        .map_or_else(clock, |seed| seed.parse().expect("a seed"));
    // A panic aborts this process, as it does in the runtime.
    std::panic::set_hook(Box::new(|info| {
        let input = INPUT.lock().map(|input| input.clone()).unwrap_or_default();
        eprintln!("{info}\nCRASH: {}", String::from_utf8_lossy(&input));
        targets::clear_up();
    }));
    let mut crashes = 0;
    for (name, make) in targets::ALL {
        if target == "all" || target == name {
            crashes += run(name, make(), Duration::from_secs(seconds), seed);
        }
    }
    targets::clear_up();
    std::process::exit(i32::from(crashes > 0));
}

/// Runs a target for the given time. Returns the number of crashes.
fn run(name: &str, mut target: Box<dyn targets::Target>, time: Duration, seed: u64) -> usize {
    let mut random = Random(seed | 1);
    let mut corpus = target.seeds();
    let mut coverage = coverage::Coverage::new();
    let (mut executions, mut accepted, mut crashes) = (0_u64, 0_u64, Vec::new());
    let begin = Instant::now();
    while begin.elapsed() < time && crashes.len() < 5 {
        let input = if executions < corpus.len() as u64 {
            corpus[executions as usize].clone()
        } else {
            let base = random.of(&corpus).clone();
            target.mutate(base, &corpus, &mut random)
        };
        executions += 1;
        let started = Instant::now();
        if let Ok(mut current) = INPUT.lock() {
            current.clone_from(&input);
        }
        let outcome = target.run(&input);
        let took = started.elapsed();
        let problem = match outcome {
            Err(problem) => Some(problem),
            Ok(_) if took > LONGEST => Some(format!("took {took:?}")),
            Ok(taken) => {
                accepted += u64::from(taken);
                None
            }
        };
        if let Some(problem) = problem {
            let shown = String::from_utf8_lossy(&input);
            eprintln!("CRASH {name}: {problem}: {shown}");
            crashes.push(problem);
        }
        if coverage.grows() && corpus.len() < 20_000 {
            corpus.push(input);
        }
    }
    println!(
        "FUZZ {name}: seed {seed}: {executions} executions in {} s, {accepted} accepted, {} inputs kept, {}, {} crashes",
        begin.elapsed().as_secs(),
        corpus.len(),
        coverage.summary(),
        crashes.len()
    );
    crashes.len()
}
