//! `docker stats`.

use super::together;
use crate::client::{Answer, Client, Query, encode};
use crate::error::Error;
use crate::format::human;
use crate::format::row::{Listing, Row};
use crate::progress::Lines;
use crate::{Invocation, terminal};
use api::container::{Stats, Summary};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often the table is drawn; the engine sends figures once a second.
const REDRAW: Duration = Duration::from_millis(500);

/// What a table shows of one container.
#[derive(Clone, Default)]
struct Figures {
    /// As it was named on the command line.
    asked: String,
    id: String,
    name: String,
    stats: Option<Stats>,
    /// Its stream has ended.
    gone: bool,
}

/// `docker stats`.
pub(crate) async fn stats(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let config = call.config();
    let wanted = if values.is_set("format") { values.text("format") } else { config.text("statsFormat") };
    let listing = listing();
    let format = listing.format(wanted, false)?;
    let client = call.client()?;
    let mut names = call.words.clone();
    let all = names.is_empty();
    if all {
        let query = Query::new().with_flag("all", values.on("all"));
        let containers: Vec<Summary> = client.get("/containers/json", &query).await?;
        names = containers.into_iter().map(|container| container.id).collect();
    }
    let short = !values.on("no-trunc");
    if values.on("no-stream") {
        let results = together::each(&names, |name| once(&client, name)).await;
        let (mut figures, mut failures) = (Vec::new(), Vec::new());
        for result in results {
            match result {
                Ok(found) => figures.push(found),
                // One that has ended since the list was made is no failure.
                Err(error) if all && error.status() == 404 => {}
                Err(error) => failures.push(error.to_string()),
            }
        }
        if !failures.is_empty() {
            return Err(Error::joined(&failures));
        }
        let rows: Vec<Row> = figures.iter().map(|figures| row(figures, short)).collect();
        terminal::print(&listing.show(&format, &rows)?);
        return Ok(0);
    }
    let mut screen = Screen {
        figures: names.iter().map(|name| Figures { asked: name.clone(), ..Figures::default() }).collect(),
        failures: Vec::new(),
    };
    watch(&client, &names, &mut screen, all, |screen| {
        let rows: Vec<Row> =
            screen.figures.iter().filter(|figures| !figures.gone).map(|figures| row(figures, short)).collect();
        let text = listing.show(&format, &rows)?;
        // Home, then each line cleared to its end, then all below.
        let lines: String = text.lines().map(|line| format!("{line}\x1b[K\n")).collect();
        terminal::print(&format!("\x1b[H{lines}\x1b[J"));
        Ok(())
    })
    .await?;
    if screen.failures.is_empty() { Ok(0) } else { Err(Error::joined(&screen.failures)) }
}

struct Screen {
    figures: Vec<Figures>,
    failures: Vec<String>,
}

/// Follows all streams and draws, until every stream has ended.
async fn watch(
    client: &Client,
    names: &[String],
    screen: &mut Screen,
    all: bool,
    draw: impl Fn(&Screen) -> Result<(), Error>,
) -> Result<(), Error> {
    let (sender, mut news) = mpsc::channel::<(usize, Option<Stats>)>(64);
    let streams = together::each(names, |name| follow(client, name)).await;
    let mut open = Vec::new();
    for (index, stream) in streams.into_iter().enumerate() {
        match stream {
            Ok(stream) => open.push((index, stream)),
            Err(error) => {
                screen.figures[index].gone = true;
                if !(all && error.status() == 404) {
                    screen.failures.push(error.to_string());
                }
            }
        }
    }
    if open.is_empty() {
        return Ok(());
    }
    let pumps: Vec<(usize, tokio::sync::Mutex<Answer<'_>>)> =
        open.into_iter().map(|(index, answer)| (index, tokio::sync::Mutex::new(answer))).collect();
    let pumping = async {
        together::each(&pumps, |(index, answer)| pump(*index, answer, sender.clone())).await;
        drop(sender);
    };
    let drawing = async {
        let mut tick = tokio::time::interval(REDRAW);
        let mut left = pumps.len();
        terminal::print("\x1b[2J");
        loop {
            tokio::select! {
                Some((index, stats)) = news.recv() => match stats {
                    Some(stats) => {
                        let figures = &mut screen.figures[index];
                        (figures.id, figures.name) = (stats.id.clone(), stats.name.trim_start_matches('/').to_owned());
                        figures.stats = Some(stats);
                    }
                    None => {
                        screen.figures[index].gone = true;
                        left -= 1;
                        if left == 0 {
                            return draw(screen);
                        }
                    }
                },
                _ = tick.tick() => draw(screen)?,
            }
        }
    };
    tokio::select! {
        result = drawing => result,
        () = async { pumping.await; std::future::pending().await } => Ok(()),
    }
}

async fn follow<'a>(client: &'a Client, name: &str) -> Result<Answer<'a>, Error> {
    client.open(&format!("/containers/{}/stats", encode(name)), &Query::new().with("stream", "1")).await
}

/// Passes a stream's samples on; `None` is its end.
async fn pump(index: usize, answer: &tokio::sync::Mutex<Answer<'_>>, sender: mpsc::Sender<(usize, Option<Stats>)>) {
    let mut answer = answer.lock().await;
    let mut lines = Lines::default();
    while let Ok(Some(piece)) = answer.chunk().await {
        if lines.push(&piece).is_err() {
            break;
        }
        while let Ok(Some(stats)) = lines.next::<Stats>() {
            if sender.send((index, Some(stats))).await.is_err() {
                return;
            }
        }
    }
    // The table is gone when nobody takes this.
    let _ = sender.send((index, None)).await;
}

async fn once(client: &Client, name: &str) -> Result<Figures, Error> {
    let query = Query::new().with("stream", "0");
    let stats: Stats = client.get(&format!("/containers/{}/stats", encode(name)), &query).await?;
    Ok(Figures {
        asked: name.to_owned(),
        id: stats.id.clone(),
        name: stats.name.trim_start_matches('/').to_owned(),
        stats: Some(stats),
        gone: false,
    })
}

fn listing() -> Listing {
    Listing {
        type_name: "*container.statsContext",
        headings: &[
            ("Container", "CONTAINER"),
            ("ID", "CONTAINER ID"),
            ("Name", "NAME"),
            ("CPUPerc", "CPU %"),
            ("MemUsage", "MEM USAGE / LIMIT"),
            ("MemPerc", "MEM %"),
            ("NetIO", "NET I/O"),
            ("BlockIO", "BLOCK I/O"),
            ("PIDs", "PIDS"),
        ],
        default: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"
            .into(),
        quiet: "",
    }
}

fn row(figures: &Figures, short: bool) -> Row {
    let none = || "--".to_owned();
    let cut = |id: &str| if short { human::short_id(id).to_owned() } else { id.to_owned() };
    let stats = figures.stats.as_ref();
    let show = |show: fn(&Stats) -> String| stats.map_or_else(none, show);
    let both = |show: fn(&Stats) -> String| stats.map_or_else(|| "-- / --".to_owned(), show);
    let name = if figures.name.is_empty() { none() } else { figures.name.clone() };
    let asked = if figures.id.starts_with(&figures.asked) { cut(&figures.asked) } else { figures.asked.clone() };
    Row::new([
        ("Container", asked),
        ("ID", if figures.id.is_empty() { cut(&figures.asked) } else { cut(&figures.id) }),
        ("Name", name),
        ("CPUPerc", show(|stats| format!("{:.2}%", processor_share(stats)))),
        ("MemUsage", both(|stats| format!("{} / {}", binary(memory(stats)), binary(stats.memory_stats.limit)))),
        ("MemPerc", show(|stats| format!("{:.2}%", memory_share(stats)))),
        ("NetIO", both(network)),
        ("BlockIO", both(block)),
        ("PIDs", show(|stats| stats.pids_stats.current.to_string())),
    ])
}

#[allow(clippy::cast_precision_loss)] // a few digits are shown
fn binary(bytes: u64) -> String {
    human::binary_size(bytes as f64)
}

/// What a container uses, without what the kernel could take back at once.
fn memory(stats: &Stats) -> u64 {
    let memory = &stats.memory_stats;
    // cgroup v1 and v2 call it differently.
    let inactive = memory.stats.get("total_inactive_file").or_else(|| memory.stats.get("inactive_file"));
    let inactive = inactive.copied().filter(|inactive| *inactive < memory.usage).unwrap_or(0);
    memory.usage - inactive
}

#[allow(clippy::cast_precision_loss)] // two digits are shown
fn memory_share(stats: &Stats) -> f64 {
    match stats.memory_stats.limit {
        0 => 0.0,
        limit => memory(stats) as f64 / limit as f64 * 100.0,
    }
}

/// The share of one processor, from this sample and the one before.
#[allow(clippy::cast_precision_loss)] // two digits are shown
fn processor_share(stats: &Stats) -> f64 {
    let (now, before) = (&stats.cpu_stats, &stats.precpu_stats);
    let used = now.cpu_usage.total_usage as f64 - before.cpu_usage.total_usage as f64;
    let whole = now.system_cpu_usage as f64 - before.system_cpu_usage as f64;
    let online = match now.online_cpus {
        0 => now.cpu_usage.percpu_usage.len() as f64,
        online => f64::from(online),
    };
    if used > 0.0 && whole > 0.0 { used / whole * online * 100.0 } else { 0.0 }
}

fn decimal(bytes: u64) -> String {
    human::size(i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn network(stats: &Stats) -> String {
    let none = BTreeMap::new();
    let networks = stats.networks.as_ref().unwrap_or(&none);
    let (received, sent) =
        networks.values().fold((0, 0), |(rx, tx), network| (rx + network.rx_bytes, tx + network.tx_bytes));
    format!("{} / {}", decimal(received), decimal(sent))
}

fn block(stats: &Stats) -> String {
    let entries = stats.blkio_stats.io_service_bytes_recursive.as_deref().unwrap_or_default();
    let sum = |letter: char| {
        let of = |op: &str| op.chars().next().is_some_and(|first| first.eq_ignore_ascii_case(&letter));
        entries.iter().filter(|entry| of(&entry.op)).map(|entry| entry.value).sum()
    };
    format!("{} / {}", decimal(sum('r')), decimal(sum('w')))
}
