//! `gantry image layers`: what each layer of an image brings, changes, removes and wastes; and pins.

use api::beyond::{LayerFile, LayerReport};

use crate::engine::Engine;
use crate::error::Result;

impl Engine {
    /// What is in the layers of an image, from the lowest up.
    pub async fn image_layers(&self, name: &str) -> Result<Vec<LayerReport>> {
        let (store, name) = (self.store.clone(), name.to_owned());
        self.blocking(move || {
            let id = store.image_resolve(&name)?;
            let history = store.image(&id)?.config.history;
            let mut steps = history.into_iter().filter(|step| !step.empty_layer).map(|step| step.created_by);
            let layers = store.image_layers(&id)?.into_iter();
            Ok(layers.map(|layer| report(layer, steps.next().unwrap_or_default())).collect())
        })
        .await
    }

    /// Protects an image from being removed to make room, or no longer.
    pub async fn image_pin(&self, name: &str, is_pinned: bool) -> Result<()> {
        let (store, name) = (self.store.clone(), name.to_owned());
        let id = self
            .blocking(move || {
                let id = store.image_resolve(&name)?;
                store.image_pin(&id, is_pinned)?;
                Ok(id)
            })
            .await?;
        self.image_event(if is_pinned { "pin" } else { "unpin" }, id.as_str(), id.as_str()).await;
        Ok(())
    }
}

fn report(layer: store::LayerReport, created_by: String) -> LayerReport {
    let bytes = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
    let file = |file: store::LayerFile| LayerFile {
        path: file.path.to_string_lossy().into_owned(),
        kind: file.change as u8,
        mode: file.mode,
        uid: file.uid,
        gid: file.gid,
        size: bytes(file.size),
        wasted: file.is_wasted,
    };
    LayerReport {
        diff_id: layer.diff_id.to_string(),
        created_by,
        size: bytes(layer.size),
        wasted: bytes(layer.wasted),
        files: layer.files.into_iter().map(file).collect(),
    }
}
