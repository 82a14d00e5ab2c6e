//! Containers in rows: `ps`, with its filters.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::Filters;
use api::container::{Summary, SummaryHostConfig, SummaryNetworkSettings, SummaryPort};
use jiff::Timestamp;

use super::inspect::{mount_points, sizes};
use super::record::Record;
use super::transitions::Status;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// What `GET /containers/json` asks for.
#[derive(Debug, Default)]
pub struct ListOptions {
    /// Also those that do not run.
    pub all: bool,
    /// Only this many of the newest (implies `all`); 0 is no limit.
    pub limit: usize,
    /// Compute sizes.
    pub size: bool,
    /// Which ones.
    pub filters: Filters,
}

const FILTERS: [&str; 16] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
    "is_task",
];

impl Engine {
    /// The containers that pass, newest first.
    pub async fn container_list(&self, options: ListOptions) -> Result<Vec<Summary>> {
        let chosen = self.choose(&options)?;
        let (store, size) = (self.store.clone(), options.size);
        self.blocking(move || Ok(chosen.iter().map(|record| row(&store, record, size)).collect())).await
    }

    fn choose(&self, options: &ListOptions) -> Result<Vec<Arc<Record>>> {
        let filters = &options.filters;
        filters.validate(&FILTERS).map_err(|e| Error::invalid(e.message))?;
        let bad = |key: &str, value: &str| Error::invalid(format!("invalid filter '{key}={value}'"));
        if let Some(value) = filters.get("status").find(|v| Status::ALL.iter().all(|s| s.as_str() != *v)) {
            return Err(bad("status", value));
        }
        let health = ["none", "starting", "healthy", "unhealthy"];
        if let Some(value) = filters.get("health").find(|v| !health.contains(v)) {
            return Err(Error::invalid(format!("unrecognized filter value for health: {value}")));
        }
        let mut exited = BTreeSet::new();
        for text in filters.get("exited") {
            let code = text.parse::<i32>().map_err(|_| {
                Error::invalid(format!(
                    "invalid filter 'exited={text}': strconv.Atoi: parsing {text:?}: invalid syntax"
                ))
            });
            exited.insert(code?);
        }
        let created = |key: &str| -> Result<Option<Timestamp>> {
            filters.get(key).next().map(|name| Ok(self.containers.get(name)?.record().created)).transpose()
        };
        let (before, since) = (created("before")?, created("since")?);
        let ancestors = self.ancestors(filters);
        let published = ports(filters, "publish")?;
        let exposed = ports(filters, "expose")?;

        let mut records: Vec<Arc<Record>> = self.containers.all().iter().map(super::Container::record).collect();
        records.sort_by_key(|r| std::cmp::Reverse(r.created));
        // Which of these may show containers that do not run.
        let everything = options.all
            || options.limit > 0
            || filters.contains("status")
            || filters.contains("exited")
            || before.is_some()
            || since.is_some();
        records.retain(|record| {
            let state = &record.state;
            (everything || state.status.counts_as_running())
                && filters.exact("status", state.status.as_str())
                && (exited.is_empty()
                    || (exited.contains(&state.exit_code)
                        && !state.status.counts_as_running()
                        && record.started_before))
                && before.is_none_or(|at| record.created < at)
                && since.is_none_or(|at| record.created > at)
                && filters.prefix("id", &record.id)
                && (filters.name("name", &record.name) || filters.name("name", &format!("/{}", record.name)))
                && filters.labels("label", record.config.labels.as_ref().unwrap_or(&std::collections::BTreeMap::new()))
                && filters.exact("health", health_of(record))
                && ancestors.as_ref().is_none_or(|ids| ids.contains(&record.image))
                && volumes(filters, record)
                && networks(filters, record)
                && published.as_ref().is_none_or(|wanted| publishes(record, wanted))
                && exposed.as_ref().is_none_or(|wanted| exposes(record, wanted))
                && filters.any("is-task", |v| matches!(v, "false" | "0"))
                && filters.any("isolation", |v| v == record.host_config.isolation)
        });
        if options.limit > 0 {
            records.truncate(options.limit);
        }
        Ok(records)
    }

    /// Ids of the images that are meant by `ancestor`, with those made from them.
    fn ancestors(&self, filters: &Filters) -> Option<BTreeSet<String>> {
        if !filters.contains("ancestor") {
            return None;
        }
        let mut ids = BTreeSet::new();
        // A short look into an embedded database that is in memory; not worth a thread.
        let mut pending: Vec<_> =
            filters.get("ancestor").filter_map(|name| self.store.image_resolve(name).ok()).collect();
        while let Some(id) = pending.pop() {
            if ids.insert(id.to_string()) {
                pending.extend(self.store.image_children(&id).unwrap_or_default());
            }
        }
        Some(ids)
    }
}

fn health_of(record: &Record) -> &str {
    record.state.health.as_ref().map_or("none", |h| h.status.as_str())
}

fn volumes(filters: &Filters, record: &Record) -> bool {
    filters.any("volume", |wanted| {
        record.mounts.iter().any(|m| m.name == wanted || m.destination == wanted || m.source == wanted)
    })
}

fn networks(filters: &Filters, record: &Record) -> bool {
    filters.any("network", |wanted| {
        record.network.endpoints.iter().any(|(name, settings)| {
            name == wanted || (!settings.network_id.is_empty() && settings.network_id.starts_with(wanted))
        })
    })
}

/// `80`, `80/udp`, `80-90/tcp` as a set of `(port, protocol)`; `None` without the filter.
fn ports(filters: &Filters, key: &str) -> Result<Option<BTreeSet<(u16, String)>>> {
    if !filters.contains(key) {
        return Ok(None);
    }
    let mut set = BTreeSet::new();
    for text in filters.get(key) {
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let bad = |_| Error::invalid(format!("filter for {key:?} should not contain ':' : {text}"));
        let (first, last): (u16, u16) = (first.parse().map_err(bad)?, last.parse().map_err(bad)?);
        set.extend((first..=last).map(|port| (port, protocol.to_owned())));
    }
    Ok(Some(set))
}

fn split(port: &str) -> Option<(u16, String)> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    Some((number.parse().ok()?, protocol.to_owned()))
}

/// A published port matches by its number on either side.
fn publishes(record: &Record, wanted: &BTreeSet<(u16, String)>) -> bool {
    record.network.ports.iter().any(|(port, bindings)| {
        let Some((number, protocol)) = split(port) else { return false };
        bindings.iter().flatten().any(|binding| {
            wanted.contains(&(number, protocol.clone()))
                || binding.host_port.parse().is_ok_and(|host: u16| wanted.contains(&(host, protocol.clone())))
        })
    })
}

fn exposes(record: &Record, wanted: &BTreeSet<(u16, String)>) -> bool {
    let own = record.config.exposed_ports.keys().chain(record.network.ports.keys());
    own.filter_map(|port| split(port)).any(|port| wanted.contains(&port))
}

fn row(store: &store::Store, record: &Record, size: bool) -> Summary {
    let mut command = record.path.clone();
    for argument in &record.args {
        command.push(' ');
        // dockerd quotes what has blanks in it.
        if argument.contains(' ') {
            command.push('\'');
            command.push_str(argument);
            command.push('\'');
        } else {
            command.push_str(argument);
        }
    }
    let (size_rw, size_root_fs) = if size { sizes(store, &record.id) } else { (0, 0) };
    Summary {
        id: record.id.clone(),
        names: vec![format!("/{}", record.name)],
        image: image_name(store, record),
        image_id: record.image.clone(),
        command,
        created: record.created.as_second(),
        ports: summary_ports(record),
        size_rw,
        size_root_fs,
        labels: record.config.labels.clone().unwrap_or_default(),
        state: record.state.status.as_str().to_owned(),
        status: status(record, Timestamp::now()),
        host_config: SummaryHostConfig {
            network_mode: record.host_config.network_mode.clone(),
            annotations: record.host_config.annotations.clone(),
        },
        network_settings: SummaryNetworkSettings { networks: record.network.endpoints.clone() },
        mounts: row_mounts(record),
        ..Summary::default()
    }
}

/// In a row the place of a volume on the host is not shown.
fn row_mounts(record: &Record) -> Vec<api::container::MountPoint> {
    let mut mounts = mount_points(record);
    for mount in mounts.iter_mut().filter(|m| m.kind == "volume") {
        mount.source.clear();
    }
    mounts
}

/// The name that the container was made from, unless it means another image by now.
fn image_name(store: &store::Store, record: &Record) -> String {
    let name = record.image_name();
    match store.image_resolve(name) {
        Ok(id) if id.to_string() == record.image => name.to_owned(),
        _ if record.image.is_empty() => name.to_owned(),
        _ => record.image.clone(),
    }
}

fn summary_ports(record: &Record) -> Vec<SummaryPort> {
    let mut list = Vec::new();
    for (port, bindings) in &record.network.ports {
        let Some((private_port, protocol)) = split(port) else { continue };
        match bindings.as_deref() {
            None | Some([]) => list.push(SummaryPort { private_port, protocol, ..SummaryPort::default() }),
            Some(bindings) => list.extend(bindings.iter().map(|binding| SummaryPort {
                ip: binding.host_ip.clone(),
                private_port,
                public_port: binding.host_port.parse().unwrap_or_default(),
                protocol: protocol.clone(),
            })),
        }
    }
    list
}

/// `Up 3 minutes (healthy)`, `Exited (0) 2 hours ago`, `Created`, …
pub(crate) fn status(record: &Record, now: Timestamp) -> String {
    let state = &record.state;
    let since = |at: Option<Timestamp>| at.map_or_else(|| "Less than a second".to_owned(), |at| human(now, at));
    match state.status {
        Status::Paused => format!("Up {} (Paused)", since(state.started_at)),
        Status::Restarting => format!("Restarting ({}) {} ago", state.exit_code, since(state.finished_at)),
        Status::Running => {
            let up = since(state.started_at);
            match state.health.as_ref().map(|h| h.status.as_str()) {
                Some("starting") => format!("Up {up} (health: starting)"),
                Some(health @ ("healthy" | "unhealthy")) => format!("Up {up} ({health})"),
                _ => format!("Up {up}"),
            }
        }
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Dead => "Dead".to_owned(),
        Status::Created => "Created".to_owned(),
        Status::Exited => format!("Exited ({}) {} ago", state.exit_code, since(state.finished_at)),
    }
}

/// A length of time in Docker's words.
fn human(now: Timestamp, then: Timestamp) -> String {
    let seconds = (now.as_second() - then.as_second()).max(0);
    let exact = now.duration_since(then).as_secs_f64();
    let hours = (exact / 3600.0).round() as i64;
    match seconds {
        _ if exact < 1.0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        s if s < 60 => format!("{} seconds", exact as i64),
        s if s / 60 == 1 => "About a minute".to_owned(),
        s if s / 60 < 60 => format!("{} minutes", s / 60),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 730 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::tests::record;

    #[test]
    fn times_read_like_dockers() {
        let now = Timestamp::from_second(100_000_000).unwrap();
        let ago = |seconds: i64| human(now, Timestamp::from_second(100_000_000 - seconds).unwrap());
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (86_400 * 3, "3 days"),
            (86_400 * 21, "3 weeks"),
            (86_400 * 90, "3 months"),
            (86_400 * 800, "2 years"),
        ] {
            assert_eq!(ago(seconds), text);
        }
    }

    #[test]
    fn states_read_like_dockers() {
        let now = Timestamp::from_second(1000).unwrap();
        let mut record = record("web");
        assert_eq!(status(&record, now), "Created");
        record.state.status = Status::Running;
        record.state.started_at = Timestamp::from_second(940).ok();
        record.state.health = Some(api::container::Health { status: "starting".into(), ..Default::default() });
        assert_eq!(status(&record, now), "Up About a minute (health: starting)");
        record.state.status = Status::Exited;
        record.state.exit_code = 3;
        record.state.finished_at = Timestamp::from_second(990).ok();
        assert_eq!(status(&record, now), "Exited (3) 10 seconds ago");
    }
}
