//! Paths in the container as text: their meaning before any symbolic link is followed.
//! `sys::path` resolves the paths that the kernel follows.

use std::path::{Component, Path, PathBuf};

/// Returns the absolute path without `.`, repeated slashes and `..`. `..` at the root means the
/// root.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    clean
}

/// True if the path is the root once it is cleaned.
pub(crate) fn is_root(path: &Path) -> bool {
    clean(path) == Path::new("/")
}

/// True if a component of the path is `..`.
pub(crate) fn has_parent_component(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_path_stays_below_the_root() {
        assert_eq!(clean(Path::new("/a/../../b//c/.")), Path::new("/b/c"));
        assert_eq!(clean(Path::new("dev")), Path::new("/dev"));
        for (path, root) in [("/", true), ("//.", true), ("/a/..", true), ("/a", false)] {
            assert_eq!(is_root(Path::new(path)), root, "{path}");
        }
        assert!(
            has_parent_component(Path::new("/a/../b"))
                && !has_parent_component(Path::new("/a/..b"))
        );
    }
}
