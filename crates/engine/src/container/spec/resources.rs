//! Limits: from Docker's units to those of the runtime specification.

use std::os::unix::fs::MetadataExt;

use api::container::{HostConfig, ThrottleDevice as ApiThrottle};
use oci::spec::{BlockIo, Cpu, Memory, Pids, Resources, ThrottleDevice, WeightDevice};

use super::device::{self, HostDevice};
use crate::container::record::Record;
use crate::error::{Error, Result};

/// Microseconds that a share of CPUs is counted over.
const PERIOD: i64 = 100_000;

pub(super) fn of(record: &Record, devices: &[HostDevice]) -> Result<Resources> {
    let host = &record.host_config;
    let mut rules = device::default_rules();
    if host.privileged {
        rules.push(device::privileged_rule());
    } else {
        rules.extend(devices.iter().map(HostDevice::rule));
        for text in host.device_cgroup_rules.iter().flatten() {
            rules.push(device::parse_rule(text)?);
        }
    }
    Ok(Resources { devices: rules, ..limits(host)? })
}

/// The limits alone, for `update` of a running container.
pub(crate) fn update(host: &HostConfig) -> Result<Resources> {
    limits(host)
}

fn limits(host: &HostConfig) -> Result<Resources> {
    Ok(Resources {
        memory: Some(memory(host)),
        cpu: cpu(host),
        pids: host.pids_limit.filter(|limit| *limit != 0).map(|limit| Pids { limit, ..Pids::default() }),
        block_io: Some(block_io(host)?),
        ..Resources::default()
    })
}

fn positive(value: i64) -> Option<i64> {
    Some(value).filter(|v| *v > 0)
}

fn memory(host: &HostConfig) -> Memory {
    Memory {
        limit: positive(host.memory),
        reservation: positive(host.memory_reservation),
        // -1 is meaningful: no limit for swap beside one for memory.
        swap: Some(host.memory_swap).filter(|swap| *swap > 0 || (*swap == -1 && host.memory > 0)),
        swappiness: host.memory_swappiness.and_then(|v| u64::try_from(v).ok()),
        disable_oom_killer: host.oom_kill_disable,
        ..Memory::default()
    }
}

fn cpu(host: &HostConfig) -> Option<Cpu> {
    let text = |s: &String| Some(s.clone()).filter(|s| !s.is_empty());
    let unsigned = |v: i64| positive(v).map(|v| v as u64);
    let mut cpu = Cpu {
        shares: unsigned(host.cpu_shares),
        quota: Some(host.cpu_quota).filter(|q| *q != 0),
        period: unsigned(host.cpu_period),
        realtime_runtime: positive(host.cpu_realtime_runtime),
        realtime_period: unsigned(host.cpu_realtime_period),
        cpus: text(&host.cpuset_cpus),
        mems: text(&host.cpuset_mems),
        ..Cpu::default()
    };
    if host.nano_cpus > 0 {
        cpu.period = Some(PERIOD as u64);
        cpu.quota = Some(host.nano_cpus * PERIOD / 1_000_000_000);
    }
    Some(cpu).filter(|cpu| *cpu != Cpu::default())
}

fn numbers(path: &str) -> Result<(i64, i64)> {
    let metadata =
        std::fs::metadata(path).map_err(|source| Error::caused(crate::Kind::System, format!("stat {path}"), source))?;
    let number = metadata.rdev();
    Ok((i64::from(rustix::fs::major(number)), i64::from(rustix::fs::minor(number))))
}

fn block_io(host: &HostConfig) -> Result<BlockIo> {
    let throttles = |list: &Option<Vec<ApiThrottle>>| -> Result<Vec<ThrottleDevice>> {
        let one = |t: &ApiThrottle| {
            let (major, minor) = numbers(&t.path)?;
            Ok(ThrottleDevice { major, minor, rate: t.rate, ..ThrottleDevice::default() })
        };
        list.iter().flatten().map(one).collect()
    };
    let weights = host.blkio_weight_device.iter().flatten().map(|w| {
        let (major, minor) = numbers(&w.path)?;
        Ok(WeightDevice { major, minor, weight: Some(w.weight), ..WeightDevice::default() })
    });
    Ok(BlockIo {
        weight: Some(host.blkio_weight).filter(|w| *w > 0),
        weight_device: weights.collect::<Result<_>>()?,
        throttle_read_bps_device: throttles(&host.blkio_device_read_bps)?,
        throttle_write_bps_device: throttles(&host.blkio_device_write_bps)?,
        throttle_read_iops_device: throttles(&host.blkio_device_read_iops)?,
        throttle_write_iops_device: throttles(&host.blkio_device_write_iops)?,
        ..BlockIo::default()
    })
}
