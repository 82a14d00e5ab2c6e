//! `update`.

use std::io::Read;

use oci::spec::{BlockIo, Cpu, IntelRdt, Memory, Pids, Resources};

use super::flags::Parsed;
use super::{Context, Failure, Outcome};
use crate::Container;

pub(super) fn update(context: &Context) -> Outcome {
    let arguments = &context.arguments;
    let mut container = Container::load(&context.root, arguments.word(0))?;
    let resources = match arguments.value("resources") {
        Some(path) => read(path)?,
        None => from_flags(arguments)?,
    };
    container.update(&resources)?;
    let schema = |flag: &str| arguments.value(flag).filter(|text| !text.is_empty()).map(str::to_owned);
    let rdt = IntelRdt {
        l3_cache_schema: schema("l3-cache-schema"),
        mem_bw_schema: schema("mem-bw-schema"),
        ..IntelRdt::default()
    };
    if rdt != IntelRdt::default() {
        container.update_rdt(&rdt)?;
    }
    Ok(0)
}

fn read(path: &str) -> Result<Resources, Failure> {
    let mut text = String::new();
    let read = if path == "-" {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| format!("{path}: {error}"))?;
    Ok(crate::config::parse(text.as_bytes()).map_err(|error| format!("{path}: {error}"))?)
}

fn number<T: std::str::FromStr>(arguments: &Parsed, flag: &str) -> Result<Option<T>, Failure> {
    let parse = |text: &str| text.parse().map_err(|_| format!("invalid value for {flag}: {text:?}").into());
    arguments.value(flag).filter(|text| !text.is_empty()).map(parse).transpose()
}

/// Bytes with an optional unit.
fn bytes(arguments: &Parsed, flag: &str) -> Result<Option<i64>, Failure> {
    let Some(text) = arguments.value(flag).filter(|text| !text.is_empty()) else { return Ok(None) };
    let lower = text.to_lowercase();
    let trimmed = lower.trim_end_matches('b').trim_end_matches('i');
    let (digits, shift) = match trimmed.char_indices().last() {
        Some((at, unit)) if "kmgtp".contains(unit) => {
            (trimmed.get(..at).unwrap_or_default(), "kmgtp".find(unit).map_or(0, |place| (place + 1) * 10))
        }
        _ => (trimmed, 0),
    };
    let value: Option<i64> = digits.trim().parse().ok();
    let value = value.and_then(|value| value.checked_mul(1 << shift));
    value.map(Some).ok_or_else(|| format!("invalid value for {flag}: {text:?}").into())
}

fn from_flags(arguments: &Parsed) -> Result<Resources, Failure> {
    let text = |flag: &str| arguments.value(flag).filter(|text| !text.is_empty()).map(str::to_owned);
    let cpu = Cpu {
        shares: number(arguments, "cpu-share")?,
        quota: number(arguments, "cpu-quota")?,
        burst: number(arguments, "cpu-burst")?,
        period: number(arguments, "cpu-period")?,
        realtime_runtime: number(arguments, "cpu-rt-runtime")?,
        realtime_period: number(arguments, "cpu-rt-period")?,
        cpus: text("cpuset-cpus"),
        mems: text("cpuset-mems"),
        idle: number(arguments, "cpu-idle")?,
        ..Cpu::default()
    };
    let memory = Memory {
        limit: bytes(arguments, "memory")?,
        reservation: bytes(arguments, "memory-reservation")?,
        swap: bytes(arguments, "memory-swap")?,
        ..Memory::default()
    };
    let weight: Option<u16> = number(arguments, "blkio-weight")?;
    let limit: Option<i64> = number(arguments, "pids-limit")?;
    Ok(Resources {
        cpu: (cpu != Cpu::default()).then_some(cpu),
        memory: (memory != Memory::default()).then_some(memory),
        block_io: weight.map(|weight| BlockIo { weight: Some(weight), ..BlockIo::default() }),
        pids: limit.map(|limit| Pids { limit, ..Pids::default() }),
        ..Resources::default()
    })
}
