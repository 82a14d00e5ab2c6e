//! Which devices a group may use: a list of exceptions in v1, a small eBPF program in v2.
//!
//! Both mean the same. The rules are replayed on a default and its exceptions, as the v1 controller keeps them; the
//! program is compiled from the outcome, so that an order of rules that v1 understands in its own way (an exception is
//! only ever changed by a rule for the very same numbers) has the same effect in v2.
#![allow(unsafe_code)]

use super::{Access, DeviceKind, DeviceRule, Error, Result, files};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Files and lines for the v1 controller, one write each.
pub(super) fn v1_lines(rules: &[DeviceRule]) -> Vec<(&'static str, String)> {
    let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
    rules
        .iter()
        .map(|rule| {
            let letter = match rule.kind {
                DeviceKind::All => return (file(rule.allow), "a".to_owned()),
                DeviceKind::Char => 'c',
                DeviceKind::Block => 'b',
            };
            let line = format!("{letter} {}:{} {}", number(rule.major), number(rule.minor), rule.access.letters());
            (file(rule.allow), line)
        })
        .collect()
}

fn file(allow: bool) -> &'static str {
    if allow { "devices.allow" } else { "devices.deny" }
}

/// A default and what is otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Policy {
    allow: bool,
    exceptions: Vec<DeviceRule>,
}

impl Policy {
    fn replay(rules: &[DeviceRule]) -> Self {
        let mut policy = Self { allow: false, exceptions: Vec::new() };
        for rule in rules {
            if rule.kind == DeviceKind::All {
                policy = Self { allow: rule.allow, exceptions: Vec::new() };
                continue;
            }
            let same = |e: &DeviceRule| (e.kind, e.major, e.minor) == (rule.kind, rule.major, rule.minor);
            let found = policy.exceptions.iter_mut().find(|e| same(e));
            match (rule.allow == policy.allow, found) {
                // Back to the default: the exception shrinks.
                (true, Some(exception)) => exception.access.0 &= !rule.access.0,
                (true, None) => {}
                (false, Some(exception)) => exception.access.0 |= rule.access.0,
                (false, None) => policy.exceptions.push(*rule),
            }
            policy.exceptions.retain(|e| e.access.0 != 0);
        }
        policy
    }
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high half.
    registers: u8,
    offset: i16,
    immediate: i32,
}

// Codes of the few instructions needed, linux/bpf.h.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5d;
const JUMP_EQUAL: u8 = 0x15;
const EXIT: u8 = 0x95;

// Where things are kept: the context comes in r1, the verdict goes out in r0.
const VERDICT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

const fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: destination | source << 4, offset, immediate }
}

#[allow(clippy::cast_possible_wrap)] // numbers of devices are compared as 32 bits, whatever their sign
fn compile(policy: &Policy) -> Vec<Instruction> {
    // struct bpf_cgroup_dev_ctx { u32 access << 16 | kind; u32 major; u32 minor; }
    let mut code = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, ACCESS, KIND, 0, 0),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for exception in &policy.exceptions {
        let mut body = Vec::new();
        // Each test jumps over the rest of the body; the distance is filled in below.
        let kind = if exception.kind == DeviceKind::Block { 1 } else { 2 };
        body.push(instruction(JUMP_NOT_EQUAL, KIND, 0, 0, kind));
        if exception.access != Access::ALL {
            body.push(instruction(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0));
            body.push(instruction(AND, SCRATCH, 0, 0, i32::from(exception.access.0)));
            // Allowed is what is wholly covered, denied what is touched.
            body.push(if policy.allow {
                instruction(JUMP_EQUAL, SCRATCH, 0, 0, 0)
            } else {
                instruction(JUMP_NOT_EQUAL_REGISTER, SCRATCH, ACCESS, 0, 0)
            });
        }
        for (register, number) in [(MAJOR, exception.major), (MINOR, exception.minor)] {
            if let Some(number) = number {
                // 32-bit values were loaded, and an immediate is sign-extended to 64 bits: device numbers are far smaller.
                body.push(instruction(JUMP_NOT_EQUAL, register, 0, 0, number as i32));
            }
        }
        body.push(instruction(MOVE, VERDICT, 0, 0, i32::from(!policy.allow)));
        body.push(instruction(EXIT, 0, 0, 0, 0));
        let length = body.len();
        for (at, instruction) in body.iter_mut().enumerate() {
            if matches!(instruction.code, JUMP_EQUAL | JUMP_NOT_EQUAL | JUMP_NOT_EQUAL_REGISTER) {
                // A body has at most nine instructions.
                instruction.offset = (length - at - 1) as i16;
            }
        }
        code.extend(body);
    }
    code.push(instruction(MOVE, VERDICT, 0, 0, i32::from(policy.allow)));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}

/// Puts the rules in force in place of all before.
pub(super) fn replace_program(directory: &Path, rules: &[DeviceRule]) -> Result<()> {
    let failed = |operation| move |source| Error::DeviceProgram { operation, path: directory.to_owned(), source };
    let group = files::open_directory(directory)?;
    let old = attached(&group).map_err(failed("querying"))?;
    let program = load(&compile(&Policy::replay(rules))).map_err(failed("loading"))?;
    // All programs of a group must agree, so with both attached nothing is allowed that either forbids.
    attach(&group, &program).map_err(failed("attaching"))?;
    for id in old {
        detach(&group, id).map_err(failed("detaching"))?;
    }
    Ok(())
}

// bpf(2) commands and constants, linux/bpf.h.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// `union bpf_attr`, the members of each command in turn; what is not used is zero.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttributes {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// The most programs that are looked for: more than any runtime attaches.
const MAX_PROGRAMS: usize = 64;

fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the attributes have the layout of their command and outlive the call; addresses in them are of slices
    // that the callers keep alive.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn load(code: &[Instruction]) -> io::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let mut name = [0; 16];
    name[..14].copy_from_slice(b"gantry_devices");
    let mut attributes = LoadAttributes {
        kind: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(code.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?,
        instructions: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        name,
        ..LoadAttributes::default()
    };
    let fd = bpf(PROG_LOAD, &mut attributes)?;
    // SAFETY: the kernel made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn attach(group: &OwnedFd, program: &OwnedFd) -> io::Result<()> {
    let (target, program) = (group.as_raw_fd().cast_unsigned(), program.as_raw_fd().cast_unsigned());
    let kind = ATTACH_CGROUP_DEVICE;
    let mut attributes = AttachAttributes { target, program, kind, flags: ALLOW_MULTI, replaced: 0 };
    bpf(PROG_ATTACH, &mut attributes).map(drop)
}

fn detach(group: &OwnedFd, id: u32) -> io::Result<()> {
    // struct { u32 id; u32 next_id; u32 flags; }
    let fd = bpf(PROG_GET_FD_BY_ID, &mut [id, 0, 0])?;
    // SAFETY: the kernel made this descriptor for us alone.
    let program = unsafe { OwnedFd::from_raw_fd(fd) };
    let (target, program) = (group.as_raw_fd().cast_unsigned(), program.as_raw_fd().cast_unsigned());
    let mut attributes = AttachAttributes { target, program, kind: ATTACH_CGROUP_DEVICE, flags: 0, replaced: 0 };
    bpf(PROG_DETACH, &mut attributes).map(drop)
}

/// Ids of the programs attached to this very group.
fn attached(group: &OwnedFd) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; MAX_PROGRAMS];
    let mut attributes = QueryAttributes {
        target: group.as_raw_fd().cast_unsigned(),
        kind: ATTACH_CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: MAX_PROGRAMS as u32,
        ..QueryAttributes::default()
    };
    bpf(PROG_QUERY, &mut attributes)?;
    ids.truncate(attributes.count as usize);
    Ok(ids)
}

#[cfg(test)]
#[path = "devices/tests.rs"]
mod tests;
