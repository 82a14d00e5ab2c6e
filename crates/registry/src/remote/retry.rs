//! How long to wait before something is tried again.
//!
//! After a failure: a random part of a time that doubles with each attempt ("full jitter"), so that many who failed
//! together do not come back together. When a server says how long (`Retry-After`), at least that, up to a limit: who
//! asks for more than a user would wait is taken for a failure.

use std::time::Duration;

use reqwest::StatusCode;

use super::transport::{Request, Response};
use crate::Options;
use crate::error::{Error, Result};

/// No delay of ours is longer.
const MAX_DELAY: Duration = Duration::from_secs(20);
/// A server may ask for so much.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Wait after this many failed attempts: more than nothing, at most `retry_delay` doubled as often.
pub(crate) fn delay(options: &Options, attempt: u32) -> Duration {
    let cap = options.retry_delay.saturating_mul(1 << attempt.saturating_sub(1).min(10)).min(MAX_DELAY);
    jitter(cap).max(Duration::from_millis(1))
}

/// A random part of this time.
fn jitter(cap: Duration) -> Duration {
    let mut bytes = [0; 4];
    // Without the kernel's random source all wait equally long, which is no harm.
    let random = getrandom::fill(&mut bytes).map_or(u32::MAX, |()| u32::from_le_bytes(bytes));
    cap.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Sends a request as often as its server asks for patience, and unless it is single as often as it fails in a way that may
/// get better, all within the limit. A request whose body is a stream is sent once.
pub(super) async fn patiently<F>(options: &Options, request: Request, send: impl Fn(Request) -> F) -> Result<Response>
where
    F: Future<Output = Result<Response>>,
{
    let copy = || request.repeated().map(|copy| Request { authorization: request.authorization.clone(), ..copy });
    let Some(mut next) = copy() else { return send(request).await };
    let mut attempt = 1;
    loop {
        let outcome = send(next).await;
        let wait = match &outcome {
            Ok(response) => after(options, response, attempt, request.is_single),
            Err(error) => (!request.is_single && error.is_transient()).then(|| delay(options, attempt)),
        };
        let Some(wait) = wait.filter(|_| attempt < options.attempts) else { return outcome };
        tracing::debug!(url = %request.url, attempt, ?wait, "trying again later");
        // An answer that is not read keeps its place at the host.
        drop(outcome);
        tokio::time::sleep(wait).await;
        attempt += 1;
        next = copy().ok_or(Error::Task)?;
    }
}

/// How long a server that has too much to do wants us to wait; none when this answer is no such request, or asks for
/// more than is reasonable.
pub(super) fn asked(options: &Options, response: &Response, attempt: u32) -> Option<Duration> {
    after(options, response, attempt, true)
}

/// As [`asked`], and how long to wait after a failure of the server.
fn after(options: &Options, response: &Response, attempt: u32, is_single: bool) -> Option<Duration> {
    let after = retry_after(response.header("retry-after"), jiff::Timestamp::now());
    let wait = match (response.status(), after) {
        (StatusCode::TOO_MANY_REQUESTS, None) => delay(options, attempt),
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(after)) => {
            // Everybody was told the same time: come a little later than that.
            after.saturating_add(delay(options, 1))
        }
        (status, _) if !is_single && matches!(status.as_u16(), 500 | 502 | 503 | 504) => delay(options, attempt),
        _ => return None,
    };
    (wait <= MAX_RETRY_AFTER + MAX_DELAY).then_some(wait)
}

/// `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(value: &str, now: jiff::Timestamp) -> Option<Duration> {
    if value.is_empty() {
        return None;
    }
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_end() {
        let options = Options { retry_delay: Duration::from_secs(1), ..Options::default() };
        for (attempt, most) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 20), (100, 20)] {
            for _ in 0..20 {
                let delay = delay(&options, attempt);
                assert!(!delay.is_zero() && delay <= Duration::from_secs(most), "{attempt}: {delay:?}");
            }
        }
    }

    #[test]
    fn both_forms_of_the_header() {
        let now = "1994-11-06T08:49:00Z".parse().unwrap();
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(37)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:48:00 GMT", now), Some(Duration::ZERO));
        for bad in ["", "soon", "-1", "99999999999999999999999"] {
            assert_eq!(retry_after(bad, now), None);
        }
    }
}
