//! One table of options: it makes the parser, the help and the reading of daemon.json.
//!
//! Names are dockerd's. A line says under which key daemon.json has the option, which flag sets it, and what kind of value it
//! takes. What this engine does not offer stands here too, with the sentence that refuses it: nothing is read and ignored.

/// What an option's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `--flag`, `--flag=false`.
    Switch,
    /// A text.
    Text,
    /// A whole number.
    Number,
    /// A size in bytes with an optional unit (`64m`).
    Size,
    /// A list; the flag is repeated.
    List,
    /// `name=value`; the flag is repeated.
    Pairs,
}

/// One option.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its key in daemon.json.
    pub(crate) key: &'static str,
    /// Its flag, without dashes.
    pub(crate) flag: &'static str,
    /// A one-letter flag.
    pub(crate) short: Option<char>,
    pub(crate) kind: Kind,
    /// One line of help.
    pub(crate) help: &'static str,
    /// What other values than the default are refused with; `None` for options that work.
    pub(crate) refused: Option<Refusal>,
}

/// An option that has one value only here.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The value that is fine, as text: saying what is the case anyway is no error.
    pub(crate) only: &'static str,
    /// Why there is no other.
    pub(crate) reason: &'static str,
}

const fn entry(key: &'static str, flag: &'static str, kind: Kind, help: &'static str) -> Entry {
    Entry { key, flag, short: None, kind, help, refused: None }
}

const fn short(letter: char, mut entry: Entry) -> Entry {
    entry.short = Some(letter);
    entry
}

const fn only(only: &'static str, reason: &'static str, mut entry: Entry) -> Entry {
    entry.refused = Some(Refusal { only, reason });
    entry
}

use Kind::{List, Number, Pairs, Size, Switch, Text};

/// All options, by the name of their flag.
pub(crate) const TABLE: &[Entry] = &[
    only(
        "",
        "one runtime is built in",
        entry("runtimes", "add-runtime", Pairs, "Register an additional OCI compatible runtime"),
    ),
    entry("bip", "bip", Text, "IPv4 address of the default bridge, with its prefix (172.30.0.1/16)"),
    only(
        "",
        "containers join the engine's own bridge; name that one with --bridge-name",
        short('b', entry("bridge", "bridge", Text, "Attach containers to a network bridge that exists already")),
    ),
    entry("bridge-name", "bridge-name", Text, "Name of the engine's own bridge"),
    entry("cgroup-parent", "cgroup-parent", Text, "Parent control group of all containers"),
    short('D', entry("debug", "debug", Switch, "Enable debug mode")),
    entry(
        "default-cgroupns-mode",
        "default-cgroupns-mode",
        Text,
        "Default mode for containers' cgroup namespace (\"host\", \"private\")",
    ),
    entry("default-gateway", "default-gateway", Text, "Default gateway IPv4 address of containers"),
    only(
        "gantry",
        "one runtime is built in",
        entry("default-runtime", "default-runtime", Text, "Default OCI runtime for containers"),
    ),
    entry("default-shm-size", "default-shm-size", Size, "Default size of /dev/shm for containers"),
    entry("default-ulimits", "default-ulimit", Pairs, "Default ulimits for containers (name=soft[:hard])"),
    entry(
        "disk-budget",
        "disk-budget",
        Size,
        "What images, containers and volumes may take on the disk before room is made",
    ),
    entry("disk-budget-high", "disk-budget-high", Number, "Percentage of the disk budget above which room is made"),
    entry("disk-budget-low", "disk-budget-low", Number, "Percentage of the disk budget below which that ends"),
    entry("dns", "dns", List, "DNS server to use"),
    entry("dns-opts", "dns-opt", List, "DNS options to use"),
    entry("dns-search", "dns-search", List, "DNS search domains to use"),
    entry("exec-root", "exec-root", Text, "Root directory for execution state files"),
    entry("data-root", "data-root", Text, "Root directory of persistent state"),
    only(
        "false",
        "there are no experimental features",
        entry("experimental", "experimental", Switch, "Enable experimental features"),
    ),
    entry("fixed-cidr", "fixed-cidr", Text, "IPv4 subnet for the addresses of containers, a part of the bridge's"),
    short('G', entry("group", "group", Text, "Group for the unix socket")),
    short('H', entry("hosts", "host", List, "Daemon socket(s) to connect to")),
    entry("icc", "icc", Switch, "Enable communication between containers"),
    entry("init", "init", Switch, "Run an init in the container to forward signals and reap processes"),
    entry("insecure-registries", "insecure-registry", List, "Enable insecure registry communication"),
    entry("ip", "ip", Text, "Host IP for port publishing from the default bridge network"),
    entry("ip-forward", "ip-forward", Switch, "Enable IP forwarding in system configuration"),
    entry("ip-masq", "ip-masq", Switch, "Enable IP masquerading for the default bridge network"),
    only(
        "true",
        "published ports and address translation are rules of the firewall",
        entry("iptables", "iptables", Switch, "Enable addition of firewall rules"),
    ),
    only(
        "false",
        "the default bridge is IPv4 only",
        entry("ipv6", "ipv6", Switch, "Enable IPv6 networking for the default bridge network"),
    ),
    entry("labels", "label", List, "Set key=value labels to the daemon"),
    only(
        "true",
        "containers always outlive the engine",
        entry("live-restore", "live-restore", Switch, "Keep containers running while the daemon is down (always on)"),
    ),
    entry("log-driver", "log-driver", Text, "Default driver for container logs (\"json-file\", \"local\", \"none\")"),
    short(
        'l',
        entry(
            "log-level",
            "log-level",
            Text,
            "Set the logging level (\"debug\", \"info\", \"warn\", \"error\", \"fatal\")",
        ),
    ),
    entry("log-opts", "log-opt", Pairs, "Default log driver options for containers"),
    entry("max-concurrent-downloads", "max-concurrent-downloads", Number, "Set the max concurrent downloads"),
    entry("max-concurrent-uploads", "max-concurrent-uploads", Number, "Set the max concurrent uploads"),
    entry(
        "max-connections-per-host",
        "max-connections-per-host",
        Number,
        "Set the max concurrent requests to one registry's host, over all pulls and pushes",
    ),
    entry("mtu", "mtu", Number, "Set the MTU of the default bridge network"),
    entry("no-new-privileges", "no-new-privileges", Switch, "Set no-new-privileges by default for new containers"),
    short('p', entry("pidfile", "pidfile", Text, "Path to use for daemon PID file")),
    entry("policy-file", "policy-file", Text, "File with rules that allow or block registries and repositories"),
    entry("registry-mirrors", "registry-mirror", List, "Preferred registry mirror"),
    entry("seccomp-profile", "seccomp-profile", Text, "Path to seccomp profile; \"builtin\" or \"unconfined\""),
    only(
        "false",
        "there is no SELinux support",
        entry("selinux-enabled", "selinux-enabled", Switch, "Enable selinux support"),
    ),
    entry(
        "shutdown-timeout",
        "shutdown-timeout",
        Number,
        "Seconds that the engine gives requests in hand before it stops",
    ),
    entry(
        "storage-driver",
        "storage-driver",
        Text,
        "Storage driver to use (\"overlay2\", \"vfs\"); overlay2 where it works",
    ),
    only("", "the storage driver has no options", entry("storage-opts", "storage-opt", List, "Storage driver options")),
    entry("tls", "tls", Switch, "Use TLS; --tls=false allows tcp without it"),
    entry("tlscacert", "tlscacert", Text, "Trust certs signed only by this CA"),
    entry("tlscert", "tlscert", Text, "Path to TLS certificate file"),
    entry("tlskey", "tlskey", Text, "Path to TLS key file"),
    entry("tlsverify", "tlsverify", Switch, "Use TLS and verify the remote"),
    only(
        "true",
        "published ports are served on loopback and to containers as well",
        entry("userland-proxy", "userland-proxy", Switch, "Use a proxy for loopback traffic"),
    ),
    only(
        "",
        "all containers share the engine's user namespace",
        entry("userns-remap", "userns-remap", Text, "User/Group setting for user namespaces"),
    ),
];

/// The options that are flags only.
pub(crate) const CONFIG_FILE: &str = "config-file";
/// See [`CONFIG_FILE`].
pub(crate) const VALIDATE: &str = "validate";

/// The parser that the table makes.
pub(crate) fn command() -> clap::Command {
    use clap::{Arg, ArgAction, Command};
    let mut command = Command::new("gantry daemon")
        .about("The engine: serves the Engine API and runs containers")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .arg(
            Arg::new("version")
                .long("version")
                .short('v')
                .action(ArgAction::Version)
                .help("Print version information and quit"),
        )
        .arg(Arg::new(CONFIG_FILE).long(CONFIG_FILE).value_name("file").help("Daemon configuration file"))
        .arg(
            Arg::new(VALIDATE).long(VALIDATE).action(ArgAction::SetTrue).help("Validate daemon configuration and exit"),
        );
    for entry in TABLE {
        let mut arg = Arg::new(entry.key).long(entry.flag).help(help(entry));
        if let Some(letter) = entry.short {
            arg = arg.short(letter);
        }
        arg = match entry.kind {
            // Go's flags: `--debug`, `--debug=false`, but never `--debug false`.
            Kind::Switch => arg
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_name("bool")
                .hide_possible_values(true),
            Kind::Text => arg.value_name("string"),
            Kind::Number => arg.value_name("int"),
            Kind::Size => arg.value_name("bytes"),
            Kind::List => arg.action(ArgAction::Append).value_name("list"),
            Kind::Pairs => arg.action(ArgAction::Append).value_name("name=value"),
        };
        command = command.arg(arg);
    }
    command
}

fn help(entry: &Entry) -> String {
    match &entry.refused {
        Some(refusal) if refusal.only.is_empty() => format!("{} (refused: {})", entry.help, refusal.reason),
        Some(refusal) => format!("{} (only \"{}\": {})", entry.help, refusal.only, refusal.reason),
        None => entry.help.to_owned(),
    }
}
