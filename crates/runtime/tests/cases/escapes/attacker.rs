//! What runs inside: the test program is static, so it can be an attacker in any root filesystem.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use serde_json::json;
use sys::namespace::Kinds;

use crate::support::{Bundle, copy_program, eventually};

const READY: &str = "data/ready";
const STOP: &str = "data/stop";
const REPORT: &str = "data/report";

/// Makes the first process of a bundle this attacker.
///
/// What is in `spared` may be written to by it: files of containers, which is no escape.
pub(super) fn equip(bundle: &mut Bundle, attack: &str, spared: &[&Path]) {
    let copy = bundle.directory.join("attacker");
    copy_program(&std::env::current_exe().unwrap(), &copy);
    bundle.push(
        "/mounts",
        json!({"destination": "/attacker", "type": "bind", "source": copy, "options": ["bind", "ro"]}),
    );
    let spared: Vec<String> = spared
        .iter()
        .map(|path| fs::metadata(path).map(|found| format!("{}:{}", found.dev(), found.ino())).unwrap())
        .collect();
    bundle
        .set("/process/env", json!(["PATH=/bin", format!("ATTACK={attack}"), format!("SPARED={}", spared.join(" "))]));
    bundle.args(&["/attacker", "escapes::attacker::inside", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
}

/// Starts it, and waits until it is at work.
pub(super) fn start(bundle: &Bundle) {
    bundle.create();
    bundle.start();
    let ready = bundle.rootfs().join(READY);
    eventually("the attacker is at work", || ready.exists());
}

/// Ends it; what it found, by name.
pub(super) fn stop(bundle: &Bundle) -> HashMap<String, Vec<String>> {
    fs::write(bundle.rootfs().join(STOP), "").unwrap();
    report(bundle)
}

/// What an attacker found that ends by itself.
pub(super) fn report(bundle: &Bundle) -> HashMap<String, Vec<String>> {
    let report = bundle.rootfs().join(REPORT);
    eventually("the attacker reports", || report.exists());
    let mut found = HashMap::<String, Vec<String>>::new();
    for line in fs::read_to_string(report).unwrap().lines() {
        let (name, what) = line.split_once(' ').unwrap_or((line, ""));
        found.entry(name.to_owned()).or_default().push(what.to_owned());
    }
    found
}

#[test]
#[ignore = "runs inside the containers of other cases"]
fn inside() {
    let Ok(attack) = std::env::var("ATTACK") else { return };
    let lines = match attack.as_str() {
        "programs" => programs(),
        "neighbours" => neighbours(),
        "limits" => limits(),
        "kernel files" => kernel_files(),
        "cgroups" => cgroups(),
        other => panic!("there is no attack {other:?}"),
    };
    // Renamed, so that it is never seen half written.
    fs::write("/data/.report", lines.join("\n")).unwrap();
    fs::rename("/data/.report", Path::new("/").join(REPORT)).unwrap();
}

/// Calls `attack` with the number of every other process, as fast as it can, until told to stop.
fn for_every_process(mut attack: impl FnMut(i32)) {
    fs::write(Path::new("/").join(READY), "").unwrap();
    let own = std::process::id() as i32;
    while !Path::new("/").join(STOP).exists() {
        for _ in 0..50 {
            for entry in fs::read_dir("/proc").unwrap().flatten() {
                match entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                    Some(pid) if pid != own => attack(pid),
                    _ => {}
                }
            }
        }
    }
}

fn identity(file: &impl AsFd) -> Option<(u64, u64)> {
    rustix::fs::fstat(file).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

/// The program's own bytes are written back to it: no harm where the attack succeeds, but proof.
fn write_to(file: &File) -> bool {
    let mut first = [0];
    let _ = file.read_at(&mut first, 0);
    file.write_at(b"\x7f", 0).is_ok()
}

/// Descriptors of one file that are kept: the runtime's comes from a new mount each time, and some of them will do.
const KEPT: usize = 32;

/// CVE-2019-5736: gets hold of every program that another process executes, and writes to it: at once, and when nobody
/// executes it any more.
///
/// Programs of other containers are held like the runtime's, but counted apart: whoever may do everything in the same
/// process namespace may write to them, which shows that the attack works where nothing keeps it from working.
fn programs() -> Vec<String> {
    let own: HashSet<_> = ["/attacker", "/bin/busybox"]
        .iter()
        .map(|path| fs::metadata(path).map(|found| (found.dev(), found.ino())).unwrap())
        .collect();
    let spared = std::env::var("SPARED").unwrap_or_default();
    let is_spared = |(device, inode): (u64, u64)| spared.split(' ').any(|one| one == format!("{device}:{inode}"));
    let mut held: HashMap<(u64, u64), Vec<OwnedFd>> = HashMap::new();
    let mut written = [0; 2];
    for_every_process(|pid| {
        let path = format!("/proc/{pid}/exe");
        let Ok(program) = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else { return };
        let Some(which) = identity(&program).filter(|which| !own.contains(which)) else { return };
        let same = held.entry(which).or_default();
        if same.len() < KEPT {
            let is_open = OpenOptions::new().write(true).open(&path).is_ok_and(|file| write_to(&file));
            written[usize::from(is_spared(which))] += usize::from(is_open);
            same.push(program);
        }
    });
    // All of them have ended.
    for (which, program) in held.iter().flat_map(|(which, same)| same.iter().map(move |program| (*which, program))) {
        let again = format!("/proc/self/fd/{}", program.as_raw_fd());
        let none = sys::mount::Attributes { set: 0, clear: sys::mount::Attributes::READ_ONLY };
        let count = &mut written[usize::from(is_spared(which))];
        for _ in 0..2 {
            *count += usize::from(OpenOptions::new().write(true).open(&again).is_ok_and(|file| write_to(&file)));
            *count += usize::from(OpenOptions::new().append(true).open(&again).is_ok_and(|file| write_to(&file)));
            let _ = sys::mount::set_attributes(program.as_fd(), none, false);
            let _ = rustix::mount::mount_remount(&*again, rustix::mount::MountFlags::BIND, "");
        }
    }
    let [written, spared_written] = written;
    let kept: usize = held.iter().filter(|(which, _)| !is_spared(**which)).map(|(_, same)| same.len()).sum();
    vec![format!("held {kept}"), format!("written {written}"), format!("written-spared {spared_written}")]
}

/// CVE-2016-9962: looks into every process that is not yet the container's program.
fn neighbours() -> Vec<String> {
    let mut seen = HashSet::new();
    let mut found = HashSet::new();
    for_every_process(|pid| {
        seen.insert(pid);
        // The kernel replaces the memory with that of the program first, with which `exe` changes, and closes descriptors;
        // then it lets others look, and gives the name last (begin_new_exec in fs/exec.c). One that ended has only the name.
        let is_own = || {
            fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path == Path::new("/bin/busybox"))
                || fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "true")
        };
        if is_own() {
            return;
        }
        let mut secrets: Vec<String> = Vec::new();
        let directory = format!("/proc/{pid}/fd");
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            secrets.extend(fs::read_link(entry.path()).map(|target| format!("fd {}", target.display())));
        }
        for link in ["exe", "cwd", "root"] {
            secrets
                .extend(fs::read_link(format!("/proc/{pid}/{link}")).map(|path| format!("{link} {}", path.display())));
        }
        secrets.extend(fs::read(format!("/proc/{pid}/environ")).map(|_| "environ".to_owned()));
        secrets.extend(File::open(format!("/proc/{pid}/mem")).map(|_| "mem".to_owned()));
        // It may have become the container's program while this was going on, which is no secret. Whether it is there is asked
        // last: of one that ends in between, nothing says what it was.
        let process = Path::new("/proc").join(pid.to_string());
        if !secrets.is_empty() && !is_own() && process.exists() {
            found.extend(secrets);
        }
    });
    found.into_iter().map(|what| format!("secret {what}")).chain([format!("seen {}", seen.len())]).collect()
}

/// Lowers the limits of every other process, and tries to raise them.
fn limits() -> Vec<String> {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    let (mut lowered, mut raised) = (0, 0);
    let hard = getrlimit(Resource::Nofile).maximum;
    for_every_process(|pid| {
        let pid = Pid::from_raw(pid);
        for resource in [Resource::Fsize, Resource::Nofile, Resource::Core] {
            let none = Rlimit { current: Some(0), maximum: Some(0) };
            lowered += usize::from(prlimit(pid, resource, none).is_ok());
        }
        let more = Rlimit { current: hard.map(|hard| hard + 1), maximum: hard.map(|hard| hard + 1) };
        raised += usize::from(hard.is_some() && prlimit(pid, Resource::Nofile, more).is_ok());
    });
    vec![format!("lowered {lowered}"), format!("raised {raised}")]
}

/// Opens everything below `/proc/sys` and `/sys`, and what else of procfs acts on the whole machine, for writing.
fn kernel_files() -> Vec<String> {
    fn walk(directory: &Path, found: &mut Vec<String>, tried: &mut usize) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => walk(&path, found, tried),
                Ok(kind) if kind.is_file() => attempt(&path, found, tried),
                _ => {}
            }
        }
    }
    fn attempt(path: &Path, found: &mut Vec<String>, tried: &mut usize) {
        *tried += 1;
        if OpenOptions::new().write(true).open(path).is_ok() {
            found.push(format!("writable {}", path.display()));
        }
    }
    let (mut found, mut tried) = (Vec::new(), 0);
    for directory in ["/proc/sys", "/proc/irq", "/proc/fs", "/proc/bus", "/sys"] {
        walk(Path::new(directory), &mut found, &mut tried);
    }
    for name in ["sysrq-trigger", "acpi/wakeup", "mtrr", "kmsg"] {
        attempt(&Path::new("/proc").join(name), &mut found, &mut tried);
    }
    for name in ["kcore", "keys", "timer_list"] {
        if fs::read(format!("/proc/{name}")).is_ok_and(|text| !text.is_empty()) {
            found.push(format!("readable /proc/{name}"));
        }
    }
    found.push(format!("tried {tried}"));
    found
}

/// CVE-2022-0492: a hierarchy of version 1 whose `release_agent` the host executes; in the namespaces that the container has,
/// and in new ones, in which it would have all rights.
fn cgroups() -> Vec<String> {
    let mut found = Vec::new();
    let mut attempt = |step: &str| {
        let target = Path::new("/data/cgroup");
        fs::create_dir_all(target).unwrap();
        let mut mounted = Vec::new();
        for controller in ["rdma", "memory", "pids", "cpu,cpuacct", "misc"] {
            let flags = rustix::mount::MountFlags::empty();
            let options = std::ffi::CString::new(controller).unwrap();
            if rustix::mount::mount("cgroup", target, "cgroup", flags, options.as_c_str()).is_ok() {
                mounted.push(target.to_owned());
            }
        }
        mounted.extend(fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path()));
        for directory in mounted {
            for file in [directory.join("release_agent"), directory.join("../release_agent")] {
                if OpenOptions::new().write(true).open(&file).is_ok_and(|file| file.write_at(b"", 0).is_ok()) {
                    found.push(format!("writable {step} {}", file.display()));
                }
            }
        }
    };
    attempt("as-it-is");
    if sys::namespace::unshare(Kinds::USER).is_ok() {
        let _ = sys::namespace::unshare(Kinds::CGROUP | Kinds::MOUNT);
        attempt("in-new-namespaces");
    }
    found.push("tried".into());
    found
}
