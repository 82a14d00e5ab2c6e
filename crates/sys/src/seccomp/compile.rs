//! From rules to a tree of comparisons.
//!
//! ```text
//!            load arch ── x86_64? ── x32 bit? ── tree over numbers ── conditions ── return
//!                      ── x86?    ── tree over numbers …
//!                      ── else kill the process: nothing is known of such a call
//! ```

use super::bpf::{AND, Instruction, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_EQUAL, LOAD, MAX, Program, RETURN};
use super::number::X32_BIT;
use super::{Action, Architecture, Argument, Comparison, Error, Filter, number};
use std::collections::BTreeMap;

/// One for each argument of a call; more would also be beyond the reach of a conditional jump.
const MAX_CONDITIONS: usize = 6;

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What is decided for one number: conditions with their outcomes in order, then the outcome without any.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decision<'a> {
    conditional: Vec<(&'a [Argument], Action)>,
    otherwise: Action,
}

/// Compile for this machine: its own architecture and those of the profile that it can run. A rule may have as many
/// conditions as a call has arguments.
pub fn compile(filter: &Filter) -> Result<Program, Error> {
    for rule in &filter.rules {
        if rule.arguments.len() > MAX_CONDITIONS {
            return Err(Error::Conditions(rule.arguments.len()));
        }
        if let Some(argument) = rule.arguments.iter().find(|argument| argument.index > 5) {
            return Err(Error::Index(argument.index.into()));
        }
    }
    let mut architectures = vec![Architecture::NATIVE];
    for name in &filter.architectures {
        architectures.extend(Architecture::parse(name)?);
    }
    architectures.sort_unstable();
    architectures.dedup();
    let mut code = vec![load(ARCHITECTURE)];
    use Architecture::{Aarch64, Arm, X86, X86_64};
    for audit in [X86_64, X86, Aarch64, Arm].map(Architecture::audit) {
        let members: Vec<_> = architectures.iter().copied().filter(|a| a.audit() == audit).collect();
        if !members.is_empty() {
            let body = section(filter, &members);
            code.extend(skip_unless(JUMP_EQUAL, audit, body.len()));
            code.extend(body);
        }
    }
    code.push(give(Action::KillProcess));
    if code.len() > MAX { Err(Error::TooLong(code.len())) } else { Ok(Program(code)) }
}

/// The code for one value of the architecture word; it always returns.
fn section(filter: &Filter, members: &[Architecture]) -> Vec<Instruction> {
    let mut code = vec![load(NUMBER)];
    if members.contains(&Architecture::X86_64) && !members.contains(&Architecture::X32) {
        // Numbers of x32 that the profile says nothing of must not reach the tree of other numbers.
        code.extend(skip_unless(JUMP_GREATER_EQUAL, X32_BIT, 1));
        code.push(give(Action::KillProcess));
    }
    let mut ranges = Vec::new();
    for member in members {
        ranges.extend(decisions(filter, *member));
    }
    ranges.dedup_by(|next, previous| next.1 == previous.1);
    code.extend(tree(&ranges));
    code
}

/// First numbers of ranges with the same decision, covering all numbers of the architecture.
fn decisions(filter: &Filter, architecture: Architecture) -> Vec<(u32, Decision<'_>)> {
    let plain = |action| Decision { conditional: Vec::new(), otherwise: action };
    let mut by_number: BTreeMap<u32, Decision<'_>> = BTreeMap::new();
    let mut decided = BTreeMap::new();
    // A rule with the default action says nothing new, unless a later rule would contradict it; libseccomp leaves it out.
    for rule in filter.rules.iter().filter(|r| r.action != filter.default_action) {
        for number in rule.names.iter().filter_map(|name| number(architecture, name)) {
            let decision = by_number.entry(number).or_insert_with(|| plain(filter.default_action));
            if decided.contains_key(&number) {
                continue;
            }
            if rule.arguments.is_empty() {
                decision.otherwise = rule.action;
                decided.insert(number, ());
            } else {
                decision.conditional.push((&rule.arguments, rule.action));
            }
        }
    }
    let base = if architecture == Architecture::X32 { X32_BIT } else { 0 };
    let mut ranges = vec![(base, plain(filter.default_action))];
    let last = by_number.keys().next_back().copied();
    for (number, decision) in by_number {
        ranges.push((number, decision));
        ranges.push((number + 1, plain(filter.default_action)));
    }
    // A call newer than the profile is reported as missing rather than forbidden, so that C libraries fall back.
    if let (Some(last), Action::Errno(_)) = (last, filter.default_action) {
        ranges.push((last + 1, plain(Action::Errno(libc::ENOSYS as u16))));
    }
    // Of two ranges that begin at the same number, the later one was meant.
    let mut unique: Vec<(u32, Decision<'_>)> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match unique.last_mut() {
            Some(previous) if previous.0 == range.0 => *previous = range,
            Some(previous) if previous.1 == range.1 => {}
            _ => unique.push(range),
        }
    }
    unique
}

/// A balanced tree over the ranges, with the number in the accumulator.
fn tree(ranges: &[(u32, Decision<'_>)]) -> Vec<Instruction> {
    if let [(_, decision)] = ranges {
        return leaf(decision);
    }
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let Some((first, _)) = right.first() else { return Vec::new() };
    let (left, right) = (tree(left), tree(right));
    let mut code = Vec::with_capacity(left.len() + right.len() + 2);
    code.extend(skip_if(JUMP_GREATER_EQUAL, *first, left.len()));
    code.extend(left);
    code.extend(right);
    code
}

fn leaf(decision: &Decision<'_>) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (arguments, action) in &decision.conditional {
        // Each condition either falls through to the next or jumps over the return.
        let mut body = vec![give(*action)];
        for argument in arguments.iter().rev() {
            let mut test = condition(argument, body.len());
            test.append(&mut body);
            body = test;
        }
        code.extend(body);
    }
    code.push(give(decision.otherwise));
    code
}

/// Code that falls through if the condition holds, and else skips `rest` instructions more.
fn condition(argument: &Argument, rest: usize) -> Vec<Instruction> {
    let at = ARGUMENTS + 8 * u32::from(argument.index);
    // The halves of an argument as a little-endian machine has them; Gantry runs on no other.
    let (low, high) = (load(at), load(at + 4));
    let (value_high, value_low) = halves(argument.value);
    let jump = |code, operand, jump_true: usize, jump_false: usize| Instruction {
        code,
        // A rule has at most six conditions of at most seven instructions, so these fit.
        jump_true: u8::try_from(jump_true).unwrap_or(u8::MAX),
        jump_false: u8::try_from(jump_false).unwrap_or(u8::MAX),
        operand,
    };
    // Positions count from the instruction after the jump: `fail` is the end of this test plus the rest.
    match argument.comparison {
        Comparison::Equal => {
            vec![high, jump(JUMP_EQUAL, value_high, 0, rest + 2), low, jump(JUMP_EQUAL, value_low, 0, rest)]
        }
        Comparison::NotEqual => {
            vec![high, jump(JUMP_EQUAL, value_high, 0, 2), low, jump(JUMP_EQUAL, value_low, rest, 0)]
        }
        Comparison::MaskedEqual => {
            let (want_high, want_low) = halves(argument.value_two);
            let and = |operand| Instruction { code: AND, jump_true: 0, jump_false: 0, operand };
            vec![
                high,
                and(value_high),
                jump(JUMP_EQUAL, want_high, 0, rest + 3),
                low,
                and(value_low),
                jump(JUMP_EQUAL, want_low, 0, rest),
            ]
        }
        Comparison::Greater | Comparison::GreaterEqual => {
            let code = if argument.comparison == Comparison::Greater { JUMP_GREATER } else { JUMP_GREATER_EQUAL };
            vec![
                high,
                jump(JUMP_GREATER, value_high, 3, 0),
                jump(JUMP_EQUAL, value_high, 0, rest + 2),
                low,
                jump(code, value_low, 0, rest),
            ]
        }
        Comparison::Less | Comparison::LessEqual => {
            // The opposite of the two above: not (greater or equal), not greater.
            let code = if argument.comparison == Comparison::Less { JUMP_GREATER_EQUAL } else { JUMP_GREATER };
            vec![
                high,
                jump(JUMP_GREATER, value_high, rest + 3, 0),
                jump(JUMP_EQUAL, value_high, 0, 2),
                low,
                jump(code, value_low, rest, 0),
            ]
        }
    }
}

fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jump_true: 0, jump_false: 0, operand: offset }
}

fn give(action: Action) -> Instruction {
    Instruction { code: RETURN, jump_true: 0, jump_false: 0, operand: action.value() }
}

/// Skip `distance` instructions if the comparison is true; conditional jumps reach 255 only.
fn skip_if(code: u16, operand: u32, distance: usize) -> Vec<Instruction> {
    match u8::try_from(distance) {
        Ok(near) => vec![Instruction { code, jump_true: near, jump_false: 0, operand }],
        Err(_) => vec![
            Instruction { code, jump_true: 0, jump_false: 1, operand },
            Instruction { code: JUMP, jump_true: 0, jump_false: 0, operand: distance as u32 },
        ],
    }
}

/// Skip `distance` instructions if the comparison is false.
fn skip_unless(code: u16, operand: u32, distance: usize) -> Vec<Instruction> {
    match u8::try_from(distance) {
        Ok(near) => vec![Instruction { code, jump_true: 0, jump_false: near, operand }],
        Err(_) => vec![
            Instruction { code, jump_true: 1, jump_false: 0, operand },
            Instruction { code: JUMP, jump_true: 0, jump_false: 0, operand: distance as u32 },
        ],
    }
}

#[cfg(test)]
mod tests;
