//! `cargo xtask order`: which functions `gantry runtime` needs, for the linker to put them next to each other.
//!
//! The kernel maps a program by pieces of 64 KiB around what is touched. The runtime executes some 500 functions of the
//! 20,000 in the binary, so when they lie wherever the compiler left them, each brings 60 KiB of strangers into its
//! resident memory, and costs a fault. This command builds the binary with a map, runs `gantry runtime run` and `exec`
//! instruction by instruction, and writes the sections that it came through to `crates/gantry/order.ld`, which release
//! builds are linked with. A list that is out of date only costs memory: `cargo xtask bench --rows memory` shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::bench::bundle::{Bundle, Program, Runtime};

/// Where the program's code can be: a static program that is not position-independent begins at 2 MiB.
const CODE: std::ops::Range<u64> = 0x20_0000..0x1000_0000;

/// What to look at.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A static busybox
    #[arg(long, default_value = "/bin/busybox")]
    busybox: PathBuf,
    /// Follow the program of the last time once more instead of building it
    #[arg(long)]
    again: bool,
}

/// A piece of code as the linker got it.
struct Section {
    begin: u64,
    end: u64,
    /// E.g. `libc.a(open.o)`; empty for what the compiler made of this workspace.
    archive: String,
    /// E.g. `.text._ZN7runtime6create6create17h0123456789abcdefE`
    name: String,
}

/// Writes the list.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let root = crate::repository();
    let folder = root.join("target/order");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let (map, program) = (folder.join("gantry.map"), folder.join("gantry"));
    if !options.again {
        build(&map, &program)?;
    }
    let sections = sections(&map)?;
    let touched = follow(&program, &options.busybox)?;
    let script = root.join("crates/gantry/order.ld");
    std::fs::write(&script, text(&sections, &touched)).map_err(|error| format!("{}: {error}", script.display()))
}

fn build(map: &Path, program: &Path) -> Result<(), String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["rustc", "--release", "--package", "gantry", "--bin", "gantry", "--message-format=json"]);
    cargo.arg("--").arg(format!("-Clink-arg=-Wl,-Map={}", map.display()));
    let output =
        cargo.current_dir(crate::repository()).stderr(Stdio::inherit()).output().map_err(|error| error.to_string())?;
    let built = executable(&output.stdout).ok_or("the build gave no program")?;
    std::fs::copy(&built, program).map(drop).map_err(|error| format!("{}: {error}", built.display()))
}

/// The program in cargo's messages.
fn executable(messages: &[u8]) -> Option<PathBuf> {
    let lines = messages.split(|byte| *byte == b'\n').rev();
    let mut values = lines.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    values.find_map(|value| value["executable"].as_str().map(PathBuf::from))
}

/// The input sections with code in a map of lld: lines of `VMA LMA Size Align FILE:(SECTION)`.
fn sections(map: &Path) -> Result<Vec<Section>, String> {
    let text = std::fs::read_to_string(map).map_err(|error| format!("{}: {error}", map.display()))?;
    let mut found: Vec<Section> = text.lines().filter_map(section).collect();
    found.sort_by_key(|section| section.begin);
    Ok(found)
}

fn section(line: &str) -> Option<Section> {
    let mut words = line.split_whitespace();
    let begin = u64::from_str_radix(words.next()?, 16).ok()?;
    let size = u64::from_str_radix(words.nth(1)?, 16).ok()?;
    let (file, name) = words.nth(1)?.rsplit_once(":(")?;
    let name = name.strip_suffix(')').filter(|name| name.starts_with(".text"))?;
    let file = file.rsplit('/').next().unwrap_or(file);
    let archive = if file.contains(".rcgu.o") { "" } else { file };
    Some(Section { begin, end: begin + size, archive: archive.to_owned(), name: name.to_owned() })
}

/// Runs a container and a command in one, and says at which addresses the runtime's own process has been.
fn follow(program: &Path, busybox: &Path) -> Result<BTreeSet<u64>, String> {
    let words = format!("{} runtime", program.display());
    let bundle = Bundle::new(busybox, &words)?;
    let runtime = Runtime::new(&words, &bundle, "order");
    let mut touched = BTreeSet::new();
    let short = runtime.prepare(Program::True)?;
    step(&mut runtime.command(&["run", "--bundle", &short.bundle, &short.id]), &mut touched)?;
    let long = runtime.prepare(Program::Stays)?;
    runtime.create_and_start(&long)?;
    let stepped = step(&mut runtime.command(&["exec", &long.id, "/bin/true"]), &mut touched);
    runtime.delete(&[long])?;
    stepped.map(|()| touched)
}

/// Runs a command to its end, noting where it is after each instruction.
fn step(command: &mut Command, touched: &mut BTreeSet<u64>) -> Result<(), String> {
    // A shell that stops itself before it becomes the program gives the time to begin watching.
    let mut shell = Command::new("sh");
    shell.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    let mut child = shell.stdin(Stdio::null()).stdout(Stdio::null()).spawn().map_err(|error| error.to_string())?;
    let pid = Pid::from_raw(child.id().try_into().map_err(|_| "a process id that is too large")?);
    let failed = |errno: nix::errno::Errno| format!("following the runtime: {errno}");
    waitpid(pid, Some(WaitPidFlag::WUNTRACED)).map_err(failed)?;
    ptrace::attach(pid).map_err(failed)?;
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).map_err(failed)?;
    loop {
        let signal = match waitpid(pid, None).map_err(failed)? {
            WaitStatus::Exited(_, 0) => return Ok(()),
            WaitStatus::Stopped(_, nix::sys::signal::Signal::SIGTRAP | nix::sys::signal::Signal::SIGSTOP) => None,
            WaitStatus::Stopped(_, signal) => Some(signal),
            status => {
                let _ = child.kill();
                return Err(format!("the runtime ended with {status:?}"));
            }
        };
        touched.extend(place(pid)?.filter(|address| CODE.contains(address)));
        ptrace::step(pid, signal).map_err(failed)?;
    }
}

#[cfg(target_arch = "x86_64")]
fn place(pid: Pid) -> Result<Option<u64>, String> {
    ptrace::getregs(pid).map(|registers| Some(registers.rip)).map_err(|errno| errno.to_string())
}

#[cfg(not(target_arch = "x86_64"))]
fn place(_: Pid) -> Result<Option<u64>, String> {
    Err("functions can be ordered on x86_64 only: the registers of other machines are not read".into())
}

/// The linker script.
fn text(sections: &[Section], touched: &BTreeSet<u64>) -> String {
    let mut alike: BTreeMap<String, usize> = BTreeMap::new();
    for section in sections {
        *alike.entry(pattern(section)).or_default() += 1;
    }
    let used = sections.iter().filter(|section| touched.range(section.begin..section.end).next().is_some());
    let lines: BTreeSet<String> = used
        .map(|section| match pattern(section) {
            alone if alike.get(&alone) == Some(&1) => alone,
            // One of many instances of a generic function: only its hash tells it from the others, which would come along.
            _ if section.archive.is_empty() => format!("({})", section.name),
            several => several,
        })
        .collect();
    let mut script = String::from(
        "/* The functions that `gantry runtime` executes, next to each other. Made by `cargo xtask order`, see there. */\n\
         SECTIONS\n{\n  .text.runtime :\n  {\n",
    );
    for line in lines {
        script.push_str(&format!("    *{line}\n"));
    }
    script + "  }\n}\nINSERT BEFORE .text;\n"
}

/// A section by a name that outlives the next build: without the hashes of the compiler, which it makes of the
/// types and the names of crates.
fn pattern(section: &Section) -> String {
    if !section.archive.is_empty() {
        let member = section.archive.rsplit('(').next().unwrap_or_default().trim_end_matches(')');
        return format!("{member}({})", section.name);
    }
    let mut name = section.name.clone();
    // The older mangling ends with `17h`, sixteen digits and `E`; the newer one has `Cs…_` before the name of a crate.
    if let Some(at) = name.rfind("17h").filter(|at| at + 20 <= name.len()) {
        name.truncate(at + 3);
        name.push('*');
    } else {
        name = without_crate_hashes(&name);
    }
    format!("({name})")
}

fn without_crate_hashes(name: &str) -> String {
    let mut parts = name.split("Cs");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        result.push_str("Cs");
        match part.find('_') {
            Some(end @ 9..=13) => {
                result.push('*');
                result.push_str(part.get(end..).unwrap_or_default());
            }
            _ => result.push_str(part),
        }
    }
    result
}
