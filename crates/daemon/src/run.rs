//! The life of the daemon's process: settings, sockets, engine, ready, until a signal ends it.

use engine::{DiskBudget, Engine, EngineConfig};
use futures_util::future::select_all;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::listen::{self, ListenError, Listener};
use crate::pidfile::{Pidfile, PidfileError};
use crate::server::Server;
use crate::settings::{self, Settings, SettingsError};
use crate::{notify, options, rest};

/// Threads that wait for the kernel are many for a moment and then not needed.
const BLOCKING_THREADS: usize = 128;
/// How long such a thread stays for the next piece of work.
const BLOCKING_KEEP_ALIVE: Duration = Duration::from_secs(2);
/// What the process exits with when its flags are wrong: dockerd's code.
const USAGE: u8 = 125;

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
enum DaemonError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("gantry daemon needs to be started with root privileges")]
    NotRoot,
    #[error(transparent)]
    Pidfile(#[from] PidfileError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("failed to start daemon: {0}")]
    Engine(#[from] engine::Error),
    #[error("failed to start daemon: {0}")]
    System(#[from] std::io::Error),
}

/// The command `gantry daemon`: `arguments` begin with the program's name. Returns when the engine was told to stop.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let matches = match options::command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) if error.use_stderr() => {
            eprintln!("{}", usage(&error));
            return ExitCode::from(USAGE);
        }
        Err(help) => {
            // Help and version; a closed pipe behind them is no failure.
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    match daemon(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// clap's error in the words of Docker's programs.
fn usage(error: &clap::Error) -> String {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let what = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(flag))) if flag.starts_with('-') => {
            format!("unknown flag: {flag}")
        }
        (ErrorKind::UnknownArgument, Some(ContextValue::String(word))) => {
            format!("\"gantry daemon\" accepts no arguments: {word:?}")
        }
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    };
    format!("{what}\nSee 'gantry daemon --help'.")
}

fn daemon(matches: &clap::ArgMatches) -> Result<(), DaemonError> {
    let settings = settings::load(matches)?;
    if matches.get_flag(options::VALIDATE) {
        println!("configuration OK");
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        return Err(DaemonError::NotRoot);
    }
    log_to_stderr(&settings);
    sys::process::limit_heaps(2);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_KEEP_ALIVE)
        .thread_name("gantry")
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(serve(&settings));
    // What still blocks then (a client that does not read, a dead disk) does not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(200));
    outcome
}

fn log_to_stderr(settings: &Settings) {
    use tracing_subscriber::EnvFilter;
    let level = match settings.log_level.as_str() {
        _ if settings.debug => "debug",
        "fatal" => "error",
        level => level,
    };
    // Dependencies only speak up when something is wrong.
    let filter = EnvFilter::new(format!(
        "warn,daemon={level},engine={level},registry={level},store={level},network={level},shim={level}"
    ));
    // A second engine in one process (tests) keeps the first one's log.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
}

async fn serve(settings: &Settings) -> Result<(), DaemonError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let _pidfile = Pidfile::take(&settings.pidfile)?;
    let listeners = listen::open(settings).await?;
    let config = engine_config(settings);
    let version = config.version.clone();
    let engine = Engine::start(config).await?;
    let server = Arc::new(Server::new(Arc::clone(&engine), &version));
    let (stop, stopping) = watch::channel(false);
    // Every connection holds a sender; when the last one is gone, all are served.
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    notify::ready();
    tracing::info!("serving the Engine API");
    tokio::select! {
        () = accept(&listeners, &server, &stopping, &alive) => {}
        () = rest::trim(Arc::clone(&server.ended)) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    notify::stopping();
    tracing::info!("stopping; containers go on running");
    let _ = stop.send(true);
    drop((listeners, alive));
    let grace = Duration::from_secs(u64::try_from(settings.shutdown_timeout).unwrap_or(u64::MAX).min(3600));
    // Streams (events, logs -f, attach) have no end of their own: requests in hand get a moment, a second signal cuts it.
    tokio::select! {
        _ = all_gone.recv() => {}
        () = tokio::time::sleep(grace.min(STREAMS_GRACE)) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    engine.shutdown().await;
    Ok(())
}

/// How long connections may go on after the engine was told to stop.
const STREAMS_GRACE: Duration = Duration::from_secs(2);

/// Accepts connections on all sockets, each served by a task of its own, for as long as it is polled.
async fn accept(
    listeners: &[Listener],
    server: &Arc<Server>,
    stopping: &watch::Receiver<bool>,
    alive: &mpsc::Sender<()>,
) {
    loop {
        let next = select_all(listeners.iter().map(|listener| Box::pin(listener.accept())));
        match next.await.0 {
            Ok(incoming) => {
                let (server, stopping, alive) = (Arc::clone(server), stopping.clone(), alive.clone());
                tokio::spawn(async move {
                    match incoming.establish().await {
                        Ok(connection) => Arc::clone(&server).serve(connection, stopping).await,
                        Err(error) => tracing::debug!(%error, "handshake failed"),
                    }
                    server.ended.notify_one();
                    drop(alive);
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

fn engine_config(settings: &Settings) -> EngineConfig {
    let default = EngineConfig::default();
    let settings = settings.clone();
    let ulimits = settings.default_ulimits.into_iter();
    let percent = |value: i64| u8::try_from(value).unwrap_or(100);
    let disk_budget = u64::try_from(settings.disk_budget).ok().filter(|limit| *limit > 0).map(|limit| DiskBudget {
        limit,
        high_percent: percent(settings.disk_budget_high),
        low_percent: percent(settings.disk_budget_low),
    });
    EngineConfig {
        data_root: settings.data_root,
        exec_root: settings.exec_root,
        bridge_name: settings.bridge_name.unwrap_or(default.bridge_name),
        bip: settings.bip,
        mtu: settings.mtu,
        fixed_cidr: settings.fixed_cidr,
        default_gateway: settings.default_gateway,
        default_host_ip: settings.ip,
        inter_container: settings.icc,
        masquerade: settings.ip_masq,
        ip_forward: settings.ip_forward,
        insecure_registries: settings.insecure_registries,
        registry_mirrors: settings.registry_mirrors,
        dns: settings.dns,
        dns_options: settings.dns_opts,
        dns_search: settings.dns_search,
        log_driver: settings.log_driver,
        log_options: settings.log_opts,
        labels: settings.labels,
        cgroup_parent: settings.cgroup_parent,
        default_shm_size_bytes: settings.default_shm_size.unwrap_or(default.default_shm_size_bytes),
        default_ulimits: ulimits.map(|(name, limit)| (name, (limit.soft, limit.hard))).collect(),
        init: settings.init,
        seccomp_profile: settings.seccomp_profile,
        no_new_privileges: settings.no_new_privileges,
        default_cgroupns_mode: settings.default_cgroupns_mode,
        shutdown_timeout_s: settings.shutdown_timeout,
        debug: settings.debug,
        max_concurrent_downloads: settings.max_concurrent_downloads,
        max_concurrent_uploads: settings.max_concurrent_uploads,
        disk_budget,
        storage_driver: settings.storage_driver.as_deref().and_then(engine::storage_driver),
        max_connections_per_host: settings.max_connections_per_host,
        policy_file: settings.policy_file,
        program: default.program,
        version: default.version,
    }
}
