//! Terminals: handed over by a socket, or held by the runtime.

use crate::support::{Bundle, eventually};
use serde_json::json;
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;

/// Takes the descriptor that comes to a console socket.
pub(crate) fn receive(listener: &UnixListener) -> OwnedFd {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
    let (socket, _) = listener.accept().unwrap();
    let mut buffer = [0; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, RecvFlags::empty()).unwrap();
    let descriptor = ancillary.drain().find_map(|part| match part {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptor.unwrap()
}

/// Reads until the other side is closed.
pub(crate) fn read_all(master: OwnedFd) -> String {
    let mut text = Vec::new();
    let mut master = File::from(master);
    let mut buffer = [0; 512];
    while let Ok(length @ 1..) = master.read(&mut buffer) {
        text.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&text).replace('\r', "")
}

#[test]
fn the_first_process_gets_one() {
    let mut bundle = Bundle::new("tty");
    let socket = bundle.directory.join("console");
    let listener = UnixListener::bind(&socket).unwrap();
    bundle.set("/process/terminal", json!(true)).set("/process/consoleSize", json!({"height": 11, "width": 77}));
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    bundle.script("tty; stty size; stat -c '%n %t:%T' /dev/console; echo to > /dev/tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all; read x; echo got $x");
    let output = bundle.create_with(&["create", "--console-socket", socket.to_str().unwrap(), &bundle.id]);
    assert_eq!(output.code, 0, "{output:?}");
    let master = receive(&listener);
    bundle.start();
    let mut writer = File::from(master.try_clone().unwrap());
    writer.write_all(b"line\n").unwrap();
    let text = read_all(master);
    let lines: Vec<&str> = text.lines().filter(|line| *line != "line").collect();
    assert_eq!(lines, ["/dev/pts/0", "11 77", "/dev/console 88:0", "to", "all", "got line"]);
}

#[test]
fn exec_gets_one() {
    let mut bundle = Bundle::new("exectty");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    bundle.start();
    let socket = bundle.directory.join("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let output = bundle.create_with(&[
        "exec",
        "-t",
        "-d",
        "--console-socket",
        socket.to_str().unwrap(),
        &bundle.id,
        "/bin/sh",
        "-c",
        "tty; sleep 0.2; stty size",
    ]);
    assert_eq!(output.code, 0, "{output:?}");
    let master = receive(&listener);
    sys::pty::resize(master.as_fd(), 33, 99).unwrap();
    assert_eq!(read_all(master), "/dev/pts/0\n33 99\n");
}

/// `run` in the foreground of a terminal; what appears on it.
pub(crate) fn run(bundle: &Bundle) -> String {
    bundle.write();
    let sys::pty::Pair { master, slave } = sys::pty::open().unwrap();
    let end = || std::process::Stdio::from(slave.try_clone().unwrap());
    let mut command = bundle.runtime();
    command.args(["run", &bundle.id]).stdin(end()).stdout(end()).stderr(end());
    let mut child = command.spawn().unwrap();
    drop(command);
    drop(slave);
    let text = read_all(master);
    child.wait().unwrap();
    text
}

#[test]
fn the_runtime_passes_it_on() {
    let mut bundle = Bundle::new("ttyfg");
    bundle.set("/process/terminal", json!(true)).script(
        // The reference sets the size when the program may already run.
        "for i in $(seq 500); do [ \"$(stty size 2>/dev/null)\" = '22 66' ] && break; sleep 0.05; done; \
         stty size; read x; echo got $x; exit 5",
    );
    bundle.write();
    let pair = sys::pty::open().unwrap();
    sys::pty::resize(pair.master.as_fd(), 22, 66).unwrap();
    let slave = || std::process::Stdio::from(pair.slave.try_clone().unwrap());
    let mut command = bundle.runtime();
    command.args(["run", &bundle.id]).stdin(slave()).stdout(slave()).stderr(slave());
    let mut child = command.spawn().unwrap();
    drop(command);
    File::from(pair.master.try_clone().unwrap()).write_all(b"typed\r").unwrap();
    let sys::pty::Pair { master, slave } = pair;
    drop(slave);
    let text = read_all(master);
    assert_eq!(child.wait().unwrap().code(), Some(5), "{text}");
    assert!(text.starts_with("22 66\n") || text.contains("\n22 66\n"), "{text:?}");
    assert!(text.ends_with("got typed\n"), "{text:?}");
}

#[test]
fn a_terminal_needs_somebody_who_holds_it() {
    let mut bundle = Bundle::new("nosock");
    bundle.set("/process/terminal", json!(true)).args(&["/bin/sleep", "1000"]);
    let output = bundle.create_with(&["create", &bundle.id]);
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains("cannot allocate tty"), "{output:?}");
    eventually("nothing is left", || bundle.call(&["state", &bundle.id]).code != 0);
}
