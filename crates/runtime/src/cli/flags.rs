//! The table of commands and flags: those of runc 1.1, and what newer ones added. The parser, the help and the checks of
//! values are all read from it ([`grammar`](super::grammar)).

use super::grammar::{Flag, Kind};
use super::{Context, Outcome, commands, events, features, list, process, spec, update};

/// A command.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// Its arguments, as the help shows them.
    pub(super) usage: &'static str,
    /// A paragraph for the help, indented.
    pub(super) description: &'static str,
    /// The fewest and the most arguments.
    arguments: (usize, usize),
    /// Whether flags may come after arguments: not where those are a command line of their own.
    pub(super) flags_anywhere: bool,
    pub(super) flags: &'static [Flag],
    pub(super) run: fn(&Context) -> Outcome,
}

impl Command {
    /// Whether this many arguments are right.
    pub(super) fn count(&self, program: &str, count: usize) -> Result<(), String> {
        let (fewest, most) = self.arguments;
        let wanted = match () {
            () if count >= fewest && count <= most => return Ok(()),
            () if fewest == most => format!("exactly {fewest}"),
            () if count < fewest => format!("a minimum of {fewest}"),
            () => format!("a maximum of {most}"),
        };
        Err(format!("{program}: {:?} requires {wanted} argument(s)", self.name))
    }
}

impl std::fmt::Debug for Flag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const fn flag(kind: Kind, name: &'static str, short: Option<char>, help: &'static str) -> Flag {
    Flag { name, short, kind, default: "", help }
}

const fn switch(name: &'static str, short: Option<char>, help: &'static str) -> Flag {
    flag(Kind::Switch, name, short, help)
}

const fn text(name: &'static str, short: Option<char>, help: &'static str) -> Flag {
    flag(Kind::Text, name, short, help)
}

const fn with_default(flag: Flag, default: &'static str) -> Flag {
    Flag { default, ..flag }
}

pub(super) const GLOBAL: &[Flag] = &[
    switch("debug", None, "also log what is being done"),
    text("log", None, "append messages to this file, not to standard error"),
    with_default(text("log-format", None, "form of the messages: 'text' or 'json'"), "\"text\""),
    with_default(
        text("root", None, "directory of the containers' state, on a tmpfs"),
        "\"/run/gantry-runtime\", for users below $XDG_RUNTIME_DIR",
    ),
    text("criu", None, "path of criu; refused, since checkpoints come with a later version"),
    switch("systemd-cgroup", None, "let systemd make the cgroups; refused, it comes with a later version"),
    with_default(text("rootless", None, "ignore missing rights to cgroups: 'true', 'false' or 'auto'"), "\"auto\""),
    switch("help", Some('h'), "show this help"),
    switch("version", Some('v'), "print the version"),
];

const BUNDLE: Flag = text("bundle", Some('b'), "directory with config.json (default: the current one)");
const CONSOLE_SOCKET: Flag =
    text("console-socket", None, "path of a listening unix socket that is sent the master side of the terminal");
const PIDFD_SOCKET: Flag =
    text("pidfd-socket", None, "path of a listening unix socket that is sent a pidfd of the process");
const PID_FILE: Flag = text("pid-file", None, "write the id of the process to this file");
const NO_PIVOT: Flag =
    switch("no-pivot", None, "enter the root without pivot_root, for a host that runs from a ramdisk");
const NO_KEYRING: Flag = switch("no-new-keyring", None, "leave the container the session keyring of the caller");
const PRESERVE: Flag = with_default(
    flag(Kind::Number, "preserve-fds", None, "give the container N further descriptors, after those of $LISTEN_FDS"),
    "0",
);
const DETACH: Flag = switch("detach", Some('d'), "return once the process runs, without waiting for its end");
const NO_SUBREAPER: Flag = switch("no-subreaper", None, "do not become the parent of orphans of the container");
const FORMAT: Flag = with_default(text("format", Some('f'), "'table' or 'json'"), "\"table\"");

const IMAGE_PATH: Flag = text("image-path", None, "directory of the image");
const WORK_PATH: Flag = text("work-path", None, "directory of working files and logs");
const TCP: Flag = switch("tcp-established", None, "allow open TCP connections");
const EXTERNAL: Flag = switch("ext-unix-sk", None, "allow unix sockets to the outside");
const SHELL_JOB: Flag = switch("shell-job", None, "allow jobs of a shell");
const LAZY: Flag = switch("lazy-pages", None, "bring memory pages when they are touched");
const LOCKS: Flag = switch("file-locks", None, "handle file locks");
const MANAGE_CGROUPS: Flag = text("manage-cgroups-mode", None, "'soft', 'full', 'strict' or 'ignore'");
const EMPTY_NS: Flag = flag(Kind::Texts, "empty-ns", None, "make a namespace without what was in it");
const DEDUP: Flag = switch("auto-dedup", None, "leave out pages that are there twice");

const CHECKPOINT: &[Flag] = &[
    IMAGE_PATH,
    WORK_PATH,
    text("parent-path", None, "directory of the image that this one is based on"),
    switch("leave-running", None, "let the container go on"),
    TCP,
    EXTERNAL,
    SHELL_JOB,
    LAZY,
    with_default(flag(Kind::Number, "status-fd", None, "descriptor that is told when pages can be fetched"), "-1"),
    text("page-server", None, "ADDRESS:PORT of a server of pages"),
    LOCKS,
    switch("pre-dump", None, "write memory alone and let the container go on"),
    MANAGE_CGROUPS,
    EMPTY_NS,
    DEDUP,
    switch("link-remap", None, "handle files that were removed while open"),
];

const RESTORE: &[Flag] = &[
    CONSOLE_SOCKET,
    IMAGE_PATH,
    WORK_PATH,
    TCP,
    EXTERNAL,
    SHELL_JOB,
    LOCKS,
    MANAGE_CGROUPS,
    BUNDLE,
    DETACH,
    PID_FILE,
    NO_SUBREAPER,
    NO_PIVOT,
    EMPTY_NS,
    DEDUP,
    LAZY,
    text("lsm-profile", None, "security profile of the processes, TYPE:NAME"),
    text("lsm-mount-context", None, "security context of the mounts"),
    switch("link-remap", None, "handle files that were removed while open"),
];

const EXEC: &[Flag] = &[
    CONSOLE_SOCKET,
    PIDFD_SOCKET,
    text("cwd", None, "working directory inside the container"),
    flag(Kind::Texts, "env", Some('e'), "set a variable of the environment, NAME=VALUE"),
    switch("tty", Some('t'), "give the process a terminal"),
    text("user", Some('u'), "run as UID[:GID], in numbers"),
    flag(Kind::Numbers, "additional-gids", Some('g'), "a further group, in numbers"),
    text("process", Some('p'), "file with the whole process as config.json has it"),
    DETACH,
    PID_FILE,
    text("process-label", None, "SELinux label of the process"),
    text("apparmor", None, "AppArmor profile of the process"),
    switch("no-new-privs", None, "let the process gain no privileges"),
    flag(Kind::Texts, "cap", Some('c'), "give the process a further capability"),
    PRESERVE,
    flag(
        Kind::Texts,
        "cgroup",
        None,
        "run in this cgroup below the container's, [CONTROLLER[,CONTROLLER…]:]PATH; it must exist",
    ),
    switch("ignore-paused", None, "go on although the container is paused"),
];

const UPDATE: &[Flag] = &[
    text(
        "resources",
        Some('r'),
        "file with linux.resources as config.json has it, '-' is standard input; other flags do not count then",
    ),
    with_default(flag(Kind::Number, "blkio-weight", None, "share of block devices, 10 to 1000"), "0"),
    text("cpu-period", None, "length of a period of --cpu-quota, in microseconds"),
    text("cpu-quota", None, "processor time in each period, in microseconds; -1 is no limit"),
    text("cpu-burst", None, "processor time that may be saved up for later, in microseconds"),
    text("cpu-share", None, "share of processor time beside other containers, 2 to 262144"),
    text("cpu-rt-period", None, "length of a period of --cpu-rt-runtime, in microseconds (cgroup v1)"),
    text("cpu-rt-runtime", None, "time of real-time tasks in each period, in microseconds (cgroup v1)"),
    text("cpuset-cpus", None, "processors to run on: 0-2,7"),
    text("cpuset-mems", None, "memory nodes to use"),
    text("cpu-idle", None, "1: run only when nothing else does; 0: as usual"),
    text("kernel-memory", None, "refused: the kernel has no such limit any more"),
    text("kernel-memory-tcp", None, "limit of TCP buffers (cgroup v1)"),
    text("memory", None, "limit of memory: bytes, or with a unit 64m; -1 is no limit"),
    text("memory-reservation", None, "memory that is left to the container when memory is short"),
    text("memory-swap", None, "limit of memory and swap together; -1 is no limit of swap"),
    with_default(flag(Kind::Number, "pids-limit", None, "most processes; -1 is no limit"), "0"),
    text("l3-cache-schema", None, "Intel RDT: share of the level 3 cache"),
    text("mem-bw-schema", None, "Intel RDT: share of the memory bandwidth"),
];

const ID: &str = "<container-id>";
const ONE: (usize, usize) = (1, 1);

/// A command with one argument, the container, and flags before and after it.
const fn command(
    name: &'static str,
    help: &'static str,
    description: &'static str,
    flags: &'static [Flag],
    run: fn(&Context) -> Outcome,
) -> Command {
    Command { name, help, usage: ID, description, arguments: ONE, flags_anywhere: true, flags, run }
}

/// All commands.
pub(super) const COMMANDS: &[Command] = &[
    command(
        "checkpoint",
        "checkpoint a running container (comes with a later version)",
        "   Refused: this version writes no checkpoints. The flags are those of runc.",
        CHECKPOINT,
        commands::unsupported_checkpoint,
    ),
    command(
        "create",
        "create a container",
        "   Makes the container of a bundle: its first process has everything but its program, which `start` runs.\n   \
         The id is letters, digits and _ + - . and must be new below --root.",
        &[BUNDLE, CONSOLE_SOCKET, PIDFD_SOCKET, PID_FILE, NO_PIVOT, NO_KEYRING, PRESERVE],
        process::create,
    ),
    command(
        "delete",
        "delete any resources held by the container",
        "   Removes cgroup and state of a container that is stopped, or was never started. With --force one that\n   runs \
         is killed first, and one that does not exist is no error.",
        &[switch("force", Some('f'), "kill the container if it runs (SIGKILL)")],
        commands::delete,
    ),
    command(
        "events",
        "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
        "   Prints one JSON object on each line: figures at an interval, and a notice whenever memory runs out, until\n   \
         the container ends.",
        &[
            with_default(flag(Kind::Duration, "interval", None, "time between two lines with figures"), "5s"),
            switch("stats", None, "print the figures once"),
        ],
        events::events,
    ),
    Command {
        usage: "<container-id> <command> [arguments...], or --process FILE <container-id>",
        arguments: (1, usize::MAX),
        flags_anywhere: false,
        ..command(
            "exec",
            "execute new process inside the container",
            "   Runs a program in a container that runs, and ends with its exit code. Without --process it has the user,\n   \
             rights and environment of the bundle's config.json, changed by the flags. Code 255: it could not be run.",
            EXEC,
            process::exec,
        )
    },
    Command {
        usage: "<container-id> [signal]",
        arguments: (1, 2),
        ..command(
            "kill",
            "kill sends the specified signal (default: SIGTERM) to the container's init process",
            "   The signal is a name, with or without SIG, or a number; real-time signals are RTMIN+1 or 35.",
            &[switch("all", Some('a'), "send it to all processes of the container")],
            commands::kill,
        )
    },
    Command {
        usage: "",
        arguments: (0, 0),
        ..command(
            "list",
            "lists containers with the given root",
            "   Lists the containers below --root.",
            &[FORMAT, switch("quiet", Some('q'), "print ids alone")],
            list::list,
        )
    },
    command(
        "pause",
        "pause suspends all processes inside the container",
        "   Stops all processes of the container where they are, until `resume`.",
        &[],
        commands::pause,
    ),
    Command {
        usage: "<container-id> [ps options]",
        arguments: (1, usize::MAX),
        flags_anywhere: false,
        ..command(
            "ps",
            "ps displays the processes running inside a container",
            "   Shows the processes in the columns of ps, without running it: -e, -A, -f, -l, -F, -j, -w, ax, u, j and their\n   \
             like, -o with columns by name. Other options are refused.",
            &[FORMAT],
            list::ps,
        )
    },
    command(
        "restore",
        "restore a container from a checkpoint (comes with a later version)",
        "   Refused: this version reads no checkpoints. The flags are those of runc.",
        RESTORE,
        commands::unsupported_restore,
    ),
    command(
        "resume",
        "resumes all processes that have been previously paused",
        "   Lets a paused container go on.",
        &[],
        commands::resume,
    ),
    command(
        "run",
        "create and run a container",
        "   Makes and starts the container of a bundle, passes signals and the terminal on to it, removes it when it ends,\n   \
         and ends with its exit code.",
        &[
            BUNDLE,
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            DETACH,
            switch("keep", None, "leave the container there when it has ended"),
            PID_FILE,
            NO_SUBREAPER,
            NO_PIVOT,
            NO_KEYRING,
            PRESERVE,
        ],
        process::run,
    ),
    Command {
        usage: "",
        arguments: (0, 0),
        ..command(
            "spec",
            "create a new specification file",
            "   Writes a config.json to begin with: a shell with few rights. It is meant to be edited.",
            &[
                text("bundle", Some('b'), "directory to write it to (default: the current one)"),
                switch("rootless", None, "for a container of an ordinary user"),
            ],
            spec::spec,
        )
    },
    command(
        "start",
        "executes the user defined process in a created container",
        "   Lets a container that was made with `create` run its program.",
        &[],
        commands::start,
    ),
    command(
        "state",
        "output the state of a container",
        "   Prints the state as the runtime specification defines it, in JSON.",
        &[],
        commands::state,
    ),
    command(
        "stats",
        "display the container's statistics once",
        "   Prints what the container uses, as `events --stats` does.",
        &[],
        events::stats,
    ),
    command(
        "update",
        "update container resource constraints",
        "   Changes limits of a container; those that are not named, and those that are 0, stay as they are.",
        UPDATE,
        update::update,
    ),
    Command {
        usage: "",
        arguments: (0, 0),
        ..command(
            "features",
            "show the enabled features",
            "   Prints what this runtime can do, as the runtime specification's features.md defines it, in JSON.",
            &[],
            features::features,
        )
    },
];
