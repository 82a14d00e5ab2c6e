//! `linux.resources` and `linux.seccomp` of a bundle in the words of the kernel's side.

use oci::spec;
use sys::cgroup::{self, Access, DeviceKind};
use sys::seccomp;

use crate::error::{Error, Result};

fn invalid(message: impl Into<String>) -> Error {
    Error::Spec(message.into())
}

/// The limits of a cgroup.
pub(crate) fn resources(from: &spec::Resources) -> Result<cgroup::Resources> {
    if from.memory.as_ref().is_some_and(|m| m.kernel.is_some_and(|limit| limit > 0)) {
        return Err(invalid("linux.resources.memory.kernel: the kernel has no such limit any more"));
    }
    let memory = from.memory.clone().unwrap_or_default();
    let cpu = from.cpu.clone().unwrap_or_default();
    let mut rdma = std::collections::BTreeMap::new();
    for (device, limits) in &from.rdma {
        rdma.insert(device.clone(), (limits.hca_handles, limits.hca_objects));
    }
    let network = from.network.clone().unwrap_or_default();
    Ok(cgroup::Resources {
        devices: from.devices.iter().map(device_rule).collect::<Result<_>>()?,
        memory: cgroup::Memory {
            limit: memory.limit,
            reservation: memory.reservation,
            swap: memory.swap,
            kernel_tcp: memory.kernel_tcp,
            swappiness: memory.swappiness,
            disable_oom_killer: memory.disable_oom_killer,
            check_before_update: memory.check_before_update.unwrap_or_default(),
        },
        cpu: cgroup::Cpu {
            shares: cpu.shares,
            quota: cpu.quota,
            burst: cpu.burst,
            period: cpu.period,
            realtime_runtime: cpu.realtime_runtime,
            realtime_period: cpu.realtime_period,
            cpus: cpu.cpus.unwrap_or_default(),
            mems: cpu.mems.unwrap_or_default(),
            idle: cpu.idle,
        },
        pids: from.pids.as_ref().map(|pids| pids.limit),
        block_io: from.block_io.as_ref().map(block_io).transpose()?.unwrap_or_default(),
        hugepages: from.hugepage_limits.iter().map(|page| (page.page_size.clone(), page.limit)).collect(),
        network: cgroup::Network {
            class_id: network.class_id,
            priorities: network.priorities.into_iter().map(|entry| (entry.name, entry.priority)).collect(),
        },
        rdma,
        unified: from.unified.clone(),
    })
}

fn number(value: i64, field: &str) -> Result<u32> {
    u32::try_from(value).map_err(|_| invalid(format!("linux.resources.{field}: {value} is no device number")))
}

/// Absent and -1 are any.
fn any_number(value: Option<i64>) -> Result<Option<u32>> {
    value.filter(|value| *value != -1).map(|value| number(value, "devices")).transpose()
}

fn device_rule(rule: &spec::DeviceRule) -> Result<cgroup::DeviceRule> {
    let kind = match rule.kind.as_deref().unwrap_or_default() {
        "" | "a" => DeviceKind::All,
        "c" => DeviceKind::Char,
        "b" => DeviceKind::Block,
        other => return Err(invalid(format!("linux.resources.devices: unknown type {other:?}"))),
    };
    let letters = rule.access.as_deref().unwrap_or("rwm");
    let letters = if letters.is_empty() { "rwm" } else { letters };
    let access = Access::parse(letters)
        .ok_or_else(|| invalid(format!("linux.resources.devices: unknown access {letters:?}")))?;
    Ok(cgroup::DeviceRule {
        allow: rule.allow,
        kind,
        major: any_number(rule.major)?,
        minor: any_number(rule.minor)?,
        access,
    })
}

fn block_io(from: &spec::BlockIo) -> Result<cgroup::BlockIo> {
    let mut weight_device = Vec::new();
    for device in &from.weight_device {
        let major = number(device.major, "blockIO")?;
        weight_device.push((major, number(device.minor, "blockIO")?, device.weight, device.leaf_weight));
    }
    let throttles = |devices: &[spec::ThrottleDevice]| -> Result<Vec<cgroup::Throttle>> {
        let convert = |device: &spec::ThrottleDevice| {
            let (major, minor) = (number(device.major, "blockIO")?, number(device.minor, "blockIO")?);
            Ok(cgroup::Throttle { major, minor, rate: device.rate })
        };
        devices.iter().map(convert).collect()
    };
    Ok(cgroup::BlockIo {
        weight: from.weight,
        leaf_weight: from.leaf_weight,
        weight_device,
        read_bps: throttles(&from.throttle_read_bps_device)?,
        write_bps: throttles(&from.throttle_write_bps_device)?,
        read_iops: throttles(&from.throttle_read_iops_device)?,
        write_iops: throttles(&from.throttle_write_iops_device)?,
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

/// The filter, compiled; `None` when it would allow everything.
pub(crate) fn filter(from: &spec::Seccomp) -> Result<Option<Filter>> {
    let wrong = |error: seccomp::Error| invalid(format!("linux.seccomp: {error}"));
    let default_action = seccomp::Action::parse(&from.default_action, from.default_errno_ret).map_err(wrong)?;
    let mut rules = Vec::with_capacity(from.syscalls.len());
    for rule in &from.syscalls {
        let action = seccomp::Action::parse(&rule.action, rule.errno_ret).map_err(wrong)?;
        let mut arguments = Vec::with_capacity(rule.args.len());
        for argument in &rule.args {
            arguments.push(seccomp::Argument {
                index: u8::try_from(argument.index).map_err(|_| wrong(seccomp::Error::Index(argument.index)))?,
                comparison: argument.op.parse().map_err(wrong)?,
                value: argument.value,
                value_two: argument.value_two.unwrap_or_default(),
            });
        }
        rules.push(seccomp::Rule { names: rule.names.clone(), action, arguments });
    }
    let everything = |action: &seccomp::Action| *action == seccomp::Action::Allow;
    if everything(&default_action) && rules.iter().all(|rule| everything(&rule.action)) {
        return Ok(None);
    }
    let notify =
        default_action == seccomp::Action::Notify || rules.iter().any(|rule| rule.action == seccomp::Action::Notify);
    if notify && from.listener_path.is_none() {
        return Err(invalid("linux.seccomp: SCMP_ACT_NOTIFY needs listenerPath"));
    }
    let architectures = from.architectures.clone();
    let program = seccomp::compile(&seccomp::Filter { default_action, architectures, rules }).map_err(wrong)?;
    // runc's default: no speculative store bypass mitigation, which costs more than it brings.
    let flags = if from.flags.is_empty() {
        seccomp::Program::flags(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"])
    } else {
        seccomp::Program::flags(&from.flags)
    };
    Ok(Some(Filter { program, flags: flags.map_err(wrong)?, notify }))
}

/// Takes what `update` has over into `current`, object by object: absent fields stay.
pub(crate) fn merge(current: &mut spec::Resources, update: &spec::Resources) -> Result<()> {
    let failed = |error: serde_json::Error| invalid(format!("linux.resources: {error}"));
    let mut merged = serde_json::to_value(&*current).map_err(failed)?;
    overlay(&mut merged, serde_json::to_value(update).map_err(failed)?);
    *current = serde_json::from_value(merged).map_err(failed)?;
    Ok(())
}

fn overlay(below: &mut serde_json::Value, above: serde_json::Value) {
    match (below, above) {
        (serde_json::Value::Object(below), serde_json::Value::Object(above)) => {
            for (key, value) in above {
                overlay(below.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}
