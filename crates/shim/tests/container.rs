//! A shim with a real container, from the engine's side.

mod support;

use oci::spec::Process;
use shim::client::{Client, Error};
use shim::{Attach, Event, Exec, FailureKind, Request};
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::process::ExitCode;
use support::{PATIENCE, Running, Scratch, Stream};

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
        ("words_of_another_version", words_of_another_version),
        ("a_stuck_log_holds_nobody_up", a_stuck_log_holds_nobody_up),
        ("a_buffered_log_is_complete", a_buffered_log_is_complete),
        ("an_idle_shim_is_small", an_idle_shim_is_small),
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
    let sent = jiff::Timestamp::now();
    running.client.run(&Request::Signal { exec: None, signal: 9, all: false }).unwrap();
    let exit = running.finish(&mut events);
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    assert!(sent <= exit.at && exit.at <= jiff::Timestamp::now());

    // Killed by somebody else, behind the shim's back.
    let scratch = Scratch::new(&["/bin/cat"]).with_stdin(false);
    let mut running = scratch.create();
    let mut events = running.events();
    running.start();
    sys::pidfd::send_signal_to(running.pid, 9).unwrap();
    let exit = running.finish(&mut events);
    assert_eq!((exit.code, exit.signal, exit.oom), (137, Some(9), false));
    // The record came by a rename: nothing of its making is left.
    assert!(!scratch.config.exit_path.with_extension("part").exists());
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

/// What an engine of a later version may say, and what this shim says to it.
fn words_of_another_version() {
    let scratch = Scratch::new(&["/bin/cat"]).with_stdin(false);
    let mut running = scratch.create();
    let mut events = running.events();
    running.start();
    let mut raw = std::os::unix::net::UnixStream::connect(&scratch.config.socket_path).unwrap();
    let mut answers = std::io::BufRead::lines(std::io::BufReader::new(raw.try_clone().unwrap()));
    let mut ask = |line: &str| {
        raw.write_all(format!("{line}\n").as_bytes()).unwrap();
        serde_json::from_str::<serde_json::Value>(&answers.next().unwrap().unwrap()).unwrap()
    };
    // A request that does not exist yet is refused by its name, and the connection goes on.
    let refused = ask(r#"{"checkpoint":{"directory":"/tmp"}}"#);
    assert_eq!(refused["failed"]["kind"], "invalid");
    assert!(refused["failed"]["message"].as_str().unwrap().contains("`checkpoint`"), "{refused}");
    // A field that does not exist yet is passed over.
    assert_eq!(ask(r#"{"signal":{"signal":0,"all":false,"colour":"blue"}}"#), "done");
    let state = ask("\"state\"");
    assert_eq!(
        (&state["state"]["version"], &state["state"]["started"]),
        (&shim::protocol::VERSION.into(), &true.into())
    );
    running.client.run(&Request::CloseStdin { exec: None }).unwrap();
    running.finish(&mut events);
}

/// Lines of a log, as their texts.
fn texts(log: &[u8]) -> Vec<String> {
    let lines = log.split_inclusive(|b| *b == b'\n').filter(|line| line.ends_with(b"\n"));
    let entries = lines.map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap());
    entries.map(|entry| entry["log"].as_str().unwrap().trim_end().to_owned()).collect()
}

fn a_stuck_log_holds_nobody_up() {
    const LINES: usize = 200_000;
    let mut scratch = Scratch::shell(&format!("seq {LINES}; echo written; read x; echo end")).with_stdin(true);
    let path = scratch.path("log");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    // Open in both directions, so that whoever opens it for writing need not wait for a reader. Nobody reads yet.
    let mut log = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    if let Some(config) = &mut scratch.config.log {
        config.buffer = Some(100_000);
    }
    let mut running = scratch.create();
    let (mut stream, mut events) = (running.attach(true), running.events());
    running.start();
    // Megabytes beyond what the log takes, and a client still gets each of them.
    let shown = stream.wait_for("written");
    assert!(shown.contains(&format!("{LINES}\n")));
    assert!(running.client.state().unwrap().exit.is_none());

    // The log begins to move again. What it was too slow for is missing, in whole lines and nowhere else.
    let (mut seen, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    let mut read_until = |text: &str| {
        let mut new = 0;
        while !String::from_utf8_lossy(&seen[new..]).contains(text) {
            // The text may be cut in two.
            new = seen.len().saturating_sub(text.len());
            let count = std::io::Read::read(&mut log, &mut buffer).unwrap();
            seen.extend_from_slice(&buffer[..count]);
        }
    };
    read_until("\"log\":\"1000\\n\"");
    stream.stream.write_all(b"\n").unwrap();
    let reader = std::thread::scope(|scope| {
        scope.spawn(|| read_until("\"log\":\"end\\n\""));
        running.finish(&mut events)
    });
    assert_eq!(reader.code, 0);
    let logged = texts(&seen);
    let numbers: Vec<usize> = logged.iter().filter_map(|text| text.parse().ok()).collect();
    assert!(numbers.len() > 1000 && numbers.len() < LINES, "{}", numbers.len());
    assert!(numbers.is_sorted() && numbers[..1000].iter().copied().eq(1..=1000));
    assert_eq!(logged.last().unwrap(), "end");
}

fn a_buffered_log_is_complete() {
    const LINES: usize = 50_000;
    let mut scratch = Scratch::shell(&format!("seq {LINES}; printf rest"));
    if let Some(config) = &mut scratch.config.log {
        // Room for all of it, and more than one file.
        (config.buffer, config.max_size, config.max_file) = (Some(64 << 20), Some(1_000_000), 100);
    }
    let mut running = scratch.create();
    let mut events = running.events();
    running.start();
    running.finish(&mut events);
    let newest_first = std::iter::once("log".to_owned()).chain((1..100).map(|n| format!("log.{n}")));
    let mut files: Vec<Vec<u8>> = newest_first.map_while(|name| std::fs::read(scratch.path(&name)).ok()).collect();
    assert!(files.len() > 2);
    files.reverse();
    let expected = (1..=LINES).map(|n| n.to_string()).chain(["rest".to_owned()]);
    assert!(texts(&files.concat()).into_iter().eq(expected));
}

/// Memory that the kernel counts for a process: (of its own, its share), in KiB.
fn memory(pid: i32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let of = |name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (of("Private_Dirty:") + of("Private_Clean:"), of("Pss:"))
}

fn an_idle_shim_is_small() {
    let scratch = Scratch::shell("seq 100000; read x").with_stdin(false);
    let mut running = scratch.create();
    let (mut stream, mut events) = (running.attach(true), running.events());
    running.start();
    // It has been busy, with output, a client and an exec.
    stream.wait_for("100000\n");
    let mut client = running.connect();
    client.exec(exec("one", &["seq", "100000"], ALL)).unwrap();
    Stream::new(client).frames();
    events.exec_exit("one");
    let shim = running.client.state().unwrap().shim_pid;
    drop(stream);
    // Memory is given back a while after the last work, which nothing tells but the memory itself.
    let end = std::time::Instant::now() + PATIENCE;
    while memory(shim).0 > 1024 || memory(shim).1 > 1024 {
        assert!(std::time::Instant::now() < end, "(own, share) in KiB: {:?}", memory(shim));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    running.client.run(&Request::CloseStdin { exec: None }).unwrap();
    running.finish(&mut events);
}
