//! What the tests of this crate share: a registry in a process of its own, and HTTP as plain as it can be.
// Each test binary uses another part of it.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod http;
pub mod image;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub use http::{Answer, Connection};

/// The arguments of the registry, one a line, for a copy of the test program.
const ARGUMENTS: &str = "REGISTRY_ARGUMENTS";

/// Not a test: the life of the processes that [`Server`] starts, copies of the test program.
#[test]
#[ignore = "the registry's own process, started by the tests"]
fn registry_process() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let _ = registry_server::main(arguments.lines().map(Into::into).collect());
    // The test harness would report to a reader that may be gone.
    std::process::exit(0);
}

/// A registry. It ends with the value, and so does its directory.
pub struct Server {
    child: Child,
    pub port: u16,
    dir: Option<tempfile::TempDir>,
    pub storage: PathBuf,
    pub log: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

impl Server {
    /// One with a directory of its own.
    pub fn start(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let storage = dir.path().join("storage");
        let mut server = Self::over(&storage, options);
        server.dir = Some(dir);
        server
    }

    /// One over a directory that somebody else keeps.
    pub fn over(storage: &Path, options: &[&str]) -> Self {
        let place = storage.to_str().unwrap();
        Self::run(place, options, &[])
    }

    /// One over any place, under a command that runs it (`unshare -m …`) or directly.
    pub fn run(place: &str, options: &[&str], under: &[&str]) -> Self {
        let mut server = Self::serve(&[&["--storage", place], options].concat(), under);
        server.storage = PathBuf::from(place);
        server
    }

    /// One whose place is among the options.
    pub fn serve(options: &[&str], under: &[&str]) -> Self {
        let mut arguments = vec!["registry", "serve", "--listen", "127.0.0.1:0"];
        if !options.contains(&"--access-log") {
            arguments.extend(["--access-log", "none"]);
        }
        arguments.extend(options);
        let program = std::env::current_exe().unwrap();
        let mut command = match under {
            [] => Command::new(&program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(&program);
                command
            }
        };
        let mut child = command
            .args(["--ignored", "--exact", "support::registry_process", "--nocapture"])
            .env(ARGUMENTS, arguments.join("\n"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = Vec::new();
        let port = loop {
            let Some(Ok(line)) = lines.next() else { panic!("the registry ended at once: {seen:#?}") };
            if let Some((_, address)) = line.split_once(" on 127.0.0.1:") {
                break address.trim().parse().unwrap();
            }
            seen.push(line);
        };
        let log = std::sync::Arc::new(std::sync::Mutex::new(seen));
        let kept = std::sync::Arc::clone(&log);
        // Nobody may block on a full pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line)));
        Self { child, port, dir: None, storage: PathBuf::new(), log }
    }

    /// Starts a registry that must refuse to; returns what it says.
    pub fn refused(options: &[&str]) -> String {
        let arguments: Vec<&str> = ["serve"].iter().chain(options).copied().collect();
        String::from_utf8(command(&arguments).output().unwrap().stderr).unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The directory that it had, which stays when the registry ends.
    pub fn into_dir(mut self) -> tempfile::TempDir {
        self.kill();
        self.dir.take().unwrap()
    }

    /// `127.0.0.1:PORT/PATH`
    pub fn name(&self, path: &str) -> String {
        format!("127.0.0.1:{}/{path}", self.port)
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.port)
    }

    /// One request on a connection of its own.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.connect().send(method, path, headers, body)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    /// Pushes a blob in one request, and returns its digest.
    pub fn blob(&self, name: &str, bytes: &[u8]) -> String {
        let digest = oci::Digest::of(bytes).to_string();
        let answer = self.send("POST", &format!("/v2/{name}/blobs/uploads/?digest={digest}"), &[], bytes);
        assert_eq!(answer.status, 201, "{answer:?}");
        digest
    }

    /// Begins an upload, and returns where it is.
    pub fn upload(&self, name: &str) -> String {
        let answer = self.send("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"");
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.header("location").to_owned()
    }

    /// Pushes a manifest, and returns its digest.
    pub fn manifest(&self, name: &str, reference: &str, media_type: &str, bytes: &[u8]) -> String {
        let path = format!("/v2/{name}/manifests/{reference}");
        let answer = self.send("PUT", &path, &[("Content-Type", media_type)], bytes);
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.header("docker-content-digest").to_owned()
    }

    /// Pushes an image of one layer, and returns its manifest's digest.
    pub fn image(&self, name: &str, tag: &str, seed: u64) -> String {
        let (layer, config) = (image::noise(seed, 5000), format!("{{\"seed\": {seed}}}"));
        self.blob(name, &layer);
        self.blob(name, config.as_bytes());
        self.manifest(name, tag, oci::media_type::OCI_MANIFEST, &image::manifest(&[&layer], config.as_bytes()))
    }

    /// All objects that the storage has, by key.
    pub fn objects(&self) -> Vec<String> {
        objects(&self.storage)
    }
}

/// The command `gantry registry` with these arguments.
pub fn command(arguments: &[&str]) -> Command {
    command_under(&["env"], arguments)
}

/// The same, run by another command (`nsenter …`).
pub fn command_under(under: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new(under[0]);
    command.args(&under[1..]).arg(std::env::current_exe().unwrap());
    let arguments: Vec<&str> = ["registry"].iter().chain(arguments).copied().collect();
    command
        .args(["--ignored", "--exact", "support::registry_process", "--nocapture"])
        .env(ARGUMENTS, arguments.join("\n"))
        .stdin(Stdio::null());
    command
}

/// Makes everything in a storage so many seconds older.
pub fn age(root: &Path, seconds: u64) {
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
    for key in objects(root) {
        std::fs::File::options().write(true).open(root.join(key)).unwrap().set_modified(then).unwrap();
    }
}

/// All files below a directory, but for the one that says how long garbage is kept: that is no content.
pub fn objects(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(directory) = ahead.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                ahead.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.retain(|key| key != "times");
    found.sort();
    found
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
