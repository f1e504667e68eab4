//! `check`: prints every problem of a bundle, with its line and column, for people or as JSON.
//! `crate::check` finds the problems.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Error, print_stdout};
use crate::check::{self, Found, Problem};
use crate::diagnosis::Diagnosis;
use crate::doctor::report::{Report, VERSION};
use crate::invocation::{CheckArgs, Globals};
use crate::screen::{Colour, Paint, ascii_json, visible};
use crate::spec;

/// The exit code if the container could not run.
const REFUSED: i32 = 1;

/// The output of the command.
#[derive(Serialize)]
struct Answer {
    bundle: String,
    config: String,
    errors: usize,
    warnings: usize,
    findings: Vec<Finding>,
}

/// One problem. It has the members of a log record, and the position in config.json.
#[derive(Serialize)]
struct Finding {
    severity: &'static str,
    code: &'static str,
    phase: &'static str,
    msg: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Finding {
    fn new(severity: &'static str, msg: String, diagnosis: Diagnosis) -> Finding {
        Finding {
            severity,
            code: diagnosis.code.word(),
            phase: diagnosis.phase.as_str(),
            msg,
            pointer: diagnosis.pointer,
            line: None,
            column: None,
            errno: diagnosis.errno,
            hint: diagnosis.hint.map(Into::into),
        }
    }
}

/// Checks a bundle. Returns 0 if the container could run, with or without warnings, else 1.
pub(crate) fn check(globals: &Globals, args: &CheckArgs) -> Result<i32, Error> {
    let config = args.config.as_ref().map(|file| args.bundle.join(file));
    let config = config.unwrap_or_else(|| args.bundle.join(spec::FILE));
    let report = args.host.as_deref().map(report).transpose()?;
    let request = check::Request {
        bundle: &args.bundle,
        config: &config,
        cgroup_driver: globals.cgroup_driver,
        rootless: globals.rootless,
        other_host: report.as_ref(),
    };
    let findings = match check::examine(&request) {
        Ok((examined, found)) => located(&examined, found.into_iter().map(finding).collect()),
        Err(error) => vec![unread(error)],
    };
    let count = |severity| {
        let all = findings.iter();
        all.filter(|finding| finding.severity == severity).count()
    };
    let answer = Answer {
        bundle: args.bundle.display().to_string(),
        config: config.display().to_string(),
        errors: count(ERROR),
        warnings: count(WARNING),
        findings,
    };
    if args.json {
        let text = serde_json::to_string_pretty(&answer).unwrap_or_default();
        print_stdout(&(ascii_json(&text) + "\n"))?;
    } else {
        print_stdout(&layout(&answer, Paint::of_stdout()))?;
    }
    Ok(if answer.errors == 0 { 0 } else { REFUSED })
}

const ERROR: &str = "error";
const WARNING: &str = "warning";

/// Reads the report of another host's `orlop doctor --json`.
fn report(path: &std::path::Path) -> Result<Report, Error> {
    let refuse = |problem: String| Error::BadFlag(format!("--host {}: {problem}", path.display()));
    let text = spec::text_of(path)?;
    let report: Report = serde_json::from_str(&text)
        .map_err(|error| refuse(format!("not the output of orlop doctor --json: {error}")))?;
    match report.version {
        VERSION => Ok(report),
        other => Err(refuse(format!(
            "version {other} of the report is not supported (expected {VERSION})"
        ))),
    }
}

/// Converts a problem to a finding, with the message and the diagnosis that `create` would report.
fn finding(found: Found) -> Finding {
    let severity = if found.is_warning { WARNING } else { ERROR };
    let error = match found.problem {
        Problem::Violation(violation) => {
            let diagnosis = Diagnosis::of_violation(&violation);
            return Finding::new(severity, violation.to_string(), diagnosis);
        }
        Problem::OtherHost(violation, hint) => {
            let mut diagnosis = Diagnosis::of_violation(&violation);
            diagnosis.hint = hint.map(Into::into);
            return Finding::new(severity, violation.to_string(), diagnosis);
        }
        Problem::Failed(failed) => Error::Failed(failed),
        Problem::Launch(error) => Error::Launch(error),
        Problem::Cgroup(error) => Error::Cgroup(error),
        Problem::Host(error) => Error::Host(error),
    };
    Finding::new(severity, error.to_string(), error.diagnose())
}

/// Makes the finding for a configuration that can't be read or isn't JSON. The message of the JSON
/// library ends with the position: `at line 3 column 7`.
fn unread(error: spec::Error) -> Finding {
    let error = Error::Spec(error);
    let mut finding = Finding::new(ERROR, error.to_string(), error.diagnose());
    if let Some((_, place)) = finding.msg.rsplit_once(" at line ")
        && let Some((line, column)) = place.split_once(" column ")
    {
        (finding.line, finding.column) = (line.parse().ok(), column.parse().ok());
    }
    finding
}

/// Adds lines and columns, and sorts the findings by them.
fn located(examined: &spec::Examined, mut findings: Vec<Finding>) -> Vec<Finding> {
    let pointers: Vec<String> = findings
        .iter()
        .filter_map(|finding| finding.pointer.clone())
        .collect();
    let position = examined.positions(pointers.iter().map(String::as_str));
    for finding in &mut findings {
        if let Some(found) = finding.pointer.as_deref().and_then(&position) {
            (finding.line, finding.column) = (Some(found.line), Some(found.column));
        }
    }
    findings.sort_by_key(|finding| (finding.line, finding.column));
    findings
}

/// Formats the findings for people: one line for each, and its hint on the next line.
fn layout(answer: &Answer, paint: Paint) -> String {
    let mut text = String::new();
    for finding in &answer.findings {
        let place = match (finding.line, finding.column) {
            (Some(line), Some(column)) => format!("{line}:{column}: "),
            _ => String::new(),
        };
        let colour = match finding.severity {
            ERROR => Colour::Red,
            _ => Colour::Yellow,
        };
        let severity = paint.paint(colour, finding.severity);
        let (msg, code) = (visible(&finding.msg), finding.code);
        let _ = writeln!(text, "{place}{severity}: {msg} [{code}]");
        if let Some(hint) = &finding.hint {
            let _ = writeln!(text, "    hint: {}", visible(hint));
        }
    }
    let number = |count: usize, word: &str| match count {
        1 => format!("1 {word}"),
        count => format!("{count} {word}s"),
    };
    let (errors, warnings) = (answer.errors, answer.warnings);
    let verdict = match (errors, warnings) {
        (0, 0) => "no problems found".to_owned(),
        (errors, warnings) => {
            format!("{}, {}", number(errors, ERROR), number(warnings, WARNING))
        }
    };
    let _ = writeln!(text, "{}: {verdict}", visible(&answer.config));
    text
}
