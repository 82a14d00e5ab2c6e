//! Volumes: directories of the engine that outlive containers.
//!
//! ```text
//! <data-root>/volumes/<name>/_data          the content
//!                            volume.json    labels, options, time: written before _data appears
//! ```
//! The directory is the truth: there is no index that could disagree with it. Who uses a volume is asked of the containers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api::Filters;
use api::volume::{CreateRequest, ListResponse, PruneResponse, Volume};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, random_id};
use crate::error::{Error, Kind, Result};

/// Says that nobody gave the volume a name.
pub(crate) const ANONYMOUS: &str = "com.docker.volume.anonymous";
/// Longest name that is accepted, in bytes (a file name).
const MAX_NAME: usize = 255;

/// What is written beside the content.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    created: Timestamp,
    labels: Option<BTreeMap<String, String>>,
    options: Option<BTreeMap<String, String>>,
}

/// The volumes below one directory.
#[derive(Debug, Clone)]
pub(crate) struct Volumes {
    root: PathBuf,
}

/// Options of dockerd's local driver: together they describe a mount.
const OPTIONS: [&str; 4] = ["device", "o", "size", "type"];

impl Volumes {
    /// Opens the directory; what a killed creation or removal left is removed.
    pub(crate) fn open(root: PathBuf) -> Result<Self> {
        let failed = |source| Error::caused(Kind::System, format!("opening volumes in {}", root.display()), source);
        std::fs::create_dir_all(&root).map_err(failed)?;
        for entry in std::fs::read_dir(&root).map_err(failed)?.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                // Moved out of the way by a removal, or not yet moved in by a creation.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        Ok(Self { root })
    }

    /// Where a volume's content is.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.root.join(name).join("_data")
    }

    /// Creates the volume; one that is there already is given back as it is. True when it is new.
    fn create(
        &self,
        name: &str,
        labels: Option<BTreeMap<String, String>>,
        options: &BTreeMap<String, String>,
    ) -> Result<(Volume, bool)> {
        validate_name(name)?;
        if let Some(option) = options.keys().find(|option| !OPTIONS.contains(&option.as_str())) {
            return Err(Error::invalid(format!("create {name}: invalid option: {option:?}")));
        }
        if !options.is_empty() {
            if let Some(missing) = ["device", "type"].iter().find(|option| !options.contains_key(**option)) {
                return Err(Error::invalid(format!("create {name}: missing required option: {missing:?}")));
            }
            return Err(Error::not_implemented(format!(
                "create {name}: volumes that are mounts are not supported by this engine"
            )));
        }
        if let Some(there) = self.get(name) {
            return Ok((there, false));
        }
        let failed = |source: std::io::Error| Error::caused(Kind::System, format!("create {name}"), source);
        let record = Record { created: Timestamp::now(), labels, options: None };
        let bytes =
            serde_json::to_vec(&record).map_err(|e| Error::caused(Kind::System, format!("create {name}"), e))?;
        // Built aside and moved in: a crash leaves a whole volume or none.
        let aside = self.root.join(format!(".new-{}", random_id()));
        let made = std::fs::create_dir_all(aside.join("_data"))
            .and_then(|()| std::fs::write(aside.join("volume.json"), bytes))
            .and_then(|()| std::fs::rename(&aside, self.root.join(name)));
        if let Err(error) = made {
            let _ = std::fs::remove_dir_all(&aside);
            // Somebody else was faster: theirs is as good.
            return self.get(name).map(|there| (there, false)).ok_or_else(|| failed(error));
        }
        Ok((self.show(name, record), true))
    }

    fn show(&self, name: &str, record: Record) -> Volume {
        Volume {
            created_at: whole_seconds(record.created),
            driver: "local".to_owned(),
            labels: record.labels,
            mountpoint: self.data(name).display().to_string(),
            name: name.to_owned(),
            options: record.options,
            scope: "local".to_owned(),
            ..Volume::default()
        }
    }

    /// The volume of this name.
    pub(crate) fn get(&self, name: &str) -> Option<Volume> {
        validate_name(name).ok()?;
        let bytes = std::fs::read(self.root.join(name).join("volume.json")).ok()?;
        Some(self.show(name, serde_json::from_slice(&bytes).ok()?))
    }

    /// All volumes by name.
    pub(crate) fn list(&self) -> Vec<Volume> {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names.iter().filter_map(|name| self.get(name)).collect()
    }

    pub(crate) fn delete(&self, name: &str) -> Result<()> {
        let failed = |source| Error::caused(Kind::System, format!("remove {name}"), source);
        let aside = self.root.join(format!(".old-{}", random_id()));
        std::fs::rename(self.root.join(name), &aside).map_err(failed)?;
        // From here on it is gone; what cannot be deleted now is deleted at the next start.
        std::fs::remove_dir_all(&aside).map_err(failed)
    }
}

/// `2026-11-24T10:35:08Z`: dockerd writes volumes without a fraction.
fn whole_seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

fn validate_name(name: &str) -> Result<()> {
    let bytes = name.as_bytes();
    if bytes.len() == 1 {
        return Err(Error::invalid(format!(
            "create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )));
    }
    let valid = bytes.len() <= MAX_NAME
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if valid {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "create {name}: {name:?} includes invalid characters for a local volume name, only \"{}\" are allowed. If you intended to pass a host directory, use absolute path",
        crate::container::names::ALLOWED
    )))
}

/// Bytes of the files below a directory, each inode once.
pub(crate) fn disk_usage(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut seen = std::collections::HashSet::new();
    let mut pending = vec![directory.to_owned()];
    let mut total = 0;
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                pending.push(entry.path());
            } else if seen.insert((metadata.dev(), metadata.ino())) {
                total += metadata.len();
            }
        }
    }
    total
}

impl Engine {
    /// Creates a volume, or gives back the one that has the name.
    pub async fn volume_create(&self, request: CreateRequest) -> Result<Volume> {
        let driver = request.driver.as_str();
        let (name, labels) = if request.name.is_empty() {
            let mut labels = request.labels.unwrap_or_default();
            labels.insert(ANONYMOUS.to_owned(), String::new());
            (random_id(), Some(labels))
        } else {
            (request.name.clone(), request.labels)
        };
        if !matches!(driver, "" | "local") {
            return Err(Error::not_found(format!(
                "create {name}: error looking up volume plugin {driver}: plugin {driver:?} not found"
            )));
        }
        if request.cluster_volume_spec.is_some() {
            return Err(Error::unavailable(
                "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
            ));
        }
        let volumes = self.volumes.clone();
        let (volume, new) = self.blocking(move || volumes.create(&name, labels, &request.driver_opts)).await?;
        if new {
            self.volume_event("create", &volume.name, &[]);
        }
        Ok(volume)
    }

    pub(crate) fn volume_event(&self, action: &str, name: &str, more: &[(&str, &str)]) {
        let attributes = more.iter().chain(&[("driver", "local")]);
        self.events.emit("volume", action, name, attributes.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
    }

    /// One volume.
    pub async fn volume_inspect(&self, name: &str) -> Result<Volume> {
        let (volumes, name) = (self.volumes.clone(), name.to_owned());
        self.blocking(move || volumes.get(&name).ok_or_else(|| no_such(&name))).await
    }

    /// All volumes that pass `dangling`, `driver`, `label` and `name`.
    pub async fn volume_list(&self, filters: &Filters) -> Result<ListResponse> {
        filters.validate(&["dangling", "driver", "label", "name"]).map_err(|e| Error::invalid(e.message))?;
        let dangling = filters.flag("dangling").map_err(|e| Error::invalid(e.message))?;
        let volumes = self.volumes.clone();
        let mut all = self.blocking(move || Ok(volumes.list())).await?;
        let used = self.volumes_in_use();
        all.retain(|volume| {
            dangling.is_none_or(|wanted| wanted != used.contains_key(&volume.name))
                && filters.exact("driver", &volume.driver)
                && filters.name("name", &volume.name)
                && filters.labels("label", volume.labels.as_ref().unwrap_or(&BTreeMap::new()))
        });
        Ok(ListResponse { volumes: all, warnings: None })
    }

    /// Removes a volume that no container has.
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        match self.volume_inspect(name).await {
            Err(_) if force => return Ok(()),
            found => found?,
        };
        if let Some(users) = self.volumes_in_use().get(name) {
            return Err(Error::conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
        }
        self.delete_volume(name).await
    }

    pub(crate) async fn delete_volume(&self, name: &str) -> Result<()> {
        let (volumes, owned) = (self.volumes.clone(), name.to_owned());
        self.blocking(move || volumes.delete(&owned)).await?;
        self.volume_event("destroy", name, &[]);
        Ok(())
    }

    /// Removes the volumes that no container has: anonymous ones, or with the filter `all=true` every one.
    pub async fn volume_prune(&self, filters: &Filters) -> Result<PruneResponse> {
        filters.validate(&["all", "label", "label!"]).map_err(|e| Error::invalid(e.message))?;
        let every = filters.flag("all").map_err(|e| Error::invalid(e.message))?.unwrap_or(false);
        let volumes = self.volumes.clone();
        let all = self.blocking(move || Ok(volumes.list())).await?;
        let used = self.volumes_in_use();
        // An empty list rather than `null`, unlike for containers.
        let mut response = PruneResponse { volumes_deleted: Some(Vec::new()), ..PruneResponse::default() };
        for volume in all {
            let labels = volume.labels.clone().unwrap_or_default();
            let excluded = filters.contains("label!") && filters.labels("label!", &labels);
            let wanted = every || labels.contains_key(ANONYMOUS);
            if used.contains_key(&volume.name) || !wanted || excluded || !filters.labels("label", &labels) {
                continue;
            }
            let path = PathBuf::from(&volume.mountpoint);
            let size = self.blocking(move || Ok(disk_usage(&path))).await?;
            if self.delete_volume(&volume.name).await.is_ok() {
                response.space_reclaimed += size;
                response.volumes_deleted.get_or_insert_default().push(volume.name);
            }
        }
        let reclaimed = BTreeMap::from([("reclaimed".to_owned(), response.space_reclaimed.to_string())]);
        self.events.emit("volume", "prune", "", reclaimed);
        Ok(response)
    }

    /// Names of volumes that containers have, with the ids of those containers.
    pub(crate) fn volumes_in_use(&self) -> BTreeMap<String, Vec<String>> {
        let mut used: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for container in self.containers.all() {
            let record = container.record();
            for mount in record.mounts.iter().filter(|m| !m.name.is_empty()) {
                used.entry(mount.name.clone()).or_default().push(record.id.clone());
            }
        }
        used
    }
}

fn no_such(name: &str) -> Error {
    Error::not_found(format!("get {name}: no such volume"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_whole_or_not_there() {
        let root = std::env::temp_dir().join(format!("gantry-volumes-{}", random_id()));
        let volumes = Volumes::open(root.clone()).unwrap();
        let (first, new) = volumes.create("data", None, &BTreeMap::new()).unwrap();
        assert!(new && Path::new(&first.mountpoint).is_dir());
        let (second, new) = volumes.create("data", None, &BTreeMap::new()).unwrap();
        assert!(!new && first == second);
        std::fs::create_dir_all(root.join(".new-x/_data")).unwrap();
        let again = Volumes::open(root.clone()).unwrap();
        assert_eq!(again.list().len(), 1);
        assert!(!root.join(".new-x").exists());
        again.delete("data").unwrap();
        assert!(again.list().is_empty());
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn names_are_file_names() {
        assert_eq!(
            validate_name("a/b").unwrap_err().message(),
            "create a/b: \"a/b\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        );
        assert!(validate_name("..").is_err() && validate_name("").is_err() && validate_name("ab").is_ok());
    }
}
