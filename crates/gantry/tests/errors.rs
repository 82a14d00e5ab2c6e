//! What goes wrong is said in Docker's words, with Docker's exit codes, and leaves nothing behind.

mod support;

use std::fs;
use support::Engine;

#[test]
fn things_that_do_not_exist() {
    let engine = Engine::start();
    engine.import_busybox();
    let _registry = engine.registry();
    let (code, text) = engine.fails(&["run", "--rm", "localhost:5000/no/such:1", "true"]);
    assert_eq!(code, 125);
    assert!(text.contains("Unable to find image 'localhost:5000/no/such:1' locally"), "{text}");
    assert!(text.contains("manifest for localhost:5000/no/such:1 not found: manifest unknown"), "{text}");
    assert_eq!(
        engine.fails(&["start", "nobody"]).1,
        "Error response from daemon: No such container: nobody\nError: failed to start containers: nobody"
    );
    assert_eq!(engine.fails(&["inspect", "nothing"]).1, "Error: No such object: nothing");
    assert_eq!(engine.fails(&["rmi", "nothing"]).1, "Error response from daemon: No such image: nothing:latest");
    assert!(engine.fails(&["run", "busybox:No Tag"]).1.contains("invalid reference format"));
    assert!(engine.fails(&["run", "team/Upper"]).1.contains("repository name (team/Upper) must be lowercase"));
    assert_eq!(engine.leftovers(), Vec::<String>::new());
}

#[test]
fn programs_that_cannot_run() {
    let engine = Engine::start();
    engine.import_busybox();
    for (program, code, words) in [
        ("no-such-program", 127, "exec: \"no-such-program\": executable file not found in $PATH"),
        ("/no/such", 127, "exec: \"/no/such\": stat /no/such: no such file or directory"),
        ("/etc/passwd", 126, "exec: \"/etc/passwd\": permission denied"),
        ("/etc", 126, "exec: \"/etc\": is a directory"),
    ] {
        let (exit, text) = engine.fails(&["run", "--rm", "busybox", program]);
        assert!(
            text.contains("OCI runtime create failed: runc create failed: unable to start container process"),
            "{text}"
        );
        assert!(text.contains(words), "{text}");
        assert_eq!(exit, code, "{text}");
    }
    engine.ok(&["run", "-d", "--name", "up", "busybox", "sleep", "1000"]);
    let (exit, text) = engine.fails(&["exec", "up", "no-such-program"]);
    assert_eq!(exit, 127, "{text}");
    engine.ok(&["rm", "-f", "up"]);
    assert_eq!(engine.leftovers(), Vec::<String>::new());
}

#[test]
fn names_and_ports_in_use() {
    let engine = Engine::start();
    engine.import_busybox();
    let id = engine.ok(&["run", "-d", "--name", "first", "-p", "8080:80", "busybox", "sleep", "1000"]);
    let (code, text) = engine.fails(&["run", "-d", "--name", "first", "busybox", "true"]);
    assert_eq!(code, 125);
    let words = format!(
        "Conflict. The container name \"/first\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
    );
    assert!(text.contains(&words), "{text}");
    let (code, text) = engine.fails(&["run", "-d", "--name", "second", "-p", "8080:80", "busybox", "true"]);
    assert_eq!(code, 125);
    assert!(text.contains("port is already allocated"), "{text}");
    let (_, text) = engine.fails(&["rm", "first"]);
    assert!(text.contains("container is running: stop the container before removing or force remove"), "{text}");
    engine.ok(&["rm", "-f", "first", "second"]);
    assert_eq!(engine.leftovers(), Vec::<String>::new());
}

/// Limits that are reached: the container ends, and says why.
#[test]
fn out_of_memory() {
    let engine = Engine::start();
    engine.import_busybox();
    let (code, _) =
        engine.fails(&["run", "--name", "greedy", "-m", "8m", "busybox", "sh", "-c", "a=x; while :; do a=$a$a; done"]);
    let state = engine.inspect("greedy")["State"].clone();
    assert_eq!((code, &state["OOMKilled"]), (137, &true.into()), "{state}");
    engine.ok(&["rm", "greedy"]);
}

/// A folder on a full disk: a sentence, and nothing of the image remains.
#[test]
fn a_full_disk() {
    let engine = Engine::start();
    let tar = engine.path("big.tar");
    fs::create_dir_all(engine.path("big")).expect("a folder");
    fs::write(engine.path("big/file"), vec![7; 40 << 20]).expect("a large file");
    let made =
        std::process::Command::new("tar").arg("-C").arg(engine.path("big")).arg("-cf").arg(&tar).arg(".").status();
    assert!(made.expect("tar").success());
    let small = Engine::start_on_small_disk(20 << 20);
    let (_, text) = small.fails(&["import", &tar.display().to_string(), "big"]);
    assert!(text.to_lowercase().contains("no space left on device"), "{text}");
    assert_eq!(small.ok(&["images", "-q"]), "");
    for folder in ["data/layers/unpacking", "data/blobs/ingest", "data/blobs/sha256"] {
        let remains = fs::read_dir(small.path(folder)).map_or(0, Iterator::count);
        assert_eq!(remains, 0, "something remains in {folder}");
    }
    small.import_busybox();
    assert_eq!(small.ok(&["run", "--rm", "busybox", "echo", "still good"]), "still good");
}

/// The socket is root's.
#[test]
fn who_may_talk() {
    use std::os::unix::fs::MetadataExt;
    let engine = Engine::start();
    let socket = fs::metadata(engine.path("sock")).expect("the socket");
    assert_eq!((socket.mode() & 0o7777, socket.uid()), (0o660, 0));
    let output =
        engine.inside(support::GANTRY).args(["daemon", "-H", "tcp://127.0.0.1:2375"]).output().expect("gantry");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("--tls=false"), "{text}");
}
