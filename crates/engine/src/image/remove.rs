//! `docker rmi` and `docker image prune`. What may go, and in which order it is reported, is decided in the store.

use std::collections::{BTreeMap, HashMap, HashSet};

use api::Filters;
use api::image::{DeleteItem, PruneResponse};
use oci::Digest;
use store::{Image, ImageId, ImageUsers, Removal, Store};

use super::RemoveOptions;
use super::list::{Period, chain_ids, has_labels};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// Filters that prune understands.
const FILTERS: [&str; 4] = ["dangling", "label", "label!", "until"];

/// Which containers use which image.
type Users = HashMap<String, ImageUsers>;

impl Engine {
    /// Removes an image, or one of its names. Tells what was done, in Docker's order.
    pub async fn image_remove(&self, name: &str, options: RemoveOptions) -> Result<Vec<DeleteItem>> {
        if name.trim().is_empty() {
            return Err(Error::invalid("image name cannot be blank"));
        }
        let (store, users, name) = (self.store.clone(), self.image_users(), name.to_owned());
        let wanted = name.clone();
        let removed = self
            .blocking(move || {
                let labels = labels_by_image(&store)?;
                Ok((remove(&store, &users, &name, options.force, !options.no_prune)?, labels))
            })
            .await?;
        let (removals, labels) = removed;
        let by_id = removals.iter().any(|removal| match removal {
            Removal::Untagged { image, .. } | Removal::Deleted(image) => {
                image.as_str().starts_with(&wanted) || image.digest().hex().starts_with(&wanted)
            }
            Removal::DeletedLayer(_) => false,
        });
        self.tell(&removals, &labels, by_id);
        Ok(removals.iter().map(item).collect())
    }

    /// Removes the images that nothing uses: those without a tag, or with `dangling=false` all.
    pub async fn image_prune(&self, filters: &Filters) -> Result<PruneResponse> {
        filters.validate(&FILTERS).map_err(|error| Error::invalid(error.message))?;
        let dangling = filters.flag("dangling").map_err(|error| Error::invalid(error.message))?.unwrap_or(true);
        let period = Period::until(filters)?;
        let (store, users, filters) = (self.store.clone(), self.image_users(), filters.clone());
        let (removals, labels, space_reclaimed) = self
            .blocking(move || {
                let labels = labels_by_image(&store)?;
                let images = store.images()?;
                let sizes: HashMap<Digest, u64> = images
                    .iter()
                    .flat_map(|image| chain_ids(image).into_iter().zip(image.layers.iter().map(|layer| layer.size)))
                    .collect();
                let mut removals = Vec::new();
                for name in candidates(&images, dangling, |image| period.includes(image) && has_labels(&filters, image))
                {
                    match remove(&store, &users, &name, false, true) {
                        Ok(removed) => removals.extend(removed),
                        // What is in use stays, or somebody else was faster: no failure of a prune.
                        Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {}
                        // Nor does another one end it, as in Docker.
                        Err(error) => tracing::warn!(%error, image = name, "removing an image"),
                    }
                }
                let freed = removals.iter().map(|removal| match removal {
                    Removal::DeletedLayer(chain_id) => sizes.get(chain_id).copied().unwrap_or_default(),
                    _ => 0,
                });
                // What broken pulls left has neither age nor labels.
                let is_for_all = ["until", "label", "label!"].iter().all(|key| !filters.contains(key));
                let parts = if is_for_all { store.partials_remove() } else { 0 };
                let freed: u64 = freed.sum();
                Ok((removals, labels, freed + parts))
            })
            .await?;
        self.tell(&removals, &labels, false);
        self.events.emit("image", "prune", "", [("reclaimed".to_owned(), space_reclaimed.to_string())].into());
        let items: Vec<DeleteItem> = removals.iter().map(item).collect();
        Ok(PruneResponse { images_deleted: Some(items).filter(|items| !items.is_empty()), space_reclaimed })
    }

    /// Which containers use which image, at this moment.
    pub(crate) fn image_users(&self) -> Users {
        let mut users = Users::new();
        for container in self.containers.all() {
            let record = container.record();
            let entry = users.entry(record.image.clone()).or_default();
            let place = if record.state.status.counts_as_running() { &mut entry.running } else { &mut entry.stopped };
            place.get_or_insert_with(|| record.id.clone());
        }
        users
    }

    /// The events of a removal. A digest that goes with the last tag of its repository is not told, except by id.
    fn tell(&self, removals: &[Removal], labels: &Labels, by_id: bool) {
        let has_tag =
            removals.iter().any(|removal| matches!(removal, Removal::Untagged { name, .. } if name.digest().is_none()));
        for removal in removals {
            let (action, image) = match removal {
                Removal::Untagged { name, .. } if name.digest().is_some() && has_tag && !by_id => continue,
                Removal::Untagged { image, .. } => ("untag", image),
                Removal::Deleted(image) => ("delete", image),
                Removal::DeletedLayer(_) => continue,
            };
            // Docker forgets the labels of an image that it has just deleted.
            let mut attributes =
                if action == "untag" { labels.get(image).cloned().unwrap_or_default() } else { BTreeMap::new() };
            attributes.insert("name".to_owned(), image.to_string());
            self.events.emit("image", action, image.as_str(), attributes);
        }
    }
}

/// Labels by image, read before the images are gone.
type Labels = HashMap<ImageId, BTreeMap<String, String>>;

fn labels_by_image(store: &Store) -> Result<Labels> {
    let labels = |image: Image| (image.id, image.config.config.and_then(|config| config.labels).unwrap_or_default());
    Ok(store.images()?.into_iter().map(labels).collect())
}

fn remove(store: &Store, users: &Users, name: &str, force: bool, prune: bool) -> Result<Vec<Removal>> {
    let of = |id: &ImageId| users.get(id.as_str()).cloned().unwrap_or_default();
    Ok(store.image_remove(name, force, prune, &of)?)
}

/// What a prune tries to remove: names, or ids of images without any.
fn candidates(images: &[Image], dangling_only: bool, is_wanted: impl Fn(&Image) -> bool) -> Vec<String> {
    let parents: HashSet<&ImageId> = images.iter().filter_map(|image| image.parent.as_ref()).collect();
    let mut found = Vec::new();
    for image in images.iter().filter(|image| is_wanted(image)) {
        let names: Vec<String> = image.tags.iter().chain(&image.repo_digests).map(ToString::to_string).collect();
        if names.is_empty() {
            if !parents.contains(&image.id) {
                found.push(image.id.to_string());
            }
        } else if !dangling_only || image.tags.is_empty() {
            found.extend(names);
        }
    }
    found
}

fn item(removal: &Removal) -> DeleteItem {
    match removal {
        Removal::Untagged { name, .. } => DeleteItem { untagged: name.familiar(), ..DeleteItem::default() },
        Removal::Deleted(image) => DeleteItem { deleted: image.to_string(), ..DeleteItem::default() },
        Removal::DeletedLayer(chain_id) => DeleteItem { deleted: chain_id.to_string(), ..DeleteItem::default() },
    }
}
