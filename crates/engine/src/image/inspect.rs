//! `docker image inspect`, `docker history` and `docker tag`.

use std::collections::BTreeMap;

use api::container::{EmptyObject, GraphDriver, HealthConfig};
use api::image::{Config, HistoryItem, InspectResponse, Metadata, RootFs};
use jiff::Timestamp;
use oci::image_config;
use oci::reference::Reference;
use store::{Driver, Image, Store};

use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

impl Engine {
    /// All that is known of an image.
    pub async fn image_inspect(&self, name: &str) -> Result<InspectResponse> {
        let (store, name) = (self.store.clone(), name.to_owned());
        self.blocking(move || {
            let image = store.image(&store.image_resolve(&name)?)?;
            let graph_driver = graph_driver(&image, &store);
            Ok(InspectResponse { graph_driver, ..response(image) })
        })
        .await
    }

    /// How an image was made, the latest step first.
    pub async fn image_history(&self, name: &str) -> Result<Vec<HistoryItem>> {
        let (store, name) = (self.store.clone(), name.to_owned());
        self.blocking(move || {
            let id = store.image_resolve(&name)?;
            Ok(store.image_history(&id)?.into_iter().map(step).collect())
        })
        .await
    }

    /// Gives an image a further name.
    pub async fn image_tag(&self, name: &str, repo: &str, tag: &str) -> Result<()> {
        let reference = new_name(repo, tag)?.ok_or_else(|| Error::invalid("invalid reference format"))?;
        let (store, name, owned) = (self.store.clone(), name.to_owned(), reference.clone());
        let id = self
            .blocking(move || {
                // Whatever is wrong with the name: Docker says 404 here.
                let id = store.image_resolve(&name).map_err(|error| Error::from(error).with_kind(Kind::NotFound))?;
                store.image_tag(&owned, &id)?;
                Ok(id)
            })
            .await?;
        self.image_event("tag", id.as_str(), &reference.familiar()).await;
        Ok(())
    }
}

/// A repository and a tag from outside as the name for an image; `None` without a repository.
pub(super) fn new_name(repo: &str, tag: &str) -> Result<Option<Reference>> {
    if repo.is_empty() {
        return Ok(None);
    }
    let reference = Reference::parse_normalized(repo).map_err(|error| Error::invalid(error.to_string()))?;
    if reference.digest().is_some() {
        return Err(Error::invalid("cannot import digest reference"));
    }
    if tag.is_empty() {
        return Ok(Some(reference.with_default_tag()));
    }
    reference.with_tag(tag).map(Some).map_err(|_| Error::invalid("invalid tag format"))
}

fn response(image: Image) -> InspectResponse {
    let familiar = |names: &[Reference]| names.iter().map(Reference::familiar).collect();
    let config = image.config;
    // Docker looks for the comment of the last step where the image itself has none.
    let last_comment = || config.history.last().map(|step| step.comment.clone()).unwrap_or_default();
    InspectResponse {
        id: image.id.to_string(),
        repo_tags: familiar(&image.tags),
        repo_digests: familiar(&image.repo_digests),
        parent: image.parent.map(|parent| parent.to_string()).unwrap_or_default(),
        comment: if config.comment.is_empty() { last_comment() } else { config.comment },
        created: config.created.unwrap_or_default(),
        docker_version: config.docker_version,
        author: config.author,
        config: config.config.map(shown_config),
        architecture: config.architecture,
        variant: config.variant,
        os: config.os,
        os_version: config.os_version,
        size: i64::try_from(image.size).unwrap_or(i64::MAX),
        root_fs: RootFs {
            kind: "layers".into(),
            layers: image.layers.iter().map(|layer| layer.diff_id.to_string()).collect(),
        },
        metadata: Metadata {
            last_tag_time: image
                .last_tagged_ns
                .and_then(|time| Timestamp::from_nanosecond(time.into()).ok())
                .map_or_else(|| api::time::ZERO.to_owned(), api::time::rfc3339),
        },
        ..InspectResponse::default()
    }
}

/// Where the image's files are, in the words of Docker's overlay driver. The merged and work directories are where a
/// mount of the image would have them; none is made as long as nothing runs.
fn graph_driver(image: &Image, store: &Store) -> GraphDriver {
    let (root, name) = (store.root(), store.driver().name().to_owned());
    if store.driver() == Driver::Copying {
        return GraphDriver { data: None, name };
    }
    let directory = |hex: &str, part: &str| root.join("layers").join(hex).join(part).display().to_string();
    let mut layers = image.layers.iter().rev().map(|layer| layer.diff_id.hex());
    let Some(top) = layers.next() else { return GraphDriver { data: None, name } };
    let lower: Vec<String> = layers.map(|hex| directory(hex, "fs")).collect();
    let mut data = BTreeMap::new();
    if !lower.is_empty() {
        data.insert("LowerDir".to_owned(), lower.join(":"));
    }
    for (key, part) in [("MergedDir", "merged"), ("UpperDir", "fs"), ("WorkDir", "work")] {
        data.insert(key.to_owned(), directory(top, part));
    }
    GraphDriver { data: Some(data), name }
}

fn shown_config(config: image_config::Config) -> Config {
    let set = |keys: Option<BTreeMap<String, image_config::Empty>>| {
        keys.unwrap_or_default().into_keys().map(|key| (key, EmptyObject {})).collect()
    };
    Config {
        user: config.user,
        exposed_ports: set(config.exposed_ports),
        env: config.env,
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        volumes: set(config.volumes),
        working_dir: config.working_dir,
        labels: config.labels,
        stop_signal: config.stop_signal.unwrap_or_default(),
        args_escaped: config.args_escaped,
        healthcheck: config.healthcheck.map(|check| HealthConfig {
            test: Some(check.test).filter(|test| !test.is_empty()),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        on_build: config.on_build,
        shell: config.shell,
    }
}

fn step(step: store::HistoryItem) -> HistoryItem {
    let tags: Vec<String> = step.tags.iter().map(Reference::familiar).collect();
    HistoryItem {
        comment: step.comment,
        created: step.created.as_deref().and_then(api::time::parse).map_or(0, Timestamp::as_second),
        created_by: step.created_by,
        id: step.id.map_or_else(|| "<missing>".to_owned(), |id| id.to_string()),
        size: i64::try_from(step.size).unwrap_or(i64::MAX),
        tags: Some(tags).filter(|tags| !tags.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_for_images() {
        let name = |repo, tag| new_name(repo, tag).map(|name| name.map(|name| name.familiar()));
        assert_eq!(name("x", "").unwrap().as_deref(), Some("x:latest"));
        assert_eq!(name("x:a", "").unwrap().as_deref(), Some("x:a"));
        assert_eq!(name("x:a", "y").unwrap().as_deref(), Some("x:y"));
        assert_eq!(name("", "y").unwrap(), None);
        assert_eq!(name("x", "y:z").unwrap_err().message(), "invalid tag format");
        let digest = format!("x@sha256:{}", "0".repeat(64));
        assert_eq!(name(&digest, "").unwrap_err().message(), "cannot import digest reference");
    }
}
