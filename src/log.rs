//! A command's reports to the caller: the log file, and one line on stderr.
//! The other modules write the error texts, and `main` reports the final error through this module.
//!
//! Engines have two requirements. First, the error of a command must be one bare line on stderr, in
//! one write, even with a log file. The reason is that conmon reads stderr once (8191 bytes), and
//! containerd searches the captured text. Second, the log file of a failed command must contain
//! only one record, the error, because podman parses the whole file as one JSON object. So warnings
//! and debug records are written to the file only if `--log-level` or `--debug` requests them, or
//! if no error can follow (`with_warnings`). Without a file, warnings go to stderr, except for
//! commands whose stdout and stderr callers parse together as JSON.

mod service;
mod style;

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::SystemTime;

use nix::fcntl::OFlag;
use serde::Serialize;

use crate::diagnosis::Diagnosis;
use crate::error::{Failed, Violation, failed};
use crate::sys::procfs::errno_of;
use crate::time;

/// The longest line on stderr, including its newline. conmon reads this many bytes at once.
const MAX_LINE_BYTES: usize = 8191;
/// The most bytes of all warnings on stderr, and of one warning. An error after the warnings must
/// still be within the bytes that conmon reads.
const MAX_WARNINGS_BYTES: usize = 2048;
const MAX_WARNING_BYTES: usize = 512;
/// Replaces the middle of a line that is too long.
const CUT_MARK: &str = " [...] ";

/// The format of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// `time="..." level=error msg="..."`
    #[default]
    Text,
    /// The message alone, as in crun's text format.
    Plain,
    /// `{"level":"error","msg":"...","time":"..."}`, with more members if more is known about the
    /// error.
    Json,
}

/// The severity of a record. As a setting, it is the lowest severity that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Debug,
    Warning,
    #[default]
    Error,
}

/// The values of `--log`, `--log-format`, `--log-level` and `--debug`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Settings {
    /// The log file as the caller wrote it, or `file:PATH`, `journald:IDENTIFIER` or
    /// `syslog:IDENTIFIER`, as in crun.
    pub(crate) file: Option<PathBuf>,
    pub(crate) format: Format,
    pub(crate) level: Level,
}

/// The log of one command.
///
/// The file is opened for each record, because a descriptor that stays open could take a number
/// that `--preserve-fds` passes on. Besides, most commands log nothing.
pub(crate) struct Log {
    settings: Settings,
    /// The container of the command, if the command has one.
    container: Option<String>,
    stderr: Rc<StderrWarnings>,
}

/// The warnings on standard error so far.
#[derive(Default)]
struct StderrWarnings {
    bytes: Cell<usize>,
    left_out: Cell<usize>,
}

/// The members of a record. The first three are those of runc. The others are orlop's own, and are
/// absent if they are unknown.
#[derive(Serialize)]
struct Record<'a> {
    level: Level,
    msg: &'a str,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a str>,
}

impl<'a> Record<'a> {
    fn new(level: Level, msg: &'a str, found: Option<&'a Diagnosis>) -> Record<'a> {
        Record {
            level,
            msg,
            time: time::rfc3339(SystemTime::now()),
            code: found.map(|found| found.code.word()),
            phase: found.map(|found| found.phase.as_str()),
            pointer: found.and_then(|found| found.pointer.as_deref()),
            errno: found.and_then(|found| found.errno.as_deref()),
            hint: found.and_then(|found| found.hint.as_deref()),
            container: None,
        }
    }
}

impl Log {
    /// Makes a log with these settings. Opens nothing yet.
    pub(crate) fn new(settings: Settings) -> Log {
        Log {
            settings,
            container: None,
            stderr: Rc::default(),
        }
    }

    /// Returns the log with a container that its records name.
    pub(crate) fn about(mut self, container: Option<&str>) -> Log {
        self.container = container.map(str::to_owned);
        self
    }

    /// Returns the same log for the final cleanup. It writes warnings at any level, as the
    /// runtime-spec ("Lifecycle") requires for poststop. Only the cleanup itself can still fail, so
    /// no error follows that a reader searches for.
    pub(crate) fn with_warnings(&self) -> Log {
        let mut settings = self.settings.clone();
        settings.level = settings.level.min(Level::Warning);
        Log {
            settings,
            container: self.container.clone(),
            stderr: Rc::clone(&self.stderr),
        }
    }

    /// Reports the command's final error: one record in the file, and one bare line on stderr. On a
    /// terminal, the hint follows on a line of its own.
    pub(crate) fn error(&self, msg: &str, found: &Diagnosis) {
        let msg = to_one_line(msg);
        if self.settings.file.is_some() {
            self.record(&Record {
                container: self.container.as_deref(),
                ..Record::new(Level::Error, &msg, Some(found))
            });
        }
        self.stderr.count_left_out(self.settings.format);
        let room = MAX_LINE_BYTES.saturating_sub(self.stderr.bytes.get());
        let line = shorten(&msg, room.saturating_sub(1));
        write_stderr(&style::for_stderr(line, found.hint.as_deref()));
    }

    /// Writes a warning, if the level includes warnings.
    pub(crate) fn warn(&self, msg: &str) {
        self.write_below_error(Level::Warning, msg, None);
    }

    /// Warns about a value that is ignored or changed.
    pub(crate) fn warn_of(&self, violation: &Violation) {
        if Level::Warning >= self.settings.level {
            let found = Diagnosis::of_violation(violation);
            self.write_below_error(Level::Warning, &violation.to_string(), Some(&found));
        }
    }

    /// Writes a debug record, if the level includes debug records.
    pub(crate) fn debug(&self, msg: &str) {
        self.write_below_error(Level::Debug, msg, None);
    }

    fn write_below_error(&self, level: Level, msg: &str, found: Option<&Diagnosis>) {
        if level < self.settings.level {
            return;
        }
        let msg = to_one_line(msg);
        let record = Record {
            container: self.container.as_deref(),
            ..Record::new(level, &msg, found)
        };
        if self.settings.file.is_some() {
            self.record(&record);
            return;
        }
        let line = render(self.settings.format, &record);
        match level {
            Level::Warning => self.stderr.warn(&line),
            Level::Debug | Level::Error => print_stderr_line(&line),
        }
    }

    /// Appends a record to the file. A log that can't be written must neither fail nor block the
    /// command. O_NONBLOCK is for a FIFO without a reader, which would block it.
    fn record(&self, record: &Record<'_>) {
        let Some(path) = &self.settings.file else {
            return;
        };
        let named = path.to_str().unwrap_or_default();
        if let Some((socket, text)) = service::service_entry(named, record.level, record.msg) {
            return service::send_entry(socket, &text);
        }
        let path = named
            .strip_prefix("file:")
            .map_or(path.as_path(), Path::new);
        // std adds O_CLOEXEC.
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o644)
            .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
            .open(path);
        if let Ok(mut file) = file {
            let mut line = render(self.settings.format, record);
            line.push('\n');
            let _ = file.write_all(line.as_bytes());
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if Rc::strong_count(&self.stderr) == 1 {
            self.stderr.count_left_out(self.settings.format);
        }
    }
}

impl StderrWarnings {
    /// Writes a warning to stderr, unless all warnings would exceed `MAX_WARNINGS_BYTES`.
    fn warn(&self, line: &str) {
        let line = shorten(line, MAX_WARNING_BYTES);
        let bytes = self.bytes.get() + line.len() + 1;
        if bytes > MAX_WARNINGS_BYTES {
            self.left_out.set(self.left_out.get() + 1);
            return;
        }
        self.bytes.set(bytes);
        print_stderr_line(&line);
    }

    /// Reports how many warnings were left out.
    fn count_left_out(&self, format: Format) {
        let left_out = self.left_out.take();
        if left_out > 0 {
            let msg = format!("{left_out} more warnings (--log FILE --log-level warning has all)");
            let line = render(format, &Record::new(Level::Warning, &msg, None));
            self.bytes.set(self.bytes.get() + line.len() + 1);
            print_stderr_line(&line);
        }
    }
}

fn render(format: Format, record: &Record<'_>) -> String {
    // Strings and unit variants always serialise.
    let json = |value: &str| serde_json::to_string(value).unwrap_or_default();
    match format {
        Format::Json => serde_json::to_string(record).unwrap_or_default(),
        Format::Plain => record.msg.to_owned(),
        Format::Text => {
            let level = match record.level {
                Level::Debug => "debug",
                Level::Warning => "warning",
                Level::Error => "error",
            };
            format!(
                "time={} level={level} msg={}",
                json(&record.time),
                json(record.msg)
            )
        }
    }
}

/// Writes a command's output to stdout with one call. A closed pipe is an error.
pub(crate) fn print_stdout(text: &str) -> Result<(), Failed> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(|e| failed("write", || "write to stdout".into())(errno_of(&e)))
}

/// Returns the message on one line without control characters. Names in the message may come from a
/// hostile image or config.json.
fn to_one_line(msg: &str) -> String {
    let mut line = String::with_capacity(msg.len());
    for c in msg.trim_end().chars() {
        match c {
            '\n' => line.push(' '),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}

/// Writes a line and its newline with one call. Cuts out the middle of a line that is too long,
/// because the operation is at its front, and the reason that engines search for is at its end.
pub(crate) fn print_stderr_line(line: &str) {
    let mut line = shorten(line, MAX_LINE_BYTES - 1);
    line.push('\n');
    write_stderr(&line);
}

fn write_stderr(text: &str) {
    // There is no way to report a failure of this write.
    let _ = nix::unistd::write(std::io::stderr(), text.as_bytes());
}

fn shorten(line: &str, max: usize) -> String {
    if line.len() <= max {
        return line.to_owned();
    }
    let room = max.saturating_sub(CUT_MARK.len());
    // Find a character boundary, which is at most three bytes away. `get` returns `None` inside a
    // character.
    let head = (0..=room / 2).rev().find_map(|end| line.get(..end));
    let tail = (line.len() - (room - room / 2)..line.len()).find_map(|start| line.get(start..));
    format!(
        "{}{CUT_MARK}{}",
        head.unwrap_or_default(),
        tail.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::diagnosis::Code;

    fn said(level: Level, found: Option<&Diagnosis>) -> Record<'_> {
        Record {
            time: "2026-11-22T02:48:39Z".into(),
            ..Record::new(level, "say \"no\"", found)
        }
    }

    fn lines_of(level: Level, format: Format, speak: impl Fn(&Log)) -> Vec<String> {
        let dir = std::env::temp_dir().join(format!(
            "orlop-log-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("log");
        let _ = std::fs::remove_file(&file);
        speak(&Log::new(Settings {
            file: Some(file.clone()),
            format,
            level,
        }));
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        std::fs::remove_dir_all(&dir).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn records_read_as_those_of_runc() {
        assert_eq!(
            render(Format::Text, &said(Level::Error, None)),
            r#"time="2026-11-22T02:48:39Z" level=error msg="say \"no\"""#
        );
        assert_eq!(
            render(Format::Json, &said(Level::Warning, None)),
            r#"{"level":"warning","msg":"say \"no\"","time":"2026-11-22T02:48:39Z"}"#
        );
        assert_eq!(
            render(Format::Plain, &said(Level::Error, None)),
            "say \"no\""
        );
    }

    #[test]
    fn a_record_of_an_error_says_what_is_known_of_it() {
        let found = Diagnosis {
            pointer: Some("/root/path".into()),
            errno: Some("ENOENT".into()),
            hint: Some("unpack it".into()),
            ..Diagnosis::new(Code::RootMissing)
        };
        let record = Record {
            container: Some("box"),
            ..said(Level::Error, Some(&found))
        };
        assert_eq!(
            render(Format::Json, &record),
            r#"{"level":"error","msg":"say \"no\"","time":"2026-11-22T02:48:39Z","code":"root-missing","phase":"mount","pointer":"/root/path","errno":"ENOENT","hint":"unpack it","container":"box"}"#
        );
        let text = r#"time="2026-11-22T02:48:39Z" level=error msg="say \"no\"""#;
        assert_eq!(render(Format::Text, &record), text);
    }

    #[test]
    fn a_failed_command_leaves_one_record_unless_more_was_asked_for() {
        let speak = |log: &Log| {
            log.debug("a");
            log.warn("b");
            log.error("c", &Diagnosis::new(Code::Usage));
        };
        assert_eq!(lines_of(Level::Error, Format::Json, speak).len(), 1);
        assert_eq!(lines_of(Level::Warning, Format::Json, speak).len(), 2);
        let all = lines_of(Level::Debug, Format::Text, speak);
        assert!(all[0].ends_with("level=debug msg=\"a\""), "{all:?}");
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn a_command_with_nothing_to_say_makes_no_file() {
        assert!(lines_of(Level::Error, Format::Json, |log| log.warn("b")).is_empty());
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_no_failure() {
        Log::new(Settings {
            file: Some("/nonexistent/log".into()),
            ..Settings::default()
        })
        .record(&said(Level::Error, None));
    }

    #[test]
    fn a_message_stays_on_one_line_without_control_characters() {
        assert_eq!(to_one_line("a\nb\u{1b}[31m\r\n"), "a b\\u{1b}[31m");
    }

    #[test]
    fn a_line_that_is_too_long_keeps_its_front_and_its_end() {
        let long = format!(
            "mount {}: ENOENT (no such file or directory)",
            "é".repeat(9000)
        );
        let short = shorten(&long, MAX_LINE_BYTES - 1);
        assert!(short.len() < MAX_LINE_BYTES && short.len() > MAX_LINE_BYTES - 8);
        assert!(short.starts_with("mount éé") && short.ends_with("(no such file or directory)"));
        assert_eq!(shorten("short", 5), "short");
    }
}
