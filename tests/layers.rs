//! Rules for the source: imports point down, unsafe and libc are in one place, files stay short.
//! No runtime is needed here.

use std::fs;
use std::path::{Path, PathBuf};

/// The top modules of the crate, upper layers first. An import may stay in its layer or go down.
const LAYERS: &[&[&str]] = &[
    &["main", "cli", "manual"],
    &["cmd"],
    &["launch", "child", "check"],
    &[
        "plan",
        "cgroup",
        "state",
        "hooks",
        "criu",
        "seal",
        "lsm",
        "spec",
        "intel_rdt",
        "net_devices",
        "views",
        "doctor",
        "inspect",
        "program",
    ],
    &[
        "protocol",
        "detached",
        "diagnosis",
        "origin",
        "error",
        "log",
        "invocation",
        "time",
        "timeline",
        "timens",
        "screen",
        "skipped",
        "annotations",
    ],
    &["sys"],
];

/// Modules that a module may not import although they are below or beside it.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("cmd", &["sys"]),
    ("launch", &["child"]),
    (
        "child",
        &["launch", "spec", "state", "cgroup", "seal", "log"],
    ),
    // The child runs hooks just as the parent does, so `hooks` may import no more than `child`.
    (
        "hooks",
        &["plan", "spec", "state", "cgroup", "seal", "protocol", "log"],
    ),
];

/// Files that consist of tables. They may be longer than 500 lines.
const TABLES: &[&str] = &["src/diagnosis/codes.rs", "src/plan/seccomp_arch/calls.rs"];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, all: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, all);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                all.push((path, text));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    walk(&root.join("src"), &mut all);
    for (path, _) in &mut all {
        *path = path.strip_prefix(root).unwrap().to_owned();
    }
    all.sort();
    all
}

/// Returns the top module that a file belongs to: `plan` for src/plan/caps.rs.
fn top_module(path: &Path) -> String {
    let second = path
        .components()
        .nth(1)
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap();
    second.trim_end_matches(".rs").to_owned()
}

/// Returns the part of a file before its unit tests, without comments.
fn code(text: &str) -> String {
    text.split("#[cfg(test)]")
        .next()
        .unwrap()
        .lines()
        .map(|l| l.split("//").next().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns whether the text contains a word, and not only as a part of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !is_word(c)).any(|w| w == word)
}

/// Returns the top modules named after `crate::`, also in `crate::{a, b::c}`.
fn imports(code: &str) -> Vec<String> {
    let mut all = Vec::new();
    for piece in code.split("crate::").skip(1) {
        let name = |s: &str| {
            s.trim()
                .chars()
                .take_while(|c| is_word(*c))
                .collect::<String>()
        };
        if let Some(group) = piece.strip_prefix('{') {
            let mut depth = 0;
            let mut start = true;
            for (at, c) in group.char_indices() {
                if start && depth == 0 && is_word(c) {
                    all.push(name(&group[at..]));
                    start = false;
                }
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    _ => {}
                }
            }
        } else {
            all.push(name(piece));
        }
    }
    all
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|l| l.contains(&module))
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let own = top_module(&path);
        let Some(own_layer) = layer(&own) else {
            wrong.push(format!("{}: module {own} has no layer", path.display()));
            continue;
        };
        for import in imports(&code(&text)) {
            // Macros and items of the crate root are in no layer.
            let Some(import_layer) = layer(&import) else {
                continue;
            };
            let forbidden = FORBIDDEN
                .iter()
                .any(|(m, list)| *m == own && list.contains(&import.as_str()));
            if import_layer < own_layer || forbidden {
                wrong.push(format!("{}: {own} imports {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns the top modules that exist.
fn modules() -> Vec<String> {
    let mut modules: Vec<String> = sources().iter().map(|(path, _)| top_module(path)).collect();
    modules.sort();
    modules.dedup();
    modules
}

#[test]
fn the_layers_name_the_modules_that_there_are() {
    let mut named: Vec<&str> = LAYERS.concat();
    named.sort_unstable();
    assert_eq!(named, modules());
}

#[test]
fn nothing_of_sys_is_had_by_a_side_door() {
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|(path, _)| top_module(path) != "sys")
        .filter(|(_, text)| {
            let code = code(text);
            let mut lines = code.lines().map(str::trim);
            lines.any(|line| line.starts_with("pub") && line.contains("use crate::sys"))
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_and_libc_live_in_sys_only() {
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|(path, _)| top_module(path) != "sys")
        .filter(|(_, text)| has_word(&code(text), "unsafe") || has_word(&code(text), "libc"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_is_longer_than_500_lines_without_its_tests() {
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|(path, _)| {
            !TABLES.contains(&path.to_str().unwrap()) && !path.ends_with("tests.rs")
        })
        .map(|(path, text)| {
            (
                path,
                text.split("#[cfg(test)]").next().unwrap().lines().count(),
            )
        })
        .filter(|(_, lines)| *lines > 500)
        .map(|(path, lines)| format!("{}: {lines}", path.display()))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_first_what_it_owns() {
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reading_of_imports_understands_groups() {
    let text =
        "use crate::sys::{a, b};\nuse crate::{error, plan::{x, y}, cmd};\nlet x = crate::log::y();";
    assert_eq!(imports(text), ["sys", "error", "plan", "cmd", "log"]);
}

/// Returns the source files and tests that a table in the documentation names but that don't exist.
/// Each row must name a test.
fn missing_in_table(path: &str, header: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join(path)).unwrap();
    let mut missing = Vec::new();
    let rows = table.lines().filter(|line| line.starts_with("| "));
    for row in rows.filter(|row| !row.starts_with(header)) {
        let words = || row.split('`').skip(1).step_by(2);
        for name in words().filter(|word| word.contains("::")) {
            let (module, function) = name.rsplit_once("::").unwrap();
            let file = format!("tests/{}.rs", module.replace("::", "/"));
            let text = fs::read_to_string(root.join(file)).unwrap_or_default();
            if !text.contains(&format!("#[test]\nfn {function}() {{")) {
                missing.push(format!("no test {name}"));
            }
        }
        let files = words().filter(|word| word.starts_with("src/"));
        let gone = files.filter(|file| !root.join(file).is_file());
        missing.extend(gone.map(|file| format!("no file {file}")));
        if !words().any(|word| word.contains("::")) {
            missing.push(format!("no test in the row {row}"));
        }
    }
    missing
}

#[test]
fn the_table_of_the_readme_names_tests_that_there_are() {
    let missing = missing_in_table("tests/README.md", "| feature ");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn each_promise_names_files_and_tests_that_there_are() {
    let missing = missing_in_table("src/SECURITY.md", "| promise ");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// The crate of mutated input compiles the source of this package, so it needs what that needs.
#[test]
fn the_crate_of_mutated_input_has_the_dependencies_of_the_package() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = |file: &str, end: &str| {
        let text = fs::read_to_string(root.join(file)).unwrap();
        let (_, rest) = text.split_once("\n[dependencies]\n").unwrap();
        rest.split_once(end).unwrap().0.trim().to_owned()
    };
    assert_eq!(
        list("tests/fuzz/Cargo.toml", "\n[features]"),
        list("Cargo.toml", "\n[dev-dependencies]")
    );
}

/// The documents that name files of this repository.
const DOCUMENTS: [&str; 4] = [
    "README.md",
    "src/README.md",
    "tests/README.md",
    "integration/vm/README.md",
];

/// Returns the words of a text that are paths of this repository.
fn paths(text: &str) -> Vec<&str> {
    let roots = ["src/", "tests/", "scripts/", "integration/", ".ci/"];
    let separates = |c: char| c.is_whitespace() || "`()[]|,;:\"'".contains(c);
    text.split(separates)
        .filter(|word| roots.iter().any(|root| word.starts_with(root)))
        .map(|word| word.trim_end_matches('.'))
        .collect()
}

#[test]
fn the_files_that_a_document_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    for document in DOCUMENTS {
        let text = fs::read_to_string(root.join(document)).unwrap();
        let named = paths(&text);
        assert!(!named.is_empty(), "{document} names no file");
        let gone = named.iter().filter(|path| !root.join(path).exists());
        missing.extend(gone.map(|path| format!("{document}: {path}")));
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn each_module_has_its_place_in_the_document_of_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let text = fs::read_to_string(root.join("README.md")).unwrap();
    let table: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
    let mut wrong = Vec::new();
    for module in LAYERS.iter().copied().flatten() {
        if !root.join(format!("{module}.rs")).exists() {
            wrong.push(format!("no module {module}"));
        }
        if !table.iter().any(|row| row.contains(&format!("`{module}`"))) {
            wrong.push(format!("src/README.md does not name {module}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Documents of the runtime specification. Comments cite them by file name.
const SPECIFICATION: [&str; 4] = ["config.md", "config-linux.md", "features.md", "runtime.md"];

#[test]
fn no_file_cites_a_document_that_is_not_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = sources();
    for name in DOCUMENTS {
        let text = fs::read_to_string(root.join(name)).unwrap();
        texts.push((name.into(), text));
    }
    for entry in fs::read_dir(root.join("tests")).unwrap().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "rs") {
            texts.push((path.clone(), fs::read_to_string(&path).unwrap()));
        }
    }
    let mut wrong = Vec::new();
    for (path, text) in texts {
        let words = text.split(|c: char| c.is_whitespace() || "`()[],;:\"".contains(c));
        let cited = words.filter(|word| word.ends_with(".md") && *word != ".md");
        for word in cited.filter(|word| !SPECIFICATION.contains(word)) {
            let exists = root.join(word).exists();
            if exists || word.ends_with("README.md") {
                continue;
            }
            wrong.push(format!("{}: {word}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
