//! The daemon's process: sockets, pidfile, signals, systemd, TLS, and what it refuses to start with.

mod support;

use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::{Daemon, failing};

#[test]
fn daemon_process() {
    support::be_the_daemon();
}

#[test]
fn the_socket_is_root_s_alone_and_goes_with_the_daemon() {
    let mut daemon = Daemon::start(&[]);
    let socket = std::fs::metadata(daemon.path("sock")).expect("the socket");
    assert_eq!((socket.permissions().mode() & 0o7777, socket.uid()), (0o660, 0));
    assert_eq!(std::fs::read_to_string(daemon.path("pid")).expect("the pidfile"), daemon.pid().to_string());
    let (status, log) = daemon.stop();
    assert!(status.success(), "{log}");
    assert!(!daemon.path("sock").exists() && !daemon.path("pid").exists());
}

#[test]
fn a_group_may_own_the_socket() {
    let daemon = Daemon::start(&["--group", "12345"]);
    assert_eq!(std::fs::metadata(daemon.path("sock")).expect("the socket").gid(), 12345);
    let folder = tempfile::tempdir().expect("a folder");
    let host = format!("unix://{}/sock", folder.path().display());
    assert_eq!(
        failing(&folder, &["--host", &host, "--group", "nosuch"]),
        "failed to load listeners: group nosuch not found"
    );
}

#[test]
fn a_killed_daemon_s_leftovers_are_replaced() {
    let daemon = Daemon::start(&[]);
    let folder = daemon.kill();
    assert!(folder.path().join("sock").exists());
    let host = format!("unix://{}/sock", folder.path().display());
    let daemon = Daemon::start_in(folder, &["--host".into(), host], |_| {});
    assert!(daemon.ask("GET", "/_ping").ends_with("OK"));
}

#[test]
fn a_living_daemon_is_not_replaced() {
    let daemon = Daemon::start(&[]);
    let other = tempfile::tempdir().expect("a folder");
    let socket = daemon.path("sock").display().to_string();
    assert_eq!(
        failing(&other, &["--host", &format!("unix://{socket}")]),
        format!("failed to load listeners: {socket}: another engine is listening on this socket")
    );
    let pidfile = daemon.path("pid").display().to_string();
    let host = format!("unix://{}/sock", other.path().display());
    let arguments = ["--host", host.as_str(), "--config-file", "/dev/null"];
    let output = support::command(&daemon.folder, &arguments.map(str::to_owned)).output().expect("this program");
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    assert!(text.contains(&pidfile) && text.contains("is still running"), "{text}");
    assert!(daemon.ask("GET", "/_ping").ends_with("OK"));
}

#[test]
fn tcp_without_tls_must_be_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = failing(&folder, &["--host", "tcp://127.0.0.1:0"]);
    assert!(
        text.starts_with("failed to load listeners: tcp://127.0.0.1:0: ") && text.ends_with("--tls=false"),
        "{text}"
    );
    assert!(failing(&folder, &["--host", "tcp://127.0.0.1:0", "--tls"]).contains("TLS needs --tlscert"));
    assert_eq!(failing(&folder, &["--host", "nonsense://x"]), "unable to parse docker host `nonsense://x`");
    let host = format!("unix://{}/sock", folder.path().display());
    let arguments = ["--host", host.as_str(), "--host", "tcp://127.0.0.1:2375", "--tls=false"].map(str::to_owned);
    let daemon = Daemon::start_in(folder, &arguments, |_| {});
    assert!(daemon.ask("GET", "/_ping").ends_with("OK"));
}

#[test]
fn certificates_are_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
    let file = |name: &str| certificates.join(name).display().to_string();
    let arguments = [
        "--host".to_owned(),
        format!("unix://{}/sock", folder.path().display()),
        "--host".into(),
        "tcp://127.0.0.1".into(),
        "--tlsverify".into(),
        format!("--tlscacert={}", file("ca.pem")),
        format!("--tlscert={}", file("server.pem")),
        format!("--tlskey={}", file("server.key")),
    ];
    let daemon = Daemon::start_in(folder, &arguments, |_| {});
    // The daemon has a network namespace of its own; the client joins it.
    let docker = |arguments: &[String]| {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/task/{}/ns/net", daemon.pid(), worker(daemon.pid())));
        command.args(["--", "docker", "--host", "tcp://127.0.0.1:2376"]).args(arguments).args([
            "version",
            "--format",
            "{{.Server.Os}}",
        ]);
        let output = command.output().expect("nsenter and docker");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // Loopback of a new namespace is down.
    let up = Command::new("nsenter")
        .arg(format!("--net=/proc/{}/task/{}/ns/net", daemon.pid(), worker(daemon.pid())))
        .args(["--", "ip", "link", "set", "lo", "up"])
        .status();
    assert!(up.expect("nsenter and ip").success());
    let trusted = [
        "--tlsverify".to_owned(),
        format!("--tlscacert={}", file("ca.pem")),
        format!("--tlscert={}", file("client.pem")),
        format!("--tlskey={}", file("client.key")),
    ];
    assert_eq!(docker(&trusted), (true, "linux".into()));
    assert!(!docker(&trusted[..2]).0, "a client without a certificate was served");
    assert!(!docker(&[]).0, "a client without TLS was served");
}

/// A thread of the daemon's own: the test harness's first thread stayed in the old namespace.
fn worker(pid: u32) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the daemon's threads");
    let mut tasks = tasks.map(|task| task.expect("a thread").file_name().into_string().expect("a number"));
    let named = |task: &String| {
        std::fs::read_to_string(format!("/proc/{pid}/task/{task}/comm")).is_ok_and(|n| n.trim() == "gantry")
    };
    tasks.find(named).expect("a thread of the daemon")
}

#[test]
fn systemd_passes_the_socket_and_hears_when_all_is_ready() {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = UnixListener::bind(folder.path().join("sock")).expect("a socket");
    let told = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
    told.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let notify = folder.path().join("notify");
    // A shell puts the socket where systemd does: at number 3, in the process that becomes the daemon.
    let number = listener.as_raw_fd();
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).expect("an inheritable socket");
    let mut daemon = Daemon::start_in(folder, &["--host".into(), "fd://".into()], |command| {
        let script = format!("exec 3<&{number}; LISTEN_PID=$$ exec \"$0\" \"$@\"");
        let program = command.get_program().to_owned();
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let variables: Vec<_> = command.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).arg(program).args(arguments);
        shell.envs(variables.into_iter().filter_map(|(key, value)| Some((key, value?))));
        shell.env("LISTEN_FDS", "1").env("NOTIFY_SOCKET", &notify).env("GANTRY_READY_FD", "1");
        shell
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        *command = shell;
    });
    drop(listener);
    let heard = || {
        let mut buffer = [0; 256];
        let count = told.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    assert!(heard().starts_with("READY=1\n"));
    assert!(daemon.ask("GET", "/_ping").ends_with("OK"));
    assert!(daemon.stop().0.success());
    assert_eq!(heard(), "STOPPING=1");
    // The socket is systemd's, so its file stays.
    assert!(daemon.path("sock").exists());
}

#[test]
fn without_systemd_there_is_nothing_to_take() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(failing(&folder, &["--host", "fd://"]).contains("no sockets found via socket activation"));
}

#[test]
fn a_request_in_hand_is_finished_before_the_end() {
    let mut daemon = Daemon::start(&[]);
    // Half a request is in hand when the signal comes.
    let mut stream = UnixStream::connect(daemon.path("sock")).expect("the socket");
    let mut events = UnixStream::connect(daemon.path("sock")).expect("the socket");
    events.write_all(b"GET /v1.50/events HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
    let mut head = [0; 15];
    events.read_exact(&mut head).expect("the head comes at once");
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).expect("an answer");
    let (status, log) = daemon.stop();
    assert!(status.success(), "{log}");
    assert!(log.contains("containers go on running"), "{log}");
}

#[test]
fn bad_flags_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(failing(&folder, &["--nonsense"]).starts_with("unknown flag: --nonsense\n"));
    assert!(
        failing(&folder, &["--userns-remap", "default"]).starts_with("--userns-remap \"default\" is not supported: ")
    );
    assert!(
        failing(&folder, &["--config-file", "/nosuch/daemon.json"])
            .contains("unable to configure the daemon with file /nosuch/daemon.json")
    );
}
