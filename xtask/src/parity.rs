//! Proof by parity: the same requests to a real dockerd and to Gantry, answer held against answer.
//!
//! ```text
//! scenarios ──► Side(dockerd) ──► observations ─┐
//!           └─► Side(gantry)  ──► observations ─┴─► compare ──► rows: operation, parity, reason
//!                                                                  ▲
//!                                                          differences.json (known, each with its reason)
//! ```
//! A scenario is a function that sends requests over raw HTTP/1.1 on the unix socket and notes each answer under a name.
//! An answer is its status, the headers that clients read, and its body with what must differ (ids, times, addresses)
//! replaced by its format. Whatever differs then is a bug, or stands in the list.

mod compare;
mod http;
mod observe;
mod rootfs;
mod scenarios;

use compare::{Difference, Known};
use observe::{Observation, Side};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Which engines, and how much of the list.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Socket of the real dockerd (unix:///…)
    #[arg(long, value_name = "unix://PATH")]
    docker: String,
    /// Socket of Gantry (unix:///…)
    #[arg(long, value_name = "unix://PATH")]
    gantry: String,
    /// A registry that both engines reach without TLS and may push to
    #[arg(long, default_value = "127.0.0.1:5000")]
    registry: String,
    /// Only scenarios whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Print every difference, explained ones too
    #[arg(long)]
    verbose: bool,
}

/// Runs all scenarios on both engines and prints the table; an error when a row is not explained.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let known = Known::read(&crate::repository().join("xtask/src/parity/differences.json"))?;
    let (docker, gantry) = (socket(&options.docker)?, socket(&options.gantry)?);
    let version = common_version(&docker, &gantry)?;
    let archive = rootfs::archive()?;
    let mut table = Table::default();
    for (name, scenario) in scenarios::ALL {
        if !name.contains(&options.only) {
            continue;
        }
        let side = |path: &PathBuf| {
            let mut side = Side::new(path.clone(), version.clone(), options.registry.clone(), archive.clone());
            scenario(&mut side);
            side.finish()
        };
        let (theirs, ours) = std::thread::scope(|scope| {
            let theirs = scope.spawn(|| side(&docker));
            if docker == gantry {
                // An engine against itself shows whether the scenarios repeat; their names would collide at once.
                return (theirs.join(), scope.spawn(|| side(&gantry)).join());
            }
            let ours = scope.spawn(|| side(&gantry));
            (theirs.join(), ours.join())
        });
        let failed = |_| format!("the scenario {name:?} failed in itself");
        table.add(name, &theirs.map_err(failed)?, &ours.map_err(failed)?, &known);
    }
    table.print(options.verbose, &version);
    let unused = if options.only.is_empty() { known.unused() } else { Vec::new() };
    for entry in &unused {
        println!("differences.json: nothing differs any more at {entry}");
    }
    match table.unexplained() {
        0 if unused.is_empty() => Ok(()),
        0 => Err("the list of known differences has entries without a difference".into()),
        count => Err(format!("{count} rows differ without an explanation")),
    }
}

fn socket(host: &str) -> Result<PathBuf, String> {
    let path = host.strip_prefix("unix://").unwrap_or(host);
    if path.starts_with('/') { Ok(path.into()) } else { Err(format!("{host}: not a unix socket")) }
}

/// The newest version that both serve.
fn common_version(docker: &PathBuf, gantry: &PathBuf) -> Result<String, String> {
    let newest = |path: &PathBuf| {
        let answer = http::Connection::open(path)?.request("GET", "/version", &[], b"")?;
        let version = answer.json()["ApiVersion"].as_str().unwrap_or_default().to_owned();
        let minor: u32 = version.rsplit('.').next().and_then(|minor| minor.parse().ok()).unwrap_or(0);
        Ok::<_, String>(minor)
    };
    Ok(format!("1.{}", newest(docker)?.min(newest(gantry)?)))
}

/// The rows of the comparison.
#[derive(Default)]
struct Table {
    rows: Vec<Row>,
}

struct Row {
    operation: String,
    differences: Vec<(Difference, Option<String>)>,
}

impl Table {
    fn add(&mut self, scenario: &str, theirs: &[Observation], ours: &[Observation], known: &Known) {
        let mut names: Vec<&str> = theirs.iter().map(|o| o.name.as_str()).collect();
        let seen: BTreeSet<&str> = names.iter().copied().collect();
        names.extend(ours.iter().map(|o| o.name.as_str()).filter(|name| !seen.contains(name)));
        for name in names {
            let find = |all: &[Observation]| all.iter().find(|o| o.name == name).cloned();
            let operation = format!("{scenario}: {name}");
            let found = compare::answers(find(theirs).as_ref(), find(ours).as_ref());
            let differences = found
                .into_iter()
                .map(|difference| {
                    let reason = known.reason(&operation, &difference.path);
                    (difference, reason)
                })
                .collect();
            self.rows.push(Row { operation, differences });
        }
    }

    fn unexplained(&self) -> usize {
        self.rows.iter().filter(|row| row.differences.iter().any(|(_, reason)| reason.is_none())).count()
    }

    fn print(&self, verbose: bool, version: &str) {
        println!("{:<68} {:<10} reason", format!("operation (API {version})"), "parity");
        for row in &self.rows {
            let open = row.differences.iter().filter(|(_, reason)| reason.is_none()).count();
            let word = match (row.differences.is_empty(), open) {
                (true, _) => "same",
                (false, 0) => "explained",
                _ => "DIFFERENT",
            };
            let reasons: BTreeSet<&str> = row.differences.iter().filter_map(|(_, reason)| reason.as_deref()).collect();
            println!("{:<68} {word:<10} {}", row.operation, reasons.into_iter().collect::<Vec<_>>().join("; "));
            for (difference, reason) in &row.differences {
                if verbose || reason.is_none() {
                    println!(
                        "    {}\n      dockerd: {}\n      gantry:  {}",
                        difference.path, difference.theirs, difference.ours
                    );
                }
            }
        }
        let (all, open) = (self.rows.len(), self.unexplained());
        let same = self.rows.iter().filter(|row| row.differences.is_empty()).count();
        println!("{all} operations: {same} the same, {} explained, {open} not explained", all - same - open);
    }
}
