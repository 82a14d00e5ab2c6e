//! Making a container: from the request to a record, a snapshot and volumes. Nothing runs yet.
//!
//! The order of the checks is dockerd's, because a client sees the first complaint. Until the record is written, everything
//! that was made is taken back on an error; a crash leaves a directory `.creating-<id>`, which the next start takes back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api::container::{Config, CreateRequest, CreateResponse, HostConfig};
use jiff::Timestamp;
use oci::ImageConfig;
use store::{ImageId, SnapshotOptions};

use super::actor::{Actor, Adopted};
use super::record::{Directories, MountKind, MountRecord, NetworkRecord, Record, SCHEMA, State};
use super::root::Root;
use super::sysinfo::SysInfo;
use super::{log_options, merge, mounts, name_taken, names, security, spec, validate};
use crate::engine::{Engine, random_id, random_u64};
use crate::error::{Error, Kind, Result};

impl Engine {
    /// Creates a container and says what was discarded of the request.
    pub async fn container_create(
        &self,
        name: Option<&str>,
        platform: Option<&str>,
        request: CreateRequest,
    ) -> Result<CreateResponse> {
        let engine = self.arc();
        let (name, platform) = (name.map(str::to_owned), platform.map(str::to_owned));
        // On a task of its own: a caller that hangs up must not leave half a container.
        let work = tokio::spawn(async move { engine.create(name.as_deref(), platform.as_deref(), request).await });
        work.await.map_err(|e| Error::system(format!("creating a container: {e}")))?
    }

    async fn create(
        &self,
        name: Option<&str>,
        platform: Option<&str>,
        request: CreateRequest,
    ) -> Result<CreateResponse> {
        let CreateRequest { mut config, mut host_config, networking_config } = request;
        if config == Config::default() {
            return Err(Error::invalid("config cannot be empty in order to create a container"));
        }
        validate::combinations(&config, &host_config)?;
        validate::config(&mut config)?;
        let warnings = validate::host_config(&mut host_config)?;
        let mut endpoints = networking_config.endpoints_config.unwrap_or_default();
        crate::networking::check_requested(&mut config, &host_config, &mut endpoints)?;
        let image = self.find_image(&config.image, platform).await?;
        if let Some((_, image)) = &image
            && let Some(defaults) = &image.config
        {
            merge::with_image(&mut config, defaults);
        }
        config.labels.get_or_insert_default();
        let (path, args) = merge::command(&mut config)?;
        validate::config(&mut config)?;
        self.log_config(&mut host_config)?;
        self.defaults(&mut host_config)?;
        let security = security::parse(host_config.security_opt.as_deref().unwrap_or_default(), &self.config)?;

        let id = random_id();
        let name = self.reserve_name(name, &id)?;
        hostname(&mut config, &host_config, &id);
        let record = Record {
            schema: SCHEMA,
            name: name.clone(),
            created: Timestamp::now(),
            path,
            args,
            image: image.as_ref().map(|(id, _)| id.to_string()).unwrap_or_default(),
            platform: image.as_ref().map_or("linux", |(_, image)| image.os.as_str()).to_owned(),
            config,
            state: State::created(),
            mounts: Vec::new(),
            network: NetworkRecord {
                endpoints: crate::networking::requested(&host_config, endpoints),
                ..NetworkRecord::default()
            },
            restart_count: 0,
            stopped_by_user: false,
            started_before: false,
            security,
            log_path: self.log_path(&host_config, &id),
            host_config,
            id: id.clone(),
        };
        match self.materialize(record, image.map(|(id, _)| id)).await {
            Ok(record) => {
                self.container_event(&record, "create", &[]);
                Actor::spawn(&self.arc(), record, Adopted::default());
                Ok(CreateResponse { id, warnings })
            }
            Err(error) => {
                self.containers.release(&name, &id);
                Err(error)
            }
        }
    }

    /// The image by name, checked against the platform that was asked for; `None` for a request without image.
    async fn find_image(&self, name: &str, platform: Option<&str>) -> Result<Option<(ImageId, ImageConfig)>> {
        if name.is_empty() {
            return Ok(None);
        }
        let (store, owned, policy) = (self.store.clone(), name.to_owned(), self.config.policy_file.clone());
        let (id, config) = self
            .blocking(move || {
                let id = store.image_resolve(&owned).map_err(|e| image_error(&owned, &e))?;
                crate::policy::check_run(policy.as_deref(), &store, &owned, &id)?;
                let bytes = store.image_config_bytes(&id)?;
                let config =
                    ImageConfig::parse(&bytes).map_err(|e| Error::caused(Kind::System, format!("image {owned}"), e))?;
                Ok((id, config))
            })
            .await?;
        if let Some(wanted) = platform.filter(|p| !p.is_empty()) {
            crate::platform::matches(wanted, &config, name)?;
        }
        Ok(Some((id, config)))
    }

    /// The log driver and its options, with the engine's defaults.
    fn log_config(&self, host: &mut HostConfig) -> Result<()> {
        let log = &mut host.log_config;
        if log.driver.is_empty() {
            log.driver.clone_from(&self.config.log_driver);
            if log.config.as_ref().is_none_or(BTreeMap::is_empty) {
                log.config = Some(self.config.log_options.clone());
            }
        }
        let options = log.config.get_or_insert_default();
        if log.driver != "none" {
            log_options::log_buffer(options)?;
        }
        let known: &[&str] = match log.driver.as_str() {
            "json-file" | "local" => &[
                "max-file",
                "max-size",
                "compress",
                "labels",
                "labels-regex",
                "env",
                "env-regex",
                "tag",
                "mode",
                "max-buffer-size",
            ],
            "none" => return Ok(()),
            other => {
                return Err(Error::invalid(format!(
                    "error looking up logging plugin {other}: plugin {other:?} not found"
                )));
            }
        };
        match options.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(Error::invalid(format!("unknown log opt '{key}' for {} log driver", log.driver))),
            // Values are looked at by the start, as in dockerd; what this engine cannot do is refused before.
            None => log_options::log_limits(options)
                .map_or_else(|e| if e.kind() == Kind::NotImplemented { Err(e) } else { Ok(()) }, |_| Ok(())),
        }
    }

    fn log_path(&self, host: &HostConfig, id: &str) -> String {
        let directory = Directories::new(&self.config.data_root, &self.config.exec_root, id).data;
        match host.log_config.driver.as_str() {
            "json-file" => directory.join(format!("{id}-json.log")).display().to_string(),
            _ => String::new(),
        }
    }

    /// What dockerd fills in when nothing was asked for.
    fn defaults(&self, host: &mut HostConfig) -> Result<()> {
        if host.memory > 0 && host.memory_swap == 0 {
            host.memory_swap = host.memory.saturating_mul(2);
        }
        if host.shm_size == 0 {
            host.shm_size = self.config.default_shm_size_bytes;
        }
        if host.ipc_mode.is_empty() {
            "private".clone_into(&mut host.ipc_mode);
        }
        if matches!(host.network_mode.as_str(), "" | "default") {
            "bridge".clone_into(&mut host.network_mode);
        }
        let info = SysInfo::get();
        if host.cgroupns_mode.is_empty() {
            let default = if info.cgroup_version == 2 { "private" } else { "host" };
            let engine = self.config.default_cgroupns_mode.as_deref().unwrap_or(default);
            let mode = if host.privileged && info.cgroup_version == 1 { "host" } else { engine };
            mode.clone_into(&mut host.cgroupns_mode);
        }
        if host.oom_kill_disable.is_none() && info.oom_kill_disable {
            host.oom_kill_disable = Some(false);
        }
        if host.restart_policy.name.is_empty() {
            "no".clone_into(&mut host.restart_policy.name);
        }
        // Ids rather than names: they stay right when the other container is renamed. A missing one is only an error for pid
        // and ipc; the network is looked up at the start.
        let by_id = |mode: &mut String, must: bool| -> Result<()> {
            if let Some(other) = mode.strip_prefix("container:") {
                match self.containers.get(other) {
                    Ok(found) => *mode = format!("container:{}", found.id()),
                    Err(error) if must => return Err(error),
                    Err(_) => {}
                }
            }
            Ok(())
        };
        by_id(&mut host.pid_mode, true)?;
        by_id(&mut host.ipc_mode, true)?;
        by_id(&mut host.network_mode, false)?;
        if host.privileged || host.pid_mode == "host" || host.ipc_mode == "host" {
            // Sharing that much makes separation by labels pointless; dockerd says so in the record.
            host.security_opt.get_or_insert_default().push("label=disable".to_owned());
        }
        if host.privileged {
            return Ok(());
        }
        host.masked_paths.get_or_insert_with(spec::default_masked_paths);
        host.readonly_paths.get_or_insert_with(spec::default_readonly_paths);
        Ok(())
    }

    fn reserve_name(&self, asked: Option<&str>, id: &str) -> Result<String> {
        if let Some(asked) = asked.filter(|name| !name.is_empty()) {
            let bare = names::validate(asked)?;
            return match self.containers.reserve(bare, id) {
                Ok(()) => Ok(bare.to_owned()),
                Err(owner) => Err(name_taken(bare, &owner)),
            };
        }
        for draw in 0..names::MAX_DRAWS + 9 {
            let name = names::generated(random_u64(), draw);
            if self.containers.reserve(&name, id).is_ok() {
                return Ok(name);
            }
        }
        let short = id[..12].to_owned();
        self.containers.reserve(&short, id).map_err(|owner| name_taken(&short, &owner))?;
        Ok(short)
    }

    /// Makes snapshot, volumes, directory and record; takes everything back on an error.
    async fn materialize(&self, mut record: Record, image: Option<ImageId>) -> Result<Record> {
        let mut mounts = self.mount_requests(&record)?;
        let directories = Directories::new(&self.config.data_root, &self.config.exec_root, &record.id);
        let begun = directories.begun();
        for mount in mounts.iter_mut().filter(|m| m.anonymous && m.name.is_empty()) {
            mount.name = random_id();
        }
        if mounts.iter().any(|m| m.anonymous) {
            // Names of volumes that nobody else knows are on disk before the volumes are: a crash leaves none behind.
            let draft = Record { mounts: mounts.clone(), ..record.clone() };
            let begun = begun.clone();
            self.blocking(move || save_begun(&draft, &begun)).await?;
        }
        record.mounts = mounts;
        let built = self.build(&mut record, image, begun, directories).await;
        if let Err(error) = built {
            self.take_back(&record).await;
            return Err(error);
        }
        Ok(record)
    }

    async fn build(
        &self,
        record: &mut Record,
        image: Option<ImageId>,
        begun: PathBuf,
        directories: Directories,
    ) -> Result<()> {
        let mut mounts = std::mem::take(&mut record.mounts);
        for mount in mounts.iter_mut().filter(|m| m.kind == MountKind::Volume) {
            let provided = self.provide_volume(mount, record).await;
            if provided.is_err() {
                record.mounts = mounts;
                return provided;
            }
        }
        record.mounts = mounts;
        let (store, record) = (self.store.clone(), record.clone());
        self.blocking(move || {
            let options = SnapshotOptions { ephemeral: record.host_config.auto_remove };
            store.snapshot_create(&record.id, image.as_ref(), options)?;
            check_working_directory(&store, &record)?;
            populate(&store, &record)?;
            save_begun(&record, &begun)?;
            let failed = |e| Error::caused(Kind::System, format!("creating {}", directories.data.display()), e);
            std::fs::rename(&begun, &directories.data).map_err(failed)
        })
        .await
    }

    /// Removes what a failed creation made. Named volumes stay, as in dockerd: somebody else may use them by now.
    async fn take_back(&self, record: &Record) {
        for mount in record.mounts.iter().filter(|m| m.anonymous) {
            let _ = self.delete_volume(&mount.name).await;
        }
        let (store, id) = (self.store.clone(), record.id.clone());
        let begun = Directories::new(&self.config.data_root, &self.config.exec_root, &id).begun();
        let _ = self
            .blocking(move || {
                let _ = std::fs::remove_dir_all(begun);
                Ok(store.snapshot_remove(&id)?)
            })
            .await;
    }

    /// Every mount that is asked for: `--volumes-from`, `-v`, `--mount`, `--tmpfs`, then the image's volumes where nothing is yet.
    fn mount_requests(&self, record: &Record) -> Result<Vec<MountRecord>> {
        let host = &record.host_config;
        let mut list: Vec<MountRecord> = Vec::new();
        for text in host.volumes_from.iter().flatten() {
            let (other, mode) = mounts::parse_volumes_from(text)?;
            let other = self.containers.get(other).map_err(|e| e.with_kind(Kind::InvalidParameter))?.record();
            for mount in other.mounts.iter().filter(|m| m.kind != MountKind::Tmpfs) {
                list.retain(|m| m.destination != mount.destination);
                let rw = mount.rw && !mode.split(',').any(|word| word == "ro");
                list.push(MountRecord { rw, mode: mode.to_owned(), copy: false, ..mount.clone() });
            }
        }
        let inherited = list.len();
        let mut add = |mount: MountRecord| -> Result<()> {
            if list[inherited..].iter().any(|m| m.destination == mount.destination) {
                return Err(Error::invalid(format!("Duplicate mount point: {}", mount.destination)));
            }
            match list[..inherited].iter().position(|m| m.destination == mount.destination) {
                Some(at) => list[at] = mount,
                None => list.push(mount),
            }
            Ok(())
        };
        for text in host.binds.iter().flatten() {
            add(mounts::parse_bind(text, &host.volume_driver)?)?;
        }
        for mount in &host.mounts {
            add(mounts::from_mount(mount))?;
        }
        for (destination, options) in &host.tmpfs {
            add(mounts::from_tmpfs(destination, options))?;
        }
        for path in record.config.volumes.iter().flat_map(BTreeMap::keys) {
            let destination = mounts::clean(path);
            if !list.iter().any(|m| m.destination == destination) {
                list.push(mounts::anonymous(&destination));
            }
        }
        Ok(list)
    }

    /// Finds or makes the volume of a mount.
    async fn provide_volume(&self, mount: &mut MountRecord, record: &Record) -> Result<()> {
        let options = record.host_config.mounts.iter().find(|m| mounts::clean(&m.target) == mount.destination);
        let options = options.and_then(|m| m.volume_options.clone()).unwrap_or_default();
        let mut labels = options.labels;
        if mount.anonymous {
            labels.insert(crate::volume::ANONYMOUS.to_owned(), String::new());
        }
        let volume = self
            .volume_create(api::volume::CreateRequest {
                name: mount.name.clone(),
                driver: mount.driver.clone(),
                driver_opts: options.driver_config.map(|d| d.options).unwrap_or_default(),
                labels: Some(labels).filter(|l| !l.is_empty()),
                ..api::volume::CreateRequest::default()
            })
            .await?;
        mount.driver = volume.driver;
        mount.source = volume.mountpoint;
        if mount.mode.is_empty() && !mount.anonymous {
            // What inspect shows for a named volume without mode.
            "z".clone_into(&mut mount.mode);
        }
        Ok(())
    }
}

/// Writes the record of a creation that is not done yet.
fn save_begun(record: &Record, begun: &Path) -> Result<()> {
    let failed = |e| Error::caused(Kind::System, format!("creating {}", begun.display()), e);
    std::fs::create_dir_all(begun).map_err(failed)?;
    record.save(begun)
}

fn image_error(name: &str, error: &store::Error) -> Error {
    match error.kind() {
        store::ErrorKind::NotFound => {
            let tagged = match oci::Reference::parse_normalized(name) {
                Ok(reference) => reference.with_default_tag().familiar(),
                Err(_) => name.to_owned(),
            };
            Error::not_found(format!("No such image: {tagged}"))
        }
        store::ErrorKind::InvalidParameter => Error::invalid(error.to_string()),
        store::ErrorKind::Conflict => Error::conflict(error.to_string()),
        _ => Error::system(error.to_string()),
    }
}

/// The name that the container calls itself.
fn hostname(config: &mut Config, host: &HostConfig, id: &str) {
    if !config.hostname.is_empty() {
        return;
    }
    config.hostname = if host.network_mode == "host" {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    } else {
        id[..12].to_owned()
    };
}

/// The working directory is made by the runtime; only a file in its place is an error, and dockerd says so at creation.
fn check_working_directory(store: &store::Store, record: &Record) -> Result<()> {
    let path = record.config.working_dir.as_str();
    if path.is_empty() || path == "/" {
        return Ok(());
    }
    let root = Root::new(&store.snapshot_mounts(&record.id)?);
    if root.is_file(path) {
        return Err(Error::system(format!("Cannot mkdir: {path} is not a directory")));
    }
    Ok(())
}

/// Gives empty volumes what the image has at their place.
fn populate(store: &store::Store, record: &Record) -> Result<()> {
    let volumes = record.mounts.iter().filter(|m| m.kind == MountKind::Volume && m.copy);
    let mut root = None;
    for mount in volumes {
        let target = std::path::Path::new(&mount.source);
        if !super::root::is_empty(target) {
            continue;
        }
        if root.is_none() {
            root = Some(Root::new(&store.snapshot_mounts(&record.id)?));
        }
        if let Some(root) = &root {
            root.copy_up(&mount.destination, target)
                .map_err(|e| Error::caused(Kind::System, format!("failed to populate volume {}", mount.name), e))?;
        }
    }
    Ok(())
}
