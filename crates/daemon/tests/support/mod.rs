//! A real daemon for one test: this test program executed once more, with folders and a network namespace of its own.
//!
//! The tests here are about HTTP, sockets and settings. They start no container, so the program need not be the whole binary;
//! those that do are in crate `gantry`.

#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part")]

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

/// Set for the copy of this program that is to be the daemon; its arguments, one a line.
const ARGUMENTS: &str = "GANTRY_TEST_DAEMON";

/// The body of the test `daemon_process`, which is the daemon when it was started as one and nothing otherwise.
pub fn be_the_daemon() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    // The namespace belongs to this thread and those it makes: all of the daemon's.
    sys::namespace::unshare(sys::namespace::Kinds::NETWORK).expect("a network namespace; the tests need root");
    if let Ok(number) = std::env::var("LISTEN_FDS") {
        // systemd names the process that it passes sockets to; this one is known only now.
        assert_eq!(number, "1");
    }
    let arguments = std::iter::once("daemon").chain(arguments.lines()).map(OsString::from).collect();
    let code = daemon::main(arguments);
    std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
}

/// A running daemon.
pub struct Daemon {
    pub folder: tempfile::TempDir,
    process: Child,
    stderr: BufReader<ChildStderr>,
    /// Kept open: the test harness around the daemon writes to it.
    stdout: BufReader<ChildStdout>,
}

impl Daemon {
    /// Starts a daemon on a unix socket of its own and waits until it serves.
    pub fn start(extra: &[&str]) -> Daemon {
        let folder = tempfile::Builder::new().prefix("gantry-daemon-").tempdir().expect("a folder");
        let host = format!("unix://{}/sock", folder.path().display());
        let mut arguments = vec!["--host".to_owned(), host];
        arguments.extend(extra.iter().map(|text| (*text).to_owned()));
        Daemon::start_in(folder, &arguments, |_| {})
    }

    /// The same in a folder, with these arguments, after a last change to the command.
    pub fn start_in(folder: tempfile::TempDir, arguments: &[String], change: impl FnOnce(&mut Command)) -> Daemon {
        let mut command = command(&folder, arguments);
        // `ready` comes on standard output, between the lines of the test harness.
        command.env("GANTRY_READY_FD", "1").stdout(Stdio::piped()).stderr(Stdio::piped());
        change(&mut command);
        let mut process = command.spawn().expect("this program, once more");
        let mut stdout = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut stderr = BufReader::new(process.stderr.take().expect("a pipe"));
        if !stdout.by_ref().lines().any(|line| line.expect("text").ends_with("ready")) {
            let mut text = String::new();
            stderr.read_to_string(&mut text).expect("text");
            panic!("the daemon did not start:\n{text}");
        }
        Daemon { folder, process, stderr, stdout }
    }

    /// A path in this daemon's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sends a request and returns everything that comes until the connection ends.
    pub fn raw(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(self.path("sock")).expect("the socket");
        // The answer may come, and the connection end, before all of a bad request was taken.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A request without a body; the connection ends after the answer.
    pub fn ask(&self, method: &str, target: &str) -> String {
        self.raw(&format!("{method} {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"))
    }

    /// A request with a body.
    pub fn send(&self, method: &str, target: &str, content_type: &str, body: &str) -> String {
        let length = body.len();
        self.raw(&format!(
            "{method} {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Asks it to end as an init system does; returns how it ended and what it logged.
    pub fn stop(&mut self) -> (std::process::ExitStatus, String) {
        signal(&self.process);
        let status = self.process.wait().expect("wait");
        let mut text = String::new();
        self.stderr.read_to_string(&mut text).expect("text");
        (status, text)
    }

    /// Ends it without a chance to clean up, and gives its folder back.
    pub fn kill(mut self) -> tempfile::TempDir {
        self.process.kill().expect("kill");
        self.process.wait().expect("wait");
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            signal(&self.process);
            let _ = self.process.wait();
        }
    }
}

fn signal(process: &Child) {
    let pid = rustix::process::Pid::from_child(process);
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
}

/// The daemon as a command, with roots in a folder.
pub fn command(folder: &tempfile::TempDir, arguments: &[String]) -> Command {
    let root = |name: &str| format!("{}/{name}", folder.path().display());
    let mut all: Vec<String> = ["--data-root", "--exec-root", "--pidfile"]
        .iter()
        .zip(["data", "exec", "pid"])
        .flat_map(|(flag, name)| [(*flag).to_owned(), root(name)])
        .collect();
    all.extend_from_slice(arguments);
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["daemon_process", "--exact", "--nocapture"]).env(ARGUMENTS, all.join("\n")).stdin(Stdio::null());
    command
}

/// Runs a daemon that is to fail; returns its last words.
pub fn failing(folder: &tempfile::TempDir, arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
    let output = command(folder, &arguments).output().expect("this program, once more");
    assert!(!output.status.success(), "the daemon started");
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}
