//! `docker push`.

use oci::reference::Reference;

use super::progress::{self, ProgressStream};
use super::pull::credentials;
use super::{PushOptions, platform_of};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::policy::Operation;

impl Engine {
    /// Pushes a tag, or without one all tags that the repository has here.
    pub async fn image_push(&self, options: PushOptions) -> Result<ProgressStream> {
        let invalid = |error: oci::reference::ReferenceError| Error::invalid(error.to_string());
        let mut reference = Reference::parse_normalized(&options.name).map_err(invalid)?;
        if !options.tag.is_empty() {
            reference = reference.with_tag(&options.tag).map_err(|_| Error::invalid("invalid tag format"))?;
        }
        let platform = platform_of(&options.platform)?;
        self.allow(Operation::Push, &reference).await?;
        let engine = self.arc();
        progress::run(move |lines| async move {
            let tags = engine.tags_of(&reference).await?;
            if tags.is_empty() || reference.digest().is_some() {
                lines.status("", format!("The push refers to repository [{}]", reference.name())).await?;
                return Err(if tags.is_empty() {
                    let name = reference.familiar_name();
                    Error::not_found(format!("An image does not exist locally with the tag: {name}"))
                } else {
                    Error::invalid("cannot push a digest reference")
                });
            }
            let tags = if reference.is_name_only() { tags } else { vec![reference.clone()] };
            let credentials = credentials(&options.auth);
            let (pushing, platform) = (&engine, platform.as_ref());
            progress::relay(&lines, |sender| async move {
                pushing.registry.push_platform(&tags, platform, &credentials, &pushing.store, &sender).await
            })
            .await?;
            // What was made here was compressed for it.
            engine.has_grown();
            engine.image_event("push", &reference.familiar(), &reference.familiar_name()).await;
            Ok(())
        })
        .await
    }

    /// All tags that a repository has here.
    async fn tags_of(&self, reference: &Reference) -> Result<Vec<Reference>> {
        let (store, name) = (self.store.clone(), reference.name());
        self.blocking(move || {
            let images = store.images()?;
            let mut tags: Vec<Reference> =
                images.into_iter().flat_map(|image| image.tags).filter(|tag| tag.name() == name).collect();
            tags.sort();
            Ok(tags)
        })
        .await
    }
}
