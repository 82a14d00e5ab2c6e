//! The same as `foreign`, for hosts whose Docker still uses `iptables-legacy`.
//!
//! That firewall is no part of nftables: a table is one block of entries that is read, changed and replaced. Our
//! rules stand at the end of `FORWARD`, before its policy, so that everything that others decide comes first:
//!
//! ```text
//! …the rules of others…;  -o gantry0 ACCEPT;  -i gantry0 -o docker0 RETURN;  -i gantry0 ACCEPT;  policy
//! ```
//!
//! An entry is an `ipt_entry` of 112 bytes (addresses, interface names and their masks, offsets, counters), matches,
//! and a target; ours have no matches and the standard target, whose verdict is a number: negative for a verdict,
//! otherwise the offset of the entry to go on with, which moves with what is inserted before it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::thread;
use std::time::Duration;

use sys::xtables::{COUNTERS_LEN, HOOKS, Table, XtablesSocket};

const FILTER: &str = "filter";
const FORWARD: usize = 2;
/// Offsets in an `ipt_entry`.
const IN_INTERFACE: usize = 16;
const OUT_INTERFACE: usize = 32;
const IN_MASK: usize = 48;
const OUT_MASK: usize = 64;
const TARGET_OFFSET: usize = 88;
const NEXT_OFFSET: usize = 90;
const COUNTERS: usize = 96;
const ENTRY_LEN: usize = 112;
/// A standard target: size, name (empty), revision, verdict, padding.
const STANDARD_LEN: usize = 40;
const VERDICT: usize = 32;
const RULE_LEN: usize = ENTRY_LEN + STANDARD_LEN;
const ACCEPT: i32 = -2;
const RETURN: i32 = -5;
/// `iptables` programs take turns by this lock.
const LOCK: &str = "/run/xtables.lock";
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Does this namespace have a legacy table `filter`? Looking at it would make one.
fn has_filter() -> bool {
    // Not /proc/net: that is the namespace of the process's first thread.
    fs::read_to_string("/proc/thread-self/net/ip_tables_names").is_ok_and(|names| names.lines().any(|n| n == FILTER))
}

/// Makes forwarded packets of `bridge` pass, if there is a legacy firewall. `bridges` are Docker's.
pub(crate) fn ensure(bridge: &str, bridges: &BTreeSet<String>) -> io::Result<()> {
    update(bridge, &wanted(bridge, bridges))
}

/// Removes our rules.
pub(crate) fn remove(bridge: &str) -> io::Result<()> {
    update(bridge, &[])
}

fn update(bridge: &str, rules: &[Vec<u8>]) -> io::Result<()> {
    if !has_filter() {
        return Ok(());
    }
    let lock = lock()?;
    let socket = XtablesSocket::open()?;
    let old = socket.read(FILTER)?;
    if let Some((new, counters)) = rewrite(&old, bridge, rules)? {
        socket.replace(FILTER, &new, old.num_entries, &counters)?;
    }
    drop(lock);
    Ok(())
}

fn lock() -> io::Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(LOCK)?;
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::AGAIN) => thread::sleep(LOCK_PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other(format!("another program holds {LOCK}")))
}

fn wanted(bridge: &str, bridges: &BTreeSet<String>) -> Vec<Vec<u8>> {
    let mut rules = vec![rule(None, Some(bridge), ACCEPT)];
    rules.extend(bridges.iter().map(|docker| rule(Some(bridge), Some(docker), RETURN)));
    rules.push(rule(Some(bridge), None, ACCEPT));
    rules
}

fn rule(input: Option<&str>, output: Option<&str>, verdict: i32) -> Vec<u8> {
    let mut entry = vec![0; RULE_LEN];
    for (name, at, mask) in [(input, IN_INTERFACE, IN_MASK), (output, OUT_INTERFACE, OUT_MASK)] {
        let Some(name) = name else { continue };
        entry[at..at + name.len()].copy_from_slice(name.as_bytes());
        // The final zero is compared too: no other name that begins so.
        entry[mask..=mask + name.len()].fill(0xff);
    }
    set_half(&mut entry, TARGET_OFFSET, ENTRY_LEN);
    set_half(&mut entry, NEXT_OFFSET, RULE_LEN);
    set_half(&mut entry, ENTRY_LEN, STANDARD_LEN);
    entry[ENTRY_LEN + VERDICT..ENTRY_LEN + VERDICT + 4].copy_from_slice(&verdict.to_ne_bytes());
    entry
}

/// The table with `rules` at the end of FORWARD instead of those of ours that are there, and the counters of its
/// entries; `None` when nothing changes.
fn rewrite(old: &Table, bridge: &str, rules: &[Vec<u8>]) -> io::Result<Option<(Table, Vec<[u8; COUNTERS_LEN]>)>> {
    let (first, policy) = (old.hook_entry[FORWARD] as usize, old.underflow[FORWARD] as usize);
    let offsets = offsets(&old.entries)?;
    let entry = |at: usize| &old.entries[at..at + half(&old.entries, at + NEXT_OFFSET)];
    let is_ours = |at: usize| (first..policy).contains(&at) && is_ours(entry(at), bridge);
    let present: Vec<_> = offsets.iter().filter(|at| is_ours(**at)).map(|at| without_counters(entry(*at))).collect();
    if present == rules {
        return Ok(None);
    }
    // New offset of each old entry, and of the end.
    let mut moved = Vec::with_capacity(offsets.len());
    let mut table = Table { entries: Vec::with_capacity(old.entries.len()), ..old.clone() };
    let mut counters = Vec::with_capacity(offsets.len());
    for at in &offsets {
        if *at == policy {
            // What falls through from the rule before lands on ours.
            moved.push((*at, table.entries.len()));
            for rule in rules {
                table.entries.extend_from_slice(rule);
                counters.push([0; COUNTERS_LEN]);
            }
            table.underflow[FORWARD] = u32_of(table.entries.len())?;
        } else {
            moved.push((*at, table.entries.len()));
        }
        if !is_ours(*at) {
            let mut kept = [0; COUNTERS_LEN];
            kept.copy_from_slice(&entry(*at)[COUNTERS..COUNTERS + COUNTERS_LEN]);
            counters.push(kept);
            table.entries.extend_from_slice(entry(*at));
        }
    }
    let new_offset = |at: usize| -> io::Result<usize> {
        let found = moved.binary_search_by_key(&at, |(old, _)| *old).map_err(|_| malformed())?;
        Ok(moved[found].1)
    };
    for hook in 0..HOOKS {
        if old.valid_hooks & (1 << hook) == 0 {
            continue;
        }
        table.hook_entry[hook] = u32_of(new_offset(old.hook_entry[hook] as usize)?)?;
        if hook != FORWARD {
            table.underflow[hook] = u32_of(new_offset(old.underflow[hook] as usize)?)?;
        }
    }
    for at in self::offsets(&table.entries)? {
        let target = at + half(&table.entries, at + TARGET_OFFSET);
        if let Some(jump) = jump_target(&table.entries, target) {
            let jump = i32::try_from(new_offset(jump)?).map_err(io::Error::other)?;
            table.entries[target + VERDICT..target + VERDICT + 4].copy_from_slice(&jump.to_ne_bytes());
        }
    }
    table.num_entries = u32_of(counters.len())?;
    Ok(Some((table, counters)))
}

/// Where each entry begins.
fn offsets(entries: &[u8]) -> io::Result<Vec<usize>> {
    let (mut offsets, mut at) = (Vec::new(), 0);
    while at < entries.len() {
        let whole = entries.len() - at >= ENTRY_LEN;
        let len = if whole { half(entries, at + NEXT_OFFSET) } else { 0 };
        let target = if whole { half(entries, at + TARGET_OFFSET) } else { 0 };
        if len < ENTRY_LEN + VERDICT || len > entries.len() - at || target < ENTRY_LEN || target + VERDICT > len {
            return Err(malformed());
        }
        offsets.push(at);
        at += len;
    }
    Ok(offsets)
}

/// The offset that the standard target at `at` jumps to.
fn jump_target(entries: &[u8], at: usize) -> Option<usize> {
    let is_standard = entries.get(at + 2) == Some(&0) && half(entries, at) == STANDARD_LEN;
    let verdict = entries.get(at + VERDICT..at + VERDICT + 4).filter(|_| is_standard)?;
    usize::try_from(i32::from_ne_bytes(verdict.try_into().ok()?)).ok()
}

/// Looks like one of ours: about our bridge, no addresses, no protocol, no matches, ACCEPT or RETURN.
fn is_ours(entry: &[u8], bridge: &str) -> bool {
    let names = |at: usize, mask: usize| {
        entry[at..at + bridge.len()] == *bridge.as_bytes()
            && entry[mask..=mask + bridge.len()].iter().all(|b| *b == 0xff)
    };
    entry.len() == RULE_LEN
        && entry[..IN_INTERFACE].iter().all(|byte| *byte == 0)
        && entry[OUT_MASK + 16..TARGET_OFFSET - 4].iter().all(|byte| *byte == 0)
        && entry[ENTRY_LEN + 2..ENTRY_LEN + VERDICT].iter().all(|byte| *byte == 0)
        && (names(IN_INTERFACE, IN_MASK) || names(OUT_INTERFACE, OUT_MASK))
}

fn without_counters(entry: &[u8]) -> Vec<u8> {
    let mut entry = entry.to_vec();
    // The kernel's own notes, too: cache bits and where it came from.
    entry[TARGET_OFFSET - 4..TARGET_OFFSET].fill(0);
    entry[NEXT_OFFSET + 2..ENTRY_LEN].fill(0);
    entry
}

fn half(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..at + 2).map_or(0, |half| usize::from(u16::from_ne_bytes([half[0], half[1]])))
}

fn set_half(bytes: &mut [u8], at: usize, value: usize) {
    // Ours are small constants.
    bytes[at..at + 2].copy_from_slice(&u16::try_from(value).unwrap_or_default().to_ne_bytes());
}

fn u32_of(value: usize) -> io::Result<u32> {
    u32::try_from(value).map_err(io::Error::other)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the legacy firewall's table cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three chains: INPUT (policy), FORWARD (one rule that jumps to OUTPUT's place, policy), OUTPUT (policy).
    fn table() -> Table {
        let policy = || rule(None, None, ACCEPT);
        let jump = rule(None, None, i32::try_from(3 * RULE_LEN).unwrap());
        let entries = [policy(), jump, policy(), policy()].concat();
        let at = |index: usize| u32::try_from(index * RULE_LEN).unwrap();
        Table {
            valid_hooks: 0b1110,
            hook_entry: [0, at(0), at(1), at(3), 0],
            underflow: [0, at(0), at(2), at(3), 0],
            num_entries: 4,
            entries,
        }
    }

    #[test]
    fn rules_come_and_go_without_a_trace() {
        let old = table();
        let docker = BTreeSet::from(["docker0".to_owned()]);
        let rules = wanted("gantry0", &docker);
        let (new, counters) = rewrite(&old, "gantry0", &rules).unwrap().unwrap();
        assert_eq!((new.num_entries, counters.len()), (7, 7));
        assert_eq!(new.underflow[FORWARD] as usize, 5 * RULE_LEN);
        assert_eq!(new.hook_entry[3] as usize, 6 * RULE_LEN);
        // The jump follows its target.
        assert_eq!(jump_target(&new.entries, RULE_LEN + ENTRY_LEN), Some(6 * RULE_LEN));
        assert_eq!(rewrite(&new, "gantry0", &rules).unwrap(), None);
        let (back, _) = rewrite(&new, "gantry0", &[]).unwrap().unwrap();
        assert_eq!(back, old);
        assert_eq!(rewrite(&old, "gantry0", &[]).unwrap(), None);
    }

    #[test]
    fn garbage_is_refused() {
        for len in [1, 50, 111, 112, RULE_LEN + 1] {
            let bad = Table { entries: vec![0; len], ..table() };
            assert!(rewrite(&bad, "gantry0", &[]).is_err(), "{len}");
        }
        let mut lost = table();
        lost.hook_entry[1] = 7;
        assert!(rewrite(&lost, "gantry0", &wanted("gantry0", &BTreeSet::new())).is_err());
    }
}
