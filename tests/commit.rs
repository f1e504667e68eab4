//! The commit that `--version` of a release build names, as the build script reads it from git's
//! files.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../scripts/commit.rs"]
#[allow(dead_code, reason = "main is for cargo")]
mod script;

const OLD: &str = "1111111111111111111111111111111111111111";
const NEW: &str = "2222222222222222222222222222222222222222";

/// A directory of this test, with these files below it.
fn checkout(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("orlop-commit-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir(&dir).unwrap();
    for (path, text) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

/// The commit that is found, and the files below the directory that say so.
fn found(dir: &Path, below: &str) -> Option<(String, Vec<String>)> {
    let commit = script::find_commit(&dir.join(below))?;
    let file = |file: &PathBuf| {
        let file = file.canonicalize().unwrap();
        file.strip_prefix(dir.canonicalize().unwrap())
            .unwrap()
            .display()
            .to_string()
    };
    Some((commit.id, commit.files.iter().map(file).collect()))
}

#[test]
fn the_commit_is_found_in_a_branch_a_detached_head_and_packed_references() {
    let packed = format!(
        "# pack-refs with: peeled\n{OLD} refs/heads/main2\n{NEW} refs/heads/main\n^{OLD}\n"
    );
    let on_main = (".git/HEAD", "ref: refs/heads/main\n");
    let new = format!("{NEW}\n");
    for (name, files, expected) in [
        (
            "branch",
            vec![on_main, (".git/refs/heads/main", new.as_str())],
            vec![".git/HEAD", ".git/refs/heads/main"],
        ),
        (
            "logged",
            vec![(".git/HEAD", new.as_str()), (".git/logs/HEAD", "")],
            vec![".git/HEAD", ".git/logs/HEAD"],
        ),
        (
            "packed",
            vec![on_main, (".git/packed-refs", packed.as_str())],
            vec![".git/HEAD", ".git/packed-refs"],
        ),
        (
            "moved-on",
            vec![
                on_main,
                (".git/packed-refs", packed.as_str()),
                (".git/refs/heads/main", new.as_str()),
            ],
            vec![".git/HEAD", ".git/refs/heads/main"],
        ),
    ] {
        let dir = checkout(name, &files);
        let (id, files) = found(&dir, "").unwrap();
        assert_eq!(
            (id.as_str(), files),
            (NEW, expected.iter().map(ToString::to_string).collect()),
            "{name}"
        );
        fs::remove_dir_all(dir).unwrap();
    }
}

#[test]
fn a_linked_worktree_has_its_own_head_and_the_references_of_the_repository() {
    let dir = checkout(
        "worktree",
        &[
            ("main/.git/HEAD", OLD),
            ("main/.git/refs/heads/side", NEW),
            ("main/.git/worktrees/side/HEAD", "ref: refs/heads/side\n"),
            ("main/.git/worktrees/side/commondir", "../..\n"),
            ("side/.git", "gitdir: ../main/.git/worktrees/side\n"),
        ],
    );
    let (id, files) = found(&dir, "side").unwrap();
    assert_eq!(id, NEW);
    assert_eq!(
        files,
        ["main/.git/worktrees/side/HEAD", "main/.git/refs/heads/side"]
    );
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_tarball_and_files_that_are_not_gits_have_no_commit() {
    for (name, files) in [
        ("tarball", vec![("Cargo.toml", "")]),
        ("unborn", vec![(".git/HEAD", "ref: refs/heads/main\n")]),
        ("short", vec![(".git/HEAD", "12345\n")]),
        ("foreign", vec![(".git", "another file\n")]),
        (
            "words",
            vec![(".git/HEAD", "this-line-has-forty-characters-in-total!\n")],
        ),
    ] {
        let dir = checkout(name, &files);
        assert_eq!(found(&dir, ""), None, "{name}");
        fs::remove_dir_all(dir).unwrap();
    }
}
