//! One process, as /proc tells it, and the texts that ps makes of numbers.

/// Clock ticks per second, on every architecture that is supported.
pub(super) const TICKS: u64 = 100;

/// Facts of the host that rates are computed with.
pub(super) struct Host {
    uptime_s: f64,
    boot_s: i64,
    /// Bytes of memory.
    pub(super) memory: u64,
}

impl Host {
    pub(super) fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let uptime_s = text("/proc/uptime").split(' ').next().and_then(|t| t.parse().ok()).unwrap_or(0.0);
        let stat = text("/proc/stat");
        let boot = stat.lines().find_map(|l| l.strip_prefix("btime ")?.parse().ok());
        let info = rustix::system::sysinfo();
        let memory = u64::from(info.mem_unit).max(1) * info.totalram;
        Self { uptime_s, boot_s: boot.unwrap_or(0), memory }
    }
}

/// One process, as /proc tells it.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) name: String,
    pub(super) command: Vec<String>,
    pub(super) state: char,
    pub(super) ppid: i64,
    pub(super) pgid: i64,
    pub(super) sid: i64,
    pub(super) tty: i64,
    pub(super) foreground: i64,
    pub(super) flags: i64,
    pub(super) minor_faults: i64,
    pub(super) major_faults: i64,
    pub(super) processor: i64,
    pub(super) time_ticks: u64,
    pub(super) priority: i64,
    pub(super) nice: i64,
    pub(super) threads: i64,
    pub(super) start_ticks: u64,
    pub(super) vsz_bytes: u64,
    pub(super) rss_pages: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) locked_kb: u64,
}

impl Process {
    pub(super) fn read(pid: i32) -> Option<Self> {
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

    pub(super) fn from_stat(pid: i32, stat: &str) -> Option<Self> {
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
            flags: number(6),
            minor_faults: number(7),
            major_faults: number(9),
            processor: number(36),
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

    pub(super) fn age_s(&self, host: &Host) -> f64 {
        (host.uptime_s - self.start_ticks as f64 / TICKS as f64).max(0.0)
    }

    pub(super) fn cpu_percent(&self, host: &Host) -> f64 {
        let age = self.age_s(host);
        if age < 0.01 { 0.0 } else { self.time_ticks as f64 / TICKS as f64 * 100.0 / age }
    }

    pub(super) fn rss_kb(&self) -> u64 {
        self.rss_pages * rustix::param::page_size() as u64 / 1024
    }

    pub(super) fn line(&self) -> String {
        if self.command.is_empty() { format!("[{}]", self.name) } else { self.command.join(" ") }
    }

    /// `?`, `pts/0`, `tty1`.
    pub(super) fn terminal(&self) -> String {
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
    pub(super) fn marks(&self) -> String {
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

    pub(super) fn started(&self, host: &Host) -> Option<jiff::ZonedDateTime> {
        let at = host.boot_s + i64::try_from(self.start_ticks / TICKS).ok()?;
        Some(jiff::Timestamp::from_second(at).ok()?.to_zoned_datetime(jiff::tz::TimeZone::system()))
    }

    /// Where the process waits in the kernel.
    pub(super) fn waits_in(&self) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/wchan", self.pid)).unwrap_or_default();
        if text.is_empty() || text == "0" { "-".to_owned() } else { text }
    }

    /// `10:35` today, `Nov24` before, the year before that.
    pub(super) fn start_text(&self, host: &Host) -> String {
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
pub(super) fn user(uid: u32) -> String {
    name_in("/etc/passwd", uid)
}

pub(super) fn group(gid: u32) -> String {
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
    if name.chars().count() > 8 { format!("{}+", name.chars().take(7).collect::<String>()) } else { name }
}

pub(super) fn clock(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `0:00`: minutes and seconds, as BSD prints CPU time.
pub(super) fn minutes(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

pub(super) fn elapsed(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    match (days, rest / 3600) {
        (0, 0) => format!("{:02}:{:02}", rest / 60, rest % 60),
        (0, _) => clock(rest),
        (days, _) => format!("{days}-{}", clock(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_anything() {
        let text = "7 (a) b (c)) S 1 7 7 34816 7 0 0 0 0 0 100 50 0 0 20 0 1 0 500 4096 1";
        let process = Process::from_stat(7, text).unwrap();
        assert_eq!((process.name.as_str(), process.ppid, process.terminal().as_str()), ("a) b (c)", 1, "pts/0"));
        assert_eq!(elapsed(90_061), "1-01:01:01");
    }
}
