//! The compiled program against a plain reading of the rules, on all numbers and on chosen arguments.

use super::*;
use crate::seccomp::Rule;

/// What the kernel does with a program.
fn run(program: &Program, architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(architecture.to_le_bytes());
    data.extend([0; 8]);
    data.extend(arguments.iter().flat_map(|a| a.to_le_bytes()));
    let (mut at, mut accumulator) = (0, 0u32);
    loop {
        let i = program.0[at];
        at += 1;
        let branch = |holds: bool| usize::from(if holds { i.jump_true } else { i.jump_false });
        match i.code {
            LOAD => {
                let offset = i.operand as usize;
                accumulator = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap());
            }
            AND => accumulator &= i.operand,
            JUMP => at += i.operand as usize,
            JUMP_EQUAL => at += branch(accumulator == i.operand),
            JUMP_GREATER => at += branch(accumulator > i.operand),
            JUMP_GREATER_EQUAL => at += branch(accumulator >= i.operand),
            RETURN => return i.operand,
            other => panic!("code {other:x}"),
        }
    }
}

/// The rules read one after another.
fn meaning(filter: &Filter, architecture: Architecture, nr: u32, arguments: [u64; 6]) -> Action {
    let mut last = 0;
    for rule in filter.rules.iter().filter(|r| r.action != filter.default_action) {
        for known in rule.names.iter().filter_map(|n| number(architecture, n)) {
            last = last.max(known);
            let holds = |a: &Argument| {
                let value = arguments[usize::from(a.index)];
                match a.comparison {
                    Comparison::NotEqual => value != a.value,
                    Comparison::Less => value < a.value,
                    Comparison::LessEqual => value <= a.value,
                    Comparison::Equal => value == a.value,
                    Comparison::GreaterEqual => value >= a.value,
                    Comparison::Greater => value > a.value,
                    Comparison::MaskedEqual => value & a.value == a.value_two,
                }
            };
            if known == nr && rule.arguments.iter().all(holds) {
                return rule.action;
            }
        }
    }
    match filter.default_action {
        Action::Errno(_) if nr > last => Action::Errno(libc::ENOSYS as u16),
        other => other,
    }
}

fn argument(index: u8, comparison: Comparison, value: u64, value_two: u64) -> Argument {
    Argument { index, comparison, value, value_two }
}

fn rule(names: &[&str], action: Action, arguments: Vec<Argument>) -> Rule {
    Rule { names: names.iter().map(|n| (*n).to_owned()).collect(), action, arguments }
}

fn check(filter: &Filter, values: &[u64]) {
    let program = compile(filter).unwrap();
    for architecture in [Architecture::X86_64, Architecture::X86, Architecture::X32] {
        let base = if architecture == Architecture::X32 { X32_BIT } else { 0 };
        for nr in (base..base + 600).chain([base + 0x3fff_fff0]) {
            for value in values {
                let arguments = [*value, value.wrapping_add(1), value.rotate_left(32), !value, 7, 0];
                let want = meaning(filter, architecture, nr, arguments).value();
                let got = run(&program, architecture.audit(), nr, arguments);
                assert_eq!(got, want, "{architecture:?} call {nr} with {arguments:x?}");
            }
        }
    }
    assert_eq!(run(&program, 0x1234_5678, 1, [0; 6]), Action::KillProcess.value());
}

const EDGES: &[u64] =
    &[0, 1, 7, 8, 9, 0xffff_ffff, 0x1_0000_0000, 0x7_0000_0000, 0x8_0000_0007, 0x8_0000_0008, 0x8_0000_0009, u64::MAX];

#[cfg(target_arch = "x86_64")]
#[test]
fn the_program_means_what_the_rules_say() {
    let mut rules = vec![
        rule(&["read", "write", "openat", "nosuchcall"], Action::Allow, vec![]),
        rule(&["clone"], Action::Allow, vec![argument(0, Comparison::MaskedEqual, 0x7e02_0000, 0)]),
        rule(&["clone3"], Action::Errno(libc::ENOSYS as u16), vec![]),
        rule(
            &["kill"],
            Action::KillThread,
            vec![argument(1, Comparison::Equal, 9, 0), argument(4, Comparison::Equal, 7, 0)],
        ),
        rule(&["kill"], Action::Trap, vec![argument(0, Comparison::NotEqual, 0x8_0000_0008, 0)]),
    ];
    use Comparison::*;
    for (name, comparison) in [
        ("socket", Less),
        ("bind", LessEqual),
        ("listen", Equal),
        ("accept", GreaterEqual),
        ("connect", Greater),
        ("ioctl", NotEqual),
    ] {
        rules.push(rule(&[name], Action::Log, vec![argument(0, comparison, 0x8_0000_0008, 0)]));
    }
    let architectures = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_S390X"];
    let architectures = architectures.map(str::to_owned).to_vec();
    for default_action in [Action::Errno(1), Action::Allow, Action::KillProcess] {
        check(&Filter { default_action, architectures: architectures.clone(), rules: rules.clone() }, EDGES);
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_long_profile_needs_far_jumps() {
    let every_ninth = syscalls::x86_64::Sysno::iter().step_by(9);
    let conditions = vec![argument(0, Comparison::Greater, 8, 0), argument(3, Comparison::LessEqual, u64::MAX - 9, 0)];
    let rules = every_ninth.map(|n| rule(&[n.name()], Action::Allow, conditions.clone())).collect();
    let architectures = vec!["SCMP_ARCH_X86".to_owned(), "SCMP_ARCH_X32".to_owned()];
    check(&Filter { default_action: Action::Errno(1), architectures, rules }, &EDGES[..6]);
}

#[test]
fn x32_is_refused_unless_asked_for() {
    let filter = Filter { default_action: Action::Allow, architectures: vec![], rules: vec![] };
    let program = compile(&filter).unwrap();
    let native = Architecture::NATIVE.audit();
    assert_eq!(run(&program, native, 5, [0; 6]), Action::Allow.value());
    if Architecture::NATIVE == Architecture::X86_64 {
        assert_eq!(run(&program, native, X32_BIT + 5, [0; 6]), Action::KillProcess.value());
    }
}

#[test]
fn the_kernel_takes_it() {
    // A filter belongs to a thread and cannot be taken off; this thread ends with the test.
    std::thread::spawn(|| {
        let rules = vec![rule(&["getpriority"], Action::Errno(77), vec![])];
        let filter = Filter { default_action: Action::Allow, architectures: vec!["SCMP_ARCH_X86".into()], rules };
        compile(&filter).unwrap().load(0, false).unwrap();
        let refused = rustix::process::getpriority_process(None).unwrap_err();
        assert_eq!(refused.raw_os_error(), 77);
    })
    .join()
    .unwrap();
}

#[test]
fn words_that_are_not_known_are_named() {
    assert_eq!(Action::parse("SCMP_ACT_PRAY", None), Err(Error::Action("SCMP_ACT_PRAY".into())));
    assert_eq!(Architecture::parse("SCMP_ARCH_Z80"), Err(Error::Architecture("SCMP_ARCH_Z80".into())));
    assert_eq!(Program::flags(["X"]), Err(Error::Flag("X".into())));
}
