//! The table of commands and flags, the parser over it, and the help from it.
//!
//! The grammar is that of runc's library: one or two dashes, `--flag value` or `--flag=value`, and flags of a command
//! come before its first argument.

use super::{Context, Outcome, commands, events, features, process, spec, table, update};

/// A flag.
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    pub(super) value: bool,
    pub(super) help: &'static str,
}

/// A command.
pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// Its arguments, as the help shows them.
    usage: &'static str,
    /// The fewest and the most arguments.
    arguments: (usize, usize),
    flags: &'static [Flag],
    pub(super) run: fn(&Context) -> Outcome,
}

const fn switch(name: &'static str, short: Option<char>, help: &'static str) -> Flag {
    Flag { name, short, value: false, help }
}

const fn value(name: &'static str, short: Option<char>, help: &'static str) -> Flag {
    Flag { name, short, value: true, help }
}

const GLOBAL: &[Flag] = &[
    switch("debug", None, "enable debug logging"),
    value("log", None, "set the log file to write logs to (default is '/dev/stderr')"),
    value("log-format", None, "set the log format ('text' (default), or 'json')"),
    value(
        "root",
        None,
        "root directory for storage of container state (default: \"/run/gantry-runtime\", or for users below $XDG_RUNTIME_DIR)",
    ),
    value("criu", None, "not supported"),
    switch("systemd-cgroup", None, "not supported"),
    value("rootless", None, "ignore cgroup permission errors ('true', 'false', or 'auto'; default: 'auto')"),
];

const BUNDLE: Flag =
    value("bundle", Some('b'), "path to the root of the bundle directory, defaults to the current directory");
const CONSOLE_SOCKET: Flag =
    value("console-socket", None, "path to a unix socket which will receive the master end of the terminal");
const PIDFD_SOCKET: Flag =
    value("pidfd-socket", None, "path to a unix socket which will receive a pidfd of the process");
const PID_FILE: Flag = value("pid-file", None, "specify the file to write the process id to");
const NO_PIVOT: Flag = switch("no-pivot", None, "do not use pivot root; for a host whose root is a ramdisk");
const NO_KEYRING: Flag = switch("no-new-keyring", None, "do not create a new session keyring for the container");
const PRESERVE: Flag = value("preserve-fds", None, "pass N additional file descriptors to the container");
const DETACH: Flag = switch("detach", Some('d'), "detach from the container's process");

const ANY: usize = usize::MAX;

/// All commands.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "checkpoint",
        help: "not supported",
        usage: "<container-id>",
        arguments: (0, ANY),
        flags: &[],
        run: commands::unsupported_checkpoint,
    },
    Command {
        name: "create",
        help: "create a container",
        usage: "<container-id>",
        arguments: (1, 1),
        flags: &[BUNDLE, CONSOLE_SOCKET, PIDFD_SOCKET, PID_FILE, NO_PIVOT, NO_KEYRING, PRESERVE],
        run: process::create,
    },
    Command {
        name: "delete",
        help: "delete any resources held by the container",
        usage: "<container-id>",
        arguments: (1, 1),
        flags: &[switch("force", Some('f'), "forcibly deletes the container if it is still running (uses SIGKILL)")],
        run: commands::delete,
    },
    Command {
        name: "events",
        help: "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
        usage: "<container-id>",
        arguments: (1, 1),
        flags: &[
            value("interval", None, "set the stats collection interval (default: 5s)"),
            switch("stats", None, "display the container's stats then exit"),
        ],
        run: events::events,
    },
    Command {
        name: "exec",
        help: "execute new process inside the container",
        usage: "<container-id> <command> [command options]  || -p process.json <container-id>",
        arguments: (1, ANY),
        flags: &[
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            value("cwd", None, "current working directory in the container"),
            value("env", Some('e'), "set environment variables"),
            switch("tty", Some('t'), "allocate a pseudo-TTY"),
            value("user", Some('u'), "UID (format: <uid>[:<gid>])"),
            value("additional-gids", Some('g'), "additional gids"),
            value("process", Some('p'), "path to the process.json"),
            DETACH,
            PID_FILE,
            value("process-label", None, "set the SELinux label of the process"),
            value("apparmor", None, "set the apparmor profile for the process"),
            switch("no-new-privs", None, "set the no new privileges value for the process"),
            value("cap", Some('c'), "add a capability to the bounding set for the process"),
            PRESERVE,
            value("cgroup", None, "run the process in an (existing) sub-cgroup"),
            switch("ignore-paused", None, "allow exec in a paused container"),
        ],
        run: process::exec,
    },
    Command {
        name: "features",
        help: "show the enabled features",
        usage: "",
        arguments: (0, 0),
        flags: &[],
        run: features::features,
    },
    Command {
        name: "kill",
        help: "kill sends the specified signal (default: SIGTERM) to the container's init process",
        usage: "<container-id> [signal]",
        arguments: (1, 2),
        flags: &[switch("all", Some('a'), "send the specified signal to all processes inside the container")],
        run: commands::kill,
    },
    Command {
        name: "list",
        help: "lists containers with the given root",
        usage: "",
        arguments: (0, 0),
        flags: &[
            value("format", Some('f'), "select one of: table or json (default: \"table\")"),
            switch("quiet", Some('q'), "display only container IDs"),
        ],
        run: table::list,
    },
    Command {
        name: "pause",
        help: "pause suspends all processes inside the container",
        usage: "<container-id>",
        arguments: (1, 1),
        flags: &[],
        run: commands::pause,
    },
    Command {
        name: "ps",
        help: "ps displays the processes running inside a container",
        usage: "<container-id>",
        arguments: (1, 1),
        flags: &[value("format", Some('f'), "select one of: table or json (default: \"table\")")],
        run: table::ps,
    },
    Command {
        name: "restore",
        help: "not supported",
        usage: "<container-id>",
        arguments: (0, ANY),
        flags: &[],
        run: commands::unsupported_restore,
    },
    Command {
        name: "resume",
        help: "resumes all processes that have been previously paused",
        usage: "<container-id>",
        arguments: (1, 1),
        flags: &[],
        run: commands::resume,
    },
    Command {
        name: "run",
        help: "create and run a container",
        usage: "<container-id>",
        arguments: (1, 1),
        flags: &[
            BUNDLE,
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            DETACH,
            switch("keep", None, "do not delete the container after it exits"),
            PID_FILE,
            switch("no-subreaper", None, "accepted: this runtime is never a subreaper"),
            NO_PIVOT,
            NO_KEYRING,
            PRESERVE,
        ],
        run: process::run,
    },
    Command {
        name: "spec",
        help: "create a new specification file",
        usage: "",
        arguments: (0, 0),
        flags: &[
            value("bundle", Some('b'), "path to the root of the bundle directory"),
            switch("rootless", None, "generate a configuration for a rootless container"),
        ],
        run: spec::spec,
    },
    Command {
        name: "start",
        help: "executes the user defined process in a created container",
        usage: "<container-id>",
        arguments: (1, 1),
        flags: &[],
        run: commands::start,
    },
    Command {
        name: "state",
        help: "output the state of a container",
        usage: "<container-id>",
        arguments: (1, 1),
        flags: &[],
        run: commands::state,
    },
    Command {
        name: "update",
        help: "update container resource constraints",
        usage: "<container-id>",
        arguments: (1, 1),
        flags: &[
            value(
                "resources",
                Some('r'),
                "path to the file containing the resources to update or '-' for standard input",
            ),
            value("blkio-weight", None, "per cgroup weight, range is from 10 to 1000"),
            value("cpu-period", None, "CPU CFS period to be used for hardcapping (in usecs)"),
            value("cpu-quota", None, "CPU CFS hardcap limit (in usecs)"),
            value("cpu-burst", None, "CPU CFS hardcap burst limit (in usecs)"),
            value("cpu-share", None, "CPU shares (relative weight vs. other containers)"),
            value("cpu-rt-period", None, "CPU realtime period (in usecs)"),
            value("cpu-rt-runtime", None, "CPU realtime hardcap limit (in usecs)"),
            value("cpuset-cpus", None, "CPU(s) to use"),
            value("cpuset-mems", None, "memory node(s) to use"),
            value("cpu-idle", None, "set cgroup SCHED_IDLE or not, 0: default behavior, 1: SCHED_IDLE"),
            value("memory", None, "memory limit (in bytes)"),
            value("memory-reservation", None, "memory reservation or soft limit (in bytes)"),
            value("memory-swap", None, "total memory usage (memory + swap); '-1' for unlimited swap"),
            value("pids-limit", None, "maximum number of pids allowed in the container"),
            value("l3-cache-schema", None, "not supported"),
            value("mem-bw-schema", None, "not supported"),
        ],
        run: update::update,
    },
];

/// Flags and arguments as they were given.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    flags: Vec<(&'static str, String)>,
    pub(super) words: Vec<String>,
}

impl Parsed {
    /// The last value of a flag.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.flags.iter().rev().find(|(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }

    /// All values of a flag.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.flags.iter().filter(move |(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value != "false")
    }

    /// The argument at a place; the parser has checked how many there are.
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map(String::as_str).unwrap_or_default()
    }
}

/// What the command line asks for.
pub(super) enum Request {
    Help(Option<&'static Command>),
    Version,
    Run { global: Parsed, command: &'static Command, arguments: Parsed },
}

pub(super) fn parse(words: &[String]) -> Result<Request, String> {
    let Some(global) = parse_flags(GLOBAL, words)? else { return Ok(Request::Help(None)) };
    if global.is_set("version") {
        return Ok(Request::Version);
    }
    let Some((name, rest)) = global.words.split_first() else { return Ok(Request::Help(None)) };
    let find = |name: &str| COMMANDS.iter().find(|command| command.name == name);
    if name == "help" || name == "h" {
        return Ok(Request::Help(rest.first().and_then(|name| find(name))));
    }
    let command = find(name).ok_or_else(|| format!("No help topic for '{name}'"))?;
    let Some(arguments) = parse_flags(command.flags, rest)? else { return Ok(Request::Help(Some(command))) };
    let (fewest, most) = command.arguments;
    let count = arguments.words.len();
    if count < fewest || count > most {
        let wanted = if fewest == most { format!("exactly {fewest}") } else { format!("a minimum of {fewest}") };
        return Err(format!("{name:?} requires {wanted} argument(s)"));
    }
    Ok(Request::Run { global, command, arguments })
}

/// `None` when help is asked for.
fn parse_flags(flags: &'static [Flag], words: &[String]) -> Result<Option<Parsed>, String> {
    let mut parsed = Parsed::default();
    let mut rest = words.iter();
    while let Some(word) = rest.as_slice().first() {
        let Some(name) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|_| word != "-") else {
            break;
        };
        rest.next();
        if name.is_empty() {
            break;
        }
        let (name, inline) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
        if name == "help" || name == "h" {
            return Ok(None);
        }
        if std::ptr::eq(flags, GLOBAL) && (name == "version" || name == "v") {
            parsed.flags.push(("version", String::new()));
            continue;
        }
        let is = |flag: &&Flag| flag.name == name || flag.short.is_some_and(|short| name == short.to_string());
        let flag = flags.iter().find(is).ok_or_else(|| format!("flag provided but not defined: -{name}"))?;
        let value = match (flag.value, inline) {
            (_, Some(value)) => value.to_owned(),
            (false, None) => String::new(),
            (true, None) => rest.next().ok_or_else(|| format!("flag needs an argument: -{name}"))?.clone(),
        };
        parsed.flags.push((flag.name, value));
    }
    parsed.words = rest.as_slice().to_vec();
    Ok(Some(parsed))
}

pub(super) fn help(name: &str, command: Option<&Command>) -> String {
    let Some(command) = command else {
        let commands: String =
            COMMANDS.iter().map(|command| format!("   {:<11} {}\n", command.name, command.help)).collect();
        let more = "   --help, -h                show help\n   --version, -v             print the version\n";
        return format!(
            "NAME:\n   {name} - Open Container Initiative runtime\n\nUSAGE:\n   {name} [global options] command \
             [command options] [arguments...]\n\nCOMMANDS:\n{commands}\nGLOBAL OPTIONS:\n{}{more}",
            list(GLOBAL)
        );
    };
    let options = if command.flags.is_empty() { String::new() } else { format!("\nOPTIONS:\n{}", list(command.flags)) };
    format!(
        "NAME:\n   {name} {} - {}\n\nUSAGE:\n   {name} {} [command options] {}\n{options}",
        command.name, command.help, command.name, command.usage
    )
}

fn list(flags: &[Flag]) -> String {
    let line = |flag: &Flag| {
        let value = if flag.value { " value" } else { "" };
        let short = flag.short.map(|short| format!(", -{short}{value}")).unwrap_or_default();
        format!("   {:<25} {}\n", format!("--{}{value}{short}", flag.name), flag.help)
    };
    flags.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn flags_end_at_the_first_argument() {
        let text = "--root /r -log=/l exec -t --env A=1 -e B=2 c sh -c -x";
        let Ok(Request::Run { global, command, arguments }) = parse(&words(text)) else { panic!() };
        assert_eq!((global.value("root"), global.value("log"), command.name), (Some("/r"), Some("/l"), "exec"));
        assert!(arguments.is_set("tty"));
        assert_eq!(arguments.values("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
        assert_eq!(arguments.words, ["c", "sh", "-c", "-x"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |text: &str| parse(&words(text)).err().unwrap();
        assert_eq!(error("--foo"), "flag provided but not defined: -foo");
        assert_eq!(error("run"), "\"run\" requires exactly 1 argument(s)");
        assert_eq!(error("frob"), "No help topic for 'frob'");
        assert_eq!(error("run --pid-file"), "flag needs an argument: -pid-file");
    }
}
