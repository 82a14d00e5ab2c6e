//! Health checks: a probe that runs in the container now and then, and what its results say of the container.
//!
//! The prober is a task of its own; it reports to the container's actor, which alone changes the record.

use std::time::Duration;

use api::container::{Config, Health, HealthConfig, HealthcheckResult};
use api::exec::CreateRequest;
use jiff::Timestamp;
use shim::protocol::Attach;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout};

use crate::container::Container;
use crate::container::actor::{Actor, Request};
use crate::container::record::Record;
use crate::container::transitions::Status;
use crate::engine::Engine;
use std::sync::{Arc, Weak};

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: i64 = 3;
/// Results that are kept.
const MAX_LOG: usize = 5;
/// Bytes of a probe's output that are kept.
const MAX_OUTPUT: usize = 4096;

/// What to run, if there is a check at all.
fn probe(config: &Config) -> Option<(Vec<String>, &HealthConfig)> {
    let check = config.healthcheck.as_ref()?;
    let (kind, words) = check.test.as_ref()?.split_first()?;
    let command = match kind.as_str() {
        "CMD" => words.to_vec(),
        "CMD-SHELL" => {
            let shell = config.shell.clone().filter(|s| !s.is_empty());
            let mut command = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
            command.extend(words.iter().cloned());
            command
        }
        _ => return None,
    };
    (!command.is_empty()).then_some((command, check))
}

fn or(nanoseconds: i64, default: Duration) -> Duration {
    match u64::try_from(nanoseconds) {
        Ok(given) if given > 0 => Duration::from_nanos(given),
        _ => default,
    }
}

impl Actor {
    /// A process was started: its health is not known yet.
    pub(crate) fn begin_health(&mut self) {
        let has_check = probe(&self.record.config).is_some();
        self.record.state.health =
            has_check.then(|| Health { status: "starting".to_owned(), log: Some(Vec::new()), ..Health::default() });
    }

    /// Starts the prober of the process that runs.
    pub(crate) fn watch_health(&mut self) {
        if let Some(task) = self.health.take() {
            task.abort();
        }
        if self.record.state.health.is_none() {
            self.begin_health();
        }
        let Some(started) = self.record.state.started_at else { return };
        if probe(&self.record.config).is_some() {
            let prober = prober(self.engine.clone(), self.handle.clone(), started);
            self.health = Some(tokio::spawn(prober));
        }
    }

    pub(crate) fn stop_health(&mut self) {
        if let Some(task) = self.health.take() {
            task.abort();
            // What is not watched is not called healthy: dockerd's rule.
            if let Some(health) = &mut self.record.state.health {
                "unhealthy".clone_into(&mut health.status);
            }
        }
    }

    /// A probe has a result.
    pub(crate) async fn on_probed(&mut self, started: Timestamp, result: HealthcheckResult) {
        // From the prober of a process that has ended since.
        if self.record.state.started_at != Some(started) || !self.record.state.status.has_process() {
            return;
        }
        let Some((_, check)) = probe(&self.record.config) else { return };
        let check = check.clone();
        let health = self.record.state.health.get_or_insert_default();
        let before = health.status.clone();
        judge(health, &check, started, result);
        let now = health.status.clone();
        self.show();
        if now != before {
            self.event(&format!("health_status: {now}"), &[]);
        }
    }
}

/// Enters a result and decides the status.
fn judge(health: &mut Health, check: &HealthConfig, started: Timestamp, result: HealthcheckResult) {
    let failed = result.exit_code != 0;
    let at = api::time::parse(&result.start).unwrap_or(started);
    let log = health.log.get_or_insert_default();
    if log.len() >= MAX_LOG {
        log.drain(..=log.len() - MAX_LOG);
    }
    log.push(result);
    if !failed {
        health.failing_streak = 0;
        "healthy".clone_into(&mut health.status);
        return;
    }
    // In the start period failures do not count, until the first success.
    let period = or(check.start_period, Duration::ZERO);
    let age = Duration::try_from(at.duration_since(started)).unwrap_or_default();
    if health.status == "starting" && age < period {
        return;
    }
    health.failing_streak += 1;
    if health.failing_streak >= if check.retries > 0 { check.retries } else { RETRIES } {
        "unhealthy".clone_into(&mut health.status);
    }
}

/// Probes until it is aborted, or the engine or the container is gone.
async fn prober(engine: Weak<Engine>, container: Container, started: Timestamp) {
    let begun = Instant::now();
    loop {
        let record = container.record();
        let Some((command, check)) = probe(&record.config) else { return };
        let starting = record.state.health.as_ref().is_none_or(|h| h.status == "starting");
        let in_start_period = begun.elapsed() < or(check.start_period, Duration::ZERO);
        let pause = if starting && in_start_period {
            or(check.start_interval, START_INTERVAL)
        } else {
            or(check.interval, INTERVAL)
        };
        tokio::time::sleep(pause).await;
        let Some(engine) = engine.upgrade() else { return };
        // A frozen container is neither well nor ill.
        if container.record().state.status != Status::Running {
            continue;
        }
        let result = run(&engine, &container.record(), command.clone(), or(check.timeout, TIMEOUT)).await;
        if container.tell(Request::Probed { started, result }).await.is_err() {
            return;
        }
    }
}

/// Runs the probe once.
async fn run(engine: &Arc<Engine>, record: &Record, command: Vec<String>, limit: Duration) -> HealthcheckResult {
    let start = api::time::now();
    let done = |exit_code: i64, output: String| HealthcheckResult {
        start: start.clone(),
        end: api::time::now(),
        exit_code,
        output,
    };
    let request =
        CreateRequest { cmd: Some(command), attach_stdout: true, attach_stderr: true, ..CreateRequest::default() };
    let exec = match engine.register_exec(record, request) {
        Ok(exec) => exec,
        Err(error) => return done(-1, error.message().to_owned()),
    };
    let streams = Attach { stdin: false, stdout: true, stderr: true };
    // What a quick probe wrote may have come with the answer already.
    let (early, connection) = match engine.launch_exec(&exec, streams, None).await {
        Ok(connected) => connected,
        Err(error) => return done(-1, error.message().to_owned()),
    };
    let mut output = Vec::new();
    let probing = async {
        if connection.set_nonblocking(true).is_ok()
            && let Ok(stream) = tokio::net::UnixStream::from_std(connection)
        {
            collect(&mut early.as_slice().chain(stream), &mut output).await;
        }
        exec.ended().await
    };
    let code = timeout(limit, probing).await;
    let text = String::from_utf8_lossy(&output).into_owned();
    match code {
        Ok(code) => done(code, text),
        Err(_) => {
            if let Ok(container) = engine.container(&record.id) {
                let monitor = crate::container::monitor::Monitor::new(container.directories());
                let _ = monitor.signal_exec(&exec.id, crate::container::signal::KILL).await;
            }
            let seconds = limit.as_secs_f64();
            let colon = if text.is_empty() { String::new() } else { format!(": {text}") };
            done(-1, format!("Health check exceeded timeout ({seconds}s){colon}"))
        }
    }
}

/// Reads the frames of a multiplexed stream and keeps the beginning of what they carry.
async fn collect(stream: &mut (impl AsyncRead + Unpin), output: &mut Vec<u8>) {
    let mut header = [0u8; 8];
    while stream.read_exact(&mut header).await.is_ok() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let mut frame = stream.take(u64::from(length));
        let mut payload = Vec::new();
        if frame.read_to_end(&mut payload).await.is_err() {
            return;
        }
        let room = MAX_OUTPUT.saturating_sub(output.len());
        output.extend_from_slice(&payload[..payload.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(exit_code: i64, start: Timestamp) -> HealthcheckResult {
        HealthcheckResult { start: api::time::rfc3339(start), end: String::new(), exit_code, output: String::new() }
    }

    #[test]
    fn failures_count_after_the_start_period() {
        let started = Timestamp::from_second(1000).unwrap();
        let at = |seconds: i64| Timestamp::from_second(1000 + seconds).unwrap();
        let check = HealthConfig { start_period: 10_000_000_000, retries: 2, ..HealthConfig::default() };
        let mut health = Health { status: "starting".into(), ..Health::default() };
        judge(&mut health, &check, started, result(1, at(5)));
        assert_eq!((health.status.as_str(), health.failing_streak), ("starting", 0));
        judge(&mut health, &check, started, result(1, at(11)));
        judge(&mut health, &check, started, result(1, at(12)));
        assert_eq!((health.status.as_str(), health.failing_streak), ("unhealthy", 2));
        for second in 13..20 {
            judge(&mut health, &check, started, result(0, at(second)));
        }
        assert_eq!((health.status.as_str(), health.failing_streak), ("healthy", 0));
        assert_eq!(health.log.as_ref().unwrap().len(), MAX_LOG);
    }

    #[test]
    fn probes_are_commands() {
        let config = |test: &[&str]| Config {
            healthcheck: Some(HealthConfig {
                test: Some(test.iter().map(|s| (*s).to_owned()).collect()),
                ..HealthConfig::default()
            }),
            ..Config::default()
        };
        assert_eq!(probe(&config(&["CMD-SHELL", "true"])).unwrap().0, ["/bin/sh", "-c", "true"]);
        assert_eq!(probe(&config(&["CMD", "a", "b"])).unwrap().0, ["a", "b"]);
        assert!(probe(&config(&["NONE"])).is_none() && probe(&config(&[])).is_none());
    }
}
