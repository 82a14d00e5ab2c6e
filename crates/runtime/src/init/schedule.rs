//! On which processors, in which order and out of which memory a process runs.

use rustix::thread::CpuSet;
use sys::user::{self, Scheduling};

use crate::error::Stage;
use crate::failure::{Context, Failure, Step};
use crate::numbers::{self, number_of};
use crate::plan::ProcessPlan;

/// Applies everything. An added process is pinned to its processors too, which the first one is not
/// (`process.execCPUAffinity`).
pub(super) fn apply(plan: &ProcessPlan, added: bool) -> Step {
    let process = &plan.process;
    if let Some(persona) = plan.personality {
        user::set_personality(persona).context(Stage::Settings, "linux.personality")?;
    }
    memory(plan)?;
    if let Some(scheduler) = &process.scheduler {
        let number = |table, word: &str| number_of(table, word).unwrap_or_default();
        let flags = scheduler.flags.iter().map(|flag| number(numbers::SCHEDULER_FLAGS, flag));
        let mut scheduling = Scheduling::default();
        scheduling.policy = number(numbers::SCHEDULER_POLICIES, &scheduler.policy);
        scheduling.flags = u64::from(flags.fold(0, |all, flag| all | flag));
        scheduling.nice = scheduler.nice;
        scheduling.priority = u32::try_from(scheduler.priority).unwrap_or_default();
        scheduling.runtime = scheduler.runtime;
        scheduling.deadline = scheduler.deadline;
        scheduling.period = scheduler.period;
        user::set_scheduling(scheduling)
            .with_context(Stage::Settings, || format!("process.scheduler: {}", scheduler.policy))?;
    }
    if let Some(priority) = &process.io_priority {
        let class = number_of(numbers::IO_CLASSES, &priority.class).unwrap_or_default();
        let level = u32::try_from(priority.priority).unwrap_or_default();
        user::set_io_priority(class, level)
            .with_context(Stage::Settings, || format!("process.ioPriority: {}", priority.class))?;
    }
    let list = process.exec_cpu_affinity.as_ref().and_then(|affinity| affinity.finally.as_deref());
    match list.filter(|list| added && !list.is_empty()) {
        Some(list) => pin(list),
        None => Ok(()),
    }
}

fn memory(plan: &ProcessPlan) -> Step {
    let Some(policy) = &plan.memory_policy else { return Ok(()) };
    let mode = number_of(numbers::MEMORY_MODES, &policy.mode).unwrap_or_default();
    let flags = policy.flags.iter().filter_map(|flag| number_of(numbers::MEMORY_MODE_FLAGS, flag));
    let nodes = numbers::list(policy.nodes.as_deref().unwrap_or_default()).unwrap_or_default();
    user::set_memory_policy(flags.fold(mode, |all, flag| all | flag), &nodes)
        .with_context(Stage::Settings, || format!("linux.memoryPolicy: {}", policy.mode))
}

/// Runs on these processors alone; `0-2,7`.
pub(crate) fn pin(list: &str) -> Step {
    let numbers = numbers::list(list).filter(|numbers| !numbers.is_empty());
    let numbers =
        numbers.ok_or_else(|| Failure::new(Stage::Settings, format!("invalid list of processors {list:?}")))?;
    let mut set = CpuSet::new();
    numbers.into_iter().for_each(|cpu| set.set(cpu));
    rustix::thread::sched_setaffinity(None, &set)
        .with_context(Stage::Settings, || format!("process.execCPUAffinity: {list}"))
}
