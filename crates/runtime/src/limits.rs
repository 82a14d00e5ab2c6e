//! `linux.resources` and `linux.seccomp` of a bundle in the words of the kernel's side.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use oci::spec;
use sys::cgroup::{self, Access, DeviceKind};
use sys::seccomp;

use crate::error::{Error, Result};
use crate::numbers;

fn invalid(field: impl Display, message: impl Display) -> Error {
    Error::Spec(format!("linux.resources.{field}: {message}"))
}

/// The limits of a cgroup. What depends on the version of the host's cgroups is refused when they are applied.
pub(crate) fn resources(from: &spec::Resources) -> Result<cgroup::Resources> {
    let network = from.network.clone().unwrap_or_default();
    let mut rdma = BTreeMap::new();
    for (device, limits) in &from.rdma {
        word(format!("rdma[{device:?}]"), device)?;
        rdma.insert(device.clone(), (limits.hca_handles, limits.hca_objects));
    }
    Ok(cgroup::Resources {
        devices: from.devices.iter().enumerate().map(device_rule).collect::<Result<_>>()?,
        memory: memory(&from.memory.clone().unwrap_or_default())?,
        cpu: cpu(from.cpu.clone().unwrap_or_default())?,
        pids: from.pids.as_ref().map(|pids| pids.limit),
        block_io: from.block_io.as_ref().map(block_io).transpose()?.unwrap_or_default(),
        hugepages: hugepages(&from.hugepage_limits)?,
        network: cgroup::Network {
            class_id: network.class_id,
            priorities: network.priorities.into_iter().map(|entry| (entry.name, entry.priority)).collect(),
        },
        rdma,
        unified: unified(&from.unified)?,
    })
}

/// The same for an update, which leaves devices as they are (what is in force may have been added to by others), and the
/// limit of processes where it is 0, like all limits.
pub(crate) fn update(from: &spec::Resources) -> Result<cgroup::Resources> {
    let all = resources(from)?;
    Ok(cgroup::Resources { devices: Vec::new(), pids: all.pids.filter(|limit| *limit != 0), ..all })
}

/// What becomes one word of a line that is written to a file of the cgroup.
fn word(field: impl Display, text: &str) -> Result<()> {
    if text.is_empty() || text.contains(|letter: char| letter.is_whitespace() || letter == '\0') {
        return Err(invalid(field, format!("{text:?} is not one word")));
    }
    Ok(())
}

fn memory(memory: &spec::Memory) -> Result<cgroup::Memory> {
    let sizes = [("limit", memory.limit), ("reservation", memory.reservation), ("swap", memory.swap)];
    let more = [("kernel", memory.kernel), ("kernelTCP", memory.kernel_tcp)];
    for (name, size) in sizes.into_iter().chain(more) {
        if let Some(size) = size.filter(|size| *size < -1) {
            return Err(invalid(format!("memory.{name}"), format!("{size} is no size, and -1 is none")));
        }
    }
    if memory.kernel.is_some_and(|limit| limit > 0) {
        return Err(invalid("memory.kernel", "the kernel has no such limit any more"));
    }
    if memory.use_hierarchy == Some(false) {
        return Err(invalid("memory.useHierarchy", "the kernel always counts what is below a cgroup"));
    }
    if let (Some(limit @ 1..), Some(swap @ 1..)) = (memory.limit, memory.swap)
        && swap < limit
    {
        return Err(invalid(
            "memory.swap",
            format!("{swap} is for memory and swap together, and below the limit {limit}"),
        ));
    }
    // Docker's -1, for 'unset', arrives as the largest number.
    if let Some(swappiness) = memory.swappiness.filter(|value| *value > 100 && *value != u64::MAX) {
        return Err(invalid("memory.swappiness", format!("{swappiness} is not between 0 and 100")));
    }
    Ok(cgroup::Memory {
        limit: memory.limit,
        reservation: memory.reservation,
        swap: memory.swap,
        kernel_tcp: memory.kernel_tcp,
        swappiness: memory.swappiness,
        disable_oom_killer: memory.disable_oom_killer,
        check_before_update: memory.check_before_update.unwrap_or_default(),
    })
}

fn cpu(cpu: spec::Cpu) -> Result<cgroup::Cpu> {
    for (name, list) in [("cpus", &cpu.cpus), ("mems", &cpu.mems)] {
        let list = list.as_deref().unwrap_or_default();
        if numbers::list(list).is_none() {
            return Err(invalid(format!("cpu.{name}"), format!("{list:?} is no list of numbers")));
        }
    }
    if let Some(idle) = cpu.idle.filter(|idle| !(0..=1).contains(idle)) {
        return Err(invalid("cpu.idle", format!("{idle} is neither 0 nor 1")));
    }
    Ok(cgroup::Cpu {
        shares: cpu.shares,
        quota: cpu.quota,
        burst: cpu.burst,
        period: cpu.period,
        realtime_runtime: cpu.realtime_runtime,
        realtime_period: cpu.realtime_period,
        cpus: cpu.cpus.unwrap_or_default(),
        mems: cpu.mems.unwrap_or_default(),
        idle: cpu.idle,
    })
}

/// Sizes of pages are part of a file's name: `2MB`.
fn hugepages(limits: &[spec::HugepageLimit]) -> Result<Vec<(String, u64)>> {
    let mut seen = BTreeSet::new();
    for (index, limit) in limits.iter().enumerate() {
        let field = format!("hugepageLimits[{index}].pageSize");
        let digits = ["KB", "MB", "GB"].iter().find_map(|unit| limit.page_size.strip_suffix(unit));
        let plain = |digits: &str| digits.parse::<u32>().is_ok() && !digits.starts_with(['0', '+']);
        if !digits.is_some_and(plain) {
            return Err(invalid(field, format!("{:?} is no size such as 2MB", limit.page_size)));
        }
        if !seen.insert(&limit.page_size) {
            return Err(invalid(field, format!("{} is there twice", limit.page_size)));
        }
    }
    Ok(limits.iter().map(|page| (page.page_size.clone(), page.limit)).collect())
}

/// Names of files in the cgroup itself.
fn unified(files: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    for (name, value) in files {
        let field = || format!("unified[{name:?}]");
        if name.contains(['/', '\0']) || !name.contains('.') || name.starts_with('.') {
            return Err(invalid(field(), "no file of a cgroup has this name"));
        }
        if value.contains('\0') {
            return Err(invalid(field(), "contains a NUL byte"));
        }
    }
    Ok(files.clone())
}

fn number(value: i64, field: impl Display) -> Result<u32> {
    u32::try_from(value).map_err(|_| invalid(field, format!("{value} is no device number")))
}

fn device_rule((index, rule): (usize, &spec::DeviceRule)) -> Result<cgroup::DeviceRule> {
    let field = |name: &str| format!("devices[{index}].{name}");
    let kind = match rule.kind.as_deref().unwrap_or_default() {
        "" | "a" => DeviceKind::All,
        "c" => DeviceKind::Char,
        "b" => DeviceKind::Block,
        other => return Err(invalid(field("type"), format!("unknown type {other:?}"))),
    };
    let letters = rule.access.as_deref().unwrap_or("rwm");
    let letters = if letters.is_empty() { "rwm" } else { letters };
    let access =
        Access::parse(letters).ok_or_else(|| invalid(field("access"), format!("unknown access {letters:?}")))?;
    // Absent and -1 are any.
    let number =
        |value: Option<i64>, name| value.filter(|value| *value != -1).map(|v| number(v, field(name))).transpose();
    let (major, minor) = (number(rule.major, "major")?, number(rule.minor, "minor")?);
    Ok(cgroup::DeviceRule { allow: rule.allow, kind, major, minor, access })
}

fn block_io(from: &spec::BlockIo) -> Result<cgroup::BlockIo> {
    let weight = |weight: Option<u16>, field: String| match weight {
        Some(weight) if weight != 0 && !(10..=1000).contains(&weight) => {
            Err(invalid(field, format!("{weight} is not between 10 and 1000")))
        }
        weight => Ok(weight),
    };
    let mut weight_device = Vec::new();
    for (index, device) in from.weight_device.iter().enumerate() {
        let field = |name: &str| format!("blockIO.weightDevice[{index}].{name}");
        weight_device.push((
            number(device.major, field("major"))?,
            number(device.minor, field("minor"))?,
            weight(device.weight, field("weight"))?,
            weight(device.leaf_weight, field("leafWeight"))?,
        ));
    }
    let throttles = |list: &str, devices: &[spec::ThrottleDevice]| -> Result<Vec<cgroup::Throttle>> {
        let convert = |(index, device): (usize, &spec::ThrottleDevice)| {
            let field = |name: &str| format!("blockIO.{list}[{index}].{name}");
            let (major, minor) = (number(device.major, field("major"))?, number(device.minor, field("minor"))?);
            Ok(cgroup::Throttle { major, minor, rate: device.rate })
        };
        devices.iter().enumerate().map(convert).collect()
    };
    Ok(cgroup::BlockIo {
        weight: weight(from.weight, "blockIO.weight".into())?,
        leaf_weight: weight(from.leaf_weight, "blockIO.leafWeight".into())?,
        weight_device,
        read_bps: throttles("throttleReadBpsDevice", &from.throttle_read_bps_device)?,
        write_bps: throttles("throttleWriteBpsDevice", &from.throttle_write_bps_device)?,
        read_iops: throttles("throttleReadIOPSDevice", &from.throttle_read_iops_device)?,
        write_iops: throttles("throttleWriteIOPSDevice", &from.throttle_write_iops_device)?,
    })
}

/// A filter that is ready to be loaded.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) program: seccomp::Program,
    pub(crate) flags: u64,
    /// Some rule asks an agent.
    pub(crate) notify: bool,
}

fn wrong(field: impl Display, error: impl Display) -> Error {
    Error::Spec(format!("linux.seccomp.{field}: {error}"))
}

/// The filter, compiled; `None` when it would allow everything.
pub(crate) fn filter(from: &spec::Seccomp) -> Result<Option<Filter>> {
    if from.default_action.is_empty() {
        return Err(wrong("defaultAction", "missing"));
    }
    let default_action = seccomp::Action::parse(&from.default_action, from.default_errno_ret)
        .map_err(|error| wrong("defaultAction", error))?;
    if default_action == seccomp::Action::Notify {
        return Err(wrong("defaultAction", "SCMP_ACT_NOTIFY would stop the container before there is anybody to ask"));
    }
    for (index, name) in from.architectures.iter().enumerate() {
        seccomp::Architecture::parse(name).map_err(|error| wrong(format!("architectures[{index}]"), error))?;
    }
    let mut rules = Vec::with_capacity(from.syscalls.len());
    for (index, from) in from.syscalls.iter().enumerate() {
        rules.extend(self::rules(index, from)?);
    }
    // runc's default: no speculative store bypass mitigation, which costs more than it brings.
    let names: &[String] = if from.flags.is_empty() { &[SPEC_ALLOW.to_owned()] } else { &from.flags };
    let mut flags = 0;
    for (index, name) in names.iter().enumerate() {
        flags |= seccomp::Program::flags([name]).map_err(|error| wrong(format!("flags[{index}]"), error))?;
    }
    let notify = rules.iter().any(|rule| rule.action == seccomp::Action::Notify);
    listener(from, notify)?;
    let everything = |action: &seccomp::Action| *action == seccomp::Action::Allow;
    if everything(&default_action) && rules.iter().all(|rule| everything(&rule.action)) {
        return Ok(None);
    }
    let architectures = from.architectures.clone();
    let filter = seccomp::Filter { default_action, architectures, rules };
    let program = seccomp::compile(&filter).map_err(|error| Error::Spec(format!("linux.seccomp: {error}")))?;
    Ok(Some(Filter { program, flags, notify }))
}

const SPEC_ALLOW: &str = "SECCOMP_FILTER_FLAG_SPEC_ALLOW";

/// The conditions of a rule must all hold; when there are two about one argument, each of them alone suffices, as other
/// runtimes have it, since the library under them can say nothing else.
fn rules(index: usize, from: &spec::SyscallRule) -> Result<Vec<seccomp::Rule>> {
    let field = |name: &str| format!("syscalls[{index}].{name}");
    if from.names.is_empty() {
        return Err(wrong(field("names"), "must not be empty"));
    }
    if from.action.is_empty() {
        return Err(wrong(field("action"), "missing"));
    }
    let action = seccomp::Action::parse(&from.action, from.errno_ret).map_err(|error| wrong(field("action"), error))?;
    // The descriptor that the agent gets is handed over by this call, under the filter already.
    if action == seccomp::Action::Notify && from.names.iter().any(|name| name == "sendmsg") {
        return Err(wrong(
            field("names"),
            "SCMP_ACT_NOTIFY for sendmsg would stop the container before the agent is told",
        ));
    }
    let mut arguments = Vec::with_capacity(from.args.len());
    for (number, argument) in from.args.iter().enumerate() {
        let field = |name: &str| format!("syscalls[{index}].args[{number}].{name}");
        if argument.index > 5 {
            return Err(wrong(field("index"), seccomp::Error::Index(argument.index)));
        }
        arguments.push(seccomp::Argument {
            index: argument.index as u8,
            comparison: argument.op.parse().map_err(|error: seccomp::Error| wrong(field("op"), error))?,
            value: argument.value,
            value_two: argument.value_two.unwrap_or_default(),
        });
    }
    let one = |arguments| seccomp::Rule { names: from.names.clone(), action, arguments };
    let distinct: BTreeSet<u8> = arguments.iter().map(|argument| argument.index).collect();
    if distinct.len() < arguments.len() {
        return Ok(arguments.into_iter().map(|argument| one(vec![argument])).collect());
    }
    Ok(vec![one(arguments)])
}

/// Somebody must be there to be asked, and nobody can be told what is never sent.
fn listener(from: &spec::Seccomp, notify: bool) -> Result<()> {
    let path = from.listener_path.as_deref().unwrap_or_default();
    if notify && path.is_empty() {
        return Err(wrong("listenerPath", "SCMP_ACT_NOTIFY needs one"));
    }
    if path.contains('\0') {
        return Err(wrong("listenerPath", "contains a NUL byte"));
    }
    if !path.is_empty() && !std::path::Path::new(path).is_absolute() {
        return Err(wrong("listenerPath", format!("{path:?} is not an absolute path")));
    }
    if path.is_empty() && from.listener_metadata.as_deref().is_some_and(|text| !text.is_empty()) {
        return Err(wrong("listenerMetadata", "there is no listenerPath to send it to"));
    }
    // The kernel cannot say which thread failed and return a descriptor at once.
    if notify && from.flags.iter().any(|flag| flag == "SECCOMP_FILTER_FLAG_TSYNC") {
        return Err(wrong("flags", "SECCOMP_FILTER_FLAG_TSYNC and SCMP_ACT_NOTIFY exclude each other"));
    }
    Ok(())
}

/// Takes what `update` has over into `current`, object by object: absent fields stay, and those that are 0 or empty, which
/// is how a limit is left as it is.
pub(crate) fn merge(current: &mut spec::Resources, update: &spec::Resources) -> Result<()> {
    let failed = |error: serde_json::Error| Error::Spec(format!("linux.resources: {error}"));
    let mut merged = serde_json::to_value(&*current).map_err(failed)?;
    overlay(&mut merged, serde_json::to_value(update).map_err(failed)?);
    *current = serde_json::from_value(merged).map_err(failed)?;
    Ok(())
}

fn overlay(below: &mut serde_json::Value, above: serde_json::Value) {
    match (below, above) {
        (serde_json::Value::Object(below), serde_json::Value::Object(above)) => {
            for (key, value) in above {
                let says_nothing = value == 0 || value == "";
                // For these two 0 is a value.
                if says_nothing && !["idle", "burst"].contains(&key.as_str()) {
                    continue;
                }
                overlay(below.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}
