//! What a program is called with: its arguments, its environment, and where it is looked for. Bytes, as the kernel has them.
//! Not what may stand in a config.json, which is text.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt as _;

use oci_spec::runtime::Process as Configured;

use crate::error::Violation;

/// The words as they were said.
pub(crate) struct Words<'a> {
    /// `None`: there is no program.
    args: Option<Vec<&'a [u8]>>,
    env: Vec<&'a [u8]>,
    /// How many sockets are announced as by systemd.
    listen_fds: u32,
}

impl<'a> Words<'a> {
    /// Those of a configuration.
    pub(crate) fn of(process: &'a Configured, listen_fds: u32) -> Words<'a> {
        let bytes = |list: &'a Vec<String>| list.iter().map(String::as_bytes).collect();
        Words {
            args: process.args().as_ref().map(bytes),
            env: process.env().as_ref().map(bytes).unwrap_or_default(),
            listen_fds,
        }
    }

    /// With other arguments, and more of the environment.
    pub(crate) fn with(mut self, args: &'a [OsString], env: &'a [OsString]) -> Words<'a> {
        self.args = Some(args.iter().map(|arg| arg.as_bytes()).collect());
        self.env.extend(env.iter().map(|entry| entry.as_bytes()));
        self
    }
}

/// The words as execve(2) takes them.
pub(super) struct Call {
    /// Empty if there is no program.
    pub(super) argv: Vec<CString>,
    pub(super) env: Vec<CString>,
    /// True if HOME is to be looked up.
    pub(super) wants_home: bool,
    /// The files to try as `argv[0]`, in the order of PATH; one if that has a slash.
    pub(super) candidates: Vec<CString>,
}

/// Plans a call.
pub(super) fn plan(words: &Words<'_>, violations: &mut Vec<Violation>) -> Call {
    let mut env = environment(&words.env);
    if words.listen_fds > 0 {
        env.retain(|(_, entry)| {
            !entry.starts_with(b"LISTEN_FDS=") && !entry.starts_with(b"LISTEN_PID=")
        });
        env.push((
            env.len(),
            format!("LISTEN_FDS={}", words.listen_fds).into_bytes(),
        ));
        env.push((env.len(), b"LISTEN_PID=1".to_vec()));
    }
    let value = |name: &[u8]| {
        let mut values = env.iter().filter_map(|(_, entry)| entry.strip_prefix(name));
        values.next().unwrap_or_default()
    };
    let args = words.args.as_deref().unwrap_or_default();
    let name = args.first().copied().unwrap_or_default();
    if name.is_empty() && words.args.is_some() {
        violations.push(Violation::new("process.args", "must name a program"));
    }
    let mut c_string = |place: String, bytes: Vec<u8>| {
        CString::new(bytes).unwrap_or_else(|_| {
            violations.push(Violation::new(place, "holds a NUL byte"));
            CString::default()
        })
    };
    Call {
        wants_home: value(b"HOME=").is_empty(),
        candidates: candidates(name, value(b"PATH="))
            .into_iter()
            .map(|file| c_string("process.args[0]".into(), file))
            .collect(),
        argv: (0..)
            .zip(args)
            .map(|(index, arg): (usize, _)| {
                c_string(format!("process.args[{index}]"), arg.to_vec())
            })
            .collect(),
        env: env
            .into_iter()
            .map(|(index, entry)| c_string(format!("process.env[{index}]"), entry))
            .collect(),
    }
}

/// The environment with its places; of several entries for one name the last wins, in the first one's place, as in runc.
fn environment(said: &[&[u8]]) -> Vec<(usize, Vec<u8>)> {
    let mut env: Vec<(usize, Vec<u8>)> = Vec::with_capacity(said.len() + 3);
    let mut places: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (index, entry) in said.iter().enumerate() {
        let end = entry.iter().position(|byte| *byte == b'=');
        let name = entry.get(..end.map_or(entry.len(), |end| end + 1));
        let place = *places.entry(name.unwrap_or(entry)).or_insert(env.len());
        match env.get_mut(place) {
            Some(slot) => *slot = (index, entry.to_vec()),
            None => env.push((index, entry.to_vec())),
        }
    }
    env
}

/// The files that a shell would try for `name`.
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
        let env: Vec<Vec<u8>> = environment(&env)
            .into_iter()
            .map(|(_, entry)| entry)
            .collect();
        assert_eq!(env, [b"A=3".as_slice(), b"B=2", b"AB=4", b"\xff=6"]);
    }
}
