//! Plans the arguments and the environment of a program, and the files to try for it. All are bytes
//! and not text, as for the kernel.

use std::collections::BTreeMap;
use std::ffi::CString;

use super::description::ProcessDescription;

/// The arguments of execve(2).
pub(super) struct ExecveWords {
    /// Empty if there is no program.
    pub(super) argv: Vec<CString>,
    pub(super) env: Vec<CString>,
    /// True if HOME must be looked up.
    pub(super) wants_home: bool,
    /// The files to try for `argv[0]`, in the order of PATH. If `argv[0]` has a slash, it is the
    /// only file.
    pub(super) candidates: Vec<CString>,
}

/// Plans a call of execve(2).
pub(super) fn plan(description: &ProcessDescription<'_>) -> ExecveWords {
    let mut env = merge_environment(&description.env());
    if let Some(directory) = description.notify {
        let variable = format!("NOTIFY_SOCKET={directory}/notify.sock");
        env.retain(|entry| !entry.starts_with(b"NOTIFY_SOCKET="));
        env.push(variable.into_bytes());
    }
    if description.listen_fds > 0 {
        env.retain(|entry| {
            !entry.starts_with(b"LISTEN_FDS=") && !entry.starts_with(b"LISTEN_PID=")
        });
        env.push(format!("LISTEN_FDS={}", description.listen_fds).into_bytes());
        env.push(b"LISTEN_PID=1".to_vec());
    }
    let value = |name: &[u8]| {
        let mut values = env.iter().filter_map(|entry| entry.strip_prefix(name));
        values.next().unwrap_or_default()
    };
    let args = description.args().unwrap_or_default();
    let name = args.first().copied().unwrap_or_default();
    let candidates = candidates(name, value(b"PATH="));
    ExecveWords {
        wants_home: value(b"HOME=").is_empty(),
        candidates: to_c_strings(candidates),
        argv: to_c_strings(args),
        env: to_c_strings(env),
    }
}

/// Converts words to C strings. Drops words with a NUL. There are none, because validation refuses
/// them and a command line can't contain them.
fn to_c_strings<T: Into<Vec<u8>>>(words: Vec<T>) -> Vec<CString> {
    let words = words.into_iter();
    words.filter_map(|word| CString::new(word).ok()).collect()
}

/// Returns the environment without duplicates. Among entries with the same name, the last one takes
/// the position of the first, as in runc.
fn merge_environment(given: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut env: Vec<Vec<u8>> = Vec::with_capacity(given.len() + 3);
    let mut places: BTreeMap<&[u8], usize> = BTreeMap::new();
    for entry in given {
        let end = entry.iter().position(|byte| *byte == b'=');
        let name = entry.get(..end.map_or(entry.len(), |end| end + 1));
        let place = *places.entry(name.unwrap_or(entry)).or_insert(env.len());
        match env.get_mut(place) {
            Some(slot) => *slot = entry.to_vec(),
            None => env.push(entry.to_vec()),
        }
    }
    env
}

/// Returns the files that a shell would try for `name`.
fn candidates(name: &[u8], path: &[u8]) -> Vec<Vec<u8>> {
    if name.contains(&b'/') {
        return vec![name.to_vec()];
    }
    if path.is_empty() {
        return Vec::new();
    }
    let join = |dir: &[u8]| {
        let mut file = match dir {
            b"" => b".".to_vec(),
            dir => dir.to_vec(),
        };
        while file.ends_with(b"/") {
            file.pop();
        }
        file.push(b'/');
        file.extend(name);
        file
    };
    path.split(|byte| *byte == b':').map(join).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argv0_is_looked_up_in_path_unless_it_has_a_slash() {
        assert_eq!(
            candidates(b"sh", b"/bin:/usr/bin/::rel:/"),
            [
                b"/bin/sh".as_slice(),
                b"/usr/bin/sh",
                b"./sh",
                b"rel/sh",
                b"/sh"
            ]
        );
        assert_eq!(candidates(b"./sh", b"/bin"), [b"./sh"]);
        assert!(candidates(b"sh", b"").is_empty());
    }

    #[test]
    fn the_last_of_equal_variables_wins() {
        let env: [&[u8]; 6] = [b"A=1", b"B=2", b"A=3", b"AB=4", b"\xff=5", b"\xff=6"];
        assert_eq!(
            merge_environment(&env),
            [b"A=3".as_slice(), b"B=2", b"AB=4", b"\xff=6"]
        );
    }
}
