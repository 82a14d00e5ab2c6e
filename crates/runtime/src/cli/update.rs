//! `update`.

use std::io::Read;

use oci::spec::{BlockIo, Cpu, IntelRdt, Memory, Pids, Resources};

use super::commands::load;
use super::grammar::Parsed;
use super::{Context, Failure, Outcome};
use crate::failure::plain;

pub(super) fn update(context: &Context) -> Outcome {
    let arguments = &context.arguments;
    let mut container = load(context)?;
    let resources = match arguments.text("resources") {
        Some(path) => read(path)?,
        None => from_flags(arguments)?,
    };
    container.update(&resources)?;
    let schema = |flag: &str| arguments.text(flag).map(str::to_owned);
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
    read.map_err(|error| format!("open {path}: {}", plain(&error)))?;
    Ok(crate::config::parse(text.as_bytes()).map_err(|error| format!("{path}: {error}"))?)
}

fn number<T: std::str::FromStr>(arguments: &Parsed, flag: &str) -> Result<Option<T>, Failure>
where
    T::Err: std::fmt::Display,
{
    let parse =
        |text: &str| text.parse().map_err(|error| format!("invalid value for {flag}: {text:?}: {error}").into());
    arguments.text(flag).map(parse).transpose()
}

/// Bytes, with an optional unit of 1024: `64m`, `1.5GiB`, `64 MB`. `-1` is no limit.
fn bytes(arguments: &Parsed, flag: &str) -> Result<Option<i64>, Failure> {
    let Some(text) = arguments.text(flag) else { return Ok(None) };
    if text == "-1" {
        return Ok(Some(-1));
    }
    parse_bytes(text).map(Some).ok_or_else(|| format!("invalid value for {flag}: invalid size: '{text}'").into())
}

fn parse_bytes(text: &str) -> Option<i64> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let unit = unit.strip_suffix('i').unwrap_or(unit);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(1 << shift);
    }
    let bytes = number.parse::<f64>().ok()? * (1_i64 << shift) as f64;
    // Within what a floating point number holds exactly; more memory than that is in no machine.
    (0.0..9e15).contains(&bytes).then_some(bytes as i64)
}

fn from_flags(arguments: &Parsed) -> Result<Resources, Failure> {
    let text = |flag: &str| arguments.text(flag).map(str::to_owned);
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
        kernel: bytes(arguments, "kernel-memory")?,
        kernel_tcp: bytes(arguments, "kernel-memory-tcp")?,
        ..Memory::default()
    };
    let weight = arguments.number("blkio-weight").filter(|weight| *weight != 0);
    let weight =
        weight.map(|weight| u16::try_from(weight).map_err(|_| format!("invalid value for blkio-weight: {weight}")));
    let weight = weight.transpose()?;
    let limit = arguments.number("pids-limit");
    Ok(Resources {
        cpu: (cpu != Cpu::default()).then_some(cpu),
        memory: (memory != Memory::default()).then_some(memory),
        block_io: weight.map(|weight| BlockIo { weight: Some(weight), ..BlockIo::default() }),
        pids: limit.map(|limit| Pids { limit, ..Pids::default() }),
        ..Resources::default()
    })
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("33554432"), Some(33_554_432));
        for text in ["64m", "64M", "64mb", "64MiB", "64 MB"] {
            assert_eq!(parse_bytes(text), Some(64 << 20), "{text}");
        }
        assert_eq!(parse_bytes("1.5g"), Some(3 << 29));
        assert_eq!(parse_bytes("7b"), Some(7));
        for text in ["", "1x", "m", "-5", "1.2.3", "9999999999p"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }
}
