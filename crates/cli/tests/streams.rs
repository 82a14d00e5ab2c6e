//! Streams at the user's end: what is copied where, what ends what, and a terminal that is always given back.

mod client;
mod engine;

use engine::{Engine, Reply};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// A frame of the multiplexed stream.
fn frame(kind: u8, text: &str) -> Vec<u8> {
    let mut frame = vec![kind, 0, 0, 0];
    frame.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// An engine with one container: its attached stream goes to `streams` once it was started, and its exit code comes from `exits`.
fn container(streams: Sender<UnixStream>, exits: Receiver<i64>) -> Engine {
    let (streams, exits) = (Mutex::new(streams), Arc::new(Mutex::new(exits)));
    let waiting = Arc::new(Mutex::new(None));
    Engine::start(move |request| match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/containers/create") => Reply::Whole(201, r#"{"Id":"c1","Warnings":[]}"#),
        ("POST", "/containers/c1/attach") => {
            let waiting = Arc::clone(&waiting);
            Reply::Upgrade(Box::new(move |stream| *waiting.lock().unwrap() = Some(stream)))
        }
        ("POST", "/containers/c1/wait") => {
            let exits = Arc::clone(&exits);
            Reply::Later(Box::new(move || {
                let code = exits.lock().unwrap().recv().unwrap_or(255);
                format!("{{\"StatusCode\":{code}}}\n")
            }))
        }
        ("POST", "/containers/c1/start") => {
            // The client has the head of the attach by now, so the stream is here or about to be.
            let stream = loop {
                if let Some(stream) = waiting.lock().unwrap().take() {
                    break stream;
                }
                std::thread::yield_now();
            };
            streams.lock().unwrap().send(stream).unwrap();
            Reply::Whole(204, "")
        }
        ("POST", "/containers/c1/resize" | "/containers/c1/kill") => Reply::Whole(200, ""),
        _ => Reply::Whole(404, r#"{"message":"page not found"}"#),
    })
}

#[test]
fn output_is_taken_apart_and_the_exit_code_is_ours() {
    let ((streams, attached), (exit, exits)) = (channel(), channel());
    let engine = container(streams, exits);
    let child = client::command(&client::ours(), &engine.host()).args(["run", "busybox", "x"]).spawn().unwrap();
    let mut stream = attached.recv().unwrap();
    for piece in [frame(1, "out 1\n"), frame(2, "err\n"), frame(1, "out 2\n")] {
        // In two pieces, so that a frame is cut.
        stream.write_all(&piece[..5]).unwrap();
        stream.write_all(&piece[5..]).unwrap();
    }
    drop(stream);
    exit.send(7).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(client::shown(&output), (Some(7), "out 1\nout 2\n".into(), "err\n".into()));
}

#[test]
fn the_end_of_our_input_is_the_end_of_the_containers() {
    let ((streams, attached), (exit, exits)) = (channel(), channel());
    let engine = container(streams, exits);
    let mut command = client::command(&client::ours(), &engine.host());
    let mut child = command.args(["run", "-i", "busybox", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stream = attached.recv().unwrap();
    child.stdin.take().unwrap().write_all(b"typed").unwrap();
    let mut text = String::new();
    // Ends because the client shuts its half down; the other half still works.
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "typed");
    stream.write_all(&frame(1, "still here")).unwrap();
    drop(stream);
    exit.send(0).unwrap();
    assert_eq!(client::shown(&child.wait_with_output().unwrap()), (Some(0), "still here".into(), String::new()));
}

#[test]
fn signals_go_to_the_container() {
    let ((streams, attached), (exit, exits)) = (channel(), channel());
    let engine = container(streams, exits);
    let child = client::command(&client::ours(), &engine.host()).args(["run", "busybox", "x"]).spawn().unwrap();
    let stream = attached.recv().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    while !engine_got_kill(&engine) {
        std::thread::yield_now();
    }
    drop(stream);
    exit.send(130).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
}

fn engine_got_kill(engine: &Engine) -> bool {
    let kill = engine.take().into_iter().find(|request| request.path == "/containers/c1/kill");
    kill.is_some_and(|request| request.query["signal"] == ["INT"])
}

/// A pseudo terminal: our end, and the path of the client's.
fn terminal(rows: u16, columns: u16) -> (File, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let path = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    tcsetwinsize(&ours, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let theirs = File::options().read(true).write(true).open(path).unwrap();
    (File::from(ours), theirs)
}

fn on_terminal(engine: &Engine, theirs: &File, arguments: &[&str]) -> Child {
    client::command(&client::ours(), &engine.host())
        .args(arguments)
        .stdin(theirs.try_clone().unwrap())
        .stdout(theirs.try_clone().unwrap())
        .stderr(theirs.try_clone().unwrap())
        .spawn()
        .unwrap()
}

#[test]
fn a_terminal_is_raw_while_attached_and_given_back() {
    let ((streams, attached), (exit, exits)) = (channel(), channel());
    let engine = container(streams, exits);
    let (mut ours, theirs) = terminal(33, 77);
    let before = tcgetattr(&theirs).unwrap();
    let mut child = on_terminal(&engine, &theirs, &["run", "-it", "busybox", "sh"]);
    let mut stream = attached.recv().unwrap();
    // Ctrl-C is a byte like any other.
    ours.write_all(b"a\x03").unwrap();
    let mut typed = [0; 2];
    stream.read_exact(&mut typed).unwrap();
    assert_eq!(&typed, b"a\x03");
    assert_ne!(tcgetattr(&theirs).unwrap().local_modes, before.local_modes);
    stream.write_all(b"raw\n").unwrap();
    let mut shown = [0; 4];
    ours.read_exact(&mut shown).unwrap();
    assert_eq!(&shown, b"raw\n", "no frames, and no carriage return is added");
    drop(stream);
    exit.send(3).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    let after = tcgetattr(&theirs).unwrap();
    assert_eq!(
        (after.local_modes, after.input_modes, after.output_modes),
        (before.local_modes, before.input_modes, before.output_modes)
    );
    let requests = engine.take();
    let create = requests.iter().find(|request| request.path == "/containers/create").unwrap();
    let body: serde_json::Value = serde_json::from_slice(&create.body).unwrap();
    assert_eq!(body["HostConfig"]["ConsoleSize"], serde_json::json!([33, 77]));
    let resize = requests.iter().find(|request| request.path == "/containers/c1/resize").unwrap();
    assert_eq!((resize.query["h"][0].as_str(), resize.query["w"][0].as_str()), ("33", "77"));
}

#[test]
fn the_detach_keys_leave_the_container_alone() {
    let ((streams, attached), (_exit, exits)) = (channel(), channel());
    let engine = container(streams, exits);
    let (mut ours, theirs) = terminal(24, 80);
    let before = tcgetattr(&theirs).unwrap();
    let mut child = on_terminal(&engine, &theirs, &["run", "-it", "--detach-keys", "ctrl-x,y", "busybox", "sh"]);
    let mut stream = attached.recv().unwrap();
    ours.write_all(b"\x18n\x18y").unwrap();
    let mut typed = Vec::new();
    stream.read_to_end(&mut typed).unwrap();
    assert_eq!(typed, b"\x18n", "keys that are no sequence are typed text");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(tcgetattr(&theirs).unwrap().local_modes, before.local_modes);
}
