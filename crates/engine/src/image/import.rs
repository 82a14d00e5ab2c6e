//! `docker import`: a tar of a root file system becomes an image with one layer.

use std::io;
use std::io::Read;

use api::container::Config;
use api::progress::{Message, ProgressDetail};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use oci::image_config::History;
use oci::reference::Reference;
use oci::{ImageConfig, Platform};
use store::{ImageId, NewImage, Store};

use super::commit::stored;
use super::inspect::new_name;
use super::progress::{self, Lines, ProgressStream};
use super::{ImportOptions, changes, upload};
use crate::engine::Engine;
use crate::error::{Error, Result};

type Body = stream::BoxStream<'static, io::Result<Bytes>>;

impl Engine {
    /// Makes an image of a tar, in whatever compression, from the body (`-`) or from a URL.
    pub async fn image_import(
        &self,
        options: ImportOptions,
        body: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
    ) -> Result<ProgressStream> {
        let name = new_name(&options.repo, &options.tag)?;
        let platform = match options.platform.as_str() {
            "" => Platform::host(),
            text => Platform::parse(text).map_err(|error| Error::invalid(error.to_string()))?,
        };
        let mut config = Config::default();
        changes::apply(&mut config, &options.changes)?;
        let engine = self.arc();
        progress::run(move |lines| async move {
            let source = options.source.clone();
            let body = if source == "-" { body.boxed() } else { engine.download(&source, &lines).await? };
            let message =
                if options.message.is_empty() { format!("Imported from {source}") } else { options.message.clone() };
            let image = image_of(&config, &platform, message, engine.config.version.clone())?;
            let store = engine.store.clone();
            let (reader, feeding) = upload::reader(body);
            let owned = name.clone();
            let making = engine.blocking(move || make(&store, image, owned.as_ref(), reader));
            let (made, ()) = tokio::join!(making, feeding);
            let id = made?;
            if let Some(name) = name {
                engine.image_event("tag", id.as_str(), &name.familiar()).await;
            }
            engine.image_event("import", id.as_str(), id.as_str()).await;
            engine.has_grown();
            lines.status("", id.to_string()).await
        })
        .await
    }

    /// The body of a URL, with lines that tell how far it is.
    async fn download(&self, source: &str, lines: &Lines) -> Result<Body> {
        if source.is_empty() {
            return Err(Error::system("Get \"http:\": http: no Host in request URL"));
        }
        let url = if source.contains("://") { source.to_owned() } else { format!("http://{source}") };
        let download = self.registry.download(&url).await.map_err(progress::failure)?;
        lines.status("", format!("Downloading from {url}")).await?;
        let total = download.size().unwrap_or(0);
        let lines = lines.clone();
        let pieces = stream::unfold((download, 0u64), move |(mut download, so_far)| {
            let lines = lines.clone();
            async move {
                let piece = download.chunk().await.map_err(io::Error::other).transpose()?;
                let now = so_far + piece.as_ref().map_or(0, |bytes| bytes.len() as u64);
                let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
                lines.offer(Message::action("", "Importing", ProgressDetail::bytes(number(now), number(total))));
                Some((piece, (download, now)))
            }
        });
        Ok(pieces.boxed())
    }
}

/// All of the image but its layer.
fn image_of(config: &Config, platform: &Platform, message: String, version: String) -> Result<ImageConfig> {
    let created = api::time::rfc3339(Timestamp::now());
    Ok(ImageConfig {
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone().unwrap_or_default(),
        os: platform.os.clone(),
        config: Some(stored(config)?),
        container_config: serde_json::to_value(Config::default()).ok(),
        created: Some(created.clone()),
        docker_version: version,
        comment: message.clone(),
        history: vec![History { created: Some(created), comment: message, ..History::default() }],
        ..ImageConfig::default()
    })
}

fn make(store: &Store, mut image: ImageConfig, name: Option<&Reference>, stream: impl Read) -> Result<ImageId> {
    let lease = store.lease();
    let layer = store.layer_import(&lease, None, stream)?;
    image.rootfs.diff_ids.push(layer.diff_id);
    let id = store.image_create(&lease, NewImage { config: image.to_bytes(), ..NewImage::default() })?;
    if let Some(name) = name {
        store.image_tag(name, &id)?;
    }
    Ok(id)
}
