//! The mounts of a container's specification: the system's, then the user's over them.

use oci::spec::Mount;

use super::Inputs;
use crate::container::record::{MountKind, MountRecord, Record};
use crate::error::{Error, Result};

/// Paths on the host of the files that the engine writes for /etc; an absent one is not bound.
#[derive(Debug, Clone, Default)]
pub(crate) struct EtcFiles {
    /// /etc/resolv.conf
    pub(crate) resolv_conf: Option<String>,
    /// /etc/hostname
    pub(crate) hostname: Option<String>,
    /// /etc/hosts
    pub(crate) hosts: Option<String>,
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: Some(kind.to_owned()),
        source: Some(source.to_owned()),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
        ..Mount::default()
    }
}

pub(super) fn bind(destination: &str, source: &str, options: &[&str]) -> Mount {
    mount(destination, "bind", source, options)
}

/// What every container has, in dockerd's order.
pub(super) fn defaults() -> Vec<Mount> {
    let strict = ["nosuid", "noexec", "nodev"];
    vec![
        mount("/proc", "proc", "proc", &strict),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &strict),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777"]),
    ]
}

/// Adds the user's mounts and /etc files to the defaults; gives the propagation that the root needs for them.
pub(super) fn assemble(mounts: &mut Vec<Mount>, record: &Record, inputs: &Inputs<'_>) -> Result<Option<String>> {
    let host = &record.host_config;
    let mut user: Vec<&MountRecord> = inputs.mounts.iter().collect();
    // Shallow ones first, so that none covers another that was mounted before it.
    user.sort_by_key(|m| depth(&m.destination));
    let taken = |path: &str| user.iter().any(|m| m.destination == path);
    let whole_dev = taken("/dev");
    mounts.retain(|m| {
        let hidden = whole_dev && m.destination.starts_with("/dev/");
        let no_shm = m.destination == "/dev/shm" && (host.ipc_mode == "none" || inputs.shm.is_some());
        !taken(&m.destination) && !hidden && !no_shm
    });
    for m in mounts.iter_mut().filter(|m| m.destination == "/dev/shm") {
        m.options.push(format!("size={}", host.shm_size));
    }
    let mut propagation = None;
    for record in &user {
        mounts.push(user_mount(record, &mut propagation)?);
    }
    if let Some(shm) = &inputs.shm
        && !taken("/dev/shm")
    {
        mounts.push(bind("/dev/shm", shm, &["rbind", "rprivate"]));
    }
    let etc = &inputs.etc;
    let files = [("/etc/resolv.conf", &etc.resolv_conf), ("/etc/hostname", &etc.hostname), ("/etc/hosts", &etc.hosts)];
    for (path, source) in files {
        if let Some(source) = source
            && !taken(path)
        {
            let options: &[&str] =
                if host.readonly_rootfs { &["rbind", "rro", "rprivate"] } else { &["rbind", "rprivate"] };
            mounts.push(bind(path, source, options));
        }
    }
    protect(mounts, record, &user);
    Ok(propagation)
}

fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

fn user_mount(record: &MountRecord, root_propagation: &mut Option<String>) -> Result<Mount> {
    if record.kind == MountKind::Tmpfs {
        let asked = record.tmpfs_options.split(',').filter(|o| !o.is_empty());
        let options: Vec<&str> = ["noexec", "nosuid", "nodev", "rprivate"].into_iter().chain(asked).collect();
        let merged = merge_tmpfs_options(&options)?;
        let merged: Vec<&str> = merged.iter().map(String::as_str).collect();
        return Ok(mount(&record.destination, "tmpfs", "tmpfs", &merged));
    }
    let mut options = vec![if record.non_recursive { "bind" } else { "rbind" }];
    if !record.rw {
        if record.read_only_non_recursive && record.read_only_force_recursive {
            return Err(Error::system("mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive"));
        }
        options.push(if record.read_only_non_recursive { "ro" } else { "rro" });
    }
    let propagation = if record.propagation.is_empty() { "rprivate" } else { &record.propagation };
    options.push(propagation);
    // What shall propagate needs a root that lets it through.
    let current = root_propagation.as_deref();
    match propagation {
        "shared" | "rshared" if !matches!(current, Some("shared" | "rshared")) => {
            *root_propagation = Some("shared".to_owned());
        }
        "slave" | "rslave" if current.is_none() => *root_propagation = Some("rslave".to_owned()),
        _ => {}
    }
    Ok(bind(&record.destination, &record.source, &options))
}

/// Read-only root, privileged container: what that means for the system's mounts.
fn protect(mounts: &mut [Mount], record: &Record, user: &[&MountRecord]) {
    let host = &record.host_config;
    let system = ["/proc", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"];
    let etc = ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts", super::INIT_PATH];
    for m in mounts {
        let path = m.destination.as_str();
        let users = user.iter().any(|u| u.destination == path) || etc.contains(&path);
        let read_only = m.options.iter().any(|o| o == "ro");
        if host.readonly_rootfs && !system.contains(&path) && !users && !read_only {
            m.options.push("ro".to_owned());
        }
        if host.privileged && (path == "/sys" || m.kind.as_deref() == Some("cgroup")) {
            m.options.retain(|o| o != "ro");
        }
    }
}

/// Flag options by the bit they set or clear.
fn flag_group(option: &str) -> Option<&'static str> {
    Some(match option {
        "ro" | "rw" => "ro",
        "suid" | "nosuid" => "suid",
        "dev" | "nodev" => "dev",
        "exec" | "noexec" => "exec",
        "sync" | "async" => "sync",
        "dirsync" => "dirsync",
        "remount" => "remount",
        "mand" | "nomand" => "mand",
        "atime" | "noatime" => "atime",
        "diratime" | "nodiratime" => "diratime",
        "bind" | "rbind" => "bind",
        "unbindable" | "runbindable" | "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => {
            "propagation"
        }
        "relatime" | "norelatime" => "relatime",
        "strictatime" | "nostrictatime" => "strictatime",
        "defaults" => "defaults",
        _ => return None,
    })
}

/// Later options win over earlier ones of the same kind; unknown ones are refused.
pub(crate) fn merge_tmpfs_options(options: &[&str]) -> Result<Vec<String>> {
    let mut merged: Vec<String> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for option in options.iter().rev() {
        let group = match flag_group(option) {
            Some(group) => group,
            None => match option.split_once('=') {
                Some((key, _))
                    if ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge"].contains(&key) =>
                {
                    key
                }
                _ => return Err(Error::system(format!("invalid tmpfs option {option:?}"))),
            },
        };
        if !seen.contains(&group) {
            seen.push(group);
            merged.push((*option).to_owned());
        }
    }
    merged.reverse();
    Ok(merged)
}
