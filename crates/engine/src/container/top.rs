//! The processes of a container as `ps` lists them, read from /proc: nothing is executed.

use api::container::TopResponse;

use super::actor::Request;
use super::transitions::Command;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::system::memory_total;

/// Clock ticks per second, on every architecture that is supported.
const TICKS: u64 = 100;

impl Engine {
    /// Lists processes; `arguments` are those of ps: empty, `-ef`, `aux`, `-o LIST` and their like.
    pub async fn container_top(&self, id: &str, arguments: &str) -> Result<TopResponse> {
        let columns = columns(arguments)?;
        if !columns.iter().any(|c| c.title == "PID") {
            return Err(Error::system("Couldn't find PID field in ps output"));
        }
        let container = self.containers.get(id)?;
        let monitor = container.ask(|reply| Request::Monitor { command: Command::Top, reply }).await?;
        let pids = monitor.processes().await?;
        let listed = self
            .blocking(move || {
                let host = Host::read();
                let mut rows: Vec<(i32, Vec<String>)> = Vec::new();
                for pid in pids {
                    // One that has just ended is simply not there.
                    if let Some(process) = Process::read(pid) {
                        rows.push((pid, columns.iter().map(|c| (c.value)(&process, &host)).collect()));
                    }
                }
                rows.sort_by_key(|(pid, _)| *pid);
                let titles = columns.iter().map(|c| c.title.to_owned()).collect();
                Ok(TopResponse { processes: rows.into_iter().map(|(_, row)| row).collect(), titles })
            })
            .await?;
        self.container_event(&container.record(), "top", &[]);
        Ok(listed)
    }
}

/// Facts of the host that rates are computed with.
struct Host {
    uptime_s: f64,
    boot_s: i64,
    memory: u64,
}

impl Host {
    fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let uptime_s = text("/proc/uptime").split(' ').next().and_then(|t| t.parse().ok()).unwrap_or(0.0);
        let stat = text("/proc/stat");
        let boot = stat.lines().find_map(|l| l.strip_prefix("btime ")?.parse().ok());
        Self { uptime_s, boot_s: boot.unwrap_or(0), memory: memory_total() }
    }
}

/// One process, as /proc tells it.
#[derive(Debug, Default)]
struct Process {
    pid: i32,
    name: String,
    command: Vec<String>,
    state: char,
    ppid: i64,
    pgid: i64,
    sid: i64,
    tty: i64,
    foreground: i64,
    time_ticks: u64,
    priority: i64,
    nice: i64,
    threads: i64,
    start_ticks: u64,
    vsz_bytes: u64,
    rss_pages: u64,
    uid: u32,
    gid: u32,
    locked_kb: u64,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut process = Self::from_stat(pid, &stat)?;
        let raw = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = raw.split(|b| *b == 0).filter(|w| !w.is_empty());
        process.command = words.map(|w| String::from_utf8_lossy(w).into_owned()).collect();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = |key: &str, at: usize| -> Option<u64> {
            let line = status.lines().find_map(|l| l.strip_prefix(key))?;
            line.split_whitespace().nth(at)?.parse().ok()
        };
        // The second number is the effective one, which ps shows.
        process.uid = field("Uid:", 1).unwrap_or(0) as u32;
        process.gid = field("Gid:", 1).unwrap_or(0) as u32;
        process.locked_kb = field("VmLck:", 0).unwrap_or(0);
        Some(process)
    }

    fn from_stat(pid: i32, stat: &str) -> Option<Self> {
        let (start, rest) = stat.rsplit_once(") ")?;
        let name = start.split_once('(')?.1.to_owned();
        let f: Vec<&str> = rest.split(' ').collect();
        let number = |at: usize| f.get(at).and_then(|t| t.trim().parse::<i64>().ok()).unwrap_or(0);
        Some(Self {
            pid,
            name,
            state: f.first()?.chars().next()?,
            ppid: number(1),
            pgid: number(2),
            sid: number(3),
            tty: number(4),
            foreground: number(5),
            time_ticks: (number(11) + number(12)).unsigned_abs(),
            priority: number(15),
            nice: number(16),
            threads: number(17),
            start_ticks: number(19).unsigned_abs(),
            vsz_bytes: number(20).unsigned_abs(),
            rss_pages: number(21).unsigned_abs(),
            ..Self::default()
        })
    }

    fn age_s(&self, host: &Host) -> f64 {
        (host.uptime_s - self.start_ticks as f64 / TICKS as f64).max(0.0)
    }

    fn cpu_percent(&self, host: &Host) -> f64 {
        let age = self.age_s(host);
        if age < 0.01 { 0.0 } else { self.time_ticks as f64 / TICKS as f64 * 100.0 / age }
    }

    fn rss_kb(&self) -> u64 {
        self.rss_pages * rustix::param::page_size() as u64 / 1024
    }

    fn line(&self) -> String {
        if self.command.is_empty() { format!("[{}]", self.name) } else { self.command.join(" ") }
    }

    /// `?`, `pts/0`, `tty1`.
    fn terminal(&self) -> String {
        let device = self.tty as u64;
        let (major, minor) = (device >> 8 & 0xfff, device & 0xff | (device >> 12 & 0xfff00));
        match (device, major) {
            (0, _) => "?".to_owned(),
            (_, 136..=143) => format!("pts/{}", minor + (major - 136) * 256),
            (_, 4) if minor < 64 => format!("tty{minor}"),
            (_, 4) => format!("ttyS{}", minor - 64),
            _ => format!("{major}:{minor}"),
        }
    }

    /// The letters behind the state: leader, threads, nice, foreground.
    fn flags(&self) -> String {
        let mut text = String::from(self.state);
        let marks = [
            (self.nice < 0, '<'),
            (self.nice > 0, 'N'),
            (self.locked_kb > 0, 'L'),
            (self.sid == i64::from(self.pid), 's'),
            (self.threads > 1, 'l'),
            (self.foreground == self.pgid, '+'),
        ];
        text.extend(marks.iter().filter(|(on, _)| *on).map(|(_, mark)| *mark));
        text
    }

    fn started(&self, host: &Host) -> Option<jiff::ZonedDateTime> {
        let at = host.boot_s + i64::try_from(self.start_ticks / TICKS).ok()?;
        Some(jiff::Timestamp::from_second(at).ok()?.to_zoned_datetime(jiff::tz::TimeZone::system()))
    }

    /// `10:35` today, `Nov24` before, the year before that.
    fn start_text(&self, host: &Host) -> String {
        let Some(start) = self.started(host) else { return "-".to_owned() };
        let now = jiff::ZonedDateTime::now();
        let format = match () {
            () if now.date() == start.date() => "%H:%M",
            () if now.year() == start.year() => "%b%d",
            () => "%Y",
        };
        start.strftime(format).to_string()
    }
}

/// Name of a user of the host, else the number.
fn user(uid: u32) -> String {
    name_in("/etc/passwd", uid)
}

fn group(gid: u32) -> String {
    name_in("/etc/group", gid)
}

fn name_in(file: &str, id: u32) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    });
    let name = found.unwrap_or_else(|| id.to_string());
    // ps cuts long names and marks that.
    if name.len() > 8 { format!("{}+", &name[..7]) } else { name }
}

fn clock(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `0:00`: minutes and seconds, as BSD prints CPU time.
fn minutes(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

fn elapsed(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    match (days, rest / 3600) {
        (0, 0) => format!("{:02}:{:02}", rest / 60, rest % 60),
        (0, _) => clock(rest),
        (days, _) => format!("{days}-{}", clock(rest)),
    }
}

/// One column: title and value.
struct Column {
    title: &'static str,
    value: fn(&Process, &Host) -> String,
}

/// Columns of `-o` by name; several names may mean the same.
fn column(name: &str) -> Option<Column> {
    let (title, value): (&'static str, fn(&Process, &Host) -> String) = match name {
        "pid" | "tgid" => ("PID", |p, _| p.pid.to_string()),
        "ppid" => ("PPID", |p, _| p.ppid.to_string()),
        "pgid" | "pgrp" => ("PGID", |p, _| p.pgid.to_string()),
        "sid" | "sess" | "session" => ("SID", |p, _| p.sid.to_string()),
        "user" | "euser" | "uname" => ("USER", |p, _| user(p.uid)),
        "uid" | "euid" => ("UID", |p, _| p.uid.to_string()),
        "group" | "egroup" => ("GROUP", |p, _| group(p.gid)),
        "gid" | "egid" => ("GID", |p, _| p.gid.to_string()),
        "comm" | "ucmd" | "ucomm" => ("COMMAND", |p, _| p.name.clone()),
        "args" | "command" => ("COMMAND", |p, _| p.line()),
        "cmd" => ("CMD", |p, _| p.line()),
        "tty" | "tt" | "tname" => ("TT", |p, _| p.terminal()),
        "time" | "cputime" => ("TIME", |p, _| clock(p.time_ticks / TICKS)),
        "etime" => ("ELAPSED", |p, h| elapsed(p.age_s(h) as u64)),
        "etimes" => ("ELAPSED", |p, h| (p.age_s(h) as u64).to_string()),
        "stat" => ("STAT", |p, _| p.flags()),
        "state" | "s" => ("S", |p, _| p.state.to_string()),
        "pcpu" | "%cpu" => ("%CPU", |p, h| format!("{:.1}", p.cpu_percent(h))),
        "pmem" | "%mem" => ("%MEM", |p, h| format!("{:.1}", p.rss_kb() as f64 * 102_400.0 / h.memory as f64)),
        "c" | "cp" => ("C", |p, h| (p.cpu_percent(h) as u64).to_string()),
        "vsz" | "vsize" => ("VSZ", |p, _| (p.vsz_bytes / 1024).to_string()),
        "rss" | "rssize" | "rsz" => ("RSS", |p, _| p.rss_kb().to_string()),
        "start" | "start_time" | "bsdstart" => ("START", |p, h| p.start_text(h)),
        "stime" => ("STIME", |p, h| p.start_text(h)),
        "ni" | "nice" => ("NI", |p, _| p.nice.to_string()),
        "pri" => ("PRI", |p, _| (39 - p.priority).to_string()),
        "nlwp" | "thcount" => ("NLWP", |p, _| p.threads.to_string()),
        _ => return None,
    };
    Some(Column { title, value })
}

/// The columns that arguments of ps ask for.
fn columns(arguments: &str) -> Result<Vec<Column>> {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let named = |names: &str| names.split(',').filter_map(column).collect::<Vec<_>>();
    // UID of -f is a name, and STIME and C have their own titles.
    let full = || {
        let mut list = named("user,pid,ppid,c,stime,tty,time,cmd");
        list[0].title = "UID";
        list[5].title = "TTY";
        list
    };
    let wide = || {
        let mut list = named("user,pid,pcpu,pmem,vsz,rss,tty,stat,start,time,command");
        list[6].title = "TTY";
        list[9].value = |p, _| minutes(p.time_ticks / TICKS);
        list
    };
    let unsupported = || Error::system("ps: error: unsupported SysV option");
    let mut chosen: Vec<Column> = Vec::new();
    let mut layout: Option<Vec<Column>> = None;
    let mut at = 0;
    while at < words.len() {
        let word = words[at];
        at += 1;
        let list = match word {
            "-o" | "o" | "-O" | "--format" => {
                at += 1;
                Some((*words.get(at - 1).ok_or_else(unsupported)?).to_owned())
            }
            _ => ["--format=", "-o", "-eo"].iter().find_map(|p| word.strip_prefix(p)).map(str::to_owned),
        };
        if let Some(mut list) = list {
            if list.is_empty() {
                list = (*words.get(at).ok_or_else(unsupported)?).to_owned();
                at += 1;
            }
            for name in list.split(',').map(|n| n.split('=').next().unwrap_or(n)) {
                chosen.push(column(name).ok_or_else(|| {
                    Error::system(format!("ps: error: unknown user-defined format specifier \"{name}\""))
                })?);
            }
            continue;
        }
        let letters = word.trim_start_matches('-');
        let known = !letters.is_empty() && letters.bytes().all(|b| b"eAfauxwlj".contains(&b));
        match (word.starts_with('-'), known) {
            (_, false) => return Err(unsupported()),
            (true, _) if letters.contains('f') => layout = Some(full()),
            (false, _) if letters.contains('u') => layout = Some(wide()),
            (true, _) if letters.contains('u') => layout = Some(wide()),
            (false, _) => layout = layout.or_else(|| Some(named("pid,tty,stat,time,command"))),
            (true, _) => layout = layout.or_else(|| Some(named("pid,tty,time,cmd"))),
        }
    }
    Ok(match (chosen.is_empty(), layout) {
        (false, _) => chosen,
        (true, Some(layout)) => layout,
        (true, None) => full(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(arguments: &str) -> Vec<&'static str> {
        columns(arguments).unwrap().iter().map(|c| c.title).collect()
    }

    #[test]
    fn layouts_are_those_of_ps() {
        assert_eq!(titles(""), ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        assert_eq!(titles("-ef"), titles(""));
        let wide = ["USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TTY", "STAT", "START", "TIME", "COMMAND"];
        assert_eq!(titles("aux"), wide);
        assert_eq!(titles("-o pid,comm"), ["PID", "COMMAND"]);
        assert_eq!(titles("-eo pid,args"), ["PID", "COMMAND"]);
        assert_eq!(columns("-zork").err().unwrap().message(), "ps: error: unsupported SysV option");
        assert!(columns("-o zork").is_err() && columns("-o").is_err());
    }

    #[test]
    fn our_own_process_is_readable() {
        let host = Host::read();
        let own = Process::read(std::process::id() as i32).unwrap();
        for column in columns("aux").unwrap() {
            assert!(!(column.value)(&own, &host).is_empty(), "{}", column.title);
        }
        let named =
            Process::from_stat(7, "7 (a) b (c)) S 1 7 7 34816 7 0 0 0 0 0 100 50 0 0 20 0 1 0 500 4096 1").unwrap();
        assert_eq!((named.name.as_str(), named.ppid, named.terminal().as_str()), ("a) b (c)", 1, "pts/0"));
        assert_eq!(elapsed(90_061), "1-01:01:01");
    }
}
