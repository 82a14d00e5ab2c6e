//! Links and directories that are exchanged while the runtime mounts (CVE-2021-30465, CVE-2019-19921, CVE-2023-27561,
//! CVE-2023-28642, CVE-2024-45310).

use super::Exchange;
use crate::support::{Bundle, is_reference, rounds};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A directory of the host with a secret in it, which a container must neither see nor change.
struct Outside(PathBuf);

impl Outside {
    fn new(bundle: &Bundle) -> Self {
        let path = bundle.directory.join("outside");
        fs::create_dir_all(path.join("deep")).unwrap();
        fs::write(path.join("secret"), "secret\n").unwrap();
        Self(path)
    }

    #[track_caller]
    fn assert_untouched(&self) {
        let names = |path: &Path| {
            let mut names: Vec<_> = fs::read_dir(path).unwrap().flatten().map(|entry| entry.file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&self.0), ["deep", "secret"]);
        assert!(names(&self.0.join("deep")).is_empty());
        assert_eq!(fs::read_to_string(self.0.join("secret")).unwrap(), "secret\n");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.0.to_str().unwrap()), "{mounts}");
    }
}

/// Names that a search of the whole container finds. Its own file systems alone are searched, by their mounts.
const SEARCH: &str = "cut -d' ' -f4,5 /proc/self/mountinfo | while read root place; do echo \"$root at $place\"; done; \
     for d in / /vol /vol/a /vol/a/b /vol/b /mnt /other; do ls $d 2>/dev/null; done; true";

#[test]
fn mount_targets_in_a_shared_volume() {
    let mut bundle = Bundle::new("ln-vol");
    let outside = Outside::new(&bundle);
    let volume = bundle.directory.join("volume");
    fs::create_dir_all(volume.join("a/b")).unwrap();
    // From where the root filesystem lies, from the host's root, and from the volume's own place.
    for (name, target) in [("up", "../../outside".to_owned()), ("far", outside.0.display().to_string())] {
        symlink(target, volume.join(name)).unwrap();
    }
    let source = bundle.directory.join("source");
    fs::write(&source, "bound\n").unwrap();
    bundle.push("/mounts", json!({"destination": "/vol", "type": "bind", "source": volume, "options": ["rbind"]}));
    for destination in ["/vol/a/b", "/vol/a/new/dir"] {
        bundle.push(
            "/mounts",
            json!({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}),
        );
    }
    bundle
        .push("/mounts", json!({"destination": "/vol/a/file", "type": "bind", "source": source, "options": ["bind"]}));
    // What the first mount would have left on the host's place is what this one would show.
    bundle.push(
        "/mounts",
        json!({"destination": "/vol/a/deep", "type": "bind", "source": source.parent(), "options": ["bind", "ro"]}),
    );
    bundle.script(SEARCH);
    for link in ["up", "far"] {
        let _exchange = Exchange::new(&volume.join("a"), &volume.join(link));
        for _ in 0..rounds(60) {
            let output = bundle.run();
            assert!(!output.stdout.lines().any(|line| line == "secret"), "{output:?}");
            outside.assert_untouched();
        }
    }
    let output = bundle.run();
    assert_eq!(output.code, 0, "it works when nobody interferes: {output:?}");
}

#[test]
fn a_working_directory_and_devices_in_a_shared_volume() {
    let mut bundle = Bundle::new("ln-cwd");
    let outside = Outside::new(&bundle);
    let volume = bundle.directory.join("volume");
    fs::create_dir_all(volume.join("a")).unwrap();
    symlink("../../outside", volume.join("b")).unwrap();
    bundle.push("/mounts", json!({"destination": "/vol", "type": "bind", "source": volume, "options": ["rbind"]}));
    bundle.set("/process/cwd", json!("/vol/a/made/for/it"));
    for name in ["null", "pipe"] {
        let (kind, major, minor) = if name == "null" { ("c", 1, 3) } else { ("p", 0, 0) };
        let path = format!("/vol/a/dev/{name}");
        bundle.push(
            "/linux/devices",
            json!({"path": path, "type": kind, "major": major, "minor": minor, "uid": 7, "gid": 7}),
        );
    }
    bundle.script("pwd; ls; ls ..");
    let _exchange = Exchange::new(&volume.join("a"), &volume.join("b"));
    for _ in 0..rounds(60) {
        let output = bundle.run();
        assert!(!output.stdout.lines().any(|line| line == "secret"), "{output:?}");
        outside.assert_untouched();
    }
}

#[test]
fn procfs_and_sysfs_are_not_mounted_through_links() {
    for (name, fstype) in [("proc", "proc"), ("sys", "sysfs")] {
        let mut bundle = Bundle::new("ln-proc");
        let volume = bundle.directory.join("volume");
        fs::create_dir_all(volume.join("place")).unwrap();
        fs::create_dir(bundle.rootfs().join("vol")).unwrap();
        let place = bundle.rootfs().join(name);
        fs::remove_dir(&place).unwrap();
        symlink("vol/place", &place).unwrap();
        let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
        mounts.insert(0, json!({"destination": "/vol", "type": "bind", "source": volume, "options": ["bind"]}));
        let output = bundle.args(&["/bin/true"]).run();
        assert_eq!(output.code, 1, "{output:?}");
        let text = format!("filesystem \\\"{fstype}\\\" must be mounted on ordinary directory");
        assert!(output.stderr.contains(&text) || output.stderr.contains(&text.replace('\\', "")), "{output:?}");
    }
}

/// Somebody who shares the root filesystem moves `/proc` away, once procfs lies there, and something else in its place. Wherever
/// procfs then is, the container must find it masked.
#[test]
fn a_root_filesystem_whose_proc_is_exchanged() {
    if is_reference() {
        // runc 1.1 finds by path what it masks (CVE-2025-52881 was mended later).
        return;
    }
    let mut bundle = Bundle::new("ln-shared");
    let root = bundle.rootfs();
    let fake = root.join("fake");
    for directory in ["sys/kernel", "sys/net/ipv4", "self/attr", "self/fd"] {
        fs::create_dir_all(fake.join(directory)).unwrap();
    }
    for file in ["kcore", "keys", "timer_list", "sysrq-trigger", "self/attr/exec", "sys/net/ipv4/ip_forward"] {
        fs::write(fake.join(file), "fake\n").unwrap();
    }
    bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    bundle.script(
        "echo begun; for p in /proc /fake; do cd $p; [ -e 1/stat ] || continue; \
         (: >> sys/kernel/core_pattern) 2>/dev/null && echo ESCAPED core_pattern; \
         [ \"$(stat -L -c %t:%T keys)\" = 1:3 ] || echo ESCAPED keys; \
         cat sys/net/ipv4/ip_forward; done",
    );
    let exchange = Exchange::new(&root.join("proc"), &fake);
    for _ in 0..rounds(120) {
        let output = bundle.run();
        assert!(!output.stdout.contains("ESCAPED"), "{output:?}");
        assert!(!output.stdout.contains("\n0\n"), "the parameter is the kernel's: {output:?}");
    }
    drop(exchange);
    assert_eq!(bundle.run().lines(), ["begun", "1"], "it works when nobody interferes");
    assert_eq!(fs::read_to_string(fake.join("sys/net/ipv4/ip_forward")).unwrap_or("fake\n".into()), "fake\n");
}

/// Places of `/dev` in a directory that others write to: masked paths are covered by `/dev/null`, and the terminal is bound to
/// `/dev/console` (CVE-2025-31133, CVE-2025-52565).
#[test]
fn a_null_device_that_is_something_else() {
    for replaced in ["link", "file", "race"] {
        let mut bundle = Bundle::new("ln-null");
        let dev = bundle.directory.join("dev");
        fs::create_dir_all(dev.join("pts")).unwrap();
        let make = |name: &str, minor| {
            let device = rustix::fs::makedev(1, minor);
            let mode = rustix::fs::Mode::from_raw_mode(0o666);
            let kind = rustix::fs::FileType::CharacterDevice;
            rustix::fs::mknodat(rustix::fs::CWD, dev.join(name), kind, mode, device).unwrap();
        };
        let mut exchange = None;
        match replaced {
            "link" => symlink("/proc/sys/vm/drop_caches", dev.join("null")).unwrap(),
            "file" => fs::write(dev.join("null"), "something else\n").unwrap(),
            _ => {
                make("null", 3);
                symlink("/proc/sys/kernel/core_pattern", dev.join("other")).unwrap();
                exchange = Some(Exchange::new(&dev.join("null"), &dev.join("other")));
            }
        }
        let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        mounts.push(json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["rbind"]}));
        bundle.script("stat -L -c %t:%T /proc/keys; (: >> /proc/sys/vm/drop_caches) 2>/dev/null && echo ESCAPED; true");
        for _ in 0..if exchange.is_some() { rounds(80) } else { 1 } {
            let output = bundle.run();
            assert!(!output.stdout.contains("ESCAPED"), "{output:?}");
            assert!(output.code != 0 && output.stdout.is_empty() || output.stdout.starts_with("1:3\n"), "{output:?}");
        }
        drop(exchange);
    }
}

#[test]
fn a_console_that_is_something_else() {
    for replaced in ["link", "race"] {
        let mut bundle = Bundle::new("ln-console");
        let dev = bundle.directory.join("dev");
        fs::create_dir_all(dev.join("pts")).unwrap();
        let null = rustix::fs::makedev(1, 3);
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(rustix::fs::CWD, dev.join("null"), rustix::fs::FileType::CharacterDevice, mode, null)
            .unwrap();
        let mut exchange = None;
        if replaced == "link" {
            symlink("/proc/sys/vm/drop_caches", dev.join("console")).unwrap();
        } else {
            fs::write(dev.join("console"), "").unwrap();
            symlink("/proc/sys/kernel/core_pattern", dev.join("other")).unwrap();
            exchange = Some(Exchange::new(&dev.join("console"), &dev.join("other")));
        }
        let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        mounts.push(json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["rbind"]}));
        mounts
            .push(json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]}));
        bundle.set("/process/terminal", json!(true));
        bundle.script(
            "echo begun; grep devpts /proc/self/mountinfo; (: >> /proc/sys/vm/drop_caches) 2>/dev/null && echo ESCAPED",
        );
        for _ in 0..if exchange.is_some() { rounds(80) } else { 1 } {
            let text = crate::terminal::run(&bundle);
            assert!(!text.contains("ESCAPED"), "{text}");
            let elsewhere = text.lines().filter(|line| line.contains(" - devpts ")).any(|line| {
                let place = line.split(' ').nth(4).unwrap_or_default();
                !["/dev/pts", "/dev/console", "/dev/other"].contains(&place)
            });
            assert!(!elsewhere, "{text}");
            assert!(is_reference() || exchange.is_some() || text.contains("/dev/console"), "{text}");
        }
    }
}
