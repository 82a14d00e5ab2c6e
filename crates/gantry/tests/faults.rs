//! The engine is killed at every kind of moment; containers and state must not notice.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;
use support::Engine;

/// Containers go on, their output goes on being logged, and the next engine knows everything.
#[test]
fn containers_outlive_the_engine() {
    let mut engine = Engine::start();
    engine.import_busybox();
    let script = "echo before; while [ ! -e /go ]; do usleep 20000; done; echo after; exit 5";
    engine.ok(&["run", "-d", "--name", "goes-on", "busybox", "sh", "-c", script]);
    engine.ok(&["run", "-d", "--name", "ends", "busybox", "sh", "-c", script]);
    let pid = engine.inspect("goes-on")["State"]["Pid"].as_i64().expect("a pid");
    let ends = engine.inspect("ends")["State"]["Pid"].as_i64().expect("a pid");

    engine.kill();
    // One container ends while there is no engine; its record and its log are the shim's work.
    fs::write(format!("/proc/{ends}/root/go"), "").expect("a file in the container");
    wait_for_end(ends);
    engine.up();

    let now = engine.inspect("goes-on");
    assert_eq!((now["State"]["Running"].as_bool(), now["State"]["Pid"].as_i64()), (Some(true), Some(pid)));
    assert_eq!(engine.ok(&["wait", "ends"]), "5");
    assert_eq!(engine.inspect("ends")["State"]["ExitCode"], 5);
    assert_eq!(engine.ok(&["logs", "ends"]), "before\nafter");
    // An adopted container can be handled like any other.
    assert_eq!(engine.ok(&["exec", "goes-on", "echo", "hi"]), "hi");
    engine.ok(&["exec", "goes-on", "touch", "/go"]);
    assert_eq!(engine.ok(&["wait", "goes-on"]), "5");
    assert_eq!(engine.ok(&["logs", "goes-on"]), "before\nafter");
    engine.ok(&["rm", "goes-on", "ends"]);
    assert_eq!(engine.leftovers(), Vec::<String>::new());
}

/// SIGTERM ends the engine at once and cleanly; nothing happens to containers.
#[test]
fn a_graceful_stop_leaves_containers_running() {
    let mut engine = Engine::start();
    engine.import_busybox();
    engine.ok(&["run", "-d", "--name", "stays", "busybox", "sleep", "1000"]);
    let pid = engine.inspect("stays")["State"]["Pid"].clone();
    assert!(engine.stop().success());
    assert!(!engine.path("sock").exists(), "the socket is gone with the engine");
    engine.up();
    assert_eq!(engine.inspect("stays")["State"]["Pid"], pid);
    engine.ok(&["rm", "-f", "stays"]);
}

/// Docker's command line copies text, so that lines may share a frame there; for other clients a frame is a line.
#[test]
fn a_frame_of_logs_is_a_line_but_for_command_lines() {
    let engine = Engine::start();
    engine.import_busybox();
    engine.ok(&["run", "--name", "talks", "busybox", "sh", "-c", "echo one; echo two; echo three"]);
    let frames = |client: &str| {
        let mut stream = std::os::unix::net::UnixStream::connect(engine.path("sock")).expect("the engine");
        let request = format!("GET /containers/talks/logs?stdout=1 HTTP/1.0\r\nUser-Agent: {client}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let body = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a body") + 4;
        let (mut rest, mut texts) = (&answer[body..], Vec::new());
        while let [1, 0, 0, 0, a, b, c, d, ..] = rest {
            let end = 8 + u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            texts.push(String::from_utf8_lossy(&rest[8..end]).into_owned());
            rest = &rest[end..];
        }
        assert!(rest.is_empty(), "{rest:?}");
        texts
    };
    assert_eq!(frames("docker-sdk-python/7.1.0"), ["one\n", "two\n", "three\n"]);
    for client in ["Docker-Client/28.2.2 (linux)", "Gantry-Client/0.1.0 (linux)"] {
        assert_eq!(frames(client), ["one\ntwo\nthree\n"], "{client}");
    }
    engine.ok(&["rm", "talks"]);
}

fn wait_for_end(pid: i64) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
    // One that cannot be opened has ended already.
    let Ok(pidfd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return };
    let mut set = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut set, Some(&timeout)).expect("poll"), 1, "the container did not end");
}

/// A small generator of numbers: tests need variety, not secrecy, and a seed that can be printed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Kill the engine at random moments while a client does things; each next start must be clean and everything usable.
fn killed_while(rounds: u32, seed: u64, longest: Duration, work: &str) {
    let mut engine = Engine::start();
    engine.import_busybox();
    let _registry = engine.registry();
    engine.ok(&["tag", "busybox", "localhost:5000/killed:base"]);
    engine.ok(&["push", "-q", "localhost:5000/killed:base"]);
    let mut dice = Dice(seed);
    for round in 0..rounds {
        let mut shell = engine.client_command("sh");
        shell.args(["-c", work]).env("ROUND", round.to_string());
        let mut client = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("sh");
        // The moment of the kill is the point of this test, so this waits for nothing in particular.
        std::thread::sleep(Duration::from_micros(dice.roll(longest.as_micros() as u64)));
        engine.kill();
        let mut errors = String::new();
        client.stderr.take().expect("its errors").read_to_string(&mut errors).expect("text");
        client.wait().expect("wait");
        engine.up();
        let context = format!("round {round} with seed {seed}; the client said: {errors}");
        let ids = engine.ok(&["ps", "-aq", "--no-trunc"]);
        for id in ids.split_whitespace() {
            let state = engine.inspect(id)["State"]["Status"].as_str().unwrap_or_default().to_owned();
            assert!(["created", "running", "exited"].contains(&state.as_str()), "{state}: {context}");
            engine.ok(&["rm", "-f", "-v", id]);
        }
        assert_eq!(engine.leftovers(), Vec::<String>::new(), "{context}");
        assert_eq!(engine.ok(&["run", "--rm", "--net=none", "busybox", "echo", "fine"]), "fine", "{context}");
    }
}

#[test]
fn killed_while_containers_come_and_go() {
    let work = "docker run -d --name k$ROUND -p 127.0.0.1::80 busybox sleep 1000 && docker stop -t 0 k$ROUND && docker start k$ROUND && docker rm -f k$ROUND";
    killed_while(100, 0x9e37_79b9_7f4a_7c15, Duration::from_millis(250), work);
}

#[test]
fn killed_while_images_come_and_go() {
    let work = "docker pull -q localhost:5000/killed:base && docker rmi localhost:5000/killed:base; \
                docker save busybox | docker load -q; \
                docker create --name c$ROUND busybox && docker cp /bin/sh c$ROUND:/added && docker commit c$ROUND localhost:5000/killed:$ROUND && \
                docker push -q localhost:5000/killed:$ROUND && docker rmi localhost:5000/killed:$ROUND";
    killed_while(100, 0xdead_beef_cafe_f00d, Duration::from_millis(400), work);
}
