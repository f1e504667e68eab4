//! Parent: writes the timeline of a start as a trace, which Chrome's tools and Perfetto read.
//! `timeline` collects the stamps, and `cmd::timeline` draws a trace.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;
use serde_json::{Value, json};

use super::Error;
use crate::error::{Failed, failed};
use crate::hooks::{self, HookKind};
use crate::log::Log;
use crate::plan::rootfs::MountOp;
use crate::sys::procfs::{Procfs, errno_of};
use crate::timeline::{self, Phase, Side, Stamp};

/// The largest trace that is read.
const LARGEST: u64 = 16 << 20;

/// The file of `--timeline`.
pub(crate) struct Trace {
    file: File,
    title: String,
}

impl Trace {
    /// Opens the file before the first child exists. Children close the inherited descriptor in
    /// their first step, and exec closes it too.
    pub(crate) fn open(
        path: Option<&Path>,
        command: &str,
        id: &str,
    ) -> Result<Option<Trace>, Error> {
        let Some(path) = path else { return Ok(None) };
        let what = || format!("open --timeline {}", path.display());
        let mut options = OpenOptions::new();
        // The open of a FIFO without a reader fails, and doesn't wait.
        options.custom_flags(OFlag::O_NONBLOCK.bits());
        let file = options.write(true).create(true).truncate(true).open(path);
        let file = file.map_err(|error| failed("open", what)(errno_of(&error)))?;
        let title = format!("orlop {command} {id}");
        Ok(Some(Trace { file, title }))
    }

    /// Writes the spans until now. A failure is only a warning, because the container exists.
    /// `process` is the container's process if it is alive. Its clock may differ from the parent's.
    pub(crate) fn write(self, process: Option<(&Procfs, i32)>, mounts: &[MountOp], log: &Log) {
        timeline::begin_step(Phase::End);
        let Some((stamps, lost)) = timeline::stamps() else {
            return;
        };
        let offset = process.map_or(0, |(proc, pid)| clock_offset(proc, pid));
        let spans = spans(&stamps, offset);
        let trace = trace(&self.title, &spans, lost, mounts);
        let mut file = self.file;
        if let Err(error) = file.write_all(trace.as_bytes()) {
            let failed = failed("write", || "write --timeline".into());
            log.warn(&failed(errno_of(&error)).to_string());
        }
    }
}

/// Returns how far the monotonic clock of a process is ahead of this process's clock, in ns. The
/// difference comes from the offsets of their time namespaces.
fn clock_offset(proc: &Procfs, pid: i32) -> i64 {
    let read = |pid: &str| {
        let text = proc.read(&format!("{pid}/timens_offsets")).ok()?;
        let line = text.lines().find(|line| line.starts_with("monotonic"))?;
        let mut words = line.split_whitespace().skip(1);
        let mut number = || words.next()?.parse::<i64>().ok();
        number()?.checked_mul(1_000_000_000)?.checked_add(number()?)
    };
    let own = read("self").unwrap_or(0);
    read(&pid.to_string()).map_or(0, |offset| offset.saturating_sub(own))
}

/// A stamp with its times in ns since the parent's first stamp.
struct Placed {
    stamp: Stamp,
    begin: u64,
    end: u64,
}

/// Converts the times of all stamps to the parent's clock. Leaves out stamps that are outside the
/// parent's time span, because another process has forged them.
fn spans(stamps: &[Stamp], offset: i64) -> Vec<Placed> {
    let own = |stamp: &&Stamp| stamp.side == Side::Parent;
    let mut parents = stamps.iter().filter(own).map(|stamp| stamp.begin);
    let Some(zero) = parents.next() else {
        return Vec::new();
    };
    let last = parents.next_back().unwrap_or(zero);
    let placed = |time: u64| {
        let all = [time, time.wrapping_sub(offset.cast_unsigned())];
        let fits = |time: &u64| (zero..=last).contains(time);
        all.into_iter().find(fits).map(|time| time - zero)
    };
    // At this stamp the link has closed, so the steps of all other processes have ended.
    let ran = stamps.iter().find(|stamp| stamp.phase == Phase::Finish);
    let over = ran.and_then(|stamp| placed(stamp.begin));
    let mut spans = Vec::new();
    for (at, stamp) in stamps.iter().enumerate() {
        let Some(begin) = placed(stamp.begin) else {
            continue;
        };
        let later = stamps.iter().skip(at + 1);
        let next = |other: &&Stamp| other.is_step && other.side == stamp.side;
        let end = match stamp.is_step {
            true => later.clone().find(next).and_then(|next| placed(next.begin)),
            false => placed(stamp.end),
        };
        let open = over.filter(|over| stamp.side != Side::Parent && *over >= begin);
        let end = end.or(open).unwrap_or(last - zero).max(begin);
        if stamp.phase != Phase::End {
            let stamp = *stamp;
            spans.push(Placed { stamp, begin, end });
        }
    }
    spans
}

/// Returns the text of a trace, with one event for each span. Times are in microseconds.
fn trace(title: &str, spans: &[Placed], lost: usize, mounts: &[MountOp]) -> String {
    let thread = |side: Side| side as u8 + 1;
    let mut events = vec![json!({
        "name": "process_name", "ph": "M", "pid": 1, "tid": 1, "args": { "name": title },
    })];
    for side in [Side::Parent, Side::Intermediate, Side::Child, Side::Born] {
        if spans.iter().any(|span| span.stamp.side == side) {
            events.push(json!({
                "name": "thread_name", "ph": "M", "pid": 1, "tid": thread(side),
                "args": { "name": side.as_str() },
            }));
        }
    }
    let microseconds = |ns: u64| ns as f64 / 1000.0;
    for span in spans {
        let Stamp {
            side, phase, index, ..
        } = span.stamp;
        let mut event = json!({
            "name": name(phase, index, mounts),
            "cat": if span.stamp.is_step { "step" } else { "part" },
            "ph": "X",
            "ts": microseconds(span.begin),
            "dur": microseconds(span.end - span.begin),
            "pid": 1,
            "tid": thread(side),
        });
        if let (Phase::Mount, Some(index), Value::Object(event)) = (phase, index, &mut event) {
            event.insert(
                "args".into(),
                json!({ "config": format!("mounts[{index}]") }),
            );
        }
        events.push(event);
    }
    let whole = json!({ "displayTimeUnit": "ms", "lostSpans": lost, "traceEvents": events });
    whole.to_string() + "\n"
}

/// Returns the name of a span, with the destination of a mount or the kind of a hook.
fn name(phase: Phase, index: Option<u32>, mounts: &[MountOp]) -> String {
    match (phase, index.and_then(|index| usize::try_from(index).ok())) {
        (Phase::Mount, Some(index)) => {
            let destination = mounts
                .get(index)
                .map(|op| op.destination.display().to_string());
            format!("mount {}", destination.unwrap_or_default())
        }
        (Phase::Hook, Some(number)) => {
            let (kind, index) = hooks::hook_of_number(number);
            format!("hook {}[{index}]", kind.map_or("", HookKind::as_str))
        }
        _ => phase.as_str().to_owned(),
    }
}

/// Reads a trace.
pub(crate) fn read(path: &Path) -> Result<Value, Error> {
    let what = || format!("read {}", path.display());
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST).read_to_string(&mut text));
    read.map_err(|error| failed("read", what)(errno_of(&error)))?;
    serde_json::from_str(&text).map_err(|error| {
        Failed::from_sentence(format!("{}: no trace: {error}", path.display())).into()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn stamp(side: Side, phase: Phase, begin: u64, is_step: bool, end: u64) -> Stamp {
        Stamp {
            side,
            phase,
            index: None,
            begin,
            end,
            is_step,
        }
    }

    #[test]
    fn stamps_of_another_clock_are_placed_and_forged_ones_are_left_out() {
        const AHEAD: i64 = 3_600_000_000_000;
        let child = |time: u64| time + AHEAD.unsigned_abs();
        let stamps = [
            stamp(Side::Parent, Phase::Clone, 1000, true, 0),
            stamp(Side::Child, Phase::Join, 1200, true, 0),
            stamp(Side::Child, Phase::Rootfs, child(1300), true, 0),
            stamp(Side::Child, Phase::Mount, child(1400), false, child(1450)),
            stamp(Side::Child, Phase::Exec, child(1500), true, 0),
            stamp(Side::Child, Phase::Mount, 5, false, u64::MAX),
            stamp(Side::Parent, Phase::Finish, 1700, true, 0),
            stamp(Side::Parent, Phase::End, 1800, true, 0),
        ];
        let spans = spans(&stamps, AHEAD);
        let times: Vec<_> = spans.iter().map(|span| (span.begin, span.end)).collect();
        assert_eq!(
            times,
            [
                (0, 700),
                (200, 300),
                (300, 500),
                (400, 450),
                (500, 700),
                (700, 800)
            ]
        );
        let trace = trace("orlop run x", &spans, 0, &[]);
        let trace: Value = serde_json::from_str(&trace).unwrap();
        let events = trace.get("traceEvents").and_then(Value::as_array).unwrap();
        let names: Vec<_> = events
            .iter()
            .filter_map(|event| event.get("name")?.as_str())
            .collect();
        assert_eq!(names.first(), Some(&"process_name"));
        assert_eq!(names.last(), Some(&"write record and pid file"));
    }
}
