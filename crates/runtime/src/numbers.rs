//! Words of the specification, and the kernel's numbers for them.

/// The number of a word.
pub(crate) fn number_of(table: &[(&str, u32)], word: &str) -> Option<u32> {
    table.iter().find(|(known, _)| *known == word).map(|(_, number)| *number)
}

/// `linux/sched.h`
pub(crate) const SCHEDULER_POLICIES: &[(&str, u32)] = &[
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

/// `linux/sched.h`
pub(crate) const SCHEDULER_FLAGS: &[(&str, u32)] = &[
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// `linux/ioprio.h`
pub(crate) const IO_CLASSES: &[(&str, u32)] =
    &[("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];

/// `linux/mempolicy.h`
pub(crate) const MEMORY_MODES: &[(&str, u32)] = &[
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// `linux/mempolicy.h`
pub(crate) const MEMORY_MODE_FLAGS: &[(&str, u32)] =
    &[("MPOL_F_NUMA_BALANCING", 1 << 13), ("MPOL_F_RELATIVE_NODES", 1 << 14), ("MPOL_F_STATIC_NODES", 1 << 15)];

/// The numbers of a list such as `0-2,7`: processors, or nodes of memory. None when it is no such list, or has a number
/// that no kernel knows.
pub(crate) fn list(text: &str) -> Option<Vec<usize>> {
    const MAX: usize = rustix::thread::CpuSet::MAX_CPU;
    let mut numbers = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MAX {
            return None;
        }
        numbers.extend(first..=last);
    }
    // Ranges may overlap, so that a short text could stand for very many numbers.
    numbers.sort_unstable();
    numbers.dedup();
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::list;

    #[test]
    fn lists() {
        assert_eq!(list("0-2, 7,1").unwrap(), [0, 1, 2, 7]);
        assert_eq!(list("").unwrap(), [0_usize; 0]);
        for wrong in ["x", "3-1", "-1", "1-", "99999", "1 2"] {
            assert_eq!(list(wrong), None, "{wrong}");
        }
    }
}
