//! The flags of the commands about containers.

use super::Kind::*;
use super::catalog::{TABLE_FORMAT, TEMPLATE_FORMAT};
use super::{Flag, flag};
use crate::options::environment;

/// `exec`.
pub(super) const EXEC: &[Flag] = &[
    flag("detach", Bool, "Detached mode: run command in the background").short('d'),
    flag("detach-keys", Str, "Override the key sequence for detaching a container"),
    flag("env", List, "Set environment variables").short('e').check(environment::check_variable),
    flag("env-file", List, "Read in a file of environment variables"),
    flag("interactive", Bool, "Keep STDIN open even if not attached").short('i'),
    flag("privileged", Bool, "Give extended privileges to the command"),
    flag("tty", Bool, "Allocate a pseudo-TTY").short('t'),
    flag("user", Str, "Username or UID (format: \"<name|uid>[:<group|gid>]\")").short('u'),
    flag("workdir", Str, "Working directory inside the container").short('w'),
];

/// `ps`.
pub(super) const PS: &[Flag] = &[
    flag("all", Bool, "Show all containers (default shows just running)").short('a'),
    flag("filter", Filter, "Filter output based on conditions provided").short('f'),
    flag("format", Str, TABLE_FORMAT),
    flag("last", Int, "Show n last created containers (includes all states)").short('n').default("-1"),
    flag("latest", Bool, "Show the latest created container (includes all states)").short('l'),
    flag("no-trunc", Bool, "Don't truncate output"),
    flag("quiet", Bool, "Only display container IDs").short('q'),
    flag("size", Bool, "Display total file sizes").short('s'),
];

/// `attach`.
pub(super) const ATTACH: &[Flag] = &[
    flag("detach-keys", Str, "Override the key sequence for detaching a container"),
    flag("no-stdin", Bool, "Do not attach STDIN"),
    flag("sig-proxy", Bool, "Proxy all received signals to the process").default("true"),
];

/// `cp`.
pub(super) const CP: &[Flag] = &[
    flag("archive", Bool, "Archive mode (copy all uid/gid information)").short('a'),
    flag("follow-link", Bool, "Always follow symbol link in SRC_PATH").short('L'),
    flag(
        "quiet",
        Bool,
        "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached",
    )
    .short('q'),
];

/// `export`.
pub(super) const EXPORT: &[Flag] = &[flag("output", Str, "Write to a file, instead of STDOUT").short('o')];

/// `kill`.
pub(super) const KILL: &[Flag] = &[flag("signal", Str, "Signal to send to the container").short('s')];

/// `logs`.
pub(super) const LOGS: &[Flag] = &[
    flag("details", Bool, "Show extra details provided to logs"),
    flag("follow", Bool, "Follow log output").short('f'),
    flag(
        "since",
        Str,
        "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
    ),
    flag("tail", Str, "Number of lines to show from the end of the logs").short('n').default("\"all\""),
    flag("timestamps", Bool, "Show timestamps").short('t'),
    flag(
        "until",
        Str,
        "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
    ),
];

/// `restart`.
pub(super) const RESTART: &[Flag] = &[
    flag("signal", Str, "Signal to send to the container").short('s'),
    flag("timeout", Int, "Seconds to wait before killing the container").short('t').alias("time"),
];

/// `rm`.
pub(super) const RM: &[Flag] = &[
    flag("force", Bool, "Force the removal of a running container (uses SIGKILL)").short('f'),
    flag("link", Bool, "Remove the specified link").short('l'),
    flag("volumes", Bool, "Remove anonymous volumes associated with the container").short('v'),
];

/// `start`.
pub(super) const START: &[Flag] = &[
    flag("attach", Bool, "Attach STDOUT/STDERR and forward signals").short('a'),
    flag("checkpoint", Str, "Restore from this checkpoint"),
    flag("checkpoint-dir", Str, "Use a custom checkpoint storage directory"),
    flag("detach-keys", Str, "Override the key sequence for detaching a container"),
    flag("interactive", Bool, "Attach container's STDIN").short('i'),
];

/// `stats`.
pub(super) const STATS: &[Flag] = &[
    flag("all", Bool, "Show all containers (default shows just running)").short('a'),
    flag("format", Str, TABLE_FORMAT),
    flag("no-stream", Bool, "Disable streaming stats and only pull the first result"),
    flag("no-trunc", Bool, "Do not truncate output"),
];

/// `stop`.
pub(super) const STOP: &[Flag] = &[
    flag("signal", Str, "Signal to send to the container").short('s'),
    flag("timeout", Int, "Seconds to wait before killing the container").short('t').alias("time"),
];

/// `update`.
pub(super) const UPDATE: &[Flag] = &[
    flag("blkio-weight", Uint16, "Block IO (relative weight), between 10 and 1000, or 0 to disable").default("0"),
    flag("cpu-period", Int, "Limit CPU CFS (Completely Fair Scheduler) period"),
    flag("cpu-quota", Int, "Limit CPU CFS (Completely Fair Scheduler) quota"),
    flag("cpu-rt-period", Int, "Limit the CPU real-time period in microseconds"),
    flag("cpu-rt-runtime", Int, "Limit the CPU real-time runtime in microseconds"),
    flag("cpu-shares", Int, "CPU shares (relative weight)").short('c'),
    flag("cpus", Decimal, "Number of CPUs"),
    flag("cpuset-cpus", Str, "CPUs in which to allow execution (0-3, 0,1)"),
    flag("cpuset-mems", Str, "MEMs in which to allow execution (0-3, 0,1)"),
    flag("memory", Bytes, "Memory limit").short('m'),
    flag("memory-reservation", Bytes, "Memory soft limit"),
    flag("memory-swap", Bytes, "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
    flag("pids-limit", Int, "Tune container pids limit (set -1 for unlimited)"),
    flag("restart", Str, "Restart policy to apply when a container exits"),
];

/// `container inspect`.
pub(super) const CONTAINER_INSPECT: &[Flag] =
    &[flag("format", Str, TEMPLATE_FORMAT).short('f'), flag("size", Bool, "Display total file sizes").short('s')];

/// `container prune`.
pub(super) const CONTAINER_PRUNE: &[Flag] = &[
    flag("filter", Filter, "Provide filter values (e.g. \"until=<timestamp>\")"),
    flag("force", Bool, "Do not prompt for confirmation").short('f'),
];
