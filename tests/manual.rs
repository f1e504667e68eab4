//! The manual and the completions: every page is well-formed and complete, and shells complete what
//! the table of commands has. What the commands do is tested elsewhere.

use std::path::Path;
use std::process::Command;

use crate::harness::{Container, runtime_path, skipped};

/// Writes all files that packages install, and returns their names.
fn install(c: &Container, share: &Path) -> Vec<String> {
    let printed = |args: &[&str]| {
        let output = c.finish(c.bare_command(args));
        output.ok();
        assert_eq!(output.stderr(), "");
        output.stdout()
    };
    let files = printed(&["generate"]);
    for file in files.lines() {
        let path = share.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, printed(&["generate", file])).unwrap();
    }
    files.lines().map(str::to_owned).collect()
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// The commands, as help lists them.
fn commands(c: &Container) -> Vec<String> {
    let help = c.finish(c.bare_command(&["--help"])).stdout();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let names: Vec<String> = listed
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .collect();
    assert!(names.len() > 15, "{help}");
    names
}

/// The long flags in a text of help.
fn flags(help: &str) -> Vec<String> {
    let words = help
        .lines()
        .filter(|line| line.trim_start().starts_with('-'));
    let words =
        words.flat_map(|line| line.split(|c: char| c.is_whitespace() || ",[]=".contains(c)));
    words
        .filter(|word| word.starts_with("--") && word.len() > 2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_and_flag_is_in_the_manual() {
    let c = container!();
    let share = c.scratch().join("share");
    let files = install(&c, &share);
    let page = |name: &str| {
        let text = std::fs::read_to_string(share.join("man/man1").join(name));
        let text = text.unwrap_or_else(|error| panic!("{name}: {error}"));
        text.replace("\\-", "-")
    };
    let main = page("orlop.1");
    let help = c.finish(c.bare_command(&["--help"])).stdout();
    for flag in flags(&help) {
        assert!(main.contains(&flag), "{flag}");
    }
    for name in commands(&c) {
        assert!(main.contains(&format!("orlop-{name}(1)")), "{name}");
        let text = page(&format!("orlop-{name}.1"));
        let help = c.finish(c.bare_command(&[&name, "--help"])).stdout();
        let flags = flags(&help);
        assert!(flags.iter().any(|flag| flag == "--help"), "{help}");
        for flag in flags {
            assert!(text.contains(&flag), "{name}: {flag}");
        }
        let description = text.split(".SH DESCRIPTION\n").nth(1).unwrap();
        let description = description.split(".SH").next().unwrap();
        assert!(
            description.lines().count() > 1,
            "{name} has no text of its own"
        );
    }
    assert!(files.iter().any(|file| file == "man/man5/orlop-config.5"));
}

#[test]
fn every_page_of_the_manual_is_well_formed() {
    let c = container!();
    let share = c.scratch().join("share");
    let files = install(&c, &share);
    let pages = files.iter().filter(|file| file.starts_with("man/"));
    let pages: Vec<_> = pages.map(|file| share.join(file)).collect();
    if has("man") {
        for page in &pages {
            let mut man = Command::new("man");
            man.args(["--warnings=all", "--local-file"]).arg(page);
            man.env("MANWIDTH", "80").env("LC_ALL", "C.UTF-8");
            let output = man.output().unwrap();
            let (text, complaints) = (output.stdout.len(), output.stderr);
            assert!(output.status.success() && text > 300, "{page:?}");
            assert_eq!(String::from_utf8_lossy(&complaints), "", "{page:?}");
        }
    } else {
        return skipped("no man");
    }
    let mut mandoc = Command::new("mandoc");
    let Ok(output) = mandoc
        .args(["-T", "lint", "-W", "warning"])
        .args(&pages)
        .output()
    else {
        return;
    };
    let complaints = String::from_utf8_lossy(&output.stdout).into_owned();
    // The pages have no date: the same source makes the same bytes.
    let others = complaints
        .lines()
        .filter(|line| !line.contains("missing date"));
    let others: Vec<&str> = others.collect();
    assert!(others.is_empty(), "{}", others.join("\n"));
}

#[test]
fn help_explains_topics() {
    let c = container!();
    let help = |args: &[&str]| c.finish(c.bare_command(args));
    let overview = help(&["--help"]).stdout();
    for topic in ["config", "errors", "annotations", "cgroups", "rootless"] {
        assert!(overview.contains(&format!("\n  {topic} ")), "{overview}");
        let output = help(&["help", topic]);
        output.ok();
        let text = output.stdout();
        assert!(text.lines().count() > 10, "{text}");
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
        assert!(!text.contains('`') && !text.contains(" :: "), "{text}");
    }
    assert!(
        help(&["help", "annotations"])
            .stdout()
            .contains("run.oci.keep_original_groups")
    );
    assert_eq!(
        help(&["help", "run"]).stdout(),
        help(&["run", "--help"]).stdout()
    );
    help(&["help", "errros"])
        .exits(1)
        .says("did you mean \"errors\"?");
    help(&["generate", "man/man1/orlop-nothing.1"])
        .exits(1)
        .says("no such file");
}

/// Asks bash what it completes in a line whose last word is under the cursor.
fn bash(c: &Container, script: &Path, words: &[&str]) -> Vec<String> {
    let text = r#"
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _orlop_with_ids "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut command = Command::new("bash");
    command.args(["--norc", "-c", text, "bash"]).arg(script);
    command.arg(runtime_path()).args(words);
    command
        .env_remove("XDG_RUNTIME_DIR")
        .current_dir(c.scratch());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines.lines().filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_and_ids() {
    let mut c = container!();
    c.create().ok();
    let share = c.scratch().join("share");
    install(&c, &share);
    let script = share.join("bash-completion/completions/orlop");
    let root = c.root().to_str().unwrap().to_owned();
    let complete = |words: &[&str]| bash(&c, &script, words);
    assert_eq!(complete(&["cre"]), ["create"]);
    assert_eq!(complete(&["run", "--detac"]), ["--detach"]);
    assert_eq!(complete(&["start", "--ro"]), ["--root", "--rootless"]);
    let id = [c.id.clone()];
    for command in ["start", "state", "kill", "delete", "exec", "update", "ps"] {
        assert_eq!(complete(&["--root", &root, command, ""]), id, "{command}");
    }
    // bash splits words at `=`.
    assert_eq!(complete(&["--root", "=", &root, "start", ""]), id);
    assert_eq!(
        complete(&["delete", "--root", &root, "--force", &c.id[..4]]),
        id
    );
    assert_eq!(complete(&["exec", "--root", &root, "--env", "x=1", ""]), id);
    // Elsewhere there is another container, or none.
    assert!(complete(&["--root", "/nowhere", "start", ""]).is_empty());
    // The id of a new container is not that of another.
    assert!(!complete(&["--root", &root, "create", ""]).contains(&c.id));
    // A second argument is no id.
    assert!(!complete(&["--root", &root, "kill", &c.id, ""]).contains(&c.id));
    assert!(
        complete(&["kill", ""])
            .iter()
            .all(|word| !word.starts_with('<'))
    );
}

#[test]
fn fish_completes_ids() {
    if !has("fish") {
        return skipped("no fish");
    }
    let mut c = container!();
    c.create().ok();
    let share = c.scratch().join("share");
    install(&c, &share);
    let bin = c.scratch().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(runtime_path(), bin.join("orlop")).unwrap();
    let root = c.root().to_str().unwrap().to_owned();
    let complete = |line: &str| {
        let mut fish = Command::new("fish");
        let text = "set -p PATH $argv[1]; source $argv[2]; complete -C $argv[3]";
        fish.args(["--no-config", "-c", text]).arg(&bin);
        fish.arg(share.join("fish/vendor_completions.d/orlop.fish"))
            .arg(line);
        fish.env("HOME", c.scratch());
        let output = fish.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let lines = String::from_utf8(output.stdout).unwrap();
        let first = |line: &str| line.split('\t').next().unwrap().to_owned();
        lines.lines().map(first).collect::<Vec<_>>()
    };
    assert_eq!(complete("orlop cre"), ["create"]);
    let id = [c.id.clone()];
    assert_eq!(complete(&format!("orlop --root {root} start ")), id);
    assert_eq!(
        complete(&format!("orlop delete --root={root} --force ")),
        id
    );
    assert!(!complete(&format!("orlop --root {root} create ")).contains(&c.id));
    assert!(!complete(&format!("orlop --root {root} kill {} ", c.id)).contains(&c.id));
}

#[test]
fn zsh_completes_ids() {
    if !has("zsh") {
        return skipped("no zsh");
    }
    let mut c = container!();
    c.create().ok();
    let share = c.scratch().join("share");
    install(&c, &share);
    let bin = c.scratch().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(runtime_path(), bin.join("orlop")).unwrap();
    let root = c.root().to_str().unwrap().to_owned();
    // A shell on a terminal of its own, since zsh completes only there.
    let text = r#"
        zmodload zsh/zpty
        zpty z zsh -f -i
        zpty -w z 'PS1= ; PATH='$1':$PATH; fpath=('$2' $fpath); autoload -U compinit; compinit -u -D; echo re''ady'
        zpty -r -m z line '*ready*'
        zpty -w -n z "$3"$'\t\n'
        zpty -r -m z line '*(ociVersion|does not exist|not found)*'
        print -r -- $line
        zpty -d z
    "#;
    let complete = |line: &str| {
        let mut zsh = Command::new("zsh");
        zsh.args(["-f", "-c", text, "zsh"]).arg(&bin);
        zsh.arg(share.join("zsh/site-functions")).arg(line);
        zsh.env("HOME", c.scratch()).env("TERM", "dumb");
        let output = zsh.output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let shown = complete(&format!("orlop --root {root} state {}", &c.id[..3]));
    assert!(shown.contains("ociVersion"), "{shown}");
}
