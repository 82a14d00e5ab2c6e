//! The compiled program against a plain reading of the rules, by chosen profiles and by random ones.

#[path = "oracle.rs"]
mod oracle;

use super::*;
use crate::seccomp::{self, Rule};
use oracle::{Call, Reading};
use proptest::prelude::*;

fn run(program: &Program, architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    oracle::run(program, &Call { architecture, number, arguments })
}

fn argument(index: u8, comparison: Comparison, value: u64, value_two: u64) -> Argument {
    Argument { index, comparison, value, value_two }
}

fn rule(names: &[&str], action: Action, arguments: Vec<Argument>) -> Rule {
    Rule { names: names.iter().map(|n| (*n).to_owned()).collect(), action, arguments }
}

/// Compares them on these calls.
#[track_caller]
fn agree(reading: &Reading<'_>, program: &Program, calls: &[Call]) {
    oracle::acceptable(program).unwrap();
    for call in calls {
        let (got, want) = (oracle::run(program, call), reading.meaning(call).value());
        assert_eq!(got, want, "{call:x?}");
    }
}

#[track_caller]
fn check(filter: &Filter, values: &[u64]) {
    let program = compile(filter).unwrap();
    let reading = Reading::new(filter);
    agree(&reading, &program, &oracle::calls(filter, values));
    for architecture in [Architecture::X86_64, Architecture::X86, Architecture::X32] {
        let base = if architecture == Architecture::X32 { X32_BIT } else { 0 };
        for number in base..base + 600 {
            let of = |value: &u64| [*value, value.wrapping_add(1), value.rotate_left(32), !value, 7, 0];
            let call = |value| Call { architecture: architecture.audit(), number, arguments: of(value) };
            agree(&reading, &program, &values.iter().map(call).collect::<Vec<_>>());
        }
    }
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

const COMPARISONS: [Comparison; 7] = [
    Comparison::NotEqual,
    Comparison::Less,
    Comparison::LessEqual,
    Comparison::Equal,
    Comparison::GreaterEqual,
    Comparison::Greater,
    Comparison::MaskedEqual,
];

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::KillProcess),
        Just(Action::KillThread),
        Just(Action::Trap),
        Just(Action::Log),
        Just(Action::Notify),
        Just(Action::Allow),
        (0..4096_u16).prop_map(Action::Errno),
        Just(Action::Errno(1)),
        (0..4096_u16).prop_map(Action::Trace),
    ]
}

/// Small numbers, borders of 32 bits with and without their sign carried on, and anything.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..16_u64,
        proptest::sample::select(EDGES),
        any::<i32>().prop_map(|value| i64::from(value).cast_unsigned()),
        any::<u32>().prop_map(u64::from),
        any::<u64>(),
        (0..64_u32).prop_map(|bit| 1 << bit),
    ]
}

fn condition() -> impl Strategy<Value = Argument> {
    (0..6_u8, proptest::sample::select(&COMPARISONS[..]), value(), value())
        .prop_map(|(index, comparison, value, two)| Argument { index, comparison, value, value_two: two })
}

/// Names that the conventions number alike and differently, one that only some have, and one that none has.
fn name() -> impl Strategy<Value = String> {
    let all: Vec<&'static str> = syscalls::x86_64::Sysno::iter().map(|known| known.name()).collect();
    let chosen = ["read", "write", "ioctl", "execve", "mmap2", "socketcall", "rt_sigreturn", "clone3", "nosuchcall"];
    prop_oneof![proptest::sample::select(chosen.to_vec()), proptest::sample::select(all)].prop_map(str::to_owned)
}

fn filter() -> impl Strategy<Value = Filter> {
    let rule = (proptest::collection::vec(name(), 1..5), action(), proptest::collection::vec(condition(), 0..=6))
        .prop_map(|(names, action, arguments)| Rule { names, action, arguments });
    let architecture = proptest::sample::select(
        &[
            "SCMP_ARCH_X86_64",
            "SCMP_ARCH_X86",
            "SCMP_ARCH_X32",
            "SCMP_ARCH_AARCH64",
            "SCMP_ARCH_ARM",
            "SCMP_ARCH_RISCV64",
        ][..],
    );
    let architectures = proptest::collection::vec(architecture.prop_map(str::to_owned), 0..4);
    (action(), architectures, proptest::collection::vec(rule, 0..24))
        .prop_map(|(default_action, architectures, rules)| Filter { default_action, architectures, rules })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any order of rules, duplicates and contradictions, any architectures, numbers and arguments.
    #[test]
    fn random_profiles_mean_what_their_rules_say(filter in filter(), values in proptest::collection::vec(value(), 3)) {
        match compile(&filter) {
            Ok(program) => agree(&Reading::new(&filter), &program, &oracle::calls(&filter, &values)),
            Err(error) => prop_assert!(matches!(error, Error::TooLong(length) if length > MAX), "{error}"),
        }
    }
}

#[test]
fn a_rule_has_six_conditions_at_most() {
    let many = |count: usize| {
        let conditions = vec![argument(0, Comparison::Greater, 1 << 40, 0); count];
        compile(&Filter {
            default_action: Action::Allow,
            architectures: vec![],
            rules: vec![rule(&["kill"], Action::Trap, conditions)],
        })
    };
    assert!(many(6).is_ok());
    assert_eq!(many(7), Err(Error::Conditions(7)));
    let filter = Filter {
        default_action: Action::Allow,
        architectures: vec![],
        rules: vec![rule(&["kill"], Action::Trap, vec![argument(6, Comparison::Equal, 0, 0)])],
    };
    assert_eq!(compile(&filter), Err(Error::Index(6)));
}

#[test]
fn every_architecture_of_the_specification_is_known() {
    let known = Architecture::names();
    for name in [
        "X86 X86_64 X32 ARM AARCH64 LOONGARCH64 M68K MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32",
        "PPC PPC64 PPC64LE S390 S390X SH SHEB PARISC PARISC64 RISCV64",
    ]
    .iter()
    .flat_map(|line| line.split(' '))
    {
        let name = format!("SCMP_ARCH_{name}");
        assert!(known.contains(&name) && Architecture::parse(&name).is_ok(), "{name}");
    }
}
