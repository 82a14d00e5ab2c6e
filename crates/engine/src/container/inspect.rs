//! A container as `inspect` shows it, field by field as dockerd.

use std::collections::BTreeMap;

use api::container::{GraphDriver, InspectResponse, MountPoint, NetworkSettings, State as ApiState};
use jiff::Timestamp;

use super::record::{Directories, MountKind, MountRecord, Record};
use super::transitions::Status;
use crate::engine::Engine;
use crate::error::Result;

impl Engine {
    /// Everything about a container; with `size` also what it takes on disk.
    pub async fn container_inspect(&self, id: &str, size: bool) -> Result<InspectResponse> {
        let container = self.containers.get(id)?;
        let record = container.record();
        let (store, owned) = (self.store.clone(), record.id.clone());
        let (graph, sizes) = self
            .blocking(move || {
                let graph = graph_driver(&store, &owned);
                let sizes = size.then(|| sizes(&store, &owned));
                Ok((graph, sizes))
            })
            .await?;
        let execs = self.execs.of(&record.id);
        let mut shown = show(&record, container.directories());
        shown.driver.clone_from(&graph.name);
        shown.graph_driver = graph;
        shown.size_rw = sizes.map(|(rw, _)| rw);
        shown.size_root_fs = sizes.map(|(_, root)| root);
        shown.exec_ids = Some(execs).filter(|ids| !ids.is_empty());
        Ok(shown)
    }
}

/// Bytes that the container wrote, and bytes of the whole root.
pub(super) fn sizes(store: &store::Store, id: &str) -> (i64, i64) {
    let written = store.snapshot_usage(id).map_or(0, |usage| usage.size);
    let below = store.snapshot_image_size(id).unwrap_or(0);
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    (signed(written), signed(written + below))
}

/// The overlay's directories under the names that dockerd's overlay2 uses. There is no merged directory on the host.
fn graph_driver(store: &store::Store, id: &str) -> GraphDriver {
    let mounts = store.snapshot_mounts(id).unwrap_or_default();
    let mut data = BTreeMap::new();
    if let Some(overlay) = mounts.iter().find(|m| m.fstype == "overlay") {
        let one = |key: &str| overlay.values(key).collect::<Vec<_>>().join(":");
        data.insert("LowerDir".to_owned(), one("lowerdir+"));
        data.insert("UpperDir".to_owned(), one("upperdir"));
        data.insert("WorkDir".to_owned(), one("workdir"));
        let merged = one("upperdir").trim_end_matches("/fs").to_owned() + "/merged";
        data.insert("MergedDir".to_owned(), merged);
    } else if !mounts.is_empty() {
        return GraphDriver { data: None, name: store::Driver::Copying.name().to_owned() };
    }
    GraphDriver { data: Some(data), name: store::Driver::Overlay.name().to_owned() }
}

/// RFC 3339, or what Go writes for no time.
fn time(at: Option<Timestamp>) -> String {
    at.map_or_else(|| api::time::ZERO.to_owned(), api::time::rfc3339)
}

fn show(record: &Record, directories: &Directories) -> InspectResponse {
    // The files of /etc exist once it was started; before, dockerd shows nothing.
    let file = |name: &str| {
        let path = directories.data.join(name);
        if record.started_before || !record.state.error.is_empty() { path.display().to_string() } else { String::new() }
    };
    InspectResponse {
        id: record.id.clone(),
        created: api::time::rfc3339(record.created),
        path: record.path.clone(),
        args: record.args.clone(),
        state: state(record),
        image: record.image.clone(),
        resolv_conf_path: file("resolv.conf"),
        hostname_path: file("hostname"),
        hosts_path: file("hosts"),
        // The log is opened just before the program is looked up, which 126 and 127 are about.
        log_path: if record.started_before || matches!(record.state.exit_code, 126 | 127) {
            record.log_path.clone()
        } else {
            String::new()
        },
        name: format!("/{}", record.name),
        restart_count: i64::from(record.restart_count),
        platform: record.platform.clone(),
        app_armor_profile: record.security.apparmor.clone(),
        host_config: record.host_config.clone(),
        mounts: mount_points(record),
        config: record.config.clone(),
        network_settings: network_settings(record),
        ..InspectResponse::default()
    }
}

fn state(record: &Record) -> ApiState {
    let state = &record.state;
    ApiState {
        status: state.status.as_str().to_owned(),
        running: state.status.counts_as_running(),
        paused: state.status == Status::Paused,
        restarting: state.status == Status::Restarting,
        oom_killed: state.oom_killed,
        dead: state.status == Status::Dead,
        pid: i64::from(state.pid),
        exit_code: i64::from(state.exit_code),
        error: state.error.clone(),
        started_at: time(state.started_at),
        finished_at: time(state.finished_at),
        health: state.health.clone(),
    }
}

/// `Mounts` of inspect and list.
pub(super) fn mount_points(record: &Record) -> Vec<MountPoint> {
    record.mounts.iter().filter(|m| !m.hidden).map(mount_point).collect()
}

fn mount_point(mount: &MountRecord) -> MountPoint {
    MountPoint {
        kind: match mount.kind {
            MountKind::Bind => "bind",
            MountKind::Volume => "volume",
            MountKind::Tmpfs => "tmpfs",
        }
        .to_owned(),
        name: mount.name.clone(),
        source: mount.source.clone(),
        destination: mount.destination.clone(),
        driver: mount.driver.clone(),
        mode: mount.mode.clone(),
        rw: mount.rw,
        propagation: mount.propagation.clone(),
    }
}

fn network_settings(record: &Record) -> NetworkSettings {
    let network = &record.network;
    let bridge = network.endpoints.get("bridge").cloned().unwrap_or_default();
    // Another container's namespace is not this one's sandbox.
    let own = !record.host_config.network_mode.starts_with("container:");
    let sandbox = |text: &String| if own { text.clone() } else { String::new() };
    NetworkSettings {
        sandbox_id: sandbox(&network.sandbox_id),
        sandbox_key: sandbox(&network.sandbox_key),
        ports: network.ports.clone(),
        endpoint_id: bridge.endpoint_id,
        gateway: bridge.gateway,
        ip_address: bridge.ip_address,
        ip_prefix_len: bridge.ip_prefix_len,
        mac_address: bridge.mac_address,
        networks: network.endpoints.clone(),
        ..NetworkSettings::default()
    }
}
