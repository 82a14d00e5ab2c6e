//! Processes in the columns of `ps`, read from /proc: nothing is executed.
//!
//! What ps can be asked for is mostly which processes to show; here those of a container are shown whatever the options
//! say, and only the options that choose columns matter. An option that would change something else (a tree, threads,
//! an order) is refused by name.

mod process;

use std::fmt;

use process::{Host, Process, TICKS};

/// What is wrong with the arguments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option that ps has and this does not, or that nobody has.
    #[error("ps: error: unsupported option {0:?}")]
    Option(String),
    /// A column that is not known.
    #[error("ps: error: unknown user-defined format specifier {0:?}")]
    Column(String),
    /// The columns have to tell which process it is.
    #[error("couldn't find PID field in ps output")]
    NoPid,
}

/// Lists these processes; those that have just ended are left out. `arguments` are those of ps: none (`-ef`), `aux`,
/// `-o LIST` and their like.
pub fn list(pids: &[i32], arguments: &[&str]) -> Result<Table, Error> {
    let columns = columns(arguments)?;
    if !columns.iter().any(|column| column.title == "PID") {
        return Err(Error::NoPid);
    }
    let host = Host::read();
    let mut pids = pids.to_vec();
    pids.sort_unstable();
    let processes = pids.iter().filter_map(|pid| Process::read(*pid));
    let rows = processes.map(|process| columns.iter().map(|c| (c.value)(&process, &host)).collect()).collect();
    let titles = columns.iter().map(|c| c.title.clone()).collect();
    Ok(Table { titles, rows, places: columns.iter().map(|c| c.place).collect() })
}

/// Processes and what was asked of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Titles of the columns.
    pub titles: Vec<String>,
    /// A row for each process, a text for each column.
    pub rows: Vec<Vec<String>>,
    places: Vec<Place>,
}

/// As ps prints it: every line with its end.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
        let digits = digits.trim().parse::<u64>().map_or(5, |max| max.saturating_sub(1).to_string().len());
        for row in std::iter::once(&self.titles).chain(&self.rows) {
            let mut line = String::new();
            for (cell, place) in row.iter().zip(&self.places) {
                match place {
                    Place::Left(width) => line.push_str(&format!("{cell:<width$} ")),
                    Place::Right(width) => line.push_str(&format!("{cell:>width$} ")),
                    Place::Id => line.push_str(&format!("{cell:>digits$} ")),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Where a text stands in its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Left(usize),
    Right(usize),
    /// To the right, as wide as the ids of processes can be.
    Id,
}

/// One column.
struct Column {
    title: String,
    place: Place,
    value: fn(&Process, &Host) -> String,
}

/// Columns of `-o` by name; several names may mean the same.
fn column(name: &str) -> Option<Column> {
    use Place::{Id, Left, Right};
    let (title, place, value): (&str, Place, fn(&Process, &Host) -> String) = match name {
        "pid" | "tgid" => ("PID", Id, |p, _| p.pid.to_string()),
        "ppid" => ("PPID", Id, |p, _| p.ppid.to_string()),
        "pgid" | "pgrp" => ("PGID", Id, |p, _| p.pgid.to_string()),
        "sid" | "sess" | "session" => ("SID", Id, |p, _| p.sid.to_string()),
        "tpgid" => ("TPGID", Right(5), |p, _| p.foreground.to_string()),
        "user" | "euser" | "uname" => ("USER", Left(8), |p, _| process::user(p.uid)),
        "uid" | "euid" => ("UID", Right(5), |p, _| p.uid.to_string()),
        "group" | "egroup" => ("GROUP", Left(8), |p, _| process::group(p.gid)),
        "gid" | "egid" => ("GID", Right(5), |p, _| p.gid.to_string()),
        "comm" | "ucmd" | "ucomm" => ("COMMAND", Left(15), |p, _| p.name.clone()),
        "args" | "command" => ("COMMAND", Left(27), |p, _| p.line()),
        "cmd" => ("CMD", Left(27), |p, _| p.line()),
        "tty" | "tt" | "tname" => ("TT", Left(8), |p, _| p.terminal()),
        "time" | "cputime" => ("TIME", Right(8), |p, _| process::clock(p.time_ticks / TICKS)),
        "bsdtime" => ("TIME", Right(6), |p, _| process::minutes(p.time_ticks / TICKS)),
        "etime" => ("ELAPSED", Right(11), |p, h| process::elapsed(p.age_s(h) as u64)),
        "etimes" => ("ELAPSED", Right(7), |p, h| (p.age_s(h) as u64).to_string()),
        "stat" => ("STAT", Left(4), |p, _| p.marks()),
        "state" | "s" => ("S", Left(1), |p, _| p.state.to_string()),
        "pcpu" | "%cpu" => ("%CPU", Right(4), |p, h| format!("{:.1}", p.cpu_percent(h))),
        "pmem" | "%mem" => ("%MEM", Right(4), |p, h| format!("{:.1}", p.rss_kb() as f64 * 102_400.0 / h.memory as f64)),
        "c" | "cp" => ("C", Right(2), |p, h| (p.cpu_percent(h) as u64).to_string()),
        "vsz" | "vsize" => ("VSZ", Right(6), |p, _| (p.vsz_bytes / 1024).to_string()),
        "rss" | "rssize" | "rsz" => ("RSS", Right(5), |p, _| p.rss_kb().to_string()),
        "sz" => ("SZ", Right(5), |p, _| (p.vsz_bytes / rustix::param::page_size() as u64).to_string()),
        "start" | "start_time" | "bsdstart" => ("START", Right(5), |p, h| p.start_text(h)),
        "stime" => ("STIME", Right(5), |p, h| p.start_text(h)),
        "ni" | "nice" => ("NI", Right(3), |p, _| p.nice.to_string()),
        "pri" => ("PRI", Right(3), |p, _| (39 - p.priority).to_string()),
        "opri" => ("PRI", Right(3), |p, _| (60 + p.priority).to_string()),
        "priority" => ("PRI", Right(3), |p, _| p.priority.to_string()),
        "nlwp" | "thcount" => ("NLWP", Right(4), |p, _| p.threads.to_string()),
        "psr" => ("PSR", Right(3), |p, _| p.processor.to_string()),
        "wchan" => ("WCHAN", Left(6), |p, _| p.waits_in().chars().take(6).collect()),
        "f" | "flag" | "flags" => ("F", Right(1), |p, _| (p.flags >> 6 & 7).to_string()),
        "min_flt" => ("MINFL", Right(6), |p, _| p.minor_faults.to_string()),
        "maj_flt" => ("MAJFL", Right(6), |p, _| p.major_faults.to_string()),
        // No kernel tells it any more; ps still has the column.
        "addr" => ("ADDR", Left(4), |_, _| "-".to_owned()),
        _ => return None,
    };
    Some(Column { title: title.to_owned(), place, value })
}

/// Columns by name, where `NAME=TITLE` gives one its title.
fn named(names: &str) -> Result<Vec<Column>, Error> {
    let one = |name: &str| {
        let (name, title) = name.split_once('=').map_or((name, None), |(name, title)| (name, Some(title)));
        let column = column(name).ok_or_else(|| Error::Column(name.to_owned()))?;
        Ok(Column { title: title.map_or(column.title, str::to_owned), ..column })
    };
    names.split([',', ' ']).filter(|name| !name.is_empty()).map(one).collect()
}

/// What the options without a list ask for.
#[derive(Debug, Default)]
struct Layout {
    full: bool,
    extra: bool,
    long: bool,
    short_addresses: bool,
    jobs: bool,
    user: bool,
    /// Options were written without a dash.
    bsd: bool,
}

impl Layout {
    /// One word of options; those that only choose processes, or how wide lines may be, change nothing here.
    fn take(&mut self, word: &str) -> Result<(), Error> {
        let refused = || Error::Option(word.to_owned());
        let (bsd, letters) = word.strip_prefix('-').map_or((true, word), |letters| (false, letters));
        if letters.is_empty() || letters.starts_with('-') {
            return Err(refused());
        }
        self.bsd |= bsd;
        // `-aux` is what people write for `aux`.
        let undashed = bsd || (letters.contains('u') && letters.contains('a'));
        for letter in letters.chars() {
            match (letter, undashed) {
                ('a' | 'x' | 'w', _) | ('e' | 'A' | 'd', false) => {}
                ('u', true) => self.user = true,
                ('j', _) => self.jobs = true,
                ('l', _) => self.long = true,
                ('f', false) => self.full = true,
                ('F', false) => self.extra = true,
                ('y', false) => self.short_addresses = true,
                _ => return Err(refused()),
            }
        }
        Ok(())
    }

    fn columns(&self) -> Result<Vec<Column>, Error> {
        let names = match self {
            Self { user: true, .. } => "user=USER,pid,pcpu,pmem,vsz,rss,tty=TTY,stat,start,bsdtime,command",
            Self { bsd: true, jobs: true, .. } => "ppid,pid,pgid,sid,tty=TTY,tpgid,stat,uid,bsdtime,command",
            Self { bsd: true, long: true, .. } => {
                "f,uid,pid,ppid,priority=PRI,ni,vsz,rss,wchan,stat,tty=TTY,bsdtime,command"
            }
            Self { bsd: true, .. } => "pid,tty=TTY,stat,bsdtime,command",
            Self { long: true, short_addresses: true, .. } => {
                "s,uid,pid,ppid,c,opri,ni,rss,sz,wchan,tty=TTY,time,comm=CMD"
            }
            Self { long: true, .. } => "f,s,uid,pid,ppid,c,opri,ni,addr,sz,wchan,tty=TTY,time,comm=CMD",
            Self { extra: true, .. } => "user=UID,pid,ppid,c,sz,rss,psr,stime,tty=TTY,time,cmd",
            Self { full: true, jobs: true, .. } => "user=UID,pid,ppid,pgid,sid,c,stime,tty=TTY,time,cmd",
            Self { jobs: true, .. } => "pid,pgid,sid,tty=TTY,time,comm=CMD",
            Self { full: true, .. } => "user=UID,pid,ppid,c,stime,tty=TTY,time,cmd",
            _ => "pid,tty=TTY,time,comm=CMD",
        };
        named(names)
    }
}

/// The columns that arguments of ps ask for.
fn columns(arguments: &[&str]) -> Result<Vec<Column>, Error> {
    if arguments.is_empty() {
        return columns(&["-ef"]);
    }
    let mut chosen = Vec::new();
    let mut layout = Layout::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        // `-o LIST`, `-oLIST`, `-eo LIST`, `o LIST`, `--format LIST`, `--format=LIST`
        let (options, list) = match word.strip_prefix("--format") {
            Some(rest) if rest.is_empty() || rest.starts_with('=') => ("", Some(rest.trim_start_matches('='))),
            _ if word.starts_with("--") => (*word, None),
            _ => word.split_once('o').map_or((*word, None), |(options, list)| (options, Some(list))),
        };
        if !["", "-"].contains(&options) || list.is_none() {
            layout.take(options)?;
        }
        if let Some(list) = list {
            let list = if list.is_empty() { words.next().copied() } else { Some(list) };
            chosen.extend(named(list.ok_or_else(|| Error::Option((*word).to_owned()))?)?);
        }
    }
    if chosen.is_empty() { layout.columns() } else { Ok(chosen) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(arguments: &str) -> Vec<String> {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        columns(&words).unwrap().into_iter().map(|c| c.title).collect()
    }

    #[test]
    fn layouts_are_those_of_ps() {
        assert_eq!(titles(""), ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        assert_eq!(titles("-e -f -ww"), titles(""));
        let wide = ["USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TTY", "STAT", "START", "TIME", "COMMAND"];
        assert_eq!((titles("aux"), titles("-aux")), (wide.map(str::to_owned).to_vec(), titles("aux")));
        assert_eq!(titles("-o pid,comm"), ["PID", "COMMAND"]);
        assert_eq!(titles("-eo pid,args=WHAT"), ["PID", "WHAT"]);
        assert_eq!(titles("-opid --format user"), ["PID", "USER"]);
        assert_eq!(titles("-e"), ["PID", "TTY", "TIME", "CMD"]);
        assert_eq!(titles("-ej"), ["PID", "PGID", "SID", "TTY", "TIME", "CMD"]);
        assert_eq!(titles("-ely")[..3], ["S", "UID", "PID"]);
        assert_eq!(titles("-eF")[4..7], ["SZ", "RSS", "PSR"]);
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let error = |words: &[&str]| list(&[1], words).unwrap_err();
        assert_eq!(error(&["-ejH"]), Error::Option("-ejH".to_owned()));
        assert_eq!(error(&["--sort=pid"]), Error::Option("--sort=pid".to_owned()));
        assert_eq!(error(&["-u", "root"]), Error::Option("-u".to_owned()));
        assert_eq!(error(&["-o", "zork"]), Error::Column("zork".to_owned()));
        assert_eq!(error(&["-o", "comm"]), Error::NoPid);
        assert!(matches!(error(&["-o"]), Error::Option(_)));
    }

    #[test]
    fn our_own_process_is_in_the_table() {
        for arguments in ["aux", "-ef", "-eF", "-el", "-ely", "ajx", "alx"] {
            let table = list(&[std::process::id() as i32, 0], &[arguments]).unwrap();
            assert_eq!((table.titles.len(), table.rows.len()), (table.rows[0].len(), 1));
            assert!(table.rows[0].iter().all(|cell| !cell.is_empty()), "{table:?}");
            assert_eq!(table.to_string().lines().count(), 2);
        }
    }
}
