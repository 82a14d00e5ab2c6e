//! The measurements.

use std::io::{BufRead, BufReader};
use std::time::Instant;

use super::Line;
use super::bundle::{Prepared, Program, Runtime};

/// The middle of what was measured.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Lets both take turns. The first turn of each warms the caches and does not count.
fn turns(
    ours: &Runtime<'_>,
    peer: &Runtime<'_>,
    rounds: usize,
    mut turn: impl FnMut(&Runtime<'_>, usize) -> Result<f64, String>,
) -> Result<(f64, f64), String> {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let order = [(ours, 0), (peer, 1)];
        let order = if round % 2 == 0 { order } else { [order[1], order[0]] };
        for (runtime, which) in order {
            let figure = turn(runtime, which)?;
            if round > 0 {
                if which == 0 { a.push(figure) } else { b.push(figure) }
            }
        }
    }
    Ok((median(a), median(b)))
}

/// `run` of `true`, from nothing to nothing.
pub(super) fn run(ours: &Runtime<'_>, peer: &Runtime<'_>, rounds: usize) -> Result<Line, String> {
    let turn = |runtime: &Runtime<'_>, _| runtime.with_bundle("run", &runtime.prepare(Program::True)?);
    let (ours, peer) = turns(ours, peer, rounds, turn)?;
    Ok(Line { name: "`run` of `true`".into(), ours, peer, unit: "ms" })
}

/// `exec` of `true` in a standing container.
pub(super) fn exec(ours: &Runtime<'_>, peer: &Runtime<'_>, rounds: usize) -> Result<Line, String> {
    let both = [ours.prepare(Program::Stays)?, peer.prepare(Program::Stays)?];
    ours.create_and_start(&both[0])?;
    peer.create_and_start(&both[1])?;
    let measured = turns(ours, peer, rounds, |runtime, which| runtime.timed(&["exec", &both[which].id, "/bin/true"]));
    ours.delete(&both[..1])?;
    peer.delete(&both[1..])?;
    let (ours, peer) = measured?;
    Ok(Line { name: "`exec` of `true`".into(), ours, peer, unit: "ms" })
}

/// Many at once: from the first process to the last started container.
pub(super) fn at_once(ours: &Runtime<'_>, peer: &Runtime<'_>, count: usize) -> Result<Line, String> {
    let burst = |runtime: &Runtime<'_>| {
        let all = prepare(runtime, count)?;
        let begin = Instant::now();
        let made = std::thread::scope(|scope| {
            let workers: Vec<_> = all.iter().map(|one| scope.spawn(|| runtime.create_and_start(one))).collect();
            workers.into_iter().try_for_each(|worker| match worker.join() {
                Ok(made) => made.map(drop),
                Err(_) => Err("a thread panicked".to_owned()),
            })
        });
        let elapsed = begin.elapsed().as_secs_f64() * 1000.0;
        runtime.delete(&all)?;
        made.map(|()| elapsed)
    };
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        a.push(burst(ours)?);
        b.push(burst(peer)?);
    }
    Ok(Line { name: format!("{count} × `create`, `start` at once"), ours: median(a), peer: median(b), unit: "ms" })
}

fn prepare(runtime: &Runtime<'_>, count: usize) -> Result<Vec<Prepared>, String> {
    (0..count).map(|_| runtime.prepare(Program::Stays)).collect()
}

/// How many of the first and the last containers are looked at.
const EDGE: usize = 20;

/// The last of many standing containers over the first ones.
pub(super) fn standing(ours: &Runtime<'_>, count: usize) -> Result<Line, String> {
    let all = prepare(ours, count + EDGE)?;
    // The first container of a runtime makes what all of them share.
    ours.create_and_start(&all[0])?;
    let measured: Result<Vec<f64>, String> = all[1..].iter().map(|one| ours.create_and_start(one)).collect();
    ours.delete(&all)?;
    let measured = measured?;
    let last = measured.len().saturating_sub(EDGE);
    let (first, last) = (median(measured[..EDGE].to_vec()), median(measured[last..].to_vec()));
    Ok(Line { name: format!("the {count}th standing container, over the first"), ours: last, peer: first, unit: "ms" })
}

/// The peak resident memory of the runtime's process during `run` in the foreground.
pub(super) fn memory(ours: &Runtime<'_>, peer: &Runtime<'_>) -> Result<Line, String> {
    let (ours, peer) = turns(ours, peer, 3, |runtime, _| {
        let container = runtime.prepare(Program::Stays)?;
        let mut child = runtime.foreground(&container)?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line).map_err(|error| error.to_string())?;
        }
        let peak = peak_kib(child.id());
        // What stays in the foreground removes its container itself.
        runtime.timed(&["kill", &container.id, "KILL"])?;
        child.wait().map_err(|error| error.to_string())?;
        if line.trim() != "ready" {
            return Err(format!("the container said {line:?}"));
        }
        peak
    })?;
    Ok(Line { name: "peak memory of `run`".into(), ours, peer, unit: "KiB" })
}

fn peak_kib(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().map_err(|_| format!("{path} has no VmHWM"))
}
