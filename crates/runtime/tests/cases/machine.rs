//! A machine container: a whole init system as the first process.
//!
//! `$GANTRY_TEST_SYSTEMD_ROOT` is a root filesystem with systemd (`/` of a Debian machine will do; nothing is written to
//! it). Without it there is nothing to boot, and the case says so and passes.

use crate::support::{Bundle, eventually};
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::json;
use std::ffi::CString;
use std::fs;
use std::path::PathBuf;

struct Mounted(PathBuf);

impl Mounted {
    fn new(fstype: &str, target: PathBuf, options: &str) -> Self {
        fs::create_dir_all(&target).unwrap();
        let options = CString::new(options).unwrap();
        rustix::mount::mount(fstype, &target, fstype, MountFlags::empty(), options.as_c_str()).unwrap();
        Self(target)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn systemd_boots_and_stops() {
    let Ok(root) = std::env::var("GANTRY_TEST_SYSTEMD_ROOT") else {
        eprintln!("skipped: GANTRY_TEST_SYSTEMD_ROOT names no root filesystem with systemd");
        return;
    };
    let mut bundle = Bundle::new("machine");
    let writable = Mounted::new("tmpfs", bundle.directory.join("writable"), "mode=755");
    let (upper, work) = (writable.0.join("upper"), writable.0.join("work"));
    fs::create_dir_all(upper.join("etc/systemd/system")).unwrap();
    fs::create_dir_all(&work).unwrap();
    // Whatever the machine was set up to do by itself is not to happen again inside.
    let wants = upper.join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).unwrap();
    sys::xattr::set(&wants, c"trusted.overlay.opaque", b"y").unwrap();
    let options = format!("lowerdir={root},upperdir={},workdir={}", upper.display(), work.display());
    let _merged = Mounted::new("overlay", bundle.rootfs(), &options);

    bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
    for (path, options) in [
        ("/run", json!(["nosuid", "nodev", "mode=755"])),
        ("/run/lock", json!(["nosuid", "nodev"])),
        ("/tmp", json!([])),
    ] {
        bundle.push("/mounts", json!({"destination": path, "type": "tmpfs", "source": "tmpfs", "options": options}));
    }
    bundle.push("/mounts", json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev"]}));
    bundle.set("/process/env", json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "container=oci"]));
    bundle.args(&["/sbin/init"]);
    bundle.create();
    bundle.start();
    let running = || bundle.exec(&["/usr/bin/systemctl", "is-system-running"]).stdout.trim().to_owned();
    eventually("systemd has booted", || ["running", "degraded"].contains(&running().as_str()));
    let comm = bundle.exec(&["/bin/cat", "/proc/1/comm"]);
    assert_eq!(comm.lines(), ["systemd"]);
    let journal = bundle.exec(&["/usr/bin/systemctl", "is-active", "systemd-journald"]);
    assert_eq!(journal.lines(), ["active"]);
    // SIGRTMIN+3: what an engine sends for `docker stop` when the image says so.
    assert_eq!(bundle.call(&["kill", &bundle.id, "37"]).code, 0);
    bundle.wait_stopped();
    assert_eq!(bundle.call(&["delete", &bundle.id]).code, 0);
    assert!(!bundle.cgroup("memory").exists());
}
