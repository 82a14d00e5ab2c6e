//! A random profile is compiled, the kernel's checks are made on the program, and it is run on random system calls:
//! each must end as a plain reading of the rules says.
#![no_main]

#[path = "../../crates/sys/src/seccomp/compile/oracle.rs"]
mod oracle;

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use oracle::{Call, Reading};
use sys::seccomp::{self, Action, Argument, Comparison, Filter, Rule};

const NAMES: &[&str] = &[
    "read", "write", "open", "mmap", "mmap2", "ioctl", "execve", "execveat", "clone", "clone3", "socket", "socketcall",
    "rt_sigreturn", "preadv2", "kill", "personality", "ptrace", "setns", "mseal", "map_shadow_stack", "vfork", "arm_sync_file_range",
    "nosuchcall",
];

const ARCHITECTURES: &[&str] = &["X86_64", "X86", "X32", "AARCH64", "ARM", "S390X", "NATIVE"];

fn action(from: &mut Unstructured<'_>) -> Result<Action> {
    Ok(match from.int_in_range(0..=7)? {
        0 => Action::KillProcess,
        1 => Action::KillThread,
        2 => Action::Trap,
        3 => Action::Errno(from.int_in_range(0..=4095)?),
        4 => Action::Trace(from.int_in_range(0..=4095)?),
        5 => Action::Log,
        6 => Action::Notify,
        _ => Action::Allow,
    })
}

fn condition(from: &mut Unstructured<'_>) -> Result<Argument> {
    use Comparison::*;
    Ok(Argument {
        index: from.int_in_range(0..=6)?,
        comparison: *from.choose(&[NotEqual, Less, LessEqual, Equal, GreaterEqual, Greater, MaskedEqual])?,
        value: from.arbitrary()?,
        value_two: from.arbitrary()?,
    })
}

fn list<T>(from: &mut Unstructured<'_>, most: usize, one: impl Fn(&mut Unstructured<'_>) -> Result<T>) -> Result<Vec<T>> {
    (0..from.int_in_range(0..=most)?).map(|_| one(from)).collect()
}

fn filter(from: &mut Unstructured<'_>) -> Result<Filter> {
    let word = |words: &'static [&str]| move |from: &mut Unstructured<'_>| from.choose(words).map(|word| (*word).to_owned());
    Ok(Filter {
        default_action: action(from)?,
        architectures: list(from, 4, |from| Ok(format!("SCMP_ARCH_{}", from.choose(ARCHITECTURES)?)))?,
        rules: list(from, 40, |from| {
            Ok(Rule { names: list(from, 6, word(NAMES))?, action: action(from)?, arguments: list(from, 7, condition)? })
        })?,
    })
}

fuzz_target!(|bytes: &[u8]| {
    let mut from = Unstructured::new(bytes);
    let Ok(filter) = filter(&mut from) else { return };
    let program = match seccomp::compile(&filter) {
        Ok(program) => program,
        Err(seccomp::Error::TooLong(length)) => return assert!(length > 4096),
        Err(seccomp::Error::Conditions(count)) => return assert!(count > 6),
        Err(seccomp::Error::Index(index)) => return assert!(index > 5),
        Err(error) => panic!("{error}"),
    };
    oracle::acceptable(&program).unwrap();
    let reading = Reading::new(&filter);
    let random = |from: &mut Unstructured<'_>| {
        Ok(Call { architecture: *from.choose(&[0xc000_003e, 0x4000_0003, 0])?, number: from.arbitrary()?, arguments: from.arbitrary()? })
    };
    let calls = list(&mut from, 8, random).unwrap_or_default();
    for call in calls.iter().chain(&oracle::calls(&filter, &[])) {
        assert_eq!(oracle::run(&program, call), reading.meaning(call).value(), "{call:x?}");
    }
});
