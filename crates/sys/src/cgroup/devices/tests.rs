use super::*;
use crate::cgroup::{Cgroup, Joiner};
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

fn rule(allow: bool, kind: DeviceKind, major: Option<u32>, minor: Option<u32>, access: &str) -> DeviceRule {
    DeviceRule { allow, kind, major, minor, access: Access::parse(access).unwrap() }
}

const DENY_ALL: DeviceRule =
    DeviceRule { allow: false, kind: DeviceKind::All, major: None, minor: None, access: Access::ALL };

/// A machine for the few instructions that are used.
fn run(code: &[Instruction], kind: DeviceKind, major: u32, minor: u32, access: u8) -> bool {
    let kind = if kind == DeviceKind::Block { 1 } else { 2 };
    let context = [u32::from(access) << 16 | kind, major, minor];
    let mut registers = [0_u64; 11];
    let mut at = 0_usize;
    loop {
        let Instruction { code: operation, registers: pair, offset, immediate } = code[at];
        let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
        let value = immediate as i64 as u64;
        at += 1;
        let jump = match operation {
            LOAD_WORD => {
                registers[to] = u64::from(context[offset as usize / 4]);
                false
            }
            MOVE => {
                registers[to] = value;
                false
            }
            MOVE_REGISTER => {
                registers[to] = registers[from];
                false
            }
            AND => {
                registers[to] &= value;
                false
            }
            SHIFT_RIGHT => {
                registers[to] >>= value;
                false
            }
            JUMP_EQUAL => registers[to] == value,
            JUMP_NOT_EQUAL => registers[to] != value,
            JUMP_NOT_EQUAL_REGISTER => registers[to] != registers[from],
            EXIT => return registers[0] == 1,
            other => panic!("instruction {other:#x}"),
        };
        if jump {
            at += offset as usize;
        }
    }
}

#[test]
fn letters() {
    assert_eq!(Access::parse("rwm"), Some(Access::ALL));
    assert_eq!(Access::parse("mr").unwrap().letters(), "rm");
    assert_eq!(Access::parse("x"), None);
}

#[test]
fn lines_for_v1() {
    let rules = [
        DENY_ALL,
        rule(true, DeviceKind::Char, Some(1), None, "rwm"),
        rule(false, DeviceKind::Block, None, Some(3), "w"),
    ];
    let lines = v1_lines(&rules);
    let expected = [("devices.deny", "a"), ("devices.allow", "c 1:* rwm"), ("devices.deny", "b *:3 w")];
    assert_eq!(lines.iter().map(|(f, l)| (*f, l.as_str())).collect::<Vec<_>>(), expected);
}

#[test]
fn the_program_follows_the_rules() {
    use DeviceKind::{Block, Char};
    let code = compile(&Policy::replay(&[
        DENY_ALL,
        rule(true, Char, None, None, "m"),
        rule(true, Char, Some(1), Some(3), "rwm"),
        rule(true, Char, Some(5), None, "r"),
        rule(true, Char, Some(5), None, "w"),
        rule(true, Char, Some(7), Some(7), "rwm"),
        rule(false, Char, Some(7), Some(7), "w"),
    ]));
    for (kind, major, minor, access, allowed) in [
        (Char, 1, 3, "rw", true),
        (Char, 1, 5, "r", false),
        (Char, 1, 5, "m", true),
        (Block, 1, 3, "r", false),
        (Char, 5, 900, "rw", true),
        (Char, 5, 900, "rwm", false),
        (Char, 7, 7, "rm", true),
        (Char, 7, 7, "w", false),
    ] {
        let access_bits = Access::parse(access).unwrap().0;
        assert_eq!(run(&code, kind, major, minor, access_bits), allowed, "{kind:?} {major}:{minor} {access}");
    }
    let all_but =
        compile(&Policy::replay(&[DeviceRule { allow: true, ..DENY_ALL }, rule(false, Block, Some(8), None, "w")]));
    assert!(run(&all_but, Block, 8, 1, Access::READ));
    assert!(!run(&all_but, Block, 8, 1, Access::READ | Access::WRITE));
    assert!(run(&all_but, Char, 8, 1, Access::WRITE));
}

/// Whether a process in the group can read a device.
fn can_read(group: &Cgroup, device: &str) -> bool {
    let joiner: Joiner = group.joiner(false).unwrap();
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &format!("exec 2>/dev/null; head -c 1 {device} >&0")])
        .stdin(fs::File::create("/dev/null").unwrap());
    // SAFETY: the closure makes system calls on open descriptors alone.
    unsafe { command.pre_exec(move || joiner.join().map_err(io::Error::other)) };
    command.stdout(std::process::Stdio::null());
    command.status().unwrap().success()
}

struct Scratch(Cgroup);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.0.delete();
    }
}

/// The program works in the v2 hierarchy of a v1 host as well, so it is tested on both; a kernel without either
/// hierarchy has nothing to test.
#[test]
fn the_kernel_takes_the_program_and_obeys() {
    let path = PathBuf::from(format!("/gantry-test-devices-{}", std::process::id()));
    let scratch = Scratch(Cgroup::create(&path).unwrap());
    let Some(unified) = scratch.0.unified_directory() else { return };
    let null_only = [DENY_ALL, rule(true, DeviceKind::Char, Some(1), Some(3), "rwm")];
    replace_program(unified, &null_only).unwrap();
    assert!(can_read(&scratch.0, "/dev/null"));
    assert!(!can_read(&scratch.0, "/dev/zero"));
    let both = [null_only[0], null_only[1], rule(true, DeviceKind::Char, Some(1), Some(5), "r")];
    replace_program(unified, &both).unwrap();
    assert!(can_read(&scratch.0, "/dev/zero"));
    let group = files::open_directory(unified).unwrap();
    assert_eq!(attached(&group).unwrap().len(), 1, "the old program is gone");
}

#[test]
fn v1_lists_are_obeyed() {
    let path = PathBuf::from(format!("/gantry-test-devices-list-{}", std::process::id()));
    let scratch = Scratch(Cgroup::create(&path).unwrap());
    let devices = vec![DENY_ALL, rule(true, DeviceKind::Char, Some(1), Some(3), "rwm")];
    scratch.0.apply(&crate::cgroup::Resources { devices, ..Default::default() }).unwrap();
    assert!(can_read(&scratch.0, "/dev/null"));
    assert!(!can_read(&scratch.0, "/dev/zero"));
}
