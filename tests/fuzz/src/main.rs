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
use std::time::Duration;

/// The largest processor time for one input.
const LONGEST: Duration = Duration::from_secs(5);

/// The size of the largest input that is kept and mutated further, in bytes. Doubling would let the
/// inputs grow and slow the fuzzer down.
const LARGEST_KEPT: usize = 64 << 10;

/// The largest number of bytes of an input that a message shows.
const LARGEST_SHOWN: usize = 16 << 10;

/// The current input.
static INPUT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// A generator of numbers: xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    /// A generator whose numbers depend on the input alone.
    pub(crate) fn of_input(input: &[u8]) -> Random {
        // The FNV-1a hash.
        let hash = input.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Random(hash | 1)
    }

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
        eprintln!("{info}\nCRASH: {}", shown(&input));
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

fn shown(input: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(&input[..input.len().min(LARGEST_SHOWN)])
}

/// The processor time of this process, in user space and in the kernel.
fn processor_time() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
    let usage = usage.expect("the usage of this process");
    let times = [usage.user_time(), usage.system_time()];
    let length = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000)
    };
    times.into_iter().map(length).sum()
}

/// Runs a target for the given processor time. Returns the number of crashes.
fn run(name: &str, mut target: Box<dyn targets::Target>, time: Duration, seed: u64) -> usize {
    let mut random = Random(seed | 1);
    let mut corpus = target.seeds();
    let seeds = corpus.len();
    // The indices of the accepted inputs. They are mutated as often as all others, since most
    // mutations end at the first check.
    let mut good = Vec::new();
    let mut coverage = coverage::Coverage::new();
    let (mut executions, mut accepted, mut crashes) = (0, 0, 0);
    let begin = processor_time();
    while processor_time() - begin < time && crashes < 5 {
        let base = match good.is_empty() || random.below(2) == 0 {
            _ if executions < seeds => executions,
            true => random.below(corpus.len()),
            false => *random.of(&good),
        };
        let input = match executions < seeds {
            true => corpus[base].clone(),
            false => target.mutate(corpus[base].clone(), &corpus, &mut random),
        };
        let outcome = run_once(target.as_mut(), &input);
        let is_kept = executions >= seeds && input.len() <= LARGEST_KEPT && corpus.len() < 20_000;
        let is_new = coverage.grows() && is_kept;
        match &outcome {
            Ok(true) if is_new => good.push(corpus.len()),
            Ok(true) if executions < seeds => good.push(executions),
            Ok(_) => {}
            Err(problem) => {
                crashes += 1;
                eprintln!("CRASH {name}: {problem}: {}", shown(&input));
            }
        }
        accepted += u64::from(outcome == Ok(true));
        if is_new {
            corpus.push(input);
        }
        executions += 1;
    }
    println!(
        "FUZZ {name}: seed {seed}: {executions} executions in {} s of processor time, {accepted} accepted, {} inputs kept, {}, {crashes} crashes",
        (processor_time() - begin).as_secs(),
        corpus.len(),
        coverage.summary(),
    );
    crashes
}

/// Runs a target on an input. Returns whether the target accepted it, or the broken promise.
fn run_once(target: &mut dyn targets::Target, input: &[u8]) -> Result<bool, String> {
    if let Ok(mut current) = INPUT.lock() {
        input.clone_into(&mut current);
    }
    let begin = processor_time();
    let accepted = target.run(input)?;
    let took = processor_time() - begin;
    if took > LONGEST {
        return Err(format!("took {took:?}"));
    }
    Ok(accepted)
}
