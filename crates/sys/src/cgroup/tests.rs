//! Against the kernel, in groups of each test's own.

use super::*;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A group that ends with the test, with whatever runs in it.
struct Scratch(Cgroup);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = format!("/gantry-test-{}-{number}/inner", std::process::id());
        Self(Cgroup::create(Path::new(&path)).unwrap())
    }

    /// A process in the group that waits for its standard input to end.
    fn cat(&self) -> Child {
        let joiner = self.0.joiner(false).unwrap();
        let mut command = Command::new("/bin/cat");
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        join_before_exec(&mut command, joiner);
        command.spawn().unwrap()
    }

    fn file(&self, v1: &str, v2: &str) -> String {
        let name = if self.0.version() == Version::V1 { v1 } else { v2 };
        let directories = self.0.directories();
        let path = directories.iter().map(|d| d.join(name)).find(|p| p.exists());
        fs::read_to_string(path.unwrap()).unwrap().trim().to_owned()
    }
}

#[allow(unsafe_code)]
fn join_before_exec(command: &mut Command, joiner: Joiner) {
    // SAFETY: the closure makes system calls on open descriptors alone.
    unsafe { command.pre_exec(move || joiner.join().map_err(io::Error::other)) };
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.delete();
        let outer = Cgroup::open(self.0.path().parent().unwrap()).unwrap();
        let _ = outer.delete();
        assert!(outer.directories().iter().all(|d| !d.exists()) || std::thread::panicking());
    }
}

#[test]
fn shares_become_weights_as_runc_has_it() {
    for (shares, weight) in [(0, 0), (2, 1), (1024, 39), (262_144, 10_000), (1, 1), (1 << 40, 10_000)] {
        assert_eq!(shares_to_weight(shares), weight);
    }
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    for path in ["/", "relative", "/a/../b", ""] {
        assert!(matches!(Cgroup::open(Path::new(path)), Err(Error::Path(_))), "{path}");
    }
}

#[test]
fn limits_are_in_force_and_change() {
    let scratch = Scratch::new();
    let mut resources = Resources::default();
    resources.memory.limit = Some(64 << 20);
    resources.memory.swap = Some(128 << 20);
    resources.memory.reservation = Some(32 << 20);
    resources.cpu = Cpu { shares: Some(512), quota: Some(50_000), period: Some(100_000), ..Cpu::default() };
    resources.cpu.cpus = "0".into();
    resources.pids = Some(33);
    scratch.0.apply(&resources).unwrap();
    assert_eq!(scratch.file("memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
    let swap = if scratch.0.version() == Version::V1 { 128 << 20 } else { 64 << 20 };
    assert_eq!(scratch.file("memory.memsw.limit_in_bytes", "memory.swap.max"), swap.to_string());
    assert_eq!(scratch.file("memory.soft_limit_in_bytes", "memory.low"), (32 << 20).to_string());
    assert_eq!(scratch.file("pids.max", "pids.max"), "33");
    assert_eq!(scratch.file("cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(scratch.file("cpu.cfs_quota_us", "cpu.max").split(' ').next(), Some("50000"));
    assert_eq!(scratch.file("cpu.shares", "cpu.weight"), if scratch.0.version() == Version::V1 { "512" } else { "20" });

    // Up over the old limit of swap, and down again: the order of the writes differs.
    for megabytes in [256, 32] {
        let mut change = Resources::default();
        change.memory.limit = Some(megabytes << 20);
        change.memory.swap = Some(megabytes << 20);
        scratch.0.apply(&change).unwrap();
        assert_eq!(scratch.0.stats().unwrap().memory.limit, Some((megabytes as u64) << 20));
    }
    assert_eq!(scratch.file("pids.max", "pids.max"), "33", "what is not mentioned stays");
    let none = Resources { pids: Some(-1), ..Resources::default() };
    scratch.0.apply(&none).unwrap();
    assert_eq!(scratch.0.stats().unwrap().pids.limit, None);
}

#[test]
fn processes_enter_stand_still_and_end() {
    let scratch = Scratch::new();
    let group = &scratch.0;
    let (mut first, mut second) = (scratch.cat(), Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap());
    group.attach(second.id() as i32).unwrap();
    let mut expected = vec![first.id() as i32, second.id() as i32];
    expected.sort_unstable();
    assert_eq!(group.processes().unwrap(), expected);
    assert_eq!(group.stats().unwrap().pids.current, 2);
    for directory in group.directories() {
        let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap();
        assert_eq!(text.lines().count(), 2, "{}", directory.display());
    }
    assert!(matches!(Cgroup::create(group.path()), Err(Error::InUse { count: 2, .. })));

    group.freeze().unwrap();
    assert!(group.is_frozen().unwrap());
    group.thaw().unwrap();
    assert!(!group.is_frozen().unwrap());
    group.freeze().unwrap();
    // Killed although frozen.
    group.kill().unwrap();
    assert!(group.wait_empty(Duration::from_secs(20)).unwrap());
    assert!(group.processes().unwrap().is_empty());
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(first.wait().unwrap().signal(), Some(9));
    assert_eq!(second.wait().unwrap().signal(), Some(9));
    group.delete().unwrap();
    assert!(!group.exists());
    group.delete().unwrap();
}

#[test]
fn removal_waits_for_the_last_process() {
    let scratch = Scratch::new();
    let mut child = scratch.cat();
    let main = scratch.0.main_directory().unwrap();
    fs::create_dir(main.join("made-inside")).unwrap();
    let stdin = child.stdin.take();
    let waiter = std::thread::spawn({
        let group = scratch.0.clone();
        move || group.delete()
    });
    drop(stdin);
    child.wait().unwrap();
    waiter.join().unwrap().unwrap();
    assert!(!scratch.0.exists());
}

#[test]
fn a_group_that_is_too_small_is_killed_in_and_tells() {
    let scratch = Scratch::new();
    let mut resources = Resources::default();
    resources.memory.limit = Some(8 << 20);
    resources.memory.swap = Some(8 << 20);
    scratch.0.apply(&resources).unwrap();
    let watch = scratch.0.watch_oom().unwrap().unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "x=0123456789abcdef; while :; do x=$x$x; done"]);
    join_before_exec(&mut command, scratch.0.joiner(false).unwrap());
    let status = command.status().unwrap();
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(status.signal(), Some(9));
    let flags = watch.poll_flags();
    let mut polled = [rustix::event::PollFd::new(&watch, flags)];
    assert_eq!(rustix::event::poll(&mut polled, Some(&rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 })).unwrap(), 1);
    assert!(watch.happened().unwrap());
    assert!(!watch.happened().unwrap());
    assert!(scratch.0.oom_kills().unwrap() >= 1);
}

#[test]
fn a_limit_of_memory_above_that_of_both_is_refused() {
    let scratch = Scratch::new();
    if scratch.0.version() == Version::V2 {
        return; // counted apart there
    }
    let mut resources = Resources::default();
    resources.memory.swap = Some(1 << 20);
    resources.memory.limit = Some(2 << 20);
    let error = scratch.0.apply(&resources).unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
}

#[test]
fn what_the_host_lacks_is_named() {
    let scratch = Scratch::new();
    let resources = Resources { hugepages: vec![("3MB".into(), 1)], ..Resources::default() };
    assert!(scratch.0.apply(&resources).is_err());
    let mut resources = Resources::default();
    resources.network.class_id = Some(7);
    let error = scratch.0.apply(&resources).unwrap_err();
    assert!(matches!(error, Error::Controller { .. } | Error::Unsupported(_)), "{error}");
    let mut resources = Resources::default();
    resources.unified.insert("memory.high".into(), "1000000".into());
    match scratch.0.version() {
        Version::V1 => assert!(matches!(scratch.0.apply(&resources), Err(Error::Unsupported(_)))),
        Version::V2 => scratch.0.apply(&resources).unwrap(),
    }
}

#[test]
fn huge_pages_are_limited_wherever_their_controller_is() {
    let hierarchies = Hierarchies::detect().unwrap();
    if !hierarchies.controller_names().iter().any(|n| n == "hugetlb")
        || !Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists()
    {
        return;
    }
    let scratch = Scratch::new();
    let resources = Resources { hugepages: vec![("2MB".into(), 4 << 20)], ..Resources::default() };
    scratch.0.apply(&resources).unwrap();
    let files = ["hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"];
    let path = scratch.0.directories().iter().flat_map(|d| files.map(|f| d.join(f))).find(|p| p.exists()).unwrap();
    assert_eq!(fs::read_to_string(path).unwrap().trim(), (4 << 20).to_string());
}

#[test]
fn figures_grow() {
    let scratch = Scratch::new();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"]);
    join_before_exec(&mut command, scratch.0.joiner(false).unwrap());
    assert!(command.status().unwrap().success());
    let stats = scratch.0.stats().unwrap();
    assert!(stats.cpu.total_ns > 0);
    assert!(stats.memory.detail.len() > 10);
}
