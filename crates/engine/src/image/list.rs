//! `docker images`.

use std::collections::{HashMap, HashSet};

use api::Filters;
use api::image::Summary;
use jiff::Timestamp;
use oci::reference::Reference;
use oci::{Digest, image_config::RootFs};
use store::{Image, ImageId, Store};

use super::{ListOptions, pattern};
use crate::engine::Engine;
use crate::error::{Error, Result};

/// Filters that the list understands.
const FILTERS: [&str; 7] = ["dangling", "label", "label!", "before", "since", "reference", "until"];

impl Engine {
    /// All images, the newest first.
    pub async fn image_list(&self, options: ListOptions) -> Result<Vec<Summary>> {
        options.filters.validate(&FILTERS).map_err(|error| Error::invalid(error.message))?;
        let users: Vec<String> = if options.container_count {
            self.containers.all().iter().map(|container| container.record().image.clone()).collect()
        } else {
            Vec::new()
        };
        let store = self.store.clone();
        self.blocking(move || list(&store, &options, &users)).await
    }
}

fn list(store: &Store, options: &ListOptions, users: &[String]) -> Result<Vec<Summary>> {
    let images = store.images()?;
    let dangling = options.filters.flag("dangling").map_err(|error| Error::invalid(error.message))?;
    let period = Period::read(store, &options.filters)?;
    let parents: HashSet<ImageId> = images.iter().filter_map(|image| image.parent.clone()).collect();
    let shared = options.shared_size.then(|| Shared::count(&images));
    let mut found = Vec::new();
    for image in &images {
        let is_parent = parents.contains(&image.id);
        if (dangling == Some(true) && is_parent) || !period.includes(image) || !has_labels(&options.filters, image) {
            continue;
        }
        let tags = matching(&options.filters, &image.tags)?;
        let digests = matching(&options.filters, &image.repo_digests)?;
        if tags.is_empty() && digests.is_empty() {
            // Without a name: a step on the way to another image, or dangling.
            let is_shown = options.all || !is_parent;
            if !is_shown || dangling == Some(false) || options.filters.contains("reference") {
                continue;
            }
        } else if dangling == Some(true) && !tags.is_empty() {
            continue;
        }
        let mut summary = summary(image, tags, digests);
        if let Some(shared) = &shared {
            summary.shared_size = shared.size_in(image);
        }
        if options.container_count {
            let count = users.iter().filter(|user| *user == image.id.as_str()).count();
            summary.containers = i64::try_from(count).unwrap_or(i64::MAX);
        }
        found.push(summary);
    }
    found.sort_by_key(|summary| std::cmp::Reverse(summary.created));
    Ok(found)
}

fn summary(image: &Image, tags: Vec<String>, digests: Vec<String>) -> Summary {
    Summary {
        containers: -1,
        created: created(image).map_or(0, Timestamp::as_second),
        id: image.id.to_string(),
        labels: image.config.config.as_ref().and_then(|config| config.labels.clone()),
        parent_id: image.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        repo_digests: digests,
        repo_tags: tags,
        shared_size: -1,
        size: i64::try_from(image.size).unwrap_or(i64::MAX),
        ..Summary::default()
    }
}

/// When an image was made, if it says so.
pub(super) fn created(image: &Image) -> Option<Timestamp> {
    image.config.created.as_deref().and_then(api::time::parse)
}

/// The names that one of the `reference` patterns matches, as users type them; all of them without such a filter.
fn matching(filters: &Filters, names: &[Reference]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in names {
        let mut is_wanted = !filters.contains("reference");
        for wanted in filters.get("reference") {
            let matches =
                |text: String| pattern::matches(wanted, &text).map_err(|error| Error::system(error.to_string()));
            is_wanted = is_wanted || matches(name.familiar())? || matches(name.familiar_name())?;
        }
        if is_wanted {
            found.push(name.familiar());
        }
    }
    Ok(found)
}

/// Do the filters `label` and `label!` let this image pass?
pub(super) fn has_labels(filters: &Filters, image: &Image) -> bool {
    let labels = image.config.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default();
    filters.labels("label", &labels) && !(filters.contains("label!") && filters.labels("label!", &labels))
}

/// `before`, `since` and `until` as two times between which an image must have been made.
#[derive(Debug, Default)]
pub(super) struct Period {
    after: Option<Timestamp>,
    before: Option<Timestamp>,
}

impl Period {
    fn read(store: &Store, filters: &Filters) -> Result<Self> {
        let mut period = Self::until(filters)?;
        let time_of = |name: &str| -> Result<Timestamp> {
            let image = store.image(&store.image_resolve(name)?)?;
            Ok(created(&image).unwrap_or(Timestamp::MIN))
        };
        for name in filters.get("before") {
            let time = time_of(name)?;
            period.before = Some(period.before.map_or(time, |other| other.min(time)));
        }
        for name in filters.get("since") {
            let time = time_of(name)?;
            period.after = Some(period.after.map_or(time, |other| other.max(time)));
        }
        Ok(period)
    }

    /// Only `until`: an age (`24h`) or a time.
    pub(super) fn until(filters: &Filters) -> Result<Self> {
        let mut period = Self::default();
        for text in filters.get("until") {
            let bad = || Error::system(format!("failed to parse value as time or duration: {text:?}"));
            let time = match oci::go::parse_duration(text) {
                Ok(age) => Timestamp::now().checked_sub(jiff::SignedDuration::from_nanos(age)).map_err(|_| bad())?,
                Err(_) => {
                    let local = api::time::parse_local(text);
                    local.or_else(|| api::time::parse_query(text).ok().flatten()).ok_or_else(bad)?
                }
            };
            period.before = Some(period.before.map_or(time, |other| other.min(time)));
        }
        Ok(period)
    }

    pub(super) fn includes(&self, image: &Image) -> bool {
        let time = created(image).unwrap_or(Timestamp::MIN);
        self.before.is_none_or(|before| time < before) && self.after.is_none_or(|after| time > after)
    }
}

/// How many images each stack of layers is part of.
struct Shared(HashMap<Digest, usize>);

impl Shared {
    fn count(images: &[Image]) -> Self {
        let mut counts = HashMap::new();
        for image in images {
            for chain in chain_ids(image) {
                *counts.entry(chain).or_default() += 1;
            }
        }
        Self(counts)
    }

    fn size_in(&self, image: &Image) -> i64 {
        let shared = chain_ids(image).into_iter().zip(&image.layers).filter(|(chain, _)| self.0[chain] > 1);
        i64::try_from(shared.map(|(_, layer)| layer.size).sum::<u64>()).unwrap_or(i64::MAX)
    }
}

/// The chain id of each layer, from the lowest up.
pub(super) fn chain_ids(image: &Image) -> Vec<Digest> {
    let diff_ids = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
    RootFs { diff_ids, ..RootFs::default() }.chain_ids()
}
