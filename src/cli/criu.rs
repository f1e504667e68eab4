//! The flags of `checkpoint` and `restore`, from runc and crun, and their conversion to an
//! `Invocation`.

use std::ffi::OsString;
use std::path::PathBuf;

use super::resolve::CallerEnvironment;
use crate::invocation::{
    CgroupsMode, CheckpointArgs, ContainerId, CreateArgs, DumpOptions, NetworkLock, RestoreArgs,
};

#[derive(clap::Args)]
pub(super) struct DumpFlags {
    /// directory of the image files [default: checkpoint]
    #[arg(long, value_name = "DIR")]
    image_path: Option<OsString>,
    /// directory of CRIU's log [default: that of the image files]
    #[arg(long, value_name = "DIR")]
    work_path: Option<OsString>,
    /// allow open TCP connections
    #[arg(long)]
    tcp_established: bool,
    /// close open TCP connections
    #[arg(long)]
    tcp_close: bool,
    /// allow UNIX sockets that are connected to the outside
    #[arg(long)]
    ext_unix_sk: bool,
    /// allow processes of a session that a process outside leads
    #[arg(long)]
    shell_job: bool,
    /// allow file locks
    #[arg(long)]
    file_locks: bool,
    /// remove memory from earlier dumps that later dumps also contain
    #[arg(long)]
    auto_dedup: bool,
    /// transfer memory when it is first used
    #[arg(long)]
    lazy_pages: bool,
    /// how to treat cgroups below the container's: soft, full, strict or ignore [default: soft]
    #[arg(long, value_name = "MODE", value_parser = parse_cgroups_mode)]
    manage_cgroups_mode: Option<CgroupsMode>,
    /// how to block connections during the dump: iptables, nftables or skip [default: CRIU's]
    #[arg(long, value_name = "METHOD", value_parser = parse_network_lock)]
    network_lock: Option<NetworkLock>,
    /// network: all that is in a network namespace of its own but lo is left out, as without the
    /// flag
    #[arg(long, value_name = "NAMESPACE", value_parser = parse_empty_namespace)]
    empty_ns: Vec<EmptyNetwork>,
}

/// The only value of --empty-ns. The contents of a network namespace are left out even without the
/// flag.
#[derive(Clone, Copy)]
pub(super) struct EmptyNetwork;

#[derive(clap::Args)]
pub(super) struct CheckpointFlags {
    #[arg(value_name = "CONTAINER-ID", value_parser = ContainerId::parse)]
    id: ContainerId,
    #[command(flatten)]
    dump: DumpFlags,
    /// image files of an earlier dump, relative to the directory of the new ones
    #[arg(long, value_name = "DIR")]
    parent_path: Option<OsString>,
    /// let the container run on
    #[arg(long)]
    leave_running: bool,
    /// write the memory only, and let the container run on
    #[arg(long)]
    pre_dump: bool,
    /// leave out TCP connections that are being made
    #[arg(long)]
    tcp_skip_in_flight: bool,
    /// allow open files without a name, which get one where that can be
    #[arg(long)]
    link_remap: bool,
    /// descriptor that gets a zero byte when --lazy-pages can serve pages
    #[arg(long, value_name = "FD", value_parser = parse_descriptor)]
    status_fd: Option<i32>,
    /// send the memory to a page server, or with --lazy-pages serve it
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = parse_page_server)]
    page_server: Option<(String, u16)>,
}

#[derive(clap::Args)]
pub(super) struct RestoreFlags {
    #[arg(value_name = "CONTAINER-ID", value_parser = ContainerId::parse)]
    id: ContainerId,
    #[command(flatten)]
    dump: DumpFlags,
    /// bundle directory [default: the current one]
    #[arg(long, short, value_name = "DIR")]
    bundle: Option<OsString>,
    /// UNIX socket that receives the terminal
    #[arg(long, value_name = "PATH")]
    console_socket: Option<OsString>,
    /// file to write the pid to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<OsString>,
    /// let the container keep the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// return as soon as the container runs
    #[arg(long, short)]
    detach: bool,
    /// leave the container in place after it has exited
    #[arg(long)]
    keep: bool,
    /// don't adopt and reap the orphans of the container
    #[arg(long)]
    no_subreaper: bool,
    /// AppArmor profile or SELinux label of the processes in place of the one they had, as
    /// apparmor:NAME or selinux:LABEL
    #[arg(long, value_name = "TYPE:NAME")]
    lsm_profile: Option<String>,
    /// SELinux label of mounts in place of the one they had
    #[arg(long, value_name = "LABEL")]
    lsm_mount_context: Option<String>,
}

impl DumpFlags {
    fn resolve(self, caller: &CallerEnvironment) -> Result<DumpOptions, String> {
        let image_path = self.image_path.filter(|path| !path.is_empty());
        let image_path = image_path.unwrap_or_else(|| "checkpoint".into());
        Ok(DumpOptions {
            image_path: caller.absolute_path("--image-path", &image_path)?,
            work_path: caller.optional_path("--work-path", self.work_path)?,
            tcp_established: self.tcp_established,
            tcp_close: self.tcp_close,
            ext_unix_sk: self.ext_unix_sk,
            shell_job: self.shell_job,
            file_locks: self.file_locks,
            auto_dedup: self.auto_dedup,
            lazy_pages: self.lazy_pages,
            manage_cgroups_mode: self.manage_cgroups_mode.unwrap_or_default(),
            network_lock: self.network_lock,
        })
    }
}

impl CheckpointFlags {
    pub(super) fn resolve(self, caller: &CallerEnvironment) -> Result<CheckpointArgs, String> {
        let parent_path = self.parent_path.filter(|path| !path.is_empty());
        let parent_path = parent_path.map(PathBuf::from);
        if let Some(path) = parent_path.as_deref().filter(|path| path.is_absolute()) {
            let problem = "must be relative to --image-path";
            return Err(format!("--parent-path {path:?}: {problem}"));
        }
        if self.status_fd.is_some() && !self.dump.lazy_pages {
            return Err("--status-fd: only --lazy-pages reports a status".into());
        }
        Ok(CheckpointArgs {
            id: self.id,
            dump: self.dump.resolve(caller)?,
            parent_path,
            leave_running: self.leave_running,
            pre_dump: self.pre_dump,
            tcp_skip_in_flight: self.tcp_skip_in_flight,
            link_remap: self.link_remap,
            status_fd: self.status_fd,
            page_server: self.page_server,
        })
    }
}

impl RestoreFlags {
    pub(super) fn resolve(self, caller: &CallerEnvironment) -> Result<RestoreArgs, String> {
        let console_socket = caller.optional_path("--console-socket", self.console_socket)?;
        super::resolve::check_console_flags(console_socket.is_some(), self.detach, None)?;
        let said = |label: Option<String>| label.filter(|label| !label.is_empty());
        Ok(RestoreArgs {
            create: CreateArgs {
                id: self.id,
                bundle: caller.bundle_path(self.bundle)?,
                config: None,
                console_socket,
                pidfd_socket: None,
                pid_file: caller.optional_path("--pid-file", self.pid_file)?,
                no_pivot: false,
                no_new_keyring: self.no_new_keyring,
                preserve_fds: 0,
                timeline: None,
            },
            dump: self.dump.resolve(caller)?,
            detach: self.detach,
            keep: self.keep,
            no_subreaper: self.no_subreaper,
            lsm_profile: said(self.lsm_profile),
            lsm_mount_context: said(self.lsm_mount_context),
        })
    }
}

fn parse_cgroups_mode(text: &str) -> Result<CgroupsMode, String> {
    match text {
        "" => Ok(CgroupsMode::Default),
        "soft" => Ok(CgroupsMode::Soft),
        "full" => Ok(CgroupsMode::Full),
        "strict" => Ok(CgroupsMode::Strict),
        "ignore" => Ok(CgroupsMode::Ignore),
        _ => Err("expected soft, full, strict or ignore".into()),
    }
}

fn parse_network_lock(text: &str) -> Result<NetworkLock, String> {
    match text {
        "iptables" => Ok(NetworkLock::Iptables),
        "nftables" => Ok(NetworkLock::Nftables),
        "skip" => Ok(NetworkLock::Skip),
        _ => Err("expected iptables, nftables or skip".into()),
    }
}

fn parse_empty_namespace(text: &str) -> Result<EmptyNetwork, String> {
    match text {
        "network" => Ok(EmptyNetwork),
        _ => Err(format!(
            "namespace {text:?} is not supported, only network is"
        )),
    }
}

/// Parses a descriptor number. Refuses the standard descriptors, because the runtime uses them.
fn parse_descriptor(text: &str) -> Result<i32, String> {
    match text.parse() {
        Ok(number) if number > 2 => Ok(number),
        _ => Err("expected the number of a descriptor above 2".into()),
    }
}

/// Parses host and port. An IPv6 address must be in brackets.
fn parse_page_server(text: &str) -> Result<(String, u16), String> {
    let expected = || "expected ADDRESS:PORT".to_owned();
    let (address, port) = text.rsplit_once(':').ok_or_else(expected)?;
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = match bare {
        Some(bare) => bare,
        None if address.contains(':') => return Err(expected()),
        None => address,
    };
    let port: u16 = port.parse().map_err(|_| expected())?;
    if address.is_empty() || port == 0 {
        return Err(expected());
    }
    Ok((address.into(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_server_is_an_address_and_a_port() {
        let ok = |address: &str, port| Ok((address.to_owned(), port));
        assert_eq!(parse_page_server("0.0.0.0:27277"), ok("0.0.0.0", 27277));
        assert_eq!(parse_page_server("[::1]:80"), ok("::1", 80));
        for text in ["", "a", ":80", "a:", "a:0", "a:65536", "::1:80", "a:x"] {
            assert!(parse_page_server(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_status_descriptor_is_none_of_the_standard_ones() {
        assert_eq!(parse_descriptor("3"), Ok(3));
        for text in ["", "2", "0", "-1", "x", "4294967296"] {
            assert!(parse_descriptor(text).is_err(), "{text}");
        }
    }
}
