//! `docker commit`: what a container changed becomes a layer, and its configuration an image.

use api::container::Config;
use api::image::CommitResponse;
use jiff::Timestamp;
use oci::image_config::{self, History};
use oci::reference::Reference;
use oci::{Digest, ImageConfig};
use store::{ImageId, Layer, NewImage};

use super::inspect::new_name;
use super::{CommitOptions, changes};
use crate::container::Container;
use crate::container::merge;
use crate::container::transitions::Status;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

impl Engine {
    /// Makes an image of a container. `config` replaces the container's configuration, which completes it.
    pub async fn commit(&self, options: CommitOptions, config: Option<Config>) -> Result<CommitResponse> {
        let engine = self.arc();
        // On a task of its own: a caller that hangs up must not leave the container frozen.
        let work = tokio::spawn(async move { engine.commit_container(options, config).await });
        work.await.map_err(|error| Error::system(format!("committing a container: {error}")))?
    }

    async fn commit_container(&self, options: CommitOptions, config: Option<Config>) -> Result<CommitResponse> {
        let name = new_name(&options.repo, &options.tag)?;
        if options.container.is_empty() {
            return Err(Error::invalid("invalid name or ID supplied: \"\""));
        }
        let container = self.container(&options.container)?;
        let record = container.record();
        match record.state.status {
            Status::Dead => return Err(refused(&record.id, "Dead")),
            Status::Removing => return Err(refused(&record.id, "being removed")),
            _ => {}
        }
        // Complaints about the instructions come before anything is frozen.
        let config = changed_config(&record.config, config, &options.changes)?;
        let is_paused = options.pause
            && record.state.status == Status::Running
            && self.container_pause(container.id()).await.is_ok();
        let made = self.make_image(&container, config, &options, name.clone()).await;
        if let Ok(id) = &made {
            let shown = name.as_ref().map(Reference::familiar).unwrap_or_default();
            if name.is_some() {
                self.image_event("tag", id.as_str(), &shown).await;
            }
            let more = [("comment", options.comment.as_str()), ("imageID", id.as_str()), ("imageRef", shown.as_str())];
            self.container_event(&record, "commit", &more);
        }
        if is_paused && let Err(error) = self.container_unpause(container.id()).await {
            tracing::warn!(%error, container = %record.id, "thawing after a commit");
        }
        self.has_grown();
        made.map(|id| CommitResponse { id: id.to_string() })
    }

    async fn make_image(
        &self,
        container: &Container,
        config: Config,
        options: &CommitOptions,
        name: Option<Reference>,
    ) -> Result<ImageId> {
        let (store, record, options) = (self.store.clone(), container.record(), options.clone());
        let version = self.config.version.clone();
        self.blocking(move || {
            let lease = store.lease();
            let parent = match record.image.as_str() {
                "" => None,
                id => Some(
                    id.parse::<ImageId>()
                        .map_err(|error| Error::caused(Kind::System, "image of the container", error))?,
                ),
            };
            let base = parent.as_ref().map(|id| store.image(id)).transpose()?.map(|image| image.config);
            let layer = store.snapshot_commit(&lease, &record.id)?;
            let mut image = image_of(base, &layer, &config)?;
            image.author = options.author;
            image.container.clone_from(&record.id);
            image.container_config = serde_json::to_value(&record.config).ok();
            image.docker_version = version;
            let created = api::time::rfc3339(Timestamp::now());
            image.created = Some(created.clone());
            image.history.push(History {
                created: Some(created),
                author: image.author.clone(),
                created_by: record.config.cmd.as_deref().unwrap_or_default().join(" "),
                comment: options.comment,
                empty_layer: layer.is_empty(),
                ..History::default()
            });
            let new = NewImage { config: image.to_bytes(), parent, ..NewImage::default() };
            let id = store.image_create(&lease, new)?;
            if let Some(name) = name {
                store.image_tag(&name, &id)?;
            }
            Ok(id)
        })
        .await
    }
}

fn refused(id: &str, state: &str) -> Error {
    Error::conflict(format!("You cannot commit container {id} which is {state}"))
}

/// The configuration of the image: the given or the container's own, changed, and completed by the container's.
fn changed_config(own: &Config, given: Option<Config>, instructions: &[String]) -> Result<Config> {
    let mut config = given.filter(|config| *config != Config::default()).unwrap_or_else(|| own.clone());
    changes::apply(&mut config, instructions)?;
    merge::with_image(&mut config, &stored(own)?);
    Ok(config)
}

/// A container's configuration as images hold it, with all that is a container's only.
pub(super) fn stored(config: &Config) -> Result<image_config::Config> {
    let value = serde_json::to_value(config).and_then(serde_json::from_value);
    value.map_err(|error| Error::caused(Kind::System, "configuration of the image", error))
}

/// The new image's layers and platform: those of its base, and the layer if there is something in it.
fn image_of(base: Option<ImageConfig>, layer: &Layer, config: &Config) -> Result<ImageConfig> {
    let mut image = match base {
        Some(base) => ImageConfig {
            architecture: base.architecture,
            variant: base.variant,
            os: base.os,
            os_version: base.os_version,
            history: base.history,
            rootfs: base.rootfs,
            ..ImageConfig::default()
        },
        None => ImageConfig {
            architecture: crate::system::architecture().to_owned(),
            os: "linux".to_owned(),
            ..ImageConfig::default()
        },
    };
    image.config = Some(stored(config)?);
    if !layer.is_empty() {
        let diff_id: Digest = layer.diff_id.clone();
        image.rootfs.diff_ids.push(diff_id);
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_win_and_the_container_completes() {
        let own = Config {
            hostname: "h".into(),
            env: Some(vec!["A=1".into()]),
            cmd: Some(vec!["x".into()]),
            labels: Some([("a".to_owned(), "b".to_owned())].into()),
            ..Config::default()
        };
        let changed = changed_config(&own, None, &["ENV B=2".into(), "LABEL c=d".into()]).unwrap();
        assert_eq!(changed.env.as_deref().unwrap(), ["A=1", "B=2"]);
        assert_eq!(changed.labels.as_ref().unwrap().len(), 2);
        assert_eq!(changed.hostname, "h");
        let given = Config { user: "u".into(), ..Config::default() };
        let changed = changed_config(&own, Some(given), &[]).unwrap();
        assert_eq!((changed.user.as_str(), changed.hostname.as_str()), ("u", ""));
        assert_eq!(changed.cmd, own.cmd);
        // Docker takes the entry point back when it was emptied, but the command stays gone with a new one.
        assert_eq!(changed_config(&own, None, &["ENTRYPOINT [\"e\"]".into()]).unwrap().cmd, None);
        assert_eq!(stored(&own).unwrap().extra["Hostname"], "h");
    }
}
