//! Restart policies: whether a container that ended is started again, and after how long.
//!
//! The delay doubles from 100 ms to a minute; a run of ten seconds or more sets it back. Numbers as dockerd's.

use std::time::Duration;

use crate::container::record::Record;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
const LONG_RUN: Duration = Duration::from_secs(10);

/// What comes after the end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Start again after this time.
    Restart(Duration),
    /// Leave it.
    Stay,
}

/// How long the next restart waits.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BackOff {
    delay: Duration,
    failures: i64,
}

impl BackOff {
    /// Decides after a run of this length.
    pub(crate) fn decide(&mut self, record: &Record, ran: Duration) -> Decision {
        let code = record.state.exit_code;
        self.failures = if code == 0 { 0 } else { self.failures + 1 };
        if record.stopped_by_user {
            return Decision::Stay;
        }
        let policy = &record.host_config.restart_policy;
        let again = match policy.name.as_str() {
            "always" | "unless-stopped" => true,
            "on-failure" => {
                let limit = policy.maximum_retry_count;
                code != 0 && (limit == 0 || self.failures <= limit)
            }
            _ => false,
        };
        if !again {
            return Decision::Stay;
        }
        self.delay = if ran >= LONG_RUN || self.delay.is_zero() { FIRST } else { (self.delay * 2).min(LONGEST) };
        Decision::Restart(self.delay)
    }
}

/// Whether a container that does not run is started with the engine, as Docker does after a boot.
pub(crate) fn wanted_at_boot(record: &Record) -> bool {
    match record.host_config.restart_policy.name.as_str() {
        "always" => record.started_before,
        "unless-stopped" => record.started_before && !record.stopped_by_user,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::tests::record;

    fn with(policy: &str, limit: i64, code: i32) -> Record {
        let mut record = record("web");
        record.host_config.restart_policy.name = policy.to_owned();
        record.host_config.restart_policy.maximum_retry_count = limit;
        record.state.exit_code = code;
        record
    }

    #[test]
    fn the_delay_doubles_and_is_set_back() {
        let (mut back_off, record) = (BackOff::default(), with("always", 0, 1));
        let mut delays = Vec::new();
        for _ in 0..12 {
            let Decision::Restart(delay) = back_off.decide(&record, Duration::ZERO) else { panic!("stays") };
            delays.push(delay.as_millis());
        }
        assert_eq!(delays[..4], [100, 200, 400, 800]);
        assert_eq!(delays[11], 60_000);
        assert_eq!(back_off.decide(&record, LONG_RUN), Decision::Restart(FIRST));
    }

    #[test]
    fn policies_differ() {
        assert_eq!(BackOff::default().decide(&with("no", 0, 1), Duration::ZERO), Decision::Stay);
        assert_eq!(BackOff::default().decide(&with("on-failure", 0, 0), Duration::ZERO), Decision::Stay);
        let mut limited = BackOff::default();
        let failing = with("on-failure", 2, 1);
        assert_ne!(limited.decide(&failing, Duration::ZERO), Decision::Stay);
        assert_ne!(limited.decide(&failing, Duration::ZERO), Decision::Stay);
        assert_eq!(limited.decide(&failing, Duration::ZERO), Decision::Stay);
        let mut stopped = with("always", 0, 0);
        stopped.stopped_by_user = true;
        stopped.started_before = true;
        assert_eq!(BackOff::default().decide(&stopped, Duration::ZERO), Decision::Stay);
        assert!(wanted_at_boot(&stopped), "always comes back with the engine, even if it was stopped");
    }
}
