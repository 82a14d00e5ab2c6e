//! The life of the process: settings, storage, sockets, until a signal ends it.

use futures_util::future::select_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::access::Access;
use crate::engine::EngineStore;
use crate::gc::{self, Wish};
use crate::htpasswd::Users;
use crate::log::AccessLog;
use crate::options::{self, OptionError, Values};
use crate::server::Server;
use crate::settings::Settings;
use crate::storage::{Objects, PlaceError, Storage, StorageError};
use crate::tls::Tls;
use crate::tokens::Tokens;

/// Threads that wait for disks.
const BLOCKING_THREADS: usize = 64;
/// How long such a thread stays for the next piece of work.
const BLOCKING_KEEP_ALIVE: Duration = Duration::from_secs(2);
/// What requests in hand get when the process is told to stop.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// What the process exits with when its flags are wrong.
const USAGE: u8 = 125;

/// Why the registry ended.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Options(#[from] OptionError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("storage: {0}")]
    Storage(#[from] StorageError),
    #[error("access log {0}: {1}")]
    AccessLog(String, io::Error),
    #[error("listening on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    #[error("users: {0}")]
    Users(String),
    #[error("tokens: {0}")]
    Tokens(String),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("{0}")]
    Engine(String),
    #[error("starting: {0}")]
    System(#[from] io::Error),
}

/// The command `gantry registry`: `arguments` begin with the program's name. Returns when the registry was told to stop.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let matches = match options::command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) if error.use_stderr() => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            eprintln!("{line}\nSee 'gantry registry serve --help'.");
            return ExitCode::from(USAGE);
        }
        Err(help) => {
            // Help and version; a closed pipe behind them is no failure.
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    let outcome = match matches.subcommand() {
        Some(("serve", matches)) => start(matches, run),
        Some(("gc", matches)) => start(matches, collect),
        _ => Ok(()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gantry registry: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one of the two, with what both need.
fn start<F>(matches: &clap::ArgMatches, life: impl FnOnce(Settings) -> F) -> Result<(), RunError>
where
    F: Future<Output = Result<(), RunError>>,
{
    let settings = Settings::read(&Values::read(matches)?)?;
    log_to_stderr(&settings);
    // Clients of object storage find it here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_KEEP_ALIVE)
        .thread_name("registry")
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(life(settings));
    // What still blocks then (a dead disk) does not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(200));
    outcome
}

fn log_to_stderr(settings: &Settings) {
    use tracing_subscriber::EnvFilter;
    // Dependencies only speak up when something is wrong.
    let filter = EnvFilter::new(format!("warn,registry_server={}", settings.log_level));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).try_init();
}

/// The life of `gantry registry gc`.
async fn collect(settings: Settings) -> Result<(), RunError> {
    let objects = Objects::open(&settings.storage, &settings.storage_options)?;
    let storage = Storage::open(objects, settings.times, true).await?;
    let wish = Wish { untagged: settings.gc_untagged, unused: None };
    println!("{}", gc::collect(&storage, wish).await?);
    Ok(())
}

/// The life of `gantry registry serve`.
async fn run(settings: Settings) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (access, tls) = gates(&settings)?;
    let log = AccessLog::open(&settings.access_log)
        .map_err(|error| RunError::AccessLog(settings.access_log.clone(), error))?;
    let engine = match settings.engine.clone() {
        Some(socket) => Some(Arc::new(EngineStore::open(socket).await.map_err(RunError::Engine)?)),
        None => None,
    };
    let (place, objects) = match &engine {
        Some(engine) => (format!("the images of the engine at {}", engine.socket().display()), Objects::nothing()),
        None => (settings.storage.clone(), Objects::open(&settings.storage, &settings.storage_options)?),
    };
    let storage = Arc::new(Storage::open(objects, settings.times, !settings.read_only).await?);
    if let Some(cache) = settings.cache.as_ref().filter(|cache| cache.expiry < storage.times.grace) {
        let reason = format!("nothing is removed before the grace of {:?} is over", storage.times.grace);
        return Err(options::bad("pull-through-expiry", &format!("{:?}", cache.expiry), reason).into());
    }
    allow_all_files();
    let mut listeners = Vec::new();
    for address in &settings.listen {
        let listener = TcpListener::bind(address).await.map_err(|error| RunError::Listen(*address, error))?;
        // Tests and scripts read this line: the port may have been chosen by the system.
        tracing::info!("serving {place} on {}", listener.local_addr()?);
        listeners.push(listener);
    }
    let server = Arc::new(Server::new(settings, storage, log, access, tls, engine));
    let (stop, stopping) = watch::channel(false);
    // Every connection holds a sender; when the last one is gone, all are served.
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    {
        // Ends with this block.
        let mut collecting = std::pin::pin!(collect_for_ever(&server));
        let mut accepting = std::pin::pin!(accept(&listeners, &server, &stopping, &alive));
        loop {
            tokio::select! {
                () = &mut accepting => break,
                () = &mut collecting => {}
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => server.reload().await,
            }
        }
    }
    tracing::info!("stopping");
    let _ = stop.send(true);
    drop((listeners, alive));
    tokio::select! {
        _ = all_gone.recv() => {}
        () = tokio::time::sleep(STOP_GRACE) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Connections and blobs are files. What a process may have open when nobody says is meant for programs that still use
/// `select`; the hard limit is the one that the administrator means.
fn allow_all_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "files are limited to {:?}", limit.current);
    }
}

/// Collects garbage at the start and then again and again. Never ends.
async fn collect_for_ever(server: &Server) {
    let interval = server.settings.gc_interval;
    if interval.is_zero() || server.settings.read_only || server.engine.is_some() {
        return std::future::pending().await;
    }
    let unused = server.cache.as_ref().map(|cache| cache.expiry());
    let wish = Wish { untagged: server.settings.gc_untagged, unused };
    loop {
        match gc::collect(&server.storage, wish).await {
            Ok(report) => {
                server.metrics.gc_removed.inc_by(report.removed());
                server.metrics.gc_freed.inc_by(report.bytes);
                if report.removed() > 0 {
                    tracing::info!("garbage collection: {report}");
                }
            }
            Err(error) => tracing::error!("garbage collection: {error}"),
        }
        tokio::time::sleep(interval).await;
    }
}

/// Who may come in, and how.
fn gates(settings: &Settings) -> Result<(Access, Option<Tls>), RunError> {
    let users = settings.htpasswd.clone().map(Users::open).transpose().map_err(RunError::Users)?;
    let tokens = settings.tokens.as_ref().map(Tokens::open).transpose().map_err(RunError::Tokens)?;
    let tls = settings.tls.clone().map(|(certificate, key)| Tls::open(certificate, key)).transpose();
    let tls = tls.map_err(RunError::Tls)?;
    Ok((Access { users, tokens, rules: settings.rules.clone(), tls: tls.is_some() }, tls))
}

/// Sets a connection up. None of it is needed for it to work.
fn prepare(socket: &TcpStream, remote: SocketAddr) {
    let _ = socket.set_nodelay(true);
    // What stays on this host meets no congestion. Where connections are paced by default (BBR), the timers of that would
    // take most of a transfer's time.
    if remote.ip().is_loopback() || socket.local_addr().is_ok_and(|local| local.ip() == remote.ip()) {
        let _ = rustix::net::sockopt::set_tcp_congestion(socket, "reno");
    }
}

/// Accepts connections on all sockets, each served by a task of its own, for as long as it is polled.
async fn accept(
    listeners: &[TcpListener],
    server: &Arc<Server>,
    stopping: &watch::Receiver<bool>,
    alive: &mpsc::Sender<()>,
) {
    let places = Arc::new(Semaphore::new(server.settings.max_connections));
    // Further connections wait in the kernel's queue.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let next = select_all(listeners.iter().map(|listener| Box::pin(listener.accept())));
        match next.await.0 {
            Ok((socket, remote)) => {
                let (server, stopping, alive) = (Arc::clone(server), stopping.clone(), alive.clone());
                prepare(&socket, remote);
                tokio::spawn(async move {
                    server.serve(socket, remote, stopping).await;
                    drop((place, alive));
                });
            }
            // Out of descriptors: those who connected wait in the queue meanwhile.
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
