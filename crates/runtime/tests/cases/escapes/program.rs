//! The program's own file: overwriting the host's runtime (CVE-2019-5736).

use super::attacker;
use crate::support::{Bundle, is_reference, rounds, runtime};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// All that root can have: the attack must fail even where the container can look into the runtime's processes.
fn all_rights(bundle: &mut Bundle) {
    let rights = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_FOWNER",
        "CAP_SYS_PTRACE",
        "CAP_SYS_ADMIN",
        "CAP_KILL",
        "CAP_SETUID",
        "CAP_SETGID"
    ]);
    let sets = json!({"bounding": rights, "effective": rights, "permitted": rights});
    bundle.set("/process/capabilities", sets);
}

/// An image whose program is the runtime that executes it.
fn itself(bundle: &Bundle) {
    let script = bundle.rootfs().join("bin/itself");
    fs::write(&script, "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The runtime's file, which must be the same in the end.
struct Watched {
    path: PathBuf,
    content: Vec<u8>,
}

impl Watched {
    fn new(bundle: &mut Bundle) -> Option<Self> {
        let path = bundle.own_runtime("watched")?;
        Some(Self { content: fs::read(&path).unwrap(), path })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        assert!(fs::read(&self.path).unwrap() == self.content, "{} was written to", self.path.display());
    }
}

#[test]
fn exec_into_a_container_that_waits_for_it() {
    let mut bundle = Bundle::new("exe-exec");
    let _watched = Watched::new(&mut bundle);
    attacker::equip(&mut bundle, "programs", &[]);
    all_rights(&mut bundle);
    itself(&bundle);
    attacker::start(&bundle);
    for round in 0..rounds(40) {
        let program = if round % 2 == 0 { "/bin/itself" } else { "/bin/true" };
        let output = bundle.exec(&[program]);
        assert!(program == "/bin/itself" || output.code == 0, "{output:?}");
    }
    let found = attacker::stop(&bundle);
    assert_ne!(found["held"], ["0"], "the attacker saw the runtime at work");
    assert_eq!(found["written"], ["0"]);
}

#[test]
fn run_beside_a_container_that_waits_for_it() {
    let mut first = Bundle::new("exe-run1");
    let mut second = Bundle::new("exe-run2");
    // The program of the second container is not the runtime's: all that is shared is open to the first.
    attacker::equip(&mut first, "programs", &[&second.rootfs().join("bin/busybox")]);
    all_rights(&mut first);
    attacker::start(&first);
    let _watched = Watched::new(&mut second);
    itself(&second);
    second.join("pid", &format!("/proc/{}/ns/pid", first.pid()));
    second.set("/process/env", json!(["PATH=/bin", "LD_PRELOAD=/lib/evil.so", "LD_LIBRARY_PATH=/lib"]));
    for round in 0..rounds(20) {
        let program = if round % 2 == 0 { "/bin/itself" } else { "/bin/true" };
        let output = second.args(&[program]).run();
        assert!(program == "/bin/itself" || output.code == 0, "{output:?}");
    }
    let output = second.args(&["/bin/sleep", "1"]).run();
    assert_eq!(output.code, 0, "{output:?}");
    let found = attacker::stop(&first);
    assert_ne!(found["written-spared"], ["0"], "the attack works on what nothing protects");
    assert_ne!(found["held"], ["0"], "the attacker saw the runtime at work");
    assert_eq!(found["written"], ["0"]);
}

/// A library of the image cannot become part of the runtime, since it takes none.
#[test]
fn the_runtime_loads_no_library() {
    if is_reference() {
        return;
    }
    let program = fs::read(runtime().get_program()).unwrap();
    let number = |at: usize, size: usize| {
        program[at..at + size].iter().rev().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte))
    };
    // ELF-64: place, size and number of the program headers; 3 is PT_INTERP, the loader of libraries.
    let (place, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let kinds: Vec<usize> = (0..count).map(|index| number(place + index * size, 4)).collect();
    assert!(kinds.contains(&1) && !kinds.contains(&3), "{kinds:?}");
}

/// What the kernel executed when the process began is in its auxiliary vector (getauxval(3), `AT_EXECFN`).
fn executed_as(pid: i32) -> String {
    use std::os::unix::fs::FileExt;
    const AT_EXECFN: u64 = 31;
    let words: Vec<u64> = fs::read(format!("/proc/{pid}/auxv"))
        .unwrap()
        .chunks_exact(8)
        .map(|word| u64::from_ne_bytes(word.try_into().unwrap()))
        .collect();
    let place = words.chunks_exact(2).find(|pair| pair[0] == AT_EXECFN).unwrap()[1];
    let mut text = [0; 32];
    let length = fs::File::open(format!("/proc/{pid}/mem")).unwrap().read_at(&mut text, place).unwrap();
    String::from_utf8_lossy(&text[..length]).split('\0').next().unwrap().to_owned()
}

/// The program moves behind the read-only mount before its C library starts, and later where it is not called by a name
/// that says what it will do.
#[test]
fn the_first_of_the_two_executions_is_short() {
    if is_reference() {
        return;
    }
    let mut bundle = Bundle::new("exe-early");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    let early = executed_as(bundle.pid());
    assert!(early.starts_with("/dev/fd/"), "by execveat(2): {early}");
    let mut bundle = Bundle::new("exe-late");
    bundle.own_runtime("late");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    let late = executed_as(bundle.pid());
    let words = crate::support::runtime().get_args().count();
    assert!(late.starts_with(if words == 0 { "/proc/self/fd/" } else { "/dev/fd/" }), "{late}");
}

#[test]
fn the_file_of_a_created_container_is_read_only_for_good() {
    if is_reference() {
        return;
    }
    let mut bundle = Bundle::new("exe-held");
    let _watched = Watched::new(&mut bundle);
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    let exe = format!("/proc/{}/exe", bundle.pid());
    // Root of the host has more rights than any container, and cannot either.
    let held = fs::File::open(&exe).unwrap();
    bundle.start();
    crate::support::eventually("the program runs", || fs::read_link(&exe).is_ok_and(|path| path.ends_with("busybox")));
    let again = sys::path::of_descriptor(std::os::fd::AsFd::as_fd(&held));
    let none = sys::mount::Attributes { set: 0, clear: sys::mount::Attributes::READ_ONLY };
    let changed = sys::mount::set_attributes(std::os::fd::AsFd::as_fd(&held), none, false);
    assert!(changed.is_err());
    for options in [fs::OpenOptions::new().write(true), fs::OpenOptions::new().append(true)] {
        let error = options.open(&again).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::ROFS.raw_os_error()));
    }
}
