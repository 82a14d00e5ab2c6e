//! Descriptors that are passed on (socket activation, `--preserve-fds`), and the notice of being ready.

use crate::support::{Bundle, eventually, is_reference};
use serde_json::json;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The runtime, started by a shell with files on descriptors from 3 on, and with what the shell exports.
fn with_files(bundle: &Bundle, exports: &str, arguments: &[&str]) -> std::process::Output {
    for (index, text) in ["first", "second"].iter().enumerate() {
        fs::write(bundle.directory.join(format!("file{index}")), format!("{text}\n")).unwrap();
    }
    let runtime = bundle.runtime();
    let mut shell = Command::new("sh");
    // The runtime has the shell's number, as a service manager gives it.
    shell.args(["-c", &format!("{exports}; exec 3<file0 4<file1; exec \"$@\""), "sh"]);
    shell.arg(runtime.get_program()).args(runtime.get_args()).args(arguments).current_dir(&bundle.directory);
    shell.stdin(Stdio::null()).output().unwrap()
}

fn text(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn activated_by_a_socket() {
    let mut bundle = Bundle::new("activated");
    bundle.script("echo $LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES; cat <&3; cat <&4; ls /proc/self/fd | wc -l");
    bundle.write();
    let id = bundle.id.clone();
    let exports = "export LISTEN_FDS=1 LISTEN_PID=$$";
    let output = with_files(&bundle, exports, &["run", "--preserve-fds", "1", &id]);
    // Standard streams, the directory, and the two.
    assert_eq!(text(&output), "1 1\nfirst\nsecond\n6\n");
    if !is_reference() {
        // Names are a newer part of the protocol, which runc does not pass on.
        let exports = "export LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=web:admin";
        let output = with_files(&bundle, exports, &["run", &id]);
        assert_eq!(text(&output), "2 1 web:admin\nfirst\nsecond\n6\n");
    }
    // They are for another process.
    bundle.script("echo none $LISTEN_FDS; ls /proc/self/fd | wc -l").write();
    let output = with_files(&bundle, "export LISTEN_FDS=2 LISTEN_PID=1", &["run", &id]);
    assert_eq!(text(&output), "none\n4\n");
}

#[test]
fn descriptors_of_an_added_process() {
    let mut bundle = Bundle::new("execfds");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    bundle.start();
    let arguments = ["exec", "--preserve-fds", "2", &bundle.id, "/bin/sh", "-c", "cat <&4; cat <&3"];
    assert_eq!(text(&with_files(&bundle, "true", &arguments)), "second\nfirst\n");
    let output = bundle.call(&["exec", "--preserve-fds", "7", &bundle.id, "/bin/true"]);
    assert_eq!(output.code, 255);
    assert!(output.stderr.contains("preserve"), "{output:?}");
}

/// Somebody who waits for a container to be ready.
struct Manager {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Manager {
    fn new(bundle: &Bundle) -> Self {
        let path = bundle.directory.join("manager");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { path, socket }
    }

    fn spawn(&self, bundle: &Bundle, arguments: &[&str]) -> Child {
        let mut command = bundle.runtime();
        command.args(arguments).env("NOTIFY_SOCKET", &self.path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn receive(&self) -> String {
        let mut buffer = [0; 512];
        let length = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }
}

/// The socket as the container sees it, once it is there.
fn inside(bundle: &Bundle) -> PathBuf {
    let path = || format!("/proc/{}/root/run/notify/notify.sock", bundle.pid());
    eventually("the container has a socket", || {
        bundle.call(&["state", &bundle.id]).code == 0 && fs::exists(path()).unwrap_or(false)
    });
    path().into()
}

fn say_ready(bundle: &Bundle) {
    let client = UnixDatagram::unbound().unwrap();
    let path = inside(bundle);
    // What is not about being ready is not passed on, and least of all who the main process is.
    client.send_to(b"STATUS=beginning\nMAINPID=1", &path).unwrap();
    client.send_to(b"READY=1\nSTATUS=up", &path).unwrap();
}

fn waiting(name: &str) -> Bundle {
    let mut bundle = Bundle::new(name);
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    bundle.script("echo $NOTIFY_SOCKET; test -S $NOTIFY_SOCKET && echo it is there; exec sleep 1000");
    bundle.write();
    bundle
}

#[test]
fn ready_when_detached() {
    let bundle = waiting("ready");
    let manager = Manager::new(&bundle);
    let mut run = manager.spawn(&bundle, &["run", "--detach", &bundle.id]);
    inside(&bundle);
    assert!(run.try_wait().unwrap().is_none(), "the command waits");
    say_ready(&bundle);
    assert_eq!(manager.receive(), "READY=1\n");
    assert_eq!(manager.receive(), format!("MAINPID={}\n", bundle.pid()));
    drop(manager);
    assert!(run.wait().unwrap().success());
    assert_eq!(bundle.status(), "running");
}

#[test]
fn ready_when_started() {
    let bundle = waiting("readystart");
    let manager = Manager::new(&bundle);
    let log = bundle.directory.join("output");
    let mut command = bundle.runtime();
    command.args(["create", &bundle.id]).env("NOTIFY_SOCKET", &manager.path).stdin(Stdio::null());
    command.stdout(fs::File::create(log).unwrap()).stderr(Stdio::null());
    assert!(command.status().unwrap().success());
    let mut start = manager.spawn(&bundle, &["start", &bundle.id]);
    eventually("the program has a socket to write to", || bundle.output() == "/run/notify/notify.sock\nit is there\n");
    say_ready(&bundle);
    assert_eq!(manager.receive(), "READY=1\n");
    assert_eq!(manager.receive(), format!("MAINPID={}\n", bundle.pid()));
    drop(manager);
    assert!(start.wait().unwrap().success());
    assert_eq!(bundle.call(&["delete", "--force", &bundle.id]).code, 0);
    assert!(!bundle.has_state());
}

#[test]
fn ready_in_the_foreground() {
    let bundle = waiting("readyfore");
    let manager = Manager::new(&bundle);
    let mut run = manager.spawn(&bundle, &["run", &bundle.id]);
    say_ready(&bundle);
    assert_eq!(manager.receive(), "READY=1\n");
    assert_eq!(manager.receive(), format!("MAINPID={}\n", run.id()), "it ends with the container, and its code");
    drop(manager);
    assert_eq!(bundle.call(&["kill", &bundle.id, "KILL"]).code, 0);
    assert_eq!(run.wait().unwrap().code(), Some(137));
    assert!(!bundle.has_state());
}

#[test]
fn a_container_that_ends_without_being_ready() {
    // runc waits for ever: it looks for the process, which stays as a zombie of its own.
    if is_reference() {
        return;
    }
    let mut bundle = waiting("notready");
    bundle.args(&["/bin/true"]).write();
    let manager = Manager::new(&bundle);
    let mut run = manager.spawn(&bundle, &["run", "--detach", &bundle.id]);
    assert!(run.wait().unwrap().success(), "it does not wait for ever");
    let exec = || bundle.exec(&["/bin/true"]).code;
    assert_eq!(exec(), 255);
}
