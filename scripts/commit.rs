//! The build script: tells the compiler which commit a checkout is at, for `orlop --version`.
//! It reads the files of git, so that a build needs no git. A tarball has no such files: there the
//! line is left out, unless ORLOP_COMMIT names the commit.

#![allow(clippy::print_stdout, reason = "cargo reads it there")]

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The commit that a checkout is at.
pub(crate) struct Commit {
    /// 40 or 64 hexadecimal digits.
    pub(crate) id: String,
    /// The files that say so. One of them changes with the commit.
    pub(crate) files: Vec<PathBuf>,
}

fn main() {
    println!("cargo:rerun-if-changed=scripts/commit.rs");
    println!("cargo:rerun-if-env-changed=ORLOP_COMMIT");
    // A debug build would have to compile everything again after each commit.
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if !is_release || env::var_os("ORLOP_COMMIT").is_some() {
        return;
    }
    let checkout = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    if let Some(commit) = checkout.and_then(|checkout| find_commit(&checkout)) {
        for file in commit.files {
            println!("cargo:rerun-if-changed={}", file.display());
        }
        println!("cargo:rustc-env=ORLOP_COMMIT={}", commit.id);
    }
}

/// Returns the commit of a checkout; `None` if the directory is none, or if its files are not as
/// gitrepository-layout(5) says.
pub(crate) fn find_commit(checkout: &Path) -> Option<Commit> {
    let dot_git = checkout.join(".git");
    // In a linked worktree, .git is a file that names the directory.
    let dir = match fs::read_to_string(&dot_git) {
        Ok(text) => checkout.join(text.strip_prefix("gitdir: ")?.trim_end()),
        Err(_) => dot_git,
    };
    let mut files = vec![dir.join("HEAD")];
    let head = fs::read_to_string(dir.join("HEAD")).ok()?;
    // Packed references can be outdated by a new file. The log of HEAD grows in any case.
    files.extend(Some(dir.join("logs/HEAD")).filter(|log| log.exists()));
    let id = match head.trim_end().strip_prefix("ref: ") {
        Some(reference) => {
            let (id, file) = read_reference(&dir, reference)?;
            files.push(file);
            id
        }
        None => head.trim_end().to_owned(),
    };
    let is_id = [40, 64].contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then_some(Commit { id, files })
}

/// Reads a reference such as `refs/heads/main`. Returns its value and the file that has it.
fn read_reference(dir: &Path, reference: &str) -> Option<(String, PathBuf)> {
    // A linked worktree shares the references of the repository.
    let common = match fs::read_to_string(dir.join("commondir")) {
        Ok(path) => dir.join(path.trim_end()),
        Err(_) => dir.to_owned(),
    };
    let loose = common.join(reference);
    if let Ok(id) = fs::read_to_string(&loose) {
        return Some((id.trim_end().to_owned(), loose));
    }
    let packed = common.join("packed-refs");
    let text = fs::read_to_string(&packed).ok()?;
    let mut references = text.lines().filter_map(|line| line.split_once(' '));
    let (id, _) = references.find(|(_, name)| *name == reference)?;
    Some((id.to_owned(), packed))
}
