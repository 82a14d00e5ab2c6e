//! The kernel's own files: what may cover them, and what can be written to (CVE-2019-16884, CVE-2022-0492, CVE-2025-52881).

use super::attacker;
use crate::support::{Bundle, is_reference};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn nothing_covers_procfs_or_takes_its_place() {
    let refused = |destination: &str, kind: &str, first: bool| {
        let mut bundle = Bundle::new("kf-cover");
        let fake = bundle.directory.join("fake");
        fs::create_dir_all(fake.join("self/attr")).unwrap();
        symlink("/proc/sys/vm/drop_caches", fake.join("self/attr/exec")).unwrap();
        let file = bundle.directory.join("file");
        fs::write(&file, "fake\n").unwrap();
        symlink("proc", bundle.rootfs().join("alias")).unwrap();
        let mount = match kind {
            "tmpfs" => json!({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": []}),
            "file" => json!({"destination": destination, "type": "bind", "source": file, "options": ["bind"]}),
            "cgroup" => json!({"destination": destination, "type": "cgroup", "source": "cgroup", "options": []}),
            _ => json!({"destination": destination, "type": "bind", "source": fake, "options": ["bind"]}),
        };
        let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
        if first {
            mounts.retain(|mount| mount["destination"] != "/proc");
        }
        mounts.push(mount);
        let output = bundle.args(&["/bin/true"]).run();
        assert_eq!(output.code, 1, "{destination} {kind} {first}: {output:?}");
        let text = ["because it is inside /proc", "because it is not of type proc"];
        assert!(text.iter().any(|text| output.stderr.contains(text)), "{destination} {kind} {first}: {output:?}");
        assert!(!bundle.has_state());
    };
    for first in [true, false] {
        for kind in ["tmpfs", "directory"] {
            refused("/proc", kind, first);
            refused("/alias", kind, first);
        }
    }
    for destination in ["/proc/self", "/proc/sys", "/proc/sys/kernel", "/proc/1/attr", "/alias/sys", "/etc/../proc/sys"]
    {
        refused(destination, "tmpfs", false);
        refused(destination, "directory", false);
    }
    for destination in
        ["/proc/sys/kernel/core_pattern", "/proc/self/attr/exec", "/proc/sys/vm/drop_caches", "/alias/keys"]
    {
        refused(destination, "file", false);
    }
    if !is_reference() {
        refused("/proc/fs", "cgroup", false);
    }
}

/// A bind mount of procfs is as good as a new one, one of a part of it is not.
#[test]
fn a_part_of_procfs_is_not_procfs() {
    let run = |source: &str| {
        let mut bundle = Bundle::new("kf-part");
        let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/proc");
        mounts.push(json!({"destination": "/proc", "type": "bind", "source": source, "options": ["rbind"]}));
        bundle.without_namespace("pid");
        let script = "(: >> /proc/sys/kernel/core_pattern) 2>/dev/null && echo ESCAPED; stat -L -c %t:%T /proc/keys";
        bundle.script(script).run()
    };
    assert_eq!(run("/proc").lines(), ["1:3"]);
    if !is_reference() {
        // runc 1.1 looks at the type alone.
        assert_eq!(run("/proc/self").code, 1);
    }
}

#[test]
fn no_file_of_the_kernel_is_writable() {
    let mut bundle = Bundle::new("kf-write");
    attacker::equip(&mut bundle, "kernel files", &[]);
    bundle.create();
    bundle.start();
    let found = attacker::report(&bundle);
    let tried: usize = found["tried"][0].parse().unwrap();
    assert!(tried > 100, "{tried} files were tried");
    assert!(!found.contains_key("writable"), "{:?}", found["writable"]);
    assert!(!found.contains_key("readable"), "{:?}", found["readable"]);
}

#[test]
fn the_release_agent_is_out_of_reach() {
    for (own, rights) in [(true, false), (true, true), (false, false)] {
        let mut bundle = Bundle::new("kf-agent");
        attacker::equip(&mut bundle, "cgroups", &[]);
        let options = json!(["nosuid", "noexec", "nodev"]);
        bundle.push(
            "/mounts",
            json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}),
        );
        if own {
            bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
        }
        if rights {
            // With these alone it may mount, in its own cgroup namespace, whose root is not the hierarchy's.
            for set in ["bounding", "effective", "permitted"] {
                bundle.push(&format!("/process/capabilities/{set}"), json!("CAP_SYS_ADMIN"));
            }
        }
        bundle.create();
        bundle.start();
        let found = attacker::report(&bundle);
        assert!(found.contains_key("tried"));
        assert!(!found.contains_key("writable"), "{:?}", found["writable"]);
    }
}

/// The kernel lets a user namespace mount procfs only where one without masked paths is to be seen already.
#[test]
fn no_procfs_without_masks_by_a_user_namespace() {
    for arguments in [&["run"][..], &["run", "--no-pivot"]] {
        let mut bundle = Bundle::new("kf-reveal");
        bundle.script("unshare -U -r -m -p -f mount -t proc proc /data && echo ESCAPED; echo tried");
        bundle.write();
        let mut all = arguments.to_vec();
        all.push(&bundle.id);
        assert_eq!(bundle.call(&all).lines(), ["tried"], "{arguments:?}");
    }
}

/// Another container's mount namespace, whose `/proc` that container has replaced: parameters of the new one still go to the
/// kernel.
#[test]
fn parameters_are_written_to_the_kernel() {
    if is_reference() {
        // runc does not say where in a joined mount namespace the root is.
        return;
    }
    let mut first = Bundle::new("kf-join1");
    for set in ["bounding", "effective", "permitted"] {
        first.push(&format!("/process/capabilities/{set}"), json!("CAP_SYS_ADMIN"));
    }
    let mut second = Bundle::new("kf-join2");
    let inside = second.rootfs();
    first.script(&format!(
        "mkdir -p {0}; umount -l /proc; mount -t tmpfs tmpfs /proc && mkdir -p /proc/sys/net/ipv4 /proc/self/ns && \
         echo fake > /proc/sys/net/ipv4/ip_forward && echo fake > /proc/self/timens_offsets && touch /data/ready; \
         sleep 1000",
        inside.display()
    ));
    first.create();
    first.start();
    crate::support::eventually("its /proc is replaced", || first.rootfs().join("data/ready").exists());
    second.join("mount", &format!("/proc/{}/ns/mnt", first.pid()));
    second.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    second.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
    second.script("cat /proc/sys/net/ipv4/ip_forward");
    let output = second.run();
    assert_eq!(output.lines(), ["1"], "{output:?}");
}
