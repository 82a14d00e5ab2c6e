//! What a profile means, read plainly, and what the kernel does with a program: the two must agree on every call.
//!
//! Written apart from the compiler and only with its public parts. The fuzzing target includes this file too.

use super::seccomp::{Action, Architecture, Argument, Comparison, Filter, Program, Rule, number};

/// One system call as a filter sees it, `struct seccomp_data` without the instruction pointer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) architecture: u32,
    pub(super) number: u32,
    pub(super) arguments: [u64; 6],
}

const X32_BIT: u32 = 0x4000_0000;
const MISSING: u16 = 38; // ENOSYS

/// Whether the kernel takes the program: its checks of classic BPF, and those of seccomp(2) on top.
pub(super) fn acceptable(program: &Program) -> Result<(), String> {
    let code = program.instructions();
    if code.is_empty() || code.len() > 4096 {
        return Err(format!("{} instructions", code.len()));
    }
    for (at, i) in code.iter().enumerate() {
        let rest = code.len() - at - 1;
        let reaches = |distance: usize| distance < rest;
        let fine = match i.code {
            0x20 => i.operand.is_multiple_of(4) && i.operand < 64,
            0x54 | 0x06 => true,
            0x05 => reaches(i.operand as usize),
            0x15 | 0x25 | 0x35 => reaches(usize::from(i.jump_true)) && reaches(usize::from(i.jump_false)),
            _ => false,
        };
        if !fine {
            return Err(format!("instruction {at} of {}: {i:x?}", code.len()));
        }
    }
    match code.last() {
        Some(last) if last.code == 0x06 => Ok(()),
        _ => Err("it does not end with a return".into()),
    }
}

/// What the kernel does.
pub(super) fn run(program: &Program, call: &Call) -> u32 {
    let mut words = [0; 16];
    words[0] = call.number;
    words[1] = call.architecture;
    for (index, argument) in call.arguments.iter().enumerate() {
        words[4 + 2 * index] = *argument as u32;
        words[5 + 2 * index] = (argument >> 32) as u32;
    }
    let code = program.instructions();
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let i = code[at];
        at += 1;
        let mut branch = |holds: bool| at += usize::from(if holds { i.jump_true } else { i.jump_false });
        match i.code {
            0x20 => accumulator = words[i.operand as usize / 4],
            0x54 => accumulator &= i.operand,
            0x05 => at += i.operand as usize,
            0x15 => branch(accumulator == i.operand),
            0x25 => branch(accumulator > i.operand),
            0x35 => branch(accumulator >= i.operand),
            0x06 => return i.operand,
            other => panic!("code {other:x}"),
        }
    }
}

fn holds(condition: &Argument, call: &Call) -> bool {
    let value = call.arguments[usize::from(condition.index)];
    match condition.comparison {
        Comparison::NotEqual => value != condition.value,
        Comparison::Less => value < condition.value,
        Comparison::LessEqual => value <= condition.value,
        Comparison::Equal => value == condition.value,
        Comparison::GreaterEqual => value >= condition.value,
        Comparison::Greater => value > condition.value,
        Comparison::MaskedEqual => value & condition.value == condition.value_two,
    }
}

/// A profile with its names looked up, for each calling convention that it is about.
pub(super) struct Reading<'a> {
    filter: &'a Filter,
    conventions: Vec<(Architecture, Vec<Known<'a>>)>,
}

/// A rule, and the numbers of its calls.
type Known<'a> = (Vec<u32>, &'a Rule);

const ALL: [Architecture; 5] =
    [Architecture::X86_64, Architecture::X86, Architecture::X32, Architecture::Aarch64, Architecture::Arm];

impl<'a> Reading<'a> {
    pub(super) fn new(filter: &'a Filter) -> Self {
        let named = |wanted: Architecture| {
            let is_it = |name: &String| Architecture::parse(name) == Ok(Some(wanted));
            wanted == Architecture::NATIVE || filter.architectures.iter().any(is_it)
        };
        let look_up = |architecture: Architecture| {
            let numbers =
                |rule: &Rule| rule.names.iter().filter_map(|name| number(architecture, name)).collect::<Vec<_>>();
            // A rule that says what would happen anyway is none.
            let rules = filter.rules.iter().filter(|rule| rule.action != filter.default_action);
            (architecture, rules.map(|rule| (numbers(rule), rule)).collect())
        };
        Self { filter, conventions: ALL.into_iter().filter(|one| named(*one)).map(look_up).collect() }
    }

    /// The rules, read one after another: the first that is about the call and whose conditions hold decides. A call
    /// with a number above all that are named is one that the author could not know of: instead of being forbidden it is
    /// missing.
    pub(super) fn meaning(&self, call: &Call) -> Action {
        let wanted = match call.architecture {
            0xc000_003e if call.number >= X32_BIT => Architecture::X32,
            0xc000_003e => Architecture::X86_64,
            0x4000_0003 => Architecture::X86,
            0xc000_00b7 => Architecture::Aarch64,
            0x4000_0028 => Architecture::Arm,
            _ => return Action::KillProcess,
        };
        let Some((_, rules)) = self.conventions.iter().find(|(known, _)| *known == wanted) else {
            return Action::KillProcess;
        };
        for (numbers, rule) in rules {
            if numbers.contains(&call.number) && rule.arguments.iter().all(|condition| holds(condition, call)) {
                return rule.action;
            }
        }
        let highest = rules.iter().flat_map(|(numbers, _)| numbers).max();
        match (self.filter.default_action, highest) {
            (Action::Errno(_), Some(highest)) if call.number > *highest => Action::Errno(MISSING),
            (other, _) => other,
        }
    }
}

/// Calls that a wrong program would most likely get wrong: all numbers that are named and their neighbours, with
/// arguments at the borders of the conditions.
pub(super) fn calls(filter: &Filter, more: &[u64]) -> Vec<Call> {
    let mut calls = vec![Call { architecture: 0x1234_5678, number: 1, arguments: [0; 6] }];
    let plain: Vec<[u64; 6]> =
        [0, u64::MAX, 0xffff_ffff, 0xffff_ffff_0000_0000].iter().chain(more).map(|value| [*value; 6]).collect();
    for architecture in ALL {
        let base = if architecture == Architecture::X32 { X32_BIT } else { 0 };
        let mut add = |number: u32, sets: &[[u64; 6]]| {
            let call =
                |arguments: &[u64; 6]| Call { architecture: architecture.audit(), number, arguments: *arguments };
            calls.extend(sets.iter().map(call));
        };
        for number in [base, base + 1, base + 599, 0x3fff_ffff, X32_BIT, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            add(number, &plain);
        }
        for rule in &filter.rules {
            let sets = argument_sets(rule);
            for known in rule.names.iter().filter_map(|name| number(architecture, name)) {
                add(known, &sets);
                for near in [known.wrapping_sub(1), known, known + 1, known ^ X32_BIT] {
                    add(near, &plain);
                }
            }
        }
    }
    calls
}

fn argument_sets(rule: &Rule) -> Vec<[u64; 6]> {
    // All conditions met, as far as one value each can do it; then each of them missed by a little.
    let mut met = [0; 6];
    for condition in &rule.arguments {
        met[usize::from(condition.index)] = match condition.comparison {
            Comparison::NotEqual | Comparison::Less => condition.value.wrapping_sub(1),
            Comparison::Greater => condition.value.wrapping_add(1),
            Comparison::MaskedEqual => condition.value_two,
            _ => condition.value,
        };
    }
    let mut sets = vec![met];
    for condition in &rule.arguments {
        let at = usize::from(condition.index);
        for value in [
            condition.value.wrapping_sub(1),
            condition.value,
            condition.value.wrapping_add(1),
            condition.value ^ (1 << 32),
            condition.value ^ (1 << 63),
            condition.value.rotate_left(32),
            // A number of 32 bits with its sign carried on.
            i64::from(condition.value as i32).cast_unsigned(),
            condition.value & 0xffff_ffff,
            condition.value_two | !condition.value,
        ] {
            let mut set = met;
            set[at] = value;
            sets.push(set);
        }
    }
    sets
}
