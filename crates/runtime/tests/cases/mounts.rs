//! Mounts, devices, masked and read-only paths.

use crate::support::{Bundle, is_reference};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;

/// The line of `/proc/self/mountinfo` for a mount point: its options before and after the dash.
fn mount_line(text: &str, point: &str) -> Option<(String, String)> {
    let line = text.lines().rfind(|line| line.split(' ').nth(4) == Some(point))?;
    let (mount, filesystem) = line.split_once(" - ")?;
    Some((mount.split(' ').skip(5).collect::<Vec<_>>().join(" "), filesystem.to_owned()))
}

#[test]
fn the_default_mounts() {
    let mut bundle = Bundle::new("mnt");
    let output = bundle.script("cat /proc/self/mountinfo").run();
    let text = output.lines().join("\n");
    let find = |point: &str| mount_line(&text, point).unwrap_or_else(|| panic!("{point}: {text}"));
    assert!(find("/proc").0.starts_with("rw,nosuid,nodev,noexec"));
    assert!(find("/sys").0.starts_with("ro,nosuid,nodev,noexec"));
    assert!(find("/dev").0.starts_with("rw,nosuid"));
    assert!(find("/dev").1.contains("size=65536k"));
    assert!(find("/dev/pts").1.contains("ptmxmode=666"));
    assert!(find("/dev/mqueue").1.starts_with("mqueue"));
    assert!(find("/proc/sys").0.starts_with("ro"));
    assert!(text.lines().all(|line| !line.contains(" shared:")), "nothing travels out: {text}");
}

#[test]
fn devices_and_links() {
    let mut bundle = Bundle::new("dev");
    bundle.push(
        "/linux/devices",
        json!({"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 7, "gid": 8}),
    );
    bundle.push("/linux/devices", json!({"path": "/dev/deep/pipe", "type": "p", "fileMode": 0o600}));
    bundle.script(
        "stat -c '%n %F %t:%T %a' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty; \
         stat -c '%n %t:%T %a %u %g' /dev/fuse; stat -c '%n %F %a' /dev/deep/pipe; \
         for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done",
    );
    let output = bundle.run();
    assert_eq!(
        output.lines(),
        [
            "/dev/null character special file 1:3 666",
            "/dev/zero character special file 1:5 666",
            "/dev/full character special file 1:7 666",
            "/dev/random character special file 1:8 666",
            "/dev/urandom character special file 1:9 666",
            "/dev/tty character special file 5:0 666",
            "/dev/fuse a:e5 640 7 8",
            "/dev/deep/pipe fifo 600",
            "/proc/self/fd",
            "/proc/self/fd/0",
            "/proc/self/fd/1",
            "/proc/self/fd/2",
            "pts/ptmx",
        ]
    );
}

#[test]
fn bind_mounts() {
    let mut bundle = Bundle::new("bind");
    let source = bundle.directory.join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "text\n").unwrap();
    bundle.push("/mounts", json!({"destination": "/rw", "type": "bind", "source": source, "options": ["bind"]}));
    bundle.push("/mounts", json!({"destination": "/ro", "type": "bind", "source": source, "options": ["rbind", "ro", "nosuid", "noexec", "noatime"]}));
    bundle.push("/mounts", json!({"destination": "/made/for/it", "source": "source/file", "options": ["bind"]}));
    bundle.script("cat /ro/file; echo a > /rw/new && cat /ro/new; echo b > /ro/new || echo refused; cat /made/for/it; cat /proc/self/mountinfo");
    let output = bundle.run();
    let lines = output.lines();
    assert_eq!(lines[..4], ["text", "a", "refused", "text"]);
    let text = lines[4..].join("\n");
    let options = mount_line(&text, "/ro").unwrap().0;
    // Those of the source's own mount may be there too.
    for option in ["ro", "nosuid", "noexec", "noatime"] {
        assert!(options.split([' ', ',']).any(|word| word == option), "{option}: {text}");
    }
    assert!(mount_line(&text, "/rw").unwrap().0.starts_with("rw"), "{text}");
}

#[test]
fn recursive_read_only() {
    let mut bundle = Bundle::new("rro");
    let source = bundle.directory.join("source");
    fs::create_dir_all(source.join("below")).unwrap();
    // A mount below the source, made by a first container's mounts inside its own namespace.
    bundle
        .push("/mounts", json!({"destination": "/outer", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}));
    let host = crate::support::runtime();
    drop(host);
    let below = source.join("below");
    let mounted = rustix::mount::mount("tmpfs", &below, "tmpfs", rustix::mount::MountFlags::empty(), None);
    mounted.unwrap();
    let _guard = Unmount(below);
    bundle.push("/mounts", json!({"destination": "/ro", "type": "bind", "source": source, "options": ["rbind", "ro"]}));
    bundle
        .push("/mounts", json!({"destination": "/rro", "type": "bind", "source": source, "options": ["rbind", "rro"]}));
    bundle.script("touch /ro/x 2>/dev/null || echo top; touch /ro/below/x && echo below; touch /rro/below/x 2>/dev/null || echo all");
    assert_eq!(bundle.run().lines(), ["top", "below", "all"]);
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_tmpfs_with_options() {
    let mut bundle = Bundle::new("tmpfs");
    fs::write(bundle.rootfs().join("data/old"), "kept\n").unwrap();
    symlink("old", bundle.rootfs().join("data/link")).unwrap();
    fs::create_dir(bundle.rootfs().join("data/dir")).unwrap();
    fs::write(bundle.rootfs().join("data/dir/deep"), "deep\n").unwrap();
    bundle.push("/mounts", json!({"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "mode=1770", "noexec"]}));
    bundle
        .push("/mounts", json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    bundle.push("/mounts", json!({"destination": "/fixed", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}));
    bundle.push("/mounts", json!({"destination": "/fixed/sub", "type": "tmpfs", "source": "tmpfs", "options": []}));
    bundle.script("stat -c %a /t; cat /data/link /data/dir/deep; touch /data/new && echo new; touch /fixed/x 2>/dev/null || echo refused; touch /fixed/sub/x && echo sub; cat /proc/self/mountinfo");
    let output = bundle.run();
    let lines = output.lines();
    assert_eq!(lines[..6], ["1770", "kept", "deep", "new", "refused", "sub"]);
    let t = mount_line(&lines.join("\n"), "/t").unwrap();
    assert!(t.0.starts_with("rw,noexec") && t.1.contains("size=64k"), "{t:?}");
    assert!(!bundle.rootfs().join("data/new").exists(), "what was copied up stays below");
}

#[test]
fn a_read_only_root() {
    let mut bundle = Bundle::new("ro");
    bundle.set("/root/readonly", json!(true));
    let output = bundle.script("touch /x 2>/dev/null || echo refused; touch /dev/shm/x && echo shm").run();
    assert_eq!(output.lines(), ["refused", "shm"]);
}

#[test]
fn masked_and_read_only_paths() {
    let mut bundle = Bundle::new("mask");
    fs::create_dir(bundle.rootfs().join("data/secret")).unwrap();
    fs::write(bundle.rootfs().join("data/secret/file"), "x").unwrap();
    fs::write(bundle.rootfs().join("data/plain"), "x").unwrap();
    bundle.set("/linux/maskedPaths", json!(["/data/secret", "/data/plain", "/proc/timer_list", "/no/such"]));
    bundle.set("/linux/readonlyPaths", json!(["/data", "/proc/sys", "/no/such"]));
    bundle.script(
        "ls /data/secret | wc -l; touch /data/secret/x 2>/dev/null || echo empty; wc -c < /data/plain; wc -c < /proc/timer_list; \
         touch /data/new 2>/dev/null || echo refused; echo x > /proc/sys/kernel/domainname 2>/dev/null || echo sysctl",
    );
    assert_eq!(bundle.run().lines(), ["0", "empty", "0", "0", "refused", "sysctl"]);
}

#[test]
fn links_of_the_image_do_not_lead_out() {
    let mut bundle = Bundle::new("escape");
    let outside = bundle.directory.join("outside");
    fs::create_dir(&outside).unwrap();
    // The image says that /escape is the directory on the host, by an absolute path and by many steps upwards.
    symlink(&outside, bundle.rootfs().join("escape")).unwrap();
    symlink(format!("../../../../../../../../..{}", outside.display()), bundle.rootfs().join("climb")).unwrap();
    bundle.push("/mounts", json!({"destination": "/escape/mnt", "type": "tmpfs", "source": "tmpfs", "options": []}));
    bundle.push("/mounts", json!({"destination": "/climb/mnt2", "type": "tmpfs", "source": "tmpfs", "options": []}));
    bundle.set("/process/cwd", json!("/escape/cwd"));
    let output = bundle.script("pwd; echo done").run();
    assert_eq!(output.lines().last(), Some(&"done"));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "nothing was made on the host");
    assert!(bundle.rootfs().join(outside.strip_prefix("/").unwrap()).join("mnt").is_dir(), "it was made inside");
}

#[test]
fn nothing_is_mounted_into_proc() {
    let mut bundle = Bundle::new("proc");
    bundle.push("/mounts", json!({"destination": "/proc/self", "type": "tmpfs", "source": "tmpfs", "options": []}));
    let output = bundle.run();
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains("/proc"), "{output:?}");
    let mut bundle = Bundle::new("procfile");
    let file = bundle.directory.join("cpuinfo");
    fs::write(&file, "fake\n").unwrap();
    bundle
        .push("/mounts", json!({"destination": "/proc/cpuinfo", "type": "bind", "source": file, "options": ["bind"]}));
    assert_eq!(bundle.args(&["/bin/cat", "/proc/cpuinfo"]).run().lines(), ["fake"]);
}

#[test]
fn cgroups_are_seen() {
    for own in [false, true] {
        let mut bundle = Bundle::new("cg");
        bundle.push("/mounts", json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}));
        if own {
            bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
        }
        // With a namespace of its own the group is the root of what is seen; without one version 2 shows all groups, and
        // the path in /proc/self/cgroup leads to the container's.
        bundle.script(
            "cat /proc/self/cgroup; cd /sys/fs/cgroup; for f in pids .$(sed -n s/^0:://p /proc/self/cgroup); do \
             [ -e $f/cgroup.procs ] && head -n 1 $f/cgroup.procs; done; \
             touch /sys/fs/cgroup/x 2>/dev/null || echo refused",
        );
        let output = bundle.run();
        let lines = output.lines();
        // runc 1.1 leaves the small tmpfs of version 1 writable.
        assert!(is_reference() || lines.last() == Some(&"refused"), "{output:?}");
        assert!(lines.iter().filter(|line| **line == "1").count() == 1, "{output:?}");
        let mut groups = lines.iter().filter(|line| line.contains(':'));
        if own {
            assert!(groups.all(|line| line.ends_with(":/")), "{output:?}");
        } else {
            assert!(groups.any(|line| line.ends_with(&bundle.id)), "{output:?}");
        }
    }
}

#[test]
fn propagation_of_a_bind_mount() {
    let mut bundle = Bundle::new("prop");
    let source = bundle.directory.join("source");
    fs::create_dir_all(source.join("later")).unwrap();
    rustix::mount::mount_bind(&source, &source).unwrap();
    let _guard = Unmount(source.clone());
    rustix::mount::mount_change(&source, rustix::mount::MountPropagationFlags::SHARED).unwrap();
    for (name, option) in [("slave", "rslave"), ("private", "rprivate"), ("shared", "rshared")] {
        let destination = format!("/{name}");
        bundle.push(
            "/mounts",
            json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind", option]}),
        );
    }
    if is_reference() {
        bundle.set("/linux/rootfsPropagation", json!("shared"));
    }
    bundle.script("sleep 1000");
    bundle.create();
    bundle.start();
    let later = source.join("later");
    rustix::mount::mount("tmpfs", &later, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    let _later = Unmount(later);
    let output = bundle.exec(&["/bin/cat", "/proc/self/mountinfo"]);
    let text = output.lines().join("\n");
    assert!(mount_line(&text, "/slave/later").is_some(), "{text}");
    assert!(mount_line(&text, "/private/later").is_none(), "{text}");
    assert!(mount_line(&text, "/shared").unwrap().0.contains("shared:"), "{text}");
}

#[test]
fn nothing_is_left_on_the_host() {
    let mut bundle = Bundle::new("clean");
    bundle.script("true");
    assert_eq!(bundle.run().code, 0);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&bundle.id), "{mounts}");
    assert!(!bundle.cgroup("memory").exists());
    assert!(!bundle.has_state());
}
