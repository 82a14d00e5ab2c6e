//! The flags of `run` and `create`.

use super::Kind::*;
use super::{Flag, flag};
use crate::options::{device, environment, host, mount, network, ulimit};

/// What `run` and `create` share.
pub(super) const CONTAINER: &[Flag] = &[
    flag("add-host", List, "Add a custom host-to-IP mapping (host:ip)").check(host::check_extra_host),
    flag("annotation", Map, "Add an annotation to the container (passed through to the OCI runtime)").default("map[]"),
    flag("attach", List, "Attach to STDIN, STDOUT or STDERR").short('a').check(host::check_stream),
    flag("blkio-weight", Uint16, "Block IO (relative weight), between 10 and 1000, or 0 to disable").default("0"),
    flag("blkio-weight-device", List, "Block IO weight (relative device weight)")
        .default("[]")
        .check(device::check_weight),
    flag("cap-add", List, "Add Linux capabilities"),
    flag("cap-drop", List, "Drop Linux capabilities"),
    flag("cgroup-parent", Str, "Optional parent cgroup for the container"),
    flag(
        "cgroupns",
        Str,
        "Cgroup namespace to use (host|private)\n'host':    Run the container in the Docker host's cgroup namespace\n'private': Run the container in its own private cgroup namespace\n'':        Use the cgroup namespace as configured by the\n           default-cgroupns-mode option on the daemon (default)",
    ),
    flag("cidfile", Str, "Write the container ID to the file"),
    flag("cpu-count", Int, "CPU count (Windows only)"),
    flag("cpu-percent", Int, "CPU percent (Windows only)"),
    flag("cpu-period", Int, "Limit CPU CFS (Completely Fair Scheduler) period"),
    flag("cpu-quota", Int, "Limit CPU CFS (Completely Fair Scheduler) quota"),
    flag("cpu-rt-period", Int, "Limit CPU real-time period in microseconds"),
    flag("cpu-rt-runtime", Int, "Limit CPU real-time runtime in microseconds"),
    flag("cpu-shares", Int, "CPU shares (relative weight)").short('c'),
    flag("cpus", Decimal, "Number of CPUs"),
    flag("cpuset-cpus", Str, "CPUs in which to allow execution (0-3, 0,1)"),
    flag("cpuset-mems", Str, "MEMs in which to allow execution (0-3, 0,1)"),
    flag("device", List, "Add a host device to the container"),
    flag("device-cgroup-rule", List, "Add a rule to the cgroup allowed devices list").check(device::check_cgroup_rule),
    flag("device-read-bps", List, "Limit read rate (bytes per second) from a device")
        .default("[]")
        .check(device::check_rate_bytes),
    flag("device-read-iops", List, "Limit read rate (IO per second) from a device")
        .default("[]")
        .check(device::check_rate_count),
    flag("device-write-bps", List, "Limit write rate (bytes per second) to a device")
        .default("[]")
        .check(device::check_rate_bytes),
    flag("device-write-iops", List, "Limit write rate (IO per second) to a device")
        .default("[]")
        .check(device::check_rate_count),
    flag("disable-content-trust", Bool, "Skip image verification").default("true"),
    flag("dns", List, "Set custom DNS servers").check(host::check_address),
    flag("dns-option", List, "Set DNS options").alias("dns-opt"),
    flag("dns-search", List, "Set custom DNS search domains").check(host::check_domain),
    flag("domainname", Str, "Container NIS domain name"),
    flag("entrypoint", Str, "Overwrite the default ENTRYPOINT of the image"),
    flag("env", List, "Set environment variables").short('e').check(environment::check_variable),
    flag("env-file", List, "Read in a file of environment variables"),
    flag("expose", List, "Expose a port or a range of ports"),
    flag("gpus", Gpus, "GPU devices to add to the container ('all' to pass all GPUs)").check(device::refuse_gpus),
    flag("group-add", List, "Add additional groups to join"),
    flag("health-cmd", Str, "Command to run to check health"),
    flag("health-interval", Duration, "Time between running the check (ms|s|m|h)").default("0s"),
    flag("health-retries", Int, "Consecutive failures needed to report unhealthy"),
    flag("health-start-interval", Duration, "Time between running the check during the start period (ms|s|m|h)")
        .default("0s"),
    flag(
        "health-start-period",
        Duration,
        "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h)",
    )
    .default("0s"),
    flag("health-timeout", Duration, "Maximum time to allow one check to run (ms|s|m|h)").default("0s"),
    flag("help", Bool, "Print usage"),
    flag("hostname", Str, "Container host name").short('h'),
    flag("init", Bool, "Run an init inside the container that forwards signals and reaps processes"),
    flag("interactive", Bool, "Keep STDIN open even if not attached").short('i'),
    flag("io-maxbandwidth", Bytes, "Maximum IO bandwidth limit for the system drive (Windows only)"),
    flag("io-maxiops", Uint, "Maximum IOps limit for the system drive (Windows only)"),
    flag("ip", Str, "IPv4 address (e.g., 172.30.100.104)"),
    flag("ip6", Str, "IPv6 address (e.g., 2001:db8::33)"),
    flag("ipc", Str, "IPC mode to use"),
    flag("isolation", Str, "Container isolation technology"),
    flag("kernel-memory", Bytes, "Kernel memory limit"),
    flag("label", List, "Set meta data on a container").short('l').check(environment::check_label),
    flag("label-file", List, "Read in a line delimited file of labels"),
    flag("link", List, "Add link to another container").check(host::check_link),
    flag("link-local-ip", List, "Container IPv4/IPv6 link-local addresses"),
    flag("log-driver", Str, "Logging driver for the container"),
    flag("log-opt", List, "Log driver options"),
    flag("mac-address", Str, "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    flag("memory", Bytes, "Memory limit").short('m'),
    flag("memory-reservation", Bytes, "Memory soft limit"),
    flag("memory-swap", Bytes, "Swap limit equal to memory plus swap: '-1' to enable unlimited swap"),
    flag("memory-swappiness", Int, "Tune container memory swappiness (0 to 100)").default("-1"),
    flag("mount", Mount, "Attach a filesystem mount to the container").check(mount::check),
    flag("name", Str, "Assign a name to the container"),
    flag("network", Network, "Connect a container to a network").check(network::check).alias("net"),
    flag("network-alias", List, "Add network-scoped alias for the container").alias("net-alias"),
    flag("no-healthcheck", Bool, "Disable any container-specified HEALTHCHECK"),
    flag("oom-kill-disable", Bool, "Disable OOM Killer"),
    flag("oom-score-adj", Int, "Tune host's OOM preferences (-1000 to 1000)"),
    flag("pid", Str, "PID namespace to use"),
    flag("pids-limit", Int, "Tune container pids limit (set -1 for unlimited)"),
    flag("platform", Str, "Set platform if server is multi-platform capable"),
    flag("privileged", Bool, "Give extended privileges to this container"),
    flag("publish", List, "Publish a container's port(s) to the host").short('p'),
    flag("publish-all", Bool, "Publish all exposed ports to random ports").short('P'),
    flag("quiet", Bool, "Suppress the pull output").short('q'),
    flag("read-only", Bool, "Mount the container's root filesystem as read only"),
    flag("restart", Str, "Restart policy to apply when a container exits").default("\"no\""),
    flag("rm", Bool, "Automatically remove the container and its associated anonymous volumes when it exits"),
    flag("runtime", Str, "Runtime to use for this container"),
    flag("security-opt", List, "Security Options"),
    flag("shm-size", Bytes, "Size of /dev/shm"),
    flag("stop-signal", Str, "Signal to stop the container"),
    flag("stop-timeout", Int, "Timeout (in seconds) to stop a container"),
    flag("storage-opt", List, "Storage driver options for the container"),
    flag("sysctl", Map, "Sysctl options").default("map[]").check(host::check_sysctl),
    flag("tmpfs", List, "Mount a tmpfs directory"),
    flag("tty", Bool, "Allocate a pseudo-TTY").short('t'),
    flag("ulimit", Ulimit, "Ulimit options").default("[]").check(ulimit::check),
    flag("use-api-socket", Bool, "Bind mount Docker API socket and required auth"),
    flag("user", Str, "Username or UID (format: <name|uid>[:<group|gid>])").short('u'),
    flag("userns", Str, "User namespace to use"),
    flag("uts", Str, "UTS namespace to use"),
    flag("volume", List, "Bind mount a volume").short('v'),
    flag("volume-driver", Str, "Optional volume driver for the container"),
    flag("volumes-from", List, "Mount volumes from the specified container(s)"),
    flag("workdir", Str, "Working directory inside the container").short('w'),
];

/// What only `create` has (the text differs from that of `run`).
pub(super) const CREATE: &[Flag] =
    &[flag("pull", Str, "Pull image before creating (\"always\", \"|missing\", \"never\")").default("\"missing\"")];

/// What only `run` has.
pub(super) const RUN: &[Flag] = &[
    flag("detach", Bool, "Run container in background and print container ID").short('d'),
    flag("detach-keys", Str, "Override the key sequence for detaching a container"),
    flag("sig-proxy", Bool, "Proxy received signals to the process").default("true"),
    flag("pull", Str, "Pull image before running (\"always\", \"missing\", \"never\")").default("\"missing\""),
];
