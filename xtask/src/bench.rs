//! The runtime beside another one, in one run: the rows that `docs/performance.md` publishes.
//!
//! Both runtimes get the same bundle and take turns within a round, the one that begins changing from round to round, so
//! a machine whose speed drifts slows both. A cell is the median of the rounds. The program needs neither cargo nor this
//! repository once it is built, so that it can be taken to another machine:
//!
//! ```sh
//! cargo xtask bench --ours 'target/release/gantry runtime' --peer runc
//! ```

pub(crate) mod bundle;
pub(crate) mod registry;
mod rows;

use std::path::PathBuf;

use bundle::{Bundle, Runtime};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The runtime that is measured: a program and its first arguments
    #[arg(long, default_value = "gantry runtime")]
    ours: String,
    /// The runtime that it is compared with
    #[arg(long, default_value = "runc")]
    peer: String,
    /// Which rows; all when absent
    #[arg(long, value_delimiter = ',', value_enum)]
    rows: Vec<Row>,
    /// How often each runtime has its turn
    #[arg(long, default_value_t = 31)]
    rounds: usize,
    /// How many containers are made at once
    #[arg(long, default_value_t = 200)]
    at_once: usize,
    /// How many containers stand in the end
    #[arg(long, default_value_t = 1000)]
    standing: usize,
    /// A static busybox
    #[arg(long, default_value = "/bin/busybox")]
    busybox: PathBuf,
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Row {
    /// `run` of `true`
    Run,
    /// `exec` of `true`
    Exec,
    /// Many `create` and `start` at once
    AtOnce,
    /// `create` and `start` of the last of many standing containers, over the first
    Standing,
    /// The most memory that the runtime had during `run`
    Memory,
}

const ALL: [Row; 5] = [Row::Run, Row::Exec, Row::AtOnce, Row::Standing, Row::Memory];

/// A line of the table.
struct Line {
    name: String,
    ours: f64,
    peer: f64,
    unit: &'static str,
}

/// Measures and prints a table.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let bundle = Bundle::new(&options.busybox, &options.peer)?;
    let ours = Runtime::new(&options.ours, &bundle, "ours");
    let peer = Runtime::new(&options.peer, &bundle, "peer");
    let rows = if options.rows.is_empty() { &ALL[..] } else { &options.rows };
    println!("| row | {} | {} | share |\n|---|---|---|---|", options.ours, options.peer);
    for row in rows {
        let line = match row {
            Row::Run => rows::run(&ours, &peer, options.rounds)?,
            Row::Exec => rows::exec(&ours, &peer, options.rounds)?,
            Row::AtOnce => rows::at_once(&ours, &peer, options.at_once)?,
            Row::Standing => rows::standing(&ours, options.standing)?,
            Row::Memory => rows::memory(&ours, &peer)?,
        };
        let Line { name, ours, peer, unit } = line;
        println!("| {name} | {ours:.1} {unit} | {peer:.1} {unit} | {:.2} |", ours / peer);
    }
    Ok(())
}
