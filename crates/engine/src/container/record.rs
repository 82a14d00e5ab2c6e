//! The record of a container: all that is known of it, as one JSON file replaced atomically.
//!
//! ```text
//! <data-root>/containers/<id>/config.json      this record            <exec-root>/containers/<id>/config.json   OCI spec
//!                             hostname hosts resolv.conf                                          shim.json shim.log
//!                             <id>-json.log                                                       exit.json
//! ```
//!
//! Only the container's actor writes it. Everybody else sees an `Arc<Record>` that never changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api::container::{Config, Health, HostConfig, PortMap};
use api::network::EndpointSettings;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::transitions::Status;
use crate::error::{Error, Kind, Result};

/// Version of the file's schema; a file of a later one is refused rather than misread.
pub const SCHEMA: u32 = 1;

/// Largest record that is read back, in bytes.
const MAX_RECORD: u64 = 16 << 20;

/// All that is known of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`] when it was written.
    pub schema: u32,
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// The program: first word of entrypoint and command.
    pub path: String,
    /// The words after it.
    pub args: Vec<String>,
    /// `sha256:…` of the image's configuration; empty for a container without image.
    pub image: String,
    /// `linux`.
    pub platform: String,
    /// What runs, merged with the image.
    pub config: Config,
    /// How it is bound to this host.
    pub host_config: HostConfig,
    /// What it does.
    pub state: State,
    /// Its mounts, in the order they were asked for.
    #[serde(default)]
    pub mounts: Vec<MountRecord>,
    /// Its place in the network.
    #[serde(default)]
    pub network: NetworkRecord,
    /// How often the restart policy started it again since the last manual start.
    #[serde(default)]
    pub restart_count: u32,
    /// The user stopped it: `unless-stopped` does not bring it back.
    #[serde(default)]
    pub stopped_by_user: bool,
    /// It has been running at least once, so that volumes are populated and Docker says `exited` rather than `created`.
    #[serde(default)]
    pub started_before: bool,
    /// Security options taken apart.
    #[serde(default)]
    pub security: Security,
    /// The log file, empty when the driver has none.
    #[serde(default)]
    pub log_path: String,
}

/// What a container does, and how its last process ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// Where in its life.
    pub status: Status,
    /// Process id on the host; 0 without a process.
    pub pid: u32,
    /// Clock ticks since boot at which that process started: tells it from a later one with the same id.
    #[serde(default)]
    pub pid_start_time: u64,
    /// Of the last process, 128 + signal when a signal ended it.
    pub exit_code: i32,
    /// Why the last start failed.
    #[serde(default)]
    pub error: String,
    /// The kernel killed a process of the container for lack of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// Of the last process.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// Of the last process.
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
    /// Of the health check, when there is one.
    #[serde(default)]
    pub health: Option<Health>,
    /// Counts ends of processes, so that `wait` for the next exit misses none.
    #[serde(default)]
    pub exits: u64,
}

impl State {
    /// Of a container that was just created.
    pub fn created() -> Self {
        Self {
            status: Status::Created,
            pid: 0,
            pid_start_time: 0,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            started_at: None,
            finished_at: None,
            health: None,
            exits: 0,
        }
    }
}

/// What a mount point is backed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A path of the host.
    Bind,
    /// A volume of the engine.
    Volume,
    /// Memory.
    Tmpfs,
}

/// One mount point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MountRecord {
    /// What backs it.
    pub kind: MountKind,
    /// Path in the container, cleaned.
    pub destination: String,
    /// Path on the host; empty for tmpfs.
    pub source: String,
    /// Name of the volume.
    #[serde(default)]
    pub name: String,
    /// `local` for volumes.
    #[serde(default)]
    pub driver: String,
    /// Writable.
    pub rw: bool,
    /// The text after the last colon of `-v`.
    #[serde(default)]
    pub mode: String,
    /// `rprivate`, …
    #[serde(default)]
    pub propagation: String,
    /// Whether an empty volume gets the content that the image has there.
    #[serde(default)]
    pub copy: bool,
    /// The volume was made for this container alone (removed with `rm -v` and `--rm`).
    #[serde(default)]
    pub anonymous: bool,
    /// Create a missing bind source as a directory (`-v`, not `--mount`).
    #[serde(default)]
    pub create_source: bool,
    /// Bind only the mount itself, not those below it.
    #[serde(default)]
    pub non_recursive: bool,
    /// Leave mounts below a read-only one writable.
    #[serde(default)]
    pub read_only_non_recursive: bool,
    /// Fail rather than leave mounts below a read-only one writable.
    #[serde(default)]
    pub read_only_force_recursive: bool,
    /// Directory in the volume that is mounted in its place.
    #[serde(default)]
    pub subpath: String,
    /// Options of a tmpfs, comma-separated.
    #[serde(default)]
    pub tmpfs_options: String,
    /// From `HostConfig.Tmpfs`, which inspect does not list among the mounts.
    #[serde(default)]
    pub hidden: bool,
}

/// A container's place in the network.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// By name of the network, as asked for and as it came to be.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// `NetworkSettings.Ports` while it runs.
    pub ports: PortMap,
    /// 64 hexadecimal digits for the namespace of the last process, empty without one.
    pub sandbox_id: String,
    /// Path of that namespace.
    #[serde(default)]
    pub sandbox_key: String,
    /// The endpoint that has to be given back.
    pub endpoint_id: String,
}

/// Security options taken apart (`--security-opt`).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Security {
    /// `no-new-privileges`.
    pub no_new_privileges: bool,
    /// `seccomp=…`: empty for the engine's default, `unconfined`, `builtin` or the profile itself as JSON.
    pub seccomp: String,
    /// `apparmor=…`.
    pub apparmor: String,
    /// `label=…`, kept for inspect; SELinux is off without a policy on the host.
    pub labels: Vec<String>,
    /// `systempaths=unconfined`.
    pub unconfined_paths: bool,
}

impl Record {
    /// The record in `directory`, or `None` when there is no file (a creation that was cut short).
    pub fn load(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join("config.json");
        let failed =
            |source: std::io::Error| Error::caused(Kind::System, format!("reading {}", path.display()), source);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.len() > MAX_RECORD => {
                return Err(Error::system(format!("reading {}: larger than {MAX_RECORD} bytes", path.display())));
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        let record: Self = serde_json::from_slice(&std::fs::read(&path).map_err(failed)?)
            .map_err(|source| Error::caused(Kind::System, format!("reading {}", path.display()), source))?;
        if record.schema > SCHEMA {
            return Err(Error::system(format!("{} was written by a later version", path.display())));
        }
        Ok(Some(record))
    }

    /// Replaces the file in `directory` by a rename: a reader or a crash sees the old or the new one, never half.
    ///
    /// It is not forced to disk: a record lost to a power cut is that of a container whose process is lost as well.
    pub fn save(&self, directory: &Path) -> Result<()> {
        let path = directory.join("config.json");
        let temporary = directory.join("config.json.new");
        let failed =
            |source: std::io::Error| Error::caused(Kind::System, format!("writing {}", path.display()), source);
        let bytes = serde_json::to_vec(self)
            .map_err(|source| Error::caused(Kind::System, format!("writing {}", path.display()), source))?;
        std::fs::write(&temporary, bytes).map_err(failed)?;
        std::fs::rename(&temporary, &path).map_err(failed)
    }

    /// First twelve digits of the id.
    pub fn short_id(&self) -> &str {
        &self.id[..12]
    }

    /// What shows as `Image` in lists and events: as the user named it.
    pub fn image_name(&self) -> &str {
        &self.config.image
    }

    /// The signal of `stop`.
    pub fn stop_signal(&self) -> i32 {
        super::signal::parse(&self.config.stop_signal).unwrap_or(super::signal::TERM)
    }

    /// Seconds of grace of `stop`; negative waits for ever.
    pub fn stop_timeout_s(&self) -> i64 {
        self.config.stop_timeout.unwrap_or(10)
    }
}

/// Digits of the id in the name of a socket: as good as unique, and short.
const SOCKET_DIGITS: usize = 24;

/// Where the files of one container are.
#[derive(Debug, Clone)]
pub struct Directories {
    /// `<data-root>/containers/<id>`: survives a reboot.
    pub data: PathBuf,
    /// `<exec-root>/containers/<id>`: the bundle, gone after the container stopped.
    pub exec: PathBuf,
    /// `<exec-root>/shims/<beginning of the id>`: a path of its own, because a socket's may have 107 bytes only.
    pub socket: PathBuf,
    /// `<exec-root>/removing`: what is moved there is deleted when there is time.
    pub removing: PathBuf,
}

impl Directories {
    /// Of this container under these roots.
    pub fn new(data_root: &Path, exec_root: &Path, id: &str) -> Self {
        Self {
            data: data_root.join("containers").join(id),
            exec: exec_root.join("containers").join(id),
            socket: exec_root.join("shims").join(&id[..id.len().min(SOCKET_DIGITS)]),
            removing: exec_root.join("removing"),
        }
    }

    /// Where the record is while the container is being made: renamed to `data` when it is complete.
    pub fn begun(&self) -> PathBuf {
        self.aside("creating")
    }

    /// Where the record is while the container is being removed.
    pub fn ending(&self) -> PathBuf {
        self.aside("removing")
    }

    /// The same with anonymous volumes that go as well.
    pub fn ending_with_volumes(&self) -> PathBuf {
        self.aside("removing-volumes")
    }

    fn aside(&self, what: &str) -> PathBuf {
        let id = self.data.file_name().unwrap_or_default().to_string_lossy();
        self.data.with_file_name(format!(".{what}-{id}"))
    }

    /// Where the shim listens.
    pub fn shim_socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// What the shim is told.
    pub fn shim_config(&self) -> PathBuf {
        self.exec.join("shim.json")
    }

    /// What the shim leaves behind when the process ended.
    pub fn exit_record(&self) -> PathBuf {
        self.exec.join("exit.json")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A container that was just created, for tests.
    pub(crate) fn record(name: &str) -> Record {
        Record {
            schema: SCHEMA,
            id: "0123456789abcdef".repeat(4),
            name: name.to_owned(),
            created: Timestamp::UNIX_EPOCH,
            path: "sleep".to_owned(),
            args: vec!["100000".to_owned()],
            image: String::new(),
            platform: "linux".to_owned(),
            config: Config { hostname: "0123456789ab".to_owned(), ..Config::default() },
            host_config: HostConfig::default(),
            state: State::created(),
            mounts: Vec::new(),
            network: NetworkRecord::default(),
            restart_count: 0,
            stopped_by_user: false,
            started_before: false,
            security: Security::default(),
            log_path: String::new(),
        }
    }

    #[test]
    fn a_record_survives_the_disk() {
        let directory = std::env::temp_dir().join(format!("gantry-record-{}", crate::engine::random_id()));
        std::fs::create_dir_all(&directory).unwrap();
        assert!(Record::load(&directory).unwrap().is_none());
        let mut written = record("web");
        written.state.health = Some(Health::default());
        written.save(&directory).unwrap();
        let read = Record::load(&directory).unwrap().unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(&written).unwrap());
        std::fs::write(directory.join("config.json"), "{").unwrap();
        assert!(Record::load(&directory).is_err());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
