//! `features`.

use oci::spec::features::{CgroupFeatures, Enabled, Features, LinuxFeatures, MountExtensions, SeccompFeatures};

use super::{Context, Outcome};
use crate::mount_options;

pub(super) fn features(_: &Context) -> Outcome {
    println!("{}", serde_json::to_string_pretty(&describe())?);
    Ok(0)
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

fn describe() -> Features {
    let enabled = Enabled { enabled: true };
    Features {
        oci_version_min: "1.0.0".into(),
        oci_version_max: oci::spec::VERSION.into(),
        hooks: words(&["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]),
        mount_options: mount_options::all_words(),
        linux: LinuxFeatures {
            namespaces: words(&["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"]),
            capabilities: words(sys::capability::names()),
            cgroup: CgroupFeatures { v1: true, v2: true, systemd: false, systemd_user: false, rdma: true },
            seccomp: SeccompFeatures {
                enabled: true,
                actions: words(&[
                    "SCMP_ACT_ALLOW",
                    "SCMP_ACT_ERRNO",
                    "SCMP_ACT_KILL",
                    "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_KILL_THREAD",
                    "SCMP_ACT_LOG",
                    "SCMP_ACT_NOTIFY",
                    "SCMP_ACT_TRACE",
                    "SCMP_ACT_TRAP",
                ]),
                operators: words(&[
                    "SCMP_CMP_EQ",
                    "SCMP_CMP_GE",
                    "SCMP_CMP_GT",
                    "SCMP_CMP_LE",
                    "SCMP_CMP_LT",
                    "SCMP_CMP_MASKED_EQ",
                    "SCMP_CMP_NE",
                ]),
                archs: sys::seccomp::Architecture::names(),
                known_flags: words(FLAGS),
                supported_flags: words(FLAGS),
            },
            apparmor: enabled,
            selinux: enabled,
            intel_rdt: enabled,
            mount_extensions: MountExtensions { idmap: enabled },
            net_devices: enabled,
        },
        ..Features::default()
    }
}

const FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];
