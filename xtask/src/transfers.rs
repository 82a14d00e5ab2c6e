//! Images on their way, beside another engine in one run: the rows of `docs/performance.md` that need a registry.
//!
//! Two reference registries are started on loopback. From the first images are pulled; the second is emptied before
//! each push, so that every push sends everything. The engines take turns within a round, the one that begins changing,
//! and a cell is the median of the rounds. Both are spoken to by one client.
//!
//! ```sh
//! cargo xtask transfers --ours unix:///run/gantry.sock --peer unix:///run/docker.sock --rootfs debian.tar
//! ```

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Where the registries are. The second one's name is that of every image that is pushed.
const PORTS: [u16; 2] = [5701, 5702];
/// Images that are pulled at once.
const MANY: usize = 10;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The engine that is measured, as `DOCKER_HOST` has it
    #[arg(long, default_value = "unix:///run/gantry.sock")]
    ours: String,
    /// The engine that it is compared with
    #[arg(long, default_value = "unix:///var/run/docker.sock")]
    peer: String,
    /// A root file system as a tar, which becomes the image
    #[arg(long)]
    rootfs: PathBuf,
    /// How often each engine has its turn
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only rows whose name contains this
    #[arg(long, default_value = "")]
    only: String,
}

/// An engine, and a directory for what it writes.
struct Engine {
    host: String,
    folder: PathBuf,
}

impl Engine {
    fn docker(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.command(arguments).output().map_err(|error| format!("docker: {error}"))?;
        check(&self.host, arguments, &output)
    }

    /// Does it if it can be done.
    fn quietly(&self, arguments: &[&str]) {
        let _ = self.command(arguments).output();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(arguments).env("DOCKER_HOST", &self.host).stdin(Stdio::null());
        command
    }

    fn archive(&self) -> String {
        self.folder.join("image.tar").display().to_string()
    }
}

fn check(host: &str, arguments: &[&str], output: &Output) -> Result<String, String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(format!("{host}: docker {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

/// A registry; it ends with the value.
struct Registry {
    port: u16,
    folder: PathBuf,
    process: Option<Child>,
}

impl Registry {
    fn new(port: u16, folder: &Path) -> Result<Self, String> {
        let mut registry = Self { port, folder: folder.join(format!("registry-{port}")), process: None };
        registry.start()?;
        Ok(registry)
    }

    /// Begins anew with nothing in it.
    fn start(&mut self) -> Result<(), String> {
        self.stop();
        let failed = |what: &str, error: std::io::Error| format!("{what} {}: {error}", self.folder.display());
        let _ = std::fs::remove_dir_all(&self.folder);
        std::fs::create_dir_all(&self.folder).map_err(|error| failed("creating", error))?;
        let configuration = self.folder.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{}'}}\n",
            self.folder.join("data").display(),
            self.port
        );
        std::fs::write(&configuration, text).map_err(|error| failed("writing to", error))?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&configuration).env("OTEL_TRACES_EXPORTER", "none");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().map_err(|error| format!("docker-registry: {error}"))?);
        for _ in 0..400 {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("docker-registry does not listen on port {}", self.port))
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn name(&self, path: &str) -> String {
        format!("localhost:{}/{path}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What is done before the clock runs, and while it does.
type Step = fn(&Engine, &mut Registries, usize) -> Result<(), String>;

struct Registries {
    source: Registry,
    target: Registry,
    /// What images are imported from.
    rootfs: String,
}

const ROWS: [(&str, Step, Step); 7] = [
    ("pull", remove, |engine, registries, _| pull(engine, &registries.source.name("image"))),
    ("push of what was pulled", before_push, push),
    ("push of what was imported", before_first_push, push),
    ("save", present, |engine, registries, _| {
        engine.docker(&["save", "-o", &engine.archive(), &registries.source.name("image")]).map(drop)
    }),
    ("load", remove, |engine, _, _| engine.docker(&["load", "-i", &engine.archive()]).map(drop)),
    ("commit", standing, |engine, _, round| {
        engine.docker(&["commit", "transfers", &format!("transfers:{round}")]).map(drop)
    }),
    ("10 pulls at once", remove, pull_all),
];

fn present(engine: &Engine, registries: &mut Registries, _: usize) -> Result<(), String> {
    pull(engine, &registries.source.name("image"))
}

fn pull(engine: &Engine, name: &str) -> Result<(), String> {
    engine.docker(&["pull", "-q", name]).map(drop)
}

fn push(engine: &Engine, registries: &mut Registries, round: usize) -> Result<(), String> {
    engine.docker(&["push", "-q", &registries.target.name(&format!("image:{round}"))]).map(drop)
}

fn remove(engine: &Engine, registries: &mut Registries, round: usize) -> Result<(), String> {
    engine.quietly(&["rm", "-f", "transfers"]);
    remove_all(engine, registries, round)
}

/// Removes every image, so that no layer is left.
fn remove_all(engine: &Engine, _: &mut Registries, _: usize) -> Result<(), String> {
    let ids = engine.docker(&["images", "-aq", "--no-trunc"])?;
    let mut arguments = vec!["rmi", "-f"];
    arguments.extend(ids.split_whitespace());
    if arguments.len() > 2 {
        engine.quietly(&arguments);
    }
    Ok(())
}

fn before_push(engine: &Engine, registries: &mut Registries, round: usize) -> Result<(), String> {
    registries.target.start()?;
    let (from, to) = (registries.source.name("image"), registries.target.name(&format!("image:{round}")));
    pull(engine, &from)?;
    engine.docker(&["tag", &from, &to]).map(drop)
}

/// A layer that was never compressed.
fn before_first_push(engine: &Engine, registries: &mut Registries, round: usize) -> Result<(), String> {
    remove(engine, registries, round)?;
    registries.target.start()?;
    engine.docker(&["import", &registries.rootfs, &registries.target.name(&format!("image:{round}"))]).map(drop)
}

fn standing(engine: &Engine, registries: &mut Registries, _: usize) -> Result<(), String> {
    engine.quietly(&["rm", "-f", "transfers"]);
    let image = registries.source.name("image");
    pull(engine, &image)?;
    engine.docker(&["run", "-d", "--name", "transfers", "--net=none", &image, "sleep", "1000"]).map(drop)
}

fn pull_all(engine: &Engine, registries: &mut Registries, _: usize) -> Result<(), String> {
    let names: Vec<String> = (0..MANY).map(|n| registries.source.name(&format!("many:{n}"))).collect();
    let spawn =
        |name: &String| engine.command(&["pull", "-q", name]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let children: Vec<Child> =
        names.iter().map(spawn).collect::<Result<_, _>>().map_err(|error| format!("docker: {error}"))?;
    for child in children {
        let output = child.wait_with_output().map_err(|error| format!("docker: {error}"))?;
        check(&engine.host, &["pull"], &output)?;
    }
    Ok(())
}

/// Puts the images into the first registry: one, and ten that share it and have a layer of a megabyte more.
fn prepare(engine: &Engine, registries: &mut Registries) -> Result<(), String> {
    let base = registries.source.name("image");
    engine.docker(&["import", &registries.rootfs, &base])?;
    engine.docker(&["push", "-q", &base])?;
    for n in 0..MANY {
        let name = registries.source.name(&format!("many:{n}"));
        engine.quietly(&["rm", "-f", "transfers"]);
        let script = format!("head -c 1000000 /dev/urandom >/{n}");
        engine.docker(&["run", "--name", "transfers", "--net=none", &base, "sh", "-c", &script])?;
        engine.docker(&["commit", "transfers", &name])?;
        engine.docker(&["push", "-q", &name])?;
    }
    engine.quietly(&["rm", "-f", "transfers"]);
    Ok(())
}

/// Measures and prints a table.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("gantry-transfers-{}", std::process::id()));
    let result = measure(options, &folder);
    let _ = std::fs::remove_dir_all(&folder);
    result
}

fn measure(options: &Options, folder: &Path) -> Result<(), String> {
    let engine = |host: &str, name: &str| {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).map_err(|error| format!("creating {}: {error}", folder.display()))?;
        Ok::<_, String>(Engine { host: host.to_owned(), folder })
    };
    let engines = [engine(&options.ours, "ours")?, engine(&options.peer, "peer")?];
    let [source, target] = PORTS.map(|port| Registry::new(port, folder));
    let rootfs = options.rootfs.display().to_string();
    let mut registries = Registries { source: source?, target: target?, rootfs };
    prepare(&engines[0], &mut registries)?;
    println!("| row | {} | {} | share |\n|---|---|---|---|", options.ours, options.peer);
    for (name, before, timed) in ROWS.iter().filter(|(name, ..)| name.contains(&options.only)) {
        let mut times = [Vec::new(), Vec::new()];
        // The first round warms the caches and does not count.
        for round in 0..=options.rounds {
            for turn in [round % 2, 1 - round % 2] {
                let engine = &engines[turn];
                before(engine, &mut registries, round)?;
                let start = Instant::now();
                timed(engine, &mut registries, round)?;
                if round > 0 {
                    times[turn].push(start.elapsed().as_secs_f64() * 1000.0);
                }
            }
        }
        let [ours, peer] = times.map(median);
        println!("| {name} | {ours:.0} ms | {peer:.0} ms | {:.2} |", ours / peer);
    }
    for engine in &engines {
        remove(engine, &mut registries, 0)?;
    }
    Ok(())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}
