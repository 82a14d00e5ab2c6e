//! How fast the bytes of a layer move, and how long the rest will take.

use crate::format::human;
use api::progress::ProgressDetail;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A rate before this has passed would be the noise of the first packets.
const WARM_UP: Duration = Duration::from_millis(300);
/// The rate shown is that of about the last so many seconds.
const WINDOW: Duration = Duration::from_secs(5);
/// Layers that are remembered.
const MAX_LAYERS: usize = 10_000;

/// The rates of all layers, by id.
#[derive(Default)]
pub(super) struct Rates(HashMap<String, Rate>);

struct Rate {
    /// `Downloading`: the count begins anew with the next one.
    status: String,
    since: Instant,
    /// Bytes that were there then: a transfer may go on where an earlier one ended.
    from: i64,
}

impl Rates {
    /// Takes in a count. Returns what to show behind the bar: `  12.3MB/s  4s left`.
    pub(super) fn note(&mut self, id: &str, status: &str, detail: &ProgressDetail, now: Instant) -> String {
        let current = detail.current;
        if current <= 0 || !detail.units.is_empty() || self.0.len() > MAX_LAYERS {
            return String::new();
        }
        let new = || Rate { status: status.to_owned(), since: now, from: current };
        let rate = self.0.entry(id.to_owned()).or_insert_with(new);
        if rate.status != status || current < rate.from {
            *rate = new();
        }
        let elapsed = now.duration_since(rate.since);
        let moved = current - rate.from;
        if elapsed < WARM_UP || moved <= 0 {
            return String::new();
        }
        let bytes_per_second =
            i64::try_from(i128::from(moved) * 1000 / i128::try_from(elapsed.as_millis().max(1)).unwrap_or(1));
        let bytes_per_second = bytes_per_second.unwrap_or(i64::MAX).max(1);
        if elapsed > WINDOW {
            // Forget the older half, at the rate that it had.
            rate.from = current - moved / 2;
            rate.since = now - elapsed / 2;
        }
        let mut text = format!("  {}/s", human::size_precise(bytes_per_second));
        if detail.total > current {
            text.push_str(&format!("  {} left", left((detail.total - current) / bytes_per_second + 1)));
        }
        text
    }
}

/// `4s`, `2m05s`, `1h07m`.
fn left(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_times() {
        let mut rates = Rates::default();
        let start = Instant::now();
        let mut shown = |ms: u64, current: i64| {
            let detail = ProgressDetail::bytes(current, 100_000_000);
            rates.note("a", "Downloading", &detail, start + Duration::from_millis(ms))
        };
        assert_eq!(shown(0, 1_000_000), "");
        assert_eq!(shown(100, 2_000_000), "", "too early");
        assert_eq!(shown(1000, 11_000_000), "  10MB/s  9s left", "what was there before does not count");
        assert_eq!(shown(10_000, 100_000_000), "  9.9MB/s");
        // The older half is forgotten.
        assert_eq!(shown(15_000, 100_000_000), "  4.95MB/s");
        let detail = ProgressDetail::bytes(5, 10);
        assert_eq!(rates.note("a", "Extracting", &detail, start + Duration::from_secs(20)), "", "another count");
    }

    #[test]
    fn times_left() {
        assert_eq!([left(9), left(125), left(4030)], ["9s", "2m05s", "1h07m"]);
    }
}
