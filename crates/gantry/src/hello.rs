//! What the embedded image `hello` runs: a process that says what it sees from inside its container.
//!
//! It is the shortest answer to 'what is a container': a normal process of this kernel, with a view of its own.

use std::fmt::Write;
use std::fs;
use std::process::ExitCode;
use sys::netlink::{self, Family, Socket};

/// Print the report to standard output.
pub(crate) fn main() -> ExitCode {
    print!("{}", report());
    ExitCode::SUCCESS
}

fn report() -> String {
    let mut text = String::from("\nHello from Gantry! This process runs in a container, and this is what it sees:\n\n");
    let mut line = |what: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {what:<14}{value}");
    };
    line(
        "process",
        &format!("PID {}{}", std::process::id(), if std::process::id() == 1 { ", the first in here" } else { "" }),
    );
    line("host name", &file("/proc/sys/kernel/hostname").unwrap_or_else(|| "unknown".into()));
    match interfaces() {
        Ok(found) if found.is_empty() => line("network", "no interface but the loopback"),
        Ok(found) => found.iter().for_each(|interface| line("network", interface)),
        Err(error) => line("network", &format!("cannot be read: {error}")),
    }
    line("memory", &memory_limit());
    line("kernel", &format!("Linux {}, shared with the host", file("/proc/sys/kernel/osrelease").unwrap_or_default()));
    text.push_str(
        "\nNo file but one is in its image: the program that you called, which is also the engine, the runtime and the client.\n\
         \nWhat to try next:\n\
         \x20 gantry ps -a                            see this container, which has ended\n\
         \x20 gantry run --memory 64m --rm hello      give it a limit\n\
         \x20 gantry run -it --rm debian bash         a shell in an image from a registry\n\
         \x20 gantry --help                           everything else\n\n",
    );
    text
}

fn file(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// `eth0 172.30.0.2/16`, for each address but the loopback's.
fn interfaces() -> Result<Vec<String>, netlink::Error> {
    let mut socket = Socket::open(Family::Route)?;
    let links = netlink::link::list(&mut socket)?;
    let addresses = netlink::address::list(&mut socket)?;
    let named = addresses.iter().filter(|a| !a.address.is_loopback()).filter_map(|a| {
        let link = links.iter().find(|l| l.index == a.link)?;
        Some(format!("{} {}/{}", link.name, a.address, a.prefix_len))
    });
    Ok(named.collect())
}

/// The control group's memory limit, on cgroup v2 or v1.
fn memory_limit() -> String {
    let limit = file("/sys/fs/cgroup/memory.max").or_else(|| file("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    match limit.as_deref().map(str::parse::<u64>) {
        // cgroup v1 shows 'no limit' as the largest number of whole pages.
        Some(Ok(bytes)) if bytes < i64::MAX as u64 / 4096 * 4096 => format!("limited to {} MiB", bytes / (1 << 20)),
        Some(_) => "no limit but the host's".into(),
        None => "unknown, no control group is mounted here".into(),
    }
}
