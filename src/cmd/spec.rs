//! The command `spec`: writes a config.json to start from, the same as runc's.
//! `crate::spec` reads a config.json.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::error::{Failed, failed};
use crate::invocation::SpecArgs;

const CONFIG_TEMPLATE: &str = include_str!("spec/template.json");

/// The reason why config.json wasn't written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// This is runc's wording with its capital letter, because scripts search for it.
    #[error("File {} exists. Remove it first", .0.display())]
    Exists(PathBuf),
    #[error(transparent)]
    Failed(Failed),
}

/// Writes config.json into the bundle. With --rootless, the file maps the caller's own ids.
pub(crate) fn write_config(command: &SpecArgs) -> Result<(), Error> {
    let name = command
        .config
        .as_deref()
        .unwrap_or(Path::new(crate::spec::FILE));
    let path = command.bundle.join(name);
    let what = || format!("write {}", path.display());
    let text = if command.rootless {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        rootless_config(uid.as_raw(), gid.as_raw())
    } else {
        rootful_config()
    };
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let file = match open(&path, flags, Mode::from_bits_truncate(0o666)) {
        Err(Errno::EEXIST) => return Err(Error::Exists(name.to_owned())),
        opened => opened
            .map_err(failed("open", what))
            .map_err(Error::Failed)?,
    };
    File::from(file)
        .write_all(text.as_bytes())
        .map_err(|error| {
            // A partial file would make the next attempt fail.
            let _ = std::fs::remove_file(&path);
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
            Error::Failed(failed("write", what)(errno))
        })
}

fn rootful_config() -> String {
    fill_template(&[
        ("@tty_group@", r#", "gid=5""#),
        (
            "@sys@",
            r#""type": "sysfs",
			"source": "sysfs",
			"options": ["nosuid", "noexec", "nodev", "ro"]"#,
        ),
        (
            "@ids_or_devices@",
            r#""resources": {
			"devices": [
				{ "allow": false, "access": "rwm" }
			]
		}"#,
        ),
        ("@network@", "\n\t\t\t{ \"type\": \"network\" },"),
        ("@user@", ""),
    ])
}

/// Returns the config.json for --rootless. Only one id is mapped, so there is no group for
/// terminals. The network namespace is the caller's, so /sys is a bind mount. Device rules are left
/// out, because they need privileges that the caller lacks.
fn rootless_config(uid: u32, gid: u32) -> String {
    let mapping = |id: u32| format!(r#"[{{ "containerID": 0, "hostID": {id}, "size": 1 }}]"#);
    let mappings = format!(
        "\"uidMappings\": {},\n\t\t\"gidMappings\": {}",
        mapping(uid),
        mapping(gid)
    );
    fill_template(&[
        ("@tty_group@", ""),
        (
            "@sys@",
            r#""type": "none",
			"source": "/sys",
			"options": ["rbind", "nosuid", "noexec", "nodev", "ro"]"#,
        ),
        ("@ids_or_devices@", &mappings),
        ("@network@", ""),
        ("@user@", ",\n\t\t\t{ \"type\": \"user\" }"),
    ])
}

fn fill_template(blanks: &[(&str, &str)]) -> String {
    blanks
        .iter()
        .fold(CONFIG_TEMPLATE.to_owned(), |text, (blank, with)| {
            text.replace(blank, with)
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_forms_are_specs_that_differ_where_a_user_has_no_rights() {
        let full: oci_spec::runtime::Spec = serde_json::from_str(&rootful_config()).unwrap();
        let mine: oci_spec::runtime::Spec =
            serde_json::from_str(&rootless_config(1000, 100)).unwrap();
        for spec in [&full, &mine] {
            assert_eq!(spec.version(), "1.3.0");
            assert_eq!(spec.process().as_ref().unwrap().terminal(), Some(true));
        }
        let (full, mine) = (
            full.linux().as_ref().unwrap(),
            mine.linux().as_ref().unwrap(),
        );
        assert!(full.resources().is_some() && mine.resources().is_none());
        let host_id = |mappings: &Option<Vec<oci_spec::runtime::LinuxIdMapping>>| {
            mappings.as_ref().unwrap().first().unwrap().host_id()
        };
        assert_eq!(
            (host_id(mine.uid_mappings()), host_id(mine.gid_mappings())),
            (1000, 100)
        );
        assert!(!rootful_config().contains('@') && !rootless_config(0, 0).contains('@'));
    }

    #[test]
    fn a_config_that_is_there_stays() {
        let bundle = std::env::temp_dir().join(format!("orlop-spec-{}", std::process::id()));
        std::fs::create_dir_all(&bundle).unwrap();
        let command = SpecArgs {
            bundle: bundle.clone(),
            config: None,
            rootless: false,
        };
        assert_eq!(write_config(&command), Ok(()));
        assert_eq!(
            write_config(&command),
            Err(Error::Exists("config.json".into()))
        );
        let written = std::fs::read_to_string(bundle.join("config.json")).unwrap();
        std::fs::remove_dir_all(&bundle).unwrap();
        assert_eq!(written, rootful_config());
        assert_eq!(
            write_config(&command).unwrap_err().to_string(),
            format!(
                "write {}/config.json: open: ENOENT (no such file or directory)",
                bundle.display()
            )
        );
    }
}
