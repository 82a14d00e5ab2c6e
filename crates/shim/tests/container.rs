//! A shim with a real container, from the engine's side.

mod support;

use oci::spec::Process;
use shim::client::{Client, Error};
use shim::{Attach, Event, Exec, FailureKind, Request};
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::process::ExitCode;
use support::{Running, Scratch, Stream};

const ALL: Attach = Attach { stdin: true, stdout: true, stderr: true };

fn main() -> ExitCode {
    support::run(&[
        ("output_is_logged_and_sent", output_is_logged_and_sent),
        ("input_comes_once_and_ends", input_comes_once_and_ends),
        ("input_stays_open_for_the_next_client", input_stays_open_for_the_next_client),
        ("several_clients_see_the_same", several_clients_see_the_same),
        ("a_terminal_has_a_size", a_terminal_has_a_size),
        ("execs_have_streams_and_codes", execs_have_streams_and_codes),
        ("an_exec_may_have_a_terminal", an_exec_may_have_a_terminal),
        ("an_exec_outlives_its_client", an_exec_outlives_its_client),
        ("a_slow_reader_holds_nobody_up", a_slow_reader_holds_nobody_up),
        ("the_engine_may_vanish", the_engine_may_vanish),
        ("signals_to_the_shim_are_not_the_containers", signals_to_the_shim_are_not_the_containers),
        ("a_signal_is_a_code", a_signal_is_a_code),
        ("paused_and_resumed", paused_and_resumed),
        ("out_of_memory_is_told", out_of_memory_is_told),
        ("orphans_are_reaped", orphans_are_reaped),
        ("a_program_that_is_not_there", a_program_that_is_not_there),
        ("given_up_before_the_start", given_up_before_the_start),
        ("requests_that_make_no_sense", requests_that_make_no_sense),
        ("the_programs_file_is_out_of_reach", the_programs_file_is_out_of_reach),
    ])
}

fn output_is_logged_and_sent() {
    let scratch = Scratch::shell("echo out; echo err >&2; printf rest; exit 3");
    let mut running = scratch.create();
    let (mut stream, mut events) = (running.attach(false), running.events());
    running.start();
    let exit = running.finish(&mut events);
    assert_eq!((exit.code, exit.signal, exit.oom), (3, None, false));
    assert_eq!(stream.frames(), ("out\nrest".to_owned(), "err\n".to_owned()));
    assert_eq!((scratch.logged("stdout"), scratch.logged("stderr")), ("out\nrest".to_owned(), "err\n".to_owned()));
    assert!(events.next().is_none(), "the end of the container is the last event");
}

fn input_comes_once_and_ends() {
    let scratch = Scratch::new(&["/bin/cat"]).with_stdin(true);
    let mut running = scratch.create();
    let (mut stream, mut events) = (running.attach(true), running.events());
    running.start();
    // Far more than a pipe holds: the client has to wait, and nothing is lost.
    let text = "0123456789abcdef".repeat(100_000);
    let mut writer = stream.stream.try_clone().unwrap();
    let sent = text.clone();
    let feeder = std::thread::spawn(move || {
        writer.write_all(sent.as_bytes()).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    assert!(stream.frames().0 == text);
    feeder.join().unwrap();
    assert_eq!(running.finish(&mut events).code, 0);
}

fn input_stays_open_for_the_next_client() {
    let scratch = Scratch::new(&["/bin/cat"]).with_stdin(false);
    let mut running = scratch.create();
    let mut events = running.events();
    let mut watcher = running.attach(false);
    running.start();
    for word in ["first", "second"] {
        let mut stream = running.attach(true);
        stream.stream.write_all(format!("{word}\n").as_bytes()).unwrap();
        stream.stream.shutdown(Shutdown::Write).unwrap();
        watcher.wait_for(word);
    }
    running.client.run(&Request::CloseStdin { exec: None }).unwrap();
    assert_eq!(running.finish(&mut events).code, 0);
    assert_eq!(scratch.logged("stdout"), "first\nsecond\n");
}

fn several_clients_see_the_same() {
    let scratch = Scratch::shell("echo a; echo b >&2; read x; echo c").with_stdin(true);
    let mut running = scratch.create();
    let mut streams: Vec<Stream> = (0..3).map(|n| running.attach(n == 0)).collect();
    let mut only_stderr = running.connect();
    only_stderr.attach(Attach { stderr: true, ..Attach::default() }).unwrap();
    let mut events = running.events();
    running.start();
    streams[1].wait_for("b\n");
    // One that leaves takes nothing from the others.
    drop(streams.remove(1));
    streams[0].stream.write_all(b"\n").unwrap();
    running.finish(&mut events);
    for stream in &mut streams {
        assert_eq!(stream.frames(), ("a\nc\n".to_owned(), "b\n".to_owned()));
    }
    assert_eq!(Stream::new(only_stderr).frames(), (String::new(), "b\n".to_owned()));
}

fn a_terminal_has_a_size() {
    let scratch = Scratch::shell("read x; stty size; stty -echo; read y; echo got $y; stty size").with_terminal();
    let mut running = scratch.create();
    let (mut stream, mut events) = (running.attach(true), running.events());
    let resize = |running: &mut Running<'_>, rows, columns| {
        running.client.run(&Request::Resize { exec: None, rows, columns }).unwrap();
    };
    resize(&mut running, 33, 99);
    running.start();
    stream.stream.write_all(b"\n").unwrap();
    stream.wait_for("33 99");
    resize(&mut running, 40, 100);
    stream.stream.write_all(b"word\n").unwrap();
    let rest = String::from_utf8(stream.raw()).unwrap();
    assert!(rest.contains("got word\r\n40 100\r\n"), "{rest:?}");
    assert_eq!(running.finish(&mut events).code, 0);
    assert!(scratch.logged("stdout").contains("got word\r\n"));
}

fn process(command: &[&str], terminal: bool) -> Process {
    Process {
        terminal,
        args: command.iter().map(|w| (*w).to_owned()).collect(),
        env: vec!["PATH=/bin".to_owned()],
        cwd: "/".to_owned(),
        ..Process::default()
    }
}

fn exec(id: &str, command: &[&str], streams: Attach) -> Exec {
    Exec { id: id.to_owned(), process: process(command, false), streams }
}

fn execs_have_streams_and_codes() {
    let scratch = Scratch::new(&["/bin/cat"]).with_stdin(false);
    let mut running = scratch.create();
    let mut events = running.events();
    running.start();

    let mut client = running.connect();
    client.exec(exec("one", &["sh", "-c", "cat; echo oops >&2; exit 5"], ALL)).unwrap();
    let mut stream = Stream::new(client);
    stream.stream.write_all(b"hello").unwrap();
    stream.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.frames(), ("hello".to_owned(), "oops\n".to_owned()));
    assert_eq!(events.exec_exit("one").code, 5);

    // Nothing of an exec is in the container's log.
    let mut client = running.connect();
    client.exec(exec("two", &["sh", "-c", "kill -9 $$"], Attach::default())).unwrap();
    let exit = events.exec_exit("two");
    assert_eq!((exit.code, exit.signal), (137, Some(9)));

    let refused = running.connect().exec(exec("three", &["nosuch"], ALL)).unwrap_err();
    assert_eq!(refused.kind(), FailureKind::ProgramNotFound, "{refused}");
    assert!(refused.to_string().contains("exec: \"nosuch\": executable file not found in $PATH"), "{refused}");

    // Many at once.
    for number in 0..20 {
        let mut client = running.connect();
        client
            .exec(exec(&format!("many{number}"), &["sh", "-c", &format!("exit {number}")], Attach::default()))
            .unwrap();
    }
    let mut codes: Vec<i32> = (0..20)
        .map(|_| match events.next() {
            Some(Event::Exited(exit)) => exit.code,
            other => panic!("{other:?}"),
        })
        .collect();
    codes.sort_unstable();
    assert_eq!(codes, (0..20).collect::<Vec<_>>());
    assert!(running.client.state().unwrap().execs.is_empty());
    running.client.run(&Request::CloseStdin { exec: None }).unwrap();
    running.finish(&mut events);
    assert_eq!(scratch.logged("stdout"), "");
}

fn an_exec_may_have_a_terminal() {
    let scratch = Scratch::new(&["/bin/cat"]).with_stdin(false);
    let mut running = scratch.create();
    let mut events = running.events();
    running.start();
    let mut client = running.connect();
    let process = process(&["sh", "-c", "read x; stty size; tty -s 2>/dev/null; read y"], true);
    client.exec(Exec { id: "term".to_owned(), process, streams: ALL }).unwrap();
    let mut stream = Stream::new(client);
    let resize = Request::Resize { exec: Some("term".to_owned()), rows: 20, columns: 70 };
    running.client.run(&resize).unwrap();
    stream.stream.write_all(b"\n").unwrap();
    stream.wait_for("20 70\r\n");
    // The end of the container is the end of its execs, and both are told, in this order.
    running.client.run(&Request::CloseStdin { exec: None }).unwrap();
    assert_eq!(events.exec_exit("term").signal, Some(9));
    running.finish(&mut events);
}

fn an_exec_outlives_its_client() {
    let scratch = Scratch::new(&["/bin/cat"]).with_stdin(false);
    let mut running = scratch.create();
    let mut events = running.events();
    running.start();
    let mut client = running.connect();
    client.exec(exec("left", &["sh", "-c", "read x; head -c 1000000 /dev/zero; echo done > /tmp/done"], ALL)).unwrap();
    let stream = Stream::new(client);
    drop(stream);
    assert_eq!(events.exec_exit("left").code, 0);
    assert!(scratch.path("rootfs/tmp/done").exists());
    running.client.run(&Request::Signal { exec: None, signal: 9, all: true }).unwrap();
    running.finish(&mut events);
}

fn a_slow_reader_holds_nobody_up() {
    const LENGTH: usize = 20_000_000;
    let scratch = Scratch::shell(&format!("head -c {LENGTH} /dev/zero | tr '\\0' x; echo"));
    let mut running = scratch.create();
    let (mut slow, mut events) = (running.attach(false), running.events());
    running.start();
    // The container ends, and is gone, though nothing was read.
    let exit = events.exit();
    assert_eq!(exit.code, 0);
    scratch.assert_clean();
    let (out, _) = slow.frames();
    assert!(out.len() == LENGTH + 1 && out.bytes().take(LENGTH).all(|b| b == b'x'));
    drop(running.client);
    assert!(running.process.wait().unwrap().success());
}

fn the_engine_may_vanish() {
    let scratch = Scratch::shell("echo before; read x; echo after; exit 9").with_stdin(false);
    let mut running = scratch.create();
    let mut stream = running.attach(true);
    running.start();
    stream.wait_for("before");
    // All that an engine holds goes at once, as when it is killed.
    drop(stream);
    let Running { client, mut process, pid, .. } = running;
    drop(client);

    let mut client = Client::connect(&scratch.config.socket_path).unwrap();
    let state = client.state().unwrap();
    assert_eq!((state.pid, state.started, state.paused), (Some(pid), true, false));
    assert!(state.exit.is_none());
    let mut input = Client::connect(&scratch.config.socket_path).unwrap();
    input.attach(Attach { stdin: true, ..Attach::default() }).unwrap();
    Stream::new(input).stream.write_all(b"\n").unwrap();
    drop(client);
    // Nobody listens when it ends; the record says how.
    assert!(process.wait().unwrap().success());
    let record: shim::Exit = serde_json::from_slice(&std::fs::read(&scratch.config.exit_path).unwrap()).unwrap();
    assert_eq!(record.code, 9);
    assert_eq!(scratch.logged("stdout"), "before\nafter\n");
    scratch.assert_clean();
}

fn signals_to_the_shim_are_not_the_containers() {
    let scratch = Scratch::new(&["/bin/cat"]).with_stdin(false);
    let mut running = scratch.create();
    let mut events = running.events();
    running.start();
    let shim = running.client.state().unwrap().shim_pid;
    for signal in [15, 2, 1] {
        sys::pidfd::send_signal_to(shim, signal).unwrap();
    }
    assert!(running.client.state().unwrap().exit.is_none());
    running.client.run(&Request::CloseStdin { exec: None }).unwrap();
    assert_eq!(running.finish(&mut events).code, 0);
}

fn a_signal_is_a_code() {
    let scratch = Scratch::shell("trap 'exit 42' TERM; echo ready; while :; do read x; done").with_stdin(false);
    let mut running = scratch.create();
    let (mut stream, mut events) = (running.attach(false), running.events());
    running.start();
    stream.wait_for("ready");
    running.client.run(&Request::Signal { exec: None, signal: 15, all: false }).unwrap();
    assert_eq!(running.finish(&mut events).code, 42);

    let scratch = Scratch::new(&["/bin/cat"]).with_stdin(false);
    let mut running = scratch.create();
    let mut events = running.events();
    running.start();
    running.client.run(&Request::Signal { exec: None, signal: 9, all: false }).unwrap();
    let exit = running.finish(&mut events);
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
}

fn paused_and_resumed() {
    let scratch = Scratch::new(&["/bin/cat"]).with_stdin(false);
    let mut running = scratch.create();
    let (mut stream, mut events) = (running.attach(true), running.events());
    running.start();
    running.client.run(&Request::Pause).unwrap();
    assert!(running.client.state().unwrap().paused);
    stream.stream.write_all(b"late\n").unwrap();
    running.client.run(&Request::Resume).unwrap();
    stream.wait_for("late");
    assert_eq!(running.client.processes().unwrap(), [running.pid]);
    // A paused container can be killed.
    running.client.run(&Request::Pause).unwrap();
    running.client.run(&Request::Signal { exec: None, signal: 9, all: false }).unwrap();
    assert_eq!(running.finish(&mut events).code, 137);
}

fn out_of_memory_is_told() {
    let mut scratch = Scratch::shell("x=0123456789abcdef; while :; do x=$x$x; done");
    let resources = serde_json::json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    if let Some(linux) = &mut scratch.config.spec.linux {
        linux.resources = Some(serde_json::from_value(resources).unwrap());
    }
    let mut running = scratch.create();
    let mut events = running.events();
    running.start();
    assert_eq!(events.next(), Some(Event::Oom));
    let exit = running.finish(&mut events);
    assert_eq!((exit.code, exit.oom), (137, true));
}

fn orphans_are_reaped() {
    let mut scratch = Scratch::shell("sh -c 'sh -c \"read x\" <&3 & exit' 3<&0; echo left; read x").with_stdin(false);
    if let Some(linux) = &mut scratch.config.spec.linux {
        // Without a process namespace there is no first process of the container that would adopt them.
        linux.namespaces.retain(|n| n.kind != "pid");
    }
    let mut running = scratch.create();
    let (mut stream, mut events) = (running.attach(true), running.events());
    running.start();
    stream.wait_for("left");
    stream.stream.write_all(b"\n\n").unwrap();
    running.finish(&mut events);
}

fn a_program_that_is_not_there() {
    let scratch = Scratch::new(&["nosuch"]);
    let mut running = scratch.spawn();
    let error = running.client.create().unwrap_err();
    assert_eq!(error.kind(), FailureKind::ProgramNotFound, "{error}");
    assert!(error.to_string().contains("exec: \"nosuch\": executable file not found in $PATH"), "{error}");
    drop(running.client);
    running.process.wait().unwrap();
    scratch.assert_clean();
    assert!(!scratch.config.exit_path.exists());
}

fn given_up_before_the_start() {
    let scratch = Scratch::new(&["/bin/cat"]);
    let mut running = scratch.create();
    running.client.run(&Request::Shutdown).unwrap();
    drop(running.client);
    running.process.wait().unwrap();
    scratch.assert_clean();
    assert!(!scratch.config.exit_path.exists());
}

fn requests_that_make_no_sense() {
    let scratch = Scratch::new(&["/bin/cat"]).with_stdin(false);
    let mut running = scratch.create();
    let mut events = running.events();
    let mut raw = std::os::unix::net::UnixStream::connect(&scratch.config.socket_path).unwrap();
    raw.write_all(b"GET / HTTP/1.1\r\n\"start_the_fans\"\n").unwrap();
    let mut answers = std::io::BufRead::lines(std::io::BufReader::new(raw.try_clone().unwrap()));
    for _ in 0..2 {
        assert!(answers.next().unwrap().unwrap().contains("not a request"));
    }
    let unknown = Request::Signal { exec: Some("nobody".to_owned()), signal: 1, all: false };
    match running.client.run(&unknown) {
        Err(Error::Refused(failure)) => assert_eq!(failure.kind, FailureKind::NotFound),
        other => panic!("{other:?}"),
    }
    assert_eq!(running.client.create().unwrap_err().kind(), FailureKind::Conflict);
    let no_terminal = Request::Resize { exec: None, rows: 1, columns: 1 };
    assert!(running.client.run(&no_terminal).is_err());
    running.start();
    running.client.run(&Request::Signal { exec: None, signal: 9, all: false }).unwrap();
    running.finish(&mut events);
}

/// What a container finds at `/proc/PID/exe` of a process on its way in must stay as it is (CVE-2019-5736).
fn the_programs_file_is_out_of_reach() {
    let scratch = Scratch::new(&["/bin/sleep", "1000"]);
    let running = scratch.create();
    for pid in [running.pid, running.process.id() as i32] {
        let exe = format!("/proc/{pid}/exe");
        let flags = rustix::fs::statvfs(exe.as_str()).unwrap().f_flag;
        assert!(flags.contains(rustix::fs::StatVfsMountFlags::RDONLY), "{exe}");
        let held = std::fs::File::open(&exe).unwrap();
        let none = sys::mount::Attributes { set: 0, clear: sys::mount::Attributes::READ_ONLY };
        assert!(sys::mount::set_attributes(held.as_fd(), none, false).is_err(), "{exe}");
        assert!(std::fs::OpenOptions::new().write(true).open(&exe).is_err(), "{exe}");
    }
}
