//! Links the runtime's source beside a list of its modules, which must be at the root of the crate.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let here = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let source = Path::new(&here)
        .join("../../src")
        .canonicalize()
        .expect("the source");
    println!("cargo::rerun-if-changed={}", source.display());
    for entry in fs::read_dir(&source).expect("the source").flatten() {
        let link = out.join(entry.file_name());
        let _ = fs::remove_file(&link);
        symlink(entry.path(), &link).expect("a link");
    }
    let main = fs::read_to_string(source.join("main.rs")).expect("main.rs");
    let mut modules = String::new();
    let mut skip = false;
    for line in main.lines() {
        if line.starts_with("mod ") && line.ends_with(';') && !skip {
            modules += &format!("{line}\n");
        }
        // Skip the modules of the unit tests.
        skip = line == "#[cfg(test)]";
    }
    fs::write(out.join("modules.rs"), modules).expect("a file");
}
