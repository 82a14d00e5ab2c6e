//! `/metrics`, in the text form that Prometheus reads.

use hyper::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::body::Body;
use crate::reply;

const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Seconds: from a manifest in the cache to a large blob on a slow line.
const SECONDS: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    route: &'static str,
    method: &'static str,
    status: u16,
}

/// A method as a label: whatever clients make up is one.
fn method(text: &str) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == text).unwrap_or("other")
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: &'static str,
}

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    seconds: Family<Route, Histogram>,
    received: Counter,
    sent: Counter,
    lost_lines: Counter,
    /// Connections that are open.
    pub(crate) connections: Gauge,
    /// Requests in work, bodies of answers included.
    pub(crate) active: Gauge,
    /// What garbage collection removed.
    pub(crate) gc_removed: Counter,
    /// Bytes that garbage collection freed.
    pub(crate) gc_freed: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("gantry_registry");
        let requests = Family::<Request, Counter>::default();
        registry.register("requests", "Requests that were answered", requests.clone());
        let seconds = Family::<Route, Histogram>::new_with_constructor(|| Histogram::new(SECONDS));
        registry.register("request_seconds", "From the head of a request to the end of its answer", seconds.clone());
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let received = counter("received_bytes", "Bytes of requests' bodies");
        let sent = counter("sent_bytes", "Bytes of answers' bodies");
        let lost_lines = counter("lost_log_lines", "Lines of the access log that were lost");
        let gc_removed = counter("gc_removed", "Objects that garbage collection removed");
        let gc_freed = counter("gc_freed_bytes", "Bytes that garbage collection freed");
        let (connections, active) = (Gauge::default(), Gauge::default());
        registry.register("connections", "Open connections", connections.clone());
        registry.register("active_requests", "Requests in work", active.clone());
        Self { registry, requests, seconds, received, sent, lost_lines, connections, active, gc_removed, gc_freed }
    }

    /// Counts a request that has ended.
    pub(crate) fn request(&self, line: &crate::log::Line, seconds: f64) {
        let labels = Request { route: line.route, method: method(&line.method), status: line.status };
        self.requests.get_or_create(&labels).inc();
        self.seconds.get_or_create(&Route { route: line.route }).observe(seconds);
        self.received.inc_by(line.received);
        self.sent.inc_by(line.sent);
    }

    /// Counts a line that was lost.
    pub(crate) fn lost_line(&self) {
        self.lost_lines.inc();
    }

    /// The page.
    pub(crate) fn page(&self) -> Response<Body> {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        reply::document(TEXT, text)
    }
}
