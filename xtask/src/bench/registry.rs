//! The registry beside the reference registry, in one run: the rows that `docs/performance.md` publishes. Fails when the
//! registry does not have what is required of it: [`THROUGHPUT`] and [`MEMORY`].
//!
//! Both serve the same blobs from directories on the same disk, without TLS, to the same clients: threads that ask for one
//! blob after the other on a connection of their own and let the kernel throw the bytes away (`MSG_TRUNC`). Half of the
//! processors belong to the registries and half to the clients, so that it is the registries that are measured. The two
//! take turns within a round; a cell is the median of the rounds. Memory is the most that the server's process ever had (`VmHWM`), read at the end.
//!
//! A host that paces its connections (BBR) or has firewall rules spends most of a transfer on those, also on loopback. In a
//! network namespace of their own, neither is there:
//!
//! ```sh
//! unshare --net sh -c 'ip link set lo up; sysctl -q -w net.ipv4.tcp_congestion_control=reno; exec "$@"' in \
//!     cargo xtask bench-registry --ours 'target/x86_64-unknown-linux-gnu/release/gantry registry'
//! ```

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The registry that is measured: a program and its first arguments
    #[arg(long, default_value = "gantry registry")]
    ours: String,
    /// The reference registry
    #[arg(long, default_value = "docker-registry")]
    peer: String,
    /// Clients at once
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// How often each registry has its turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of a turn
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Where the registries keep their blobs
    #[arg(long, default_value = "/var/tmp")]
    folder: PathBuf,
}

/// Bytes that the kernel keeps for a client.
const RECEIVE_BUFFER: usize = 512 << 10;

/// Blobs of one size.
struct Blobs {
    name: &'static str,
    bytes: usize,
    count: u64,
}

const SIZES: [Blobs; 2] =
    [Blobs { name: "1 MB", bytes: 1_000_000, count: 64 }, Blobs { name: "100 MB", bytes: 100_000_000, count: 4 }];

/// A registry under measurement.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn spawn(mut command: Command, port: u16) -> Result<Self, String> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Self { child: child.map_err(|error| format!("cannot run {command:?}: {error}"))?, port };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                return Err(format!("{command:?} does not listen"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    fn ours(words: &str, folder: &Path) -> Result<Self, String> {
        let port = free_port()?;
        let mut words = words.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args([
            "serve",
            "--access-log",
            "none",
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--storage",
        ]);
        command.arg(folder.join("ours"));
        Self::spawn(command, port)
    }

    fn peer(program: &str, folder: &Path) -> Result<Self, String> {
        let port = free_port()?;
        let config = folder.join("peer.yml");
        let root = folder.join("peer");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            root.display()
        );
        std::fs::write(&config, text).map_err(|error| format!("cannot write {}: {error}", config.display()))?;
        let mut command = Command::new(program);
        command.arg("serve").arg(&config).env("OTEL_TRACES_EXPORTER", "none");
        Self::spawn(command, port)
    }

    /// Processor time that the process has used, in seconds.
    fn seconds(&self) -> Result<f64, String> {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
        // After the name, which may have blanks: state is the 3rd field, utime the 14th, stime the 15th (proc_pid_stat(5)).
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks: f64 = fields.get(11..13).into_iter().flatten().filter_map(|field| field.parse::<f64>().ok()).sum();
        Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
    }

    /// The most memory that the process had, in KiB.
    fn peak_kib(&self) -> Result<f64, String> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).ok_or(format!("{path} says no VmHWM"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| format!("no port: {error}"))
}

/// What pulls must reach at least, in times of the reference's throughput.
const THROUGHPUT: f64 = 3.0;
/// What memory may be at most, in times of the reference's.
const MEMORY: f64 = 1.0 / 3.0;

/// Measures and prints a table. Fails when a row is not as it must be.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let folder = Folder::new(&options.folder)?;
    let halves = Halves::of_this_machine()?;
    halves.take(&halves.servers)?;
    let servers = [Server::ours(&options.ours, &folder.0)?, Server::peer(&options.peer, &folder.0)?];
    halves.take(&halves.clients)?;
    println!("| row | {} | {} | times |\n|---|---|---|---|", options.ours, options.peer);
    let mut missed = Vec::new();
    for blobs in &SIZES {
        let mut pushed = [0.0; 2];
        let mut paths = Vec::new();
        for (server, seconds) in servers.iter().zip(&mut pushed) {
            let started = Instant::now();
            paths = push(server.port, blobs)?;
            *seconds = (blobs.bytes as f64) * (blobs.count as f64) / 1e6 / started.elapsed().as_secs_f64();
        }
        line(&format!("push {}, 1 client", blobs.name), pushed, "MB/s");
        let (mut rates, mut costs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for round in 0..options.rounds {
            for which in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let spent = servers[which].seconds()?;
                let (rate, bytes) = pull(servers[which].port, &paths, options)?;
                rates[which].push(rate);
                costs[which].push((servers[which].seconds()? - spent) / bytes * 1e9);
            }
        }
        let row = format!("pull {}, {} clients", blobs.name, options.clients);
        let times = line(&row, rates.map(median), "MB/s");
        // What is no number (nothing came) is not enough either.
        if !times.is_some_and(|times| times >= THROUGHPUT) {
            missed.push(format!("{row}: less than {THROUGHPUT} times"));
        }
        line(&format!("processor time of that, {}", blobs.name), costs.map(median), "s/GB");
    }
    let times = line("most memory", [servers[0].peak_kib()? / 1024.0, servers[1].peak_kib()? / 1024.0], "MiB");
    if !times.is_some_and(|times| times <= MEMORY) {
        missed.push(format!("most memory: more than {MEMORY:.2} times"));
    }
    if missed.is_empty() { Ok(()) } else { Err(missed.join("\n")) }
}

/// Prints a row; returns how many times the reference's is ours, when both are something.
fn line(name: &str, [ours, peer]: [f64; 2], unit: &str) -> Option<f64> {
    println!("| {name} | {ours:.2} {unit} | {peer:.2} {unit} | {:.2} |", ours / peer);
    (ours > 0.0 && peer > 0.0).then_some(ours / peer)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Which processors are whose.
struct Halves {
    servers: CpuSet,
    clients: CpuSet,
}

impl Halves {
    fn of_this_machine() -> Result<Self, String> {
        let all = sched_getaffinity(None).map_err(|error| format!("cannot ask for processors: {error}"))?;
        let ours: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).collect();
        if ours.len() < 2 {
            return Err("registries and clients need a processor each".into());
        }
        let (mut servers, mut clients) = (CpuSet::new(), CpuSet::new());
        let (first, second) = ours.split_at(ours.len() / 2);
        first.iter().for_each(|cpu| servers.set(*cpu));
        second.iter().for_each(|cpu| clients.set(*cpu));
        Ok(Self { servers, clients })
    }

    /// From now on this thread, and whatever it starts, runs on these.
    fn take(&self, cpus: &CpuSet) -> Result<(), String> {
        sched_setaffinity(None, cpus).map_err(|error| format!("cannot choose processors: {error}"))
    }
}

/// Removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(below: &Path) -> Result<Self, String> {
        let path = below.join(format!("gantry-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Pushes blobs as docker does, one after the other; returns their paths.
fn push(port: u16, blobs: &Blobs) -> Result<Vec<String>, String> {
    let mut connection = Connection::open(port)?;
    let mut paths = Vec::new();
    for seed in 0..blobs.count {
        let bytes = noise(seed * 1000 + blobs.bytes as u64, blobs.bytes);
        let digest = oci::Digest::of(&bytes);
        let place = connection.send("POST", "/v2/bench/blobs/uploads/", b"", 202)?;
        let place = connection.send("PATCH", &place, &bytes, 202)?;
        let and = if place.contains('?') { '&' } else { '?' };
        connection.send("PUT", &format!("{place}{and}digest={digest}"), b"", 201)?;
        paths.push(format!("/v2/bench/blobs/{digest}"));
    }
    Ok(paths)
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

/// Megabytes a second that all clients together get, and the bytes.
fn pull(port: u16, paths: &[String], options: &Options) -> Result<(f64, f64), String> {
    let (received, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let started = Instant::now();
    let outcome: Result<(), String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..options.clients)
            .map(|client| {
                let (received, over) = (&received, &over);
                scope.spawn(move || {
                    let mut connection = Connection::open(port)?;
                    let mut nothing = vec![0; 1 << 20];
                    for path in paths.iter().cycle().skip(client) {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        connection.discard(path, &mut nothing, received, over)?;
                    }
                    Ok(())
                })
            })
            .collect();
        std::thread::sleep(Duration::from_secs(options.seconds));
        over.store(true, Ordering::Relaxed);
        // What counts is what came by now, also of blobs that are on their way.
        clients.into_iter().try_for_each(|client| client.join().map_err(|_| "a client failed".to_owned())?)
    });
    outcome?;
    let seconds = started.elapsed().as_secs_f64();
    let bytes = received.load(Ordering::Relaxed) as f64;
    Ok((bytes / 1e6 / seconds, bytes))
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(port: u16) -> Result<Self, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| format!("cannot connect: {error}"))?;
        // What a client that reads at once needs. The kernel would let megabytes pile up for each, beyond every cache.
        rustix::net::sockopt::set_socket_recv_buffer_size(&stream, RECEIVE_BUFFER)
            .map_err(|error| format!("cannot set the receive buffer: {error}"))?;
        // A head is small; what comes after it stays with the kernel.
        Ok(Self(BufReader::with_capacity(512, stream)))
    }

    /// Sends a request with a body; returns the location that is answered.
    fn send(&mut self, method: &str, path: &str, body: &[u8], status: u16) -> Result<String, String> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let failed = |error: std::io::Error| format!("{method} {path}: {error}");
        self.0.get_mut().write_all(head.as_bytes()).map_err(failed)?;
        self.0.get_mut().write_all(body).map_err(failed)?;
        let (found, length, location) = self.head().map_err(failed)?;
        let mut rest = vec![0; usize::try_from(length).unwrap_or_default()];
        self.0.read_exact(&mut rest).map_err(failed)?;
        if found != status {
            return Err(format!("{method} {path}: {found} {}", String::from_utf8_lossy(&rest)));
        }
        // One registry answers whole URLs.
        let at = location.find("/v2/").unwrap_or(0);
        Ok(location[at..].to_owned())
    }

    fn head(&mut self) -> std::io::Result<(u16, u64, String)> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let (mut length, mut location) = (0, String::new());
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap_or(0),
                "location" => value.clone_into(&mut location),
                _ => {}
            }
        }
        Ok((status, length, location))
    }

    /// Gets a blob and lets the kernel throw it away.
    fn discard(
        &mut self,
        path: &str,
        nothing: &mut [u8],
        received: &AtomicU64,
        over: &AtomicBool,
    ) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("GET {path}: {error}");
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).map_err(failed)?;
        let (status, length, _) = self.head().map_err(failed)?;
        if status != 200 {
            return Err(format!("GET {path}: {status}"));
        }
        let buffered = self.0.buffer().len();
        self.0.consume(buffered);
        let mut left = length.saturating_sub(buffered as u64);
        received.fetch_add(buffered as u64, Ordering::Relaxed);
        while left > 0 && !over.load(Ordering::Relaxed) {
            let most = nothing.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            // Woken once for many packets.
            let flags = rustix::net::RecvFlags::TRUNC | rustix::net::RecvFlags::WAITALL;
            let (_, count) = rustix::net::recv(self.0.get_ref(), &mut nothing[..most], flags)
                .map_err(|error| failed(error.into()))?;
            if count == 0 {
                return Err(format!("GET {path}: ended {left} bytes early"));
            }
            left -= count as u64;
            received.fetch_add(count as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}
