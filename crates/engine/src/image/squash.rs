//! `gantry image squash`: the layers of an image, or those above another one, become one.
//!
//! What layers replaced or removed of each other is gone then. The configuration stays, and so does the history: its steps
//! have no layers any more, and a last one says what was done.

use api::image::CommitResponse;
use jiff::Timestamp;
use oci::image_config::History;
use store::{ImageId, NewImage, Store};

use super::inspect::new_name;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// `POST /images/NAME/squash`.
#[derive(Debug, Clone, Default)]
pub struct SquashOptions {
    /// `from`: the image whose layers stay as they are; empty: none do.
    pub from: String,
    /// `repo`; empty: the new image has no name.
    pub repo: String,
    /// `tag`.
    pub tag: String,
}

impl Engine {
    /// Makes an image of another one's files with fewer layers.
    pub async fn image_squash(&self, name: &str, options: SquashOptions) -> Result<CommitResponse> {
        let new = new_name(&options.repo, &options.tag)?;
        let (store, name, tag) = (self.store.clone(), name.to_owned(), new.clone());
        let id = self
            .blocking(move || {
                let id = squash(&store, &name, &options.from)?;
                if let Some(tag) = tag {
                    store.image_tag(&tag, &id)?;
                }
                Ok(id)
            })
            .await?;
        if let Some(new) = new {
            self.image_event("tag", id.as_str(), &new.familiar()).await;
        }
        self.has_grown();
        Ok(CommitResponse { id: id.to_string() })
    }
}

fn squash(store: &Store, name: &str, from: &str) -> Result<ImageId> {
    let id = store.image_resolve(name)?;
    let image = store.image(&id)?;
    let (mut config, own) = (image.config, image.layers);
    let (base, steps) = match from {
        "" => (Vec::new(), 0),
        from => {
            let base = store.image(&store.image_resolve(from)?)?;
            (base.layers, base.config.history.len())
        }
    };
    let kept = base.len();
    if !own.starts_with(&base) {
        return Err(Error::invalid(format!("{name} was not made from {from}: its lowest layers are others")));
    }
    let above: Vec<_> = own[kept..].iter().map(|layer| layer.diff_id.clone()).collect();
    if above.len() < 2 {
        return Err(Error::invalid(format!("{name} has nothing to squash: {} layers", above.len())));
    }
    let lease = store.lease();
    let layer = store.layers_squash(&lease, &above, kept > 0)?;
    config.rootfs.diff_ids.truncate(kept);
    if !layer.is_empty() {
        config.rootfs.diff_ids.push(layer.diff_id.clone());
    }
    for step in config.history.iter_mut().skip(steps) {
        step.empty_layer = true;
    }
    let created = api::time::rfc3339(Timestamp::now());
    config.created = Some(created.clone());
    config.history.push(History {
        created: Some(created),
        comment: format!("squashed {} layers of {id}", above.len()),
        empty_layer: layer.is_empty(),
        ..History::default()
    });
    Ok(store.image_create(&lease, NewImage { config: config.to_bytes(), ..NewImage::default() })?)
}
